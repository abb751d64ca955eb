#include "cudnn_graph.h"

#include <string>

#include "fst/base/error.h"

namespace fst::cudnn {

namespace {

constexpr std::int64_t most_engines = 16;  // that are tried

/// Bytes that addresses are multiples of: cuDNN loads matrices by 16, the other tensors by element.
std::int64_t alignment_of(Type type) {
  return type == Type::bf16 ? 16 : 4;
}

const CudnnApi& api() {
  return cudnn_library().api;
}

std::string reason_of(Status status) {
  std::array<char, 512> text{};
  api().get_last_error_string(text.data(), text.size());
  std::string reason = api().get_error_string(status);
  if (text[0] != '\0') reason += std::string(", ") + text.data();
  return reason;
}

Dims packed(const Dims& dims) {
  return {dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1};
}

/// The configurations of engines that heuristics name, best first.
std::vector<Descriptor> configurations(const Descriptor& graph, const Target& target) {
  Descriptor heuristics(Kind::heuristics);
  heuristics.set(Attribute::heuristics_graph, graph);
  heuristics.set(Attribute::heuristics_mode, Element::heuristics_mode, Heuristics::best);
  if (target.properties != nullptr)
    heuristics.set(Attribute::heuristics_device, *target.properties);
  heuristics.finalize();
  std::vector<Descriptor> found;
  std::vector<DescriptorHandle> handles;
  for (std::int64_t i = 0; i < most_engines; ++i) {
    handles.push_back(found.emplace_back(Kind::engine_configuration).get());
  }
  std::int64_t count = 0;
  check(api().get_attribute(heuristics.get(), Attribute::heuristics_results, Element::descriptor,
                            most_engines, &count, handles.data()),
        "cudnnBackendGetAttribute of the engines");
  while (static_cast<std::int64_t>(found.size()) > count) found.pop_back();
  return found;
}

}  // namespace

void check(Status status, const char* call) {
  if (status == success) return;
  throw Error("cuDNN " + cudnn_library().version_text() + ": " + call + ": " + reason_of(status));
}

void Descriptor::Free::operator()(void* descriptor) const {
  api().destroy_descriptor(descriptor);
}

Descriptor::Descriptor(Kind kind) {
  DescriptorHandle made = nullptr;
  check(api().create_descriptor(kind, &made), "cudnnBackendCreateDescriptor");
  handle_.reset(made);
}

void Descriptor::set(Attribute attribute, Element element, std::int64_t count, const void* values) {
  const Status status = api().set_attribute(get(), attribute, element, count, values);
  if (status == success) return;
  check(status,
        ("cudnnBackendSetAttribute of attribute " + std::to_string(static_cast<int>(attribute)))
            .c_str());
}

void Descriptor::finalize() {
  check(api().finalize(get()), "cudnnBackendFinalize");
}

const Graph::Tensor& Graph::given(const Given& given) {
  Descriptor tensor(Kind::tensor);
  tensor.set(Attribute::tensor_id, Element::int64, given.id);
  tensor.set(Attribute::tensor_type, Element::data_type, given.type);
  tensor.set(Attribute::tensor_dimensions, Element::int64, 4, given.dims.data());
  tensor.set(Attribute::tensor_strides, Element::int64, 4, given.strides.data());
  tensor.set(Attribute::tensor_alignment, Element::int64, alignment_of(given.type));
  if (given.by_value) tensor.set(Attribute::tensor_is_by_value, Element::boolean, true);
  if (given.offsets != nullptr) tensor.set(Attribute::tensor_offsets, *given.offsets);
  tensor.finalize();
  tensors_.push_back(
      std::make_unique<Tensor>(Tensor{std::move(tensor), given.dims, given.strides}));
  return *tensors_.back();
}

const Graph::Tensor& Graph::make(Type type, const Dims& dims, const Dims& strides) {
  Descriptor tensor(Kind::tensor);
  tensor.set(Attribute::tensor_id, Element::int64, next_id_++);
  tensor.set(Attribute::tensor_type, Element::data_type, type);
  tensor.set(Attribute::tensor_dimensions, Element::int64, 4, dims.data());
  tensor.set(Attribute::tensor_strides, Element::int64, 4, strides.data());
  tensor.set(Attribute::tensor_alignment, Element::int64, alignment_of(type));
  tensor.set(Attribute::tensor_is_virtual, Element::boolean, true);
  tensor.finalize();
  tensors_.push_back(std::make_unique<Tensor>(Tensor{std::move(tensor), dims, strides}));
  return *tensors_.back();
}

const Graph::Tensor& Graph::make(Type type, const Dims& dims) {
  return make(type, dims, packed(dims));
}

void Graph::add(Descriptor operation) {
  operation.finalize();
  handles_.push_back(operation.get());
  parts_.push_back(std::move(operation));
}

const Graph::Tensor& Graph::multiply(const Tensor& a, const Tensor& b, const Extent& extent,
                                     Type type, const Tensor* into) {
  const Tensor& c =
      into != nullptr ? *into : make(type, {a.dims[0], a.dims[1], a.dims[2], b.dims[3]});
  Descriptor kind(Kind::matmul);
  kind.set(Attribute::matmul_type, Element::data_type, Type::f32);
  kind.finalize();
  Descriptor operation(Kind::operation_matmul);
  operation.set(Attribute::operation_matmul_a, a.descriptor);
  operation.set(Attribute::operation_matmul_b, b.descriptor);
  operation.set(Attribute::operation_matmul_c, c.descriptor);
  operation.set(Attribute::operation_matmul, kind);
  if (extent.m != nullptr) operation.set(Attribute::operation_matmul_m, *extent.m);
  if (extent.n != nullptr) operation.set(Attribute::operation_matmul_n, *extent.n);
  if (extent.k != nullptr) operation.set(Attribute::operation_matmul_k, *extent.k);
  parts_.push_back(std::move(kind));
  add(std::move(operation));
  return c;
}

const Graph::Tensor& Graph::compute(Pointwise mode, const Tensor& x, const Tensor* b, Type type,
                                    const Tensor* t, const Tensor* into) {
  const Tensor& y = into != nullptr ? *into : make(type, x.dims);
  const bool truth = mode == Pointwise::logical_and || mode == Pointwise::less ||
                     mode == Pointwise::greater_or_equal;
  Descriptor kind(Kind::pointwise);
  kind.set(Attribute::pointwise_mode, Element::pointwise_mode, mode);
  kind.set(Attribute::pointwise_type, Element::data_type, truth ? Type::boolean : Type::f32);
  kind.finalize();
  Descriptor operation(Kind::operation_pointwise);
  operation.set(Attribute::operation_pointwise, kind);
  operation.set(Attribute::operation_pointwise_x, x.descriptor);
  if (b != nullptr) operation.set(Attribute::operation_pointwise_b, b->descriptor);
  if (t != nullptr) operation.set(Attribute::operation_pointwise_t, t->descriptor);
  operation.set(Attribute::operation_pointwise_y, y.descriptor);
  parts_.push_back(std::move(kind));
  add(std::move(operation));
  return y;
}

const Graph::Tensor& Graph::index(const Tensor& x, std::int64_t axis) {
  const Tensor& y = make(Type::i32, x.dims);
  Descriptor kind(Kind::pointwise);
  kind.set(Attribute::pointwise_mode, Element::pointwise_mode, Pointwise::index);
  kind.set(Attribute::pointwise_type, Element::data_type, Type::i32);
  kind.set(Attribute::pointwise_axis, Element::int64, axis);
  kind.finalize();
  Descriptor operation(Kind::operation_pointwise);
  operation.set(Attribute::operation_pointwise, kind);
  operation.set(Attribute::operation_pointwise_x, x.descriptor);
  operation.set(Attribute::operation_pointwise_y, y.descriptor);
  parts_.push_back(std::move(kind));
  add(std::move(operation));
  return y;
}

const Graph::Tensor& Graph::reduce(Reduction mode, const Tensor& x, const Tensor* into) {
  const Tensor& y = into != nullptr ? *into : make(Type::f32, {x.dims[0], x.dims[1], x.dims[2], 1});
  Descriptor kind(Kind::reduction);
  kind.set(Attribute::reduction_operator, Element::reduction_operator, mode);
  kind.set(Attribute::reduction_type, Element::data_type, Type::f32);
  kind.finalize();
  Descriptor operation(Kind::operation_reduction);
  operation.set(Attribute::operation_reduction, kind);
  operation.set(Attribute::operation_reduction_x, x.descriptor);
  operation.set(Attribute::operation_reduction_y, y.descriptor);
  parts_.push_back(std::move(kind));
  add(std::move(operation));
  return y;
}

const Graph::Tensor& Graph::transpose(const Tensor& x, Type type) {
  const Dims& d = x.dims;
  const Dims& s = x.strides;
  const Tensor& y = make(type, {d[0], d[1], d[3], d[2]}, {s[0], s[1], s[3], s[2]});
  Descriptor operation(Kind::operation_reshape);
  operation.set(Attribute::operation_reshape_x, x.descriptor);
  operation.set(Attribute::operation_reshape_y, y.descriptor);
  add(std::move(operation));
  return y;
}

Plan::Plan(Graph graph, const Target& target, const std::string& what)
    : graph_(std::move(graph)), operations_(Kind::operation_graph), plan_(Kind::plan) {
  const auto handles = graph_.operations();
  operations_.set(Attribute::graph_operations, Element::descriptor,
                  static_cast<std::int64_t>(handles.size()), handles.data());
  if (target.handle != nullptr) {
    operations_.set(Attribute::graph_handle, Element::handle, target.handle);
  }
  operations_.finalize();
  configurations_ = configurations(operations_, target);
  std::string refusals;
  for (const Descriptor& configuration : configurations_) {
    Descriptor plan(Kind::plan);
    plan.set(Attribute::plan_configuration, configuration);
    if (target.handle != nullptr) {
      plan.set(Attribute::plan_handle, Element::handle, target.handle);
    } else {
      plan.set(Attribute::plan_device, *target.properties);
    }
    const Status status = api().finalize(plan.get());
    if (status != success) {
      refusals += "; " + reason_of(status);
      continue;
    }
    std::int64_t count = 0;
    check(api().get_attribute(plan.get(), Attribute::plan_workspace, Element::int64, 1, &count,
                              &workspace_),
          "cudnnBackendGetAttribute of the workspace");
    plan_ = std::move(plan);
    return;
  }
  if (configurations_.empty()) refusals = "; its heuristics name no engine";
  throw Error("cuDNN " + cudnn_library().version_text() + " has no plan for " + what + refusals);
}

void Plan::execute(Handle handle, std::span<const std::int64_t> ids,
                   std::span<void* const> pointers, void* workspace) const {
  Descriptor pack(Kind::variant_pack);
  const auto count = static_cast<std::int64_t>(ids.size());
  pack.set(Attribute::pack_ids, Element::int64, count, ids.data());
  pack.set(Attribute::pack_pointers, Element::void_ptr, count, pointers.data());
  pack.set(Attribute::pack_workspace, Element::void_ptr, workspace);
  pack.finalize();
  check(api().execute(handle, plan_.get(), pack.get()), "cudnnBackendExecute");
}

}  // namespace fst::cudnn
