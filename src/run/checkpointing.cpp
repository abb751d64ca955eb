// All that a restart needs, in one place: what is saved, and how a run takes it up again.

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/run/continuation.h"
#include "fst/run/run.h"
#include "fst/run/version.h"
#include "fst/store/checkpoint_file.h"
#include "fst/store/files.h"
#include "fst/tensor/host_view.h"

namespace fst {

namespace {

constexpr const char* m_name = "/optimizer/m";
constexpr const char* v_name = "/optimizer/v";
constexpr const char* ahead_name = "/ahead";
constexpr const char* inputs_name = "/inputs";

nlohmann::json to_json(const Candidate& c) {
  return {{"id", c.id},
          {"text", nlohmann::json::binary({c.text.begin(), c.text.end()})},
          {"parents", c.parents},
          {"origin", static_cast<int>(c.origin)},
          {"cycle", c.cycle},
          {"round", c.round},
          {"anchor_scores", c.anchor_scores},
          {"scored_by", c.scored_by},
          {"carried_mean", c.carried_mean},
          {"discovery_calls", c.discovery_calls}};
}

Candidate candidate_from(const nlohmann::json& json) {
  Candidate c;
  c.id = json.at("id").get<CandidateId>();
  const auto& text = json.at("text").get_binary();
  c.text.assign(text.begin(), text.end());
  c.parents = json.at("parents").get<std::vector<CandidateId>>();
  c.origin = static_cast<Origin>(json.at("origin").get<int>());
  c.cycle = json.at("cycle").get<std::int64_t>();
  c.round = json.at("round").get<std::int64_t>();
  c.anchor_scores = json.at("anchor_scores").get<std::vector<double>>();
  c.scored_by = json.at("scored_by").get<PolicyVersion>();
  c.carried_mean = json.at("carried_mean").get<double>();
  c.discovery_calls = json.at("discovery_calls").get<std::int64_t>();
  return c;
}

/// What is newer than `file` in the run's own folder: damaged, or of a course that is left here.
void set_newer_aside(const std::filesystem::path& file, const std::filesystem::path& folder) {
  const auto taken = parse_checkpoint_name(file.filename().string());
  if (taken && std::filesystem::exists(folder / file.filename()) &&
      std::filesystem::equivalent(file, folder / file.filename())) {
    set_aside(folder, *taken);
  }
}

/// This rank's part of a checkpoint's array; what all ranks of a unit hold its first one writes.
std::vector<ArrayPiece> pieces_of(const Parameters& parameters, Range part,
                                  std::span<const float> values) {
  const bool first = parameters.shard().rank == 0;
  return global_parts(parameters.specs(), part, values,
                      first ? Replicated::include : Replicated::leave_out);
}

/// What this rank writes of the parameters or of a moment; nothing without `parameters`.
struct HeldValues {
  const Parameters* parameters = nullptr;
  Range part{0, 0};
  Tensor values;
};

/// Collective over the writer's ranks.
void write_array(CheckpointWriter& writer, const std::string& name, std::int64_t size,
                 const HeldValues& held) {
  if (held.parameters == nullptr) return writer.array(name, size, {});
  const HostFloats values(held.values);
  writer.array(name, size, pieces_of(*held.parameters, held.part, values.span()));
}

}  // namespace

Run::Run(World& world, const RunConfig& config, const Resume& resume)
    : world_(world),
      config_(config),
      traits_(traits_of(config.run.method)),
      folder_(enter_folder(world, config, resume)),
      context_(world, config, open_planned_engine(world, config)),
      policy_(context_),
      rollouts_(context_, policy_),
      learner_(context_, policy_),
      recorder_(world, config) {
  world_.enter(Activity::start_up, 0);
  world_.set_deadline(config.run.deadline);
  inputs_ = input_sums(world, config, context_.policy_source, context_.device);
  enter_stage(cycle_of(config_, 0));
  if (traits_.given_population) read_population();  // a checkpoint has the same one
  begin();
}

std::string RunState::to_bytes() const {
  nlohmann::json json{{"begun", begun},
                      {"step", step},
                      {"evolved_cycle", evolved_cycle},
                      {"final_phase_step", final_phase_step},
                      {"next_candidate", next_candidate},
                      {"rollouts", {rollouts_slow, rollouts_fast, rollouts_eval}},
                      {"recorded_bytes", recorded_bytes},
                      {"population", nlohmann::json::array()}};
  for (const Candidate& c : population) json["population"].push_back(to_json(c));
  const auto bytes = nlohmann::json::to_cbor(json);  // exact for doubles, NaN and any text
  return {bytes.begin(), bytes.end()};
}

RunState RunState::from_bytes(std::string_view bytes) {
  const auto json = nlohmann::json::from_cbor(bytes, true, false);
  if (json.is_discarded()) throw Error("checkpoint: the run state cannot be read");
  try {
    RunState state;
    state.begun = json.at("begun").get<bool>();
    state.step = json.at("step").get<std::int64_t>();
    state.evolved_cycle = json.at("evolved_cycle").get<std::int64_t>();
    state.final_phase_step = json.at("final_phase_step").get<std::int64_t>();
    state.next_candidate = json.at("next_candidate").get<CandidateId>();
    state.rollouts_slow = json.at("rollouts").at(0).get<std::int64_t>();
    state.rollouts_fast = json.at("rollouts").at(1).get<std::int64_t>();
    state.rollouts_eval = json.at("rollouts").at(2).get<std::int64_t>();
    state.recorded_bytes = json.at("recorded_bytes").get<std::int64_t>();
    for (const auto& c : json.at("population")) state.population.push_back(candidate_from(c));
    return state;
  } catch (const nlohmann::json::exception& error) {
    throw Error(std::string("checkpoint: the run state cannot be read: ") + error.what());
  }
}

std::uint64_t RunState::fingerprint() const {
  return hash_text(to_bytes());
}

/// The texts of a checkpoint by name. All ranks have the names, rank 0 what is written.
std::map<std::string, std::string> Run::texts_to_save(const Evolution* evolution) {
  std::map<std::string, std::string> texts{{"/state", state_.to_bytes()},
                                           {"/rows", nlohmann::json(recorder_.row_counts()).dump()},
                                           {inputs_name, nlohmann::json(inputs_).dump()}};
  if (evolution != nullptr) texts["/evolution"] = to_bytes(evolution->state());
  if (rollouts_.holds_ahead()) texts[ahead_name] = rollouts_.ahead_bytes();
  for (const auto& [name, text] : context_.policy_source.files) texts["/model/" + name] = text;
  return texts;
}

void Run::save(const Evolution* evolution) {
  world_.enter(Activity::checkpoint, state_.step);
  const Stopwatch watch;
  recorder_.seal();
  CheckpointId id{state_.step, -1};
  if (evolution != nullptr) id.round = static_cast<std::int32_t>(evolution->state().round);
  const std::filesystem::path folder = config_.run.output;
  const std::int64_t size = context_.policy_source.config.parameter_count();
  std::int64_t bytes = 4 * size * (traits_.trains ? 3 : 1);
  const auto texts = texts_to_save(evolution);
  for (const auto& [name, text] : texts) bytes += static_cast<std::int64_t>(text.size());

  CheckpointWriter writer(world_.all(), folder / file_name(id),
                          {git_commit(), version(), resolved_deck(config_)}, bytes);
  HeldValues weights, m, v;
  if (Learner* learner = learner_.learner()) {
    const Parameters& parameters = policy_.learner()->parameters;
    Optimizer& optimizer = learner->optimizer();
    const Range shard = optimizer.shard();
    weights = {&parameters, shard, parameters.masters(shard)};
    m = {&parameters, shard, optimizer.m()};
    v = {&parameters, shard, optimizer.v()};
  } else if (!traits_.trains && world_.across(Role::rollout).rank() == 0) {
    const Parameters& parameters = policy_.sampler()->parameters;
    weights = {&parameters, {0, parameters.size()}, parameters.flat()};
  }
  write_array(writer, weights_name, size, weights);
  if (traits_.trains) {
    write_array(writer, m_name, size, m);
    write_array(writer, v_name, size, v);
  }
  for (const auto& [name, text] : texts) writer.blob(name, text, DigestUse::digest);
  const std::int64_t lines = recorder_.lines();
  writer.integers("/metrics_lines", std::span(&lines, 1), DigestUse::digest);
  const std::vector<std::int64_t> identities = model_identities();
  writer.integers("/identities", identities, DigestUse::digest);
  writer.commit();
  if (world_.all().rank() == 0) keep_checkpoints(folder, id, config_.run.keep_every);
  saved_step_ = state_.step;
  log::info("saved " + file_name(id) + " in " + std::to_string(watch.seconds()).substr(0, 4) +
            " s");
}

/// Start of the policy, base and reflection model: equal on every rank that holds them, so the
/// greatest (as unsigned halves would be ambiguous: of the signed words) stands for all.
std::vector<std::int64_t> Run::model_identities() {
  const auto signed_word = [](std::uint64_t identity) {
    return static_cast<std::int64_t>(identity >> 1);  // keeps the order of a maximum with 0
  };
  std::vector<std::int64_t> identities(3, 0);
  if (policy_.learner() != nullptr || policy_.sampler() != nullptr)
    identities[0] = signed_word(policy_.start_identity());
  identities[1] = signed_word(context_.frozen.identity_of(context_.base_path()));
  identities[2] = signed_word(context_.frozen.identity_of(context_.reflection_path()));
  world_.all().all_reduce_max(std::span(identities), "identities of the models");
  return identities;
}

void Run::start_afresh() {
  if (world_.all().rank() == 0) set_aside(config_.run.output, {-1, -1});
  recorder_.open(nullptr, 0);
  recorder_.attempt(-1, context_.device);
}

void Run::resume_from(const CheckpointReader& reader) {
  const std::filesystem::path& file = reader.file();
  expect_same_inputs(inputs_, nlohmann::json::parse(reader.blob(inputs_name)).get<InputSums>(),
                     file.string());
  state_ = RunState::from_bytes(reader.blob("/state"));
  if (config_.run.steps < state_.step) {
    throw InputError("run.steps = " + std::to_string(config_.run.steps) + ", but " + file.string() +
                     " has done " + std::to_string(state_.step) + ": run.steps may only grow");
  }
  const auto identities = reader.integers("/identities");
  const auto present = model_identities();
  const char* names[] = {"model.policy", "model.base", "model.reflection"};
  for (std::size_t i = 0; i < 3; ++i) {
    if (identities.at(i) != present[i] && identities.at(i) != 0 && present[i] != 0) {
      throw InputError(std::string(names[i]) +
                       ": not the model this run began with (its weights differ)");
    }
  }
  policy_.restore_identity(identities.at(0));
  for (PolicyWeights* weights : {policy_.learner(), policy_.sampler()}) {
    if (weights == nullptr) continue;
    read_weights(reader, weights->parameters);
    weights->model->set_weights(weights->parameters);
  }
  if (Learner* learner = learner_.learner()) {
    Optimizer& optimizer = learner->optimizer();
    const auto& specs = policy_.learner()->parameters.specs();
    for (const auto& [name, moment] :
         {std::pair(m_name, &optimizer.m()), {v_name, &optimizer.v()}}) {
      HostView<float> values(*moment, Contents::undefined);
      reader.array(name,
                   global_parts(specs, optimizer.shard(), values.span(), Replicated::include));
      values.store();
    }
    optimizer.set_steps(state_.step);
  }
  policy_.version = traits_.trains ? state_.step : 0;  // weights that nobody trains keep theirs
  learner_.set_version(policy_.version);
  if (reader.has(ahead_name)) {
    const Cycle cycle = cycle_of(config_, state_.step);
    enter_stage(cycle);
    rollouts_.restore_ahead(training_batch(cycle, state_.step), reader.blob(ahead_name));
  }
  if (reader.has("/evolution"))
    interrupted_ = evolution_state_from_bytes(reader.blob("/evolution"));
  const auto rows = nlohmann::json::parse(reader.blob("/rows")).get<RowCounts>();
  if (world_.all().rank() == 0) set_newer_aside(file, config_.run.output);
  recorder_.open(&rows, reader.integers("/metrics_lines").at(0));
  recorder_.attempt(state_.step, context_.device);
  saved_step_ = interrupted_ ? -1 : state_.step;
  log::info("resumed at step " + std::to_string(state_.step) + " from " + file.string());
}

void Run::begin() {
  make_folder(folder_, world_, config_);
  if (folder_.from) {
    resume_from(*folder_.from);
    folder_.from.reset();
  } else {
    start_afresh();
  }
  const std::filesystem::path folder = config_.run.output;
  if (world_.all().rank() == 0) write_text(folder / "config.resolved.cfg", resolved_deck(config_));
}

}  // namespace fst
