#include "fst/rollout/trajectory.h"

namespace fst {

void Trajectory::pack(Packer& packer) const {
  packer.put(request);
  packer.put(policy);
  packer.put(tokens);
  packer.put(prompt_length);
  packer.put(logprobs);
  packer.put(finish);
  packer.put(verdict.reward);
  packer.put(verdict.status);
  packer.put(std::string_view(verdict.feedback));
  packer.put(answer);
  packer.put(base_log_ratio);
  packer.put(std::string_view(text));
}

Trajectory Trajectory::unpack(Unpacker& unpacker) {
  Trajectory t;
  t.request = unpacker.get<std::int32_t>();
  t.policy = unpacker.get<PolicyVersion>();
  t.tokens = unpacker.get<std::vector<TokenId>>();
  t.prompt_length = unpacker.get<std::int32_t>();
  t.logprobs = unpacker.get<std::vector<float>>();
  t.finish = unpacker.get<Finish>();
  t.verdict.reward = unpacker.get<float>();
  t.verdict.status = unpacker.get<VerdictStatus>();
  t.verdict.feedback = unpacker.get<std::string>();
  t.answer = unpacker.get<std::int64_t>();
  t.base_log_ratio = unpacker.get<double>();
  t.text = unpacker.get<std::string>();
  return t;
}

}  // namespace fst
