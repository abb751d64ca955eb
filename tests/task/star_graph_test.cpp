#include "fst/task/star_graph.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/task/task.h"

namespace fst {
namespace {

struct Size {
  std::int64_t degree, path_nodes, node_range;
};

class StarGraphSizes : public testing::TestWithParam<std::tuple<Size, DecoyArm>> {
 protected:
  StarGraphOptions options() const {
    const auto& [size, arm] = GetParam();
    return {size.degree, size.path_nodes, size.node_range, arm};
  }
  std::int64_t arm_nodes() const {
    const StarGraphOptions o = options();
    return o.arm == DecoyArm::path ? o.path_nodes : o.path_nodes - 1;
  }
  StarGraph graph(std::uint64_t seed = 3) const {
    Rng rng(seed, Purpose::problem_stream, {});
    return draw_star_graph(options(), rng);
  }
};

std::map<std::int64_t, std::vector<std::int64_t>> neighbours(const StarGraph& graph) {
  std::map<std::int64_t, std::vector<std::int64_t>> lists;
  for (const auto& [a, b] : graph.edges) {
    lists[a].push_back(b);
    lists[b].push_back(a);
  }
  return lists;
}

TEST_P(StarGraphSizes, HasTheNodesAndEdgesOfTheFormulaInRange) {
  const StarGraph g = graph();
  const auto lists = neighbours(g);
  const StarGraphOptions o = options();
  const std::int64_t nodes = o.path_nodes + (o.degree - 1) * arm_nodes();
  const std::int64_t range = o.node_range == 0 ? o.degree * o.path_nodes : o.node_range;
  EXPECT_EQ(static_cast<std::int64_t>(lists.size()), nodes);
  EXPECT_EQ(static_cast<std::int64_t>(g.edges.size()), nodes - 1);
  EXPECT_GE(lists.begin()->first, 0);
  EXPECT_LT(lists.rbegin()->first, range);
}

TEST_P(StarGraphSizes, HasDegreeDAtTheSourceAndAtMostTwoElsewhere) {
  const StarGraph g = graph();
  for (const auto& [node, list] : neighbours(g)) {
    if (node == g.source()) {
      EXPECT_EQ(static_cast<std::int64_t>(list.size()), options().degree);
    } else {
      EXPECT_LE(list.size(), 2u);
    }
  }
}

// In a connected graph with one edge fewer than nodes every path is the only one.
TEST_P(StarGraphSizes, IsATreeWhoseGoldPathFollowsEdges) {
  const StarGraph g = graph();
  auto lists = neighbours(g);
  std::set<std::int64_t> reached = {g.source()};
  std::vector<std::int64_t> open = {g.source()};
  while (!open.empty()) {
    const std::int64_t node = open.back();
    open.pop_back();
    for (const std::int64_t next : lists[node]) {
      if (reached.insert(next).second) open.push_back(next);
    }
  }
  EXPECT_EQ(reached.size(), lists.size());
  EXPECT_EQ(static_cast<std::int64_t>(g.path.size()), options().path_nodes);
  for (std::size_t i = 1; i < g.path.size(); ++i) {
    EXPECT_EQ(std::ranges::count(lists[g.path[i - 1]], g.path[i]), 1);
  }
  EXPECT_EQ(lists[g.goal()].size(), 1u);
}

TEST_P(StarGraphSizes, ScoresTheGoldPathOneAndAnyOneNodeChangedZero) {
  const StarGraph g = graph();
  const Problem problem{"p", star_graph_question(g), path_text(g), ""};
  EXPECT_EQ(verify_star_graph(problem, {"\\boxed{" + path_text(g) + "}", true}).reward, 1.0f);
  for (std::size_t i = 0; i < g.path.size(); ++i) {
    StarGraph changed = g;
    changed.path[i] += 1;
    const Verdict verdict =
        verify_star_graph(problem, {"\\boxed{" + path_text(changed) + "}", true});
    EXPECT_EQ(verdict.reward, 0.0f) << "node " << i;
    EXPECT_EQ(verdict.status, VerdictStatus::ok);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Some, StarGraphSizes,
    testing::Combine(testing::Values(Size{1, 5, 9}, Size{2, 3, 11}, Size{4, 2, 0}, Size{5, 5, 0},
                                     Size{7, 3, 1009}, Size{25, 20, 500}),
                     testing::Values(DecoyArm::path_minus_one, DecoyArm::path)));

TEST(StarGraph, IsAFunctionOfItsRandomStream) {
  const StarGraphOptions options{3, 4, 0, DecoyArm::path_minus_one};
  Rng first(1), again(1), other(2);
  const std::string text = edges_text(draw_star_graph(options, first));
  EXPECT_EQ(text, edges_text(draw_star_graph(options, again)));
  EXPECT_NE(text, edges_text(draw_star_graph(options, other)));
}

TEST(StarGraph, GivesNoHintByTheOrderOfItsEdges) {
  // Where the edge from the source towards the goal stands, and which way round it is printed.
  const StarGraphOptions options{2, 2, 0, DecoyArm::path_minus_one};
  int first = 0, forward = 0;
  const int graphs = 1000;
  for (std::uint64_t seed = 0; seed < graphs; ++seed) {
    Rng rng(seed, Purpose::problem_stream, {});
    const StarGraph g = draw_star_graph(options, rng);
    const std::pair edge(g.source(), g.goal()), turned(g.goal(), g.source());
    if (g.edges[0] == edge || g.edges[0] == turned) ++first;
    if (std::ranges::count(g.edges, edge) == 1) ++forward;
  }
  constexpr int spread = 80;  // five standard deviations of 1000 fair coins
  EXPECT_NEAR(first, graphs / 2, spread);
  EXPECT_NEAR(forward, graphs / 2, spread);
}

TEST(StarGraph, RefusesSizesThatCannotBe) {
  Rng rng(1);
  EXPECT_THROW(draw_star_graph({0, 5, 0, DecoyArm::path}, rng), InputError);
  EXPECT_THROW(draw_star_graph({3, 1, 0, DecoyArm::path}, rng), InputError);
  EXPECT_THROW(draw_star_graph({3, 3, 6, DecoyArm::path_minus_one}, rng), InputError);
  EXPECT_NO_THROW(draw_star_graph({3, 3, 7, DecoyArm::path_minus_one}, rng));
}

class StarGraphFeedback : public testing::Test {
 protected:
  std::string say(const std::string& text) const {
    return verify_star_graph(problem_, {text, true}).feedback;
  }
  bool says(const std::string& text, const std::string& part) const {
    return say(text).find(part) != std::string::npos;
  }
  Problem problem_{"p", "edges\n12,5 9,12 5,6 9,3\nfrom 12 to 6", "12,5,6", ""};
};

TEST_F(StarGraphFeedback, NamesTheFirstWrongNodeAndTheRightOne) {
  EXPECT_TRUE(says("\\boxed{12,9,3}", "Node 2 of the path is \"9\"; after 12 it should be 5."));
  EXPECT_TRUE(says("\\boxed{5,6}", "should start at the source 12"));
  EXPECT_TRUE(says("\\boxed{12,5}", "stops at \"5\"; the next node is 6"));
  EXPECT_TRUE(says("\\boxed{12,5,6,1}", "goes on after the goal with \"1\""));
}

TEST_F(StarGraphFeedback, TellsAWrongArmFromAnEdgeThatIsNotThere) {
  EXPECT_TRUE(says("\\boxed{12,9,3}", "does not lead to the goal"));
  EXPECT_TRUE(says("\\boxed{12,2,6}", "no such edge at 12"));  // 2 is part of 12, not a node
}

TEST_F(StarGraphFeedback, AsksForABoxWhereThereIsNone) {
  EXPECT_TRUE(says("12,5,6", "\\boxed{}"));
  EXPECT_EQ(verify_star_graph(problem_, {"12,5,6", true}).status, VerdictStatus::unparsable);
}

TEST(StarGraphTask, TrainsOnGraphsThatAreInNoOtherSplit) {
  // 4 labels, one edge per arm: 24 graphs (source, goal, decoy), so that overlap would be the rule.
  TaskOptions options;
  options.name = "star_graph";
  options.star_graph = {2, 2, 4, DecoyArm::path_minus_one};
  options.test_size = 9;
  options.dev_size = 7;
  const Task task = make_task(options);
  ASSERT_EQ(task.test.size(), 9u);
  ASSERT_EQ(task.dev.size(), 7u);
  // A graph is its sorted edge text here, whatever its printed order.
  const auto graph = [](const Problem& p) {
    const std::string edges = p.question.substr(p.question.find('\n') + 1, 7);
    std::set<char> nodes(edges.begin(), edges.end());
    return p.reference + std::string(nodes.begin(), nodes.end());
  };
  std::set<std::string> held;
  for (const Problem& p : task.test) EXPECT_TRUE(held.insert(graph(p)).second);
  for (const Problem& p : task.dev) EXPECT_TRUE(held.insert(graph(p)).second);
  for (std::int64_t i = 0; i < 101; ++i) EXPECT_FALSE(held.contains(graph(task.train(i))));
}

TEST(StarGraphTask, RefusesSplitsThatLeaveNothingToTrainOn) {
  TaskOptions options;
  options.name = "star_graph";
  options.star_graph = {2, 2, 4, DecoyArm::path_minus_one};
  options.test_size = 20;
  options.dev_size = 20;
  EXPECT_THROW(make_task(options), InputError);
}

TEST(StarGraphTask, HasTwoHundredTestProblemsThatDoNotDependOnTheRunSeed) {
  TaskOptions options;
  options.name = "star_graph";
  const Task task = make_task(options);
  options.seed = 5;
  const Task other = make_task(options);
  EXPECT_EQ(task.test.size(), 200u);
  EXPECT_EQ(task.test, other.test);
  EXPECT_EQ(task.dev, other.dev);
  EXPECT_NE(task.train(0).question, other.train(0).question);
}

}  // namespace
}  // namespace fst
