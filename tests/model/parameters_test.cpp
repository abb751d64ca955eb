#include "fst/model/parameters.h"

#include <fstream>
#include <functional>
#include <limits>
#include <set>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/model/identity.h"
#include "fst/model/safetensors.h"
#include "fst/tensor/host_view.h"

#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace fst {
namespace {

const Device cpu = Device::cpu();

std::vector<TensorToWrite> all_tensors(const Parameters& parameters) {
  std::vector<TensorToWrite> tensors;
  for (const ParameterSpec& spec : parameters.specs()) {
    std::vector<std::int64_t> shape = {spec.cols};
    if (spec.rank == 2) shape = {spec.rows, spec.cols};
    tensors.push_back({spec.name, shape, parameters.at(spec)});
  }
  return tensors;
}

bool same_bits(const Parameters& a, const Parameters& b) {
  return a.size() == b.size() &&
         std::equal(a.flat().data<float>(), a.flat().data<float>() + a.size(),
                    b.flat().data<float>());
}

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

TEST(Parameters, FillTheFlatVectorWithoutGapsInEveryFamily) {
  for (const Family family : {Family::qwen3, Family::qwen2, Family::llama}) {
    for (const bool tied : {false, true}) {
      const Parameters parameters(testing::tiny_config(family, tied), cpu);
      std::int64_t next = 0;
      std::set<std::string> names;
      for (const ParameterSpec& spec : parameters.specs()) {
        EXPECT_EQ(spec.offset, next) << spec.name;
        EXPECT_EQ(spec.decay, spec.rank == 2) << spec.name;
        EXPECT_TRUE(names.insert(spec.name).second) << spec.name;
        next += spec.size();
      }
      EXPECT_EQ(next, parameters.size());
      EXPECT_EQ(names.contains("lm_head.weight"), !tied);
      EXPECT_EQ(names.contains("model.layers.1.self_attn.k_proj.bias"), family == Family::qwen2);
      EXPECT_EQ(names.contains("model.layers.1.self_attn.k_norm.weight"), family == Family::qwen3);
    }
  }
}

TEST(Parameters, ShowFusedMatricesAsTheirPartsLieInMemory) {
  const Parameters parameters(testing::tiny_config(), cpu);
  const LayerTensors layer = parameters.layer(1);
  EXPECT_EQ(layer.qkv.raw(), parameters.at("model.layers.1.self_attn.q_proj.weight").raw());
  EXPECT_EQ(layer.qkv.rows(40, 60).raw(),
            parameters.at("model.layers.1.self_attn.k_proj.weight").raw());
  EXPECT_EQ(layer.qkv.rows(60, 80).raw(),
            parameters.at("model.layers.1.self_attn.v_proj.weight").raw());
  EXPECT_EQ(layer.gate_up.rows(52, 104).raw(),
            parameters.at("model.layers.1.mlp.up_proj.weight").raw());
  EXPECT_THROW(parameters.at("model.layers.2.mlp.up_proj.weight"), Error);
}

TEST(Parameters, HaveAnIdentityOfTheirBits) {
  const Qwen3Config config = testing::tiny_config();
  const Parameters first = testing::random_parameters(config, cpu, 1);
  Parameters second = testing::random_parameters(config, cpu, 1);
  EXPECT_EQ(testing::identity_of(first), testing::identity_of(second));
  std::set<std::uint64_t> identities = {testing::identity_of(first)};
  for (const std::int64_t place : {std::int64_t{0}, first.size() / 2, first.size() - 1}) {
    float& value = second.flat().data<float>()[place];
    const float before = value;
    value = std::nextafter(value, 10.0f);
    EXPECT_TRUE(identities.insert(testing::identity_of(second)).second) << place;
    value = before;
  }
  EXPECT_EQ(testing::identity_of(first), testing::identity_of(second));
}

/// Bits of each value rounded to nearest even, widened again.
std::vector<float> rounded(const Tensor& values) {
  std::vector<float> all;
  for (std::int64_t i = 0; i < values.size(); ++i) {
    all.push_back(kernels::widened(kernels::narrowed(values.data<float>()[i])));
  }
  return all;
}

std::vector<float> floats_of(const Tensor& x) {
  const HostFloats values(x);
  return {values.span().begin(), values.span().end()};
}

TEST(Parameters, InBf16AreReadAsRoundedWeightsAndExactMastersOfAPart) {
  const testing::TemporaryFolder folder;
  const Qwen3Config config = testing::tiny_config(Family::qwen2, false);
  const Parameters wide = testing::random_parameters(config, cpu, 3);
  export_folder(folder.path() / "model", wide, DType::f32, {});
  const Range part{1001, 5003};  // from the middle of one row to that of another
  const Parameters narrow =
      load_parameters(folder.path() / "model", config, cpu, {}, {DType::bf16, part});
  EXPECT_EQ(narrow.dtype(), DType::bf16);
  EXPECT_EQ(floats_of(narrow.flat()), rounded(wide.flat()));
  EXPECT_EQ(floats_of(narrow.masters(part)), floats_of(wide.flat().rows(part.begin, part.end)));
  EXPECT_EQ(narrow.masters({1005, 1007}).data<float>(), narrow.masters(part).data<float>() + 4);
  for (const Range range : {Range{1000, 5003}, Range{1001, 5004}, Range{0, wide.size()}}) {
    EXPECT_THROW(narrow.masters(range), Error);
  }
  const Parameters sampled =
      load_parameters(folder.path() / "model", config, cpu, {}, {DType::bf16});
  EXPECT_THROW(sampled.masters({0, 1}), Error) << "who moves nothing has none";
}

TEST(Parameters, InBf16FollowTheirMasters) {
  const Qwen3Config config = testing::tiny_config();
  const Range part{7, 1003};
  Parameters narrow = testing::random_parameters(config, cpu, 4, {DType::bf16, part});
  std::vector<float> expected = floats_of(narrow.flat());
  Tensor masters = narrow.masters(part);
  for (std::int64_t i = 0; i < part.size(); ++i) masters.data<float>()[i] *= 1.01f;
  const std::vector<float> moved = rounded(masters);
  std::copy(moved.begin(), moved.end(), expected.begin() + part.begin);
  narrow.follow_masters(part);
  EXPECT_EQ(floats_of(narrow.flat()), expected);
  EXPECT_NE(moved, floats_of(masters)) << "they keep what rounding loses";
}

TEST(Parameters, InF32AreTheirOwnMasters) {
  const Parameters parameters = testing::random_parameters(testing::tiny_config(), cpu, 4);
  EXPECT_EQ(parameters.masters({5, 9}).raw(), parameters.flat().rows(5, 9).raw());
}

TEST(Parameters, AreWrittenFromBf16AsFromTheSameNumbersInF32) {
  const testing::TemporaryFolder folder;
  const Parameters narrow =
      testing::random_parameters(testing::tiny_config(), cpu, 5, {DType::bf16});
  const Parameters wide = testing::held(narrow, {DType::f32});
  for (const DType storage : {DType::f32, DType::bf16}) {
    export_folder(folder.path() / "narrow", narrow, storage, {});
    export_folder(folder.path() / "wide", wide, storage, {});
    EXPECT_EQ(text_of(folder.path() / "narrow/model.safetensors"),
              text_of(folder.path() / "wide/model.safetensors"));
  }
}

TEST(Parameters, AreReadInPiecesOfWholeRows) {
  const testing::TemporaryFolder folder;
  const Qwen3Config config = testing::tiny_config(Family::qwen2, false);
  const Parameters parameters = testing::random_parameters(config, cpu, 8);
  export_folder(folder.path() / "model", parameters, DType::f32, {});
  const std::vector<float> all = floats_of(parameters.flat());
  for (const std::int64_t most : {1, 100, 1000, 1 << 20}) {
    std::int64_t next = 0, pieces = 0;
    const auto expect_piece = [&](std::int64_t begin, std::span<const float> values) {
      EXPECT_EQ(begin, next);
      const auto size = static_cast<std::int64_t>(values.size());
      EXPECT_LE(size, std::max(most, config.intermediate_size));  // of one row
      EXPECT_TRUE(std::equal(values.begin(), values.end(), all.begin() + begin));
      next += size;
      ++pieces;
    };
    read_parameters(folder.path() / "model", config, {}, expect_piece, most);
    EXPECT_EQ(next, parameters.size());
    EXPECT_EQ(pieces == 1, most > parameters.size());
    EXPECT_GE(pieces * std::max(most, config.intermediate_size), parameters.size());
  }
}

TEST(ModelIdentity, IsOfWhatIsReadInWhateverPieces) {
  const Parameters parameters = testing::random_parameters(testing::tiny_config(), cpu, 6);
  const std::uint64_t whole = testing::identity_of(parameters);
  ModelIdentity pieces(parameters.config(), {});
  const std::vector<float> values = floats_of(parameters.flat());
  const auto add = [&](std::int64_t begin, std::int64_t end) {
    pieces.add(begin, std::span(values).subspan(static_cast<std::size_t>(begin),
                                                static_cast<std::size_t>(end - begin)));
  };
  const std::int64_t row = parameters.config().hidden_size;
  add(3 * row, parameters.size());
  EXPECT_NE(pieces.share(), whole);
  add(0, row);
  EXPECT_THROW(add(row, row + 1), Error) << "a part of a row";
  add(row, 3 * row);
  EXPECT_EQ(pieces.share(), whole);
}

TEST(Parameters, AreInitialisedByNameAndSeedAlone) {
  Parameters two(testing::tiny_config(), cpu), again(testing::tiny_config(), cpu);
  initialise(two, 5);
  initialise(again, 5);
  EXPECT_TRUE(same_bits(two, again));
  Qwen3Config deeper = testing::tiny_config();
  deeper.num_hidden_layers = 3;
  Parameters three(deeper, cpu);
  initialise(three, 5);
  const char* name = "model.layers.1.mlp.down_proj.weight";
  EXPECT_EQ(two.at(name).data<float>()[7], three.at(name).data<float>()[7]);
  EXPECT_EQ(two.at("model.norm.weight").data<float>()[3], 1.0f);
  double sum = 0.0, squares = 0.0;
  const Tensor table = two.embedding();
  for (std::int64_t i = 0; i < table.size(); ++i) {
    sum += table.data<float>()[i];
    squares += table.data<float>()[i] * static_cast<double>(table.data<float>()[i]);
  }
  const double n = static_cast<double>(table.size());
  constexpr double tolerance = 0.1;  // five standard errors of the deviation of 3636 draws
  EXPECT_NEAR(std::sqrt(squares / n) / 0.02, 1.0, tolerance);
  EXPECT_NEAR(sum / n / 0.02, 0.0, tolerance);
}

TEST(Parameters, AreReadBackAsExported) {
  for (const Family family : {Family::qwen3, Family::qwen2, Family::llama}) {
    const testing::TemporaryFolder folder;
    const Qwen3Config config = testing::tiny_config(family, family != Family::llama);
    const Parameters parameters = testing::random_parameters(config, cpu, 2);
    export_folder(folder.path() / "f32", parameters, DType::f32, {});
    const Qwen3Config read = Qwen3Config::load(folder.path() / "f32");
    EXPECT_EQ(read, config);
    const Parameters exact = load_parameters(folder.path() / "f32", read, cpu);
    EXPECT_TRUE(same_bits(parameters, exact));
    EXPECT_EQ(testing::identity_of(parameters), testing::identity_of(exact));

    export_folder(folder.path() / "bf16", parameters, DType::bf16, {});
    const Parameters rounded = load_parameters(folder.path() / "bf16", read, cpu);
    EXPECT_FALSE(same_bits(parameters, rounded));
    export_folder(folder.path() / "again", rounded, DType::bf16, folder.path() / "bf16");
    EXPECT_EQ(text_of(folder.path() / "bf16" / "model.safetensors"),
              text_of(folder.path() / "again" / "model.safetensors"));
  }
}

TEST(Parameters, AreExportedWithTheFilesOfTheirSource) {
  const testing::TemporaryFolder folder;
  const Parameters parameters = testing::random_parameters(testing::tiny_config(), cpu, 2);
  const auto source = folder.path() / "source", target = folder.path() / "target";
  export_folder(source, parameters, DType::bf16, {});
  folder.write("source/tokenizer.json", "{\"tokens\": 1}");
  folder.write("source/chat_template.jinja", "template");
  folder.write("source/notes.txt", "not the model's");
  export_folder(target, parameters, DType::f32, source);
  EXPECT_EQ(text_of(target / "tokenizer.json"), "{\"tokens\": 1}");
  EXPECT_EQ(text_of(target / "chat_template.jinja"), "template");
  EXPECT_FALSE(std::filesystem::exists(target / "notes.txt"));
  EXPECT_EQ(text_of(target / "generation_config.json"), text_of(source / "generation_config.json"));
  EXPECT_NE(text_of(target / "config.json").find("float32"), std::string::npos);
  EXPECT_TRUE(same_bits(load_parameters(target, Qwen3Config::load(target), cpu), parameters));
  EXPECT_THROW(export_folder(source, parameters, DType::f32, source), InputError);
  Qwen3Config other = testing::tiny_config();
  other.rope_theta *= 2;
  EXPECT_THROW(export_folder(target, Parameters(other, cpu), DType::f32, source), Error);
}

class BadFolder : public ::testing::Test {
 protected:
  BadFolder() : parameters_(testing::random_parameters(testing::tiny_config(), cpu, 3)) {}
  void expect_refused(const std::function<void(std::vector<TensorToWrite>&)>& change,
                      const std::string& tensor) {
    std::vector<TensorToWrite> tensors = all_tensors(parameters_);
    change(tensors);
    write_safetensors(folder_.path() / "model.safetensors", tensors, DType::f32);
    try {
      load_parameters(folder_.path(), parameters_.config(), cpu);
      ADD_FAILURE() << "accepted; expected a refusal of " << tensor;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(tensor), std::string::npos) << error.what();
    }
  }
  testing::TemporaryFolder folder_;
  Parameters parameters_;
};

