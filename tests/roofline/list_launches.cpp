// What the program does in a step, without a GPU and without memory for the model: every operation
// of the device, its shape and least work, and the kernels it launches.
//   list_launches CONFIG_JSON f32|bf16 TP STEP...
//   STEP: decode:BATCH:CONTEXT | prefill:TOKENS | train:SEQUENCES:TOKENS
// JSON, one object a line: the model; then for each step its operations, equal ones once with their
// number, the least that each reads, writes and computes, the bytes that its kernels move beyond
// that by design, and what the ranks of a unit of TP would exchange. The model code is the
// product's, its launches are listed by the emulator in place of being executed
// (emulator/record.h).

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "fst/base/error.h"
#include "fst/comm/communicator.h"
#include "fst/learn/gradient_pass.h"
#include "fst/learn/optimizer.h"

#include "emulator/emulator.h"
#include "emulator/record.h"
#include "gpu/decode_step.h"
#include "roofline/listed_unit.h"
#include "roofline/promise.h"

namespace fst::roofline {
namespace {

using emulator::LaunchRecord;

/// "decode:8:512" as {"decode", {8, 512}}.
struct Step {
  std::string text, kind;
  std::vector<std::int64_t> sizes;

  explicit Step(const std::string& given) : text(given) {
    std::istringstream stream(given);
    std::getline(stream, kind, ':');
    for (std::string size; std::getline(stream, size, ':');)
      sizes.push_back(std::atoll(size.c_str()));
    const std::size_t expected = kind == "prefill"                     ? 1
                                 : kind == "decode" || kind == "train" ? 2
                                                                       : 0;
    bool fine = expected > 0 && sizes.size() == expected;
    for (const std::int64_t size : sizes) fine = fine && size > 0;
    if (!fine) {
      throw InputError(given + ": expected decode:BATCH:CONTEXT, prefill:TOKENS or " +
                       "train:SEQUENCES:TOKENS");
    }
  }
  /// The longest sequence.
  std::int64_t positions() const { return sizes.back() + 1; }
};

std::string triple(const unsigned (&of)[3]) {
  return "[" + std::to_string(of[0]) + ", " + std::to_string(of[1]) + ", " + std::to_string(of[2]) +
         "]";
}

std::string json_of(const LaunchRecord& launch) {
  return "{\"kernel\": \"" + emulator::kernel_name(launch.kernel) +
         "\", \"grid\": " + triple(launch.grid) + ", \"block\": " + triple(launch.block) +
         ", \"shared\": " + std::to_string(launch.shared) + "}";
}

std::string json_of(const emulator::Operation& operation) {
  return "\"op\": \"" + operation.name + "\", \"type\": \"" + operation.type +
         "\", \"shape\": " + operation.shape +
         ", \"read\": " + std::to_string(operation.work.read) +
         ", \"written\": " + std::to_string(operation.work.written) +
         ", \"operations\": " + std::to_string(operation.work.operations);
}

/// Equal lines once, in the order of their first.
class Lines {
 public:
  void add(const std::string& line) {
    if (++counts_[line] == 1) order_.push_back(line);
  }
  void print(const std::string& step) const {
    for (const std::string& line : order_) {
      std::printf("{\"step\": \"%s\", \"count\": %d, %s}\n", step.c_str(), counts_.at(line),
                  line.c_str());
    }
  }

 private:
  std::map<std::string, int> counts_;
  std::vector<std::string> order_;
};

void add_launches(Lines& lines, const Device& device) {
  for (const Ran& listed : operations_that_ran(device)) {
    std::string text;
    for (const LaunchRecord& launch : listed.launches) {
      text += (text.empty() ? "" : ", ") + json_of(launch);
    }
    lines.add(json_of(*listed.operation) + ", \"more\": " +
              std::to_string(bytes_by_design(listed)) + ", \"launches\": [" + text + "]");
  }
}

class Program {
 public:
  Program(const Qwen3Config& config, DType dtype, int tp)
      : config_(config), dtype_(dtype), unit_(tp), device_(Device::cuda(0)) {}

