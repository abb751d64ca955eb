#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "attention_support.h"
#include "halves.h"
#include "kernels/elementary.h"

/// kernels/attention.h as plain loops over single rows, in its order: what every kernel must give,
/// bit for bit. T is what rows and the cache hold (all values are given as the floats that T
/// holds); `chain(c, a, b, n)` continues a sum of products, which is where CPU and GPU differ.
namespace fst::test {

/// The CPU's chain: one fma after another.
inline float fma_chain(float c, const float* a, const float* b, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) c = std::fma(a[i], b[i], c);
  return c;
}

namespace definition {

inline constexpr std::int64_t lanes = kernels::attention_block;

inline float exp(float x) {
  float y = 0.0f;
  kernels::exp_each(kernels::Cpu{}, &y, &x, 1);
  return y;
}
inline float log(float x) {
  float y = 0.0f;
  kernels::log_each(kernels::Cpu{}, &y, &x, 1);
  return y;
}

/// Sixteen lanes, joined by halving.
inline float joined(std::array<float, lanes> sum) {
  for (std::size_t half = lanes / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) sum[i] = sum[i] + sum[i + half];
  }
  return sum[0];
}

/// Element h of K or V of token j of sequence s.
inline float key(const Batch& b, std::int64_t s, std::int64_t kv_head, std::int64_t j,
                 std::int64_t h, bool value) {
  const std::int64_t block = b.table[static_cast<std::size_t>(s * b.max_blocks + j / lanes)];
  const std::int64_t place = (block * b.shape.kv_heads + kv_head) * 2 + (value ? 1 : 0);
  const std::int64_t within = value ? j % lanes * b.shape.dim + h : h * lanes + j % lanes;
  return b.cache[static_cast<std::size_t>(place * lanes * b.shape.dim + within)];
}

/// K or V of one sequence and KV head, [keys, dim] or, if `columns`, [dim, keys].
inline std::vector<float> gather(const Batch& b, std::int64_t s, std::int64_t kv_head, bool value,
                                 bool columns) {
  const auto i = static_cast<std::size_t>(s);
  const std::int64_t keys = b.context[i] + b.cu_seqlens[i + 1] - b.cu_seqlens[i];
  const std::int64_t dim = b.shape.dim;
  std::vector<float> to(static_cast<std::size_t>(keys * dim));
  for (std::int64_t j = 0; j < keys; ++j) {
    for (std::int64_t h = 0; h < dim; ++h) {
      to[static_cast<std::size_t>(columns ? h * keys + j : j * dim + h)] =
          key(b, s, kv_head, j, h, value);
    }
  }
  return to;
}

/// One softmax and its output, of a split or of several joined.
struct State {
  float m = -std::numeric_limits<float>::infinity();
  std::array<float, lanes> sum{};
  float total = 0.0f;
  std::vector<float> out;
};

inline void join(State& all, const State& split) {
  const float m = std::max(all.m, split.m);
  const float before = exp(all.m - m), now = exp(split.m - m);
  for (std::size_t h = 0; h < all.out.size(); ++h) {
    all.out[h] = std::fma(all.out[h], before, split.out[h] * now);
  }
  all.total = std::fma(all.total, before, joined(split.sum) * now);
  all.m = m;
}

/// The keys [begin, begin + n) of a tile for one row.
template <class T, class Chain>
void add_tile(State& state, std::vector<float> score, const float* value_columns, std::int64_t keys,
              const Chain& chain) {
  const float tile_m = *std::max_element(score.begin(), score.end());
  if (tile_m > state.m) {
    const float shrink = std::isinf(state.m) ? 1.0f : exp(state.m - tile_m);
    for (float& x : state.sum) x = x * shrink;
    for (float& x : state.out) x = x * shrink;
    state.m = tile_m;
  }
  for (std::size_t j = 0; j < score.size(); ++j) {
    const float p = exp(score[j] - state.m);
    state.sum[j % lanes] = state.sum[j % lanes] + p;
    score[j] = kernels::widened(kernels::narrowed_to<T>(p));
  }
  for (std::size_t h = 0; h < state.out.size(); ++h) {
    state.out[h] =
        chain(state.out[h], score.data(), value_columns + static_cast<std::int64_t>(h) * keys,
              static_cast<std::int64_t>(score.size()));
  }
}

