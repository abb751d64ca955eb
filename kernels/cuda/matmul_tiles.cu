#include "kernels/cuda/matmul_product.h"

/// Products with many rows. A block of 256 threads owns a square tile of 64 m outputs a side, a
/// thread 4 m x 4 m of them in registers; 16 / m inner indices at a time pass through shared memory
/// while the next are under way. Each output is one chain, so tiles change no bit.
namespace fst::kernels {

namespace {

using namespace gpu;

constexpr int threads = 256;
constexpr std::int64_t levels = 3;  // finished halves that a tree over eight leaves has waiting

/// Rows and columns of a tile, inner indices of a step: a thread fetches four floats of each
/// operand.
template <int m>
constexpr int side = 64 * m;
template <int m>
constexpr int depth = 16 / m;
/// Blocks that a multiprocessor holds at a time: as many as the sums leave registers for.
template <int m>
constexpr int held = m == 1 ? 3 : 2;

template <int m>
struct alignas(16) Shared {
  float a[2][depth<m>][side<m> + 4];  // + 4: transposed writes meet fewer bank conflicts
  float b[2][depth<m>][side<m>];
};
struct Staged {
  float4 a, b;
};
/// Which index of the left operand is contiguous.
enum class Left { inner, rows };
struct Origin {
  int row, column;
};

/// Tile number `tile`: tall groups of 16 rows of tiles, so that what runs together shares operands.
template <int m>
DEVICE Origin origin_of(const Product& p, int tile) {
  constexpr int group = 16;
  const int across = static_cast<int>(parts_of(p.columns, side<m>));
  const int down = static_cast<int>(parts_of(p.rows, side<m>));
  const int first = tile / (group * across) * group, within = tile % (group * across);
  const int height = down - first < group ? down - first : group;
  return {(first + within % height) * side<m>, within / height * side<m>};
}

/// Where in a step of the left operand this thread's four floats lie: along the inner index or
/// along the rows.
template <int m, Left left>
struct LeftPlace {
  int row, inner;
  DEVICE LeftPlace() {
    const int thread = static_cast<int>(threadIdx.x);
    constexpr int quads = left == Left::inner ? depth<m> / 4 : side<m> / 4;
    row = left == Left::inner ? thread / quads : thread % quads * 4;
    inner = left == Left::inner ? thread % quads * 4 : thread / quads;
  }
};
template <int m>
struct RightPlace {
  int inner, column;
  DEVICE RightPlace() {
    const int thread = static_cast<int>(threadIdx.x);
    inner = thread / (side<m> / 4);
    column = thread % (side<m> / 4) * 4;
  }
};

/// What a thread reads of the operands: where, and how much of the tile there is.
struct Source {
  const float* a;
  const float* b;
  int rows, columns;  // of the tile that exist
  bool wide;          // the tile is whole and its quads are aligned
};

template <int m, Left left>
DEVICE Source source_of(const Product& p, Origin at, std::int64_t begin) {
  const LeftPlace<m, left> a;
  const RightPlace<m> b;
  const std::int64_t rows = p.rows - at.row, columns = p.b_columns - at.column;
  Source source;
  source.a = p.a + (at.row + a.row) * p.a_row + (begin + a.inner) * p.a_inner;
  source.b = right_at(p, begin + b.inner, at.column + b.column);
  source.rows = rows < side<m> ? static_cast<int>(rows) : side<m>;
  source.columns = columns < side<m> ? static_cast<int>(columns) : side<m>;
  source.wide = p.wide && (left == Left::rows || begin % 4 == 0) && source.rows == side<m> &&
                source.columns == side<m>;
  return source;
}

/// This thread's part of both operands at the next inner indices, of which `rest` exist.
template <int m, Left left>
DEVICE Staged fetch(const Source& source, int rest) {
  if (source.wide && rest >= depth<m>) return {read4(source.a), read4(source.b)};
  const LeftPlace<m, left> a;
  const RightPlace<m> b;
  const int a_count = left == Left::inner ? (a.row < source.rows ? rest - a.inner : 0)
                                          : (a.inner < rest ? source.rows - a.row : 0);
  const int b_count = b.inner < rest ? source.columns - b.column : 0;
  return {read4_upto(source.a, a_count), read4_upto(source.b, b_count)};
}

template <int m, Left left>
DEVICE void keep(Shared<m>& shared, int buffer, const Staged& staged) {
  const LeftPlace<m, left> a;
  const RightPlace<m> b;
  if (left == Left::inner) {
#pragma unroll
    for (int e = 0; e < 4; ++e) shared.a[buffer][a.inner + e][a.row] = part(staged.a, e);
  } else {
    write4(&shared.a[buffer][a.inner][a.row], staged.a);
  }
  write4(&shared.b[buffer][b.inner][b.column], staged.b);
}

/// A warp owns 16 m rows and 32 m columns of the tile; its lanes lie 4 x 8, four rows and four
/// columns each, m times in both directions.
template <int m>
struct Place {
  int row, column;
  DEVICE Place() {
    const int warp = uniform(static_cast<int>(threadIdx.x) / 32);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    row = warp / 2 * 16 * m + lane / 8 * 4;
    column = warp % 2 * 32 * m + lane % 8 * 4;
  }
  /// Row of the tile of sums [i][...], column of sums [...][j].
  DEVICE int row_of(int i) const { return row + i / 4 * 16 + i % 4; }
  DEVICE int column_of(int j) const { return column + 32 * j; }
};
template <int m>
using Sums = float4[4 * m][m];

template <int m>
DEVICE void multiply(Sums<m>& sum, const Shared<m>& shared, int buffer, int k, Place<m> place) {
  float4 a[m], b[m];
#pragma unroll
  for (int i = 0; i < m; ++i) {
    a[i] = read4(&shared.a[buffer][k][place.row_of(4 * i)]);
    b[i] = read4(&shared.b[buffer][k][place.column_of(i)]);
  }
#pragma unroll
  for (int i = 0; i < 4 * m; ++i) {
#pragma unroll
    for (int j = 0; j < m; ++j) sum[i][j] = fma(part(a[i / 4], i % 4), b[j], sum[i][j]);
  }
}

/// Continues all chains of the tile over leaf `leaf` of the inner indices.
template <int m, Left left>
DEVICE void accumulate(Sums<m>& sum, Shared<m>& shared, const Product& p, Origin at, int leaf,
                       Place<m> place) {
  const std::int64_t begin = leaf * p.inner / p.leaves, end = (leaf + 1) * p.inner / p.leaves;
  if (begin == end) return;
  Source source = source_of<m, left>(p, at, begin);
  Staged staged = fetch<m, left>(source, static_cast<int>(end - begin));
  keep<m, left>(shared, 0, staged);
  sync_block();
  int buffer = 0;
  for (int rest = static_cast<int>(end - begin); rest > 0; rest -= depth<m>, buffer ^= 1) {
    if (rest > depth<m>) {
      source.a += left == Left::inner ? depth<m> : depth<m> * p.a_inner;
      source.b += depth<m> * p.b_inner;
      staged = fetch<m, left>(source, rest - depth<m>);
    }
    if (rest >= depth<m>) {
#pragma unroll
      for (int k = 0; k < depth<m>; ++k) multiply<m>(sum, shared, buffer, k, place);
    } else {  // no step more than the chain has: even 0 * 0 would turn a -0 into +0
#pragma unroll 1
      for (int k = 0; k < rest; ++k) multiply<m>(sum, shared, buffer, k, place);
    }
    if (rest > depth<m>) keep<m, left>(shared, buffer ^ 1, staged);
    sync_block();
  }
}

template <int m>
DEVICE void clear(Sums<m>& sum) {
#pragma unroll
  for (int i = 0; i < 4 * m * m; ++i) sum[i / m][i % m] = {0.0f, 0.0f, 0.0f, 0.0f};
}
/// The chains start from the old contents.
template <int m>
DEVICE void resume(Sums<m>& sum, const Product& p, Origin at, Place<m> place) {
#pragma unroll
  for (int i = 0; i < 4 * m; ++i) {
    const int row = at.row + place.row_of(i);
#pragma unroll
    for (int j = 0; j < m; ++j) {
      const int column = at.column + place.column_of(j);
      const int count = row < p.rows ? static_cast<int>(p.columns) - column : 0;
      sum[i][j] = read4_upto(p.c + row * p.ldc + column, count);
    }
  }
}

template <int m>
DEVICE void finish_tile(const Sums<m>& sum, const Product& p, Origin at, Place<m> place) {
#pragma unroll
  for (int i = 0; i < 4 * m; ++i) {
    const int row = at.row + place.row_of(i);
    if (row >= p.rows) continue;
#pragma unroll
    for (int j = 0; j < m; ++j) finish(p, row, at.column + place.column_of(j), sum[i][j]);
  }
}

template <int m>
DEVICE void keep_leaf(const Sums<m>& sum, const Partials& partials, const Product& p, int leaf,
                      Origin at, Place<m> place) {
#pragma unroll
  for (int i = 0; i < 4 * m; ++i) {
    const int row = at.row + place.row_of(i);
    if (row >= p.rows) continue;
    float* const to = partials.data + (leaf * p.rows + row) * partials.step;
#pragma unroll
    for (int j = 0; j < m; ++j) {
      const int column = at.column + place.column_of(j);
      if (column < partials.step) write4(to + column, sum[i][j]);
    }
  }
}

/// One leaf of a tile, which goes to `partials`; or a tile that is a single chain.
template <int m>
KERNEL(threads, held<m>)
chain_kernel(Product p, int tiles, Partials partials) {
  Shared<m>& shared = shared_memory<Shared<m>>();
  const Place<m> place;
  const int block = static_cast<int>(blockIdx.x);
  const Origin at = origin_of<m>(p, block % tiles);
  Sums<m> sum;
  clear<m>(sum);
  accumulate<m, Left::inner>(sum, shared, p, at, block / tiles, place);
  if (partials.data == nullptr) {
    finish_tile<m>(sum, p, at, place);
  } else {
    const int leaf = uniform(block) / tiles;  // found afresh: meanwhile registers are full
    keep_leaf<m>(sum, partials, p, leaf, at, place);
  }
}

/// A tile of a weight gradient, whose chains may go on from the old contents.
template <int m>
KERNEL(threads, held<m>)
gradient_kernel(Product p) {
  Shared<m>& shared = shared_memory<Shared<m>>();
  const Place<m> place;
  const Origin at = origin_of<m>(p, static_cast<int>(blockIdx.x));
  Sums<m> sum;
  p.resume ? resume<m>(sum, p, at, place) : clear<m>(sum);
  accumulate<m, Left::rows>(sum, shared, p, at, 0, place);
  // Found afresh, by way of uniform(), so that nothing waits in registers meanwhile.
  const Origin same = origin_of<m>(p, uniform(static_cast<int>(blockIdx.x)));
  finish_tile<m>(sum, p, same, Place<m>());
}

/// This thread's sums to or from memory of its own.
template <int m>
DEVICE void put_aside(const Sums<m>& sum, float* to) {
#pragma unroll
  for (int i = 0; i < 4 * m * m; ++i) write4(to + i * threads * 4, sum[i / m][i % m]);
}
template <int m>
DEVICE void join(Sums<m>& sum, const float* from) {
#pragma unroll
  for (int i = 0; i < 4 * m * m; ++i) {
    sum[i / m][i % m] = add(read4(from + i * threads * 4), sum[i / m][i % m]);
  }
}

/// All leaves of tiles: a finished leaf joins the finished halves to its left, which wait in
/// memory: [levels][side * side] floats per block.
template <int m>
KERNEL(threads, 1)
tree_kernel(Product p, int tiles, float* waiting) {
  Shared<m>& shared = shared_memory<Shared<m>>();
  const Place<m> place;
  constexpr std::int64_t tile_size = side<m> * side<m>;
  float* const aside = waiting + blockIdx.x * levels * tile_size + threadIdx.x * 4;
  const int stride = static_cast<int>(gridDim.x);
  for (int tile = static_cast<int>(blockIdx.x); tile < tiles; tile += stride) {
    const Origin at = origin_of<m>(p, tile);
    Sums<m> sum;
    for (int leaf = 0; leaf < p.leaves; ++leaf) {
      clear<m>(sum);
      accumulate<m, Left::inner>(sum, shared, p, at, leaf, place);
      int level = 0;
      for (; (leaf >> level & 1) != 0; ++level) join<m>(sum, aside + level * tile_size);
      if (leaf + 1 < p.leaves) put_aside<m>(sum, aside + level * tile_size);
    }
    finish_tile<m>(sum, p, at, place);
  }
}

template <int m>
void run(const Cuda& cuda, const Product& p) {
  const int tiles = static_cast<int>(parts_of(p.rows, side<m>) * parts_of(p.columns, side<m>));
  const dim3 grid(static_cast<unsigned>(tiles * p.leaves)), block(threads);
  constexpr std::size_t shared = sizeof(Shared<m>);
  if (p.transposed) {
    launch(gradient_kernel<m>, grid, block, shared, cuda.stream, p);
  } else if (p.leaves == 1) {
    launch(chain_kernel<m>, grid, block, shared, cuda.stream, p, tiles, Partials{nullptr, 0});
  } else if (tiles < static_cast<int>(full_device)) {
    const Partials partials = partials_for(cuda, p);
    launch(chain_kernel<m>, grid, block, shared, cuda.stream, p, tiles, partials);
    join_partials(cuda, p, partials);
  } else {
    const std::size_t aside = full_device * levels * side<m> * side<m> * sizeof(float);
    launch(tree_kernel<m>, dim3(full_device), block, shared, cuda.stream, p, tiles,
           static_cast<float*>(scratch(cuda, aside)));
  }
}

}  // namespace

void product_of_tiles(const Cuda& cuda, const Product& p) {
  const bool large = parts_of(p.rows, 128) * parts_of(p.columns, 128) * p.leaves >= full_device;
  large ? run<2>(cuda, p) : run<1>(cuda, p);
}

}  // namespace fst::kernels
