#include "fst/run/engine.h"

#include "fst/base/error.h"
#include "fst/base/log.h"

namespace fst {

Device open_engine(const World& world, const std::string& name, std::int64_t threads) {
  const Device device = Device::named(name, static_cast<int>(threads), world.node_rank());
  if (device.on_host()) return device;
  const int devices = Device::cuda_devices();
  if (world.node_ranks() > devices) {
    log::info(std::to_string(world.node_ranks()) + " ranks share " + std::to_string(devices) +
              (devices == 1 ? " GPU" : " GPUs") + " on node " + world.host() +
              ": they take turns, and each needs its own memory");
  }
  return device;
}

DType arithmetic_of(const std::string& name) {
  if (name == "f32") return DType::f32;
  if (name == "bf16") return DType::bf16;
  throw Error("there is no arithmetic in " + name);
}

}  // namespace fst
