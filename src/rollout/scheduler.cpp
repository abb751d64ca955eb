#include "fst/rollout/scheduler.h"

#include <algorithm>

#include "fst/base/error.h"
#include "fst/model/kv_cache.h"

namespace fst {

namespace {

using Block = BlockPool::Block;
constexpr std::int64_t width = ops::kv_block_tokens;

// A prompt waits one step for another that computes at least this many of its first tokens; below
// that, computing them again costs less than the idle place.
constexpr std::int64_t worth_waiting = 4;
// A new sequence leaves one block for every so many in progress: each of those needs a block every
// 16 steps, and taking it from the newcomer at once would throw its prefill away.
constexpr std::int64_t sequences_per_spare_block = 8;

std::int64_t common_length(std::span<const TokenId> a, std::span<const TokenId> b) {
  std::size_t i = 0;
  while (i < a.size() && i < b.size() && a[i] == b[i]) ++i;
  return static_cast<std::int64_t>(i);
}

}  // namespace

void Scheduler::start(std::span<const GenerateRequest> requests) {
  for (Sequence* sequence : running_) give_back(*sequence);
  running_.clear();
  preempted_.clear();
  copies_.clear();
  spare_.clear();
  for (const auto& sequence : storage_) spare_.push_back(sequence.get());
  requests_ = requests;
  make_groups();
}

/// Equal prompts make a group, and groups that begin alike come one after another.
void Scheduler::make_groups() {
  std::vector<std::int32_t> order(requests_.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
  const auto prompt = [&](std::int32_t i) -> const std::vector<TokenId>& {
    return requests_[static_cast<std::size_t>(i)].prompt;
  };
  if (options_.share) {
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int32_t a, std::int32_t b) { return prompt(a) < prompt(b); });
  }
  groups_.clear();
  waiting_.clear();
  for (const std::int32_t i : order) {
    const bool same =
        options_.share && !groups_.empty() && prompt(groups_.back().requests.front()) == prompt(i);
    if (!same) {
      waiting_.push_back(static_cast<std::int32_t>(groups_.size()));
      groups_.emplace_back();
    }
    groups_.back().requests.push_back(i);
  }
}

Sequence* Scheduler::make(Group& group, std::int32_t index) {
  if (spare_.empty()) {
    storage_.push_back(std::make_unique<Sequence>());
    spare_.push_back(storage_.back().get());
  }
  Sequence* sequence = spare_.back();
  spare_.pop_back();
  sequence->request = group.requests[group.next];
  sequence->group = index;
  const GenerateRequest& request = requests_[static_cast<std::size_t>(sequence->request)];
  const std::size_t length =
      request.prompt.size() + static_cast<std::size_t>(request.max_new_tokens);
  sequence->prompt_length = static_cast<std::int64_t>(request.prompt.size());
  sequence->computed = sequence->known_blocks = 0;
  sequence->publishes = options_.share;
  sequence->forks = sequence->draw = sequence->in_flight = 0;
  sequence->ended = false;
  sequence->tokens.reserve(length);
  sequence->tokens.assign(request.prompt.begin(), request.prompt.end());
  sequence->logprobs.clear();
  sequence->logprobs.reserve(static_cast<std::size_t>(request.max_new_tokens));
  sequence->blocks.clear();
  sequence->blocks.reserve(static_cast<std::size_t>(blocks_for(static_cast<std::int64_t>(length))));
  return sequence;
}

const std::vector<Scheduler::Work>& Scheduler::plan() {
  std::erase_if(waiting_,
                [&](std::int32_t g) { return groups_[static_cast<std::size_t>(g)].left() == 0; });
  work_.clear();
  make_room();
  std::int64_t budget = add_rows();
  admit_preempted(budget);
  if (preempted_.empty()) admit_waiting(budget);
  if (work_.empty() && !done()) throw Error("scheduler: nothing can run; a request does not fit");
  if (!work_.empty()) ++counts_.steps;
  for (const Work& work : work_) counts_.rows += work.rows;
  return work_;
}

/// Every sequence in progress has blocks for all its tokens, or is preempted.
void Scheduler::make_room() {
  for (std::size_t i = 0; i < running_.size(); ++i) {
    Sequence* sequence = running_[i];
    while (static_cast<std::int64_t>(sequence->blocks.size()) <
           blocks_for(static_cast<std::int64_t>(sequence->tokens.size()))) {
      const Block block = pool_.take();
      if (block != BlockPool::none) {
        sequence->blocks.push_back(block);
        continue;
      }
      preempt();
      if (i == running_.size()) return;  // it was the youngest itself
    }
  }
}

