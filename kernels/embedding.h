#pragma once

#include <cstdint>

#include "kernels/bf16.h"
#include "kernels/exec.h"

namespace fst::kernels {

/// A table of the rows [first, first + count) of a vocabulary.
struct VocabRows {
  std::int64_t first, count;
};

/// T is float or Bf16 (kernels/bf16.h), the same bits wherever the values are.
///
/// y[t] = table[tokens[t] - first]; y [rows, dim], tokens [rows], table [count, dim]. A row whose
/// token is not in the table becomes -0, the neutral element of addition.
template <class Exec, class T>
void embedding_forward(const Exec&, T* y, const std::int32_t* tokens, const T* table,
                       std::int64_t rows, std::int64_t dim, const VocabRows& vocab);
/// dtable[tokens[t] - first] += dy[t] in float32, t ascending, tokens outside passed over; cut over
/// columns between threads.
template <class Exec, class T>
void embedding_backward(const Exec&, float* dtable, const T* dy, const std::int32_t* tokens,
                        std::int64_t rows, std::int64_t dim, const VocabRows& vocab);

}  // namespace fst::kernels
