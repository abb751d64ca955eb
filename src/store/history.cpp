#include "fst/store/history.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <optional>
#include <utility>

#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/comm/pack.h"
#include "fst/store/envelope.h"
#include "fst/store/files.h"

#include "column.h"
#include "history_file.h"
#include "journal.h"

namespace fst {

namespace fs = std::filesystem;

namespace {

/// A row as it stands in the journal: its table, its number there and the bytes of its cells.
struct Entry {
  std::uint16_t table = 0;
  std::int64_t number = 0;
  std::vector<std::vector<std::byte>> cells;

  std::vector<std::byte> packed() const {
    Packer packer;
    packer.put(table);
    packer.put(number);
    packer.put(cells);
    return packer.take();
  }
  static Entry unpacked(std::span<const std::byte> bytes) {
    Unpacker unpacker(bytes);
    Entry entry;
    entry.table = unpacker.get<std::uint16_t>();
    entry.number = unpacker.get<std::int64_t>();
    entry.cells = unpacker.get<std::vector<std::vector<std::byte>>>();
    unpacker.expect_done();
    if (entry.table >= tables.size() || entry.cells.size() != tables[entry.table].size()) {
      throw Error("a journal record that is no row of this schema");
    }
    return entry;
  }
};

/// Rows that are only reported survive a cut: they tell of attempts, not of the trajectory.
bool survives_cut(const Table& table) {
  for (std::size_t i = table.begin; i < table.end; ++i) {
    if (columns[i].use == DigestUse::digest) return false;
  }
  return true;
}

}  // namespace

struct History::State {
  fs::path folder;
  FileIdentity identity;
  TableRows sealed{};   // rows in history.h5
  TableRows pending{};  // rows in the journal beyond them
  std::vector<Entry> entries;
  std::optional<Journal> journal;
  bool stale = true;  // the file is missing or has another configuration

  std::int64_t rows(std::size_t table) const { return sealed[table] + pending[table]; }
  void take_over(const std::vector<Journal::Record>& records);
  void write(const TableRows& kept);
};

/// Rows of the journal that follow the sealed ones. Lower numbers were sealed just before a kill;
/// a gap means that a cut_back() was killed before it could empty the journal.
void History::State::take_over(const std::vector<Journal::Record>& records) {
  std::int64_t dropped = 0;
  for (const auto& record : records) {
    Entry entry = Entry::unpacked(record);
    if (entry.number < sealed[entry.table]) continue;
    if (entry.number > rows(entry.table)) {
      ++dropped;
      continue;
    }
    ++pending[entry.table];
    entries.push_back(std::move(entry));
  }
  if (dropped > 0) {
    log::warn(journal_in(folder).string() + ": " + std::to_string(dropped) +
              " rows of an interrupted cut dropped");
  }
}

/// history.h5 anew: the first `kept` sealed rows of each table, then the entries.
void History::State::write(const TableRows& kept) {
  const fs::path target = file_in(folder);
  const fs::path temporary = temporary_name(target);
  std::int64_t bytes = 0;
  for (const Entry& entry : entries) {
    for (const auto& cell : entry.cells) bytes += static_cast<std::int64_t>(cell.size());
  }
  TableRows total = kept;
  try {
    HistoryFile file = HistoryFile::copy(target, temporary, bytes);
    file.identify(identity);
    file.cut(kept);
    for (std::size_t t = 0; t < tables.size(); ++t) {
      for (std::size_t c = 0; c < tables[t].size(); ++c) {
        ColumnAppender appender(tables[t].begin + c);
        for (const Entry& entry : entries) {
          if (entry.table == t) appender.add(entry.cells[c]);
        }
        appender.write(file, kept[t]);
      }
      total[t] += pending[t];
    }
    file.close();
    seal_envelope(Communicator::self(), temporary);
    if (HistoryFile::open(temporary).rows() != total) {
      throw Error(temporary.string() + ": does not hold the rows that were written");
    }
    publish(temporary, target);
  } catch (...) {
    std::error_code ignored;  // the first error is the one to report
    fs::remove(temporary, ignored);
    throw;
  }
  // A kill here leaves rows in the journal that are in the file already; take_over() knows them.
  sealed = total;
  pending = {};
  entries.clear();
  stale = false;
  journal->reset();
}

History::History(fs::path folder, FileIdentity identity) : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.folder = std::move(folder);
  state.identity = std::move(identity);
  const fs::path file = file_in(state.folder);
  fs::remove(temporary_name(file));
  if (fs::exists(file)) {
    const HistoryFile history = HistoryFile::open(file);
    state.sealed = history.rows();
    state.stale = !history.identified_as(state.identity);
  }
  std::vector<Journal::Record> records;
  state.journal.emplace(journal_in(state.folder), schema_fingerprint(), records);
  state.take_over(records);
}

History::History(History&&) noexcept = default;
History::~History() = default;

void History::append(const Row& row) {
  State& state = *state_;
  const std::size_t table = row.table_number();
  Entry entry{static_cast<std::uint16_t>(table), state.rows(table), row.cells()};
  state.journal->append(entry.packed());
  ++state.pending[table];
  state.entries.push_back(std::move(entry));
}

void History::seal() {
  if (!state_->entries.empty() || state_->stale) state_->write(state_->sealed);
}

RowCounts History::row_counts() const {
  RowCounts counts;
  for (std::size_t t = 0; t < tables.size(); ++t) {
    counts[std::string(tables[t].name())] = state_->rows(t);
  }
  return counts;
}

void History::cut_back(const RowCounts& counts) {
  State& state = *state_;
  TableRows kept = state.sealed, wanted{};
  for (std::size_t t = 0; t < tables.size(); ++t) {
    const std::string name(tables[t].name());
    const auto count = counts.find(name);
    wanted[t] = count == counts.end() ? 0 : count->second;
    if (survives_cut(tables[t])) wanted[t] = state.rows(t);
    if (wanted[t] < 0 || wanted[t] > state.rows(t)) {
      throw Error(state.folder.string() + ": the checkpoint knows " + std::to_string(wanted[t]) +
                  " rows of table " + name + ", the history has " + std::to_string(state.rows(t)));
    }
    kept[t] = std::min(kept[t], wanted[t]);
    state.pending[t] = wanted[t] - kept[t];
  }
  std::erase_if(state.entries,
                [&](const Entry& entry) { return entry.number >= wanted[entry.table]; });
  state.write(kept);
}

fs::path History::file_in(const fs::path& folder) {
  return folder / "history.h5";
}
fs::path History::journal_in(const fs::path& folder) {
  return folder / "history.journal";
}

void History::remove(const fs::path& folder) {
  fs::remove(journal_in(folder));  // first: its rows mean nothing without the file
  fs::remove(file_in(folder));
  fs::remove(temporary_name(file_in(folder)));
}

}  // namespace fst
