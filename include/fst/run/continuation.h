#pragma once

#include <map>
#include <string>

#include "fst/comm/world.h"
#include "fst/run/config.h"
#include "fst/run/model_source.h"

// What a resumed run may have other than the run it goes on with.

namespace fst {

/// True for keys that change no bit of the trajectory: run.steps (upwards), layout, devices,
/// threads, batches, limits and paths. What lies at a path must be what lay there, see input_sums.
bool may_change_on_resume(const std::string& key);

/// Throws InputError naming every other key that differs, with both values. `file` is the
/// checkpoint, for the message.
void expect_same_deck(const RunConfig& now, const RunConfig& then, const std::string& file);

/// A sum of the content of each file that the run is a function of, by the key that names it:
/// "task.train", ..., and of models all but weights and configuration, "model.policy:
/// tokenizer.json". Files that the deck does not name are absent.
using InputSums = std::map<std::string, std::string>;
/// In bf16 also "engine.dtype", the arithmetic of `device`. Read on rank 0. Throws InputError for a
/// file that cannot be read. Collective over all ranks.
InputSums input_sums(const World& world, const RunConfig& config, const ModelSource& policy,
                     const Device& device);
/// Throws InputError naming every key whose file is another one, or is there on one side only.
void expect_same_inputs(const InputSums& now, const InputSums& then, const std::string& file);

}  // namespace fst
