#include "kernels/cuda/cuda.h"
#include "kernels/cuda/gpu.h"
#include "kernels/decoding.h"

namespace fst::kernels {

namespace {

using namespace gpu;

constexpr int threads = 256;

dim3 blocks_for(std::int64_t items) {
  return static_cast<unsigned>((items + threads - 1) / threads);
}

DEVICE std::int64_t this_item() {
  return static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
}

KERNEL(threads, 1)
take_tokens(std::int32_t* tokens, const std::int32_t* drawn, std::int64_t rows) {
  const std::int64_t r = this_item();
  if (r >= rows || tokens[r] >= 0) return;
  const std::int32_t token = drawn[-1 - tokens[r]];
  tokens[r] = token < 0 ? 0 : token;
}

DEVICE Ending ending_of(std::int32_t token, const std::uint32_t* stops, std::int32_t place,
                        std::int32_t limit) {
  if (token < 0) return Ending::broken;
  if ((stops[token / 32] >> (token % 32) & 1u) != 0) return Ending::stop;
  return place + 1 >= limit ? Ending::length : Ending::none;
}

KERNEL(threads, 1)
test_tokens(std::int32_t* endings, const std::int32_t* drawn, const std::uint32_t* stops,
            const std::int32_t* places, const std::int32_t* limits, std::int64_t draws) {
  const std::int64_t i = this_item();
  if (i >= draws) return;
  endings[i] = static_cast<std::int32_t>(ending_of(drawn[i], stops, places[i], limits[i]));
}

}  // namespace

template <>
void take_drawn(const Cuda& cuda, std::int32_t* tokens, const std::int32_t* drawn,
                std::int64_t rows) {
  if (rows == 0) return;
  launch(take_tokens, blocks_for(rows), dim3(threads), 0, cuda.stream, tokens, drawn, rows);
}

template <>
void test_endings(const Cuda& cuda, std::int32_t* endings, const std::int32_t* drawn,
                  const std::uint32_t* stops, const std::int32_t* places,
                  const std::int32_t* limits, std::int64_t draws) {
  if (draws == 0) return;
  launch(test_tokens, blocks_for(draws), dim3(threads), 0, cuda.stream, endings, drawn, stops,
         places, limits, draws);
}

}  // namespace fst::kernels
