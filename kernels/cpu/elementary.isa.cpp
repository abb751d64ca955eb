#include "kernels/cpu/double_math.h"
#include "kernels/cpu/elementary_isa.h"
#include "kernels/cpu/vec_math.h"

namespace fst::kernels {

namespace lane = FST_ISA_NS;

namespace {

template <class F>
FST_INLINE void each_vec(float* y, const float* x, std::int64_t n, F f) {
  std::int64_t i = 0;
  for (; i + lane::lanes <= n; i += lane::lanes) lane::store(y + i, f(lane::load(x + i)));
  if (i < n) lane::store_first(y + i, f(lane::load_first(x + i, n - i)), n - i);
}

}  // namespace

template <Isa isa>
void Elementary<isa>::exp_each(float* y, const float* x, std::int64_t n) {
  each_vec(y, x, n, [](lane::Vec v) { return lane::exp(v); });
}

template <Isa isa>
void Elementary<isa>::log_each(float* y, const float* x, std::int64_t n) {
  each_vec(y, x, n, [](lane::Vec v) { return lane::log(v); });
}

template <Isa isa>
float Elementary<isa>::row_dot(const float* x, const float* y, std::int64_t n) {
  return lane::dot(x, y, n);
}

template <Isa isa>
void Elementary<isa>::sine_cosine_each(double* sine, double* cosine, const double* x,
                                       std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const auto both = lane::sine_cosine(x[i]);
    sine[i] = both.sine;
    cosine[i] = both.cosine;
  }
}

template <Isa isa>
double Elementary<isa>::power(double base, double exponent) {
  return lane::exp2(exponent * lane::log2(base));
}

template struct Elementary<Isa::FST_ISA_NS>;

}  // namespace fst::kernels
