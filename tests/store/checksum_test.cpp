#include "fst/store/checksum.h"

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "fst/store/digest.h"

namespace fst {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

TEST(Checksum, Crc32IsZlibs) {
  EXPECT_EQ(crc32(bytes_of("123456789")), 0xcbf43926u);  // the check value of the CRC catalogue
  EXPECT_EQ(crc32({}), 0u);
}

TEST(Checksum, Sha256IsFips180) {
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Checksum, EveryBitAndEveryLengthChangesHash64) {
  std::string text(131, 'q');
  std::set<std::uint64_t> seen{hash64(bytes_of(text))};
  for (std::size_t bit = 0; bit < text.size() * 8; ++bit) {
    std::string changed = text;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_TRUE(seen.insert(hash64(bytes_of(changed))).second) << bit;
  }
  const std::string zeros(100, '\0');
  for (std::size_t length = 0; length <= zeros.size(); ++length) {
    EXPECT_TRUE(seen.insert(hash64(bytes_of(zeros).first(length))).second) << length;
  }
}

TEST(Checksum, FloatSumAddsOverPartsAndKnowsPlaces) {
  const std::vector<float> x{1.0f, -0.0f, 0.0f, 3.5f, 1.0f, 0.0f, 7.0f};
  const std::span<const float> all(x);
  const std::uint64_t whole = float_sum(5, all);
  for (std::size_t cut = 0; cut <= x.size(); ++cut) {
    EXPECT_EQ(float_sum(5, all.first(cut)) +
                  float_sum(5 + static_cast<std::int64_t>(cut), all.subspan(cut)),
              whole);
  }
  EXPECT_NE(float_sum(4, all), whole);
  auto swapped = x;
  std::swap(swapped[0], swapped[3]);
  EXPECT_NE(float_sum(5, swapped), whole);
  auto negated = x;
  negated[2] = -0.0f;
  EXPECT_NE(float_sum(5, negated), whole);
  EXPECT_NE(float_sum(5, all.first(5)), float_sum(5, all.first(6)));  // the sixth is zero
}

}  // namespace
}  // namespace fst
