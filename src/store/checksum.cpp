#include "fst/store/checksum.h"

#include <array>
#include <bit>
#include <cstring>

namespace fst {

namespace {

constexpr std::uint64_t odd_a = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio
constexpr std::uint64_t odd_b = 0xbf58476d1ce4e5b9;  // finaliser of splitmix64
constexpr std::uint64_t odd_c = 0x94d049bb133111eb;

constexpr std::array<std::uint32_t, 256> crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) * 0xedb88320u);
    table[i] = value;
  }
  return table;
}

/// One-to-one in x.
constexpr std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * odd_b;
  x = (x ^ (x >> 27)) * odd_c;
  return x ^ (x >> 31);
}

std::uint64_t load(const std::byte* from) {
  std::uint64_t word = 0;
  std::memcpy(&word, from, sizeof word);
  return word;
}

/// One-to-one in the word for a given lane, and in the lane for a given word.
std::uint64_t step(std::uint64_t lane, std::uint64_t word) {
  return std::rotl((lane ^ word) * odd_a, 29) * odd_b;
}

}  // namespace

std::uint32_t crc32(std::span<const std::byte> bytes) {
  static constexpr auto table = crc_table();
  std::uint32_t value = 0xffffffffu;
  for (const std::byte byte : bytes) {
    value = (value >> 8) ^ table[(value ^ std::to_integer<std::uint32_t>(byte)) & 0xff];
  }
  return ~value;
}

std::uint64_t hash64(std::span<const std::byte> bytes) {
  std::array<std::uint64_t, 4> lanes{odd_a, odd_b, odd_c, odd_a ^ odd_b};
  std::size_t at = 0;
  for (; at + 32 <= bytes.size(); at += 32) {
    for (std::size_t i = 0; i < 4; ++i) {
      lanes[i] = step(lanes[i], load(bytes.data() + at + 8 * i));
    }
  }
  std::array<std::byte, 32> tail{};
  if (at < bytes.size()) std::memcpy(tail.data(), bytes.data() + at, bytes.size() - at);
  std::uint64_t sum = bytes.size() * odd_a;
  for (std::size_t i = 0; i < 4; ++i) {
    sum = sum * odd_b + mix(step(lanes[i], load(tail.data() + 8 * i)));
  }
  return mix(sum);
}

std::uint64_t word_sum(std::uint64_t index, std::uint64_t word) {
  return mix(word + mix(index + odd_a));
}

std::uint64_t float_sum(std::int64_t begin, std::span<const float> values) {
  std::uint64_t sum = 0;
  std::uint64_t place = static_cast<std::uint64_t>(begin) * odd_c;
  for (const float value : values) {
    // One-to-one in the value's bits for a given place; cheaper than mix(), gigabytes pass here.
    const std::uint64_t x = std::uint64_t{std::bit_cast<std::uint32_t>(value)} * odd_a + place;
    sum += (x ^ (x >> 32)) * odd_b;
    place += odd_c;
  }
  return sum;
}

}  // namespace fst
