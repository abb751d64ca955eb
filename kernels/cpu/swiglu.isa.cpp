#include "kernels/cpu/swiglu_isa.h"
#include "kernels/cpu/vec_math.h"

namespace fst::kernels {

namespace lane = FST_ISA_NS;
using lane::lanes;
using lane::Vec;

template <Isa isa, class T>
void Swiglu<isa, T>::forward(T* h, const T* gate_up, std::int64_t rows, std::int64_t dim) {
  for (std::int64_t t = 0; t < rows; ++t) {
    const T* const gate = gate_up + t * 2 * dim;
    for (std::int64_t i = 0; i < dim; i += lanes) {
      const Vec g = lane::load_upto(gate + i, dim - i);
      const Vec u = lane::load_upto(gate + dim + i, dim - i);
      lane::store_upto(h + t * dim + i, (g * lane::sigmoid(g)) * u, dim - i);
    }
  }
}

template <Isa isa, class T>
void Swiglu<isa, T>::backward(T* dgate_up, const T* dh, const T* gate_up, std::int64_t rows,
                              std::int64_t dim) {
  for (std::int64_t t = 0; t < rows; ++t) {
    const T* const gate = gate_up + t * 2 * dim;
    T* const dgate = dgate_up + t * 2 * dim;
    for (std::int64_t i = 0; i < dim; i += lanes) {
      const Vec g = lane::load_upto(gate + i, dim - i);
      const Vec u = lane::load_upto(gate + dim + i, dim - i);
      const Vec d = lane::load_upto(dh + t * dim + i, dim - i);
      const Vec s = lane::sigmoid(g);
      const Vec silu = g * s;
      lane::store_upto(dgate + i, (d * u) * fma(silu, lane::set(1.0f) - s, s), dim - i);
      lane::store_upto(dgate + dim + i, d * silu, dim - i);
    }
  }
}

template struct Swiglu<Isa::FST_ISA_NS, float>;
template struct Swiglu<Isa::FST_ISA_NS, Bf16>;

}  // namespace fst::kernels
