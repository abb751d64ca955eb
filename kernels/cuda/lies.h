#pragma once

#include <cstdint>

namespace fst::kernels {

/// How an operand of a product lies in memory: an output's inner indices side by side, or the
/// outputs of an inner index.
enum class Lies : std::uint8_t { inner, outer };

}  // namespace fst::kernels
