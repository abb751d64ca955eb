#include "kernels/cuda/chain.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/heads.h"

namespace fst::kernels {

namespace {

using namespace gpu;

/// Which row and head this half-warp takes; those behind the end take none and join in the
/// exchanges alone.
struct Place {
  std::int64_t row, head, table;  // table: where the row's angles begin
  bool inside;
};
DEVICE Place place_of(const HeadRows& shape) {
  const std::int64_t index =
      static_cast<std::int64_t>(blockIdx.x) * heads_per_block + half_warp_of();
  const bool inside = index < shape.rows * shape.heads;
  const std::int64_t row = inside ? index / shape.heads : 0;
  const std::int64_t head = inside ? index % shape.heads : 0;
  return {row, head, shape.positions[row] * (shape.dim / 2), inside};
}

template <class T>
KERNEL(head_threads, 8)
rotate_heads(T* y, std::int64_t y_stride, float* rstd, const T* x, std::int64_t x_stride, float eps,
             HeadRows shape) {
  const Place at = place_of(shape);
  const std::int64_t half = shape.dim / 2;
  const T* const in = x + at.row * x_stride + at.head * shape.dim;
  T* const out = y + at.row * y_stride + at.head * shape.dim;
  float r = 1.0f;
  if (shape.weight != nullptr) {
    r = head_rstd(in, at.inside ? shape.dim : 0, shape.dim, eps);
    if (at.inside && lane_of() == 0) rstd[at.row * shape.heads + at.head] = r;
    sync_warp();  // y may be x: all lanes have read
  }
  if (!at.inside) return;
#pragma unroll 4
  for (std::int64_t i = lane_of(); i < half; i += lanes) {
    store_pair(out, turned(in, r, shape.weight, shape, at.table, i), i, half);
  }
}

/// Without a norm: the rotation back.
template <class T>
KERNEL(head_threads, 8)
rotate_heads_back(T* dx, std::int64_t dx_stride, const T* dy, std::int64_t dy_stride,
                  HeadRows shape) {
  const Place at = place_of(shape);
  if (!at.inside) return;
  const std::int64_t half = shape.dim / 2;
  const T* const upstream = dy + at.row * dy_stride + at.head * shape.dim;
  T* const out = dx + at.row * dx_stride + at.head * shape.dim;
#pragma unroll 4
  for (std::int64_t i = lane_of(); i < half; i += lanes) {
    const Pair g =
        rotate(pair_of(upstream, i, half), shape.cosine[at.table + i], -shape.sine[at.table + i]);
    store_pair(out, g, i, half);
  }
}

/// With a norm. What was rotated back waits in shared memory, dim floats per half-warp: the lanes
/// that sum it need not be those that made it.
template <class T>
KERNEL(head_threads, 4)
differentiate_heads(T* dx, std::int64_t dx_stride, const T* dy, std::int64_t dy_stride, const T* x,
                    std::int64_t x_stride, const float* rstd, HeadRows shape) {
  float* const shared = &shared_memory<float>();
  float* const gradient = shared + half_warp_of() * shape.dim;
  const Place at = place_of(shape);
  const std::int64_t half = shape.dim / 2;
  const T* const upstream = dy + at.row * dy_stride + at.head * shape.dim;
  const T* const in = x + at.row * x_stride + at.head * shape.dim;
  T* const out = dx + at.row * dx_stride + at.head * shape.dim;
#pragma unroll 4
  for (std::int64_t i = lane_of(); at.inside && i < half; i += lanes) {
    const Pair g =
        rotate(pair_of(upstream, i, half), shape.cosine[at.table + i], -shape.sine[at.table + i]);
    const Pair w = pair_of(shape.weight, i, half);
    store_pair(gradient, {g.one * w.one, g.two * w.two}, i, half);
  }
  sync_warp();
  const float mean = dot(gradient, in, at.inside ? shape.dim : 0) / static_cast<float>(shape.dim);
  if (!at.inside) return;
  const float r = rstd[at.row * shape.heads + at.head];
  const float pull = -(r * r) * mean;
#pragma unroll 4
  for (std::int64_t i = lane_of(); i < half; i += lanes) {
    const Pair g = pair_of(gradient, i, half), v = pair_of(in, i, half);
    store_pair(out, {fma(v.one, pull, g.one) * r, fma(v.two, pull, g.two) * r}, i, half);
  }
}

struct WeightInputs {
  Pair dy;
  float cosine, sine, x, rstd;
  bool second;  // half of the head
};

/// Columns: the elements of all heads.
template <class T>
KERNEL(chain_threads, 2)
differentiate_weight(float* dweight, const T* dy, std::int64_t dy_stride, const T* x,
                     std::int64_t x_stride, const float* rstd, HeadRows shape) {
  const std::int64_t half = shape.dim / 2;
  add_chains(
      dweight, shape.rows, shape.heads * shape.dim,
      [&](std::int64_t t, std::int64_t c) {
        const std::int64_t head = c / shape.dim, element = c % shape.dim;
        const bool second = element >= half;
        const std::int64_t i = second ? element - half : element;
        const std::int64_t angle = shape.positions[t] * half + i;
        return WeightInputs{pair_of(dy + t * dy_stride + head * shape.dim, i, half),
                            shape.cosine[angle],
                            shape.sine[angle],
                            widened(x[t * x_stride + c]),
                            rstd[t * shape.heads + head],
                            second};
      },
      [](const WeightInputs& in) {
        const Pair g = rotate(in.dy, in.cosine, -in.sine);
        return Factors{in.second ? g.two : g.one, in.x * in.rstd};
      });
}

unsigned blocks_of(const HeadRows& shape) {
  return head_blocks(shape.rows * shape.heads);
}

template <class T>
void forward(const Cuda& cuda, T* y, std::int64_t y_stride, float* rstd, const T* x,
             std::int64_t x_stride, float eps, const HeadRows& shape) {
  if (shape.rows == 0) return;
  launch(rotate_heads<T>, dim3(blocks_of(shape)), dim3(head_threads), 0, cuda.stream, y, y_stride,
         rstd, x, x_stride, eps, shape);
}

template <class T>
void backward(const Cuda& cuda, T* dx, std::int64_t dx_stride, float* dweight, const T* dy,
              std::int64_t dy_stride, const T* x, std::int64_t x_stride, const float* rstd,
              const HeadRows& shape) {
  if (shape.rows == 0) return;
  if (dweight != nullptr) {  // first: dx may be dy
    const std::int64_t columns = shape.heads * shape.dim;
    const auto blocks = static_cast<unsigned>((columns + chain_columns - 1) / chain_columns);
    launch(differentiate_weight<T>, dim3(blocks), dim3(chain_threads), sizeof(ChainShared),
           cuda.stream, dweight, dy, dy_stride, x, x_stride, rstd, shape);
  }
  if (shape.weight == nullptr) {
    launch(rotate_heads_back<T>, dim3(blocks_of(shape)), dim3(head_threads), 0, cuda.stream, dx,
           dx_stride, dy, dy_stride, shape);
    return;
  }
  const auto bytes = static_cast<std::size_t>(heads_per_block * shape.dim) * sizeof(float);
  if (bytes > 48 * 1024) allow_shared(differentiate_heads<T>, bytes);
  launch(differentiate_heads<T>, dim3(blocks_of(shape)), dim3(head_threads), bytes, cuda.stream, dx,
         dx_stride, dy, dy_stride, x, x_stride, rstd, shape);
}

}  // namespace

template <>
void head_norm_rope_forward(const Cuda& cuda, float* y, std::int64_t y_stride, float* rstd,
                            const float* x, std::int64_t x_stride, float eps,
                            const HeadRows& shape) {
  forward(cuda, y, y_stride, rstd, x, x_stride, eps, shape);
}

template <>
void head_norm_rope_backward(const Cuda& cuda, float* dx, std::int64_t dx_stride, float* dweight,
                             const float* dy, std::int64_t dy_stride, const float* x,
                             std::int64_t x_stride, const float* rstd, const HeadRows& shape) {
  backward(cuda, dx, dx_stride, dweight, dy, dy_stride, x, x_stride, rstd, shape);
}

template <>
void head_norm_rope_forward(const Cuda& cuda, Bf16* y, std::int64_t y_stride, float* rstd,
                            const Bf16* x, std::int64_t x_stride, float eps,
                            const HeadRows& shape) {
  forward(cuda, y, y_stride, rstd, x, x_stride, eps, shape);
}

template <>
void head_norm_rope_backward(const Cuda& cuda, Bf16* dx, std::int64_t dx_stride, float* dweight,
                             const Bf16* dy, std::int64_t dy_stride, const Bf16* x,
                             std::int64_t x_stride, const float* rstd, const HeadRows& shape) {
  backward(cuda, dx, dx_stride, dweight, dy, dy_stride, x, x_stride, rstd, shape);
}

}  // namespace fst::kernels
