#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/cuda/cuda.h"

/// Times kernels on the device by its own clock. Every input exists so often that all its copies
/// together are larger than any cache, and each call takes the next copy.
namespace fst::bench {

/// What is timed, and the least that any program must do for it: bytes of device memory that have
/// to be read or written once, and floating-point operations (a multiplication and an addition are
/// two). `operation` and `shape` tell tests/gpu/peer.py what to do beside it.
struct Case {
  std::string name, operation;
  std::vector<std::pair<std::string, std::int64_t>> shape;
  double bytes, flops;
};

struct Options {
  bool tiny = false;     // sizes that the emulator runs in seconds
  std::string filter;    // cases whose name contains it, and the device copy
  double seconds = 1e9;  // when these are over, further cases are reported as not run
};

/// Copies of one array, one behind the other, each 256-byte aligned.
template <class T>
class RingOf {
 public:
  RingOf(T* start, std::int64_t stride, std::int64_t count)
      : start_(start), stride_(stride), count_(count) {}
  T* operator()(std::int64_t call) const { return start_ + call % count_ * stride_; }

 private:
  T* start_;
  std::int64_t stride_, count_;
};
using Ring = RingOf<float>;

class Bench {
 public:
  explicit Bench(const Options& options);
  ~Bench();
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  const kernels::Cuda& cuda() const { return cuda_; }
  const Options& options() const { return options_; }

  /// Frees what the case before held; the rings of the next one are for arrays of `floats` elements
  /// in all. False where the case is not to be run.
  bool begin(const Case& next, std::int64_t floats);
  /// How many arrays each ring of the case has.
  std::int64_t copies() const { return copies_; }
  /// A ring of arrays of normal noise.
  Ring noise(std::int64_t floats);
  RingOf<kernels::Bf16> halves(std::int64_t elements);
  /// A ring of arrays that calls write before anybody reads them.
  template <class T>
  RingOf<T> unset(std::int64_t elements) {
    const std::int64_t stride = aligned(elements);
    const auto bytes = sizeof(T) * static_cast<std::size_t>(stride * copies_);
    return {static_cast<T*>(keep(bytes)), stride, copies_};
  }
  /// One array for all calls, with these values.
  template <class T>
  T* array(const std::vector<T>& values) {
    void* const memory = keep(values.size() * sizeof(T));
    kernels::copy_to_device(cuda_, memory, values.data(), values.size() * sizeof(T));
    return static_cast<T*>(memory);
  }
  /// Times call(0), call(1), ... and prints one line of JSON: at least 20 samples, each of as many
  /// calls as make it longer than the clock is coarse.
  void time(const std::function<void(std::int64_t)>& call);

 private:
  /// Elements that make an array end where another may begin.
  static std::int64_t aligned(std::int64_t elements) { return (elements + 127) / 128 * 128; }
  void* keep(std::size_t bytes);
  void drop();
  double microseconds(const std::function<void(std::int64_t)>& call, std::int64_t calls);
  void print(const std::string& rest) const;

  Options options_;
  kernels::Cuda cuda_;
  cudaEvent_t start_ = nullptr, end_ = nullptr;
  float* source_ = nullptr;  // noise
  std::vector<void*> kept_;
  Case case_;
  std::int64_t copies_ = 1, calls_ = 0;
  double begun_ = 0;
};

}  // namespace fst::bench
