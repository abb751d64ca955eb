#include "fst/store/history_reader.h"

#include "fst/base/error.h"

#include "history_file.h"

namespace fst {

namespace {

[[noreturn]] void wrong(Dataset column, const char* wanted) {
  throw Error(std::string(column.column().path) + " is " +
              std::string(name_of(column.column().type)) + ", not " + wanted);
}

template <class From, class To>
std::vector<To> converted(const h5::File& file, const std::string& path) {
  const auto values = file.get<From>(path);
  return {values.begin(), values.end()};
}

/// All values of a column, of whichever numeric type, as To.
template <class To>
std::vector<To> values_as(const h5::File& file, const Column& column) {
  const std::string path = values_path(column);
  switch (element_of(column.type)) {
    case h5::Element::f32:
      return converted<float, To>(file, path);
    case h5::Element::f64:
      return converted<double, To>(file, path);
    case h5::Element::i32:
      return converted<std::int32_t, To>(file, path);
    case h5::Element::i64:
      return converted<std::int64_t, To>(file, path);
    default:
      return converted<std::uint8_t, To>(file, path);
  }
}

template <class List, class To>
std::vector<List> rows_as(const h5::File& file, const Column& column) {
  const auto values = values_as<To>(file, column);
  const auto offsets = file.get<std::int64_t>(offsets_path(column));
  std::vector<List> rows;
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
    rows.emplace_back(values.begin() + offsets[i], values.begin() + offsets[i + 1]);
  }
  return rows;
}

bool real(ColumnType type) {
  const h5::Element element = element_of(type);
  return element == h5::Element::f32 || element == h5::Element::f64;
}

}  // namespace

struct HistoryReader::State {
  HistoryFile file;
  TableRows rows;
};

HistoryReader::HistoryReader(const std::filesystem::path& file) {
  HistoryFile history = HistoryFile::open(file);
  const TableRows rows = history.rows();
  state_ = std::make_unique<State>(State{std::move(history), rows});
}
HistoryReader::HistoryReader(HistoryReader&&) noexcept = default;
HistoryReader::~HistoryReader() = default;

std::int64_t HistoryReader::rows(std::size_t table_number) const {
  return state_->rows.at(table_number);
}

std::vector<double> HistoryReader::reals(Dataset column) const {
  const Column& which = column.column();
  if (ragged(which.type)) wrong(column, "one number per row");
  return values_as<double>(state_->file.h5(), which);
}

std::vector<std::int64_t> HistoryReader::integers(Dataset column) const {
  const Column& which = column.column();
  if (ragged(which.type) || real(which.type)) wrong(column, "one integer per row");
  return values_as<std::int64_t>(state_->file.h5(), which);
}

std::vector<std::string> HistoryReader::texts(Dataset column) const {
  if (column.column().type != ColumnType::str) wrong(column, "a text");
  return rows_as<std::string, char>(state_->file.h5(), column.column());
}

std::vector<std::vector<double>> HistoryReader::real_lists(Dataset column) const {
  const Column& which = column.column();
  if (!ragged(which.type) || which.type == ColumnType::str) wrong(column, "a list");
  return rows_as<std::vector<double>, double>(state_->file.h5(), which);
}

std::vector<std::vector<std::int64_t>> HistoryReader::integer_lists(Dataset column) const {
  const Column& which = column.column();
  const bool integer_list =
      which.type == ColumnType::list_i32 || which.type == ColumnType::list_i64;
  if (!integer_list) wrong(column, "a list of integers");
  return rows_as<std::vector<std::int64_t>, std::int64_t>(state_->file.h5(), which);
}

std::string HistoryReader::attribute(const std::string& name) const {
  return state_->file.h5().text_attribute("/", name);
}

}  // namespace fst
