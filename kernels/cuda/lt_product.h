#pragma once

#include <stdexcept>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/lies.h"
#include "kernels/cuda/lt_api.h"

namespace fst::kernels {

/// A call of cuBLASLt that failed.
class LtError : public std::runtime_error {
 public:
  LtError(const char* call, lt::Status status);
};

/// What cuBLASLt does in one call: for i = 0 .. batch - 1
///
///   c[i c_step + r ldc + j] = sum_k a(r, k) b(k, j)  (+ the old contents)
///
/// with a(r, k) = a[i a_step + r lda + k] where a lies by inner indices, else a[i a_step + k lda +
/// r]; b(k, j) = b[i b_step + j ldb + k], else b[i b_step + k ldb + j]. Starts, steps from row to
/// row and from product to product are of 16 bytes.
struct LtProduct {
  void* c;  // float, or Bf16 if `narrow`
  std::int64_t ldc, c_step;
  bool narrow, add;
  const Bf16* a;
  std::int64_t lda, a_step;
  Lies a_lies;
  const Bf16* b;
  std::int64_t ldb, b_step;
  Lies b_lies;
  int rows, columns, inner, batch;
};

struct LtAlgorithm {
  lt::Algorithm algorithm;
  std::size_t workspace_bytes;
};

/// Which sums cuBLASLt may offer: one chain for an element, without working memory, or whatever
/// its heuristic thinks best within `most_workspace` bytes.
enum class LtSums : std::uint8_t { chain, any };
inline constexpr std::size_t most_workspace = std::size_t{32} << 20;  // what its manual advises

/// At most `most` algorithms for a product, the one that cuBLASLt thinks fastest first. Pointers
/// are not looked at. Throws LtError.
std::vector<LtAlgorithm> lt_algorithms(lt::Handle handle, const LtProduct& p, LtSums sums,
                                       int most);

/// Queues the product. `workspace`: algorithm.workspace_bytes of device memory. Throws LtError;
/// then nothing was queued.
void lt_multiply(const Cuda& cuda, lt::Handle handle, const LtProduct& p,
                 const LtAlgorithm& algorithm, void* workspace);

}  // namespace fst::kernels
