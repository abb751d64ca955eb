#include "execution.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "fst/base/error.h"

namespace fst::cudnn_stand_in {

namespace {

/// One execution of a graph.
class Execution {
 public:
  Execution(const Node& pack, cudaStream_t stream) : stream_(stream) {
    const auto& ids = all_of(pack, Attribute::pack_ids);
    const auto& pointers = all_of(pack, Attribute::pack_pointers);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      expect(pointers_.emplace(ids[i], reinterpret_cast<void*>(pointers[i])).second, "an id twice");
    }
    const std::vector<char> rubbish(static_cast<std::size_t>(plan_workspace), '\xff');
    cudaMemcpyAsync(reinterpret_cast<void*>(all_of(pack, Attribute::pack_workspace)[0]),
                    rubbish.data(), rubbish.size(), cudaMemcpyHostToDevice, stream_);
    if (cudaStreamSynchronize(stream_) != cudaSuccess) throw Error("the stream failed");
  }

  void run(const Node& operation) {
    switch (operation.kind) {
      case Kind::operation_matmul:
        return multiply(operation);
      case Kind::operation_pointwise:
        return compute(operation);
      case Kind::operation_reduction:
        return reduce(operation);
      case Kind::operation_reshape:
        return transpose(operation);
      default:
        throw Error("an operation of kind " + std::to_string(static_cast<int>(operation.kind)));
    }
  }

 private:
  void* address_of(std::int64_t id) const {
    const auto found = pointers_.find(id);
    if (found == pointers_.end()) throw Error("no pointer for tensor " + std::to_string(id));
    return found->second;
  }
  std::vector<std::int64_t> offsets_of(const Shape& shape) const {
    if (shape.offsets == 0) return {};
    return numbers(shape.offsets, shape.dims[0] + 1);
  }
  /// i32 numbers in device memory.
  std::vector<std::int64_t> numbers(std::int64_t id, std::int64_t count) const {
    const Shape shape{id, Type::i32, {count, 1, 1, 1}, {1, 1, 1, 1}, 4};
    const Values values = load(shape, address_of(id), {}, stream_);
    return {values.at.begin(), values.at.end()};
  }

  const Values& read(const Node& tensor) {
    const Shape shape = shape_of(tensor);
    const auto found = known_.find(shape.id);
    if (found != known_.end()) return found->second;
    expect(!shape.is_virtual, "a virtual tensor that nobody computed");
    return known_.emplace(shape.id, load(shape, address_of(shape.id), offsets_of(shape), stream_))
        .first->second;
  }
  void write(const Node& tensor, Values values) {
    const Shape shape = shape_of(tensor);
    round_to(shape.type, values);
    if (!shape.is_virtual) {
      store(shape, address_of(shape.id), offsets_of(shape), values, stream_);
    }
    expect(known_.emplace(shape.id, std::move(values)).second, "a tensor computed twice");
  }

  /// For each batch the extent of a dimension that counts.
  std::vector<std::int64_t> extent(const Node& operation, Attribute attribute, std::int64_t all,
                                   std::int64_t batches) {
    const Node* const given = link_of(operation, attribute);
    if (given == nullptr) return std::vector<std::int64_t>(static_cast<std::size_t>(batches), all);
    return numbers(shape_of(*given).id, batches);
  }

  void multiply(const Node& operation) {
    const Values& a = read(needed(operation, Attribute::operation_matmul_a));
    const Values& b = read(needed(operation, Attribute::operation_matmul_b));
    Values c({a.dims[0], a.dims[1], a.dims[2], b.dims[3]});
    const auto m = extent(operation, Attribute::operation_matmul_m, a.dims[2], a.dims[0]);
    const auto n = extent(operation, Attribute::operation_matmul_n, b.dims[3], a.dims[0]);
    const auto k = extent(operation, Attribute::operation_matmul_k, a.dims[3], a.dims[0]);
    const std::int64_t group = a.dims[1] / b.dims[1];
    for_each(c.dims, [&](std::int64_t batch, std::int64_t h, std::int64_t r, std::int64_t col) {
      const auto i = static_cast<std::size_t>(batch);
      float sum = r < m[i] && col < n[i] ? 0.0f : NAN;
      for (std::int64_t j = 0; j < k[i] && !std::isnan(sum); ++j) {
        sum += a.at[a.index(batch, h, r, j)] * b.at[b.index(batch, h / group, j, col)];
      }
      c(batch, h, r, col) = sum;
    });
    write(needed(operation, Attribute::operation_matmul_c), std::move(c));
  }

