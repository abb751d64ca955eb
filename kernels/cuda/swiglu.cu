#include "kernels/cuda/math.h"
#include "kernels/cuda/storage.h"
#include "kernels/cuda/tiles.h"
#include "kernels/swiglu.h"

namespace fst::kernels {

namespace {

using namespace gpu;

struct GateUp {
  float gate, up;
};

template <class T>
KERNEL(tile_threads, 4)
multiply_gates(T* h, const T* gate_up, std::int64_t dim) {
  each_element(
      dim,
      [&](std::int64_t t, std::int64_t i) {
        const T* const gate = gate_up + t * 2 * dim;
        return GateUp{widened(gate[i]), widened(gate[dim + i])};
      },
      [&](std::int64_t t, std::int64_t i, GateUp in) {
        h[t * dim + i] = narrowed_to<T>((in.gate * sigmoid(in.gate)) * in.up);
      });
}

struct GateUpUpstream {
  float gate, up, dh;
};

template <class T>
KERNEL(tile_threads, 4)
differentiate_gates(T* dgate_up, const T* dh, const T* gate_up, std::int64_t dim) {
  each_element(
      dim,
      [&](std::int64_t t, std::int64_t i) {
        const T* const gate = gate_up + t * 2 * dim;
        return GateUpUpstream{widened(gate[i]), widened(gate[dim + i]), widened(dh[t * dim + i])};
      },
      [&](std::int64_t t, std::int64_t i, GateUpUpstream in) {
        T* const dgate = dgate_up + t * 2 * dim;
        const float s = sigmoid(in.gate);
        const float silu = in.gate * s;
        dgate[i] = narrowed_to<T>((in.dh * in.up) * fma(silu, 1.0f - s, s));
        dgate[dim + i] = narrowed_to<T>(in.dh * silu);
      });
}

}  // namespace

template <>
void swiglu_forward(const Cuda& cuda, float* h, const float* gate_up, std::int64_t rows,
                    std::int64_t dim) {
  launch_tiles(cuda, multiply_gates<float>, rows, dim, h, gate_up, dim);
}

template <>
void swiglu_backward(const Cuda& cuda, float* dgate_up, const float* dh, const float* gate_up,
                     std::int64_t rows, std::int64_t dim) {
  launch_tiles(cuda, differentiate_gates<float>, rows, dim, dgate_up, dh, gate_up, dim);
}

template <>
void swiglu_forward(const Cuda& cuda, Bf16* h, const Bf16* gate_up, std::int64_t rows,
                    std::int64_t dim) {
  launch_tiles(cuda, multiply_gates<Bf16>, rows, dim, h, gate_up, dim);
}

template <>
void swiglu_backward(const Cuda& cuda, Bf16* dgate_up, const Bf16* dh, const Bf16* gate_up,
                     std::int64_t rows, std::int64_t dim) {
  launch_tiles(cuda, differentiate_gates<Bf16>, rows, dim, dgate_up, dh, gate_up, dim);
}

}  // namespace fst::kernels
