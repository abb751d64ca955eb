#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "fst/tensor/device.h"

namespace fst {

namespace kernels {
struct CudaRecord;
}

/// Work that comes back with the same shapes, such as the steps of decoding. Each piece is named by
/// a key. The first time it is done as it is; the second time what it queues on a GPU is recorded;
/// from then on the record is queued, by one call of the host in place of hundreds. On the CPU it
/// is always done as it is.
///
/// What `work` promises: it queues kernels and nothing else (no copies to the host, no waiting, no
/// communication); all numbers that it passes by value follow from the key; what changes from time
/// to time lies in device memory at addresses that follow from the key as well, as Buffers and
/// Parcels of the same sizes have them. Where memory of the device was given back in between,
/// records are made anew.
class Recordings {
 public:
  using Key = std::vector<std::int64_t>;

  explicit Recordings(const Device& device) : device_(device) {}

  void run(const Key& key, const std::function<void()>& work);

 private:
  static constexpr std::uint64_t never = ~std::uint64_t{0};
  struct Entry {
    std::shared_ptr<const kernels::CudaRecord> record;  // nullptr: done once
    std::uint64_t releases = never;                     // of the device, when it was done
    std::uint64_t last_use = 0;
  };

  void forget_oldest();
  std::shared_ptr<const kernels::CudaRecord> record(const std::function<void()>& work) const;

  Device device_;
  std::map<Key, Entry> entries_;
  std::uint64_t uses_ = 0;
};

}  // namespace fst
