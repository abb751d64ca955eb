#include <initializer_list>

#include "kernels/cpu/amx.h"
#include "kernels/exec.h"

namespace fst::kernels {

bool supports(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  switch (isa) {
    case Isa::scalar:
      return true;
    case Isa::scalar_fma:
      return __builtin_cpu_supports("fma");
    case Isa::avx2:
      return __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2");
    case Isa::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    case Isa::amx:
      return supports(Isa::avx512) && may_use_tiles();
  }
  return false;
#else
  return isa == Isa::scalar;
#endif
}

Isa best_isa() {
  for (const Isa isa : {Isa::amx, Isa::avx512, Isa::avx2, Isa::scalar_fma}) {
    if (supports(isa)) return isa;
  }
  return Isa::scalar;
}

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return "scalar";
    case Isa::scalar_fma:
      return "scalar with FMA";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::amx:
      return "amx";
  }
  return "unknown";
}

}  // namespace fst::kernels
