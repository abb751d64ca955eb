#pragma once

#include <stdexcept>

#include "kernels/cuda/gpu.h"

/// The words that only sm_90a has: transaction barriers, the tensor memory accelerator, products by
/// warp groups. Files that include this are compiled for sm_90a alone.
///
///   Barrier                         8 bytes of shared memory
///   barrier_init(b, arrivals)       by one thread, then barrier_fence() and sync_block()
///   barrier_arrive(b)               one arrival; orders what the thread did before it
///   barrier_expect(b, bytes)        one arrival, and bytes of tensor_load to wait for
///   barrier_wait(b, parity)         until the phase of this parity is complete; the first is 0
///   TensorMap  tensor_map(...)      a matrix in global memory; MAP_PARAMETER of a kernel
///   tensor_load(to, map, b, column, row)   by one thread: box_rows x 64 elements of bf16 to
///   1024-byte
///                                   aligned shared memory; zeros outside the matrix. Row r lies at
///                                   128 r; its 16-byte pieces are swizzled: piece p at p ^ r % 8
///   operand(p)                      64 rows of 16 elements, beginning at p of such a box
///   group_multiply_64x64x16(sum, a, b)   sum += a b^T by a warp group (128 threads), later: thread
///   t
///                                   holds rows 16 (t/32) + t%32/4 (+ 8), columns 8 j + 2 (t%4) (+
///                                   1) as sum[4 j + (2) + (1)]
///   group_fence() before the first; group_commit(), group_wait<n>() as for copies;
///   group_registers( sum) before the first and behind the last, so that ptxas does not move reads
///   of sums in between
///
/// Lane 0 of each warp of a group frees what the group has read, by barrier_arrive, after its wait.
#if defined(__CUDACC__)

#include <cuda.h>  // types alone: the driver's library is not linked

#define MAP_PARAMETER PARAMETER ::fst::kernels::gpu::TensorMap

namespace fst::kernels::gpu {

using Barrier = std::uint64_t;
using TensorMap = CUtensorMap;

DEVICE unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

DEVICE void barrier_init(Barrier& barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)),
               "r"(arrivals)
               : "memory");
}
DEVICE void barrier_fence() {
  asm volatile("fence.mbarrier_init.release.cluster; fence.proxy.async.shared::cta;" ::: "memory");
}
DEVICE void barrier_arrive(Barrier& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier))
               : "memory");
}
DEVICE void barrier_expect(Barrier& barrier, int bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)),
      "r"(bytes)
      : "memory");
}
DEVICE void barrier_wait(Barrier& barrier, int parity) {
  unsigned done = 0;
  do {
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n"
        "}"
        : "=r"(done)
        : "r"(shared_address(&barrier)), "r"(parity)
        : "memory");
  } while (done == 0);
}

/// bf16 [rows, columns] without gaps; columns must be a multiple of 8, box_rows at most 256. Throws
/// std::runtime_error where the driver refuses it.
inline TensorMap tensor_map(const void* base, std::int64_t rows, std::int64_t columns,
                            int box_rows) {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found{};
  cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault,
                                   &found);
  if (entry == nullptr || found != cudaDriverEntryPointSuccess)
    throw std::runtime_error("cuTensorMapEncodeTiled was refused");
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry);
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t row_bytes[1] = {static_cast<cuuint64_t>(2 * columns)};
  const cuuint32_t box[2] = {64, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[2] = {1, 1};
  TensorMap map{};
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(base), sizes, row_bytes,
             box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) throw std::runtime_error("cuTensorMapEncodeTiled was refused");
  return map;
}

DEVICE void tensor_load(void* to, const TensorMap& map, Barrier& barrier, int column, int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4}], [%2];" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(&barrier)), "r"(column), "r"(row)
      : "memory");
}

/// PTX ISA, "Matrix descriptor": address and stride between groups of eight rows in units of 16
/// bytes at bits 0 and 32, and at bit 62 the swizzle of 128 bytes.
DEVICE std::uint64_t operand(const void* p) {
  return (shared_address(p) & 0x3ffffu) >> 4 | std::uint64_t{1024 >> 4} << 32 |
         std::uint64_t{1} << 62;
}

DEVICE void group_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
DEVICE void group_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int under_way>
DEVICE void group_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(under_way) : "memory");
}
DEVICE void group_registers(float (&sum)[32]) {
#pragma unroll
  for (int i = 0; i < 32; ++i) asm volatile("" : "+f"(sum[i])::"memory");
}
DEVICE void group_multiply_64x64x16(float (&s)[32], std::uint64_t a, std::uint64_t b) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.eq.u32 p, 1, 1;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "%32, %33, p, 1, 1, 0, 0;\n}"
      : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3]), "+f"(s[4]), "+f"(s[5]), "+f"(s[6]),
        "+f"(s[7]), "+f"(s[8]), "+f"(s[9]), "+f"(s[10]), "+f"(s[11]), "+f"(s[12]), "+f"(s[13]),
        "+f"(s[14]), "+f"(s[15]), "+f"(s[16]), "+f"(s[17]), "+f"(s[18]), "+f"(s[19]), "+f"(s[20]),
        "+f"(s[21]), "+f"(s[22]), "+f"(s[23]), "+f"(s[24]), "+f"(s[25]), "+f"(s[26]), "+f"(s[27]),
        "+f"(s[28]), "+f"(s[29]), "+f"(s[30]), "+f"(s[31])
      : "l"(a), "l"(b));
}

}  // namespace fst::kernels::gpu

#else
#include "emulate_hopper.h"
#endif
