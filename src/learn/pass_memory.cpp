// What a gradient pass holds: taken at once where there is a plan, and counted for the plan by the
// same code.

#include "fst/learn/gradient_pass.h"

namespace fst {

namespace {

/// Whole blocks of 16 tokens for every sequence, however the tokens are spread over them.
std::int64_t most_blocks(const PassShape& shape) {
  return blocks_for(shape.tokens) + shape.sequences;
}

HeadShape head_of(const PassShape& shape, const PassModel& model) {
  HeadShape head;
  head.dtype = model.dtype;
  head.hidden_size = model.local.hidden_size;
  head.columns = model.columns;
  head.entries = shape.tokens;
  head.chunk_rows = shape.chunk_rows;
  return head;
}

void reserve_model(KvCache& cache, ModelScratch& scratch, const PassShape& shape,
                   const PassModel& model, const Device& memory, Keep kept) {
  cache.reserve(most_blocks(shape));
  scratch.reserve_forward(model.local, memory, shape.tokens, model.dtype, model.ranks, kept);
}

void reserve_policy(KvCache& cache, ModelScratch& scratch, Activations& saved, TokenHead& head,
                    Buffer& dhidden, const PassShape& shape, const PassModel& model,
                    const Device& memory, std::int64_t base_hidden_size) {
  reserve_model(cache, scratch, shape, model, memory, shape.backward ? shape.keep : Keep::inputs);
  HeadShape wanted = head_of(shape, model);
  wanted.entropy = shape.entropy;
  wanted.backward = shape.backward;
  wanted.reference_hidden_size = shape.base_kl ? base_hidden_size : 0;
  head.reserve(wanted);
  if (!shape.backward) return;
  saved.reserve(model.local, memory, shape.tokens, model.dtype);
  scratch.reserve_backward(model.local, memory, shape.tokens, model.dtype, model.ranks, shape.keep);
  dhidden.reserve(memory, model.dtype, {shape.tokens, model.local.hidden_size});
}

void reserve_base(KvCache& cache, ModelScratch& scratch, TokenHead& head, const PassShape& shape,
                  const PassModel& model, const Device& memory) {
  reserve_model(cache, scratch, shape, model, memory, Keep::inputs);
  if (shape.base_logprob) head.reserve(head_of(shape, model));
}

PassModel model_of(const Qwen3& model) {
  return {model.local_config(), model.dtype(), model.vocab().size(), model.ranks()};
}

}  // namespace

void GradientPass::reserve(const PassShape& shape) {
  if (shape.backward && saved_.keep() != shape.keep) saved_ = Activations(shape.keep);
  packed_.reserve(shape.tokens, shape.sequences, shape.tokens);
  reserve_policy(cache_, policy_->scratch(memory_.phase()), saved_, head_, dhidden_, shape,
                 model_of(*policy_), memory_, base_ == nullptr ? 0 : base_->config().hidden_size);
  if (base_ == nullptr || !(shape.base_logprob || shape.base_kl)) return;
  reserve_base(base_cache_.front(), base_->scratch(memory_.phase()), base_head_, shape,
               model_of(*base_), memory_);
}

std::int64_t GradientPass::bytes_of(const PassShape& shape, const PassModel& policy,
                                    const PassModel& base) {
  const Device memory = Device::measuring();
  PackedSequences packed(memory);
  packed.reserve(shape.tokens, shape.sequences, shape.tokens);
  KvCache cache(policy.local, memory, 0, policy.dtype);
  ModelScratch scratch;
  Activations saved(shape.keep);
  TokenHead head(memory), base_head(memory);
  Buffer dhidden;
  reserve_policy(cache, scratch, saved, head, dhidden, shape, policy, memory,
                 base.local.hidden_size);
  KvCache base_cache(base.local, memory, 0, base.dtype);
  ModelScratch base_scratch;
  if (shape.base_logprob || shape.base_kl) {
    reserve_base(base_cache, base_scratch, base_head, shape, base, memory);
  }
  return memory.arena()->most_taken()[MemoryPhase::always];
}

}  // namespace fst
