#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

namespace fst::checkpoint {

// A checkpoint holds, besides the file attributes of all our files:
//   NAME              f32 [n], i64 [n] or u8 [n]; attributes kind (array, integers, blob), use, and
//   for
//                     the latter two checksum (hash64 of the bytes)
//   /checksums/NAME   u64 [chunks] of an array: float_sum of each chunk of elements

inline const std::string filetype = "fst checkpoint";
inline constexpr std::int64_t chunk_elements = std::int64_t{1} << 18;  // 1 MiB of f32

inline std::string sums_path(const std::string& name) {
  return "/checksums" + name;
}
inline std::int64_t chunks_of(std::int64_t elements) {
  return (elements + chunk_elements - 1) / chunk_elements;
}
inline std::int64_t chunk_begin(std::int64_t chunk) {
  return chunk * chunk_elements;
}
inline std::int64_t chunk_end(std::int64_t chunk, std::int64_t elements) {
  return std::min(elements, (chunk + 1) * chunk_elements);
}

}  // namespace fst::checkpoint
