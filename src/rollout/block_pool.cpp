#include "fst/rollout/block_pool.h"

#include <algorithm>

#include "fst/base/error.h"

namespace fst {

namespace {

std::size_t common_length(std::span<const TokenId> a, std::span<const TokenId> b) {
  const std::size_t limit = std::min(a.size(), b.size());
  return static_cast<std::size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(limit), b.begin()).first -
      a.begin());
}

}  // namespace

void BlockPool::reset(std::int64_t blocks) {
  entries_.assign(static_cast<std::size_t>(blocks), Entry());
  roots_.clear();
  oldest_ = newest_ = none;
  available_ = 0;
  for (Block block = 0; block < blocks; ++block) append_idle(block);
}

void BlockPool::append_idle(Block block) {
  Entry& entry = at(block);
  entry.previous = newest_;
  entry.next = none;
  (newest_ == none ? oldest_ : at(newest_).next) = block;
  newest_ = block;
  ++available_;
}

void BlockPool::remove_idle(Block block) {
  Entry& entry = at(block);
  (entry.previous == none ? oldest_ : at(entry.previous).next) = entry.next;
  (entry.next == none ? newest_ : at(entry.next).previous) = entry.previous;
  --available_;
}

BlockPool::Block BlockPool::take() {
  const Block block = oldest_;
  if (block == none) return none;
  remove_idle(block);
  unlink(block);
  at(block).users = 1;
  return block;
}

void BlockPool::retain(Block block) {
  if (at(block).users++ == 0) remove_idle(block);
}

void BlockPool::release(Block block) {
  Entry& entry = at(block);
  if (entry.users <= 0)
    throw Error("block pool: block " + std::to_string(block) + " is not in use");
  if (--entry.users == 0) append_idle(block);
}

void BlockPool::unlink(Block block) {
  Entry& entry = at(block);
  if (entry.filled == 0) return;
  if (!entry.children.empty()) throw Error("block pool: a block with known successors is taken");
  std::erase(children_of(entry.parent), block);
  entry.filled = 0;
}

void BlockPool::find(Beginning& found, std::span<const TokenId> tokens) const {
  found.shared.clear();
  found.copied = none;
  found.copied_tokens = 0;
  const std::vector<Block>* children = &roots_;
  for (;;) {
    Block best = none;
    std::size_t longest = 0;
    for (const Block child : *children) {
      const Entry& entry = at(child);
      const std::size_t length = common_length(
          tokens, std::span(entry.tokens).first(static_cast<std::size_t>(entry.filled)));
      if (length <= longest) continue;
      best = child;
      longest = length;
    }
    if (longest < width) {
      found.copied = best;
      found.copied_tokens = static_cast<std::int64_t>(longest);
      return;
    }
    found.shared.push_back(best);
    tokens = tokens.subspan(width);
    children = &at(best).children;
  }
}

bool BlockPool::publish(Block block, Block parent, std::span<const TokenId> tokens) {
  std::vector<Block>& siblings = children_of(parent);
  for (const Block sibling : siblings) {
    const Entry& entry = at(sibling);
    if (static_cast<std::size_t>(entry.filled) == tokens.size() &&
        common_length(tokens, entry.tokens) == tokens.size()) {
      return false;
    }
  }
  Entry& entry = at(block);
  std::copy(tokens.begin(), tokens.end(), entry.tokens.begin());
  entry.filled = static_cast<std::int32_t>(tokens.size());
  entry.parent = parent;
  siblings.push_back(block);
  return true;
}

void BlockPool::forget() {
  for (Entry& entry : entries_) {
    entry.filled = 0;
    entry.children.clear();
  }
  roots_.clear();
}

}  // namespace fst
