#include "kernels/cpu/amx.h"

#include <cpuid.h>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fst::kernels {

namespace {

/// The parts of the state that the system saves (XCR0).
std::uint64_t saved_state() {
  std::uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32) | low;
}

/// Eight tiles of 16 rows of 64 bytes.
bool has_palette() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned leaf = 0x1d, palette = 1;
  if (__get_cpuid_count(leaf, palette, &a, &b, &c, &d) == 0) return false;
  const unsigned row_bytes = b & 0xffffu, tiles = b >> 16, rows = c & 0xffffu;
  return row_bytes >= 64 && tiles >= 8 && rows >= 16;
}

bool has_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned osxsave = 1u << 27, amx_bf16 = 1u << 22, amx_tile = 1u << 24;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & osxsave) == 0) return false;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr std::uint64_t tile_state = std::uint64_t{3} << 17;  // configuration and data
  return (d & amx_bf16) != 0 && (d & amx_tile) != 0 && (saved_state() & tile_state) == tile_state &&
         has_palette();
}

bool permitted() {
#if defined(__linux__)
  // Documentation/arch/x86/xstate.rst; for the whole process, also for threads that run already.
  constexpr long request_permission = 0x1023, tile_data = 18;
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}

}  // namespace

bool may_use_tiles() {
  static const bool yes = has_tiles() && permitted();
  return yes;
}

}  // namespace fst::kernels
