// Where the memory of tensors comes from: the arena of a plan, or each piece by itself.

#include <algorithm>
#include <array>
#include <cstdlib>
#include <limits>
#include <string>
#include <utility>

#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/tensor/device.h"

#include "kernels/cuda_device.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fst {

namespace {

/// Memory of at least `bytes`, aligned to a cache line; in large pages where it is large, since
/// decoding streams through all weights. nullptr: there is none.
void* allocate_host(std::int64_t bytes) {
  constexpr std::int64_t line = 64, page = std::int64_t{2} << 20;
  const std::int64_t alignment = bytes < 2 * page ? line : page;
  const auto size = static_cast<std::size_t>((bytes + alignment - 1) / alignment * alignment);
  void* memory = std::aligned_alloc(static_cast<std::size_t>(alignment), size);
#if defined(__linux__)
  if (memory != nullptr && alignment == page) madvise(memory, size, MADV_HUGEPAGE);
#endif
  return memory;
}

bool poison_asked() {
  const char* asked = std::getenv("FST_POISON_PHASES");
  return asked != nullptr && *asked != '\0';
}

}  // namespace

/// The arena of a job, and the memory it divides.
struct Device::Planned {
  Planned(const Device& device_, void* memory_, const PhaseBytes& plan, Arena::Poison poison)
      : device(device_), memory(memory_), arena(memory_, plan, std::move(poison)) {}
  Planned(const Planned&) = delete;
  Planned& operator=(const Planned&) = delete;
  ~Planned() {
    if (measures) return;
    if (lends) kernels::lend_scratch(*device.cuda_, nullptr, 0);
    device.release_alone(memory);
  }

  Device device;  // without this plan
  void* memory;
  Arena arena;
  bool measures = false, lends = false;
  std::array<bool, phase_count> exceeded{};
};

Device Device::planned(const PhaseBytes& plan, std::int64_t kernels) const {
  void* const memory = allocate_alone(plan.total());
  Arena::Poison poison;
  if (poison_asked()) {
    poison = [device = *this](void* begin, std::int64_t bytes) {
      if (device.on_host()) {
        std::fill_n(static_cast<unsigned char*>(begin), bytes, static_cast<unsigned char>(0xFF));
      } else {
        kernels::poison(*device.cuda_, begin, static_cast<std::size_t>(bytes));
      }
    };
  }
  Device device = *this;
  device.planned_ = std::make_shared<Planned>(*this, memory, plan, std::move(poison));
  if (kernels > 0 && !on_host()) {
    void* const scratch = device.planned_->arena.allocate(MemoryPhase::always, kernels);
    if (scratch == nullptr) throw Error("arena: the kernels' memory is not in the plan");
    kernels::lend_scratch(*cuda_, scratch, static_cast<std::size_t>(kernels));
    device.planned_->lends = true;
  }
  return device;
}

Device Device::measuring() {
  constexpr std::int64_t endless = std::numeric_limits<std::int64_t>::max() / 4;
  PhaseBytes plan;
  plan.bytes.fill(endless);
  Device device;
  // Addresses that nobody reads; not null, which is no piece of an arena.
  auto* const nowhere = reinterpret_cast<void*>(Suballocator::alignment);
  device.planned_ = std::make_shared<Planned>(device, nowhere, plan, nullptr);
  device.planned_->measures = true;
  return device;
}

bool Device::measures() const {
  return planned_ != nullptr && planned_->measures;
}

const Arena* Device::arena() const {
  return planned_ == nullptr ? nullptr : &planned_->arena;
}

Device Device::during(MemoryPhase phase) const {
  Device device = *this;
  device.phase_ = phase;
  return device;
}

std::uint64_t Device::enter() const {
  return planned_ == nullptr ? 0 : planned_->arena.enter(phase_);
}

std::uint64_t Device::releases() const {
  const std::uint64_t alone = on_host() ? 0 : kernels::history(*cuda_).releases;
  return planned_ == nullptr ? alone : alone + planned_->arena.releases(phase_);
}

void* Device::allocate(std::int64_t bytes) const {
  if (planned_ == nullptr) return allocate_alone(bytes);
  void* const memory = planned_->arena.allocate(phase_, bytes);
  if (memory != nullptr) return memory;
  bool& told = planned_->exceeded[static_cast<std::size_t>(phase_)];
  if (!told) {
    log::warn("more memory than planned for " + std::string(name_of(phase_)) + ": " +
              std::to_string(bytes) + " bytes wanted, " +
              std::to_string(planned_->arena.taken(phase_)) + " of " +
              std::to_string(planned_->arena.plan()[phase_]) +
              " taken; taken beside the plan while there is some");
    told = true;
  }
  return allocate_alone(bytes);
}

void Device::release(void* memory) const {
  if (planned_ != nullptr && planned_->arena.release(phase_, memory)) return;
  release_alone(memory);
}

void* Device::allocate_alone(std::int64_t bytes) const {
  void* const memory =
      on_host() ? allocate_host(bytes) : kernels::allocate(*cuda_, static_cast<std::size_t>(bytes));
  if (memory != nullptr) return memory;
  std::string text =
      "out of memory: " + std::to_string(bytes) + " bytes wanted on " + description();
  if (planned_ != nullptr) {
    text += ", beyond the " + std::to_string(planned_->arena.plan()[phase_]) + " planned for " +
            name_of(phase_);
  }
  if (!on_host()) text += ", " + std::to_string(kernels::free_memory(*cuda_)) + " free";
  throw Error(text);
}

void Device::release_alone(void* memory) const {
  if (on_host()) return std::free(memory);
  kernels::release(*cuda_, memory);
}

}  // namespace fst
