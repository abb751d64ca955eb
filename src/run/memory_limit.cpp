// What a plan of memory is held against.

#include <cstdio>
#include <unistd.h>

#include "fst/run/plan.h"

namespace fst {

namespace {

// What CUDA finds on an H100 of 80 GB, rounded down: the GPU of a plan made where there is none.
constexpr std::int64_t h100_bytes = std::int64_t{79} << 30;

}  // namespace

bool plans_for_gpu(const RunConfig& config) {
  const std::string& device = config.engine.device;
  return device == "cuda" || (device == "auto" && Device::cuda_devices() > 0);
}

std::int64_t memory_limit(const RunConfig& config) {
  if (config.engine.memory_mib > 0) return config.engine.memory_mib << 20;
  if (plans_for_gpu(config))
    return Device::cuda_devices() > 0 ? Device::cuda_memory(0) : h100_bytes;
  return static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::int64_t>(sysconf(_SC_PAGESIZE));
}

std::string memory_owner(const RunConfig& config) {
  if (!plans_for_gpu(config)) return "this machine";
  return Device::cuda_devices() > 0 ? "its GPU" : "an H100 of 80 GB";
}

std::vector<std::string> memory_problems(const RunConfig& config,
                                         const std::vector<RankMemory>& memory) {
  const std::int64_t limit = memory_limit(config);
  const std::string whose =
      config.engine.memory_mib > 0 ? "allows" : "= 0 allows what " + memory_owner(config) + " has,";
  std::vector<std::string> problems;
  for (const RankMemory& rank : memory) {
    const std::int64_t beside =
        config.engine.memory_mib > 0 ? 0 : rank.beside.cuda + rank.beside.nccl;
    if (rank.total() + beside <= limit) continue;
    const PhaseBytes phases = rank.by_phase();
    const MemoryPart* largest = &rank.parts.front();  // of what stays and the longest turn
    for (const MemoryPart& part : rank.parts) {
      const bool counts =
          !rank.turns || part.phase == MemoryPhase::always || phases[part.phase] == phases.turns();
      if (counts && part.bytes > largest->bytes) largest = &part;
    }
    problems.push_back(
        "engine.memory_mib " + whose + " " + bytes_text(limit) + ", but " +
        (rank.rank == "every rank" ? "" : "a ") + rank.rank + " needs " + bytes_text(rank.total()) +
        (beside > 0 ? ", and CUDA and NCCL some " + bytes_text(beside) + " beside it" : "") +
        ", of it " + bytes_text(largest->bytes) + " for " + largest->what +
        (largest->phase == MemoryPhase::always ? ""
                                               : std::string(" in ") + name_of(largest->phase)) +
        "; larger tp or more learners divide it, learner.recompute keeps fewer activations");
  }
  return problems;
}

std::string bytes_text(std::int64_t bytes) {
  char text[32];
  const double mib = static_cast<double>(bytes) / (1 << 20);
  std::snprintf(text, sizeof text, mib < 10240 ? "%.1f MiB" : "%.1f GiB",
                mib < 10240 ? mib : mib / 1024);
  return text;
}

}  // namespace fst
