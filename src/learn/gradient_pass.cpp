#include "fst/learn/gradient_pass.h"

#include <algorithm>

#include "fst/base/error.h"

namespace fst {

/// A packed run of sequences: which hidden row predicts which target, and whose it is.
struct GradientPass::MicroBatch {
  std::int64_t first = 0, count = 0;      // sequences
  std::vector<std::int32_t> rows;         // hidden row of each entry
  std::vector<TokenId> targets;           // token of each entry
  std::vector<std::int32_t> entry_begin;  // [count + 1] first entry of each sequence
  Tensor hidden;
  HeadReference reference;
  std::vector<float> base_logprob;  // per entry, with BaseUse::logprob
};

GradientPass::GradientPass(Qwen3& policy, Qwen3* base, MemoryPhase phase)
    : policy_(&policy),
      base_(base),
      memory_(policy.device().during(phase)),
      packed_(memory_),
      cache_(policy.local_config(), memory_, 0, policy.dtype()),
      head_(memory_),
      base_head_(memory_) {
  if (base_ != nullptr) base_cache_.emplace_back(base_->local_config(), memory_, 0, base_->dtype());
}

/// How many of the sequences, from the first on, are computed together.
std::int64_t GradientPass::count_together(std::span<const LossSequence> sequences,
                                          const PassOptions& options) {
  const auto most = std::min(options.micro_batch, static_cast<std::int64_t>(sequences.size()));
  if (options.most_tokens == 0) return most;
  std::int64_t count = 0, tokens = 0;
  for (; count < most; ++count) {
    tokens += static_cast<std::int64_t>(sequences[static_cast<std::size_t>(count)].tokens.size());
    if (count > 0 && tokens > options.most_tokens) break;
  }
  return count;
}

GradientPass::MicroBatch GradientPass::forward(std::span<const LossSequence> sequences,
                                               std::int64_t first, const PassOptions& options,
                                               bool saving) {
  MicroBatch batch;
  batch.first = first;
  batch.count = count_together(sequences.subspan(static_cast<std::size_t>(first)), options);
  const auto mine =
      sequences.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(batch.count));
  std::vector<std::span<const TokenId>> tokens;
  for (const auto& sequence : mine) tokens.push_back(sequence.tokens);
  const TokenBatch& packed = packed_.pack(tokens);
  for (std::int64_t s = 0; s < batch.count; ++s) {
    const auto& sequence = mine[static_cast<std::size_t>(s)];
    batch.entry_begin.push_back(static_cast<std::int32_t>(batch.rows.size()));
    for (const std::int32_t target : sequence.targets) {
      batch.rows.push_back(static_cast<std::int32_t>(packed_.first_row(s)) + target - 1);
      batch.targets.push_back(sequence.tokens[static_cast<std::size_t>(target)]);
    }
  }
  batch.entry_begin.push_back(static_cast<std::int32_t>(batch.rows.size()));

  if (options.base != BaseUse::none) {
    if (base_ == nullptr) throw Error("gradient pass: a base model is needed and there is none");
    base_cache_.front().reserve(packed_.blocks());
    const Tensor& hidden = base_->forward(packed, base_cache_.front());
    if (options.base == BaseUse::kl) {
      batch.reference = {base_, hidden};
    } else {
      const HeadOptions head{options.law, options.chunk_rows, false};
      batch.base_logprob =
          base_head_.score(*base_, hidden, {batch.rows, batch.targets}, head).logprob;
    }
  }
  cache_.reserve(packed_.blocks());
  batch.hidden = policy_->forward(packed, cache_, saving ? &saved_ : nullptr);
  return batch;
}

void GradientPass::visit_entries(const MicroBatch& batch, const HeadChunk& chunk,
                                 const PassVisitor& visit) const {
  const auto part = [&](auto span, std::int64_t begin, std::int64_t end, std::int64_t origin) {
    if (span.empty()) return span;
    return span.subspan(static_cast<std::size_t>(begin - origin),
                        static_cast<std::size_t>(end - begin));
  };
  for (std::int64_t s = 0; s < batch.count; ++s) {
    const std::int64_t first = batch.entry_begin[static_cast<std::size_t>(s)];
    const std::int64_t last = batch.entry_begin[static_cast<std::size_t>(s) + 1];
    const std::int64_t begin = std::max(first, chunk.begin), end = std::min(last, chunk.end);
    if (begin >= end) continue;
    PassChunk mine;
    mine.sequence = batch.first + s;
    mine.begin = begin - first;
    mine.end = end - first;
    mine.logprob = part(chunk.logprob, begin, end, chunk.begin);
    mine.entropy = part(chunk.entropy, begin, end, chunk.begin);
    mine.kl = part(chunk.kl, begin, end, chunk.begin);
    mine.base_logprob = part(std::span<const float>(batch.base_logprob), begin, end, 0);
    mine.dlogprob = part(chunk.dlogprob, begin, end, chunk.begin);
    mine.dentropy = part(chunk.dentropy, begin, end, chunk.begin);
    mine.dkl = part(chunk.dkl, begin, end, chunk.begin);
    visit(mine);
  }
}

void GradientPass::accumulate(Gradients& gradients, std::span<const LossSequence> sequences,
                              const PassOptions& options, const PassVisitor& loss) {
  const HeadOptions head{options.law, options.chunk_rows, options.entropy};
  memory_.enter();
  for (std::int64_t first = 0, count = 0; first < static_cast<std::int64_t>(sequences.size());
       first += count) {
    if (saved_.keep() != options.keep) saved_ = Activations(options.keep);
    const MicroBatch batch = forward(sequences, first, options, true);
    count = batch.count;
    dhidden_.reserve(memory_, policy_->dtype(), {batch.hidden.dim(0), batch.hidden.dim(1)});
    head_.backward(dhidden_.tensor(), gradients, *policy_, batch.hidden,
                   {batch.rows, batch.targets, batch.entry_begin}, head, batch.reference,
                   [&](const HeadChunk& chunk) { visit_entries(batch, chunk, loss); });
    policy_->backward(packed_.batch(), cache_, saved_, dhidden_.tensor(), gradients);
  }
}

void GradientPass::score(std::span<const LossSequence> sequences, const PassOptions& options,
                         const PassVisitor& visit) {
  const HeadOptions head{options.law, options.chunk_rows, options.entropy};
  memory_.enter();
  for (std::int64_t first = 0, count = 0; first < static_cast<std::int64_t>(sequences.size());
       first += count) {
    const MicroBatch batch = forward(sequences, first, options, false);
    count = batch.count;
    const HeadScores& scores =
        head_.score(*policy_, batch.hidden, {batch.rows, batch.targets}, head, batch.reference);
    HeadChunk all;
    all.end = static_cast<std::int64_t>(batch.rows.size());
    all.logprob = scores.logprob;
    all.entropy = scores.entropy;
    all.kl = scores.kl;
    visit_entries(batch, all, visit);
  }
}

}  // namespace fst
