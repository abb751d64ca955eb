#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/attention.h"
#include "kernels/thread_pool.h"
#include "noise.h"

namespace fst::test {

struct HeadShape {
  std::int64_t heads, kv_heads, dim;
};

/// A packed batch with its own cache. Every float that no key or value occupies is NaN, and the
/// blocks of a sequence lie in any order.
struct Batch {
  HeadShape shape;
  std::vector<std::int32_t> cu_seqlens{0}, context, table;
  std::vector<float> cache;
  std::int64_t max_blocks = 0;

  /// `lengths`: keys of each sequence at the end; `rows`: how many of them, the last, are in the
  /// batch.
  Batch(HeadShape heads, const std::vector<std::int64_t>& lengths,
        const std::vector<std::int64_t>& rows, std::uint32_t seed = 1)
      : shape(heads) {
    std::int64_t blocks = 3;  // some that nobody uses
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      cu_seqlens.push_back(cu_seqlens.back() + static_cast<std::int32_t>(rows[s]));
      context.push_back(static_cast<std::int32_t>(lengths[s] - rows[s]));
      max_blocks = std::max(max_blocks, (lengths[s] + 15) / 16);
      blocks += (lengths[s] + 15) / 16;
    }
    std::vector<std::int32_t> order(static_cast<std::size_t>(blocks));
    std::iota(order.begin(), order.end(), 0);
    Noise noise(seed);
    for (std::size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1],
                order[static_cast<std::size_t>(noise.below(static_cast<std::int64_t>(i)))]);
    }
    std::size_t next = 0;
    for (const std::int64_t length : lengths) {
      for (std::int64_t b = 0; b < max_blocks; ++b) {
        table.push_back(b < (length + 15) / 16 ? order[next++] : -1);
      }
    }
    cache.assign(static_cast<std::size_t>(blocks * shape.kv_heads * 2 * 16 * shape.dim),
                 std::numeric_limits<float>::quiet_NaN());
  }

  kernels::PagedBatch paged() const {
    kernels::PagedBatch p;
    p.cu_seqlens = cu_seqlens.data();
    p.context = context.data();
    p.block_table = table.data();
    p.sequences = static_cast<std::int64_t>(context.size());
    p.max_blocks = max_blocks;
    p.heads = shape.heads;
    p.kv_heads = shape.kv_heads;
    p.dim = shape.dim;
    return p;
  }
  std::int64_t rows() const { return cu_seqlens.back(); }
  std::int64_t width() const { return shape.heads * shape.dim; }
  std::int64_t kv_width() const { return shape.kv_heads * shape.dim; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(shape.dim)); }
};

struct Result {
  std::vector<float> out, lse;
};

template <class T>
kernels::ConstRows<T> from(const std::vector<T>& x, std::int64_t stride) {
  return {x.data(), stride};
}
template <class T>
kernels::Rows<T> into(std::vector<T>& x, std::int64_t stride) {
  return {x.data(), stride};
}

inline void write_keys(const kernels::Cpu& cpu, Batch& batch, const std::vector<float>& k,
                       const std::vector<float>& v) {
  kernels::kv_write(cpu, batch.cache.data(), from(k, batch.kv_width()), from(v, batch.kv_width()),
                    batch.paged());
}

inline Result attend(const kernels::Cpu& cpu, const Batch& batch, const std::vector<float>& q) {
  Result r;
  r.out.resize(static_cast<std::size_t>(batch.rows() * batch.width()));
  r.lse.resize(static_cast<std::size_t>(batch.rows() * batch.shape.heads));
  kernels::attention_forward(cpu, into(r.out, batch.width()), r.lse.data(), from(q, batch.width()),
                             batch.cache.data(), batch.paged(), batch.scale());
  return r;
}

}  // namespace fst::test
