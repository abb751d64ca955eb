#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "fst/base/error.h"
#include "fst/tensor/device.h"

#include "kernels/bf16.h"

namespace fst {

enum class DType : std::uint8_t { f32, bf16, f16, f64, i32, i64, u8 };
std::int64_t size_of(DType dtype);
const char* name_of(DType dtype);

/// The C++ type that holds a DType. f16 has none: weights are only read in it.
template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::f32;
}
template <>
constexpr DType dtype_of<kernels::Bf16>() {
  return DType::bf16;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::f64;
}
template <>
constexpr DType dtype_of<std::int32_t>() {
  return DType::i32;
}
template <>
constexpr DType dtype_of<std::int64_t>() {
  return DType::i64;
}
template <>
constexpr DType dtype_of<std::uint8_t>() {
  return DType::u8;
}

/// A typed, shaped view of memory that something else owns; row-major, up to 4 dimensions. Only
/// the first dimension may be strided (a block of columns of a matrix). Copying copies the view.
class Tensor {
 public:
  Tensor() = default;
  /// `row_stride`: elements from one index of dimension 0 to the next; 0: contiguous.
  Tensor(const Device& device, DType dtype, void* data, std::initializer_list<std::int64_t> dims,
         std::int64_t row_stride = 0);

  const Device& device() const { return *device_; }
  DType dtype() const { return dtype_; }
  int rank() const { return rank_; }
  std::int64_t dim(int i) const { return dims_[static_cast<std::size_t>(i)]; }
  std::int64_t size() const;
  std::int64_t row_stride() const { return row_stride_; }
  bool contiguous() const;
  bool empty() const { return data_ == nullptr || size() == 0; }
  /// For messages: "f32 [3, 128]".
  std::string shape() const;

  /// Where the elements lie, in the device's memory. Throws Error if T is not the dtype.
  template <class T>
  T* data() const {
    if (dtype_of<T>() != dtype_) wrong_type(dtype_of<T>());
    return static_cast<T*>(data_);
  }
  void* raw() const { return data_; }

  /// Rows [begin, end) of dimension 0.
  Tensor rows(std::int64_t begin, std::int64_t end) const;
  /// Columns [begin, end) of a matrix; strided.
  Tensor columns(std::int64_t begin, std::int64_t end) const;
  /// [rows, cols] of contiguous elements: row r begins at element begin + r * stride. Strided where
  /// cols < stride.
  Tensor block(std::int64_t begin, std::int64_t rows, std::int64_t cols, std::int64_t stride) const;
  /// The same contiguous elements with other dimensions.
  Tensor view(std::initializer_list<std::int64_t> dims) const;

 private:
  [[noreturn]] void wrong_type(DType wanted) const;
  const Device* device_ = nullptr;
  void* data_ = nullptr;
  DType dtype_ = DType::f32;
  int rank_ = 0;
  std::array<std::int64_t, 4> dims_{};
  std::int64_t row_stride_ = 0;
};

/// Owns device memory, zero-initialised, 64-byte aligned. Movable. Views taken from it keep no
/// ownership and must not outlive it; they stay valid when the Buffer is moved.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Device& device, DType dtype, std::initializer_list<std::int64_t> dims);
  Buffer(Buffer&&) = default;
  Buffer& operator=(Buffer&&) = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() = default;

  Tensor& tensor() { return view_; }
  const Tensor& tensor() const { return view_; }
  template <class T>
  T* data() const {
    return view_.data<T>();
  }
  /// The elements, where the host can read them (Device::on_host).
  template <class T>
  std::span<T> span() const {
    return {view_.data<T>(), static_cast<std::size_t>(view_.size())};
  }
  /// Grows (never shrinks) so that `dims` fit, then shapes the view. Contents become undefined.
  void reserve(const Device& device, DType dtype, std::initializer_list<std::int64_t> dims);

 private:
  struct Free {
    std::shared_ptr<Device> device;
    void operator()(void* p) const { device->release(p); }
  };
  std::shared_ptr<Device> device_;
  std::unique_ptr<void, Free> memory_;
  std::int64_t bytes_ = 0;
  Tensor view_;
};

}  // namespace fst
