// Reads a tokenizer.json. What would change the tokens and is not supported is refused by name.

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "fst/base/error.h"
#include "fst/model/unicode.h"

#include "tokenizer_rules.h"

namespace fst {

namespace {

using Json = nlohmann::json;

// Far above any vocabulary in use (Qwen3: 151,669), far below what would exhaust memory.
constexpr std::uint64_t id_limit = std::uint64_t{1} << 22;
// A Sequence may hold Sequences; real files nest two deep.
constexpr std::size_t path_limit = 4096;

/// A value of the file together with the path to it, for messages.
struct Place {
  const Json& value;
  std::string path;

  [[noreturn]] void refuse(const std::string& why) const { throw InputError(path + ": " + why); }
  [[noreturn]] void expected(const std::string& what) const {
    refuse("expected " + what + ", found " + value.type_name());
  }
  bool has(const char* name) const {
    return value.is_object() && value.contains(name) && !value.at(name).is_null();
  }
  Place operator[](const char* name) const {
    if (!value.is_object()) expected("an object");
    if (!value.contains(name)) refuse("the field \"" + std::string(name) + "\" is missing");
    return {value.at(name), path + "." + name};
  }
  Place at(std::size_t i) const {
    if (path.size() > path_limit) refuse("nested too deeply");
    return {value.at(i), path + "[" + std::to_string(i) + "]"};
  }
  const std::string& text() const {
    if (!value.is_string()) expected("a string");
    return value.get_ref<const std::string&>();
  }
  bool flag(const char* name, bool missing) const {
    if (!has(name)) return missing;
    const Place field = (*this)[name];
    if (!field.value.is_boolean()) field.expected("true or false");
    return field.value.get<bool>();
  }
  TokenId id() const {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= id_limit) {
      refuse("expected a token id in [0, " + std::to_string(id_limit) + "), found " + value.dump());
    }
    return value.get<TokenId>();
  }
  std::size_t array_size() const {
    if (!value.is_array()) expected("an array");
    return value.size();
  }
};

/// Byte-level BPE writes a printable byte of Latin-1 as that character and the other 68 as U+0100,
/// U+0101, ... in order. Entry c: the byte that character c stands for, or -1.
std::array<int, 324> bytes_of_characters() {
  std::array<int, 324> bytes{};
  bytes.fill(-1);
  std::size_t next = 256;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    bytes[printable ? static_cast<std::size_t>(b) : next++] = b;
  }
  return bytes;
}

/// The bytes that a vocabulary entry stands for. An entry with a character outside the byte
/// alphabet is no product of merges; it stands for itself.
std::string bytes_of_entry(const std::string& entry) {
  static const auto bytes = bytes_of_characters();
  std::string out;
  for (std::size_t i = 0; i < entry.size(); ++i) {
    std::size_t c = static_cast<unsigned char>(entry[i]);
    if (c >= 0xE0) return entry;  // U+0800 or above
    if (c >= 0x80) c = (c & 0x1F) << 6 | (static_cast<unsigned char>(entry[++i]) & 0x3F);
    if (c >= bytes.size() || bytes[c] < 0) return entry;
    out += static_cast<char>(bytes[c]);
  }
  return out;
}

void set_token(TokenizerRules& rules, TokenId id, std::string bytes, const Place& place) {
  const auto index = static_cast<std::size_t>(id);
  if (index >= rules.bytes.size()) rules.bytes.resize(index + 1);
  if (!rules.bytes[index].empty()) place.refuse("id " + std::to_string(id) + " is given twice");
  rules.bytes[index] = std::move(bytes);
}

using Vocabulary = std::unordered_map<std::string_view, TokenId>;

Vocabulary read_vocabulary(TokenizerRules& rules, const Place& vocab) {
  if (!vocab.value.is_object()) vocab.expected("an object from token to id");
  Vocabulary ids;
  ids.reserve(vocab.value.size());
  for (const auto& [entry, value] : vocab.value.items()) {
    const Place place{value, vocab.path + "[\"" + entry + "\"]"};
    if (entry.empty()) place.refuse("an empty token");
    const TokenId id = place.id();
    set_token(rules, id, bytes_of_entry(entry), place);
    ids.emplace(entry, id);
  }
  return ids;
}

