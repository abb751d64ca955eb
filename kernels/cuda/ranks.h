#pragma once

#include "kernels/cuda/law.h"
#include "kernels/sampling.h"

/// How sampling on the device cuts the law: sampling_cut.cu finds the last rank that top-k and
/// top-p leave, sampling.cu draws among what is kept.
namespace fst::kernels::gpu {

/// A number that orders the ids of a row as SamplingRule ranks them: greater logit first, equal
/// ones
/// (-0 and +0 too) by lower id. Finite logits.
DEVICE std::uint64_t rank_key(float logit, std::int64_t id) {
  const std::uint32_t bits = bits_of(logit + 0.0f);  // -0 becomes +0
  const std::uint32_t ascending = (bits & sign_bit) != 0 ? ~bits : bits | sign_bit;
  return (static_cast<std::uint64_t>(~ascending) << 32) | static_cast<std::uint32_t>(id);
}
DEVICE float logit_of(std::uint64_t rank_key) {
  const std::uint32_t ascending = ~static_cast<std::uint32_t>(rank_key >> 32);
  return float_of((ascending & sign_bit) != 0 ? ascending ^ sign_bit : ~ascending);
}

inline constexpr std::uint64_t last_rank = ~std::uint64_t{0};

/// exp((z - greatest z) beta).
DEVICE float weight_of(float logit, float max, float beta) {
  return exp((logit - max) * beta);
}

/// The place of a flag among those of the block.
struct FlagRank {
  std::int32_t before, all;
};
/// Counts flags; `warps` is shared memory, one word per warp, and may be used again after the call.
/// Executed by the whole block.
template <int threads>
DEVICE FlagRank rank_flags(bool flag, std::int32_t (&warps)[threads / 32]) {
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  std::int32_t count = flag ? 1 : 0;
  const int steps = any(flag) ? 32 : 1;  // few warps have one
  for (int step = 1; step < steps; step *= 2) {
    const std::int32_t lower = shuffle(count, (lane - step) & 31);
    if (lane >= step) count += lower;
  }
  if (lane == 31) warps[warp] = count;
  sync_block();
  FlagRank rank{count - (flag ? 1 : 0), 0};
  for (int i = 0; i < threads / 32; ++i) {
    if (i < warp) rank.before += warps[i];
    rank.all += warps[i];
  }
  sync_block();
  return rank;
}

/// Queues: cuts[t] is the key of the last rank that top-k, then top-p leave of row t; logits
/// [rows, vocab], rows of `stride`. Rows with a sum that is NaN get none.
void cut_ranks(const Cuda& cuda, std::uint64_t* cuts, const float* logits, const LawSum* totals,
               std::int64_t rows, std::int64_t stride, std::int64_t vocab, float beta,
               const SamplingRule& rule);

}  // namespace fst::kernels::gpu
