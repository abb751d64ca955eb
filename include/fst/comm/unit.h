#pragma once

#include "fst/comm/communicator.h"
#include "fst/tensor/tensor_parallel.h"

namespace fst {

/// TensorParallel over a communicator, usually World::unit(role). Floats are only moved between
/// ranks and added here: each rank gets one slice of all parts, joins it, and the joined slices are
/// gathered; what is small is sent whole, in one round instead of two. With one member nothing
/// happens. Collective over `comm`, which must outlive this.
class Unit final : public TensorParallel {
 public:
  explicit Unit(const Communicator& comm) : comm_(&comm) {}

  int rank() const override { return comm_->rank(); }
  int size() const override { return comm_->size(); }
  void sum(Tensor& x, std::string_view what) const override;
  /// Takes at once what sums of up to `elements` need, and what that is.
  void reserve(const Device& device, std::int64_t elements) const;
  static std::int64_t bytes_of(std::int64_t ranks, std::int64_t elements);
  void gather(Tensor& all, const Tensor& mine, std::string_view what) const override;

  /// Where tensors travel by NCCL.
  bool recordable() const override;
  bool all_of(bool mine) const override;
  void begin_record() const override;
  std::function<void()> end_record(const std::function<void()>& destroy) const override;
  void fail_record() const override;

 private:
  void sum_slices(Tensor& x, std::string_view what) const;
  void take_first(Tensor& x) const;

  const Communicator* comm_;
  mutable Buffer parts_;  // what came from the other ranks
};

}  // namespace fst
