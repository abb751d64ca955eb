#include "fst/model/qwen3_config.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fst/base/error.h"

#include "nlohmann/json.hpp"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace fst {
namespace {

using nlohmann::json;

json small() {
  return {{"architectures", {"Qwen3ForCausalLM"}},
          {"model_type", "qwen3"},
          {"attention_bias", false},
          {"head_dim", 16},
          {"hidden_act", "silu"},
          {"hidden_size", 48},
          {"intermediate_size", 96},
          {"max_position_embeddings", 1024},
          {"num_attention_heads", 3},
          {"num_hidden_layers", 2},
          {"num_key_value_heads", 1},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 1000000.0},
          {"tie_word_embeddings", true},
          {"torch_dtype", "bfloat16"},
          {"eos_token_id", 7},
          {"vocab_size", 300}};
}

Qwen3Config parsed(const json& object) {
  return Qwen3Config::parse(object.dump());
}

/// Expects that the small config with `changes` merged in is refused, naming `word`.
void expect_refused(const json& changes, const std::string& word) {
  json object = small();
  for (const auto& [key, value] : changes.items()) {
    if (value == "REMOVE") {
      object.erase(key);
    } else {
      object[key] = value;
    }
  }
  try {
    parsed(object);
    FAIL() << "accepted " << changes;
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("config.json"), std::string::npos) << error.what();
  }
}

TEST(Qwen3Config, ReadsTheFieldsOfAnOldConfig) {
  const Qwen3Config config = parsed(small());
  EXPECT_EQ(config.family, Family::qwen3);
  EXPECT_EQ(config.vocab_size, 300);
  EXPECT_EQ(config.hidden_size, 48);
  EXPECT_EQ(config.intermediate_size, 96);
  EXPECT_EQ(config.num_hidden_layers, 2);
  EXPECT_EQ(config.num_attention_heads, 3);
  EXPECT_EQ(config.num_key_value_heads, 1);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.rms_norm_eps, 1e-5f);
  EXPECT_EQ(config.rope_theta, 1e6);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.eos_token_ids, std::vector<TokenId>{7});
}

TEST(Qwen3Config, ReadsRopeParametersAsANewConfigHasThem) {
  json object = small();
  object.erase("rope_theta");
  object["rope_parameters"] = {{"rope_theta", 5e5}, {"rope_type", "default"}};
  EXPECT_EQ(parsed(object).rope_theta, 5e5);
}

TEST(Qwen3Config, DefaultsTheHeadSizeAsTransformersDoes) {
  json object = small();
  object.erase("head_dim");
  EXPECT_EQ(parsed(object).head_dim, 128);
  object["model_type"] = "llama";
  object["architectures"] = {"LlamaForCausalLM"};
  EXPECT_EQ(parsed(object).head_dim, 16);
  object["head_dim"] = nullptr;
  EXPECT_EQ(parsed(object).head_dim, 16);
}

TEST(Qwen3Config, KnowsThreeFamilies) {
  json object = small();
  object["model_type"] = "qwen2";
  object["architectures"] = {"Qwen2ForCausalLM"};
  object["use_sliding_window"] = false;
  object["sliding_window"] = 32768;
  EXPECT_EQ(parsed(object).family, Family::qwen2);
  EXPECT_TRUE(parsed(object).qkv_bias());
  EXPECT_FALSE(parsed(object).qk_norm());
  object["model_type"] = "llama";
  object["architectures"] = {"LlamaForCausalLM"};
  EXPECT_FALSE(parsed(object).qkv_bias());
  EXPECT_FALSE(parsed(object).qk_norm());
}

TEST(Qwen3Config, AcceptsDefaultRopeScaling) {
  json object = small();
  object["rope_scaling"] = nullptr;
  EXPECT_NO_THROW(parsed(object));
  object["rope_scaling"] = {{"rope_type", "default"}};
  EXPECT_NO_THROW(parsed(object));
}

TEST(Qwen3Config, RefusesWhatItWouldComputeWrong) {
  expect_refused({{"model_type", "qwen3_moe"}, {"architectures", {"Qwen3MoeForCausalLM"}}},
                 "qwen3_moe");
  expect_refused({{"num_experts", 128}}, "mixture of experts");
  expect_refused({{"num_local_experts", 8}}, "num_local_experts");
  expect_refused({{"model_type", "mistral"}, {"architectures", {"MistralForCausalLM"}}}, "mistral");
  expect_refused({{"architectures", {"LlamaForCausalLM"}}}, "LlamaForCausalLM");
  expect_refused({{"architectures", "Qwen3ForCausalLM"}}, "architectures");
  expect_refused({{"model_type", "REMOVE"}, {"architectures", "REMOVE"}}, "model_type");
  expect_refused({{"use_sliding_window", true}, {"sliding_window", 4096}}, "use_sliding_window");
  expect_refused({{"layer_types", {"full_attention", "sliding_attention"}}}, "layer_types");
  expect_refused({{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}}, "rope_scaling.type");
  expect_refused({{"rope_scaling", {{"factor", 4.0}}}}, "rope_scaling");
  expect_refused({{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}}}, "yarn");
  expect_refused({{"rope_parameters", {{"rope_theta", 1e4}, {"rope_type", "llama3"}}}}, "llama3");
  expect_refused({{"rope_parameters", {{"rope_theta", 1e4}, {"partial_rotary_factor", 0.5}}}},
                 "partial_rotary_factor");
  expect_refused({{"quantization_config", {{"quant_method", "fp8"}}}}, "quantization_config");
  expect_refused({{"attention_bias", true}}, "attention_bias");
  expect_refused({{"mlp_bias", true}}, "mlp_bias");
  expect_refused({{"hidden_act", "gelu"}}, "hidden_act");
}

