// What a generator holds: taken at once where there is a plan, and counted for the plan by the same
// code.

#include <algorithm>
#include <bit>

#include "fst/rollout/generator.h"

namespace fst {

namespace {

// Rows between two batch sizes, but for the smallest: as many as a product of few rows takes at a
// time, so that dummies cost next to nothing.
constexpr std::int64_t batch_step = Generator::most_dummies + 1;

// Logits that exist at the same time: 64 MiB, or 16 rows where the vocabulary is larger.
constexpr std::int64_t logits_elements = std::int64_t{1} << 24, least_logits_rows = 16;

void reserve_steps(ModelScratch& scratch, Buffer& hidden_rows, Buffer& logits, const Device& memory,
                   const GeneratorModel& model, const GeneratorOptions& options) {
  const std::int64_t decoded = Generator::most_decoded(options, model.on_host);
  const std::int64_t rows = decoded + options.prefill_chunk;
  const std::int64_t drawn = std::min(Generator::most_logits_rows(model.local), decoded);
  scratch.reserve_forward(model.local, memory, rows, model.dtype, model.ranks, Keep::inputs);
  scratch.reserve_logits(memory, drawn, model.columns, model.ranks);
  hidden_rows.reserve(memory, model.dtype, {drawn, model.local.hidden_size});
  logits.reserve(memory, DType::f32, {drawn, model.local.vocab_size});
}

/// Of the parcels of a step, to the device and back.
std::pair<std::int64_t, std::int64_t> parcel_bytes(const GeneratorModel& model,
                                                   const GeneratorOptions& options) {
  const std::int64_t word = size_of(DType::i32);
  const std::int64_t sequences = Generator::most_decoded(options, model.on_host);
  const std::int64_t rows = sequences + options.prefill_chunk;
  const auto width = static_cast<std::int64_t>(
      std::bit_ceil(static_cast<std::uint64_t>(blocks_for(model.max_positions))));
  return {StagedArrays::bytes_of({word * rows, word * rows, word * (sequences + 1),
                                  word * sequences, word * sequences * width, word * sequences,
                                  word * sequences, word * sequences, 2 * word * sequences}),
          StagedArrays::bytes_of({word * sequences, word * sequences, word * sequences})};
}

}  // namespace

std::int64_t Generator::most_logits_rows(const Qwen3Config& config) {
  return std::max(logits_elements / config.vocab_size, least_logits_rows);
}

std::int64_t Generator::padded_batch(std::int64_t sequences) {
  if (sequences <= batch_step) {
    return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(sequences)));
  }
  return (sequences + batch_step - 1) / batch_step * batch_step;
}

bool Generator::pads(const GeneratorOptions& options, bool on_host) {
  return options.pad_batches.value_or(options.record_steps && !on_host);
}

std::int64_t Generator::most_decoded(const GeneratorOptions& options, bool on_host) {
  return pads(options, on_host) ? padded_batch(options.max_batch) : options.max_batch;
}

/// No more than all sequences of a batch can use.
std::int64_t Generator::most_blocks(const GeneratorModel& model, const GeneratorOptions& options) {
  const std::int64_t allowed =
      options.kv_blocks > 0 ? options.kv_blocks
                            : options.kv_bytes / KvCache::bytes_per_block(model.local, model.dtype);
  return std::min(allowed, options.max_batch * blocks_for(model.max_positions) +
                               Scheduler::spare_blocks(options.max_batch));
}

void Generator::reserve() {
  const GeneratorModel model{model_->local_config(),  model_->dtype(),
                             model_->vocab().size(),  model_->ranks(),
                             model_->max_positions(), model_->device().on_host()};
  max_blocks_ = most_blocks(model, options_);
  cache_.reserve(max_blocks_ + spare_blocks());
  scheduler_.pool().reset(max_blocks_);
  reserve_steps(model_->scratch(memory_.phase()), hidden_rows_, logits_, memory_, model, options_);
  const auto [in, out] = parcel_bytes(model, options_);
  inputs_.reserve(in);
  results_.reserve(out);
}

std::int64_t Generator::bytes_of(const GeneratorModel& model, const GeneratorOptions& options) {
  const Device memory = Device::measuring();
  const std::int64_t spare = pads(options, model.on_host) ? most_dummies : 0;
  const KvCache cache(model.local, memory, most_blocks(model, options) + spare, model.dtype);
  ModelScratch scratch;
  Buffer hidden_rows, logits;
  reserve_steps(scratch, hidden_rows, logits, memory, model, options);
  const Buffer stops(memory, DType::i32, {(model.local.vocab_size + 31) / 32});
  Parcel inputs(memory), results(memory);  // of both what lies on the device
  const auto [in, out] = parcel_bytes(model, options);
  inputs.reserve(in);
  results.reserve(out);
  return memory.arena()->most_taken()[MemoryPhase::always];
}

}  // namespace fst
