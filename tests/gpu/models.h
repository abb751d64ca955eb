#pragma once

#include "bench.h"

/// The layer shapes that are timed.
namespace fst::bench {

struct Model {
  const char* name;
  std::int64_t hidden, heads, kv_heads, dim, mlp, vocab;
  std::int64_t qkv() const { return (heads + 2 * kv_heads) * dim; }
};
inline constexpr Model small{"0.6B", 1024, 16, 8, 128, 3072, 151936};
inline constexpr Model large{"8B", 4096, 32, 8, 128, 12288, 151936};
inline constexpr Model tiny{"tiny", 64, 4, 2, 16, 96, 333};

inline std::string named(const Model& model, const std::string& what, std::int64_t rows) {
  return std::string(model.name) + " " + what + ", " + std::to_string(rows) +
         (rows == 1 ? " row" : " rows");
}

/// A layer's matrix. Those that a tensor-parallel unit cuts along the inner index are summed in
/// eight leaves: o and down forward, qkv and gate_up in dX.
struct Matrix {
  const char* name;
  std::int64_t n, k;
  bool inner_is_cut;
};
inline std::vector<Matrix> matrices_of(const Model& m) {
  return {{"qkv", m.qkv(), m.hidden, false},
          {"o", m.hidden, m.heads * m.dim, true},
          {"gate_up", 2 * m.mlp, m.hidden, false},
          {"down", m.hidden, m.mlp, true}};
}

/// Products of bfloat16 matrices, with those of the head; `train`: the gradients too.
void time_bf16(Bench& bench, const Model& model, std::int64_t rows, bool train);

}  // namespace fst::bench
