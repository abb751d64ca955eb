#include "fst/run/pretrain.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

#include "fst/base/clock.h"
#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/base/random.h"
#include "fst/learn/optimizer.h"
#include "fst/learn/schedule.h"
#include "fst/model/model_products.h"
#include "fst/run/engine.h"
#include "fst/run/skill_probe.h"
#include "fst/store/files.h"
#include "fst/store/metrics_log.h"

namespace fst {

namespace {

/// The row `index` of a step, the same on every rank.
using RowSource = std::function<TrainRow(std::int64_t step, std::int64_t index)>;
using RowCount = std::function<std::int64_t(std::int64_t step)>;

struct Data {
  RowCount rows;
  RowSource row;
};

Data world_data(const RunConfig& config, const Tokenizer& tokenizer, const Chat& chat) {
  world::PretrainOptions options;
  options.first_steps = config.pretrain.stage1_steps;
  const auto seed = static_cast<std::uint64_t>(config.run.seed);
  Data data;
  data.rows = [options](std::int64_t step) { return world::pretrain_mix(options, step).rows; };
  data.row = [options, seed, &tokenizer, &chat](std::int64_t step, std::int64_t index) {
    const auto row = world::pretrain_row(options, seed, step, index);
    std::vector<ChatMessage> messages;
    for (const auto& turn : row.turns) messages.push_back({turn.role, turn.content, {}});
    return chat_row(tokenizer, chat, messages, "world row");
  };
  return data;
}

/// Rows of a JSONL file, all tokenised once; each epoch in a fresh order that is a function of
/// (seed, epoch).
Data file_data(const RunConfig& config, const Tokenizer& tokenizer, const Chat& chat) {
  const std::string& path = config.pretrain.files;
  auto rows = std::make_shared<std::vector<TrainRow>>();
  std::istringstream stream(read_text(path));
  std::int64_t number = 0;
  for (std::string line; std::getline(stream, line);) {
    const std::string where = path + ":" + std::to_string(++number);
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const auto json = nlohmann::json::parse(line, nullptr, false);
    const char* field = config.pretrain.source == "text" ? "text" : "messages";
    if (!json.is_object() || !json.contains(field)) {
      throw InputError(where + ": expected an object with \"" + field + "\"");
    }
    TrainRow row;
    if (config.pretrain.source == "text") {
      if (!json["text"].is_string()) throw InputError(where + ": \"text\" must be a string");
      row = text_row(tokenizer, json["text"].get<std::string>(), config.pretrain.row_tokens);
    } else {
      row = chat_row(tokenizer, chat, parse_messages(json["messages"].dump(), where), where);
      if (static_cast<std::int64_t>(row.tokens.size()) > config.pretrain.row_tokens) continue;
    }
    if (!row.targets.empty()) rows->push_back(std::move(row));
  }
  if (rows->empty()) throw InputError(path + ": no row of at most pretrain.row_tokens tokens");
  const std::int64_t per_step = config.pretrain.rows;
  const auto seed = static_cast<std::uint64_t>(config.run.seed);
  Data data;
  data.rows = [per_step](std::int64_t) { return per_step; };
  data.row = [rows, per_step, seed](std::int64_t step, std::int64_t index) {
    const auto count = static_cast<std::int64_t>(rows->size());
    const std::int64_t position = step * per_step + index;
    const auto epoch = static_cast<std::uint64_t>(position / count);
    std::vector<std::int64_t> order(rows->size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
    Rng rng(seed, Purpose::pretrain_rows, {epoch});
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.below(i)]);
    return (*rows)[static_cast<std::size_t>(order[static_cast<std::size_t>(position % count)])];
  };
  return data;
}

/// Fresh weights for small models: matrices normal with deviation 1/sqrt(fan-in), the outputs of
/// attention and MLP further divided by sqrt(2 layers); the embedding normal(0, 0.05) plus 0.05 on
/// every entry, which gives a network without biases a constant direction; gains 1, those of q and
/// k 1.5. Each parameter has its own stream, keyed by its name.
void initialise_small(Parameters& parameters, std::uint64_t seed) {
  const double layers = static_cast<double>(parameters.config().num_hidden_layers);
  for (const auto& spec : parameters.specs()) {
    std::vector<float> values;
    const auto has = [&](const char* part) { return spec.name.find(part) != std::string::npos; };
    Rng rng(seed, Purpose::initial_weights, {hash_text(spec.name)});
    const bool embedding = has("embed_tokens");
    double deviation = embedding ? 0.05 : 1.0 / std::sqrt(static_cast<double>(spec.cols));
    if (has("o_proj") || has("down_proj")) deviation /= std::sqrt(2.0 * layers);
    for (std::int64_t i = 0; i < spec.size(); ++i) {
      double value = 0.0;
      if (spec.rank == 2) {
        value = deviation * rng.normal() + (embedding ? 0.05 : 0.0);
      } else if (!has("bias")) {
        value = has("q_norm") || has("k_norm") ? 1.5 : 1.0;
      }
      values.push_back(static_cast<float>(value));
    }
    parameters.put(spec.offset, values);
  }
}

/// The parts of one training process, made once.
struct Trainer {
  Trainer(World& world_, const RunConfig& config_, const Tokenizer& tokenizer_, const Chat& chat_,
          Parameters& parameters_, const Device& device)
      : world(world_),
        config(config_),
        parameters(parameters_),
        model(parameters_.config(), device,
              {.use = Use::training,
               .max_positions = parameters_.config().max_position_embeddings,
               .dtype = arithmetic_of(config.engine.dtype),
               .attention = attention_of(config.engine.attention)}),
        tree(parameters_.config(), device, world_.learner(), config_.learner.gradient_leaves),
        optimizer(
            parameters_, tree.shard(), LearnerGrid(world_.learner()),
            {config_.pretrain.beta1, config_.pretrain.beta2, config_.pretrain.eps,
             config_.pretrain.weight_decay, config_.pretrain.clip, config_.pretrain.gain_lr_scale}),
        pass(model, nullptr),
        data(config_.pretrain.source == "world" ? world_data(config_, tokenizer_, chat_)
                                                : file_data(config_, tokenizer_, chat_)) {
    options.law = {1.0f, tokenizer_.vocab_size()};
    options.micro_batch = config.learner.micro_batch;
    options.keep = config.learner.recompute ? Keep::inputs : Keep::all;
    options.chunk_rows = config.learner.head_chunk;
    model.set_weights(parameters);
  }

