#include "fst/tensor/library_attention.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <utility>

#include "fst/tensor/parcel.h"

#include "attention_pieces.h"
#include "check.h"
#include "cuda_of.h"
#include "cudnn_attention.h"

namespace fst {

namespace {

using cudnn::AttentionShape;
using ops::expect_matrix;

constexpr std::int64_t alignment = 256;  // bytes, of working memory
// What stands for a score that does not count.
constexpr float lowest_score = -std::numeric_limits<float>::infinity();

/// The sizes of a call, from its tensors.
struct Sizes {
  std::int64_t tokens = 0, heads = 0, kv_heads = 0, dim = 0;
};

Sizes sizes_of(const PackedHeads& in, const Tensor& out, const Tensor& lse) {
  expect_matrix("cudnn: q", in.q);
  expect_matrix("cudnn: lse", lse);
  Sizes sizes{in.q.dim(0), lse.dim(1), 0, 0};
  sizes.dim = sizes.heads == 0 ? 0 : in.q.dim(1) / sizes.heads;
  if (sizes.dim == 0 || sizes.dim % 8 != 0 || sizes.dim * sizes.heads != in.q.dim(1)) {
    ops::wrong_shape("cudnn: q", std::to_string(sizes.heads) + " heads of a multiple of 8 elements",
                     in.q);
  }
  expect_matrix("cudnn: k", in.k);
  sizes.kv_heads = in.k.dim(1) / sizes.dim;
  if (sizes.kv_heads == 0 || sizes.heads % sizes.kv_heads != 0) {
    ops::wrong_shape("cudnn: k", "heads that divide those of q", in.k);
  }
  expect_matrix("cudnn: k", in.k, sizes.tokens, sizes.kv_heads * sizes.dim);
  expect_matrix("cudnn: v", in.v, sizes.tokens, sizes.kv_heads * sizes.dim);
  expect_matrix("cudnn: out", out, sizes.tokens, sizes.heads * sizes.dim);
  expect_matrix("cudnn: lse", lse, sizes.tokens, sizes.heads);
  ops::expect_contiguous("cudnn: lse", lse);
  return sizes;
}

void expect_stride(const char* what, const Tensor& x, const Tensor& like) {
  if (x.row_stride() != like.row_stride()) {
    ops::wrong_shape(what, "rows " + std::to_string(like.row_stride()) + " elements apart", x);
  }
}

/// Where element `column` of row 0 lies.
void* at(const Tensor& x, std::int64_t column) {
  return static_cast<char*>(x.raw()) + column * size_of(x.dtype());
}

/// Ids and addresses of one execution.
class Pack {
 public:
  void add(cudnn::Id id, const void* address) {
    ids_.push_back(id);
    addresses_.push_back(const_cast<void*>(address));  // cuDNN's interface has no const
  }
  std::span<const std::int64_t> ids() const { return ids_; }
  std::span<void* const> addresses() const { return addresses_; }

 private:
  std::vector<std::int64_t> ids_;
  std::vector<void*> addresses_;
};

const kernels::Cuda& stream_of(const Device& device) {
  if (device.on_host()) {
    throw InputError("engine.attention = cudnn: cuDNN computes on GPUs, the device is " +
                     device.description() + "; use own");
  }
  if (!cudnn_usable()) {
    throw InputError("engine.attention = cudnn: there is no cuDNN: " + cudnn_library().problem +
                     "; use own");
  }
  return *cuda_of(device);
}

}  // namespace

std::string cudnn_support() {
  const CudnnLibrary& library = cudnn_library();
  return library.problem.empty() ? library.version_text() : "none (" + library.problem + ")";
}

bool cudnn_usable() {
  return cudnn_library().problem.empty();
}

struct LibraryAttention::State {
  struct Close {
    void operator()(cudnn::Handle handle) const { cudnn_library().api.destroy(handle); }
  };

  State(const Device& on, std::int64_t bytes) : device(on), backward_room(bytes), parcel(on) {
    const CudnnApi& api = cudnn_library().api;
    void* const stream = kernels::stream_handle(stream_of(device));
    cudnn::Handle made = nullptr;
    cudnn::check(api.create(&made), "cudnnCreate");
    handle.reset(made);
    cudnn::check(api.set_stream(made, stream), "cudnnSetStream");
  }

  void lay_out(const PackedHeads& in, std::int64_t heads);
  AttentionShape shape_of(const Sizes& sizes, const AttentionPiece& piece) const;
  Pack pack(const PackedHeads& in, const Sizes& sizes, const AttentionPiece& piece) const;
  void* working_memory(std::int64_t bytes);

