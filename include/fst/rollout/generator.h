#pragma once

#include <cstdint>
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
};

/// Tokens in, tokens and log-probabilities out. Knows no problems, prompts or rewards.
///
/// A completion is a function of the weights and its own request: no bit of it depends on the other
/// requests, their order, the options above, the threads or the instruction set. Its
/// log-probabilities are bit for bit those of a forward pass over prompt and completion
/// (ops::token_logprob) as long as the law does not truncate.
class Generator {
 public:
  /// `model` must outlive the generator. Throws InputError for options that cannot work.
  Generator(Qwen3& model, const GeneratorOptions& options);

  /// One completion per request, in order. Throws InputError naming the request for an empty
  /// prompt, no new tokens, a length beyond the model's positions or the cache, a law beyond the
  /// vocabulary; Error naming the request if a logit is not finite.
  std::vector<Completion> generate(std::span<const GenerateRequest> requests);
  /// To be called after every change of the model's weights: what the cache knows is void.
  void weights_changed() { scheduler_.pool().forget(); }

  const Scheduler::Counts& counts() const { return scheduler_.counts(); }
  /// Memory of keys and values at present.
  std::int64_t kv_bytes() const { return cache_.bytes(); }

 private:
  /// A token to draw: from hidden row `row`, for `sequence`.
  struct Draw {
    std::int32_t row;
    Sequence* sequence;
  };

  void check(std::span<const GenerateRequest> requests) const;
  void grow_cache(std::span<const GenerateRequest> requests);
  void number_laws(std::span<const GenerateRequest> requests);
  void step();
  void collect_draws(const std::vector<Scheduler::Work>& work);
  void make_batch(const std::vector<Scheduler::Work>& work);
  void write_rows(const std::vector<Scheduler::Work>& work);
  void write_draws();
  std::int32_t law_of(const Draw& draw) const;
  bool is_decoding(const std::vector<Scheduler::Work>& work) const;
  Recordings::Key key_of_step() const;
  void compute();
  void draw(const Tensor& hidden, std::int64_t begin, std::int64_t end,
            const ops::SamplingLaw& law);
  void accept(const Draw& draw, TokenId token, float logprob);
  [[noreturn]] void refuse_infinite_logits(const Draw& draw) const;

  Qwen3* model_;
  GeneratorOptions options_;
  std::int64_t max_blocks_ = 0;
  KvCache cache_;
  Scheduler scheduler_;
  std::vector<bool> stops_;  // [vocab_size]

  // The call in progress.
  std::span<const GenerateRequest> requests_;
  std::vector<Completion> completions_;
  std::vector<ops::SamplingLaw> laws_;
  std::vector<std::int32_t> law_of_;  // [requests]

  // The step in progress.
  Parcel inputs_, outputs_;
  TokenBatch batch_;                  // in inputs_, as are
  Tensor draw_rows_, places_, keys_;  // i32, i32, i64: hidden row, place and stream of each draw
  Tensor drawn_, logprob_;            // in outputs_
  Buffer hidden_rows_, logits_;
  Recordings recordings_;
  std::vector<Scheduler::Copy> copies_;
  std::vector<Draw> draws_;
};

}  // namespace fst
