#include "descriptors.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "fst/base/error.h"

namespace fst::cudnn_stand_in {

namespace {

/// The type that an attribute's values have, and how many there may be.
struct Expected {
  Element element;
  std::int64_t least = 1, most = 1;
};
Expected expected(Attribute attribute) {
  constexpr std::int64_t many = 1000;
  switch (attribute) {
    case Attribute::pointwise_mode:
      return {Element::pointwise_mode};
    case Attribute::pointwise_type:
    case Attribute::matmul_type:
    case Attribute::reduction_type:
    case Attribute::tensor_type:
      return {Element::data_type};
    case Attribute::reduction_operator:
      return {Element::reduction_operator};
    case Attribute::heuristics_mode:
      return {Element::heuristics_mode};
    case Attribute::plan_handle:
    case Attribute::graph_handle:
      return {Element::handle};
    case Attribute::tensor_dimensions:
    case Attribute::tensor_strides:
      return {Element::int64, 4, 4};
    case Attribute::pointwise_axis:
    case Attribute::tensor_alignment:
    case Attribute::tensor_id:
      return {Element::int64};
    case Attribute::tensor_is_virtual:
    case Attribute::tensor_is_by_value:
      return {Element::boolean};
    case Attribute::pack_ids:
      return {Element::int64, 1, many};
    case Attribute::pack_pointers:
      return {Element::void_ptr, 1, many};
    case Attribute::pack_workspace:
      return {Element::void_ptr};
    case Attribute::graph_operations:
      return {Element::descriptor, 1, many};
    default:
      return {Element::descriptor};
  }
}

std::size_t bytes_of(Element element) {
  switch (element) {
    case Element::boolean:
      return sizeof(bool);
    case Element::data_type:
    case Element::pointwise_mode:
    case Element::reduction_operator:
    case Element::heuristics_mode:
      return sizeof(int);
    default:
      return sizeof(std::int64_t);
  }
}

}  // namespace

Library& library() {
  static Library instance;
  return instance;
}

std::vector<std::string> asked() {
  const char* const text = std::getenv("FST_CUDNN_STAND_IN");
  std::vector<std::string> words;
  std::istringstream stream(text == nullptr ? "" : text);
  for (std::string word; std::getline(stream, word, ':');) words.push_back(word);
  words.resize(3);
  return words;
}
void fail_if_asked(const char* call) {
  const auto words = asked();
  if (words[0] != "fail" || words[1] != call) return;
  if (++library().calls[call] == std::atoi(words[2].c_str())) throw Error("planted");
}

Node& node_of(const void* handle) {
  auto* const node = static_cast<Node*>(const_cast<void*>(handle));
  if (!library().alive.contains(node)) throw Error("no such descriptor");
  return *node;
}

const std::vector<std::int64_t>& all_of(const Node& node, Attribute attribute) {
  const auto found = node.values.find(attribute);
  if (found == node.values.end()) {
    throw Error("attribute " + std::to_string(static_cast<int>(attribute)) + " is not set");
  }
  return found->second;
}
std::int64_t one_of(const Node& node, Attribute attribute, std::int64_t otherwise) {
  return node.values.contains(attribute) ? all_of(node, attribute)[0] : otherwise;
}
const Node* link_of(const Node& node, Attribute attribute) {
  if (!node.values.contains(attribute)) return nullptr;
  const Node& found = node_of(reinterpret_cast<const void*>(all_of(node, attribute)[0]));
  if (!found.finalized) throw Error("a descriptor that is not finalized");
  return &found;
}
const Node& needed(const Node& node, Attribute attribute) {
  all_of(node, attribute);
  return *link_of(node, attribute);
}

Shape shape_of(const Node& tensor) {
  if (tensor.kind != Kind::tensor) throw Error("expected a tensor");
  Shape shape;
  shape.id = all_of(tensor, Attribute::tensor_id)[0];
  shape.type = static_cast<Type>(all_of(tensor, Attribute::tensor_type)[0]);
  std::ranges::copy(all_of(tensor, Attribute::tensor_dimensions), shape.dims.begin());
  std::ranges::copy(all_of(tensor, Attribute::tensor_strides), shape.strides.begin());
  shape.alignment = all_of(tensor, Attribute::tensor_alignment)[0];
  shape.is_virtual = one_of(tensor, Attribute::tensor_is_virtual, 0) != 0;
  shape.by_value = one_of(tensor, Attribute::tensor_is_by_value, 0) != 0;
  const Node* const offsets = link_of(tensor, Attribute::tensor_offsets);
  if (offsets != nullptr) shape.offsets = shape_of(*offsets).id;
  return shape;
}

void expect(bool good, const char* what) {
  if (!good) throw Error(what);
}

void set_attribute(Node& node, Attribute attribute, Element element, std::int64_t count,
                   const void* values) {
  expect(!node.finalized, "an attribute of a finalized descriptor");
  const Expected wanted = expected(attribute);
  expect(element == wanted.element && count >= wanted.least && count <= wanted.most,
         "an attribute of another type or count");
  auto& kept = node.values[attribute];
  kept.assign(static_cast<std::size_t>(count), 0);
  const std::size_t bytes = bytes_of(element);
  for (std::size_t i = 0; i < kept.size(); ++i) {
    std::memcpy(&kept[i], static_cast<const char*>(values) + i * bytes, bytes);
  }
  if (element != Element::descriptor) return;
  for (const std::int64_t link : kept) {
    expect(node_of(reinterpret_cast<const void*>(link)).finalized,
           "a descriptor that is not finalized");
  }
}

void judge(const Node& node) {
  switch (node.kind) {
    case Kind::tensor: {
      const Shape shape = shape_of(node);
      expect(std::ranges::min(shape.dims) > 0, "a dimension below 1");
      return;
    }
    case Kind::operation_matmul: {
      const Dims a = shape_of(needed(node, Attribute::operation_matmul_a)).dims;
      const Dims b = shape_of(needed(node, Attribute::operation_matmul_b)).dims;
      const Dims c = shape_of(needed(node, Attribute::operation_matmul_c)).dims;
      needed(node, Attribute::operation_matmul);
      expect(a[0] == b[0] && a[0] == c[0] && a[1] == c[1] && a[1] % b[1] == 0 && a[2] == c[2] &&
                 a[3] == b[2] && b[3] == c[3],
             "matrices that do not fit");
      return;
    }
    case Kind::operation_pointwise:
      needed(node, Attribute::operation_pointwise);
      expect(shape_of(needed(node, Attribute::operation_pointwise_x)).dims ==
                 shape_of(needed(node, Attribute::operation_pointwise_y)).dims,
             "operands that do not fit");
      return;
    case Kind::operation_reduction:
      needed(node, Attribute::operation_reduction);
      return;
    case Kind::plan:
      needed(node, Attribute::plan_configuration);
      all_of(node, Attribute::plan_handle);
      fail_if_asked("plan");
      if (needed(node, Attribute::plan_configuration).engine == 0) throw Error("engine 0 is none");
      return;
    case Kind::variant_pack:
      expect(
          all_of(node, Attribute::pack_ids).size() == all_of(node, Attribute::pack_pointers).size(),
          "as many ids as pointers");
      return;
    default:
      return;
  }
}

}  // namespace fst::cudnn_stand_in
