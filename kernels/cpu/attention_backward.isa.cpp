#include "kernels/cpu/attention_isa.h"
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/vec_math.h"

namespace fst::kernels {

namespace lane = FST_ISA_NS;
using lane::lanes;
using lane::Vec;

namespace {

constexpr std::int64_t tile_blocks = attention_tile / attention_block;
constexpr std::int64_t row_block = attention_block;  // rows i of one head, aligned like the keys

/// One sequence and KV head: its tensors, and scratch for a tile of keys and a block of rows.
struct Work {
  const PagedBatch& batch;
  float scale;
  std::int64_t rows;  // of the sequence
  std::int64_t dim, padded;
  float* key_rows;       // [128, padded] K, natural; zeros beyond the sequence
  float* value_columns;  // [8, dim, 16] V transposed; zeros beyond the sequence
  float* dk;             // [128, padded]
  float* dv;
  float* packed;                              // [16, padded] rows packed for `scores`
  float* p;                                   // [16, 128]
  float* ds;                                  // [16, 128]
  const float* keys[tile_blocks] = {};        // K transposed, in the cache
  const float* natural[tile_blocks] = {};     // into key_rows
  const float* transposed[tile_blocks] = {};  // into value_columns
};

/// Fills the key and value layouts of the tile that begins at `begin`.
void load_tile(Work& w, const float* cache, const std::int32_t* table, std::int64_t kv_head,
               std::int64_t begin) {
  const std::int64_t block_size = attention_block * w.dim;
  for (std::int64_t b = 0; b < tile_blocks && begin + b * lanes < w.rows; ++b) {
    const std::int64_t block = table[begin / attention_block + b];
    w.keys[b] = cache + (block * w.batch.kv_heads + kv_head) * 2 * block_size;
    const float* const values = w.keys[b] + block_size;
    float* const natural = w.key_rows + b * lanes * w.padded;
    float* const transposed = w.value_columns + b * block_size;
    const std::int64_t existing = w.rows - begin - b * lanes;
    for (std::int64_t h = 0; h < w.dim; h += lanes) {
      Vec k[lanes], v[lanes];
      for (int i = 0; i < lanes; ++i) {
        k[i] = h + i < w.dim ? lane::load(w.keys[b] + (h + i) * lanes) : lane::zero();
        v[i] = i < existing ? lane::load_upto(values + i * w.dim + h, w.dim - h) : lane::zero();
      }
      transpose(k);
      transpose(v);
      for (int i = 0; i < lanes; ++i) {
        lane::store(natural + i * w.padded + h, i < existing ? k[i] : lane::zero());
        if (h + i < w.dim) lane::store(transposed + (h + i) * lanes, v[i]);
      }
    }
    w.natural[b] = natural;
    w.transposed[b] = transposed;
  }
}

/// s[r, :] = rows_r . columns for `count` rows beginning at `from`.
void row_scores(Work& w, float* s, const float* from, std::int64_t stride, std::int64_t count,
                const float* const* columns, std::int64_t blocks) {
  const float* rows[row_block];
  for (std::int64_t r = 0; r < row_block; ++r) {
    rows[r] = from + (r < count ? r : count - 1) * stride;  // a stand-in where there is none
  }
  lane::pack_rows(w.packed, rows, w.dim);
  lane::in_groups(count, [&]<int R>(std::int64_t i) {
    lane::scores<R>(s + i * attention_tile, w.packed + i, columns, blocks, w.dim);
  });
}

/// p and ds of one row against `visible` keys of `blocks` blocks; zeros behind.
void soften(float* p, float* ds, float scale, float lse, float d, std::int64_t visible,
            std::int64_t blocks) {
  for (std::int64_t b = 0; b < blocks; ++b, p += lanes, ds += lanes) {
    const lane::Mask seen = lane::first(visible - b * lanes);
    const Vec exact = lane::exp(lane::load(p) * lane::set(scale) - lane::set(lse));
    const Vec probability = select(seen, exact, lane::zero());
    const Vec slope = (probability * (lane::load(ds) - lane::set(d))) * lane::set(scale);
    lane::store(p, probability);
    lane::store(ds, select(seen, slope, lane::zero()));
  }
}

/// Rows and columns of one head: element 0 of row 0 of the sequence.
struct Head {
  const float *q, *dout, *out, *lse;
  float* dq;
  std::int64_t q_stride, dout_stride, out_stride, dq_stride, lse_stride;
};

/// Block of rows [row, row + count) of one head against the tile of keys at `begin`.
void block_of_rows(Work& w, const Head& head, std::int64_t begin, std::int64_t row,
                   std::int64_t count) {
  const std::int64_t reach = (row - begin) / lanes + 1;  // key blocks up to the diagonal
  const std::int64_t blocks = reach < tile_blocks ? reach : tile_blocks;
  const float* const q = head.q + row * head.q_stride;
  const float* const dout = head.dout + row * head.dout_stride;
  float* const dq = head.dq + row * head.dq_stride;
  for (std::int64_t r = 0; r < count; ++r) {  // read last, and in pieces no hardware foresees
    const float* const out = head.out + (row + r) * head.out_stride;
    for (std::int64_t h = 0; h < w.dim; h += lanes) __builtin_prefetch(out + h);
  }
  row_scores(w, w.p, q, head.q_stride, count, w.keys, blocks);
  row_scores(w, w.ds, dout, head.dout_stride, count, w.transposed, blocks);
  for (std::int64_t r = 0; r < count; ++r) {
    const float d =
        lane::dot(dout + r * head.dout_stride, head.out + (row + r) * head.out_stride, w.dim);
    soften(w.p + r * attention_tile, w.ds + r * attention_tile, w.scale,
           head.lse[(row + r) * head.lse_stride], d, row + r + 1 - begin, blocks);
  }
  lane::in_groups(count, [&]<int R>(std::int64_t i) {
    lane::block_chains<R>(dq + i * head.dq_stride, head.dq_stride, w.ds + i * attention_tile,
                          w.natural, w.padded, 0, blocks * lanes, w.dim);
  });
  const std::int64_t left = w.rows - begin;
  const std::int64_t existing = left < blocks * lanes ? left : blocks * lanes;
  lane::in_groups(existing, [&]<int R>(std::int64_t j) {
    lane::chains<R, 1, attention_tile>(w.dk + j * w.padded, w.padded, w.ds + j, q, head.q_stride,
                                       count, w.dim);
    lane::chains<R, 1, attention_tile>(w.dv + j * w.padded, w.padded, w.p + j, dout,
                                       head.dout_stride, count, w.dim);
  });
}

FST_INLINE std::int64_t pad(std::int64_t dim) {
  return (dim + lanes - 1) / lanes * lanes;
}

}  // namespace

template <Isa isa>
std::int64_t Attention<isa>::backward_scratch(std::int64_t dim) {
  return (4 * attention_tile + row_block) * pad(dim) + 2 * row_block * attention_tile;
}

template <Isa isa>
void Attention<isa>::backward(const AttentionGradients<float>& gradients, ConstRows<float> q,
                              const float* cache, const PagedBatch& batch, float scale,
                              std::int64_t sequence, std::int64_t kv_head, float* scratch) {
  const auto& [dq, dk, dv, dout, out, lse] = gradients;
  const std::int64_t first = batch.cu_seqlens[sequence];
  const std::int64_t padded = pad(batch.dim), tile = attention_tile * padded;
  float* const rest = scratch + 4 * tile;
  Work w{.batch = batch,
         .scale = scale,
         .rows = batch.cu_seqlens[sequence + 1] - first,
         .dim = batch.dim,
         .padded = padded,
         .key_rows = scratch,
         .value_columns = scratch + tile,
         .dk = scratch + 2 * tile,
         .dv = scratch + 3 * tile,
         .packed = rest,
         .p = rest + row_block * padded,
         .ds = rest + row_block * padded + row_block * attention_tile};
  const std::int64_t group = batch.heads / batch.kv_heads;
  const std::int32_t* const table = batch.block_table + sequence * batch.max_blocks;
  for (std::int64_t r = 0; r < w.rows; ++r) {
    float* const row = dq.data + (first + r) * dq.stride + kv_head * group * w.dim;
    for (std::int64_t h = 0; h < group * w.dim; ++h) row[h] = 0.0f;
  }
  for (std::int64_t begin = 0; begin < w.rows; begin += attention_tile) {
    load_tile(w, cache, table, kv_head, begin);
    const std::int64_t existing = w.rows - begin < attention_tile ? w.rows - begin : attention_tile;
    for (std::int64_t i = 0; i < existing * padded; ++i) w.dk[i] = w.dv[i] = 0.0f;
    for (std::int64_t g = 0; g < group; ++g) {
      const std::int64_t n = kv_head * group + g, column = n * w.dim;
      const Head head{.q = q.data + first * q.stride + column,
                      .dout = dout.data + first * dout.stride + column,
                      .out = out.data + first * out.stride + column,
                      .lse = lse + first * batch.heads + n,
                      .dq = dq.data + first * dq.stride + column,
                      .q_stride = q.stride,
                      .dout_stride = dout.stride,
                      .out_stride = out.stride,
                      .dq_stride = dq.stride,
                      .lse_stride = batch.heads};
      for (std::int64_t row = begin; row < w.rows; row += row_block) {
        const std::int64_t left = w.rows - row;
        block_of_rows(w, head, begin, row, left < row_block ? left : row_block);
      }
    }
    for (std::int64_t j = 0; j < existing; ++j) {
      const std::int64_t row = first + begin + j, column = kv_head * w.dim;
      for (std::int64_t h = 0; h < w.dim; ++h) {
        dk.data[row * dk.stride + column + h] = w.dk[j * padded + h];
        dv.data[row * dv.stride + column + h] = w.dv[j * padded + h];
      }
    }
  }
}

template std::int64_t Attention<Isa::FST_ISA_NS>::backward_scratch(std::int64_t);
template void Attention<Isa::FST_ISA_NS>::backward(const AttentionGradients<float>&,
                                                   ConstRows<float>, const float*,
                                                   const PagedBatch&, float, std::int64_t,
                                                   std::int64_t, float*);

}  // namespace fst::kernels