/// Row `q` against keys [0, visible): the output, not yet rounded, and its lse.
template <class T, class Chain>
std::pair<std::vector<float>, float> attend_row(const float* q, const std::vector<float>& k,
                                                const std::vector<float>& v, std::int64_t dim,
                                                std::int64_t visible, float scale,
                                                const Chain& chain) {
  const auto size = static_cast<std::size_t>(dim);
  const std::int64_t keys = static_cast<std::int64_t>(k.size()) / dim;
  State state, all;
  state.out = all.out = std::vector<float>(size);
  for (std::int64_t begin = 0; begin < visible; begin += kernels::attention_tile) {
    if (begin > 0 && begin % kernels::attention_split == 0) {
      join(all, state);
      state = State{};
      state.out.resize(size);
    }
    std::vector<float> score;
    for (std::int64_t j = begin; j < std::min(visible, begin + kernels::attention_tile); ++j) {
      score.push_back(chain(0.0f, q, k.data() + j * dim, dim) * scale);
    }
    add_tile<T>(state, score, v.data() + begin, keys, chain);
  }
  float total = joined(state.sum), m = state.m;
  std::vector<float> out = state.out;
  if (visible > kernels::attention_split) {
    join(all, state);
    total = all.total;
    m = all.m;
    out = all.out;
  }
  for (float& x : out) x = x * (1.0f / total);
  return {out, m + log(total)};
}

}  // namespace definition

/// The forward pass; q [rows, q_stride]. Outputs as T holds them, in rows of heads * dim.
template <class T, class Chain>
Result attention_definition(const Batch& b, const std::vector<float>& q, std::int64_t q_stride,
                            const Chain& chain) {
  const auto [heads, kv_heads, dim] = b.shape;
  Result r;
  for (std::size_t s = 0; s < b.context.size(); ++s) {
    const auto sequence = static_cast<std::int64_t>(s);
    std::vector<std::vector<float>> k, v;
    for (std::int64_t kv = 0; kv < kv_heads; ++kv) {
      k.push_back(definition::gather(b, sequence, kv, false, false));
      v.push_back(definition::gather(b, sequence, kv, true, true));
    }
    for (std::int64_t row = b.cu_seqlens[s]; row < b.cu_seqlens[s + 1]; ++row) {
      const std::int64_t visible = b.context[s] + row - b.cu_seqlens[s] + 1;
      for (std::int64_t head = 0; head < heads; ++head) {
        const auto kv = static_cast<std::size_t>(head / (heads / kv_heads));
        const auto [out, lse] = definition::attend_row<T>(
            q.data() + row * q_stride + head * dim, k[kv], v[kv], dim, visible, b.scale(), chain);
        const std::vector<float> held = widened(stored_as<T>(out));
        r.out.insert(r.out.end(), held.begin(), held.end());
        r.lse.push_back(lse);
      }
    }
  }
  return r;
}

struct AttentionGradientsOf {
  std::vector<float> dq, dk, dv;  // [rows, heads * dim], [rows, kv_heads * dim] twice
};

