#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fst/evolve/evolution.h"

namespace fst::test {

using Json = nlohmann::json;

/// The two numbers in "Name(2,3)"; what is missing is 1.
inline std::pair<int, int> numbers_of(const std::string& call) {
  std::pair<int, int> numbers{1, 1};
  const std::size_t open = call.find('('), comma = call.find(',');
  if (open + 1 < call.find(')')) numbers.first = std::stoi(call.substr(open + 1));
  if (comma != std::string::npos) numbers.second = std::stoi(call.substr(comma + 1));
  return numbers;
}

inline void read_sampling(const Json& config, EvolveOptions& options) {
  const auto sampling = config.at("sampling").get<std::string>();
  const auto [first, second] = numbers_of(sampling);
  if (sampling.starts_with("SameParent")) {
    options.proposals_per_parent = first;
  } else {
    options.parents_per_round = first;
    options.proposals_per_parent = second;
  }
  const auto selection = config.at("selection").get<std::string>();
  options.selection_top_k = numbers_of(selection).first;
  options.selection = selection.starts_with("All")    ? ChildSelection::all
                      : selection.starts_with("Best") ? ChildSelection::best
                                                      : ChildSelection::top_k;
}

/// The options a recorded run was made with: the reference's habits, where ours differ.
inline EvolveOptions options_of(const Json& config) {
  EvolveOptions options;
  options.minibatch = config.at("minibatch").get<int>();
  options.max_metric_calls = config.at("budget").get<std::int64_t>();
  options.skip_perfect = config.at("skip_perfect_score").get<bool>();
  options.perfect_score = config.at("perfect_score").get<double>();
  options.cache_scores = config.at("cache").get<bool>();
  options.reject_known = false;
  options.retry_failed_reflection = true;
  if (!config.at("max_proposals").is_null()) {
    options.max_rounds = config.at("max_proposals").get<std::int64_t>();
  }
  options.acceptance =
      config.at("acceptance") == "strict_improvement" ? Acceptance::strict : Acceptance::or_equal;
  const auto selector = config.at("selector").get<std::string>();
  options.selector = selector == "pareto"           ? ParentSelector::pareto
                     : selector == "current_best"   ? ParentSelector::current_best
                     : selector == "epsilon_greedy" ? ParentSelector::epsilon_greedy
                                                    : ParentSelector::top_k_pareto;
  read_sampling(config, options);
  const auto seeding = config.at("seeding").is_null() ? std::string("all_uncharged")
                                                      : config.at("seeding").get<std::string>();
  options.rescore_carried = seeding == "all_uncharged" ? RescoreCarried::all_uncharged
                            : seeding == "all_charged" ? RescoreCarried::all_charged
                                                       : RescoreCarried::lead_only;
  return options;
}

/// The prompts a recorded run starts from, as carried candidates 0, 1, ...
inline std::vector<Candidate> population_of(const Json& trace) {
  std::vector<Candidate> population;
  const auto add = [&](const Json& text) {
    Candidate candidate;
    candidate.id = static_cast<CandidateId>(population.size());
    candidate.text = text.get<std::string>();
    population.push_back(std::move(candidate));
  };
  for (const Json& text : trace.at("initial").at("texts")) add(text);
  if (!trace.contains("carried_not_scored")) return population;
  const Json& carried = trace.at("carried_not_scored");
  for (std::size_t i = 0; i < carried.at("texts").size(); ++i) {
    add(carried.at("texts").at(i));
    population.back().carried_mean = carried.at("old_means").at(i).get<double>();
  }
  return population;
}

/// Runs an Evolution along one case of traces.json: scores, replies and failures are the recorded
/// ones, and what it asks for and decides is compared with the record. Between any two rounds the
/// evolution is saved and restored, so that all that follows also proves the restart.
class Replay {
 public:
  explicit Replay(const Json& trace)
      : trace_(trace), config_(trace.at("config")), options_(options_of(config_)) {
    const auto population = population_of(trace);
    Phase phase;
    phase.anchors = config_.at("anchors").get<std::int64_t>();
    phase.minibatch_pool = config_.at("train").get<std::int64_t>();
    phase.next_id = static_cast<CandidateId>(population.size());
    evolution_.emplace(options_, phase, population);
  }

  void run_recorded() { run(nullptr); }
  void run_with(const Choices& choices) { run(&choices); }

