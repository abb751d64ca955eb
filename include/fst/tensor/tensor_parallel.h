#pragma once

#include <string_view>

#include "fst/tensor/tensor.h"

namespace fst {

/// A group of ranks that hold one model together, each a shard of every large matrix, as the model
/// sees it: two movements of tensors. Who moves them lies above (comm/unit.h), so that the model
/// builds without MPI. All members call the same functions in the same order with the same shapes.
/// One call at a time: an implementation may keep working memory.
class TensorParallel {
 public:
  virtual ~TensorParallel() = default;

  virtual int rank() const = 0;
  /// 1, 2, 4 or 8.
  virtual int size() const = 0;
  /// x, f32 and contiguous, holds this rank's part of a sum; afterwards it holds, on every rank,
  /// the parts joined by the halving tree in rank order: ((0+1)+(2+3))+((4+5)+(6+7)), one rounded
  /// addition per join. Where a part is itself a tree of leaves, the result is the tree of all.
  /// `what` names the thing for messages.
  virtual void sum(Tensor& x, std::string_view what) const = 0;
  /// all = the ranks' `mine` one after the other, in rank order. Both contiguous, of one dtype;
  /// `all` has size() times the elements of `mine`, and they do not overlap.
  virtual void gather(Tensor& all, const Tensor& mine, std::string_view what) const = 0;

 protected:
  TensorParallel() = default;
  TensorParallel(const TensorParallel&) = default;
  TensorParallel& operator=(const TensorParallel&) = default;
};

}  // namespace fst
