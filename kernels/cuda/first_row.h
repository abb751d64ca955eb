#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/gpu.h"

namespace fst::kernels {

/// The least row that the kernels of a call complain about: eight bytes of device memory.
class FirstRow {
 public:
  /// Nobody has complained (in stream order).
  FirstRow(const Cuda& cuda, std::int64_t* word) : cuda_(cuda), word_(word) {
    check(cudaMemsetAsync(word, silence & 0xff, sizeof *word, cuda.stream), "cudaMemset");
  }
  /// What kernels min_atomic() the row into: the word's low half.
  std::int32_t* place() const { return static_cast<std::int32_t*>(static_cast<void*>(word_)); }
  /// That row, or -1. Waits for the stream.
  std::int64_t read() const {
    const auto row = static_cast<std::int32_t>(read_word(cuda_, word_) & 0x7fffffff);
    return row == silence ? -1 : row;
  }

 private:
  static constexpr std::int32_t silence = 0x7f7f7f7f;  // four equal bytes, beyond any row
  const Cuda& cuda_;
  std::int64_t* word_;
};

}  // namespace fst::kernels
