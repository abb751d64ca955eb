#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fst/base/random.h"
#include "fst/task/problem.h"

namespace fst {

/// Fresh nodes of a decoy arm: p - 1 makes all arms as long as the gold one (Bachmann and Nagarajan
/// 2024, arXiv:2403.06963); p is the other reading of Tiwari et al. 2026, arXiv:2605.12484, App. C.
enum class DecoyArm : std::uint8_t { path_minus_one, path };

/// Size of the generated graphs.
struct StarGraphOptions {
  std::int64_t degree = 5;      ///< d >= 1: arms at the source, the gold one included
  std::int64_t path_nodes = 5;  ///< p >= 2: nodes of the gold path, source and goal included
  std::int64_t node_range = 0;  ///< labels are drawn from [0, node_range); 0 means d * p
  DecoyArm arm = DecoyArm::path_minus_one;
};

/// A tree of d arms at `source`; exactly one ends in `goal`.
/// It has p + (d - 1) * arm nodes and one edge fewer.
struct StarGraph {
  std::vector<std::pair<std::int64_t, std::int64_t>>
      edges;                       ///< undirected, shuffled, either way round
  std::vector<std::int64_t> path;  ///< gold, from source to goal

  std::int64_t source() const { return path.front(); }
  std::int64_t goal() const { return path.back(); }
};

/// Checks the sizes. Throws InputError with all mistakes; node_range must cover all nodes.
void validate(const StarGraphOptions& options);
/// Draws labels without replacement, then shuffles the edges and the ends of each edge.
StarGraph draw_star_graph(const StarGraphOptions& options, Rng& rng);
/// "a,b" pairs in order, separated by one space.
std::string edges_text(const StarGraph& graph);
/// The gold path, "s,...,g" without spaces.
std::string path_text(const StarGraph& graph);
/// The user turn: the edges, source and goal, and what to answer.
std::string star_graph_question(const StarGraph& graph);

/// Reward 1 if the last complete \boxed{} after the last </think> equals `problem.reference`
/// as a string once white space is removed, else 0; no partial credit. Feedback names the first
/// node that is wrong. `problem.question` may be empty: then feedback does not speak of edges.
Verdict verify_star_graph(const Problem& problem, const Completed& completed);

}  // namespace fst
