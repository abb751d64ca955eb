#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "kernels/exec.h"

/// What the floors above need of the CUDA run time: devices, memory, copies. cuda/cuda.cu defines
/// it; a program without CUDA has no devices (src/tensor/no_cuda.cpp). Failures of CUDA throw
/// std::runtime_error naming the call.
namespace fst::kernels {

/// How many GPUs this process can use: 0 without a driver or a device.
int cuda_devices();
/// What is there, for --version: "13.0, 1 device", "13.0, no driver", "none".
std::string cuda_support();
/// The device's name and memory: "NVIDIA H100 80GB HBM3, sm_90, 79.2 GiB".
std::string cuda_name(int index);
/// Whose tensor cores it has: "sm_90".
std::string cuda_architecture(int index);
/// Bytes of its memory.
std::int64_t cuda_memory(int index);
/// Whether kernels were compiled for it.
bool cuda_has_code(int index);

/// The same for no two devices anywhere: "GPU-" and 32 hexadecimal digits.
std::string cuda_identity(int index);

/// A stream on device `index`, which becomes the calling thread's device. Closed with the last
/// owner. One host thread at a time.
std::shared_ptr<const Cuda> cuda_stream(int index);

/// Device memory, 256-byte aligned, contents undefined. nullptr: there is not enough.
void* allocate(const Cuda& cuda, std::size_t bytes);
void release(const Cuda& cuda, void* memory);
/// Bytes of the device's memory that nobody holds.
std::size_t free_memory(const Cuda& cuda);
void zero(const Cuda& cuda, void* memory, std::size_t bytes);
/// Fills with 0xFF: not a number in every floating-point type.
void poison(const Cuda& cuda, void* memory, std::size_t bytes);
/// Memory that the kernels work in from here on, as far as it suffices, in place of their own; null
/// takes it back. The caller owns it. Does not throw: what failed is found by the next call.
void lend_scratch(const Cuda& cuda, void* memory, std::size_t bytes);
/// The most that a kernel has asked for.
std::size_t most_scratch(const Cuda& cuda);

/// Copies in stream order. The host's side may be reused, and is complete, when they return.
void copy_to_device(const Cuda& cuda, void* to, const void* from, std::size_t bytes);
void copy_to_host(const Cuda& cuda, void* to, const void* from, std::size_t bytes);
/// A copy within the device's memory, in stream order.
void copy_on_device(const Cuda& cuda, void* to, const void* from, std::size_t bytes);
/// Waits until all queued work is done.
void wait(const Cuda& cuda);
/// The stream as libraries that queue work of their own take it, a cudaStream_t.
void* stream_handle(const Cuda& cuda);

/// Work on a stream that ends only when other processes have done their part: an exchange.
struct CudaExchange {
  /// Returns when ended() says so, asking again and again; throws when it gives up.
  std::function<void(const std::function<bool()>& ended)> await;
  /// Makes it end at once, whatever the memory holds then. Does not throw.
  std::function<void()> abandon;
};
/// What was queued last is an exchange, or a record with exchanges. From here on nobody waits
/// blindly: who waits for the stream or gives memory back (after all, an exchange may use it)
/// awaits the exchanges before in their order, and blocks for the rest. Where one gives up, all are
/// abandoned and what it threw goes to who waits; from release() and the like, which do not throw,
/// to the next one. Awaits the oldest where very many are under way.
void note_exchange(const Cuda& cuda, CudaExchange exchange);
/// Awaits those that were noted; abandons them.
void await_exchanges(const Cuda& cuda);
void abandon_exchanges(const Cuda& cuda);

/// Page-locked host memory: copies from and to it run while the host goes on.
void* allocate_host(const Cuda& cuda, std::size_t bytes);
void release_host(const Cuda& cuda, void* memory);
/// Queue a copy between device memory and memory of allocate_host(), which must stay as it is, and
/// is complete, when an event marked behind the copy has been waited for, or the whole stream.
void queue_to_device(const Cuda& cuda, void* to, const void* from, std::size_t bytes);
void queue_to_host(const Cuda& cuda, void* to, const void* from, std::size_t bytes);

/// A place in the order of what is queued.
struct CudaEvent;
std::shared_ptr<CudaEvent> make_event(const Cuda& cuda);
/// The event means, from now on, that all that is queued so far is done.
void mark(const Cuda& cuda, CudaEvent& event);
/// Waits for what the event means; not at all where it was never marked, and not for what was
/// queued later.
void wait(const Cuda& cuda, CudaEvent& event);

/// What has happened on a stream so far: how often the host stopped for all of its work, how often
/// for an event that was not reached yet, and how often memory was given back, so that addresses
/// may mean something else.
struct CudaHistory {
  std::uint64_t waits = 0, event_waits = 0, releases = 0;
};
const CudaHistory& history(const Cuda& cuda);

/// Work that was recorded instead of queued, to be queued as a whole, with the same addresses and
/// numbers, any number of times: one call of the host. Needs the memory that it uses. Destroyed, it
/// is not waited for: what is under way of it goes on (CUDA Programming Guide, user objects).
struct CudaRecord;
/// Between these calls what is queued is recorded; copies that wait, wait() and (de)allocation of
/// device memory fail and spoil the record. end_recording() gives nullptr where it is spoilt.
void begin_recording(const Cuda& cuda);
std::shared_ptr<const CudaRecord> end_recording(const Cuda& cuda);
void queue_record(const Cuda& cuda, const CudaRecord& record);

}  // namespace fst::kernels
