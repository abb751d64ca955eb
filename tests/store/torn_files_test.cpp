// What a restart makes of files that a machine left torn: it never believes one, says which it was,
// and goes on from what is good.

#include <map>
#include <string>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/store/checkpoint_file.h"
#include "fst/store/digest.h"
#include "fst/store/envelope.h"
#include "fst/store/files.h"
#include "fst/store/history_reader.h"
#include "fst/store/metrics_log.h"

#include "damage.h"
#include "rows.h"
#include "temporary_folder.h"

namespace fst {
namespace {

using test::attempt_row;
using test::identity;
using test::population_row;
using test::proposal_row;

constexpr std::int64_t rows_at_checkpoint = 3, rows_at_kill = 7, rows_at_end = 9;

void append_rows(History& history, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    history.append(population_row(i));
    history.append(proposal_row(i));
  }
}

void write_checkpoint(const std::filesystem::path& file, std::int64_t step) {
  const Communicator self = Communicator::self();
  std::vector<float> weights(777);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    weights[i] = static_cast<float>(i) * 0.5f + static_cast<float>(step);
  }
  CheckpointWriter writer(self, file, identity(), 4 * 777);
  const ArrayPiece all{0, weights};
  writer.array("/policy/weights", 777, {&all, 1});
  writer.integers("/state/step", std::span(&step, 1), DigestUse::digest);
  writer.commit();
}

TEST(TornCheckpoint, IsReportedAndThePreviousOneTaken) {
  const testing::TemporaryFolder folder;
  const Communicator self = Communicator::self();
  const auto previous = folder.path() / "checkpoint-3.h5",
             newest = folder.path() / "checkpoint-6.h5";
  write_checkpoint(previous, 3);
  write_checkpoint(newest, 6);
  const std::string good = read_text(newest), good_digest = digest(newest);
  int forms = 0;
  for (const auto& damage : test::damaged_forms(good, 250, 550)) {
    ++forms;
    test::overwrite(newest, damage.bytes);
    ::testing::internal::CaptureStderr();
    const auto taken = newest_good_checkpoint(self, folder.path());
    const std::string report = ::testing::internal::GetCapturedStderr();
    if (damage.bytes == good) {
      EXPECT_EQ(digest(newest), good_digest);
      continue;
    }
    ASSERT_TRUE(taken) << damage.what;
    ASSERT_EQ(taken->file(), previous) << damage.what;
    EXPECT_NE(report.find(newest.string()), std::string::npos) << damage.what << ": " << report;
    EXPECT_NE(report.find("trying the checkpoint before"), std::string::npos) << report;
  }
  EXPECT_GT(forms, 800);
}

TEST(TornCheckpoint, EveryByteOfTheFileIsCovered) {
  // The proof that no damage is harmless: whichever byte changes, the file is refused.
  const testing::TemporaryFolder folder;
  const auto file = folder.path() / "checkpoint-3.h5";
  write_checkpoint(file, 3);
  std::string bytes = read_text(file);
  for (std::size_t at = 0; at < bytes.size(); at += 1 + at % 13) {
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << (at % 8)));
    test::overwrite(file, bytes);
    ASSERT_THROW(check_envelope(Communicator::self(), file), Error) << "byte " << at;
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << (at % 8)));
  }
  test::overwrite(file, bytes);
  EXPECT_NO_THROW(check_envelope(Communicator::self(), file));
}

TEST(TornCheckpoint, WhatIsNewerThanTheOneTakenIsSetAside) {
  const testing::TemporaryFolder folder;
  const auto name = [&](const char* text) { return folder.path() / text; };
  for (const char* file : {"checkpoint-3.h5", "checkpoint-6.h5", "checkpoint-6.r1.h5"}) {
    test::overwrite(name(file), file);
  }
  ::testing::internal::CaptureStderr();
  set_aside(folder.path(), {3, -1});
  const std::string report = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(list_checkpoints(folder.path()), (std::vector<CheckpointId>{{3, -1}}));
  EXPECT_EQ(read_text(name("checkpoint-6.r1.h5.aside")), "checkpoint-6.r1.h5");
  EXPECT_TRUE(std::filesystem::exists(name("checkpoint-6.h5.aside")));
  EXPECT_NE(report.find("checkpoint-6.h5 is kept as"), std::string::npos) << report;
}

/// A run folder as a kill leaves it: rows up to the checkpoint sealed, later ones in the journal.
struct KilledHistory {
  testing::TemporaryFolder folder;
  RowCounts counts;  // what the checkpoint knows
  std::string file, journal;

  KilledHistory() {
    History history(folder.path(), identity());
    history.append(attempt_row(1));
    append_rows(history, 0, rows_at_checkpoint);
    history.seal();
    counts = history.row_counts();
    append_rows(history, rows_at_checkpoint, rows_at_kill);
    file = read_text(History::file_in(folder.path()));
    journal = read_text(History::journal_in(folder.path()));
  }
};

