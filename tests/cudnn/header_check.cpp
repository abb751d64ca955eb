// The declarations of src/tensor/cudnn_api.h against cuDNN's own: compiled, never run.

#include <type_traits>

#include <cudnn_graph.h>

#include "src/tensor/cudnn_api.h"

namespace fst::cudnn {
namespace {

template <class Ours, class Theirs>
constexpr bool same(Ours ours, Theirs theirs) {
  static_assert(sizeof(Ours) == sizeof(Theirs));
  return static_cast<int>(ours) == static_cast<int>(theirs);
}

static_assert(same(success, CUDNN_STATUS_SUCCESS));
static_assert(same(Kind::pointwise, CUDNN_BACKEND_POINTWISE_DESCRIPTOR));
static_assert(same(Kind::heuristics, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR));
static_assert(same(Kind::plan, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR));
static_assert(same(Kind::operation_pointwise, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR));
static_assert(same(Kind::operation_graph, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR));
static_assert(same(Kind::variant_pack, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR));
static_assert(same(Kind::tensor, CUDNN_BACKEND_TENSOR_DESCRIPTOR));
static_assert(same(Kind::matmul, CUDNN_BACKEND_MATMUL_DESCRIPTOR));
static_assert(same(Kind::operation_matmul, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR));
static_assert(same(Kind::reduction, CUDNN_BACKEND_REDUCTION_DESCRIPTOR));
static_assert(same(Kind::operation_reduction, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR));
static_assert(same(Kind::operation_reshape, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR));
static_assert(same(Kind::device_properties, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR));
static_assert(same(Kind::engine_configuration, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
static_assert(same(Element::handle, CUDNN_TYPE_HANDLE));
static_assert(same(Element::data_type, CUDNN_TYPE_DATA_TYPE));
static_assert(same(Element::boolean, CUDNN_TYPE_BOOLEAN));
static_assert(same(Element::int64, CUDNN_TYPE_INT64));
static_assert(same(Element::void_ptr, CUDNN_TYPE_VOID_PTR));
static_assert(same(Element::heuristics_mode, CUDNN_TYPE_HEUR_MODE));
static_assert(same(Element::pointwise_mode, CUDNN_TYPE_POINTWISE_MODE));
static_assert(same(Element::descriptor, CUDNN_TYPE_BACKEND_DESCRIPTOR));
static_assert(same(Element::reduction_operator, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE));
static_assert(same(Element::character, CUDNN_TYPE_CHAR));
static_assert(same(Attribute::pointwise_mode, CUDNN_ATTR_POINTWISE_MODE));
static_assert(same(Attribute::pointwise_type, CUDNN_ATTR_POINTWISE_MATH_PREC));
static_assert(same(Attribute::pointwise_axis, CUDNN_ATTR_POINTWISE_AXIS));
static_assert(same(Attribute::heuristics_mode, CUDNN_ATTR_ENGINEHEUR_MODE));
static_assert(same(Attribute::heuristics_graph, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH));
static_assert(same(Attribute::heuristics_results, CUDNN_ATTR_ENGINEHEUR_RESULTS));
static_assert(same(Attribute::heuristics_device, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP));
static_assert(same(Attribute::plan_handle, CUDNN_ATTR_EXECUTION_PLAN_HANDLE));
static_assert(same(Attribute::plan_configuration, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG));
static_assert(same(Attribute::plan_workspace, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE));
static_assert(same(Attribute::plan_device, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP));
static_assert(same(Attribute::operation_pointwise, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR));
static_assert(same(Attribute::operation_pointwise_x, CUDNN_ATTR_OPERATION_POINTWISE_XDESC));
static_assert(same(Attribute::operation_pointwise_b, CUDNN_ATTR_OPERATION_POINTWISE_BDESC));
static_assert(same(Attribute::operation_pointwise_y, CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
static_assert(same(Attribute::operation_pointwise_t, CUDNN_ATTR_OPERATION_POINTWISE_TDESC));
static_assert(same(Attribute::graph_handle, CUDNN_ATTR_OPERATIONGRAPH_HANDLE));
static_assert(same(Attribute::graph_operations, CUDNN_ATTR_OPERATIONGRAPH_OPS));
static_assert(same(Attribute::tensor_alignment, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT));
static_assert(same(Attribute::tensor_type, CUDNN_ATTR_TENSOR_DATA_TYPE));
static_assert(same(Attribute::tensor_dimensions, CUDNN_ATTR_TENSOR_DIMENSIONS));
static_assert(same(Attribute::tensor_strides, CUDNN_ATTR_TENSOR_STRIDES));
static_assert(same(Attribute::tensor_id, CUDNN_ATTR_TENSOR_UNIQUE_ID));
static_assert(same(Attribute::tensor_is_virtual, CUDNN_ATTR_TENSOR_IS_VIRTUAL));
static_assert(same(Attribute::tensor_is_by_value, CUDNN_ATTR_TENSOR_IS_BY_VALUE));
static_assert(same(Attribute::tensor_offsets, CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC));
static_assert(same(Attribute::pack_ids, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS));
static_assert(same(Attribute::pack_pointers, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS));
static_assert(same(Attribute::pack_workspace, CUDNN_ATTR_VARIANT_PACK_WORKSPACE));
static_assert(same(Attribute::matmul_type, CUDNN_ATTR_MATMUL_COMP_TYPE));
static_assert(same(Attribute::operation_matmul_a, CUDNN_ATTR_OPERATION_MATMUL_ADESC));
static_assert(same(Attribute::operation_matmul_b, CUDNN_ATTR_OPERATION_MATMUL_BDESC));
static_assert(same(Attribute::operation_matmul_c, CUDNN_ATTR_OPERATION_MATMUL_CDESC));
static_assert(same(Attribute::operation_matmul, CUDNN_ATTR_OPERATION_MATMUL_DESC));
static_assert(same(Attribute::operation_matmul_m,
                   CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC));
static_assert(same(Attribute::operation_matmul_n,
                   CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC));
static_assert(same(Attribute::operation_matmul_k,
                   CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC));
static_assert(same(Attribute::reduction_operator, CUDNN_ATTR_REDUCTION_OPERATOR));
static_assert(same(Attribute::reduction_type, CUDNN_ATTR_REDUCTION_COMP_TYPE));
static_assert(same(Attribute::operation_reduction_x, CUDNN_ATTR_OPERATION_REDUCTION_XDESC));
static_assert(same(Attribute::operation_reduction_y, CUDNN_ATTR_OPERATION_REDUCTION_YDESC));
static_assert(same(Attribute::operation_reduction, CUDNN_ATTR_OPERATION_REDUCTION_DESC));
static_assert(same(Attribute::operation_reshape_x, CUDNN_ATTR_OPERATION_RESHAPE_XDESC));
static_assert(same(Attribute::operation_reshape_y, CUDNN_ATTR_OPERATION_RESHAPE_YDESC));
static_assert(same(Attribute::device_json, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION));
static_assert(same(Type::f32, CUDNN_DATA_FLOAT));
static_assert(same(Type::i32, CUDNN_DATA_INT32));
static_assert(same(Type::bf16, CUDNN_DATA_BFLOAT16));
static_assert(same(Type::boolean, CUDNN_DATA_BOOLEAN));
static_assert(same(Pointwise::add, CUDNN_POINTWISE_ADD));
static_assert(same(Pointwise::mul, CUDNN_POINTWISE_MUL));
static_assert(same(Pointwise::div, CUDNN_POINTWISE_DIV));
static_assert(same(Pointwise::sub, CUDNN_POINTWISE_SUB));
static_assert(same(Pointwise::exp, CUDNN_POINTWISE_EXP));
static_assert(same(Pointwise::log, CUDNN_POINTWISE_LOG));
static_assert(same(Pointwise::greater_or_equal, CUDNN_POINTWISE_CMP_GE));
static_assert(same(Pointwise::less, CUDNN_POINTWISE_CMP_LT));
static_assert(same(Pointwise::logical_and, CUDNN_POINTWISE_LOGICAL_AND));
static_assert(same(Pointwise::index, CUDNN_POINTWISE_GEN_INDEX));
static_assert(same(Pointwise::select, CUDNN_POINTWISE_BINARY_SELECT));
static_assert(same(Reduction::add, CUDNN_REDUCE_TENSOR_ADD));
static_assert(same(Reduction::max, CUDNN_REDUCE_TENSOR_MAX));
static_assert(same(Heuristics::best, CUDNN_HEUR_MODE_A));

/// Whether our pointer takes their function: as many arguments, each of the same size, pointers
/// where theirs are.
template <class Ours, class Theirs>
constexpr bool passes_alike() {
  return std::is_void_v<Ours> ? std::is_void_v<Theirs>
                              : std::is_pointer_v<Ours> == std::is_pointer_v<Theirs>;
}
template <class Result, class... Ours, class TheirResult, class... Theirs>
constexpr bool alike(Result (*)(Ours...), TheirResult (*)(Theirs...)) {
  if constexpr (sizeof...(Ours) != sizeof...(Theirs)) {
    return false;
  } else {
    return passes_alike<Result, TheirResult>() &&
           ((passes_alike<Ours, Theirs>() && sizeof(Ours) == sizeof(Theirs)) && ...);
  }
}

constexpr CudnnApi api;
static_assert(alike(api.get_version, cudnnGetVersion));
static_assert(alike(api.get_error_string, cudnnGetErrorString));
static_assert(alike(api.get_last_error_string, cudnnGetLastErrorString));
static_assert(alike(api.create, cudnnCreate));
static_assert(alike(api.destroy, cudnnDestroy));
static_assert(alike(api.set_stream, cudnnSetStream));
static_assert(alike(api.create_descriptor, cudnnBackendCreateDescriptor));
static_assert(alike(api.destroy_descriptor, cudnnBackendDestroyDescriptor));
static_assert(alike(api.finalize, cudnnBackendFinalize));
static_assert(alike(api.set_attribute, cudnnBackendSetAttribute));
static_assert(alike(api.get_attribute, cudnnBackendGetAttribute));
static_assert(alike(api.execute, cudnnBackendExecute));

}  // namespace
}  // namespace fst::cudnn
