#pragma once

#include <string>
#include <utility>

#include "fst/base/error.h"

namespace fst::test {

/// What the Error says that `f` throws; empty if it throws none.
template <class F>
std::string message_of(F&& f) {
  try {
    std::forward<F>(f)();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace fst::test
