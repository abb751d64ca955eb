#include <algorithm>
#include <nlohmann/json.hpp>

#include "fst/base/error.h"
#include "fst/base/random.h"
#include "fst/comm/exchange.h"
#include "fst/comm/unit.h"
#include "fst/rollout/generator.h"
#include "fst/run/arguments.h"
#include "fst/run/conversation.h"
#include "fst/run/engine.h"
#include "fst/run/model_source.h"
#include "fst/run/plan.h"
#include "fst/run/records.h"
#include "fst/run/verbs.h"
#include "fst/store/files.h"

namespace fst {

namespace po = boost::program_options;

namespace {

constexpr std::int64_t most_kv_bytes = std::int64_t{2} << 30;

struct Prompt {
  std::string id;
  std::vector<TokenId> tokens;
  std::int64_t length() const { return static_cast<std::int64_t>(tokens.size()); }
};

/// A completion on its way to rank 0.
struct Numbered {
  std::int64_t number = 0;  // line * samples + sample
  Completion completion;

  void pack(Packer& packer) const {
    packer.put(number);
    packer.put(completion.tokens);
    packer.put(completion.logprobs);
    packer.put(completion.finish);
  }
  static Numbered unpack(Unpacker& unpacker) {
    Numbered numbered;
    numbered.number = unpacker.get<std::int64_t>();
    numbered.completion.tokens = unpacker.get<std::vector<TokenId>>();
    numbered.completion.logprobs = unpacker.get<std::vector<float>>();
    numbered.completion.finish = unpacker.get<Finish>();
    return numbered;
  }
};

std::vector<TokenId> prompt_tokens(const Record& line, const Tokenizer& tokenizer, const Chat& chat,
                                   const Qwen3Config& config) {
  const std::string kind = line.one_of({"tokens", "text", "messages"});
  if (kind == "tokens") {
    const std::string rows = "the model has " + std::to_string(config.vocab_size) + " rows";
    return line.tokens("tokens", config.vocab_size, rows);
  }
  const std::string text =
      kind == "text" ? line.text("text") : rendered(line, chat, GenerationPrompt::add);
  return in_line(line, [&] { return tokenizer.encode(text); });
}

std::vector<Prompt> read_prompts(const World& world, const std::string& path,
                                 const ModelSource& source, const Tokenizer& tokenizer) {
  const Chat chat = source.chat();
  const std::int64_t positions = source.config.max_position_embeddings;
  std::vector<Prompt> prompts;
  for (const Record& line :
       parse_records(path, read_input(world, path),
                     {"id", "tokens", "text", "messages", "enable_thinking"})) {
    Prompt prompt{line.text("id"), prompt_tokens(line, tokenizer, chat, source.config)};
    if (prompt.tokens.empty()) line.refuse("the prompt is empty; expected at least one token");
    if (prompt.length() >= positions) {
      line.refuse("the prompt has " + std::to_string(prompt.length()) +
                  " tokens; the model takes at most " + std::to_string(positions) +
                  ", one of them new");
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

struct GenerateOptions {
  std::uint64_t seed = 0;
  std::int64_t samples = 1, max_new_tokens = 256;
  ops::SamplingLaw law;
};

GenerateOptions generate_options(const Arguments& arguments, std::int64_t vocab) {
  constexpr std::int64_t big = std::int64_t{1} << 31;
  GenerateOptions options;
  options.seed = static_cast<std::uint64_t>(
      arguments.integer("seed", 0, std::numeric_limits<std::int64_t>::max()));
  options.samples = arguments.integer("samples", 1, 1'000'000);
  options.max_new_tokens = arguments.integer("max-new-tokens", 1, big - 1);
  options.law.temperature = static_cast<float>(arguments.real("temperature", 0, 1e3));
  options.law.top_p = static_cast<float>(arguments.real("top-p", 1e-6, 1));
  options.law.top_k = static_cast<std::int32_t>(arguments.integer("top-k", 0, big - 1));
  options.law.vocab = vocab;
  return options;
}

/// New tokens that fit behind a prompt; a completion that meets the model's end has finish length.
std::int64_t room_behind(const Prompt& prompt, const GenerateOptions& options,
                         const Qwen3Config& config) {
  return std::min(options.max_new_tokens, config.max_position_embeddings - prompt.length());
}

/// All samples of the lines of this unit: a line's samples share its prompt, so they stay together.
/// The same on every rank of the unit.
std::vector<Numbered> generate_own(const World& world, Qwen3& model,
                                   const std::vector<Prompt>& prompts,
                                   const GenerateOptions& options) {
  const auto units = static_cast<std::size_t>(world.units(Role::rollout));
  std::vector<GenerateRequest> requests;
  std::vector<Numbered> results;
  std::int64_t blocks = 0, longest_blocks = 0;
  for (auto i = static_cast<std::size_t>(world.across(Role::rollout).rank()); i < prompts.size();
       i += units) {
    const std::int64_t room = room_behind(prompts[i], options, model.config());
    for (std::int64_t sample = 0; sample < options.samples; ++sample) {
      GenerateRequest request;
      request.prompt = prompts[i].tokens;
      request.key =
          stream_key(options.seed, Purpose::generate_draw, {i, static_cast<std::uint64_t>(sample)});
      request.max_new_tokens = static_cast<std::int32_t>(room);
      request.law = options.law;
      requests.push_back(request);
      results.push_back({static_cast<std::int64_t>(i) * options.samples + sample, {}});
      const std::int64_t needed = blocks_for(prompts[i].length() + room);
      blocks += needed;
      longest_blocks = std::max(longest_blocks, needed);
    }
  }
  if (requests.empty()) return results;
  const std::int64_t block_bytes = KvCache::bytes_per_block(model.local_config(), model.dtype());
  GeneratorOptions generator;
  generator.kv_bytes =
      std::max(std::min(blocks * block_bytes, most_kv_bytes), longest_blocks * block_bytes);
  generator.stop_ids = model.config().eos_token_ids;
  std::vector<Completion> completions = Generator(model, generator).generate(requests);
  for (std::size_t i = 0; i < results.size(); ++i) {
    results[i].completion = std::move(completions[i]);
  }
  return results;
}

std::string output_line(const Prompt& prompt, std::int64_t sample, const Completion& completion,
                        const Tokenizer& tokenizer) {
  const bool stopped = completion.finish == Finish::stop;
  const auto told =
      std::span(completion.tokens).first(completion.tokens.size() - (stopped ? 1 : 0));
  nlohmann::ordered_json line;
  line["id"] = prompt.id;
  line["sample"] = sample;
  line["tokens"] = completion.tokens;
  line["logprobs"] = completion.logprobs;
  line["text"] = tokenizer.decode(told, SpecialTokens::skip);
  line["finish"] = stopped ? "stop" : "length";
  return line.dump() + "\n";
}

Usage generate_usage() {
  Usage usage;
  usage.verb = "generate";
  usage.summary = "Prompts in, completions out.";
  usage.details =
      "A line is {\"id\", \"tokens\": [...]}, {\"id\", \"text\": \"...\"} (completed as it stands) "
      "or {\"id\",\n"
      "\"messages\": [...], \"enable_thinking\"?} (rendered with the generation prompt). The "
      "output has, in\n"
      "input order, {\"id\", \"sample\", \"tokens\", \"logprobs\", \"text\", \"finish\": "
      "\"stop\"|\"length\"}; logprobs are\n"
      "those of the sampling law, at temperature 0 those of temperature 1. A draw is a function of "
      "the\n"
      "seed, the number of the line and of the sample. A completion ends with finish length where "
      "the\n"
      "model's positions end.";
  usage.options.add_options()("model", po::value<std::string>(), "model folder or checkpoint")(
      "prompts", po::value<std::string>(), "input, JSON lines")("out", po::value<std::string>(),
                                                                "output, JSON lines")(
      "temperature", po::value<double>()->default_value(0.0), "0: the most probable token")(
      "top-p", po::value<double>()->default_value(1.0), "1: off")(
      "top-k", po::value<std::int64_t>()->default_value(0), "0: off")(
      "seed", po::value<std::int64_t>()->default_value(0), "of the draws")(
      "samples", po::value<std::int64_t>()->default_value(1), "completions of each prompt")(
      "max-new-tokens", po::value<std::int64_t>()->default_value(256), "longest completion");
  add_engine_options(usage);
  return usage;
}

}  // namespace

int generate_verb(World& world, const Words& words) {
  const auto arguments = Arguments::parse(generate_usage(), words);
  if (!arguments) return EXIT_SUCCESS;
  const std::string in = arguments->required("prompts"), target = arguments->required("out");
  const ModelSource source = ModelSource::open(world.all(), arguments->required("model"));
  split_into_units(world, *arguments, source);
  const Device device = engine_device(world, *arguments);
  const DType dtype = engine_dtype(*arguments);
  expect_one_arithmetic(world, device, dtype);
  const Tokenizer tokenizer = source.tokenizer();
  const GenerateOptions options = generate_options(*arguments, law_vocabulary(source, tokenizer));
  on_first_rank(world, target, [&] { expect_output(target); });
  const std::vector<Prompt> prompts = read_prompts(world, in, source, tokenizer);
  std::int64_t longest = 0;
  for (const Prompt& prompt : prompts) {
    longest = std::max(longest, prompt.length() + room_behind(prompt, options, source.config));
  }

  const Unit unit(world.unit(Role::rollout));
  Qwen3 model(source.config, device,
              {.use = Use::inference, .max_positions = longest, .dtype = dtype, .unit = &unit});
  model.set_weights(source.load(world.all(), device, shard_of(&unit), {dtype}));
  std::vector<Numbered> own = generate_own(world, model, prompts, options);
  if (unit.rank() > 0) own.clear();  // the first rank speaks for the unit
  std::vector<Numbered> all = route(
      world.all(), std::span<const Numbered>(own), [](const Numbered&) { return 0; },
      "completions");
  if (world.all().rank() != 0) return EXIT_SUCCESS;
  std::sort(all.begin(), all.end(),
            [](const Numbered& a, const Numbered& b) { return a.number < b.number; });
  std::string out;
  for (const Numbered& one : all) {
    out += output_line(prompts[static_cast<std::size_t>(one.number / options.samples)],
                       one.number % options.samples, one.completion, tokenizer);
  }
  write_text(target, out);
  return EXIT_SUCCESS;
}

}  // namespace fst
