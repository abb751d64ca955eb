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

DEVICE std::int64_t id_of(std::uint64_t rank_key) {
  return static_cast<std::int64_t>(rank_key & 0xffffffffu);
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

/// Whether a logit is within this of the greatest one: where nearly all of the mass is.
inline constexpr float likely_nats = 8.0f;
DEVICE bool is_likely(float logit, float max, float beta) {
  return (logit - max) * beta >= -likely_nats;
}
/// No id with a weight of this or more is unlikely: above e^-8.
inline constexpr float likely_weight = 3.4e-4f;

/// The keys of each row's likely ids, in ascending order of ids: those of part p of row t from
/// keys[(t parts + p) most_in_part] on, counts[t parts + p] of them, stored up to most_in_part.
struct Candidates {
  std::uint64_t* keys;
  std::int32_t* counts;
  std::int64_t parts;

  static constexpr std::int64_t most = 2048, most_in_part = 1024;  // of a row; of a part of it
  /// How many a row has; -1 where they are too many to be there.
  DEVICE std::int64_t of_row(std::int64_t t) const {
    std::int64_t all = 0;
    bool there = true;
    for (std::int64_t p = 0; p < parts; ++p) {
      all += counts[t * parts + p];
      there = there && counts[t * parts + p] <= most_in_part;
    }
    return there && all <= most ? all : -1;
  }
};

/// Which ids of a row the rule keeps.
struct Kept {
  std::uint64_t cut;  // key of the last rank
  float min_p, max, beta;
  DEVICE bool operator()(float z, std::int64_t id) const {
    if (rank_key(z, id) > cut) return false;
    return !(min_p > 0.0f) || weight_of(z, max, beta) >= min_p;
  }
};
DEVICE Kept kept_of(const std::uint64_t* cuts, std::int64_t row, float min_p, LawSum total,
                    float beta) {
  return {cuts == nullptr ? last_rank : cuts[row], min_p, total.max, beta};
}

/// Queues: fills `to` for rows whose sum is no NaN.
void list_candidates(const Cuda& cuda, const Candidates& to, const float* logits,
                     const LawSum* totals, std::int64_t rows, std::int64_t stride,
                     std::int64_t vocab, float beta);

/// Queues: cuts[t] is the key of the last rank that top-k, then top-p leave of row t; logits
/// [rows, vocab], rows of `stride`. Rows with a sum that is NaN get none.
void cut_ranks(const Cuda& cuda, std::uint64_t* cuts, const float* logits, const LawSum* totals,
               const Candidates& candidates, std::int64_t rows, std::int64_t stride,
               std::int64_t vocab, float beta, const SamplingRule& rule);

/// The kept logits of each row, in ascending order of ids, rows of `vocab`; and the ids where
/// wanted. counts[t]: how many, 0 where a logit is not finite. Where all that is kept is among the
/// candidates, only these are looked at.
struct Compaction {
  float* left;
  std::int32_t* ids;
  std::int64_t* counts;
  const float* logits;
  const LawSum* totals;
  const std::uint64_t* cuts;
  Candidates candidates;
  std::int64_t stride, vocab;
  float beta, min_p;
};
/// Queues it for `rows` rows.
void compact(const Cuda& cuda, const Compaction& what, std::int64_t rows);

}  // namespace fst::kernels::gpu
