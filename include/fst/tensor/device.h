#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "kernels/exec.h"

namespace fst {

/// Where work runs and memory lies. Knows no shapes. Copyable handle; the thread pool is shared by
/// all copies and lives as long as the last one.
class Device {
 public:
  /// CPU with `threads` threads (1: the calling thread only). The instruction set is the best of
  /// this machine unless the environment variable FST_ISA = scalar | avx2 | avx512 forces one;
  /// throws InputError where the CPU lacks it.
  static Device cpu(int threads = 1);
  /// As cpu(), with an explicit instruction set; for tests.
  static Device cpu(int threads, kernels::Isa isa);

  const kernels::Cpu& exec() const { return exec_; }
  int threads() const;
  /// For example "cpu, avx512, 2 threads".
  std::string description() const;

 private:
  kernels::Cpu exec_;
  std::shared_ptr<kernels::ThreadPool> pool_;
};

}  // namespace fst
