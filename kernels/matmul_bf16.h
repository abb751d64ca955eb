#pragma once

#include <cstdint>

#include "kernels/bf16.h"
#include "kernels/matmul.h"

/// Matrix products of bfloat16 matrices with float32 sums, y = x weight^T. Layouts as in matmul.h.
///
/// The order of a sum is that of TDPBF16PS (Intel SDM, volume 2): the inner indices are cut in
/// blocks of 32, the last one filled up with zeros, and block by block, ascending,
///
///   e = chain of fma(a[2 i], b[2 i], e), i = 0 .. 15, from +0
///   o = chain of fma(a[2 i + 1], b[2 i + 1], o), i = 0 .. 15, from +0
///   c = c + (e + o)                      c from +0, or from the old contents of a weight gradient
///
/// Each of these operations rounds to nearest even, takes denormal operands for zeros of their
/// sign, and gives such a zero where the result, rounded to 24 bits, is below 2^-126. The products
/// of two bfloat16 numbers are exact inside the fma. All that follows is ordinary float32
/// arithmetic, with denormal numbers: joining leaves as in matmul.h (every leaf is cut in blocks
/// from its own start), adding matrices, bias and old contents, and one rounding to bfloat16.
///
/// On a GPU (Exec = Cuda) the order is that of its tensor cores: blocks of 16 inner indices, and
/// the block's sum with c is one operation of mma.sync m16n8k16, or of wgmma with the same bits
/// (Hopper: arXiv:2511.10909; executable definition: tests/cuda/tensor_core.h). Leaves, joins,
/// sequences and everything after a block are as here, so all promises hold there too; the bits are
/// not the CPU's. The packed form there is the weight itself, for every order. A sequence may be
/// continued after a multiple of 16 of its rows, and linear_backward_input() takes at most 8
/// matrices.
///
/// Outputs `Y` are float or Bf16. With r = sum (+ bias) in float32:
///
///             overwrite      add
///   float     y = r          y = y + r
///   Bf16      y = bf16(r)    y = bf16(float(y) + r)
namespace fst::kernels {

/// Inner indices of a block.
inline constexpr std::int64_t block_size = 32;

/// Elements of the packed form of a [N, K] weight for sums in `order`: panels of 32 output columns
/// [ceil(N/32)][blocks][16][32][2]: pairs of inner indices side by side (VNNI). The missing columns
/// of the last panel and the missing indices of the last block of every leaf are zero.
std::int64_t packed_weight_size(std::int64_t n, std::int64_t k, SumOrder order);
/// The same for a backend; on a GPU n k.
template <class Exec>
std::int64_t packed_weight_size(const Exec&, std::int64_t n, std::int64_t k, SumOrder order);
/// packed from weight [N, K], contiguous. It serves products in the same `order` alone.
template <class Exec>
void pack_weight(const Exec&, Bf16* packed, const Bf16* weight, std::int64_t n, std::int64_t k,
                 SumOrder order);

/// y[t, n] = sum_k x[t, k] weight[n, k] (+ bias[n]; nullptr: none).
/// y [rows, N], x [rows, K], packed from pack_weight, bias [N].
template <class Exec, class Y>
void linear_forward(const Exec&, Y* y, std::int64_t ldy, const Bf16* x, std::int64_t ldx,
                    const Bf16* packed, const float* bias, std::int64_t rows, std::int64_t n,
                    std::int64_t k, SumOrder order, Update update);

/// dx[t, k] = sum_n dy[t, n] weight[n, k]; the leaves divide N.
/// dx [rows, K], dy [rows, N], weight [N, K] in natural layout.
/// The second form is for `matrices` matrices with the same input, as in matmul.h: each is summed
/// by itself, in blocks from its own start, and the float32 results are added in turn.
template <class Exec, class Y>
void linear_backward_input(const Exec&, Y* dx, std::int64_t lddx, const Bf16* dy, std::int64_t lddy,
                           const Bf16* weight, std::int64_t ldw, std::int64_t rows, std::int64_t n,
                           std::int64_t k, SumOrder order, Update update);

template <class Exec, class Y>
void linear_backward_input(const Exec&, Y* dx, std::int64_t lddx, const Bf16* dy, std::int64_t lddy,
                           const Bf16* weight, std::int64_t ldw, std::int64_t rows,
                           const std::int64_t* sizes, std::int64_t matrices, std::int64_t k,
                           SumOrder order, Update update);

/// dweight[n, k] = one chain of blocks over the tokens: c as above with a = dy[t, n], b = x[t, k],
/// begun at +0 or continued from the old contents. Every sequence, the rows cu_seqlens[s] <= t <
/// cu_seqlens[s + 1], is cut in blocks from its own first row, its last block filled up with zero
/// rows: the bits depend on the sequences in their order, not on how they are packed in calls. A
/// sequence may be continued in another call only after a multiple of 32 of its rows.
/// dweight [N, K] float32, dy [rows, N], x [rows, K]; cu_seqlens [sequences + 1] in host memory.
template <class Exec>
void linear_backward_weight(const Exec&, float* dweight, std::int64_t lddw, const Bf16* dy,
                            std::int64_t lddy, const Bf16* x, std::int64_t ldx,
                            const std::int32_t* cu_seqlens, std::int64_t sequences, std::int64_t n,
                            std::int64_t k, Chain chain);

/// dbias[n] += dy[t, n], t ascending, one rounded float32 addition each. dbias [N], dy [rows, N].
template <class Exec>
void bias_backward(const Exec&, float* dbias, const Bf16* dy, std::int64_t lddy, std::int64_t rows,
                   std::int64_t n);

}  // namespace fst::kernels
