#include "kernels/matmul_bf16.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>
#include <xmmintrin.h>

#include "kernels/cpu/matmul_bf16_isa.h"
#include "kernels/cpu/scratch.h"
#include "kernels/thread_pool.h"

namespace fst::kernels {

namespace {

/// While it lives, this thread's vector instructions flush denormal results and operands to zero.
/// The arithmetic meant is in another file: the compiler may move that of this one out of its life.
class FlushDenormals {
 public:
  FlushDenormals() : before_(_mm_getcsr()) {
    constexpr unsigned flush_results = 1u << 15, flush_operands = 1u << 6;
    _mm_setcsr(before_ | flush_results | flush_operands);
  }
  ~FlushDenormals() { _mm_setcsr(before_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  unsigned before_;
};

std::int64_t parts_of(std::int64_t n, std::int64_t size) {
  return (n + size - 1) / size;
}

/// The inner dimension: blocks in order, and the chains they make.
struct Inner {
  std::vector<Block> blocks;
  std::vector<std::int64_t> ends;  // behind the last block of each chain

  void add_blocks(std::int64_t begin, std::int64_t end) {
    for (; begin < end; begin += block_size) {
      blocks.push_back({begin, std::min(block_size, end - begin)});
    }
  }
  void end_chain() { ends.push_back(count()); }
  void add_leaves(std::int64_t begin, std::int64_t size, SumOrder order) {
    const auto leaves = static_cast<std::int64_t>(order);
    for (std::int64_t i = 0; i < leaves; ++i) {
      add_blocks(begin + i * size / leaves, begin + (i + 1) * size / leaves);
      end_chain();
    }
  }
  std::int64_t count() const { return static_cast<std::int64_t>(blocks.size()); }
};

Inner inner_of(std::int64_t size, SumOrder order) {
  Inner inner;
  inner.add_leaves(0, size, order);
  return inner;
}

/// c(i, j) = tree of chains of blocks of a(i, k) b(k, j), then bias, update and rounding.
template <class Y>
struct Bf16Product {
  Y* c;
  std::int64_t ldc;
  Bf16Operand a;
  Bf16Operand b;
  const Bf16* packed;  // b in panels instead; or nullptr
  const float* bias;
  std::int64_t rows, columns;
  const Inner* inner;
  std::int64_t leaves;  // chains of each matrix; more matrices follow, to be added in turn
  Update update;
  bool resume;  // the one chain starts at the old c

  Bf16Product rows_of(std::int64_t begin, std::int64_t end) const {
    Bf16Product part = *this;
    part.rows = end - begin;
    part.a.x += begin * a.line_step;
    part.c += begin * ldc;
    return part;
  }
  /// `begin` is a multiple of 32.
  Bf16Product columns_of(std::int64_t begin, std::int64_t end) const {
    Bf16Product part = *this;
    part.columns = end - begin;
    part.c += begin;
    if (packed != nullptr) {
      part.packed += begin * block_size * inner->count();
    } else {
      part.b.x += begin * b.line_step;
    }
    if (bias != nullptr) part.bias += begin;
    return part;
  }
};

// Only speed depends on these. A strip of the left operand and the sums take a few 100 KB each.
constexpr std::int64_t most_rows = 192, most_columns = 512, few_rows = 16;
constexpr std::int64_t left_floats = 1 << 17, right_blocks = 32;

/// Working memory of one call on one thread, and how much of it is used at once.
struct Work {
  std::int64_t rows, columns;  // of the output
  std::int64_t piece;          // blocks of the inner dimension
  bool keeps_left;             // the left operand of a strip is packed once, for all its columns
  float* sums[5];              // the current leaf, three finished subtrees, the matrices before
  float* left;
  Bf16* right;  // unless it is packed already

  template <class Y>
  explicit Work(const Bf16Product<Y>& p)
      : rows(std::min(p.rows, most_rows)), columns(std::min(p.columns, most_columns)) {
    const std::int64_t count = std::max<std::int64_t>(1, p.inner->count());
    keeps_left = count * rows * block_size <= left_floats;
    // With few rows the time goes into reading the weights: panel after panel is one stream.
    if (keeps_left && p.packed != nullptr && rows <= few_rows) {
      columns = std::min(columns, panel_columns);
    }
    const std::int64_t width = parts_of(columns, panel_columns) * panel_columns;
    piece = keeps_left ? count : std::max<std::int64_t>(1, left_floats / (rows * block_size));
    if (p.packed == nullptr) piece = std::min(piece, right_blocks);
    const auto chains = static_cast<std::int64_t>(p.inner->ends.size());
    const std::int64_t levels = chains == 1 ? 1 : 5;
    const std::int64_t left_blocks = keeps_left ? count : piece;
    const std::int64_t left_size = parts_of(left_blocks * rows * block_size, 16) * 16;
    const std::int64_t right_size = p.packed == nullptr ? piece * width * block_size / 2 : 0;
    float* memory = scratch(levels * rows * width + left_size + right_size);
    for (std::int64_t i = 0; i < 5; ++i) sums[i] = memory + std::min(i, levels - 1) * rows * width;
    left = memory + levels * rows * width;
    right = reinterpret_cast<Bf16*>(left + left_size);
  }
};

/// Continues the chains of `p`, an output of at most work.rows x work.columns, over the blocks
/// [begin, end). `packed_left`: the left operand has been packed and kept.
template <Isa isa, Isa blocks_isa, class Y>
void add_blocks(const Bf16Product<Y>& p, const Work& work, float* sums, std::int64_t begin,
                std::int64_t end, bool packed_left) {
  const std::int64_t panels = parts_of(p.columns, panel_columns);
  for (; begin < end; begin += work.piece) {
    const Block* blocks = p.inner->blocks.data() + begin;
    const std::int64_t count = std::min(work.piece, end - begin);
    float* left = work.keeps_left ? work.left + begin * p.rows * block_size : work.left;
    if (!packed_left) Bf16Blocks<blocks_isa>::pack_left(left, p.a, p.rows, blocks, count);
    const Bf16* right = work.right;
    std::int64_t panel_step = count * panel_block;
    if (p.packed != nullptr) {
      right = p.packed + begin * panel_block;
      panel_step = p.inner->count() * panel_block;
    } else {
      for (std::int64_t i = 0; i < panels; ++i) {
        const std::int64_t first = i * panel_columns;
        const Bf16Operand b{p.b.x + first * p.b.line_step, p.b.line_step, p.b.inner_step};
        Bf16Matmul<isa>::pack_panel(work.right + i * panel_step, b,
                                    std::min(panel_columns, p.columns - first), blocks, count);
      }
    }
    const FlushDenormals flush;
    Bf16Blocks<blocks_isa>::multiply(sums, panels * panel_columns, left, p.rows, right, panel_step,
                                     panels, count);
  }
}

/// The sums of `p`, an output of at most work.rows x work.columns, into work.sums[0].
template <Isa isa, Isa blocks_isa, class Y>
void sum_trees(const Bf16Product<Y>& p, Work& work, bool packed_left) {
  const std::int64_t size = p.rows * parts_of(p.columns, panel_columns) * panel_columns;
  const std::vector<std::int64_t>& ends = p.inner->ends;
  const auto chains = static_cast<std::int64_t>(ends.size());
  std::int64_t begin = 0;
  for (std::int64_t chain = 0; chain < chains; ++chain) {
    const std::int64_t leaf = chain % p.leaves, end = ends[static_cast<std::size_t>(chain)];
    if (!p.resume) std::fill(work.sums[0], work.sums[0] + size, 0.0f);
    add_blocks<isa, blocks_isa>(p, work, work.sums[0], begin, end, packed_left);
    begin = end;
    // A finished leaf joins the finished halves to its left.
    std::int64_t level = 0;
    for (; (leaf >> level & 1) != 0; ++level) {
      Bf16Matmul<isa>::join(work.sums[0], work.sums[1 + level], size);
    }
    if (leaf + 1 < p.leaves) {
      std::swap(work.sums[0], work.sums[1 + level]);
      continue;
    }
    if (chain >= p.leaves) Bf16Matmul<isa>::join(work.sums[0], work.sums[4], size);
    if (chain + 1 < chains) std::swap(work.sums[0], work.sums[4]);
  }
}

void load_sums(float* sums, std::int64_t width, const Bf16Product<float>& p) {
  for (std::int64_t i = 0; i < p.rows; ++i) {
    const float* row = p.c + i * p.ldc;
    std::copy(row, row + p.columns, sums + i * width);
    std::fill(sums + i * width + p.columns, sums + (i + 1) * width, 0.0f);
  }
}
void load_sums(float*, std::int64_t, const Bf16Product<Bf16>&) {}  // weight gradients are float32

/// One thread's part of the output.
template <Isa isa, Isa blocks_isa, class Y>
void compute(const Bf16Product<Y>& all) {
  Work work(all);
  for (std::int64_t i = 0; i < all.rows; i += work.rows) {
    const auto strip = all.rows_of(i, std::min(i + work.rows, all.rows));
    for (std::int64_t j = 0; j < all.columns; j += work.columns) {
      const auto p = strip.columns_of(j, std::min(j + work.columns, all.columns));
      const std::int64_t width = parts_of(p.columns, panel_columns) * panel_columns;
      if (p.resume) load_sums(work.sums[0], width, p);
      sum_trees<isa, blocks_isa>(p, work, work.keeps_left && j > 0);
      for (std::int64_t r = 0; r < p.rows; ++r) {
        Bf16Matmul<isa>::finish(p.c + r * p.ldc, work.sums[0] + r * width, p.bias, p.columns,
                                p.update);
      }
    }
  }
}

/// Fewest multiply-adds that are worth another thread: some ten microseconds of one core.
constexpr std::int64_t grain_work = 1 << 19;

/// Cuts the output over the threads: by rows where there are many, else by panels of columns.
template <class Y>
void run(const Cpu& cpu, const Bf16Product<Y>& p) {
  if (p.rows <= 0 || p.columns <= 0) return;
  const bool by_rows = p.rows >= p.columns;
  const std::int64_t units = by_rows ? p.rows : parts_of(p.columns, panel_columns);
  const std::int64_t work = p.rows * p.columns / units * p.inner->count() * block_size;
  parallel_for(cpu, units, grain_work / std::max<std::int64_t>(1, work) + 1,
               [&](std::int64_t begin, std::int64_t end) {
                 const Bf16Product<Y> part =
                     by_rows ? p.rows_of(begin, end)
                             : p.columns_of(begin * panel_columns,
                                            std::min(end * panel_columns, p.columns));
                 if (cpu.isa == Isa::amx) {
                   compute<Isa::avx512, Isa::amx>(part);
                 } else {
                   for_isa(cpu, [&]<Isa isa>() { compute<isa, isa>(part); });
                 }
               });
}

}  // namespace

std::int64_t packed_weight_size(std::int64_t n, std::int64_t k, SumOrder order) {
  return parts_of(n, panel_columns) * panel_block * inner_of(k, order).count();
}

template <>
std::int64_t packed_weight_size(const Cpu&, std::int64_t n, std::int64_t k, SumOrder order) {
  return packed_weight_size(n, k, order);
}

template <>
void pack_weight(const Cpu& cpu, Bf16* packed, const Bf16* weight, std::int64_t n, std::int64_t k,
                 SumOrder order) {
  const Inner inner = inner_of(k, order);
  parallel_for(cpu, parts_of(n, panel_columns), 1, [&](std::int64_t begin, std::int64_t end) {
    for_isa(cpu, [&]<Isa isa>() {
      for (std::int64_t panel = begin; panel < end; ++panel) {
        const std::int64_t first = panel * panel_columns;
        Bf16Matmul<isa>::pack_panel(packed + panel * inner.count() * panel_block,
                                    {weight + first * k, k, 1}, std::min(panel_columns, n - first),
                                    inner.blocks.data(), inner.count());
      }
    });
  });
}

template <class Exec, class Y>
void linear_forward(const Exec& cpu, Y* y, std::int64_t ldy, const Bf16* x, std::int64_t ldx,
                    const Bf16* packed, const float* bias, std::int64_t rows, std::int64_t n,
                    std::int64_t k, SumOrder order, Update update) {
  const Inner inner = inner_of(k, order);
  run<Y>(cpu, {y,
               ldy,
               {x, ldx, 1},
               {},
               packed,
               bias,
               rows,
               n,
               &inner,
               static_cast<std::int64_t>(order),
               update,
               false});
}

template <class Exec, class Y>
void linear_backward_input(const Exec& cpu, Y* dx, std::int64_t lddx, const Bf16* dy,
                           std::int64_t lddy, const Bf16* weight, std::int64_t ldw,
                           std::int64_t rows, const std::int64_t* sizes, std::int64_t matrices,
                           std::int64_t k, SumOrder order, Update update) {
  Inner inner;
  std::int64_t begin = 0;
  for (std::int64_t i = 0; i < matrices; begin += sizes[i++]) {
    inner.add_leaves(begin, sizes[i], order);
  }
  run<Y>(cpu, {dx,
               lddx,
               {dy, lddy, 1},
               {weight, 1, ldw},
               nullptr,
               nullptr,
               rows,
               k,
               &inner,
               static_cast<std::int64_t>(order),
               update,
               false});
}

template <class Exec, class Y>
void linear_backward_input(const Exec& cpu, Y* dx, std::int64_t lddx, const Bf16* dy,
                           std::int64_t lddy, const Bf16* weight, std::int64_t ldw,
                           std::int64_t rows, std::int64_t n, std::int64_t k, SumOrder order,
                           Update update) {
  linear_backward_input(cpu, dx, lddx, dy, lddy, weight, ldw, rows, &n, 1, k, order, update);
}

template <>
void linear_backward_weight(const Cpu& cpu, float* dweight, std::int64_t lddw, const Bf16* dy,
                            std::int64_t lddy, const Bf16* x, std::int64_t ldx,
                            const std::int32_t* cu_seqlens, std::int64_t sequences, std::int64_t n,
                            std::int64_t k, Chain chain) {
  Inner inner;
  for (std::int64_t s = 0; s < sequences; ++s) {
    inner.add_blocks(cu_seqlens[s], cu_seqlens[s + 1]);
  }
  inner.end_chain();
  run<float>(cpu, {dweight,
                   lddw,
                   {dy, 1, lddy},
                   {x, 1, ldx},
                   nullptr,
                   nullptr,
                   n,
                   k,
                   &inner,
                   1,
                   Update::overwrite,
                   chain == Chain::resume});
}

template <>
void bias_backward(const Cpu& cpu, float* dbias, const Bf16* dy, std::int64_t lddy,
                   std::int64_t rows, std::int64_t n) {
  for_isa(cpu, [&]<Isa isa>() {
    parallel_for(cpu, n, grain_work / (rows + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
      Bf16Matmul<isa>::add_rows(dbias + begin, dy + begin, lddy, rows, end - begin);
    });
  });
}

template void linear_forward(const Cpu&, float*, std::int64_t, const Bf16*, std::int64_t,
                             const Bf16*, const float*, std::int64_t, std::int64_t, std::int64_t,
                             SumOrder, Update);
template void linear_backward_input(const Cpu&, float*, std::int64_t, const Bf16*, std::int64_t,
                                    const Bf16*, std::int64_t, std::int64_t, std::int64_t,
                                    std::int64_t, SumOrder, Update);
template void linear_backward_input(const Cpu&, float*, std::int64_t, const Bf16*, std::int64_t,
                                    const Bf16*, std::int64_t, std::int64_t, const std::int64_t*,
                                    std::int64_t, std::int64_t, SumOrder, Update);
template void linear_forward(const Cpu&, Bf16*, std::int64_t, const Bf16*, std::int64_t,
                             const Bf16*, const float*, std::int64_t, std::int64_t, std::int64_t,
                             SumOrder, Update);
template void linear_backward_input(const Cpu&, Bf16*, std::int64_t, const Bf16*, std::int64_t,
                                    const Bf16*, std::int64_t, std::int64_t, std::int64_t,
                                    std::int64_t, SumOrder, Update);
template void linear_backward_input(const Cpu&, Bf16*, std::int64_t, const Bf16*, std::int64_t,
                                    const Bf16*, std::int64_t, std::int64_t, const std::int64_t*,
                                    std::int64_t, std::int64_t, SumOrder, Update);

}  // namespace fst::kernels
