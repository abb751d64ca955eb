#include "fst/learn/optimizer.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "fst/base/error.h"
#include "fst/tensor/ops.h"

namespace fst {

namespace {

/// x^n by multiplication alone, so that no bit comes from the C library.
double power(double x, std::int64_t n) {
  double result = 1.0;
  for (; n > 0; n >>= 1) {
    if ((n & 1) != 0) result *= x;
    x *= x;
  }
  return result;
}

bool is_head_norm(const std::string& name) {
  return name.find("q_norm") != std::string::npos || name.find("k_norm") != std::string::npos;
}

}  // namespace

Optimizer::Optimizer(Parameters& parameters, Range shard, const LearnerGrid& grid,
                     const AdamWOptions& options)
    : parameters_(&parameters),
      shard_(shard),
      grid_(grid),
      options_(options),
      m_(parameters.flat().device(), DType::f32, {shard.size()}),
      v_(parameters.flat().device(), DType::f32, {shard.size()}) {
  parameters.masters(shard);  // are there
}

double Optimizer::norm_of(const Tensor& gradient_shard) const {
  kernels::ExactSum squares;
  for (const ParameterSpec& spec : parameters_->specs()) {
    if (spec.replicated && parameters_->shard().rank != 0) continue;
    const std::int64_t begin = std::max(spec.offset, shard_.begin);
    const std::int64_t end = std::min(spec.offset + spec.size(), shard_.end);
    if (begin >= end) continue;
    ops::sum_of_squares(squares, gradient_shard.rows(begin - shard_.begin, end - shard_.begin));
  }
  grid_.all->all_reduce_sum(squares, "gradient norm");
  return std::sqrt(squares.value());
}

double Optimizer::step(const Tensor& gradient_shard, double lr) {
  if (gradient_shard.size() != shard_.size()) {
    throw Error("optimizer: gradient of " + std::to_string(gradient_shard.size()) +
                " elements for a shard of " + std::to_string(shard_.size()));
  }
  const double norm = norm_of(gradient_shard);
  if (!std::isfinite(norm))
    throw Error("optimizer: the gradient is not finite at update " + std::to_string(steps_ + 1));

  ++steps_;
  ops::AdamWStep step{lr,
                      options_.beta1,
                      options_.beta2,
                      options_.eps,
                      0.0,
                      1.0 - power(options_.beta1, steps_),
                      1.0 - power(options_.beta2, steps_),
                      1.0f};
  if (options_.clip > 0.0) {
    step.clip = static_cast<float>(std::min(1.0, options_.clip / (norm + 1e-6)));
  }
  for (const ParameterSpec& spec : parameters_->specs()) {
    const std::int64_t begin = std::max(spec.offset, shard_.begin);
    const std::int64_t end = std::min(spec.offset + spec.size(), shard_.end);
    if (begin >= end) continue;
    step.weight_decay = spec.decay ? options_.weight_decay : 0.0;
    step.lr = is_head_norm(spec.name) ? lr * options_.gain_lr_scale : lr;
    Tensor parameter = parameters_->masters({begin, end});
    Tensor m = m_.tensor().rows(begin - shard_.begin, end - shard_.begin);
    Tensor v = v_.tensor().rows(begin - shard_.begin, end - shard_.begin);
    ops::adamw(parameter, m, v, gradient_shard.rows(begin - shard_.begin, end - shard_.begin),
               step);
  }
  parameters_->follow_masters(shard_);
  gather();
  return norm;
}

/// Every learner sends its shard of the new weights to its replicas.
void Optimizer::gather() {
  const Communicator& replicas = *grid_.replicas;
  if (replicas.size() == 1) return;
  const Tensor& flat = parameters_->flat();
  OutgoingTensor mine{{}, flat.rows(shard_.begin, shard_.end)};
  std::vector<IncomingTensor> in;
  for (int r = 0; r < replicas.size(); ++r) {
    if (r == replicas.rank()) continue;
    const Range theirs = part_of(parameters_->size(), replicas.size(), r);
    mine.peers.push_back(r);
    in.push_back({r, flat.rows(theirs.begin, theirs.end)});
  }
  replicas.transfer(std::span<const OutgoingTensor>(&mine, 1), in, "updated weights");
}

}  // namespace fst
