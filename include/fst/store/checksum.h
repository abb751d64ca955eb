#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace fst {

/// CRC-32 as in zlib and Ethernet (polynomial 0xedb88320), which readers in other languages have
/// too.
std::uint32_t crc32(std::span<const std::byte> bytes);

/// A fast 64-bit checksum. Every change of a single byte, and of a single 8-byte word, changes it.
/// Not cryptographic.
std::uint64_t hash64(std::span<const std::byte> bytes);

/// A checksum of a set of numbered words, as a sum over words that can be taken in parts and in any
/// order: sum of mix(index, word) modulo 2^64. Changing, losing or repeating one word changes it.
std::uint64_t word_sum(std::uint64_t index, std::uint64_t word);
/// The same idea for the elements of a global array of floats, the first of which has number
/// `begin`.
std::uint64_t float_sum(std::int64_t begin, std::span<const float> values);

}  // namespace fst