namespace definition {

/// p and ds of one sequence and head, [rows, keys]; both as T holds them, zeros where masked.
struct Factors {
  std::vector<float> p, ds;
};

template <class T, class Chain>
Factors factors_of(const float* q, const float* dout, const float* out, std::int64_t stride,
                   const float* lse, std::int64_t lse_stride, const std::vector<float>& k,
                   const std::vector<float>& v, std::int64_t rows, std::int64_t dim, float scale,
                   const Chain& chain) {
  Factors f;
  f.p.resize(static_cast<std::size_t>(rows * rows));
  f.ds = f.p;
  for (std::int64_t i = 0; i < rows; ++i) {
    const float d = kernels::row_dot(kernels::Cpu{}, dout + i * stride, out + i * stride, dim);
    for (std::int64_t j = 0; j <= i; ++j) {
      const float score = chain(0.0f, q + i * stride, k.data() + j * dim, dim);
      const float slope = chain(0.0f, dout + i * stride, v.data() + j * dim, dim);
      const float p = exp(score * scale - lse[i * lse_stride]);
      const auto at = static_cast<std::size_t>(i * rows + j);
      f.p[at] = kernels::widened(kernels::narrowed_to<T>(p));
      f.ds[at] = kernels::widened(kernels::narrowed_to<T>((p * (slope - d)) * scale));
    }
  }
  return f;
}

/// Column `column` of rows [begin, end) of a matrix; zeros for rows from `existing` on.
inline std::vector<float> column(const float* x, std::int64_t stride, std::int64_t at,
                                 std::int64_t begin, std::int64_t end, std::int64_t existing) {
  std::vector<float> c;
  for (std::int64_t i = begin; i < end; ++i) c.push_back(i < existing ? x[i * stride + at] : 0.0f);
  return c;
}

}  // namespace definition

/// The backward pass of a batch without context. q, dout, out [rows, heads * dim], lse [rows,
/// heads]. Gradients as T holds them.
template <class T, class Chain>
AttentionGradientsOf attention_backward_definition(const Batch& b, const std::vector<float>& q,
                                                   const std::vector<float>& dout,
                                                   const Result& forward, const Chain& chain) {
  using definition::column;
  using definition::lanes;
  const auto [heads, kv_heads, dim] = b.shape;
  const std::int64_t group = heads / kv_heads, wide = b.width(), narrow = b.kv_width();
  const auto zeros = [&](std::int64_t width) {
    return std::vector<float>(static_cast<std::size_t>(b.rows() * width));
  };
  AttentionGradientsOf g{zeros(wide), zeros(narrow), zeros(narrow)};
  for (std::size_t s = 0; s < b.context.size(); ++s) {
    const std::int64_t first = b.cu_seqlens[s], rows = b.cu_seqlens[s + 1] - first;
    for (std::int64_t head = 0; head < heads; ++head) {
      const std::int64_t kv = head / group;
      const auto k = definition::gather(b, static_cast<std::int64_t>(s), kv, false, false);
      const auto v = definition::gather(b, static_cast<std::int64_t>(s), kv, true, false);
      const float* const q_rows = q.data() + first * wide + head * dim;
      const float* const dout_rows = dout.data() + first * wide + head * dim;
      const auto f = definition::factors_of<T>(
          q_rows, dout_rows, forward.out.data() + first * wide + head * dim, wide,
          forward.lse.data() + first * heads + head, heads, k, v, rows, dim, b.scale(), chain);
      for (std::int64_t h = 0; h < dim; ++h) {
        for (std::int64_t i = 0; i < rows; ++i) {
          const std::int64_t end = i / lanes * lanes + lanes;
          auto ds = column(f.ds.data() + i * rows, 1, 0, 0, end, rows);
          const auto keys = column(k.data(), dim, h, 0, end, rows);
          g.dq[static_cast<std::size_t>((first + i) * wide + head * dim + h)] =
              chain(0.0f, ds.data(), keys.data(), end);
        }
        // dk and dv go on from the heads of the group before.
        for (std::int64_t j = 0; j < rows; ++j) {
          const std::int64_t begin = j / lanes * lanes;
          const auto at = static_cast<std::size_t>((first + j) * narrow + kv * dim + h);
          const auto p = column(f.p.data(), rows, j, begin, rows, rows);
          const auto ds = column(f.ds.data(), rows, j, begin, rows, rows);
          const auto douts = column(dout_rows, wide, h, begin, rows, rows);
          const auto queries = column(q_rows, wide, h, begin, rows, rows);
          g.dv[at] = chain(g.dv[at], p.data(), douts.data(), rows - begin);
          g.dk[at] = chain(g.dk[at], ds.data(), queries.data(), rows - begin);
        }
      }
    }
  }
  for (auto* x : {&g.dq, &g.dk, &g.dv}) *x = widened(stored_as<T>(*x));
  return g;
}

}  // namespace fst::test
