#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "fst/base/types.h"
#include "fst/tensor/ops.h"

namespace fst {

/// Who uses which block of a KV cache, and which beginnings of texts the blocks hold. Knows nothing
/// of the contents.
///
/// A block has users (counted) and may be in the tree of known beginnings: a node is the block of
/// 16 tokens that follow the tokens of its parents. Only full blocks have children. A user of a
/// node uses its parents too, so a block without users was left no earlier than its children were:
/// taking the one left longest ago never cuts a branch.
class BlockPool {
 public:
  using Block = std::int32_t;
  static constexpr Block none = -1;

  /// The longest known beginning of a text: whole blocks to share, then perhaps some tokens of one
  /// more block, to be copied because its user may go on differently.
  struct Beginning {
    std::vector<Block> shared;
    Block copied = none;
    std::int64_t copied_tokens = 0;
    std::int64_t tokens() const {
      return static_cast<std::int64_t>(shared.size()) * ops::kv_block_tokens + copied_tokens;
    }
  };

  explicit BlockPool(std::int64_t blocks) { reset(blocks); }

  std::int64_t blocks() const { return static_cast<std::int64_t>(entries_.size()); }
  /// Blocks that take() can give: never used, or without users.
  std::int64_t available() const { return available_; }

  /// A block with one user; none if all are in use. May forget the beginning left longest ago.
  Block take();
  void retain(Block block);
  /// One user less. A sequence gives its blocks back last one first.
  void release(Block block);

  void find(Beginning& found, std::span<const TokenId> tokens) const;
  /// Makes `block` known as holding `tokens` (1 to 16) after those of `parent` (none: at the
  /// start). False if there is such a node already: then `block` stays private.
  bool publish(Block block, Block parent, std::span<const TokenId> tokens);
  /// Forgets all beginnings; users keep their blocks.
  void forget();
  /// Starts afresh with `blocks` unused blocks.
  void reset(std::int64_t blocks);

 private:
  static constexpr std::size_t width = static_cast<std::size_t>(ops::kv_block_tokens);
  struct Entry {
    std::int32_t users = 0;
    std::int32_t filled = 0;             // known tokens; 0: not in the tree
    Block parent = none;                 // in the tree
    Block previous = none, next = none;  // in the list of blocks without users
    std::array<TokenId, width> tokens{};
    std::vector<Block> children;
  };
  Entry& at(Block block) { return entries_[static_cast<std::size_t>(block)]; }
  const Entry& at(Block block) const { return entries_[static_cast<std::size_t>(block)]; }
  std::vector<Block>& children_of(Block parent) {
    return parent == none ? roots_ : at(parent).children;
  }
  void unlink(Block block);
  void append_idle(Block block);
  void remove_idle(Block block);

  std::vector<Entry> entries_;
  std::vector<Block> roots_;
  Block oldest_ = none, newest_ = none;  // blocks without users, in the order they were left
  std::int64_t available_ = 0;
};

}  // namespace fst
