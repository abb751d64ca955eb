#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cudnn_api.h"

/// Graphs of tensor operations in cuDNN's terms, and plans that compute them: a thin layer over
/// its backend interface. All of it throws Error where cuDNN refuses, with its reason.
namespace fst::cudnn {

/// Throws Error unless `status` is success.
void check(Status status, const char* call);

/// Owns a descriptor of the library.
class Descriptor {
 public:
  explicit Descriptor(Kind kind);
  DescriptorHandle get() const { return handle_.get(); }

  void set(Attribute attribute, Element element, std::int64_t count, const void* values);
  template <class Value>
  void set(Attribute attribute, Element element, const Value& value) {
    set(attribute, element, 1, &value);
  }
  void set(Attribute attribute, const Descriptor& descriptor) {
    set(attribute, Element::descriptor, descriptor.get());
  }
  void finalize();

 private:
  struct Free {
    void operator()(void* descriptor) const;
  };
  std::unique_ptr<void, Free> handle_;
};

/// Batch, head, row, column.
using Dims = std::array<std::int64_t, 4>;

/// A tensor that the caller gives when a plan is executed.
struct Given {
  std::int64_t id = 0;
  Type type = Type::bf16;
  Dims dims{}, strides{};               // in elements
  const Descriptor* offsets = nullptr;  // i32 [batch + 1]: element where each begins; or none
  bool by_value = false;                // one number, in host memory
};

/// Rows of a product, columns and terms that count, i32 [batch] each; nullptr: all.
struct Extent {
  const Descriptor *m = nullptr, *n = nullptr, *k = nullptr;
};

/// Operations in the order in which they are added. What they return lives as long as the graph.
class Graph {
 public:
  struct Tensor {
    Descriptor descriptor;
    Dims dims, strides;
  };

  const Tensor& given(const Given& given);
  /// A number in host memory, f32.
  const Tensor& number(std::int64_t id) {
    return given({id, Type::f32, {1, 1, 1, 1}, {1, 1, 1, 1}, nullptr, true});
  }

  /// c = a b over the last two dimensions, sums in f32; heads of `b` serve equal groups of heads of
  /// `a`. `into`: where the result goes; nullptr: a tensor of the plan's own, of this type.
  const Tensor& multiply(const Tensor& a, const Tensor& b, const Extent& extent, Type type,
                         const Tensor* into = nullptr);
  /// mode(x), mode(x, b) or, with t, a choice between them, element by element; a dimension of 1
  /// of `b` is repeated.
  const Tensor& compute(Pointwise mode, const Tensor& x, const Tensor* b, Type type,
                        const Tensor* t = nullptr, const Tensor* into = nullptr);
  /// The index of each element of x along `axis`, i32.
  const Tensor& index(const Tensor& x, std::int64_t axis);
  /// The last dimension of x reduced to 1, f32; or, with `into`, to its dims.
  const Tensor& reduce(Reduction operation, const Tensor& x, const Tensor* into = nullptr);
  /// x with rows and columns exchanged.
  const Tensor& transpose(const Tensor& x, Type type);

  std::span<const DescriptorHandle> operations() const { return handles_; }

 private:
  const Tensor& make(Type type, const Dims& dims, const Dims& strides);
  const Tensor& make(Type type, const Dims& dims);
  void add(Descriptor operation);

  std::vector<std::unique_ptr<Tensor>> tensors_;
  std::vector<Descriptor> parts_;  // what operations refer to, and the operations
  std::vector<DescriptorHandle> handles_;
  std::int64_t next_id_ = 1000;  // of the plan's own tensors; given ones are below
};

/// For which device a plan is made: the one of a handle, or one that need not be there.
struct Target {
  Handle handle = nullptr;
  const Descriptor* properties = nullptr;
};

/// One way to compute a graph, the first that the library's heuristics name and that it can build.
/// Keeps the graph.
class Plan {
 public:
  /// `what`: what it computes, for messages.
  Plan(Graph graph, const Target& target, const std::string& what);
  /// Bytes of device memory that an execution needs.
  std::int64_t workspace() const { return workspace_; }
  /// Queues it on the handle's stream. ids[i] lies at pointers[i].
  void execute(Handle handle, std::span<const std::int64_t> ids, std::span<void* const> pointers,
               void* workspace) const;

 private:
  Graph graph_;
  Descriptor operations_;
  std::vector<Descriptor> configurations_;
  Descriptor plan_;
  std::int64_t workspace_ = 0;
};

}  // namespace fst::cudnn
