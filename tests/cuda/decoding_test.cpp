#include "kernels/decoding.h"

#include "device.h"
#include "noise.h"

namespace fst::kernels {
namespace {

using test::device;
using test::DeviceArray;
using test::expect_same;
using test::Noise;
using test::twin;

using Ints = std::vector<std::int32_t>;

/// Of -1, which stands for nothing, and 0 .. vocab - 1.
Ints random_tokens(Noise& noise, std::int64_t count, std::int64_t vocab) {
  Ints tokens(static_cast<std::size_t>(count));
  for (auto& token : tokens) token = static_cast<std::int32_t>(noise.below(vocab + 1)) - 1;
  return tokens;
}

TEST(CudaDecoding, TakesTheTokensThatTheCpuTakes) {
  Noise noise(1);
  for (const std::int64_t rows : {1, 7, 255, 256, 257, 1031, 0}) {
    const Ints drawn = random_tokens(noise, rows / 2 + 1, 151936);
    Ints tokens = random_tokens(noise, rows, 151936);
    for (std::size_t r = 0; r < tokens.size(); r += 2) {
      tokens[r] = -1 - static_cast<std::int32_t>(noise.below(rows / 2 + 1));
    }
    const DeviceArray<std::int32_t> on_device(tokens), drawn_there(drawn);
    take_drawn(device(), on_device.data(), drawn_there.data(), rows);
    take_drawn(twin(), tokens.data(), drawn.data(), rows);
    EXPECT_EQ(on_device.host(), tokens) << rows;
  }
}

TEST(CudaDecoding, EndsTheCompletionsThatTheCpuEnds) {
  Noise noise(2);
  constexpr std::int64_t vocab = 101;
  std::vector<std::uint32_t> stops((vocab + 31) / 32);
  for (const std::int32_t stop : random_tokens(noise, 20, vocab)) {
    if (stop >= 0) stops[static_cast<std::size_t>(stop / 32)] |= 1u << (stop % 32);
  }
  const DeviceArray<std::uint32_t> stops_there(stops);
  for (const std::int64_t draws : {1, 9, 256, 259, 0}) {
    const Ints drawn = random_tokens(noise, draws, vocab), places = random_tokens(noise, draws, 5),
               limits = random_tokens(noise, draws, 9);
    const DeviceArray<std::int32_t> drawn_there(drawn), places_there(places), limits_there(limits),
        endings_there(drawn.size());
    Ints endings(drawn.size());
    test_endings(device(), endings_there.data(), drawn_there.data(), stops_there.data(),
                 places_there.data(), limits_there.data(), draws);
    test_endings(twin(), endings.data(), drawn.data(), stops.data(), places.data(), limits.data(),
                 draws);
    EXPECT_EQ(endings_there.host(), endings) << draws;
  }
}

}  // namespace
}  // namespace fst::kernels