TEST(Qwen3Config, RefusesMissingAndHostileSizes) {
  for (const char* name : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                           "num_attention_heads", "max_position_embeddings"}) {
    expect_refused({{name, "REMOVE"}}, name);
    for (const json& value :
         {json(0), json(-1), json(1e18), json("12"), json(2.5), json(18446744073709551615u),
          json(9223372036854775807), json::array(), json(true)}) {
      expect_refused({{name, value}}, name);
    }
  }
  expect_refused({{"num_key_value_heads", 2}}, "num_key_value_heads");
  expect_refused({{"head_dim", 15}}, "head_dim");
  expect_refused({{"head_dim", 0}}, "head_dim");
  expect_refused({{"rms_norm_eps", -1e-6}}, "rms_norm_eps");
  expect_refused({{"rms_norm_eps", "small"}}, "rms_norm_eps");
  expect_refused({{"rope_theta", 0.0}}, "rope_theta");
  expect_refused({{"rope_theta", "1e6"}}, "rope_theta");
  expect_refused({{"tie_word_embeddings", 1}}, "tie_word_embeddings");
  expect_refused({{"eos_token_id", 300}}, "eos_token_id");
  expect_refused({{"eos_token_id", -1}}, "eos_token_id");
  expect_refused({{"eos_token_id", {1, "2"}}}, "eos_token_id");
  expect_refused(
      {{"hidden_size", 1 << 20}, {"intermediate_size", 1 << 20}, {"num_hidden_layers", 1024}},
      "parameters");
}

TEST(Qwen3Config, RefusesTextThatIsNotAJsonObject) {
  for (const char* text : {"", "{", "[]", "3", "null", "{\"vocab_size\": 1e999}", "\xff\xfe"}) {
    EXPECT_THROW(Qwen3Config::parse(text), InputError) << text;
  }
  EXPECT_THROW(Qwen3Config::parse(std::string(200000, '[')), InputError);
}

TEST(Qwen3Config, TakesTheStopSetFromTheGenerationConfig) {
  const testing::TemporaryFolder folder;
  folder.write("config.json", small().dump());
  EXPECT_EQ(Qwen3Config::load(folder.path()).eos_token_ids, std::vector<TokenId>{7});
  folder.write("generation_config.json", R"({"eos_token_id": [9, 3, 9]})");
  EXPECT_EQ(Qwen3Config::load(folder.path()).eos_token_ids, (std::vector<TokenId>{3, 9}));
  folder.write("generation_config.json", R"({"eos_token_id": 5})");
  EXPECT_EQ(Qwen3Config::load(folder.path()).eos_token_ids, std::vector<TokenId>{5});
  folder.write("generation_config.json", R"({"do_sample": true})");
  EXPECT_EQ(Qwen3Config::load(folder.path()).eos_token_ids, std::vector<TokenId>{7});
  folder.write("generation_config.json", R"({"eos_token_id": 500})");
  EXPECT_THROW(Qwen3Config::load(folder.path()), InputError);
}

TEST(Qwen3Config, NamesAFolderThatIsNone) {
  EXPECT_THROW(Qwen3Config::load("no/such/folder"), InputError);
  const testing::TemporaryFolder empty;
  EXPECT_THROW(Qwen3Config::load(empty.path()), InputError);
}

TEST(Qwen3Config, ComesBackFromItsOwnJson) {
  for (const Family family : {Family::qwen3, Family::qwen2, Family::llama}) {
    for (const bool tied : {false, true}) {
      const Qwen3Config config = testing::tiny_config(family, tied);
      EXPECT_EQ(Qwen3Config::parse(config.to_json(DType::bf16)), config) << name_of(family);
    }
  }
}

TEST(Qwen3Config, CountsTheParametersOfPublishedModels) {
  Qwen3Config config;  // Qwen3-0.6B and 8B: counts from the published checkpoints
  config.vocab_size = 151936;
  config.head_dim = 128;
  config.num_key_value_heads = 8;
  config.hidden_size = 1024;
  config.intermediate_size = 3072;
  config.num_hidden_layers = 28;
  config.num_attention_heads = 16;
  config.tie_word_embeddings = true;
  EXPECT_EQ(config.parameter_count(), 596049920);
  config.hidden_size = 4096;
  config.intermediate_size = 12288;
  config.num_hidden_layers = 36;
  config.num_attention_heads = 32;
  config.tie_word_embeddings = false;
  EXPECT_EQ(config.parameter_count(), 8190735360);
}

}  // namespace
}  // namespace fst
