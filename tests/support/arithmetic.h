#pragma once

#include <string>

#include <gtest/gtest.h>

#include "fst/tensor/tensor.h"

namespace fst {

/// For messages of googletest, which looks beside the type.
inline void PrintTo(DType dtype, std::ostream* out) {
  *out << name_of(dtype);
}

}  // namespace fst

namespace fst::test {

/// The arithmetics of a model: a promise of bits is kept in each.
inline constexpr DType arithmetics[] = {DType::f32, DType::bf16};

/// Names the instances of a suite whose parameter is a DType.
inline std::string arithmetic_name(const ::testing::TestParamInfo<DType>& info) {
  return name_of(info.param);
}

}  // namespace fst::test
