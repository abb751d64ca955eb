#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include <cuda_runtime.h>

/// Within the emulator, and for libraries that stand in for others beside it.
namespace fst::emulator {

/// Queues run() for when ready() says that other processes have done their part. Who waits for the
/// stream waits for that, too; who looks does not.
cudaError_t queue_with_others(cudaStream_t stream, std::function<bool()> ready,
                              std::function<void()> run);
/// Whether what is queued on the stream becomes part of a graph, which is queued as often as the
/// graph is.
bool is_capturing(cudaStream_t stream);
/// `object` lives as long as the graph that the stream captures, or what is made of it; not for
/// what is under way of it.
void retain_in_graph(cudaStream_t stream, std::shared_ptr<void> object);
/// Time passes, enough for one piece of what is queued.
cudaError_t pass_time();

/// Device memory for the run time's calls (memory.cpp).
cudaError_t allocate_device(void** memory, std::size_t bytes);
cudaError_t free_device(void* memory);
/// The host must not touch device memory. In the checked build, and in schedule 1 of the other as
/// it takes time, it is open only while work is done.
void open_device_memory();
void close_device_memory();
void device_memory(std::size_t* free, std::size_t* total);

}  // namespace fst::emulator
