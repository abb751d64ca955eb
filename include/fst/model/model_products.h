#pragma once

#include <cstdint>
#include <vector>

#include "fst/model/qwen3_config.h"
#include "fst/tensor/products.h"

namespace fst {

/// How many rows the passes of a model have at most, those of the head by themselves.
struct PassRows {
  std::int64_t tokens = 0, head = 0;
  bool backward = false;
};

/// The products of the model's passes in bf16 on a GPU, Qwen3's calls of ops::linear_*, on one of
/// `degree` ranks. tests/system/jobs/products_test.py holds this list and those calls together.
std::vector<PlannedProduct> model_products(const Qwen3Config& config, int degree,
                                           const PassRows& rows);

}  // namespace fst
