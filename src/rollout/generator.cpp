#include "fst/rollout/generator.h"

#include <algorithm>
#include <bit>

#include "fst/base/error.h"

namespace fst {

namespace {

constexpr DType f32 = DType::f32, i32 = DType::i32;

// Logits that exist at the same time: 64 MiB, or 16 rows where the vocabulary is larger.
constexpr std::int64_t logits_elements = std::int64_t{1} << 24, least_logits_rows = 16;

std::string name_of_request(std::size_t index) {
  return "generate: request " + std::to_string(index);
}

bool same_law(const ops::SamplingLaw& a, const ops::SamplingLaw& b) {
  return a.temperature == b.temperature && a.top_k == b.top_k && a.top_p == b.top_p &&
         a.min_p == b.min_p && a.vocab == b.vocab;
}

/// Positions that a request occupies in the cache at most: the last token is drawn, never computed.
std::int64_t positions_of(const GenerateRequest& request) {
  return static_cast<std::int64_t>(request.prompt.size()) + request.max_new_tokens - 1;
}

}  // namespace

Generator::Generator(Qwen3& model, const GeneratorOptions& options)
    : model_(&model),
      options_(options),
      cache_(model.local_config(), model.device(), 0, model.dtype()),
      scheduler_({options.max_batch, options.prefill_chunk, options.share_prefixes}),
      stops_(static_cast<std::size_t>(model.config().vocab_size)),
      inputs_(model.device()),
      outputs_(model.device()),
      recordings_(model.device()) {
  const std::int64_t block_bytes = KvCache::bytes_per_block(model.local_config(), model.dtype());
  max_blocks_ = options.kv_blocks > 0 ? options.kv_blocks : options.kv_bytes / block_bytes;
  if (max_blocks_ < 1) {
    throw InputError("generator: no room for keys and values: " + std::to_string(options.kv_bytes) +
                     " bytes, and a block of " + std::to_string(ops::kv_block_tokens) +
                     " tokens has " + std::to_string(block_bytes));
  }
  if (options.max_batch < 1) throw InputError("generator: max_batch must be at least 1");
  if (options.prefill_chunk < 1) throw InputError("generator: prefill_chunk must be at least 1");
  for (const TokenId id : options.stop_ids) {
    if (id < 0 || id >= model.config().vocab_size) {
      throw InputError("generator: stop token " + std::to_string(id) +
                       " is not in the vocabulary of " + std::to_string(model.config().vocab_size));
    }
    stops_[static_cast<std::size_t>(id)] = true;
  }
}

std::vector<Completion> Generator::generate(std::span<const GenerateRequest> requests) {
  check(requests);
  grow_cache(requests);
  number_laws(requests);
  requests_ = requests;
  completions_.assign(requests.size(), {});
  scheduler_.start(requests);
  while (!scheduler_.done()) step();
  return std::move(completions_);
}

void Generator::check(std::span<const GenerateRequest> requests) const {
  const std::int64_t vocab = model_->config().vocab_size;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const GenerateRequest& request = requests[i];
    const auto refuse = [&](const std::string& why) {
      throw InputError(name_of_request(i) + ": " + why);
    };
    if (request.prompt.empty()) refuse("the prompt is empty");
    if (request.max_new_tokens < 1) {
      refuse("max_new_tokens is " + std::to_string(request.max_new_tokens) +
             ", at least 1 is needed");
    }
    const std::string length = std::to_string(request.prompt.size()) + " prompt tokens and " +
                               std::to_string(request.max_new_tokens) + " new ones";
    if (positions_of(request) > model_->max_positions()) {
      refuse(length + " exceed the " + std::to_string(model_->max_positions()) +
             " positions of the model");
    }
    if (blocks_for(positions_of(request)) > max_blocks_) {
      refuse(length + " need " + std::to_string(blocks_for(positions_of(request))) +
             " KV blocks; the cache may have " + std::to_string(max_blocks_));
    }
    if (request.law.vocab < 0 || request.law.vocab > vocab) {
      refuse("a law over " + std::to_string(request.law.vocab) + " tokens; the head has " +
             std::to_string(vocab) + " rows");
    }
    for (const TokenId token : request.prompt) {
      if (token < 0 || token >= vocab) {
        refuse("token " + std::to_string(token) + " is not in the vocabulary of " +
               std::to_string(vocab));
      }
    }
  }
}

/// Blocks for as many of the longest requests as may run at the same time, and those that the
/// scheduler keeps free, within the bound. Growing forgets what the cache knew.
void Generator::grow_cache(std::span<const GenerateRequest> requests) {
  std::int64_t longest = 0;
  for (const GenerateRequest& request : requests) {
    longest = std::max(longest, blocks_for(positions_of(request)));
  }
  const auto batch = std::min(static_cast<std::int64_t>(requests.size()), options_.max_batch);
  const std::int64_t wanted =
      std::min(longest * batch + Scheduler::spare_blocks(batch), max_blocks_);
  if (wanted <= cache_.blocks()) return;
  const std::int64_t blocks = std::min(std::max(wanted, 2 * cache_.blocks()), max_blocks_);
  cache_.reserve(blocks);
  scheduler_.pool().reset(blocks);
}

