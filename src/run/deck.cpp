#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>

#include <boost/program_options.hpp>

#include "fst/base/error.h"
#include "fst/base/nearest.h"
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

/// "deck.cfg:12: " and the words.
template <class... Words>
std::string mistake(std::string text, const Words&... words) {
  text += ": ";
  (text.append(words), ...);
  return text;
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
    if (line.front() == '[' && line.back() == ']' && line.size() > 2) {
      section = line.substr(1, line.size() - 2) + ".";
      continue;
    }
    const auto equals = line.find('=');
    if (equals == std::string::npos || equals == 0) {
      mistakes.push_back(
          mistake(place, "expected `key = value` or `[section]`, found `", line, "`"));
      continue;
    }
    const std::string key = section + trimmed(line.substr(0, equals));
    const auto [at, fresh] = places.emplace(key, place);
    if (!fresh) mistakes.push_back(mistake(place, key, " is set again; first in ", at->second));
  }
  return places;
}

/// One `key = value`, as it was written.
struct Setting {
  std::string key, value, place;
  bool on_command_line = false;
};

constexpr const char* command_line = "command line";

/// The deck's settings in order, then those of the command line, which win.
std::vector<Setting> read_settings(const std::string& path, const std::string& text,
                                   const Places& places,
                                   const std::vector<std::string>& overrides) {
  const po::options_description none;
  std::istringstream stream(text);
  std::vector<Setting> settings;
  for (const auto& option : po::parse_config_file(stream, none, true).options) {
    const auto place = places.find(option.string_key);
    settings.push_back({option.string_key, option.value.empty() ? "" : trimmed(option.value[0]),
                        place == places.end() ? path : place->second});
  }
  for (const auto& word : overrides) {
    const auto equals = word.find('=');
    settings.push_back(
        {word.substr(2, equals - 2), trimmed(word.substr(equals + 1)), command_line, true});
  }
  return settings;
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

/// Checks the form of `--section.key=value` words.
void expect_settings(const std::vector<std::string>& overrides,
                     std::vector<std::string>& mistakes) {
  for (const auto& word : overrides) {
    if (word.rfind("--", 0) != 0 || word.find('=') == std::string::npos) {
      mistakes.push_back("command line: expected --section.key=value, found `" + word + "`");
    } else if (word.find_first_of("#\n\r") != std::string::npos) {
      mistakes.push_back("command line: `" + word +
                         "`: a value cannot hold `#` or a line break, since no deck could");
    }
  }
}

}  // namespace

Deck parse_deck(const std::string& path, const std::string& text,
                const std::vector<std::string>& overrides) {
  std::vector<std::string> mistakes;
  Deck deck;
  deck.folder = std::filesystem::absolute(path).parent_path().string();
  if (text.find('\0') != std::string::npos) throw InputError(path + ": not a text file");
  Places places = index_lines(path, text, mistakes);
  expect_settings(overrides, mistakes);
  expect_none(mistakes, "the deck cannot be read:");

  auto keys = bind_keys(deck.config);
  bool values_taken = true;
  std::vector<std::string> names;
  for (const auto& key : keys) names.push_back(key.info.name);
  const std::string here = std::filesystem::current_path().string();
  for (const Setting& setting : read_settings(path, text, places, overrides)) {
    const auto key = std::find_if(keys.begin(), keys.end(),
                                  [&](const Key& k) { return k.info.name == setting.key; });
    if (key == keys.end()) {
      mistakes.push_back(mistake(setting.place, "unknown key ", setting.key,
                                 " (nearest: ", nearest(setting.key, names), ")"));
      continue;
    }
    const std::string value =
        key->is_path ? resolve_path(setting.on_command_line ? here : deck.folder, setting.value)
                     : setting.value;
    const std::string expected = key->set(value);
    values_taken = values_taken && expected.empty();
    if (!expected.empty()) {
      mistakes.push_back(
          mistake(setting.place, setting.key, " = ", value, ": expected ", expected));
    }
    deck.given.push_back(setting.key);
    places[setting.key] = setting.place;
  }
  if (values_taken) {
    std::vector<std::string> combinations;
    validate(deck.config, combinations);
    for (const auto& m : combinations) {
      const auto place = places.find(m.substr(0, m.find_first_of(" :,")));
      mistakes.push_back((place == places.end() ? path : place->second) + ": " + m);
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
