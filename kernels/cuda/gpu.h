#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include <cuda_runtime.h>

/// The words that kernels are written in, and nothing else: under nvcc they are intrinsics and
/// one-line PTX, under a C++ compiler the emulator of tests/emulator executes them (found through
/// the include path, as is its cuda_runtime.h). A kernel therefore holds no #ifdef and no asm.
///
///   KERNEL(threads, blocks) name(...)    a kernel: threads per block, blocks an SM must hold
///   PARAMETER T name                     a kernel's argument that is a struct, read where it lies:
///                                        indexed or referred to without a copy on the stack
///   DEVICE                               a function that kernels call
///   launch(kernel, grid, block, shared bytes, stream, arguments...)
///   threadIdx blockIdx blockDim gridDim  as in CUDA
///   shared_memory<T>()                   the block's shared memory as one struct T
///   sync_block() sync_warp()             barriers; sync_warp orders the warp's memory accesses
///   shuffle(v, lane)  shuffle_xor(v, mask)   executed by all 32 lanes at one source place
///   any(flag)                            true in all lanes if true in one
///   uniform(v)                           v of lane 0, so that ptxas knows it is the same
///   everywhere add_atomic(p, v)  min_atomic(p, v)   integers only: no order can show
///   bits_of(float)  float_of(bits)       reinterpretation
///   narrowed_pair(low, high)             the bits of two bf16 side by side, each narrowed() as in
///                                        kernels/bf16.h; every NaN is 0x7fff
///   fma(a, b, c)  root(x)                rounded once; + - * / are IEEE too (nvcc: -fmad=false)
///   greatest(a, b)                       the greater one; NaN where one is; of two zeros, either
///   copy_async_16(to, from, inside)      16 aligned bytes from global to shared memory, or zeros
///                                        where not inside; they arrive at any time up to the wait
///   copy_async_commit()  copy_async_wait<n>()   closes a group of the thread's copies; waits until
///                                        at most the last n groups are under way, for the thread's
///                                        own copies: sync_block() shows them to others
///   load_matrix_x4(to, row)              four 8x8 matrices of 16-bit elements from shared memory;
///                                        lane 8 m + r brings the address of row r of matrix m and
///                                        gets of each m row lane/4, elements 2 (lane%4) and + 1
///   load_matrix_x4_transposed(to, row)   and gets rows 2 (lane%4) and + 1, element lane/4
///   multiply_16x8x16(sum, a, b)          sum += a b by the warp, of bf16 with float32 sums; which
///                                        lane holds what: tests/cuda/tensor_test.cpp, PTX ISA
///
/// Rules for kernels: blocks of whole warps; no early return before a later barrier unless the
/// whole block leaves; shared memory is one struct; pointers are reinterpreted only to float4,
/// int4, uint2 and uint4 of matching alignment; no library functions, no fast approximations, no
/// float atomics, no communication between blocks of one launch.
#if defined(__CUDACC__)

#define KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
#define PARAMETER const __grid_constant__
#define DEVICE __device__ __forceinline__

namespace fst::kernels::gpu {

template <class T>
DEVICE T& shared_memory() {
  extern __shared__ __align__(1024) unsigned char fst_shared_memory[];
  return *reinterpret_cast<T*>(fst_shared_memory);
}

DEVICE void sync_block() {
  __syncthreads();
}
DEVICE void sync_warp() {
  __syncwarp();
}

template <class T>
DEVICE T shuffle(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
template <class T>
DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
DEVICE bool any(bool flag) {
  return __any_sync(0xffffffffu, flag) != 0;
}
DEVICE int uniform(int value) {
  return __shfl_sync(0xffffffffu, value, 0);
}

DEVICE void add_atomic(std::int32_t* to, std::int32_t value) {
  atomicAdd(to, value);
}
DEVICE void add_atomic(std::int64_t* to, std::int64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
}
DEVICE void min_atomic(std::int32_t* to, std::int32_t value) {
  atomicMin(to, value);
}

DEVICE std::uint32_t bits_of(float value) {
  return __float_as_uint(value);
}
DEVICE float float_of(std::uint32_t bits) {
  return __uint_as_float(bits);
}
DEVICE std::uint32_t narrowed_pair(float low, float high) {
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
DEVICE float fma(float a, float b, float c) {
  return __fmaf_rn(a, b, c);
}
DEVICE double fma(double a, double b, double c) {
  return __fma_rn(a, b, c);
}
DEVICE float root(float x) {
  return __fsqrt_rn(x);
}
DEVICE float greatest(float a, float b) {
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}

DEVICE void copy_async_16(void* to, const void* from, bool inside = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(to))), "l"(from),
                 "r"(inside ? 16 : 0)
               : "memory");
}
DEVICE void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int under_way>
DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(under_way) : "memory");
}

DEVICE void load_matrix_x4(std::uint32_t (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
               : "memory");
}
DEVICE void load_matrix_x4_transposed(std::uint32_t (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
               : "memory");
}
DEVICE void multiply_16x8x16(float (&sum)[4], const std::uint32_t (&a)[4],
                             const std::uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// Queues a kernel on a stream. Throws CudaError (cuda.h) where the launch is refused.
void check_launch();
/// Throws CudaError where a kernel was refused this much shared memory.
void check_shared(cudaError_t error, std::size_t bytes);

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared,
            cudaStream_t stream, Arguments&&... arguments) {
  kernel<<<grid, block, shared, stream>>>(static_cast<Parameters>(arguments)...);
  check_launch();
}
/// Shared memory above 48 KiB has to be asked for, once per kernel and process.
template <class... Parameters>
void allow_shared(void (*kernel)(Parameters...), std::size_t bytes) {
  check_shared(
      cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                           cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
      bytes);
}

}  // namespace fst::kernels::gpu

#else
#include "emulate.h"
#endif
