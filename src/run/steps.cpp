// What the sentences of run.cpp mean: scores, reflection, evaluation, records.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/run/evaluation.h"
#include "fst/run/records.h"
#include "fst/run/requests.h"
#include "fst/run/run.h"

namespace fst {

namespace {

EvolveOptions evolve_options(const RunConfig& config) {
  const auto& e = config.evolve;
  EvolveOptions options;
  options.prompts = static_cast<int>(e.prompts);
  options.minibatch = static_cast<int>(e.minibatch);
  options.max_metric_calls = e.max_metric_calls;
  options.acceptance = e.acceptance == "strict" ? Acceptance::strict : Acceptance::or_equal;
  options.skip_perfect = e.skip_perfect;
  options.reject_known = e.reject_known;
  if (e.selector == "current_best") options.selector = ParentSelector::current_best;
  if (e.selector == "epsilon_greedy") options.selector = ParentSelector::epsilon_greedy;
  if (e.selector == "top_k_pareto") options.selector = ParentSelector::top_k_pareto;
  options.parents_per_round = static_cast<int>(e.proposals);
  if (e.rescore_carried == "all_charged") options.rescore_carried = RescoreCarried::all_charged;
  if (e.rescore_carried == "lead_only") options.rescore_carried = RescoreCarried::lead_only;
  options.lead = e.lead_always_kept ? LeadRule::always_kept : LeadRule::among_chosen;
  options.max_prompt_tokens = e.max_prompt_tokens;
  return options;
}

}  // namespace

void Run::enter_stage(const Cycle& cycle) {
  if (stage_ == cycle.stage) return;
  stage_ = cycle.stage;
  variant_ = stage_variants(config_)[static_cast<std::size_t>(stage_)];
  task_.emplace(task_of(world_, config_, variant_));
  if (traits_.evolves()) reflection_.emplace(context_, *task_);
}

/// Φ from evolve.population: a JSONL file of {"prompt"}, repeated cyclically to K.
void Run::read_population() {
  const std::string& path = config_.evolve.population;
  std::istringstream stream(read_input(world_, path));
  std::vector<std::string> prompts;
  int number = 0;
  for (std::string line; std::getline(stream, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_object() || !json.contains("prompt") || !json["prompt"].is_string()) {
      throw InputError(path + ":" + std::to_string(number) + ": expected {\"prompt\": \"...\"}");
    }
    prompts.push_back(json["prompt"].get<std::string>());
  }
  if (prompts.empty()) throw InputError(path + ": no prompts");
  for (std::int64_t k = 0; k < config_.evolve.prompts; ++k) {
    Candidate c;
    c.id = k % static_cast<std::int64_t>(prompts.size());
    c.text = prompts[static_cast<std::size_t>(c.id)];
    state_.population.push_back(c);
  }
  state_.next_candidate = static_cast<CandidateId>(prompts.size());
}

/// Ids beside prompts(); -1 for a seed that no fast phase has named.
std::vector<CandidateId> Run::prompt_ids() const {
  std::vector<CandidateId> ids;
  if (!traits_.seed_prompt_only) {
    for (const Candidate& c : state_.population) ids.push_back(c.id);
  }
  if (ids.empty()) ids.push_back(-1);
  return ids;
}

std::vector<std::string> Run::prompts() const {
  std::vector<std::string> texts;
  if (!traits_.seed_prompt_only) {
    for (const Candidate& c : state_.population) texts.push_back(c.text);
  }
  if (texts.empty()) texts.push_back(task_->seed_prompt);
  return texts;
}

Evolution Run::begin_evolution(const Cycle& cycle) {
  anchors_.clear();
  for (std::int64_t i = 0; i < config_.evolve.anchors; ++i) {
    anchors_.push_back(task_->train(cycle.first_position + i));
  }
  if (interrupted_) {
    Evolution evolution(evolve_options(config_), std::move(*interrupted_));
    interrupted_.reset();
    // A closing phase was stopped and the run then made longer: its scores are of older weights.
    if (evolution.state().phase.policy == state_.step) return evolution;
    state_.next_candidate = evolution.next_id();
  }
  std::vector<Candidate> population = state_.population;
  if (population.empty() || (cycle.opens_stage && cycle.stage > 0)) {
    Candidate seed;
    seed.text = task_->seed_prompt;
    seed.cycle = cycle.index;
    population.push_back(seed);
  }
  Phase phase;
  phase.cycle = cycle.index;
  phase.anchors = config_.evolve.anchors;
  phase.policy = state_.step;
  phase.next_id = state_.next_candidate;
  return {evolve_options(config_), phase, population};
}

ScoreMatrix Run::score(const Evolution& evolution, const Cycle& cycle) {
  world_.enter(Activity::rollout, state_.step);
  const auto& trials = evolution.trials();
  RequestBatch batch =
      scoring_requests(config_, evolution.state(), trials, anchors_, context_.vocab);
  std::vector<CandidateId> candidates;
  for (const Trial& trial : trials) candidates.push_back(trial.candidate);
  rollouts_.start(batch, *task_);
  const auto& outcomes = rollouts_.outcomes();
  state_.rollouts_fast += static_cast<std::int64_t>(batch.requests.size());
  record_rollouts(batch, candidates,
                  scores_minibatch(evolution.state().stage) ? "minibatch" : "anchor", cycle);
  ScoreMatrix scores;
  std::size_t next = 0;
  for (const Trial& trial : trials) {
    std::vector<double> row;
    for (std::size_t i = 0; i < trial.problems.size(); ++i) {
      row.push_back(static_cast<double>(outcomes[next++].reward));
    }
    scores.push_back(std::move(row));
  }
  last_batch_ = std::move(batch);
  return scores;
}

void Run::reflect(Evolution& evolution) {
  world_.enter(Activity::reflection, state_.step);
  round_evidence_.assign(evolution.round_proposals().size(), "");
  const auto length = [this](std::string_view prompt) {
    return reflection_->prompt_length(prompt);
  };
  while (evolution.state().stage == EvolutionStage::replies) {
    const auto awaiting = evolution.awaiting_reply();
    std::vector<ReflectionTask> tasks;
    for (const std::size_t i : awaiting) {
      const Proposal& proposal = evolution.round_proposals()[i];
      ReflectionTask task;
      const auto prompt = static_cast<std::int32_t>(proposal.parent_trial);
      task.prompt = last_batch_.prompts[proposal.parent_trial];
      for (std::size_t r = 0; r < last_batch_.requests.size(); ++r) {
        if (last_batch_.requests[r].prompt == prompt)
          task.requests.push_back(static_cast<std::int32_t>(r));
      }
      task.key = reflection_key(config_, evolution.state(), i, proposal.reflection_calls);
      tasks.push_back(std::move(task));
    }
    std::vector<Reply> replies;
    const auto answers = reflection_->rewrite(rollouts_, last_batch_, tasks);
    for (std::size_t i = 0; i < answers.size(); ++i) {
      replies.push_back(answers[i].reply);
      round_evidence_[awaiting[i]] = answers[i].evidence;
    }
    evolution.record_replies(replies, length);
  }
}

void Run::adopt_population(const Evolution& evolution, const Cycle& cycle) {
  state_.population = evolution.population();
  if (traits_.copies_of_lead) {
    std::fill(state_.population.begin(), state_.population.end(), state_.population.front());
  }
  state_.next_candidate = evolution.next_id();
  state_.evolved_cycle = cycle.index;
  recorder_.population(evolution, state_);
  world_.expect_same(state_.fingerprint(), "population");
}

RequestBatch Run::training_batch(const Cycle& cycle, std::int64_t step) const {
  return training_requests(config_, *task_, cycle, step, prompts(), context_.vocab);
}

void Run::record_rollouts(const RequestBatch& batch, const std::vector<CandidateId>& candidates,
                          const char* phase, const Cycle& cycle) {
  std::int64_t bytes = 0;
  for (const Outcome& o : rollouts_.outcomes()) bytes += 4 * o.prompt_length + 8 * o.length + 64;
  if (state_.recorded_bytes + bytes > config_.run.rollout_rows_mib << 20) return;
  state_.recorded_bytes += bytes;
  recorder_.rollouts(state_.step, cycle, phase, batch, candidates, rollouts_.for_history());
}

void Run::evaluate() {
  world_.enter(Activity::evaluation, state_.step);
  EvaluationPlan plan;
  plan.split = config_.eval.split;
  plan.problems = evaluation_problems(config_, *task_);
  plan.seed = task_->seed_prompt;
  for (const Candidate& c : state_.population) plan.population.push_back(c.text);
  plan.step = state_.step;
  plan.cycle = state_.evolved_cycle;
  auto rows = evaluate_prompts(context_, rollouts_, *task_, plan, state_.rollouts_eval);
  if (!config_.eval.also.empty()) {
    const Task other = task_of(world_, config_, config_.eval.also);
    plan.split += ":" + config_.eval.also;
    plan.problems = evaluation_problems(config_, other);
    plan.population.clear();
    for (auto& row : evaluate_prompts(context_, rollouts_, other, plan, state_.rollouts_eval)) {
      rows.push_back(std::move(row));
    }
  }
  for (auto& row : rows) {
    row.rollouts_slow = state_.rollouts_slow;
    row.rollouts_fast = state_.rollouts_fast;
    recorder_.evaluation(row);
  }
}

void Run::record_step(const RequestBatch& batch, const LearnedStep& learned, const Cycle& cycle) {
  state_.rollouts_slow += static_cast<std::int64_t>(batch.requests.size());
  recorder_.step(state_, cycle, variant_, batch, rollouts_.outcomes(), learned);
  record_rollouts(batch, prompt_ids(), "train", cycle);
}

bool Run::finish() {
  if (traits_.evolves_at_end && state_.final_phase_step != state_.step) {
    Cycle cycle = cycle_of(config_, state_.step);
    cycle.evolves = true;
    enter_stage(cycle);
    state_.evolved_cycle = std::min(state_.evolved_cycle, cycle.index - 1);
    if (!evolve(cycle)) return false;
    state_.final_phase_step = state_.step;
    if (!evaluation_due(config_, state_.step)) evaluate();
    saved_step_ = -1;
  }
  if (saved_step_ != state_.step) save(nullptr);
  report_memory_use(world_, context_.device);
  report_products(world_, context_.device, config_);
  return true;
}

bool Run::stop_requested() {
  const double limit = config_.run.time_limit;
  const bool mine = signals_.received() || (limit > 0.0 && started_.seconds() > limit);
  return !world_.all().all_of(!mine, "stop requests");
}

}  // namespace fst
