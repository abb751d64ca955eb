#include "fst/store/row.h"

#include <cmath>
#include <limits>
#include <string>

#include "fst/base/error.h"
#include "fst/store/checksum.h"

#include "column.h"

namespace fst {

namespace {

[[noreturn]] void wrong(Dataset column, const std::string& why) {
  throw Error("row: " + std::string(column.column().path) + " (" +
              std::string(name_of(column.column().type)) + "): " + why);
}

}  // namespace

std::uint64_t schema_fingerprint() {
  std::string text = std::to_string(schema_version);
  for (const Column& column : columns) {
    text.append("\n").append(column.path).append(" ").append(name_of(column.type));
  }
  return hash64(std::as_bytes(std::span(text)));
}

Row::Row(std::size_t table_number) : table_(table_number) {
  if (table_ >= tables.size()) throw Error("row: no table number " + std::to_string(table_));
  is_set_.resize(tables[table_].size());
  cells_.resize(tables[table_].size());
}

std::size_t Row::place(Dataset column) {
  const Table& table = tables[table_];
  if (column.index < table.begin || column.index >= table.end) {
    wrong(column, "is not a column of table " + std::string(table.name()));
  }
  const std::size_t i = column.index - table.begin;
  if (is_set_[i]) wrong(column, "is set twice");
  is_set_[i] = true;
  return i;
}

Row& Row::put(Dataset column, ColumnType type, const void* bytes, std::size_t count) {
  const ColumnType wanted = column.column().type;
  if (type != wanted) wrong(column, "was given " + std::string(name_of(type)));
  const auto* first = static_cast<const std::byte*>(bytes);
  cells_[place(column)].assign(first, first + count);
  return *this;
}

Row& Row::set_integer(Dataset column, std::int64_t value) {
  const auto fits = [&](std::int64_t least, std::int64_t most) {
    if (value < least || value > most) wrong(column, std::to_string(value) + " is out of range");
  };
  switch (column.column().type) {
    case ColumnType::i64:
      return put(column, ColumnType::i64, &value, sizeof value);
    case ColumnType::i32: {
      fits(std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max());
      const auto narrow = static_cast<std::int32_t>(value);
      return put(column, ColumnType::i32, &narrow, sizeof narrow);
    }
    case ColumnType::u8: {
      fits(0, std::numeric_limits<std::uint8_t>::max());
      const auto narrow = static_cast<std::uint8_t>(value);
      return put(column, ColumnType::u8, &narrow, sizeof narrow);
    }
    case ColumnType::f32:
    case ColumnType::f64:
      return set_real(column, static_cast<double>(value));
    default:
      wrong(column, "was given a number");
  }
}

Row& Row::set_real(Dataset column, double value) {
  if (column.column().type == ColumnType::f64) {
    return put(column, ColumnType::f64, &value, sizeof value);
  }
  const auto narrow = static_cast<float>(value);
  return put(column, ColumnType::f32, &narrow, sizeof narrow);
}

Row& Row::set(Dataset column, std::string_view text) {
  return put(column, ColumnType::str, text.data(), text.size());
}
Row& Row::set(Dataset column, std::span<const std::int32_t> list) {
  return put(column, ColumnType::list_i32, list.data(), list.size_bytes());
}
Row& Row::set(Dataset column, std::span<const std::int64_t> list) {
  return put(column, ColumnType::list_i64, list.data(), list.size_bytes());
}
Row& Row::set(Dataset column, std::span<const float> list) {
  return put(column, ColumnType::list_f32, list.data(), list.size_bytes());
}
Row& Row::set(Dataset column, std::span<const double> list) {
  return put(column, ColumnType::list_f64, list.data(), list.size_bytes());
}

const std::vector<std::vector<std::byte>>& Row::cells() const {
  for (std::size_t i = 0; i < is_set_.size(); ++i) {
    if (!is_set_[i]) wrong({tables[table_].begin + i}, "is not set");
  }
  return cells_;
}

}  // namespace fst