void Scheduler::preempt() {
  Sequence* youngest = running_.back();
  running_.pop_back();
  if (youngest->forks > 0) groups_[static_cast<std::size_t>(youngest->group)].in_flight = false;
  give_back(*youngest);
  preempted_.push_front(youngest);
  ++counts_.preemptions;
}

void Scheduler::give_back(Sequence& sequence) {
  while (!sequence.blocks.empty()) {
    pool_.release(sequence.blocks.back());
    sequence.blocks.pop_back();
  }
  sequence.computed = sequence.known_blocks = 0;
  sequence.publishes = options_.share;
  sequence.forks = 0;
}

/// The rows of all sequences in progress; returns what is left of the chunk.
std::int64_t Scheduler::add_rows() {
  std::int64_t budget = options_.prefill_chunk;
  for (Sequence* sequence : running_) {
    const std::int64_t pending = sequence->pending();
    const std::int64_t rows = pending == 1 ? 1 : std::min(pending, budget);
    if (rows == 0) continue;
    if (pending > 1) budget -= rows;
    work_.push_back({sequence, rows});
  }
  return budget;
}

/// Places taken, with those of samples that will fork.
std::int64_t Scheduler::reserved() const {
  std::int64_t places = 0;
  for (const Sequence* sequence : running_) places += 1 + sequence->forks;
  return places;
}

void Scheduler::admit_preempted(std::int64_t& budget) {
  while (budget > 0 && !preempted_.empty() && reserved() < options_.max_batch) {
    Sequence* sequence = preempted_.front();
    look_up(sequence->tokens);
    if (!admit(*sequence, budget)) return;
    preempted_.pop_front();
  }
}

void Scheduler::admit_waiting(std::int64_t& budget) {
  std::int64_t places = reserved();
  for (const std::int32_t index : waiting_) {
    if (budget == 0 || places >= options_.max_batch) return;
    Group& group = groups_[static_cast<std::size_t>(index)];
    if (group.in_flight || group.left() == 0) continue;
    const std::int64_t wanted =
        std::min(static_cast<std::int64_t>(group.left()), options_.max_batch);
    if (places + wanted > options_.max_batch) return;
    const std::span<const TokenId> prompt =
        requests_[static_cast<std::size_t>(group.requests[group.next])].prompt;
    look_up(prompt);
    if (better_later(prompt)) continue;
    Sequence* sequence = make(group, index);
    if (!admit(*sequence, budget)) {
      spare_.push_back(sequence);
      return;
    }
    ++group.next;
    sequence->forks = static_cast<std::int32_t>(wanted) - 1;
    group.in_flight = wanted > 1;
    places += wanted;
  }
}

/// What is known of `tokens`; at least the last one is left to compute, for its logits.
void Scheduler::look_up(std::span<const TokenId> tokens) {
  if (options_.share) {
    pool_.find(found_, tokens.first(tokens.size() - 1));
  } else {
    found_ = {};
  }
}

/// Whether a prompt that is being computed begins like `prompt` for clearly longer than found_.
bool Scheduler::better_later(std::span<const TokenId> prompt) const {
  return std::any_of(running_.begin(), running_.end(), [&](const Sequence* sequence) {
    if (sequence->computed >= sequence->prompt_length || !sequence->publishes) return false;
    const auto other =
        std::span(sequence->tokens).first(static_cast<std::size_t>(sequence->prompt_length));
    return common_length(prompt, other) >= found_.tokens() + worth_waiting;
  });
}

/// Gives `sequence` its blocks, beginning with found_, and its first rows. False if there is no
/// room.
bool Scheduler::admit(Sequence& sequence, std::int64_t& budget) {
  if (!take_blocks(sequence, found_)) {
    // Alone it fits, but not always beside a block that it would copy from.
    if (!running_.empty() || !take_blocks(sequence, {})) return false;
  }
  counts_.shared_tokens += sequence.computed;
  const std::int64_t rows = std::min(sequence.pending(), budget);
  budget -= rows;
  running_.push_back(&sequence);
  work_.push_back({&sequence, rows});
  return true;
}

std::int64_t Scheduler::spare_blocks(std::int64_t sequences) {
  return (sequences + sequences_per_spare_block - 1) / sequences_per_spare_block;
}

