#include "history_file.h"

#include <algorithm>
#include <ctime>

#include "fst/base/error.h"
#include "fst/store/envelope.h"
#include "fst/store/files.h"

namespace fst {

namespace fs = std::filesystem;

namespace {

constexpr std::int64_t row_chunk =
    512;  // one small read for a short run, few chunks for a long one
constexpr std::int64_t value_chunk = 16384;    // 64 KiB of tokens
constexpr std::int64_t file_margin = 1 << 20;  // metadata and half-filled chunks of ~130 datasets
const std::string filetype = "fst history";

std::string schema_name() {
  return std::to_string(schema_fingerprint());
}

/// Length of a column in rows.
std::int64_t rows_of(const h5::File& file, const Column& column) {
  return ragged(column.type) ? file.size(offsets_path(column)) - 1 : file.size(values_path(column));
}

}  // namespace

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  const std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return {text, length};
}

void set_identity(h5::File& file, const std::string& type, const FileIdentity& identity,
                  const std::string& created) {
  file.set_attribute("/", "filetype", type);
  file.set_attribute("/", "schema_version", schema_version);
  file.set_attribute("/", "created", created);
  file.set_attribute("/", "software", "fst");
  file.set_attribute("/", "version", identity.version);
  file.set_attribute("/", "git_commit", identity.git_commit);
  file.set_attribute("/", "config", identity.config);
}

HistoryFile HistoryFile::open(const fs::path& file) {
  check_envelope(Communicator::self(), file);
  HistoryFile history(h5::File::open(file));
  const h5::File& h5 = history.file_;
  const bool history_of_ours =
      h5.has_attribute("/", "filetype") && h5.text_attribute("/", "filetype") == filetype;
  if (!history_of_ours) throw Error(file.string() + ": is not a history of fst");
  if (h5.text_attribute("/", "schema") != schema_name()) {
    throw Error(file.string() + ": written by a program with other columns; continue with that " +
                "program or start in a new folder");
  }
  return history;
}

HistoryFile HistoryFile::copy(const fs::path& file, const fs::path& temporary,
                              std::int64_t more_bytes) {
  const bool old = fs::exists(file);
  const auto size = old ? static_cast<std::int64_t>(fs::file_size(file)) : 0;
  expect_space(temporary.parent_path(), size + more_bytes + file_margin);
  if (!old) {
    HistoryFile history(h5::File::create(temporary));
    history.make_tables();
    return history;
  }
  std::error_code failed;
  if (!fs::copy_file(file, temporary, fs::copy_options::overwrite_existing, failed)) {
    throw Error("cannot copy " + file.string() + ": " + failed.message());
  }
  return HistoryFile(h5::File::open_to_append(temporary));
}

void HistoryFile::make_tables() {
  for (const Column& column : columns) {
    const bool list = ragged(column.type);
    file_.make_growing(values_path(column), element_of(column.type), list ? value_chunk : row_chunk,
                       list);
    if (list) {
      const std::int64_t zero = 0;
      file_.make_growing(offsets_path(column), h5::Element::i64, row_chunk, false);
      file_.resize(offsets_path(column), 1);
      file_.write_bytes(offsets_path(column), h5::Element::i64, 0,
                        std::as_bytes(std::span(&zero, 1)));
    }
    const std::string path(column.path);
    file_.set_attribute(path, "type", name_of(column.type));
    file_.set_attribute(path, "dims", column.dims);
    file_.set_attribute(path, "unit", column.unit);
    file_.set_attribute(path, "meaning", column.meaning);
    file_.set_attribute(path, "use", column.use == DigestUse::digest ? "digest" : "report");
  }
}

void HistoryFile::identify(const FileIdentity& identity) {
  const bool old = file_.has_attribute("/", "created");
  set_identity(file_, filetype, identity, old ? file_.text_attribute("/", "created") : utc_now());
  file_.set_attribute("/", "schema", schema_name());
}

bool HistoryFile::identified_as(const FileIdentity& identity) const {
  return file_.text_attribute("/", "config") == identity.config &&
         file_.text_attribute("/", "version") == identity.version &&
         file_.text_attribute("/", "git_commit") == identity.git_commit;
}

TableRows HistoryFile::rows() const {
  TableRows rows{};
  for (std::size_t t = 0; t < tables.size(); ++t) {
    rows[t] = rows_of(file_, columns[tables[t].begin]);
    for (std::size_t i = tables[t].begin; i < tables[t].end; ++i) {
      if (rows_of(file_, columns[i]) == rows[t]) continue;
      throw Error(file_.path().string() + ": columns of table " + std::string(tables[t].name()) +
                  " differ in length");
    }
  }
  return rows;
}

void HistoryFile::cut(const TableRows& rows) {
  for (std::size_t t = 0; t < tables.size(); ++t) {
    for (std::size_t i = tables[t].begin; i < tables[t].end; ++i) {
      const Column& column = columns[i];
      if (rows_of(file_, column) == rows[t]) continue;
      std::int64_t end = rows[t];
      if (ragged(column.type)) {
        file_.read_bytes(offsets_path(column), h5::Element::i64, rows[t],
                         std::as_writable_bytes(std::span(&end, 1)));
        file_.resize(offsets_path(column), rows[t] + 1);
      }
      file_.resize(values_path(column), end);
    }
  }
}

void ColumnAppender::add(std::span<const std::byte> cell) {
  values_.insert(values_.end(), cell.begin(), cell.end());
  ends_.push_back(static_cast<std::int64_t>(values_.size()));
}

void ColumnAppender::write(HistoryFile& file, std::int64_t rows) const {
  if (ends_.empty()) return;
  h5::File& h5 = file.h5();
  const h5::Element element = element_of(column_.type);
  const auto bytes = static_cast<std::int64_t>(h5::bytes_of(element));
  const auto count = static_cast<std::int64_t>(values_.size()) / bytes;
  std::int64_t begin = rows;
  if (ragged(column_.type)) {
    begin = h5.size(values_path(column_));
    std::vector<std::int64_t> ends;
    for (const std::int64_t end : ends_) ends.push_back(begin + end / bytes);
    h5.resize(offsets_path(column_), rows + 1 + static_cast<std::int64_t>(ends.size()));
    h5.write_bytes(offsets_path(column_), h5::Element::i64, rows + 1,
                   std::as_bytes(std::span(ends)));
  } else if (count != static_cast<std::int64_t>(ends_.size())) {
    throw Error("history: a cell of " + std::string(column_.path) + " has a wrong length");
  }
  h5.resize(values_path(column_), begin + count);
  h5.write_bytes(values_path(column_), element, begin, values_);
}

}  // namespace fst
