#pragma once

#include <functional>

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

/// What such a library queued last on a GPU ends only when other ranks have done their part. Who
/// waits for the device from here on, in any way, first calls await(ended), which returns when
/// ended() says so and throws when it gives up; then abandon() is called for all that are under
/// way, which must make them end at once. Memory that an exchange uses may be given back while it
/// is under way: what has the same address next comes behind it on the stream.
void note_exchange(const Device& device,
                   std::function<void(const std::function<bool()>& ended)> await,
                   std::function<void()> abandon);
/// Awaits all that were noted; abandons them.
void await_exchanges(const Device& device);
void abandon_exchanges(const Device& device);

}  // namespace fst
