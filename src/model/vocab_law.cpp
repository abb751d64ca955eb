#include "fst/model/vocab_law.h"

#include <cmath>

#include "fst/tensor/host_view.h"

namespace fst {

/// Room for `values` numbers per row.
Tensor VocabLaw::reserve(const Tensor& logits, std::int64_t values) {
  mine_.reserve(logits.device(), DType::f32, {logits.dim(0) * values});
  return mine_.tensor();
}

const Tensor& VocabLaw::gather(const char* what) {
  const Tensor& mine = mine_.tensor();
  all_.reserve(mine.device(), DType::f32, {unit_->size(), mine.size()});
  unit_->gather(all_.tensor(), mine, what);
  return all_.tensor();
}

std::int64_t VocabLaw::lse(Tensor& lse, const Tensor& logits, const ops::TokenLaw& law) {
  if (unit_ == nullptr) return ops::token_lse(lse, logits, law);
  Tensor pairs = reserve(logits, 2 * (8 / part_.ranks));
  ops::token_lse_leaves(pairs, logits, law, part_);
  return ops::join_lse(lse, gather("log-sum-exp of the vocabulary"), law);
}

/// The rank that holds the target's column knows the value; the others have -infinity there. A
/// target that nobody holds keeps it.
void VocabLaw::logprob(Tensor& logprob, const Tensor& logits, const Tensor& lse,
                       const Tensor& targets, const ops::TokenLaw& law) {
  if (unit_ == nullptr) return ops::token_logprob(logprob, logits, lse, targets, law);
  Tensor mine = reserve(logits, 1);
  ops::token_logprob(mine, logits, lse, targets, law, part_);
  const Tensor& all = gather("log-probabilities");
  const std::int64_t rows = logits.dim(0);
  const HostView<const float> values(all);
  HostView<float> result(logprob, Contents::undefined);
  for (std::int64_t t = 0; t < rows; ++t) {
    float found = values[t];
    for (std::int64_t r = 1; r < part_.ranks && std::isinf(found); ++r)
      found = values[r * rows + t];
    result[t] = found;
  }
  result.store();
}

void VocabLaw::entropy(Tensor& entropy, const Tensor& logits, const Tensor& lse,
                       const ops::TokenLaw& law) {
  if (unit_ == nullptr) return ops::token_entropy(entropy, logits, lse, law);
  Tensor sums = reserve(logits, 8 / part_.ranks);
  ops::token_entropy_leaves(sums, logits, lse, law, part_);
  ops::join_entropy(entropy, gather("entropies"));
}

void VocabLaw::kl(Tensor& kl, const Tensor& logits, const Tensor& lse,
                  const Tensor& reference_logits, const Tensor& reference_lse,
                  const ops::TokenLaw& law) {
  if (unit_ == nullptr) {
    return ops::token_kl(kl, logits, lse, reference_logits, reference_lse, law);
  }
  Tensor sums = reserve(logits, 8 / part_.ranks);
  ops::token_kl_leaves(sums, logits, lse, reference_logits, reference_lse, law, part_);
  ops::join_kl(kl, gather("KL divergences"));
}

void VocabLaw::backward(Tensor& dlogits, const Tensor& logits, const Tensor& lse,
                        const Tensor& targets, const ops::TokenGradient& gradient,
                        const ops::TokenLaw& law) const {
  ops::token_backward(dlogits, logits, lse, targets, gradient, law, part_);
}

}  // namespace fst
