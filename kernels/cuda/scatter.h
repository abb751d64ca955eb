#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/embedding.h"

namespace fst::kernels {

/// to[index[i] - vocab.first] += from[i], i ascending, one rounded addition each; indices outside
/// are passed over. Rows of `columns` elements, `ld_to` and `ld_from` apart; count < 2^31.
///
/// No atomics: equal indices are linked to a chain in order, and a block walks one chain for some
/// columns.
void scatter_add(const Cuda& cuda, float* to, std::int64_t ld_to, const float* from,
                 std::int64_t ld_from, const std::int32_t* index, std::int64_t count,
                 std::int64_t columns, const VocabRows& vocab);

}  // namespace fst::kernels
