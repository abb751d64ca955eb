#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include <cuda_runtime.h>

#include "src/tensor/cudnn_api.h"

/// Tensors of the stand-in for cuDNN, computed element by element in float.
namespace fst::cudnn_stand_in {

using Dims = std::array<std::int64_t, 4>;  // batch, head, row, column
using cudnn::Type;

/// What a tensor descriptor says.
struct Shape {
  std::int64_t id = 0;
  Type type = Type::f32;
  Dims dims{}, strides{};
  std::int64_t alignment = 0;
  std::int64_t offsets = 0;  // id of the tensor of offsets; 0: none
  bool is_virtual = false, by_value = false;

  std::int64_t elements() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
};

/// All elements in the order of the dims, NaN where a tensor has none.
struct Values {
  Dims dims{};
  std::vector<float> at;

  explicit Values(const Dims& of)
      : dims(of), at(static_cast<std::size_t>(of[0] * of[1] * of[2] * of[3])) {}
  float& operator()(std::int64_t b, std::int64_t h, std::int64_t r, std::int64_t c) {
    return at[index(b, h, r, c)];
  }
  /// The element, that of index 0 where a dimension is 1.
  float broadcast(std::int64_t b, std::int64_t h, std::int64_t r, std::int64_t c) const {
    return at[index(dims[0] == 1 ? 0 : b, dims[1] == 1 ? 0 : h, dims[2] == 1 ? 0 : r,
                    dims[3] == 1 ? 0 : c)];
  }
  std::size_t index(std::int64_t b, std::int64_t h, std::int64_t r, std::int64_t c) const {
    return static_cast<std::size_t>(((b * dims[1] + h) * dims[2] + r) * dims[3] + c);
  }
};

/// Calls f(b, h, r, c) for all indices, in order.
template <class F>
void for_each(const Dims& dims, F&& f) {
  for (std::int64_t b = 0; b < dims[0]; ++b) {
    for (std::int64_t h = 0; h < dims[1]; ++h) {
      for (std::int64_t r = 0; r < dims[2]; ++r) {
        for (std::int64_t c = 0; c < dims[3]; ++c) f(b, h, r, c);
      }
    }
  }
}

/// The elements of a tensor in device memory, or of a number in host memory. `offsets`: where each
/// batch begins and ends, in elements; elements beyond its end do not exist. Throws Error for an
/// address that is not aligned as the shape says, and where CUDA refuses the copy.
Values load(const Shape& shape, const void* address, const std::vector<std::int64_t>& offsets,
            cudaStream_t stream);
/// Writes those that exist, rounded to the type.
void store(const Shape& shape, void* address, const std::vector<std::int64_t>& offsets,
           const Values& values, cudaStream_t stream);
/// Each element as the type holds it.
void round_to(Type type, Values& values);

}  // namespace fst::cudnn_stand_in
