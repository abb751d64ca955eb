#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "fst/task/problem.h"

namespace fst {

/// Verifiers that compare one answer with one reference and need nothing else.
/// All are linear in the completion but for sorting members, never throw on its contents, and look
/// only at what follows the last </think> (letters: at everything, see there).
enum class AnswerVerifier : std::uint8_t { exact, letter, json };

/// "exact", "letter", "json". Throws InputError naming the nearest one otherwise.
AnswerVerifier answer_verifier(std::string_view name);

/// Judges `completed` against `problem.reference`; status `error` if the reference is not in the
/// verifier's form.
Verdict verify_answer(AnswerVerifier verifier, const Problem& problem, const Completed& completed);

/// Why `reference` is not one the verifier can compare with, or empty if it is.
std::string reference_fault(AnswerVerifier verifier, std::string_view reference);

/// True if both texts are the same bytes once Unicode white space at both ends is removed.
bool exact_equal(std::string_view answer, std::string_view reference);

/// The upper-case letter in the last <answer>...</answer> (tags in any case) among the first
/// `options` letters: alone, in () or [], or followed by one of ) . ] : and then nothing or white
/// space and any text. None otherwise.
std::optional<char> extract_letter(std::string_view completion, int options = 4);

/// True if `answer` and `reference` are JSON of equal value. The answer is JSON as a whole, or else
/// its text from the first { to the last } is. Numbers compare by value: two integers exactly,
/// others as doubles; true and false are not numbers; NaN, Infinity and numbers beyond the doubles
/// are not JSON. Members are unordered and the last of equal keys counts. More than
/// `json_max_depth` levels are not JSON to us.
bool json_equal(std::string_view answer, std::string_view reference);
inline constexpr int json_max_depth = 500;  // about half of what CPython's parser accepts
/// True if all of `text` is one JSON value.
bool is_json(std::string_view text);
/// True if json_equal finds a value in `answer`, whole or from the first { to the last }.
bool is_json_answer(std::string_view answer);

}  // namespace fst
