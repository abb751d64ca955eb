#include "kernels/embedding.h"

#include "device.h"
#include "noise.h"

namespace fst::kernels {
namespace {

using test::device;
using test::DeviceArray;
using test::expect_same;
using test::held;
using test::Noise;
using test::stored_as;
using test::twin;

struct Case {
  std::int64_t rows, dim, vocab;
  VocabRows held;
};

std::vector<Case> cases() {
  std::vector<Case> all{{1, 1, 1, {0, 1}},      {5, 7, 3, {0, 3}},    {290, 33, 40, {0, 40}},
                        {517, 20, 40, {10, 7}}, {3, 1025, 9, {2, 4}}, {0, 8, 4, {0, 4}},
                        {6, 300, 9, {9, 0}}};
  if (test::large()) all.insert(all.end(), {{16411, 1027, 5003, {0, 5003}}, {9001, 64, 1, {0, 1}}});
  return all;
}

template <class T>
struct CudaEmbedding : testing::Test {};
TYPED_TEST_SUITE(CudaEmbedding, test::Elements, test::ElementName);

TYPED_TEST(CudaEmbedding, HasTheBitsOfTheCpuInBothDirections) {
  using T = TypeParam;
  Noise noise(1);
  for (const Case& c : cases()) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(c.rows));
    for (auto& id : ids) id = static_cast<std::int32_t>(noise.below(c.vocab));
    const std::vector<float> tables = held<T>(noise.normals(c.held.count * c.dim));
    const std::vector<float> dys = held<T>(noise.normals(c.rows * c.dim, 100.0));
    std::vector<float> y_host(dys.size()), dtable_host = tables;
    embedding_forward(twin(), y_host.data(), ids.data(), tables.data(), c.rows, c.dim, c.held);
    embedding_backward(twin(), dtable_host.data(), dys.data(), ids.data(), c.rows, c.dim, c.held);
    const DeviceArray<std::int32_t> tokens(ids);
    const DeviceArray<T> table(stored_as<T>(tables)), dy(stored_as<T>(dys)), y(dys.size());
    const DeviceArray<float> dtable(tables);
    embedding_forward(device(), y.data(), tokens.data(), table.data(), c.rows, c.dim, c.held);
    embedding_backward(device(), dtable.data(), dy.data(), tokens.data(), c.rows, c.dim, c.held);
    expect_same(y_host, y, "y");
    expect_same(dtable_host, dtable, "dtable");
  }
}

}  // namespace
}  // namespace fst::kernels
