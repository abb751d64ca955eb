#include "fst/store/schema.h"

namespace fst {

std::string_view name_of(ColumnType type) {
  constexpr std::string_view names[] = {"f32", "f64",      "i32",      "i64",      "u8",
                                        "str", "list_i32", "list_i64", "list_f32", "list_f64"};
  return names[static_cast<std::size_t>(type)];
}

}  // namespace fst
