#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

/// What tests decide about the emulated device.
namespace fst::emulator {

/// How the freedom that CUDA leaves is used from now on: the order of threads, of blocks, and of
/// streams. 0: first come, first served; 1: reversed; others: at random, the same for each seed,
/// every other two with warps as far apart as can be. Copies within a kernel are late (when
/// something waits for them) with even seeds, early (when they are asked for) with odd ones.
void set_schedule(std::uint32_t seed);
std::uint32_t schedule();

/// What was found wrong first, with thread and place, since the last take_report() or reset(); ""
/// where nothing was. The device works again afterwards; the work that was queued is dropped.
std::string take_report();

/// Whether kernels were built with the checks of every access.
bool checking();

/// The generation whose tensor core multiplies; at first Hopper.
enum class TensorCore { ampere, hopper };
void set_tensor_core(TensorCore core);
TensorCore tensor_core();

/// What the host has asked of the device so far; each of them costs it microseconds. What a graph
/// does counts once, as the graph; records are graphs that were made. Waits are for a whole stream,
/// event_waits for an event that was not reached yet.
struct Calls {
  std::int64_t launches = 0, graphs = 0, records = 0, copies = 0, waits = 0, event_waits = 0,
               allocations = 0;
};
const Calls& calls();

/// Bytes that cudaMalloc can give.
void set_device_memory(std::size_t bytes);

}  // namespace fst::emulator
