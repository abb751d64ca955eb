#include "kernels/cuda/math.h"
#include "kernels/cuda/tiles.h"
#include "kernels/swiglu.h"

namespace fst::kernels {

namespace {

using namespace gpu;

struct GateUp {
  float gate, up;
};

KERNEL(tile_threads, 4)
multiply_gates(float* h, const float* gate_up, std::int64_t dim) {
  each_element(
      dim,
      [&](std::int64_t t, std::int64_t i) {
        const float* const gate = gate_up + t * 2 * dim;
        return GateUp{gate[i], gate[dim + i]};
      },
      [&](std::int64_t t, std::int64_t i, GateUp in) {
        h[t * dim + i] = (in.gate * sigmoid(in.gate)) * in.up;
      });
}

struct GateUpUpstream {
  float gate, up, dh;
};

KERNEL(tile_threads, 4)
differentiate_gates(float* dgate_up, const float* dh, const float* gate_up, std::int64_t dim) {
  each_element(
      dim,
      [&](std::int64_t t, std::int64_t i) {
        const float* const gate = gate_up + t * 2 * dim;
        return GateUpUpstream{gate[i], gate[dim + i], dh[t * dim + i]};
      },
      [&](std::int64_t t, std::int64_t i, GateUpUpstream in) {
        float* const dgate = dgate_up + t * 2 * dim;
        const float s = sigmoid(in.gate);
        const float silu = in.gate * s;
        dgate[i] = (in.dh * in.up) * fma(silu, 1.0f - s, s);
        dgate[dim + i] = in.dh * silu;
      });
}

}  // namespace

template <>
void swiglu_forward(const Cuda& cuda, float* h, const float* gate_up, std::int64_t rows,
                    std::int64_t dim) {
  launch_tiles(cuda, multiply_gates, rows, dim, h, gate_up, dim);
}

template <>
void swiglu_backward(const Cuda& cuda, float* dgate_up, const float* dh, const float* gate_up,
                     std::int64_t rows, std::int64_t dim) {
  launch_tiles(cuda, differentiate_gates, rows, dim, dgate_up, dh, gate_up, dim);
}

}  // namespace fst::kernels
