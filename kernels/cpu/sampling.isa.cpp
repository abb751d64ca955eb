#include "kernels/cpu/sampling_isa.h"
#include "kernels/cpu/vec.h"
#include "kernels/cpu/vec_math.h"
#include "kernels/cpu/vec_philox.h"

namespace fst::kernels {

namespace FST_ISA_NS {

inline constexpr std::int64_t block = 64;        // ids that share 16 Philox counters
inline constexpr std::uint32_t draw_domain = 1;  // third counter word; Rng of base/random.h uses 0
// Above -log(e) for the least e, 2^-32: 22.18.
inline constexpr float greatest_gumbel = 22.25f;
inline constexpr float lane_numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

FST_INLINE Vec gumbel(IntVec word) {
  Vec w = (to_float(shift_right<1>(word)) + set(0.5f)) * set(0x1p-31f);
  w = min(w, set(0x1.fffffep-1f));  // rounding may have reached 1
  // -log(1 - w) to full relative precision: log(u) w / (1 - u) with u = 1 - w rounded.
  const Vec u = set(1.0f) - w;
  const Vec gap = set(1.0f) - u;  // exact
  const Vec e = select(equal(gap, zero()), w, -log(u) * (w / gap));
  return -log(e);
}

struct Best {
  Vec score;
  Vec id;  // int32 bits
};

FST_INLINE void take_block(Best& best, const Vec* s, std::int64_t begin, std::uint64_t key,
                           std::uint32_t position) {
  const IntVec lane = to_int(load(lane_numbers));
  const IntVec counter = add_int(lane, set_int(static_cast<std::int32_t>(begin / 4)));
  const PhiloxWords words = philox16(counter, position, draw_domain, key);
  for (int part = 0; part < 4; ++part) {
    const Vec score = s[part] + gumbel(words.word[part]);
    const Mask better = less(best.score, score);
    const Vec id = from_bits(add_int(lane, set_int(static_cast<std::int32_t>(begin) + 16 * part)));
    best.score = select(better, score, best.score);
    best.id = select(better, id, best.id);
  }
}

}  // namespace FST_ISA_NS

template <Isa isa>
std::int32_t Sampling<isa>::gumbel_max(const float* logits, std::int64_t n, float max, float beta,
                                       std::uint64_t key, std::uint32_t position) {
  using namespace FST_ISA_NS;
  const Vec nothing = set(-__builtin_inff()), shift = set(max), b = set(beta);
  Best best{nothing, zero()};
  float best_score = -__builtin_inff();
  for (std::int64_t begin = 0; begin < n; begin += block) {
    Vec s[4];
    for (std::int64_t part = 0; part < 4; ++part) {
      const std::int64_t at = begin + 16 * part, left = n - at;
      if (left >= lanes) {
        s[part] = (load(logits + at) - shift) * b;
      } else {
        s[part] = left > 0
                      ? select(first(left), (load_first(logits + at, left) - shift) * b, nothing)
                      : nothing;
      }
    }
    // No noise can lift this block above the best so far (an equal score has a lower id).
    const float top =
        maximum(FST_ISA_NS::max(FST_ISA_NS::max(s[0], s[1]), FST_ISA_NS::max(s[2], s[3])));
    if (top + greatest_gumbel <= best_score) continue;
    take_block(best, s, begin, key, position);
    best_score = maximum(best.score);
  }
  float score[16], id[16];
  store(score, best.score);
  store(id, to_float(bits(best.id)));  // exact below 2^24, and no vocabulary is that large
  int winner = 0;
  for (int lane = 1; lane < 16; ++lane) {
    const bool lower = score[lane] == score[winner] && id[lane] < id[winner];
    if (score[lane] > score[winner] || lower) winner = lane;
  }
  return static_cast<std::int32_t>(id[winner]);
}

template struct Sampling<Isa::FST_ISA_NS>;

}  // namespace fst::kernels
