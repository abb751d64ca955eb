#include <gtest/gtest.h>

#include "fst/evolve/reflection.h"
#include "fst/evolve/reply.h"

#include "golden_cases.h"

namespace fst {
namespace {

using Json = nlohmann::ordered_json;

/// Other than text the reference writes as Python does.
RecordValue record_value(const Json& json) {
  if (json.is_object()) {
    std::vector<std::pair<std::string, RecordValue>> entries;
    for (const auto& [key, value] : json.items()) entries.emplace_back(key, record_value(value));
    return RecordValue::map(std::move(entries));
  }
  if (json.is_array()) {
    std::vector<RecordValue> values;
    for (const Json& value : json) values.push_back(record_value(value));
    return RecordValue::list(std::move(values));
  }
  if (json.is_null()) return RecordValue::of("None");
  if (json.is_boolean()) return RecordValue::of(json.get<bool>() ? "True" : "False");
  return RecordValue::of(json.is_string() ? json.get<std::string>() : json.dump());
}

std::string rendered(const Json& record_case, const std::string& current) {
  std::vector<RecordValue> records;
  for (const Json& record : record_case.at("records")) records.push_back(record_value(record));
  const std::string side_info = render_records(records);
  return fill_placeholders(record_case.at("template").get<std::string>(),
                           {{"<curr_param>", current}, {"<side_info>", side_info}});
}

TEST(ReflectionGolden, RecordsAreRenderedAsTheReferenceDoes) {
  int compared = 0;
  for (const Json& record_case : test::golden_cases<Json>("gepa/records.json")) {
    const auto current = record_case.at("current").get<std::string>();
    if (current.find("<side_info>") != std::string::npos) continue;  // ours differs, see below
    EXPECT_EQ(rendered(record_case, current), record_case.at("rendered").get<std::string>());
    ++compared;
  }
  EXPECT_GT(compared, 0);
}

TEST(ReflectionGolden, MarkersInsideTheCurrentTextStayAsTheyAre) {
  // The reference substitutes them. Ours must give what a text without markers gives, with the text
  // put in afterwards.
  const std::string harmless = "\x01";
  for (const Json& record_case : test::golden_cases<Json>("gepa/records.json")) {
    const auto current = record_case.at("current").get<std::string>();
    std::string expected = rendered(record_case, harmless);
    expected.replace(expected.find(harmless), harmless.size(), current);
    EXPECT_EQ(rendered(record_case, current), expected);
  }
}

TEST(ReflectionGolden, RepliesAreParsedAsTheReferenceDoes) {
  for (const Json& reply : test::golden_cases<Json>("gepa/reply_parse.json")) {
    EXPECT_EQ(parse_reply(reply.at("reply").get<std::string>()),
              reply.at("result").get<std::string>())
        << reply;
  }
}

}  // namespace
}  // namespace fst
