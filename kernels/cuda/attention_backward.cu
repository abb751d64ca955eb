#include "kernels/cuda/attention_passes.h"

/// Two passes over tiles of 64 rows x 64 keys, each of which computes the probabilities anew: one
/// whose blocks own 64 keys and walk the rows of their group's heads, one whose blocks own 64 rows
/// of a head and walk the keys. All sums are chains of one thread: nothing is added by atomics. A
/// warp owns 16 rows (or keys), which is a block of the contract, so masks are whole loops.
namespace fst::kernels {

namespace {

using namespace gpu;

constexpr int threads = attention_threads;
constexpr int side = 64;
constexpr int side_step = side + 4;

struct Arguments {
  AttentionGradients<float> gradients;
  ConstRows<float> q;
  const float* cache;
  PagedBatch batch;
  float scale;
  const float* delta;  // [rows, heads]: dout . out
};

/// 155 KiB for heads of 128: what an sm_80 has, too.
template <int D>
struct alignas(16) Shared {
  float k[D][side_step], v[D][side_step];  // by element of the head
  float q[side][D + 4], dout[side][D + 4];
  float factors[side][side_step];  // p or ds
  float lse[side], delta[side];
};

/// Where a thread's sums lie. Of the scores: the rows `row` + 4 i and four keys from `key` on. Of
/// the gradients: the same rows, or the keys `first` + i, and columns half * D / 2 + `column` + 32
/// j. `block`: where the warp's 16 rows or keys begin.
struct Place {
  int block, row, first, key, half, column;
  DEVICE Place() {
    const int warp = uniform(static_cast<int>(threadIdx.x) / 32);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    block = warp / 2 * cache_block;
    row = block + lane / 8;
    first = block + lane / 8 * 4;
    half = warp % 2;
    column = lane % 8 * 4;
    key = half * 32 + column;
  }
};

template <int n>
DEVICE void clear(float4 (&sum)[4][n]) {
#pragma unroll
  for (int i = 0; i < 4 * n; ++i) sum[i % 4][i / 4] = {0.0f, 0.0f, 0.0f, 0.0f};
}

/// sum[i][j] continues its chain over k < count: a(i, k) = a[4 i a_step + k], b(k, j) = b[k b_step
/// + 32 j].
template <int n, int a_step, int b_step>
DEVICE void multiply(float4 (&sum)[4][n], const float* a, const float* b, int count) {
  int k = 0;
#pragma unroll 2
  for (; k + 4 <= count; k += 4) {
    float4 left[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) left[i] = read4(a + 4 * i * a_step + k);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
#pragma unroll
      for (int j = 0; j < n; ++j) {
        const float4 right = read4(b + (k + e) * b_step + 32 * j);
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[i][j] = gpu::fma(part(left[i], e), right, sum[i][j]);
      }
    }
  }
  for (; k < count; ++k) {
#pragma unroll
    for (int j = 0; j < n; ++j) {
      const float4 right = read4(b + k * b_step + 32 * j);
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[i][j] = gpu::fma(a[4 * i * a_step + k], right, sum[i][j]);
    }
  }
}

/// The same over begin <= k < end with a by its inner index: a(i, k) = a[k a_step + i].
template <int n, int a_step, int b_step>
DEVICE void multiply_transposed(float4 (&sum)[4][n], const float* a, const float* b, int begin,
                                int end) {
#pragma unroll 4
  for (int k = begin; k < end; ++k) {
    const float4 left = read4(a + k * a_step);
#pragma unroll
    for (int j = 0; j < n; ++j) {
      const float4 right = read4(b + k * b_step + 32 * j);
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[i][j] = gpu::fma(part(left, i), right, sum[i][j]);
    }
  }
}

/// Rows [row, row + count) of a head; zeros behind.
template <int D>
DEVICE void load_rows(float (&to)[side][D + 4], ConstRows<float> from, const Sequence& sequence,
                      int dim, std::int64_t head, int row, int count) {
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < side * D / 4; i += threads) {
    const int r = i / (D / 4), h = i % (D / 4) * 4;
    const float* const at =
        from.data + (sequence.first_row + row + r) * from.stride + head * dim + h;
    write4(&to[r][h], read4_upto(at, r < count ? dim - h : 0));
  }
}
template <int D>
DEVICE void load_row_tile(Shared<D>& s, const Arguments& a, const Sequence& sequence,
                          std::int64_t head, int row, int count) {
  const int dim = static_cast<int>(a.batch.dim);
  load_rows<D>(s.q, a.q, sequence, dim, head, row, count);
  load_rows<D>(s.dout, a.gradients.dout, sequence, dim, head, row, count);
  const int r = static_cast<int>(threadIdx.x);
  if (r >= side) return;
  const std::int64_t at = (sequence.first_row + row + r) * a.batch.heads + head;
  s.lse[r] = r < count ? a.gradients.lse[at] : 0.0f;
  s.delta[r] = r < count ? a.delta[at] : 0.0f;
}

