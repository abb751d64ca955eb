#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/gpu.h"

/// Elementwise work on a matrix: a block of 256 threads takes a tile of 1024 neighbouring elements
/// of one row, a thread four of them, 256 apart.
namespace fst::kernels::gpu {

inline constexpr int tile_threads = 256;
inline constexpr int tile_parts = 4;
inline constexpr int tile_elements = tile_threads * tile_parts;

/// Queues `kernel`, a KERNEL(tile_threads, ...) that calls each_element(), over rows x columns.
template <class... Parameters, class... Arguments>
void launch_tiles(const Cuda& cuda, void (*kernel)(Parameters...), std::int64_t rows,
                  std::int64_t columns, Arguments&&... arguments) {
  const std::int64_t tiles = rows * ((columns + tile_elements - 1) / tile_elements);
  if (tiles <= 0) return;
  launch(kernel, dim3(static_cast<unsigned>(tiles)), dim3(tile_threads), 0, cuda.stream,
         static_cast<Parameters>(arguments)...);
}

/// The row of this block's tile.
DEVICE std::int64_t tile_row(std::int64_t columns) {
  return blockIdx.x / ((columns + tile_elements - 1) / tile_elements);
}

/// store(row, column, load(row, column)) for the elements of this thread. All loads come first, so
/// that they are under way together: stores may alias later loads, which the compiler must respect.
template <class Load, class Store>
DEVICE void each_element(std::int64_t columns, Load load, Store store) {
  const std::int64_t per_row = (columns + tile_elements - 1) / tile_elements;
  const std::int64_t row = tile_row(columns);
  const std::int64_t begin = blockIdx.x % per_row * tile_elements + threadIdx.x;
  decltype(load(row, begin)) values[tile_parts] = {};
#pragma unroll
  for (int part = 0; part < tile_parts; ++part) {
    const std::int64_t column = begin + part * tile_threads;
    if (column < columns) values[part] = load(row, column);
  }
#pragma unroll
  for (int part = 0; part < tile_parts; ++part) {
    const std::int64_t column = begin + part * tile_threads;
    if (column < columns) store(row, column, values[part]);
  }
}

}  // namespace fst::kernels::gpu
