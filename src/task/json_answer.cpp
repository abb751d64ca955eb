#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fst/task/text.h"
#include "fst/task/verifiers.h"

// The parser is nlohmann's (iterative); the values are ours, because its tree rounds integers
// beyond 64 bits and takes nesting of any depth.

namespace fst {

namespace {

enum class Kind : std::uint8_t { null, boolean, integer, real, string, array, object };

struct Member;

struct Value {
  Kind kind = Kind::null;
  std::string text;   // string: contents; integer: digits; boolean: "true" or "false"
  double number = 0;  // integer and real
  std::vector<Value> items;
  std::vector<Member> members;  // sorted by key once the object is closed
};

struct Member {
  std::string key;
  Value value;
};

bool is_number(const Value& v) {
  return v.kind == Kind::integer || v.kind == Kind::real;
}

// Recursive; the parser bounds the depth.
bool equal(const Value& a, const Value& b) {
  if (is_number(a) && is_number(b)) {
    const bool exact = a.kind == Kind::integer && b.kind == Kind::integer;
    return exact ? a.text == b.text : a.number == b.number;
  }
  if (a.kind != b.kind) return false;
  return a.text == b.text && std::ranges::equal(a.items, b.items, equal) &&
         std::ranges::equal(a.members, b.members, [](const Member& x, const Member& y) {
           return x.key == y.key && equal(x.value, y.value);
         });
}

// Sorted by key, the last of equal keys kept.
void close_object(std::vector<Member>& members) {
  std::ranges::stable_sort(members, {}, &Member::key);
  std::vector<Member> kept;
  for (Member& member : members) {
    if (!kept.empty() && kept.back().key == member.key) {
      kept.back() = std::move(member);
    } else {
      kept.push_back(std::move(member));
    }
  }
  members = std::move(kept);
}

// Receives the parser's events (nlohmann's SAX interface: false stops the parse).
class Builder {
 public:
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  bool null() { return add({}); }
  bool boolean(bool value) { return add({Kind::boolean, value ? "true" : "false", 0, {}, {}}); }
  bool number_integer(number_integer_t value) {
    return add({Kind::integer, std::to_string(value), static_cast<double>(value), {}, {}});
  }
  bool number_unsigned(number_unsigned_t value) {
    return add({Kind::integer, std::to_string(value), static_cast<double>(value), {}, {}});
  }
  bool number_float(number_float_t value, const string_t& digits) {
    const bool real = digits.find_first_of(".eE") != string_t::npos;
    return add({real ? Kind::real : Kind::integer, real ? "" : digits, value, {}, {}});
  }
  bool string(string_t& value) { return add({Kind::string, std::move(value), 0, {}, {}}); }
  bool binary(binary_t&) { return false; }
  bool start_object(std::size_t) { return open(Kind::object); }
  bool start_array(std::size_t) { return open(Kind::array); }
  bool key(string_t& name) {
    open_.back().members.push_back({std::move(name), {}});
    return true;
  }
  bool end_object() {
    close_object(open_.back().members);
    return close();
  }
  bool end_array() { return close(); }
  template <class Exception>
  bool parse_error(std::size_t, const std::string&, const Exception&) {
    return false;
  }

  Value take() { return std::move(root_); }

 private:
  bool open(Kind kind) {
    if (open_.size() >= static_cast<std::size_t>(json_max_depth)) return false;
    open_.push_back({kind, {}, 0, {}, {}});
    return true;
  }
  bool close() {
    Value value = std::move(open_.back());
    open_.pop_back();
    return add(std::move(value));
  }
  bool add(Value value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().kind == Kind::array) {
      open_.back().items.push_back(std::move(value));
    } else {
      open_.back().members.back().value = std::move(value);
    }
    return true;
  }

  Value root_;
  std::vector<Value> open_;
};

std::optional<Value> parse(std::string_view text) {
  Builder builder;
  if (!nlohmann::json::sax_parse(text, &builder)) return std::nullopt;
  return builder.take();
}

std::optional<Value> parse_answer(std::string_view answer) {
  answer = trim(answer);
  if (std::optional<Value> whole = parse(answer)) return whole;
  const std::size_t begin = answer.find('{'), end = answer.rfind('}');
  if (begin == std::string_view::npos || end == std::string_view::npos || end < begin) {
    return std::nullopt;
  }
  return parse(answer.substr(begin, end - begin + 1));
}

}  // namespace

bool json_equal(std::string_view answer, std::string_view reference) {
  const std::optional<Value> found = parse_answer(answer), gold = parse(trim(reference));
  return found && gold && equal(*found, *gold);
}

bool is_json(std::string_view text) {
  return parse(trim(text)).has_value();
}

bool is_json_answer(std::string_view answer) {
  return parse_answer(answer).has_value();
}

}  // namespace fst
