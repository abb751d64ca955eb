#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "fst/task/problem.h"
#include "fst/task/verifiers.h"

namespace fst {

/// Gives the bytes of a file. On many ranks: rank 0 reads and broadcasts, so that all parse the
/// same.
using ReadFile = std::function<std::string(const std::string& path)>;
/// Reads from disk. Throws InputError when it cannot.
std::string read_text_file(const std::string& path);

/// Paths of the three splits; an empty one means no problems of that split.
struct ProblemFiles {
  std::string train, dev, test;
};

/// The problems of the three splits, each in file order.
struct ProblemSets {
  std::vector<Problem> train, dev, test;
};

/// Reads problems, one JSON object a line (blank lines are skipped):
///   question   "prompt" (text, or a chat of an optional system and one user turn), else
///   "question",
///              else "problem"
///   reference  "answer", "label", "ground_truth", "reference" or reward_model.ground_truth; in a
///   form
///              `verifier` accepts
///   optional   "id", "system", "split" (train; dev, val, validation; test); other members are
///   ignored
/// A path may serve several splits: then each line must name its split. Without an id, the hash of
/// the content is the id.
/// Throws InputError naming file and line for a bad line, for a repeated id, and for a question
/// (with its system text, white space at the ends aside) that occurs twice in or across the splits.
ProblemSets load_problems(const ProblemFiles& files, AnswerVerifier verifier, const ReadFile& read);

}  // namespace fst
