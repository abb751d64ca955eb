#pragma once

#include <cstdint>

#include "kernels/bf16.h"
#include "kernels/exec.h"

namespace fst::kernels {

/// How floats are stored. Arithmetic is always float32.
enum class Storage : std::uint8_t { f32, bf16, f16 };

/// y[r, c] = y[r, c] + x[r, c], added in float32 and rounded once to what y holds. Y and X are
/// float or Bf16, and where Y is float X is too; rows `ldy` and `ldx` elements apart.
template <class Exec, class Y, class X>
void add(const Exec&, Y* y, std::int64_t ldy, const X* x, std::int64_t ldx, std::int64_t rows,
         std::int64_t columns);
/// y[i] = a tree of sums over parts[0][i], parts[1][i], ..., in one pass over memory. The tree is
/// written as a stack machine runs it: part p is pushed, then joins[p] times the two topmost are
/// replaced by (lower + upper), one rounded addition each; one value is left. ((0 + 1) + (2 + 3))
/// is {0, 1, 0, 2}. At most `join_depth` values may lie on the stack. y may be one of the parts.
/// The arrays `parts` and `joins` lie in host memory.
inline constexpr std::int64_t join_depth = 16;
template <class Exec>
void join(const Exec&, float* y, const float* const* parts, const std::int32_t* joins,
          std::int64_t count, std::int64_t n);
/// y[r, c] = value, rounded to what y holds. From here on T is float or Bf16.
template <class Exec, class T>
void fill(const Exec&, T* y, std::int64_t ldy, float value, std::int64_t rows,
          std::int64_t columns);
/// y[i] = x[i], exactly: every bf16 and f16 value is a float32 value. NaNs stay NaNs.
template <class Exec>
void widen(const Exec&, float* y, const void* x, Storage storage, std::int64_t count);
/// y[i] = x[i], rounded to nearest even; too large for f16 gives infinity, NaNs stay NaNs.
template <class Exec>
void narrow(const Exec&, void* y, Storage storage, const float* x, std::int64_t count);
/// y[r, c] = x[r, c]; rows `ldy` and `ldx` elements apart.
template <class Exec, class T>
void copy_rows(const Exec&, T* y, std::int64_t ldy, const T* x, std::int64_t ldx, std::int64_t rows,
               std::int64_t columns);
/// y[i] = x[index[i]], rows of `columns` elements; `ldy` and `ldx` elements apart.
template <class Exec, class T>
void gather_rows(const Exec&, T* y, std::int64_t ldy, const T* x, std::int64_t ldx,
                 const std::int32_t* index, std::int64_t count, std::int64_t columns);
/// dx[index[i]] += dy[i], i ascending: one addition each, rounded to T. Equal indices add in order.
template <class Exec, class T>
void scatter_add_rows(const Exec&, T* dx, std::int64_t lddx, const T* dy, std::int64_t lddy,
                      const std::int32_t* index, std::int64_t count, std::int64_t columns);

}  // namespace fst::kernels
