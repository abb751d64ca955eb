#pragma once

#include <string>

#include "fst/evolve/reflection.h"

namespace fst {

/// The reflection layouts of input/reflection, compiled in: "world" and "qwen3".
ReflectionLayout builtin_layout(const std::string& name);

}  // namespace fst
