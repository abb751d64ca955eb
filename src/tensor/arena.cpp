#include "fst/tensor/arena.h"

#include <algorithm>
#include <string>
#include <utility>

#include "fst/base/error.h"

namespace fst {

Suballocator::Suballocator(std::int64_t bytes) {
  const std::int64_t whole = bytes / alignment * alignment;
  if (whole > 0) gaps_.emplace(0, whole);
}

std::optional<std::int64_t> Suballocator::take(std::int64_t bytes) {
  const std::int64_t wanted = aligned(bytes);
  auto best = gaps_.end();
  for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap) {
    if (gap->second < wanted) continue;
    if (best == gaps_.end() || gap->second < best->second) best = gap;
  }
  if (best == gaps_.end()) return std::nullopt;
  const auto [begin, size] = *best;
  gaps_.erase(best);
  if (size > wanted) gaps_.emplace(begin + wanted, size - wanted);
  pieces_.emplace(begin, wanted);
  taken_ += wanted;
  most_taken_ = std::max(most_taken_, taken_);
  return begin;
}

void Suballocator::give_back(std::int64_t offset) {
  const auto piece = pieces_.find(offset);
  if (piece == pieces_.end()) {
    throw Error("arena: no piece begins at byte " + std::to_string(offset));
  }
  auto [begin, size] = *piece;
  pieces_.erase(piece);
  taken_ -= size;
  auto after = gaps_.upper_bound(begin);
  if (after != gaps_.end() && after->first == begin + size) {
    size += after->second;
    after = gaps_.erase(after);
  }
  if (after != gaps_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == begin) {
      before->second += size;
      return;
    }
  }
  gaps_.emplace(begin, size);
}

const char* name_of(MemoryPhase phase) {
  switch (phase) {
    case MemoryPhase::always:
      return "what stays";
    case MemoryPhase::loading:
      return "loading";
    case MemoryPhase::rollout:
      return "rollouts";
    case MemoryPhase::reflection:
      return "reflection";
    case MemoryPhase::scoring:
      return "scoring";
    case MemoryPhase::learning:
      return "learning";
  }
  return "unknown";
}

std::int64_t PhaseBytes::turns() const {
  return *std::max_element(bytes.begin() + 1, bytes.end());
}

Arena::Arena(void* memory, const PhaseBytes& plan, Poison poison)
    : memory_(static_cast<char*>(memory)),
      plan_(plan),
      poison_(std::move(poison)),
      pieces_(phase_count, Suballocator(plan.turns())) {
  pieces_of(MemoryPhase::always) = Suballocator(plan[MemoryPhase::always]);
}

char* Arena::begin_of(MemoryPhase phase) const {
  return phase == MemoryPhase::always ? memory_ : memory_ + plan_[MemoryPhase::always];
}

void* Arena::allocate(MemoryPhase phase, std::int64_t bytes) {
  enter(phase);
  const auto offset = pieces_of(phase).take(bytes);
  return offset ? begin_of(phase) + *offset : nullptr;
}

bool Arena::release(MemoryPhase phase, void* memory) {
  const auto offset = static_cast<char*>(memory) - memory_;
  if (offset < 0 || offset >= plan_.total()) return false;
  pieces_of(phase).give_back(static_cast<char*>(memory) - begin_of(phase));
  ++releases_[static_cast<std::size_t>(phase)];
  return true;
}

std::uint64_t Arena::enter(MemoryPhase phase) {
  if (phase == MemoryPhase::always || phase == present_) return turn_;
  present_ = phase;
  if (poison_) poison_(begin_of(phase), plan_.turns());
  return ++turn_;
}

std::uint64_t Arena::releases(MemoryPhase phase) const {
  const std::uint64_t always = releases_[static_cast<std::size_t>(MemoryPhase::always)];
  return phase == MemoryPhase::always ? always
                                      : always + releases_[static_cast<std::size_t>(phase)];
}

PhaseBytes Arena::most_taken() const {
  PhaseBytes most;
  for (std::size_t i = 0; i < phase_count; ++i) most.bytes[i] = pieces_[i].most_taken();
  return most;
}

}  // namespace fst
