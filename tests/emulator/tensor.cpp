#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "machine.h"

/// The warp's matrix words. The arithmetic is the published bit-accurate model of NVIDIA's tensor
/// cores (Xie et al., arXiv:2511.10909); its definition in plain words and the test that this file
/// agrees with it are in tests/cuda/tensor_core.h and tensor_test.cpp.
namespace fst::emulator {
namespace {

constexpr int rows = 16, columns = 8, depth = 16;
constexpr int lowest_exponent = -126;

TensorCore core = TensorCore::hopper;

/// A finite number as mantissa * 2^(exponent - fraction bits of its type); not normalised below
/// 2^-126.
struct Parts {
  std::int32_t mantissa;
  std::int32_t exponent;
};

Parts parts_of(std::uint32_t bits, int fraction_bits) {
  const auto field = static_cast<std::int32_t>(bits >> fraction_bits & 0xff);
  const auto fraction = static_cast<std::int32_t>(bits & ((1u << fraction_bits) - 1));
  const std::int32_t mantissa = field == 0 ? fraction : fraction | 1 << fraction_bits;
  const bool negative = (bits >> fraction_bits >> 8 & 1) != 0;
  return {negative ? -mantissa : mantissa, std::max(field - 127, lowest_exponent)};
}

bool is_finite(std::uint32_t bits, int fraction_bits) {
  return (bits >> fraction_bits & 0xff) != 0xff;
}

/// value * 2^shift, cut towards zero.
std::int64_t shifted(std::int64_t value, int shift) {
  if (shift >= 0) return value << shift;
  if (shift <= -63) return 0;
  return value >= 0 ? value >> -shift : -(-value >> -shift);
}

/// value * 2^exponent as a float32, cut towards zero.
float cut_to_float(std::int64_t value, int exponent) {
  const auto magnitude = static_cast<std::uint64_t>(std::abs(value));
  const int width = 64 - std::countl_zero(magnitude);
  const int dropped = std::max(std::max(width - 24, 0), -149 - exponent);
  const auto kept = static_cast<double>(dropped < 64 ? magnitude >> dropped : 0);
  const double result = std::ldexp(kept, exponent + dropped);
  return static_cast<float>(value < 0 ? -result : result);  // exact, or infinite
}

struct Operands {
  std::uint16_t a[rows][depth], b[columns][depth];  // b: by column
  float sum[rows][columns];
};

/// sum + products `first` to `first + count` of a row with a column: exact products, cut to
/// multiples of 2^(largest exponent - fraction), added exactly, cut to float32.
float add_products(const Parts* a, const Parts* b, float sum, int first, int count, int fraction) {
  const Parts c = parts_of(std::bit_cast<std::uint32_t>(sum), 23);
  int largest = c.exponent;
  std::int32_t products[depth];
  for (int i = first; i < first + count; ++i) {
    products[i] = a[i].mantissa * b[i].mantissa;
    if (products[i] != 0) largest = std::max(largest, a[i].exponent + b[i].exponent);
  }
  std::int64_t total = shifted(c.mantissa, c.exponent - 23 - largest + fraction);
  for (int i = first; i < first + count; ++i) {
    total += shifted(products[i], a[i].exponent + b[i].exponent - 14 - largest + fraction);
  }
  return cut_to_float(total, largest - fraction);
}

/// With infinities or NaNs the order does not matter; every NaN is the tensor core's own.
float add_specials(const std::uint16_t* a, const std::uint16_t* b, float sum) {
  const auto value = [](std::uint16_t bits) {
    return double{std::bit_cast<float>(std::uint32_t{bits} << 16)};
  };
  double total = sum;
  for (int i = 0; i < depth; ++i) total += value(a[i]) * value(b[i]);
  return std::isnan(total) ? std::bit_cast<float>(0x7fffffffu) : static_cast<float>(total);
}

struct MultiplyLane {
  float* sum;
  const std::uint32_t *a, *b;
};

std::uint16_t half(std::uint32_t pair, int i) {
  return static_cast<std::uint16_t>(pair >> 16 * i);
}

void multiply_warp(Lanes lanes) {
  Operands operands;
  for (int lane = 0; lane < 32; ++lane) {
    const auto& own = *static_cast<const MultiplyLane*>(lanes[lane]);
    const int group = lane / 4, pair = lane % 4 * 2;
    for (int i = 0; i < 2; ++i) {
      for (int m = 0; m < 4; ++m) {
        operands.a[group + m % 2 * 8][pair + i + m / 2 * 8] = half(own.a[m], i);
        operands.sum[group + m / 2 * 8][pair + m % 2] = own.sum[m];
      }
      for (int m = 0; m < 2; ++m) operands.b[group][pair + i + m * 8] = half(own.b[m], i);
    }
  }
  multiply_tile(operands.a[0], rows, operands.b[0], columns, operands.sum[0]);
  for (int lane = 0; lane < 32; ++lane) {
    const auto& own = *static_cast<const MultiplyLane*>(lanes[lane]);
    for (int m = 0; m < 4; ++m) {
      own.sum[m] = operands.sum[lane / 4 + m / 2 * 8][lane % 4 * 2 + m % 2];
    }
  }
}

struct LoadLane {
  std::uint32_t* to;
  const std::uint16_t* row;
};

template <bool transposed>
void load_warp(Lanes lanes) {
  const auto element = [&](int matrix, int row, int column) -> std::uint32_t {
    return static_cast<const LoadLane*>(lanes[8 * matrix + row])->row[column];
  };
  for (int lane = 0; lane < 32; ++lane) {
    for (int m = 0; m < 4; ++m) {
      const int one = lane / 4, pair = lane % 4 * 2;
      const std::uint32_t low = transposed ? element(m, pair, one) : element(m, one, pair);
      const std::uint32_t high = transposed ? element(m, pair + 1, one) : element(m, one, pair + 1);
      static_cast<const LoadLane*>(lanes[lane])->to[m] = low | high << 16;
    }
  }
}

void load(const char* word, std::uint32_t* to, const void* row, void (*perform)(Lanes),
          const Place& place) {
  const InEmulator inside;
  constexpr std::size_t row_bytes = 16;
  if (!shared_pages().holds(row, row_bytes)) {
    fail(std::string(word) + " at " + text_of(place) + " of " + describe_address(row));
  }
  if (reinterpret_cast<std::uintptr_t>(row) % row_bytes != 0) {
    fail(std::string(word) + " at " + text_of(place) + ": a misaligned address");
  }
  if (checking()) check_access(row, row_bytes, Access::read, place);
  if (counting) count_access(row, row_bytes, Access::read);
  LoadLane own{to, static_cast<const std::uint16_t*>(row)};
  meet_warp(word, &own, perform, place);
}

}  // namespace

void multiply_tile(const std::uint16_t* a, int a_rows, const std::uint16_t* b, int b_rows,
                   float* sum) {
  if (counting) count_tensor_product(a_rows, b_rows, depth);
  static std::vector<Parts> left, right;
  static std::vector<bool> left_finite, right_finite;
  const auto split = [](const std::uint16_t* from, int count, std::vector<Parts>& to,
                        std::vector<bool>& finite) {
    to.resize(static_cast<std::size_t>(count * depth));
    finite.assign(static_cast<std::size_t>(count), true);
    for (std::size_t i = 0; i < to.size(); ++i) {
      to[i] = parts_of(from[i], 7);
      if (!is_finite(from[i], 7)) finite[i / depth] = false;
    }
  };
  split(a, a_rows, left, left_finite);
  split(b, b_rows, right, right_finite);
  const int chain = core == TensorCore::hopper ? 16 : 8;
  const int fraction = core == TensorCore::hopper ? 25 : 24;
  for (int r = 0; r < a_rows; ++r) {
    for (int c = 0; c < b_rows; ++c, ++sum) {
      if (!left_finite[static_cast<std::size_t>(r)] || !right_finite[static_cast<std::size_t>(c)] ||
          !std::isfinite(*sum)) {
        *sum = add_specials(a + r * depth, b + c * depth, *sum);
        continue;
      }
      for (int first = 0; first < depth && std::isfinite(*sum); first += chain) {
        *sum = add_products(left.data() + r * depth, right.data() + c * depth, *sum, first, chain,
                            fraction);
      }
    }
  }
}

void set_tensor_core(TensorCore which) {
  core = which;
}
TensorCore tensor_core() {
  return core;
}

}  // namespace fst::emulator

namespace fst::kernels::gpu {

using namespace emulator;

void load_matrix_x4(std::uint32_t (&to)[4], const void* row, const Place& place) {
  load("load_matrix_x4", to, row, load_warp<false>, place);
}

void load_matrix_x4_transposed(std::uint32_t (&to)[4], const void* row, const Place& place) {
  load("load_matrix_x4_transposed", to, row, load_warp<true>, place);
}

void multiply_16x8x16(float (&sum)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                      const Place& place) {
  MultiplyLane own{sum, a, b};
  meet_warp("multiply_16x8x16", &own, multiply_warp, place);
}

}  // namespace fst::kernels::gpu
