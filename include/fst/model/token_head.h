#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "fst/base/types.h"
#include "fst/model/qwen3.h"
#include "fst/model/vocab_law.h"

namespace fst {

/// Which rows of the hidden states predict what: hidden row rows[i] predicts targets[i].
struct HeadRows {
  std::span<const std::int32_t> rows;
  std::span<const TokenId> targets;
  // Which entries belong together: sequence s has those from first[s] up to first[s + 1]. Empty:
  // all are one sequence. Only backward reads it.
  std::span<const std::int32_t> first = {};
};

/// A second model for KL(policy || reference), full vocabulary: its hidden states for the same
/// rows. Shared by the same unit as the policy.
struct HeadReference {
  const Qwen3* model = nullptr;  // nullptr: no KL
  Tensor hidden;                 // [T, D of the reference]
};

struct HeadOptions {
  /// law.vocab 0 means all rows of the head.
  ops::TokenLaw law;
  /// Rows whose logits exist at the same time: chunk_rows * V / ranks floats, twice with a
  /// reference. Backward may take up to ops::rows_of_block() - 1 rows fewer, or, of less than a
  /// block, more, so as to cut sequences between blocks. Changes no bit of any result.
  std::int64_t chunk_rows = 128;
  bool entropy = false;
};

/// Per entry of HeadRows; entropy and kl are empty unless asked for.
struct HeadScores {
  std::vector<float> logprob;  // log p(target | ...), natural, under the law
  std::vector<float> entropy;  // nats
  std::vector<float> kl;       // KL(policy || reference), nats
};

/// A chunk of entries [begin, end) of HeadRows: its scores, and the upstream gradients to fill in.
struct HeadChunk {
  std::int64_t begin = 0, end = 0;
  std::span<const float> logprob, entropy, kl;
  std::span<float> dlogprob, dentropy, dkl;  // zero on entry; the last two as the scores
};
using HeadLoss = std::function<void(const HeadChunk&)>;

/// What a head will be asked for at most, for its memory.
struct HeadShape {
  DType dtype = DType::f32;
  std::int64_t hidden_size = 0, columns = 0;  // columns: of the vocabulary, on this rank
  std::int64_t entries = 0, chunk_rows = 0;
  std::int64_t reference_hidden_size = 0;  // 0: no reference
  bool entropy = false, backward = false;
};

/// The chunked vocabulary projection: log-probabilities, entropy and KL of a list of rows, forward
/// only or with the gradient in the same pass. Logits of all rows never exist together. Where ranks
/// share the model each has its part of the vocabulary, of logits and of their gradient; score()
/// and backward() are collective over the unit, and scores and dhidden are the same on every rank.
class TokenHead {
 public:
  explicit TokenHead(const Device& device) : device_(device) {}

  /// Takes at once the memory that calls of this shape need.
  void reserve(const HeadShape& shape);
  /// Forward only. hidden [T, D] from `model`. Throws Error naming the row if a logit is not
  /// finite.
  const HeadScores& score(const Qwen3& model, const Tensor& hidden, const HeadRows& rows,
                          const HeadOptions& options, const HeadReference& reference = {});
  /// As score(); then `loss` is called for each chunk, in order, and its dL/dlogprob, dL/dentropy
  /// and dL/dkl go through the head. dhidden [T, D] is overwritten, with zero in rows that are not
  /// listed; the head's weight gradient continues its chain over the entries in order.
  const HeadScores& backward(Tensor& dhidden, Gradients& gradients, Qwen3& model,
                             const Tensor& hidden, const HeadRows& rows, const HeadOptions& options,
                             const HeadReference& reference, const HeadLoss& loss);

  const HeadScores& scores() const { return scores_; }

 private:
  struct Pass;
  void forward_chunk(Pass& pass, std::int64_t begin, std::int64_t end);
  void prepare(Pass& pass, const HeadRows& rows);
  std::int64_t chunk_end(const Pass& pass, const HeadRows& rows, std::int64_t begin);
  ops::TokenGradient upstream(const Pass& pass, std::int64_t begin, std::int64_t end,
                              const HeadLoss& loss);

  Device device_;
  HeadScores scores_;
  std::vector<std::int32_t> first_rows_;  // of the sequences in a chunk
  Buffer rows_, targets_, hidden_, dhidden_, logits_, dlogits_, lse_;
  Buffer reference_hidden_, reference_logits_, reference_lse_;
  Buffer logprob_, entropy_, kl_, dlogprob_, dentropy_, dkl_;
};

}  // namespace fst
