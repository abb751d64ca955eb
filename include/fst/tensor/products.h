#pragma once

#include <string>

#include "fst/tensor/device.h"

#include "kernels/cuda_device.h"

namespace fst {

using kernels::Products;

/// Who multiplies matrices of bf16 on a GPU from now on, for all copies of `device`: our kernels,
/// as at first, or cuBLASLt too, which is opened at run time (libcublasLt.so.13 or .12, or what the
/// environment variable FST_CUBLASLT_LIBRARY names). Changes nothing on the CPU and in f32. Throws
/// InputError where cuBLASLt is needed and not here.
void use_products(const Device& device, Products products);

/// cuBLASLt here: "13.1.0", or "none (" and why not.
std::string cublaslt_support();
bool cublaslt_usable();

}  // namespace fst
