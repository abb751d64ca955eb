#include "fst/task/problem_file.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <utility>

#include "fst/base/error.h"
#include "fst/base/nearest.h"
#include "fst/base/random.h"
#include "fst/task/text.h"

namespace fst {

namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 3> split_names = {"train", "dev", "test"};
constexpr std::array<const char*, 3> question_names = {"prompt", "question", "problem"};
constexpr std::array<const char*, 4> answer_names = {"answer", "label", "ground_truth",
                                                     "reference"};

/// Where a line stands, for messages.
struct Place {
  std::string path;
  std::int64_t line = 0;
};

std::string text_of(const Place& place) {
  return place.path + ":" + std::to_string(place.line);
}

[[noreturn]] void fail(const Place& place, const std::string& what) {
  throw InputError(text_of(place) + ": " + what);
}

/// One good line.
struct Line {
  Problem problem;
  std::optional<std::size_t> split;  // index in split_names
};

std::optional<std::size_t> split_of(const json& object, const Place& place) {
  if (!object.contains("split")) return std::nullopt;
  if (!object["split"].is_string()) fail(place, "\"split\" must be text");
  std::string name = object["split"];
  if (name == "val" || name == "validation") name = "dev";
  const auto at = std::ranges::find(split_names, name);
  if (at == split_names.end()) {
    fail(place, "split " + in_quotes(name) +
                    ": expected train, dev (val, validation) or test; nearest is " +
                    std::string(nearest(name, split_names)));
  }
  return static_cast<std::size_t>(at - split_names.begin());
}

// A chat of an optional system turn and one user turn.
void read_chat(const json& chat, const Place& place, Problem& problem) {
  const std::string expected = "a chat prompt must be an optional system turn and one user turn";
  bool has_user = false;
  for (std::size_t i = 0; i < chat.size(); ++i) {
    const json& turn = chat[i];
    if (!turn.is_object() || !turn.contains("role") || !turn.contains("content") ||
        !turn["role"].is_string() || !turn["content"].is_string()) {
      fail(place, expected + ", each with \"role\" and \"content\" as text");
    }
    const std::string role = turn["role"];
    if (role == "system" && i == 0) {
      problem.system = turn["content"];
    } else if (role == "user" && !has_user) {
      problem.question = turn["content"];
      has_user = true;
    } else {
      fail(place, expected + "; found " + in_quotes(role) + " as turn " + std::to_string(i + 1));
    }
  }
  if (!has_user) fail(place, expected);
}

void read_question(const json& object, const Place& place, Problem& problem) {
  const auto name =
      std::ranges::find_if(question_names, [&](const char* key) { return object.contains(key); });
  if (name == question_names.end()) {
    fail(place, "expected a member \"prompt\", \"question\" or \"problem\"");
  }
  const json& question = object[*name];
  if (question.is_string()) {
    problem.question = question;
  } else if (question.is_array()) {
    read_chat(question, place, problem);
  } else {
    fail(place, std::string("\"") + *name + "\" must be text or a chat");
  }
  if (trim(problem.question).empty()) fail(place, "the question is empty");
  if (!object.contains("system")) return;
  if (!object["system"].is_string()) fail(place, "\"system\" must be text");
  const std::string system = object["system"];
  if (!problem.system.empty() && problem.system != system) {
    fail(place, "\"system\" and the system turn of the prompt differ");
  }
  problem.system = system;
}

const json* answer_of(const json& object) {
  for (const char* name : answer_names) {
    if (object.contains(name)) return &object[name];
  }
  if (object.contains("reward_model") && object["reward_model"].is_object() &&
      object["reward_model"].contains("ground_truth")) {
    return &object["reward_model"]["ground_truth"];
  }
  return nullptr;
}

void read_reference(const json& object, AnswerVerifier verifier, const Place& place,
                    Problem& problem) {
  const json* answer = answer_of(object);
  if (answer == nullptr) {
    fail(place, "expected a member \"answer\", \"label\", \"ground_truth\" or \"reference\"");
  }
  const bool compound = answer->is_structured() || answer->is_null();
  if (compound && verifier != AnswerVerifier::json) {
    fail(place, "the answer must be text or a number for this verifier");
  }
  problem.reference = answer->is_string() ? answer->get<std::string>() : answer->dump();
  const std::string fault = reference_fault(verifier, problem.reference);
  if (!fault.empty()) fail(place, fault);
}

std::string hex(std::uint64_t word) {
  std::ostringstream text;
  text << std::hex << word;
  const std::string digits = text.str();
  return std::string(16 - digits.size(), '0') + digits;
}

// What makes two problems the same question.
std::string content(const Problem& problem) {
  return std::string(trim(problem.system)) + '\0' + std::string(trim(problem.question));
}

void read_id(const json& object, const Place& place, Problem& problem) {
  if (!object.contains("id")) {
    problem.id = hex(hash_text(content(problem)));
  } else if (object["id"].is_string() || object["id"].is_number_integer()) {
    problem.id = object["id"].is_string() ? object["id"].get<std::string>() : object["id"].dump();
  } else {
    fail(place, "\"id\" must be text or an integer");
  }
}

Line read_line(std::string_view text, AnswerVerifier verifier, const Place& place) {
  json object;
  try {
    object = json::parse(text);
  } catch (const json::exception& error) {
    fail(place, std::string("expected one JSON object, found ") + error.what());
  }
  if (!object.is_object()) {
    fail(place, std::string("expected one JSON object, found ") + object.type_name());
  }
  Line line;
  line.split = split_of(object, place);
  read_question(object, place, line.problem);
  read_reference(object, verifier, place, line.problem);
  read_id(object, place, line.problem);
  return line;
}

/// Refuses a second problem of the same id or content, whatever its split.
class Seen {
 public:
  void add(const Problem& problem, std::string_view split, const Place& place) {
    const std::string here = std::string(split) + " problem at " + text_of(place);
    const auto [same_id, new_id] = ids_.emplace(problem.id, here);
    const auto [same_content, new_content] = contents_.emplace(content(problem), here);
    if (!new_content) {
      fail(place, "this " + std::string(split) + " problem has the same question as the " +
                      same_content->second);
    }
    if (!new_id)
      fail(place, "id " + in_quotes(problem.id) + " is already that of the " + same_id->second);
  }