  World& world;
  const RunConfig& config;
  Parameters& parameters;
  Qwen3 model;
  GradientTree tree;
  Optimizer optimizer;
  GradientPass pass;
  Data data;
  PassOptions options;
};

struct StepResult {
  double loss = 0, norm = 0;
  std::int64_t tokens = 0;
};

StepResult train_step(Trainer& trainer, std::int64_t step, double lr) {
  std::vector<TrainRow> rows;
  std::int64_t targets = 0;
  StepResult result;
  for (std::int64_t r = 0; r < trainer.data.rows(step); ++r) {
    rows.push_back(trainer.data.row(step, r));
    targets += static_cast<std::int64_t>(rows.back().targets.size());
    result.tokens += static_cast<std::int64_t>(rows.back().tokens.size());
  }
  const auto weight = static_cast<float>(-1.0 / static_cast<double>(targets));
  kernels::ExactSum logprobs;
  const Tensor& gradient = trainer.tree.reduce([&](std::int64_t leaf, Gradients& gradients) {
    const Range part = part_of(static_cast<std::int64_t>(rows.size()), trainer.tree.leaves(), leaf);
    std::vector<LossSequence> sequences;
    for (std::int64_t r = part.begin; r < part.end; ++r) {
      const auto& row = rows[static_cast<std::size_t>(r)];
      sequences.push_back({row.tokens, row.targets});
    }
    trainer.pass.accumulate(gradients, sequences, trainer.options, [&](const PassChunk& chunk) {
      for (std::size_t i = 0; i < chunk.logprob.size(); ++i) {
        chunk.dlogprob[i] = weight;
        logprobs.add(static_cast<double>(chunk.logprob[i]));
      }
    });
  });
  trainer.world.learner().all_reduce_sum(logprobs, "pre-training loss");
  result.loss = -logprobs.value() / static_cast<double>(targets);
  result.norm = trainer.optimizer.step(gradient, lr);
  trainer.model.set_weights(trainer.parameters);
  return result;
}

std::string describe(const SkillScores& scores) {
  std::string text;
  for (const auto& [name, score] : scores) {
    char number[16];
    std::snprintf(number, sizeof number, "%.3f", score);
    text += " " + name + "=" + number;
  }
  return text;
}

/// The skill that the early stop looks at.
double follow_of(const SkillScores& scores) {
  for (const auto& [name, score] : scores) {
    if (name == "follow_3_4") return score;
  }
  throw Error("pre-training: the probe has no skill follow_3_4");
}

void write_results(const RunConfig& config, const Parameters& parameters) {
  const std::filesystem::path folder = std::filesystem::path(config.run.output) / "model";
  export_folder(folder, parameters, DType::bf16, config.pretrain.tokenizer);
  log::info("wrote " + folder.string());
}

class Reporter {
 public:
  Reporter(World& world, const RunConfig& config)
      : config_(config), speaks_(world.all().rank() == 0) {
    if (!speaks_) return;
    std::filesystem::create_directories(config.run.output);
    write_text(std::filesystem::path(config.run.output) / "config.resolved.cfg",
               resolved_deck(config));
    metrics_.emplace(std::filesystem::path(config.run.output) / "metrics.jsonl");
    metrics_->cut_back(0);
  }
  void step(std::int64_t step, const StepResult& result, double lr) {
    loss_ += result.loss;
    tokens_ += result.tokens;
    total_tokens_ += result.tokens;
    if (step % every != 0 && step != config_.pretrain.steps) return;
    const auto steps = static_cast<double>(step - last_step_);
    const double seconds = watch_.lap();
    char line[256];
    std::snprintf(line, sizeof line,
                  "step=%lld loss=%.4f grad_norm=%.3f lr=%.2e tokens=%.2fM tokens_per_s=%.0f",
                  static_cast<long long>(step), loss_ / steps, result.norm, lr,
                  static_cast<double>(total_tokens_) * 1e-6,
                  static_cast<double>(tokens_) / seconds);
    log::info(line);
    if (speaks_) {
      nlohmann::json json{{"kind", "pretrain"},    {"step", step},
                          {"loss", loss_ / steps}, {"optim/grad_norm", result.norm},
                          {"optim/lr", lr},        {"tokens", total_tokens_},
                          {"seconds", seconds}};
      metrics_->append(json.dump());
    }
    loss_ = 0;
    tokens_ = 0;
    last_step_ = step;
  }
  void probe(std::int64_t step, const SkillScores& scores) {
    log::info("step=" + std::to_string(step) + " probe" + describe(scores));
    if (!speaks_) return;
    nlohmann::json json{{"kind", "probe"}, {"step", step}, {"tokens", total_tokens_}};
    for (const auto& [name, score] : scores) json[name] = score;
    metrics_->append(json.dump());
  }
  std::int64_t total_tokens() const { return total_tokens_; }

