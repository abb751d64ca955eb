#include "kernels/cuda/cuda.h"
#include "kernels/cuda/exchanges.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/lt_plans.h"

namespace fst::kernels {

struct Cuda::Memory {
  int architecture = 0;
  void* scratch = nullptr;
  std::size_t bytes = 0, most = 0;
  bool lent = false;
  CudaHistory history;
  bool recording = false;
  std::unique_ptr<LtPlans> plans;  // nullptr: all products are our own
  Exchanges exchanges;
};
struct CudaRecord {
  cudaGraphExec_t work = nullptr;
};
struct CudaEvent {
  cudaEvent_t event = nullptr;
};

namespace {
/// As wait(), for destructors: what failed is found by the next call.
void wait_quietly(const Cuda& cuda) {
  cuda.memory->exchanges.await_quietly();
  cudaStreamSynchronize(cuda.stream);
}
}  // namespace

CudaError::CudaError(const char* call, cudaError_t error)
    : std::runtime_error(std::string(call) + ": " + cudaGetErrorName(error) + ", " +
                         cudaGetErrorString(error)),
      code_(error) {}

namespace gpu {
void check_launch() {
  check(cudaGetLastError(), "kernel launch");
}
void check_shared(cudaError_t error, std::size_t bytes) {
  if (error == cudaSuccess) return;
  throw CudaError((std::to_string(bytes) + " bytes of shared memory for a kernel").c_str(), error);
}
}  // namespace gpu

int cuda_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return count;
}

std::string cuda_support() {
  int runtime = 0, driver = 0;
  cudaRuntimeGetVersion(&runtime);
  cudaDriverGetVersion(&driver);
  const auto text = [](int version) {
    return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
  };
  const int devices = cuda_devices();
  std::string support = text(runtime);
  support += driver == 0 ? ", no driver" : ", driver " + text(driver);
  return support + ", " + std::to_string(devices) + (devices == 1 ? " device" : " devices");
}

namespace {

cudaDeviceProp properties_of(int index) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  return properties;
}

KERNEL(32, 1) presence() {}

}  // namespace

std::string cuda_architecture(int index) {
  const cudaDeviceProp properties = properties_of(index);
  return "sm_" + std::to_string(properties.major) + std::to_string(properties.minor);
}

std::int64_t cuda_memory(int index) {
  return static_cast<std::int64_t>(properties_of(index).totalGlobalMem);
}

bool cuda_has_code(int index) {
  check(cudaSetDevice(index), "cudaSetDevice");
  cudaFuncAttributes attributes{};
  const cudaError_t found =
      cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(presence));
  cudaGetLastError();
  if (found != cudaErrorNoKernelImageForDevice) check(found, "cudaFuncGetAttributes");
  return found == cudaSuccess;
}

std::string cuda_name(int index) {
  const cudaDeviceProp properties = properties_of(index);
  const auto tenths =
      static_cast<long long>(static_cast<double>(properties.totalGlobalMem) / (1 << 30) * 10.0);
  return std::string(properties.name) + ", " + cuda_architecture(index) + ", " +
         std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " GiB";
}

std::string cuda_identity(int index) {
  const cudaDeviceProp properties = properties_of(index);
  constexpr const char* digits = "0123456789abcdef";
  std::string text = "GPU-";
  for (const char byte : properties.uuid.bytes) {
    const auto value = static_cast<unsigned char>(byte);
    text += digits[value >> 4];
    text += digits[value & 15];
  }
  return text;
}

std::shared_ptr<const Cuda> cuda_stream(int index) {
  return {new Cuda(open_cuda(index)), [](const Cuda* cuda) {
            Cuda closed = *cuda;
            close_cuda(closed);
            delete cuda;
          }};
}

Cuda open_cuda(int index) {
  check(cudaSetDevice(index), "cudaSetDevice");
  Cuda cuda;
  check(cudaStreamCreateWithFlags(&cuda.stream, cudaStreamNonBlocking), "cudaStreamCreate");
  const cudaDeviceProp properties = properties_of(index);
  cuda.memory = new Cuda::Memory;
  cuda.memory->architecture = 10 * properties.major + properties.minor;
  return cuda;
}

void close_cuda(Cuda& cuda) {
  if (cuda.memory == nullptr) return;
  wait_quietly(cuda);
  if (!cuda.memory->lent) cudaFree(cuda.memory->scratch);
  cuda.memory->plans.reset();
  cudaStreamDestroy(cuda.stream);
  delete cuda.memory;
  cuda = {};
}

int architecture(const Cuda& cuda) {
  return cuda.memory->architecture;
}

bool is_recording(const Cuda& cuda) {
  return cuda.memory->recording;
}

std::unique_ptr<LtPlans>& lt_plans(const Cuda& cuda) {
  return cuda.memory->plans;
}

void lend_scratch(const Cuda& cuda, void* lent, std::size_t bytes) {
  Cuda::Memory& memory = *cuda.memory;
  wait_quietly(cuda);
  if (!memory.lent) cudaFree(memory.scratch);
  ++memory.history.releases;
  memory.scratch = lent;
  memory.bytes = lent == nullptr ? 0 : bytes;
  memory.lent = lent != nullptr;
}

std::size_t most_scratch(const Cuda& cuda) {
  return cuda.memory->most;
}

