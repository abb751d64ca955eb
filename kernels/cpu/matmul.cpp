#include "kernels/matmul.h"

#include <algorithm>
#include <numeric>

#include "kernels/cpu/elementwise_isa.h"
#include "kernels/cpu/matmul_isa.h"
#include "kernels/cpu/scratch.h"
#include "kernels/thread_pool.h"

namespace fst::kernels {

namespace {

std::int64_t panels_of(std::int64_t n) {
  return (n + panel_columns - 1) / panel_columns;
}

/// Fewest multiply-adds that are worth another thread: some ten microseconds of one core.
constexpr std::int64_t grain_work = 1 << 20;

/// Cuts the output over the threads: by rows where there are many, else by panels of columns.
void run(const Cpu& cpu, const Product& p) {
  if (p.rows <= 0 || p.columns <= 0) return;
  const std::int64_t panels = panels_of(p.columns);
  const bool by_rows = p.rows >= p.columns;
  const std::int64_t units = by_rows ? p.rows : panels;
  const std::int64_t unit_work = std::max<std::int64_t>(1, p.rows * p.columns / units * p.inner);
  parallel_for(cpu, units, grain_work / unit_work + 1, [&](std::int64_t begin, std::int64_t end) {
    Product part = p;
    if (by_rows) {
      part.rows = end - begin;
      part.a += begin * p.a_row;
      part.c += begin * p.ldc;
    } else {
      const std::int64_t first = begin * panel_columns;
      part.columns = std::min(end * panel_columns, p.columns) - first;
      part.b += p.ldb == 0 ? first * p.inner : first;
      part.c += first;
      if (p.bias != nullptr) part.bias += first;
    }
    for_isa(cpu, [&]<Isa isa>() {
      Matmul<isa>::product(part, scratch(Matmul<isa>::scratch_size(part)));
    });
  });
}

}  // namespace

std::int64_t packed_weight_size(std::int64_t n, std::int64_t k) {
  return panels_of(n) * panel_columns * k;
}

template <>
void pack_weight(const Cpu& cpu, float* packed, const void* weight, Storage storage, std::int64_t n,
                 std::int64_t k) {
  const std::int64_t bytes = storage == Storage::f32 ? 4 : 2;
  for_isa(cpu, [&]<Isa isa>() {
    parallel_for(cpu, panels_of(n), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t panel = begin; panel < end; ++panel) {
        const std::int64_t first = panel * panel_columns;
        Matmul<isa>::pack_panel(packed + first * k,
                                static_cast<const char*>(weight) + first * k * bytes, storage,
                                std::min(panel_columns, n - first), k);
      }
    });
  });
}

template <>
void linear_forward(const Cpu& cpu, float* y, std::int64_t ldy, const float* x, std::int64_t ldx,
                    const float* packed, const float* bias, std::int64_t rows, std::int64_t n,
                    std::int64_t k, SumOrder order, Update update) {
  run(cpu, {y, ldy, x, ldx, 1, packed, 0, bias, rows, n, k, order, update, false});
}

template <>
void linear_backward_input(const Cpu& cpu, float* dx, std::int64_t lddx, const float* dy,
                           std::int64_t lddy, const float* weight, std::int64_t ldw,
                           std::int64_t rows, std::int64_t n, std::int64_t k, SumOrder order,
                           Update update) {
  run(cpu, {dx, lddx, dy, lddy, 1, weight, ldw, nullptr, rows, k, n, order, update, false});
}

template <>
void linear_backward_input(const Cpu& cpu, float* dx, std::int64_t lddx, const float* dy,
                           std::int64_t lddy, const float* weight, std::int64_t ldw,
                           std::int64_t rows, const std::int64_t* sizes, std::int64_t matrices,
                           std::int64_t k, SumOrder order, Update update) {
  const std::int64_t n = std::accumulate(sizes, sizes + matrices, std::int64_t{0});
  run(cpu, {dx, lddx, dy, lddy, 1, weight, ldw, nullptr, rows, k, n, order, update, false, sizes,
            matrices});
}

template <>
void linear_backward_weight(const Cpu& cpu, float* dweight, std::int64_t lddw, const float* dy,
                            std::int64_t lddy, const float* x, std::int64_t ldx, std::int64_t rows,
                            std::int64_t n, std::int64_t k, Chain chain) {
  run(cpu, {dweight, lddw, dy, 1, lddy, x, ldx, nullptr, n, k, rows, SumOrder::chain,
            Update::overwrite, chain == Chain::resume});
}

template <>
void bias_backward(const Cpu& cpu, float* dbias, const float* dy, std::int64_t lddy,
                   std::int64_t rows, std::int64_t n) {
  for_isa(cpu, [&]<Isa isa>() {
    parallel_for(cpu, n, grain_work / (rows + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
      Matmul<isa>::add_rows(dbias + begin, dy + begin, lddy, rows, end - begin);
    });
  });
}

}  // namespace fst::kernels
