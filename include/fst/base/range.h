#pragma once

#include <cstdint>

namespace fst {

/// A half-open range of indices.
struct Range {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
};

/// Part `index` of `count` items cut into `parts` as evenly as possible: [count i / parts,
/// count (i + 1) / parts), rounded down. Leaves of a sum, of groups, of a rank, and shards of a
/// vector or a matrix are such parts. Where `d` divides both `count` and `parts`, part r of d
/// holds whole parts of `parts`, and they are its own parts when it is cut into `parts / d`.
constexpr Range part_of(std::int64_t count, std::int64_t parts, std::int64_t index) {
  return {count * index / parts, count * (index + 1) / parts};
}

}  // namespace fst
