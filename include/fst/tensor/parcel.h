#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>

#include "fst/tensor/tensor.h"

namespace fst {

namespace kernels {
struct CudaEvent;
}

/// Small arrays side by side in one piece of device memory, and two pieces of host memory of the
/// same layout, so that the host works on one while the other is on its way. What Parcel and
/// Download have in common.
class StagedArrays {
 public:
  struct Shape {
    DType dtype;
    std::initializer_list<std::int64_t> dims;
  };
  static constexpr int sides = 2;
  /// On the CPU: whether the host's sides are the arrays themselves, or copies of them.
  enum class OnHost { same, copies };

  StagedArrays(const Device& device, OnHost on_host) : device_(device), on_host_(on_host) {}
  StagedArrays(StagedArrays&&) = delete;  // tensors point at device_
  ~StagedArrays() { release(); }

  /// Lays the arrays out anew. Nothing may be on its way that somebody still needs.
  void place(std::span<const Shape> shapes, std::span<Tensor> tensors);
  /// Room for arrays of `bytes` in all, so that it need not grow for them. To be called when
  /// nothing is on its way.
  void reserve(std::int64_t bytes);
  /// What arrays take, for reserve().
  static std::int64_t bytes_of(std::initializer_list<std::int64_t> array_bytes);
  /// Where an array's elements lie in host memory.
  void* host(const Tensor& array, int side) const;
  /// Queue the copy of a side.
  void send(int side);
  void fetch(int side);
  /// Waits for the copy of a side that was queued last, and for nothing that was queued later.
  void wait(int side) const;

 private:
  struct Side {
    void* memory = nullptr;
    std::shared_ptr<kernels::CudaEvent> copied;  // marked behind the last copy
  };
  Side& at(int side) { return sides_[static_cast<std::size_t>(side)]; }
  const Side& at(int side) const { return sides_[static_cast<std::size_t>(side)]; }
  bool copies() const { return !device_.on_host() || on_host_ == OnHost::copies; }
  void grow(std::int64_t bytes);
  void release();
  void* allocate_host(std::int64_t bytes) const;
  void mark(Side& side) const;

  Device device_;
  OnHost on_host_;
  std::int64_t bytes_ = 0, used_ = 0;
  void* memory_ = nullptr;
  std::array<Side, sides> sides_;
};

/// Small arrays that travel together from the host to a device: one copy for all of them, and
/// sending them makes nobody wait, as long as the host is no more than two parcels ahead. On the
/// CPU both sides are the same memory and nothing is copied.
///
///   const auto [tokens, positions] = parcel.shape<2>({{DType::i32, {n}}, {DType::i32, {n}}});
///   ... write parcel.host<std::int32_t>(tokens) ...
///   parcel.send();
///
/// The sizes alone say where the arrays lie, so parcels of the same sizes have the same addresses
/// unless the memory had to grow in between.
class Parcel {
 public:
  using Shape = StagedArrays::Shape;

  explicit Parcel(const Device& device) : arrays_(device, StagedArrays::OnHost::same) {}

  /// Begins anew: the arrays on the device, contents undefined. Waits where the parcel before the
  /// last one may still be on its way.
  template <std::size_t n>
  std::array<Tensor, n> shape(const Shape (&shapes)[n]) {
    std::array<Tensor, n> tensors;
    begin();
    arrays_.place(shapes, tensors);
    return tensors;
  }
  /// As StagedArrays.
  void reserve(std::int64_t bytes) { arrays_.reserve(bytes); }
  /// An array's elements in host memory.
  template <class T>
  T* host(const Tensor& array) const {
    return static_cast<T*>(arrays_.host(array, side_));
  }
  /// What the host has written goes to the device, before anything that is queued later. The host's
  /// side must not be written again before the next shape().
  void send() { arrays_.send(side_); }

 private:
  void begin();

  StagedArrays arrays_;
  int side_ = 0;
};

/// Small arrays that a device writes again and again and the host reads later: one copy for all of
/// them into one of two places, while the device goes on.
class Download {
 public:
  using Shape = StagedArrays::Shape;
  static constexpr int places = StagedArrays::sides;

  explicit Download(const Device& device) : arrays_(device, StagedArrays::OnHost::copies) {}

  /// The arrays on the device, contents undefined; once.
  template <std::size_t n>
  std::array<Tensor, n> shape(const Shape (&shapes)[n]) {
    std::array<Tensor, n> tensors;
    arrays_.place(shapes, tensors);
    return tensors;
  }
  /// As StagedArrays; before shape().
  void reserve(std::int64_t bytes) { arrays_.reserve(bytes); }
  /// Queues the copy of what the arrays hold by then. Waits where the last copy to this place is
  /// still on its way.
  void fetch(int place) {
    arrays_.wait(place);
    arrays_.fetch(place);
  }
  /// Waits until the copy is there. What is queued behind it goes on.
  void wait(int place) const { arrays_.wait(place); }
  /// An array's elements in a place of the host.
  template <class T>
  const T* host(const Tensor& array, int place) const {
    return static_cast<const T*>(arrays_.host(array, place));
  }

 private:
  StagedArrays arrays_;
};

}  // namespace fst