void read_merges(TokenizerRules& rules, const Place& merges, const Vocabulary& vocabulary) {
  const auto known = [&](const Place& place, std::string_view token) {
    const auto found = vocabulary.find(token);
    if (found == vocabulary.end()) {
      place.refuse("\"" + std::string(token) + "\" is not in the vocabulary");
    }
    return found->second;
  };
  const std::size_t count = merges.array_size();
  rules.merges = MergeTable(count);
  for (std::size_t i = 0; i < count; ++i) {
    const Place merge = merges.at(i);
    std::string left, right;
    if (merge.value.is_string()) {
      const std::string& pair = merge.text();
      const std::size_t space = pair.find(' ');
      if (space == std::string::npos) merge.refuse("expected two tokens with a space between them");
      left = pair.substr(0, space);
      right = pair.substr(space + 1);
    } else {
      if (merge.array_size() != 2) merge.refuse("expected a pair of tokens");
      left = merge.at(0).text();
      right = merge.at(1).text();
    }
    const TokenId left_id = known(merge, left), right_id = known(merge, right);
    rules.merges.add(left_id, right_id, known(merge, left + right));
  }
}

void read_model(TokenizerRules& rules, const Place& model) {
  if (model.has("type") && model["type"].text() != "BPE") {
    model["type"].refuse("only BPE is supported, found " + model["type"].text());
  }
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (model.has(affix) && !model[affix].text().empty()) model[affix].refuse("not supported");
  }
  if (model.has("dropout") && model["dropout"].value != 0.0) {
    model["dropout"].refuse("not supported");
  }
  rules.whole_words_first = model.flag("ignore_merges", false);
  const Vocabulary vocabulary = read_vocabulary(rules, model["vocab"]);
  read_merges(rules, model["merges"], vocabulary);
}

void read_added(TokenizerRules& rules, const Place& list) {
  for (std::size_t i = 0; i < list.array_size(); ++i) {
    const Place entry = list.at(i);
    AddedToken token;
    token.text = entry["content"].text();
    token.id = entry["id"].id();
    token.special = entry.flag("special", false);
    token.strip_left = entry.flag("lstrip", false);
    token.strip_right = entry.flag("rstrip", false);
    token.normalized = entry.flag("normalized", !token.special);
    if (token.text.empty()) entry["content"].refuse("an empty token");
    if (entry.flag("single_word", false)) entry["single_word"].refuse("not supported");
    const auto index = static_cast<std::size_t>(token.id);
    if (index >= rules.bytes.size() || rules.bytes[index] != token.text) {
      set_token(rules, token.id, token.text, entry);
    }
    rules.special.resize(std::max(rules.special.size(), rules.bytes.size()));
    rules.special[index] = token.special;
    if (token.normalized && rules.normalise) token.text = unicode::nfc(token.text);
    (token.normalized ? rules.added_normalised : rules.added_raw).add(std::move(token));
  }
}

void read_normaliser(TokenizerRules& rules, const Place& place) {
  const std::string& type = place["type"].text();
  if (type == "NFC") {
    rules.normalise = true;
  } else if (type == "Sequence") {
    const Place list = place["normalizers"];
    for (std::size_t i = 0; i < list.array_size(); ++i) read_normaliser(rules, list.at(i));
  } else {
    place.refuse("only NFC is supported, found " + type);
  }
}

