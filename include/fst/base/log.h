#pragma once

#include <string>

namespace fst::log {

/// Sets who speaks: `rank` 0 prints info lines to stdout, every rank prints warnings to stderr.
void set_rank(int rank);
/// One line on rank 0.
void info(const std::string& line);
/// One line on stderr, from any rank, with the rank's number.
void warn(const std::string& line);

}  // namespace fst::log
