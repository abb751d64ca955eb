#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace fst::emulator {

/// Time is a number that every barrier advances: what happened up to the time of a barrier is known
/// to all who met there. 0: never.
using Stamp = std::uint32_t;

/// What happened to a byte, or to four that were always touched together.
struct Record {
  Stamp written = 0, read = 0;
  Stamp read_by_other_block = 0;  // the latest, where `read` is of the current block
  std::uint16_t writer = 0;       // thread
  std::uint16_t reader = 0;       // thread; or lanes_of | warp; or many_warps
  std::uint16_t leaving = 0;      // asynchronous copies under way from here
  bool initialised : 1 = false, atomic : 1 = false;
  bool landing : 1 = false;  // an asynchronous copy is under way to here
  bool split : 1 = false;    // the four bytes have records of their own
};
constexpr std::uint16_t lanes_of = 0x8000, many_warps = 0xffff;

/// The records of a piece of memory that begins at a multiple of four.
class History {
 public:
  void reset(std::size_t bytes) {
    words_.assign((bytes + 3) / 4, {});
    parts_.clear();
  }

  /// visit(record, offset) for all bytes in [offset, offset + bytes).
  template <class Visit>
  void visit(std::size_t offset, std::size_t bytes, const Visit& visit) {
    const std::size_t end = offset + bytes;
    for (std::size_t at = offset; at < end;) {
      Record& word = words_[at / 4];
      if (at % 4 == 0 && at + 4 <= end && !word.split) {
        visit(word, at);
        at += 4;
      } else {
        visit(part(word, at), at);
        ++at;
      }
    }
  }

 private:
  Record& part(Record& word, std::size_t at) {
    std::array<Record, 4>& parts = parts_[at / 4];
    if (!word.split) {
      parts.fill(word);
      word.split = true;
    }
    return parts[at % 4];
  }

  std::vector<Record> words_;
  std::unordered_map<std::size_t, std::array<Record, 4>> parts_;
};

}  // namespace fst::emulator