 private:
  void run(const Choices* choices) {
    const Json& initial = trace_.at("initial");
    evolution_->record_anchor_scores(requested(initial.at("scores")));
    EXPECT_EQ(state().metric_cap, config_.at("effective_cap").get<std::int64_t>());
    EXPECT_EQ(state().metric_calls, initial.at("total").get<std::int64_t>());
    EXPECT_EQ(state().full_evaluations, initial.at("full_evaluations").get<std::int64_t>());
    for (const Json& iteration : trace_.at("iterations")) {
      SCOPED_TRACE("iteration " + iteration.at("i").dump());
      ASSERT_TRUE(evolution_->more());
      play(iteration, choices ? *choices : recorded_choices(iteration));
      if (testing::Test::HasFailure()) return;
      evolution_.emplace(options_, evolution_state_from_bytes(to_bytes(state())));
    }
    EXPECT_FALSE(evolution_->more());
    check_final(trace_.at("final"));
  }

  const EvolutionState& state() const { return evolution_->state(); }

  /// Draws as recorded. Parents that were not drawn from a list come from `uniform`: it explores
  /// when the recorded parent is not the best.
  Choices recorded_choices(const Json& iteration) {
    drawn_.clear();
    for (const Json& task : iteration.at("tasks")) {
      if (!task.contains("same_draw")) drawn_.push_back(task);
    }
    next_drawn_ = 0;
    Choices choices;
    choices.choose = [this](std::span<const int> list) {
      const Json& task = drawn_.at(next_drawn_++);
      const int parent = task.at("parent").get<int>();
      if (task.contains("draw_index")) {
        EXPECT_EQ(list.size(), task.at("draw_of").get<std::size_t>());
        return task.at("draw_index").get<std::size_t>();
      }
      return static_cast<std::size_t>(std::find(list.begin(), list.end(), parent) - list.begin());
    };
    choices.shuffle = [&iteration](std::vector<int>& list) {
      list = iteration.at("shuffle").at("permutation").get<std::vector<int>>();
    };
    choices.uniform = [this] {
      const int best = best_candidate(mean_scores(score_matrix(state().pool)));
      const bool explore = drawn_.at(next_drawn_).at("parent").get<int>() != best;
      if (!explore) ++next_drawn_;
      return explore ? 0.0 : 0.5;
    };
    return choices;
  }

  void play(const Json& iteration, const Choices& choices) {
    EXPECT_EQ(state().metric_calls, iteration.at("total_before").get<std::int64_t>());
    check_fronts_before(iteration);
    const std::vector<int> order = state().sampler.order;
    const auto reflection_calls = state().reflection_calls;
    evolution_->draw_round(choices);
    check_draws(iteration, order);
    if (testing::Test::HasFailure()) return;
    evolution_->record_parent_scores(parent_scores(iteration));
    while (!evolution_->awaiting_reply().empty())
      evolution_->record_replies(replies(iteration), {});
    EXPECT_EQ(state().reflection_calls - reflection_calls,
              iteration.at("reflection_calls").get<std::int64_t>());
    ASSERT_EQ(evolution_->trials().size(), children(iteration).size());
    evolution_->record_child_scores(children(iteration));
    ScoreMatrix accepted;
    for (const Json& child : iteration.at("new_candidates")) {
      accepted.push_back(child.at("scores").get<std::vector<double>>());
    }
    ASSERT_EQ(evolution_->trials().size(), accepted.size());
    evolution_->record_anchor_scores(requested(accepted));
    check_round(iteration);
  }

  void check_fronts_before(const Json& iteration) const {
    const ScoreMatrix scores = score_matrix(state().pool);
    const auto reduction = remove_redundant(frontier_of(scores), mean_scores(scores));
    for (const Json& task : iteration.at("tasks")) {
      if (!task.contains("weights")) continue;
      EXPECT_EQ(reduction.survivors, task.at("kept").get<std::vector<int>>());
      std::vector<int> list;
      for (const Json& weight : task.at("weights")) {
        list.insert(list.end(), weight.at(1).get<std::size_t>(), weight.at(0).get<int>());
      }
      std::vector<int> ours = sampling_list(reduction.fronts);
      if (!task.contains("draw_index")) {  // the record's list may be in another order
        std::sort(ours.begin(), ours.end());
        std::sort(list.begin(), list.end());
      }
      EXPECT_EQ(ours, list);
    }
  }

