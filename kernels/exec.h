#pragma once

namespace fst::kernels {

/// Instruction sets of the CPU kernels. All give the same bits; `scalar` uses the FMA instruction
/// where the CPU has it (`scalar_fma`) and the library's fma elsewhere. `amx` is avx512 with
/// products of bfloat16 matrices by tiles.
enum class Isa { scalar, scalar_fma, avx2, avx512, amx };

class ThreadPool;

/// Execution tag of the CPU backend: which instruction set, which threads. Cheap to copy.
struct Cpu {
  Isa isa = Isa::scalar;
  ThreadPool* pool = nullptr;  // nullptr: everything on the calling thread
};

/// Execution tag of the CUDA backend: one stream and its handles; defined in kernels/cuda/cuda.h.
struct Cuda;

/// The best instruction set of this CPU.
Isa best_isa();
/// True if this CPU can run `isa` and, for `amx`, the system lets this process use its tiles.
bool supports(Isa isa);
const char* name_of(Isa isa);

}  // namespace fst::kernels
