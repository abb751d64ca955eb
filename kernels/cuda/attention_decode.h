#pragma once

#include "kernels/cuda/attention_forward.h"

namespace fst::kernels::gpu::forward {

/// The sequences of the batch that have one row; the others are passed over. Where a sequence has
/// several splits, their results go to the arguments' states and values.
void decode(const Cuda& cuda, const Arguments& arguments);

}  // namespace fst::kernels::gpu::forward
