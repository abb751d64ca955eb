#pragma once

#include <cstddef>

#include <cuda_runtime.h>

/// Within the emulator: device memory for the run time's calls (memory.cpp).
namespace fst::emulator {

cudaError_t allocate_device(void** memory, std::size_t bytes);
cudaError_t free_device(void* memory);
/// The host must not touch device memory. In the checked build, and in schedule 1 of the other as
/// it takes time, it is open only while work is done.
void open_device_memory();
void close_device_memory();
void device_memory(std::size_t* free, std::size_t* total);

}  // namespace fst::emulator
