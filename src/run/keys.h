#pragma once

#include <functional>
#include <string>
#include <vector>

#include "fst/run/config.h"

namespace fst {

/// A key bound to a field of one RunConfig.
struct Key {
  KeyInfo info;
  bool is_path = false;
  /// Sets the field from text; returns what was expected if it cannot be taken, else "".
  std::function<std::string(const std::string&)> set;
};

/// All keys, bound to `config`, which must outlive the table.
std::vector<Key> bind_keys(RunConfig& config);

}  // namespace fst
