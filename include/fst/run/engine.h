#pragma once

#include <cstdint>
#include <string>

#include "fst/comm/world.h"
#include "fst/tensor/device.h"
#include "fst/tensor/tensor.h"

namespace fst {

/// The device of this rank where a deck or an option says `name` = cpu | cuda | auto. Where a node
/// has more ranks than GPUs they share them; rank 0 says so of its own. Throws InputError where
/// there is no such device. Not collective.
Device open_engine(const World& world, const std::string& name, std::int64_t threads);

/// Throws InputError on all ranks where their devices do not compute the same bits: in bf16 the CPU
/// and every kind of GPU have sums of products of their own. Collective over all ranks.
void expect_one_arithmetic(const World& world, const Device& device, DType dtype);
/// What a deck or an option means by a dtype, f32 or bf16.
DType arithmetic_of(const std::string& name);

}  // namespace fst
