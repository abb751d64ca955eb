#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace fst::kernels {

/// y[t] = table[tokens[t]]; y [rows, dim], tokens [rows], table [vocab, dim].
void embedding_forward(const Cpu&, float* y, const std::int32_t* tokens, const float* table,
                       std::int64_t rows, std::int64_t dim);
/// dtable[tokens[t]] += dy[t], t ascending; cut over columns between threads.
void embedding_backward(const Cpu&, float* dtable, const float* dy, const std::int32_t* tokens,
                        std::int64_t rows, std::int64_t dim);

}  // namespace fst::kernels
