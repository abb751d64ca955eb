#include "nccl_channel.h"

#include <utility>

#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/tensor/device_memory.h"

namespace fst {

namespace {

nccl::Type type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return nccl::f32;
    case DType::bf16:
      return nccl::bf16;
    case DType::f16:
      return nccl::f16;
    case DType::f64:
      return nccl::f64;
    case DType::i32:
      return nccl::i32;
    case DType::i64:
      return nccl::i64;
    case DType::u8:
      return nccl::u8;
  }
  throw Error("NCCL has no such type of elements");
}

std::size_t count_of(const Tensor& x) {
  return static_cast<std::size_t>(x.size());
}

}  // namespace

NcclChannel::NcclChannel(const NcclLibrary& library, const Communicator::Channel& channel,
                         const nccl::UniqueId& id)
    : library_(&library), channel_(&channel), place_("at the start of its communicator") {
  nccl::Config config;
  config.blocking = 0;
  try {
    check(library_->api.comm_init_rank_config(&comm_, channel.size, id, channel.rank, &config),
          "ncclCommInitRankConfig");
    channel_->poll(
        channel_->next("start", "NCCL"), [this] { return taken(); }, Pace::patient);
  } catch (...) {
    abort();
    throw;
  }
}

NcclChannel::~NcclChannel() {
  try {
    if (device_) await_exchanges(*device_);
  } catch (const std::exception& error) {
    log::warn(error.what());
  }
  if (comm_ == nullptr) return;
  destroy_records();
  const nccl::Result result = library_->api.comm_destroy(comm_);
  if (result != nccl::success && result != nccl::in_progress) {
    log::warn(std::string("ncclCommDestroy: ") + library_->api.get_error_string(result));
  }
}

void NcclChannel::transfer(std::span<const OutgoingTensor> out, std::span<const IncomingTensor> in,
                           std::string_view what) {
  const NcclApi& api = library_->api;
  const Device* device = nullptr;  // stays so where this rank has nothing to move
  for (const IncomingTensor& piece : in) {
    if (piece.peer != channel_->rank && !piece.x.empty()) device = &piece.x.device();
  }
  for (const OutgoingTensor& piece : out) {
    for (const int peer : piece.peers) {
      if (peer != channel_->rank && !piece.x.empty()) device = &piece.x.device();
    }
  }
  run("transfer", what, device, [&] {
    for (const IncomingTensor& piece : in) {
      if (piece.peer == channel_->rank || piece.x.empty()) continue;
      const DeviceMemory to = device_memory(piece.x);
      check(api.recv(to.address, count_of(piece.x), type_of(piece.x.dtype()), piece.peer, comm_,
                     to.stream),
            "ncclRecv");
    }
    for (const OutgoingTensor& piece : out) {
      for (const int peer : piece.peers) {
        if (peer == channel_->rank || piece.x.empty()) continue;
        const DeviceMemory from = device_memory(piece.x);
        check(api.send(from.address, count_of(piece.x), type_of(piece.x.dtype()), peer, comm_,
                       from.stream),
              "ncclSend");
      }
    }
  });
}

void NcclChannel::all_gather_into(const Tensor& all, const Tensor& mine, std::string_view what) {
  run("all_gather_into", what, &all.device(), [&] {
    const DeviceMemory from = device_memory(mine), to = device_memory(all);
    check(library_->api.all_gather(from.address, to.address, count_of(mine), type_of(mine.dtype()),
                                   comm_, to.stream),
          "ncclAllGather");
  });
}

void NcclChannel::broadcast(const Tensor& x, int root, std::string_view what) {
  run("broadcast", what, &x.device(), [&] {
    const DeviceMemory at = device_memory(x);
    check(library_->api.broadcast(at.address, at.address, count_of(x), type_of(x.dtype()), root,
                                  comm_, at.stream),
          "ncclBroadcast");
  });
}

template <class Queue>
void NcclChannel::run(const char* operation, std::string_view what, const Device* device,
                      Queue&& queue) {
  if (comm_ == nullptr) throw Error("NCCL was aborted before the " + std::string(operation));
  const Wait wait = recording_ == nullptr ? channel_->next(operation, what)
                                          : Wait{operation, what, channel_->waits + 1};
  if (device == nullptr) return;
  device_ = *device;
  if (recording_ != nullptr) return record(wait, queue);
  try {
    at(wait);
    group(queue);
    channel_->poll(
        wait, [this] { return taken(); }, Pace::device);
    note(wait);
  } catch (...) {
    abandon_exchanges(*device);
    abort();
    throw;
  }
}

