#include "fst/base/log.h"

#include <cstdio>

namespace fst::log {

namespace {
int speaking_rank = 0;  // the one piece of process-wide state: who this process is
}

void set_rank(int rank) {
  speaking_rank = rank;
}

void info(const std::string& line) {
  if (speaking_rank != 0) return;
  std::fprintf(stdout, "%s\n", line.c_str());
  std::fflush(stdout);
}

void warn(const std::string& line) {
  std::fprintf(stderr, "fst: warning: rank %d: %s\n", speaking_rank, line.c_str());
}

}  // namespace fst::log
