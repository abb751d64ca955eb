#include "fst/run/requests.h"

namespace fst {

namespace {

std::uint64_t word(std::int64_t value) {
  return static_cast<std::uint64_t>(value);
}

/// What training and evolution sample from.
void set_training_law(RequestBatch& batch, const RunConfig& config, std::int64_t vocab) {
  batch.law = {.temperature = static_cast<float>(config.rollout.temperature), .vocab = vocab};
  batch.max_new_tokens = static_cast<std::int32_t>(config.rollout.max_new_tokens);
}

}  // namespace

RequestBatch training_requests(const RunConfig& config, const Task& task, const Cycle& cycle,
                               std::int64_t step, const std::vector<std::string>& prompts,
                               std::int64_t vocab) {
  const std::int64_t per_step = config.train.problems_per_step;
  const std::int64_t first = cycle.first_position + (step - cycle.first_step) * per_step;
  RequestBatch batch;
  batch.prompts = prompts;
  const auto slots = static_cast<std::int64_t>(prompts.size());
  const std::int64_t draws = config.train.group_size / slots;
  for (std::int64_t p = 0; p < per_step; ++p) {
    batch.problems.push_back(task.train(first + p));
    for (std::int64_t k = 0; k < slots; ++k) {
      for (std::int64_t j = 0; j < draws; ++j) {
        Request request;
        request.problem = static_cast<std::int32_t>(p);
        request.prompt = static_cast<std::int32_t>(k);
        request.sample = static_cast<std::int32_t>(k * draws + j);
        request.key =
            stream_key(word(config.run.seed), Purpose::training_draw,
                       {word(step), word(p), hash_text(batch.problems.back().id),
                        hash_text(prompts[static_cast<std::size_t>(k)]), word(request.sample)});
        batch.requests.push_back(request);
      }
    }
  }
  set_training_law(batch, config, vocab);
  batch.score_base = config.kl.place == "reward" && config.kl.coef > 0.0;
  return batch;
}

bool scores_minibatch(EvolutionStage stage) {
  return stage == EvolutionStage::parent_scores || stage == EvolutionStage::child_scores;
}

RequestBatch scoring_requests(const RunConfig& config, const EvolutionState& state,
                              const std::vector<Trial>& trials, const std::vector<Problem>& anchors,
                              std::int64_t vocab) {
  const Purpose purpose =
      scores_minibatch(state.stage) ? Purpose::minibatch_draw : Purpose::anchor_draw;
  RequestBatch batch;
  batch.problems = anchors;
  for (std::size_t k = 0; k < trials.size(); ++k) {
    batch.prompts.push_back(trials[k].text);
    std::vector<std::int32_t> draws(anchors.size(), 0);
    for (const int problem : trials[k].problems) {
      const auto place = static_cast<std::size_t>(problem);
      Request request;
      request.problem = problem;
      request.prompt = static_cast<std::int32_t>(k);
      request.sample = draws[place]++;
      request.key = stream_key(
          word(config.run.seed), purpose,
          {word(state.phase.cycle), word(state.round), static_cast<std::uint64_t>(state.stage),
           hash_text(anchors[place].id), hash_text(trials[k].text), word(request.sample)});
      batch.requests.push_back(request);
    }
  }
  set_training_law(batch, config, vocab);
  return batch;
}

std::uint64_t reflection_key(const RunConfig& config, const EvolutionState& state,
                             std::size_t proposal, int proposal_calls) {
  return stream_key(word(config.run.seed), Purpose::reflection_draw,
                    {word(state.phase.cycle), word(state.round), proposal, word(proposal_calls)});
}

RequestBatch evaluation_requests(const RunConfig& config, const EvaluationPlan& plan,
                                 const std::vector<std::string>& prompts, std::int64_t samples,
                                 Purpose purpose) {
  RequestBatch batch;
  batch.problems = plan.problems;
  batch.prompts = prompts;
  for (std::size_t p = 0; p < plan.problems.size(); ++p) {
    for (std::size_t k = 0; k < prompts.size(); ++k) {
      for (std::int64_t s = 0; s < samples; ++s) {
        Request request;
        request.problem = static_cast<std::int32_t>(p);
        request.prompt = static_cast<std::int32_t>(k);
        request.sample = static_cast<std::int32_t>(s);
        request.key = stream_key(word(config.run.seed), purpose,
                                 {word(plan.step), hash_text(plan.split),
                                  hash_text(plan.problems[p].id), hash_text(prompts[k]), word(s)});
        batch.requests.push_back(request);
      }
    }
  }
  batch.max_new_tokens = static_cast<std::int32_t>(
      config.eval.max_new_tokens > 0 ? config.eval.max_new_tokens : config.rollout.max_new_tokens);
  return batch;
}

}  // namespace fst
