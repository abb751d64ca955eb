#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "kernels/philox.h"

namespace fst {

/// What a stream of random numbers is for. Part of every key, so that two uses never share numbers.
/// The values are part of the trajectory: append only.
enum class Purpose : std::uint64_t {
  training_draw = 1,
  anchor_draw = 2,
  minibatch_draw = 3,
  evaluation_draw = 4,
  reflection_draw = 5,
  parent_choice = 6,
  minibatch_shuffle = 7,
  problem_stream = 8,
  pretrain_rows = 9,
  initial_weights = 10,
  probe_draw = 11,
  generate_draw = 12,
};

/// A 64-bit key for a stream, from its meaning: run seed, purpose and further words (cycle, step or
/// round, problem, candidate, draw). Distinct meanings give distinct keys up to hash collision.
std::uint64_t stream_key(std::uint64_t seed, Purpose purpose,
                         std::initializer_list<std::uint64_t> words);
/// A stable 64-bit hash of bytes, for keys made from text (FNV-1a followed by a finaliser).
std::uint64_t hash_text(std::string_view text);

/// Random numbers that are a function of a key and a position alone (Philox4x32-10). Copyable;
/// the only state is the position, so nothing needs to be saved.
class Rng {
 public:
  explicit Rng(std::uint64_t key, std::uint64_t position = 0) : key_(key), position_(position) {}
  Rng(std::uint64_t seed, Purpose purpose, std::initializer_list<std::uint64_t> words)
      : Rng(stream_key(seed, purpose, words)) {}

  std::uint64_t next_u64();
  /// Uniform in [0, n), exactly (redraws). n > 0.
  std::uint64_t below(std::uint64_t n);
  /// Uniform in [0, 1), 53 bits.
  double uniform();
  /// Standard normal, by our own Box-Muller (no libm: same bits everywhere).
  double normal();

 private:
  std::uint64_t key_;
  std::uint64_t position_;
};

}  // namespace fst
