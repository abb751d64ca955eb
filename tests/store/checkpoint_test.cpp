#include <numeric>
#include <string>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/store/checkpoint_file.h"
#include "fst/store/digest.h"
#include "fst/store/files.h"

#include "damage.h"
#include "rows.h"
#include "temporary_folder.h"

namespace fst {
namespace {

constexpr std::int64_t small_size = 1003;

std::vector<float> ramp(std::int64_t size) {
  std::vector<float> x(static_cast<std::size_t>(size));
  std::iota(x.begin(), x.end(), 0.5f);
  return x;
}

void write_checkpoint(const std::filesystem::path& target, std::int64_t size = small_size) {
  const Communicator self = Communicator::self();
  CheckpointWriter writer(self, target, test::identity(), size * 4);
  const auto x = ramp(size);
  const ArrayPiece all{0, x};
  writer.array("/policy/weights", size, {&all, 1});
  writer.array("/policy/empty", 0, {});
  const std::vector<std::int64_t> counters{3, -1, 1LL << 40};
  writer.integers("/state/counters", counters, DigestUse::digest);
  writer.blob("/state/population", std::string("a\0b\n", 4), DigestUse::digest);
  writer.blob("/state/attempt", "number 1", DigestUse::report);
  writer.commit();
}

TEST(CheckpointName, RoundsSortBehindTheirStep) {
  EXPECT_EQ(file_name({12, -1}), "checkpoint-12.h5");
  EXPECT_EQ(file_name({12, 3}), "checkpoint-12.r3.h5");
  EXPECT_EQ(parse_checkpoint_name("checkpoint-12.r3.h5"), (CheckpointId{12, 3}));
  EXPECT_EQ(parse_checkpoint_name("checkpoint-0.h5"), (CheckpointId{0, -1}));
  for (const char* name :
       {"checkpoint-12.h5.tmp", "checkpoint-.h5", "checkpoint--1.h5", "checkpoint-012.h5",
        "checkpoint-12.r.h5", "checkpoint-12.r-1.h5", "history.h5", "xcheckpoint-1.h5",
        "checkpoint-99999999999999999999.h5"}) {
    EXPECT_FALSE(parse_checkpoint_name(name)) << name;
  }
  EXPECT_LT((CheckpointId{12, -1}), (CheckpointId{12, 0}));
  EXPECT_LT((CheckpointId{12, 10}), (CheckpointId{13, -1}));
}

TEST(Checkpoint, HoldsWhatWasWritten) {
  const testing::TemporaryFolder folder;
  const auto file = folder.path() / "checkpoint-3.h5";
  const std::int64_t size = (1 << 19) + 77;  // three chunks, the last one short
  write_checkpoint(file, size);
  EXPECT_FALSE(std::filesystem::exists(temporary_name(file)));
  const CheckpointReader reader(Communicator::self(), file);
  const auto expected = ramp(size);
  EXPECT_EQ(reader.array_size("/policy/weights"), size);
  EXPECT_EQ(reader.array_size("/policy/empty"), 0);
  for (const auto& [begin, end] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {0, size}, {0, 1}, {size - 1, size}, {262143, 262145}, {5, 600'000 - 99'999}, {7, 7}}) {
    std::vector<float> part(static_cast<std::size_t>(end - begin));
    reader.array("/policy/weights", begin, part);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), expected.begin() + begin)) << begin;
  }
  EXPECT_EQ(reader.integers("/state/counters"), (std::vector<std::int64_t>{3, -1, 1LL << 40}));
  EXPECT_EQ(reader.blob("/state/population"), std::string("a\0b\n", 4));
  EXPECT_EQ(reader.config(), test::identity().config);
  EXPECT_EQ(reader.names(),
            (std::vector<std::string>{"/policy/empty", "/policy/weights", "/state/attempt",
                                      "/state/counters", "/state/population"}));
}

TEST(Checkpoint, MissingOrMistakenNamesAreErrorsThatSayWhatThereIs) {
  const testing::TemporaryFolder folder;
  write_checkpoint(folder.path() / "checkpoint-3.h5");
  const CheckpointReader reader(Communicator::self(), folder.path() / "checkpoint-3.h5");
  EXPECT_FALSE(reader.has("/policy/moments"));
  EXPECT_FALSE(reader.has("/nothing/here"));
  try {
    reader.array_size("/policy/moments");
    FAIL() << "no exception";
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("/policy/moments"), std::string::npos) << text;
    EXPECT_NE(text.find("/policy/weights"), std::string::npos) << text;
  }
  EXPECT_THROW(reader.blob("/state/counters"), Error);
  std::vector<float> part(2);
  EXPECT_THROW(reader.array("/policy/weights", small_size - 1, part), Error);
  EXPECT_THROW(reader.array("/policy/weights", -1, part), Error);
}

TEST(Checkpoint, NothingAppearsWithoutCommit) {
  const testing::TemporaryFolder folder;
  const Communicator self = Communicator::self();
  { CheckpointWriter writer(self, folder.path() / "checkpoint-1.h5", test::identity(), 100); }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Checkpoint, PiecesMustCoverTheArrayOnce) {
  const testing::TemporaryFolder folder;
  const Communicator self = Communicator::self();
  const auto x = ramp(10);
  const std::span<const float> all(x);
  const std::vector<std::vector<ArrayPiece>> mistakes{
      {{0, all.first(9)}},                       // too short
      {{0, all.first(5)}, {4, all.subspan(5)}},  // overlap and a gap
      {{1, all}},                                // beyond the end
  };
  for (const auto& pieces : mistakes) {
    CheckpointWriter writer(self, folder.path() / "checkpoint-1.h5", test::identity(), 100);
    writer.array("/x", 10, pieces);
    EXPECT_THROW(writer.commit(), Error);
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  }
}

