#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

/// Within the emulator: what the *checked* build knows of each byte of device and shared memory.
/// Its kernels call here for every access, by the instrumentation that -fsanitize=thread compiles
/// in (instrumentation.cpp); in the fast build none of this happens.
namespace fst::emulator {

/// Time is a number that every barrier advances: what happened up to the time of a barrier is known
/// to all who met there. 0: never.
using Stamp = std::uint32_t;

/// The history of a byte.
struct Byte {
  Stamp written = 0, read = 0;
  Stamp read_by_other_block = 0;  // the latest, where `read` is of the current block
  std::uint16_t writer = 0;       // thread
  std::uint16_t reader = 0;       // thread; or lanes_of | warp; or many_warps
  std::uint16_t leaving = 0;      // asynchronous copies under way from here
  bool initialised = false, atomic = false, landing = false;
};
constexpr std::uint16_t lanes_of = 0x8000, many_warps = 0xffff;

enum class Access { read, write, atomic };

/// Set before main() by any object file that is instrumented.
bool checking();

/// Judges an access of the running thread of a kernel, made by the instruction before `code`; fails
/// where it is out of bounds, reads what nobody wrote, or is not ordered after a conflicting one.
void check_access(const void* address, std::size_t bytes, Access access, const void* code);

/// An asynchronous copy into shared memory begins or ends: meanwhile nobody may touch where it is
/// to land, nor write where it comes from (nullptr: nowhere).
void mark_copy(const void* to, const void* from, std::size_t bytes, bool begins);

/// Barriers of the running block.
void check_launch_begins();
void check_block_begins(unsigned threads, std::size_t shared_bytes);
void check_block_synced();
void check_warp_synced(unsigned warp);

/// Copies and memsets of the host's calls.
void mark_initialised(const void* address, std::size_t bytes);
void copy_initialised(void* to, const void* from, std::size_t bytes);

}  // namespace fst::emulator
