// The declarations of kernels/cuda/lt_api.h against cuBLASLt's own: compiled, never run.

#include <cstddef>
#include <type_traits>

#include <cublasLt.h>

#include "kernels/cuda/lt_api.h"

namespace fst::kernels {
namespace {

static_assert(sizeof(lt::Status) == sizeof(cublasStatus_t));
static_assert(lt::success == int{CUBLAS_STATUS_SUCCESS});
static_assert(lt::not_supported == int{CUBLAS_STATUS_NOT_SUPPORTED});
static_assert(lt::f32 == int{CUDA_R_32F} && lt::bf16 == int{CUDA_R_16BF});
static_assert(sizeof(lt::DataType) == sizeof(cudaDataType_t));
static_assert(lt::compute_f32 == int{CUBLAS_COMPUTE_32F});
static_assert(sizeof(lt::ComputeType) == sizeof(cublasComputeType_t));
static_assert(lt::as_it_lies == int{CUBLAS_OP_N} && lt::transposed == int{CUBLAS_OP_T});
static_assert(sizeof(lt::Transpose) == sizeof(std::int32_t));  // what the attribute is

static_assert(lt::transpose_a == int{CUBLASLT_MATMUL_DESC_TRANSA});
static_assert(lt::transpose_b == int{CUBLASLT_MATMUL_DESC_TRANSB});
static_assert(lt::batch_count == int{CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT});
static_assert(lt::batch_offset == int{CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET});
static_assert(lt::max_workspace_bytes == int{CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES});
static_assert(lt::reduction_scheme_mask == int{CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK});
static_assert(lt::min_alignment_a_bytes == int{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES});
static_assert(lt::min_alignment_b_bytes == int{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES});
static_assert(lt::min_alignment_c_bytes == int{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES});
static_assert(lt::min_alignment_d_bytes == int{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES});
static_assert(lt::split_k == int{CUBLASLT_ALGO_CONFIG_SPLITK_NUM});
static_assert(lt::reduction_scheme == int{CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME});
static_assert(lt::no_reduction == std::uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
static_assert(lt::any_reduction == std::uint32_t{CUBLASLT_REDUCTION_SCHEME_MASK});

static_assert(sizeof(lt::Algorithm) == sizeof(cublasLtMatmulAlgo_t));
using Theirs = cublasLtMatmulHeuristicResult_t;
static_assert(sizeof(lt::Candidate) == sizeof(Theirs));
static_assert(offsetof(lt::Candidate, algorithm) == offsetof(Theirs, algo));
static_assert(offsetof(lt::Candidate, workspace_bytes) == offsetof(Theirs, workspaceSize));
static_assert(offsetof(lt::Candidate, state) == offsetof(Theirs, state));
static_assert(offsetof(lt::Candidate, waves) == offsetof(Theirs, wavesCount));

/// Whether our pointer takes their function: as many arguments, each of the same kind and size.
template <class Ours, class Other>
constexpr bool passes_alike() {
  constexpr bool pointers = std::is_pointer_v<Ours> && std::is_pointer_v<Other>;
  return sizeof(Ours) == sizeof(Other) && alignof(Ours) == alignof(Other) &&
         (pointers || (!std::is_pointer_v<Ours> && !std::is_pointer_v<Other>)) &&
         std::is_class_v<Ours> == std::is_class_v<Other>;
}
template <class Ours, class Other>
struct Alike : std::false_type {};
template <class R, class... A, class S, class... B>
requires(sizeof...(A) == sizeof...(B)) struct Alike<R (*)(A...), S(B...)> {
  static constexpr bool value = passes_alike<R, S>() && (passes_alike<A, B>() && ...);
};
static_assert(Alike<decltype(LtApi::get_version), decltype(cublasLtGetVersion)>::value);
static_assert(Alike<decltype(LtApi::get_status_string), decltype(cublasLtGetStatusString)>::value);
static_assert(Alike<decltype(LtApi::create), decltype(cublasLtCreate)>::value);
static_assert(Alike<decltype(LtApi::destroy), decltype(cublasLtDestroy)>::value);
static_assert(Alike<decltype(LtApi::operation_create), decltype(cublasLtMatmulDescCreate)>::value);
static_assert(
    Alike<decltype(LtApi::operation_destroy), decltype(cublasLtMatmulDescDestroy)>::value);
static_assert(
    Alike<decltype(LtApi::operation_set), decltype(cublasLtMatmulDescSetAttribute)>::value);
static_assert(Alike<decltype(LtApi::layout_create), decltype(cublasLtMatrixLayoutCreate)>::value);
static_assert(Alike<decltype(LtApi::layout_destroy), decltype(cublasLtMatrixLayoutDestroy)>::value);
static_assert(
    Alike<decltype(LtApi::layout_set), decltype(cublasLtMatrixLayoutSetAttribute)>::value);
static_assert(
    Alike<decltype(LtApi::preference_create), decltype(cublasLtMatmulPreferenceCreate)>::value);
static_assert(
    Alike<decltype(LtApi::preference_destroy), decltype(cublasLtMatmulPreferenceDestroy)>::value);
static_assert(
    Alike<decltype(LtApi::preference_set), decltype(cublasLtMatmulPreferenceSetAttribute)>::value);
static_assert(Alike<decltype(LtApi::candidates), decltype(cublasLtMatmulAlgoGetHeuristic)>::value);
static_assert(
    Alike<decltype(LtApi::algorithm_get), decltype(cublasLtMatmulAlgoConfigGetAttribute)>::value);
static_assert(Alike<decltype(LtApi::multiply), decltype(cublasLtMatmul)>::value);

}  // namespace
}  // namespace fst::kernels