/// What fails here spoils the record, and fail_record() ends the communicator.
template <class Queue>
void NcclChannel::record(const Wait& wait, Queue&& queue) {
  at(wait);
  group(queue);
  channel_->poll(
      wait, [this] { return taken(); }, Pace::device);
  if (recording_->first.empty()) recording_->first = wait.what;
  recording_->last = wait.what;
}

void NcclChannel::begin_record() {
  recording_ = std::make_shared<Record>();
  channel_->recorded = &recording_->traffic;
}

std::function<void()> NcclChannel::end_record(const std::function<void()>& destroy) {
  channel_->recorded = nullptr;
  recording_->destroy = destroy;
  std::erase_if(records_, [](const auto& record) { return record.expired(); });
  records_.push_back(recording_);
  return [this, record = std::exchange(recording_, nullptr)] { note_replay(*record); };
}

void NcclChannel::fail_record() {
  channel_->recorded = nullptr;
  recording_ = nullptr;
  if (device_) abandon_exchanges(*device_);
  abort();
}

std::string NcclChannel::Record::what() const {
  return "a recorded step, " + first + " to " + last;
}

void NcclChannel::note_replay(const Record& record) {
  for (const auto& [what, moved] : record.traffic) channel_->traffic[what] += moved;
  const std::string what = record.what();
  const Wait wait = channel_->next("replay", what);
  if (!record.first.empty()) note(wait);
}

void NcclChannel::destroy_records() {
  for (const auto& record : std::exchange(records_, {})) {
    if (const auto alive = record.lock()) alive->destroy();
  }
}

template <class Queue>
void NcclChannel::group(Queue&& queue) {
  check(library_->api.group_start(), "ncclGroupStart");
  try {
    queue();
  } catch (...) {
    static_cast<void>(library_->api.group_end());  // closes it; what came first is told
    throw;
  }
  check(library_->api.group_end(), "ncclGroupEnd");
}

/// The exchange is on the stream: how its end is awaited.
void NcclChannel::note(const Wait& wait) {
  const auto await = [this, what = std::string(wait.what), operation = wait.operation,
                      number = wait.number](const std::function<bool()>& ended) {
    const Wait noted{operation, what, number};
    at(noted);
    const auto done = [&] {
      if (ended()) return true;
      static_cast<void>(taken());  // throws what NCCL has met
      return false;
    };
    channel_->poll(noted, done, Pace::device);
    channel_->note_completed(noted);
  };
  note_exchange(*device_, await, [this] { abort(); });
}

void NcclChannel::at(const Wait& wait) {
  place_ = "at the " + std::string(wait.operation) + " of " + std::string(wait.what);
}

/// Whether NCCL has queued what it was told, which it does on a thread of its own. Throws what it
/// has met, in exchanges under way too.
bool NcclChannel::taken() const {
  nccl::Result state = nccl::success;
  check(library_->api.comm_get_async_error(comm_, &state), "ncclCommGetAsyncError");
  if (state == nccl::in_progress) return false;
  check(state, "NCCL");
  return true;
}

void NcclChannel::check(nccl::Result result, const char* call) const {
  if (result == nccl::success || result == nccl::in_progress) return;
  const char* const last = library_->api.get_last_error(comm_);
  std::string text = std::string(call) + ": " + library_->api.get_error_string(result);
  if (last != nullptr && *last != '\0') text += " (" + std::string(last) + ")";
  throw Error(text + ", " + place_ + " (" + channel_->place() + ", NCCL " +
              library_->version_text() + ")");
}

/// After a failure, which is what the caller reports: what this meets is no news.
void NcclChannel::abort() {
  if (comm_ == nullptr) return;
  destroy_records();
  const nccl::Result result = library_->api.comm_abort(comm_);
  if (result != nccl::success && result != nccl::in_progress) log::warn("ncclCommAbort failed");
  comm_ = nullptr;
}

}  // namespace fst
