#pragma once

#include <span>
#include <string>
#include <vector>

#include "fst/comm/world.h"

namespace fst {

/// What follows a verb on the command line.
using Words = std::vector<std::string>;

/// One verb of the program. `run` returns the exit code. It throws InputError for the user's
/// mistakes, before any work; `--help` among the words prints the verb's usage and does nothing
/// else.
struct Verb {
  const char* name;
  bool uses_ranks;  // collective over all ranks; the others run as one rank, without MPI
  int (*run)(World& world, const Words& words);
  bool stops_on_signal = false;  // with a checkpoint: a signal must not kill it, however early
};

/// Those of this program.
std::span<const Verb> verbs();
/// Throws InputError naming the nearest one.
const Verb& verb_named(const std::string& name);
/// `fst --help`.
std::string overview();

// run, eval and pretrain: src/run/verbs_job.cpp
int run_verb(World& world, const Words& words);
int eval_verb(World& world, const Words& words);
int pretrain_verb(World& world, const Words& words);
/// Token ids in, log-probabilities out.
int score_verb(World& world, const Words& words);
/// Prompts in, completions out.
int generate_verb(World& world, const Words& words);
/// Text or chat to token ids and back.
int tokenize_verb(World& world, const Words& words);
/// Completions in, verdicts out.
int verify_verb(World& world, const Words& words);
/// Checkpoint to Hugging Face folder.
int export_verb(World& world, const Words& words);
/// What a deck comes to; touches nothing.
int check_verb(World& world, const Words& words);
/// What an HDF5 file of ours is and holds.
int info_verb(World& world, const Words& words);

}  // namespace fst