/// Keys and values from `key` on, by element of the head. Blocks beyond the sequence are zeros;
/// what lies behind it in its last block is read and masked.
template <int D>
DEVICE void load_key_tile(Shared<D>& s, const Arguments& a, const Sequence& sequence,
                          std::int64_t kv_head, int key) {
  const int dim = static_cast<int>(a.batch.dim), thread = static_cast<int>(threadIdx.x);
#pragma unroll 4
  for (int i = thread; i < side * D / 4; i += threads) {
    const int first = i / (D * 4) * cache_block, h = i % (D * 4) / 4, four = i % 4 * 4;
    const bool exists = key + first < sequence.rows;
    const std::int64_t block = exists ? sequence.table[(key + first) / cache_block] : 0;
    const float* const keys = keys_of(a.cache, a.batch, block, kv_head);
    write4(&s.k[h][first + four],
           read4_upto(keys + h * cache_block + four, exists && h < dim ? 4 : 0));
  }
#pragma unroll 4
  for (int i = thread; i < side * D / 4; i += threads) {
    const int j = i / (D / 4), h = i % (D / 4) * 4;
    const bool exists = key + j < sequence.rows;
    const std::int64_t block = exists ? sequence.table[(key + j) / cache_block] : 0;
    const float* const values = keys_of(a.cache, a.batch, block, kv_head) + cache_block * dim;
    const float4 v = read4_upto(values + j % cache_block * dim + h, exists ? dim - h : 0);
#pragma unroll
    for (int e = 0; e < 4; ++e) s.v[h + e][j] = part(v, e);
  }
}

/// The keys of the tile once more, by key [64][D + 4], where the values were; zeros for the keys
/// from `count` on.
template <int D>
DEVICE float* turn_keys(Shared<D>& s, int count) {
  static_assert(side * (D + 4) <= D * side_step);
  float* const to = &s.v[0][0];
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < side * D / 4; i += threads) {
    const int j = i % side, h = i / side * 4;
    const float4 k{s.k[h][j], s.k[h + 1][j], s.k[h + 2][j], s.k[h + 3][j]};
    write4(to + j * (D + 4) + h, j < count ? k : float4{0.0f, 0.0f, 0.0f, 0.0f});
  }
  return to;
}

/// The probabilities of the tile and the gradients of its scores, rows place.row + 4 i and four
/// keys. `ahead`: the first row minus the first key.
template <int D>
DEVICE void soften(float4 (&p)[4], float4 (&ds)[4], const Shared<D>& s, const Arguments& a,
                   int ahead, const Place& place) {
  const int dim = static_cast<int>(a.batch.dim);
  float4 score[4][1], slope[4][1];
  clear<1>(score);
  clear<1>(slope);
  multiply<1, D + 4, side_step>(score, &s.q[place.row][0], &s.k[0][place.key], dim);
  multiply<1, D + 4, side_step>(slope, &s.dout[place.row][0], &s.v[0][place.key], dim);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = place.row + 4 * i;
    const float lse = s.lse[row], delta = s.delta[row];
    const auto probability = [&](float x, int e) {
      return place.key + e <= row + ahead ? exp(x * a.scale - lse) : 0.0f;
    };
    const auto gradient = [&](float weight, float x, int e) {
      return place.key + e <= row + ahead ? (weight * (x - delta)) * a.scale : 0.0f;
    };
    const float4 x = score[i][0], y = slope[i][0];
    p[i] = {probability(x.x, 0), probability(x.y, 1), probability(x.z, 2), probability(x.w, 3)};
    ds[i] = {gradient(p[i].x, y.x, 0), gradient(p[i].y, y.y, 1), gradient(p[i].z, y.z, 2),
             gradient(p[i].w, y.w, 3)};
  }
}
template <int D>
DEVICE void keep_factors(Shared<D>& s, const float4 (&factors)[4], const Place& place) {
#pragma unroll
  for (int i = 0; i < 4; ++i) write4(&s.factors[place.row + 4 * i][place.key], factors[i]);
}

/// dk and dv of the keys [key, key + 64) of a KV head.
template <int D>
DEVICE void gradients_of_keys(Shared<D>& s, const Arguments& a, const Sequence& sequence,
                              std::int64_t kv_head, int key) {
  constexpr int n = D / 64;
  const std::int64_t group = a.batch.heads / a.batch.kv_heads;
  const Place place;
  const int element = place.half * (D / 2) + place.column;
  float4 dk[4][n], dv[4][n];
  clear<n>(dk);
  clear<n>(dv);
  load_key_tile<D>(s, a, sequence, kv_head, key);
  for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (int row = key; row < sequence.rows; row += side) {
      const int count = sequence.rows - row < side ? sequence.rows - row : side;
      load_row_tile<D>(s, a, sequence, head, row, count);
      sync_block();
      float4 p[4], ds[4];
      soften<D>(p, ds, s, a, row - key, place);
      const int begin = row == key ? place.block : 0;  // from the beginning of the keys' block
      keep_factors<D>(s, p, place);
      sync_block();
      multiply_transposed<n, side_step, D + 4>(dv, &s.factors[0][place.first], &s.dout[0][element],
                                               begin, count);
      sync_block();
      keep_factors<D>(s, ds, place);
      sync_block();
      multiply_transposed<n, side_step, D + 4>(dk, &s.factors[0][place.first], &s.q[0][element],
                                               begin, count);
      sync_block();
    }
  }
  const Rows<float> to_k = a.gradients.dk, to_v = a.gradients.dv;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (key + place.first + i >= sequence.rows) continue;
    const std::int64_t row = sequence.first_row + key + place.first + i;
