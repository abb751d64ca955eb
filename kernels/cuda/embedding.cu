#include "kernels/cuda/scatter.h"
#include "kernels/cuda/tiles.h"
#include "kernels/embedding.h"

namespace fst::kernels {

namespace {

using namespace gpu;

KERNEL(tile_threads, 4)
take_rows(float* y, const std::int32_t* tokens, const float* table, std::int64_t dim,
          VocabRows vocab) {
  each_element(
      dim,
      [&](std::int64_t t, std::int64_t i) {
        const std::int64_t row = tokens[t] - vocab.first;
        return row >= 0 && row < vocab.count ? table[row * dim + i] : -0.0f;
      },
      [&](std::int64_t t, std::int64_t i, float v) { y[t * dim + i] = v; });
}

}  // namespace

template <>
void embedding_forward(const Cuda& cuda, float* y, const std::int32_t* tokens, const float* table,
                       std::int64_t rows, std::int64_t dim, const VocabRows& vocab) {
  launch_tiles(cuda, take_rows, rows, dim, y, tokens, table, dim, vocab);
}

template <>
void embedding_backward(const Cuda& cuda, float* dtable, const float* dy,
                        const std::int32_t* tokens, std::int64_t rows, std::int64_t dim,
                        const VocabRows& vocab) {
  scatter_add(cuda, dtable, dim, dy, dim, tokens, rows, dim, vocab);
}

}  // namespace fst::kernels
