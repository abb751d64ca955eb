#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

namespace fst {

/// Pieces of one run of bytes, as offsets. A piece lies in the smallest gap that holds it, of equal
/// ones in the first; what is given back joins the gaps beside it.
class Suballocator {
 public:
  /// Of every piece: cudaMalloc's.
  static constexpr std::int64_t alignment = 256;
  /// The bytes that a piece of `bytes` takes.
  static constexpr std::int64_t aligned(std::int64_t bytes) {
    return bytes <= 0 ? alignment : (bytes + alignment - 1) / alignment * alignment;
  }

  explicit Suballocator(std::int64_t bytes);
  /// Where a piece begins; nothing where no gap holds it.
  std::optional<std::int64_t> take(std::int64_t bytes);
  /// Throws Error where no piece begins.
  void give_back(std::int64_t offset);

  std::int64_t taken() const { return taken_; }
  std::int64_t most_taken() const { return most_taken_; }

 private:
  std::map<std::int64_t, std::int64_t> gaps_, pieces_;  // begin, bytes; no two gaps touch
  std::int64_t taken_ = 0, most_taken_ = 0;
};

/// What memory is for, by when it is used. What lies in `always` stays. The others take turns with
/// the same bytes: what one of them holds is void once another has begun.
enum class MemoryPhase : std::uint8_t { always, loading, rollout, reflection, scoring, learning };
constexpr std::size_t phase_count = 6;
const char* name_of(MemoryPhase phase);

/// Bytes by phase.
struct PhaseBytes {
  std::array<std::int64_t, phase_count> bytes{};
  std::int64_t& operator[](MemoryPhase phase) { return bytes[static_cast<std::size_t>(phase)]; }
  std::int64_t operator[](MemoryPhase phase) const {
    return bytes[static_cast<std::size_t>(phase)];
  }
  /// Of the longest turn.
  std::int64_t turns() const;
  /// always + turns(): what an arena takes.
  std::int64_t total() const { return (*this)[MemoryPhase::always] + turns(); }
};

/// The memory of a job on one device: `always`, and behind it the bytes that the other phases take
/// turns with. Each phase has pieces of its own, with addresses that stay when another has its
/// turn, so that nothing is allocated when the phases alternate and what is recorded with these
/// addresses stays valid. Pieces that are given back may be taken again at once: all work of the
/// device is done in the order of the calls. One host thread at a time.
class Arena {
 public:
  /// Fills bytes with what no computation may read.
  using Poison = std::function<void(void*, std::int64_t)>;
  /// `memory`: plan.total() bytes, which the caller owns. With `poison` the bytes of the turns are
  /// poisoned where another begins: what is read then without having been written is found.
  Arena(void* memory, const PhaseBytes& plan, Poison poison = {});

  /// nullptr: the plan has no room for it. The phase begins where it is a turn's.
  void* allocate(MemoryPhase phase, std::int64_t bytes);
  /// False for memory that is not the arena's. `phase` as for allocate().
  bool release(MemoryPhase phase, void* memory);
  /// The phase begins, if it is another's turn. Returns the number of the turn: where it is
  /// another one than before, what the phase holds is void.
  std::uint64_t enter(MemoryPhase phase);

  /// How often pieces of the phase, or such as stay, were given back: addresses may mean something
  /// else where this has changed.
  std::uint64_t releases(MemoryPhase phase) const;
  const PhaseBytes& plan() const { return plan_; }
  std::int64_t taken(MemoryPhase phase) const { return pieces_of(phase).taken(); }
  /// The most that each phase has had at a time.
  PhaseBytes most_taken() const;

 private:
  const Suballocator& pieces_of(MemoryPhase phase) const {
    return pieces_[static_cast<std::size_t>(phase)];
  }
  Suballocator& pieces_of(MemoryPhase phase) { return pieces_[static_cast<std::size_t>(phase)]; }
  char* begin_of(MemoryPhase phase) const;

  char* memory_;
  PhaseBytes plan_;
  Poison poison_;
  std::vector<Suballocator> pieces_;  // by phase
  std::array<std::uint64_t, phase_count> releases_{};
  MemoryPhase present_ = MemoryPhase::always;
  std::uint64_t turn_ = 0;
};

}  // namespace fst
