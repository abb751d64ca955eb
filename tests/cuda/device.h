#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

#include "halves.h"
#include "isa.h"
#include "kernels/cuda/cuda.h"

/// What the tests of CUDA kernels share. They are written against kernels/*.h and cuda.h alone: the
/// same files run on a GPU and on the emulator.
namespace fst::test {

/// The device under test, opened once per process.
inline const kernels::Cuda& device() {
  static const kernels::Cuda cuda = kernels::open_cuda(0);
  return cuda;
}

/// The CPU twin, on one thread: its bits are those of every instruction set.
inline kernels::Cpu twin() {
  return kernels::Cpu{kernels::best_isa(), nullptr};
}

/// True on a GPU: sizes that the emulator could not run in its time.
inline bool large() {
  return std::getenv("FST_CUDA_LARGE") != nullptr;
}

/// An array on the device. It ends where its memory ends, so an access behind it is an error that
/// tools see.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t size)
      : size_(size), memory_(kernels::allocate(device(), size * sizeof(T))) {}
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    if (size_ > 0) kernels::copy_to_device(device(), memory_, values.data(), size_ * sizeof(T));
  }
  DeviceArray(DeviceArray&& other) noexcept : size_(other.size_), memory_(other.memory_) {
    other.memory_ = nullptr;
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  DeviceArray& operator=(DeviceArray&&) = delete;
  ~DeviceArray() {
    if (memory_ != nullptr) kernels::release(device(), memory_);
  }

  std::size_t size() const { return size_; }
  T* data() const { return static_cast<T*>(memory_); }
  std::vector<T> host() const {
    std::vector<T> values(size_);
    if (size_ > 0) kernels::copy_to_host(device(), values.data(), memory_, size_ * sizeof(T));
    return values;
  }

 private:
  std::size_t size_;
  void* memory_;
};

/// The promise of the backends: 0 differing bits; any NaN equals any NaN.
template <class T>
void expect_same(const std::vector<T>& cpu, const DeviceArray<T>& cuda, const char* what) {
  EXPECT_EQ(differing(cpu, cuda.host()), 0) << what;
}

/// The element types of kernels that are templates over one, for TYPED_TEST_SUITE.
using Elements = testing::Types<float, kernels::Bf16>;
struct ElementName {
  template <class T>
  static std::string GetName(int /*index*/) {
    return std::is_same_v<T, float> ? "float" : "Bf16";
  }
};

/// The nearest floats that T holds exactly.
template <class T>
std::vector<float> held(const std::vector<float>& xs) {
  return widened(stored_as<T>(xs));
}

/// What a kernel of Bf16 means: the float kernel's results from what was widened, rounded once.
inline void expect_same(const std::vector<float>& cpu, const DeviceArray<kernels::Bf16>& cuda,
                        const char* what) {
  EXPECT_EQ(differing(rounded(cpu), widened(cuda.host())), 0) << what;
}

}  // namespace fst::test
