#pragma once

#include <cstdint>
#include <string>

#include "fst/comm/pack.h"

namespace fst {

/// How tensors in the memory of GPUs travel between ranks: by NCCL from GPU to GPU, or through the
/// host's memory by MPI. Both move the same bytes of the same pieces, so no bit depends on it.
/// automatic: by NCCL in every group of ranks whose GPUs are all different.
enum class DeviceExchange : std::uint8_t { automatic, nccl, host };
/// "auto", "nccl" or "host"; throws InputError for others.
DeviceExchange device_exchange_named(const std::string& name);

/// NCCL on this machine: "2.28.9", or "none (...)" and why.
std::string nccl_support();
bool nccl_usable();

/// What the other members of a group must know of a rank to choose.
struct DevicePlace {
  std::string host, gpu;     // Device::identity()
  std::string nccl_problem;  // why NCCL cannot be used there
  int nccl_version = 0;

  void pack(Packer& packer) const;
  static DevicePlace unpack(Unpacker& unpacker);
};
/// Why ranks at these places cannot use NCCL among each other; "": they can.
std::string against_nccl(const std::vector<DevicePlace>& places);

}  // namespace fst
