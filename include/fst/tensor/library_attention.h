#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fst/tensor/tensor.h"

namespace fst {

/// What cuDNN is here, for --version: "9.19.0", or "none (...)" and why.
std::string cudnn_support();
/// Whether this process has a cuDNN that attention can be left to.
bool cudnn_usable();

/// Queries, keys and values of whole sequences packed one after the other, bf16, rows may be
/// strided: q [T, N * H], k and v [T, K * H]. Sequence s has the rows first_rows[s] <= t <
/// first_rows[s + 1] (host memory), none of them empty.
struct PackedHeads {
  Tensor q, k, v;
  std::span<const std::int32_t> first_rows;
  float scale = 1.0f;
};

/// Causal attention by cuDNN, forward and backward: what ops::attention_forward() and
/// attention_backward() compute of sequences without context, for comparison and for those who want
/// it. Its order of sums is the library's own: results agree with ours to the precision of
/// bfloat16, the same call gives the same bits again, but a row's bits may depend on the sequences
/// around it. Plans are made for the shapes that come up and kept: the first call of a shape takes
/// about half a second. Source: cuDNN's graph API, release 9.19.
class LibraryAttention {
 public:
  /// Bytes of working memory that the backward pass aims at.
  static constexpr std::int64_t usual_room = std::int64_t{1} << 30;

  /// For a GPU; throws InputError on the CPU and where there is no cuDNN (9.19 or later).
  explicit LibraryAttention(const Device& device, std::int64_t backward_room = usual_room);
  ~LibraryAttention();
  LibraryAttention(LibraryAttention&&) noexcept;
  LibraryAttention& operator=(LibraryAttention&&) noexcept;
  LibraryAttention(const LibraryAttention&) = delete;
  LibraryAttention& operator=(const LibraryAttention&) = delete;

  /// out [T, N * H], lse [T, N] f32, both overwritten.
  void forward(Tensor& out, Tensor& lse, const PackedHeads& heads);
  /// dq [T, N * H], dk and dv [T, K * H], overwritten; a gradient's rows are as far apart as those
  /// of what it is the gradient of, and dout's and out's as q's. Working memory: 2 bytes for each
  /// query head and pair of rows, of as many sequences and heads at a time as need no more than
  /// `backward_room` together, at least of one sequence and the query heads of one KV head.
  void backward(Tensor& dq, Tensor& dk, Tensor& dv, const Tensor& dout, const Tensor& out,
                const Tensor& lse, const PackedHeads& heads);

  /// Working memory of backward() for so many sequences of so many rows.
  static std::int64_t backward_bytes(std::int64_t sequences, std::int64_t rows, std::int64_t heads,
                                     std::int64_t kv_heads, std::int64_t dim);
  /// Plans made so far.
  std::int64_t plans() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fst
