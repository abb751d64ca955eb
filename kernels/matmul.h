#pragma once

#include <cstdint>

#include "kernels/elementwise.h"
#include "kernels/exec.h"

/// Matrix products in float32 for linear layers, y = x weight^T. Matrices are row-major, rows
/// `ld...` elements apart. Outputs must not alias inputs.
///
/// Every output element is defined by itself: one FMA chain over the inner index, ascending, from
/// +0 (`SumOrder::chain`), or eight chains over the leaves [floor(i n/8), floor((i+1) n/8)) of the
/// n inner indices, joined ((0+1)+(2+3))+((4+5)+(6+7)) (`SumOrder::leaves`). The bits therefore
/// depend neither on the number of rows, nor on blocking, threads or the instruction set. A rank
/// that holds a half, a quarter or an eighth of the inner indices computes its subtree: four
/// leaves, two or one of them (`four`, `two`, `chain`).
namespace fst::kernels {

/// The value is the number of chains.
enum class SumOrder : std::uint8_t { chain = 1, two = 2, four = 4, leaves = 8 };
/// What happens to the old contents of an output element: it becomes r, or old + r (one rounded
/// addition, after everything else).
enum class Update : std::uint8_t { overwrite, add };
/// Where the chain of a weight gradient starts: at +0, the old contents unread, or at these.
enum class Chain : std::uint8_t { begin, resume };

/// Elements of the packed form of a [N, K] weight: panels of 32 output columns [ceil(N/32)][K][32],
/// the missing columns of the last panel zero.
std::int64_t packed_weight_size(std::int64_t n, std::int64_t k);
/// packed from weight [N, K] in any storage, contiguous; widening is exact.
template <class Exec>
void pack_weight(const Exec&, float* packed, const void* weight, Storage storage, std::int64_t n,
                 std::int64_t k);

/// y[t, n] = sum_k x[t, k] weight[n, k] (+ bias[n], added after the sum; nullptr: none).
/// y [rows, N], x [rows, K], packed from pack_weight.
template <class Exec>
void linear_forward(const Exec&, float* y, std::int64_t ldy, const float* x, std::int64_t ldx,
                    const float* packed, const float* bias, std::int64_t rows, std::int64_t n,
                    std::int64_t k, SumOrder order, Update update);

/// dx[t, k] = sum_n dy[t, n] weight[n, k]; the leaves divide N.
/// dx [rows, K], dy [rows, N], weight [N, K] in natural layout.
/// The second form is for `matrices` matrices with the same input, of sizes[0], sizes[1], ... rows
/// in `weight` (N in all) and as many columns in `dy`: each is summed by itself, and the results
/// are added in turn, so it gives the bits of one call after another, the later ones adding.
/// `sizes` lies in host memory.
template <class Exec>
void linear_backward_input(const Exec&, float* dx, std::int64_t lddx, const float* dy,
                           std::int64_t lddy, const float* weight, std::int64_t ldw,
                           std::int64_t rows, std::int64_t n, std::int64_t k, SumOrder order,
                           Update update);

template <class Exec>
void linear_backward_input(const Exec&, float* dx, std::int64_t lddx, const float* dy,
                           std::int64_t lddy, const float* weight, std::int64_t ldw,
                           std::int64_t rows, const std::int64_t* sizes, std::int64_t matrices,
                           std::int64_t k, SumOrder order, Update update);

/// dweight[n, k] = fma(dy[t, n], x[t, k], dweight[n, k]) for t = 0 .. rows-1: the chain begins at
/// +0 or continues from the old contents, so consecutive row ranges in several calls give the bits
/// of one call. dweight [N, K], dy [rows, N], x [rows, K].
template <class Exec>
void linear_backward_weight(const Exec&, float* dweight, std::int64_t lddw, const float* dy,
                            std::int64_t lddy, const float* x, std::int64_t ldx, std::int64_t rows,
                            std::int64_t n, std::int64_t k, Chain chain);

/// dbias[n] += dy[t, n], t ascending, one rounded addition each. dbias [N], dy [rows, N].
template <class Exec>
void bias_backward(const Exec&, float* dbias, const float* dy, std::int64_t lddy, std::int64_t rows,
                   std::int64_t n);

}  // namespace fst::kernels
