// Steps of decoding of a model that ranks share, as CUDA graphs with NCCL's exchanges in them, on
// emulated GPUs: the bits of the whole model on the CPU, and the traffic of steps without graphs.

#include <map>
#include <tuple>

#include "fst/base/random.h"
#include "fst/comm/unit.h"
#include "fst/rollout/generator.h"
#include "fst/tensor/host_view.h"

#include "model/sharded_fixture.h"
#include "mpi_main.h"
#include "tests/emulator/emulator.h"

namespace fst {
namespace {

const Communicator& all() {
  return test::world().all();
}

/// The same exchanges, none of which is ever recorded.
class PlainUnit final : public TensorParallel {
 public:
  explicit PlainUnit(const Unit& unit) : unit_(&unit) {}
  int rank() const override { return unit_->rank(); }
  int size() const override { return unit_->size(); }
  void sum(Tensor& x, std::string_view what) const override { unit_->sum(x, what); }
  void gather(Tensor& to, const Tensor& mine, std::string_view what) const override {
    unit_->gather(to, mine, what);
  }

 private:
  const Unit* unit_;
};

/// Prompts of several lengths, of two laws or one; completions of different lengths, some stopped.
std::vector<GenerateRequest> requests_of(std::int64_t vocab, bool one_law) {
  std::vector<GenerateRequest> requests(7);
  for (std::uint64_t p = 0; p < requests.size(); ++p) {
    GenerateRequest& request = requests[p];
    request.prompt = testing::random_tokens(static_cast<std::int64_t>(9 + p), vocab, p / 2);
    request.key = stream_key(7, Purpose::generate_draw, {p});
    request.max_new_tokens = static_cast<std::int32_t>(3 + 2 * p);
    request.law.temperature = 0.9f;
    request.law.top_k = !one_law && p == 6 ? 20 : 0;
    request.law.vocab = 117;
  }
  return requests;
}

class SharedDecoding : public ::testing::Test {
 protected:
  SharedDecoding() {
    Qwen3 model(whole_.config(), cpu_, {.max_positions = 96});
    model.set_weights(whole_);
    Generator generator(model, options());
    for (const bool one_law : {false, true}) {
      expected_.push_back(generator.generate(requests_of(whole_.config().vocab_size, one_law)));
    }
  }

  static GeneratorOptions options() {
    GeneratorOptions options;
    options.kv_blocks = 21;
    options.stop_ids = {3, 17, 97};
    return options;
  }

  /// This rank's part of the model, decoding on its GPU.
  struct Engine {
    Engine(const Parameters& whole, const Device& gpu, const TensorParallel& unit)
        : parameters(whole.config(), gpu, shard_of(&unit)),
          model(whole.config(), gpu, {.max_positions = 96, .unit = &unit}) {
      const Parameters mine = testing::shard_of_parameters(whole, shard_of(&unit));
      copy_in(parameters.flat(), std::span<const float>(mine.flat().data<float>(),
                                                        static_cast<std::size_t>(mine.size())));
      model.set_weights(parameters);
      generator = std::make_unique<Generator>(model, options());
    }
    Parameters parameters;
    Qwen3 model;
    std::unique_ptr<Generator> generator;
  };

  void expect_as_on_the_cpu(Engine& engine, bool one_law) const {
    const auto found = engine.generator->generate(requests_of(whole_.config().vocab_size, one_law));
    const auto& expected = expected_[one_law ? 1 : 0];
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].tokens, expected[i].tokens) << i;
      EXPECT_EQ(testing::differing_bits(found[i].logprobs, expected[i].logprobs), 0) << i;
    }
  }

  /// Records and graphs of a call.
  std::pair<std::int64_t, std::int64_t> call(Engine& engine, bool one_law = true) const {
    const emulator::Calls before = emulator::calls();
    expect_as_on_the_cpu(engine, one_law);
    return {emulator::calls().records - before.records, emulator::calls().graphs - before.graphs};
  }

  static bool same_everywhere(std::int64_t number) {
    std::array<std::int64_t, 2> most{number, -number};
    all().all_reduce_max(std::span<std::int64_t>(most), "a number");
    return most[0] == -most[1];
  }

  const Device cpu_ = Device::cpu();
  const Parameters whole_ = testing::random_parameters(testing::shared_config(), cpu_, 65);
  std::vector<std::vector<Completion>> expected_;  // of two laws, of one
  const Device gpu_ = Device::cuda(all().rank());
  Communicator comm_ = all().subset(0, all().rank(), "unit");
};

TEST_F(SharedDecoding, HasTheBitsOfTheCpuAndTheTrafficOfStepsWithoutGraphs) {
  const auto traffic = [&](bool records) {
    Communicator comm = all().subset(0, all().rank(), "unit");
    comm.connect(gpu_, DeviceExchange::nccl);
    const Unit unit(comm);
    const PlainUnit plain(unit);
    Engine engine(whole_, gpu_, records ? static_cast<const TensorParallel&>(unit) : plain);
    std::int64_t graphs = 0, made = 0;
    for (const bool one_law : {true, false, true}) {
      const auto [records_of_call, graphs_of_call] = call(engine, one_law);
      made += records_of_call;
      graphs = graphs_of_call;
    }
    EXPECT_EQ(made > 0, records);
    EXPECT_EQ(graphs > 9, records);  // steps of the last call, nearly all
    EXPECT_TRUE(same_everywhere(graphs) && same_everywhere(made));
    std::map<std::string, std::tuple<std::int64_t, std::int64_t, std::int64_t>> table;
    for (const auto& [what, moved] : comm.traffic()) {
      table[what] = {moved.calls, moved.sent, moved.received};
    }
    return table;
  };
  const auto with = traffic(true), without = traffic(false);
  EXPECT_FALSE(with.empty());
  EXPECT_EQ(with, without);
}

TEST_F(SharedDecoding, RecordsAnewOnAllRanksWhatOneOfThemHasMoved) {
  comm_.connect(gpu_, DeviceExchange::nccl);
  const Unit unit(comm_);
  Engine engine(whole_, gpu_, unit);
  for (int i = 0; i < 3; ++i) static_cast<void>(call(engine));
  const auto [none, graphs] = call(engine);
  EXPECT_EQ(none, 0);
  if (all().rank() == 0) const Buffer passing(gpu_, DType::f32, {77});
  const auto [made, fewer] = call(engine);
  EXPECT_GT(made, 0);
  EXPECT_LT(fewer, graphs);
  EXPECT_TRUE(same_everywhere(made) && same_everywhere(fewer));
}

TEST_F(SharedDecoding, RecordsNothingWhereTensorsGoThroughTheHost) {
  comm_.connect(gpu_, DeviceExchange::host);
  const Unit unit(comm_);
  Engine engine(whole_, gpu_, unit);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(call(engine), std::pair(std::int64_t{0}, std::int64_t{0}));
  }
}

}  // namespace
}  // namespace fst
