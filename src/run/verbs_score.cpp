#include <algorithm>
#include <optional>

#include "fst/base/error.h"
#include "fst/comm/unit.h"
#include "fst/model/kv_cache.h"
#include "fst/model/token_head.h"
#include "fst/run/arguments.h"
#include "fst/run/engine.h"
#include "fst/run/model_source.h"
#include "fst/run/plan.h"
#include "fst/run/records.h"
#include "fst/run/verbs.h"
#include "fst/store/score_file.h"
#include "fst/tensor/host_view.h"

namespace fst {

namespace po = boost::program_options;

namespace {

constexpr std::int64_t pack_tokens = 2048;  // sequences are computed together up to this length
constexpr std::int64_t logit_rows = 64;     // rows of logits that a rank holds at a time

struct ScoreCase {
  std::string id;
  std::vector<TokenId> tokens;
  std::int64_t length() const { return static_cast<std::int64_t>(tokens.size()); }
};

/// Consecutive cases [begin, end) that one unit computes together.
struct Pack {
  std::size_t begin = 0, end = 0;
  std::int64_t tokens = 0;
  /// Every token of a case but its first one has a log-probability.
  std::int64_t scores() const { return tokens - static_cast<std::int64_t>(end - begin); }
};

std::vector<Pack> packs_of(const std::vector<ScoreCase>& cases) {
  std::vector<Pack> packs;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const std::int64_t length = cases[i].length();
    if (packs.empty() || packs.back().tokens + length > pack_tokens) packs.push_back({i, i, 0});
    packs.back().end = i + 1;
    packs.back().tokens += length;
  }
  return packs;
}

std::vector<ScoreCase> read_cases(const World& world, const std::string& path,
                                  const Qwen3Config& config) {
  std::vector<ScoreCase> cases;
  const std::string rows = "the model has " + std::to_string(config.vocab_size) + " rows";
  for (const Record& line : parse_records(path, read_input(world, path), {"id", "tokens"})) {
    ScoreCase one{line.text("id"), line.tokens("tokens", config.vocab_size, rows)};
    if (one.id.find('\0') != std::string::npos) line.refuse("\"id\": holds a zero byte");
    if (one.tokens.empty()) line.refuse("\"tokens\": expected at least one token");
    if (one.length() > config.max_position_embeddings) {
      line.refuse("\"tokens\": " + std::to_string(one.length()) +
                  " tokens; the model takes at most " +
                  std::to_string(config.max_position_embeddings));
    }
    cases.push_back(std::move(one));
  }
  return cases;
}

/// Scores packs in waves, one pack a unit; rank 0 gathers a wave's numbers and writes them, so the
/// memory does not grow with the file.
class Scorer {
 public:
  Scorer(const World& world, Qwen3& model, const ops::TokenLaw& law,
         const std::vector<ScoreCase>& cases)
      : world_(&world),
        model_(&model),
        cases_(&cases),
        packed_(model.device()),
        cache_(model.local_config(), model.device(), 1, model.dtype()),
        head_(model.device()) {
    options_.law = law;
  }

  /// Writes all cases; `file` on rank 0 only. Collective over all ranks.
  void run(ScoreFile* file, bool with_logits) {
    const std::vector<Pack> packs = packs_of(*cases_);
    const auto units = static_cast<std::size_t>(world_->units(Role::rollout));
    for (std::size_t first = 0; first < packs.size(); first += units) {
      const std::span<const Pack> wave =
          std::span(packs).subspan(first, std::min(units, packs.size() - first));
      const std::int64_t case_number = forward(wave, file);
      if (with_logits) write_logits(wave, case_number, file);
    }
  }

 private:
  const Pack* own(std::span<const Pack> wave) const {
    const auto unit = static_cast<std::size_t>(world_->across(Role::rollout).rank());
    return unit < wave.size() ? &wave[unit] : nullptr;
  }

  /// Log-probabilities of the wave; returns the number of its first case in `file`.
  std::int64_t forward(std::span<const Pack> wave, ScoreFile* file) {
    std::vector<float> mine;
    if (const Pack* pack = own(wave)) mine = score(*pack);
    std::vector<std::int64_t> sizes;
    for (const Pack& pack : wave) sizes.push_back(pack.scores());
    const std::vector<float> all = gather(mine, sizes, "log-probabilities");
    if (file == nullptr) return 0;
    std::optional<std::int64_t> first;
    auto rest = std::span(all);
    for (const Pack& pack : wave) {
      for (std::size_t i = pack.begin; i < pack.end; ++i) {
        const auto count = (*cases_)[i].tokens.size() - 1;
        const std::int64_t number = file->add((*cases_)[i].id, rest.first(count));
        if (!first) first = number;
        rest = rest.subspan(count);
      }
    }
    return *first;
  }

