#include "kernels/cuda/cuda.h"
#include "kernels/cuda/gpu.h"

namespace fst::kernels {

struct Cuda::Memory {
  void* scratch = nullptr;
  std::size_t bytes = 0;
};

CudaError::CudaError(const char* call, cudaError_t error)
    : std::runtime_error(std::string(call) + ": " + cudaGetErrorName(error) + ", " +
                         cudaGetErrorString(error)),
      code_(error) {}

namespace gpu {
void check_launch() {
  check(cudaGetLastError(), "kernel launch");
}
}  // namespace gpu

Cuda open_cuda(int index) {
  check(cudaSetDevice(index), "cudaSetDevice");
  Cuda cuda;
  check(cudaStreamCreateWithFlags(&cuda.stream, cudaStreamNonBlocking), "cudaStreamCreate");
  cuda.memory = new Cuda::Memory;
  return cuda;
}

void close_cuda(Cuda& cuda) {
  if (cuda.memory == nullptr) return;
  cudaStreamSynchronize(cuda.stream);
  cudaFree(cuda.memory->scratch);
  cudaStreamDestroy(cuda.stream);
  delete cuda.memory;
  cuda = {};
}

void* scratch(const Cuda& cuda, std::size_t bytes) {
  Cuda::Memory& memory = *cuda.memory;
  if (bytes > memory.bytes) {
    wait(cuda);
    check(cudaFree(memory.scratch), "cudaFree");
    memory.scratch = nullptr;
    memory.bytes = 0;
    check(cudaMalloc(&memory.scratch, bytes), "cudaMalloc of kernels' working memory");
    memory.bytes = bytes;
  }
  return memory.scratch;
}

std::int64_t read_word(const Cuda& cuda, const std::int64_t* word) {
  std::int64_t value = 0;
  copy_to_host(cuda, &value, word, sizeof value);
  return value;
}

void copy_to_device(const Cuda& cuda, void* to, const void* from, std::size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, cuda.stream), "copy to device");
  wait(cuda);
}

void copy_to_host(const Cuda& cuda, void* to, const void* from, std::size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, cuda.stream), "copy to host");
  wait(cuda);
}

void copy_on_device(const Cuda& cuda, void* to, const void* from, std::size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, cuda.stream), "copy on device");
}

void wait(const Cuda& cuda) {
  check(cudaStreamSynchronize(cuda.stream), "waiting for the device");
}

void* allocate(const Cuda& cuda, std::size_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, bytes == 0 ? 1 : bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(error, "cudaMalloc");
  check(cudaMemsetAsync(memory, 0, bytes, cuda.stream), "cudaMemset");
  return memory;
}

void release(const Cuda& cuda, void* memory) {
  cudaStreamSynchronize(cuda.stream);  // a destructor's call: what failed is found by the next one
  cudaFree(memory);
}

}  // namespace fst::kernels
