#include "values.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "fst/base/error.h"

#include "kernels/bf16.h"

namespace fst::cudnn_stand_in {

namespace {

constexpr float absent = std::numeric_limits<float>::quiet_NaN();

std::size_t size_of(Type type) {
  return type == Type::bf16 ? 2 : type == Type::boolean ? 1 : 4;
}

/// Calls f(position among all elements, element of the memory) for those that exist.
template <class F>
void for_each_present(const Shape& shape, const std::vector<std::int64_t>& offsets, F&& f) {
  std::size_t position = 0;
  for_each(shape.dims, [&](std::int64_t b, std::int64_t h, std::int64_t r, std::int64_t c) {
    const std::int64_t inside = h * shape.strides[1] + r * shape.strides[2] + c * shape.strides[3];
    const auto batch = static_cast<std::size_t>(b);
    if (offsets.empty()) {
      f(position, b * shape.strides[0] + inside);
    } else if (inside < offsets[batch + 1] - offsets[batch]) {
      f(position, offsets[batch] + inside);
    }
    ++position;
  });
}

/// The bytes of memory that hold the tensor, and where they begin.
struct Window {
  std::vector<char> bytes;
  std::int64_t first = 0;  // element
  char* device = nullptr;

  Window(const Shape& shape, const void* address, const std::vector<std::int64_t>& offsets,
         cudaStream_t stream) {
    if (address == nullptr ||
        reinterpret_cast<std::uintptr_t>(address) % static_cast<std::uintptr_t>(shape.alignment) !=
            0) {
      throw Error("tensor " + std::to_string(shape.id) + " is not aligned");
    }
    std::int64_t end = 0;
    first = std::numeric_limits<std::int64_t>::max();
    for_each_present(shape, offsets, [&](std::size_t, std::int64_t element) {
      first = std::min(first, element);
      end = std::max(end, element + 1);
    });
    if (end == 0) first = 0;
    const auto size = static_cast<std::int64_t>(size_of(shape.type));
    bytes.resize(static_cast<std::size_t>((end - first) * size));
    device = static_cast<char*>(const_cast<void*>(address)) + first * size;
    copy(bytes.data(), device, cudaMemcpyDeviceToHost, stream);
  }
  void copy(void* to, const void* from, cudaMemcpyKind kind, cudaStream_t stream) const {
    if (cudaMemcpyAsync(to, from, bytes.size(), kind, stream) != cudaSuccess ||
        cudaStreamSynchronize(stream) != cudaSuccess) {
      throw Error(std::string("copy: ") + cudaGetErrorString(cudaGetLastError()));
    }
  }
  template <class T>
  T read(std::int64_t element) const {
    T value;
    std::memcpy(&value, bytes.data() + (element - first) * static_cast<std::int64_t>(sizeof(T)),
                sizeof(T));
    return value;
  }
  template <class T>
  void write(std::int64_t element, T value) {
    std::memcpy(bytes.data() + (element - first) * static_cast<std::int64_t>(sizeof(T)), &value,
                sizeof(T));
  }
};

}  // namespace

Values load(const Shape& shape, const void* address, const std::vector<std::int64_t>& offsets,
            cudaStream_t stream) {
  Values values(shape.dims);
  if (shape.by_value) {
    std::memcpy(values.at.data(), address, sizeof(float));
    return values;
  }
  std::fill(values.at.begin(), values.at.end(), absent);
  const Window window(shape, address, offsets, stream);
  for_each_present(shape, offsets, [&](std::size_t position, std::int64_t element) {
    float& value = values.at[position];
    switch (shape.type) {
      case Type::bf16:
        value = kernels::widened(window.read<kernels::Bf16>(element));
        break;
      case Type::i32:
        value = static_cast<float>(window.read<std::int32_t>(element));
        break;
      default:
        value = window.read<float>(element);
    }
  });
  return values;
}

void store(const Shape& shape, void* address, const std::vector<std::int64_t>& offsets,
           const Values& values, cudaStream_t stream) {
  Window window(shape, address, offsets, stream);
  for_each_present(shape, offsets, [&](std::size_t position, std::int64_t element) {
    const float value = values.at[position];
    if (shape.type == Type::bf16) {
      window.write(element, kernels::narrowed(value));
    } else {
      window.write(element, value);
    }
  });
  window.copy(window.device, window.bytes.data(), cudaMemcpyHostToDevice, stream);
}

void round_to(Type type, Values& values) {
  if (type != Type::bf16) return;
  for (float& value : values.at) value = kernels::widened(kernels::narrowed(value));
}

}  // namespace fst::cudnn_stand_in
