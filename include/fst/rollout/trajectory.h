#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fst/base/types.h"
#include "fst/comm/pack.h"
#include "fst/task/problem.h"
#include "fst/tensor/ops.h"

namespace fst {

/// One draw to make: which problem, under which prompt, which number in its group. Computed alike
/// on every rank and never sent.
struct Request {
  std::int32_t problem = 0;  // index in RequestBatch::problems; the requests of one make its group
  std::int32_t prompt = 0;   // index in RequestBatch::prompts
  std::int32_t sample = 0;   // number of the draw within its group
  std::uint64_t key = 0;     // stream of random numbers, made from the draw's meaning
};

/// The draws of one call.
struct RequestBatch {
  std::vector<Problem> problems;
  std::vector<std::string> prompts;
  std::vector<Request> requests;
  ops::SamplingLaw law;
  std::int32_t max_new_tokens = 0;
  bool score_base = false;  // also measure log p(completion) - log p_base(completion)
};

/// What one request became. Tokens, not text, are what later floors learn from.
struct Trajectory {
  std::int32_t request = 0;     // index in RequestBatch::requests
  PolicyVersion policy = 0;     // θ that sampled it
  std::vector<TokenId> tokens;  // [T] prompt, then completion (with the stop token)
  std::int32_t prompt_length = 0;
  std::vector<float> logprobs;  // [T - prompt_length] as sampled
  Finish finish = Finish::length;
  Verdict verdict;
  std::int64_t answer = -1;     // the world: which rule the answer follows; else a hash of the text
  double base_log_ratio = 0.0;  // with score_base
  std::string text;             // the completion without stop and special tokens

  std::int32_t length() const { return static_cast<std::int32_t>(tokens.size()) - prompt_length; }
  void pack(Packer& packer) const;
  static Trajectory unpack(Unpacker& unpacker);
};

}  // namespace fst