/// An expression that matches `text` itself.
std::string quoted(const std::string& text) {
  std::string pattern;
  for (const char c : text) {
    if (std::ispunct(static_cast<unsigned char>(c)) != 0) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

SplitStep read_split(const Place& place) {
  const Place pattern = place["pattern"];
  if (!pattern.has("Regex") && !pattern.has("String")) pattern.refuse("expected Regex or String");
  const std::string expression =
      pattern.has("Regex") ? pattern["Regex"].text() : quoted(pattern["String"].text());
  const std::string& behavior = place["behavior"].text();
  const bool invert = place.flag("invert", false);
  if (behavior == "Isolated") return {Regex(expression, pattern.path), true, true};
  if (behavior == "Removed") return {Regex(expression, pattern.path), invert, !invert};
  place["behavior"].refuse("only Isolated and Removed are supported, found " + behavior);
}

/// Appends the steps of one pre-tokenizer; returns whether it ends in ByteLevel.
bool read_pre_tokenizer(TokenizerRules& rules, const Place& place) {
  const std::string& type = place["type"].text();
  if (type == "Split") {
    rules.steps.push_back(read_split(place));
  } else if (type == "Digits") {
    const bool single = place.flag("individual_digits", false);
    rules.steps.push_back({Regex(single ? R"(\p{N})" : R"(\p{N}+)", place.path), true, true});
  } else if (type == "ByteLevel") {
    if (place.flag("add_prefix_space", true)) place.refuse("add_prefix_space is not supported");
    if (place.flag("use_regex", true)) {  // GPT-2's expression, which this field stands for
      const char* expression =
          R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
      rules.steps.push_back({Regex(expression, place.path), true, true});
    }
    return true;
  } else if (type == "Sequence") {
    const Place list = place["pretokenizers"];
    bool byte_level = false;
    for (std::size_t i = 0; i < list.array_size(); ++i) {
      if (byte_level) list.at(i).refuse("nothing may follow ByteLevel");
      byte_level = read_pre_tokenizer(rules, list.at(i));
    }
    return byte_level;
  } else {
    place.refuse("only Split, Digits, ByteLevel and Sequence are supported, found " + type);
  }
  return false;
}

/// Decoder and post-processor: ByteLevel, alone or in a sequence; it needs nothing from us.
void expect_byte_level(const Place& place, const char* list_name) {
  const std::string& type = place["type"].text();
  if (type == "Sequence") {
    const Place list = place[list_name];
    for (std::size_t i = 0; i < list.array_size(); ++i) expect_byte_level(list.at(i), list_name);
  } else if (type != "ByteLevel") {
    place.refuse("only ByteLevel is supported, found " + type);
  }
}

void index_tokens(TokenizerRules& rules, const Place& root) {
  rules.special.resize(rules.bytes.size());
  rules.ids.reserve(rules.bytes.size());
  for (std::size_t id = 0; id < rules.bytes.size(); ++id) {
    if (!rules.bytes[id].empty()) rules.ids.emplace(rules.bytes[id], static_cast<TokenId>(id));
  }
  for (std::size_t b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    const auto token = rules.ids.find(std::string_view(&byte, 1));
    if (token == rules.ids.end()) {
      root.refuse("model.vocab has no token for byte " + std::to_string(b) + "; not byte-level?");
    }
    rules.byte_tokens[b] = token->second;
  }
}

}  // namespace

std::unique_ptr<const TokenizerRules> parse_tokenizer(std::string_view text,
                                                      const std::string& source) {
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::exception& error) {
    throw InputError(source + ": not JSON: " + error.what());
  }
  auto rules = std::make_unique<TokenizerRules>();
  rules->source = source;
  const Place root{json, source};
  // `truncation` and `padding` are what a caller last asked for, no property of the vocabulary;
  // transformers switches them off, and so do we.
  if (root.has("normalizer")) read_normaliser(*rules, root["normalizer"]);
  if (!read_pre_tokenizer(*rules, root["pre_tokenizer"])) {
    root["pre_tokenizer"].refuse("only byte-level vocabularies are supported; expected ByteLevel");
  }
  expect_byte_level(root["decoder"], "decoders");
  if (root.has("post_processor")) expect_byte_level(root["post_processor"], "processors");
  read_model(*rules, root["model"]);
  if (root.has("added_tokens")) read_added(*rules, root["added_tokens"]);
  index_tokens(*rules, root);
  return rules;
}

}  // namespace fst
