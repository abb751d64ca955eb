#pragma once

#include <stdexcept>

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/lies.h"

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
///                                   1024-byte aligned shared memory; zeros outside the matrix. Row
///                                   r lies at 128 r; its 16-byte pieces are swizzled: piece p at
///                                   p ^ r % 8
///   operand<Lies::inner>(p)         rows (outputs) of 16 elements, beginning at p of such a box;
///                                   64 of them, or as many as there are columns
///   operand<Lies::outer>(p)         16 rows (inner indices) of 64 elements (outputs), beginning at
///                                   p of such a box; the next 64 in a box of 64 rows behind it
///   group_multiply<a, b>(sum, operand<a>, operand<b>)   sum += a b^T by a warp group (128
///   threads),
///                                   later: 64 rows x 64, 128 or 256 columns. Thread t holds rows
///                                   16 (t/32) + t%32/4 (+ 8), columns 8 j + 2 (t%4) (+ 1) as
///                                   sum[4 j + (2) + (1)]
///   group_fence() before the first; group_commit(), group_wait<n>() as for copies;
///   group_registers(sum)            before the first and behind the last, so that ptxas does not
///                                   move reads of sums in between
///   more_registers<n>(), fewer_registers<n>()   by whole warp groups: each thread has n from here
///                                   on, a multiple of 8; the former wait for the latter
///   operands_fence()                orders a thread's own writes of shared memory before products
///                                   and loads of those who know of them
///
/// Lane 0 of each warp of a group frees what the group has read, by barrier_arrive, after its wait.
#if defined(__CUDACC__)

#include <cuda.h>  // types alone: the driver's library is not linked

#include "kernels/cuda/hopper_multiply.h"

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

/// The driver's function, through the run time.
inline auto tensor_map_encoder() {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found{};
  cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault,
                                   &found);
  if (entry == nullptr || found != cudaDriverEntryPointSuccess)
    throw std::runtime_error("cuTensorMapEncodeTiled is not there");
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry);
}

/// bf16 [rows, columns], `stride` elements from row to row; columns and stride must be multiples of
/// 8, `base` of 16 bytes, box_rows at most 256. Throws std::runtime_error where the driver refuses
/// it. A pure function of the host; no memory is touched.
inline TensorMap tensor_map(const void* base, std::int64_t rows, std::int64_t columns,
                            std::int64_t stride, int box_rows) {
  static const auto encode = tensor_map_encoder();
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t row_bytes[1] = {static_cast<cuuint64_t>(2 * stride)};
  const cuuint32_t box[2] = {64, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[2] = {1, 1};
  TensorMap map{};
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(base), sizes, row_bytes,
             box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
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

/// PTX ISA, "Matrix descriptor": address, and strides in units of 16 bytes at bits 16 and 32, and
/// at bit 62 the swizzle of 128 bytes. The second stride is that of groups of eight rows; the
/// first, of operands that lie by outputs, that of groups of 64 outputs.
template <Lies lies>
DEVICE std::uint64_t operand(const void* p) {
  constexpr std::uint64_t next_outputs = lies == Lies::outer ? 64 * 128 : 16;
  return (shared_address(p) & 0x3ffffu) >> 4 | next_outputs >> 4 << 16 |
         std::uint64_t{1024 >> 4} << 32 | std::uint64_t{1} << 62;
}

template <int count>
DEVICE void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count>
DEVICE void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
DEVICE void operands_fence() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
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
template <int count>
DEVICE void group_registers(float (&sum)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+f"(sum[i])::"memory");
}

}  // namespace fst::kernels::gpu

#else
#include "emulate_hopper.h"
#endif
