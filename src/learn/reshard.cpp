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
  for (const std::vector<RowSlab>& bucket : buckets_) {
    std::int64_t elements = 0;
    for (const RowSlab& slab : bucket) {
      elements += slab.rows.size() * from_specs_.front().specs[slab.parameter].global_cols;
    }
    most_ = std::max(most_, elements);
  }
  add_chains();
}

int Resharding::source_unit(int member) const {
  const int own = from_.member_of(to_.ranks[static_cast<std::size_t>(member)]);
  return own >= 0 ? own / from_.degree : member / to_.degree % from_.units();
}

/// The way from a place of a sending unit to a place of the units that it serves.
Chain Resharding::chain_of(int unit, int from, int to) const {
  const int owner = from_.rank_of(unit, from);
  Chain chain;
  chain.from_place = from;
  chain.to_place = to;
  for (int u = 0; u < to_.units(); ++u) {
    if (source_unit(u * to_.degree + to) != unit) continue;
    const int rank = to_.rank_of(u, to);
    if (rank == owner) chain.own = true;
    if (rank != owner) chain.ranks.push_back(rank);
  }
  // Each owner begins elsewhere, so that the links are used evenly.
  std::sort(chain.ranks.begin(), chain.ranks.end());
  const auto behind = std::upper_bound(chain.ranks.begin(), chain.ranks.end(), owner);
  std::rotate(chain.ranks.begin(), behind, chain.ranks.end());
  chain.ranks.insert(chain.ranks.begin(), owner);
  for (const std::vector<RowSlab>& bucket : buckets_) {
    std::int64_t packed = 0;
    for (const SharedBlock& block : blocks_of(chain, bucket)) {
      if (block.rows > 1 && block.cols != block.to_stride) packed += block.size();
    }
    chain.packed = std::max(chain.packed, packed);
  }
  return chain;
}

void Resharding::add_chains() {
  std::size_t longest = 2;  // with the owner
  for (int unit = 0; unit < from_.units(); ++unit) {
    for (int to = 0; to < to_.degree; ++to) {
      std::int64_t end = 0;  // of received_ at this place, which no other unit serves
      for (int from = 0; from < from_.degree; ++from) {
        Chain chain = chain_of(unit, from, to);
        chain.begin = end;
        end += chain.packed;
        longest = std::max(longest, chain.ranks.size());
        if (chain.own || chain.ranks.size() > 1) chains_.push_back(std::move(chain));
      }
      received_elements_ = std::max(received_elements_, end);
    }
  }
  steps_ = buckets_.size() + longest - 2;
}

std::vector<SharedBlock> Resharding::blocks_of(const Chain& chain,
                                               const std::vector<RowSlab>& bucket) const {
  return shared_blocks(from_specs_[static_cast<std::size_t>(chain.from_place)],
                       to_specs_[static_cast<std::size_t>(chain.to_place)], bucket);
}

/// The owner's part: a bucket to the next rank, and to itself. A block of whole rows leaves from
/// where it lies; others are packed first.
void Resharding::give(Step& step, const Chain& chain, std::size_t bucket,
                      const Tensor& flat) const {
  std::vector<int> peers;
  if (chain.ranks.size() > 1) peers.push_back(chain.ranks[1]);
  if (chain.own) peers.push_back(chain.ranks[0]);
  for (const SharedBlock& block : blocks_of(chain, buckets_[bucket])) {
    const Tensor from = flat.block(block.from, block.rows, block.cols, block.from_stride);
    if (from.contiguous()) {
      step.out.push_back({peers, from});
      continue;
    }
    Tensor copy = packed_.tensor().block(step.packed, block.rows, block.cols, block.cols);
    ops::copy_rows(copy, from);
    step.out.push_back({peers, copy});
    step.packed += block.size();
  }
}

/// Where a receiver has what comes of a bucket.
std::vector<Resharding::Landing> Resharding::landings(const Chain& chain, std::size_t bucket,
                                                      const Tensor& flat) const {
  // A bucket is passed on while the next one comes.
  std::int64_t packed = chain.begin + static_cast<std::int64_t>(bucket % 2) * received_elements_;
  std::vector<Landing> landings;
  for (const SharedBlock& block : blocks_of(chain, buckets_[bucket])) {
    const Tensor to = flat.block(block.to, block.rows, block.cols, block.to_stride);
    if (to.contiguous()) {
      landings.push_back({to, to});
      continue;
    }
    landings.push_back({received_.tensor().block(packed, block.rows, block.cols, block.cols), to});
    packed += block.size();
  }
  return landings;
}

void Resharding::take(Step& step, int peer, const Chain& chain, std::size_t bucket,
                      const Tensor& flat) const {
  for (const Landing& landing : landings(chain, bucket, flat)) {
    step.in.push_back({peer, landing.x});
    if (!landing.to.contiguous()) step.landed.push_back(landing);
  }
}

/// This rank's part of a chain in step `number`: the owner gives bucket b in step b, and the ranks
/// behind it have it one after the other.
void Resharding::add(Step& step, const Chain& chain, std::size_t number, const Parameters* from,
                     Parameters* to) const {
  const auto found = std::find(chain.ranks.begin(), chain.ranks.end(), comm_->rank());
  if (found == chain.ranks.end()) return;
  const auto place = static_cast<std::size_t>(found - chain.ranks.begin());
  if (place == 0) {
    if (!at_hand(number)) return;
    give(step, chain, number, from->flat());
    if (chain.own) take(step, comm_->rank(), chain, number, to->flat());
    return;
  }
  if (number + 1 >= place && at_hand(number + 1 - place)) {
    take(step, chain.ranks[place - 1], chain, number + 1 - place, to->flat());
  }
  if (place + 1 < chain.ranks.size() && number >= place && at_hand(number - place)) {
    for (const Landing& landing : landings(chain, number - place, to->flat())) {
      step.out.push_back({{chain.ranks[place + 1]}, landing.x});
    }
  }
}

void Resharding::run(const Parameters* from, Parameters* to) const {
  const bool packs = from_.degree != to_.degree;  // else all blocks are whole rows at both ends
  if (packs && from != nullptr) packed_.reserve(from->flat().device(), from->dtype(), {most_});
  if (received_elements_ > 0 && to != nullptr) {
    received_.reserve(to->flat().device(), to->dtype(), {2 * received_elements_});
  }
  for (std::size_t number = 0; number < steps_; ++number) {
    Step step;
    for (const Chain& chain : chains_) add(step, chain, number, from, to);
    comm_->transfer(step.out, step.in, "policy weights");
    for (Landing& landing : step.landed) ops::copy_rows(landing.to, landing.x);
  }
}

void broadcast_weights(Parameters& weights, const Communicator& copies,
                       std::int64_t bucket_elements) {
  for (std::int64_t begin = 0; begin < weights.size(); begin += bucket_elements) {
    const std::int64_t end = std::min(weights.size(), begin + bucket_elements);
    Tensor bucket = weights.flat().rows(begin, end);
    copies.broadcast(bucket, 0, "policy weights");
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
