#include <cstring>

#include "kernels/cpu/adamw_isa.h"
#include "kernels/cpu/vec.h"

namespace fst::kernels {

namespace FST_ISA_NS {

struct Moments {
  Vec parameter, m, v;
};

FST_INLINE Moments step_of(Vec parameter, Vec m, Vec v, Vec gradient, const AdamWScalars& s) {
  const Vec g = set(s.clip) * gradient;
  m = fma(set(s.keep_m), m, set(s.take_m) * g);
  v = fma(set(s.keep_v), v, (set(s.take_v) * g) * g);
  const Vec denominator = sqrt(v) * set(s.root) + set(s.eps);
  return {parameter * set(s.decay) - (set(s.rate) * m) / denominator, m, v};
}

FST_INLINE double power_of_two(int exponent) {
  const std::uint64_t word = static_cast<std::uint64_t>(exponent + 1023) << 52;
  double x = 0.0;
  std::memcpy(&x, &word, sizeof x);
  return x;
}

/// The biased exponent of the greatest magnitude; 255 if there is an infinity or NaN.
FST_INLINE int greatest_exponent(const float* x, std::int64_t n) {
  std::uint32_t greatest = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    std::uint32_t word = 0;
    std::memcpy(&word, x + i, sizeof word);
    word &= 0x7fffffffu;
    greatest = word > greatest ? word : greatest;
  }
  return static_cast<int>(greatest >> 23);
}

}  // namespace FST_ISA_NS

template <Isa isa>
void AdamW<isa>::step(float* parameter, float* m, float* v, const float* gradient, std::int64_t n,
                      const AdamWScalars& scalars) {
  using namespace FST_ISA_NS;
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const Moments next =
        step_of(load(parameter + i), load(m + i), load(v + i), load(gradient + i), scalars);
    store(parameter + i, next.parameter);
    store(m + i, next.m);
    store(v + i, next.v);
  }
  if (i < n) {
    const Moments next =
        step_of(load_first(parameter + i, n - i), load_first(m + i, n - i),
                load_first(v + i, n - i), load_first(gradient + i, n - i), scalars);
    store_first(parameter + i, next.parameter, n - i);
    store_first(m + i, next.m, n - i);
    store_first(v + i, next.v, n - i);
  }
}

// All |x| < 2^e. Adding and subtracting 2^(2e+10) rounds a square to a multiple of 2^(2e-42); 1024
// such multiples below 2^2e sum exactly in a double. What was cut off (at most 2^(2e-43), exact) is
// treated alike one level down, to multiples of 2^(2e-85). If something still remains, say so.
template <Isa isa>
bool AdamW<isa>::squares(double& high, double& low, const float* x, std::int64_t n) {
  using namespace FST_ISA_NS;
  const int biased = greatest_exponent(x, n);
  if (biased == 255) return false;
  const int e = biased - 126;
  const double coarse = power_of_two(2 * e + 10);
  const double fine = 1.5 * power_of_two(2 * e - 33);  // remainders have both signs
  double highs[16] = {}, lows[16] = {}, rests[16] = {};
  const auto take = [&](int lane, float value) __attribute__((always_inline)) {
    const double square = static_cast<double>(value) * static_cast<double>(value);
    const double upper = (coarse + square) - coarse;
    const double rest = square - upper;
    const double lower = (fine + rest) - fine;
    highs[lane] += upper;
    lows[lane] += lower;
    rests[lane] += __builtin_fabs(rest - lower);
  };
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int lane = 0; lane < 16; ++lane) take(lane, x[i + lane]);
  }
  for (; i < n; ++i) take(static_cast<int>(i % 16), x[i]);
  high = low = 0.0;
  double left = 0.0;
  for (int lane = 0; lane < 16; ++lane) {
    high += highs[lane];
    low += lows[lane];
    left += rests[lane];
  }
  return left == 0.0;
}

template struct AdamW<Isa::FST_ISA_NS>;

}  // namespace fst::kernels
