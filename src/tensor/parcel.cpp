#include "fst/tensor/parcel.h"

#include <cstring>

#include "cuda_of.h"

namespace fst {

namespace {

constexpr std::int64_t alignment = 64;

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + alignment - 1) / alignment * alignment;
}

}  // namespace

void StagedArrays::release() {
  for (Side& side : sides_) {
    if (side.memory == nullptr || side.memory == memory_) continue;
    if (device_.on_host()) {
      device_.release(side.memory);
    } else {
      kernels::release_host(*cuda_of(device_), side.memory);
    }
    side.memory = nullptr;
  }
  if (memory_ != nullptr) device_.release(memory_);
  memory_ = nullptr;
  bytes_ = 0;
}

void* StagedArrays::allocate_host(std::int64_t bytes) const {
  return device_.on_host()
             ? device_.allocate(bytes)
             : kernels::allocate_host(*cuda_of(device_), static_cast<std::size_t>(bytes));
}

void StagedArrays::grow(std::int64_t bytes) {
  release();
  memory_ = device_.allocate(bytes);
  bytes_ = bytes;
  for (Side& side : sides_) side.memory = copies() ? allocate_host(bytes) : memory_;
}

void StagedArrays::place(std::span<const Shape> shapes, std::span<Tensor> tensors) {
  used_ = 0;
  for (const Shape& shape : shapes) {
    used_ +=
        aligned(Tensor(device_, shape.dtype, nullptr, shape.dims).size() * size_of(shape.dtype));
  }
  if (used_ > bytes_) grow(2 * used_);
  char* at = static_cast<char*>(memory_);
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    tensors[i] = Tensor(device_, shapes[i].dtype, at, shapes[i].dims);
    at += aligned(tensors[i].size() * size_of(shapes[i].dtype));
  }
}

void StagedArrays::reserve(std::int64_t bytes) {
  if (bytes > bytes_) grow(bytes);
}

std::int64_t StagedArrays::bytes_of(std::initializer_list<std::int64_t> array_bytes) {
  std::int64_t bytes = 0;
  for (const std::int64_t array : array_bytes) bytes += aligned(array);
  return bytes;
}

void* StagedArrays::host(const Tensor& array, int side) const {
  return static_cast<char*>(at(side).memory) +
         (static_cast<const char*>(array.raw()) - static_cast<const char*>(memory_));
}

void StagedArrays::mark(Side& side) const {
  const kernels::Cuda& cuda = *cuda_of(device_);
  if (side.copied == nullptr) side.copied = kernels::make_event(cuda);
  kernels::mark(cuda, *side.copied);
}

void StagedArrays::send(int side) {
  if (device_.on_host() || used_ == 0) return;
  kernels::queue_to_device(*cuda_of(device_), memory_, at(side).memory,
                           static_cast<std::size_t>(used_));
  mark(at(side));
}

void StagedArrays::fetch(int side) {
  if (used_ == 0) return;
  const auto bytes = static_cast<std::size_t>(used_);
  if (device_.on_host()) {
    std::memcpy(at(side).memory, memory_, bytes);
    return;
  }
  kernels::queue_to_host(*cuda_of(device_), at(side).memory, memory_, bytes);
  mark(at(side));
}

void StagedArrays::wait(int side) const {
  if (at(side).copied != nullptr) kernels::wait(*cuda_of(device_), *at(side).copied);
}

void Parcel::begin() {
  side_ = (side_ + 1) % StagedArrays::sides;
  arrays_.wait(side_);
}

}  // namespace fst
