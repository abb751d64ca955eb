#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "fst/comm/world.h"
#include "fst/run/config.h"
#include "fst/store/checkpoint_file.h"
#include "fst/store/run_lock.h"

namespace fst {

/// How a run begins: afresh, or from the newest good checkpoint, or from one that is named.
enum class ResumeMode : std::uint8_t { none, automatic, file };
struct Resume {
  ResumeMode mode = ResumeMode::none;
  std::string file;
};

/// The folder of a run while a job is in it.
struct RunFolder {
  std::optional<RunLock> lock;           // rank 0
  std::optional<CheckpointReader> from;  // what the run goes on from; none: it begins
};

/// Enters the folder run.output where it is there, and looks up where its run stands: before a
/// device is opened and models are loaded, which take long. Throws InputError for a folder that
/// holds a run (without resume) and for a checkpoint of another deck. Collective over all ranks;
/// `world` must outlive the folder.
RunFolder enter_folder(const World& world, const RunConfig& config, const Resume& resume);
/// Makes and enters the folder where it was not there: once nothing is left to be refused, so that
/// a refused job leaves none. Collective over all ranks.
void make_folder(RunFolder& entered, const World& world, const RunConfig& config);

}  // namespace fst
