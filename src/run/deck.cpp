#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>

#include <boost/program_options.hpp>

#include "fst/base/error.h"
#include "fst/run/config.h"

#include "keys.h"

namespace fst {

namespace {

namespace po = boost::program_options;

/// Where a key was set, for messages: "deck.cfg:12" or "command line".
using Places = std::map<std::string, std::string>;

std::string trimmed(const std::string& text) {
  const auto begin = text.find_first_not_of(" \t\r");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

/// Boost.Program_options knows no line numbers: this is the index of lines beside it. Also finds
/// what Boost would report without a line: text that is neither section, comment nor assignment,
/// and keys given twice.
Places index_lines(const std::string& path, const std::string& text,
                   std::vector<std::string>& mistakes) {
  Places places;
  std::istringstream stream(text);
  std::string section;
  int number = 0;
  for (std::string line; std::getline(stream, line);) {
    const std::string place = path + ":" + std::to_string(++number);
    line = trimmed(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    if (line.front() == '[' && line.back() == ']') {
      section = trimmed(line.substr(1, line.size() - 2)) + ".";
      continue;
    }
    const auto equals = line.find('=');
    if (equals == std::string::npos || equals == 0) {
      mistakes.push_back(place + ": expected `key = value` or `[section]`, found `" + line + "`");
      continue;
    }
    const std::string key = section + trimmed(line.substr(0, equals));
    const auto [at, fresh] = places.emplace(key, place);
    if (!fresh) mistakes.push_back(place + ": " + key + " is set again; first in " + at->second);
  }
  return places;
}

std::vector<po::option> read_options(const std::string& text,
                                     const std::vector<std::string>& overrides) {
  const po::options_description none;
  std::istringstream stream(text);
  std::vector<po::option> options = po::parse_config_file(stream, none, true).options;
  const auto style =
      po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
  const auto parsed =
      po::command_line_parser(overrides).options(none).style(style).allow_unregistered().run();
  options.insert(options.end(), parsed.options.begin(), parsed.options.end());
  return options;
}

std::string resolve_path(const std::string& folder, const std::string& value) {
  if (value.empty() || value == "auto") return value;
  std::filesystem::path path(value);
  if (path.is_relative()) path = std::filesystem::path(folder) / path;
  return path.lexically_normal().string();
}

/// Throws InputError with `headline` and the mistakes, if there are any.
void expect_none(const std::vector<std::string>& mistakes, const std::string& headline) {
  if (mistakes.empty()) return;
  std::string message = headline;
  for (const auto& m : mistakes) message += "\n  " + m;
  throw InputError(message);
}

/// Checks the form of `--section.key=value` words and notes where their keys were set.
void index_overrides(const std::vector<std::string>& overrides, Places& places,
                     std::vector<std::string>& mistakes) {
  for (const auto& word : overrides) {
    const auto equals = word.find('=');
    if (word.rfind("--", 0) != 0 || equals == std::string::npos) {
      mistakes.push_back("command line: expected --section.key=value, found `" + word + "`");
    } else {
      places[word.substr(2, equals - 2)] = "command line";
    }
  }
}

}  // namespace

std::string nearest(const std::string& word, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = ~std::size_t{0};
  for (const auto& candidate : candidates) {
    std::vector<std::size_t> row(candidate.size() + 1);
    for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
    for (std::size_t i = 0; i < word.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i + 1;
      for (std::size_t j = 0; j < candidate.size(); ++j) {
        const std::size_t substitute = diagonal + (word[i] == candidate[j] ? 0 : 1);
        diagonal = row[j + 1];
        row[j + 1] = std::min({substitute, row[j] + 1, row[j + 1] + 1});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

Deck parse_deck(const std::string& path, const std::string& text,
                const std::vector<std::string>& overrides) {
  std::vector<std::string> mistakes;
  Deck deck;
  deck.folder = std::filesystem::absolute(path).parent_path().string();
  if (text.find('\0') != std::string::npos) throw InputError(path + ": not a text file");
  Places places = index_lines(path, text, mistakes);
  index_overrides(overrides, places, mistakes);
  expect_none(mistakes, "the deck cannot be read:");
  const auto place_of = [&](const std::string& key) {
    const auto found = places.find(key);
    return found == places.end() ? path : found->second;
  };

  auto keys = bind_keys(deck.config);
  bool values_taken = true;
  std::vector<std::string> names;
  for (const auto& key : keys) names.push_back(key.info.name);
  for (const auto& option : read_options(text, overrides)) {
    const std::string& name = option.string_key;
    const std::string place = place_of(name);
    const auto key =
        std::find_if(keys.begin(), keys.end(), [&](const Key& k) { return k.info.name == name; });
    if (key == keys.end()) {
      mistakes.push_back(place + ": unknown key " + name + " (nearest: " + nearest(name, names) +
                         ")");
      continue;
    }
    std::string value = option.value.empty() ? "" : trimmed(option.value.front());
    if (key->is_path) {
      value = resolve_path(
          place == "command line" ? std::filesystem::current_path().string() : deck.folder, value);
    }
    const std::string expected = key->set(value);
    values_taken = values_taken && expected.empty();
    if (!expected.empty()) {
      mistakes.push_back(place + ": " + name + " = " + value + ": expected " + expected);
    }
    deck.given.push_back(name);
  }
  if (values_taken) {
    std::vector<std::string> combinations;
    validate(deck.config, combinations);
    for (const auto& m : combinations) {
      mistakes.push_back(place_of(m.substr(0, m.find_first_of(" :,"))) + ": " + m);
    }
  }
  expect_none(mistakes, std::to_string(mistakes.size()) +
                            (mistakes.size() == 1 ? " mistake" : " mistakes") + " in the deck:");
  return deck;
}

std::string resolved_deck(const RunConfig& config) {
  std::string text, section;
  for (const auto& key : keys_of(config)) {
    const auto dot = key.name.find('.');
    if (key.name.substr(0, dot) != section) {
      section = key.name.substr(0, dot);
      text += (text.empty() ? "[" : "\n[") + section + "]\n";
    }
    text += key.name.substr(dot + 1) + " = " + key.text + "\n";
  }
  return text;
}

}  // namespace fst
