#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "fst/tensor/device.h"
#include "fst/tensor/tensor_parallel.h"

namespace fst {

namespace kernels {
struct CudaRecord;
}

/// Work that comes back with the same shapes, such as the steps of decoding. Each piece is named by
/// a key. The first time it is done as it is; the second time what it queues on a GPU is recorded;
/// from then on the record is queued, by one call of the host in place of hundreds. On the CPU it
/// is always done as it is.
///
/// What `work` promises: it queues kernels and exchanges of `unit` and nothing else (no copies to
/// the host, no waiting, no other communication); all numbers that it passes by value follow from
/// the key; what changes from time to time lies in device memory at addresses that follow from the
/// key as well, as Buffers and Parcels of the same sizes have them. Where memory of the device was
/// given back in between, records are made anew.
///
/// An exchange must be recorded, queued as part of a record, or made as it is on all ranks at the
/// same time (NCCL demands it). So with a unit all ranks come with the same keys in the same order,
/// and what is decided here follows from the keys, but for one thing: whether memory was given back
/// is a rank's own matter, whose pieces may be larger or smaller than another's. The ranks ask each
/// other about it, where it matters: before a piece that was done before, if something else was
/// done since they asked last. Between records nothing is given back; where it was nevertheless,
/// this throws Error. A unit whose exchanges cannot be recorded has its work done as it is.
class Recordings {
 public:
  using Key = std::vector<std::int64_t>;

  /// `unit` takes part in the work, null: nobody does; it must outlive this.
  explicit Recordings(const Device& device, const TensorParallel* unit = nullptr)
      : device_(device), unit_(unit), releases_(device.releases()) {}

  void run(const Key& key, const std::function<void()>& work);
  /// Something else was done, which may have given memory back; on all ranks of the unit.
  void interrupted() { agreed_ = false; }

 private:
  struct Record {
    std::shared_ptr<const kernels::CudaRecord> work;  // nullptr: destroyed
    std::function<void()> queued;                     // to be called then; empty without a unit
  };
  struct Entry {
    std::shared_ptr<Record> record;  // nullptr: done once
    std::uint64_t releases = 0;      // of the device, when it was done
    std::uint64_t last_use = 0;
  };

  bool holds(const Key& key);
  void agree();
  void forget_oldest();
  std::shared_ptr<Record> record(const std::function<void()>& work) const;

  Device device_;
  const TensorParallel* unit_;
  std::map<Key, Entry> entries_;
  std::uint64_t uses_ = 0;
  std::uint64_t releases_;  // of the device, when the ranks asked last
  bool agreed_ = false;     // nothing else was done since
};

}  // namespace fst
