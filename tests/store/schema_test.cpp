#include "fst/store/schema.h"

#include <fstream>
#include <regex>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/store/row.h"

#include "rows.h"

namespace fst {
namespace {

TEST(Schema, OneRegularExpressionReadsEveryLine) {
  // What readers in other languages do; it must find exactly what the compiler finds.
  const std::regex line(
      R"re(^FST_DATASET\("(/\w+/\w+)", (\w+), "([^"]*)", "([^"]*)", "([^"]*)", (digest|report)\)$)re");
  std::ifstream file(std::string(FST_SOURCE_DIR) + "/include/fst/store/schema.def");
  std::string text;
  std::size_t next = 0;
  while (std::getline(file, text)) {
    std::smatch match;
    if (!text.starts_with("FST_DATASET")) continue;
    ASSERT_TRUE(std::regex_match(text, match, line)) << text;
    ASSERT_LT(next, columns.size());
    EXPECT_EQ(match[1].str(), columns[next].path);
    EXPECT_EQ(match[2].str(), name_of(columns[next].type));
    EXPECT_EQ(match[5].str(), columns[next].meaning);
    EXPECT_EQ(match[6].str() == "digest", columns[next].use == DigestUse::digest);
    ++next;
  }
  EXPECT_EQ(next, columns.size());
}

TEST(Schema, PathsAreDistinctAndEveryColumnSaysWhatItMeans) {
  std::set<std::string_view> paths;
  for (const Column& column : columns) {
    EXPECT_TRUE(paths.insert(column.path).second) << column.path;
    EXPECT_FALSE(column.meaning.empty()) << column.path;
    EXPECT_FALSE(column.unit.empty()) << column.path;
  }
}

TEST(Schema, TimesStayOutOfTheDigest) {
  for (const Column& column : columns) {
    const bool reported = column.unit == "s" || column.table() == "attempt";
    EXPECT_EQ(column.use == DigestUse::report, reported) << column.path;
  }
}

TEST(Schema, TablesCoverTheColumns) {
  std::size_t next = 0;
  for (const Table& table : tables) {
    EXPECT_EQ(table.begin, next);
    next = table.end;
  }
  EXPECT_EQ(next, columns.size());
  EXPECT_EQ(tables[table_number("population")].name(), "population");
}

TEST(Row, MissingColumnIsNamed) {
  Row row(table_number("population"));
  row.set(dataset("/population/step"), 1);
  try {
    row.cells();
    FAIL() << "no exception";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("/population/cycle"), std::string::npos);
  }
}

TEST(Row, MisuseIsRefused) {
  Row row(table_number("population"));
  EXPECT_THROW(row.set(dataset("/step/lr"), 1.0), Error);                // another table
  EXPECT_THROW(row.set(dataset("/population/step"), 1.5), Error);        // real into integer
  EXPECT_THROW(row.set(dataset("/population/slot"), 1LL << 40), Error);  // out of range
  EXPECT_THROW(row.set(dataset("/population/slot"), "x"), Error);        // text into number
  row.set(dataset("/population/slot"), 1);
  EXPECT_THROW(row.set(dataset("/population/slot"), 1), Error);     // twice
  EXPECT_NO_THROW(row.set(dataset("/population/anchor_mean"), 1));  // integer into real
}

}  // namespace
}  // namespace fst
