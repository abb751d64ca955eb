#include "queues.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "faults.h"
#include "machine.h"

namespace fst::emulator {

Runtime& runtime() {
  static Runtime instance;
  return instance;
}

cudaError_t returned(cudaError_t error) {
  if (error != cudaSuccess) runtime().last = error;
  return error;
}

cudaError_t failure() {
  return asked_error() == Loss::memory ? cudaErrorECCUncorrectable : cudaErrorLaunchFailure;
}

cudaError_t lost(const char* call) {
  note_failure(std::string("the device was lost at ") + call + " (FST_EMULATOR_FAIL)");
  return returned(failure());
}

CUstream_st& stream_of(cudaStream_t stream) {
  return stream == nullptr ? runtime().null_stream : *stream;
}

bool captures(const CUstream_st& stream) {
  return stream.capture != nullptr;
}
bool spoils_capture() {
  bool spoiled = false;
  for (CUstream_st* stream : runtime().streams) {
    if (!captures(*stream)) continue;
    stream->capture_failed = spoiled = true;
  }
  return spoiled;
}

cudaError_t enqueue(cudaStream_t stream, std::function<void()> run) {
  if (!report().empty()) return returned(failure());
  if (captures(stream_of(stream))) {
    stream_of(stream).capture->tasks.push_back({std::move(run)});
    return cudaSuccess;
  }
  stream_of(stream).tasks.push_back({runtime().issued++, std::move(run)});
  return cudaSuccess;
}

namespace {

bool can_run(const CUstream_st& stream) {
  if (stream.tasks.empty()) return false;
  const Task& next = stream.tasks.front();
  if (next.ready) return next.ready();
  return next.event == nullptr || next.event->reached >= next.version;
}
/// Whether a stream has come to work that other processes must make possible.
bool others_are_awaited() {
  return std::any_of(runtime().streams.begin(), runtime().streams.end(), [](const auto* stream) {
    return !stream->tasks.empty() && stream->tasks.front().ready;
  });
}

/// Schedule 0 takes the work in the order it was issued, 1 the latest first, others any.
CUstream_st* next_stream() {
  std::vector<CUstream_st*> candidates;
  for (CUstream_st* stream : runtime().streams) {
    if (can_run(*stream)) candidates.push_back(stream);
  }
  if (candidates.empty()) return nullptr;
  std::sort(candidates.begin(), candidates.end(), [](const auto* a, const auto* b) {
    return a->tasks.front().issued < b->tasks.front().issued;
  });
  return candidates[choose(candidates.size())];
}

}  // namespace

cudaError_t run_until(const std::function<bool()>& done, Patience patience) {
  bool ran = false;
  while (report().empty() && !done() && !ran) {
    open_device_memory();
    CUstream_st* const stream = next_stream();
    if (stream == nullptr && others_are_awaited()) {
      if (patience == Patience::one_piece) break;
      std::this_thread::sleep_for(std::chrono::microseconds(100));
      continue;
    }
    if (stream == nullptr) {
      note_failure("the streams wait for an event that nothing queued will record");
      break;
    }
    const Task task = std::move(stream->tasks.front());
    stream->tasks.pop_front();
    task.run();
    ran = patience == Patience::one_piece;
  }
  close_device_memory();
  if (report().empty()) return cudaSuccess;
  for (CUstream_st* stream : runtime().streams) stream->tasks.clear();
  return returned(failure());
}

bool all_is_done() {
  return std::all_of(runtime().streams.begin(), runtime().streams.end(),
                     [](const auto* stream) { return stream->tasks.empty(); });
}

cudaError_t run_all() {
  return run_until(all_is_done);
}

}  // namespace fst::emulator
