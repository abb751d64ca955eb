#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <vector>

#include "history.h"

/// Within the emulator: what the *checked* build knows of each byte of device and shared memory.
/// Its kernels call here for every access, by the instrumentation that -fsanitize=thread compiles
/// in (instrumentation.cpp); in the fast build none of this happens.
namespace fst::emulator {

enum class Access { read, write, atomic };

/// Set before main() by any object file that is instrumented.
bool checking();

/// Where an access is made: behind an instruction, or by a word at a place.
struct Origin {
  const void* code = nullptr;
  const std::source_location* place = nullptr;
  Origin(const void* behind) : code(behind) {}                      // NOLINT: either will do
  Origin(const std::source_location& of_word) : place(&of_word) {}  // NOLINT
};

/// Judges an access of the running thread of a kernel; fails where it is out of bounds, reads what
/// nobody wrote, or is not ordered after a conflicting one.
void check_access(const void* address, std::size_t bytes, Access access, const Origin& origin);

/// An asynchronous copy into shared memory begins or ends: meanwhile nobody may touch where it is
/// to land, nor write where it comes from (nullptr: nowhere).
void mark_copy(const void* to, const void* from, std::size_t bytes, bool begins);

/// Barriers of the running block.
void check_launch_begins();
void check_block_begins(unsigned threads, std::size_t shared_bytes);
void check_block_synced();
void check_warp_synced(unsigned warp);

/// Barriers that order only those who arrive and wait. What is known of each thread of the block is
/// its stamp; the first call of a block says that such barriers are used.
std::vector<Stamp> check_barriers_begin();
void check_release(std::vector<Stamp>& brought);
void check_acquire(const std::vector<Stamp>& brought);
/// The running thread's time, which then goes on.
Stamp check_time_passes();

/// Copies and memsets of the host's calls.
void mark_initialised(const void* address, std::size_t bytes);
void copy_initialised(void* to, const void* from, std::size_t bytes);

}  // namespace fst::emulator
