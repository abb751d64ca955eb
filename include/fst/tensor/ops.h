#pragma once

#include <cstdint>
#include <span>

#include "fst/tensor/tensor.h"

#include "kernels/exact_sum.h"

/// The vocabulary of tensor operations: each checks shapes and calls the kernel of its device, and
/// does nothing else. Outputs come first. Letters in shapes: T tokens of the packed batch, D hidden
/// size, N query heads, K KV heads, H head size, F MLP size, V vocabulary; in products, y[T, N] and
/// an inner length K.
///
/// Rows of activations and their gradients are all f32 or all bf16, cache and weights with them;
/// arithmetic is float32, and what is stored is rounded once. Other numbers (rstd, lse, logits,
/// weight gradients, weights of norms, biases) are f32. For f32 weights may be stored as f32, bf16
/// or f16: they are widened exactly when they are packed. Every result is a function of the row
/// (forward), of the sequence (attention backward) or of the order of rows (weight gradients)
/// alone: no bit depends on the batch, on the number of threads or on the instruction set.
/// Reduction orders: the contract at the top of kernels/README.md.
namespace fst::ops {

// Matrix products (kernels/matmul.h)

/// How a product sums over its inner dimension of length n. `chain`: one FMA chain from +0,
/// ascending. `leaves`: 8 chains over [floor(i n/8), floor((i+1) n/8)), joined
/// ((0+1)+(2+3))+((4+5)+(6+7)). A rank that holds 1/2, 1/4 or 1/8 of the inner dimension owns
/// `four`, `two` or one of the leaves and computes its subtree. The value is the number of chains.
enum class Sum : std::uint8_t { chain = 1, two = 2, four = 4, leaves = 8 };
/// What one of `ranks` (1, 2, 4 or 8) computes of a sum of eight leaves.
constexpr Sum leaves_of_rank(int ranks) {
  return static_cast<Sum>(8 / ranks);
}
/// What happens to the old contents of the output: y = r, or y = y + r (one rounded addition).
enum class Write { overwrite, add };
/// Where the chain of a weight gradient starts: at +0, the old contents unread, or at these.
enum class Chain : std::uint8_t { begin, resume };

/// Elements of the packed form of a [N, K] weight for arithmetic in `dtype`, f32 or bf16, and sums
/// of this kind; its layout is private to the matmul kernels.
std::int64_t packed_size(DType dtype, std::int64_t n, std::int64_t k, Sum sum);
/// Whether linear_forward takes a packed weight there, or the weight itself.
bool packs(const Device& device, DType dtype);
/// Packs `weight` [N, K] for linear_forward with the same `sum`. `packed` f32 or bf16,
/// [packed_size(dtype, N, K, sum)]; weight f32, bf16 or f16 for the former, bf16 for the latter.
void pack_weight(Tensor& packed, const Tensor& weight, Sum sum);
/// y[t, n] = sum_k x[t, k] weight[n, k] (+ bias[n], added last). y [T, N], x [T, K], possibly
/// strided, both f32, or x bf16 and y either; `packed` from pack_weight of a [N, K] weight, or the
/// weight (packs()); bias [N] or nullptr.
void linear_forward(Tensor& y, const Tensor& x, const Tensor& packed, const Tensor* bias, Sum sum,
                    Write write);
/// y += x weight^T, then normed, rstd = rms_norm_forward(y): the residual of a layer and the norm
/// behind it, for few rows in one pass; the bits of the two. y, normed [T, N], rstd [T], x [T, K],
/// all of one type; packed as above, norm_weight [N].
void linear_add_norm(Tensor& y, Tensor& normed, Tensor& rstd, const Tensor& x, const Tensor& packed,
                     Sum sum, const Tensor& norm_weight, float eps);
/// gate_up = x weight^T by chains, then h = swiglu_forward(gate_up), for few rows in one pass that
/// may leave anything in gate_up; the bits of the two. h [T, F], gate_up [T, 2F], x [T, K], all of
/// one type; packed as above.
void linear_swiglu(Tensor& h, Tensor& gate_up, const Tensor& x, const Tensor& packed);
/// dx[t, k] = sum_n dy[t, n] weight[n, k]; dx [T, K], dy [T, N] (may be strided), weight [N, K] in
/// natural layout; all f32, or dy and weight bf16 and dx either. With Sum::leaves the leaves divide
/// N.
void linear_backward_input(Tensor& dx, const Tensor& dy, const Tensor& weight, Sum sum,
                           Write write);
/// dx of several matrices with the same input, one after the other in the rows of `weight` and the
/// columns of `dy`, sizes[0], sizes[1], ... of them: each summed by itself, the results added in
/// turn. The bits of linear_backward_input for one after another, in one pass over dx.
void linear_backward_inputs(Tensor& dx, const Tensor& dy, const Tensor& weight,
                            std::span<const std::int64_t> sizes, Sum sum);
/// dweight[n, k] begins or continues its FMA chain over t = 0 .. T-1: dweight = fma(dy[t, n],
/// x[t, k], dweight). dweight f32 [N, K], dy [T, N], x [T, K] (both may be strided).
/// In bf16 the chain is one of blocks of rows, and every sequence begins a block: sequence s has
/// the rows first_rows[s] <= t < first_rows[s + 1] (host memory; none: all rows are one sequence).
/// A sequence may be continued in another call after a multiple of rows_of_block() of its rows.
void linear_backward_weight(Tensor& dweight, const Tensor& dy, const Tensor& x, Chain chain,
                            std::span<const std::int32_t> first_rows = {});
constexpr std::int64_t rows_of_block(DType dtype) {
  return dtype == DType::bf16 ? 32 : 1;
}
/// dbias[n] += dy[t, n], t ascending. dbias [N].
void bias_backward(Tensor& dbias, const Tensor& dy);

// Embedding, norms, rotary, MLP (kernels/embedding.h, rms_norm.h, rope.h, swiglu.h)

/// y[t] = table[tokens[t]]; y [T, D], tokens i32 [T], table f32 [V, D].
void embedding_forward(Tensor& y, const Tensor& tokens, const Tensor& table);
/// dtable[tokens[t]] += dy[t], t ascending. dtable [V, D].
void embedding_backward(Tensor& dtable, const Tensor& dy, const Tensor& tokens);
/// The same where the table is a part of the vocabulary that begins at row `first`. Forward: rows
/// of other tokens become -0 everywhere, which changes nothing when it is added (x + -0 = x for
/// every x, -0 included), so that the sum over the parts is the whole look-up, bit for bit.
/// Backward: other tokens are passed over.
void embedding_part_forward(Tensor& y, const Tensor& tokens, const Tensor& table,
                            std::int64_t first);
void embedding_part_backward(Tensor& dtable, const Tensor& dy, const Tensor& tokens,
                             std::int64_t first);

/// y[t, i] = x[t, i] rstd[t] weight[i], rstd[t] = 1 / sqrt(mean_i x^2 + eps). y, x [T, D], rstd
/// [T], weight [D]. Source: arXiv:1910.07467, eq. 4.
void rms_norm_forward(Tensor& y, Tensor& rstd, const Tensor& x, const Tensor& weight, float eps);
/// dx (overwritten or added to) and dweight[i] = chain over t of dy[t, i] x[t, i] rstd[t],
/// continued.
void rms_norm_backward(Tensor& dx, Tensor& dweight, const Tensor& dy, const Tensor& x,
                       const Tensor& rstd, const Tensor& weight, Write write);

/// Cosine and sine [positions, H/2] each: angle = position * inv_freq in f32 with inv_freq =
/// 1 / theta^(2i/H) in f32 as transformers does; cosine and sine in double by our own routine,
/// rounded to f32.
void rope_table(Tensor& cosine, Tensor& sine, double theta);
/// Optional RMSNorm over each head (weight [H] or nullptr: none; then rstd is not touched), then
/// the rotary embedding in the half-split form of transformers. y, x [T, heads * H] (may be
/// strided), rstd [T, heads], positions i32 [T], cosine, sine from rope_table.
void head_norm_rope_forward(Tensor& y, Tensor& rstd, const Tensor& x, const Tensor* weight,
                            const Tensor& positions, const Tensor& cosine, const Tensor& sine,
                            float eps);
/// Backward of the above. dx [T, heads * H] overwritten; dweight [heads, H] (nullptr without norm):
/// one chain over t per head, continued.
void head_norm_rope_backward(Tensor& dx, Tensor* dweight, const Tensor& dy, const Tensor& x,
                             const Tensor& rstd, const Tensor* weight, const Tensor& positions,
                             const Tensor& cosine, const Tensor& sine);

/// h[t, f] = silu(gate_up[t, f]) * gate_up[t, F + f]; h [T, F], gate_up [T, 2F].
void swiglu_forward(Tensor& h, const Tensor& gate_up);
/// dgate_up [T, 2F] from dh [T, F]; recomputes silu. dgate_up may alias gate_up.
void swiglu_backward(Tensor& dgate_up, const Tensor& dh, const Tensor& gate_up);

/// y = y + x, elementwise, same shape; x of y's type or f32.
void add(Tensor& y, const Tensor& x);
/// y = the sum of `parts` in the order of a tree, in one pass; all contiguous, of one size, y may
/// be one of them. joins[p]: how many finished pairs are joined once part p is there (see join in
/// kernels/elementwise.h); for ((0 + 1) + (2 + 3)) they are {0, 1, 0, 2}.
void join(Tensor& y, std::span<const Tensor> parts, std::span<const std::int32_t> joins);

// Attention over paged keys and values (kernels/attention.h)

/// Tokens in one KV block (a page). Block b of a layer holds, per KV head, K transposed [H, 16] and
/// V [16, H]: a cache layer is [blocks, K, 2, 16 * H].
inline constexpr std::int64_t kv_block_tokens = 16;
/// Throws InputError, naming the `model`, where this device has no attention for heads of this
/// size.
void expect_head_size(const Device& device, const std::string& model, std::int64_t head);

/// Which rows of a packed batch belong to which sequence, and where their keys lie. Row r of
/// sequence s has position context[s] + r - cu_seqlens[s] and sees the keys 0 .. position of the
/// blocks block_table[s, 0 ..].
struct AttentionBatch {
  Tensor cu_seqlens;   // i32 [S + 1]
  Tensor context;      // i32 [S]; keys in the cache before the sequence's first row
  Tensor block_table;  // i32 [S, max_blocks]
  // Whether there may be sequences of one row, and of more.
  bool single = true, longer = true;
};

/// Writes k and v [T, K * H] (may be strided) of the batch's rows into their places in `cache`
/// [blocks, K, 2, 16 * H], of k's and v's type. New blocks must have been zeroed or fully written
/// before they are read.
void kv_write(Tensor& cache, const Tensor& k, const Tensor& v, const AttentionBatch& batch);
/// Heads of a step of decoding, in one pass: head_norm_rope_forward of the queries of `qkv`
/// [T, (N + 2 K) * H] into q [T, N * H] and of its keys into k [T, K * H], and kv_write of k and of
/// its values; their bits. rstds [T, N], [T, K]; weights [H], or nullptr both. Every sequence of
/// the batch has one row.
struct HeadNorms {
  const Tensor *q_weight = nullptr, *k_weight = nullptr;
  float eps = 0.0f;
};
void prepare_heads(Tensor& q, Tensor& q_rstd, Tensor& k, Tensor& k_rstd, Tensor& cache,
                   const Tensor& qkv, const HeadNorms& norms, const Tensor& positions,
                   const Tensor& cosine, const Tensor& sine, const AttentionBatch& batch);
/// out [T, N * H], lse [T, N] (log-sum-exp of the scaled scores). KV tiles of 128 keys at absolute
/// positions, fresh softmax state every 1024 keys, merged ascending; scores are one chain over H,
/// out is one chain over the keys of a tile. The same function serves training, chunked prefill and
/// decode, with the same bits per row.
void attention_forward(Tensor& out, Tensor& lse, const Tensor& q, const Tensor& cache,
                       const AttentionBatch& batch, float scale);
/// Deterministic two-pass backward. dq [T, N * H], dk, dv [T, K * H], all overwritten. Requires
/// context = 0 for every sequence.
void attention_backward(Tensor& dq, Tensor& dk, Tensor& dv, const Tensor& dout, const Tensor& out,
                        const Tensor& lse, const Tensor& q, const Tensor& cache,
                        const AttentionBatch& batch, float scale);

// The law of a token: head, log-probability, gradient, sampling (kernels/token_law.h)

/// The law that is sampled from and trained: softmax(logits / temperature) over the rows below
/// `vocab`; rows from there on (padding beyond the tokenizer) have probability 0.
struct TokenLaw {
  float temperature = 1.0f;
  std::int64_t vocab = 0;
};

/// Logits of which this rank has a part: columns from vocabulary row `first` on, one of `ranks` (1,
/// 2, 4 or 8) equal parts. The default is all of them.
struct VocabPart {
  std::int64_t first = 0;
  int ranks = 1;
};

/// log sum_v exp(logits[t, v] / temperature) in two parts: lse[t] = {greatest, log of the sum
/// relative to it}, so that log-probabilities keep their precision however large the logits are.
/// The columns of the logits, all rows of the head, are cut in 8 leaves (those beyond the law drop
/// out), each in a fixed order, joined by the tree. logits [T, V], lse [T, 2]. All logits of the
/// law must be finite: the return value is the first row with one that is not, or -1.
std::int64_t token_lse(Tensor& lse, const Tensor& logits, const TokenLaw& law);
/// logprob[t] = log p(target[t]) from the row's lse. targets i32 [T], in the whole vocabulary; a
/// target that is not in this part of the law gives -infinity.
void token_logprob(Tensor& logprob, const Tensor& logits, const Tensor& lse, const Tensor& targets,
                   const TokenLaw& law, const VocabPart& part = {});
/// entropy[t] = -sum_v p log p (nats), at the law's temperature.
void token_entropy(Tensor& entropy, const Tensor& logits, const Tensor& lse, const TokenLaw& law);
/// kl[t] = KL(p || q), full vocabulary, p from logits, q from reference_logits; both under `law`.
void token_kl(Tensor& kl, const Tensor& logits, const Tensor& lse, const Tensor& reference_logits,
              const Tensor& reference_lse, const TokenLaw& law);

/// The three in two steps, for logits of which each rank has a part: what the part's 8 / ranks
/// leaves give, and, from those of all ranks one after the other ([ranks, ...]), the value of the
/// row, with the bits of the functions above. pairs [T, leaves, 2], sums [T, leaves]; logits
/// [T, V / ranks]. join_lse returns what token_lse does.
void token_lse_leaves(Tensor& pairs, const Tensor& logits, const TokenLaw& law,
                      const VocabPart& part);
void token_entropy_leaves(Tensor& sums, const Tensor& logits, const Tensor& lse,
                          const TokenLaw& law, const VocabPart& part);
void token_kl_leaves(Tensor& sums, const Tensor& logits, const Tensor& lse,
                     const Tensor& reference_logits, const Tensor& reference_lse,
                     const TokenLaw& law, const VocabPart& part);
std::int64_t join_lse(Tensor& lse, const Tensor& pairs, const TokenLaw& law);
void join_entropy(Tensor& entropy, const Tensor& sums);
void join_kl(Tensor& kl, const Tensor& sums);

/// Upstream gradients of one chunk of rows; empty tensors mean "no such term".
struct TokenGradient {
  Tensor dlogprob;                         // [T]
  Tensor dentropy, entropy;                // [T], [T]
  Tensor dkl, kl;                          // [T], [T]; gradient through p only
  Tensor reference_logits, reference_lse;  // [T, V], [T, 2], with dkl
};
/// dlogits[t, v] = (dlogprob ([v = target] - p) - dentropy p (log p + H) + dkl p ((log p - log q) -
/// KL)) / temperature for the columns of the part; 0 beyond the law's vocabulary. dlogits may alias
/// logits. Source: spec 5.4.
void token_backward(Tensor& dlogits, const Tensor& logits, const Tensor& lse, const Tensor& targets,
                    const TokenGradient& gradient, const TokenLaw& law, const VocabPart& part = {});

/// Truncation of the law before drawing; order: temperature, top-k, top-p, min-p, each
/// renormalising what is left; ties at a cut go to the lower id. 0 temperature: the greatest logit,
/// lowest id first.
struct SamplingLaw {
  float temperature = 1.0f;
  std::int32_t top_k = 0;  // 0: off
  float top_p = 1.0f;      // 1: off
  float min_p = 0.0f;      // 0: off
  std::int64_t vocab = 0;
};
/// Draws one token per row with Gumbel-max: argmax over kept v of logits / temperature + g(key[t],
/// position[t], v), Philox-keyed, so a draw depends on its own row, key and position alone.
/// tokens i32 [T]; logprob f32 [T]: under the truncated law (temperature 0: of the untruncated law
/// at temperature 1), bit-equal to token_logprob where nothing is truncated. keys i64 [T]: one
/// 64-bit stream key per row (base/random.h); positions i32 [T]: index of the new token within its
/// completion. A row with a logit that is not finite gets token -1; who reads it finds out.
void sample_tokens(Tensor& tokens, Tensor& logprob, const Tensor& logits, const Tensor& keys,
                   const Tensor& positions, const SamplingLaw& law);
/// The kept ids (ascending) and their probabilities for one row; what sample_tokens draws from.
/// ids i32 [V], probability f32 [V]; returns how many are kept.
std::int64_t kept_tokens(Tensor& ids, Tensor& probability, const Tensor& logits_row,
                         const SamplingLaw& law);

// Decoding ahead of the host (kernels/decoding.h)

/// tokens[r] = drawn[-1 - tokens[r]] where tokens[r] < 0, unchanged elsewhere: rows whose token was
/// not known to the host when it wrote them. A -1 that was drawn becomes 0. i32 [T] each; the
/// caller sees to it that `drawn` has what the rows refer to.
void take_drawn(Tensor& tokens, const Tensor& drawn);
/// What a drawn token does to its completion.
enum class Ending : std::int32_t { none, stop, length, broken };
/// endings[i] = broken where drawn[i] is -1, stop where the bit drawn[i] of `stops` is set (bit t %
/// 32 of word t / 32), length where places[i] + 1 >= limits[i], else none. All i32; stops has a bit
/// for each token that can be drawn, the others are [T].
void test_endings(Tensor& endings, const Tensor& drawn, const Tensor& stops, const Tensor& places,
                  const Tensor& limits);

// Optimiser (kernels/adamw.h, kernels/exact_sum.h)

/// AdamW on one contiguous range, torch's convention: p = p (1 - lr wd); m, v updated; p -=
/// lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps). All f32 [n]; the gradient is first
/// multiplied by `clip`. Scalars are computed once in double by the caller.
struct AdamWStep {
  double lr, beta1, beta2, eps, weight_decay;
  double bias1, bias2;  // 1 - beta1^t, 1 - beta2^t
  float clip;           // min(1, limit / (norm + 1e-6)), or 1
};
void adamw(Tensor& parameter, Tensor& m, Tensor& v, const Tensor& gradient, const AdamWStep& step);
/// Adds the squares of all elements to `sum`, exactly: the result does not depend on any order.
void sum_of_squares(kernels::ExactSum& sum, const Tensor& x);

// Movement

/// y = x, same shape, of one dtype, or between two of which one is f32: widening is exact,
/// narrowing rounds to nearest even.
void convert(Tensor& y, const Tensor& x);
void fill(Tensor& y, float value);
/// y = x, bit for bit, for contiguous tensors of one size and one dtype, whichever it is.
void copy(Tensor& y, const Tensor& x);
/// y = x for matrices of one shape whose rows may be strided (blocks of columns).
void copy_rows(Tensor& y, const Tensor& x);
/// y[i] = x[index[i]] (rows); y [n, D], x [T, D], index i32 [n].
void gather_rows(Tensor& y, const Tensor& x, const Tensor& index);
/// dx[index[i]] += dy[i] (rows), i ascending.
void scatter_add_rows(Tensor& dx, const Tensor& dy, const Tensor& index);

}  // namespace fst::ops
