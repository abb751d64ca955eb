#include "kernels/cpu/elementwise_isa.h"
#include "kernels/cpu/matmul_isa.h"

namespace fst::kernels {

namespace {

constexpr std::int64_t width = panel_columns;

/// sum[j] continues its chains over the inner indices [begin, end).
void chain(float* sum, const Product& p, std::int64_t row, std::int64_t first, std::int64_t count,
           std::int64_t begin, std::int64_t end) {
  const float* a = p.a + row * p.a_row;
  float total[width];
  for (std::int64_t j = 0; j < width; ++j) total[j] = j < count ? sum[j] : 0.0f;
  for (std::int64_t k = begin; k < end; ++k) {
    const float factor = a[k * p.a_inner];
    if (p.ldb == 0) {
      const float* b = p.b + first * p.inner + k * width;
      for (std::int64_t j = 0; j < width; ++j) total[j] = __builtin_fmaf(factor, b[j], total[j]);
    } else {
      const float* b = p.b + k * p.ldb + first;
      for (std::int64_t j = 0; j < count; ++j) total[j] = __builtin_fmaf(factor, b[j], total[j]);
    }
  }
  for (std::int64_t j = 0; j < count; ++j) sum[j] = total[j];
}

void tree(float* sum, const Product& p, std::int64_t row, std::int64_t first, std::int64_t count) {
  float leaf[8][width] = {};
  for (std::int64_t i = 0; i < 8; ++i) {
    chain(leaf[i], p, row, first, count, i * p.inner / 8, (i + 1) * p.inner / 8);
  }
  for (std::int64_t j = 0; j < count; ++j) {
    sum[j] = ((leaf[0][j] + leaf[1][j]) + (leaf[2][j] + leaf[3][j])) +
             ((leaf[4][j] + leaf[5][j]) + (leaf[6][j] + leaf[7][j]));
  }
}

}  // namespace

template <Isa isa>
void Matmul<isa>::product(const Product& p) {
  for (std::int64_t first = 0; first < p.columns; first += width) {
    const std::int64_t count = p.columns - first < width ? p.columns - first : width;
    for (std::int64_t i = 0; i < p.rows; ++i) {
      float* c = p.c + i * p.ldc + first;
      float sum[width] = {};
      if (p.resume) {
        for (std::int64_t j = 0; j < count; ++j) sum[j] = c[j];
      }
      if (p.order == SumOrder::chain) {
        chain(sum, p, i, first, count, 0, p.inner);
      } else {
        tree(sum, p, i, first, count);
      }
      for (std::int64_t j = 0; j < count; ++j) {
        const float r = p.bias == nullptr ? sum[j] : sum[j] + p.bias[first + j];
        c[j] = p.update == Update::add ? c[j] + r : r;
      }
    }
  }
}

template <Isa isa>
void Matmul<isa>::add_rows(float* sum, const float* x, std::int64_t ldx, std::int64_t rows,
                           std::int64_t columns) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t j = 0; j < columns; ++j) sum[j] = sum[j] + x[r * ldx + j];
  }
}

template <Isa isa>
void Matmul<isa>::pack_panel(float* packed, const void* weight, Storage storage,
                             std::int64_t columns, std::int64_t k) {
  constexpr std::int64_t block = 64;
  const std::int64_t bytes = storage == Storage::f32 ? 4 : 2;
  float rows[width][block] = {};
  for (std::int64_t first = 0; first < k; first += block) {
    const std::int64_t count = k - first < block ? k - first : block;
    for (std::int64_t j = 0; j < columns; ++j) {
      const char* from = static_cast<const char*>(weight) + (j * k + first) * bytes;
      ElementwiseRow<isa>::widen(rows[j], from, storage, count);
    }
    for (std::int64_t i = 0; i < count; ++i) {
      for (std::int64_t j = 0; j < width; ++j) packed[(first + i) * width + j] = rows[j][i];
    }
  }
}

template struct Matmul<Isa::FST_ISA_NS>;

}  // namespace fst::kernels
