#include "kernels/cuda/attention_bf16_backward.h"

/// The two passes of attention_backward.cu by tensor cores: one whose blocks own 128 keys and walk
/// the rows of their group's heads, one whose blocks own 128 rows of a head and walk the keys. A
/// warp owns 16 keys (or rows), whose K and V (or q and dout) and sums stay in its registers, and
/// meets 16 rows (or keys) at a time: it forms their scores, and what these become is, rounded, the
/// left operand of its own next products. So warps share nothing but the steps that all read.
namespace fst::kernels {

namespace gpu::backward {

namespace {

/// A warp's part of 64 rows from `row` on: 16 of q with their states, or of dout.
template <int D>
DEVICE void bring_part_of_rows(Stage<D>& to, const Arguments& a, const Sequence& sequence, int head,
                               int row) {
  const int warp = warp_of_block(), first = warp % walked_blocks * cache_block;
  if (warp >= walked_blocks) {
    bring_rows(RowTile<D>{to.second}, first, a.gradients.dout, sequence, head, row + first, a);
    return;
  }
  bring_rows(RowTile<D>{to.first}, first, a.q, sequence, head, row + first, a);
  const int r = first + lane_of();
  const std::int64_t at = (sequence.first_row + row + r) * a.batch.heads + head;
  if (lane_of_warp() < cache_block) {
    copy_async_16(&to.states[r], a.states + at, row + r < sequence.rows);
  }
}
/// And of 64 keys: K or V of a cache block.
template <int D>
DEVICE void bring_part_of_keys(Stage<D>& to, const Arguments& a, const Sequence& sequence,
                               int kv_head, int key) {
  const int warp = warp_of_block(), block = warp % walked_blocks, first = block * cache_block;
  if (warp >= walked_blocks) {
    bring_values(RowTile<D>{to.second}, first, sequence, kv_head, key + first, a);
  } else {
    bring_keys(KeyTile<D>{to.first}, block, sequence, kv_head, key + first, a);
  }
}

/// Adds what the 16 rows from `row` of the stage on give to dk and dv of the warp's keys: rows are
/// the columns of the sums.
template <int D>
DEVICE void add_rows(Sums<D / 8>& dk, Sums<D / 8>& dv, const Owned<D>& own, Stage<D>& stage,
                     int row, bool diagonal, float scale) {
  const WalkedTile<D> q{stage.first}, dout{stage.second};
  Sums<2> p, ds;
  multiply_owned(p, ds, own, q, row, dout, row);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float4 state = stage.states[row + column_of(i / 2, i % 2)];
    soften(p[i / 2][i % 2], ds[i / 2][i % 2], state, scale);
    soften(p[i / 2][i % 2 + 2], ds[i / 2][i % 2 + 2], state, scale);
  }
  if (diagonal) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (row_of(i % 4) > column_of(i / 4, i % 4)) p[i / 4][i % 4] = ds[i / 4][i % 4] = 0.0f;
    }
  }
  multiply_elements<D>(dv, p, dout, row);
  multiply_elements<D>(dk, ds, q, row);
}

/// Where a block of keys is among what it walks, 64 rows at a time: all from `first_row` on, of one
/// head of the group after the other.
struct Walk {
  int head, row;
  DEVICE void go_on(int first_row, int rows) {
    row += walked;
    if (row < rows) return;
    row = first_row;
    ++head;
  }
};

