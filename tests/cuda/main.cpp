#include <cstdio>

#include <cuda_runtime.h>
#include <gtest/gtest.h>

/// Runs the tests on the first GPU; without one it runs none and says so by exit code 77, which
/// CTest reports as skipped.
int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  constexpr int skipped = 77;
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess || devices == 0) {
    std::printf("no test was run: %s\n", cudaGetErrorString(error));
    return skipped;
  }
  cudaDeviceProp device{};
  if (cudaGetDeviceProperties(&device, 0) == cudaSuccess) std::printf("on %s\n", device.name);
  return RUN_ALL_TESTS();
}
