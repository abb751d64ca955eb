#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "fst/model/kv_cache.h"
#include "fst/model/qwen3.h"
#include "fst/model/token_head.h"

namespace fst {

/// One sequence and the tokens of it that a loss speaks of; views.
struct LossSequence {
  std::span<const TokenId> tokens;        // [T]
  std::span<const std::int32_t> targets;  // positions in `tokens`, ascending, each >= 1
};

/// What is asked of the frozen base besides the policy.
enum class BaseUse : std::uint8_t {
  none,
  logprob,  // log-probability of each target under the base
  kl,       // KL(policy || base) at each target, full vocabulary
};

struct PassOptions {
  ops::TokenLaw law;
  std::int64_t micro_batch = 64;  // sequences computed together; changes no bit
  std::int64_t chunk_rows = 256;  // rows of the vocabulary projection at once; changes no bit
  bool entropy = false;
  BaseUse base = BaseUse::none;
  Keep keep = Keep::all;         // of activations; changes no bit
  std::int64_t most_tokens = 0;  // computed together, where sequences are; 0: any; changes no bit
};

/// What a pass will be asked for at most, for its memory.
struct PassShape {
  std::int64_t tokens = 0, sequences = 0;  // computed together
  std::int64_t chunk_rows = 0;
  bool entropy = false, backward = false;
  bool base_logprob = false, base_kl = false;  // the uses of the base
  Keep keep = Keep::all;
};
/// A model of a pass, as far as its memory goes: this rank's sizes and columns of the vocabulary.
struct PassModel {
  Qwen3Config local;
  DType dtype = DType::f32;
  std::int64_t columns = 0, ranks = 1;
};

/// Targets [begin, end) of one sequence: scores, and the upstream gradients to fill in. Spans that
/// were not asked for are empty; gradients are zero on entry.
struct PassChunk {
  std::int64_t sequence = 0;
  std::int64_t begin = 0, end = 0;
  std::span<const float> logprob, entropy, kl, base_logprob;
  std::span<float> dlogprob, dentropy, dkl;
};
using PassVisitor = std::function<void(const PassChunk&)>;

/// Runs sequences through a policy (and a frozen base) in micro-batches. The order of sequences is
/// the order of every sum; how they are cut into micro-batches is not.
class GradientPass {
 public:
  /// `base` may be null; both must outlive this object. `phase`: whose memory it uses, of a plan
  /// (tensor/arena.h), which its calls begin.
  GradientPass(Qwen3& policy, Qwen3* base, MemoryPhase phase = MemoryPhase::learning);

  /// Takes at once what calls of this shape need.
  void reserve(const PassShape& shape);
  /// What reserve() takes; the policy's part of it is gradient, activations and all else but the
  /// base's.
  static std::int64_t bytes_of(const PassShape& shape, const PassModel& policy,
                               const PassModel& base);

  /// Adds to `gradients` the gradient of the loss whose derivatives `loss` fills in.
  void accumulate(Gradients& gradients, std::span<const LossSequence> sequences,
                  const PassOptions& options, const PassVisitor& loss);
  /// Forward only; `visit` sees every target once, in order.
  void score(std::span<const LossSequence> sequences, const PassOptions& options,
             const PassVisitor& visit);

 private:
  struct MicroBatch;
  static std::int64_t count_together(std::span<const LossSequence> sequences,
                                     const PassOptions& options);
  MicroBatch forward(std::span<const LossSequence> sequences, std::int64_t first,
                     const PassOptions& options, bool saving);
  void visit_entries(const MicroBatch& batch, const HeadChunk& chunk,
                     const PassVisitor& visit) const;

  Qwen3* policy_;
  Qwen3* base_;
  Device memory_;
  PackedSequences packed_;
  KvCache cache_;
  std::vector<KvCache> base_cache_;  // none without a base
  Activations saved_;
  TokenHead head_, base_head_;
  Buffer dhidden_;
};

}  // namespace fst