/// dk and dv of the keys [key, key + 128) of a KV head.
template <int D>
DEVICE void gradients_of_keys(Shared<D>& s, const Arguments& a, const Sequence& sequence,
                              int kv_head, int key) {
  const int group = static_cast<int>(a.batch.heads / a.batch.kv_heads);
  const int behind = (kv_head + 1) * group;  // the group's last head
  const int warp = warp_of_block(), part = warp * cache_block;
  const KeyTile<D> k{s.first};
  const RowTile<D> v{s.second};
  sync_block();  // nobody reads what is filled now
  bring_keys(k, warp, sequence, kv_head, key + part, a);
  bring_values(v, part, sequence, kv_head, key + part, a);
  copy_async_commit();
  Walk here{kv_head * group, key}, next = here;
  const auto bring = [&](Stage<D>& stage) {
    if (next.head == behind) return;
    bring_part_of_rows(stage, a, sequence, next.head, next.row);
    next.go_on(key, sequence.rows);
  };
  Ring ring(s.ring, bring);
  copy_async_wait<ring.under_way>();
  sync_warp();
  Owned<D> own;
  take_owned(own, k, warp, v, part);
  Sums<D / 8> dk, dv;
  clear<D / 8>(dk);
  clear<D / 8>(dv);
#pragma unroll 1
  for (; here.head < behind; here.go_on(key, sequence.rows)) {
    Stage<D>& stage = ring.take();
#pragma unroll 1
    for (int row = 0; row < walked; row += cache_block) {
      const int at = here.row + row;
      if (at < key + part || at >= sequence.rows) continue;
      add_rows(dk, dv, own, stage, row, at == key + part, a.scale);
    }
  }
  write_rows<D>(a.gradients.dk, dk, a, sequence, kv_head, key + part);
  write_rows<D>(a.gradients.dv, dv, a, sequence, kv_head, key + part);
}

/// Adds what the keys of block `block` of the stage give to dq of the warp's rows. states: of the
/// thread's two rows.
template <int D>
DEVICE void add_keys(Sums<D / 8>& dq, const Owned<D>& own, Stage<D>& stage,
                     const float4 (&states)[2], int block, bool diagonal, float scale) {
  const KeyTile<D> k{stage.first};
  Sums<2> p, ds;
  multiply_owned(p, ds, own, k, block, WalkedTile<D>{stage.second}, block * cache_block);
#pragma unroll
  for (int i = 0; i < 8; ++i) soften(p[i / 4][i % 4], ds[i / 4][i % 4], states[i % 4 / 2], scale);
  if (diagonal) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (column_of(i / 4, i % 4) > row_of(i % 4)) ds[i / 4][i % 4] = 0.0f;
    }
  }
  multiply_elements<D>(dq, ds, k, block);
}

/// dq of the rows [row, row + 128) of a head.
template <int D>
DEVICE void gradients_of_rows(Shared<D>& s, const Arguments& a, const Sequence& sequence, int head,
                              int row) {
  const int kv_head = head / static_cast<int>(a.batch.heads / a.batch.kv_heads);
  const int keys = row + owned < sequence.rows ? row + owned : sequence.rows;
  const int part = warp_of_block() * cache_block, own_row = row + part;
  const RowTile<D> q{s.first}, dout{s.second};
  sync_block();  // nobody reads what is filled now
  bring_rows(q, part, a.q, sequence, head, own_row, a);
  bring_rows(dout, part, a.gradients.dout, sequence, head, own_row, a);
  copy_async_commit();
  int next = 0;
  const auto bring = [&](Stage<D>& stage) {
    if (next < keys) bring_part_of_keys(stage, a, sequence, kv_head, next);
    next += walked;
  };
  Ring ring(s.ring, bring);
  float4 states[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int r = own_row + row_of(2 * i);
    const std::int64_t at = (sequence.first_row + r) * a.batch.heads + head;
    states[i] = r < sequence.rows ? a.states[at] : float4{0.0f, 0.0f, 0.0f, 0.0f};
  }
  copy_async_wait<ring.under_way>();
  sync_warp();
  Owned<D> own;
  take_owned(own, q, part, dout, part);
  Sums<D / 8> dq;
  clear<D / 8>(dq);
#pragma unroll 1
  for (int first = 0; first < keys; first += walked) {
    Stage<D>& stage = ring.take();
#pragma unroll 1
    for (int block = 0; block < walked_blocks; ++block) {
      const int key = first + block * cache_block;
      if (key > own_row || own_row >= sequence.rows) continue;
      add_keys(dq, own, stage, states, block, key == own_row, a.scale);
    }
  }
  write_rows<D>(a.gradients.dq, dq, a, sequence, head, own_row);
}

