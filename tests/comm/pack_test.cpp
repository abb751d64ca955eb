#include "fst/comm/pack.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fst/comm/exchange.h"

namespace fst {
namespace {

enum class Colour : std::uint8_t { red = 1, blue = 200 };

struct Inner {
  std::string name;
  std::vector<float> values;

  void pack(Packer& packer) const {
    packer.put(name);
    packer.put(values);
  }
  static Inner unpack(Unpacker& unpacker) {
    Inner inner;
    inner.name = unpacker.get<std::string>();
    inner.values = unpacker.get<std::vector<float>>();
    return inner;
  }
  friend bool operator==(const Inner&, const Inner&) = default;
};

struct Outer {
  std::int64_t id = 0;
  Colour colour = Colour::red;
  bool live = false;
  double weight = 0;
  std::vector<Inner> inner;
  std::vector<std::vector<std::int32_t>> tokens;
  std::vector<std::string> texts;

  void pack(Packer& packer) const {
    packer.put(id);
    packer.put(colour);
    packer.put(live);
    packer.put(weight);
    packer.put(inner);
    packer.put(tokens);
    packer.put(texts);
  }
  static Outer unpack(Unpacker& unpacker) {
    Outer outer;
    outer.id = unpacker.get<std::int64_t>();
    outer.colour = unpacker.get<Colour>();
    outer.live = unpacker.get<bool>();
    outer.weight = unpacker.get<double>();
    outer.inner = unpacker.get<std::vector<Inner>>();
    outer.tokens = unpacker.get<std::vector<std::vector<std::int32_t>>>();
    outer.texts = unpacker.get<std::vector<std::string>>();
    return outer;
  }
  friend bool operator==(const Outer&, const Outer&) = default;
};

Outer example() {
  return {-7,
          Colour::blue,
          true,
          -0.0,
          {{"a", {1.5f, -2.0f}}, {"", {}}, {"ü\0x", {3.0f}}},
          {{1, 2, 3}, {}, {-1}},
          {"one", "", "three"}};
}

TEST(Pack, NestedMessageComesBackAsItWas) {
  Packer packer;
  packer.put(example());
  Unpacker unpacker(packer.bytes());
  EXPECT_EQ(unpacker.get<Outer>(), example());
  EXPECT_TRUE(unpacker.done());
}

TEST(Pack, NumbersAreLittleEndianWithoutPadding) {
  Packer packer;
  packer.put(std::uint8_t{9});
  packer.put(std::uint32_t{0x01020304});
  const std::vector<std::byte> expected{std::byte{9}, std::byte{4}, std::byte{3}, std::byte{2},
                                        std::byte{1}};
  EXPECT_EQ(packer.take(), expected);
}

TEST(Pack, NanKeepsItsBits) {
  Packer packer;
  packer.put(std::numeric_limits<float>::quiet_NaN());
  Unpacker unpacker(packer.bytes());
  EXPECT_TRUE(std::isnan(unpacker.get<float>()));
}

TEST(Pack, EveryShortenedMessageIsRefused) {
  Packer packer;
  packer.put(example());
  const auto bytes = packer.bytes();
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    Unpacker unpacker(bytes.first(length));
    EXPECT_THROW(unpacker.get<Outer>(), Error) << length;
  }
}

TEST(Pack, AbsurdLengthIsRefusedWithoutAllocating) {
  Packer packer;
  packer.put(std::numeric_limits<std::uint64_t>::max());
  Unpacker doubles(packer.bytes()), text(packer.bytes());
  EXPECT_THROW(doubles.get<std::vector<double>>(), Error);
  EXPECT_THROW(text.get<std::string>(), Error);
}

TEST(Pack, LeftOverBytesAreAnError) {
  Packer packer;
  packer.put(1);
  packer.put(2);
  Unpacker unpacker(packer.bytes());
  EXPECT_EQ(unpacker.get<int>(), 1);
  EXPECT_THROW(unpacker.expect_done(), Error);
}

TEST(Exchange, OneMemberRoutesToItself) {
  const Communicator self = Communicator::self();
  const std::vector<Outer> mine{example(), {}};
  const auto to_zero = [](const Outer&) { return 0; };
  EXPECT_EQ(route(self, std::span<const Outer>(mine), to_zero, "examples"), mine);
  EXPECT_EQ(all_gather(self, std::span<const Outer>(mine), "examples"), mine);
}

TEST(Exchange, RouteToARankOutsideNamesIt) {
  const Communicator self = Communicator::self();
  const std::vector<Outer> mine{{}};
  const auto to_three = [](const Outer&) { return 3; };
  try {
    route(self, std::span<const Outer>(mine), to_three, "examples");
    FAIL() << "no exception";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("rank 3"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("examples"), std::string::npos) << error.what();
  }
}

TEST(Exchange, OutsideACommunicatorNothingMoves) {
  const Communicator empty;
  const std::vector<Outer> mine{example()};
  EXPECT_TRUE(all_gather(empty, std::span<const Outer>(mine), "examples").empty());
  EXPECT_TRUE(empty.all_gather({}, "bytes").empty());
  EXPECT_FALSE(empty.member());
  EXPECT_EQ(empty.size(), 0);
  empty.barrier("nothing");
}

}  // namespace
}  // namespace fst