  std::vector<float> score(const Pack& pack) {
    std::vector<std::span<const TokenId>> sequences;
    for (std::size_t i = pack.begin; i < pack.end; ++i) sequences.push_back((*cases_)[i].tokens);
    const TokenBatch& batch = packed_.pack(sequences);
    cache_.reserve(packed_.blocks());
    hidden_ = model_->forward(batch, cache_);
    std::vector<std::int32_t> rows;
    std::vector<TokenId> targets;
    std::int32_t row = 0;
    for (const auto& tokens : sequences) {
      for (std::size_t t = 0; t < tokens.size(); ++t, ++row) {
        if (t + 1 == tokens.size()) continue;
        rows.push_back(row);
        targets.push_back(tokens[t + 1]);
      }
    }
    if (rows.empty()) return {};
    return head_.score(*model_, hidden_, {rows, targets}, options_).logprob;
  }

  /// Logits of the wave, `logit_rows` rows of every pack at a time.
  void write_logits(std::span<const Pack> wave, std::int64_t case_number, ScoreFile* file) {
    const std::int64_t vocab = model_->config().vocab_size;
    std::vector<Row> rows;  // where each row of the wave belongs
    std::int64_t longest = 0;
    for (const Pack& pack : wave) {
      longest = std::max(longest, pack.tokens);
      for (std::size_t i = pack.begin; i < pack.end; ++i, ++case_number) {
        if (file != nullptr) file->make_logits(case_number, (*cases_)[i].length(), vocab);
        for (std::int64_t t = 0; t < (*cases_)[i].length(); ++t) rows.push_back({case_number, t});
      }
    }
    for (std::int64_t begin = 0; begin < longest; begin += logit_rows) {
      std::vector<std::int64_t> sizes;
      for (const Pack& pack : wave) {
        sizes.push_back(std::clamp(pack.tokens - begin, std::int64_t{0}, logit_rows) * vocab);
      }
      const Pack* pack = own(wave);
      const auto mine = pack == nullptr ? std::span<const float>() : logits(*pack, begin);
      const std::vector<float> all = gather(mine, sizes, "logits");
      if (file == nullptr) continue;
      auto rest = std::span(all);
      auto pack_rows = std::span<const Row>(rows);
      for (std::size_t p = 0; p < wave.size(); ++p) {
        const auto count = static_cast<std::size_t>(sizes[p] / vocab);
        if (count > 0) {
          write_rows(*file, pack_rows.subspan(static_cast<std::size_t>(begin), count),
                     rest.first(count * static_cast<std::size_t>(vocab)));
        }
        rest = rest.subspan(static_cast<std::size_t>(sizes[p]));
        pack_rows = pack_rows.subspan(static_cast<std::size_t>(wave[p].tokens));
      }
    }
  }

  struct Row {
    std::int64_t case_number, position;
  };

  /// Consecutive rows of one pack, which may belong to several cases.
  static void write_rows(ScoreFile& file, std::span<const Row> rows,
                         std::span<const float> values) {
    const std::size_t vocab = values.size() / rows.size();
    for (std::size_t begin = 0, end = 0; begin < rows.size(); begin = end) {
      while (end < rows.size() && rows[end].case_number == rows[begin].case_number) ++end;
      file.logits(rows[begin].case_number, rows[begin].position,
                  values.subspan(begin * vocab, (end - begin) * vocab));
    }
  }

  std::span<const float> logits(const Pack& pack, std::int64_t begin) {
    const std::int64_t end = std::min(begin + logit_rows, pack.tokens);
    if (end <= begin) return {};
    logits_.reserve(model_->device(), DType::f32, {end - begin, model_->config().vocab_size});
    model_->logits(logits_.tensor(), hidden_.rows(begin, end));
    host_logits_.resize(static_cast<std::size_t>(logits_.tensor().size()));
    copy_out(std::span(host_logits_), logits_.tensor());
    return host_logits_;
  }

