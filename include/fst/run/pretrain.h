#pragma once

#include <string>
#include <vector>

#include "fst/comm/world.h"
#include "fst/learn/gradient_pass.h"
#include "fst/model/chat.h"
#include "fst/model/tokenizer.h"
#include "fst/run/config.h"
#include "fst/task/world_pretrain.h"

namespace fst {

/// A row to learn: token ids and the positions that carry the loss.
struct TrainRow {
  std::vector<TokenId> tokens;
  std::vector<std::int32_t> targets;
};

/// Tokenises a conversation; the replies of the assistant and the token that ends each carry the
/// loss. Throws InputError naming `where` if the template rewrites earlier turns, because then a
/// reply is not what the model was shown.
TrainRow chat_row(const Tokenizer& tokenizer, const Chat& chat,
                  const std::vector<ChatMessage>& messages, const std::string& where);
/// Tokenises plain text, cut to `limit` tokens; every token but the first carries the loss.
TrainRow text_row(const Tokenizer& tokenizer, const std::string& text, std::int64_t limit);

/// Next-token training as the deck says (`[pretrain]`): the same forward, backward, gradient tree
/// and optimiser as the main job, with the mean cross-entropy over a step's targets. Writes
/// OUTPUT/model (a bf16 Hugging Face folder), OUTPUT/metrics.jsonl and config.resolved.cfg. With
/// the world's rows a skill probe runs every pretrain.probe_every steps and stops a broken run with
/// an Error. Collective over all ranks, which are all learners.
void pretrain(World& world, const RunConfig& config);

}  // namespace fst
