#include "fst/rollout/generator.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "fst/base/error.h"
#include "fst/tensor/host_view.h"

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
      cache_(model.local_config(), model.device(), 0),
      scheduler_({options.max_batch, options.prefill_chunk, options.share_prefixes}),
      stops_(static_cast<std::size_t>(model.config().vocab_size)) {
  const std::int64_t block_bytes = KvCache::bytes_per_block(model.local_config());
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
  scheduler_.take_copies(copies_);
  for (const Scheduler::Copy& copy : copies_) cache_.copy_block(copy.to, copy.from);
  make_batch(work);
  const Tensor& hidden = model_->forward(batch_, cache_);
  collect_draws(work);
  if (!draws_.empty()) draw(hidden);
}

void Generator::make_batch(const std::vector<Scheduler::Work>& work) {
  const Device& device = model_->device();
  const auto sequences = static_cast<std::int64_t>(work.size());
  std::int64_t rows = 0, longest = 0;
  bool single = false, longer = false;  // sequences of one row, and of more
  for (const Scheduler::Work& w : work) {
    rows += w.rows;
    (w.rows == 1 ? single : longer) = true;
    longest = std::max(longest, blocks_for(w.sequence->computed + w.rows));
  }
  tokens_.reserve(device, i32, {rows});
  positions_.reserve(device, i32, {rows});
  cu_seqlens_.reserve(device, i32, {sequences + 1});
  context_.reserve(device, i32, {sequences});
  block_table_.reserve(device, i32, {sequences, longest});
  using View = HostView<std::int32_t>;
  std::array<View, 5> views{
      View(tokens_.tensor(), Contents::undefined), View(positions_.tensor(), Contents::undefined),
      View(cu_seqlens_.tensor(), Contents::undefined), View(context_.tensor(), Contents::undefined),
      View(block_table_.tensor(), Contents::undefined)};
  auto* token = views[0].data();
  auto* position = views[1].data();
  auto* begin = views[2].data();
  auto* context = views[3].data();
  auto* table = views[4].data();
  *begin = 0;
  for (const Scheduler::Work& w : work) {
    const Sequence& sequence = *w.sequence;
    token = std::copy_n(sequence.tokens.begin() + sequence.computed, w.rows, token);
    for (std::int64_t r = 0; r < w.rows; ++r) {
      *position++ = static_cast<std::int32_t>(sequence.computed + r);
    }
    begin[1] = begin[0] + static_cast<std::int32_t>(w.rows);
    ++begin;
    *context++ = static_cast<std::int32_t>(sequence.computed);
    const std::int64_t blocks = blocks_for(sequence.computed + w.rows);
    std::copy_n(sequence.blocks.begin(), blocks, table);
    std::fill_n(table + blocks, longest - blocks, 0);
    table += longest;
  }
  for (View& view : views) view.store();
  batch_ = {tokens_.tensor(),
            positions_.tensor(),
            {cu_seqlens_.tensor(), context_.tensor(), block_table_.tensor(), single, longer}};
}

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
}

/// Draws all tokens of the step, law by law, a bounded number of rows at a time.
void Generator::draw(const Tensor& hidden) {
  const auto law = [&](const Draw& d) {
    return law_of_[static_cast<std::size_t>(d.sequence->request)];
  };
  if (laws_.size() > 1) {
    std::stable_sort(draws_.begin(), draws_.end(),
                     [&](const Draw& a, const Draw& b) { return law(a) < law(b); });
  }
  const auto limit = static_cast<std::size_t>(
      std::max(logits_elements / model_->config().vocab_size, least_logits_rows));
  for (std::size_t begin = 0; begin < draws_.size();) {
    std::size_t end = begin + 1;
    while (end < draws_.size() && end - begin < limit && law(draws_[end]) == law(draws_[begin]))
      ++end;
    draw_rows(hidden, std::span(draws_).subspan(begin, end - begin));
    begin = end;
  }
}

void Generator::draw_rows(const Tensor& hidden, std::span<const Draw> draws) {
  const Device& device = model_->device();
  const auto count = static_cast<std::int64_t>(draws.size());
  rows_.reserve(device, i32, {count});
  hidden_rows_.reserve(device, f32, {count, hidden.dim(1)});
  logits_.reserve(device, f32, {count, model_->config().vocab_size});
  drawn_.reserve(device, i32, {count});
  logprob_.reserve(device, f32, {count});
  keys_.reserve(device, DType::i64, {count});
  places_.reserve(device, i32, {count});
  HostView<std::int32_t> rows(rows_.tensor(), Contents::undefined);
  HostView<std::int32_t> places(places_.tensor(), Contents::undefined);
  HostView<std::int64_t> keys(keys_.tensor(), Contents::undefined);
  for (std::size_t i = 0; i < draws.size(); ++i) {
    const Sequence& sequence = *draws[i].sequence;
    const auto at = static_cast<std::int64_t>(i);
    rows[at] = draws[i].row;
    keys[at] = static_cast<std::int64_t>(requests_[static_cast<std::size_t>(sequence.request)].key);
    places[at] = static_cast<std::int32_t>(sequence.logprobs.size());
  }
  rows.store();
  keys.store();
  places.store();
  ops::gather_rows(hidden_rows_.tensor(), hidden, rows_.tensor());
  model_->logits(logits_.tensor(), hidden_rows_.tensor());
  const auto law =
      static_cast<std::size_t>(law_of_[static_cast<std::size_t>(draws.front().sequence->request)]);
  try {
    ops::sample_tokens(drawn_.tensor(), logprob_.tensor(), logits_.tensor(), keys_.tensor(),
                       places_.tensor(), laws_[law]);
  } catch (const Error&) {
    refuse_infinite_logits(draws);
    throw;
  }
  const HostView<const std::int32_t> drawn(drawn_.tensor());
  const HostView<const float> logprob(logprob_.tensor());
  for (std::size_t i = 0; i < draws.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    accept(draws[i], drawn[at], logprob[at]);
  }
}

/// Names the request whose logits are not finite, if that is what is wrong.
void Generator::refuse_infinite_logits(std::span<const Draw> draws) const {
  const std::int64_t vocab = logits_.tensor().dim(1);
  const HostView<const float> logits(logits_.tensor());
  for (std::size_t i = 0; i < draws.size(); ++i) {
    const float* row = logits.data() + static_cast<std::int64_t>(i) * vocab;
    if (std::all_of(row, row + vocab, [](float x) { return std::isfinite(x); })) continue;
    const Sequence& sequence = *draws[i].sequence;
    throw Error(name_of_request(static_cast<std::size_t>(sequence.request)) +
                ": a logit is not finite at new token " + std::to_string(sequence.logprobs.size()) +
                "; the weights or the keys and values are broken");
  }
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
