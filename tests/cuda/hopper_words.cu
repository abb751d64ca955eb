#include "tests/cuda/hopper_product.h"
#include "tests/cuda/hopper_words.h"

namespace fst::kernels::test {
namespace {

struct Box {
  alignas(1024) std::uint16_t elements[8 * 64];
  alignas(1024) Barrier loaded;
};

KERNEL(32, 1) copy_of_box(MAP_PARAMETER map, int row, int column, std::uint16_t* box) {
  Box& shared = shared_memory<Box>();
  if (threadIdx.x == 0) {
    barrier_init(shared.loaded, 1);
    barrier_fence();
  }
  sync_block();
  if (threadIdx.x == 0) {
    barrier_expect(shared.loaded, static_cast<int>(sizeof shared.elements));
    tensor_load(shared.elements, map, shared.loaded, column, row);
  }
  barrier_wait(shared.loaded, 0);
  for (unsigned i = threadIdx.x; i < 8 * 64; i += 32) box[i] = shared.elements[i];
}

}  // namespace

void load_box(const Cuda& cuda, const std::uint16_t* matrix, int rows, int columns, int row,
              int column, std::uint16_t* box) {
  launch(copy_of_box, 1, 32, sizeof(Box), cuda.stream, tensor_map(matrix, rows, columns, 8), row,
         column, box);
}

void multiply_on_hopper(const Cuda& cuda, const std::uint16_t* a, const std::uint16_t* b, float* c,
                        int rows, int columns, int depth) {
  multiply_hopper<HopperRight>(a, b, c, rows, columns, depth, cuda.stream);
}

}  // namespace fst::kernels::test
