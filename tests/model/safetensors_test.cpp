#include "fst/model/safetensors.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fst/base/error.h"

#include "nlohmann/json.hpp"
#include "support/temporary_folder.h"

namespace fst {
namespace {

using nlohmann::json;

std::string with_length(std::uint64_t length, const std::string& rest) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + rest;
}

std::string file_of(const std::string& header, const std::string& data) {
  return with_length(header.size(), header + data);
}

std::string file_of(const json& header, std::size_t data_bytes) {
  return file_of(header.dump(), std::string(data_bytes, '\1'));
}

json entry(const char* dtype, const json& shape, const json& offsets) {
  return {{"dtype", dtype}, {"shape", shape}, {"data_offsets", offsets}};
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

struct Hostile {
  const char* name;
  std::string bytes;
  const char* word;  // the message must hold it, beside the file's name
};

std::vector<Hostile> hostile_files() {
  const json good = entry("F32", {2, 3}, {0, 24});
  const std::uint64_t huge = std::numeric_limits<std::uint64_t>::max();
  std::vector<Hostile> files = {
      {"empty file", "", "truncated"},
      {"seven bytes", std::string(7, '\0'), "truncated"},
      {"header beyond the file", with_length(1000, "{}"), "header length"},
      {"header length near 2^64", with_length(huge, "{}"), "header length"},
      {"header length that wraps to the file's end", with_length(huge - 7, "{}"), "header length"},
      {"header length beyond the format's limit", with_length(200'000'000, "{}"), "header length"},
      {"header of no bytes", with_length(0, ""), "JSON"},
      {"header that is not JSON", file_of(std::string("{\"a\": "), ""), "JSON"},
      {"header with invalid UTF-8", file_of(std::string("{\"\xff\": 1}"), ""), "JSON"},
      {"header that is a list", file_of(std::string("[]"), ""), "object"},
      {"header nested without end", file_of(std::string(100000, '['), ""), "JSON"},
      {"text instead of a header", "version https://git-lfs.github.com/spec/v1\n", "header length"},
      {"duplicate name",
       file_of("{\"w\":" + good.dump() + ",\"w\":" + good.dump() + "}", std::string(24, 'x')),
       "twice"},
      {"entry that is a number", file_of(json{{"w", 3}}, 0), "\"w\""},
      {"no dtype", file_of(json{{"w", {{"shape", {1}}, {"data_offsets", {0, 4}}}}}, 4), "dtype"},
      {"no shape", file_of(json{{"w", {{"dtype", "F32"}, {"data_offsets", {0, 4}}}}}, 4), "shape"},
      {"no offsets", file_of(json{{"w", {{"dtype", "F32"}, {"shape", {1}}}}}, 4), "data_offsets"},
      {"unknown dtype", file_of(json{{"w", entry("F8_E4M3", {4}, {0, 4})}}, 4), "F8_E4M3"},
      {"dtype that is a number",
       file_of(json{{"w", {{"dtype", 4}, {"shape", {1}}, {"data_offsets", {0, 4}}}}}, 4), "dtype"},
      {"negative size", file_of(json{{"w", entry("F32", {-1, -1}, {0, 4})}}, 4), "shape"},
      {"fractional size", file_of(json{{"w", entry("F32", {1.0}, {0, 4})}}, 4), "shape"},
      {"shape that is no list", file_of(json{{"w", entry("F32", 1, {0, 4})}}, 4), "shape"},
      {"five dimensions", file_of(json{{"w", entry("F32", {1, 1, 1, 1, 1}, {0, 4})}}, 4), "shape"},
      {"size near 2^64", file_of(json{{"w", entry("F32", {huge}, {0, 4})}}, 4), "shape"},
      {"product that overflows",
       file_of(json{{"w", entry("F32", {1ull << 32, 1ull << 32}, {0, 0})}}, 0), "overflows"},
      {"product that overflows to the right count",
       file_of(json{{"w", entry("F32", {1ull << 31, 1ull << 31, 4}, {0, 0})}}, 0), "overflows"},
      {"bytes too few for the shape", file_of(json{{"w", entry("F32", {2, 3}, {0, 20})}}, 20),
       "24"},
      {"bytes too many for the shape", file_of(json{{"w", entry("BF16", {2, 3}, {0, 24})}}, 24),
       "12"},
      {"offsets beyond the data", file_of(json{{"w", good}}, 23), "not within"},
      {"offsets reversed", file_of(json{{"w", entry("F32", {1}, {4, 0})}}, 4), "not within"},
      {"offset near 2^64", file_of(json{{"w", entry("F32", {1}, {huge - 3, huge})}}, 4),
       "data_offsets"},
      {"negative offset", file_of(json{{"w", entry("F32", {1}, {-4, 0})}}, 4), "data_offsets"},
      {"offsets of one number", file_of(json{{"w", entry("F32", {1}, {4})}}, 4), "data_offsets"},
      {"offsets that overlap",
       file_of(json{{"a", entry("F32", {2}, {0, 8})}, {"b", entry("F32", {2}, {4, 12})}}, 12),
       "overlaps"},
      {"two tensors in one place",
       file_of(json{{"a", entry("F32", {2}, {0, 8})}, {"b", entry("F32", {2}, {0, 8})}}, 8),
       "overlaps"},
      {"hole between tensors",
       file_of(json{{"a", entry("F32", {1}, {0, 4})}, {"b", entry("F32", {1}, {8, 12})}}, 12),
       "hole"},
      {"bytes after the last tensor", file_of(json{{"w", good}}, 25), "after the last"},
  };
  return files;
}

TEST(Safetensors, RefusesEveryHostileFileNamingIt) {
  const testing::TemporaryFolder folder;
  for (const Hostile& hostile : hostile_files()) {
    const auto file = folder.write("hostile.safetensors", hostile.bytes);
    try {
      const SafetensorsReader reader(file);
      ADD_FAILURE() << "accepted: " << hostile.name;
    } catch (const InputError& error) {
      const std::string what = error.what();
      EXPECT_NE(what.find(hostile.word), std::string::npos) << hostile.name << ": " << what;
      EXPECT_NE(what.find("hostile.safetensors"), std::string::npos) << what;
    }
  }
}

TEST(Safetensors, RefusesEveryTruncationOfAGoodFile) {
  const testing::TemporaryFolder folder;
  const std::string good =
      file_of(json{{"a", entry("F32", {2}, {0, 8})}, {"b", entry("BF16", {3}, {8, 14})}}, 14);
  EXPECT_NO_THROW(SafetensorsReader(folder.write("good.safetensors", good)));
  for (std::size_t size = 0; size < good.size(); ++size) {
    const auto file = folder.write("cut.safetensors", good.substr(0, size));
    EXPECT_THROW(SafetensorsReader reader(file), InputError) << size << " bytes";
  }
}

TEST(Safetensors, WidensStoredTypesExactly) {
  const testing::TemporaryFolder folder;
  const std::vector<std::uint16_t> bf16 = {0x3f80, 0xc0a0, 0x0001, 0x8000};
  // 1, -2, the smallest subnormal, the largest subnormal, 65504, -0
  const std::vector<std::uint16_t> f16 = {0x3c00, 0xc000, 0x0001, 0x03ff, 0x7bff, 0x8000};
  const std::vector<float> f32 = {1.5f, -3e-39f};
  const json header = {{"c", entry("F32", {2}, {20, 28})},
                       {"a", entry("BF16", {4}, {0, 8})},
                       {"b", entry("F16", {2, 3}, {8, 20})}};
  const auto file = folder.write(
      "w.safetensors", file_of(header.dump(), bytes_of(bf16) + bytes_of(f16) + bytes_of(f32)));
  const SafetensorsReader reader(file);
  ASSERT_EQ(reader.tensors().size(), 3u);
  EXPECT_EQ(reader.tensors()[1].name, "b");
  EXPECT_EQ(reader.find("b")->shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(reader.find("d"), nullptr);
  const auto values = [&](const char* name) {
    const Buffer buffer(Device::cpu(), DType::f32, {reader.find(name)->size()});
    Tensor tensor = buffer.tensor();
    read_values(tensor, *reader.find(name));
    return std::vector<float>(buffer.span<float>().begin(), buffer.span<float>().end());
  };
  EXPECT_EQ(values("a"), (std::vector<float>{1.0f, -5.0f, 0x1p-133f, -0.0f}));
  EXPECT_EQ(values("b"),
            (std::vector<float>{1.0f, -2.0f, 0x1p-24f, 1023 * 0x1p-24f, 65504.0f, -0.0f}));
  EXPECT_EQ(values("c"), f32);
}

TEST(Safetensors, RefusesValuesThatAreNotFiniteOrNotFloats) {
  const testing::TemporaryFolder folder;
  const auto expect_throw = [&](const char* dtype, const std::string& data) {
    const json header = {{"w", entry(dtype, {1}, {0, data.size()})}};
    const SafetensorsReader reader(folder.write("w.safetensors", file_of(header.dump(), data)));
    const Buffer buffer(Device::cpu(), DType::f32, {1});
    Tensor tensor = buffer.tensor();
    try {
      read_values(tensor, *reader.find("w"));
      ADD_FAILURE() << dtype;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find("\"w\""), std::string::npos) << error.what();
    }
  };
  expect_throw("F32", bytes_of<float>({std::numeric_limits<float>::quiet_NaN()}));
  expect_throw("F32", bytes_of<float>({std::numeric_limits<float>::infinity()}));
  expect_throw("BF16", bytes_of<std::uint16_t>({0x7f80}));
  expect_throw("F16", bytes_of<std::uint16_t>({0xfc00}));
  expect_throw("I32", bytes_of<std::int32_t>({1}));
}

TEST(Safetensors, ReadsWhatItWroteAndRoundsToNearestEven) {
  const testing::TemporaryFolder folder;
  const Buffer buffer(Device::cpu(), DType::f32, {6});
  // Halfway between two bf16 numbers, down to even and up to even; just above halfway.
  const std::vector<float> values = {1.00390625f, 1.01171875f, 1.00390637f, -2.5f, 0.0f, 3e-39f};
  std::copy(values.begin(), values.end(), buffer.data<float>());
  const auto file = folder.path() / "w.safetensors";
  const std::vector<TensorToWrite> tensors = {{"z", {2}, buffer.tensor().rows(4, 6)},
                                              {"a", {2, 2}, buffer.tensor().rows(0, 4)}};
  const auto read = [&](const char* name) {
    const SafetensorsReader reader(file);
    const Buffer out(Device::cpu(), DType::f32, {reader.find(name)->size()});
    Tensor tensor = out.tensor();
    read_values(tensor, *reader.find(name));
    return std::vector<float>(out.span<float>().begin(), out.span<float>().end());
  };
  write_safetensors(file, tensors, DType::f32);
  EXPECT_EQ(read("a"), std::vector<float>(values.begin(), values.begin() + 4));
  EXPECT_EQ(read("z"), std::vector<float>(values.begin() + 4, values.end()));
  write_safetensors(file, tensors, DType::bf16);
  EXPECT_EQ(read("a"), (std::vector<float>{1.0f, 1.015625f, 1.0078125f, -2.5f}));
}

TEST(Safetensors, WritesAnAlignedHeaderAndLeavesNoTemporaryFile) {
  const testing::TemporaryFolder folder;
  const Buffer buffer(Device::cpu(), DType::f32, {3});
  const auto file = folder.path() / "w.safetensors";
  write_safetensors(file, {{"w", {3}, buffer.tensor()}}, DType::f32);
  std::ifstream in(file, std::ios::binary);
  std::uint64_t length = 0;
  in.read(reinterpret_cast<char*>(&length), 8);
  EXPECT_EQ((length + 8) % 64, 0u);
  const auto files = std::filesystem::directory_iterator(folder.path());
  EXPECT_EQ(std::distance(begin(files), end(files)), 1);
}

TEST(Safetensors, RefusesAShapeThatIsNotTheTensors) {
  const testing::TemporaryFolder folder;
  const Buffer buffer(Device::cpu(), DType::f32, {3});
  const auto file = folder.path() / "w.safetensors";
  EXPECT_THROW(write_safetensors(file, {{"w", {4}, buffer.tensor()}}, DType::f32), Error);
  EXPECT_FALSE(std::filesystem::exists(file));
  EXPECT_THROW(write_safetensors(folder.path() / "no" / "w", {}, DType::f32), Error);
}

class Shards : public ::testing::Test {
 protected:
  Shards() {
    folder_.write("one.safetensors", file_of(json{{"a", entry("F32", {1}, {0, 4})}}, 4));
    folder_.write("two.safetensors", file_of(json{{"b", entry("F32", {1}, {0, 4})}}, 4));
  }
  void expect_refused(const std::string& index, const char* word) {
    folder_.write("model.safetensors.index.json", index);
    try {
      const SafetensorsReader reader(folder_.path());
      ADD_FAILURE() << "accepted " << index;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  }
  testing::TemporaryFolder folder_;
};

TEST_F(Shards, AreReadAsOneModel) {
  folder_.write("model.safetensors.index.json",
                R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})");
  const SafetensorsReader reader(folder_.path());
  ASSERT_EQ(reader.tensors().size(), 2u);
  EXPECT_NE(reader.find("a")->file.find("one.safetensors"), std::string::npos);
}

TEST_F(Shards, WithAWrongIndexAreRefused) {
  expect_refused("{", "JSON");
  expect_refused("{}", "weight_map");
  expect_refused(R"({"weight_map": {}})", "weight_map");
  expect_refused(R"({"weight_map": {"a": 1}})", "\"a\"");
  expect_refused(R"({"weight_map": {"a": "../one.safetensors"}})", "\"a\"");
  expect_refused(R"({"weight_map": {"a": "three.safetensors"}})", "three.safetensors");
  expect_refused(R"({"weight_map": {"a": "two.safetensors", "b": "two.safetensors"}})", "\"a\"");
  expect_refused(R"({"weight_map": {"a": "one.safetensors", "c": "two.safetensors"}})", "\"c\"");
  folder_.write("two.safetensors", file_of(json{{"a", entry("F32", {1}, {0, 4})}}, 4));
  expect_refused(R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})", "also in");
  folder_.write(
      "two.safetensors",
      file_of(json{{"b", entry("F32", {1}, {0, 4})}, {"c", entry("F32", {1}, {4, 8})}}, 8));
  expect_refused(R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})",
                 "not listed");
}

TEST(Safetensors, NamesAFolderWithoutWeights) {
  const testing::TemporaryFolder folder;
  EXPECT_THROW(SafetensorsReader reader(folder.path()), InputError);
  EXPECT_THROW(SafetensorsReader reader(folder.path() / "none.safetensors"), InputError);
}

}  // namespace
}  // namespace fst
