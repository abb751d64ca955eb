#include "fst/tensor/parcel.h"

#include "cuda_of.h"

namespace fst {

namespace {

constexpr std::int64_t alignment = 64;

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + alignment - 1) / alignment * alignment;
}

}  // namespace

Parcel::~Parcel() {
  release();
}

void Parcel::release() {
  if (memory_ == nullptr) return;
  if (!device_.on_host()) kernels::release_host(*cuda_of(device_), host_);
  device_.release(memory_);
  memory_ = host_ = nullptr;
  bytes_ = 0;
}

void Parcel::grow(std::int64_t bytes) {
  release();
  const std::int64_t wanted = 2 * bytes;
  memory_ = device_.allocate(wanted);
  if (memory_ == nullptr) {
    throw Error("out of memory: " + std::to_string(wanted) + " bytes wanted on " +
                device_.description());
  }
  bytes_ = wanted;
  host_ = device_.on_host()
              ? memory_
              : kernels::allocate_host(*cuda_of(device_), static_cast<std::size_t>(wanted));
}

void Parcel::place(std::span<const Shape> shapes, std::span<Tensor> tensors) {
  if (on_its_way_ && kernels::history(*cuda_of(device_)).waits == waits_at_send_) {
    device_.synchronize();
  }
  on_its_way_ = false;
  used_ = 0;
  for (const Shape& shape : shapes) {
    used_ +=
        aligned(Tensor(device_, shape.dtype, nullptr, shape.dims).size() * size_of(shape.dtype));
  }
  if (used_ > bytes_) grow(used_);
  char* at = static_cast<char*>(memory_);
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    tensors[i] = Tensor(device_, shapes[i].dtype, at, shapes[i].dims);
    at += aligned(tensors[i].size() * size_of(shapes[i].dtype));
  }
}

void* Parcel::host_address(void* device_address) const {
  return static_cast<char*>(host_) +
         (static_cast<char*>(device_address) - static_cast<char*>(memory_));
}

void Parcel::send() {
  if (device_.on_host() || used_ == 0) return;
  kernels::queue_to_device(*cuda_of(device_), memory_, host_, static_cast<std::size_t>(used_));
  on_its_way_ = true;
  waits_at_send_ = kernels::history(*cuda_of(device_)).waits;
}

void Parcel::receive() {
  if (device_.on_host()) return;
  if (used_ > 0) {
    kernels::queue_to_host(*cuda_of(device_), host_, memory_, static_cast<std::size_t>(used_));
  }
  device_.synchronize();
}

}  // namespace fst
