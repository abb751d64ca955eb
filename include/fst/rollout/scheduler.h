#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "fst/rollout/block_pool.h"
#include "fst/rollout/completion.h"

namespace fst {

/// A request in progress. Its tokens are the prompt and what was drawn so far; the keys and values
/// of the first `computed` lie in `blocks`. When all are computed, the next token is drawn.
///
/// What a step draws is there for the scheduler as soon as the step is queued, as an unknown token.
/// When a step is planned, only the last token of a sequence can be unknown, and then it is what
/// the last step that drew at all drew.
struct Sequence {
  static constexpr TokenId unknown = -1;

  std::int32_t request = 0;  // index in the call
  std::int32_t group = 0;    // index of its prompt
  std::int64_t prompt_length = 0, computed = 0;
  std::int64_t known_blocks = 0;  // leading blocks that are nodes of the pool's tree
  bool publishes = true;          // its next prompt blocks may become nodes
  std::int32_t forks = 0;         // samples of the same prompt that start where its prompt ends
  std::int32_t draw = 0;          // number of its last draw among those of its step
  std::int32_t in_flight = 0;     // draws that nobody has looked at
  bool ended = false;             // its last token is known
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;  // of the tokens drawn and known
  std::vector<BlockPool::Block> blocks;

  std::int64_t drawn() const { return static_cast<std::int64_t>(tokens.size()) - prompt_length; }
  std::int64_t pending() const { return static_cast<std::int64_t>(tokens.size()) - computed; }
};

struct SchedulerOptions {
  std::int64_t max_batch = 256;      // sequences in progress
  std::int64_t prefill_chunk = 512;  // rows per step of sequences with more than one row to compute
  bool share = true;                 // share blocks between prompts and between samples
};

/// Decides what each step computes: continuous batching over a pool of blocks. Every sequence in
/// progress that waits for its next token gets its one row; what is left of the chunk goes to
/// prompts. Out of blocks, the youngest sequence gives its blocks back and is computed again later.
/// None of this changes a bit of any completion, since a row depends on its own sequence alone.
///
/// The caller may queue a step before it knows what the one before it drew. A sequence that ends by
/// its length leaves when its last draw is queued; one that turns out to have ended by a stop may
/// have a row too many by then, whose draw is dropped. Blocks that a sequence gives back are
/// written again only by work queued later.
class Scheduler {
 public:
  struct Work {
    Sequence* sequence;
    std::int64_t rows;  // the tokens [computed, computed + rows)
  };
  struct Copy {
    BlockPool::Block to, from;
  };
  /// Counts over the life of the scheduler. For reports only.
  struct Counts {
    std::int64_t steps = 0, rows = 0;
    std::int64_t shared_tokens = 0;  // tokens whose keys were there already
    std::int64_t preemptions = 0, copied_blocks = 0;
    std::int64_t dropped_draws = 0;  // of sequences that had ended
  };

  explicit Scheduler(const SchedulerOptions& options) : options_(options), pool_(0) {}

  /// Begins a call. `requests` must outlive it; each fits alone into the pool. Ends what an earlier
  /// call left behind.
  void start(std::span<const GenerateRequest> requests);
  bool done() const { return running_.empty() && preempted_.empty() && waiting_.empty(); }
  /// What to compute now; never empty unless done(). Valid until the next call.
  const std::vector<Work>& plan();
  /// Block copies to make, in order, before the work of plan() is computed; hands them over once.
  void take_copies(std::vector<Copy>& copies);
  /// The rows of `work` are computed: its prompt blocks become known.
  void computed(const Work& work);
  /// Starts further samples of the prompt that `leader` has just computed, as far as there is room;
  /// all its tokens are computed, and theirs with it. Valid until the next call of fork().
  const std::vector<Sequence*>& fork(Sequence& leader);
  /// Once a step is queued, for each of its draws: `sequence` has one more token, unknown yet, the
  /// draw of this number in the step. If that is all it may have, it gives its blocks back.
  void assume(Sequence& sequence, std::int32_t draw);
  /// The oldest draw of `sequence` that nobody has looked at is known now. False: it ended before,
  /// and the draw is to be dropped.
  bool collect(Sequence& sequence);
  /// What collect() said was the last token: the blocks are given back, if they are not yet, and
  /// the object may serve another when its draws in flight are collected.
  void finish(Sequence& sequence);

  /// Blocks that must be free for one more sequence beside `sequences`, so that they can grow.
  static std::int64_t spare_blocks(std::int64_t sequences);

  BlockPool& pool() { return pool_; }
  const Counts& counts() const { return counts_; }

 private:
  /// The requests with one prompt.
  struct Group {
    std::vector<std::int32_t> requests;
    std::size_t next = 0;    // first one not started
    bool in_flight = false;  // a leader computes the prompt and will fork
    std::size_t left() const { return requests.size() - next; }
  };

  void make_groups();
  Sequence* make(Group& group, std::int32_t index);
  void make_room();
  void preempt();
  void leave(Sequence& sequence);
  void give_back(Sequence& sequence);
  std::int64_t add_rows();
  void admit_preempted(std::int64_t& budget);
  void admit_waiting(std::int64_t& budget);
  bool admit(Sequence& sequence, std::int64_t& budget);
  bool take_blocks(Sequence& sequence, const BlockPool::Beginning& found);
  void look_up(std::span<const TokenId> tokens);
  bool better_later(std::span<const TokenId> prompt) const;
  std::int64_t reserved() const;

  SchedulerOptions options_;
  BlockPool pool_;
  Counts counts_;
  std::span<const GenerateRequest> requests_;
  std::vector<Group> groups_;
  std::vector<std::int32_t> waiting_;  // groups with requests not started
  std::vector<Sequence*> running_;     // oldest first
  std::deque<Sequence*> preempted_;    // oldest first
  std::vector<std::unique_ptr<Sequence>> storage_;
  std::vector<Sequence*> spare_;
  std::vector<Work> work_;
  std::vector<Copy> copies_;
  std::vector<Sequence*> forked_;
  BlockPool::Beginning found_;
};

}  // namespace fst
