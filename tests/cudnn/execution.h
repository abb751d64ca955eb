#pragma once

#include "descriptors.h"

namespace fst::cudnn_stand_in {

/// Computes the operations of a graph in their order, with what a variant pack gives. Waits for the
/// stream. Throws Error.
void execute(const Node& graph, const Node& pack, cudaStream_t stream);

}  // namespace fst::cudnn_stand_in
