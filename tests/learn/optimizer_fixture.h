#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "fst/learn/optimizer.h"
#include "fst/tensor/ops.h"

#include "learn_fixture.h"

namespace fst::test {

/// AdamW on the whole vector, one parameter after the other: what the sharded optimiser must equal.
class PlainAdamW {
 public:
  PlainAdamW(const Parameters& parameters, const AdamWOptions& options)
      : device_(parameters.flat().device()),
        specs_(parameters.specs()),
        options_(options),
        p(values_of(parameters.flat())),
        m(p.size(), 0.0f),
        v(p.size(), 0.0f) {}

  void step(std::vector<float> gradient, double lr) {
    kernels::ExactSum squares;
    ops::sum_of_squares(squares, tensor(gradient, 0, static_cast<std::int64_t>(gradient.size())));
    norm = std::sqrt(squares.value());
    beta1_power_ *= options_.beta1;
    beta2_power_ *= options_.beta2;
    const double clip = options_.clip > 0.0 ? std::min(1.0, options_.clip / (norm + 1e-6)) : 1.0;
    for (const ParameterSpec& spec : specs_) {
      const bool gain =
          spec.name.ends_with("q_norm.weight") || spec.name.ends_with("k_norm.weight");
      const ops::AdamWStep scalars{gain ? lr * options_.gain_lr_scale : lr,
                                   options_.beta1,
                                   options_.beta2,
                                   options_.eps,
                                   spec.rank == 2 ? options_.weight_decay : 0.0,
                                   1.0 - beta1_power_,
                                   1.0 - beta2_power_,
                                   static_cast<float>(clip)};
      const std::int64_t begin = spec.offset, end = begin + spec.size();
      Tensor pt = tensor(p, begin, end), mt = tensor(m, begin, end), vt = tensor(v, begin, end);
      ops::adamw(pt, mt, vt, tensor(gradient, begin, end), scalars);
    }
  }

 private:
  Tensor tensor(std::vector<float>& x, std::int64_t begin, std::int64_t end) const {
    return {device_, DType::f32, x.data() + begin, {end - begin}};
  }
  Device device_;
  std::vector<ParameterSpec> specs_;
  AdamWOptions options_;
  double beta1_power_ = 1.0, beta2_power_ = 1.0;

 public:
  std::vector<float> p, m, v;
  double norm = 0;
};

inline std::vector<float> some_gradient(std::int64_t size, std::uint32_t seed) {
  return Noise(seed).normals(size, 0.3);
}

}  // namespace fst::test
