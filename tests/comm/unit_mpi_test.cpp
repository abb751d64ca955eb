#include <cmath>
#include <cstring>
#include <vector>

#include "fst/base/error.h"
#include "fst/comm/unit.h"

#include "mpi_main.h"

namespace fst {
namespace {

const Device cpu = Device::cpu();

/// Numbers whose sum depends on the order of the additions.
float element(int rank, std::int64_t i) {
  const double x = std::sin(static_cast<double>(1000 * rank + i));
  return static_cast<float>(x * std::exp2(static_cast<double>((rank + i) % 24)));
}

float tree(std::int64_t i, int begin, int end) {
  if (end - begin == 1) return element(begin, i);
  const int middle = begin + (end - begin) / 2;
  return tree(i, begin, middle) + tree(i, middle, end);
}

class UnitTest : public ::testing::Test {
 protected:
  const Communicator& comm() const { return test::world().all(); }
};

// Sizes that are sent whole, sizes that are sent in slices, and fewer elements than ranks.
TEST_F(UnitTest, SumIsTheHalvingTreeInRankOrderOnEveryRank) {
  const Unit unit(comm());
  for (const std::int64_t n : {0, 1, 3, 1001, 8192, 8193, 100003}) {
    Buffer x(cpu, DType::f32, {n});
    for (std::int64_t i = 0; i < n; ++i) x.data<float>()[i] = element(comm().rank(), i);
    unit.sum(x.tensor(), "test");
    std::int64_t differing = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const float expected = tree(i, 0, comm().size());
      differing += std::memcmp(&x.data<float>()[i], &expected, sizeof(float)) != 0 ? 1 : 0;
    }
    EXPECT_EQ(differing, 0) << n;
  }
}

TEST_F(UnitTest, GatherPutsThePartsInRankOrder) {
  const Unit unit(comm());
  const std::int64_t ranks = comm().size();
  for (const std::int64_t n : {0, 1, 77}) {
    Buffer mine(cpu, DType::i64, {n}), all(cpu, DType::i64, {ranks, n});
    for (std::int64_t i = 0; i < n; ++i) mine.data<std::int64_t>()[i] = 100 * comm().rank() + i;
    unit.gather(all.tensor(), mine.tensor(), "test");
    for (std::int64_t i = 0; i < ranks * n; ++i) {
      EXPECT_EQ(all.data<std::int64_t>()[i], 100 * (i / n) + i % n);
    }
  }
}

TEST_F(UnitTest, RefusesShapesThatDoNotFit) {
  const Unit unit(comm());
  Buffer mine(cpu, DType::f32, {3}), all(cpu, DType::f32, {3 * comm().size() + 1});
  EXPECT_THROW(unit.gather(all.tensor(), mine.tensor(), "test"), Error);
  if (comm().size() == 1) return;  // alone nothing is looked at, for nothing is done
  Buffer matrix(cpu, DType::f32, {3, 4});
  Tensor columns = matrix.tensor().columns(0, 2);
  EXPECT_THROW(unit.sum(columns, "test"), Error);
}

}  // namespace
}  // namespace fst
