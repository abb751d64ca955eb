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
  // Where barriers order threads one by one: what each knows of each; the readers of shared memory
  // by warp.
  std::vector<std::vector<Stamp>> known;
  struct Reader {
    Stamp at;
    std::uint16_t who;
  };
  std::unordered_map<const Record*, std::vector<Reader>> readers;
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

unsigned warp_of(std::uint16_t who) {
  return (who & lanes_of) != 0 ? who & ~lanes_of : who / 32u;
}

/// Whether the thread knows of all that `who` did until `stamp`, by barriers that they met at.
bool known_by_barriers(const Checks& c, const Judged& j, Stamp stamp, std::uint16_t who) {
  if (c.known.empty()) return false;
  const std::vector<Stamp>& known = c.known[j.thread];
  if ((who & lanes_of) == 0) return known[who] >= stamp;
  const auto first = known.begin() + 32 * std::ptrdiff_t{warp_of(who)};
  return std::all_of(first, first + 32, [&](Stamp lane) { return lane >= stamp; });
}

bool ordered(const Checks& c, const Judged& j, Stamp stamp, std::uint16_t who) {
  if (stamp <= c.known_to_block || who == j.thread) return true;
  if (who == many_warps) return false;
  if (warp_of(who) == j.warp && stamp <= c.known_to_warp[j.warp]) return true;
  return known_by_barriers(c, j, stamp, who);
}

/// As ordered(), of all who have read a record.
bool reads_ordered(const Checks& c, const Judged& j, const Record& record) {
  if (record.reader != many_warps) return ordered(c, j, record.read, record.reader);
  if (record.read <= c.known_to_block) return true;
  const auto found = c.readers.find(&record);
  return found != c.readers.end() &&
         std::all_of(found->second.begin(), found->second.end(), [&](const Checks::Reader& reader) {
           return ordered(c, j, reader.at, reader.who);
         });
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
                                std::size_t bytes, const std::string& conflict,
                                const Origin& origin) {
  const char* const verb = j.access == Access::read    ? " reads "
                           : j.access == Access::write ? " writes "
                                                       : " changes ";
  fail(what + ":" + verb + std::to_string(bytes) + " bytes at " + describe_address(address) +
           conflict + (origin.place == nullptr ? "" : " at " + text_of(*origin.place)),
       origin.code);
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
  return record.read > c.block_began && !reads_ordered(c, j, record);
}

/// Where barriers are used: who of each warp read a record of shared memory last.
void note_reader_of_warp(Checks& c, const Judged& j, const Record& record, bool first) {
  std::vector<Checks::Reader>& readers = c.readers[&record];
  if (first) readers.assign(1, {record.read, record.reader});
  const Stamp time = c.thread_time[j.thread];
  const auto thread = static_cast<std::uint16_t>(j.thread);
  const auto same = std::find_if(readers.begin(), readers.end(), [&](const Checks::Reader& reader) {
    return warp_of(reader.who) == j.warp;
  });
  if (same == readers.end()) {
    readers.push_back({time, thread});
  } else {
    const bool replaced = ordered(c, j, same->at, same->who);
    *same = {time, replaced ? thread : static_cast<std::uint16_t>(lanes_of | j.warp)};
  }
}

void note_read(Checks& c, const Judged& j, Record& record) {
  const Stamp time = c.thread_time[j.thread];
  const auto thread = static_cast<std::uint16_t>(j.thread);
  if (of_other_block(c, j, record.read)) record.read_by_other_block = record.read;
  if (record.read <= c.block_began || reads_ordered(c, j, record)) {
    record.reader = thread;
  } else if (record.reader != many_warps && warp_of(record.reader) == j.warp) {
    record.reader = static_cast<std::uint16_t>(lanes_of | j.warp);
  } else {
    if (j.in_shared && !c.known.empty()) {
      note_reader_of_warp(c, j, record, record.reader != many_warps);
    }
    record.reader = many_warps;
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

void judge(Checks& c, const Judged& j, History& history, const unsigned char* start,
           const void* address, std::size_t bytes, const Origin& origin) {
  const auto offset = static_cast<std::size_t>(static_cast<const unsigned char*>(address) - start);
  history.visit(offset, bytes, [&](Record& record, std::size_t at) {
    if (record.landing || (record.leaving > 0 && j.access != Access::read) ||
        conflicts_with_write(c, j, record) || conflicts_with_read(c, j, record)) {
      report_access("race", j, start + at, offset + bytes - at, complaint(c, j, record), origin);
    }
    if (!record.initialised && j.access != Access::write) {
      report_access("uninitialised read", j, start + at, offset + bytes - at, "", origin);
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

void join(std::vector<Stamp>& to, const std::vector<Stamp>& from) {
  for (std::size_t t = 0; t < from.size(); ++t) to[t] = std::max(to[t], from[t]);
}

}  // namespace

bool enable_checks() {
  return checks_on = true;
}
bool checking() {
  return checks_on;
}

void check_access(const void* address, std::size_t bytes, Access access, const Origin& origin) {
  Checks& c = checks();
  Judged j{access, current_thread(), current_thread() / 32, false};
  const Pages& shared = shared_pages();
  if (shared.holds(address, bytes)) {
    j.in_shared = true;
    return judge(c, j, c.shared, shared.start, address, bytes, origin);
  }
  if (const Pages* const pages = find_allocation(address, bytes)) {
    return judge(c, j, pages->history, pages->start, address, bytes, origin);
  }
  const auto* const byte = static_cast<const char*>(address);
  const bool constant = byte >= &__executable_start && byte + bytes <= &_end;
  if (access == Access::read && (constant || arguments_hold(address, bytes))) return;
  report_access("out of bounds", j, address, bytes, "", origin);
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
  c.known.clear();
  c.readers.clear();
}

std::vector<Stamp> check_barriers_begin() {
  Checks& c = checks();
  const std::size_t threads = c.thread_time.size();
  if (c.known.empty()) c.known.assign(threads, std::vector<Stamp>(threads));
  return std::vector<Stamp>(threads);
}

Stamp check_time_passes() {
  Checks& c = checks();
  ++c.now;
  return std::exchange(c.thread_time[current_thread()], c.now);
}

void check_release(std::vector<Stamp>& brought) {
  const Checks& c = checks();
  const unsigned thread = current_thread(), warp = thread / 32;
  join(brought, c.known[thread]);
  for (unsigned t = 32 * warp; t < 32 * warp + 32; ++t) {
    brought[t] = std::max(brought[t], c.known_to_warp[warp]);
  }
  brought[thread] = std::max(brought[thread], check_time_passes());
}

void check_acquire(const std::vector<Stamp>& brought) {
  join(checks().known[current_thread()], brought);
}

void check_block_synced() {
  Checks& c = checks();
  c.known_to_block = c.now++;
  std::fill(c.thread_time.begin(), c.thread_time.end(), c.now);
}

void check_warp_synced(unsigned warp) {
  Checks& c = checks();
  if (!c.known.empty()) {
    std::vector<Stamp> all(c.known.size());
    for (unsigned t = 32 * warp; t < 32 * warp + 32; ++t) join(all, c.known[t]);
    for (unsigned t = 32 * warp; t < 32 * warp + 32; ++t) c.known[t] = all;
  }
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
