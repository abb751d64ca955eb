#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "fst/task/problem.h"

namespace fst::world {

/// Tokens of a turn's content. world_tokens is exact for a tokenizer that keeps each word of the
/// world (with its leading space) and each run of newlines as one token.
using CountTokens = std::function<std::int64_t(std::string_view content)>;
std::int64_t world_tokens(std::string_view content);
/// ChatML adds <|im_start|>, the role, a newline, <|im_end|> and a newline to each turn.
inline constexpr std::int64_t turn_overhead = 5;

/// What the rows of a step are made of.
struct PretrainMix {
  std::int64_t row_tokens = 0;                ///< T of a row; shorter rows are padded by the caller
  std::int64_t rows = 0;                      ///< rows per step
  double solve = 0, name = 0;                 ///< probabilities; the rest are reflect rows
  std::int64_t min_lines = 0, max_lines = 4;  ///< rulebook size of solve rows, uniform
  double line_known = 0.8;  ///< probability that a solve turn asks for a tag with a line
};

/// The schedule: `first` before `first_steps`, afterwards `even` and `odd` by the step's parity.
struct PretrainOptions {
  std::int64_t first_steps = 500;
  PretrainMix first{36, 64, 0.8, 0.2, 1, 1, 1.0};
  PretrainMix even{56, 40, 0.72, 0.28, 0, 4, 0.8};
  PretrainMix odd{116, 20, 0.0, 0.0, 0, 4, 0.8};
  double short_list = 0.85;   ///< a solve list has 3 or 4 letters, else 5 or 6
  double tacit_truth = 0.12;  ///< reflect rows: a tag's hidden rule is tacit
  double line_true = 0.65;    ///< reflect rows: a line states the truth, where it has a name
  double slip = 0.15;         ///< reflect rows: the answer given holds a slip
  CountTokens count = world_tokens;
};

/// One row: a chat whose assistant turns carry the loss.
struct PretrainRow {
  std::vector<ChatTurn> turns;
};

/// The mix of a step.
const PretrainMix& pretrain_mix(const PretrainOptions& options, std::int64_t step);
/// Row `row` of step `step`, a function of its arguments alone. Turns are appended while the row
/// stays within row_tokens. Throws InputError if not even one exchange fits.
PretrainRow pretrain_row(const PretrainOptions& options, std::uint64_t seed, std::int64_t step,
                         std::int64_t row);
/// Length of a row in tokens, all turns with their overhead.
std::int64_t row_tokens(const PretrainRow& row, const CountTokens& count);

/// One question for greedy decoding: what is asked and the one right reply.
struct SkillCase {
  std::vector<ChatTurn> messages;
  std::string reply;
};

/// A skill and its fresh cases: follow_3_4, follow_5, follow_6 (the tag has a line in a rulebook of
/// 1 to 4 lines), reflect (the whole rulebook), name.
struct SkillProbe {
  std::string name;
  std::vector<SkillCase> cases;
};

/// All five probes, a function of the seed; streams differ from those of the training rows.
std::vector<SkillProbe> skill_probes(std::uint64_t seed, std::int64_t cases = 96);

}  // namespace fst::world
