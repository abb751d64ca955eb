#include <limits>

#include "kernels/cuda/scatter.h"
#include "kernels/cuda/storage.h"
#include "kernels/cuda/tiles.h"
#include "kernels/elementwise.h"

namespace fst::kernels {

namespace {

using namespace gpu;

struct Addends {
  float y, x;
};

template <class Y, class X>
KERNEL(tile_threads, 4)
add_elements(Y* y, std::int64_t ldy, const X* x, std::int64_t ldx, std::int64_t columns) {
  each_element(
      columns,
      [&](std::int64_t r, std::int64_t c) {
        return Addends{widened(y[r * ldy + c]), widened(x[r * ldx + c])};
      },
      [&](std::int64_t r, std::int64_t c, Addends a) {
        y[r * ldy + c] = narrowed_to<Y>(a.y + a.x);
      });
}

/// What waits for its pair, of each thread its own column.
struct Stack {
  float waiting[join_depth][tile_threads];
};

/// As the header says. A thread meets nobody, so there is nothing to wait for.
KERNEL(tile_threads, 4)
join_elements(float* y, const float* const* parts, const std::int32_t* joins, std::int64_t count,
              std::int64_t n) {
  Stack& stack = shared_memory<Stack>();
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * tile_threads + thread;
  if (i >= n) return;
  int top = 0;
  for (std::int64_t p = 0; p < count; ++p) {
    float last = parts[p][i];
    for (std::int32_t j = joins[p]; j > 0; --j) last = stack.waiting[--top][thread] + last;
    stack.waiting[top++][thread] = last;
  }
  y[i] = stack.waiting[0][thread];
}

template <class T>
KERNEL(tile_threads, 4)
fill_elements(T* y, std::int64_t ldy, T value, std::int64_t columns) {
  each_element(
      columns, [&](std::int64_t, std::int64_t) { return value; },
      [&](std::int64_t r, std::int64_t c, T v) { y[r * ldy + c] = v; });
}

/// Row r from row index[r], or from row r without an index.
template <class T>
KERNEL(tile_threads, 4)
copy_elements(T* y, std::int64_t ldy, const T* x, std::int64_t ldx, const std::int32_t* index,
              std::int64_t columns) {
  each_element(
      columns,
      [&](std::int64_t r, std::int64_t c) {
        return x[(index == nullptr ? r : index[r]) * ldx + c];
      },
      [&](std::int64_t r, std::int64_t c, T v) { y[r * ldy + c] = v; });
}

/// As in cpu/elementwise.isa.cpp, where the constants are explained.
DEVICE std::uint16_t narrow_f16(float x) {
  const std::uint32_t bits = bits_of(x);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const std::uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const std::uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - (126u << 23);
  std::uint32_t half = magnitude < (113u << 23) ? subnormal : normal;
  half = magnitude >= 0x477ff000u ? 0x7c00u : half;
  half = magnitude > 0x7f800000u ? 0x7e00u | ((magnitude >> 13) & 0x3ffu) : half;
  return static_cast<std::uint16_t>(half | sign);
}

template <Storage storage>
KERNEL(tile_threads, 4)
widen_elements(float* y, const std::uint16_t* x, std::int64_t count) {
  each_element(
      count, [&](std::int64_t, std::int64_t i) { return x[i]; },
      [&](std::int64_t, std::int64_t i, std::uint16_t v) {
        y[i] = storage == Storage::bf16 ? widen_bf16(v) : widen_f16(v);
      });
}

template <Storage storage>
KERNEL(tile_threads, 4)
narrow_elements(std::uint16_t* y, const float* x, std::int64_t count) {
  each_element(
      count, [&](std::int64_t, std::int64_t i) { return x[i]; },
      [&](std::int64_t, std::int64_t i, float v) {
        y[i] = storage == Storage::bf16 ? kernels::narrowed(v).bits : narrow_f16(v);
      });
}

/// Rows without a gap are one long row, which fills its tiles.
void join_rows(std::int64_t& rows, std::int64_t& columns, bool dense) {
  if (!dense) return;
  columns *= rows;
  rows = 1;
}

void copy_floats(const Cuda& cuda, float* y, const float* x, std::int64_t count) {
  launch_tiles(cuda, copy_elements<float>, 1, count, y, count, x, count, nullptr, count);
}

template <class Y, class X>
void add_rows(const Cuda& cuda, Y* y, std::int64_t ldy, const X* x, std::int64_t ldx,
              std::int64_t rows, std::int64_t columns) {
  join_rows(rows, columns, ldy == columns && ldx == columns);
  launch_tiles(cuda, add_elements<Y, X>, rows, columns, y, ldy, x, ldx, columns);
}

template <class T>
void fill_rows(const Cuda& cuda, T* y, std::int64_t ldy, float value, std::int64_t rows,
               std::int64_t columns) {
  join_rows(rows, columns, ldy == columns);
  launch_tiles(cuda, fill_elements<T>, rows, columns, y, ldy, narrowed_to<T>(value), columns);
}

/// With an index, row i from row index[i].
template <class T>
void take_rows(const Cuda& cuda, T* y, std::int64_t ldy, const T* x, std::int64_t ldx,
               const std::int32_t* index, std::int64_t rows, std::int64_t columns) {
  if (index == nullptr) join_rows(rows, columns, ldy == columns && ldx == columns);
  launch_tiles(cuda, copy_elements<T>, rows, columns, y, ldy, x, ldx, index, columns);
}

/// Of any index.
constexpr VocabRows all_rows{0, std::numeric_limits<std::int64_t>::max()};

}  // namespace

template <>
void add(const Cuda& cuda, float* y, std::int64_t ldy, const float* x, std::int64_t ldx,
         std::int64_t rows, std::int64_t columns) {
  add_rows(cuda, y, ldy, x, ldx, rows, columns);
}

template <>
void add(const Cuda& cuda, Bf16* y, std::int64_t ldy, const Bf16* x, std::int64_t ldx,
         std::int64_t rows, std::int64_t columns) {
  add_rows(cuda, y, ldy, x, ldx, rows, columns);
}

template <>
void add(const Cuda& cuda, Bf16* y, std::int64_t ldy, const float* x, std::int64_t ldx,
         std::int64_t rows, std::int64_t columns) {
  add_rows(cuda, y, ldy, x, ldx, rows, columns);
}

template <>
void join(const Cuda& cuda, float* y, const float* const* parts, const std::int32_t* joins,
          std::int64_t count, std::int64_t n) {
  if (n <= 0) return;
  const auto parts_bytes = static_cast<std::size_t>(count) * sizeof(const float*);
  const auto joins_bytes = static_cast<std::size_t>(count) * sizeof(std::int32_t);
  auto* const device_parts = static_cast<const float**>(scratch(cuda, parts_bytes + joins_bytes));
  auto* const device_joins = reinterpret_cast<std::int32_t*>(device_parts + count);
  copy_to_device(cuda, device_parts, parts, parts_bytes);
  copy_to_device(cuda, device_joins, joins, joins_bytes);
  const auto blocks = static_cast<unsigned>((n + tile_threads - 1) / tile_threads);
  launch(join_elements, dim3(blocks), dim3(tile_threads), sizeof(Stack), cuda.stream, y,
         static_cast<const float* const*>(device_parts),
         static_cast<const std::int32_t*>(device_joins), count, n);
}

template <>
void fill(const Cuda& cuda, float* y, std::int64_t ldy, float value, std::int64_t rows,
          std::int64_t columns) {
  fill_rows(cuda, y, ldy, value, rows, columns);
}

template <>
void fill(const Cuda& cuda, Bf16* y, std::int64_t ldy, float value, std::int64_t rows,
          std::int64_t columns) {
  fill_rows(cuda, y, ldy, value, rows, columns);
}

template <>
void widen(const Cuda& cuda, float* y, const void* x, Storage storage, std::int64_t count) {
  if (storage == Storage::f32) return copy_floats(cuda, y, static_cast<const float*>(x), count);
  const auto kernel =
      storage == Storage::bf16 ? widen_elements<Storage::bf16> : widen_elements<Storage::f16>;
  launch_tiles(cuda, kernel, 1, count, y, static_cast<const std::uint16_t*>(x), count);
}

template <>
void narrow(const Cuda& cuda, void* y, Storage storage, const float* x, std::int64_t count) {
  if (storage == Storage::f32) return copy_floats(cuda, static_cast<float*>(y), x, count);
  const auto kernel =
      storage == Storage::bf16 ? narrow_elements<Storage::bf16> : narrow_elements<Storage::f16>;
  launch_tiles(cuda, kernel, 1, count, static_cast<std::uint16_t*>(y), x, count);
}

template <>
void copy_rows(const Cuda& cuda, float* y, std::int64_t ldy, const float* x, std::int64_t ldx,
               std::int64_t rows, std::int64_t columns) {
  take_rows(cuda, y, ldy, x, ldx, nullptr, rows, columns);
}

template <>
void gather_rows(const Cuda& cuda, float* y, std::int64_t ldy, const float* x, std::int64_t ldx,
                 const std::int32_t* index, std::int64_t count, std::int64_t columns) {
  take_rows(cuda, y, ldy, x, ldx, index, count, columns);
}

template <>
void scatter_add_rows(const Cuda& cuda, float* dx, std::int64_t lddx, const float* dy,
                      std::int64_t lddy, const std::int32_t* index, std::int64_t count,
                      std::int64_t columns) {
  scatter_add(cuda, dx, lddx, dy, lddy, index, count, columns, all_rows);
}

template <>
void copy_rows(const Cuda& cuda, Bf16* y, std::int64_t ldy, const Bf16* x, std::int64_t ldx,
               std::int64_t rows, std::int64_t columns) {
  take_rows(cuda, y, ldy, x, ldx, nullptr, rows, columns);
}

template <>
void gather_rows(const Cuda& cuda, Bf16* y, std::int64_t ldy, const Bf16* x, std::int64_t ldx,
                 const std::int32_t* index, std::int64_t count, std::int64_t columns) {
  take_rows(cuda, y, ldy, x, ldx, index, count, columns);
}

template <>
void scatter_add_rows(const Cuda& cuda, Bf16* dx, std::int64_t lddx, const Bf16* dy,
                      std::int64_t lddy, const std::int32_t* index, std::int64_t count,
                      std::int64_t columns) {
  scatter_add(cuda, dx, lddx, dy, lddy, index, count, columns, all_rows);
}

}  // namespace fst::kernels
