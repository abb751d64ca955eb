#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fst/tensor/tensor_parallel.h"

namespace fst::roofline {

/// Rank 0 of a unit whose other ranks do not exist: notes what would be exchanged, moves nothing.
class ListedUnit final : public TensorParallel {
 public:
  struct Exchange {
    const char* kind;  // "sum" or "gather"
    std::string what;
    std::int64_t bytes;  // of the result, on every rank
  };

  explicit ListedUnit(int size) : size_(size) {}
  int rank() const override { return 0; }
  int size() const override { return size_; }
  void sum(Tensor& x, std::string_view what) const override { note("sum", x, what); }
  void gather(Tensor& all, const Tensor& /*mine*/, std::string_view what) const override {
    note("gather", all, what);
  }
  std::vector<Exchange> take() { return std::exchange(exchanges_, {}); }

 private:
  void note(const char* kind, const Tensor& result, std::string_view what) const {
    exchanges_.push_back({kind, std::string(what), result.size() * size_of(result.dtype())});
  }

  int size_;
  mutable std::vector<Exchange> exchanges_;
};

}  // namespace fst::roofline
