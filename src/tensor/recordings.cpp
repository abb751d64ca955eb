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
  if (device_.on_host() || (unit_ != nullptr && !unit_->recordable())) return work();
  if (!holds(key)) {
    entries_.erase(key);
    work();
    if (entries_.size() == most_entries) forget_oldest();
    entries_[key] = {nullptr, device_.releases(), ++uses_};
    return interrupted();
  }
  Entry& entry = entries_[key];
  entry.last_use = ++uses_;
  if (entry.record == nullptr) entry.record = record(work);
  kernels::queue_record(*cuda_of(device_), *entry.record->work);
  if (entry.record->queued) entry.record->queued();
}

/// Whether the piece was done, addresses still mean what they meant then, and nobody has destroyed
/// its record.
bool Recordings::holds(const Key& key) {
  if (!entries_.contains(key)) return false;
  if (unit_ == nullptr) return entries_[key].releases == device_.releases();
  agree();
  const auto entry = entries_.find(key);
  if (entry == entries_.end()) return false;
  return entry->second.record == nullptr || entry->second.record->work != nullptr;
}

/// What a rank has given back since the ranks asked last voids the records of all.
void Recordings::agree() {
  const std::uint64_t releases = device_.releases();
  if (agreed_) {
    if (releases == releases_) return;
    throw Error("recording: memory was given back between two recorded pieces of work");
  }
  if (!unit_->all_of(releases == releases_)) entries_.clear();
  releases_ = releases;
  agreed_ = true;
}

std::shared_ptr<Recordings::Record> Recordings::record(const std::function<void()>& work) const {
  const kernels::Cuda& cuda = *cuda_of(device_);
  auto made = std::make_shared<Record>();
  kernels::begin_recording(cuda);
  try {
    if (unit_ != nullptr) unit_->begin_record();
    work();
  } catch (...) {
    static_cast<void>(kernels::end_recording(cuda));
    if (unit_ != nullptr) unit_->fail_record();
    throw;
  }
  made->work = kernels::end_recording(cuda);
  if (made->work == nullptr) {
    if (unit_ != nullptr) unit_->fail_record();
    throw Error("recording: the work waited, or changed the device's memory");
  }
  if (unit_ != nullptr) {
    made->queued = unit_->end_record([record = std::weak_ptr(made)] {
      if (const auto alive = record.lock()) alive->work = nullptr;
    });
  }
  return made;
}

void Recordings::forget_oldest() {
  entries_.erase(std::min_element(
      entries_.begin(), entries_.end(),
      [](const auto& a, const auto& b) { return a.second.last_use < b.second.last_use; }));
}

}  // namespace fst
