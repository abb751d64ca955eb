#include <algorithm>
#include <string>

#include "faults.h"
#include "machine.h"
#include "queues.h"

using namespace fst::emulator;

/// The run time's calls about memory, kernels and the devices themselves.

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  if (!report().empty()) return returned(failure());
  if (must_fail("cudaMalloc")) return returned(cudaErrorMemoryAllocation);
  if (spoils_capture()) return returned(cudaErrorStreamCaptureUnsupported);
  ++runtime().calls.allocations;
  return returned(allocate_device(memory, bytes));
}

cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  if (spoils_capture()) return returned(cudaErrorStreamCaptureUnsupported);
  const cudaError_t error = run_all();  // as CUDA does: what is queued may use it
  const cudaError_t freed = free_device(memory);
  return returned(error != cudaSuccess ? error : freed);
}

cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
  *memory = ::operator new (bytes, std::align_val_t{256});
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* memory) {
  ::operator delete (memory, std::align_val_t{256});
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  device_memory(free, total);
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  if (must_fail("cudaFuncGetAttributes")) return returned(cudaErrorNoKernelImageForDevice);
  *attributes = {};
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute, int value) {
  if (must_fail("cudaFuncSetAttribute")) return lost("cudaFuncSetAttribute");
  if (value < 0 || static_cast<std::size_t>(value) > shared_limit) {
    return returned(cudaErrorInvalidValue);
  }
  runtime().allowed_shared[function] = std::max(static_cast<std::size_t>(value), shared_default);
  return cudaSuccess;
}

/// The version of CUDA whose names cuda_runtime.h has.
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  return cudaRuntimeGetVersion(version);
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = asked_devices();
  return returned(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

/// A process uses one device; all of them are alike.
static int the_index = 0;

cudaError_t cudaGetDevice(int* index) {
  *index = the_index;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int index) {
  if (index < 0 || index >= asked_devices()) return returned(cudaErrorInvalidDevice);
  the_index = index;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  if (index < 0 || index >= asked_devices()) return returned(cudaErrorInvalidDevice);
  const int major = asked_major(index, tensor_core() == TensorCore::hopper ? 9 : 8);
  *properties = {"emulated device", {{static_cast<char>(index)}}, 0, shared_limit, major, 0, 1};
  std::size_t free = 0;
  device_memory(&free, &properties->totalGlobalMem);
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = runtime().last;
  runtime().last = report().empty() ? cudaSuccess : failure();
  return error;
}

cudaError_t cudaPeekAtLastError() {
  return runtime().last;
}
