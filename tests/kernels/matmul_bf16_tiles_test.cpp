// The AMX path on a machine without AMX: its own loops, with imitated tile registers. What the
// instructions do is transcribed from Intel's SDM, volume 2 (LDTILECFG, TILELOADD, TILESTORED,
// TDPBF16PS), with its checks.

#include "kernels/cpu/matmul_bf16_tiles.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "matmul_bf16_support.h"

namespace fst::kernels {
namespace {

using namespace bf16_test;

class ImitatedTiles {
 public:
  void configure(const TileConfig& config) {
    ASSERT_EQ(config.palette, 1);
    ASSERT_EQ(config.start_row, 0);
    for (const std::uint8_t byte : config.reserved) ASSERT_EQ(byte, 0);
    for (int t = 0; t < 16; ++t) {
      ASSERT_LE(config.row_bytes[t], t < 8 ? 64 : 0);
      ASSERT_LE(config.rows[t], t < 8 ? 16 : 0);
      ASSERT_EQ(config.rows[t] == 0, config.row_bytes[t] == 0);
    }
    config_ = config;
    std::memset(bytes_, 0, sizeof bytes_);
    configured_ = true;
  }
  void release() { configured_ = false; }
  bool configured() const { return configured_; }

  template <int tile>
  void load(const void* rows, std::int64_t step) {
    ASSERT_TRUE(configured_ && config_.rows[tile] > 0);
    std::memset(bytes_[tile], 0, sizeof bytes_[tile]);
    for (int r = 0; r < config_.rows[tile]; ++r) {
      std::memcpy(bytes_[tile][r], static_cast<const char*>(rows) + r * step,
                  config_.row_bytes[tile]);
    }
  }
  template <int tile>
  void store(void* rows, std::int64_t step) {
    ASSERT_TRUE(configured_ && config_.rows[tile] > 0);
    for (int r = 0; r < config_.rows[tile]; ++r) {
      std::memcpy(static_cast<char*>(rows) + r * step, bytes_[tile][r], config_.row_bytes[tile]);
    }
  }
  template <int c, int a, int b>
  void multiply() {
    ASSERT_TRUE(configured_);
    ASSERT_EQ(config_.rows[c], config_.rows[a]);
    ASSERT_EQ(config_.row_bytes[c], config_.row_bytes[b]);
    ASSERT_EQ(config_.row_bytes[a] / 4, config_.rows[b]);
    for (int m = 0; m < config_.rows[c]; ++m) {
      for (int n = 0; n < config_.row_bytes[c] / 4; ++n) {
        float sums[2] = {0.0f, 0.0f}, total = 0.0f;
        for (int k = 0; k < config_.row_bytes[a] / 4; ++k) {
          for (int i = 0; i < 2; ++i) {
            sums[i] = flushed_fma(element(a, m, 2 * k + i), element(b, k, 2 * n + i), sums[i]);
          }
        }
        std::memcpy(&total, bytes_[c][m] + 4 * n, 4);
        total = flushed_add(total, flushed_add(sums[0], sums[1]));
        std::memcpy(bytes_[c][m] + 4 * n, &total, 4);
      }
    }
  }

 private:
  float element(int tile, int row, int i) const {
    Bf16 x{};
    std::memcpy(&x, bytes_[tile][row] + 2 * i, 2);
    return widened(x);
  }
  TileConfig config_;
  bool configured_ = false;
  char bytes_[8][16][64] = {};
};

TEST(MatmulBf16Tiles, LoopsOverTilesGiveTheBitsOfTheDefinition) {
  const Cpu cpu{Isa::scalar, nullptr};
  for (const std::int64_t rows : {1, 15, 16, 17, 31, 32, 33, 49, 70}) {
    const std::int64_t n = 70, k = 77, panels = 3, step = 32 * panels, ldx = k + 2;
    const Halves x = random_halves(rows * ldx, 1), weight = random_halves(n * k, 2);
    Halves packed(index(packed_weight_size(n, k, SumOrder::chain)));
    pack_weight(cpu, packed.data(), weight.data(), n, k, SumOrder::chain);
    const Block blocks_of_k[] = {{0, 32}, {32, 32}, {64, 13}};
    Halves left(index(rows * 3 * 32), Bf16{0x7fc0});
    Floats sums = random_floats(rows * step, 3);
    const Floats old = sums;
    ImitatedTiles tiles;
    pack_left_tiles(left.data(), {x.data(), ldx, 1}, rows, blocks_of_k, 3);
    multiply_tiles(tiles, sums.data(), step, left.data(), rows, packed.data(), 3 * panel_block,
                   panels, 3);
    EXPECT_FALSE(tiles.configured());
    for (std::int64_t i = 0; i < rows * n; ++i) {
      const std::size_t at = index(i / n * step + i % n);
      const float expected =
          blocks(old[at], {&x[index(i / n * ldx)], 1}, {&weight[index(i % n * k)], 1}, 0, k);
      ASSERT_EQ(sums[at], expected) << rows << " rows, element " << i;
    }
  }
}

TEST(MatmulBf16Tiles, LeftOperandMayBeTransposed) {
  const std::int64_t rows = 35, k = 40;
  const Halves x = random_halves(rows * k, 1);
  Halves transposed(x.size());
  for (std::int64_t i = 0; i < rows * k; ++i) transposed[index(i % k * rows + i / k)] = x[index(i)];
  const Block two[] = {{0, 32}, {32, 8}};
  Halves from_rows(index(rows * 64)), from_columns = from_rows;
  pack_left_tiles(from_rows.data(), {x.data(), k, 1}, rows, two, 2);
  pack_left_tiles(from_columns.data(), {transposed.data(), 1, rows}, rows, two, 2);
  EXPECT_EQ(differing_bits(from_rows, from_columns), 0);
}

}  // namespace
}  // namespace fst::kernels
