#pragma once

// main() of an MPI test. Rank 0 prints as usual, the others only what fails; the exit code of every
// rank is 1 if a test failed anywhere.

#include <cstdint>
#include <cstdio>
#include <span>

#include <gtest/gtest.h>

#include "fst/comm/world.h"

namespace fst::test {

inline World*& world_slot() {
  static World* world = nullptr;
  return world;
}
/// All ranks of the test program; tests may split it as they like.
inline World& world() {
  return *world_slot();
}

class FailurePrinter : public ::testing::EmptyTestEventListener {
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d: %s:%d: %s\n", world().all().rank(),
                 result.file_name() == nullptr ? "?" : result.file_name(), result.line_number(),
                 result.message());
  }
};

inline int mpi_main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  World world(argc, argv);
  world.set_deadline(60);  // a failure on one rank ends the others instead of hanging them
  world_slot() = &world;
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  if (world.all().rank() != 0) {
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter);
  }
  std::int64_t failed = RUN_ALL_TESTS();
  if (::testing::UnitTest::GetInstance()->total_test_count() == 0) failed = 1;
  world.all().all_reduce_max(std::span(&failed, 1), "test results");
  return failed == 0 ? 0 : 1;
}

}  // namespace fst::test

int main(int argc, char** argv) {
  return fst::test::mpi_main(argc, argv);
}
