#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fst {

using TokenId = std::int32_t;
/// Counts optimiser steps: the θ that sampled or scored something.
using PolicyVersion = std::int64_t;

/// Why a completion ended.
enum class Finish : std::uint8_t { stop = 0, length = 1 };

}  // namespace fst
