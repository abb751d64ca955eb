#include "kernels/cuda/matmul_bf16_tiles.h"

namespace fst::kernels {

void product_of_small_tiles(const Cuda& cuda, const Bf16Product& p, const Bf16Partials& partials) {
  p.wide ? gpu::run_product<1, true>(cuda, p, partials)
         : gpu::run_product<1, false>(cuda, p, partials);
}

void product_of_large_tiles(const Cuda& cuda, const Bf16Product& p, const Bf16Partials& partials) {
  gpu::run_product<2, true>(cuda, p, partials);
}

void gradient_of_tiles(const Cuda& cuda, const Bf16Gradient& p, const Sequences& sequences,
                       bool large) {
  if (large) {
    gpu::run_gradient<2, true>(cuda, p, sequences);
  } else {
    p.wide ? gpu::run_gradient<1, true>(cuda, p, sequences)
           : gpu::run_gradient<1, false>(cuda, p, sequences);
  }
}

}  // namespace fst::kernels
