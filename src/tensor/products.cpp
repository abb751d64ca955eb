#include "fst/tensor/products.h"

#include "fst/base/error.h"

#include "cuda_of.h"

namespace fst {

void use_products(const Device& device, Products products) {
  if (device.on_host()) return;
  if (products != Products::own && !cublaslt_usable()) {
    throw InputError("cuBLASLt here: " + cublaslt_support());
  }
  kernels::use_products(*cuda_of(device), products);
}

std::string cublaslt_support() {
  return kernels::cublaslt_support();
}

bool cublaslt_usable() {
  return kernels::cublaslt_usable();
}

}  // namespace fst
