#include <optional>

#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/run/deck_file.h"
#include "fst/run/pretrain.h"
#include "fst/run/run.h"
#include "fst/run/schedule.h"
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

/// Takes `--resume MODE` or `--resume=MODE` out of the arguments.
Resume take_resume(Words& arguments) {
  Resume resume;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i].rfind("--resume", 0) != 0) continue;
    std::string value;
    if (arguments[i] == "--resume") {
      if (i + 1 >= arguments.size())
        throw InputError("--resume: expected none, auto or a checkpoint");
      value = arguments[i + 1];
      arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    } else if (arguments[i].rfind("--resume=", 0) == 0) {
      value = arguments[i].substr(9);
    } else {
      continue;
    }
    arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(i));
    --i;
    if (value == "auto") {
      resume = {ResumeMode::automatic, ""};
    } else if (value == "none") {
      resume = {};
    } else if (is_checkpoint(value)) {
      resume = {ResumeMode::file, value};
    } else {
      throw InputError("--resume " + value + ": expected none, auto or a checkpoint file");
    }
  }
  return resume;
}

}  // namespace

namespace {
/// The deck is the first word, what belongs to it the rest.
Deck deck_of(const World& world, const Words& words) {
  if (words.empty() || words.front().rfind("--", 0) == 0) {
    throw InputError("expected a deck (an INI file) as the first argument");
  }
  return read_deck(world, words.front(), {words.begin() + 1, words.end()});
}
}  // namespace

int run_verb(World& world, const Words& words) {
  Words arguments = words;
  const Resume resume = take_resume(arguments);
  const Deck deck = deck_of(world, arguments);
  expect_output(deck.config);
  expect_policy(deck.config);
  world.split(plan_of(deck.config));
  const auto unused = unused_keys(deck.config, deck.given);
  std::string list;
  for (const auto& key : unused) list += (list.empty() ? "" : ", ") + key;
  if (!list.empty())
    log::info(std::string("run.method = ") + name_of(deck.config.run.method) +
              " does not use: " + list);
  log::info(version_line() + ", " + world.layout());
  Run run(world, deck.config, resume);
  return run.execute() == RunOutcome::finished ? 0 : exit_stopped_early;
}

int pretrain_verb(World& world, const Words& words) {
  const Deck deck = deck_of(world, words);
  expect_output(deck.config);
  world.split({});
  log::info(version_line() + ", " + world.layout());
  pretrain(world, deck.config);
  return 0;
}

}  // namespace fst
