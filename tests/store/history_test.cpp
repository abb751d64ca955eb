#include "fst/store/history.h"

#include <chrono>
#include <cmath>
#include <csignal>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/store/digest.h"
#include "fst/store/files.h"
#include "fst/store/history_reader.h"

#include "damage.h"
#include "rows.h"
#include "temporary_folder.h"

namespace fst {
namespace {

using test::attempt_row;
using test::identity;
using test::population_row;
using test::proposal_row;

void append_rows(History& history, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    history.append(population_row(i));
    history.append(proposal_row(i));
  }
}

std::int64_t sealed_rows(const std::filesystem::path& folder) {
  return HistoryReader(History::file_in(folder)).rows(table_number("population"));
}

TEST(History, SealedRowsComeBackAsTheyWere) {
  const testing::TemporaryFolder folder;
  History history(folder.path(), identity());
  append_rows(history, 0, 3);
  history.seal();
  append_rows(history, 3, 9);
  history.seal();

  const HistoryReader reader(History::file_in(folder.path()));
  EXPECT_EQ(reader.rows(table_number("population")), 9);
  EXPECT_EQ(reader.rows(table_number("step")), 0);
  const auto candidates = reader.integers(dataset("/population/candidate"));
  const auto means = reader.reals(dataset("/population/anchor_mean"));
  const auto texts = reader.texts(dataset("/proposal/child_text"));
  const auto replies = reader.texts(dataset("/proposal/reply"));
  const auto scores = reader.real_lists(dataset("/proposal/scores_before"));
  const auto minibatches = reader.integer_lists(dataset("/proposal/minibatch"));
  ASSERT_EQ(texts.size(), 9u);
  for (std::size_t i = 0; i < 9; ++i) {
    const auto n = static_cast<std::int64_t>(i);
    EXPECT_EQ(candidates[i], n * n);
    EXPECT_EQ(means[i], 0.25 * static_cast<double>(n));
    EXPECT_EQ(texts[i], i % 2 == 0 ? "" : "Prüfe „" + std::to_string(i) + "“\n");
    EXPECT_EQ(replies[i].size(), i * 37);
    ASSERT_EQ(scores[i].size(), i % 4);
    if (i % 4 > 1) {
      EXPECT_TRUE(std::isnan(scores[i][1]));
    }
    EXPECT_EQ(minibatches[i], std::vector<std::int64_t>(i % 4, n));
  }
  EXPECT_EQ(reader.attribute("config"), identity().config);
  EXPECT_EQ(reader.attribute("filetype"), "fst history");
  EXPECT_EQ(reader.attribute("git_commit"), "0123abc");
}

TEST(History, UnsealedRowsSurviveAKill) {
  const testing::TemporaryFolder folder;
  {
    History history(folder.path(), identity());
    append_rows(history, 0, 4);
    history.seal();
    append_rows(history, 4, 7);
  }  // as killed: nothing is written on destruction
  EXPECT_EQ(sealed_rows(folder.path()), 4);
  History history(folder.path(), identity());
  EXPECT_EQ(history.row_counts().at("population"), 7);
  history.seal();
  EXPECT_EQ(sealed_rows(folder.path()), 7);
}

TEST(History, JournalCutAtAnyByteLosesOnlyTheRowsBehindTheCut) {
  const testing::TemporaryFolder folder;
  std::vector<std::size_t> ends;  // of the journal after each row
  {
    History history(folder.path(), identity());
    ends.push_back(std::filesystem::file_size(History::journal_in(folder.path())));
    for (std::int64_t i = 0; i < 3; ++i) {
      history.append(population_row(i));
      ends.push_back(std::filesystem::file_size(History::journal_in(folder.path())));
    }
  }
  const auto journal = History::journal_in(folder.path());
  const std::string whole = read_text(journal);
  for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
    test::overwrite(journal, whole.substr(0, cut));
    std::int64_t rows = 0;
    for (std::size_t i = 1; i < ends.size(); ++i) rows += cut >= ends[i] ? 1 : 0;
    {
      History history(folder.path(), identity());
      ASSERT_EQ(history.row_counts().at("population"), rows) << "cut at " << cut;
      history.append(population_row(rows));  // the file goes on where the good part ended
    }
    History history(folder.path(), identity());
    ASSERT_EQ(history.row_counts().at("population"), rows + 1) << "cut at " << cut;
  }
}

