#include "fst/tensor/host_view.h"

#include <algorithm>

#include "fst/base/error.h"

namespace fst {

void copy_in_rounded(Tensor& to, std::span<const float> from) {
  if (to.dtype() == DType::f32) return copy_in(to, from);
  std::vector<kernels::Bf16> narrow(from.size());
  std::transform(from.begin(), from.end(), narrow.begin(),
                 [](float value) { return kernels::narrowed(value); });
  copy_in(to, std::span<const kernels::Bf16>(narrow));
}

HostFloats::HostFloats(const Tensor& x) {
  if (x.dtype() == DType::f32) {
    own_.emplace(x);
    return;
  }
  const HostView<const kernels::Bf16> narrow(x);
  widened_.resize(narrow.size());
  std::transform(narrow.data(), narrow.data() + narrow.size(), widened_.begin(),
                 [](kernels::Bf16 value) { return kernels::widened(value); });
}

}  // namespace fst
