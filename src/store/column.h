#pragma once

#include <cstddef>
#include <string>

#include "fst/store/h5.h"
#include "fst/store/schema.h"

namespace fst {

/// What a value (or an entry of a list) is stored as.
constexpr h5::Element element_of(ColumnType type) {
  switch (type) {
    case ColumnType::f32:
    case ColumnType::list_f32:
      return h5::Element::f32;
    case ColumnType::f64:
    case ColumnType::list_f64:
      return h5::Element::f64;
    case ColumnType::i32:
    case ColumnType::list_i32:
      return h5::Element::i32;
    case ColumnType::i64:
    case ColumnType::list_i64:
      return h5::Element::i64;
    case ColumnType::u8:
    case ColumnType::str:
      return h5::Element::u8;
  }
  return h5::Element::other;
}

/// Where a column's values are, and the ends of its rows if it is ragged.
inline std::string values_path(const Column& column) {
  return std::string(column.path) + (ragged(column.type) ? "/values" : "");
}
inline std::string offsets_path(const Column& column) {
  return std::string(column.path) + "/offsets";
}

/// A number for the names and types of all columns, so that files of another schema are recognised.
std::uint64_t schema_fingerprint();

}  // namespace fst
