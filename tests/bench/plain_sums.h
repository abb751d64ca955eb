#pragma once

#include <string_view>

namespace fst::bench {

/// From now on the parts named in `parts` ("forward,input,norm"; see plain_sums.cpp) sum plainly
/// and the others as the contract says.
void set_plain(std::string_view parts);

}  // namespace fst::bench
