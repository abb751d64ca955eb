#include "fst/run/run_folder.h"

#include <filesystem>

#include "fst/base/error.h"
#include "fst/run/continuation.h"
#include "fst/run/records.h"
#include "fst/store/history.h"

namespace fst {

namespace {

bool holds_a_run(const std::filesystem::path& folder) {
  return std::filesystem::exists(folder / "config.resolved.cfg") ||
         std::filesystem::exists(History::file_in(folder)) || !list_checkpoints(folder).empty();
}

void expect_no_run(const std::filesystem::path& folder) {
  if (!holds_a_run(folder)) return;
  throw InputError(
      folder.string() +
      ": holds a run already; add --resume auto to go on with it, or choose another run.output");
}

}  // namespace

RunFolder enter_folder(const World& world, const RunConfig& config, const Resume& resume) {
  const std::filesystem::path folder = config.run.output;
  RunFolder entered;
  on_first_rank(world, folder.string(), [&] {
    if (!std::filesystem::exists(folder)) return;
    entered.lock.emplace(folder);
    if (resume.mode == ResumeMode::none) expect_no_run(folder);
  });
  if (resume.mode == ResumeMode::file) entered.from.emplace(world.all(), resume.file);
  if (resume.mode == ResumeMode::automatic) {
    entered.from = newest_good_checkpoint(world.all(), folder);
  }
  if (entered.from) {
    const std::string file = entered.from->file().string();
    expect_same_deck(config, parse_deck(file, entered.from->config(), {}).config, file);
  }
  return entered;
}

void make_folder(RunFolder& entered, const World& world, const RunConfig& config) {
  const std::filesystem::path folder = config.run.output;
  on_first_rank(world, folder.string(), [&] {
    if (entered.lock) return;
    std::filesystem::create_directories(folder);
    entered.lock.emplace(folder);
    expect_no_run(folder);  // of another job that was quicker
  });
}

}  // namespace fst
