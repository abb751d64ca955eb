#include "fst/run/verbs.h"

#include "fst/base/error.h"
#include "fst/base/nearest.h"

namespace fst {

namespace {

constexpr Verb table[] = {
    {"run", true, run_verb, true},     {"eval", true, eval_verb},
    {"pretrain", true, pretrain_verb}, {"score", true, score_verb},
    {"generate", true, generate_verb}, {"tokenize", false, tokenize_verb},
    {"verify", false, verify_verb},    {"export", false, export_verb},
    {"check", false, check_verb},      {"info", false, info_verb},
};

}  // namespace

std::span<const Verb> verbs() {
  return table;
}

const Verb& verb_named(const std::string& name) {
  std::vector<std::string> names;
  for (const Verb& verb : table) {
    if (verb.name == name) return verb;
    names.emplace_back(verb.name);
  }
  throw InputError("unknown verb " + name + " (nearest: " + nearest(name, names) +
                   "; see fst --help)");
}

std::string overview() {
  return "fst: fast-slow training of Qwen3 language models\n\n"
         "usage: [mpirun -n N] fst VERB ...\n\n"
         "  fst run DECK [--resume none|auto|FILE]  the main job: fast-slow training, or a "
         "baseline\n"
         "  fst eval DECK                           accuracy and KL of a model or checkpoint\n"
         "  fst pretrain DECK                       next-token training\n"
         "  fst score                               token ids in, log-probabilities out\n"
         "  fst generate                            prompts in, completions out\n"
         "  fst tokenize                            text or chat to token ids and back\n"
         "  fst verify                              completions in, verdicts out\n"
         "  fst export                              checkpoint to Hugging Face folder\n"
         "  fst check DECK                          print what a deck comes to, touch nothing\n"
         "  fst info FILE [--digest[=full]]         what one of our HDF5 files is and holds\n\n"
         "  fst VERB --help, fst check --keys, fst --version, fst --help\n\n"
         "run, eval, pretrain, score and generate use all ranks of a launcher, and one without.\n"
         "Exit codes: 0 done, 2 bad input (nothing was started), 75 stopped early with a complete\n"
         "checkpoint (submit again), others failure.\n";
}

}  // namespace fst