  /// Unit u of the wave gives sizes[u] numbers, which its first rank sends; rank 0 gets them all,
  /// in that order.
  std::vector<float> gather(std::span<const float> mine, const std::vector<std::int64_t>& sizes,
                            const char* what) const {
    if (world_->unit(Role::rollout).rank() != 0) return {};
    const Communicator& all = world_->across(Role::rollout);
    std::vector<float> values;
    std::vector<Outgoing> out;
    std::vector<Incoming> in;
    if (!mine.empty()) out.push_back({0, std::as_bytes(mine)});
    if (all.rank() == 0) {
      std::size_t total = 0;
      for (const std::int64_t size : sizes) total += static_cast<std::size_t>(size);
      values.resize(total);
      auto rest = std::span(values);
      for (std::size_t r = 0; r < sizes.size(); ++r) {
        const auto part = rest.first(static_cast<std::size_t>(sizes[r]));
        if (!part.empty()) in.push_back({static_cast<int>(r), std::as_writable_bytes(part)});
        rest = rest.subspan(part.size());
      }
    }
    all.transfer(out, in, what);
    return values;
  }

  const World* world_;
  Qwen3* model_;
  const std::vector<ScoreCase>* cases_;
  PackedSequences packed_;
  KvCache cache_;
  TokenHead head_;
  HeadOptions options_;
  Tensor hidden_;  // of this rank's pack
  Buffer logits_;
  std::vector<float> host_logits_;
};

Usage score_usage() {
  Usage usage;
  usage.verb = "score";
  usage.summary = "Token ids in, log-probabilities out.";
  usage.details =
      "A line is {\"id\": \"a\", \"tokens\": [1, 2, 3]}. The output has a group /case/<i> for each "
      "line, in\n"
      "order, with the attribute id and logprob f32 [T-1] (log p(token t+1 | tokens <= t), "
      "natural). Rows\n"
      "beyond the tokenizer's vocabulary have probability 0. With --logits also logits f32 [T, "
      "vocab]: as\n"
      "computed, before temperature, all rows of the model.";
  usage.options.add_options()("model", po::value<std::string>(), "model folder or checkpoint")(
      "tokens", po::value<std::string>(), "input, JSON lines")(
      "out", po::value<std::string>(), "output, HDF5")("logits", po::bool_switch(),
                                                       "write the logits too")(
      "temperature", po::value<double>()->default_value(1.0), "of the law")(
      "full-vocab", po::bool_switch(), "the law has all rows of the model");
  add_engine_options(usage);
  return usage;
}

std::int64_t payload_bytes(const std::vector<ScoreCase>& cases, std::int64_t logits_per_token) {
  std::int64_t tokens = 0;
  for (const ScoreCase& one : cases) tokens += one.length();
  return tokens * (1 + logits_per_token) * static_cast<std::int64_t>(sizeof(float));
}

}  // namespace

int score_verb(World& world, const Words& words) {
  const auto arguments = Arguments::parse(score_usage(), words);
  if (!arguments) return EXIT_SUCCESS;
  const std::string in = arguments->required("tokens"), target = arguments->required("out");
  const ModelSource source = ModelSource::open(world.all(), arguments->required("model"));
  split_into_units(world, *arguments, source);
  const Device device = engine_device(world, *arguments);
  const DType dtype = engine_dtype(*arguments);
  expect_one_arithmetic(world, device, dtype);
  const bool with_logits = arguments->flag("logits");
  ops::TokenLaw law;
  law.temperature = static_cast<float>(arguments->real("temperature", 1e-3, 1e3));
  law.vocab = arguments->flag("full-vocab") ? source.config.vocab_size
                                            : law_vocabulary(source, source.tokenizer());
  on_first_rank(world, target, [&] { expect_output(target); });
  const std::vector<ScoreCase> cases = read_cases(world, in, source.config);
  std::int64_t longest = 0;
  for (const ScoreCase& one : cases) longest = std::max(longest, one.length());

  const Unit unit(world.unit(Role::rollout));
  Qwen3 model(source.config, device,
              {.use = Use::inference, .max_positions = longest, .dtype = dtype, .unit = &unit});
  model.set_weights(source.load(world.all(), device, shard_of(&unit), {dtype}));
  std::optional<ScoreFile> file;
  if (world.all().rank() == 0) {
    file.emplace(target, payload_bytes(cases, with_logits ? source.config.vocab_size : 0));
  }
  Scorer(world, model, law, cases).run(file ? &*file : nullptr, with_logits);
  if (file) file->commit();
  return EXIT_SUCCESS;
}

}  // namespace fst