TEST(Checkpoint, TooLittleRoomIsRefusedBeforeAnythingIsWritten) {
  const testing::TemporaryFolder folder;
  const Communicator self = Communicator::self();
  try {
    const CheckpointWriter writer(self, folder.path() / "checkpoint-1.h5", test::identity(),
                                  1LL << 60);
    FAIL() << "no exception";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("needed"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("available"), std::string::npos) << error.what();
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Checkpoint, EveryDamageIsAnErrorThatNamesTheFile) {
  const testing::TemporaryFolder folder;
  const auto file = folder.path() / "checkpoint-3.h5";
  write_checkpoint(file);
  const std::string good = read_text(file);
  int forms = 0;
  for (const auto& damage : test::damaged_forms(good, 100, 300)) {
    test::overwrite(file, damage.bytes);
    ++forms;
    try {
      const CheckpointReader reader(Communicator::self(), file);
      ADD_FAILURE() << damage.what << " was not noticed";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("checkpoint-3.h5"), std::string::npos);
    }
    EXPECT_THROW(digest(file), Error) << damage.what;
  }
  EXPECT_GT(forms, 400);
}

TEST(Checkpoint, NewestGoodOneIsFoundBehindBadOnes) {
  const testing::TemporaryFolder folder;
  const Communicator self = Communicator::self();
  EXPECT_FALSE(newest_good_checkpoint(self, folder.path()));
  EXPECT_FALSE(newest_good_checkpoint(self, folder.path() / "not there"));
  write_checkpoint(folder.path() / "checkpoint-3.h5");
  write_checkpoint(folder.path() / "checkpoint-6.h5");
  write_checkpoint(folder.path() / "checkpoint-6.r2.h5");
  test::overwrite(folder.path() / "checkpoint-9.h5.tmp", "half");
  EXPECT_EQ(newest_good_checkpoint(self, folder.path())->file(),
            folder.path() / "checkpoint-6.r2.h5");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "checkpoint-9.h5.tmp"));
  std::filesystem::resize_file(folder.path() / "checkpoint-6.r2.h5", 3000);
  test::overwrite(folder.path() / "checkpoint-7.h5", "");
  EXPECT_EQ(newest_good_checkpoint(self, folder.path())->file(), folder.path() / "checkpoint-6.h5");
  std::filesystem::resize_file(folder.path() / "checkpoint-6.h5", 700);
  EXPECT_EQ(newest_good_checkpoint(self, folder.path())->file(), folder.path() / "checkpoint-3.h5");
  std::filesystem::resize_file(folder.path() / "checkpoint-3.h5", 0);
  EXPECT_FALSE(newest_good_checkpoint(self, folder.path()));
}

std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& id : list_checkpoints(folder)) names.push_back(file_name(id));
  return names;
}

TEST(Checkpoint, RetentionKeepsTwoAndTheMilestones) {
  const testing::TemporaryFolder folder;
  for (const char* name :
       {"checkpoint-0.h5", "checkpoint-4.h5", "checkpoint-5.h5", "checkpoint-8.r1.h5",
        "checkpoint-8.r2.h5", "checkpoint-8.h5", "checkpoint-7.h5"}) {
    test::overwrite(folder.path() / name, "x");
  }
  keep_checkpoints(folder.path(), {8, -1}, 4);
  EXPECT_EQ(names_in(folder.path()),
            (std::vector<std::string>{"checkpoint-8.h5", "checkpoint-7.h5", "checkpoint-4.h5",
                                      "checkpoint-0.h5"}));
  test::overwrite(folder.path() / "checkpoint-8.r0.h5", "x");
  keep_checkpoints(folder.path(), {8, 0}, 0);
  EXPECT_EQ(names_in(folder.path()),
            (std::vector<std::string>{"checkpoint-8.r0.h5", "checkpoint-8.h5"}));
}

TEST(Checkpoint, DigestSeesContentsAndNotReports) {
  const testing::TemporaryFolder folder;
  const Communicator self = Communicator::self();
  const auto x = ramp(9);
  const auto write = [&](const char* name, const char* report, float last) {
    auto values = x;
    values.back() = last;
    const ArrayPiece all{0, values};
    CheckpointWriter writer(self, folder.path() / name, test::identity(), 100);
    writer.array("/x", 9, {&all, 1});
    writer.blob("/report", report, DigestUse::report);
    writer.commit();
    return digest(folder.path() / name);
  };
  const std::string first = write("a.h5", "one", 1.0f);
  EXPECT_EQ(first.size(), 64u);
  EXPECT_EQ(write("b.h5", "two", 1.0f), first);
  EXPECT_NE(write("c.h5", "one", 1.5f), first);
  const auto full = digests(folder.path() / "a.h5");
  ASSERT_EQ(full.size(), 1u);
  EXPECT_EQ(full[0].name, "/x");
}

TEST(Checkpoint, InfoListsArraysAndBlobs) {
  const testing::TemporaryFolder folder;
  write_checkpoint(folder.path() / "checkpoint-3.h5");
  const std::string text = info(folder.path() / "checkpoint-3.h5");
  for (const char* part : {"fst checkpoint", "/policy/weights: f32 [1003], array",
                           "/state/attempt: u8 [8], blob, not in the digest", "seed = 1"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

}  // namespace
}  // namespace fst
