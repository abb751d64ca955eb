#include "fst/tensor/device.h"

#include <cstdlib>

#include "fst/base/error.h"

#include "kernels/thread_pool.h"

namespace fst {

namespace {

kernels::Isa chosen_isa() {
  const char* forced = std::getenv("FST_ISA");
  if (forced == nullptr || *forced == '\0') return kernels::best_isa();
  const std::string name = forced;
  kernels::Isa isa{};
  if (name == "scalar") {
    isa = kernels::supports(kernels::Isa::scalar_fma) ? kernels::Isa::scalar_fma
                                                      : kernels::Isa::scalar;
  } else if (name == "avx2") {
    isa = kernels::Isa::avx2;
  } else if (name == "avx512") {
    isa = kernels::Isa::avx512;
  } else {
    throw InputError("FST_ISA=" + name + ": expected scalar, avx2 or avx512");
  }
  if (!kernels::supports(isa)) throw InputError("FST_ISA=" + name + ": this CPU lacks it");
  return isa;
}

}  // namespace

Device Device::cpu(int threads) {
  return cpu(threads, chosen_isa());
}

Device Device::cpu(int threads, kernels::Isa isa) {
  if (!kernels::supports(isa)) {
    throw InputError(std::string("instruction set ") + kernels::name_of(isa) +
                     ": this CPU lacks it");
  }
  Device device;
  device.exec_.isa = isa;
  if (threads > 1) {
    device.pool_ = std::make_shared<kernels::ThreadPool>(threads);
    device.exec_.pool = device.pool_.get();
  }
  return device;
}

int Device::threads() const {
  return pool_ ? pool_->threads() : 1;
}

std::string Device::description() const {
  return std::string("cpu, ") + kernels::name_of(exec_.isa) + ", " + std::to_string(threads()) +
         (threads() == 1 ? " thread" : " threads");
}

}  // namespace fst
