#include "kernels/cuda/scatter.h"
#include "kernels/cuda/storage.h"
#include "kernels/cuda/tiles.h"
#include "kernels/embedding.h"

namespace fst::kernels {

namespace {

using namespace gpu;

template <class T>
KERNEL(tile_threads, 4)
take_rows(T* y, const std::int32_t* tokens, const T* table, std::int64_t dim, VocabRows vocab) {
  each_element(
      dim,
      [&](std::int64_t t, std::int64_t i) {
        const std::int64_t row = tokens[t] - vocab.first;
        return row >= 0 && row < vocab.count ? table[row * dim + i] : narrowed_to<T>(-0.0f);
      },
      [&](std::int64_t t, std::int64_t i, T v) { y[t * dim + i] = v; });
}

}  // namespace

template <>
void embedding_forward(const Cuda& cuda, float* y, const std::int32_t* tokens, const float* table,
                       std::int64_t rows, std::int64_t dim, const VocabRows& vocab) {
  launch_tiles(cuda, take_rows<float>, rows, dim, y, tokens, table, dim, vocab);
}

template <>
void embedding_backward(const Cuda& cuda, float* dtable, const float* dy,
                        const std::int32_t* tokens, std::int64_t rows, std::int64_t dim,
                        const VocabRows& vocab) {
  scatter_add(cuda, dtable, dim, dy, dim, tokens, rows, dim, vocab);
}

template <>
void embedding_forward(const Cuda& cuda, Bf16* y, const std::int32_t* tokens, const Bf16* table,
                       std::int64_t rows, std::int64_t dim, const VocabRows& vocab) {
  launch_tiles(cuda, take_rows<Bf16>, rows, dim, y, tokens, table, dim, vocab);
}

template <>
void embedding_backward(const Cuda& cuda, float* dtable, const Bf16* dy, const std::int32_t* tokens,
                        std::int64_t rows, std::int64_t dim, const VocabRows& vocab) {
  scatter_add(cuda, dtable, dim, dy, dim, tokens, rows, dim, vocab);
}

}  // namespace fst::kernels
