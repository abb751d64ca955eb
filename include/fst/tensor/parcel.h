#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "fst/tensor/tensor.h"

namespace fst {

/// Small arrays that travel together between the host and a device: one copy for all of them, and
/// sending them makes nobody wait. On the CPU both sides are the same memory and nothing is copied.
///
///   const auto [tokens, positions] = parcel.shape<2>({{DType::i32, {n}}, {DType::i32, {n}}});
///   ... write parcel.host<std::int32_t>(tokens) ...
///   parcel.send();
///
/// The sizes alone say where the arrays lie, so parcels of the same sizes have the same addresses
/// unless the memory had to grow in between.
class Parcel {
 public:
  struct Shape {
    DType dtype;
    std::initializer_list<std::int64_t> dims;
  };

  explicit Parcel(const Device& device) : device_(device) {}
  Parcel(Parcel&&) = delete;  // tensors point at device_
  ~Parcel();

  /// Begins anew: the arrays on the device, contents undefined. Waits for the device if what was
  /// sent last may still be on its way.
  template <std::size_t n>
  std::array<Tensor, n> shape(const Shape (&shapes)[n]) {
    std::array<Tensor, n> tensors;
    place(shapes, tensors);
    return tensors;
  }
  /// An array's elements in host memory.
  template <class T>
  T* host(const Tensor& array) const {
    return static_cast<T*>(host_address(array.data<T>()));
  }
  /// What the host has written goes to the device, before anything that is queued later. The host's
  /// side must not be written again before the next shape().
  void send();
  /// Waits for everything queued so far; then the host has what the device had written.
  void receive();

 private:
  void place(std::span<const Shape> shapes, std::span<Tensor> tensors);
  void grow(std::int64_t bytes);
  void release();
  void* host_address(void* device_address) const;

  Device device_;
  std::int64_t bytes_ = 0, used_ = 0;
  void *memory_ = nullptr, *host_ = nullptr;  // one and the same on the CPU
  bool on_its_way_ = false;
  std::uint64_t waits_at_send_ = 0;
};

}  // namespace fst
