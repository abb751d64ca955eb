#pragma once

#include <cstdint>
#include <vector>

#include "fst/base/range.h"
#include "fst/comm/communicator.h"
#include "fst/model/parameters.h"
#include "fst/store/checkpoint_file.h"

// Weights between layouts: from the shards of one tensor-parallel degree to those of another, and
// between shards and the global arrays of checkpoints. No rank ever holds a model it was not given.

namespace fst {

/// Where the members of a role hold a model: member i has shard {i % degree, degree} and is rank
/// ranks[i] of the communicator at hand. `degree` consecutive members are a unit, a whole model.
struct Holders {
  int degree = 1;
  std::vector<int> ranks;

  int units() const { return static_cast<int>(ranks.size()) / degree; }
  int rank_of(int unit, int place) const {
    return ranks[static_cast<std::size_t>(unit * degree + place)];
  }
  /// The member that `rank` is; -1: none.
  int member_of(int rank) const;
};

/// A block of a matrix that two shards have in common: rows x cols elements, row r at from + r *
/// from_stride of the sender's flat vector and at to + r * to_stride of the receiver's.
struct SharedBlock {
  std::int64_t from = 0, to = 0;
  std::int64_t from_stride = 0, to_stride = 0;
  std::int64_t rows = 0, cols = 0;
  std::int64_t size() const { return rows * cols; }
};

/// Rows [rows.begin, rows.end) of the global matrix of parameter number `parameter`.
struct RowSlab {
  std::size_t parameter = 0;
  Range rows;
};

/// Cuts a model into buckets of at most `elements` elements (or one row) of the global matrices, in
/// order. A function of the global shapes alone: the same for every shard.
std::vector<std::vector<RowSlab>> buckets_of(const std::vector<ParameterSpec>& specs,
                                             std::int64_t elements);

/// The table of one shard of a model.
struct ShardSpecs {
  ShardSpecs(const Qwen3Config& config, const Shard& place)
      : shard(place), specs(parameter_specs(config, place)) {}
  Shard shard;
  std::vector<ParameterSpec> specs;
};

/// What shard `to` takes of a bucket from shard `from`, in order. Over all shards of the sending
/// degree a receiver gets each of its elements exactly once: what every rank of a unit holds comes
/// from the place to.rank % from.degree.
std::vector<SharedBlock> shared_blocks(const ShardSpecs& from, const ShardSpecs& to,
                                       const std::vector<RowSlab>& bucket);

/// Moves weights from the units of one role to the units of another, each element once to each
/// receiver, a bucket at a time.
class Resharding {
 public:
  /// Elements of a bucket; a rank holds at most that many to send and to receive.
  static constexpr std::int64_t default_bucket = std::int64_t{1} << 24;
  /// A receiver is served by the unit that its own rank belongs to as a sender, if any, else the
  /// receiving units are dealt to the sending units in turn. `comm` must outlive this object.
  Resharding(const Qwen3Config& config, Holders from, Holders to, const Communicator& comm,
             std::int64_t bucket_elements = default_bucket);

  /// `from`, `to`: this rank's weights as a sender and as a receiver, null where it is none.
  /// Collective over the communicator.
  void run(const Parameters* from, Parameters* to) const;
  /// The sending unit that serves member `member` of the receivers.
  int source_unit(int member) const;

 private:
  struct Unpacking {
    Tensor copy, to;
  };
  void add_outgoing(std::vector<OutgoingTensor>& out, const Tensor& flat,
                    const std::vector<RowSlab>& bucket) const;
  void add_incoming(std::vector<IncomingTensor>& in, std::vector<Unpacking>& unpackings,
                    const Tensor& flat, const std::vector<RowSlab>& bucket) const;

  Holders from_, to_;
  std::vector<ShardSpecs> from_specs_, to_specs_;  // by place
  const Communicator* comm_;
  std::vector<std::vector<RowSlab>> buckets_;
  mutable Buffer packed_, received_;  // blocks of a bucket that are parts of rows at one end
};

/// The elements `part` of a shard's flat vector as parts of the global vector, which has all
/// parameters in canonical order whatever the layout. `values` are those elements. What every rank
/// of a unit holds is left out unless `replicated` says otherwise.
enum class Replicated : std::uint8_t { leave_out, include };
template <class Float>
std::vector<ArrayPart<Float>> global_parts(const std::vector<ParameterSpec>& specs, Range part,
                                           std::span<Float> values, Replicated replicated);

}  // namespace fst
