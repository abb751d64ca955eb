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
template <class T>
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
  const T* keys[tile_blocks] = {};            // K transposed, in the cache
  const float* natural[tile_blocks] = {};     // into key_rows
  const float* transposed[tile_blocks] = {};  // into value_columns
};

/// Fills the key and value layouts of the tile that begins at `begin`.
template <class T>
void load_tile(Work<T>& w, const T* cache, const std::int32_t* table, std::int64_t kv_head,
               std::int64_t begin) {
  const std::int64_t block_size = attention_block * w.dim;
  for (std::int64_t b = 0; b < tile_blocks && begin + b * lanes < w.rows; ++b) {
    const std::int64_t block = table[begin / attention_block + b];
    w.keys[b] = cache + (block * w.batch.kv_heads + kv_head) * 2 * block_size;
    const T* const values = w.keys[b] + block_size;
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

/// s[r, :] = from_r . columns for `count` rows.
template <class T, class C>
void row_scores(Work<T>& w, float* s, ConstRows<T> from, std::int64_t count,
                const C* const* columns, std::int64_t blocks) {
  const T* rows[row_block];
  for (std::int64_t r = 0; r < row_block; ++r) {  // a stand-in where there is none
    rows[r] = from.data + (r < count ? r : count - 1) * from.stride;
  }
  lane::pack_rows(w.packed, rows, w.dim);
  lane::in_groups(count, [&]<int R>(std::int64_t i) {
    lane::scores<R>(s + i * attention_tile, w.packed + i, columns, blocks, w.dim);
  });
}

/// p and ds of one row, as T holds them, against `visible` keys of `blocks` blocks; zeros behind.
template <class T>
void soften(float* p, float* ds, float scale, float lse, float d, std::int64_t visible,
            std::int64_t blocks) {
  for (std::int64_t b = 0; b < blocks; ++b, p += lanes, ds += lanes) {
    const lane::Mask seen = lane::first(visible - b * lanes);
    const Vec exact = lane::exp(lane::load(p) * lane::set(scale) - lane::set(lse));
    const Vec probability = select(seen, exact, lane::zero());
    const Vec slope = (probability * (lane::load(ds) - lane::set(d))) * lane::set(scale);
    lane::store(p, lane::held<T>(probability));
    lane::store(ds, lane::held<T>(select(seen, slope, lane::zero())));
  }
}

/// `rows` from row `first` and column `column` on.
template <class R>
R part(R rows, std::int64_t first, std::int64_t column) {
  return {rows.data + first * rows.stride + column, rows.stride};
}

/// Rows and columns of one head: element 0 of row 0 of the sequence.
template <class T>
struct Head {
  ConstRows<T> q, dout, out;
  Rows<float> dq;  // chains that go on from tile to tile
  const float* lse;
  std::int64_t lse_stride;
};

/// Block of rows [row, row + count) of one head against the tile of keys at `begin`.
template <class T>
void block_of_rows(Work<T>& w, const Head<T>& head, std::int64_t begin, std::int64_t row,
                   std::int64_t count) {
  const std::int64_t reach = (row - begin) / lanes + 1;  // key blocks up to the diagonal
  const std::int64_t blocks = reach < tile_blocks ? reach : tile_blocks;
  const ConstRows<T> q = part(head.q, row, 0), dout = part(head.dout, row, 0);
  const ConstRows<T> out = part(head.out, row, 0);
  const Rows<float> dq = part(head.dq, row, 0);
  for (std::int64_t r = 0; r < count; ++r) {  // read last, and in pieces no hardware foresees
    const T* const to_read = out.data + r * out.stride;
    for (std::int64_t h = 0; h < w.dim; h += lanes) __builtin_prefetch(to_read + h);
  }
  row_scores(w, w.p, q, count, w.keys, blocks);
  row_scores(w, w.ds, dout, count, w.transposed, blocks);
  for (std::int64_t r = 0; r < count; ++r) {
    const float d = lane::dot(dout.data + r * dout.stride, out.data + r * out.stride, w.dim);
    soften<T>(w.p + r * attention_tile, w.ds + r * attention_tile, w.scale,
              head.lse[(row + r) * head.lse_stride], d, row + r + 1 - begin, blocks);
  }
  lane::in_groups(count, [&]<int R>(std::int64_t i) {
    lane::block_chains<R>(dq.data + i * dq.stride, dq.stride, w.ds + i * attention_tile, w.natural,
                          w.padded, 0, blocks * lanes, w.dim);
  });
  const std::int64_t left = w.rows - begin;
  const std::int64_t existing = left < blocks * lanes ? left : blocks * lanes;
  lane::in_groups(existing, [&]<int R>(std::int64_t j) {
    lane::chains<R, 1, attention_tile>(w.dk + j * w.padded, w.padded, w.ds + j, q.data, q.stride,
                                       count, w.dim);
    lane::chains<R, 1, attention_tile>(w.dv + j * w.padded, w.padded, w.p + j, dout.data,
                                       dout.stride, count, w.dim);
  });
}

/// y[r, c] = x[r, c], rounded to T.
template <class T>
void copy_out(Rows<T> y, const float* x, std::int64_t x_stride, std::int64_t rows,
              std::int64_t columns) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; c += lanes) {
      const std::int64_t n = columns - c;
      lane::store_upto(y.data + r * y.stride + c, lane::load_upto(x + r * x_stride + c, n), n);
    }
  }
}