#pragma unroll
    for (int j = 0; j < n; ++j) {
      const int h = element + 32 * j;
      const int count = static_cast<int>(a.batch.dim) - h;
      const std::int64_t column = kv_head * a.batch.dim + h;
      write4_upto(to_k.data + row * to_k.stride + column, dk[i][j], count);
      write4_upto(to_v.data + row * to_v.stride + column, dv[i][j], count);
    }
  }
}

/// dq of the rows [row, row + 64) of a head.
template <int D>
DEVICE void gradients_of_rows(Shared<D>& s, const Arguments& a, const Sequence& sequence,
                              std::int64_t head, int row) {
  constexpr int n = D / 64;
  const std::int64_t kv_head = head / (a.batch.heads / a.batch.kv_heads);
  const int count = sequence.rows - row < side ? sequence.rows - row : side;
  const Place place;
  const int element = place.half * (D / 2) + place.column;
  float4 dq[4][n];
  clear<n>(dq);
  load_row_tile<D>(s, a, sequence, head, row, count);
  for (int key = 0; key <= row; key += side) {
    load_key_tile<D>(s, a, sequence, kv_head, key);
    sync_block();
    float4 p[4], ds[4];
    soften<D>(p, ds, s, a, row - key, place);
    keep_factors<D>(s, ds, place);
    sync_block();
    const float* const natural = turn_keys<D>(s, sequence.rows - key);
    sync_block();
    const int keys =
        key == row ? place.block + cache_block : side;  // to the end of the rows' block
    multiply<n, side_step, D + 4>(dq, &s.factors[place.row][0], natural + element, keys);
    sync_block();
  }
  const Rows<float> to = a.gradients.dq;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (place.row + 4 * i >= count) continue;
    const std::int64_t r = sequence.first_row + row + place.row + 4 * i;
#pragma unroll
    for (int j = 0; j < n; ++j) {
      const int h = element + 32 * j;
      write4_upto(to.data + r * to.stride + head * a.batch.dim + h, dq[i][j],
                  static_cast<int>(a.batch.dim) - h);
    }
  }
}

/// Block (x, y): KV head x % kv_heads of sequence x / kv_heads, tiles of keys; the first see most
/// rows.
template <int D>
KERNEL(threads, 1)
keys_kernel(Arguments a) {
  Shared<D>& s = shared_memory<Shared<D>>();
  const Sequence sequence = sequence_of(a.batch, blockIdx.x / a.batch.kv_heads);
  const int step = static_cast<int>(gridDim.y) * side;
  for (int key = static_cast<int>(blockIdx.y) * side; key < sequence.rows; key += step) {
    gradients_of_keys<D>(s, a, sequence, blockIdx.x % a.batch.kv_heads, key);
  }
}

/// Block (x, y): head x % heads of sequence x / heads, tiles of rows; the last see most keys.
template <int D>
KERNEL(threads, 1)
rows_kernel(Arguments a) {
  Shared<D>& s = shared_memory<Shared<D>>();
  const Sequence sequence = sequence_of(a.batch, blockIdx.x / a.batch.heads);
  const int tiles = (sequence.rows + side - 1) / side;
  for (int i = static_cast<int>(blockIdx.y); i < tiles; i += static_cast<int>(gridDim.y)) {
    gradients_of_rows<D>(s, a, sequence, blockIdx.x % a.batch.heads, (tiles - 1 - i) * side);
  }
}

/// delta[row, head] = dout . out.
KERNEL(threads, 4)
delta_kernel(float* delta, ConstRows<float> dout, ConstRows<float> out, PagedBatch batch) {
  each_delta(dout, out, batch, [delta](std::int64_t i, float d) { delta[i] = d; });
}

template <int D>
void run(const Cuda& cuda, const Arguments& a) {
  launch_passes(cuda, keys_kernel<D>, rows_kernel<D>, a, side, sizeof(Shared<D>));
}

}  // namespace

template <>
void attention_backward(const Cuda& cuda, const AttentionGradients<float>& gradients,
                        ConstRows<float> q, const float* cache, const PagedBatch& batch,
                        float scale) {
  check_head(batch);
  if (batch.sequences <= 0 || batch.max_blocks <= 0) return;
  const std::size_t bytes = static_cast<std::size_t>(most_pairs(batch)) * sizeof(float);
  auto* const delta = static_cast<float*>(scratch(cuda, bytes));
  launch(delta_kernel, delta_grid(batch), dim3(threads), 0, cuda.stream, delta, gradients.dout,
         gradients.out, batch);
  const Arguments a{gradients, q, cache, batch, scale, delta};
  batch.dim <= 64 ? run<64>(cuda, a) : run<128>(cuda, a);
}

}  // namespace fst::kernels
