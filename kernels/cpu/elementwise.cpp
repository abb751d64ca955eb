#include "kernels/elementwise.h"

#include <cstring>

#include "kernels/cpu/elementwise_isa.h"
#include "kernels/thread_pool.h"

namespace fst::kernels {

namespace {

/// Elements that are worth another thread: a few microseconds of copying.
constexpr std::int64_t grain_elements = 1 << 15;

std::int64_t grain_rows(std::int64_t columns) {
  return grain_elements / (columns + 1) + 1;
}

/// Calls `f(r, begin, end)` for columns [begin, end) of all rows: the threads take rows, of a
/// single row its columns.
template <class F>
void for_parts(const Cpu& cpu, std::int64_t rows, std::int64_t columns, F&& f) {
  if (rows == 1) {
    parallel_for(cpu, columns, grain_elements,
                 [&](std::int64_t begin, std::int64_t end) { f(std::int64_t{0}, begin, end); });
    return;
  }
  parallel_for(cpu, rows, grain_rows(columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) f(r, std::int64_t{0}, columns);
  });
}

/// Calls `f(r)` for all rows, cut over the threads.
template <class F>
void for_rows(const Cpu& cpu, std::int64_t rows, std::int64_t columns, F&& f) {
  parallel_for(cpu, rows, grain_rows(columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) f(r);
  });
}

std::int64_t bytes_of(Storage storage) {
  return storage == Storage::f32 ? 4 : 2;
}

}  // namespace

template <class Exec, class Y, class X>
void add(const Exec& cpu, Y* y, std::int64_t ldy, const X* x, std::int64_t ldx, std::int64_t rows,
         std::int64_t columns) {
  for_isa(cpu, [&]<Isa isa>() {
    for_parts(cpu, rows, columns, [&](std::int64_t r, std::int64_t begin, std::int64_t end) {
      ElementwiseRow<isa>::add(y + r * ldy + begin, x + r * ldx + begin, end - begin);
    });
  });
}

template <class Exec, class T>
void fill(const Exec& cpu, T* y, std::int64_t ldy, float value, std::int64_t rows,
          std::int64_t columns) {
  for_isa(cpu, [&]<Isa isa>() {
    for_parts(cpu, rows, columns, [&](std::int64_t r, std::int64_t begin, std::int64_t end) {
      ElementwiseRow<isa>::fill(y + r * ldy + begin, value, end - begin);
    });
  });
}

template <>
void join(const Cpu& cpu, float* y, const float* const* parts, const std::int32_t* joins,
          std::int64_t count, std::int64_t n) {
  for_isa(cpu, [&]<Isa isa>() {
    parallel_for(cpu, n, grain_elements, [&](std::int64_t begin, std::int64_t end) {
      ElementwiseRow<isa>::join(y, parts, joins, count, begin, end);
    });
  });
}

template <>
void widen(const Cpu& cpu, float* y, const void* x, Storage storage, std::int64_t count) {
  for_isa(cpu, [&]<Isa isa>() {
    parallel_for(cpu, count, grain_elements, [&](std::int64_t begin, std::int64_t end) {
      const auto* from = static_cast<const char*>(x) + begin * bytes_of(storage);
      ElementwiseRow<isa>::widen(y + begin, from, storage, end - begin);
    });
  });
}

template <>
void narrow(const Cpu& cpu, void* y, Storage storage, const float* x, std::int64_t count) {
  for_isa(cpu, [&]<Isa isa>() {
    parallel_for(cpu, count, grain_elements, [&](std::int64_t begin, std::int64_t end) {
      auto* to = static_cast<char*>(y) + begin * bytes_of(storage);
      ElementwiseRow<isa>::narrow(to, storage, x + begin, end - begin);
    });
  });
}

template <class Exec, class T>
void copy_rows(const Exec& cpu, T* y, std::int64_t ldy, const T* x, std::int64_t ldx,
               std::int64_t rows, std::int64_t columns) {
  for_rows(cpu, rows, columns, [&](std::int64_t r) {
    std::memcpy(y + r * ldy, x + r * ldx, static_cast<std::size_t>(columns) * sizeof(T));
  });
}

template <class Exec, class T>
void gather_rows(const Exec& cpu, T* y, std::int64_t ldy, const T* x, std::int64_t ldx,
                 const std::int32_t* index, std::int64_t count, std::int64_t columns) {
  for_rows(cpu, count, columns, [&](std::int64_t r) {
    std::memcpy(y + r * ldy, x + index[r] * ldx, static_cast<std::size_t>(columns) * sizeof(T));
  });
}

template <class Exec, class T>
void scatter_add_rows(const Exec& cpu, T* dx, std::int64_t lddx, const T* dy, std::int64_t lddy,
                      const std::int32_t* index, std::int64_t count, std::int64_t columns) {
  // Threads take columns, not rows: equal indices must add in order.
  for_isa(cpu, [&]<Isa isa>() {
    parallel_for(cpu, columns, grain_rows(count), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = 0; r < count; ++r) {
        ElementwiseRow<isa>::add(dx + index[r] * lddx + begin, dy + r * lddy + begin, end - begin);
      }
    });
  });
}

using Size = std::int64_t;
template void add(const Cpu&, float*, Size, const float*, Size, Size, Size);
template void add(const Cpu&, Bf16*, Size, const Bf16*, Size, Size, Size);
template void add(const Cpu&, Bf16*, Size, const float*, Size, Size, Size);
template void fill(const Cpu&, float*, Size, float, Size, Size);
template void fill(const Cpu&, Bf16*, Size, float, Size, Size);
template void copy_rows(const Cpu&, float*, Size, const float*, Size, Size, Size);
template void copy_rows(const Cpu&, Bf16*, Size, const Bf16*, Size, Size, Size);
template void gather_rows(const Cpu&, float*, Size, const float*, Size, const std::int32_t*, Size,
                          Size);
template void gather_rows(const Cpu&, Bf16*, Size, const Bf16*, Size, const std::int32_t*, Size,
                          Size);
template void scatter_add_rows(const Cpu&, float*, Size, const float*, Size, const std::int32_t*,
                               Size, Size);
template void scatter_add_rows(const Cpu&, Bf16*, Size, const Bf16*, Size, const std::int32_t*,
                               Size, Size);

}  // namespace fst::kernels
