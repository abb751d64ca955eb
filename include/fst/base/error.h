#pragma once

#include <stdexcept>
#include <string>

namespace fst {

/// Anything that went wrong in our code, a library or the machine. `what()` names what was expected
/// and what was found. Ends all ranks with exit code 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The user's mistake: deck, arguments or an input file. Exit code 2 if no work has begun; World
/// tells the mistakes that every rank meets from those of one.
class InputError : public Error {
 public:
  using Error::Error;
};

inline constexpr int exit_failure = 1;
inline constexpr int exit_bad_input = 2;
inline constexpr int exit_stopped_early = 75;  // sysexits.h EX_TEMPFAIL: submit again

}  // namespace fst
