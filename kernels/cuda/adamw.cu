#include "kernels/adamw.h"
#include "kernels/cuda/math.h"
#include "kernels/cuda/tiles.h"

namespace fst::kernels {

namespace {

using namespace gpu;

struct Moments {
  float parameter, m, v, gradient;
};

KERNEL(tile_threads, 4)
step_elements(float* parameter, float* m, float* v, const float* gradient, std::int64_t n,
              AdamWScalars s) {
  each_element(
      n,
      [&](std::int64_t, std::int64_t i) {
        return Moments{parameter[i], m[i], v[i], gradient[i]};
      },
      [&](std::int64_t, std::int64_t i, Moments at) {
        const float g = s.clip * at.gradient;
        const float next_m = fma(s.keep_m, at.m, s.take_m * g);
        const float next_v = fma(s.keep_v, at.v, (s.take_v * g) * g);
        const float denominator = root(next_v) * s.root + s.eps;
        parameter[i] = at.parameter * s.decay - (s.rate * next_m) / denominator;
        m[i] = next_m;
        v[i] = next_v;
      });
}

// sum_of_squares: digits of 32 bits as in ExactSum, collected in 64-bit integers, whose sums have
// no order. A float's square is an integer below 2^48 times 2^(2 e - 300), e its biased exponent,
// and touches three digits: in units of 2^-1074, the first is digit (774 + 2 e) / 32.
constexpr int square_threads = 256;
constexpr int first_digit = 776 / 32;
constexpr int square_digits = (774 + 2 * 254) / 32 + 3 - first_digit;
constexpr int sum_words = square_digits + 1;      // the last counts infinities and NaNs
constexpr int window = 5;                         // digits that a thread keeps for itself
constexpr std::int64_t blocks_at_once = 132 * 8;  // they fill an H100
// Digits grow by less than 2^32 an element: no word overflows within this many.
constexpr std::int64_t elements_at_once = std::int64_t{1} << 30;

/// The three digits of a square.
struct Square {
  int first;  // less first_digit
  std::int64_t low, middle, high;
};
DEVICE Square square_of(std::uint32_t magnitude) {
  const std::uint32_t exponent = magnitude >> 23;
  const std::uint32_t fraction = magnitude & 0x7fffffu;
  const std::uint64_t whole = exponent == 0 ? fraction : fraction | 0x800000u;
  const std::uint64_t square = whole * whole;
  const std::uint32_t shift = 774u + 2u * (exponent == 0 ? 1u : exponent);
  const std::uint32_t offset = shift & 31u;
  const std::uint64_t low = square << offset;
  const std::uint64_t high = offset == 0 ? 0 : square >> (64 - offset);
  return {static_cast<int>(shift >> 5) - first_digit, static_cast<std::int64_t>(low & 0xffffffffu),
          static_cast<std::int64_t>(low >> 32), static_cast<std::int64_t>(high)};
}

/// A thread's share: five digits from `begin` on, so three places for the first digit of a square.
/// Larger squares move the window up; much smaller ones (below 2^-32 of the largest) go round it.
struct Window {
  int begin = 0;
  std::int64_t digit[window] = {};
  bool used = false;

  DEVICE void hand_over(std::int64_t* to) {
    for (int i = 0; i < window; ++i) {
      if (digit[i] != 0) add_atomic(to + begin + i, digit[i]);
      digit[i] = 0;
    }
  }
  DEVICE void take(const Square& square, std::int64_t* to) {
    if (!used || square.first > begin + window - 3) {
      hand_over(to);
      const int last = square_digits - window;
      const int below = square.first < 1 ? 0 : square.first - 1;
      begin = below < last ? below : last;
      used = true;
    }
    const int at = square.first - begin;
    if (at < 0) {
      add_atomic(to + square.first, square.low);
      add_atomic(to + square.first + 1, square.middle);
      add_atomic(to + square.first + 2, square.high);
      return;
    }
#pragma unroll
    for (int i = 0; i < window; ++i) {  // no indexing by a variable: the window is in registers
      digit[i] += at == i       ? square.low
                  : at == i - 1 ? square.middle
                  : at == i - 2 ? square.high
                                : 0;
    }
  }
};

struct SquareShared {
  std::int64_t sums[sum_words];
};

KERNEL(square_threads, 4) add_squares(std::int64_t* total, const float* x, std::int64_t n) {
  SquareShared& shared = shared_memory<SquareShared>();
  if (threadIdx.x < sum_words) shared.sums[threadIdx.x] = 0;
  sync_block();
  Window mine;
  std::int64_t not_finite = 0;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * square_threads;
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * square_threads + threadIdx.x;
  for (std::int64_t at = begin; at < n; at += tile_parts * step) {
    std::uint32_t magnitudes[tile_parts] = {};
#pragma unroll
    for (int part = 0; part < tile_parts; ++part) {
      if (at + part * step < n) magnitudes[part] = bits_of(x[at + part * step]) & ~sign_bit;
    }
#pragma unroll
    for (const std::uint32_t magnitude : magnitudes) {
      if (magnitude == 0) continue;
      if (magnitude >= infinity_bits) {
        ++not_finite;
      } else {
        mine.take(square_of(magnitude), shared.sums);
      }
    }
  }
  mine.hand_over(shared.sums);
  if (not_finite != 0) add_atomic(shared.sums + square_digits, not_finite);
  sync_block();
  if (threadIdx.x < sum_words && shared.sums[threadIdx.x] != 0) {
    add_atomic(total + threadIdx.x, shared.sums[threadIdx.x]);
  }
}

}  // namespace

template <>
void adamw(const Cuda& cuda, float* parameter, float* m, float* v, const float* gradient,
           std::int64_t n, const AdamWScalars& scalars) {
  launch_tiles(cuda, step_elements, 1, n, parameter, m, v, gradient, n, scalars);
}

template <>
void sum_of_squares(const Cuda& cuda, ExactSum& sum, const float* x, std::int64_t n) {
  for (std::int64_t begin = 0; begin < n; begin += elements_at_once) {
    const std::int64_t count = n - begin < elements_at_once ? n - begin : elements_at_once;
    const std::int64_t blocks = (count + tile_elements - 1) / tile_elements;
    auto* const total = static_cast<std::int64_t*>(scratch(cuda, sizeof(SquareShared)));
    check(cudaMemsetAsync(total, 0, sizeof(SquareShared), cuda.stream), "cudaMemset");
    launch(add_squares,
           dim3(static_cast<unsigned>(blocks < blocks_at_once ? blocks : blocks_at_once)),
           dim3(square_threads), sizeof(SquareShared), cuda.stream, total, x + begin, count);
    std::int64_t found[sum_words] = {};
    copy_to_host(cuda, found, total, sizeof found);
    std::array<std::int64_t, ExactSum::words> state{};
    for (int i = 0; i < square_digits; ++i)
      state[static_cast<std::size_t>(first_digit + i)] = found[i];
    state[ExactSum::digits] = found[square_digits];
    sum.merge(ExactSum::from_state(state));
  }
}

}  // namespace fst::kernels
