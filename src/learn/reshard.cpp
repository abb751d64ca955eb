#include "fst/learn/reshard.h"

#include <algorithm>
#include <utility>

#include "fst/base/error.h"
#include "fst/tensor/ops.h"

namespace fst {

namespace {

/// Rows and columns of the global matrix that a shard holds.
Range rows_of(const ParameterSpec& spec) {
  return {spec.row_begin, spec.row_begin + spec.rows};
}
Range cols_of(const ParameterSpec& spec) {
  return {spec.col_begin, spec.col_begin + spec.cols};
}
Range common(Range a, Range b) {
  return {std::max(a.begin, b.begin), std::min(a.end, b.end)};
}
/// The place of a global element in the flat vector of the shard that holds it.
std::int64_t place_of(const ParameterSpec& spec, std::int64_t row, std::int64_t col) {
  return spec.offset + (row - spec.row_begin) * spec.cols + col - spec.col_begin;
}

}  // namespace

int Holders::member_of(int rank) const {
  const auto found = std::find(ranks.begin(), ranks.end(), rank);
  return found == ranks.end() ? -1 : static_cast<int>(found - ranks.begin());
}

std::vector<std::vector<RowSlab>> buckets_of(const std::vector<ParameterSpec>& specs,
                                             std::int64_t elements) {
  std::vector<std::vector<RowSlab>> buckets;
  std::int64_t room = 0;
  for (std::size_t p = 0; p < specs.size(); ++p) {
    const std::int64_t rows = specs[p].global_rows, cols = specs[p].global_cols;
    for (std::int64_t begin = 0; begin < rows;) {
      if (room < cols) {
        buckets.emplace_back();
        room = std::max(elements, cols);
      }
      const std::int64_t end = std::min(rows, begin + room / cols);
      buckets.back().push_back({p, {begin, end}});
      room -= (end - begin) * cols;
      begin = end;
    }
  }
  return buckets;
}

std::vector<SharedBlock> shared_blocks(const ShardSpecs& from, const ShardSpecs& to,
                                       const std::vector<RowSlab>& bucket) {
  std::vector<SharedBlock> blocks;
  for (const RowSlab& slab : bucket) {
    const ParameterSpec &a = from.specs[slab.parameter], &b = to.specs[slab.parameter];
    if (a.replicated && from.shard.rank != to.shard.rank % from.shard.degree) continue;
    const Range rows = common(common(rows_of(a), rows_of(b)), slab.rows);
    const Range cols = common(cols_of(a), cols_of(b));
    if (rows.size() <= 0 || cols.size() <= 0) continue;
    SharedBlock block{place_of(a, rows.begin, cols.begin),
                      place_of(b, rows.begin, cols.begin),
                      a.cols,
                      b.cols,
                      rows.size(),
                      cols.size()};
    if (block.cols == block.from_stride && block.cols == block.to_stride) {  // one run of memory
      block.cols *= std::exchange(block.rows, 1);
      block.from_stride = block.to_stride = block.cols;
    }
    blocks.push_back(block);
  }
  return blocks;
}

Resharding::Resharding(const Qwen3Config& config, Holders from, Holders to,
                       const Communicator& comm, std::int64_t bucket_elements)
    : from_(std::move(from)), to_(std::move(to)), comm_(&comm) {
  if (from_.units() < 1) throw Error("resharding: nobody holds the weights");
  for (int p = 0; p < from_.degree; ++p) from_specs_.emplace_back(config, Shard{p, from_.degree});
  for (int p = 0; p < to_.degree; ++p) to_specs_.emplace_back(config, Shard{p, to_.degree});
  buckets_ = buckets_of(from_specs_.front().specs, bucket_elements);
}

int Resharding::source_unit(int member) const {
  const int own = from_.member_of(to_.ranks[static_cast<std::size_t>(member)]);
  return own >= 0 ? own / from_.degree : member / to_.degree % from_.units();
}

/// Adds what this rank sends of a bucket: block by block, for each place that receivers its unit
/// serves have. A block of whole rows leaves from where it lies; others are packed first.
void Resharding::add_outgoing(std::vector<OutgoingTensor>& out, const Tensor& flat,
                              const std::vector<RowSlab>& bucket) const {
  const int me = from_.member_of(comm_->rank());
  const ShardSpecs& mine = from_specs_[static_cast<std::size_t>(me % from_.degree)];
  std::int64_t packed = 0;
  for (int place = 0; place < to_.degree; ++place) {
    std::vector<int> peers;
    for (int unit = 0; unit < to_.units(); ++unit) {
      const int member = unit * to_.degree + place;
      if (source_unit(member) == me / from_.degree) peers.push_back(to_.rank_of(unit, place));
    }
    if (peers.empty()) continue;
    const auto& receiver = to_specs_[static_cast<std::size_t>(place)];
    for (const SharedBlock& block : shared_blocks(mine, receiver, bucket)) {
      const Tensor from = flat.block(block.from, block.rows, block.cols, block.from_stride);
      if (from.contiguous()) {
        out.push_back({peers, from});
        continue;
      }
      Tensor copy = packed_.tensor().block(packed, block.rows, block.cols, block.cols);
      ops::copy_rows(copy, from);
      out.push_back({peers, copy});
      packed += block.size();
    }
  }
}

/// Adds what this rank gets of a bucket from each place of the unit that serves it, and the blocks
/// that must be unpacked then.
void Resharding::add_incoming(std::vector<IncomingTensor>& in, std::vector<Unpacking>& unpackings,
                              const Tensor& flat, const std::vector<RowSlab>& bucket) const {
  const int me = to_.member_of(comm_->rank());
  const ShardSpecs& mine = to_specs_[static_cast<std::size_t>(me % to_.degree)];
  std::int64_t packed = 0;
  for (int place = 0; place < from_.degree; ++place) {
    const int peer = from_.rank_of(source_unit(me), place);
    const auto& sender = from_specs_[static_cast<std::size_t>(place)];
    for (const SharedBlock& block : shared_blocks(sender, mine, bucket)) {
      const Tensor to = flat.block(block.to, block.rows, block.cols, block.to_stride);
      if (to.contiguous()) {
        in.push_back({peer, to});
        continue;
      }
      const Tensor copy = received_.tensor().block(packed, block.rows, block.cols, block.cols);
      in.push_back({peer, copy});
      unpackings.push_back({copy, to});
      packed += block.size();
    }
  }
}

void Resharding::run(const Parameters* from, Parameters* to) const {
  const bool packs = from_.degree != to_.degree;  // else all blocks are whole rows at both ends
  for (const std::vector<RowSlab>& bucket : buckets_) {
    std::int64_t elements = 0;
    for (const RowSlab& slab : bucket) {
      elements += slab.rows.size() * from_specs_.front().specs[slab.parameter].global_cols;
    }
    std::vector<OutgoingTensor> out;
    std::vector<IncomingTensor> in;
    std::vector<Unpacking> unpackings;
    if (from != nullptr) {
      if (packs) packed_.reserve(from->flat().device(), DType::f32, {elements});
      add_outgoing(out, from->flat(), bucket);
    }
    if (to != nullptr) {
      if (packs) received_.reserve(to->flat().device(), DType::f32, {elements});
      add_incoming(in, unpackings, to->flat(), bucket);
    }
    comm_->transfer(out, in, "policy weights");
    for (Unpacking& unpacking : unpackings) ops::copy_rows(unpacking.to, unpacking.copy);
  }
}

template <class Float>
std::vector<ArrayPart<Float>> global_parts(const std::vector<ParameterSpec>& specs, Range part,
                                           std::span<Float> values, Replicated replicated) {
  std::vector<ArrayPart<Float>> parts;
  std::int64_t global = 0;  // where the parameter begins in the global vector
  for (const ParameterSpec& spec : specs) {
    const std::int64_t origin = global + spec.row_begin * spec.global_cols + spec.col_begin;
    global += spec.global_rows * spec.global_cols;
    const Range held = common({spec.offset, spec.offset + spec.size()}, part);
    if (held.size() <= 0 || (spec.replicated && replicated == Replicated::leave_out)) continue;
    // A part may begin and end within a row: at most a piece of a row, whole rows, a piece of a
    // row.
    for (std::int64_t begin = held.begin; begin < held.end;) {
      const std::int64_t row = (begin - spec.offset) / spec.cols;
      const std::int64_t col = (begin - spec.offset) % spec.cols;
      const bool whole_rows = spec.cols == spec.global_cols;
      std::int64_t count = held.end - begin;
      std::int64_t width = 0;
      if (!whole_rows && (col != 0 || count < spec.cols)) {
        count = std::min(count, spec.cols - col);
      } else if (!whole_rows) {
        count -= count % spec.cols;
        width = spec.cols;
      }
      parts.push_back({origin + row * spec.global_cols + col,
                       values.subspan(static_cast<std::size_t>(begin - part.begin),
                                      static_cast<std::size_t>(count)),
                       width, width == 0 ? 0 : spec.global_cols});
      begin += count;
    }
  }
  return parts;
}

template std::vector<ArrayPart<float>> global_parts(const std::vector<ParameterSpec>&, Range,
                                                    std::span<float>, Replicated);
template std::vector<ArrayPart<const float>> global_parts(const std::vector<ParameterSpec>&, Range,
                                                          std::span<const float>, Replicated);

}  // namespace fst
