#pragma once

#include <functional>
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

  /// Whether the two are queued on the device like kernels and can be recorded with them
  /// (tensor/recordings.h); the same on all ranks. Where not, nobody calls what follows.
  virtual bool recordable() const { return false; }
  /// Whether `mine` is true on all ranks. The ranks meet, on the host.
  virtual bool all_of(bool mine) const { return mine; }
  /// What is called from here on becomes part of a record: it is neither made, nor counted, nor
  /// awaited.
  virtual void begin_record() const {}
  /// The end of it. What it gives is to be called each time the record has been queued, by all
  /// ranks: the movements are counted and, as one, awaited by who waits for the device. `destroy`
  /// destroys the record: it is called before what moves the tensors ends.
  virtual std::function<void()> end_record(const std::function<void()>& /*destroy*/) const {
    return {};
  }
  /// In place of it where recording failed, when nothing of the record is left.
  virtual void fail_record() const {}

 protected:
  TensorParallel() = default;
  TensorParallel(const TensorParallel&) = default;
  TensorParallel& operator=(const TensorParallel&) = default;
};

}  // namespace fst
