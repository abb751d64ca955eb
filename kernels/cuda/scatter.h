#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/embedding.h"

namespace fst::kernels {

/// to[index[i] - vocab.first] += from[i], i ascending, one addition each, rounded to what `to`
/// holds; indices outside are passed over. To and From are float or Bf16: both float, both Bf16, or
/// a float table of Bf16 rows. Rows of `columns` elements, `ld_to` and `ld_from` apart; count <
/// 2^31.
///
/// No atomics: equal indices are linked to a chain in order, and a block walks one chain for some
/// columns.
template <class To, class From>
void scatter_add(const Cuda& cuda, To* to, std::int64_t ld_to, const From* from,
                 std::int64_t ld_from, const std::int32_t* index, std::int64_t count,
                 std::int64_t columns, const VocabRows& vocab);

}  // namespace fst::kernels