TEST(History, EveryFlippedBitOfTheJournalIsNoticed) {
  const testing::TemporaryFolder folder;
  {
    History history(folder.path(), identity());
    for (std::int64_t i = 0; i < 3; ++i) history.append(population_row(i));
  }
  const auto journal = History::journal_in(folder.path());
  const std::string whole = read_text(journal);
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << (at % 8)));
    test::overwrite(journal, bytes);
    const History history(folder.path(), identity());
    EXPECT_LT(history.row_counts().at("population"), 3) << "byte " << at;
  }
}

TEST(History, KillBetweenRenameAndEmptyingTheJournalCountsNoRowTwice) {
  const testing::TemporaryFolder folder;
  const auto journal = History::journal_in(folder.path());
  std::string before_seal;
  {
    History history(folder.path(), identity());
    append_rows(history, 0, 5);
    before_seal = read_text(journal);
    history.seal();
  }
  test::overwrite(journal, before_seal);
  History history(folder.path(), identity());
  EXPECT_EQ(history.row_counts().at("population"), 5);
  append_rows(history, 5, 6);
  history.seal();
  EXPECT_EQ(sealed_rows(folder.path()), 6);
}

TEST(History, KillInsideACutLeavesItDone) {
  const testing::TemporaryFolder folder;
  const auto journal = History::journal_in(folder.path());
  std::string before_cut;
  {
    History history(folder.path(), identity());
    append_rows(history, 0, 5);
    history.seal();
    append_rows(history, 5, 7);
    before_cut = read_text(journal);
    history.cut_back({{"population", 3}, {"proposal", 3}});
  }
  test::overwrite(journal, before_cut);
  History history(folder.path(), identity());
  EXPECT_EQ(history.row_counts().at("population"), 3);
}

/// What a child process has done, seen by its parent after the kill.
struct Progress {
  volatile std::int64_t appended, sealed;
};

/// Appends rows and seals after every fifth until it is killed.
[[noreturn]] void append_for_ever(const std::filesystem::path& folder, Progress& progress) {
  History history(folder, identity());
  for (std::int64_t i = history.row_counts().at("population");; ++i) {
    history.append(population_row(i));
    progress.appended = i + 1;
    if (i % 5 != 4) continue;
    history.seal();
    progress.sealed = i + 1;
  }
}

TEST(History, KillsAtRandomMomentsLoseNothingThatWasAppended) {
  const testing::TemporaryFolder folder;
  void* shared =
      mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto& progress = *static_cast<Progress*>(shared);
  Rng random(3);
  for (int kill_number = 0; kill_number < 12; ++kill_number) {
    const pid_t child = fork();
    if (child == 0) append_for_ever(folder.path(), progress);
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(60'000)));
    kill(child, SIGKILL);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);

    const History history(folder.path(), identity());
    const std::int64_t rows = history.row_counts().at("population");
    EXPECT_GE(rows, progress.appended);
    EXPECT_LE(rows, progress.appended + 1);
    if (progress.sealed == 0) continue;
    const HistoryReader reader(History::file_in(folder.path()));
    const auto candidates = reader.integers(dataset("/population/candidate"));
    EXPECT_GE(static_cast<std::int64_t>(candidates.size()), progress.sealed);
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      ASSERT_EQ(candidates[i], static_cast<std::int64_t>(i * i));
    }
  }
  EXPECT_GT(progress.appended, 0);
  munmap(shared, sizeof(Progress));
}

