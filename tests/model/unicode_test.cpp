#include "fst/model/unicode.h"

#include <gtest/gtest.h>

namespace fst::unicode {
namespace {

TEST(Nfc, ComposesAndKeepsWhatIsNoTrailingConsonant) {
  EXPECT_EQ(nfc("e\xCC\x81"), "\xC3\xA9");
  EXPECT_EQ(nfc("\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8"),
            "\xEA\xB0\x81");                                           // U+1100 1161 11A8: U+AC01
  const std::string syllable = "\xEA\xB0\x80", base = "\xE1\x86\xA7";  // U+AC00, U+11A7
  EXPECT_EQ(nfc(syllable + base), syllable + base);
  EXPECT_EQ(nfc(base + base + "e\xCC\x81" + base), base + base + "\xC3\xA9" + base);
  EXPECT_EQ(nfc(std::string("a\0b", 3)), std::string("a\0b", 3));
  EXPECT_EQ(nfc(""), "");
}

TEST(WhiteSpace, IsThatOfUnicode) {
  EXPECT_EQ(leading_space("\xE3\x80\x80x"), 3u);  // U+3000
  EXPECT_EQ(trailing_space("x\xC2\xA0"), 2u);     // U+00A0
  EXPECT_EQ(leading_space("\xE1\xA0\x8E"), 0u);   // U+180E is none
  EXPECT_EQ(leading_space(""), 0u);
  EXPECT_EQ(trailing_space(""), 0u);
}

TEST(FirstIllFormed, IsTheFirstByteOfTheSequence) {
  EXPECT_EQ(first_ill_formed("a\xE2\x82\xAC\xF0\x9F\x98\x80"), std::nullopt);
  EXPECT_EQ(first_ill_formed("a\xE2\x82"), 1u);
  EXPECT_EQ(first_ill_formed("ab\xED\xA0\x80"), 2u);
  EXPECT_EQ(first_ill_formed("\xF4\x90\x80\x80"), 0u);
}

TEST(Repair, EmitsWholeCharactersAndOneReplacementPerBrokenRun) {
  const std::string broken = "\xEF\xBF\xBD";
  Repair repair;
  std::string out;
  repair.push("a\xE4\xBD", out);
  EXPECT_EQ(out, "a");
  repair.push("\xA0\xF0\x9F", out);
  EXPECT_EQ(out, "a\xE4\xBD\xA0");
  repair.push("b\xED\xA0", out);
  EXPECT_EQ(out, "a\xE4\xBD\xA0" + broken + "b");
  repair.finish(out);
  EXPECT_EQ(out, "a\xE4\xBD\xA0" + broken + "b" + broken + broken);
}

}  // namespace
}  // namespace fst::unicode
