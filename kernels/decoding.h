#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace fst::kernels {

/// What a drawn token does to its completion. Values travel to the host as int32.
enum class Ending : std::int32_t {
  none = 0,    // it goes on
  stop = 1,    // the token ends it
  length = 2,  // there are as many tokens as were asked for
  broken = 3,  // no token was drawn: a logit is not finite
};

/// tokens[r] = drawn[-1 - tokens[r]] where tokens[r] < 0, unchanged elsewhere: rows whose token the
/// host did not know yet when it wrote them. Where nothing was drawn (-1) the token becomes 0, a
/// row that nobody will use.
///
/// @param tokens  [rows]
/// @param drawn   by an earlier step, as many as the rows refer to; may not alias tokens
template <class Exec>
void take_drawn(const Exec&, std::int32_t* tokens, const std::int32_t* drawn, std::int64_t rows);

/// endings[i] = broken where drawn[i] < 0, else stop where bit drawn[i] % 32 of stops[drawn[i] /
/// 32] is set, else length where places[i] + 1 >= limits[i], else none.
///
/// @param endings  [draws], values of Ending
/// @param drawn    [draws], tokens or -1
/// @param stops    a bit for each token of the vocabulary
/// @param places   [draws], index of the token within its completion
/// @param limits   [draws], how many tokens the completion may have
template <class Exec>
void test_endings(const Exec&, std::int32_t* endings, const std::int32_t* drawn,
                  const std::uint32_t* stops, const std::int32_t* places,
                  const std::int32_t* limits, std::int64_t draws);

}  // namespace fst::kernels