/// Block (x, y): KV head x % kv_heads of sequence x / kv_heads, tiles of keys; the first see most
/// rows.
template <int D>
KERNEL(threads, 1)
keys_kernel(PARAMETER Arguments a) {
  Shared<D>& s = shared_memory<Shared<D>>();
  const int kv_heads = static_cast<int>(a.batch.kv_heads);
  for (int i = static_cast<int>(blockIdx.y);; i += static_cast<int>(gridDim.y)) {
    const Sequence sequence = sequence_of(a.batch, blockIdx.x / kv_heads);  // anew: registers
    if (i * owned >= sequence.rows) return;
    gradients_of_keys(s, a, sequence, static_cast<int>(blockIdx.x) % kv_heads, i * owned);
  }
}

/// Block (x, y): head x % heads of sequence x / heads, tiles of rows; the last see most keys.
template <int D>
KERNEL(threads, 1)
rows_kernel(PARAMETER Arguments a) {
  Shared<D>& s = shared_memory<Shared<D>>();
  const int heads = static_cast<int>(a.batch.heads);
  const Sequence sequence = sequence_of(a.batch, blockIdx.x / heads);
  const int tiles = (sequence.rows + owned - 1) / owned;
  for (int i = static_cast<int>(blockIdx.y); i < tiles; i += static_cast<int>(gridDim.y)) {
    gradients_of_rows(s, a, sequence, static_cast<int>(blockIdx.x) % heads,
                      (tiles - 1 - i) * owned);
  }
}

/// states[row, head]: see Arguments.
KERNEL(threads, 4)
states_kernel(float4* states, const float* lse, ConstRows<Bf16> dout, ConstRows<Bf16> out,
              PARAMETER PagedBatch batch) {
  each_delta(dout, out, batch, [states, lse](std::int64_t i, float d) {
    states[i] = {lse[i], d, lse[i] - lse[i], 0.0f};
  });
}

template <int D>
void run(const Cuda& cuda, const Arguments& a) {
  launch_passes(cuda, keys_kernel<D>, rows_kernel<D>, a, owned, sizeof(Shared<D>));
}

/// Whether each eight elements are together and aligned.
bool wide(const Bf16* data, std::int64_t stride) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && stride % piece_size == 0;
}

void differentiate(const Cuda& cuda, const AttentionGradients<Bf16>& gradients, ConstRows<Bf16> q,
                   const Bf16* cache, const PagedBatch& batch, float scale) {
  check_head(batch);
  if (batch.sequences <= 0 || batch.max_blocks <= 0) return;
  const std::size_t bytes = static_cast<std::size_t>(most_pairs(batch)) * sizeof(float4);
  auto* const states = static_cast<float4*>(scratch(cuda, bytes));
  launch(states_kernel, delta_grid(batch), dim3(threads), 0, cuda.stream, states, gradients.lse,
         gradients.dout, gradients.out, batch);
  const ConstRows<Bf16> dout = gradients.dout;
  const bool aligned =
      wide(cache, batch.dim) && wide(q.data, q.stride) && wide(dout.data, dout.stride);
  const Arguments a{gradients, q, cache, batch, scale, states, aligned};
  batch.dim <= 64 ? run<64>(cuda, a) : run<128>(cuda, a);
}

}  // namespace

}  // namespace gpu::backward

template <>
void attention_backward(const Cuda& cuda, const AttentionGradients<Bf16>& gradients,
                        ConstRows<Bf16> q, const Bf16* cache, const PagedBatch& batch,
                        float scale) {
  gpu::backward::differentiate(cuda, gradients, q, cache, batch, scale);
}

}  // namespace fst::kernels