  Device device;
  std::int64_t backward_room;
  std::unique_ptr<cudnnContext, Close> handle;
  std::map<AttentionShape, cudnn::Plan> forward, backward;
  // The batch that is laid out: what was asked for, and where its arrays lie on the device.
  std::vector<std::int32_t> first_rows;
  std::array<std::int64_t, 4> strides{};  // of q, k, v and lse
  Parcel parcel;
  Tensor lengths;                 // i32 [S]
  std::array<Tensor, 4> offsets;  // i32 [S + 1]
  Buffer memory;
  // Numbers that plans read when they are executed.
  float scale = 1.0f;
  const float one = 1.0f, lowest = lowest_score;
};

/// Lengths and offsets of the batch go to the device, unless they are there from the call before.
void LibraryAttention::State::lay_out(const PackedHeads& in, std::int64_t heads) {
  scale = in.scale;
  const std::array<std::int64_t, 4> wanted{in.q.row_stride(), in.k.row_stride(), in.v.row_stride(),
                                           heads};
  if (wanted == strides && std::ranges::equal(first_rows, in.first_rows)) return;
  const auto count = static_cast<std::int64_t>(in.first_rows.size()) - 1;
  if (count < 1 || in.first_rows.front() != 0 || in.first_rows.back() != in.q.dim(0)) {
    throw Error("cudnn: first_rows are not those of " + std::to_string(in.q.dim(0)) + " rows");
  }
  if (in.q.dim(0) * std::ranges::max(wanted) > std::numeric_limits<std::int32_t>::max()) {
    throw Error("cudnn: " + std::to_string(in.q.dim(0)) + " rows of " +
                std::to_string(std::ranges::max(wanted)) + " elements are too many for one batch");
  }
  constexpr DType i32 = DType::i32;
  const auto [length, q, k, v, stats] = parcel.shape<5>({{i32, {count}},
                                                         {i32, {count + 1}},
                                                         {i32, {count + 1}},
                                                         {i32, {count + 1}},
                                                         {i32, {count + 1}}});
  lengths = length;
  offsets = {q, k, v, stats};
  for (std::int64_t s = 0; s <= count; ++s) {
    const auto row = in.first_rows[static_cast<std::size_t>(s)];
    for (std::size_t i = 0; i < offsets.size(); ++i) {
      parcel.host<std::int32_t>(offsets[i])[s] = static_cast<std::int32_t>(row * wanted[i]);
    }
    if (s == count) break;
    const auto rows = in.first_rows[static_cast<std::size_t>(s) + 1] - row;
    if (rows < 1) throw Error("cudnn: sequence " + std::to_string(s) + " is empty");
    parcel.host<std::int32_t>(lengths)[s] = rows;
  }
  parcel.send();
  strides = wanted;
  first_rows.assign(in.first_rows.begin(), in.first_rows.end());
}

AttentionShape LibraryAttention::State::shape_of(const Sizes& sizes,
                                                 const AttentionPiece& piece) const {
  return {piece.sequences, piece.rows, piece.kv_heads * (sizes.heads / sizes.kv_heads),
          piece.kv_heads,  sizes.dim,  strides[0],
          strides[1],      strides[2], strides[3]};
}

/// What forward and backward read alike.
Pack LibraryAttention::State::pack(const PackedHeads& in, const Sizes& sizes,
                                   const AttentionPiece& piece) const {
  const std::int64_t head = piece.first_kv_head * (sizes.heads / sizes.kv_heads);
  Pack pack;
  pack.add(cudnn::id_q, at(in.q, head * sizes.dim));
  pack.add(cudnn::id_k, at(in.k, piece.first_kv_head * sizes.dim));
  pack.add(cudnn::id_v, at(in.v, piece.first_kv_head * sizes.dim));
  pack.add(cudnn::id_lengths_q, at(lengths, piece.first));
  pack.add(cudnn::id_lengths_k, at(lengths, piece.first));
  pack.add(cudnn::id_offsets_q, at(offsets[0], piece.first));
  pack.add(cudnn::id_offsets_k, at(offsets[1], piece.first));
  pack.add(cudnn::id_offsets_v, at(offsets[2], piece.first));
  pack.add(cudnn::id_offsets_stats, at(offsets[3], piece.first));
  pack.add(cudnn::id_scale, &scale);
  pack.add(cudnn::id_lowest, &lowest);
  return pack;
}

void* LibraryAttention::State::working_memory(std::int64_t bytes) {
  if (memory.tensor().size() < bytes) memory.reserve(device, DType::u8, {bytes});
  return memory.tensor().raw();
}

LibraryAttention::LibraryAttention(const Device& device, std::int64_t backward_room)
    : state_(std::make_unique<State>(device, backward_room)) {}
LibraryAttention::~LibraryAttention() = default;
LibraryAttention::LibraryAttention(LibraryAttention&&) noexcept = default;
LibraryAttention& LibraryAttention::operator=(LibraryAttention&&) noexcept = default;

std::int64_t LibraryAttention::backward_bytes(std::int64_t sequences, std::int64_t rows,
                                              std::int64_t heads, std::int64_t kv_heads,
                                              std::int64_t dim) {
  std::vector<std::int32_t> first_rows;
  for (std::int64_t s = 0; s <= sequences; ++s) {
    first_rows.push_back(static_cast<std::int32_t>(s * rows));
  }
  const std::int64_t group = heads / kv_heads;
  std::int64_t most = 0;
  for (const AttentionPiece& piece :
       attention_pieces(first_rows, kv_heads, 2 * group, usual_room)) {
    // ds of all pairs in bf16, row sums in f32, and for groups dk and dv of each query head in bf16
    const std::int64_t of_row = 2 * piece.rows + 4 + (group > 1 ? 2 * 2 * dim : 0);
    most = std::max(most, piece.sequences * piece.kv_heads * group * piece.rows * of_row);
  }
  return most;
}

std::int64_t LibraryAttention::plans() const {
  return static_cast<std::int64_t>(state_->forward.size() + state_->backward.size());
}

namespace {

/// The plan of this shape, made when it is first asked for.
template <class Make>
const cudnn::Plan& plan_of(std::map<AttentionShape, cudnn::Plan>& plans,
                           const AttentionShape& shape, cudnn::Handle handle, Make&& make) {
  const auto found = plans.find(shape);
  if (found != plans.end()) return found->second;
  return plans.emplace(shape, make(shape, cudnn::Target{handle, nullptr})).first->second;
}

}  // namespace

void LibraryAttention::forward(Tensor& out, Tensor& lse, const PackedHeads& in) {
  State& s = *state_;
  const Sizes sizes = sizes_of(in, out, lse);
  expect_stride("cudnn: out", out, in.q);
  s.lay_out(in, sizes.heads);
  constexpr auto unlimited = std::numeric_limits<std::int64_t>::max();
  for (const AttentionPiece& piece :
       attention_pieces(in.first_rows, sizes.kv_heads, 1, unlimited)) {
    const cudnn::Plan& plan =
        plan_of(s.forward, s.shape_of(sizes, piece), s.handle.get(), cudnn::forward_plan);
    Pack pack = s.pack(in, sizes, piece);
    pack.add(cudnn::id_out, out.raw());
    pack.add(cudnn::id_stats, lse.raw());
    plan.execute(s.handle.get(), pack.ids(), pack.addresses(), s.working_memory(plan.workspace()));
  }
}

void LibraryAttention::backward(Tensor& dq, Tensor& dk, Tensor& dv, const Tensor& dout,
                                const Tensor& out, const Tensor& lse, const PackedHeads& in) {
  State& s = *state_;
  const Sizes sizes = sizes_of(in, out, lse);
  const std::int64_t group = sizes.heads / sizes.kv_heads;
  for (const auto& [what, x, like] :
       {std::tuple<const char*, const Tensor*, const Tensor*>{"cudnn: out", &out, &in.q},
        {"cudnn: dout", &dout, &in.q},
        {"cudnn: dq", &dq, &in.q},
        {"cudnn: dk", &dk, &in.k},
        {"cudnn: dv", &dv, &in.v}}) {
    expect_matrix(what, *x, like->dim(0), like->dim(1));
    expect_stride(what, *x, *like);
  }
  s.lay_out(in, sizes.heads);
  for (const AttentionPiece& piece :
       attention_pieces(in.first_rows, sizes.kv_heads, 2 * group, s.backward_room)) {
    const AttentionShape shape = s.shape_of(sizes, piece);
    const cudnn::Plan& plan = plan_of(s.backward, shape, s.handle.get(), cudnn::backward_plan);
    const std::int64_t sums = shape.sequences * shape.heads * shape.rows * size_of(DType::f32);
    const std::int64_t behind = (sums + alignment - 1) / alignment * alignment;
    char* const memory = static_cast<char*>(s.working_memory(behind + plan.workspace()));
    const std::int64_t kv_column = piece.first_kv_head * sizes.dim, column = kv_column * group;
    Pack pack = s.pack(in, sizes, piece);
    pack.add(cudnn::id_out, at(out, column));
    pack.add(cudnn::id_stats, at(lse, piece.first_kv_head * group));
    pack.add(cudnn::id_dout, at(dout, column));
    pack.add(cudnn::id_dq, at(dq, column));
    pack.add(cudnn::id_dk, at(dk, kv_column));
    pack.add(cudnn::id_dv, at(dv, kv_column));
    pack.add(cudnn::id_one, &s.one);
    pack.add(cudnn::id_row_sums, memory);
    plan.execute(s.handle.get(), pack.ids(), pack.addresses(), memory + behind);
  }
}

}  // namespace fst
