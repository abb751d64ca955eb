#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "fst/tensor/tensor.h"

namespace fst {

/// What a HostView holds before it is written.
enum class Contents { read, undefined };

/// The elements of a contiguous tensor in host memory: the tensor's own where the host can reach
/// it, else a copy. What is written reaches a device by store(). T: the tensor's type, or std::byte
/// for the bytes of any. The tensor's memory must outlive the view.
template <class T>
class HostView {
  using Value = std::remove_const_t<T>;

 public:
  explicit HostView(const Tensor& x, Contents contents = Contents::read) : device_(&x.device()) {
    if (!x.contiguous()) throw Error("host view: " + x.shape() + " is not contiguous");
    if constexpr (std::is_same_v<Value, std::byte>) {
      device_data_ = static_cast<Value*>(x.raw());
      size_ = static_cast<std::size_t>(x.size() * size_of(x.dtype()));
    } else {
      device_data_ = x.data<Value>();
      size_ = static_cast<std::size_t>(x.size());
    }
    if (device_->on_host()) return;
    copy_.resize(size_);
    if (contents == Contents::read) device_->copy_out(copy_.data(), device_data_, bytes());
  }

  T* data() { return device_->on_host() ? device_data_ : copy_.data(); }
  const Value* data() const { return device_->on_host() ? device_data_ : copy_.data(); }
  std::size_t size() const { return size_; }
  std::span<T> span() & { return {data(), size_}; }
  std::span<const Value> span() const& { return {data(), size_}; }
  std::span<T> span() && = delete;  // would outlive the copy
  T& operator[](std::int64_t i) { return data()[i]; }
  const Value& operator[](std::int64_t i) const { return data()[i]; }

  /// Copies what was written to the device.
  void store() {
    static_assert(!std::is_const_v<T>);
    if (!device_->on_host()) device_->copy_in(device_data_, copy_.data(), bytes());
  }

 private:
  std::int64_t bytes() const { return static_cast<std::int64_t>(size_ * sizeof(Value)); }
  const Device* device_;
  Value* device_data_;
  std::size_t size_;
  std::vector<Value> copy_;
};

/// Fills a contiguous tensor from host memory. Throws Error if the sizes differ.
template <class T>
void copy_in(Tensor& to, std::span<const T> from) {
  if (static_cast<std::size_t>(to.size()) != from.size() || !to.contiguous()) {
    throw Error("copy in: " + std::to_string(from.size()) + " elements do not fit " + to.shape());
  }
  if (from.empty()) return;
  to.device().copy_in(to.data<T>(), from.data(), static_cast<std::int64_t>(from.size_bytes()));
}
/// The elements of a contiguous tensor.
template <class T>
void copy_out(std::span<T> to, const Tensor& from) {
  if (static_cast<std::size_t>(from.size()) != to.size() || !from.contiguous()) {
    throw Error("copy out: " + from.shape() + " does not fit " + std::to_string(to.size()) +
                " elements");
  }
  if (to.empty()) return;
  from.device().copy_out(to.data(), from.data<T>(), static_cast<std::int64_t>(to.size_bytes()));
}

/// The same for an f32 or bf16 tensor; in bf16 the values are rounded to nearest even.
void copy_in_rounded(Tensor& to, std::span<const float> from);

/// The elements of a contiguous f32 or bf16 tensor as floats in host memory: the tensor's own where
/// they are float32 and the host can reach them. The tensor's memory must outlive this.
class HostFloats {
 public:
  explicit HostFloats(const Tensor& x);
  std::span<const float> span() const& { return own_ ? own_->span() : std::span(widened_); }
  std::span<const float> span() && = delete;

 private:
  std::optional<HostView<const float>> own_;
  std::vector<float> widened_;
};

}  // namespace fst
