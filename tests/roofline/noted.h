#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <utility>

#include "emulator/record.h"
#include "kernels/bf16.h"
#include "kernels/elementwise.h"
#include "kernels/exec.h"

/// The operations of kernels/*.h on the device, with the least work that each of them is: the
/// headers noted_*.h overload them for the tag Cuda, note name, shape and Work, and go on to the
/// kernels. Only the floor tensor calls kernels, so its sources, compiled once more with these
/// headers in front (-include), make a program that notes what it does; nothing else changes.
namespace fst::roofline {

using emulator::Work;

inline constexpr std::int64_t word = 4;  // bytes of a float or of an index
template <class T>
inline constexpr std::int64_t size = sizeof(T);

template <class T>
const char* type_name() {
  return sizeof(T) == sizeof(float) ? "f32" : "bf16";
}
inline std::int64_t size_of(kernels::Storage storage) {
  return storage == kernels::Storage::f32 ? 4 : 2;
}

struct Extent {
  const char* name;
  std::int64_t count;
};

inline std::string json_of(std::initializer_list<Extent> shape) {
  std::string text;
  for (const Extent& extent : shape) {
    text += (text.empty() ? "{\"" : ", \"") + std::string(extent.name) +
            "\": " + std::to_string(extent.count);
  }
  return text + "}";
}

/// What is queued while it lives is this operation.
class Noted {
 public:
  Noted(const char* name, const char* type, std::initializer_list<Extent> shape, const Work& work)
      : Noted(name, type, shape, [work] { return work; }) {}
  /// Where the work depends on what lies in device memory.
  Noted(const char* name, const char* type, std::initializer_list<Extent> shape,
        std::function<Work()> work)
      : operating_({name, json_of(shape), type, std::move(work), {}}) {}

 private:
  emulator::Operating operating_;
};

}  // namespace fst::roofline