/// Where the chains of dq lie: float ones in dq itself, others in scratch until they are rounded.
Rows<float> chains_of(Rows<float> dq, float* /*scratch*/, std::int64_t /*width*/) {
  return dq;
}
Rows<float> chains_of(Rows<Bf16> /*dq*/, float* scratch, std::int64_t width) {
  return {scratch, width};
}
void finish(Rows<float> /*dq*/, Rows<float> /*chains*/, std::int64_t /*rows*/,
            std::int64_t /*width*/) {}
void finish(Rows<Bf16> dq, Rows<float> chains, std::int64_t rows, std::int64_t width) {
  copy_out(dq, chains.data, chains.stride, rows, width);
}

std::int64_t pad(std::int64_t dim) {
  return (dim + lanes - 1) / lanes * lanes;
}
std::int64_t tile_scratch(std::int64_t dim) {
  return (4 * attention_tile + row_block) * pad(dim) + 2 * row_block * attention_tile;
}

}  // namespace

template <Isa isa, class T>
std::int64_t AttentionBackward<isa, T>::scratch(const PagedBatch& batch, std::int64_t longest) {
  const bool in_place = sizeof(T) == sizeof(float);
  const std::int64_t width = batch.heads / batch.kv_heads * batch.dim;
  return tile_scratch(batch.dim) + (in_place ? 0 : longest * width);
}

template <Isa isa, class T>
void AttentionBackward<isa, T>::run(const AttentionGradients<T>& gradients, ConstRows<T> q,
                                    const T* cache, const PagedBatch& batch, float scale,
                                    std::int64_t sequence, std::int64_t kv_head, float* scratch) {
  const std::int64_t first = batch.cu_seqlens[sequence];
  const std::int64_t padded = pad(batch.dim), tile = attention_tile * padded;
  float* const rest = scratch + 4 * tile;
  Work<T> w{.batch = batch,
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
  const std::int64_t group = batch.heads / batch.kv_heads, width = group * w.dim;
  const std::int32_t* const table = batch.block_table + sequence * batch.max_blocks;
  const Rows<T> dq = part(gradients.dq, first, kv_head * width);
  const Rows<float> chains = chains_of(dq, scratch + tile_scratch(w.dim), width);
  for (std::int64_t r = 0; r < w.rows; ++r) {
    for (std::int64_t h = 0; h < width; ++h) chains.data[r * chains.stride + h] = 0.0f;
  }
  for (std::int64_t begin = 0; begin < w.rows; begin += attention_tile) {
    load_tile(w, cache, table, kv_head, begin);
    const std::int64_t existing = w.rows - begin < attention_tile ? w.rows - begin : attention_tile;
    for (std::int64_t i = 0; i < existing * padded; ++i) w.dk[i] = w.dv[i] = 0.0f;
    for (std::int64_t g = 0; g < group; ++g) {
      const std::int64_t n = kv_head * group + g;
      const Head<T> head{.q = part(q, first, n * w.dim),
                         .dout = part(gradients.dout, first, n * w.dim),
                         .out = part(gradients.out, first, n * w.dim),
                         .dq = part(chains, 0, g * w.dim),
                         .lse = gradients.lse + first * batch.heads + n,
                         .lse_stride = batch.heads};
      for (std::int64_t row = begin; row < w.rows; row += row_block) {
        const std::int64_t left = w.rows - row;
        block_of_rows(w, head, begin, row, left < row_block ? left : row_block);
      }
    }
    const std::int64_t column = kv_head * w.dim;
    copy_out(part(gradients.dk, first + begin, column), w.dk, padded, existing, w.dim);
    copy_out(part(gradients.dv, first + begin, column), w.dv, padded, existing, w.dim);
  }
  finish(dq, chains, w.rows, width);
}

template struct AttentionBackward<Isa::FST_ISA_NS, float>;
template struct AttentionBackward<Isa::FST_ISA_NS, Bf16>;

}  // namespace fst::kernels
