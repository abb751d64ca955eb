// What CUDA and NCCL take of a GPU beside the plan. Neither tells before it has taken it, so these
// are estimates, for GPUs of the size of an H100 that NVLink connects.

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string>

#include "fst/comm/device_exchange.h"
#include "fst/run/plan.h"
#include "fst/run/schedule.h"

namespace fst {

namespace {

constexpr std::int64_t mebibyte = std::int64_t{1} << 20;
/// Context and code: some 560 to 620 MiB of large GPUs (ggml-org/llama.cpp#23604,
/// unslothai/unsloth#8669, both in 2026).
constexpr std::int64_t cuda_bytes = 640 * mebibyte;
/// For each channel between two ranks of a node, in both directions, and how many channels NCCL
/// opens between two H100 unless told fewer: 3.3 GB for sends from each of eight to each
/// (NVIDIA/nccl#1685).
constexpr std::int64_t channel_bytes = 12 * mebibyte;
constexpr std::int64_t most_channels = 32;
/// Ranks of other nodes share one buffer.
constexpr int node_ranks = 8;

/// What one communicator connects this rank to.
struct Links {
  std::int64_t pairs = 0;  // ranks that it sends to or receives from
  std::int64_t rings = 0;  // for gathers and broadcasts
};

/// All send to all, and gather.
Links links_among(int ranks) {
  return ranks > 1 ? Links{std::min(ranks, node_ranks) - 1, 1} : Links{};
}

/// New weights: by broadcast, or from the ranks of another degree and on to the next.
Links links_of_adoption(const RankPlan& plan) {
  const int from = plan.learner.tp, to = plan.rollout.tp;
  if (from == to) return plan.colocated() ? Links{} : Links{0, 1};
  return {std::min(2 * std::max(from / to, to / from), node_ranks - 1), 0};
}

/// What the environment lets NCCL open between two ranks.
std::int64_t pair_channels() {
  const char* const most = std::getenv("NCCL_MAX_P2P_NCHANNELS");
  const std::int64_t asked = most == nullptr ? most_channels : std::atoll(most);
  return asked > 0 ? std::min(asked, most_channels) : most_channels;
}

}  // namespace

BesideMemory beside_memory(const RunConfig& config, const RankRoles& roles, int ranks) {
  if (!plans_for_gpu(config)) return {};
  const bool by_nccl =
      ranks > 1 && config.engine.exchange != "host" &&
      (config.engine.exchange == "nccl" || nccl_usable() || Device::cuda_devices() == 0);
  if (!by_nccl) return {cuda_bytes, 0};
  const RankPlan plan = plan_of(config);
  std::set<int> degrees;  // roles of one degree share their unit's communicator
  if (roles.rollout) degrees.insert(plan.rollout.tp);
  if (roles.reflection) degrees.insert(plan.reflection.tp);
  if (roles.learner) degrees.insert(plan.learner.tp);
  Links all;
  const auto add = [&all](const Links& links) {
    all.pairs += links.pairs;
    all.rings += links.rings;
  };
  for (const int degree : degrees) add(links_among(degree));
  const int learners = plan.colocated() ? ranks : plan.learner.ranks;
  if (roles.learner) add(links_among(learners / plan.learner.tp));
  const bool trains = traits_of(config.run.method).trains;
  if (trains && (roles.learner || roles.rollout)) add(links_of_adoption(plan));
  return {cuda_bytes, channel_bytes * (all.pairs * pair_channels() + all.rings * most_channels)};
}

}  // namespace fst
