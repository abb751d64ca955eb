#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fst/model/parameters.h"

namespace fst {

/// A hash of names, shapes and float32 bits of all parameters of a whole model, taken as they are
/// read: equal models have equal identities on every machine, whatever file they came from, however
/// many ranks share them and in whatever they are held.
class ModelIdentity {
 public:
  ModelIdentity(const Qwen3Config& config, const Shard& shard);
  /// Values [begin, begin + n) of the shard's flat vector: whole rows of parameters, each once, in
  /// any order; a ValueSink. Throws Error for a part of a row.
  void add(std::int64_t begin, std::span<const float> values);
  /// Of the whole model. `unit` is the one the shard belongs to (collective over it), or nullptr
  /// for a whole model; throws Error for another.
  std::uint64_t of(const TensorParallel* unit, const Device& device) const;
  /// What this shard adds to the identity, modulo 2^64.
  std::uint64_t share() const { return share_; }

 private:
  Shard shard_;
  std::vector<ParameterSpec> specs_;
  std::uint64_t share_ = 0;
};

}  // namespace fst