  void check_draws(const Json& iteration, const std::vector<int>& order_before) const {
    const auto proposals = evolution_->round_proposals();
    const Json& tasks = iteration.at("tasks");
    ASSERT_EQ(proposals.size(), tasks.size());
    for (std::size_t i = 0; i < proposals.size(); ++i) {
      EXPECT_EQ(proposals[i].parent_index, tasks.at(i).at("parent").get<int>());
      EXPECT_EQ(proposals[i].minibatch, tasks.at(i).at("minibatch").get<std::vector<int>>());
    }
    if (iteration.contains("shuffle")) {
      const Json& shuffle = iteration.at("shuffle");
      EXPECT_EQ(state().sampler.epoch, shuffle.at("epoch").get<std::int64_t>());
      EXPECT_EQ(state().sampler.order, shuffle.at("padded").get<std::vector<int>>());
    } else {
      EXPECT_EQ(state().sampler.order, order_before);
    }
  }

  ScoreMatrix parent_scores(const Json& iteration) const {
    ScoreMatrix scores(evolution_->trials().size());
    const auto proposals = evolution_->round_proposals();
    for (std::size_t i = 0; i < proposals.size(); ++i) {
      scores.at(proposals[i].parent_trial) =
          iteration.at("tasks").at(i).at("parent_scores").get<std::vector<double>>();
    }
    return scores;
  }

  std::vector<Reply> replies(const Json& iteration) {
    std::vector<Reply> replies;
    for (const std::size_t place : evolution_->awaiting_reply()) {
      const Json& task = iteration.at("tasks").at(place);
      if (iteration.at("reflection_calls") == 0) {
        replies.push_back({ReplyStatus::no_evidence, ""});
      } else if (fails(state().reflection_calls + static_cast<std::int64_t>(replies.size()))) {
        replies.push_back({ReplyStatus::failed, ""});
      } else {
        replies.push_back({ReplyStatus::complete, task.at("child_text").get<std::string>()});
      }
    }
    return replies;
  }

  /// Whether the script lets this reflection call fail, counted from 0.
  bool fails(std::int64_t call) const {
    const Json& script = config_.at("script");
    if (!script.contains("lm_error_at")) return false;
    const auto calls = script.at("lm_error_at").get<std::set<std::int64_t>>();
    return calls.contains(call);
  }

  static ScoreMatrix children(const Json& iteration) {
    ScoreMatrix scores;
    for (const Json& task : iteration.at("tasks")) {
      if (task.contains("child_text")) {
        scores.push_back(task.at("child_scores").get<std::vector<double>>());
      }
    }
    return scores;
  }

  /// Of full rows of anchor scores those the trials ask for: all, but for the cache.
  ScoreMatrix requested(const Json& rows) const {
    ScoreMatrix scores;
    for (std::size_t i = 0; i < evolution_->trials().size(); ++i) {
      auto& row = scores.emplace_back();
      for (const int anchor : evolution_->trials()[i].problems) {
        row.push_back(rows.at(i).at(static_cast<std::size_t>(anchor)).get<double>());
      }
    }
    return scores;
  }

  std::string outcome() const {
    std::set<ProposalOutcome> seen;
    bool tried = false;
    for (const Proposal& proposal : evolution_->round_proposals()) {
      seen.insert(proposal.outcome);
      tried = tried || proposal.child >= 0;
    }
    if (seen.contains(ProposalOutcome::accepted)) return "accepted";
    if (tried) return "rejected";
    return seen.contains(ProposalOutcome::skipped_perfect) ? "skipped_perfect" : "no_proposal";
  }

