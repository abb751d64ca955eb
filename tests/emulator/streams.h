#pragma once

#include <cstddef>

#include <cuda_runtime.h>

/// Within the emulator: device memory for the run time's calls (memory.cpp).
namespace fst::emulator {

cudaError_t allocate_device(void** memory, std::size_t bytes);
cudaError_t free_device(void* memory);
/// The host can touch device memory only while it is open, as it is while work is done.
void open_device_memory(bool open);
void device_memory(std::size_t* free, std::size_t* total);

}  // namespace fst::emulator
