#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

struct cudnnContext;  // cuDNN's own

namespace fst {

/// What the program uses of cuDNN's public interface (cudnn_graph.h of release 9.19 and later),
/// declared here since the library is opened at run time and its headers need not be there.
/// tests/cudnn/header_check.cpp compares this with a header that is.
namespace cudnn {

using Handle = cudnnContext*;
using DescriptorHandle = void*;
enum Status : int { success = 0 };  // others are errors

enum class Kind : int {
  pointwise = 0,
  heuristics = 4,
  plan = 5,
  operation_pointwise = 13,
  operation_graph = 15,
  variant_pack = 16,
  tensor = 17,
  matmul = 18,
  operation_matmul = 19,
  reduction = 21,
  operation_reduction = 22,
  operation_reshape = 31,
  device_properties = 38,
  engine_configuration = 3,
};

/// What the elements of an attribute are.
enum class Element : int {
  handle = 0,
  data_type = 1,
  boolean = 2,
  int64 = 3,
  void_ptr = 6,
  heuristics_mode = 8,
  pointwise_mode = 14,
  descriptor = 15,
  reduction_operator = 18,
  character = 24,
};

enum class Attribute : int {
  pointwise_mode = 0,
  pointwise_type = 1,
  pointwise_axis = 9,
  heuristics_mode = 200,
  heuristics_graph = 201,
  heuristics_results = 202,
  heuristics_device = 204,
  plan_handle = 400,
  plan_configuration = 401,
  plan_workspace = 402,
  plan_device = 407,
  operation_pointwise = 750,
  operation_pointwise_x = 751,
  operation_pointwise_b = 752,
  operation_pointwise_y = 753,
  operation_pointwise_t = 758,
  graph_handle = 800,
  graph_operations = 801,
  tensor_alignment = 900,
  tensor_type = 901,
  tensor_dimensions = 902,
  tensor_strides = 903,
  tensor_id = 906,
  tensor_is_virtual = 907,
  tensor_is_by_value = 908,
  tensor_offsets = 913,
  pack_ids = 1000,
  pack_pointers = 1001,
  pack_workspace = 1003,
  matmul_type = 1500,
  operation_matmul_a = 1520,
  operation_matmul_b = 1521,
  operation_matmul_c = 1522,
  operation_matmul = 1523,
  operation_matmul_m = 1525,
  operation_matmul_n = 1526,
  operation_matmul_k = 1527,
  reduction_operator = 1600,
  reduction_type = 1601,
  operation_reduction_x = 1610,
  operation_reduction_y = 1611,
  operation_reduction = 1612,
  operation_reshape_x = 2200,
  operation_reshape_y = 2201,
  device_json = 2702,
};

enum class Type : int { f32 = 0, i32 = 4, bf16 = 9, boolean = 11 };
enum class Pointwise : int {
  add = 0,
  mul = 1,
  div = 6,
  sub = 9,
  exp = 13,
  log = 15,
  greater_or_equal = 303,
  less = 304,
  logical_and = 400,
  index = 501,   // of the element along pointwise_axis
  select = 601,  // t ? x : b
};
enum class Reduction : int { add = 0, max = 3 };
enum class Heuristics : int { best = 3 };  // mode A

/// The release that the graphs of cudnn_attention.cpp were checked with.
inline constexpr std::size_t oldest_version = 91900;

}  // namespace cudnn

/// The functions of cuDNN, with its names and meaning. Streams are cudaStream_t.
struct CudnnApi {
  std::size_t (*get_version)() = nullptr;
  const char* (*get_error_string)(cudnn::Status status) = nullptr;
  void (*get_last_error_string)(char* message, std::size_t size) = nullptr;
  cudnn::Status (*create)(cudnn::Handle* handle) = nullptr;
  cudnn::Status (*destroy)(cudnn::Handle handle) = nullptr;
  cudnn::Status (*set_stream)(cudnn::Handle handle, void* stream) = nullptr;
  cudnn::Status (*create_descriptor)(cudnn::Kind kind, cudnn::DescriptorHandle* made) = nullptr;
  cudnn::Status (*destroy_descriptor)(cudnn::DescriptorHandle descriptor) = nullptr;
  cudnn::Status (*finalize)(cudnn::DescriptorHandle descriptor) = nullptr;
  cudnn::Status (*set_attribute)(cudnn::DescriptorHandle descriptor, cudnn::Attribute attribute,
                                 cudnn::Element element, std::int64_t count,
                                 const void* values) = nullptr;
  cudnn::Status (*get_attribute)(cudnn::DescriptorHandle descriptor, cudnn::Attribute attribute,
                                 cudnn::Element element, std::int64_t room, std::int64_t* count,
                                 void* values) = nullptr;
  cudnn::Status (*execute)(cudnn::Handle handle, cudnn::DescriptorHandle plan,
                           cudnn::DescriptorHandle pack) = nullptr;
};

/// cuDNN on this machine, or why it is not there.
struct CudnnLibrary {
  CudnnApi api;
  std::size_t version = 0;  // 10000 * major + 100 * minor + patch
  std::string problem;      // why it cannot be used; "": it can

  /// "9.19.0"
  std::string version_text() const;
};

/// Opens libcudnn.so.9, or what the environment variable FST_CUDNN_LIBRARY names; once.
const CudnnLibrary& cudnn_library();

}  // namespace fst
