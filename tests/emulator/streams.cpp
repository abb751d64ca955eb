#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "faults.h"
#include "machine.h"
#include "queues.h"

namespace fst::emulator {
namespace {

/// Of host memory, to notice changes; never 0.
std::uint64_t digest(const void* memory, std::size_t bytes) {
  return std::hash<std::string_view>()({static_cast<const char*>(memory), bytes}) | 1;
}

bool launch_is_possible(const void* kernel, dim3 grid, dim3 block, std::size_t shared) {
  const std::uint64_t threads = std::uint64_t{1} * block.x * block.y * block.z;
  const auto allowed = runtime().allowed_shared.find(kernel);
  const std::size_t most =
      allowed == runtime().allowed_shared.end() ? shared_default : allowed->second;
  return threads > 0 && threads <= 1024 && threads % 32 == 0 && block.z <= 64 && grid.x > 0 &&
         grid.x < (1u << 31) && grid.y > 0 && grid.y <= 65535 && grid.z > 0 && grid.z <= 65535 &&
         shared <= most;
}

}  // namespace

void queue_launch(const void* kernel, std::unique_ptr<Body> body, std::size_t body_bytes, dim3 grid,
                  dim3 block, std::size_t shared, cudaStream_t stream) {
  if (!launch_is_possible(kernel, grid, block, shared)) {
    returned(cudaErrorInvalidConfiguration);
    return;
  }
  if (!captures(stream_of(stream))) ++runtime().calls.launches;
  auto launch = std::make_shared<Launch>();
  launch->kernel = kernel;
  launch->operation = current_operation();
  launch->body = std::move(body);
  launch->body_bytes = body_bytes;
  launch->grid = grid;
  launch->block = block;
  launch->shared = shared;
  const bool fails = must_fail("launch");
  enqueue(stream, [launch, fails] {
    if (fails) {
      lost("a launch");
    } else if (recording() != Recording::off) {
      record_launch(*launch);
    } else {
      execute(*launch);
    }
  });
}

cudaError_t queue_with_others(cudaStream_t stream, std::function<bool()> ready,
                              std::function<void()> run) {
  if (!report().empty()) return returned(failure());
  if (is_capturing(stream)) {
    stream_of(stream).capture->tasks.push_back({std::move(run), std::move(ready)});
    return cudaSuccess;
  }
  Task task;
  task.issued = runtime().issued++;
  task.run = std::move(run);
  task.ready = std::move(ready);
  stream_of(stream).tasks.push_back(std::move(task));
  return cudaSuccess;
}

bool is_capturing(cudaStream_t stream) {
  return captures(stream_of(stream));
}

void retain_in_graph(cudaStream_t stream, std::shared_ptr<void> object) {
  stream_of(stream).capture->objects.push_back(std::move(object));
}

cudaError_t pass_time() {
  return run_until(all_is_done, Patience::one_piece);
}

const Calls& calls() {
  return runtime().calls;
}

std::string take_report() {
  runtime().last = cudaSuccess;
  for (CUstream_st* stream : runtime().streams) stream->tasks.clear();
  return forget_report();
}

}  // namespace fst::emulator

using namespace fst::emulator;

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (must_fail("cudaMemcpyAsync")) return lost("cudaMemcpyAsync");
  if (bytes == 0) return cudaSuccess;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if ((find_allocation(to, bytes) != nullptr) != to_device ||
      (find_allocation(from, bytes) != nullptr) != from_device) {
    return returned(cudaErrorInvalidValue);
  }
  const bool now = !captures(stream_of(stream));
  if (now) ++runtime().calls.copies;
  // Until the copy is done the host's side must stay as it is, and holds nothing, respectively.
  const std::uint64_t sent = now && kind == cudaMemcpyHostToDevice ? digest(from, bytes) : 0;
  if (now && kind == cudaMemcpyDeviceToHost) std::memset(to, 0xff, bytes);
  return enqueue(stream, [=] {
    if (recording() == Recording::list && kind == cudaMemcpyDeviceToDevice) return;
    if (sent != 0 && digest(from, bytes) != sent) {
      note_failure("host memory was changed while a copy of it to the device was queued");
      return;
    }
    std::memcpy(to, from, bytes);
    if (kind == cudaMemcpyHostToDevice) mark_initialised(to, bytes);
    if (kind == cudaMemcpyDeviceToDevice) copy_initialised(to, from, bytes);
  });
}

cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (find_allocation(to, bytes) == nullptr) return returned(cudaErrorInvalidValue);
  constexpr std::size_t few = 4096;  // by which kernels tell the host something
  return enqueue(stream, [=] {
    if (recording() == Recording::list && bytes > few) return;
    std::memset(to, value, bytes);
    mark_initialised(to, bytes);
  });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (must_fail("cudaStreamCreateWithFlags")) return lost("cudaStreamCreateWithFlags");
  if (flags != cudaStreamNonBlocking) return returned(cudaErrorInvalidValue);
  *stream = new CUstream_st;
  runtime().streams.push_back(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (must_fail("cudaStreamSynchronize")) return lost("cudaStreamSynchronize");
  if (spoils_capture()) return returned(cudaErrorStreamCaptureUnsupported);
  ++runtime().calls.waits;
  return run_until([&] { return stream_of(stream).tasks.empty(); });
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream == nullptr) return returned(cudaErrorInvalidResourceHandle);
  const cudaError_t error = cudaStreamSynchronize(stream);
  std::erase(runtime().streams, stream);
  delete stream;
  return error;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr) return returned(cudaErrorStreamCaptureUnsupported);
  if (captures(*stream)) return returned(cudaErrorInvalidValue);
  stream->capture = std::make_unique<CUgraph_st>();
  stream->capture_failed = false;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (stream == nullptr || !captures(*stream)) return returned(cudaErrorInvalidValue);
  const std::unique_ptr<CUgraph_st> captured = std::move(stream->capture);
  if (stream->capture_failed) return returned(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st(*captured);
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  ++runtime().calls.records;
  *exec = new CUgraphExec_st{std::make_shared<std::vector<CUgraph_st::Task>>(graph->tasks),
                             graph->objects};
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  if (!report().empty()) return returned(failure());
  if (spoils_capture()) return returned(cudaErrorStreamCaptureUnsupported);
  ++runtime().calls.graphs;
  for (std::size_t i = 0; i < exec->tasks->size(); ++i) {
    Task task;
    task.issued = runtime().issued++;
    task.run = [tasks = exec->tasks, i] { (*tasks)[i].run(); };
    task.ready = (*exec->tasks)[i].ready;
    stream_of(stream).tasks.push_back(std::move(task));
  }
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (must_fail("cudaStreamQuery")) return lost("cudaStreamQuery");
  if (spoils_capture()) return returned(cudaErrorStreamCaptureUnsupported);
  if (!report().empty()) return returned(failure());
  if (stream_of(stream).tasks.empty()) return cudaSuccess;
  const cudaError_t error = pass_time();
  return error == cudaSuccess ? cudaErrorNotReady : error;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (!report().empty()) return returned(failure());
  if (spoils_capture()) return returned(cudaErrorStreamCaptureUnsupported);
  stream_of(stream).tasks.push_back({runtime().issued++, [] {}, event, event->recorded});
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (spoils_capture()) return returned(cudaErrorStreamCaptureUnsupported);
  const std::uint64_t version = ++event->recorded;
  return enqueue(stream, [=] {
    event->reached = version;
    event->time = std::chrono::steady_clock::now();
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (must_fail("cudaEventSynchronize")) return lost("cudaEventSynchronize");
  if (spoils_capture()) return returned(cudaErrorStreamCaptureUnsupported);
  const std::uint64_t version = event->recorded;
  if (event->reached < version) ++runtime().calls.event_waits;
  return run_until([&] { return event->reached >= version; });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (must_fail("cudaEventQuery")) return lost("cudaEventQuery");
  if (spoils_capture()) return returned(cudaErrorStreamCaptureUnsupported);
  if (!report().empty()) return returned(failure());
  if (event->reached >= event->recorded) return cudaSuccess;
  const cudaError_t error = pass_time();
  return error == cudaSuccess ? cudaErrorNotReady : error;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  if (from->recorded == 0 || to->recorded == 0) return returned(cudaErrorInvalidResourceHandle);
  for (const cudaEvent_t event : {from, to}) {
    if (event->reached < event->recorded) return returned(cudaErrorNotReady);
  }
  *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const cudaError_t error = run_all();  // work that waits for it may still be queued
  delete event;
  return error;
}

cudaError_t cudaDeviceSynchronize() {
  return run_all();
}
