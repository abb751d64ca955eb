#pragma once

#include <string>

namespace fst {

/// "0.1.0".
std::string version();
/// Of the source tree the program was built from; "unknown" outside a checkout.
std::string git_commit();
/// "fst 0.1.0 (commit ...)".
std::string version_line();
/// What the program was built with and can do, for `fst --version`.
std::string version_report();

}  // namespace fst
