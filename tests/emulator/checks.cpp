#include "checks.h"

#include <algorithm>
#include <cstring>

#include "machine.h"

extern "C" const char __executable_start, _end;  // of the program's own code, constants and globals

namespace fst::emulator {
namespace {

struct Checks {
  bool on = false;
  Stamp now = 1;
  Stamp launch_began = 0, block_began = 0;
  Stamp known_to_block = 0;
  std::vector<Stamp> known_to_warp, thread_time;
  std::vector<Byte> shared;
  struct Began {
    Stamp at;
    uint3 block;
  };
  std::vector<Began> blocks;  // of the launch
};

Checks& checks() {
  static Checks instance;
  return instance;
}

/// An access under judgement.
struct Judged {
  Access access;
  unsigned thread, warp;
  bool in_shared;
};

/// What is to be said of a conflict; nullptr: there is none.
using Conflict = const char*;

bool ordered(const Checks& c, const Judged& j, Stamp stamp, std::uint16_t who) {
  if (stamp <= c.known_to_block) return true;
  if (who == many_warps) return false;
  const bool several = (who & lanes_of) != 0;
  const unsigned warp = several ? who & ~lanes_of : who / 32u;
  if (!several && who == j.thread) return true;
  return warp == j.warp && stamp <= c.known_to_warp[warp];
}

bool of_other_block(const Checks& c, const Judged& j, Stamp stamp) {
  return !j.in_shared && stamp > c.launch_began && stamp <= c.block_began;
}

std::string who_is(const Checks& c, Stamp stamp, std::uint16_t who) {
  std::string text;
  if (who == many_warps) {
    text = "threads of several warps";
  } else if ((who & lanes_of) != 0) {
    text = "lanes of warp " + std::to_string(who & ~lanes_of);
  } else {
    text = "thread " + std::to_string(who);
  }
  if (stamp > c.block_began) return text;
  const auto after = std::find_if(c.blocks.begin(), c.blocks.end(),
                                  [&](const Checks::Began& b) { return b.at >= stamp; });
  const uint3 block = std::prev(after)->block;
  return text + " of block (" + std::to_string(block.x) + "," + std::to_string(block.y) + "," +
         std::to_string(block.z) + ")";
}

[[noreturn]] void report_access(const std::string& what, const Judged& j, const void* address,
                                std::size_t bytes, const std::string& conflict, const void* code) {
  const char* const verb = j.access == Access::read    ? " reads "
                           : j.access == Access::write ? " writes "
                                                       : " changes ";
  fail(what + ":" + verb + std::to_string(bytes) + " bytes at " + describe_address(address) +
           conflict,
       code);
}

/// The race between this access and the byte's last write or reads, in words; "" where there is
/// none.
std::string race_of(const Checks& c, const Judged& j, const Byte& byte) {
  const bool both_atomic = byte.atomic && j.access == Access::atomic;
  if (byte.written != 0 && !both_atomic) {
    if (of_other_block(c, j, byte.written) ||
        (byte.written > c.block_began && !ordered(c, j, byte.written, byte.writer))) {
      return ", which " + who_is(c, byte.written, byte.writer) + " wrote";
    }
  }
  if (j.access == Access::read) return "";
  if (of_other_block(c, j, byte.read))
    return ", which " + who_is(c, byte.read, byte.reader) + " read";
  if (of_other_block(c, j, byte.read_by_other_block)) return ", which another block read";
  if (byte.read > c.block_began && !ordered(c, j, byte.read, byte.reader)) {
    return ", which " + who_is(c, byte.read, byte.reader) + " read";
  }
  return "";
}

void note_read(const Checks& c, const Judged& j, Byte& byte) {
  const Stamp time = c.thread_time[j.thread];
  const auto thread = static_cast<std::uint16_t>(j.thread);
  if (of_other_block(c, j, byte.read)) byte.read_by_other_block = byte.read;
  if (byte.read <= c.block_began || ordered(c, j, byte.read, byte.reader)) {
    byte.reader = thread;
  } else {
    const bool several = (byte.reader & lanes_of) != 0;
    const unsigned warp = several ? byte.reader & ~lanes_of : byte.reader / 32u;
    byte.reader = byte.reader != many_warps && warp == j.warp
                      ? static_cast<std::uint16_t>(lanes_of | warp)
                      : many_warps;
  }
  byte.read = std::max(time, byte.read);
}

void judge(const Checks& c, const Judged& j, Byte* history, const void* address, std::size_t bytes,
           const void* code) {
  for (std::size_t i = 0; i < bytes; ++i) {
    Byte& byte = history[i];
    const auto* const at = static_cast<const unsigned char*>(address) + i;
    if (byte.landing) {
      report_access("race", j, at, bytes - i, ", where an asynchronous copy is under way", code);
    }
    if (byte.leaving > 0 && j.access != Access::read) {
      report_access("race", j, at, bytes - i, ", from where an asynchronous copy is under way",
                    code);
    }
    if (!byte.initialised && j.access != Access::write) {
      report_access("uninitialised read", j, at, bytes - i, "", code);
    }
    const std::string race = race_of(c, j, byte);
    if (!race.empty()) {
      report_access("race", j, at, bytes - i, race + " with no barrier between", code);
    }
    if (j.access == Access::read) {
      note_read(c, j, byte);
    } else {
      byte.written = c.thread_time[j.thread];
      byte.writer = static_cast<std::uint16_t>(j.thread);
      byte.atomic = j.access == Access::atomic;
      byte.initialised = true;
      byte.read = 0;
    }
  }
}

}  // namespace

bool enable_checks() {
  return checks().on = true;
}
bool checking() {
  return checks().on;
}

void check_access(const void* address, std::size_t bytes, Access access, const void* code) {
  if (own_stack_holds(address, bytes)) return;
  Checks& c = checks();
  Judged j{access, current_thread(), current_thread() / 32, false};
  const Pages& shared = shared_pages();
  if (shared.holds(address, bytes)) {
    j.in_shared = true;
    const std::ptrdiff_t offset = static_cast<const unsigned char*>(address) - shared.start;
    return judge(c, j, c.shared.data() + offset, address, bytes, code);
  }
  if (const Pages* const pages = find_allocation(address, bytes)) {
    const std::ptrdiff_t offset = static_cast<const unsigned char*>(address) - pages->start;
    return judge(c, j, pages->history.data() + offset, address, bytes, code);
  }
  const auto* const byte = static_cast<const char*>(address);
  const bool constant = byte >= &__executable_start && byte + bytes <= &_end;
  if (access == Access::read && (constant || arguments_hold(address, bytes))) return;
  report_access("out of bounds", j, address, bytes, "", code);
}

void mark_copy(const void* to, const void* from, std::size_t bytes, bool begins) {
  Byte* const landing =
      checks().shared.data() + (static_cast<const unsigned char*>(to) - shared_pages().start);
  for (std::size_t i = 0; i < bytes; ++i) landing[i].landing = begins;
  if (from == nullptr) return;
  const Pages* const source = find_allocation(from, bytes);
  Byte* const leaving =
      source->history.data() + (static_cast<const unsigned char*>(from) - source->start);
  for (std::size_t i = 0; i < bytes; ++i) {
    leaving[i].leaving = static_cast<std::uint16_t>(leaving[i].leaving + (begins ? 1 : -1));
  }
}

void check_launch_begins() {
  Checks& c = checks();
  c.launch_began = c.now++;
  c.blocks.clear();
}

void check_block_begins(unsigned threads, std::size_t shared_bytes) {
  Checks& c = checks();
  c.block_began = c.known_to_block = c.now++;
  c.blocks.push_back({c.block_began, blockIdx});
  c.known_to_warp.assign(threads / 32, c.block_began);
  c.thread_time.assign(threads, c.now);
  c.shared.assign(shared_bytes, {});
}

void check_block_synced() {
  Checks& c = checks();
  c.known_to_block = c.now++;
  std::fill(c.thread_time.begin(), c.thread_time.end(), c.now);
}

void check_warp_synced(unsigned warp) {
  Checks& c = checks();
  c.known_to_warp[warp] = c.now++;
  std::fill_n(c.thread_time.begin() + 32 * std::ptrdiff_t{warp}, 32, c.now);
}

void mark_initialised(const void* address, std::size_t bytes) {
  if (!checking()) return;
  const Pages* const pages = find_allocation(address, bytes);
  const std::ptrdiff_t offset = static_cast<const unsigned char*>(address) - pages->start;
  for (std::size_t i = 0; i < bytes; ++i) {
    pages->history[static_cast<std::size_t>(offset) + i].initialised = true;
  }
}

void copy_initialised(void* to, const void* from, std::size_t bytes) {
  if (!checking()) return;
  const Pages* const target = find_allocation(to, bytes);
  const Pages* const source = find_allocation(from, bytes);
  Byte* const t = target->history.data() + (static_cast<unsigned char*>(to) - target->start);
  const Byte* const s =
      source->history.data() + (static_cast<const unsigned char*>(from) - source->start);
  for (std::size_t i = 0; i < bytes; ++i) t[i].initialised = s[i].initialised;
}

}  // namespace fst::emulator
