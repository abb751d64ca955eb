#include "checks.h"

#include <algorithm>
#include <cstring>

#include "machine.h"

extern "C" const char __executable_start, _end;  // of the program's own code, constants and globals

namespace fst::emulator {
namespace {

struct Checks {
  Stamp now = 1;
  Stamp launch_began = 0, block_began = 0;
  Stamp known_to_block = 0;
  std::vector<Stamp> known_to_warp, thread_time;
  History shared;
  struct Began {
    Stamp at;
    uint3 block;
  };
  std::vector<Began> blocks;  // of the launch
};

Checks the_checks;
Checks& checks() {
  return the_checks;
}
bool checks_on = false;  // set before main()

/// An access under judgement.
struct Judged {
  Access access;
  unsigned thread, warp;
  bool in_shared;
};

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

bool conflicts_with_write(const Checks& c, const Judged& j, const Record& record) {
  if (record.written <= c.launch_began) return false;
  if (record.atomic && j.access == Access::atomic) return false;
  if (record.written <= c.block_began) return !j.in_shared;  // by another block
  return !ordered(c, j, record.written, record.writer);
}

bool conflicts_with_read(const Checks& c, const Judged& j, const Record& record) {
  if (j.access == Access::read) return false;
  if (of_other_block(c, j, record.read) || of_other_block(c, j, record.read_by_other_block)) {
    return true;
  }
  return record.read > c.block_began && !ordered(c, j, record.read, record.reader);
}

void note_read(const Checks& c, const Judged& j, Record& record) {
  const Stamp time = c.thread_time[j.thread];
  const auto thread = static_cast<std::uint16_t>(j.thread);
  if (of_other_block(c, j, record.read)) record.read_by_other_block = record.read;
  if (record.read <= c.block_began || ordered(c, j, record.read, record.reader)) {
    record.reader = thread;
  } else {
    const bool several = (record.reader & lanes_of) != 0;
    const unsigned warp = several ? record.reader & ~lanes_of : record.reader / 32u;
    record.reader = record.reader != many_warps && warp == j.warp
                        ? static_cast<std::uint16_t>(lanes_of | warp)
                        : many_warps;
  }
  record.read = std::max(time, record.read);
}

/// What is wrong with the access; "" if nothing.
std::string complaint(const Checks& c, const Judged& j, const Record& record) {
  const auto race = [&](Stamp stamp, std::uint16_t who, const char* did) {
    return ", which " + who_is(c, stamp, who) + did + " with no barrier between";
  };
  if (record.landing) return ", where an asynchronous copy is under way";
  if (record.leaving > 0 && j.access != Access::read) {
    return ", from where an asynchronous copy is under way";
  }
  if (conflicts_with_write(c, j, record)) return race(record.written, record.writer, " wrote");
  if (of_other_block(c, j, record.read_by_other_block)) return ", which another block read";
  if (conflicts_with_read(c, j, record)) return race(record.read, record.reader, " read");
  return "";
}

void judge(const Checks& c, const Judged& j, History& history, const unsigned char* start,
           const void* address, std::size_t bytes, const void* code) {
  const auto offset = static_cast<std::size_t>(static_cast<const unsigned char*>(address) - start);
  history.visit(offset, bytes, [&](Record& record, std::size_t at) {
    if (record.landing || (record.leaving > 0 && j.access != Access::read) ||
        conflicts_with_write(c, j, record) || conflicts_with_read(c, j, record)) {
      report_access("race", j, start + at, offset + bytes - at, complaint(c, j, record), code);
    }
    if (!record.initialised && j.access != Access::write) {
      report_access("uninitialised read", j, start + at, offset + bytes - at, "", code);
    }
    if (j.access == Access::read) {
      note_read(c, j, record);
    } else {
      record.written = c.thread_time[j.thread];
      record.writer = static_cast<std::uint16_t>(j.thread);
      record.atomic = j.access == Access::atomic;
      record.initialised = true;
      record.read = 0;
    }
  });
}

/// visit(record) for bytes of device memory.
template <class Visit>
void visit_device(const void* address, std::size_t bytes, const Visit& visit) {
  const Pages* const pages = find_allocation(address, bytes);
  const auto* const first = static_cast<const unsigned char*>(address);
  pages->history.visit(static_cast<std::size_t>(first - pages->start), bytes,
                       [&](Record& record, std::size_t) { visit(record); });
}

}  // namespace

bool enable_checks() {
  return checks_on = true;
}
bool checking() {
  return checks_on;
}

void check_access(const void* address, std::size_t bytes, Access access, const void* code) {
  Checks& c = checks();
  Judged j{access, current_thread(), current_thread() / 32, false};
  const Pages& shared = shared_pages();
  if (shared.holds(address, bytes)) {
    j.in_shared = true;
    return judge(c, j, c.shared, shared.start, address, bytes, code);
  }
  if (const Pages* const pages = find_allocation(address, bytes)) {
    return judge(c, j, pages->history, pages->start, address, bytes, code);
  }
  const auto* const byte = static_cast<const char*>(address);
  const bool constant = byte >= &__executable_start && byte + bytes <= &_end;
  if (access == Access::read && (constant || arguments_hold(address, bytes))) return;
  report_access("out of bounds", j, address, bytes, "", code);
}

void mark_copy(const void* to, const void* from, std::size_t bytes, bool begins) {
  const auto* const first = static_cast<const unsigned char*>(to);
  checks().shared.visit(static_cast<std::size_t>(first - shared_pages().start), bytes,
                        [&](Record& record, std::size_t) { record.landing = begins; });
  if (from == nullptr) return;
  visit_device(from, bytes, [&](Record& record) {
    record.leaving = static_cast<std::uint16_t>(record.leaving + (begins ? 1 : -1));
  });
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
  c.shared.reset(shared_bytes);
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
  visit_device(address, bytes, [](Record& record) { record.initialised = true; });
}

void copy_initialised(void* to, const void* from, std::size_t bytes) {
  if (!checking()) return;
  for (std::size_t done = 0; done < bytes;) {
    std::size_t count = std::min<std::size_t>(4, bytes - done);
    bool initialised = false;
    int records = 0;
    const auto read = [&](const Record& record) {
      initialised = record.initialised;
      ++records;
    };
    visit_device(static_cast<const char*>(from) + done, count, read);
    if (records > 1) visit_device(static_cast<const char*>(from) + done, count = 1, read);
    visit_device(static_cast<char*>(to) + done, count,
                 [&](Record& record) { record.initialised = initialised; });
    done += count;
  }
}

}  // namespace fst::emulator
