#include "kernels/decoding.h"

#include <algorithm>

namespace fst::kernels {

// A few integers a step: one thread, and no instruction set matters.

template <>
void take_drawn(const Cpu& /*cpu*/, std::int32_t* tokens, const std::int32_t* drawn,
                std::int64_t rows) {
  for (std::int64_t r = 0; r < rows; ++r) {
    if (tokens[r] < 0) tokens[r] = std::max(drawn[-1 - tokens[r]], 0);
  }
}

namespace {

Ending ending_of(std::int32_t token, const std::uint32_t* stops, std::int32_t place,
                 std::int32_t limit) {
  if (token < 0) return Ending::broken;
  if ((stops[token / 32] >> (token % 32) & 1u) != 0) return Ending::stop;
  return place + 1 >= limit ? Ending::length : Ending::none;
}

}  // namespace

template <>
void test_endings(const Cpu& /*cpu*/, std::int32_t* endings, const std::int32_t* drawn,
                  const std::uint32_t* stops, const std::int32_t* places,
                  const std::int32_t* limits, std::int64_t draws) {
  for (std::int64_t i = 0; i < draws; ++i) {
    endings[i] = static_cast<std::int32_t>(ending_of(drawn[i], stops, places[i], limits[i]));
  }
}

}  // namespace fst::kernels
