#include <csignal>
#include <cstdio>
#include <optional>
#include <string>

#include "fst/base/error.h"
#include "fst/run/signals.h"
#include "fst/run/verbs.h"
#include "fst/run/version.h"

namespace {

using namespace fst;

/// What needs no verb; -1 if a verb comes next.
int answer_without_verb(const Words& words) {
  if (words.empty()) {
    std::fputs(overview().c_str(), stderr);
    return exit_bad_input;
  }
  if (words.front() == "--help" || words.front() == "--version") {
    std::fputs(words.front() == "--help" ? overview().c_str() : version_report().c_str(), stdout);
    return EXIT_SUCCESS;
  }
  return -1;
}

bool asks_for_help(const Words& words) {
  for (const std::string& word : words) {
    if (word == "--help") return true;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  // A file that grows beyond the limit is then an error of write(), reported like a full disk.
  std::signal(SIGXFSZ, SIG_IGN);
  std::optional<World> world;
  try {
    Words words(argv + 1, argv + argc);
    const int answered = answer_without_verb(words);
    if (answered >= 0) return answered;
    const Verb& verb = verb_named(words.front());
    words.erase(words.begin());
    std::optional<StopSignals> signals;  // before MPI, which takes its time to start
    if (verb.stops_on_signal) signals.emplace();
    const bool alone = !verb.uses_ranks || asks_for_help(words);
    world.emplace(alone ? World::alone() : World(argc, argv));
    return verb.run(*world, words);
  } catch (const InputError& error) {
    if (world) return world->refuse(error.what());
    std::fprintf(stderr, "fst: %s\n", error.what());
    return exit_bad_input;
  } catch (const std::exception& error) {  // maybe on this rank only: the others would hang
    // Alone too: MPI_Finalize would make HDF5 close once more what it could not close.
    if (world) world->fail(error.what());
    std::fprintf(stderr, "fst: %s\n", error.what());
    return exit_failure;
  }
}
