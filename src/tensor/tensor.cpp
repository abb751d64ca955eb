#include "fst/tensor/tensor.h"

namespace fst {

std::int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::u8:
      return 1;
  }
  return 0;
}

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::f16:
      return "f16";
    case DType::f64:
      return "f64";
    case DType::i32:
      return "i32";
    case DType::i64:
      return "i64";
    case DType::u8:
      return "u8";
  }
  return "unknown";
}

Tensor::Tensor(const Device& device, DType dtype, void* data,
               std::initializer_list<std::int64_t> dims, std::int64_t row_stride)
    : device_(&device), data_(data), dtype_(dtype), rank_(static_cast<int>(dims.size())) {
  if (dims.size() > 4) throw Error("tensor: more than 4 dimensions");
  std::size_t i = 0;
  for (const std::int64_t d : dims) dims_[i++] = d;
  std::int64_t inner = 1;
  for (int d = 1; d < rank_; ++d) inner *= dim(d);
  row_stride_ = row_stride == 0 ? inner : row_stride;
}

std::int64_t Tensor::size() const {
  if (rank_ == 0) return 0;
  std::int64_t n = 1;
  for (int d = 0; d < rank_; ++d) n *= dim(d);
  return n;
}

bool Tensor::contiguous() const {
  std::int64_t inner = 1;
  for (int d = 1; d < rank_; ++d) inner *= dim(d);
  return row_stride_ == inner || dim(0) <= 1;
}

std::string Tensor::shape() const {
  std::string text = name_of(dtype_);
  text += " [";
  for (int d = 0; d < rank_; ++d) text += (d == 0 ? "" : ", ") + std::to_string(dim(d));
  return text + "]";
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t end) const {
  if (begin < 0 || end < begin || end > dim(0)) {
    throw Error("tensor: rows " + std::to_string(begin) + " to " + std::to_string(end) + " of " +
                shape());
  }
  Tensor view = *this;
  view.data_ = static_cast<char*>(data_) + begin * row_stride_ * size_of(dtype_);
  view.dims_[0] = end - begin;
  return view;
}

Tensor Tensor::columns(std::int64_t begin, std::int64_t end) const {
  if (rank_ != 2 || begin < 0 || end < begin || end > dim(1)) {
    throw Error("tensor: columns " + std::to_string(begin) + " to " + std::to_string(end) + " of " +
                shape());
  }
  Tensor view = *this;
  view.data_ = static_cast<char*>(data_) + begin * size_of(dtype_);
  view.dims_[1] = end - begin;
  return view;
}

Tensor Tensor::block(std::int64_t begin, std::int64_t rows, std::int64_t cols,
                     std::int64_t stride) const {
  const std::int64_t end = rows == 0 ? begin : begin + (rows - 1) * stride + cols;
  if (!contiguous() || begin < 0 || rows < 0 || cols < 0 || stride < cols || end > size()) {
    throw Error("tensor: no block of " + std::to_string(rows) + " rows of " + std::to_string(cols) +
                " elements, " + std::to_string(stride) + " apart, at element " +
                std::to_string(begin) + " of " + shape());
  }
  char* const first = static_cast<char*>(data_) + begin * size_of(dtype_);
  return {*device_, dtype_, first, {rows, cols}, stride};
}

Tensor Tensor::view(std::initializer_list<std::int64_t> dims) const {
  Tensor other(*device_, dtype_, data_, dims);
  if (!contiguous() || other.size() != size()) {
    throw Error("tensor: cannot view " + shape() + " as " + other.shape());
  }
  return other;
}

void Tensor::wrong_type(DType wanted) const {
  throw Error(std::string("tensor: wanted ") + name_of(wanted) + ", found " + shape());
}

Buffer::Buffer(const Device& device, DType dtype, std::initializer_list<std::int64_t> dims) {
  reserve(device, dtype, dims);
  if (bytes_ > 0) device_->zero(memory_.get(), bytes_);
}

void Buffer::reserve(const Device& device, DType dtype, std::initializer_list<std::int64_t> dims) {
  if (!device_) device_ = std::make_shared<Device>(device);
  std::int64_t elements = 1;
  for (const std::int64_t d : dims) elements *= d;
  const std::int64_t wanted = elements * size_of(dtype);
  if (wanted > bytes_) {
    memory_ = std::unique_ptr<void, Free>(device_->allocate(wanted), Free{device_});
    bytes_ = wanted;
  }
  view_ = Tensor(*device_, dtype, memory_.get(), dims);
}

}  // namespace fst
