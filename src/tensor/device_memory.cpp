#include "fst/tensor/device_memory.h"

#include "cuda_of.h"

namespace fst {

DeviceMemory device_memory(const Tensor& x) {
  if (x.device().on_host() || !x.contiguous()) {
    throw Error("device memory: " + x.shape() + " is not contiguous in a GPU's memory");
  }
  return {x.raw(), kernels::stream_handle(*cuda_of(x.device()))};
}

}  // namespace fst
