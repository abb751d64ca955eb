#pragma once

#include <cstdint>

#include "fst/tensor/tensor.h"

namespace fst::ops {

/// The calls that a job makes at most, as far as a GPU's kernels need memory of their own for them.
struct KernelWork {
  std::int64_t rows = 0;  // of a product whose terms are summed in leaves: tokens
  std::int64_t hidden_size = 0;
  std::int64_t heads = 0, kv_heads = 1, head_dim = 0;
  std::int64_t sequences = 0, longest = 0;  // whole sequences that attend together; their tokens
  // Sequences of a step of sampling, each a row to decode or more of its prompt; keys of each.
  std::int64_t decoding = 0, context = 0;
  std::int64_t law_rows = 0;               // whose log-sum-exp is taken at once
  std::int64_t drawn_rows = 0, vocab = 0;  // of sampling
};

/// Bytes that kernels work in at most for any one of these calls:
///   products     leaves x matrices x rows x D floats, but no more than a device's tiles hold
///   attention    backward's sums, [S, longest, N, 4] floats; forward's joined outputs where a row
///                may see more than one split of keys, 64 rows of H + 8 floats a block
///   decoding     [S, N, splits, H + 2] floats
///   laws         8 leaves of two floats a row, and what sampling keeps of a row
std::int64_t working_bytes(const KernelWork& work);

}  // namespace fst::ops
