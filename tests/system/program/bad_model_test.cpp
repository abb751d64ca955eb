// Model folders and checkpoints that are damaged or of another kind.

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "bad_case.h"

namespace fst::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Words = std::vector<std::string>;

void write(const fs::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary | std::ios::trunc) << text;
}

/// A safetensors file taken apart.
struct Weights {
  json header;
  std::string bytes;

  explicit Weights(const fs::path& file) {
    const std::string all = text_of(file);
    std::uint64_t length = 0;
    std::memcpy(&length, all.data(), sizeof length);
    header = json::parse(all.substr(8, length));
    bytes = all.substr(8 + length);
  }
  void save(const fs::path& file) const { save_with(file, header.dump()); }
  void save_with(const fs::path& file, const std::string& text) const {
    const std::uint64_t length = text.size();
    std::string all(sizeof length, '\0');
    std::memcpy(all.data(), &length, sizeof length);
    write(file, all + text + bytes);
  }
};

/// Scores with a model whose weights were changed.
std::function<Words(const Scene&)> weights(std::function<void(const fs::path&)> damage) {
  return [=](const Scene& scene) {
    damage(scene.model() / "model.safetensors");
    return Words{"score",
                 "--model",
                 scene.model().string(),
                 "--tokens",
                 scene.file("in.jsonl", R"({"id": "a", "tokens": [1, 2]})"),
                 "--out",
                 scene.out()};
  };
}
std::function<Words(const Scene&)> header(std::function<void(json&)> change) {
  return weights([=](const fs::path& file) {
    Weights weights(file);
    change(weights.header);
    weights.save(file);
  });
}
/// Tokenizes or scores with a changed small file.
std::function<Words(const Scene&)> file(const std::string& verb, const std::string& name,
                                        std::function<std::string(std::string)> change) {
  return [=](const Scene& scene) {
    const fs::path path = scene.model() / name;
    const std::string text = change(text_of(path));
    text.empty() ? static_cast<void>(fs::remove(path)) : write(path, text);
    const std::string in = scene.file(
        "in.jsonl", verb == "score"
                        ? R"({"id": "a", "tokens": [1, 2]})"
                        : R"({"id": "a", "messages": [{"role": "user", "content": "x"}]})");
    return Words{
        verb,    "--model",  scene.model().string(), verb == "score" ? "--tokens" : "--in", in,
        "--out", scene.out()};
  };
}
std::function<std::string(std::string)> becomes(const std::string& text) {
  return [=](const std::string&) { return text; };
}
std::function<std::string(std::string)> with(const std::string& key, const json& value) {
  return [=](const std::string& text) {
    json object = json::parse(text);
    object[json::json_pointer(key)] = value;
    return object.dump();
  };
}
std::string first_half(const std::string& text) {
  return text.substr(0, text.size() / 2);
}

constexpr const char* norm = "model.norm.weight";

class BadModel : public ::testing::TestWithParam<BadCase> {};
TEST_P(BadModel, IsRefusedByName) {
  expect_refused(GetParam());
}

const std::vector<BadCase> weight_cases = {
    {"NoWeights", 2, {"model.safetensors"}, weights([](const fs::path& f) { fs::remove(f); })},
    {"EmptyWeights", 2, {"model.safetensors"}, weights([](const fs::path& f) { write(f, ""); })},
    {"HeaderOfAllMemory", 2, {"model.safetensors"}, weights([](const fs::path& f) {
       write(f, std::string(8, '\xff') + "{}");
     })},
    {"HeaderBeyondTheFile", 2, {"model.safetensors"}, weights([](const fs::path& f) {
       write(f, std::string("\x00\x00\x10\x00\x00\x00\x00\x00", 8) + "{}");
     })},
    {"HeaderNotJson", 2, {"model.safetensors"}, weights([](const fs::path& f) {
       Weights(f).save_with(f, "{\"a\": ");
     })},
    {"HeaderAList", 2, {"model.safetensors"}, weights([](const fs::path& f) {
       Weights(f).save_with(f, "[1, 2]");
     })},
    {"HeaderTooDeep", 2, {"model.safetensors"}, weights([](const fs::path& f) {
       Weights(f).save_with(f, std::string(100000, '['));
     })},
    {"WeightsCutOff", 2, {"model.safetensors"}, weights([](const fs::path& f) {
       fs::resize_file(f, fs::file_size(f) - 5);
     })},
    {"BytesLeftOver", 2, {"model.safetensors"}, weights([](const fs::path& f) {
       fs::resize_file(f, fs::file_size(f) + 5);
     })},
    {"OffsetsBeyondTheFile", 2, {norm}, header([](json& h) {
       h[norm]["data_offsets"] = {1ULL << 62, (1ULL << 62) + 144};
     })},
    {"OffsetsBackwards", 2, {norm}, header([](json& h) {
       h[norm]["data_offsets"] = {144, 0};
     })},
    {"NegativeOffset", 2, {norm}, header([](json& h) {
       h[norm]["data_offsets"] = {-144, 0};
     })},
    {"NegativeShape", 2, {norm}, header([](json& h) { h[norm]["shape"] = {-36}; })},
    {"ShapeThatOverflows", 2, {norm}, header([](json& h) {
       h[norm]["shape"] = {1LL << 32, 1LL << 32, 36};
     })},
    {"ShapeNotOfTheModel", 2, {norm}, header([](json& h) {
       h[norm]["shape"] = {6, 6};
     })},
    {"IntegersAsWeights", 2, {norm}, header([](json& h) { h[norm]["dtype"] = "I32"; })},
    {"UnknownType", 2, {norm}, header([](json& h) { h[norm]["dtype"] = "F128"; })},
    {"TensorMissing", 2, {norm}, header([](json& h) {
       h["model.gnorm.weight"] = h[norm];
       h.erase(norm);
     })},
    {"WeightNotANumber", 2, {norm}, weights([](const fs::path& f) {
       Weights w(f);
       const float nan = std::nanf("");
       std::memcpy(w.bytes.data() + w.header[norm]["data_offsets"][0].get<std::size_t>() + 8, &nan,
                   sizeof nan);
       w.save(f);
     })},
    {"ShardMissing", 2, {"model-2.safetensors"}, weights([](const fs::path& f) {
       fs::remove(f);
       write(f.string() + ".index.json", R"({"weight_map": {"a": "model-2.safetensors"}})");
     })},
    {"ShardOutsideTheFolder", 2, {"model.safetensors.index.json"}, weights([](const fs::path& f) {
       fs::remove(f);
       write(f.string() + ".index.json", R"({"weight_map": {"a": "../../etc/passwd"}})");
     })},
};
INSTANTIATE_TEST_SUITE_P(Weights, BadModel, ::testing::ValuesIn(weight_cases), name_of_case);

