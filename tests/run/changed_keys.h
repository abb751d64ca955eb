#pragma once

#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fst/run/config.h"

namespace fst::test {

/// Another valid value for a key.
inline std::string changed(const KeyInfo& key) {
  static const std::map<std::string, std::string> special{
      {"run.method", "copies"},  {"task.name", "world"},     {"task.variant", "hard"},
      {"task.stages", "B,hard"}, {"rollout.tp", "2"},        {"reflection.tp", "2"},
      {"learner.tp", "2"},       {"rollout.max_lag", "1"},   {"engine.device", "cuda"},
      {"kl.estimator", "k2"},    {"kl.place", "loss"},       {"eval.also", "C"},
      {"task.lengths", "5,3"},   {"train.group_size", "20"}, {"evolve.prompts", "5"},
      {"ranks.rollout", "4"},    {"ranks.learner", "2"},     {"evolve.anchors", "53"},
      {"ranks.reflection", "2"}, {"cispo.tau", "3.5"},       {"engine.exchange", "host"}};
  const auto found = special.find(key.name);
  if (found != special.end()) return found->second;
  if (key.type == "boolean") return key.text == "true" ? "false" : "true";
  if (key.type == "path") return "/some where/" + key.name;
  if (key.type == "integer") return std::to_string(std::stoll(key.text) + 1);
  if (key.type == "real" && key.name == "run.deadline") return "31.5";
  if (key.type == "real") return key.text == "1" ? "0.1" : key.text == "0" ? "0.3" : "0.7";
  if (key.type.starts_with("one of ")) {  // the last choice
    return key.type.substr(key.type.find_last_of(", ") + 1);
  }
  ADD_FAILURE() << "no other value known for " << key.name;
  return key.text;
}

/// For each key an override that changes it, where it has another valid value; valid together.
inline std::vector<std::string> every_key_changed() {
  std::vector<std::string> overrides;
  for (const KeyInfo& key : keys_of(RunConfig{})) {
    overrides.push_back("--" + key.name + "=" + changed(key));
  }
  return overrides;
}

}  // namespace fst::test
