#pragma once

#include "kernels/cuda/attention_forward.h"

namespace fst::kernels::gpu::forward {

/// The sequences of the batch that have one row; the others are passed over. Where a sequence has
/// several splits, their results go to the arguments' states and values.
/// T is float or Bf16.
template <class T>
void decode(const Cuda& cuda, const Arguments<T>& arguments);

}  // namespace fst::kernels::gpu::forward
