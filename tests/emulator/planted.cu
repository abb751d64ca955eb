#include "planted.h"
#include "tests/cuda/staged_product.h"

namespace fst::emulator::test {
namespace {

using namespace kernels::gpu;
using kernels::Cuda;

constexpr unsigned threads = 128;

struct ForgottenWait : kernels::test::StagedRight {
  static constexpr int under_way = 2;
};
struct EarlyRefill : kernels::test::StagedRight {
  static constexpr bool refill_after_barrier = false;
};

struct Row {
  float a[threads];
};
struct RowAndRest {
  float a[threads];
  float rest[4];
};

DEVICE int thread() {
  return static_cast<int>(threadIdx.x);
}

KERNEL(threads, 1) missing_barrier(const float* in, float* out) {
  Row& row = shared_memory<Row>();
  const int t = thread();
  row.a[t] = in[t];
  out[t] = row.a[127 - t];
}

KERNEL(threads, 1) array_overrun(const float* in, float* out) {
  RowAndRest& shared = shared_memory<RowAndRest>();
  const int t = thread();
  shared.a[t] = in[t];
  sync_block();
  out[t] = shared.a[t + 1];
}

KERNEL(threads, 1) half_a_block_at_the_barrier(const float* in, float* out) {
  const int t = thread();
  if (t < 64) return;
  sync_block();
  out[t] = in[t];
}

KERNEL(threads, 1) barrier_at_two_places(const float* in, float* out) {
  const int t = thread();
  if (t < 64) {
    sync_block();
  } else {
    sync_block();
  }
  out[t] = in[t];
}

KERNEL(threads, 1) shared_never_written(const float* in, float* out) {
  const Row& row = shared_memory<Row>();
  const int t = thread();
  out[t] = in[t] + row.a[t];
}

KERNEL(threads, 1) misaligned_load(const float* in, float* out) {
  const int t = thread();
  const float4 four = *reinterpret_cast<const float4*>(in + 1 + 4 * t);
  out[t] = four.x + four.w;
}

KERNEL(threads, 1) two_blocks_write_one_place(const float* in, float* out) {
  const int t = thread();
  out[t] = in[t] * static_cast<float>(blockIdx.x + 1);
}

KERNEL(threads, 1) half_a_warp_shuffles(const float* in, float* out) {
  const int t = thread();
  float value = in[t];
  if (t % 32 < 16) value = shuffle_xor(value, 1);
  out[t] = value;
}

KERNEL(threads, 1) read_past_the_end(const float* in, float* out) {
  const int t = thread();
  out[t] = in[t + static_cast<int>(planted_floats) - 100];
}

KERNEL(threads, 1) write_after_read(const float* in, float* out) {
  Row& row = shared_memory<Row>();
  const int t = thread();
  row.a[t] = in[t];
  sync_block();
  const float next = row.a[(t + 1) % 128];
  row.a[t] = 2.0f * next;
  sync_block();
  out[t] = row.a[t];
}

KERNEL(threads, 1) lockstep_in_a_warp(const float* in, float* out) {
  Row& row = shared_memory<Row>();
  const int t = thread();
  row.a[t] = 0.0f;
  sync_block();
  row.a[t] = in[t];
  out[t] = row.a[t ^ 1];
}

KERNEL(threads, 1) copy_read_before_its_wait(const float* in, float* out) {
  Row& row = shared_memory<Row>();
  const int t = thread();
  if (t < 32) copy_async_16(&row.a[4 * t], in + 4 * t);
  copy_async_commit();
  sync_block();
  out[t] = row.a[t];
  copy_async_wait<0>();
}

KERNEL(threads, 1) copy_awaited_without_barrier(const float* in, float* out) {
  Row& row = shared_memory<Row>();
  const int t = thread();
  if (t < 32) copy_async_16(&row.a[4 * t], in + 4 * t);
  copy_async_commit();
  copy_async_wait<0>();
  out[t] = row.a[127 - t];
}

KERNEL(threads, 1) copy_of_what_is_overwritten(float* in, float* out) {
  Row& row = shared_memory<Row>();
  const int t = thread();
  if (t < 32) copy_async_16(&row.a[4 * t], in + 4 * t);
  copy_async_commit();
  sync_block();
  in[t] = 0.0f;
  copy_async_wait<0>();
  sync_block();
  out[t] = row.a[t];
}

KERNEL(threads, 1) copy_row(const float* in, float* out) {
  const int t = thread();
  out[t] = in[t];
}

KERNEL(threads, 1) add_one(const float* in, float* out) {
  const std::int64_t t = blockIdx.x * threads + threadIdx.x;
  out[t] = in[t] + 1.0f;
}

KERNEL(threads, 1) twice(const float* in, float* out) {
  const std::int64_t t = blockIdx.x * threads + threadIdx.x;
  out[t] = 2.0f * in[t];
}

template <auto kernel, unsigned blocks = 1, std::size_t shared = 0>
void planted(const Cuda& cuda, const float* in, float* out) {
  launch(kernel, blocks, threads, shared, cuda.stream, in, out);
}

/// 32x16 of a product of depth 64: four steps through the ring of three.
template <class Variant>
void planted_product(const Cuda& cuda, const float* in, float* out) {
  const auto* const halves = reinterpret_cast<const std::uint16_t*>(in);
  launch(kernels::test::staged_product<Variant>, 1, 64, sizeof(kernels::test::Stages), cuda.stream,
         halves, halves, out, 16, 64);
}

void planted_overwrite(const Cuda& cuda, const float* in, float* out) {
  constexpr std::size_t bytes = threads * sizeof(float);
  float* copy = nullptr;
  kernels::check(cudaMalloc(&copy, bytes), "cudaMalloc");
  kernels::copy_on_device(cuda, copy, in, bytes);
  launch(copy_of_what_is_overwritten, 1, threads, sizeof(Row), cuda.stream, copy, out);
  cudaFree(copy);
}

void planted_null(const Cuda& cuda, const float*, float* out) {
  launch(copy_row, 1, threads, 0, cuda.stream, nullptr, out);
}

void planted_freed(const Cuda& cuda, const float*, float* out) {
  float* gone = nullptr;
  kernels::check(cudaMalloc(&gone, 4096), "cudaMalloc");
  kernels::check(cudaFree(gone), "cudaFree");
  launch(copy_row, 1, threads, 0, cuda.stream, gone, out);
}

void planted_struct(const Cuda& cuda, const float* in, float* out) {
  launch(missing_barrier, 1, threads, sizeof(Row) - 4, cuda.stream, in, out);
}

}  // namespace

const std::vector<Planted>& planted_mistakes() {
  static const std::vector<Planted> all{
      {"a missing barrier", planted<missing_barrier, 1, sizeof(Row)>, Shows::as_nan, "",
       "uninitialised read: reads 4 bytes at byte 508 of 512 bytes of shared memory at "
       "planted.cu:"},
      {"an index past a shared array", planted<array_overrun, 1, sizeof(RowAndRest)>, Shows::as_nan,
       "", "thread 127 of block (0,0,0): index 128 out of bounds of its array at planted.cu:"},
      {"a barrier that half a block meets", planted<half_a_block_at_the_barrier>, Shows::as_failure,
       "deadlock in block (0,0,0): 64 from thread 64 on wait in sync_block at planted.cu:",
       "; 64 have exited"},
      {"a barrier at two places", planted<barrier_at_two_places>, Shows::as_failure,
       "divergent barrier", "divergent barrier"},
      {"shared memory never written", planted<shared_never_written, 1, sizeof(Row)>, Shows::as_nan,
       "",
       "uninitialised read: reads 4 bytes at byte 0 of 512 bytes of shared memory at planted.cu:"},
      {"a misaligned 16-byte load", planted<misaligned_load>, Shows::not_at_all, "",
       "misaligned access: an address 4 bytes behind a multiple of 16 at planted.cu:"},
      {"two blocks that write one place", planted<two_blocks_write_one_place, 2>, Shows::in_bits,
       "",
       "thread 0 of block (1,0,0): race: writes 4 bytes at byte 0 of 4096 bytes of device memory, "
       "which thread 0 of block (0,0,0) wrote with no barrier between at planted.cu:"},
      {"half a warp that shuffles", planted<half_a_warp_shuffles>, Shows::as_failure,
       "wait in shuffle_xor at planted.cu:", "deadlock"},
      {"a read past the end", planted<read_past_the_end>, Shows::as_failure,
       "0 bytes behind the end of 4096 bytes of device memory at planted.cu:",
       "out of bounds: reads 4 bytes at 0 bytes behind the end of 4096 bytes of device memory at "
       "planted.cu:"},
      {"a write after a read", planted<write_after_read, 1, sizeof(Row)>, Shows::in_bits, "",
       "which thread 127 read with no barrier between at planted.cu:"},
      {"lockstep assumed in a warp", planted<lockstep_in_a_warp, 1, sizeof(Row)>, Shows::in_bits,
       "",
       "thread 1 of block (0,0,0): race: writes 4 bytes at byte 4 of 512 bytes of shared memory, "
       "which thread 0 read with no barrier between at planted.cu:"},
      {"a copy that is read before its wait", planted<copy_read_before_its_wait, 1, sizeof(Row)>,
       Shows::as_nan, "",
       "thread 127 of block (0,0,0): race: reads 4 bytes at byte 508 of 512 bytes of shared "
       "memory, "
       "where an asynchronous copy is under way at planted.cu:"},
      {"a copy that others read without a barrier",
       planted<copy_awaited_without_barrier, 1, sizeof(Row)>, Shows::as_nan, "",
       "thread 0 of block (0,0,0): uninitialised read"},
      {"a copy whose source is overwritten", planted_overwrite, Shows::in_bits, "",
       "thread 127 of block (0,0,0): race: writes 4 bytes at byte 508 of 512 bytes of device "
       "memory, "
       "from where an asynchronous copy is under way at planted.cu:"},
      {"a ring whose stage is read before it is filled", planted_product<ForgottenWait>,
       Shows::as_nan, "", "where an asynchronous copy is under way at staged_product.h:"},
      {"a ring whose stage is refilled before it was read", planted_product<EarlyRefill>,
       Shows::in_bits, "", "race: writes 16 bytes"},
      {"a null pointer", planted_null, Shows::as_failure, "bad access: a null pointer",
       "out of bounds: reads 4 bytes at a null pointer at planted.cu:"},
      {"memory that was freed", planted_freed, Shows::as_failure, "bad access",
       "out of bounds: reads 4 bytes at an address that is no device memory at planted.cu:"},
      {"less shared memory than the struct", planted_struct, Shows::as_failure,
       "a struct of 512 bytes, but the launch asked for 508", "shared_memory at planted.cu:"},
  };
  return all;
}

void run_two_streams(const Cuda& cuda, const float* in, float* out, bool forget_event) {
  using kernels::check;
  cudaStream_t other = nullptr;
  cudaEvent_t ready = nullptr;
  float* between = nullptr;
  check(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), "cudaStreamCreate");
  check(cudaEventCreateWithFlags(&ready, cudaEventDisableTiming), "cudaEventCreate");
  check(cudaMalloc(&between, planted_floats * sizeof(float)), "cudaMalloc");
  constexpr unsigned blocks = planted_floats / threads;
  launch(add_one, blocks, threads, 0, other, in, between);
  check(cudaEventRecord(ready, other), "cudaEventRecord");
  if (!forget_event) check(cudaStreamWaitEvent(cuda.stream, ready, 0), "cudaStreamWaitEvent");
  launch(twice, blocks, threads, 0, cuda.stream, between, out);
  cudaStreamSynchronize(cuda.stream);
  cudaEventDestroy(ready);
  cudaFree(between);
  cudaStreamDestroy(other);
}

}  // namespace fst::emulator::test
