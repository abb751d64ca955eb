#pragma once

#include "kernels/exec.h"

/// How a kernel reaches its instruction set. A header `cpu/NAME_isa.h` declares
///   template <Isa isa> struct Name { static void forward(...); };
/// `cpu/NAME.isa.cpp` defines the members with the lanes of FST_ISA_NS and ends in
///   template struct Name<Isa::FST_ISA_NS>;
/// and `cpu/NAME.cpp` calls `for_isa(cpu, [&]<Isa isa>() { Name<isa>::forward(...); })`.
/// Where rows hold float or Bf16 it is `Name<isa, T>`, and `cpu/NAME.cpp` defines the template of
/// `NAME.h` and instantiates it for Cpu and both types.
namespace fst::kernels {

/// Calls `f.operator()<isa>()` for the instruction set of `cpu`, with avx512 for amx.
template <class F>
decltype(auto) for_isa(const Cpu& cpu, F&& f) {
  switch (cpu.isa) {
    case Isa::scalar_fma:
      return f.template operator()<Isa::scalar_fma>();
    case Isa::avx2:
      return f.template operator()<Isa::avx2>();
    case Isa::avx512:
    case Isa::amx:
      return f.template operator()<Isa::avx512>();
    case Isa::scalar:
      break;
  }
  return f.template operator()<Isa::scalar>();
}

}  // namespace fst::kernels
