#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "fst/store/schema.h"

namespace fst {

/// One row of a table, filled column by column:
///
///   Row row(table_number("population"));
///   row.set(dataset("/population/step"), step).set(dataset("/population/slot"), 0)...;
///   history.append(row);
///
/// A column of another table, a second value for a column, a value of the wrong kind or out of the
/// column's range throws Error. Integers may go to floating columns, not the other way round; f32
/// columns round.
class Row {
 public:
  explicit Row(std::size_t table_number);

  template <std::integral T>
  Row& set(Dataset column, T value) {
    return set_integer(column, static_cast<std::int64_t>(value));
  }
  template <std::floating_point T>
  Row& set(Dataset column, T value) {
    return set_real(column, static_cast<double>(value));
  }
  Row& set(Dataset column, std::string_view text);
  Row& set(Dataset column, const char* text) { return set(column, std::string_view(text)); }
  Row& set(Dataset column, std::span<const std::int32_t> list);
  Row& set(Dataset column, std::span<const std::int64_t> list);
  Row& set(Dataset column, std::span<const float> list);
  Row& set(Dataset column, std::span<const double> list);
  template <class T>
  Row& set(Dataset column, const std::vector<T>& list) {
    return set(column, std::span<const T>(list));
  }

  std::size_t table_number() const { return table_; }
  /// The bytes of each column as stored, in schema order. Throws Error naming a column not set.
  const std::vector<std::vector<std::byte>>& cells() const;

 private:
  Row& set_integer(Dataset column, std::int64_t value);
  Row& set_real(Dataset column, double value);
  Row& put(Dataset column, ColumnType type, const void* bytes, std::size_t count);
  std::size_t place(Dataset column);

  std::size_t table_;
  std::vector<bool> is_set_;
  std::vector<std::vector<std::byte>> cells_;
};

}  // namespace fst
