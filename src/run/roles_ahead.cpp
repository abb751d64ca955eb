// A batch sampled while the step before it is learnt (rollout.max_lag = 1), and how a checkpoint
// keeps it.

#include <algorithm>
#include <utility>

#include "fst/base/error.h"
#include "fst/comm/pack.h"
#include "fst/run/roles.h"

namespace fst {

void RolloutRole::start_ahead(const RequestBatch& batch, const Task& task) {
  ahead_ = sample(batch, task);
}

bool RolloutRole::take_up() {
  if (!ahead_) return false;
  now_ = std::move(*ahead_);
  ahead_.reset();
  return true;
}

std::string RolloutRole::ahead_bytes() {
  const auto trajectories = on_first_rank(ahead_.value().mine, "trajectories for a checkpoint");
  if (context_->world.all().rank() != 0) return {};
  Packer packer;
  for (const Trajectory& t : trajectories) packer.put(t);
  const auto bytes = packer.bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void RolloutRole::restore_ahead(const RequestBatch& batch, std::string_view bytes) {
  Unpacker unpacker(std::as_bytes(std::span(bytes)));
  std::vector<Trajectory> trajectories;
  while (!unpacker.done()) trajectories.push_back(unpacker.get<Trajectory>());
  if (trajectories.size() != batch.requests.size()) {
    throw Error("checkpoint: " + std::to_string(trajectories.size()) +
                " trajectories sampled ahead for " + std::to_string(batch.requests.size()) +
                " requests");
  }
  Sampled sampled;
  sampled.requests = static_cast<std::int32_t>(batch.requests.size());
  for (std::size_t i = 0; i < trajectories.size(); ++i) {
    if (trajectories[i].request != static_cast<std::int32_t>(i)) {
      throw Error("checkpoint: trajectory " + std::to_string(i) + " sampled ahead is of request " +
                  std::to_string(trajectories[i].request));
    }
    if (serves(batch.requests[i].problem)) sampled.mine.push_back(std::move(trajectories[i]));
  }
  ahead_ = std::move(sampled);
}

}  // namespace fst
