#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "emulator.h"
#include "streams.h"

/// What is queued on streams, and how it comes to run: when somebody waits.
/// An event is the number of times it has been recorded, and how many of these have been reached.
struct CUevent_st {
  std::uint64_t recorded = 0, reached = 0;
  std::chrono::steady_clock::time_point time;  // when it was reached last
};

namespace fst::emulator {

struct Task {
  std::uint64_t issued = 0;
  std::function<void()> run;
  const CUevent_st* event = nullptr;  // that it waits for
  std::uint64_t version = 0;
  std::function<bool()> ready = nullptr;  // what else it waits for, outside of this process
};

}  // namespace fst::emulator

/// What was captured, in order. CUDA's graphs know more orders; one stream has this one.
struct CUgraph_st {
  struct Task {
    std::function<void()> run;
    std::function<bool()> ready = nullptr;  // as that of the stream's tasks
  };
  std::vector<Task> tasks;
  std::vector<std::shared_ptr<void>>
      objects;  // that live as long as the graph, or what is made of it
};
struct CUgraphExec_st {
  std::shared_ptr<const std::vector<CUgraph_st::Task>> tasks;
  std::vector<std::shared_ptr<void>> objects;
};

struct CUstream_st {
  std::deque<fst::emulator::Task> tasks;
  std::unique_ptr<CUgraph_st> capture;  // what is queued meanwhile
  bool capture_failed = false;
};

namespace fst::emulator {

inline constexpr std::size_t shared_default = 48 << 10, shared_limit = 227 << 10;

struct Runtime {
  CUstream_st null_stream;
  std::vector<CUstream_st*> streams{&null_stream};
  std::map<const void*, std::size_t> allowed_shared;
  std::uint64_t issued = 0;
  cudaError_t last = cudaSuccess;
  Calls calls;
};

Runtime& runtime();

/// The error, noted as the last one.
cudaError_t returned(cudaError_t error);
/// What every call says once something has failed.
cudaError_t failure();
/// The failure of a call that FST_EMULATOR_FAIL names: the device is lost.
cudaError_t lost(const char* call);

CUstream_st& stream_of(cudaStream_t stream);
bool captures(const CUstream_st& stream);
/// What must not happen while a stream captures; the capture is void.
bool spoils_capture();

cudaError_t enqueue(cudaStream_t stream, std::function<void()> run);
/// Runs what is queued until `done`, or one piece of it where there is one; what was queued behind
/// a failure is dropped.
enum class Patience { endless, one_piece };
cudaError_t run_until(const std::function<bool()>& done, Patience patience = Patience::endless);
bool all_is_done();
cudaError_t run_all();

}  // namespace fst::emulator
