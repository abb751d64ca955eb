#include "fst/tensor/device_memory.h"

#include <utility>

#include "cuda_of.h"

namespace fst {

DeviceMemory device_memory(const Tensor& x) {
  if (x.device().on_host() || !x.contiguous()) {
    throw Error("device memory: " + x.shape() + " is not contiguous in a GPU's memory");
  }
  return {x.raw(), kernels::stream_handle(*cuda_of(x.device()))};
}

void note_exchange(const Device& device,
                   std::function<void(const std::function<bool()>& ended)> await,
                   std::function<void()> abandon) {
  kernels::note_exchange(*cuda_of(device), {std::move(await), std::move(abandon)});
}

void await_exchanges(const Device& device) {
  if (!device.on_host()) kernels::await_exchanges(*cuda_of(device));
}

void abandon_exchanges(const Device& device) {
  if (!device.on_host()) kernels::abandon_exchanges(*cuda_of(device));
}

}  // namespace fst
