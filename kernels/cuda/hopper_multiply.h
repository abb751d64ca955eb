#pragma once

#include <cstdint>

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/lies.h"

/// group_multiply() of hopper.h for 64, 128 and 256 columns: PTX ISA, wgmma.mma_async. Its last two
/// numbers say whether an operand is transposed, which is what lying by outputs is.
namespace fst::kernels::gpu {

// The operands s[i] and on, as many as the name says, and their numbers in the instruction.
#define FST_SUMS_8(i)                                                                 \
  "+f"(s[i]), "+f"(s[(i) + 1]), "+f"(s[(i) + 2]), "+f"(s[(i) + 3]), "+f"(s[(i) + 4]), \
      "+f"(s[(i) + 5]), "+f"(s[(i) + 6]), "+f"(s[(i) + 7])
#define FST_SUMS_32(i) \
  FST_SUMS_8(i), FST_SUMS_8((i) + 8), FST_SUMS_8((i) + 16), FST_SUMS_8((i) + 24)
#define FST_SUMS_64 FST_SUMS_32(0), FST_SUMS_32(32)
#define FST_SUMS_128 FST_SUMS_64, FST_SUMS_32(64), FST_SUMS_32(96)
#define FST_NUMBERS_32                                                   \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15" \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FST_NUMBERS_64                                                               \
  FST_NUMBERS_32                                                                     \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FST_NUMBERS_128                                                                          \
  FST_NUMBERS_64                                                                                 \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"             \
  ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"             \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111" \
  ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, " \
  "%127"

/// With the names of the operands behind the sums: a, b, and how they lie.
#define FST_GROUP_MULTIPLY(columns, sums, numbers, a_b, lies)                             \
  asm volatile(                                                                           \
      "{\n.reg .pred p;\nsetp.eq.u32 p, 1, 1;\n"                                          \
      "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32.bf16.bf16 {" numbers "}, " a_b \
      ", p, 1, 1, " lies ";\n}"                                                           \
      : sums                                                                              \
      : "l"(a), "l"(b), "n"(a_lies == Lies::outer ? 1 : 0), "n"(b_lies == Lies::outer ? 1 : 0))

template <Lies a_lies, Lies b_lies>
DEVICE void group_multiply(float (&s)[32], std::uint64_t a, std::uint64_t b) {
  FST_GROUP_MULTIPLY("64", FST_SUMS_32(0), FST_NUMBERS_32, "%32, %33", "%34, %35");
}
template <Lies a_lies, Lies b_lies>
DEVICE void group_multiply(float (&s)[64], std::uint64_t a, std::uint64_t b) {
  FST_GROUP_MULTIPLY("128", FST_SUMS_64, FST_NUMBERS_64, "%64, %65", "%66, %67");
}
template <Lies a_lies, Lies b_lies>
DEVICE void group_multiply(float (&s)[128], std::uint64_t a, std::uint64_t b) {
  FST_GROUP_MULTIPLY("256", FST_SUMS_128, FST_NUMBERS_128, "%128, %129", "%130, %131");
}

#undef FST_GROUP_MULTIPLY
#undef FST_NUMBERS_128
#undef FST_NUMBERS_64
#undef FST_NUMBERS_32
#undef FST_SUMS_128
#undef FST_SUMS_64
#undef FST_SUMS_32
#undef FST_SUMS_8

}  // namespace fst::kernels::gpu
