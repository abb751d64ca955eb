#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "fst/base/error.h"

namespace fst {

static_assert(std::endian::native == std::endian::little, "packed bytes are little-endian");

class Packer;
class Unpacker;

/// A value that can travel: `pack` writes all fields, `unpack` reads them in the same order.
template <class T>
concept Message = requires(const T& value, Packer& packer, Unpacker& unpacker) {
  value.pack(packer);
  { T::unpack(unpacker) } -> std::same_as<T>;
};

/// Numbers and enums; never structs, whose padding is undefined.
template <class T>
concept Plain = std::is_arithmetic_v<T> || std::is_enum_v<T>;

/// Builds bytes: little-endian numbers; texts and lists behind a 64-bit length.
class Packer {
 public:
  template <Plain T>
  void put(T value) {
    append(&value, sizeof value);
  }
  void put(std::string_view text) {
    put(static_cast<std::uint64_t>(text.size()));
    append(text.data(), text.size());
  }
  void put(const char* text) { put(std::string_view(text)); }
  template <Message T>
  void put(const T& message) {
    message.pack(*this);
  }
  template <class T>
  void put(const std::vector<T>& list) {
    put(static_cast<std::uint64_t>(list.size()));
    if constexpr (Plain<T> && !std::same_as<T, bool>) {
      append(list.data(), list.size() * sizeof(T));
    } else {
      for (const auto& item : list) put(static_cast<const T&>(item));
    }
  }

  std::span<const std::byte> bytes() const { return bytes_; }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  void append(const void* from, std::size_t count) {
    const auto* first = static_cast<const std::byte*>(from);
    bytes_.insert(bytes_.end(), first, first + count);
  }
  std::vector<std::byte> bytes_;
};

/// Reads what Packer wrote. Throws Error where the bytes end early; never reads beyond them.
class Unpacker {
 public:
  explicit Unpacker(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <Plain T>
  T get() {
    T value;
    std::memcpy(&value, next(sizeof(T)).data(), sizeof(T));
    return value;
  }
  template <class T>
  requires std::same_as<T, std::string> T get() {
    const auto text = next(length(1));
    return std::string(reinterpret_cast<const char*>(text.data()), text.size());
  }
  template <Message T>
  T get() {
    return T::unpack(*this);
  }
  template <class T>
  requires std::same_as<T, std::vector<typename T::value_type>> T get() {
    using Item = typename T::value_type;
    T list;
    if constexpr (Plain<Item> && !std::same_as<Item, bool>) {
      const std::size_t count = length(sizeof(Item));
      list.resize(count);
      const auto from = next(count * sizeof(Item));
      if (count > 0) std::memcpy(list.data(), from.data(), from.size());
    } else {
      const std::size_t count = length(1);  // an item has at least one byte
      for (std::size_t i = 0; i < count; ++i) list.push_back(get<Item>());
    }
    return list;
  }

  bool done() const { return bytes_.empty(); }
  /// Throws Error if bytes are left: sender and receiver disagree about the format.
  void expect_done() const {
    if (!done()) throw Error("unpack: " + std::to_string(bytes_.size()) + " bytes left over");
  }

 private:
  std::size_t length(std::size_t item_bytes) {
    const auto count = get<std::uint64_t>();
    if (count > bytes_.size() / item_bytes) short_by(count);
    return static_cast<std::size_t>(count);
  }
  std::span<const std::byte> next(std::size_t count) {
    if (count > bytes_.size()) short_by(count);
    const auto head = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return head;
  }
  [[noreturn]] void short_by(std::uint64_t wanted) const {
    throw Error("unpack: " + std::to_string(wanted) + " items or bytes expected, " +
                std::to_string(bytes_.size()) + " bytes left");
  }
  std::span<const std::byte> bytes_;
};

}  // namespace fst