  static float value_of(Pointwise mode, float x, float b, float t) {
    switch (mode) {
      case Pointwise::add:
        return x + b;
      case Pointwise::sub:
        return x - b;
      case Pointwise::mul:
        return x * b;
      case Pointwise::div:
        return x / b;
      case Pointwise::exp:
        return std::exp(x);
      case Pointwise::log:
        return std::log(x);
      case Pointwise::greater_or_equal:
        return x >= b ? 1.0f : 0.0f;
      case Pointwise::less:
        return x < b ? 1.0f : 0.0f;
      case Pointwise::logical_and:
        return x != 0.0f && b != 0.0f ? 1.0f : 0.0f;
      case Pointwise::select:
        return t != 0.0f ? x : b;
      case Pointwise::index:
        break;
    }
    throw Error("an unknown pointwise mode");
  }

  void compute(const Node& operation) {
    const Node& kind = needed(operation, Attribute::operation_pointwise);
    const auto mode = static_cast<Pointwise>(all_of(kind, Attribute::pointwise_mode)[0]);
    const Values& x = read(needed(operation, Attribute::operation_pointwise_x));
    const Node* const b_node = link_of(operation, Attribute::operation_pointwise_b);
    const Node* const t_node = link_of(operation, Attribute::operation_pointwise_t);
    const Values* const b = b_node == nullptr ? nullptr : &read(*b_node);
    const Values* const t = t_node == nullptr ? nullptr : &read(*t_node);
    Values y(x.dims);
    const std::int64_t axis = one_of(kind, Attribute::pointwise_axis, -1);
    for_each(y.dims, [&](std::int64_t batch, std::int64_t h, std::int64_t r, std::int64_t c) {
      const std::array<std::int64_t, 4> index{batch, h, r, c};
      y(batch, h, r, c) = mode == Pointwise::index
                              ? static_cast<float>(index.at(static_cast<std::size_t>(axis)))
                              : value_of(mode, x.at[x.index(batch, h, r, c)],
                                         b == nullptr ? NAN : b->broadcast(batch, h, r, c),
                                         t == nullptr ? NAN : t->broadcast(batch, h, r, c));
    });
    write(needed(operation, Attribute::operation_pointwise_y), std::move(y));
  }

  void reduce(const Node& operation) {
    const Node& kind = needed(operation, Attribute::operation_reduction);
    const auto mode = static_cast<Reduction>(all_of(kind, Attribute::reduction_operator)[0]);
    const Values& x = read(needed(operation, Attribute::operation_reduction_x));
    const Node& into = needed(operation, Attribute::operation_reduction_y);
    Values y(shape_of(into).dims);
    const bool add = mode == Reduction::add;
    std::ranges::fill(y.at, add ? 0.0f : -INFINITY);
    for_each(x.dims, [&](std::int64_t b, std::int64_t h, std::int64_t r, std::int64_t c) {
      float& to = y(b, h * y.dims[1] / x.dims[1], r, y.dims[3] == 1 ? 0 : c);
      const float value = x.at[x.index(b, h, r, c)];
      to = add ? to + value : std::max(to, value);
    });
    write(into, std::move(y));
  }

  void transpose(const Node& operation) {
    const Values& x = read(needed(operation, Attribute::operation_reshape_x));
    Values y({x.dims[0], x.dims[1], x.dims[3], x.dims[2]});
    for_each(y.dims, [&](std::int64_t b, std::int64_t h, std::int64_t r, std::int64_t c) {
      y(b, h, r, c) = x.at[x.index(b, h, c, r)];
    });
    write(needed(operation, Attribute::operation_reshape_y), std::move(y));
  }

  cudaStream_t stream_;
  std::map<std::int64_t, void*> pointers_;
  std::map<std::int64_t, Values> known_;
};

}  // namespace

void execute(const Node& graph, const Node& pack, cudaStream_t stream) {
  Execution execution(pack, stream);
  for (const std::int64_t operation : all_of(graph, Attribute::graph_operations)) {
    execution.run(node_of(reinterpret_cast<const void*>(operation)));
  }
}

}  // namespace fst::cudnn_stand_in
