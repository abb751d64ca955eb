#include "fst/rollout/generator.h"

#include <algorithm>
#include <bit>

#include "fst/base/error.h"
#include "fst/tensor/host_view.h"

namespace fst {

namespace {

constexpr DType f32 = DType::f32, i32 = DType::i32;

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
      memory_(model.device().during(options.phase)),
      cache_(model.local_config(), memory_, 0, model.dtype()),
      scheduler_({options.max_batch, options.prefill_chunk, options.share_prefixes}),
      inputs_(memory_),
      recordings_(memory_, model.unit()),
      results_(memory_) {
  const std::int64_t block_bytes = KvCache::bytes_per_block(model.local_config(), model.dtype());
  max_blocks_ = options.kv_blocks > 0 ? options.kv_blocks : options.kv_bytes / block_bytes;
  if (max_blocks_ < 1) {
    throw InputError("generator: no room for keys and values: " + std::to_string(options.kv_bytes) +
                     " bytes, and a block of " + std::to_string(ops::kv_block_tokens) +
                     " tokens has " + std::to_string(block_bytes));
  }
  if (options.max_batch < 1) throw InputError("generator: max_batch must be at least 1");
  if (options.prefill_chunk < 1) throw InputError("generator: prefill_chunk must be at least 1");
  steps_ahead_ = options.steps_ahead.value_or(model.device().on_host() ? 0 : 1);
  if (steps_ahead_ < 0 || steps_ahead_ >= Download::places) {
    throw InputError("generator: steps_ahead must be 0 or 1");
  }
  pads_ = pads(options, model.device().on_host());
  set_stops();
}

void Generator::set_stops() {
  const std::int64_t vocab = model_->config().vocab_size;
  std::vector<std::uint32_t> words(static_cast<std::size_t>((vocab + 31) / 32));
  for (const TokenId id : options_.stop_ids) {
    if (id < 0 || id >= vocab) {
      throw InputError("generator: stop token " + std::to_string(id) +
                       " is not in the vocabulary of " + std::to_string(vocab));
    }
    words[static_cast<std::size_t>(id / 32)] |= std::uint32_t{1} << (id % 32);
  }
  for (const std::uint32_t word : words) stop_bits_.push_back(std::bit_cast<std::int32_t>(word));
  stops_ = Buffer(memory_, i32, {static_cast<std::int64_t>(words.size())});
  copy_in(stops_.tensor(), std::span<const std::int32_t>(stop_bits_));
}

/// Where another phase has had its turn, what the device knew is void.
void Generator::begin_turn() {
  const std::uint64_t turn = memory_.enter();
  if (turn == turn_) return;
  turn_ = turn;
  scheduler_.pool().forget();
  copy_in(stops_.tensor(), std::span<const std::int32_t>(stop_bits_));
}

std::vector<Completion> Generator::generate(std::span<const GenerateRequest> requests) {
  check(requests);
  begin_turn();
  collected_ = queued_;  // what a call that failed has left behind
  recordings_.interrupted();
  grow_cache(requests);
  grow_results(requests);
  number_laws(requests);
  requests_ = requests;
  completions_.assign(requests.size(), {});
  scheduler_.start(requests);
  while (!scheduler_.done() || collected_ < queued_) {
    const bool draws = queue_step();
    if (queued_ - collected_ > (draws ? steps_ahead_ : 0)) collect_step();
  }
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
  BlockPool& pool = scheduler_.pool();
  if (wanted <= pool.blocks()) return;
  const std::int64_t blocks = std::min(std::max(wanted, 2 * pool.blocks()), max_blocks_);
  cache_.reserve(blocks + spare_blocks());
  pool.reset(blocks);
}

/// Room for the draws of a step. Growing moves the arrays, which key_of_step() knows.
void Generator::grow_results(std::span<const GenerateRequest> requests) {
  const auto rounded = static_cast<std::int64_t>(std::bit_ceil(requests.size()));
  const std::int64_t draws = std::min(rounded, most_decoded(options_, model_->device().on_host()));
  if (!drawn_.empty() && drawn_.size() >= draws) return;
  const auto [drawn, logprob, endings] =
      results_.shape<3>({{i32, {draws}}, {f32, {draws}}, {i32, {draws}}});
  drawn_ = drawn;
  logprob_ = logprob;
  endings_ = endings;
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

/// Queues what is to be computed next, if there is anything. Whether it draws.
bool Generator::queue_step() {
  const std::vector<Scheduler::Work>& work = scheduler_.plan();
  if (work.empty()) return false;
  scheduler_.take_copies(copies_);
  for (const Scheduler::Copy& copy : copies_) cache_.copy_block(copy.to, copy.from);
  collect_draws(work);
  const bool decoding = decodes(work);
  const auto sequences = static_cast<std::int64_t>(work.size());
  dummies_ = decoding && pads_ ? padded_batch(sequences) - sequences : 0;
  make_batch(work);
  if (decoding && options_.record_steps) {
    recordings_.run(key_of_step(), [&] { compute(); });
  } else {
    compute();
    recordings_.interrupted();
  }
  const Draws& draws = draws_of(queued_);
  if (draws.empty()) return false;
  results_.fetch(place_of(queued_));
  for (std::size_t i = 0; i < draws.size(); ++i) {
    scheduler_.assume(*draws[i].sequence, static_cast<std::int32_t>(i));
  }
  ++queued_;
  return true;
}

/// The rows of `work` count as computed from here on, though they are yet to be queued: what is
/// queued later finds them done.
void Generator::collect_draws(const std::vector<Scheduler::Work>& work) {
  Draws& draws = draws_of(queued_);
  draws.clear();
  std::int32_t row = -1;
  for (const Scheduler::Work& w : work) {
    row += static_cast<std::int32_t>(w.rows);
    scheduler_.computed(w);
    if (w.sequence->pending() > 0) continue;
    draws.push_back({row, w.sequence});
    for (Sequence* sample : scheduler_.fork(*w.sequence)) draws.push_back({row, sample});
  }
  if (laws_.size() > 1) {
    std::stable_sort(draws.begin(), draws.end(),
                     [&](const Draw& a, const Draw& b) { return law_of(a) < law_of(b); });
  }
}

std::int32_t Generator::law_of(const Draw& draw) const {
  return law_of_[static_cast<std::size_t>(draw.sequence->request)];
}

/// Whether a step computes one row of each sequence and draws one token from it by one law: steps
/// that come back.
bool Generator::decodes(const std::vector<Scheduler::Work>& work) {
  const Draws& draws = draws_of(queued_);
  return !draws.empty() && work.size() == draws.size() &&
         law_of(draws.front()) == law_of(draws.back()) &&
         std::all_of(work.begin(), work.end(), [](const auto& w) { return w.rows == 1; });
}

/// What the numbers follow from that are passed by value in such a step.
Recordings::Key Generator::key_of_step() {
  const ops::SamplingLaw& law = laws_[static_cast<std::size_t>(law_of(draws_of(queued_).front()))];
  const auto bits = [](float x) { return std::int64_t{std::bit_cast<std::int32_t>(x)}; };
  return {batch_.tokens.size(),
          batch_.attention.block_table.dim(1),
          drawn_.size(),
          bits(law.temperature),
          law.top_k,
          bits(law.top_p),
          bits(law.min_p),
          law.vocab};
}

/// Queues a step: hidden states, then all draws, law by law, a bounded number of rows at a time.
void Generator::compute() {
  ops::take_drawn(batch_.tokens, drawn_);
  const Tensor& hidden = model_->forward(batch_, cache_);
  const std::int64_t limit = most_logits_rows(model_->config());
  const Draws& all = draws_of(queued_);
  const std::int64_t draws = draw_rows_.size();
  // Dummies have the law of those before them.
  const auto law_at = [&](std::int64_t i) {
    return law_of(all[std::min(static_cast<std::size_t>(i), all.size() - 1)]);
  };
  for (std::int64_t begin = 0, end = 0; begin < draws; begin = end) {
    const std::int32_t law = law_at(begin);
    while (end < draws && end - begin < limit && law_at(end) == law) ++end;
    draw(hidden, begin, end, laws_[static_cast<std::size_t>(law)]);
  }
  Tensor endings = endings_.rows(0, draws);
  ops::test_endings(endings, drawn_.rows(0, draws), stops_.tensor(), places_, limits_);
}

/// Queues the draws [begin, end).
void Generator::draw(const Tensor& hidden, std::int64_t begin, std::int64_t end,
                     const ops::SamplingLaw& law) {
  hidden_rows_.reserve(memory_, hidden.dtype(), {end - begin, hidden.dim(1)});
  logits_.reserve(memory_, f32, {end - begin, model_->config().vocab_size});
  ops::gather_rows(hidden_rows_.tensor(), hidden, draw_rows_.rows(begin, end));
  model_->logits(logits_.tensor(), hidden_rows_.tensor());
  Tensor drawn = drawn_.rows(begin, end), logprob = logprob_.rows(begin, end);
  ops::sample_tokens(drawn, logprob, logits_.tensor(), keys_.rows(begin, end),
                     places_.rows(begin, end), law);
}

/// Reads what the oldest of the steps under way has drawn; later ones go on meanwhile.
void Generator::collect_step() {
  const int place = place_of(collected_);
  const Draws& draws = draws_of(collected_++);
  results_.wait(place);
  const auto* token = results_.host<TokenId>(drawn_, place);
  const auto* logprob = results_.host<float>(logprob_, place);
  const auto* ending = results_.host<ops::Ending>(endings_, place);
  for (std::size_t i = 0; i < draws.size(); ++i) accept(draws[i], token[i], logprob[i], ending[i]);
}

void Generator::accept(const Draw& draw, TokenId token, float logprob, ops::Ending ending) {
  Sequence& sequence = *draw.sequence;
  if (!scheduler_.collect(sequence)) return;
  if (ending == ops::Ending::broken) refuse_infinite_logits(sequence);
  const std::size_t place = sequence.logprobs.size();
  const auto drawn = sequence.tokens.begin() + sequence.prompt_length;
  drawn[static_cast<std::ptrdiff_t>(place)] = token;
  sequence.logprobs.push_back(logprob);
  if (ending == ops::Ending::none) return;
  Completion& completion = completions_[static_cast<std::size_t>(sequence.request)];
  completion.tokens.assign(drawn, drawn + static_cast<std::ptrdiff_t>(place) + 1);
  completion.logprobs.assign(sequence.logprobs.begin(), sequence.logprobs.end());
  completion.finish = ending == ops::Ending::stop ? Finish::stop : Finish::length;
  scheduler_.finish(sequence);
}

void Generator::refuse_infinite_logits(const Sequence& sequence) const {
  throw Error(name_of_request(static_cast<std::size_t>(sequence.request)) +
              ": a logit is not finite at new token " + std::to_string(sequence.logprobs.size()) +
              "; the weights or the keys and values are broken");
}

}  // namespace fst
