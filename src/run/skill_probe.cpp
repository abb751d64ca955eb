#include "fst/run/skill_probe.h"

#include <algorithm>

#include "fst/base/error.h"
#include "fst/tensor/host_view.h"
#include "fst/tensor/ops.h"

namespace fst {

SkillProber::SkillProber(const Tokenizer& tokenizer, const Chat& chat, std::uint64_t seed,
                         std::int64_t cases)
    : vocab_(tokenizer.vocab_size()) {
  const TokenId end = tokenizer.id_of("<|im_end|>");
  for (const auto& probe : world::skill_probes(seed, cases)) {
    std::vector<Case> encoded;
    for (const auto& skill_case : probe.cases) {
      std::vector<ChatMessage> messages;
      for (const auto& turn : skill_case.messages)
        messages.push_back({turn.role, turn.content, {}});
      Case one;
      one.tokens = tokenizer.encode(chat.render(messages, GenerationPrompt::add, Thinking::unset));
      one.reply_begin = one.tokens.size();
      const auto reply = tokenizer.encode(skill_case.reply);
      one.tokens.insert(one.tokens.end(), reply.begin(), reply.end());
      one.tokens.push_back(end);
      encoded.push_back(std::move(one));
    }
    probes_.emplace_back(probe.name, std::move(encoded));
  }
}

SkillScores SkillProber::score(Qwen3& model) const {
  const Device& device = model.device();
  SkillScores scores;
  for (const auto& [name, cases] : probes_) {
    PackedSequences packed(device);
    std::vector<std::span<const TokenId>> sequences;
    for (const auto& one : cases) sequences.emplace_back(one.tokens);
    const TokenBatch& batch = packed.pack(sequences);
    KvCache cache(model.local_config(), device, packed.blocks(), model.dtype());
    const Tensor& hidden = model.forward(batch, cache);
    const std::int64_t rows = hidden.dim(0);
    Buffer logits(device, DType::f32, {rows, model.config().vocab_size});
    Buffer greedy(device, DType::i32, {rows}), logprob(device, DType::f32, {rows});
    model.logits(logits.tensor(), hidden);
    const Buffer keys(device, DType::i64, {rows}), positions(device, DType::i32, {rows});
    ops::sample_tokens(greedy.tensor(), logprob.tensor(), logits.tensor(), keys.tensor(),
                       positions.tensor(), {.temperature = 0.0f, .vocab = vocab_});
    const HostView<const std::int32_t> greedy_tokens(greedy.tensor());
    if (std::ranges::any_of(greedy_tokens.span(), [](TokenId token) { return token < 0; })) {
      throw Error("skill probe " + name + ": a logit is not finite");
    }
    std::int64_t right = 0;
    for (std::size_t i = 0; i < cases.size(); ++i) {
      const auto& tokens = cases[i].tokens;
      const std::int32_t* chosen =
          greedy_tokens.data() + packed.first_row(static_cast<std::int64_t>(i));
      bool exact = true;
      for (std::size_t t = cases[i].reply_begin; t < tokens.size(); ++t) {
        exact = exact && chosen[t - 1] == tokens[t];
      }
      right += exact ? 1 : 0;
    }
    scores.emplace_back(name, static_cast<double>(right) / static_cast<double>(cases.size()));
  }
  return scores;
}

}  // namespace fst