void* scratch(const Cuda& cuda, std::size_t bytes) {
  Cuda::Memory& memory = *cuda.memory;
  if (bytes > memory.most) memory.most = bytes;
  if (bytes > memory.bytes) {
    wait(cuda);
    lend_scratch(cuda, nullptr, 0);
    memory.scratch = allocate(cuda, bytes);
    if (memory.scratch == nullptr) {
      throw OutOfMemory("out of memory: " + std::to_string(bytes) +
                        " bytes wanted for the kernels' working memory, " +
                        std::to_string(free_memory(cuda)) + " free");
    }
    memory.bytes = bytes;
  }
  return memory.scratch;
}

bool lent_scratch_suffices(const Cuda& cuda, std::size_t bytes) {
  return !cuda.memory->lent || bytes <= cuda.memory->bytes;
}

std::int64_t read_word(const Cuda& cuda, const std::int64_t* word) {
  std::int64_t value = 0;
  copy_to_host(cuda, &value, word, sizeof value);
  return value;
}

// CUDA itself may wait for the stream in copies between it and memory that is not page-locked, so
// exchanges are awaited before.
void copy_to_device(const Cuda& cuda, void* to, const void* from, std::size_t bytes) {
  await_exchanges(cuda);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, cuda.stream), "copy to device");
  wait(cuda);
}

void copy_to_host(const Cuda& cuda, void* to, const void* from, std::size_t bytes) {
  await_exchanges(cuda);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, cuda.stream), "copy to host");
  wait(cuda);
}

void copy_on_device(const Cuda& cuda, void* to, const void* from, std::size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, cuda.stream), "copy on device");
}

void wait(const Cuda& cuda) {
  await_exchanges(cuda);
  check(cudaStreamSynchronize(cuda.stream), "waiting for the device");
  ++cuda.memory->history.waits;
}

void* stream_handle(const Cuda& cuda) {
  return cuda.stream;
}

void note_exchange(const Cuda& cuda, CudaExchange exchange) {
  cuda.memory->exchanges.note(cuda.stream, std::move(exchange));
}
void await_exchanges(const Cuda& cuda) {
  cuda.memory->exchanges.await();
}
void abandon_exchanges(const Cuda& cuda) {
  cuda.memory->exchanges.abandon();
}

const CudaHistory& history(const Cuda& cuda) {
  return cuda.memory->history;
}

void* allocate_host(const Cuda& /*cuda*/, std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, bytes == 0 ? 1 : bytes), "cudaMallocHost");
  return memory;
}

void release_host(const Cuda& cuda, void* memory) {
  wait_quietly(cuda);
  cudaFreeHost(memory);
}

void queue_to_device(const Cuda& cuda, void* to, const void* from, std::size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, cuda.stream), "copy to device");
}

void queue_to_host(const Cuda& cuda, void* to, const void* from, std::size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, cuda.stream), "copy to host");
}

std::shared_ptr<CudaEvent> make_event(const Cuda& /*cuda*/) {
  auto event = std::make_unique<CudaEvent>();
  check(cudaEventCreateWithFlags(&event->event, cudaEventDisableTiming), "cudaEventCreate");
  return {event.release(), [](CudaEvent* old) {
            cudaEventDestroy(old->event);
            delete old;
          }};
}

void mark(const Cuda& cuda, CudaEvent& event) {
  check(cudaEventRecord(event.event, cuda.stream), "cudaEventRecord");
}

void wait(const Cuda& cuda, CudaEvent& event) {
  const cudaError_t error = cudaEventQuery(event.event);
  if (error == cudaSuccess) return;
  if (error != cudaErrorNotReady) check(error, "waiting for an event");
  cudaGetLastError();
  cuda.memory->exchanges.await_before(event.event);
  check(cudaEventSynchronize(event.event), "waiting for an event");
  ++cuda.memory->history.event_waits;
}

void begin_recording(const Cuda& cuda) {
  check(cudaStreamBeginCapture(cuda.stream, cudaStreamCaptureModeThreadLocal), "begin recording");
  cuda.memory->recording = true;
}

std::shared_ptr<const CudaRecord> end_recording(const Cuda& cuda) {
  cudaGraph_t graph = nullptr;
  cuda.memory->recording = false;
  if (cudaStreamEndCapture(cuda.stream, &graph) != cudaSuccess || graph == nullptr) {
    cudaGetLastError();
    return nullptr;
  }
  auto record = std::make_unique<CudaRecord>();
  const cudaError_t error = cudaGraphInstantiate(&record->work, graph, 0);
  cudaGraphDestroy(graph);
  check(error, "cudaGraphInstantiate");
  return {record.release(), [](const CudaRecord* old) {
            cudaGraphExecDestroy(old->work);  // what is under way of it goes on
            delete old;
          }};
}

void queue_record(const Cuda& cuda, const CudaRecord& record) {
  check(cudaGraphLaunch(record.work, cuda.stream), "cudaGraphLaunch");
}

void* allocate(const Cuda& /*cuda*/, std::size_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, bytes == 0 ? 1 : bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(error, "cudaMalloc");
  return memory;
}

std::size_t free_memory(const Cuda& /*cuda*/) {
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return free;
}

void zero(const Cuda& cuda, void* memory, std::size_t bytes) {
  check(cudaMemsetAsync(memory, 0, bytes, cuda.stream), "cudaMemset");
}

void poison(const Cuda& cuda, void* memory, std::size_t bytes) {
  check(cudaMemsetAsync(memory, 0xFF, bytes, cuda.stream), "cudaMemset");
}

void release(const Cuda& cuda, void* memory) {
  wait_quietly(cuda);
  cudaFree(memory);
  ++cuda.memory->history.releases;
}

}  // namespace fst::kernels