void Generator::number_laws(std::span<const GenerateRequest> requests) {
  laws_.clear();
  law_of_.clear();
  for (const GenerateRequest& request : requests) {
    ops::SamplingLaw law = request.law;
    if (law.vocab == 0) law.vocab = model_->config().vocab_size;
    const auto known = std::find_if(laws_.begin(), laws_.end(),
                                    [&](const auto& other) { return same_law(law, other); });
    law_of_.push_back(static_cast<std::int32_t>(known - laws_.begin()));
    if (known == laws_.end()) laws_.push_back(law);
  }
}

void Generator::step() {
  const std::vector<Scheduler::Work>& work = scheduler_.plan();
  if (work.empty()) return;
  scheduler_.take_copies(copies_);
  for (const Scheduler::Copy& copy : copies_) cache_.copy_block(copy.to, copy.from);
  collect_draws(work);
  make_batch(work);
  if (is_decoding(work)) {
    recordings_.run(key_of_step(), [&] { compute(); });
  } else {
    compute();
  }
  if (draws_.empty()) return;
  outputs_.receive();
  for (std::size_t i = 0; i < draws_.size(); ++i) {
    const TokenId token = outputs_.host<TokenId>(drawn_)[i];
    if (token < 0) refuse_infinite_logits(draws_[i]);
    accept(draws_[i], token, outputs_.host<float>(logprob_)[i]);
  }
}

/// The rows of `work` count as computed from here on, though they are yet to be queued: what is
/// queued later finds them done.
void Generator::collect_draws(const std::vector<Scheduler::Work>& work) {
  draws_.clear();
  std::int32_t row = -1;
  for (const Scheduler::Work& w : work) {
    row += static_cast<std::int32_t>(w.rows);
    scheduler_.computed(w);
    if (w.sequence->pending() > 0) continue;
    draws_.push_back({row, w.sequence});
    for (Sequence* sample : scheduler_.fork(*w.sequence)) draws_.push_back({row, sample});
  }
  if (laws_.size() > 1) {
    std::stable_sort(draws_.begin(), draws_.end(),
                     [&](const Draw& a, const Draw& b) { return law_of(a) < law_of(b); });
  }
}

/// All that the device must know of a step, in one parcel.
void Generator::make_batch(const std::vector<Scheduler::Work>& work) {
  const auto sequences = static_cast<std::int64_t>(work.size());
  const auto draws = static_cast<std::int64_t>(draws_.size());
  std::int64_t rows = 0, longest = 0;
  bool single = false, longer = false;  // sequences of one row, and of more
  for (const Scheduler::Work& w : work) {
    rows += w.rows;
    (w.rows == 1 ? single : longer) = true;
    longest = std::max(longest, blocks_for(w.sequence->computed));
  }
  // Few widths, so that steps have the same shapes for long.
  const auto width = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(longest)));
  const auto [tokens, positions, cu_seqlens, context, block_table, draw_rows, places, keys] =
      inputs_.shape<8>({{i32, {rows}},
                        {i32, {rows}},
                        {i32, {sequences + 1}},
                        {i32, {sequences}},
                        {i32, {sequences, width}},
                        {i32, {draws}},
                        {i32, {draws}},
                        {DType::i64, {draws}}});
  batch_ = {tokens, positions, {cu_seqlens, context, block_table, single, longer}, {}};
  draw_rows_ = draw_rows;
  places_ = places;
  keys_ = keys;
  write_rows(work);
  write_draws();
  inputs_.send();
  const auto [drawn, logprob] = outputs_.shape<2>({{i32, {draws}}, {f32, {draws}}});
  drawn_ = drawn;
  logprob_ = logprob;
}

void Generator::write_rows(const std::vector<Scheduler::Work>& work) {
  auto* token = inputs_.host<TokenId>(batch_.tokens);
  auto* position = inputs_.host<std::int32_t>(batch_.positions);
  auto* begin = inputs_.host<std::int32_t>(batch_.attention.cu_seqlens);
  auto* context = inputs_.host<std::int32_t>(batch_.attention.context);
  auto* table = inputs_.host<std::int32_t>(batch_.attention.block_table);
  const std::int64_t width = batch_.attention.block_table.dim(1);
  *begin = 0;
  for (const Scheduler::Work& w : work) {
    const Sequence& sequence = *w.sequence;
    const std::int64_t first = sequence.computed - w.rows;
    token = std::copy_n(sequence.tokens.begin() + first, w.rows, token);
    for (std::int64_t r = 0; r < w.rows; ++r) *position++ = static_cast<std::int32_t>(first + r);
    begin[1] = begin[0] + static_cast<std::int32_t>(w.rows);
    ++begin;
    *context++ = static_cast<std::int32_t>(first);
    const std::int64_t blocks = blocks_for(sequence.computed);
    std::copy_n(sequence.blocks.begin(), blocks, table);
    std::fill_n(table + blocks, width - blocks, 0);
    table += width;
  }
}

