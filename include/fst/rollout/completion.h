#pragma once

#include <cstdint>
#include <vector>

#include "fst/base/types.h"
#include "fst/tensor/ops.h"

namespace fst {

/// One completion to draw. It depends on these fields and the weights alone.
struct GenerateRequest {
  std::vector<TokenId> prompt;
  std::uint64_t key = 0;  // stream of random numbers (base/random.h)
  std::int32_t max_new_tokens = 0;
  ops::SamplingLaw law;  // vocab 0: all rows of the head
};

struct Completion {
  std::vector<TokenId> tokens;  // new tokens, with the stop token if one came
  std::vector<float> logprobs;  // one per token, under the law it was drawn from
  Finish finish = Finish::length;
};

}  // namespace fst
