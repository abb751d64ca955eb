#include "fst/tensor/recordings.h"

#include <algorithm>

#include "fst/base/error.h"

#include "cuda_of.h"

namespace fst {

namespace {

// A record of a step of a large model has some 500 kernels, about a megabyte.
constexpr std::size_t most_entries = 128;

}  // namespace

void Recordings::run(const Key& key, const std::function<void()>& work) {
  if (device_.on_host()) return work();
  const kernels::Cuda& cuda = *cuda_of(device_);
  const bool known = entries_.contains(key);
  if (!known && entries_.size() == most_entries) forget_oldest();
  Entry& entry = entries_[key];
  entry.last_use = ++uses_;
  const bool valid = known && entry.releases == device_.releases();
  if (!valid) {
    entry.record = nullptr;
    work();
    entry.releases = device_.releases();
    return;
  }
  if (entry.record == nullptr) entry.record = record(work);
  kernels::queue_record(cuda, *entry.record);
}

std::shared_ptr<const kernels::CudaRecord> Recordings::record(
    const std::function<void()>& work) const {
  const kernels::Cuda& cuda = *cuda_of(device_);
  kernels::begin_recording(cuda);
  try {
    work();
  } catch (...) {
    kernels::end_recording(cuda);
    throw;
  }
  auto made = kernels::end_recording(cuda);
  if (made == nullptr) throw Error("recording: the work waited, or changed the device's memory");
  return made;
}

void Recordings::forget_oldest() {
  entries_.erase(std::min_element(
      entries_.begin(), entries_.end(),
      [](const auto& a, const auto& b) { return a.second.last_use < b.second.last_use; }));
}

}  // namespace fst
