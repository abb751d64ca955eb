#pragma once

#include <type_traits>

#include "fst/tensor/device.h"

#include "kernels/cuda_device.h"

namespace fst {

/// The stream of a device; nullptr: it is the CPU.
inline const kernels::Cuda* cuda_of(const Device& device) {
  return device.run([](const auto& exec) -> const kernels::Cuda* {
    if constexpr (std::is_same_v<std::decay_t<decltype(exec)>, kernels::Cpu>) {
      return nullptr;
    } else {
      return &exec;
    }
  });
}

}  // namespace fst
