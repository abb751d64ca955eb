#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "fst/model/qwen3.h"
#include "fst/rollout/completion.h"
#include "fst/rollout/scheduler.h"
#include "fst/tensor/parcel.h"
#include "fst/tensor/recordings.h"

namespace fst {

struct GeneratorOptions {
  /// Bound on the memory of keys and values; it is taken as calls need it.
  std::int64_t kv_bytes = std::int64_t{256} << 20;
  std::int64_t kv_blocks = 0;        // the same bound in blocks of 16 tokens; 0: from kv_bytes
  std::int64_t max_batch = 256;      // completions drawn at the same time
  std::int64_t prefill_chunk = 512;  // prompt tokens per step
  std::vector<TokenId> stop_ids;     // tokens that end a completion
  bool share_prefixes = true;        // false: every request computes its whole prompt; for tests
  /// Steps that are queued before what they follow is known, 0 or 1; by default 1 on a GPU, which
  /// then never waits for the host, and 0 on the CPU, where a row too many costs its time.
  std::optional<int> steps_ahead = std::nullopt;
  bool record_steps = true;  // of decoding, on a GPU (Recordings)
  /// Whether steps of decoding are padded to few batch sizes (Generator); by default where they are
  /// recorded, and not on the CPU, where a row costs its time.
  std::optional<bool> pad_batches = std::nullopt;
  MemoryPhase phase = MemoryPhase::rollout;  // whose memory it uses, of a plan (tensor/arena.h)
};

/// The model of a generator, as far as memory goes: this rank's sizes, its part of the vocabulary.
struct GeneratorModel {
  Qwen3Config local;
  DType dtype = DType::f32;
  std::int64_t columns = 0, ranks = 1, max_positions = 0;
  bool on_host = true;  // the CPU computes it
};

/// Tokens in, tokens and log-probabilities out. Knows no problems, prompts or rewards.
///
/// A completion is a function of the weights and its own request: no bit of it depends on the other
/// requests, their order, the options above, the threads or the instruction set. Its
/// log-probabilities are bit for bit those of a forward pass over prompt and completion
/// (ops::token_logprob) as long as the law does not truncate.
///
/// A step is queued as a whole: the rows of the model, the draws, and the test whether a completion
/// ends there. With a step ahead, a row takes its token on the device from what the step before
/// drew, and the host reads that meanwhile.
///
/// A step of decoding computes one row of each sequence and draws one token from it by one law. On
/// a GPU such steps are recorded, one record for each number of rows, and an engine whose batch
/// shrinks row by row would record nearly every step and replay none. So they are padded to
/// padded_batch() rows by dummies, at most most_dummies: token 0 at position 0, alone in a block
/// beyond those that sequences get, one block each so that no two rows write one address. What a
/// dummy draws, by key 0, nobody reads. Since a row depends on its own sequence alone, they change
/// no bit of the others; counts() does not know of them.
class Generator {
 public:
  /// `model` must outlive the generator. Throws InputError for options that cannot work.
  Generator(Qwen3& model, const GeneratorOptions& options);

  /// One completion per request, in order. Throws InputError naming the request for an empty
  /// prompt, no new tokens, a length beyond the model's positions or the cache, a law beyond the
  /// vocabulary; Error naming the request if a logit is not finite. Begins its phase: where another
  /// has had its turn since the last call, what the cache knew is void.
  std::vector<Completion> generate(std::span<const GenerateRequest> requests);
  /// To be called after every change of the model's weights: what the cache knows is void.
  void weights_changed() { scheduler_.pool().forget(); }

  /// Takes at once the most that calls may need, as planned. Otherwise memory grows with them.
  void reserve();
  /// What reserve() takes for a model of these sizes, shared by `ranks`.
  static std::int64_t bytes_of(const GeneratorModel& model, const GeneratorOptions& options);
  /// Blocks that requests share at most; those of the dummies come on top.
  static std::int64_t most_blocks(const GeneratorModel& model, const GeneratorOptions& options);
  /// Rows of a step of decoding for so many sequences where it is padded: 1, 2, 4, 8, 16, 24, ...
  static std::int64_t padded_batch(std::int64_t sequences);
  static constexpr std::int64_t most_dummies = 7;
  /// Rows of the largest step of decoding.
  static std::int64_t most_decoded(const GeneratorOptions& options, bool on_host);
  /// Rows of logits that exist at the same time.
  static std::int64_t most_logits_rows(const Qwen3Config& config);

  const Scheduler::Counts& counts() const { return scheduler_.counts(); }
  /// Memory of keys and values at present, with the dummies' blocks.
  std::int64_t kv_bytes() const { return cache_.bytes(); }

 private:
  /// A token to draw: from hidden row `row`, for `sequence`.
  struct Draw {
    std::int32_t row;
    Sequence* sequence;
  };
  using Draws = std::vector<Draw>;

  static bool pads(const GeneratorOptions& options, bool on_host);
  void set_stops();
  void begin_turn();
  void check(std::span<const GenerateRequest> requests) const;
  void grow_cache(std::span<const GenerateRequest> requests);
  void grow_results(std::span<const GenerateRequest> requests);
  void number_laws(std::span<const GenerateRequest> requests);
  bool queue_step();
  void collect_draws(const std::vector<Scheduler::Work>& work);
  void make_batch(const std::vector<Scheduler::Work>& work);
  void write_rows(const std::vector<Scheduler::Work>& work);
  void write_draws();
  std::int64_t spare_blocks() const { return pads_ ? most_dummies : 0; }
  std::int32_t law_of(const Draw& draw) const;
  bool decodes(const std::vector<Scheduler::Work>& work);
  Recordings::Key key_of_step();
  void compute();
  void draw(const Tensor& hidden, std::int64_t begin, std::int64_t end,
            const ops::SamplingLaw& law);
  int place_of(std::int64_t step) const { return static_cast<int>(step % Download::places); }
  Draws& draws_of(std::int64_t step) { return draws_[static_cast<std::size_t>(place_of(step))]; }
  void collect_step();
  void accept(const Draw& draw, TokenId token, float logprob, ops::Ending ending);
  [[noreturn]] void refuse_infinite_logits(const Sequence& sequence) const;

  Qwen3* model_;
  GeneratorOptions options_;
  Device memory_;
  std::uint64_t turn_ = 0;  // of its phase, in which the cache was filled
  std::int64_t max_blocks_ = 0, steps_ahead_ = 0;
  bool pads_ = false;
  KvCache cache_;
  Scheduler scheduler_;
  std::vector<std::int32_t> stop_bits_;  // one for each token of the vocabulary
  Buffer stops_;                         // the same on the device

  // The call in progress.
  std::span<const GenerateRequest> requests_;
  std::vector<Completion> completions_;
  std::vector<ops::SamplingLaw> laws_;
  std::vector<std::int32_t> law_of_;  // [requests]

  // The step that is being queued.
  std::int64_t dummies_ = 0;  // its last rows and draws, which are nobody's
  Parcel inputs_;
  TokenBatch batch_;                           // in inputs_, as are
  Tensor draw_rows_, places_, limits_, keys_;  // hidden row, place, most tokens and stream of draws
  Buffer hidden_rows_, logits_;
  Recordings recordings_;
  std::vector<Scheduler::Copy> copies_;

  // Steps that draw: how many were queued and collected, and what the last two of them draw.
  std::int64_t queued_ = 0, collected_ = 0;
  std::array<Draws, Download::places> draws_;
  Download results_;
  Tensor drawn_, logprob_, endings_;  // in results_, room for as many draws as a step can have
};

}  // namespace fst
