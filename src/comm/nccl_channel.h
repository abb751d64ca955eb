#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "channel.h"
#include "nccl_api.h"

namespace fst {

/// This rank's end of an NCCL communicator over the members of a channel, each of which has a GPU
/// of its own. Moves device tensors and never adds any. A call returns when NCCL has queued it on
/// the device's stream: what is queued later finds the tensors moved, and the host goes on. The
/// next one who waits for the device first awaits the exchanges that are under way, looking whether
/// each has ended, whether NCCL has met an error and whether the channel's deadline is over. What
/// goes wrong aborts the communicators of the device, which frees it of NCCL's kernels, and throws
/// Error.
class NcclChannel {
 public:
  /// Collective over the channel; `id` is one and the same on all members.
  NcclChannel(const NcclLibrary& library, const Communicator::Channel& channel,
              const nccl::UniqueId& id);
  NcclChannel(const NcclChannel&) = delete;
  NcclChannel& operator=(const NcclChannel&) = delete;
  ~NcclChannel();

  /// As Communicator::transfer, pieces of a rank to itself left out. All other pieces move at the
  /// same time, so their order among different ranks does not matter.
  void transfer(std::span<const OutgoingTensor> out, std::span<const IncomingTensor> in,
                std::string_view what);
  /// As Communicator::all_gather_into, for the same number of elements on every member.
  void all_gather_into(const Tensor& all, const Tensor& mine, std::string_view what);
  /// As Communicator::broadcast.
  void broadcast(const Tensor& x, int root, std::string_view what);

  /// As TensorParallel's: calls between them are recorded. A record and its replay are one wait of
  /// the channel, whatever it holds. NCCL ends a communicator, aborted or not, only when no graph
  /// with one of its calls is left, and waits for that without end; so records are destroyed first.
  void begin_record();
  std::function<void()> end_record(const std::function<void()>& destroy);
  void fail_record();

 private:
  /// What is known of the calls of a record.
  struct Record {
    std::string first, last;  // what they move
    TrafficTable traffic;
    std::function<void()> destroy;
    std::string what() const;
  };
  /// Queues calls of NCCL as a group.
  template <class Queue>
  void run(const char* operation, std::string_view what, const Device* device, Queue&& queue);
  template <class Queue>
  void record(const Wait& wait, Queue&& queue);
  template <class Queue>
  void group(Queue&& queue);
  void note_replay(const Record& record);
  void destroy_records();
  void note(const Wait& wait);
  void at(const Wait& wait);
  void check(nccl::Result result, const char* call) const;
  bool taken() const;
  void abort();

  const NcclLibrary* library_;
  const Communicator::Channel* channel_;
  nccl::Comm comm_ = nullptr;
  std::optional<Device> device_;                // of the last exchange
  std::string place_;                           // for messages: what is being done
  std::shared_ptr<Record> recording_;           // nullptr: calls are made
  std::vector<std::weak_ptr<Record>> records_;  // as long as they are
};

}  // namespace fst