TEST_F(BadFolder, NamesTheTensorThatIsMissing) {
  expect_refused([](auto& tensors) { tensors.pop_back(); }, "model.norm.weight");
}

TEST_F(BadFolder, NamesTheTensorThatIsUnexpected) {
  expect_refused(
      [&](auto& tensors) {
        tensors.push_back(
            {"model.layers.0.self_attn.q_proj.bias", {3}, parameters_.flat().rows(0, 3)});
      },
      "q_proj.bias");
}

TEST_F(BadFolder, NamesTheTensorOfAnotherShape) {
  expect_refused([](auto& tensors) { std::swap(tensors[2].shape[0], tensors[2].shape[1]); },
                 "q_proj.weight\" has shape [36, 40]");
  expect_refused([](auto& tensors) { tensors[1].shape = {1, 36}; }, "input_layernorm");
}

TEST_F(BadFolder, NamesTheTensorThatIsNotFinite) {
  parameters_.at("model.layers.1.mlp.up_proj.weight").data<float>()[5] =
      std::numeric_limits<float>::quiet_NaN();
  expect_refused([](auto&) {}, "model.layers.1.mlp.up_proj.weight");
}

TEST_F(BadFolder, IgnoresTheHeadThatATiedModelStores) {
  std::vector<TensorToWrite> tensors = all_tensors(parameters_);
  tensors.push_back({"lm_head.weight", {101, 36}, parameters_.embedding()});
  write_safetensors(folder_.path() / "model.safetensors", tensors, DType::f32);
  EXPECT_TRUE(same_bits(load_parameters(folder_.path(), parameters_.config(), cpu), parameters_));
}

}  // namespace
}  // namespace fst
