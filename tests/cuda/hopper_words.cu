#include "tests/cuda/hopper_product.h"
#include "tests/cuda/hopper_words.h"

namespace fst::kernels::test {
namespace {

struct Box {
  alignas(1024) std::uint16_t elements[8 * 64];
  alignas(1024) Barrier loaded;
};

KERNEL(32, 1) copy_of_box(MAP_PARAMETER map, int row, int column, std::uint16_t* box) {
  Box& shared = shared_memory<Box>();
  if (threadIdx.x == 0) {
    barrier_init(shared.loaded, 1);
    barrier_fence();
  }
  sync_block();
  if (threadIdx.x == 0) {
    barrier_expect(shared.loaded, static_cast<int>(sizeof shared.elements));
    tensor_load(shared.elements, map, shared.loaded, column, row);
  }
  barrier_wait(shared.loaded, 0);
  for (unsigned i = threadIdx.x; i < 8 * 64; i += 32) box[i] = shared.elements[i];
}

constexpr int group_rows = 64, group_depth = 64;

template <int columns>
struct GroupShared {
  alignas(1024) std::uint16_t a[group_rows * group_depth];
  alignas(1024) std::uint16_t b[columns * group_depth];
  alignas(1024) Barrier loaded;
};

/// Elements from block to block of an operand.
constexpr int step_of(Lies lies) {
  return lies == Lies::inner ? 16 : 16 * 64;
}

template <int columns, Lies a_lies, Lies b_lies>
KERNEL(128, 1)
product_by_group(MAP_PARAMETER a, MAP_PARAMETER b, float* c) {
  auto& shared = shared_memory<GroupShared<columns>>();
  const int t = static_cast<int>(threadIdx.x);
  if (t == 0) {
    barrier_init(shared.loaded, 1);
    barrier_fence();
    barrier_expect(shared.loaded, static_cast<int>(sizeof shared.a + sizeof shared.b));
    tensor_load(shared.a, a, shared.loaded, 0, 0);
    const int boxes = b_lies == Lies::inner ? 1 : columns / 64;
    for (int i = 0; i < boxes; ++i) {
      tensor_load(shared.b + 64 * 64 * i, b, shared.loaded, 64 * i, 0);
    }
  }
  sync_block();
  barrier_wait(shared.loaded, 0);
  float sum[columns / 2] = {};
  group_registers(sum);
  group_fence();
#pragma unroll
  for (int block = 0; block < 4; ++block) {
    group_multiply<a_lies, b_lies>(sum, operand<a_lies>(shared.a + block * step_of(a_lies)),
                                   operand<b_lies>(shared.b + block * step_of(b_lies)));
  }
  group_commit();
  group_wait<0>();
  group_registers(sum);
#pragma unroll
  for (int i = 0; i < columns / 2; ++i) {
    const int row = 16 * (t / 32) + t % 32 / 4 + i % 4 / 2 * 8;
    c[row * columns + 8 * (i / 4) + 2 * (t % 4) + i % 2] = sum[i];
  }
}

template <int columns, Lies a_lies, Lies b_lies>
void run(const Cuda& cuda, const std::uint16_t* a, const std::uint16_t* b, float* c) {
  const auto map = [](const std::uint16_t* matrix, Lies lies, int outputs) {
    return lies == Lies::inner ? tensor_map(matrix, outputs, group_depth, group_depth, outputs)
                               : tensor_map(matrix, group_depth, outputs, outputs, group_depth);
  };
  using Shared = GroupShared<columns>;
  allow_shared(product_by_group<columns, a_lies, b_lies>, sizeof(Shared));
  launch(product_by_group<columns, a_lies, b_lies>, 1, 128, sizeof(Shared), cuda.stream,
         map(a, a_lies, group_rows), map(b, b_lies, columns), c);
}

template <Lies a, Lies b>
void add_widths(std::vector<GroupProduct>& all) {
  all.push_back({64, a, b, run<64, a, b>});
  all.push_back({128, a, b, run<128, a, b>});
  all.push_back({256, a, b, run<256, a, b>});
}

}  // namespace

const std::vector<GroupProduct>& group_products() {
  static const std::vector<GroupProduct> all = [] {
    std::vector<GroupProduct> products;
    add_widths<Lies::inner, Lies::inner>(products);
    add_widths<Lies::inner, Lies::outer>(products);
    add_widths<Lies::outer, Lies::inner>(products);
    add_widths<Lies::outer, Lies::outer>(products);
    return products;
  }();
  return all;
}

void load_box(const Cuda& cuda, const std::uint16_t* matrix, int rows, int columns, int stride,
              int row, int column, std::uint16_t* box) {
  launch(copy_of_box, 1, 32, sizeof(Box), cuda.stream, tensor_map(matrix, rows, columns, stride, 8),
         row, column, box);
}

void multiply_on_hopper(const Cuda& cuda, const std::uint16_t* a, const std::uint16_t* b, float* c,
                        int rows, int columns, int depth) {
  multiply_hopper<HopperRight>(a, b, c, rows, columns, depth, cuda.stream);
}

}  // namespace fst::kernels::test