  void list(const Step& step) {
    if (step.kind == "train") {
      train(step);
    } else {
      infer(step);
    }
    Lines lines;
    add_launches(lines, device_);
    for (const ListedUnit::Exchange& exchange : unit_.take()) {
      lines.add("\"exchange\": \"" + std::string(exchange.kind) + "\", \"what\": \"" +
                exchange.what + "\", \"exchanged\": " + std::to_string(exchange.bytes));
    }
    lines.print(step.text);
  }

 private:
  const TensorParallel* unit() const { return unit_.size() == 1 ? nullptr : &unit_; }
  Qwen3Options options(Use use, const Step& step) const {
    return {.use = use, .max_positions = step.positions(), .dtype = dtype_, .unit = unit()};
  }
  /// What set-up does is no part of a step.
  void forget_launches() {
    device_.synchronize();
    emulator::take_launches();
    unit_.take();
  }

  void infer(const Step& step) {
    Qwen3 model(config_, device_, options(Use::inference, step));
    model.set_weights(Parameters(config_, device_, shard_of(unit()), {dtype_}));
    if (step.kind == "decode") {
      DecodeStep decode(model, step.sizes[0], step.sizes[1]);
      forget_launches();
      decode();
      device_.synchronize();
      return;
    }
    PackedSequences packed(device_);
    const auto tokens = static_cast<std::size_t>(step.sizes[0]);
    const TokenBatch& batch = packed.pack({std::vector<TokenId>(tokens, 7)});
    KvCache cache(model.local_config(), device_, packed.blocks(), dtype_);
    forget_launches();
    model.forward(batch, cache);
    device_.synchronize();
  }

  /// Gradient of all tokens but the first of each sequence, its norm, one update, new weights.
  void train(const Step& step) {
    const std::int64_t count = step.sizes[0], length = step.sizes[1];
    const Shard shard = shard_of(unit());
    Parameters parameters(config_, device_, shard, {dtype_, {0, parameter_count(config_, shard)}});
    Qwen3 model(config_, device_, options(Use::training, step));
    model.set_weights(parameters);
    Gradients gradients(config_, device_, unit());
    const Communicator alone = Communicator::self();
    Optimizer optimizer(parameters, {0, parameters.size()}, LearnerGrid(alone), {});
    GradientPass pass(model, nullptr);
    const std::vector<TokenId> tokens(static_cast<std::size_t>(length), 7);
    std::vector<std::int32_t> targets;
    for (std::int32_t t = 1; t < length; ++t) targets.push_back(t);
    const std::vector<LossSequence> sequences(static_cast<std::size_t>(count), {tokens, targets});
    forget_launches();
    gradients.zero();
    pass.accumulate(gradients, sequences,
                    {.law = {1.0f, 0}, .micro_batch = count, .chunk_rows = 2048},
                    [](const PassChunk& chunk) {
                      for (float& d : chunk.dlogprob) d = -1.0f;
                    });
    optimizer.step(gradients.finish(), 1e-6);
    model.set_weights(parameters);
    device_.synchronize();
  }

  Qwen3Config config_;
  DType dtype_;
  ListedUnit unit_;
  Device device_;
};

void run(int argc, char** argv) {
  std::ifstream stream(argv[1]);
  const std::string text((std::istreambuf_iterator<char>(stream)), {});
  const Qwen3Config config = Qwen3Config::parse(text, argv[1]);
  const std::string dtype = argv[2];
  if (dtype != "f32" && dtype != "bf16") throw InputError(dtype + ": expected f32 or bf16");
  const int tp = std::atoi(argv[3]);
  expect_shardable(config, tp);
  std::vector<Step> steps;
  for (int i = 4; i < argc; ++i) steps.emplace_back(argv[i]);
  constexpr std::size_t plenty = std::size_t{1} << 42;  // addresses, not memory
  emulator::set_device_memory(plenty);
  emulator::record_launches(emulator::Recording::list);
  std::printf("{\"parameters\": %lld, \"dtype\": \"%s\", \"tp\": %d}\n",
              static_cast<long long>(config.parameter_count()), dtype.c_str(), tp);
  for (const Step& step : steps) {
    Program(config, dtype == "bf16" ? DType::bf16 : DType::f32, tp).list(step);
  }
}

}  // namespace
}  // namespace fst::roofline

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: list_launches CONFIG_JSON f32|bf16 TP STEP...\n");
    return EXIT_FAILURE;
  }
  try {
    fst::roofline::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "list_launches: %s\n", error.what());
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
