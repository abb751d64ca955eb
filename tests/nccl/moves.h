#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fst::test {

/// One call that moves bytes of a tensor, as a rank made it.
struct Move {
  std::string kind;  // "send", "recv", "all_gather" or "broadcast"
  std::int64_t bytes = 0;
  int peer = 0;  // 0 for all_gather; of a broadcast, its root
  bool operator==(const Move&) const = default;
};

/// Begins to note this rank's moves; what MPI and the recorder had noted is forgotten.
void note_moves();
/// Ends it: those that went by MPI, in order.
std::vector<Move> moves_by_mpi();
/// Those that went by the recorder (FST_NCCL_LIBRARY), in order.
std::vector<Move> moves_by_nccl();
/// Pieces that have come by the recorder, since note_moves().
std::int64_t pieces_come();

}  // namespace fst::test
