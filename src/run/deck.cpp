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
  std::vector<std::string> arguments;
  for (const auto& argument : overrides) {
    const auto equals = argument.find('=');
    if (argument.rfind("--", 0) != 0 || equals == std::string::npos) {
      mistakes.push_back("command line: expected --section.key=value, found `" + argument + "`");
      continue;
    }
    places[argument.substr(2, equals - 2)] = "command line";
    arguments.push_back(argument);
  }
  if (!mistakes.empty()) {
    std::string message = "the deck cannot be read:";
    for (const auto& m : mistakes) message += "\n  " + m;
    throw InputError(message);
  }

  auto keys = bind_keys(deck.config);
  std::vector<std::string> names;
  for (const auto& key : keys) names.push_back(key.info.name);
  for (const auto& option : read_options(text, arguments)) {
    const std::string& name = option.string_key;
    const std::string place = places.count(name) != 0 ? places[name] : path;
    const auto key =
        std::find_if(keys.begin(), keys.end(), [&](const Key& k) { return k.info.name == name; });
    if (key == keys.end()) {
      mistakes.push_back(place + ": unknown key " + name + " (nearest: " + nearest(name, names) +
                         ")");
      continue;
    }
    std::string value = option.value.empty() ? "" : trimmed(option.value.front());
    if (key->is_path) {
      const bool from_command_line = place == "command line";
      value = resolve_path(
          from_command_line ? std::filesystem::current_path().string() : deck.folder, value);
    }
    const std::string expected = key->set(value);
    if (!expected.empty()) {
      mistakes.push_back(place + ": " + name + " = " + value + ": expected " + expected);
    }
    deck.given.push_back(name);
  }
  if (mistakes.empty()) {
    validate(deck.config, mistakes);
    for (auto& m : mistakes) {
      const std::string name = m.substr(0, m.find_first_of(" :,"));
      m = (places.count(name) != 0 ? places[name] : path) + ": " + m;
    }
  }
  if (!mistakes.empty()) {
    std::string message =
        std::to_string(mistakes.size()) +
        (mistakes.size() == 1 ? " mistake in the deck:" : " mistakes in the deck:");
    for (const auto& m : mistakes) message += "\n  " + m;
    throw InputError(message);
  }
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
