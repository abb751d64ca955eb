// NCCL itself on the one GPU of this machine: what src/comm/nccl_channel.cpp asks of it, with one
// rank.

#include <chrono>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cuda_device.h"
#include "src/comm/nccl_api.h"

namespace fst {
namespace {

constexpr double patience = 60;  // s; a first communicator takes a few
constexpr std::size_t count = 100'003;

class NcclOnOneGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!library_.problem.empty()) GTEST_SKIP() << library_.problem;
    const auto free_before = kernels::free_memory(*cuda_);
    nccl::UniqueId id{};
    ASSERT_EQ(library_.api.get_unique_id(&id), nccl::success);
    nccl::Config config;
    config.blocking = 0;
    const nccl::Result result = library_.api.comm_init_rank_config(&comm_, 1, id, 0, &config);
    ASSERT_TRUE(result == nccl::success || result == nccl::in_progress) << text(result);
    wait_for_nccl();
    std::printf("NCCL %s; of the device's memory CUDA and others have %zu MiB, NCCL alone %zu\n",
                library_.version_text().c_str(),
                (static_cast<std::size_t>(kernels::cuda_memory(0)) - free_before) >> 20,
                (free_before - kernels::free_memory(*cuda_)) >> 20);
    values_.resize(count);
    std::iota(values_.begin(), values_.end(), 0.5f);
    for (float*& memory : memory_) {
      memory = static_cast<float*>(kernels::allocate(*cuda_, count * sizeof(float)));
      kernels::zero(*cuda_, memory, count * sizeof(float));
    }
    kernels::copy_to_device(*cuda_, memory_[0], values_.data(), count * sizeof(float));
  }
  void TearDown() override {
    for (float* memory : memory_) {
      if (memory != nullptr) kernels::release(*cuda_, memory);
    }
  }

  const char* text(nccl::Result result) const { return library_.api.get_error_string(result); }

  template <class Done>
  void wait_until(Done&& done) {
    const auto begin = std::chrono::steady_clock::now();
    while (!done()) {
      const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
      ASSERT_LT(waited.count(), patience);
    }
  }
  void wait_for_nccl() {
    nccl::Result state = nccl::in_progress;
    wait_until([&] {
      EXPECT_EQ(library_.api.comm_get_async_error(comm_, &state), nccl::success);
      return state != nccl::in_progress;
    });
    ASSERT_EQ(state, nccl::success) << text(state) << library_.api.get_last_error(comm_);
  }
  /// Queues calls as a group, waits, and gives what lies in the second piece of memory.
  template <class Queue>
  std::vector<float> moved(Queue&& queue) {
    EXPECT_EQ(library_.api.group_start(), nccl::success);
    const nccl::Result queued = queue();
    EXPECT_TRUE(queued == nccl::success || queued == nccl::in_progress) << text(queued);
    const nccl::Result ended = library_.api.group_end();
    EXPECT_TRUE(ended == nccl::success || ended == nccl::in_progress) << text(ended);
    wait_for_nccl();
    std::vector<float> back(count);
    kernels::copy_to_host(*cuda_, back.data(), memory_[1], count * sizeof(float));
    return back;
  }

  /// A record of a gather, which was made before as it is.
  std::shared_ptr<const kernels::CudaRecord> recorded_gather() {
    const auto queue = [this] {
      return library_.api.all_gather(memory_[0], memory_[1], count, nccl::f32, comm_, stream_);
    };
    EXPECT_EQ(moved(queue), values_);
    kernels::begin_recording(*cuda_);
    EXPECT_EQ(library_.api.group_start(), nccl::success);
    const nccl::Result queued = queue();
    EXPECT_TRUE(queued == nccl::success || queued == nccl::in_progress) << text(queued);
    const nccl::Result ended = library_.api.group_end();
    EXPECT_TRUE(ended == nccl::success || ended == nccl::in_progress) << text(ended);
    wait_for_nccl();  // which queues it on a thread of its own
    return kernels::end_recording(*cuda_);
  }

  const NcclLibrary& library_ = nccl_library();
  std::shared_ptr<const kernels::Cuda> cuda_ = kernels::cuda_stream(0);
  void* stream_ = kernels::stream_handle(*cuda_);
  nccl::Comm comm_ = nullptr;
  float* memory_[2] = {};
  std::vector<float> values_;
};

TEST_F(NcclOnOneGpu, GathersBroadcastsAndEnds) {
  EXPECT_EQ(moved([&] {
              return library_.api.all_gather(memory_[0], memory_[1], count, nccl::f32, comm_,
                                             stream_);
            }),
            values_);
  kernels::zero(*cuda_, memory_[1], count * sizeof(float));
  EXPECT_EQ(moved([&] {
              return library_.api.broadcast(memory_[0], memory_[1], count, nccl::f32, 0, comm_,
                                            stream_);
            }),
            values_);
  EXPECT_EQ(moved([&] {
              return library_.api.broadcast(memory_[1], memory_[1], count, nccl::f32, 0, comm_,
                                            stream_);
            }),
            values_);
  EXPECT_EQ(library_.api.comm_destroy(comm_), nccl::success);
}

TEST_F(NcclOnOneGpu, MovesAGroupOfSendsAndReceivesAndIsAborted) {
  EXPECT_EQ(moved([&] {
              const nccl::Result received =
                  library_.api.recv(memory_[1], count, nccl::f32, 0, comm_, stream_);
              EXPECT_TRUE(received == nccl::success || received == nccl::in_progress);
              return library_.api.send(memory_[0], count, nccl::f32, 0, comm_, stream_);
            }),
            values_);
  EXPECT_EQ(library_.api.comm_abort(comm_), nccl::success);
}

TEST_F(NcclOnOneGpu, IsRecordedAndReplayedAndEndsWhenTheRecordIsGone) {
  auto record = recorded_gather();
  ASSERT_NE(record, nullptr);
  for (int replay = 0; replay < 3; ++replay) {
    kernels::zero(*cuda_, memory_[1], count * sizeof(float));
    kernels::queue_record(*cuda_, *record);
    std::vector<float> back(count);
    kernels::copy_to_host(*cuda_, back.data(), memory_[1], count * sizeof(float));
    EXPECT_EQ(back, values_) << replay;
  }
  record = nullptr;
  EXPECT_EQ(library_.api.comm_destroy(comm_), nccl::success);
}

TEST_F(NcclOnOneGpu, IsAbortedWhileARecordThatIsDestroyedIsUnderWay) {
  auto record = recorded_gather();
  ASSERT_NE(record, nullptr);
  kernels::queue_record(*cuda_, *record);
  record = nullptr;
  EXPECT_EQ(library_.api.comm_abort(comm_), nccl::success);
}

TEST_F(NcclOnOneGpu, ABadCallIsAnErrorWithAText) {
  ASSERT_EQ(library_.api.group_start(), nccl::success);
  const nccl::Result sent = library_.api.send(memory_[0], count, nccl::f32, 5, comm_, stream_);
  const nccl::Result ended = library_.api.group_end();
  const nccl::Result found = sent != nccl::success && sent != nccl::in_progress ? sent : ended;
  EXPECT_TRUE(found != nccl::success && found != nccl::in_progress) << text(found);
  EXPECT_STRNE(text(found), "");
  EXPECT_EQ(library_.api.comm_abort(comm_), nccl::success);
}

}  // namespace
}  // namespace fst
