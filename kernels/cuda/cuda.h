#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include <cuda_runtime.h>

#include "kernels/cuda_device.h"

namespace fst::kernels {

/// A call of the CUDA run time that failed: the call, CUDA's name of the error and its text.
class CudaError : public std::runtime_error {
 public:
  CudaError(const char* call, cudaError_t error);
  cudaError_t code() const { return code_; }

 private:
  cudaError_t code_;
};

/// Device memory that there is not enough of.
class OutOfMemory : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws CudaError unless `error` is success.
inline void check(cudaError_t error, const char* call) {
  if (error != cudaSuccess) throw CudaError(call, error);
}

/// Execution tag of the CUDA backend: a stream and the working memory of the kernels queued on it.
/// Cheap to copy; who made it with open() closes it. One host thread at a time.
struct Cuda {
  struct Memory;
  cudaStream_t stream = nullptr;
  Memory* memory = nullptr;
};

/// A stream on device `index`, which becomes the calling thread's device.
Cuda open_cuda(int index);
void close_cuda(Cuda& cuda);
/// True between begin_recording() and end_recording().
bool is_recording(const Cuda& cuda);
/// Of the stream's device: 90 of sm_90.
int architecture(const Cuda& cuda);

/// At least `bytes` of device memory, 256-byte aligned, for the kernels of one call: the next call
/// may overwrite them (in stream order). Contents are undefined. Throws OutOfMemory.
void* scratch(const Cuda& cuda, std::size_t bytes);
/// Whether scratch() could give as much without taking more than what was lent (lend_scratch()).
bool lent_scratch_suffices(const Cuda& cuda, std::size_t bytes);

/// What one kernel left in a 64-bit word of device memory; waits for the stream.
std::int64_t read_word(const Cuda& cuda, const std::int64_t* word);

}  // namespace fst::kernels
