#pragma once

#include "kernels/cuda/attention_softmax.h"
#include "kernels/cuda/attention_unit.h"
#include "kernels/cuda/cuda.h"

/// The forward pass of attention: one kernel for packed training, chunked prefill and paged decode,
/// in float32 and by tensor cores.
///
/// A row attends to the keys 0 .. its position. They are walked in ascending order by tiles at
/// absolute positions, [128 j, 128 j + 128). At each tile the maximum is updated, and the sum (16
/// lanes, lane i takes keys i, i + 16, ...) and the output (one chain over keys) shrink with it. At
/// every multiple of 1024 the softmax starts anew; such splits are joined in ascending order by
/// Softmax::join(). Keys that a row does not see are left out or add exact zeros. So which
/// operations make a row, and in which order, is a function of its position: not of the rows beside
/// it, of the chunk that it comes in, or of the schedule, which says only how a block's threads
/// share the work.
///
/// What a block takes at a time is its Work: units of row-head pairs of sequences with several
/// rows, with all of their keys (attention_unit.h); or one part of the only row of a sequence, with
/// the keys of one split (attention_split.h), so that there is nothing to join: join_kernel does
/// that for all parts. The schedules, each in the file that queues it:
///
///   TensorPairs  bfloat16, units: a warp owns 16 pairs, which are the rows of its products
///   TensorRow    bfloat16, parts: rows are keys, then elements of the head; heads are the columns
///   FloatPairs   float32, units: a thread owns four pairs and some keys, then some elements
///   FloatRow     float32, parts: a thread owns four keys, then an element of the head
namespace fst::kernels::gpu::forward {

/// A Schedule is constructed for a unit or part and has
///
///   Element, Work, Shared        of rows and cache; Units or Parts; the block's shared memory
///   threads, step                of a block; keys of a walk(): a tile, or all that a part can have
///   work(shared, arguments)      the block's work, and what need not wait for whether there is any
///   begin()                      loads queries and has keys under way; what a thread carries from
///                                walk to walk, apart from the Schedule lest it leave the registers
///   walk(carried, key)           takes the keys [key, key + step), as many as exist
///   join(carried, limit, first)  for pairs that see more than `limit` keys: joins the split that
///                                ends to those before, unless it is the first, and begins anew
///   write(carried)               normalises and writes
template <class Schedule>
KERNEL(Schedule::threads, 2)
attention_kernel(PARAMETER Arguments<typename Schedule::Element> a) {
  using Work = typename Schedule::Work;
  auto& shared = shared_memory<typename Schedule::Shared>();
  auto work = Schedule::work(shared, a);
  while (work.next()) {
    Schedule block(shared, a, work);
    auto carried = block.begin();
    for (int at = 0; at < work.keys(); at += Schedule::step) {
      const int key = work.first() + at;
      if constexpr (Work::several) {
        if (key > 0 && key % split_keys == 0) block.join(carried, key, key == split_keys);
      }
      block.walk(carried, key);
      if constexpr (!Work::several && Schedule::step == split_keys) break;  // there are no more
    }
    if constexpr (Work::several) {
      if (work.keys() > split_keys) block.join(carried, split_keys, false);  // the last
    }
    block.write(carried);
    if constexpr (!Work::several) break;
  }
}

/// Queues it.
template <class Schedule>
void attend_by(const Cuda& cuda, Arguments<typename Schedule::Element> a) {
  using Work = typename Schedule::Work;
  const dim3 grid = Work::grid(a);
  if constexpr (Work::several) {
    if (a.splits > 1) {
      const std::size_t floats = std::size_t{grid.x} * grid.y * Schedule::joined_floats;
      a.joined = static_cast<float*>(scratch(cuda, floats * sizeof(float)));
    }
  }
  allow_shared(attention_kernel<Schedule>, sizeof(typename Schedule::Shared));
  launch(attention_kernel<Schedule>, grid, dim3(Schedule::threads),
         sizeof(typename Schedule::Shared), cuda.stream, a);
}

/// The sequences of the batch that have several rows; the others are passed over.
template <class T>
void attend_pairs(const Cuda& cuda, const Arguments<T>& arguments);

/// Those that have one row. Where there are several splits, their results go to the arguments'
/// states and values.
template <class T>
void attend_row(const Cuda& cuda, const Arguments<T>& arguments);

}  // namespace fst::kernels::gpu::forward