bool Scheduler::take_blocks(Sequence& sequence, const BlockPool::Beginning& found) {
  for (const Block block : found.shared) {
    pool_.retain(block);
    sequence.blocks.push_back(block);
  }
  if (found.copied != BlockPool::none) pool_.retain(found.copied);
  const std::int64_t missing = blocks_for(static_cast<std::int64_t>(sequence.tokens.size())) -
                               static_cast<std::int64_t>(sequence.blocks.size());
  const std::int64_t spare = spare_blocks(static_cast<std::int64_t>(running_.size()));
  const bool room = pool_.available() >= missing + spare;
  for (std::int64_t i = 0; room && i < missing; ++i) sequence.blocks.push_back(pool_.take());
  if (found.copied != BlockPool::none) pool_.release(found.copied);
  if (!room) {
    give_back(sequence);
    return false;
  }
  sequence.known_blocks = static_cast<std::int64_t>(found.shared.size());
  sequence.computed = found.tokens();
  if (found.copied != BlockPool::none) {
    copies_.push_back({sequence.blocks[found.shared.size()], found.copied});
    ++counts_.copied_blocks;
  }
  return true;
}

void Scheduler::take_copies(std::vector<Copy>& copies) {
  copies.clear();
  copies.swap(copies_);
}

void Scheduler::computed(const Work& work) {
  Sequence& sequence = *work.sequence;
  sequence.computed += work.rows;
  const std::int64_t end = std::min(sequence.computed, sequence.prompt_length);
  while (sequence.publishes && sequence.known_blocks * width < end) {
    const std::int64_t begin = sequence.known_blocks * width;
    const std::int64_t length = std::min(width, end - begin);
    // The prompt's last block is known as far as the prompt goes; its user writes on behind that.
    if (length < width && end < sequence.prompt_length) return;
    const auto i = static_cast<std::size_t>(sequence.known_blocks);
    const Block parent = i == 0 ? BlockPool::none : sequence.blocks[i - 1];
    const auto tokens =
        std::span(sequence.tokens)
            .subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(length));
    sequence.publishes = pool_.publish(sequence.blocks[i], parent, tokens);
    if (sequence.publishes) ++sequence.known_blocks;
  }
}

const std::vector<Sequence*>& Scheduler::fork(Sequence& leader) {
  forked_.clear();
  if (leader.forks == 0) return forked_;
  Group& group = groups_[static_cast<std::size_t>(leader.group)];
  const auto full = static_cast<std::size_t>(leader.prompt_length / width);
  const bool partial = leader.prompt_length % width != 0;
  for (; leader.forks > 0; --leader.forks) {
    const Block copy = partial ? pool_.take() : BlockPool::none;
    if (partial && copy == BlockPool::none) break;  // they will find the prompt's blocks later
    Sequence* sequence = make(group, leader.group);
    ++group.next;
    for (std::size_t i = 0; i < full; ++i) {
      pool_.retain(leader.blocks[i]);
      sequence->blocks.push_back(leader.blocks[i]);
    }
    if (partial) {
      sequence->blocks.push_back(copy);
      copies_.push_back({copy, leader.blocks[full]});
      ++counts_.copied_blocks;
    }
    sequence->computed = leader.prompt_length;
    sequence->publishes = false;
    counts_.shared_tokens += leader.prompt_length;
    running_.push_back(sequence);
    forked_.push_back(sequence);
  }
  leader.forks = 0;
  group.in_flight = false;
  return forked_;
}

void Scheduler::assume(Sequence& sequence, std::int32_t draw) {
  sequence.tokens.push_back(Sequence::unknown);
  sequence.draw = draw;
  ++sequence.in_flight;
  const GenerateRequest& request = requests_[static_cast<std::size_t>(sequence.request)];
  if (sequence.drawn() == request.max_new_tokens) leave(sequence);
}

bool Scheduler::collect(Sequence& sequence) {
  --sequence.in_flight;
  if (!sequence.ended) return true;
  ++counts_.dropped_draws;
  if (sequence.in_flight == 0) spare_.push_back(&sequence);
  return false;
}

void Scheduler::finish(Sequence& sequence) {
  sequence.ended = true;
  leave(sequence);
  if (sequence.in_flight == 0) spare_.push_back(&sequence);
}

/// Takes a sequence out of all lists; it has nothing more to compute.
void Scheduler::leave(Sequence& sequence) {
  give_back(sequence);
  std::erase(running_, &sequence);
  std::erase(preempted_, &sequence);
}

}  // namespace fst
