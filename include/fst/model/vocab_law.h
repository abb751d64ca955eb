#pragma once

#include "fst/tensor/ops.h"
#include "fst/tensor/tensor_parallel.h"

namespace fst {

/// The law of tokens (tensor/ops.h) of logits whose columns the ranks of a unit share: each rank
/// computes its leaves of the vocabulary, a few numbers per row are gathered, and every rank joins
/// them, with the bits of the whole row. Without a unit these are the plain operations. All but
/// backward() are collective over the unit; results are the same on every rank.
class VocabLaw {
 public:
  /// `unit`: nullptr if the logits are whole; `first`: vocabulary row of this rank's first column.
  VocabLaw(const TensorParallel* unit, std::int64_t first)
      : unit_(unit), part_{first, unit == nullptr ? 1 : unit->size()} {}

  std::int64_t lse(Tensor& lse, const Tensor& logits, const ops::TokenLaw& law);
  void logprob(Tensor& logprob, const Tensor& logits, const Tensor& lse, const Tensor& targets,
               const ops::TokenLaw& law);
  void entropy(Tensor& entropy, const Tensor& logits, const Tensor& lse, const ops::TokenLaw& law);
  void kl(Tensor& kl, const Tensor& logits, const Tensor& lse, const Tensor& reference_logits,
          const Tensor& reference_lse, const ops::TokenLaw& law);
  /// The local columns of dlogits.
  void backward(Tensor& dlogits, const Tensor& logits, const Tensor& lse, const Tensor& targets,
                const ops::TokenGradient& gradient, const ops::TokenLaw& law) const;

 private:
  Tensor reserve(const Tensor& logits, std::int64_t values);
  const Tensor& gather(const char* what);

  const TensorParallel* unit_;
  ops::VocabPart part_;
  Buffer mine_, all_;  // a few numbers per row: of this rank, of all ranks
};

}  // namespace fst