TEST(History, LeftoverTemporaryFileDoesNotMatter) {
  const testing::TemporaryFolder folder;
  {
    History history(folder.path(), identity());
    append_rows(history, 0, 2);
    history.seal();
  }
  test::overwrite(folder.path() / "history.h5.tmp", "torn");
  History history(folder.path(), identity());
  append_rows(history, 2, 3);
  history.seal();
  EXPECT_EQ(sealed_rows(folder.path()), 3);
}

TEST(History, CutBackDropsLaterRowsAndKeepsAttempts) {
  const testing::TemporaryFolder folder, straight;
  {
    History history(folder.path(), identity());
    history.append(attempt_row(1));
    append_rows(history, 0, 4);
    history.seal();
    const RowCounts counts = history.row_counts();
    append_rows(history, 4, 6);
    history.seal();
    append_rows(history, 6, 8);
    history.append(attempt_row(2));
    history.cut_back(counts);
    EXPECT_EQ(history.row_counts().at("population"), 4);
    EXPECT_EQ(history.row_counts().at("attempt"), 2);
    append_rows(history, 4, 9);
    history.seal();
  }
  History history(straight.path(), identity());
  append_rows(history, 0, 9);
  history.seal();
  EXPECT_EQ(digest(History::file_in(folder.path())), digest(History::file_in(straight.path())));
  const HistoryReader reader(History::file_in(folder.path()));
  EXPECT_EQ(reader.integers(dataset("/attempt/number")), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(reader.texts(dataset("/proposal/reply")).back().size(), 8u * 37);
}

TEST(History, CutBackBeyondTheRowsIsAnError) {
  const testing::TemporaryFolder folder;
  History history(folder.path(), identity());
  append_rows(history, 0, 2);
  EXPECT_THROW(history.cut_back({{"population", 3}, {"proposal", 2}}), Error);
}

TEST(History, NewConfigurationIsTakenOver) {
  const testing::TemporaryFolder folder;
  { History(folder.path(), identity()).seal(); }
  FileIdentity longer = identity();
  longer.config += "steps = 60\n";
  { History(folder.path(), longer).seal(); }
  EXPECT_EQ(HistoryReader(History::file_in(folder.path())).attribute("config"), longer.config);
}

TEST(History, ReportedColumnsStayOutOfTheDigest) {
  const testing::TemporaryFolder one, two;
  for (const auto* folder : {&one, &two}) {
    History history(folder->path(), identity());
    history.append(attempt_row(folder == &one ? 1 : 7));
    append_rows(history, 0, 3);
    history.seal();
  }
  EXPECT_EQ(digest(History::file_in(one.path())), digest(History::file_in(two.path())));
  History history(two.path(), identity());
  append_rows(history, 3, 4);
  history.seal();
  EXPECT_NE(digest(History::file_in(one.path())), digest(History::file_in(two.path())));
}

TEST(History, EveryDamageToTheFileIsAnErrorThatNamesIt) {
  const testing::TemporaryFolder folder;
  const auto file = History::file_in(folder.path());
  {
    History history(folder.path(), identity());
    append_rows(history, 0, 5);
    history.seal();
  }
  const std::string good = read_text(file);
  int forms = 0;
  for (const auto& damage : test::damaged_forms(good, 100, 300)) {
    test::overwrite(file, damage.bytes);
    ++forms;
    try {
      const HistoryReader reader(file);
      ADD_FAILURE() << damage.what << " was not noticed";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("history.h5"), std::string::npos) << error.what();
    }
    EXPECT_THROW(History(folder.path(), identity()), Error) << damage.what;
  }
  EXPECT_GT(forms, 400);
  test::overwrite(file, good);
  EXPECT_NO_THROW(HistoryReader{file});
}

TEST(History, InfoNamesTablesAndConfiguration) {
  const testing::TemporaryFolder folder;
  History history(folder.path(), identity());
  append_rows(history, 0, 5);
  history.seal();
  const std::string text = info(History::file_in(folder.path()));
  for (const char* part :
       {"fst history", "population: 5 rows", "seed = 1", "git_commit = 0123abc"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

}  // namespace
}  // namespace fst
