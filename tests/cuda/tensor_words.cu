#include "tests/cuda/staged_product.h"
#include "tests/cuda/tensor_words.h"

namespace fst::kernels::test {
namespace {

using namespace gpu;

struct Matrices {
  alignas(16) std::uint16_t rows[32][8];
};

KERNEL(32, 1) fragments_product(Fragments* lanes) {
  Fragments& own = lanes[32 * std::int64_t{blockIdx.x} + threadIdx.x];
  float sum[4];
  for (int i = 0; i < 4; ++i) sum[i] = own.sum[i];
  const std::uint32_t a[4] = {own.a[0], own.a[1], own.a[2], own.a[3]};
  const std::uint32_t b[2] = {own.b[0], own.b[1]};
  multiply_16x8x16(sum, a, b);
  for (int i = 0; i < 4; ++i) own.sum[i] = sum[i];
}

KERNEL(32, 1) both_loads(const std::uint16_t* matrices, std::uint32_t* loaded) {
  Matrices& shared = shared_memory<Matrices>();
  const int lane = static_cast<int>(threadIdx.x);
  copy_async_16(shared.rows[lane], matrices + 8 * lane);
  copy_async_commit();
  copy_async_wait<0>();
  sync_warp();
  std::uint32_t plain[4], transposed[4];
  load_matrix_x4(plain, shared.rows[lane]);
  load_matrix_x4_transposed(transposed, shared.rows[lane]);
  for (int m = 0; m < 4; ++m) {
    loaded[4 * lane + m] = plain[m];
    loaded[128 + 4 * lane + m] = transposed[m];
  }
}

}  // namespace

void multiply_fragments(const Cuda& cuda, Fragments* lanes, std::int64_t warps) {
  launch(fragments_product, static_cast<unsigned>(warps), 32, 0, cuda.stream, lanes);
}

void load_matrices(const Cuda& cuda, const std::uint16_t* matrices, std::uint32_t* loaded) {
  launch(both_loads, 1, 32, sizeof(Matrices), cuda.stream, matrices, loaded);
}

void multiply_staged(const Cuda& cuda, const std::uint16_t* a, const std::uint16_t* b, float* c,
                     std::int64_t rows, std::int64_t columns, std::int64_t depth) {
  const dim3 grid(static_cast<unsigned>(rows / 32), static_cast<unsigned>(columns / 16));
  launch(staged_product<StagedRight>, grid, 64, sizeof(Stages), cuda.stream, a, b, c, columns,
         depth);
}

}  // namespace fst::kernels::test
