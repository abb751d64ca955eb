#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "fst/tensor/arena.h"

#include "kernels/exec.h"

namespace fst {

/// Where work runs and memory lies. Knows no shapes. Copyable handle; threads and streams are
/// shared by all copies and live as long as the last one. Work on a CUDA device is queued on one
/// stream and runs in the order of the calls; copies to the host wait for it.
class Device {
 public:
  /// CPU with `threads` threads (1: the calling thread only). The instruction set is the best of
  /// this machine unless the environment variable FST_ISA = scalar | avx2 | avx512 forces one;
  /// throws InputError where the CPU lacks it.
  static Device cpu(int threads = 1);
  /// As cpu(), with an explicit instruction set; for tests.
  static Device cpu(int threads, kernels::Isa isa);
  /// GPU `index` of this machine. Throws InputError where the program was built without CUDA or for
  /// other kinds of GPUs, or the machine has no such device.
  static Device cuda(int index);
  /// What a deck names: "cpu"; "cuda", the GPU node_rank modulo their number, so that ranks of a
  /// node share GPUs where they are more; "auto", a GPU where there is one, else the CPU.
  static Device named(const std::string& name, int threads, int node_rank);
  /// How many GPUs this process can use; 0 without CUDA, a driver or a device.
  static int cuda_devices();
  /// Bytes of memory of one of them.
  static std::int64_t cuda_memory(int index);
  /// What there is of CUDA, in words; for --version.
  static std::string cuda_support();

  /// True if the host can read and write the memory of tensors.
  bool on_host() const { return cuda_ == nullptr; }
  /// Calls f(const kernels::Cpu&) or f(const kernels::Cuda&). `f` must have both.
  template <class F>
  decltype(auto) run(F&& f) const {
#if defined(FST_WITH_CUDA)
    if (cuda_ != nullptr) return f(*cuda_);
#endif
    return f(exec_);
  }
  /// The host's side: what runs on the CPU whatever the device.
  const kernels::Cpu& exec() const {
    return exec_;
  }
  int threads() const;
  /// What a sum of products in f32, or in bf16 where `bf16`, is here: devices of which this says
  /// the same give the same bits. In f32 these are all.
  std::string arithmetic(bool bf16) const;
  /// For example "cpu, avx512, 2 threads".
  std::string description() const;
  /// The same for all who use one GPU, on any machine; "" on the CPU.
  std::string identity() const;

  /// The same device with an arena that is taken now: handles that come of the result have their
  /// memory there, as far as it is planned, what is more as without a plan. `kernels`: bytes of
  /// `always` that the kernels work in. With the environment variable FST_POISON_PHASES the turns
  /// are poisoned (Arena). Throws Error where there is not that much memory.
  Device planned(const PhaseBytes& plan, std::int64_t kernels = 0) const;
  /// A device that counts in an arena without memory what is reserved on it and can do nothing
  /// else: for plans.
  static Device measuring();
  /// Null without a plan.
  const Arena* arena() const;
  /// A handle to the same device for memory of a phase. Without a plan phases share nothing.
  Device during(MemoryPhase phase) const;
  MemoryPhase phase() const {
    return phase_;
  }
  /// This handle's phase begins; the number of its turn (Arena::enter), without a plan always 0.
  std::uint64_t enter() const;
  /// How often memory that this handle's work may use was given back: addresses may mean something
  /// else where this has changed.
  std::uint64_t releases() const;

  /// Memory of at least 64 bytes' alignment, contents undefined. Throws Error naming what was
  /// wanted, planned and free where there is not enough.
  void* allocate(std::int64_t bytes) const;
  void release(void* memory) const;
  void zero(void* memory, std::int64_t bytes) const;
  /// Copies between host memory and this device's; they wait until the copy is done.
  void copy_in(void* to, const void* from, std::int64_t bytes) const;
  void copy_out(void* to, const void* from, std::int64_t bytes) const;
  /// A copy within this device's memory, in the order of the calls.
  void copy(void* to, const void* from, std::int64_t bytes) const;
  /// Waits until all queued work is done.
  void synchronize() const;

 private:
  kernels::Cpu exec_;
  std::shared_ptr<kernels::ThreadPool> pool_;
  std::shared_ptr<const kernels::Cuda> cuda_;  // nullptr: the CPU
  int index_ = 0;
  struct Planned;
  std::shared_ptr<Planned> planned_;  // nullptr: each piece by itself
  MemoryPhase phase_ = MemoryPhase::always;

  bool measures() const;
  void* allocate_alone(std::int64_t bytes) const;
  void release_alone(void* memory) const;
};

}  // namespace fst
