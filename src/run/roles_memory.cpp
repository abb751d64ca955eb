// The memory of a job on GPUs: planned, taken at the start, and how much of it was used.

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "fst/base/log.h"
#include "fst/comm/exchange.h"
#include "fst/run/check_report.h"
#include "fst/run/engine.h"
#include "fst/run/plan.h"
#include "fst/run/records.h"

namespace fst {

namespace {

std::string kind_of(const World& world) {
  if (world.plan().colocated()) return "every rank";
  if (world.rollout().member()) return "a rollout rank";
  return world.reflection().member() ? "a reflection rank" : "a learner rank";
}

/// What a rank has used of its plan, on its way to the first.
struct MemoryUse {
  std::string kind;
  PhaseBytes planned, used;

  void pack(Packer& packer) const {
    packer.put(std::string_view(kind));
    for (const PhaseBytes* all : {&planned, &used}) {
      for (const std::int64_t bytes : all->bytes) packer.put(bytes);
    }
  }
  static MemoryUse unpack(Unpacker& unpacker) {
    MemoryUse use;
    use.kind = unpacker.get<std::string>();
    for (PhaseBytes* all : {&use.planned, &use.used}) {
      for (std::int64_t& bytes : all->bytes) bytes = unpacker.get<std::int64_t>();
    }
    return use;
  }
  std::string text() const {
    std::string line = "memory of " + kind + ", used of what was planned:";
    for (std::size_t i = 0; i < phase_count; ++i) {
      if (planned.bytes[i] == 0) continue;
      line += (i == 0 ? " " : ", ") + std::string(name_of(static_cast<MemoryPhase>(i))) + " " +
              bytes_text(used.bytes[i]) + " of " + bytes_text(planned.bytes[i]);
    }
    return line + "; " + bytes_text(planned.total()) + " taken";
  }
};

}  // namespace

RankMemory memory_of_rank(const World& world, const RunConfig& config, const PlanModels& models,
                          std::int64_t prompt_tokens) {
  const std::vector<RankMemory> kinds =
      memory_plan(config, models, world.all().size(), prompt_tokens);
  if (world.plan().colocated() || world.rollout().member()) return kinds.front();
  return world.reflection().member() ? kinds.at(1) : kinds.back();
}

namespace {

/// A device that this deck may have.
Device open_checked_engine(World& world, const RunConfig& config) {
  const auto& engine = config.engine;
  Device device = open_engine(world, engine.device, engine.exchange, engine.threads);
  expect_one_arithmetic(world, device, arithmetic_of(engine.dtype));
  expect_gpu_unless_exact(device, config);
  return device;
}

/// Of the first prompt, on all ranks.
std::int64_t prompt_tokens(const World& world, const RunConfig& config) {
  std::int64_t prompt = 0;
  on_first_rank(world, "the plan of the memory", [&] { prompt = first_prompt_tokens(config); });
  world.all().broadcast(std::span(&prompt, 1), 0, "the tokens of a prompt");
  return prompt;
}

}  // namespace

JobMemory open_planned_engine(World& world, const RunConfig& config) {
  JobMemory memory{open_checked_engine(world, config)};
  if (world.all().all_of(memory.device.on_host(), "devices that are the CPU")) return memory;
  const std::int64_t prompt = prompt_tokens(world, config);
  if (memory.device.on_host()) return memory;
  const PlanModels models = PlanModels::open(config);
  const RankMemory plan = memory_of_rank(world, config, models, prompt);
  choose_products(world, memory.device, config, job_products(world, config, models, prompt),
                  plan.kernels);
  memory.device = memory.device.planned(plan.by_phase(), plan.kernels);
  memory.longest = planned_length(config, prompt);
  memory.unit_elements = plan.unit_elements;
  return memory;
}

JobMemory open_unplanned_engine(World& world, const RunConfig& config) {
  JobMemory memory{open_checked_engine(world, config)};
  if (world.all().all_of(memory.device.on_host(), "devices that are the CPU")) return memory;
  const std::int64_t prompt = prompt_tokens(world, config);
  if (memory.device.on_host()) return memory;
  PlanModels models = PlanModels::open(config);
  std::vector<PlannedProduct> products = job_products(world, config, models, prompt);
  models.policy = models.base;
  const auto of_base = job_products(world, config, models, prompt);
  products.insert(products.end(), of_base.begin(), of_base.end());
  choose_products(world, memory.device, config, products, 0);
  return memory;
}

void report_memory_use(const World& world, const Device& device) {
  std::vector<MemoryUse> mine;
  if (const Arena* arena = device.arena()) {
    mine.push_back({kind_of(world), arena->plan(), arena->most_taken()});
  }
  const auto all =
      all_gather<MemoryUse>(world.all(), std::span<const MemoryUse>(mine), "use of memory");
  std::vector<const MemoryUse*> fullest;  // of each kind
  for (const MemoryUse& use : all) {
    const auto same = std::find_if(fullest.begin(), fullest.end(),
                                   [&](const MemoryUse* other) { return other->kind == use.kind; });
    if (same == fullest.end()) {
      fullest.push_back(&use);
    } else if (use.used.total() > (*same)->used.total()) {
      *same = &use;
    }
  }
  for (const MemoryUse* use : fullest) log::info(use->text());
}

}  // namespace fst
