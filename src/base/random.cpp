#include "fst/base/random.h"

#include <cmath>

#include "fst/base/portable_math.h"

namespace fst {

namespace {

// The finaliser of MurmurHash3 (Appleby, public domain constants): a bijection of 64-bit words.
std::uint64_t mix(std::uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ULL;
  x ^= x >> 33;
  return x;
}

}  // namespace

std::uint64_t stream_key(std::uint64_t seed, Purpose purpose,
                         std::initializer_list<std::uint64_t> words) {
  std::uint64_t key = mix(seed + 0x9e3779b97f4a7c15ULL);
  key = mix(key ^ (static_cast<std::uint64_t>(purpose) * 0x9e3779b97f4a7c15ULL));
  for (const std::uint64_t word : words) key = mix(key + 0x9e3779b97f4a7c15ULL) ^ mix(word + 1);
  return mix(key + words.size());
}

std::uint64_t hash_text(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3ULL;
  }
  return mix(hash ^ text.size());
}

std::uint64_t Rng::next_u64() {
  const auto words = kernels::philox(
      {static_cast<std::uint32_t>(position_), static_cast<std::uint32_t>(position_ >> 32), 0, 0},
      {static_cast<std::uint32_t>(key_), static_cast<std::uint32_t>(key_ >> 32)});
  ++position_;
  return (std::uint64_t{words[1]} << 32) | words[0];
}

std::uint64_t Rng::below(std::uint64_t n) {
  const std::uint64_t limit = n * (~std::uint64_t{0} / n);
  std::uint64_t x = next_u64();
  while (x >= limit) x = next_u64();
  return x % n;
}

double Rng::uniform() {
  return static_cast<double>(next_u64() >> 11) * 0x1p-53;
}

double Rng::normal() {
  // Marsaglia's polar method: sqrt is correctly rounded everywhere and the logarithm is our own, so
  // no bit depends on the C library.
  for (;;) {
    const double u = 2.0 * uniform() - 1.0;
    const double v = 2.0 * uniform() - 1.0;
    const double s = u * u + v * v;
    if (s >= 1.0 || s == 0.0) continue;
    return u * std::sqrt(-2.0 * portable_log(s) / s);
  }
}

}  // namespace fst
