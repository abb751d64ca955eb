#include "fst/tensor/device.h"

#include <cstdlib>
#include <cstring>

#include "fst/base/error.h"

#include "kernels/cuda_device.h"
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
  } else if (name == "amx") {
    isa = kernels::Isa::amx;
  } else {
    throw InputError("FST_ISA=" + name + ": expected scalar, avx2, avx512 or amx");
  }
  if (!kernels::supports(isa)) throw InputError("FST_ISA=" + name + ": this CPU lacks it");
  return isa;
}

std::size_t unsigned_of(std::int64_t bytes) {
  return static_cast<std::size_t>(bytes);
}

}  // namespace

Device Device::named(const std::string& name, int threads, int node_rank) {
  const int devices = name == "cpu" ? 0 : cuda_devices();
  if (name == "cpu" || (name == "auto" && devices == 0)) return cpu(threads);
  return cuda(devices == 0 ? 0 : node_rank % devices);
}

Device Device::cuda(int index) {
  if (index < 0 || index >= cuda_devices()) {
    throw InputError("device cuda: there is no GPU " + std::to_string(index) +
                     "; CUDA here: " + cuda_support() + "; use cpu or auto");
  }
  if (!kernels::cuda_has_code(index)) {
    throw InputError("device cuda: GPU " + std::to_string(index) + " is " +
                     kernels::cuda_name(index) +
                     ", for which this program has no code: build it with "
                     "-DFST_CUDA_ARCHITECTURES=..., or use cpu");
  }
  Device device;
  device.exec_.isa = chosen_isa();
  device.cuda_ = kernels::cuda_stream(index);
  device.index_ = index;
  return device;
}

int Device::cuda_devices() {
  return kernels::cuda_devices();
}

std::int64_t Device::cuda_memory(int index) {
  return kernels::cuda_memory(index);
}

std::string Device::cuda_support() {
  return kernels::cuda_support();
}

void Device::zero(void* memory, std::int64_t bytes) const {
  if (measures()) return;
  if (on_host()) {
    std::memset(memory, 0, unsigned_of(bytes));
  } else {
    kernels::zero(*cuda_, memory, unsigned_of(bytes));
  }
}

void Device::copy_in(void* to, const void* from, std::int64_t bytes) const {
  if (on_host()) {
    std::memcpy(to, from, unsigned_of(bytes));
  } else {
    kernels::copy_to_device(*cuda_, to, from, unsigned_of(bytes));
  }
}

void Device::copy_out(void* to, const void* from, std::int64_t bytes) const {
  if (on_host()) {
    std::memcpy(to, from, unsigned_of(bytes));
  } else {
    kernels::copy_to_host(*cuda_, to, from, unsigned_of(bytes));
  }
}

void Device::copy(void* to, const void* from, std::int64_t bytes) const {
  if (on_host()) {
    std::memcpy(to, from, unsigned_of(bytes));
  } else {
    kernels::copy_on_device(*cuda_, to, from, unsigned_of(bytes));
  }
}

void Device::synchronize() const {
  if (!on_host()) kernels::wait(*cuda_);
}

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

std::string Device::arithmetic(bool bf16) const {
  if (!bf16) return "f32";
  return on_host() ? "bf16 of CPUs" : "bf16 of " + kernels::cuda_architecture(index_);
}

std::string Device::identity() const {
  return on_host() ? "" : kernels::cuda_identity(index_);
}

std::string Device::description() const {
  if (!on_host()) return "cuda " + std::to_string(index_) + ", " + kernels::cuda_name(index_);
  return std::string("cpu, ") + kernels::name_of(exec_.isa) + ", " + std::to_string(threads()) +
         (threads() == 1 ? " thread" : " threads");
}

}  // namespace fst
