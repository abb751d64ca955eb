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

/// The way of what one rank gives to all that hold the same shard: from rank to rank, each of which
/// passes on what it got, so that nobody sends a byte twice.
struct Chain {
  int from_place = 0, to_place = 0;
  std::vector<int> ranks;   // the owner, then who receives, beginning with the rank behind it
  bool own = false;         // the owner has a place to receive at, too
  std::int64_t packed = 0;  // elements, at most, of a bucket's blocks that lie strided there
  std::int64_t begin = 0;   // where a receiver has these
};

/// Moves weights, as they are held, from the units of one role to the units of another, each
/// element once to each receiver, along chains, a bucket at a time: while a rank passes on one it
/// gets the next.
class Resharding {
 public:
  /// Elements of a bucket; a rank holds at most that many to send and twice as many that came.
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
  const std::vector<Chain>& chains() const { return chains_; }

 private:
  /// A block on its way: contiguous, and its place in the weights, which is the same memory where
  /// the block is whole rows.
  struct Landing {
    Tensor x, to;
  };
  /// What a rank moves at a time.
  struct Step {
    std::vector<OutgoingTensor> out;
    std::vector<IncomingTensor> in;
    std::vector<Landing> landed;
    std::int64_t packed = 0;  // elements of packed_ that are taken
  };
  Chain chain_of(int unit, int from, int to) const;
  void add_chains();
  std::vector<SharedBlock> blocks_of(const Chain& chain, const std::vector<RowSlab>& bucket) const;
  void give(Step& step, const Chain& chain, std::size_t bucket, const Tensor& flat) const;
  void take(Step& step, int peer, const Chain& chain, std::size_t bucket, const Tensor& flat) const;
  void add(Step& step, const Chain& chain, std::size_t number, const Parameters* from,
           Parameters* to) const;
  std::vector<Landing> landings(const Chain& chain, std::size_t bucket, const Tensor& flat) const;
  bool at_hand(std::size_t bucket) const { return bucket < buckets_.size(); }

  Holders from_, to_;
  std::vector<ShardSpecs> from_specs_, to_specs_;  // by place
  const Communicator* comm_;
  std::vector<std::vector<RowSlab>> buckets_;
  std::vector<Chain> chains_;  // by unit of the owner, place of the receivers, place of the owner
  std::size_t steps_ = 0;
  std::int64_t most_ = 0, received_elements_ = 0;  // of a bucket; of received_, for one bucket
  mutable Buffer packed_, received_;  // blocks that are parts of rows at one end; two buckets
};

/// Weights between equal shards: everybody's `weights` become those of rank 0 of `copies` (usually
/// World::copies()), as they are held, up to `bucket_elements` of the flat vector at a time.
/// Collective over `copies`.
void broadcast_weights(Parameters& weights, const Communicator& copies,
                       std::int64_t bucket_elements = Resharding::default_bucket);

/// The elements `part` of a shard's flat vector as parts of the global vector, which has all
/// parameters in canonical order whatever the layout. `values` are those elements. What every rank
/// of a unit holds is left out unless `replicated` says otherwise.
enum class Replicated : std::uint8_t { leave_out, include };
template <class Float>
std::vector<ArrayPart<Float>> global_parts(const std::vector<ParameterSpec>& specs, Range part,
                                           std::span<Float> values, Replicated replicated);

}  // namespace fst
