#pragma once

#include <cstdint>

namespace fst::kernels {

/// True if the CPU has AMX-TILE, AMX-BF16 and palette 1 as we use it, the system saves tiles, and
/// it lets this process use them. Asks once: Linux gives tiles only on request.
bool may_use_tiles();

/// The layout of LDTILECFG's operand (Intel SDM, volume 2).
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

/// The tile registers of this thread. Each word is one instruction. Not GCC 12's intrinsics: to
/// those the compiler may move earlier stores, as they do not say that they read memory.
struct HardwareTiles {
  void configure(const TileConfig& config) {
    __asm__ volatile("ldtilecfg %0" ::"m"(config) : "memory");
  }
  void release() { __asm__ volatile("tilerelease" ::: "memory"); }
  /// tile = rows `step` bytes apart.
  template <int tile>
  void load(const void* rows, std::int64_t step) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(step), "i"(tile) : "memory");
  }
  template <int tile>
  void store(void* rows, std::int64_t step) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(rows), "r"(step), "i"(tile) : "memory");
  }
  /// c(i, j) = c(i, j) + (chain of the even + chain of the odd elements of row i of a and of
  /// column j of b).
  template <int c, int a, int b>
  void multiply() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
  }
};

}  // namespace fst::kernels
