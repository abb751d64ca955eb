#include "kernels/embedding.h"

#include <algorithm>
#include <cstring>

#include "kernels/thread_pool.h"

namespace fst::kernels {

namespace {

bool holds(const VocabRows& vocab, std::int64_t row) {
  return row >= 0 && row < vocab.count;
}

}  // namespace

// Copies and single additions: no instruction set can change a bit, so there is one version.

template <class Exec, class T>
void embedding_forward(const Exec& cpu, T* y, const std::int32_t* tokens, const T* table,
                       std::int64_t rows, std::int64_t dim, const VocabRows& vocab) {
  constexpr std::int64_t grain_elements = 1 << 15;
  parallel_for(cpu, rows, grain_elements / (dim + 1) + 1, [&](std::int64_t t, std::int64_t end) {
    for (; t < end; ++t) {
      const std::int64_t row = tokens[t] - vocab.first;
      if (holds(vocab, row)) {
        std::memcpy(y + t * dim, table + row * dim, static_cast<std::size_t>(dim) * sizeof(T));
      } else {
        std::fill_n(y + t * dim, dim, narrowed_to<T>(-0.0f));
      }
    }
  });
}

template <class Exec, class T>
void embedding_backward(const Exec& cpu, float* dtable, const T* dy, const std::int32_t* tokens,
                        std::int64_t rows, std::int64_t dim, const VocabRows& vocab) {
  parallel_for(cpu, dim, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = 0; t < rows; ++t) {
      const std::int64_t row = tokens[t] - vocab.first;
      if (!holds(vocab, row)) continue;
      float* const to = dtable + row * dim;
      const T* const from = dy + t * dim;
      for (std::int64_t i = begin; i < end; ++i) to[i] += widened(from[i]);
    }
  });
}

template void embedding_forward(const Cpu&, float*, const std::int32_t*, const float*, std::int64_t,
                                std::int64_t, const VocabRows&);
template void embedding_forward(const Cpu&, Bf16*, const std::int32_t*, const Bf16*, std::int64_t,
                                std::int64_t, const VocabRows&);
template void embedding_backward(const Cpu&, float*, const float*, const std::int32_t*,
                                 std::int64_t, std::int64_t, const VocabRows&);
template void embedding_backward(const Cpu&, float*, const Bf16*, const std::int32_t*, std::int64_t,
                                 std::int64_t, const VocabRows&);

}  // namespace fst::kernels