const std::vector<BadCase> file_cases = {
    {"NoModel",
     2,
     {"nowhere", "neither a model folder nor a checkpoint"},
     [](const Scene& s) {
       return Words{"score", "--model", s.path("nowhere"), "--tokens", s.file("x", "y"),
                    "--out", s.out()};
     }},
    {"TextAsCheckpoint",
     2,
     {"model.h5"},
     [](const Scene& s) {
       return Words{"export", "--model", s.file("model.h5", "no checkpoint"), "--out", s.out()};
     }},
    {"NoConfig", 2, {"has no config.json"}, file("score", "config.json", becomes(""))},
    {"ConfigNotJson", 2, {"config.json"}, file("score", "config.json", becomes("{"))},
    {"MixtureOfExperts",
     2,
     {"config.json"},
     file("score", "config.json", with("/architectures", {"Qwen3MoeForCausalLM"}))},
    {"HeadsThatDoNotDivide",
     2,
     {"config.json", "num_key_value_heads"},
     file("score", "config.json", with("/num_key_value_heads", 3))},
    {"NoLayers",
     2,
     {"config.json", "num_hidden_layers"},
     file("score", "config.json", with("/num_hidden_layers", 0))},
    {"HugeModel",
     2,
     {"config.json"},
     file("score", "config.json", with("/hidden_size", 1LL << 40))},
    {"StopTokenBeyondTheModel",
     2,
     {"generation_config.json"},
     file("score", "generation_config.json", with("/eos_token_id", 9999))},
    {"TokenizerLargerThanTheModel",
     2,
     {"the tokenizer has", "the model 300"},
     [](const Scene& s) {
       Qwen3Config config = tiny_world_config();
       config.vocab_size = 300;
       config.eos_token_ids = {1};
       ModelFiles files = read_model_folder(s.model());
       files.erase("generation_config.json");
       files["config.json"] = config.to_json(DType::f32);
       const fs::path folder = s.path("small");
       write_model_folder(folder, random_parameters(config, Device::cpu(), 7), DType::f32, files);
       return Words{"score",
                    "--model",
                    folder.string(),
                    "--tokens",
                    s.file("in", R"({"id": "a", "tokens": [1]})"),
                    "--out",
                    s.out()};
     }},
    {"NoTokenizer", 2, {"has no tokenizer.json"}, file("tokenize", "tokenizer.json", becomes(""))},
    {"TokenizerNotJson", 2, {"tokenizer.json"}, file("tokenize", "tokenizer.json", first_half)},
    {"TokenizerNotUtf8",
     2,
     {"tokenizer.json"},
     file("tokenize", "tokenizer.json", becomes("\xff\xfe"))},
    {"TokenizerOfWordPieces",
     2,
     {"tokenizer.json", "WordPiece"},
     file("tokenize", "tokenizer.json", with("/model/type", "WordPiece"))},
    {"TokenizerConfigNotJson",
     2,
     {"tokenizer_config.json"},
     file("tokenize", "tokenizer_config.json", becomes("{"))},
    {"UnknownChatTemplate",
     2,
     {"in.jsonl:1", "chat template is not supported"},
     [](const Scene& s) {
       write(s.model() / "chat_template.jinja", "{{ messages | length }}");
       return file("tokenize", "tokenizer_config.json", [](const std::string& t) { return t; })(s);
     }},
};
INSTANTIATE_TEST_SUITE_P(Files, BadModel, ::testing::ValuesIn(file_cases), name_of_case);

}  // namespace
}  // namespace fst::testing
