#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <cuda_runtime.h>

namespace fst::kernels {

/// What the program uses of cuBLASLt's public interface (cublasLt.h of releases 12 and 13),
/// declared here since the library is opened at run time and its header need not be there.
/// tests/cublaslt/header_check.cpp compares this with a header that is. Matrices lie by columns.
namespace lt {

using Handle = struct Context*;
using Operation = struct OperationDescription*;
using Layout = struct LayoutDescription*;
using Preference = struct PreferenceDescription*;
enum Status : int { success = 0, not_supported = 15 };  // others are errors too
enum DataType : int { f32 = 0, bf16 = 14 };
enum ComputeType : int { compute_f32 = 68 };
enum Transpose : std::int32_t { as_it_lies = 0, transposed = 1 };
enum OperationAttribute : int { transpose_a = 3, transpose_b = 4 };
enum LayoutAttribute : int { batch_count = 5, batch_offset = 6 };
enum PreferenceAttribute : int {
  max_workspace_bytes = 1,
  reduction_scheme_mask = 3,
  min_alignment_a_bytes = 5,
  min_alignment_b_bytes = 6,
  min_alignment_c_bytes = 7,
  min_alignment_d_bytes = 8
};
enum AlgorithmAttribute : int { split_k = 2, reduction_scheme = 3 };
/// Bits of reduction_scheme_mask.
inline constexpr std::uint32_t no_reduction = 0, any_reduction = 7;
struct Algorithm {
  std::uint64_t data[8];
};
struct Candidate {
  Algorithm algorithm;
  std::size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};
/// The first release with all of this and kernels for sm_90.
inline constexpr std::size_t oldest_version = 120000;

}  // namespace lt

/// The functions of cuBLASLt, with its names and meaning.
struct LtApi {
  std::size_t (*get_version)() = nullptr;
  const char* (*get_status_string)(lt::Status status) = nullptr;
  lt::Status (*create)(lt::Handle* handle) = nullptr;
  lt::Status (*destroy)(lt::Handle handle) = nullptr;
  lt::Status (*operation_create)(lt::Operation* operation, lt::ComputeType compute,
                                 lt::DataType scale) = nullptr;
  lt::Status (*operation_destroy)(lt::Operation operation) = nullptr;
  lt::Status (*operation_set)(lt::Operation operation, lt::OperationAttribute attribute,
                              const void* value, std::size_t bytes) = nullptr;
  lt::Status (*layout_create)(lt::Layout* layout, lt::DataType type, std::uint64_t rows,
                              std::uint64_t columns, std::int64_t ld) = nullptr;
  lt::Status (*layout_destroy)(lt::Layout layout) = nullptr;
  lt::Status (*layout_set)(lt::Layout layout, lt::LayoutAttribute attribute, const void* value,
                           std::size_t bytes) = nullptr;
  lt::Status (*preference_create)(lt::Preference* preference) = nullptr;
  lt::Status (*preference_destroy)(lt::Preference preference) = nullptr;
  lt::Status (*preference_set)(lt::Preference preference, lt::PreferenceAttribute attribute,
                               const void* value, std::size_t bytes) = nullptr;
  lt::Status (*candidates)(lt::Handle handle, lt::Operation operation, lt::Layout a, lt::Layout b,
                           lt::Layout c, lt::Layout d, lt::Preference preference, int most,
                           lt::Candidate* found, int* count) = nullptr;
  lt::Status (*algorithm_get)(const lt::Algorithm* algorithm, lt::AlgorithmAttribute attribute,
                              void* value, std::size_t bytes, std::size_t* written) = nullptr;
  lt::Status (*multiply)(lt::Handle handle, lt::Operation operation, const void* alpha,
                         const void* a, lt::Layout a_layout, const void* b, lt::Layout b_layout,
                         const void* beta, const void* c, lt::Layout c_layout, void* d,
                         lt::Layout d_layout, const lt::Algorithm* algorithm, void* workspace,
                         std::size_t workspace_bytes, cudaStream_t stream) = nullptr;
};

/// cuBLASLt on this machine, or why it is not there.
struct LtLibrary {
  LtApi api;
  std::size_t version = 0;  // 10000 * major + 100 * minor + patch
  std::string problem;      // why it cannot be used; "": it can

  /// "13.1.0"
  std::string version_text() const;
};

/// Opens libcublasLt.so.13 or .12, or what the environment variable FST_CUBLASLT_LIBRARY names;
/// once. Where GPUs are emulated, only what is named.
const LtLibrary& lt_library();

}  // namespace fst::kernels
