#include "fst/model/token_head.h"

#include <algorithm>
#include <string>

#include "fst/base/error.h"
#include "fst/tensor/host_view.h"

namespace fst {

namespace {

constexpr DType f32 = DType::f32;

std::span<float> part(std::vector<float>& values, std::int64_t begin, std::int64_t end) {
  if (values.empty()) return {};
  return {values.data() + begin, static_cast<std::size_t>(end - begin)};
}

void expect_finite(std::int64_t row, std::int64_t begin, const char* whose) {
  if (row >= 0) {
    throw Error(std::string("the ") + whose + "'s logits of entry " + std::to_string(begin + row) +
                " are not all finite");
  }
}

}  // namespace

/// What one call works on; tensors of a chunk are prefixes of the buffers.
struct TokenHead::Pass {
  const Qwen3& model;
  const Tensor& hidden;
  const HeadOptions& options;
  const HeadReference& reference;
  ops::TokenLaw law;
  VocabLaw vocab_law{model.unit(), model.vocab().begin};
  std::int64_t entries = 0;
  std::int64_t chunk = 0;

  bool kl() const { return reference.model != nullptr; }
};

void TokenHead::reserve(const HeadShape& shape) {
  const std::int64_t n = std::max(shape.chunk_rows, ops::rows_of_block(shape.dtype));
  for (Buffer* entries : {&rows_, &targets_})
    entries->reserve(device_, DType::i32, {shape.entries});
  hidden_.reserve(device_, shape.dtype, {n, shape.hidden_size});
  logits_.reserve(device_, f32, {n, shape.columns});
  lse_.reserve(device_, f32, {n, 2});
  logprob_.reserve(device_, f32, {n});
  if (shape.entropy) entropy_.reserve(device_, f32, {n});
  if (shape.reference_hidden_size > 0) {
    reference_hidden_.reserve(device_, shape.dtype, {n, shape.reference_hidden_size});
    reference_logits_.reserve(device_, f32, {n, shape.columns});
    reference_lse_.reserve(device_, f32, {n, 2});
    kl_.reserve(device_, f32, {n});
  }
  if (!shape.backward) return;
  if (shape.dtype != f32) dlogits_.reserve(device_, shape.dtype, {n, shape.columns});
  dhidden_.reserve(device_, shape.dtype, {n, shape.hidden_size});
  for (Buffer* upstream : {&dlogprob_, &dentropy_, &dkl_}) upstream->reserve(device_, f32, {n});
}

void TokenHead::prepare(Pass& pass, const HeadRows& rows) {
  if (rows.rows.size() != rows.targets.size()) {
    throw Error("head: " + std::to_string(rows.rows.size()) + " rows, " +
                std::to_string(rows.targets.size()) + " targets");
  }
  const std::int64_t vocab = pass.model.config().vocab_size;
  if (pass.law.vocab == 0) pass.law.vocab = vocab;
  if (pass.kl() && (pass.reference.model->config().vocab_size != vocab ||
                    pass.reference.model->shard() != pass.model.shard())) {
    throw Error("head: the reference has another vocabulary or another share of it");
  }
  for (const TokenId target : rows.targets) {
    if (target < 0 || target >= pass.law.vocab) {
      throw Error("head: target " + std::to_string(target) + " is not below " +
                  std::to_string(pass.law.vocab));
    }
  }
  pass.entries = static_cast<std::int64_t>(rows.rows.size());
  pass.chunk = std::max<std::int64_t>(1, pass.options.chunk_rows);
  rows_.reserve(device_, DType::i32, {pass.entries});
  targets_.reserve(device_, DType::i32, {pass.entries});
  copy_in(rows_.tensor(), std::span<const std::int32_t>(rows.rows));
  copy_in(targets_.tensor(), std::span<const std::int32_t>(rows.targets));
  const auto n = static_cast<std::size_t>(pass.entries);
  scores_.logprob.assign(n, 0.0f);
  scores_.entropy.assign(pass.options.entropy ? n : 0, 0.0f);
  scores_.kl.assign(pass.kl() ? n : 0, 0.0f);
}

void TokenHead::forward_chunk(Pass& pass, std::int64_t begin, std::int64_t end) {
  const std::int64_t n = end - begin;
  const Tensor rows = rows_.tensor().rows(begin, end);
  hidden_.reserve(device_, pass.model.dtype(), {n, pass.model.config().hidden_size});
  logits_.reserve(device_, f32, {n, pass.model.vocab().size()});
  lse_.reserve(device_, f32, {n, 2});
  logprob_.reserve(device_, f32, {n});
  ops::gather_rows(hidden_.tensor(), pass.hidden, rows);
  pass.model.local_logits(logits_.tensor(), hidden_.tensor());
  expect_finite(pass.vocab_law.lse(lse_.tensor(), logits_.tensor(), pass.law), begin, "model");
  pass.vocab_law.logprob(logprob_.tensor(), logits_.tensor(), lse_.tensor(),
                         targets_.tensor().rows(begin, end), pass.law);
  copy_out(part(scores_.logprob, begin, end), logprob_.tensor());
  if (pass.options.entropy) {
    entropy_.reserve(device_, f32, {n});
    pass.vocab_law.entropy(entropy_.tensor(), logits_.tensor(), lse_.tensor(), pass.law);
    copy_out(part(scores_.entropy, begin, end), entropy_.tensor());
  }
  if (!pass.kl()) return;
  const Qwen3& reference = *pass.reference.model;
  reference_hidden_.reserve(device_, reference.dtype(), {n, reference.config().hidden_size});
  reference_logits_.reserve(device_, f32, {n, reference.vocab().size()});
  reference_lse_.reserve(device_, f32, {n, 2});
  kl_.reserve(device_, f32, {n});
  ops::gather_rows(reference_hidden_.tensor(), pass.reference.hidden, rows);
  reference.local_logits(reference_logits_.tensor(), reference_hidden_.tensor());
  expect_finite(pass.vocab_law.lse(reference_lse_.tensor(), reference_logits_.tensor(), pass.law),
                begin, "reference");
  pass.vocab_law.kl(kl_.tensor(), logits_.tensor(), lse_.tensor(), reference_logits_.tensor(),
                    reference_lse_.tensor(), pass.law);
  copy_out(part(scores_.kl, begin, end), kl_.tensor());
}

const HeadScores& TokenHead::score(const Qwen3& model, const Tensor& hidden, const HeadRows& rows,
                                   const HeadOptions& options, const HeadReference& reference) {
  Pass pass{model, hidden, options, reference, options.law};
  prepare(pass, rows);
  for (std::int64_t begin = 0; begin < pass.entries; begin += pass.chunk) {
    forward_chunk(pass, begin, std::min(begin + pass.chunk, pass.entries));
  }
  return scores_;
}

/// Asks `loss` for the upstream gradients of the chunk that forward_chunk() has left in the
/// buffers.
ops::TokenGradient TokenHead::upstream(const Pass& pass, std::int64_t begin, std::int64_t end,
                                       const HeadLoss& loss) {
  const std::int64_t n = end - begin;
  HeadChunk chunk;
  chunk.begin = begin;
  chunk.end = end;
  ops::TokenGradient gradient;
  std::vector<HostView<float>> views;
  const auto open = [&](Buffer& buffer, Tensor& tensor, std::span<float>& values) {
    buffer.reserve(device_, f32, {n});
    ops::fill(buffer.tensor(), 0.0f);
    tensor = buffer.tensor();
    values = views.emplace_back(tensor).span();  // stays when the view is moved
  };
  chunk.logprob = part(scores_.logprob, begin, end);
  open(dlogprob_, gradient.dlogprob, chunk.dlogprob);
  if (pass.options.entropy) {
    chunk.entropy = part(scores_.entropy, begin, end);
    open(dentropy_, gradient.dentropy, chunk.dentropy);
    gradient.entropy = entropy_.tensor();
  }
  if (pass.kl()) {
    chunk.kl = part(scores_.kl, begin, end);
    open(dkl_, gradient.dkl, chunk.dkl);
    gradient.kl = kl_.tensor();
    gradient.reference_logits = reference_logits_.tensor();
    gradient.reference_lse = reference_lse_.tensor();
  }
  loss(chunk);
  for (HostView<float>& view : views) view.store();
  return gradient;
}

/// Where a chunk of backward ends, and in first_rows_ which of its rows are sequences: as many rows
/// as asked for, but a sequence is cut only where a block of its weight gradient's sum ends.
std::int64_t TokenHead::chunk_end(const Pass& pass, const HeadRows& rows, std::int64_t begin) {
  const std::int64_t block = ops::rows_of_block(pass.model.dtype());
  const auto first_of = [&](std::size_t s) -> std::int64_t {
    return s < rows.first.size() ? rows.first[s] : s == 0 ? 0 : pass.entries;
  };
  std::size_t sequence = 0;
  while (first_of(sequence + 1) <= begin) ++sequence;
  first_rows_.assign(1, 0);
  for (std::int64_t at = begin; at < pass.entries;) {
    const std::int64_t last = first_of(++sequence), room = begin + pass.chunk - at;
    if (last - at > room) {
      std::int64_t taken = room / block * block;
      if (taken == 0 && at == begin) taken = std::min(block, last - at);
      at += taken;
      if (taken > 0) first_rows_.push_back(static_cast<std::int32_t>(at - begin));
      break;
    }
    at = last;
    first_rows_.push_back(static_cast<std::int32_t>(at - begin));
  }
  return begin + first_rows_.back();
}

const HeadScores& TokenHead::backward(Tensor& dhidden, Gradients& gradients, Qwen3& model,
                                      const Tensor& hidden, const HeadRows& rows,
                                      const HeadOptions& options, const HeadReference& reference,
                                      const HeadLoss& loss) {
  Pass pass{model, hidden, options, reference, options.law};
  prepare(pass, rows);
  ops::fill(dhidden, 0.0f);
  for (std::int64_t begin = 0, end = 0; begin < pass.entries; begin = end) {
    end = chunk_end(pass, rows, begin);
    forward_chunk(pass, begin, end);
    const ops::TokenGradient gradient = upstream(pass, begin, end, loss);
    Tensor dlogits = logits_.tensor();  // in place where the types allow it
    if (model.dtype() != f32) {
      dlogits_.reserve(device_, model.dtype(), {end - begin, model.vocab().size()});
      dlogits = dlogits_.tensor();
    }
    pass.vocab_law.backward(dlogits, logits_.tensor(), lse_.tensor(),
                            targets_.tensor().rows(begin, end), gradient, pass.law);
    dhidden_.reserve(device_, model.dtype(), {end - begin, model.config().hidden_size});
    model.logits_backward(dhidden_.tensor(), gradients, dlogits, hidden_.tensor(), first_rows_);
    ops::scatter_add_rows(dhidden, dhidden_.tensor(), rows_.tensor().rows(begin, end));
  }
  return scores_;
}

}  // namespace fst
