#pragma once

#include "fst/tensor/tensor.h"

namespace fst {

/// Where a contiguous tensor lies on a GPU, and the stream that its work is queued on: for a
/// library that moves it there itself, which is NCCL (comm/nccl_channel.h) and no other.
struct DeviceMemory {
  void* address = nullptr;
  void* stream = nullptr;  // a cudaStream_t
};
/// Throws Error for a tensor in the host's memory, or a strided one.
DeviceMemory device_memory(const Tensor& x);

}  // namespace fst
