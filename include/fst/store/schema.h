#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace fst {

/// Raised when columns change meaning in a way that names and types do not show.
inline constexpr std::int64_t schema_version = 1;

enum class ColumnType : std::uint8_t {
  f32,
  f64,
  i32,
  i64,
  u8,
  str,
  list_i32,
  list_i64,
  list_f32,
  list_f64
};
/// As in schema.def: "f32", "list_i64", ...
std::string_view name_of(ColumnType type);
/// str and list_*: stored as values and offsets.
constexpr bool ragged(ColumnType type) {
  return type >= ColumnType::str;
}

/// Whether something is a function of the deck and enters the digest, or is only reported.
enum class DigestUse : std::uint8_t { digest, report };

/// One line of schema.def.
struct Column {
  std::string_view path;
  ColumnType type;
  std::string_view dims, unit, meaning;
  DigestUse use;

  constexpr std::string_view table() const { return path.substr(1, path.find('/', 1) - 1); }
  constexpr std::string_view name() const { return path.substr(path.find('/', 1) + 1); }
};

inline constexpr auto columns = std::to_array<Column>({
#define FST_DATASET(path, type, dims, unit, meaning, use) \
  {path, ColumnType::type, dims, unit, meaning, DigestUse::use},
#include "fst/store/schema.def"
#undef FST_DATASET
});

/// A column by its place in `columns`; made only by dataset().
struct Dataset {
  std::size_t index;
  constexpr const Column& column() const { return columns[index]; }
};

namespace detail {
consteval std::size_t find_column(std::string_view path) {
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (columns[i].path == path) return i;
  }
  throw "no such dataset in schema.def";  // not a constant expression: does not compile
}
}  // namespace detail

/// dataset("/step/grad_norm"); a path that is not in schema.def does not compile.
consteval Dataset dataset(std::string_view path) {
  return {detail::find_column(path)};
}

/// The columns [begin, end) that share a first path component; one row sets them all.
struct Table {
  std::size_t begin, end;
  constexpr std::string_view name() const { return columns[begin].table(); }
  constexpr std::size_t size() const { return end - begin; }
  friend constexpr bool operator==(const Table&, const Table&) = default;
};

namespace detail {
consteval std::size_t count_tables() {
  std::size_t count = 0;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (i == 0 || columns[i].table() != columns[i - 1].table()) ++count;
  }
  return count;
}
template <std::size_t Count>
consteval std::array<Table, Count> make_tables() {
  std::array<Table, Count> found{};
  std::size_t count = 0;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (i == 0 || columns[i].table() != columns[i - 1].table()) {
      for (std::size_t k = 0; k < count; ++k) {
        if (found[k].name() == columns[i].table()) throw "lines of a table must stand together";
      }
      found[count++] = {i, i};
    }
    found[count - 1].end = i + 1;
  }
  return found;
}
}  // namespace detail

inline constexpr auto tables = detail::make_tables<detail::count_tables()>();

/// The number of a table in `tables`; table_number("step") does not compile if misspelt.
consteval std::size_t table_number(std::string_view name) {
  for (std::size_t i = 0; i < tables.size(); ++i) {
    if (tables[i].name() == name) return i;
  }
  throw "no such table in schema.def";
}

}  // namespace fst
