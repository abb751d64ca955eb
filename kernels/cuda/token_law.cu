#include "kernels/cuda/first_row.h"
#include "kernels/cuda/law.h"
#include "kernels/cuda/leaf_terms.h"
#include "kernels/cuda/storage.h"
#include "kernels/cuda/tiles.h"
#include "kernels/token_law.h"

namespace fst::kernels {

namespace {

using namespace gpu;

// Where a thread takes a row.
constexpr int thread_rows = 128;

dim3 blocks_of(std::int64_t rows) {
  return dim3(static_cast<unsigned>((rows + thread_rows - 1) / thread_rows));
}

/// A block for each leaf of each row.
dim3 leaves_of(std::int64_t rows, const LawPart& law) {
  return dim3(static_cast<unsigned>(rows * law.leaves));
}

/// The columns of leaf i that the law has.
struct Leaf {
  std::int64_t begin, count;
};
DEVICE Leaf leaf_of(const LawPart& law, std::int64_t i) {
  const std::int64_t begin = i * law.columns / law.leaves;
  const std::int64_t whole = (i + 1) * law.columns / law.leaves;
  const std::int64_t inside = law.inside();
  const std::int64_t end = whole < inside ? whole : inside;
  return {begin, end < begin ? 0 : end - begin};
}

KERNEL(leaf_threads, 8)
sum_row_leaves(LawSum* pairs, const float* logits, std::int64_t stride, LawPart law,
               const std::int64_t* counts) {
  LeafShared& shared = shared_memory<LeafShared>();
  const std::int64_t t = blockIdx.x / law.leaves;
  if (counts != nullptr) {
    law.columns = counts[t];
    law.vocab = counts[t];
  }
  const Leaf leaf = leaf_of(law, blockIdx.x % law.leaves);
  const float* const x = logits + t * stride + leaf.begin;
  look_at_leaf(shared, x, leaf.count);
  const float top = shared.top, beta = law.beta;
  if (!shared.finite) {
    if (threadIdx.x == 0) pairs[blockIdx.x] = {not_a_number(), not_a_number()};
    return;
  }
  const float total = sum_terms(
      shared, leaf.count, [&](std::int64_t i) { return x[i]; },
      [&](float z) {
        return Term{exp((z - top) * beta), 1.0f};
      });
  if (threadIdx.x == 0) pairs[blockIdx.x] = {top, total};
}

/// Where leaf i of row t lies in what several parts of `leaves` leaves gave, one after the other.
DEVICE std::int64_t leaf_index(int i, std::int64_t t, std::int64_t rows, std::int64_t leaves) {
  return (i / leaves * rows + t) * leaves + i % leaves;
}

DEVICE std::int64_t row_of_thread() {
  return static_cast<std::int64_t>(blockIdx.x) * thread_rows + threadIdx.x;
}

DEVICE LawSum join_row(const LawSum* pairs, std::int64_t t, std::int64_t rows, std::int64_t leaves,
                       float beta) {
  LawSum sums[all_leaves];
  bool finite = true;
#pragma unroll
  for (int i = 0; i < all_leaves; ++i) {
    sums[i] = pairs[leaf_index(i, t, rows, leaves)];
    finite = finite && sums[i].sum == sums[i].sum;
  }
#pragma unroll
  for (int step = 1; step < all_leaves; step *= 2) {
#pragma unroll
    for (int i = 0; i < all_leaves; i += 2 * step) sums[i] = join(sums[i], sums[i + step], beta);
  }
  return finite ? sums[0] : LawSum{not_a_number(), not_a_number()};
}

KERNEL(thread_rows, 4)
join_totals(LawSum* totals, const LawSum* pairs, std::int64_t rows, std::int64_t leaves,
            float beta) {
  const std::int64_t t = row_of_thread();
  if (t < rows) totals[t] = join_row(pairs, t, rows, leaves, beta);
}

KERNEL(thread_rows, 4)
join_logarithms(float* lse, std::int32_t* first_bad, const LawSum* pairs, std::int64_t rows,
                std::int64_t leaves, float beta) {
  const std::int64_t t = row_of_thread();
  if (t >= rows) return;
  const LawSum total = join_row(pairs, t, rows, leaves, beta);
  lse[2 * t] = total.max;
  lse[2 * t + 1] = log(total.sum);
  if (total.sum != total.sum) min_atomic(first_bad, static_cast<std::int32_t>(t));
}

KERNEL(thread_rows, 4)
join_sums(float* total, const float* sums, std::int64_t rows, std::int64_t leaves, float sign) {
  const std::int64_t t = row_of_thread();
  if (t >= rows) return;
  float x[all_leaves];
#pragma unroll
  for (int i = 0; i < all_leaves; ++i) x[i] = sums[leaf_index(i, t, rows, leaves)];
  total[t] = sign * (((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7])));
}

KERNEL(thread_rows, 4)
take_logprobs(float* logprob, const float* logits, const float* lse, const std::int32_t* targets,
              std::int64_t rows, std::int64_t stride, LawPart law) {
  const std::int64_t t = row_of_thread();
  if (t >= rows) return;
  const std::int64_t target = targets[t] - law.first;
  const bool inside = target >= 0 && target < law.inside();
  logprob[t] = inside ? log_law(lse, t, law.beta)(logits[t * stride + target]) : -infinity();
}

KERNEL(leaf_threads, 8)
sum_entropy_leaves(float* sums, const float* logits, const float* lse, std::int64_t stride,
                   LawPart law) {
  LeafShared& shared = shared_memory<LeafShared>();
  const std::int64_t t = blockIdx.x / law.leaves;
  const Leaf leaf = leaf_of(law, blockIdx.x % law.leaves);
  const float* const x = logits + t * stride + leaf.begin;
  const LogLaw log_p = log_law(lse, t, law.beta);
  const float total = sum_terms(
      shared, leaf.count, [&](std::int64_t v) { return x[v]; },
      [&](float z) {
        const float lp = log_p(z);
        return Term{exp(lp), lp};
      });
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

struct LogitPair {
  float logit, reference;
};

KERNEL(leaf_threads, 8)
sum_kl_leaves(float* sums, const float* logits, const float* lse, const float* reference_logits,
              const float* reference_lse, std::int64_t stride, std::int64_t reference_stride,
              LawPart law) {
  LeafShared& shared = shared_memory<LeafShared>();
  const std::int64_t t = blockIdx.x / law.leaves;
  const Leaf leaf = leaf_of(law, blockIdx.x % law.leaves);
  const float* const x = logits + t * stride + leaf.begin;
  const float* const y = reference_logits + t * reference_stride + leaf.begin;
  const LogLaw log_p = log_law(lse, t, law.beta), log_q = log_law(reference_lse, t, law.beta);
  const float total = sum_terms(
      shared, leaf.count,
      [&](std::int64_t v) {
        return LogitPair{x[v], y[v]};
      },
      [&](LogitPair at) {
        const float lp = log_p(at.logit);
        return Term{exp(lp), lp - log_q(at.reference)};
      });
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

template <class D, bool with_kl>
KERNEL(tile_threads, 4)
differentiate_law(D* dlogits, const float* logits, const float* lse, const std::int32_t* targets,
                  TokenTerms terms, std::int64_t dlogits_stride, std::int64_t stride, LawPart law) {
  const std::int64_t t = tile_row(law.columns);
  const std::int64_t n = law.inside(), target = targets[t] - law.first;
  const bool in_law = targets[t] >= 0 && targets[t] < law.vocab;
  const float g = in_law && terms.dlogprob != nullptr ? terms.dlogprob[t] : 0.0f;
  const float dentropy = terms.dentropy != nullptr ? terms.dentropy[t] : 0.0f;
  const float entropy = terms.dentropy != nullptr ? terms.entropy[t] : 0.0f;
  const float dkl = with_kl ? terms.dkl[t] : 0.0f;
  const float kl = with_kl ? terms.kl[t] : 0.0f;
  const LogLaw log_p = log_law(lse, t, law.beta);
  const LogLaw log_q = with_kl ? log_law(terms.reference_lse, t, law.beta) : log_p;
  each_element(
      law.columns,
      [&](std::int64_t, std::int64_t v) {
        const bool inside = v < n;
        return LogitPair{
            inside ? logits[t * stride + v] : 0.0f,
            inside && with_kl ? terms.reference_logits[t * terms.reference_stride + v] : 0.0f};
      },
      [&](std::int64_t, std::int64_t v, LogitPair at) {
        const float lp = log_p(at.logit);
        float c = fma(-dentropy, lp + entropy, -g);
        if (with_kl) c = fma(dkl, (lp - log_q(at.reference)) - kl, c);
        float d = exp(lp) * c;
        if (v == target) d = d + g;
        dlogits[t * dlogits_stride + v] = narrowed_to<D>(v < n ? d * law.beta : 0.0f);
      });
}

template <class D>
void differentiate(const Cuda& cuda, D* dlogits, const float* logits, const float* lse,
                   const std::int32_t* targets, const TokenTerms& terms, std::int64_t rows,
                   std::int64_t dlogits_stride, std::int64_t stride, const LawPart& law) {
  const auto kernel =
      terms.dkl != nullptr ? differentiate_law<D, true> : differentiate_law<D, false>;
  launch_tiles(cuda, kernel, rows, law.columns, dlogits, logits, lse, targets, terms,
               dlogits_stride, stride, law);
}

std::int64_t join_lse_into(const Cuda& cuda, float* lse, const LawSum* pairs, std::int64_t* word,
                           std::int64_t rows, std::int64_t leaves, float beta) {
  const FirstRow bad(cuda, word);
  launch(join_logarithms, blocks_of(rows), dim3(thread_rows), 0, cuda.stream, lse, bad.place(),
         pairs, rows, leaves, beta);
  return bad.read();
}

}  // namespace

namespace gpu {

void sum_leaves(const Cuda& cuda, LawSum* pairs, const float* logits, std::int64_t rows,
                std::int64_t stride, const LawPart& law, const std::int64_t* counts) {
  if (rows == 0) return;
  launch(sum_row_leaves, leaves_of(rows, law), dim3(leaf_threads), sizeof(LeafShared), cuda.stream,
         pairs, logits, stride, law, counts);
}

void join_pairs(const Cuda& cuda, LawSum* totals, const LawSum* pairs, std::int64_t rows,
                std::int64_t leaves, float beta) {
  if (rows == 0) return;
  launch(join_totals, blocks_of(rows), dim3(thread_rows), 0, cuda.stream, totals, pairs, rows,
         leaves, beta);
}

}  // namespace gpu

template <>
std::int64_t token_lse(const Cuda& cuda, float* lse, const float* logits, std::int64_t rows,
                       std::int64_t stride, const LawPart& law) {
  if (rows == 0) return -1;
  const auto pairs = static_cast<std::size_t>(rows * all_leaves);
  auto* const word =
      static_cast<std::int64_t*>(scratch(cuda, sizeof(std::int64_t) + pairs * sizeof(LawSum)));
  auto* const sums = static_cast<LawSum*>(static_cast<void*>(word + 1));
  sum_leaves(cuda, sums, logits, rows, stride, law);
  return join_lse_into(cuda, lse, sums, word, rows, law.leaves, law.beta);
}

template <>
void token_lse_leaves(const Cuda& cuda, float* pairs, const float* logits, std::int64_t rows,
                      std::int64_t stride, const LawPart& law) {
  sum_leaves(cuda, static_cast<LawSum*>(static_cast<void*>(pairs)), logits, rows, stride, law);
}

template <>
std::int64_t join_lse(const Cuda& cuda, float* lse, const float* pairs, std::int64_t rows,
                      std::int64_t leaves, float beta) {
  if (rows == 0) return -1;
  auto* const word = static_cast<std::int64_t*>(scratch(cuda, sizeof(std::int64_t)));
  return join_lse_into(cuda, lse, static_cast<const LawSum*>(static_cast<const void*>(pairs)), word,
                       rows, leaves, beta);
}

template <>
void token_logprob(const Cuda& cuda, float* logprob, const float* logits, const float* lse,
                   const std::int32_t* targets, std::int64_t rows, std::int64_t stride,
                   const LawPart& law) {
  if (rows == 0) return;
  launch(take_logprobs, blocks_of(rows), dim3(thread_rows), 0, cuda.stream, logprob, logits, lse,
         targets, rows, stride, law);
}

template <>
void token_entropy_leaves(const Cuda& cuda, float* sums, const float* logits, const float* lse,
                          std::int64_t rows, std::int64_t stride, const LawPart& law) {
  if (rows == 0) return;
  launch(sum_entropy_leaves, leaves_of(rows, law), dim3(leaf_threads), sizeof(LeafShared),
         cuda.stream, sums, logits, lse, stride, law);
}

template <>
void token_kl_leaves(const Cuda& cuda, float* sums, const float* logits, const float* lse,
                     const float* reference_logits, const float* reference_lse, std::int64_t rows,
                     std::int64_t stride, std::int64_t reference_stride, const LawPart& law) {
  if (rows == 0) return;
  launch(sum_kl_leaves, leaves_of(rows, law), dim3(leaf_threads), sizeof(LeafShared), cuda.stream,
         sums, logits, lse, reference_logits, reference_lse, stride, reference_stride, law);
}

template <>
void join_leaves(const Cuda& cuda, float* total, const float* sums, std::int64_t rows,
                 std::int64_t leaves, float sign) {
  if (rows == 0) return;
  launch(join_sums, blocks_of(rows), dim3(thread_rows), 0, cuda.stream, total, sums, rows, leaves,
         sign);
}

template <>
void token_entropy(const Cuda& cuda, float* entropy, const float* logits, const float* lse,
                   std::int64_t rows, std::int64_t stride, const LawPart& law) {
  const auto leaves = static_cast<std::size_t>(rows * all_leaves);
  auto* const sums = static_cast<float*>(scratch(cuda, leaves * sizeof(float)));
  token_entropy_leaves(cuda, sums, logits, lse, rows, stride, law);
  join_leaves(cuda, entropy, sums, rows, all_leaves, -1.0f);
}

template <>
void token_kl(const Cuda& cuda, float* kl, const float* logits, const float* lse,
              const float* reference_logits, const float* reference_lse, std::int64_t rows,
              std::int64_t stride, std::int64_t reference_stride, const LawPart& law) {
  const auto leaves = static_cast<std::size_t>(rows * all_leaves);
  auto* const sums = static_cast<float*>(scratch(cuda, leaves * sizeof(float)));
  token_kl_leaves(cuda, sums, logits, lse, reference_logits, reference_lse, rows, stride,
                  reference_stride, law);
  join_leaves(cuda, kl, sums, rows, all_leaves, 1.0f);
}

template <>
void token_backward(const Cuda& cuda, float* dlogits, const float* logits, const float* lse,
                    const std::int32_t* targets, const TokenTerms& terms, std::int64_t rows,
                    std::int64_t dlogits_stride, std::int64_t stride, const LawPart& law) {
  differentiate(cuda, dlogits, logits, lse, targets, terms, rows, dlogits_stride, stride, law);
}

template <>
void token_backward(const Cuda& cuda, Bf16* dlogits, const float* logits, const float* lse,
                    const std::int32_t* targets, const TokenTerms& terms, std::int64_t rows,
                    std::int64_t dlogits_stride, std::int64_t stride, const LawPart& law) {
  differentiate(cuda, dlogits, logits, lse, targets, terms, rows, dlogits_stride, stride, law);
}

}  // namespace fst::kernels
