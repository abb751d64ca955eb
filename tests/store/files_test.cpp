#include "fst/store/files.h"

#include <csignal>
#include <functional>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/store/checkpoint_file.h"
#include "fst/store/history.h"
#include "fst/store/history_reader.h"
#include "fst/store/metrics_log.h"
#include "fst/store/run_lock.h"

#include "damage.h"
#include "rows.h"
#include "temporary_folder.h"

namespace fst {
namespace {

/// Runs `work` in a child process whose files may not grow beyond `bytes`: there a write fails as
/// on a full disk. True if it ended by throwing Error.
bool fails_with_file_limit(rlim_t bytes, const std::function<void()>& work) {
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, bytes};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(3);
    try {
      work();
    } catch (const Error&) {
      _exit(1);
    } catch (...) {
      _exit(2);
    }
    _exit(0);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

TEST(Files, TextIsReplacedWhole) {
  const testing::TemporaryFolder folder;
  write_text(folder.path() / "config.resolved.cfg", "first");
  write_text(folder.path() / "config.resolved.cfg", "second\n");
  EXPECT_EQ(read_text(folder.path() / "config.resolved.cfg"), "second\n");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "config.resolved.cfg.tmp"));
  EXPECT_THROW(read_text(folder.path() / "absent"), Error);
  EXPECT_THROW(write_text(folder.path() / "no" / "such" / "folder", "x"), Error);
}

TEST(DiskFull, TextLeavesNothingNewBehind) {
  const testing::TemporaryFolder folder;
  write_text(folder.path() / "a.txt", "old");
  EXPECT_TRUE(fails_with_file_limit(
      1000, [&] { write_text(folder.path() / "a.txt", std::string(5000, 'x')); }));
  EXPECT_EQ(read_text(folder.path() / "a.txt"), "old");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "a.txt.tmp"));
}

TEST(DiskFull, JournalRowIsTakenBack) {
  const testing::TemporaryFolder folder;
  std::uintmax_t whole = 0;
  {
    History history(folder.path(), test::identity());
    history.append(test::population_row(0));
    whole = std::filesystem::file_size(History::journal_in(folder.path()));
  }
  EXPECT_TRUE(fails_with_file_limit(whole + 20, [&] {
    History history(folder.path(), test::identity());
    history.append(test::population_row(1));
  }));
  EXPECT_EQ(std::filesystem::file_size(History::journal_in(folder.path())), whole);
  EXPECT_EQ(History(folder.path(), test::identity()).row_counts().at("population"), 1);
}

TEST(DiskFull, SealKeepsTheOldFileAndTheJournal) {
  const testing::TemporaryFolder folder;
  {
    History history(folder.path(), test::identity());
    history.append(test::population_row(0));
    history.seal();
    for (std::int64_t i = 1; i < 200; ++i) history.append(test::proposal_row(i));
  }
  EXPECT_TRUE(fails_with_file_limit(600'000, [&] {  // less than a seal's margin
    History(folder.path(), test::identity()).seal();
  }));
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "history.h5.tmp"));
  EXPECT_EQ(HistoryReader(History::file_in(folder.path())).rows(table_number("population")), 1);
  History history(folder.path(), test::identity());
  EXPECT_EQ(history.row_counts().at("proposal"), 199);
  EXPECT_NO_THROW(history.seal());
}

TEST(DiskFull, CheckpointThatOutgrowsTheDiskLeavesNoFile) {
  // The estimate is wrong on purpose, so that the write itself fails, inside HDF5.
  const testing::TemporaryFolder folder;
  EXPECT_TRUE(fails_with_file_limit(3 << 20, [&] {
    const Communicator self = Communicator::self();
    CheckpointWriter writer(self, folder.path() / "checkpoint-1.h5", test::identity(), 0);
    const std::vector<float> x(2 << 20, 1.5f);
    const ArrayPiece all{0, x};
    writer.array("/x", static_cast<std::int64_t>(x.size()), {&all, 1});
    writer.blob("/y", "y", DigestUse::digest);
    writer.commit();
  }));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(DiskFull, MetricsLineIsTakenBack) {
  const testing::TemporaryFolder folder;
  EXPECT_TRUE(fails_with_file_limit(100, [&] {
    MetricsLog metrics(folder.path() / "metrics.jsonl");
    metrics.append("{\"a\": 1}");
    metrics.append("{\"b\": \"" + std::string(200, 'x') + "\"}");
  }));
  EXPECT_EQ(read_text(folder.path() / "metrics.jsonl"), "{\"a\": 1}\n");
}

TEST(MetricsLog, AppendsLinesAndCutsBack) {
  const testing::TemporaryFolder folder;
  const auto file = folder.path() / "metrics.jsonl";
  {
    MetricsLog metrics(file);
    for (int i = 0; i < 5; ++i) metrics.append("{\"step\": " + std::to_string(i) + "}");
    EXPECT_EQ(metrics.lines(), 5);
    EXPECT_THROW(metrics.append("two\nlines"), Error);
  }
  MetricsLog metrics(file);
  EXPECT_EQ(metrics.lines(), 5);
  EXPECT_THROW(metrics.cut_back(6), Error);
  metrics.cut_back(2);
  metrics.append("{}");
  EXPECT_EQ(read_text(file), "{\"step\": 0}\n{\"step\": 1}\n{}\n");
  metrics.cut_back(0);
  EXPECT_EQ(read_text(file), "");
}

TEST(MetricsLog, TornLastLineIsDroppedAtEveryLength) {
  const testing::TemporaryFolder folder;
  const auto file = folder.path() / "metrics.jsonl";
  const std::string text = "{\"a\": 1}\n{\"b\": 2}\n";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    test::overwrite(file, text.substr(0, cut));
    MetricsLog metrics(file);
    EXPECT_EQ(metrics.lines(), cut < 9 ? 0 : cut < 18 ? 1 : 2) << cut;
    metrics.append("{}");
    const std::string whole = read_text(file);
    EXPECT_TRUE(whole.ends_with("}\n{}\n") || whole == "{}\n") << cut;
  }
}

TEST(RunLock, SecondHolderIsRefusedAndToldWhoHoldsIt) {
  const testing::TemporaryFolder folder;
  {
    const RunLock lock(folder.path());
    try {
      const RunLock second(folder.path(), 0.0);
      FAIL() << "no exception";
    } catch (const InputError&) {
      FAIL() << "not the user's mistake: exit code 1";
    } catch (const Error& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find("process " + std::to_string(getpid())), std::string::npos) << text;
    }
  }
  EXPECT_NO_THROW(RunLock(folder.path(), 0.0));
}

TEST(RunLock, DiesWithItsProcess) {
  const testing::TemporaryFolder folder;
  const pid_t child = fork();
  if (child == 0) {
    const RunLock lock(folder.path());
    std::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_NO_THROW(RunLock(folder.path(), 0.0));
}

}  // namespace
}  // namespace fst
