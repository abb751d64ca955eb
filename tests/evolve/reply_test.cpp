#include "fst/evolve/reply.h"

#include <gtest/gtest.h>

namespace fst {
namespace {

TEST(Reply, TableOfTheSpecificationComesOut) {
  EXPECT_EQ(parse_reply("Here:\n```\nfoo\n```\nbye"), "foo");
  EXPECT_EQ(parse_reply("```foo bar\nbaz```"), "foo bar\nbaz");
  EXPECT_EQ(parse_reply("```\nfoo"), "foo");
  EXPECT_EQ(parse_reply("foo\n```"), "foo");
  EXPECT_EQ(parse_reply("x ``` y"), "x ``` y");
  EXPECT_EQ(parse_reply("```foo```"), "foo");
  EXPECT_EQ(parse_reply("``````"), "");
  EXPECT_EQ(parse_reply("```a\n```b\n```"), "```b");
  EXPECT_EQ(parse_reply("```json\n"), "");
}

TEST(Reply, AReplyWithoutFencesIsTheWholeText) {
  EXPECT_EQ(parse_reply("rules\nredReverse\nblueSort"), "rules\nredReverse\nblueSort");
}

TEST(Reply, UnicodeSpaceIsTrimmedAndEndsALanguageTag) {
  EXPECT_EQ(parse_reply("\u3000foo\u00a0\u2028"), "foo");
  EXPECT_EQ(parse_reply("```\u2003x\nfoo```"), "x\nfoo");
  EXPECT_EQ(parse_reply("\u200bfoo"), "\u200bfoo") << "a zero-width space is not a space";
}

TEST(Reply, BytesThatAreNotUtf8AreText) {
  EXPECT_EQ(parse_reply("\xe3\x80"), "\xe3\x80");
  EXPECT_EQ(parse_reply("```\xff\n\x80 x\n```"), "\x80 x");
}

TEST(Reply, SpaceAloneIsEmpty) {
  EXPECT_EQ(parse_reply(" \n\t\u2009\r\n"), "");
}

}  // namespace
}  // namespace fst
