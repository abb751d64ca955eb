#pragma once

#include <string>
#include <vector>

#include "fst/base/range.h"
#include "fst/model/qwen3_config.h"
#include "fst/tensor/tensor_parallel.h"

namespace fst {

/// Which part of a model a rank holds: `rank` of the `degree` (1, 2, 4 or 8) ranks of a
/// tensor-parallel unit. Of every dimension of size n that is shared it has part_of(n, degree,
/// rank); the degree divides n, so a rank owns whole leaves of the contract's eight.
///
/// Shared are: rows of q, k, v (whole heads), gate, up, embedding and head; columns of o and down.
/// Norms are held by every rank.
struct Shard {
  int rank = 0;
  int degree = 1;
  bool operator==(const Shard&) const = default;
};

/// The place of this rank in its unit; nullptr: the whole model.
Shard shard_of(const TensorParallel* unit);

/// Why a unit of `degree` ranks cannot share this model, one sentence per reason, each with the
/// nearest degree that could; empty if it can.
std::vector<std::string> shard_problems(const Qwen3Config& config, int degree);
/// Throws InputError with all shard_problems().
void expect_shardable(const Qwen3Config& config, int degree);

/// The sizes of what one rank computes: heads, KV heads and intermediate size are this rank's. The
/// vocabulary stays whole; vocab_range() has this rank's rows. What KvCache and Activations are
/// made from.
Qwen3Config local_config(const Qwen3Config& config, const Shard& shard);
/// Rows of the embedding and of the head that this rank holds.
Range vocab_range(const Qwen3Config& config, const Shard& shard);

}  // namespace fst