 private:
  static constexpr std::int64_t every = 25;
  const RunConfig& config_;
  bool speaks_;
  std::optional<MetricsLog> metrics_;
  Stopwatch watch_;
  double loss_ = 0;
  std::int64_t tokens_ = 0, total_tokens_ = 0, last_step_ = 0;
};

}  // namespace

void pretrain(World& world, const RunConfig& config) {
  const auto& p = config.pretrain;
  const Device device =
      open_engine(world, config.engine.device, config.engine.exchange, config.engine.threads);
  expect_one_arithmetic(world, device, arithmetic_of(config.engine.dtype));
  expect_gpu_unless_exact(device, config);
  expect_attention(config);
  const Tokenizer tokenizer = Tokenizer::load(p.tokenizer);
  const Chat chat = Chat::load(p.tokenizer);
  const bool scratch = p.init == "scratch";
  const Qwen3Config model_config = scratch ? Qwen3Config::parse(read_text(p.config), p.config)
                                           : Qwen3Config::load(config.model.policy);
  if (tokenizer.vocab_size() > model_config.vocab_size) {
    throw InputError(p.tokenizer + ": " + std::to_string(tokenizer.vocab_size()) +
                     " tokens, but the model has " + std::to_string(model_config.vocab_size) +
                     " rows");
  }
  const PassRows rows{config.learner.micro_batch * p.row_tokens,
                      std::max(config.learner.head_chunk, ops::rows_of_block(DType::bf16)), true};
  choose_products(world, device, config, model_products(model_config, 1, rows), 0);
  const Holding holding{arithmetic_of(config.engine.dtype),
                        GradientTree::shard_of(parameter_count(model_config, {}), world.learner())};
  Parameters parameters =
      scratch ? Parameters(model_config, device, {}, holding)
              : load_parameters(config.model.policy, model_config, device, {}, holding);
  if (scratch) initialise_small(parameters, static_cast<std::uint64_t>(config.run.seed));
  Trainer trainer(world, config, tokenizer, chat, parameters, device);
  Reporter reporter(world, config);
  std::optional<SkillProber> prober;
  if (p.source == "world" && p.probe_every > 0) {
    prober.emplace(tokenizer, chat, static_cast<std::uint64_t>(config.run.seed) + 1, 96);
  }
  log::info(world.layout() + ", " + device.description() + ", " +
            std::to_string(parameters.size()) + " parameters");
  for (std::int64_t step = 1; step <= p.steps; ++step) {
    const double lr = learning_rate({.peak = p.lr,
                                     .warmup = p.warmup,
                                     .steps = p.steps,
                                     .decay_from = p.decay_from,
                                     .final_fraction = p.final_lr},
                                    step);
    const StepResult result = train_step(trainer, step - 1, lr);
    reporter.step(step, result, lr);
    if (!prober || (step % p.probe_every != 0 && step != p.steps)) continue;
    const SkillScores scores = prober->score(trainer.model);
    reporter.probe(step, scores);
    if (reporter.total_tokens() >= p.stop_tokens && follow_of(scores) < p.stop_follow) {
      throw Error("pre-training is broken: follow is below " + std::to_string(p.stop_follow) +
                  " after " + std::to_string(reporter.total_tokens()) +
                  " tokens; the tag lookup should have formed by 4.6 M");
    }
  }
  if (world.all().rank() == 0) write_results(config, parameters);
  world.all().barrier("the exported model");
}

}  // namespace fst
