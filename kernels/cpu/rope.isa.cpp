#include "kernels/cpu/double_math.h"
#include "kernels/cpu/rope_isa.h"

namespace fst::kernels {

namespace lane = FST_ISA_NS;
using lane::lanes;
using lane::Vec;

namespace {

/// Sixteen elements of each half of a head.
struct Pair {
  Vec one, two;
};
template <class T>
FST_INLINE Pair load_pair(const T* head, std::int64_t i, std::int64_t half) {
  return {lane::load_upto(head + i, half - i), lane::load_upto(head + half + i, half - i)};
}
template <class T>
FST_INLINE void store_pair(T* head, Pair p, std::int64_t i, std::int64_t half) {
  lane::store_upto(head + i, p.one, half - i);
  lane::store_upto(head + half + i, p.two, half - i);
}
/// By the angle, or by its negative: the transposed rotation of the backward pass.
FST_INLINE Pair rotate(Pair p, Vec cosine, Vec sine) {
  return {fma(p.one, cosine, -(p.two * sine)), fma(p.two, cosine, p.one * sine)};
}
FST_INLINE Pair rotate_back(Pair p, const float* cosine, const float* sine, std::int64_t i,
                            std::int64_t half) {
  return rotate(p, lane::load_upto(cosine + i, half - i), -lane::load_upto(sine + i, half - i));
}

}  // namespace

template <Isa isa>
void RopeTable<isa>::rows(float* cosine, float* sine, double theta, std::int64_t begin,
                          std::int64_t end, std::int64_t half) {
  const double log2_base = lane::log2(static_cast<double>(static_cast<float>(theta)));
  for (std::int64_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(2 * half);
    const auto power = static_cast<float>(lane::exp2(static_cast<double>(exponent) * log2_base));
    const float inv_freq = 1.0f / power;
    for (std::int64_t p = begin; p < end; ++p) {
      const float angle = static_cast<float>(p) * inv_freq;
      const auto both = lane::sine_cosine(static_cast<double>(angle));
      cosine[p * half + i] = static_cast<float>(both.cosine);
      sine[p * half + i] = static_cast<float>(both.sine);
    }
  }
}

template <Isa isa, class T>
void Rope<isa, T>::forward(T* y, std::int64_t y_stride, float* rstd, const T* x,
                           std::int64_t x_stride, float eps, const HeadRows& shape,
                           std::int64_t begin, std::int64_t end) {
  const std::int64_t half = shape.dim / 2;
  for (std::int64_t t = begin; t < end; ++t) {
    const float* const cosine = shape.cosine + shape.positions[t] * half;
    const float* const sine = shape.sine + shape.positions[t] * half;
    for (std::int64_t head = 0; head < shape.heads; ++head) {
      const T* const in = x + t * x_stride + head * shape.dim;
      T* const out = y + t * y_stride + head * shape.dim;
      float r = 1.0f;
      if (shape.weight != nullptr) {
        const float mean = lane::dot(in, in, shape.dim) / static_cast<float>(shape.dim);
        r = 1.0f / __builtin_sqrtf(mean + eps);
        rstd[t * shape.heads + head] = r;
      }
      for (std::int64_t i = 0; i < half; i += lanes) {
        Pair p = load_pair(in, i, half);
        if (shape.weight != nullptr) {
          const Pair w = load_pair(shape.weight, i, half);
          p = {(p.one * lane::set(r)) * w.one, (p.two * lane::set(r)) * w.two};
        }
        const Vec c = lane::load_upto(cosine + i, half - i);
        const Vec s = lane::load_upto(sine + i, half - i);
        store_pair(out, rotate(p, c, s), i, half);
      }
    }
  }
}

template <Isa isa, class T>
void Rope<isa, T>::backward_input(T* dx, std::int64_t dx_stride, const T* dy,
                                  std::int64_t dy_stride, const T* x, std::int64_t x_stride,
                                  const float* rstd, const HeadRows& shape, std::int64_t begin,
                                  std::int64_t end, float* slopes) {
  const std::int64_t half = shape.dim / 2;
  for (std::int64_t t = begin; t < end; ++t) {
    const float* const cosine = shape.cosine + shape.positions[t] * half;
    const float* const sine = shape.sine + shape.positions[t] * half;
    for (std::int64_t head = 0; head < shape.heads; ++head) {
      const T* const upstream = dy + t * dy_stride + head * shape.dim;
      const T* const in = x + t * x_stride + head * shape.dim;
      T* const out = dx + t * dx_stride + head * shape.dim;
      for (std::int64_t i = 0; i < half; i += lanes) {
        const Pair g = rotate_back(load_pair(upstream, i, half), cosine, sine, i, half);
        if (shape.weight == nullptr) {
          store_pair(out, g, i, half);
          continue;
        }
        const Pair w = load_pair(shape.weight, i, half);
        store_pair(slopes, {g.one * w.one, g.two * w.two}, i, half);
      }
      if (shape.weight == nullptr) continue;
      const float r = rstd[t * shape.heads + head];
      const float mean = lane::dot(slopes, in, shape.dim) / static_cast<float>(shape.dim);
      const Vec pull = lane::set(-(r * r) * mean);
      for (std::int64_t i = 0; i < half; i += lanes) {
        const Pair g = load_pair(slopes, i, half), v = load_pair(in, i, half);
        store_pair(out,
                   {fma(v.one, pull, g.one) * lane::set(r), fma(v.two, pull, g.two) * lane::set(r)},
                   i, half);
      }
    }
  }
}

template <Isa isa, class T>
void Rope<isa, T>::backward_weight(float* dweight, const T* dy, std::int64_t dy_stride, const T* x,
                                   std::int64_t x_stride, const float* rstd, const HeadRows& shape,
                                   std::int64_t begin, std::int64_t end) {
  const std::int64_t half = shape.dim / 2;
  for (std::int64_t head = begin; head < end; ++head) {
    for (std::int64_t i = 0; i < half; i += lanes) {
      Pair total = load_pair(dweight + head * shape.dim, i, half);
      for (std::int64_t t = 0; t < shape.rows; ++t) {
        const std::int64_t row = shape.positions[t] * half;
        const Pair g = rotate_back(load_pair(dy + t * dy_stride + head * shape.dim, i, half),
                                   shape.cosine + row, shape.sine + row, i, half);
        const Pair v = load_pair(x + t * x_stride + head * shape.dim, i, half);
        const Vec r = lane::set(rstd[t * shape.heads + head]);
        total = {fma(g.one, v.one * r, total.one), fma(g.two, v.two * r, total.two)};
      }
      store_pair(dweight + head * shape.dim, total, i, half);
    }
  }
}

template struct RopeTable<Isa::FST_ISA_NS>;
template struct Rope<Isa::FST_ISA_NS, float>;
template struct Rope<Isa::FST_ISA_NS, Bf16>;

}  // namespace fst::kernels