  void check_round(const Json& iteration) const {
    const auto recorded = iteration.at("outcome").get<std::string>();
    if (recorded == "skipped_no_traces") {
      // Ours always has traces; a scripted lack of them shows as a skip or as missing evidence.
      EXPECT_TRUE(outcome() == "skipped_perfect" || outcome() == "no_proposal");
    } else {
      EXPECT_EQ(outcome(), recorded);
    }
    const auto proposals = evolution_->round_proposals();
    for (std::size_t i = 0; i < proposals.size(); ++i) {
      const Json& task = iteration.at("tasks").at(i);
      EXPECT_EQ(proposals[i].parent_sum, task.at("parent_sum").get<double>());
      EXPECT_EQ(proposals[i].child >= 0, task.contains("child_text"));
      if (!task.contains("child_text")) continue;
      EXPECT_EQ(proposals[i].child_sum, task.at("child_sum").get<double>());
      EXPECT_EQ(proposals[i].child_sum > proposals[i].parent_sum, task.at("improves").get<bool>());
    }
    std::size_t row = state().pool.size() - iteration.at("new_candidates").size();
    for (const Json& child : iteration.at("new_candidates")) {
      EXPECT_EQ(row, child.at("index").get<std::size_t>());
      check_candidate(state().pool.at(row++), child);
    }
    EXPECT_EQ(state().metric_calls, iteration.at("total_after").get<std::int64_t>());
    EXPECT_EQ(state().full_evaluations, iteration.at("full_evaluations").get<std::int64_t>());
    check_pool(iteration);
  }

  void check_candidate(const Candidate& candidate, const Json& recorded) const {
    EXPECT_EQ(candidate.text, recorded.at("text").get<std::string>());
    EXPECT_EQ(parents_of(candidate), recorded.at("parents"));
    EXPECT_EQ(candidate.anchor_scores, recorded.at("scores").get<std::vector<double>>());
    EXPECT_EQ(candidate.discovery_calls, recorded.at("calls_before").get<std::int64_t>());
  }

  /// As recorded: places in the pool, null for a prompt the run started from.
  Json parents_of(const Candidate& candidate) const {
    if (candidate.origin != Origin::mutation) return Json::array({nullptr});
    Json places = Json::array();
    for (const CandidateId id : candidate.parents) {
      const auto found = std::find_if(state().pool.begin(), state().pool.end(),
                                      [&](const Candidate& other) { return other.id == id; });
      places.push_back(found - state().pool.begin());
    }
    return places;
  }

  void check_pool(const Json& recorded) const {
    const ScoreMatrix scores = score_matrix(state().pool);
    EXPECT_EQ(mean_scores(scores), recorded.at("means").get<std::vector<double>>());
    EXPECT_EQ(frontier_of(scores), recorded.at("frontier").get<Fronts>());
  }

  void check_final(const Json& recorded) const {
    const auto& pool = state().pool;
    ASSERT_EQ(pool.size(), recorded.at("candidates").size());
    for (std::size_t i = 0; i < pool.size(); ++i) {
      check_candidate(pool[i], {{"text", recorded.at("candidates").at(i)},
                                {"parents", recorded.at("parents").at(i)},
                                {"scores", recorded.at("scores").at(i)},
                                {"calls_before", recorded.at("calls_before").at(i)}});
    }
    check_pool(recorded);
    check_fronts_before({{"tasks", Json::array({recorded})}});
    const auto means = mean_scores(score_matrix(pool));
    EXPECT_EQ(best_candidate(means), recorded.at("best").get<int>());
    EXPECT_EQ(state().metric_calls, recorded.at("total").get<std::int64_t>());
    EXPECT_EQ(state().full_evaluations, recorded.at("full_evaluations").get<std::int64_t>());
    EXPECT_EQ(std::max<std::int64_t>(0, state().metric_calls - state().metric_cap),
              recorded.at("overshoot").get<std::int64_t>());
    for (const auto& [k, rows] : recorded.at("topk").items()) check_population(std::stoi(k), rows);
  }

  /// The record's population holds scored candidates only; ours has the unscored carried ones
  /// before it repeats, so they are taken out of the state here.
  void check_population(int k, const Json& rows) const {
    EvolutionState scored = state();
    scored.unscored.clear();
    EvolveOptions options = options_;
    options.prompts = k;
    Json found = Json::array();
    for (const Candidate& member : Evolution(options, std::move(scored)).population()) {
      const auto place =
          std::find_if(state().pool.begin(), state().pool.end(),
                       [&](const Candidate& other) { return other.id == member.id; });
      found.push_back(place - state().pool.begin());
    }
    EXPECT_EQ(found, rows) << "K = " << k;
  }

  const Json& trace_;
  const Json& config_;
  EvolveOptions options_;
  std::optional<Evolution> evolution_;  ///< replaced at every restart
  std::vector<Json> drawn_;             ///< the iteration's tasks that draw a parent
  std::size_t next_drawn_ = 0;
};

}  // namespace fst::test
