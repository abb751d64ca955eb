#pragma once

#include <cstddef>
#include <cstdint>

/// Within the emulator: what the *checked* build knows of each byte of device and shared memory.
/// Its kernels call here for every access, by the instrumentation that -fsanitize=thread compiles
/// in (instrumentation.cpp); in the fast build none of this happens.
namespace fst::emulator {

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
