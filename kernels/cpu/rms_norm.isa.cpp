#include "kernels/cpu/rms_norm_isa.h"
#include "kernels/cpu/vec.h"

namespace fst::kernels {

namespace lane = FST_ISA_NS;
using lane::lanes;
using lane::Vec;

namespace {

/// sum_i dy[i] weight[i] x[i], 16 lanes.
template <class T>
FST_INLINE float weighted_dot(const T* dy, const float* weight, const T* x, std::int64_t dim) {
  Vec total = lane::zero();
  for (std::int64_t i = 0; i < dim; i += lanes) {
    const std::int64_t n = dim - i;
    const Vec g = lane::load_upto(dy + i, n) * lane::load_upto(weight + i, n);
    const Vec next = fma(g, lane::load_upto(x + i, n), total);
    total = n >= lanes ? next : select(lane::first(n), next, total);
  }
  return sum(total);
}

/// dweight[0 .. 16 strips) of all rows; the accumulators stay in registers.
template <int strips, class T>
FST_INLINE void weight_columns(float* dweight, const T* dy, const T* x, const float* rstd,
                               std::int64_t rows, std::int64_t dim, std::int64_t columns) {
  Vec total[strips];
  for (int s = 0; s < strips; ++s) {
    total[s] = lane::load_upto(dweight + s * lanes, columns - s * lanes);
  }
  for (std::int64_t t = 0; t < rows; ++t) {
    const Vec r = lane::set(rstd[t]);
    for (int s = 0; s < strips; ++s) {
      const std::int64_t at = t * dim + s * lanes;
      const std::int64_t n = columns - s * lanes;
      total[s] = fma(lane::load_upto(dy + at, n), lane::load_upto(x + at, n) * r, total[s]);
    }
  }
  for (int s = 0; s < strips; ++s) {
    lane::store_upto(dweight + s * lanes, total[s], columns - s * lanes);
  }
}

}  // namespace

template <Isa isa, class T>
void RmsNorm<isa, T>::forward(T* y, float* rstd, const T* x, const float* weight, std::int64_t rows,
                              std::int64_t dim, float eps) {
  for (std::int64_t t = 0; t < rows; ++t) {
    const T* const in = x + t * dim;
    T* const out = y + t * dim;
    const float mean = lane::dot(in, in, dim) / static_cast<float>(dim);
    const float r = 1.0f / __builtin_sqrtf(mean + eps);
    rstd[t] = r;
    for (std::int64_t i = 0; i < dim; i += lanes) {
      const std::int64_t n = dim - i;
      const Vec normal = lane::load_upto(in + i, n) * lane::set(r);
      lane::store_upto(out + i, normal * lane::load_upto(weight + i, n), n);
    }
  }
}

template <Isa isa, class T>
void RmsNorm<isa, T>::backward_input(T* dx, const T* dy, const T* x, const float* rstd,
                                     const float* weight, std::int64_t rows, std::int64_t dim,
                                     bool accumulate) {
  for (std::int64_t t = 0; t < rows; ++t) {
    const T* const in = x + t * dim;
    const T* const upstream = dy + t * dim;
    T* const out = dx + t * dim;
    const float mean = weighted_dot(upstream, weight, in, dim) / static_cast<float>(dim);
    const Vec r = lane::set(rstd[t]);
    const Vec pull = lane::set(-(rstd[t] * rstd[t]) * mean);
    for (std::int64_t i = 0; i < dim; i += lanes) {
      const std::int64_t n = dim - i;
      const Vec g = lane::load_upto(upstream + i, n) * lane::load_upto(weight + i, n);
      Vec result = fma(lane::load_upto(in + i, n), pull, g) * r;
      if (accumulate) result = lane::load_upto(out + i, n) + result;
      lane::store_upto(out + i, result, n);
    }
  }
}

template <Isa isa, class T>
void RmsNorm<isa, T>::backward_weight(float* dweight, const T* dy, const T* x, const float* rstd,
                                      std::int64_t rows, std::int64_t dim, std::int64_t begin,
                                      std::int64_t end) {
  std::int64_t i = begin;
  for (; i + 4 * lanes <= end; i += 4 * lanes) {
    weight_columns<4>(dweight + i, dy + i, x + i, rstd, rows, dim, 4 * lanes);
  }
  for (; i < end; i += lanes) {
    const std::int64_t columns = end - i < lanes ? end - i : lanes;
    weight_columns<1>(dweight + i, dy + i, x + i, rstd, rows, dim, columns);
  }
}

template struct RmsNorm<Isa::FST_ISA_NS, float>;
template struct RmsNorm<Isa::FST_ISA_NS, Bf16>;

}  // namespace fst::kernels