 private:
  std::map<std::string, std::string> ids_, contents_;
};

/// The splits a file serves.
struct Source {
  std::string path;
  std::vector<std::size_t> splits;
};

std::vector<Source> sources_of(const ProblemFiles& files) {
  const std::array<const std::string*, 3> paths = {&files.train, &files.dev, &files.test};
  std::vector<Source> sources;
  for (std::size_t split = 0; split < paths.size(); ++split) {
    if (paths[split]->empty()) continue;
    const auto same = std::ranges::find(sources, *paths[split], &Source::path);
    if (same == sources.end()) {
      sources.push_back({*paths[split], {split}});
    } else {
      same->splits.push_back(split);
    }
  }
  return sources;
}

// The split that a line belongs to.
std::size_t place_in(const Source& source, const Line& line, const Place& place) {
  if (!line.split) {
    if (source.splits.size() == 1) return source.splits.front();
    fail(place, "this file serves several splits, so each line must name its \"split\"");
  }
  if (std::ranges::find(source.splits, *line.split) == source.splits.end()) {
    fail(place, "a " + std::string(split_names[*line.split]) + " problem in a file given for " +
                    std::string(split_names[source.splits.front()]));
  }
  return *line.split;
}

}  // namespace

std::string read_text_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) throw InputError(path + ": cannot read this file");
  return text.str();
}

ProblemSets load_problems(const ProblemFiles& files, AnswerVerifier verifier,
                          const ReadFile& read) {
  ProblemSets sets;
  const std::array<std::vector<Problem>*, 3> splits = {&sets.train, &sets.dev, &sets.test};
  Seen seen;
  for (const Source& source : sources_of(files)) {
    const std::string text = read(source.path);
    std::string_view rest = text;
    Place place{source.path, 0};
    while (!rest.empty()) {
      ++place.line;
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      const std::string_view bytes = trim(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
      if (bytes.empty()) continue;
      Line line = read_line(bytes, verifier, place);
      const std::size_t split = place_in(source, line, place);
      seen.add(line.problem, split_names[split], place);
      splits[split]->push_back(std::move(line.problem));
    }
    for (const std::size_t split : source.splits) {
      if (splits[split]->empty()) {
        throw InputError(source.path + ": holds no " + std::string(split_names[split]) +
                         " problem");
      }
    }
  }
  return sets;
}

}  // namespace fst
