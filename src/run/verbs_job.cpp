#include <algorithm>
#include <optional>

#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/run/check_report.h"
#include "fst/run/deck_file.h"
#include "fst/run/plan.h"
#include "fst/run/pretrain.h"
#include "fst/run/records.h"
#include "fst/run/run.h"
#include "fst/run/schedule.h"
#include "fst/run/traffic_file.h"
#include "fst/run/verbs.h"
#include "fst/run/version.h"

namespace fst {

namespace {

void expect_output(const RunConfig& config) {
  if (config.run.output.empty()) {
    throw InputError("run.output: not set; the run needs a folder to write to");
  }
}

void expect_policy(const RunConfig& config) {
  if (config.model.policy.empty()) {
    throw InputError("model.policy: not set; give a Hugging Face folder or a checkpoint");
  }
}

Resume resume_of(const std::string& value) {
  if (value == "none") return {};
  if (value == "auto") return {ResumeMode::automatic, ""};
  if (is_checkpoint(value)) return {ResumeMode::file, value};
  throw InputError("--resume " + value + ": expected none, auto or a checkpoint file");
}

}  // namespace

int run_verb(World& world, const Words& words) {
  Usage usage;
  usage.verb = "run";
  usage.summary = "The main job: fast-slow training, or the baseline that the deck names.";
  usage.options.add_options()(
      "resume", boost::program_options::value<std::string>()->default_value("none"),
      "none: refuse a folder that holds a run; auto: its newest good checkpoint; or a checkpoint")(
      "traffic", boost::program_options::value<std::string>()->default_value(""),
      "file for the bytes that the ranks moved, by name, when the run ends (JSON)");
  const auto call = DeckCall::parse(usage, words);
  if (!call) return EXIT_SUCCESS;
  const Resume resume = resume_of(call->arguments.text("resume"));
  const Deck deck = call->deck(world);
  expect_output(deck.config);
  expect_policy(deck.config);
  const std::string traffic = call->arguments.text("traffic");
  if (!traffic.empty()) on_first_rank(world, traffic, [&] { expect_output(traffic); });
  on_first_rank(world, "the plan of the job",
                [&] { expect_plan(deck.config, world.all().size()); });
  world.split(plan_of(deck.config));
  const auto unused = unused_keys(deck.config, deck.given);
  std::string list;
  for (const auto& key : unused) list += (list.empty() ? "" : ", ") + key;
  if (!list.empty())
    log::info(std::string("run.method = ") + name_of(deck.config.run.method) +
              " does not use: " + list);
  log::info(version_line() + ", " + world.layout());
  // Until the models are there, a rank may be busy for longer than in a step.
  world.set_deadline(std::max(world.all().deadline(), deck.config.run.deadline));
  Run run(world, deck.config, resume);
  const RunOutcome outcome = run.execute();
  if (!traffic.empty()) write_traffic(world, traffic);
  return outcome == RunOutcome::finished ? 0 : exit_stopped_early;
}

int pretrain_verb(World& world, const Words& words) {
  Usage usage;
  usage.verb = "pretrain";
  usage.summary = "Next-token training on text, chats or the world's generated rows.";
  const auto call = DeckCall::parse(usage, words);
  if (!call) return EXIT_SUCCESS;
  const Deck deck = call->deck(world);
  expect_output(deck.config);
  if (deck.config.learner.tp != 1) {
    throw InputError("learner.tp: fst pretrain shares no model among ranks: use 1");
  }
  world.split({});
  log::info(version_line() + ", " + world.layout());
  pretrain(world, deck.config);
  return 0;
}

}  // namespace fst
