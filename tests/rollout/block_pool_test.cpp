#include "fst/rollout/block_pool.h"

#include <gtest/gtest.h>

#include "fst/base/error.h"

namespace fst {
namespace {

using Block = BlockPool::Block;

std::vector<TokenId> counting(TokenId first, std::size_t count) {
  std::vector<TokenId> tokens(count);
  for (std::size_t i = 0; i < count; ++i) tokens[i] = first + static_cast<TokenId>(i);
  return tokens;
}

BlockPool::Beginning find(const BlockPool& pool, const std::vector<TokenId>& tokens) {
  BlockPool::Beginning found;
  pool.find(found, tokens);
  return found;
}

TEST(BlockPool, GivesEveryBlockOnceAndTakesItBack) {
  BlockPool pool(3);
  const Block a = pool.take(), b = pool.take(), c = pool.take();
  EXPECT_NE(a, b);
  EXPECT_NE(b, c);
  EXPECT_EQ(pool.take(), BlockPool::none);
  pool.retain(b);
  pool.release(b);
  EXPECT_EQ(pool.available(), 0);
  pool.release(b);
  EXPECT_EQ(pool.available(), 1);
  EXPECT_EQ(pool.take(), b);
  pool.release(a);
  EXPECT_THROW(pool.release(a), Error);
}

TEST(BlockPool, FindsTheLongestBeginningToTheToken) {
  BlockPool pool(4);
  const auto tokens = counting(0, 37);
  const std::span<const TokenId> all = tokens;
  const Block first = pool.take(), second = pool.take(), third = pool.take(), other = pool.take();
  EXPECT_TRUE(pool.publish(first, BlockPool::none, all.subspan(0, 16)));
  EXPECT_TRUE(pool.publish(second, first, all.subspan(16, 16)));
  EXPECT_TRUE(pool.publish(third, second, all.subspan(32, 5)));
  EXPECT_FALSE(pool.publish(other, first, all.subspan(16, 16))) << "known already";
  auto found = find(pool, counting(0, 40));
  EXPECT_EQ(found.shared, (std::vector<Block>{first, second}));
  EXPECT_EQ(found.copied, third);
  EXPECT_EQ(found.tokens(), 37);
  auto changed = tokens;
  changed[20] = 99;
  found = find(pool, changed);
  EXPECT_EQ(found.shared, std::vector<Block>{first});
  EXPECT_EQ(found.copied, second);
  EXPECT_EQ(found.copied_tokens, 4);
  EXPECT_EQ(find(pool, {99}).tokens(), 0);
  EXPECT_EQ(find(pool, {}).tokens(), 0);
  EXPECT_EQ(find(pool, counting(0, 15)).copied_tokens, 15) << "the beginning of a full block";
}

TEST(BlockPool, ForgetsTheBeginningLeftLongestAgoLeavesFirst) {
  BlockPool pool(3);
  const auto tokens = counting(0, 32), others = counting(100, 16);
  const Block first = pool.take(), second = pool.take(), third = pool.take();
  pool.publish(first, BlockPool::none, std::span(tokens).first(16));
  pool.publish(second, first, std::span(tokens).last(16));
  pool.publish(third, BlockPool::none, others);
  pool.release(second);
  pool.release(first);
  pool.release(third);
  pool.retain(first);  // used again, without its child
  pool.release(first);
  EXPECT_EQ(pool.take(), second);
  EXPECT_EQ(find(pool, tokens).shared, std::vector<Block>{first});
  EXPECT_EQ(pool.take(), third);
  EXPECT_EQ(find(pool, others).tokens(), 0);
  EXPECT_EQ(pool.take(), first);
  EXPECT_EQ(find(pool, tokens).tokens(), 0);
}

TEST(BlockPool, ForgettingKeepsTheUsersOfBlocks) {
  BlockPool pool(2);
  const Block a = pool.take();
  pool.publish(a, BlockPool::none, counting(0, 16));
  pool.forget();
  EXPECT_EQ(find(pool, counting(0, 16)).tokens(), 0);
  EXPECT_EQ(pool.available(), 1);
  pool.release(a);
  EXPECT_EQ(pool.available(), 2);
}

}  // namespace
}  // namespace fst
