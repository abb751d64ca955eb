// The program with faults: it does what FST_FAULT says where World::enter or h5::File::close is
// called. Linked with --wrap, so that the product has no hook.
//   FST_FAULT="RANK PLACE FAULT"   at RANK's first entry into PLACE: a phase, or "close", which is
//                                  in the midst of writing a checkpoint together
//     sleep   stays away for ever          exit    leaves by exit(3), without MPI_Finalize
//     throw   an exception                 stop    SIGSTOP: not even signals are answered
//     kill    SIGKILL, as for lack of memory

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <sstream>
#include <string>
#include <thread>

#include "fst/base/error.h"
#include "fst/comm/world.h"
#include "fst/store/h5.h"

namespace {

struct Fault {
  int rank = -1;
  std::string place, kind;
};

Fault fault_of_environment() {
  Fault fault;
  const char* text = std::getenv("FST_FAULT");
  std::istringstream(text == nullptr ? "" : text) >> fault.rank >> fault.place >> fault.kind;
  return fault;
}

/// The rank and the place where this process is.
void pass(int rank, const std::string& place) {
  static Fault fault = fault_of_environment();
  if (rank != fault.rank || place != fault.place) return;
  fault.rank = -1;  // the first time only
  if (fault.kind == "sleep") std::this_thread::sleep_for(std::chrono::hours(1));
  if (fault.kind == "exit") std::exit(3);
  if (fault.kind == "throw") throw fst::Error("a fault was injected");
  if (fault.kind == "stop") std::raise(SIGSTOP);
  if (fault.kind == "kill") std::raise(SIGKILL);
}

int my_rank = -1;
bool writing = false;

}  // namespace

// The linker's names of fst::World::enter(fst::Activity, std::int64_t) and fst::h5::File::close().
extern "C" {
void __real__ZN3fst5World5enterENS_8ActivityEl(fst::World* world, fst::Activity activity,
                                               std::int64_t step);
void __wrap__ZN3fst5World5enterENS_8ActivityEl(fst::World* world, fst::Activity activity,
                                               std::int64_t step) {
  __real__ZN3fst5World5enterENS_8ActivityEl(world, activity, step);
  my_rank = world->all().rank();
  writing = activity == fst::Activity::checkpoint;
  pass(my_rank, name_of(activity));
}

void __real__ZN3fst2h54File5closeEv(fst::h5::File* file);
void __wrap__ZN3fst2h54File5closeEv(fst::h5::File* file) {
  if (writing) pass(my_rank, "close");
  __real__ZN3fst2h54File5closeEv(file);
}
}
