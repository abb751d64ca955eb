#include "fst/tensor/products.h"

#include <algorithm>

#include "cuda_of.h"
#include "kernels/linear_norm.h"
#include "kernels/linear_swiglu.h"

namespace fst {

std::string use_products(const Device& device, Products products) {
  return device.on_host() ? "" : kernels::use_products(*cuda_of(device), products);
}

ProductPlans plan_products(const Device& device, std::span<const PlannedProduct> products,
                           std::int64_t working_bytes) {
  if (device.on_host()) return {};
  return kernels::plan_products(*cuda_of(device), products, working_bytes);
}

ProductsMet products_met(const Device& device) {
  return device.on_host() ? ProductsMet{} : kernels::products_met(*cuda_of(device));
}

std::int64_t most_fused_rows() {
  static_assert(kernels::most_add_norm_rows<kernels::Bf16> == kernels::most_swiglu_rows);
  return kernels::most_swiglu_rows;
}

std::string cublaslt_support() {
  return kernels::cublaslt_support();
}

bool cublaslt_usable() {
  return kernels::cublaslt_usable();
}

}  // namespace fst
