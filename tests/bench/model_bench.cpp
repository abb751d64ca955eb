// Our side of the comparison with other engines: loads a model folder, then answers one JSON object
// per line of standard input with one line of JSON. peer.py answers the same commands; compare.py
// asks both in turn.
//   {"do": "limits", "threads"}                            -> seconds and work of FMA chains and of
//   reading
//   {"do": "train", "threads", "steps", "sequences", "leaves"?, "micro_batch"?} -> seconds per
//   step, losses before each step; eight gradient leaves and 64 sequences unless given
//   (train, sample and decode answer with "cpu_seconds", too)
//   {"do": "sample", "threads", "new_tokens", "sequences", "batches"} -> seconds per batch,
//   completions of the last one
//   {"do": "prefill", "threads", "sequences"}              -> seconds until the first sequence's
//   next logits
//   {"do": "decode", "threads", "new_tokens", "sequences"} -> seconds for new_tokens steps after
//   the prompts
// A second argument, cuda, puts models and work on the first GPU; "limits" stays the CPU's.
// In model_bench_plain every command takes "plain", the parts whose sums are not canonical.
//   {"do": "score", "threads", "sequences"}                -> log-probability of every token but
//   the first

#include <algorithm>
#include <array>
#include <cstdint>
#include <ctime>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "fst/base/clock.h"
#include "fst/base/error.h"
#include "fst/base/random.h"
#include "fst/learn/gradient_pass.h"
#include "fst/learn/gradient_tree.h"
#include "fst/learn/optimizer.h"
#include "fst/rollout/generator.h"

#include "bench/limits.h"
#if FST_BENCH_PLAIN
#include "bench/plain_sums.h"
#endif

namespace fst {

namespace {

using Json = nlohmann::json;
using Texts = std::vector<std::vector<TokenId>>;

constexpr std::int64_t read_floats = std::int64_t{1} << 26;  // 256 MiB, more than any cache

struct Bench {
  std::string folder;
  Qwen3Config config;
  std::int64_t positions = 0;
  std::string device = "cpu";  // or cuda
  DType dtype = DType::f32;
};

/// Inference on a given number of threads, as `fst generate` and `fst score` do it.
struct Engine {
  Engine(const Bench& bench, int threads)
      : device(Device::named(bench.device, threads, 0)),
        model(bench.config, device,
              {.use = Use::inference, .max_positions = bench.positions, .dtype = bench.dtype}),
        packed(device),
        cache(bench.config, device, 1, bench.dtype),
        head(device) {
    model.set_weights(load_parameters(bench.folder, bench.config, device, {}, {bench.dtype}));
    GeneratorOptions options;
    options.kv_bytes = std::int64_t{2} << 30;
    generator = std::make_unique<Generator>(model, options);
  }

  Device device;
  Qwen3 model;
  PackedSequences packed;
  KvCache cache;
  TokenHead head;
  std::unique_ptr<Generator> generator;
};

/// Training as `fst pretrain` does it: gradient leaves, AdamW, weights packed anew each step.
struct Trainer {
  Trainer(const Bench& bench, int threads, std::int64_t leaves)
      : device(Device::named(bench.device, threads, 0)),
        learners(Communicator::self()),
        parameters(load_parameters(bench.folder, bench.config, device, {},
                                   {bench.dtype, {0, bench.config.parameter_count()}})),
        model(bench.config, device,
              {.use = Use::training, .max_positions = bench.positions, .dtype = bench.dtype}),
        tree(bench.config, device, learners, leaves),
        optimizer(parameters, tree.shard(), LearnerGrid(learners), {}),
        pass(model, nullptr) {
    model.set_weights(parameters);
  }

