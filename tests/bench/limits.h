#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/thread_pool.h"

/// The limits of a machine, as work for a clock: how fast it multiplies and how fast it reads.
namespace fst::bench {

/// Twelve independent FMA chains in the widest vectors of the instruction set.
#if defined(__x86_64__)
#define FST_TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define FST_STEP(i) "vfmadd213ps %%" FST_WIDE "mm13, %%" FST_WIDE "mm12, %%" FST_WIDE "mm" #i "\n"
#define FST_CLEAR(i) "vxorps %%xmm" #i ", %%xmm" #i ", %%xmm" #i "\n"
#define FST_SPIN                                                                            \
  __asm__ volatile(FST_TWELVE(FST_CLEAR) FST_CLEAR(12)                                      \
                       FST_CLEAR(13) "1:\n" FST_TWELVE(FST_STEP) "dec %0\n jnz 1b\n"        \
                   : "+r"(n)::"cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", \
                     "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13")
#define FST_WIDE "z"
__attribute__((target("avx512f"))) inline void spin_avx512(std::int64_t n) {
  FST_SPIN;
}
#undef FST_WIDE
#define FST_WIDE "y"
__attribute__((target("avx2,fma"))) inline void spin_avx2(std::int64_t n) {
  FST_SPIN;
}
#undef FST_WIDE
#undef FST_SPIN
#undef FST_CLEAR
#undef FST_STEP
#undef FST_TWELVE
#endif

/// Turns of the chains in one call of multiply_add().
inline constexpr std::int64_t spin_turns = 200000;

/// Every one of `threads` threads runs the chains; returns the floating-point operations that were,
/// or 0 where the instruction set has no such measurement.
inline double multiply_add(const kernels::Cpu& cpu, int threads) {
  const double lanes = cpu.isa >= kernels::Isa::avx512 ? 16 : cpu.isa == kernels::Isa::avx2 ? 8 : 0;
  kernels::parallel_for(cpu, threads, 1, [=](std::int64_t, std::int64_t) {
#if defined(__x86_64__)
    if (lanes == 16) spin_avx512(spin_turns);
    if (lanes == 8) spin_avx2(spin_turns);
#endif
  });
  return lanes * 12 * 2 * static_cast<double>(spin_turns) * threads;
}

/// Where results go that nobody reads, so that they are computed.
inline volatile float sink;

/// Reads `count` floats, a multiple of 4096, once, as a product with one row reads its weights:
/// each thread in `streams` places at the same time, asking for what lies `ahead` floats further
/// on. Returns the bytes.
template <int streams, int ahead>
double read_all(const kernels::Cpu& cpu, const float* x, std::int64_t count) {
  kernels::parallel_for(cpu, count / 4096, 1, [=](std::int64_t begin, std::int64_t end) {
    typedef float V __attribute__((vector_size(64), aligned(4)));
    const std::int64_t part = (end - begin) * 4096 / streams;
    V sum[4] = {};
    for (std::int64_t i = 0; i < part; i += 64) {
      for (int s = 0; s < streams; ++s) {
        const float* p = x + begin * 4096 + s * part + i;
        for (int j = 0; j < 4; ++j) {
          if (ahead > 0) __builtin_prefetch(p + j * 16 + ahead);
          V v;
          std::memcpy(&v, p + j * 16, sizeof v);
          sum[j] += v;
        }
      }
    }
    sink = (sum[0] + sum[1] + sum[2] + sum[3])[0];
  });
  return 4.0 * static_cast<double>(count);
}

}  // namespace fst::bench