void Generator::write_draws() {
  auto* row = inputs_.host<std::int32_t>(draw_rows_);
  auto* place = inputs_.host<std::int32_t>(places_);
  auto* key = inputs_.host<std::int64_t>(keys_);
  for (const Draw& draw : draws_) {
    const Sequence& sequence = *draw.sequence;
    *row++ = draw.row;
    *place++ = static_cast<std::int32_t>(sequence.logprobs.size());
    *key++ = static_cast<std::int64_t>(requests_[static_cast<std::size_t>(sequence.request)].key);
  }
}

std::int32_t Generator::law_of(const Draw& draw) const {
  return law_of_[static_cast<std::size_t>(draw.sequence->request)];
}

/// Whether a step computes one row of each sequence and draws one token from it by one law: steps
/// that come back. Ranks that share the model communicate in between, which cannot be recorded.
bool Generator::is_decoding(const std::vector<Scheduler::Work>& work) const {
  return model_->unit() == nullptr && !draws_.empty() &&
         batch_.tokens.size() == draw_rows_.size() && work.size() == draws_.size() &&
         law_of(draws_.front()) == law_of(draws_.back());
}

/// What the numbers follow from that are passed by value in such a step.
Recordings::Key Generator::key_of_step() const {
  const ops::SamplingLaw& law = laws_[static_cast<std::size_t>(law_of(draws_.front()))];
  const auto bits = [](float x) { return std::int64_t{std::bit_cast<std::int32_t>(x)}; };
  return {batch_.tokens.size(),
          batch_.attention.block_table.dim(1),
          bits(law.temperature),
          law.top_k,
          bits(law.top_p),
          bits(law.min_p),
          law.vocab};
}

/// Queues a step: hidden states, then all draws, law by law, a bounded number of rows at a time.
void Generator::compute() {
  const Tensor& hidden = model_->forward(batch_, cache_);
  const std::int64_t limit =
      std::max(logits_elements / model_->config().vocab_size, least_logits_rows);
  const auto draws = static_cast<std::int64_t>(draws_.size());
  for (std::int64_t begin = 0, end = 0; begin < draws; begin = end) {
    const std::int32_t law = law_of(draws_[static_cast<std::size_t>(begin)]);
    const auto same_law = [&](std::int64_t i) {
      return law_of(draws_[static_cast<std::size_t>(i)]) == law;
    };
    while (end < draws && end - begin < limit && same_law(end)) ++end;
    draw(hidden, begin, end, laws_[static_cast<std::size_t>(law)]);
  }
}

/// Queues the draws [begin, end).
void Generator::draw(const Tensor& hidden, std::int64_t begin, std::int64_t end,
                     const ops::SamplingLaw& law) {
  const Device& device = model_->device();
  hidden_rows_.reserve(device, hidden.dtype(), {end - begin, hidden.dim(1)});
  logits_.reserve(device, f32, {end - begin, model_->config().vocab_size});
  ops::gather_rows(hidden_rows_.tensor(), hidden, draw_rows_.rows(begin, end));
  model_->logits(logits_.tensor(), hidden_rows_.tensor());
  Tensor drawn = drawn_.rows(begin, end), logprob = logprob_.rows(begin, end);
  ops::sample_tokens(drawn, logprob, logits_.tensor(), keys_.rows(begin, end),
                     places_.rows(begin, end), law);
}

void Generator::refuse_infinite_logits(const Draw& draw) const {
  throw Error(name_of_request(static_cast<std::size_t>(draw.sequence->request)) +
              ": a logit is not finite at new token " +
              std::to_string(draw.sequence->logprobs.size()) +
              "; the weights or the keys and values are broken");
}

void Generator::accept(const Draw& draw, TokenId token, float logprob) {
  Sequence& sequence = *draw.sequence;
  sequence.tokens.push_back(token);
  sequence.logprobs.push_back(logprob);
  const auto request = static_cast<std::size_t>(sequence.request);
  const bool stop = stops_[static_cast<std::size_t>(token)];
  const auto length = static_cast<std::int64_t>(sequence.logprobs.size());
  if (!stop && length < requests_[request].max_new_tokens) return;
  Completion& completion = completions_[request];
  completion.tokens.assign(sequence.tokens.begin() + sequence.prompt_length, sequence.tokens.end());
  completion.logprobs.assign(sequence.logprobs.begin(), sequence.logprobs.end());
  completion.finish = stop ? Finish::stop : Finish::length;
  scheduler_.finish(sequence);
}

}  // namespace fst
