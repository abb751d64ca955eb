#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "fst/tensor/device.h"

#include "kernels/products.h"

namespace fst {

using kernels::PlannedProduct;
using kernels::ProductPlans;
using kernels::Products;
using kernels::ProductsMet;

/// Who multiplies matrices of bf16 on a GPU from now on, for all copies of `device`: our kernels,
/// as at first, or cuBLASLt too, which is opened at run time (libcublasLt.so.13 or .12, or what the
/// environment variable FST_CUBLASLT_LIBRARY names). Changes nothing on the CPU and in f32. Why
/// cuBLASLt, where it is asked for, cannot be used, and our kernels stay; "": it can.
std::string use_products(const Device& device, Products products);
/// Before a job takes its memory: plans for what it will multiply, kernels::plan_products().
ProductPlans plan_products(const Device& device, std::span<const PlannedProduct> products,
                           std::int64_t working_bytes);
/// What of it was multiplied since, and what else.
ProductsMet products_met(const Device& device);

/// Rows up to which ops::linear_add_norm() and ops::linear_swiglu() multiply by kernels of their
/// own in bf16, without a plan.
std::int64_t most_fused_rows();

/// cuBLASLt here: "13.1.0", or "none (" and why not. Opens it.
std::string cublaslt_support();
bool cublaslt_usable();

}  // namespace fst
