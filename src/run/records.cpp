#include "fst/run/records.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <unistd.h>

#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/model/unicode.h"

namespace fst {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int most_levels = 100;  // deeper lines are refused: later functions recurse

/// Parses an object; `place` for messages. The library keeps the last of equal names in silence.
Json parse_object(const std::string& line, const std::string& place) {
  std::set<std::string> names;
  const Json::parser_callback_t note_names = [&](int depth, Json::parse_event_t event, Json& name) {
    if (depth > most_levels) {
      throw InputError(place + ": more than " + std::to_string(most_levels) + " levels of JSON");
    }
    if (event != Json::parse_event_t::key || depth != 1) return true;
    if (!names.insert(name.get<std::string>()).second) {
      throw InputError(place + ": member \"" + name.get<std::string>() + "\" is given twice");
    }
    return true;
  };
  Json object;
  try {
    object = Json::parse(line, note_names);
  } catch (const Json::exception& error) {
    throw InputError(place + ": not JSON: " + error.what());
  }
  if (!object.is_object()) {
    throw InputError(place + ": expected a JSON object, found " + object.type_name());
  }
  return object;
}

bool is_blank(const std::string& line) {
  return line.find_first_not_of(" \t\r") == std::string::npos;
}

}  // namespace

struct Record::Object {
  Json members;
};

Record::Record(const std::string& line, std::string place) : place_(std::move(place)) {
  if (const auto offset = unicode::first_ill_formed(line)) {
    refuse("not UTF-8 at byte " + std::to_string(*offset) + " of the line");
  }
  object_ = std::make_unique<Object>(Object{parse_object(line, place_)});
}
Record::Record(Record&&) noexcept = default;
Record& Record::operator=(Record&&) noexcept = default;
Record::~Record() = default;

void Record::refuse(const std::string& why) const {
  throw InputError(place_ + ": " + why);
}

std::vector<std::string> Record::names() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : object_->members.items()) names.push_back(name);
  return names;
}

bool Record::has(const std::string& name) const {
  const auto member = object_->members.find(name);
  return member != object_->members.end() && !member->is_null();
}

std::string Record::text(const std::string& name) const {
  if (!has(name)) refuse("member \"" + name + "\" is missing; expected a string");
  const Json& value = object_->members[name];
  if (!value.is_string()) {
    refuse("\"" + name + "\": expected a string, found " + value.type_name());
  }
  return value.get<std::string>();
}

std::optional<bool> Record::flag(const std::string& name) const {
  if (!has(name)) return std::nullopt;
  const Json& value = object_->members[name];
  if (!value.is_boolean()) {
    refuse("\"" + name + "\": expected true or false, found " + value.type_name());
  }
  return value.get<bool>();
}

std::vector<TokenId> Record::tokens(const std::string& name, std::int64_t vocab,
                                    const std::string& whose) const {
  if (!has(name)) refuse("member \"" + name + "\" is missing; expected a list of token ids");
  const Json& list = object_->members[name];
  if (!list.is_array()) {
    refuse("\"" + name + "\": expected a list of token ids, found " + list.type_name());
  }
  std::vector<TokenId> tokens;
  tokens.reserve(list.size());
  for (const Json& item : list) {
    const bool fits =
        item.is_number_integer() &&
        (item.is_number_unsigned() ? item.get<std::uint64_t>() < static_cast<std::uint64_t>(vocab)
                                   : item.get<std::int64_t>() >= 0);
    if (!fits) {
      std::string why = "\"" + name + "\"[" + std::to_string(tokens.size()) + "] is ";
      why.append(item.dump(-1, ' ', true).substr(0, 40)).append("; expected a token id from 0 to ");
      why.append(std::to_string(vocab - 1)).append(" (").append(whose).append(")");
      refuse(why);
    }
    tokens.push_back(item.get<TokenId>());
  }
  return tokens;
}

std::string Record::json(const std::string& name) const {
  if (!has(name)) refuse("member \"" + name + "\" is missing");
  return object_->members[name].dump();
}

std::string Record::one_of(std::initializer_list<const char*> names) const {
  std::string found, list;
  for (const char* name : names) {
    list.append(list.empty() ? "\"" : " or \"").append(name).append("\"");
    if (!has(name)) continue;
    if (!found.empty())
      refuse("holds \"" + found + "\" and \"" + name + "\"; expected one of them");
    found = name;
  }
  if (found.empty()) refuse("expected a member " + list);
  return found;
}

std::vector<Record> parse_records(const std::string& path, const std::string& text,
                                  std::initializer_list<const char*> known) {
  std::vector<Record> records;
  std::set<std::string> ignored;
  std::size_t begin = 0;
  for (std::int64_t number = 1; begin < text.size(); ++number) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    if (is_blank(line)) continue;
    records.emplace_back(line, path + ":" + std::to_string(number));
    for (std::string& name : records.back().names()) {
      const auto same = [&](const char* one) { return name == one; };
      if (std::any_of(known.begin(), known.end(), same)) continue;
      if (ignored.insert(name).second) {
        log::warn(records.back().place() + ": member \"" + name + "\" is ignored");
      }
    }
  }
  if (records.empty()) throw InputError(path + ": holds no line; expected one JSON object a line");
  return records;
}

void expect_file(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) throw InputError(path + ": no such file");
  if (fs::is_directory(path, error)) throw InputError(path + ": a folder; expected a file");
}

std::string read_input(const std::string& path) {
  expect_file(path);
  std::ifstream in(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!in) throw InputError(path + ": cannot be read");
  return text;
}

std::string read_input(const World& world, const std::string& path) {
  std::string text;
  on_first_rank(world, path, [&] { text = read_input(path); });
  world.all().broadcast(text, 0, path);
  return text;
}

void on_first_rank(const World& world, const std::string& what, const std::function<void()>& work) {
  enum class Outcome : std::uint8_t { done, bad_input, failed } outcome = Outcome::done;
  std::string message;
  if (world.all().rank() == 0) {
    try {
      work();
    } catch (const InputError& error) {
      outcome = Outcome::bad_input;
      message = error.what();
    } catch (const std::exception& error) {
      outcome = Outcome::failed;
      message = error.what();
    }
  }
  world.all().broadcast(std::span(&outcome, 1), 0, what);
  world.all().broadcast(message, 0, what);
  if (outcome == Outcome::bad_input) throw InputError(message);
  if (outcome == Outcome::failed) throw Error(message);
}

void expect_parent(const std::string& target) {
  std::error_code error;
  const fs::path path(target);
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (!fs::is_directory(folder, error)) {
    throw InputError(target + ": its folder " + folder.string() + " does not exist");
  }
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    throw InputError(target + ": its folder " + folder.string() + " may not be written");
  }
}

void expect_output(const std::string& target) {
  expect_parent(target);
  std::error_code error;
  const fs::path path(target);
  if (fs::is_directory(path, error)) throw InputError(target + ": a folder; expected a file name");
  if (fs::exists(path, error) && !fs::is_regular_file(path, error)) {
    throw InputError(target + ": not a regular file, so it cannot be replaced when complete");
  }
}

}  // namespace fst
