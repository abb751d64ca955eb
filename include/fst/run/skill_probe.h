#pragma once

#include <string>
#include <utility>
#include <vector>

#include "fst/model/chat.h"
#include "fst/model/qwen3.h"
#include "fst/model/token_batch.h"
#include "fst/model/tokenizer.h"
#include "fst/task/world_pretrain.h"

namespace fst {

/// Share of cases that greedy decoding answers exactly, per skill.
using SkillScores = std::vector<std::pair<std::string, double>>;

/// Greedy decoding gives a reply exactly if, behind every prefix of the reply, the greatest logit
/// is that of its next token; so one forward pass over the whole reply decides.
class SkillProber {
 public:
  SkillProber(const Tokenizer& tokenizer, const Chat& chat, std::uint64_t seed, std::int64_t cases);
  SkillScores score(Qwen3& model) const;

 private:
  struct Case {
    std::vector<TokenId> tokens;
    std::size_t reply_begin = 0;
  };
  std::vector<std::pair<std::string, std::vector<Case>>> probes_;
  std::int64_t vocab_;
};

}  // namespace fst
