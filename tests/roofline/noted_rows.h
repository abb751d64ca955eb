#pragma once

#include "kernels/adamw.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"
#include "roofline/noted.h"

/// Operations on rows; see noted.h. Vocabulary rows are counted once for each token.
namespace fst::kernels {

template <class Y, class X>
void add(const Cuda& cuda, Y* y, std::int64_t ldy, const X* x, std::int64_t ldx, std::int64_t rows,
         std::int64_t columns) {
  using namespace roofline;
  const std::int64_t n = rows * columns;
  const Noted noted("add", type_name<Y>(), {{"rows", rows}, {"columns", columns}},
                    {n * (size<Y> + size<X>), n * size<Y>, n});
  add<Cuda, Y, X>(cuda, y, ldy, x, ldx, rows, columns);
}

inline void join(const Cuda& cuda, float* y, const float* const* parts, const std::int32_t* joins,
                 std::int64_t count, std::int64_t n) {
  using namespace roofline;
  const Noted noted("join", "f32", {{"parts", count}, {"n", n}},
                    {count * n * word, n * word, (count - 1) * n});
  join<Cuda>(cuda, y, parts, joins, count, n);
}

template <class T>
void fill(const Cuda& cuda, T* y, std::int64_t ldy, float value, std::int64_t rows,
          std::int64_t columns) {
  using namespace roofline;
  const Noted noted("fill", type_name<T>(), {{"rows", rows}, {"columns", columns}},
                    {0, rows * columns * size<T>, 0});
  fill<Cuda, T>(cuda, y, ldy, value, rows, columns);
}

inline void widen(const Cuda& cuda, float* y, const void* x, Storage storage, std::int64_t count) {
  using namespace roofline;
  const Noted noted("widen", "f32", {{"n", count}}, {count * size_of(storage), count * word, 0});
  widen<Cuda>(cuda, y, x, storage, count);
}

inline void narrow(const Cuda& cuda, void* y, Storage storage, const float* x, std::int64_t count) {
  using namespace roofline;
  const Noted noted("narrow", "f32", {{"n", count}}, {count * word, count * size_of(storage), 0});
  narrow<Cuda>(cuda, y, storage, x, count);
}

template <class T>
void copy_rows(const Cuda& cuda, T* y, std::int64_t ldy, const T* x, std::int64_t ldx,
               std::int64_t rows, std::int64_t columns) {
  using namespace roofline;
  const std::int64_t bytes = rows * columns * size<T>;
  const Noted noted("copy_rows", type_name<T>(), {{"rows", rows}, {"columns", columns}},
                    {bytes, bytes, 0});
  copy_rows<Cuda, T>(cuda, y, ldy, x, ldx, rows, columns);
}

template <class T>
void gather_rows(const Cuda& cuda, T* y, std::int64_t ldy, const T* x, std::int64_t ldx,
                 const std::int32_t* index, std::int64_t count, std::int64_t columns) {
  using namespace roofline;
  const std::int64_t bytes = count * columns * size<T>;
  const Noted noted("gather_rows", type_name<T>(), {{"rows", count}, {"columns", columns}},
                    {bytes + count * word, bytes, 0});
  gather_rows<Cuda, T>(cuda, y, ldy, x, ldx, index, count, columns);
}

template <class T>
void scatter_add_rows(const Cuda& cuda, T* dx, std::int64_t lddx, const T* dy, std::int64_t lddy,
                      const std::int32_t* index, std::int64_t count, std::int64_t columns) {
  using namespace roofline;
  const std::int64_t n = count * columns;
  const Noted noted("scatter_add_rows", type_name<T>(), {{"rows", count}, {"columns", columns}},
                    {2 * n * size<T> + count * word, n * size<T>, n});
  scatter_add_rows<Cuda, T>(cuda, dx, lddx, dy, lddy, index, count, columns);
}

template <class T>
void embedding_forward(const Cuda& cuda, T* y, const std::int32_t* tokens, const T* table,
                       std::int64_t rows, std::int64_t dim, const VocabRows& vocab) {
  using namespace roofline;
  const std::int64_t bytes = rows * dim * size<T>;
  const Noted noted("embedding_forward", type_name<T>(), {{"rows", rows}, {"dim", dim}},
                    {bytes + rows * word, bytes, 0});
  embedding_forward<Cuda, T>(cuda, y, tokens, table, rows, dim, vocab);
}

template <class T>
void embedding_backward(const Cuda& cuda, float* dtable, const T* dy, const std::int32_t* tokens,
                        std::int64_t rows, std::int64_t dim, const VocabRows& vocab) {
  using namespace roofline;
  const std::int64_t n = rows * dim;
  const Noted noted("embedding_backward", type_name<T>(), {{"rows", rows}, {"dim", dim}},
                    {n * (word + size<T>)+rows * word, n * word, n});
  embedding_backward<Cuda, T>(cuda, dtable, dy, tokens, rows, dim, vocab);
}

template <class T>
void rms_norm_forward(const Cuda& cuda, T* y, float* rstd, const T* x, const float* weight,
                      std::int64_t rows, std::int64_t dim, float eps) {
  using namespace roofline;
  const std::int64_t n = rows * dim;
  const Noted noted("rms_norm_forward", type_name<T>(), {{"rows", rows}, {"dim", dim}},
                    {n * size<T> + dim * word, n * size<T> + rows * word, 4 * n});
  rms_norm_forward<Cuda, T>(cuda, y, rstd, x, weight, rows, dim, eps);
}

template <class T>
void rms_norm_backward(const Cuda& cuda, T* dx, float* dweight, const T* dy, const T* x,
                       const float* rstd, const float* weight, std::int64_t rows, std::int64_t dim,
                       bool accumulate) {
  using namespace roofline;
  const std::int64_t n = rows * dim, row_inputs = (accumulate ? 3 : 2) * n * size<T>;
  const Noted noted("rms_norm_backward", type_name<T>(),
                    {{"rows", rows}, {"dim", dim}, {"accumulate", accumulate}},
                    {row_inputs + (rows + 2 * dim) * word, n * size<T> + dim * word, 9 * n});
  rms_norm_backward<Cuda, T>(cuda, dx, dweight, dy, x, rstd, weight, rows, dim, accumulate);
}

namespace noted {
/// Positions, table and weight of rows of heads.
inline std::int64_t tables(const HeadRows& s) {
  return (s.rows + s.rows * s.dim + (s.weight == nullptr ? 0 : s.dim)) * roofline::word;
}
}  // namespace noted

template <class T>
void head_norm_rope_forward(const Cuda& cuda, T* y, std::int64_t y_stride, float* rstd, const T* x,
                            std::int64_t x_stride, float eps, const HeadRows& s) {
  using namespace roofline;
  const std::int64_t n = s.rows * s.heads * s.dim;
  const std::int64_t norms = s.weight == nullptr ? 0 : s.rows * s.heads * word;
  const Noted noted("head_norm_rope_forward", type_name<T>(),
                    {{"rows", s.rows}, {"heads", s.heads}, {"dim", s.dim}},
                    {n * size<T> + noted::tables(s), n * size<T> + norms, 7 * n});
  head_norm_rope_forward<Cuda, T>(cuda, y, y_stride, rstd, x, x_stride, eps, s);
}

template <class T>
void head_norm_rope_backward(const Cuda& cuda, T* dx, std::int64_t dx_stride, float* dweight,
                             const T* dy, std::int64_t dy_stride, const T* x, std::int64_t x_stride,
                             const float* rstd, const HeadRows& s) {
  using namespace roofline;
  const std::int64_t n = s.rows * s.heads * s.dim;
  const bool norm = s.weight != nullptr;
  const std::int64_t weights = norm ? s.heads * s.dim * word : 0;
  const std::int64_t norms = norm ? n * size<T> + s.rows * s.heads * word : 0;
  const Noted noted("head_norm_rope_backward", type_name<T>(),
                    {{"rows", s.rows}, {"heads", s.heads}, {"dim", s.dim}},
                    {n * size<T> + norms + weights + noted::tables(s), n * size<T> + weights,
                     (norm ? 12 : 3) * n});
  head_norm_rope_backward<Cuda, T>(cuda, dx, dx_stride, dweight, dy, dy_stride, x, x_stride, rstd,
                                   s);
}

template <class T>
void swiglu_forward(const Cuda& cuda, T* h, const T* gate_up, std::int64_t rows, std::int64_t dim) {
  using namespace roofline;
  const std::int64_t n = rows * dim;
  const Noted noted("swiglu_forward", type_name<T>(), {{"rows", rows}, {"dim", dim}},
                    {2 * n * size<T>, n * size<T>, 5 * n});
  swiglu_forward<Cuda, T>(cuda, h, gate_up, rows, dim);
}

template <class T>
void swiglu_backward(const Cuda& cuda, T* dgate_up, const T* dh, const T* gate_up,
                     std::int64_t rows, std::int64_t dim) {
  using namespace roofline;
  const std::int64_t n = rows * dim;
  const Noted noted("swiglu_backward", type_name<T>(), {{"rows", rows}, {"dim", dim}},
                    {3 * n * size<T>, 2 * n * size<T>, 10 * n});
  swiglu_backward<Cuda, T>(cuda, dgate_up, dh, gate_up, rows, dim);
}

inline void adamw(const Cuda& cuda, float* parameter, float* m, float* v, const float* gradient,
                  std::int64_t n, const AdamWScalars& scalars) {
  using namespace roofline;
  const Noted noted("adamw", "f32", {{"n", n}}, {4 * n * word, 3 * n * word, 14 * n});
  adamw<Cuda>(cuda, parameter, m, v, gradient, n, scalars);
}

inline void sum_of_squares(const Cuda& cuda, ExactSum& sum, const float* x, std::int64_t n) {
  using namespace roofline;
  const Noted noted("sum_of_squares", "f32", {{"n", n}}, {n * word, 0, 2 * n});
  sum_of_squares<Cuda>(cuda, sum, x, n);
}

}  // namespace fst::kernels
