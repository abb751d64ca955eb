#pragma once

#include <charconv>
#include <functional>
#include <limits>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "fst/base/nearest.h"
#include "fst/run/config.h"

#include "keys.h"

/// How keys are parsed, printed and bound to fields; private to keys.cpp.
namespace fst::keys {

inline constexpr double infinity = std::numeric_limits<double>::infinity();
inline constexpr std::int64_t big = std::int64_t{1} << 40;

inline std::string shortest(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return {text, end};
}

inline std::vector<std::string> split_list(const std::string& text) {
  std::vector<std::string> items;
  std::istringstream stream(text);
  for (std::string item; std::getline(stream, item, ',');) {
    const auto begin = item.find_first_not_of(" \t");
    if (begin == std::string::npos) continue;
    items.push_back(item.substr(begin, item.find_last_not_of(" \t") - begin + 1));
  }
  return items;
}

template <class T>
std::string join(const std::vector<T>& items) {
  std::ostringstream text;
  for (std::size_t i = 0; i < items.size(); ++i) text << (i == 0 ? "" : ",") << items[i];
  return text.str();
}

template <class T>
bool parse_number(const std::string& text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

/// Collects keys; each member function adds one kind.
class Table {
 public:
  void number(const char* name, std::int64_t& field, std::int64_t low, std::int64_t high,
              const char* unit, const char* help) {
    add(name, "integer", std::to_string(field), unit, help, [=, &field](const std::string& text) {
      std::int64_t value = 0;
      if (parse_number(text, value) && value >= low && value <= high) {
        field = value;
        return std::string{};
      }
      return "an integer from " + std::to_string(low) +
             (high == big ? " up" : " to " + std::to_string(high));
    });
  }
  void number(const char* name, double& field, double low, double high, const char* unit,
              const char* help) {
    add(name, "real", shortest(field), unit, help, [=, &field](const std::string& text) {
      double value = 0;
      if (parse_number(text, value) && value >= low && value <= high) {
        field = value;
        return std::string{};
      }
      return "a number from " + shortest(low) +
             (high == infinity ? " up" : " to " + shortest(high));
    });
  }
  void flag(const char* name, bool& field, const char* help) {
    add(name, "boolean", field ? "true" : "false", "", help, [&field](const std::string& text) {
      const bool yes = text == "true" || text == "on" || text == "yes" || text == "1";
      const bool no = text == "false" || text == "off" || text == "no" || text == "0";
      if (!yes && !no) return std::string("true or false");
      field = yes;
      return std::string{};
    });
  }
  void choice(const char* name, std::string& field, std::vector<std::string> choices,
              const char* help) {
    const std::string type = "one of " + join(choices);
    add(name, type, field, "", help, [&field, choices](const std::string& text) {
      for (const auto& c : choices) {
        if (c == text) {
          field = text;
          return std::string{};
        }
      }
      return "one of " + join(choices) + " (nearest: " + nearest(text, choices) + ")";
    });
  }
  void text(const char* name, std::string& field, const char* help) {
    add(name, "text", field, "", help, [&field](const std::string& value) {
      field = value;
      return std::string{};
    });
  }
  void path(const char* name, std::string& field, const char* help) {
    text(name, field, help);
    keys.back().info.type = "path";
    keys.back().is_path = true;
  }
  void list(const char* name, std::vector<std::string>& field, const char* help) {
    add(name, "list", join(field), "", help, [&field](const std::string& value) {
      field = split_list(value);
      return std::string{};
    });
  }
  void list(const char* name, std::vector<std::int64_t>& field, std::int64_t low, std::int64_t high,
            const char* help) {
    add(name, "list of integers", join(field), "", help, [=, &field](const std::string& value) {
      std::vector<std::int64_t> numbers;
      for (const auto& item : split_list(value)) {
        std::int64_t number = 0;
        if (!parse_number(item, number) || number < low || number > high) {
          return "integers from " + std::to_string(low) + " to " + std::to_string(high) +
                 ", separated by commas";
        }
        numbers.push_back(number);
      }
      if (numbers.empty()) return std::string("at least one integer");
      field = numbers;
      return std::string{};
    });
  }
  void method(const char* name, Method& field, const char* help) {
    static const std::vector<std::string> names{"fst",    "rl",         "gepa",    "frozen",
                                                "copies", "per_prompt", "rl_gepa", "gepa_rl"};
    add(name, "one of " + join(names), name_of(field), "", help, [&](const std::string& text) {
      for (std::size_t i = 0; i < names.size(); ++i) {
        if (names[i] == text) {
          field = static_cast<Method>(i);
          return std::string{};
        }
      }
      return "one of " + join(names) + " (nearest: " + nearest(text, names) + ")";
    });
  }

  std::vector<Key> keys;

 private:
  void add(const char* name, std::string type, std::string value, const char* unit,
           const char* help, std::function<std::string(const std::string&)> set) {
    Key key;
    key.info = {name, std::move(type), std::move(value), unit, help};
    key.set = std::move(set);
    keys.push_back(std::move(key));
  }
};

}  // namespace fst::keys
