#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <tuple>
#include <utility>

#include <cuda_runtime.h>

#include "kernels/bf16.h"

/// The words of kernels/cuda/gpu.h, executed on the CPU: one fiber per thread, which runs until it
/// waits for others. Each word is a thin wrapper round a function of namespace fst::emulator.
#define KERNEL(threads, blocks) void
#define PARAMETER const
#define DEVICE inline

/// Of what touches the stacks of other threads on behalf of a word.
#define FST_NOT_CHECKED __attribute__((no_sanitize("thread")))

namespace fst::emulator {

#if defined(__SANITIZE_THREAD__)
/// The kernels of this file report their accesses; see checks.h.
bool enable_checks();
namespace {
[[maybe_unused]] const bool checks_enabled = enable_checks();
}
void count_multiply_add();
#endif
inline void note_multiply_add() {
#if defined(__SANITIZE_THREAD__)
  count_multiply_add();
#endif
}

using Place = std::source_location;

/// A kernel and its arguments; call() is what one thread does.
struct Body {
  virtual ~Body() = default;
  virtual void call() = 0;
};

void queue_launch(const void* kernel, std::unique_ptr<Body> body, std::size_t body_bytes, dim3 grid,
                  dim3 block, std::size_t shared, cudaStream_t stream);
void* shared_arena(std::size_t bytes, std::size_t alignment, const Place& place);
void meet_block(const Place& place);

void meet_warp_barrier(const Place& place);
void wait_for_copies(std::size_t groups_under_way);

/// What a warp does together: every lane brings its arguments, the last one to come performs the
/// word for all 32.
using Lanes = void* const*;
void meet_warp(const char* word, void* arguments, void (*perform)(Lanes), const Place& place);

template <class... Parameters>
struct BodyOf final : Body {
  void (*kernel)(Parameters...);
  std::tuple<Parameters...> arguments;
  template <class... Arguments>
  explicit BodyOf(void (*k)(Parameters...), Arguments&&... a)
      : kernel(k), arguments(static_cast<Parameters>(a)...) {}
  void call() override { std::apply(kernel, arguments); }
};

inline int lane() {
  return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) %
                          32);
}

template <class T>
struct Shuffle {
  T value, result;
  int lane;
  FST_NOT_CHECKED static void perform(Lanes lanes) {
    for (int i = 0; i < 32; ++i) {
      auto& to = *static_cast<Shuffle*>(lanes[i]);
      to.result = static_cast<const Shuffle*>(lanes[to.lane & 31])->value;
    }
  }
};

}  // namespace fst::emulator

namespace fst::kernels::gpu {

using emulator::Place;

template <class T>
T& shared_memory(const Place& place = Place::current()) {
  return *static_cast<T*>(emulator::shared_arena(sizeof(T), alignof(T), place));
}

inline void sync_block(const Place& place = Place::current()) {
  emulator::meet_block(place);
}
inline void sync_warp(const Place& place = Place::current()) {
  emulator::meet_warp_barrier(place);
}

template <class T>
T shuffle(T value, int lane, const Place& place = Place::current()) {
  emulator::Shuffle<T> move{value, value, lane};
  emulator::meet_warp("shuffle", &move, emulator::Shuffle<T>::perform, place);
  return move.result;
}
template <class T>
T shuffle_xor(T value, int mask, const Place& place = Place::current()) {
  emulator::Shuffle<T> move{value, value, emulator::lane() ^ mask};
  emulator::meet_warp("shuffle_xor", &move, emulator::Shuffle<T>::perform, place);
  return move.result;
}
bool any(bool flag, const Place& place = Place::current());
inline int uniform(int value, const Place& place = Place::current()) {
  return gpu::shuffle(value, 0, place);
}

void add_atomic(std::int32_t* to, std::int32_t value);
void add_atomic(std::int64_t* to, std::int64_t value);
void min_atomic(std::int32_t* to, std::int32_t value);

inline std::uint32_t bits_of(float value) {
  return std::bit_cast<std::uint32_t>(value);
}
inline float float_of(std::uint32_t bits) {
  return std::bit_cast<float>(bits);
}
inline std::uint32_t narrowed_pair(float low, float high) {
  const auto half = [](float x) { return x == x ? narrowed(x).bits : std::uint16_t{0x7fff}; };
  return half(low) | std::uint32_t{half(high)} << 16;
}
inline float fma(float a, float b, float c) {
  emulator::note_multiply_add();
  return __builtin_fmaf(a, b, c);
}
inline double fma(double a, double b, double c) {
  emulator::note_multiply_add();
  return __builtin_fma(a, b, c);
}
inline float root(float x) {
  return __builtin_sqrtf(x);
}
inline float greatest(float a, float b) {
  if (a != a || b != b) return float_of(0x7fffffffu);
  return a > b ? a : b;
}

void copy_async_16(void* to, const void* from, bool inside = true,
                   const Place& place = Place::current());
void copy_async_commit();
template <int under_way>
void copy_async_wait() {
  emulator::wait_for_copies(under_way);
}

void load_matrix_x4(std::uint32_t (&to)[4], const void* row, const Place& place = Place::current());
void load_matrix_x4_transposed(std::uint32_t (&to)[4], const void* row,
                               const Place& place = Place::current());
void multiply_16x8x16(float (&sum)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                      const Place& place = Place::current());

/// Throw what the launch, or the memory for it, was refused with; kernels/cuda/cuda.cu.
void check_launch();
void check_shared(cudaError_t error, std::size_t bytes);

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared,
            cudaStream_t stream, Arguments&&... arguments) {
  using Body = emulator::BodyOf<Parameters...>;
  emulator::queue_launch(reinterpret_cast<const void*>(kernel),
                         std::make_unique<Body>(kernel, std::forward<Arguments>(arguments)...),
                         sizeof(Body), grid, block, shared, stream);
  check_launch();
}
template <class... Parameters>
void allow_shared(void (*kernel)(Parameters...), std::size_t bytes) {
  check_shared(
      cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                           cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
      bytes);
}

}  // namespace fst::kernels::gpu