std::string straight_digest() {
  const testing::TemporaryFolder folder;
  History history(folder.path(), identity());
  append_rows(history, 0, rows_at_end);
  history.seal();
  return digest(History::file_in(folder.path()));
}

/// The folder of `killed` again, with this journal.
struct DamagedJournal {
  testing::TemporaryFolder folder;
  DamagedJournal(const KilledHistory& killed, const std::string& journal) {
    test::overwrite(History::file_in(folder.path()), killed.file);
    test::overwrite(History::journal_in(folder.path()), journal);
  }
  const std::filesystem::path& path() const { return folder.path(); }
};

TEST(TornHistory, AJournalLosesAtMostWhatCameAfterTheCheckpoint) {
  const KilledHistory killed;
  std::map<std::int64_t, int> found;  // rows -> how often
  int forms = 0, warned = 0;
  for (const auto& damage : test::damaged_forms(killed.journal, 100, 200)) {
    ++forms;
    const DamagedJournal damaged(killed, damage.bytes);
    ::testing::internal::CaptureStderr();
    const History history(damaged.path(), identity());
    const std::int64_t rows = history.row_counts().at("population");
    ++found[rows];
    EXPECT_GE(rows, rows_at_checkpoint) << damage.what;
    EXPECT_LE(rows, rows_at_kill) << damage.what;
    const std::string report = ::testing::internal::GetCapturedStderr();
    warned += report.find("history.journal") != std::string::npos ? 1 : 0;
  }
  EXPECT_GT(forms, 300);
  EXPECT_GT(warned, 280);       // a cut between two records cannot be told from a kill there
  EXPECT_GT(found.size(), 3u);  // cuts and flips hit early and late records
}

TEST(TornHistory, AResumedRunHasTheRowsOfTheStraightOne) {
  const KilledHistory killed;
  const std::string expected = straight_digest();
  for (const auto& damage : test::damaged_forms(killed.journal, 8, 16)) {
    const DamagedJournal damaged(killed, damage.bytes);
    ::testing::internal::CaptureStderr();
    {
      History history(damaged.path(), identity());
      history.cut_back(killed.counts);
      EXPECT_EQ(history.row_counts().at("population"), rows_at_checkpoint);
      append_rows(history, rows_at_checkpoint, rows_at_end);
      history.seal();
    }
    const std::string report = ::testing::internal::GetCapturedStderr();
    EXPECT_EQ(digest(History::file_in(damaged.path())), expected) << damage.what << ": " << report;
  }
}

TEST(TornHistory, DamagedRowsAreNeverTakenForRows) {
  const KilledHistory killed;
  for (const auto& damage : test::damaged_forms(killed.journal, 8, 16)) {
    const DamagedJournal damaged(killed, damage.bytes);
    ::testing::internal::CaptureStderr();
    History(damaged.path(), identity()).seal();
    ::testing::internal::GetCapturedStderr();
    const HistoryReader reader(History::file_in(damaged.path()));
    const auto candidates = reader.integers(dataset("/population/candidate"));
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      ASSERT_EQ(candidates[i], static_cast<std::int64_t>(i * i)) << damage.what;
    }
  }
}

TEST(TornHistory, ADamagedFileIsAnErrorThatNamesIt) {
  const KilledHistory killed;
  int forms = 0;
  for (const auto& damage : test::damaged_forms(killed.file, 60, 140)) {
    ++forms;
    const auto file = History::file_in(killed.folder.path());
    test::overwrite(file, damage.bytes);
    try {
      const History history(killed.folder.path(), identity());
      ADD_FAILURE() << damage.what << " was not noticed";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(file.string()), std::string::npos) << error.what();
    }
  }
  EXPECT_GT(forms, 200);
}

TEST(TornMetrics, ATornLastLineIsDroppedWithAWarning) {
  const testing::TemporaryFolder folder;
  const auto file = folder.path() / "metrics.jsonl";
  const std::string lines = "{\"a\":1}\n{\"b\":22}\n{\"c\":333}\n";
  for (std::size_t cut = 0; cut <= lines.size(); ++cut) {
    test::overwrite(file, lines.substr(0, cut));
    ::testing::internal::CaptureStderr();
    {
      MetricsLog metrics(file);
      metrics.cut_back(std::min<std::int64_t>(metrics.lines(), 1));
      metrics.append("{\"d\":4}");
      metrics.sync();
    }
    const bool warned = !::testing::internal::GetCapturedStderr().empty();
    const bool torn = cut > 0 && lines[cut - 1] != '\n';
    EXPECT_EQ(warned, torn) << "cut at " << cut;
    EXPECT_EQ(read_text(file), (cut < 8 ? "" : "{\"a\":1}\n") + std::string("{\"d\":4}\n"));
  }
}

}  // namespace
}  // namespace fst
