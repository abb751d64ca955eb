#include "kernels/cuda/math.h"
#include "tests/cuda/words.h"

namespace fst::kernels::test {
namespace {

using namespace gpu;

struct Sums {
  float warps[8];
};

/// out[row] = the sum of a row of x: 16-byte loads, halves by shuffles, warps through shared
/// memory.
KERNEL(256, 2)
row_sums(const float* __restrict__ x, float* __restrict__ out, std::int64_t columns) {
  Sums& shared = shared_memory<Sums>();
  const std::int64_t row = blockIdx.x;
  const int warp = uniform(static_cast<int>(threadIdx.x / 32));
  float sum = 0.0f;
  for (std::int64_t c = 4 * std::int64_t{threadIdx.x}; c < columns; c += 4 * std::int64_t{256}) {
    const float4 four = *reinterpret_cast<const float4*>(x + row * columns + c);
    sum = fma(1.0f, four.x + four.y, sum) + (four.z + four.w);
  }
  for (int half = 16; half > 0; half /= 2) sum += shuffle_xor(sum, half);
  if (threadIdx.x % 32 == 0) shared.warps[warp] = sum;
  sync_block();
  if (threadIdx.x == 0) {
    for (int w = 1; w < 8; ++w) sum += shared.warps[w];
    out[row] = sum;
  }
}

KERNEL(256, 1) narrowed_pairs(std::uint32_t low, std::uint32_t* pairs) {
  const std::uint32_t i = blockIdx.x * 256 + threadIdx.x;
  const float x = float_of(i << 16 | low);
  pairs[i] = narrowed_pair(x, -x);
}

KERNEL(256, 1) falling_exponentials(float* y, const float* x, std::int64_t n) {
  const std::int64_t i = std::int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (i < n) y[i] = exp_falling(x[i]);
}

/// Each word once; out[thread] in the order of the fields of Words.
KERNEL(64, 1) all_words(std::int64_t* counts, std::int32_t* least, Words* out) {
  const int t = static_cast<int>(threadIdx.x);
  Words words{};
  words.shuffled = shuffle(100 + t, 7);
  words.crossed = shuffle_xor(100 + t, 5);
  words.any_of_first = any(t == 3);
  words.any_of_none = any(t < 0);
  words.uniform = uniform(t);
  words.bits = bits_of(-1.5f);
  words.value = float_of(0x3fc00000u);
  words.fused = fma(1.0f + 0x1p-12f, 1.0f - 0x1p-12f, -1.0f);
  words.root = root(2.0f);
  words.greatest = greatest(greatest(-2.0f, float_of(0xff800000u)), -3.0f);
  words.greatest_left = greatest(float_of(0x7fc00000u), 1.0f);
  words.greatest_right = greatest(1.0f, float_of(0xffc00000u));
  words.denormal = 0x1p-126f * (0.25f + 0.0f * static_cast<float>(t));
  add_atomic(counts, std::int64_t{1} << 33);
  min_atomic(least, 40 - t);
  out[blockIdx.x * blockDim.x + threadIdx.x] = words;
}

}  // namespace

void sum_rows(const Cuda& cuda, const float* x, float* out, std::int64_t rows,
              std::int64_t columns) {
  launch(row_sums, static_cast<unsigned>(rows), 256, sizeof(Sums), cuda.stream, x, out, columns);
}

void say_words(const Cuda& cuda, unsigned blocks, std::int64_t* counts, std::int32_t* least,
               Words* out) {
  launch(all_words, blocks, 64, 0, cuda.stream, counts, least, out);
}

void exp_falling_each(const Cuda& cuda, float* y, const float* x, std::int64_t n) {
  launch(falling_exponentials, dim3(static_cast<unsigned>((n + 255) / 256)), dim3(256), 0,
         cuda.stream, y, x, n);
}

void narrow_pairs(const Cuda& cuda, std::uint32_t low, std::uint32_t* pairs) {
  launch(narrowed_pairs, dim3(256), dim3(256), 0, cuda.stream, low, pairs);
}

}  // namespace fst::kernels::test
