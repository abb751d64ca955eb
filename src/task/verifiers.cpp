#include "fst/task/verifiers.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>

#include "fst/base/error.h"
#include "fst/base/nearest.h"
#include "fst/task/text.h"

namespace fst {

namespace {

constexpr std::array<std::string_view, 3> verifier_names = {"exact", "letter", "json"};

char upper(char c) {
  return static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
}

// Position of `tag` (lower case) in `text` at or after `from`, in any case.
std::size_t find_tag(std::string_view text, std::string_view tag, std::size_t from) {
  const auto same = [](char a, char b) {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(a))) == b;
  };
  const auto at = std::search(text.begin() + static_cast<std::ptrdiff_t>(from), text.end(),
                              tag.begin(), tag.end(), same);
  return at == text.end() ? std::string_view::npos : static_cast<std::size_t>(at - text.begin());
}

std::optional<std::string_view> last_answer(std::string_view text) {
  constexpr std::string_view opening = "<answer>", closing = "</answer>";
  std::optional<std::string_view> last;
  std::size_t from = 0;
  for (;;) {
    const std::size_t begin = find_tag(text, opening, from);
    if (begin == std::string_view::npos) return last;
    const std::size_t content = begin + opening.size();
    const std::size_t end = find_tag(text, closing, content);
    if (end == std::string_view::npos) return last;
    last = text.substr(content, end - content);
    from = end + closing.size();
  }
}

// `answer` is trimmed. The letter, upper case, whether an option or not.
std::optional<char> lone_letter(std::string_view answer) {
  const auto is_letter = [](char c) { return upper(c) >= 'A' && upper(c) <= 'Z'; };
  if (answer.size() == 3 && is_letter(answer[1]) &&
      ((answer[0] == '(' && answer[2] == ')') || (answer[0] == '[' && answer[2] == ']'))) {
    return upper(answer[1]);
  }
  if (answer.empty() || !is_letter(answer[0])) return std::nullopt;
  if (answer.size() == 1) return upper(answer[0]);
  if (std::string_view(").]:").find(answer[1]) == std::string_view::npos) return std::nullopt;
  const std::string_view rest = answer.substr(2);
  if (!rest.empty() && trim(rest).size() == rest.size()) return std::nullopt;
  return upper(answer[0]);
}

std::optional<char> option_letter(std::string_view answer, int options) {
  const std::optional<char> letter = lone_letter(trim(answer));
  return letter && *letter < 'A' + options ? letter : std::nullopt;
}

Verdict wrong(VerdictStatus status, std::string feedback) {
  return {0.0f, status, std::move(feedback)};
}

Verdict verify_exact(std::string_view reference, std::string_view answer) {
  if (exact_equal(answer, reference)) return {1.0f, VerdictStatus::ok, "The answer is right."};
  return wrong(VerdictStatus::ok, "The answer is wrong: expected " + in_quotes(trim(reference)) +
                                      ", got " + in_quotes(trim(answer)) + ".");
}

Verdict verify_letter(std::string_view reference, std::string_view completion) {
  const std::string gold(1, *option_letter(reference, 4));
  const std::optional<char> letter = extract_letter(completion);
  if (!letter) {
    return wrong(
        VerdictStatus::unparsable,
        "No single option letter was found in <answer> tags. The right letter is " + gold + ".");
  }
  if (*letter == gold.front()) return {1.0f, VerdictStatus::ok, "The letter is right."};
  return wrong(VerdictStatus::ok, std::string("The letter ") + *letter +
                                      " is wrong. The right letter is " + gold + ".");
}

Verdict verify_json(std::string_view reference, std::string_view answer) {
  if (!is_json_answer(answer)) {
    return wrong(VerdictStatus::unparsable, "The answer is not JSON: expected " +
                                                in_quotes(trim(reference)) + ", got " +
                                                in_quotes(trim(answer)) + ".");
  }
  if (json_equal(answer, reference)) return {1.0f, VerdictStatus::ok, "The answer is right."};
  return wrong(VerdictStatus::ok, "The answer is wrong: expected " + in_quotes(trim(reference)) +
                                      ", got " + in_quotes(trim(answer)) + ".");
}

}  // namespace

std::string_view to_string(VerdictStatus status) {
  switch (status) {
    case VerdictStatus::ok:
      return "ok";
    case VerdictStatus::unparsable:
      return "unparsable";
    case VerdictStatus::timeout:
      return "timeout";
    case VerdictStatus::error:
      return "error";
  }
  throw Error("verdict status: expected 0 to 3, found " + std::to_string(static_cast<int>(status)));
}

AnswerVerifier answer_verifier(std::string_view name) {
  const auto at = std::ranges::find(verifier_names, name);
  if (at == verifier_names.end()) {
    throw InputError("verifier " + in_quotes(name) +
                     ": expected exact, letter or json; nearest is " +
                     std::string(nearest(name, verifier_names)));
  }
  return static_cast<AnswerVerifier>(at - verifier_names.begin());
}

Verdict verify_answer(AnswerVerifier verifier, const Problem& problem, const Completed& completed) {
  std::string fault = reference_fault(verifier, problem.reference);
  if (!fault.empty()) return wrong(VerdictStatus::error, std::move(fault));
  switch (verifier) {
    case AnswerVerifier::exact:
      return verify_exact(problem.reference, after_thinking(completed.text));
    case AnswerVerifier::letter:
      return verify_letter(problem.reference, completed.text);
    case AnswerVerifier::json:
      return verify_json(problem.reference, after_thinking(completed.text));
  }
  throw Error("verify_answer: unknown verifier " + std::to_string(static_cast<int>(verifier)));
}

std::string reference_fault(AnswerVerifier verifier, std::string_view reference) {
  if (verifier == AnswerVerifier::letter && !option_letter(reference, 4)) {
    return "the reference must be a letter from A to D, found " + in_quotes(reference);
  }
  if (verifier == AnswerVerifier::json && !is_json(reference)) {
    return "the reference must be JSON, found " + in_quotes(reference);
  }
  return {};
}

bool exact_equal(std::string_view answer, std::string_view reference) {
  return trim(answer) == trim(reference);
}

std::optional<char> extract_letter(std::string_view completion, int options) {
  const std::optional<std::string_view> answer = last_answer(completion);
  return answer ? option_letter(*answer, options) : std::nullopt;
}

}  // namespace fst
