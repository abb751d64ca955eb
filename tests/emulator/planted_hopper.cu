#include "planted_hopper.h"
#include "tests/cuda/hopper_product.h"

namespace fst::emulator::test {
namespace {

using kernels::test::HopperRight;

struct NoWaitForLoad : HopperRight {
  static constexpr bool wait_for_load = false;
};
struct FreedTooEarly : HopperRight {
  static constexpr bool free_after_wait = false;
};
struct FreedByOneWarp : HopperRight {
  static constexpr int freeing_warps = 1;
};

template <class Variant>
void ring(const kernels::Cuda& cuda, const std::uint16_t* a, const std::uint16_t* b, float* c) {
  kernels::test::multiply_hopper<Variant>(a, b, c, ring_size, ring_size, ring_depth, cuda.stream);
}

}  // namespace

const std::vector<PlantedInRing>& planted_in_ring() {
  static const std::vector<PlantedInRing> all{
      {"a right ring", ring<HopperRight>, false, ""},
      {"no wait for the load", ring<NoWaitForLoad>, true,
       "race: reads 16 bytes at byte 0 of 50176 bytes of shared memory, where an asynchronous copy "
       "is under way at hopper_product.h:"},
      {"a stage freed before the products end", ring<FreedTooEarly>, false,
       "thread 128 of block (0,0,0): race: writes 16 bytes at byte 0 of 50176 bytes of shared "
       "memory, which thread 0 read with no barrier between at hopper_product.h:"},
      {"a stage freed by one warp of four", ring<FreedByOneWarp>, false,
       "which thread 32 read with no barrier between at hopper_product.h:"},
  };
  return all;
}

}  // namespace fst::emulator::test