  Device device;
  Communicator learners;
  Parameters parameters;
  Qwen3 model;
  GradientTree tree;
  Optimizer optimizer;
  GradientPass pass;
};

/// Of all threads of this process so far, waiting ones included while they spin. Unlike the clock
/// on the wall it does not count what other programs take.
double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

/// The fastest of some ways to read memory: which one it is differs between machines.
double fastest_read(const Device& device, const Buffer& memory) {
  const auto* x = memory.data<float>();
  const std::array reads = {&bench::read_all<1, 0>, &bench::read_all<1, 1024>,
                            &bench::read_all<2, 0>, &bench::read_all<2, 256>,
                            &bench::read_all<4, 0>, &bench::read_all<4, 2048>};
  double least = std::numeric_limits<double>::infinity();
  for (const auto read : reads) {
    const Stopwatch watch;
    read(device.exec(), x, read_floats);
    least = std::min(least, watch.seconds());
  }
  return least;
}

/// Each for some 20 milliseconds or more: long enough for the second thread to wake.
Json limits(const Device& device, const Buffer& memory) {
  constexpr int spins = 32;
  double flop = 0.0;
  Stopwatch watch;
  for (int i = 0; i < spins; ++i) flop += bench::multiply_add(device.exec(), device.threads());
  Json reply{{"flop", flop}, {"flop_seconds", watch.lap()}};
  reply["bytes"] = 4 * read_floats;
  reply["byte_seconds"] = fastest_read(device, memory);
  return reply;
}

/// One step on the mean loss of all next tokens; returns that loss.
double train_step(Trainer& trainer, const Texts& texts, std::int64_t micro_batch) {
  std::vector<std::vector<std::int32_t>> targets;
  std::int64_t count = 0;
  for (const auto& text : texts) {
    targets.emplace_back();
    for (std::size_t t = 1; t < text.size(); ++t) {
      targets.back().push_back(static_cast<std::int32_t>(t));
    }
    count += static_cast<std::int64_t>(targets.back().size());
  }
  PassOptions options;
  options.law = {1.0f, trainer.model.config().vocab_size};
  options.micro_batch = micro_batch;
  const auto weight = static_cast<float>(-1.0 / static_cast<double>(count));
  kernels::ExactSum logprobs;
  const Tensor& gradient = trainer.tree.reduce([&](std::int64_t leaf, Gradients& gradients) {
    const Range part =
        part_of(static_cast<std::int64_t>(texts.size()), trainer.tree.leaves(), leaf);
    std::vector<LossSequence> sequences;
    for (std::int64_t s = part.begin; s < part.end; ++s) {
      const auto i = static_cast<std::size_t>(s);
      sequences.push_back({texts[i], targets[i]});
    }
    trainer.pass.accumulate(gradients, sequences, options, [&](const PassChunk& chunk) {
      for (std::size_t i = 0; i < chunk.logprob.size(); ++i) {
        chunk.dlogprob[i] = weight;
        logprobs.add(static_cast<double>(chunk.logprob[i]));
      }
    });
  });
  trainer.optimizer.step(gradient, 1e-3);
  trainer.model.set_weights(trainer.parameters);
  return -logprobs.value() / static_cast<double>(count);
}

Json train(Trainer& trainer, const Json& command) {
  const auto texts = command.at("sequences").get<Texts>();
  const std::int64_t micro_batch = command.value("micro_batch", std::int64_t{64});
  Json reply;
  for (int step = 0; step < command.at("steps").get<int>(); ++step) {
    const Stopwatch watch;
    const double cpu = cpu_seconds();
    reply["loss"].push_back(train_step(trainer, texts, micro_batch));
    trainer.device.synchronize();
    reply["seconds"].push_back(watch.seconds());
    reply["cpu_seconds"].push_back(cpu_seconds() - cpu);
  }
  return reply;
}

std::vector<GenerateRequest> requests_for(const Json& command, float temperature) {
  std::vector<GenerateRequest> requests;
  for (const auto& prompt : command.at("sequences").get<Texts>()) {
    GenerateRequest request;
    request.prompt = prompt;
    request.key = requests.size() + 1;
    request.max_new_tokens = command.at("new_tokens").get<std::int32_t>();
    request.law.temperature = temperature;
    requests.push_back(request);
  }
  return requests;
}

Json timed_generation(Engine& engine, const std::vector<GenerateRequest>& requests) {
  const Scheduler::Counts before = engine.generator->counts();
  const Stopwatch watch;
  const double cpu = cpu_seconds();
  const std::vector<Completion> completions = engine.generator->generate(requests);
  Json reply;
  reply["seconds"] = watch.seconds();
  reply["cpu_seconds"] = cpu_seconds() - cpu;
  reply["steps"] = engine.generator->counts().steps - before.steps;
  reply["rows"] = engine.generator->counts().rows - before.rows;
  for (const Completion& completion : completions) {
    reply["tokens"].push_back(completion.tokens);
    reply["logprobs"].push_back(completion.logprobs);
  }
  return reply;
}

/// Prompts and completions of some batches one after another, nothing known before each.
Json sample(Engine& engine, const Json& command) {
  const std::vector<GenerateRequest> requests = requests_for(command, 1.0f);
  Json reply, seconds, cpu;
  for (int batch = 0; batch < command.at("batches").get<int>(); ++batch) {
    engine.generator->weights_changed();
    reply = timed_generation(engine, requests);
    seconds.push_back(reply.at("seconds"));
    cpu.push_back(reply.at("cpu_seconds"));
  }
  reply["seconds"] = seconds;
  reply["cpu_seconds"] = cpu;
  return reply;
}

/// The same requests twice: the second time the prompts' keys and values are there, and a prompt of
/// 16 n + 1 tokens has one row left, so every step computes one row of each sequence.
Json decode(Engine& engine, const Json& command) {
  const std::vector<GenerateRequest> requests = requests_for(command, 0.0f);
  engine.generator->generate(requests);
  Json reply = timed_generation(engine, requests);
  const auto steps = command.at("new_tokens").get<std::int64_t>();
  if (reply.at("steps") != steps ||
      reply.at("rows") != steps * static_cast<std::int64_t>(requests.size())) {
    throw Error("decode: a step computed something else than one row of each sequence");
  }
  return reply;
}

Json prefill(Engine& engine, const Json& command) {
  const auto texts = command.at("sequences").get<Texts>();
  const TokenBatch& batch = engine.packed.pack(Texts{texts.front()});
  engine.cache.reserve(engine.packed.blocks());
  Buffer logits(engine.device, DType::f32, {1, engine.model.config().vocab_size});
  const Stopwatch watch;
  const Tensor& hidden = engine.model.forward(batch, engine.cache);
  engine.model.logits(logits.tensor(), hidden.rows(hidden.dim(0) - 1, hidden.dim(0)));
  engine.device.synchronize();
  return {{"seconds", watch.seconds()}};
}

Json score(Engine& engine, const Json& command) {
  Json reply;
  for (const auto& text : command.at("sequences").get<Texts>()) {
    const TokenBatch& batch = engine.packed.pack(Texts{text});
    engine.cache.reserve(engine.packed.blocks());
    const Tensor& hidden = engine.model.forward(batch, engine.cache);
    std::vector<std::int32_t> rows;
    for (std::size_t t = 0; t + 1 < text.size(); ++t) {
      rows.push_back(static_cast<std::int32_t>(t));
    }
    const std::vector<TokenId> targets(text.begin() + 1, text.end());
    reply["logprobs"].push_back(
        engine.head.score(engine.model, hidden, {rows, targets}, {}).logprob);
  }
  return reply;
}

/// One object per setting, made when it is first asked for.
template <class T, class... Setting>
T& made_for(std::map<std::tuple<Setting...>, std::unique_ptr<T>>& made, const Bench& bench,
            Setting... setting) {
  std::unique_ptr<T>& one = made[{setting...}];
  if (!one) one = std::make_unique<T>(bench, setting...);
  return *one;
}

void answer_all(const Bench& bench) {
  std::map<std::tuple<int>, std::unique_ptr<Engine>> engines;
  std::map<std::tuple<int, std::int64_t>, std::unique_ptr<Trainer>> trainers;
  const Device devices[2] = {Device::cpu(1), Device::cpu(2)};
  Buffer memory(devices[0], DType::f32, {read_floats});
  ops::fill(memory.tensor(), 1.0f);
  for (std::string line; std::getline(std::cin, line);) {
    const Json command = Json::parse(line);
    const auto what = command.at("do").get<std::string>();
    const int threads = command.at("threads").get<int>();
#if FST_BENCH_PLAIN
    bench::set_plain(command.value("plain", std::string()));
#endif
    Json reply;
    if (what == "limits") {
      reply = limits(devices[threads == 1 ? 0 : 1], memory);
    } else if (what == "train") {
      const std::int64_t leaves = command.value("leaves", std::int64_t{8});
      reply = train(made_for(trainers, bench, threads, leaves), command);
    } else {
      Engine& engine = made_for(engines, bench, threads);
      reply = what == "sample"    ? sample(engine, command)
              : what == "decode"  ? decode(engine, command)
              : what == "prefill" ? prefill(engine, command)
              : what == "score"   ? score(engine, command)
                                  : throw Error("unknown command " + what);
    }
    std::cout << reply.dump() << std::endl;
  }
}

}  // namespace

}  // namespace fst

int main(int argc, char** argv) {
  try {
    if (argc < 2 || argc > 4) {
      throw fst::InputError("usage: model_bench MODEL_FOLDER [cpu|cuda [f32|bf16]]");
    }
    fst::Bench bench{
        argv[1], fst::Qwen3Config::load(argv[1]), 0, argc > 2 ? argv[2] : "cpu",
        argc > 3 && std::string(argv[3]) == "bf16" ? fst::DType::bf16 : fst::DType::f32};
    bench.positions = std::min<std::int64_t>(bench.config.max_position_embeddings, 4096);
    fst::answer_all(bench);
  } catch (const std::exception& error) {
    std::cerr << "model_bench: " << error.what() << '\n';
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
