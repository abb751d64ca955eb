#include "kernels/cpu/matmul_bf16_tiles.h"

namespace fst::kernels {

template <>
void Bf16Blocks<Isa::amx>::pack_left(void* left, const Bf16Operand& a, std::int64_t rows,
                                     const Block* blocks, std::int64_t count) {
  pack_left_tiles(static_cast<Bf16*>(left), a, rows, blocks, count);
}

template <>
void Bf16Blocks<Isa::amx>::multiply(float* sums, std::int64_t step, const void* left,
                                    std::int64_t rows, const Bf16* right, std::int64_t panel_step,
                                    std::int64_t panels, std::int64_t count) {
  HardwareTiles tiles;
  multiply_tiles(tiles, sums, step, static_cast<const Bf16*>(left), rows, right, panel_step, panels,
                 count);
}

}  // namespace fst::kernels
