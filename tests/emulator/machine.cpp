#include "machine.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace fst::emulator {
namespace {

using boost::context::detail::fcontext_t;
using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

constexpr std::size_t stack_bytes = 128 << 10;
constexpr unsigned warp_size = 32, group_size = 128;

enum class State { ready, waiting, exited };

struct Thread {
  fcontext_t context = nullptr;
  uint3 index{};
  State state = State::ready;
  const char* word = "";  // that it waits in
  Place place;
};

/// Where the threads of a warp, of a warp group or of the block wait for each other.
struct Meeting {
  unsigned first = 0, count = 0;  // threads that take part
  unsigned arrived = 0, earliest = 0;
};
struct Warp : Meeting {
  void* arguments[warp_size] = {};
};
struct Group : Meeting {
  void* arguments[group_size] = {};
};

struct Machine {
  const Launch* launch = nullptr;
  std::vector<Pages> stacks;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<Group> groups;
  Meeting block;
  ReadyThreads ready;
  bool running = false;
  Pages shared;
  fcontext_t main = nullptr;
  fcontext_t* leaving = nullptr;  // where the context just left is to be kept
};

Machine the_machine;
Machine& machine() {
  return the_machine;
}

void jump(fcontext_t to, fcontext_t* keep) {
  Machine& m = machine();
  m.leaving = keep;
  const transfer_t from = jump_fcontext(to, nullptr);
  *m.leaving = from.fctx;
}

std::string waiting_threads(const Machine& m) {
  std::string text;
  unsigned exited = 0;
  std::vector<bool> told(m.threads.size());
  for (unsigned t = 0; t < m.threads.size(); ++t) {
    const Thread& thread = m.threads[t];
    if (thread.state == State::exited) ++exited;
    if (thread.state != State::waiting || told[t]) continue;
    unsigned alike = 0;
    for (unsigned u = t; u < m.threads.size(); ++u) {
      if (m.threads[u].state != State::waiting) continue;
      if (text_of(m.threads[u].place) != text_of(thread.place)) continue;
      told[u] = true;
      ++alike;
    }
    text += (text.empty() ? "" : "; ") + std::to_string(alike) + " from thread " +
            std::to_string(t) + " on wait in " + thread.word + " at " + text_of(thread.place);
  }
  return text + "; " + std::to_string(exited) + " have exited";
}

/// The next thread to run, or fails where none can.
unsigned next_thread(Machine& m) {
  while (m.ready.empty() && land_a_load()) {
  }
  if (!m.ready.empty()) return m.ready.pop();
  note_failure("deadlock in block (" + std::to_string(blockIdx.x) + "," +
               std::to_string(blockIdx.y) + "," + std::to_string(blockIdx.z) +
               "): " + waiting_threads(m));
  abandon_launch();
}

void make_current(const Machine& m, unsigned thread) {
  current = {thread, m.stacks[thread].start, m.stacks[thread].start + stack_bytes};
  threadIdx = m.threads[thread].index;
}

void resume_next(fcontext_t* keep) {
  Machine& m = machine();
  const unsigned next = next_thread(m);
  const unsigned from = current.thread;
  make_current(m, next);
  if (next != from || keep == nullptr) {
    static fcontext_t forgotten;
    jump(m.threads[next].context, keep == nullptr ? &forgotten : keep);
  }
}

void thread_entry(transfer_t from) {
  Machine& m = machine();
  *m.leaving = from.fctx;
  InEmulator::inside = false;
  m.launch->body->call();
  InEmulator::inside = true;
  m.threads[current.thread].state = State::exited;
  bool all = m.ready.empty();
  for (std::size_t t = 0; all && t < m.threads.size(); ++t) {
    all = m.threads[t].state == State::exited;
  }
  if (all) abandon_launch();
  resume_next(nullptr);
}

bool same_text(const char* a, const char* b) {
  return a == b || std::strcmp(a, b) == 0;
}
bool same_place(const Place& a, const Place& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         same_text(a.file_name(), b.file_name());
}

/// Notes an arrival; true for the last. All must come by the same word at the same place.
bool arrive(Meeting& meeting, const char* word, const Place& place) {
  Machine& m = machine();
  if (meeting.arrived == 0) meeting.earliest = current.thread;
  const Thread& earliest = m.threads[meeting.earliest];
  if (meeting.arrived > 0 &&
      !(same_text(earliest.word, word) && same_place(earliest.place, place))) {
    fail(std::string("divergent ") + (meeting.count == warp_size ? "warp" : "barrier") +
         ": it comes to " + word + " at " + text_of(place) + " while thread " +
         std::to_string(meeting.earliest) + " waits in " + earliest.word + " at " +
         text_of(earliest.place));
  }
  if (++meeting.arrived < meeting.count) return false;
  meeting.arrived = 0;
  return true;
}

}  // namespace

void wait_in(const char* word, const Place& place) {
  Machine& m = machine();
  Thread& self = m.threads[current.thread];
  self.state = State::waiting;
  self.word = word;
  self.place = place;
  resume_next(&self.context);
}

void wake(unsigned thread) {
  Machine& m = machine();
  m.threads[thread].state = State::ready;
  m.ready.push(thread);
}

namespace {

void wake_others(const Meeting& meeting) {
  const unsigned self = current.thread;
  for (unsigned t = meeting.first; t < meeting.first + meeting.count; ++t) {
    if (t != self) wake(t);
  }
}

void execute_block(Machine& m) {
  const dim3 size = m.launch->block;
  const unsigned count = size.x * size.y * size.z;
  while (m.stacks.size() < count) m.stacks.emplace_back(stack_bytes, 16);
  m.threads.assign(count, {});
  m.warps.assign(count / warp_size, {});
  for (unsigned w = 0; w < m.warps.size(); ++w) {
    m.warps[w].first = w * warp_size;
    m.warps[w].count = warp_size;
  }
  m.groups.assign(count / group_size, {});
  for (unsigned g = 0; g < m.groups.size(); ++g) {
    m.groups[g].first = g * group_size;
    m.groups[g].count = group_size;
  }
  m.block = {};
  m.block.count = count;
  if (m.shared.bytes > 0) std::memset(m.shared.start, poison, m.shared.bytes);
  begin_copies(count);
  begin_hopper();
  if (checking()) check_block_begins(count, m.shared.bytes);
  m.ready.reset(m.warps.size());
  for (unsigned t = 0; t < count; ++t) {
    m.threads[t].index = {t % size.x, t / size.x % size.y, t / size.x / size.y};
    const Pages& stack = m.stacks[t];
    m.threads[t].context = make_fcontext(stack.start + stack.bytes, stack.bytes, thread_entry);
    m.ready.push(t);
  }
  make_current(m, next_thread(m));
  m.running = true;
  jump(m.threads[current.thread].context, &m.main);
  m.running = false;
  InEmulator::inside = true;
  end_copies();
  end_hopper();
}

std::vector<std::uint64_t> block_order(Machine& m) {
  std::vector<std::uint64_t> order(std::uint64_t{1} * m.launch->grid.x * m.launch->grid.y *
                                   m.launch->grid.z);
  std::iota(order.begin(), order.end(), std::uint64_t{0});
  if (schedule() == 1) std::reverse(order.begin(), order.end());
  if (schedule() > 1) shuffle_by_schedule(order);
  return order;
}

}  // namespace

bool execute(const Launch& launch) {
  Machine& m = machine();
  catch_bad_accesses();
  m.launch = &launch;
  if (m.shared.bytes != launch.shared) {
    m.shared = launch.shared > 0 ? Pages(launch.shared, 16) : Pages();
  }
  if (checking()) check_launch_begins();
  gridDim = launch.grid;
  blockDim = launch.block;
#if defined(__x86_64__)
  constexpr unsigned flush_bits = 0x8040;  // denormals as zeros, of results and operands
  const unsigned control = _mm_getcsr();
  _mm_setcsr(control & ~flush_bits);
#endif
  for (const std::uint64_t index : block_order(m)) {
    const std::uint64_t row = index / launch.grid.x;
    blockIdx = {static_cast<unsigned>(index % launch.grid.x),
                static_cast<unsigned>(row % launch.grid.y),
                static_cast<unsigned>(row / launch.grid.y)};
    execute_block(m);
    if (!report().empty()) break;
  }
#if defined(__x86_64__)
  _mm_setcsr(control);
#endif
  complete_report();
  return report().empty();
}

void meet_block(const Place& place) {
  const InEmulator inside;
  Machine& m = machine();
  if (!arrive(m.block, "sync_block", place)) return wait_in("sync_block", place);
  if (checking()) check_block_synced();
  wake_others(m.block);
}

void meet_warp(const char* word, void* arguments, void (*perform)(Lanes), const Place& place) {
  const InEmulator inside;
  Machine& m = machine();
  Warp& warp = m.warps[current.thread / warp_size];
  warp.arguments[current.thread % warp_size] = arguments;
  if (!arrive(warp, word, place)) return wait_in(word, place);
  perform(warp.arguments);
  wake_others(warp);
}

void meet_group(const char* word, void* arguments, void (*perform)(Lanes), const Place& place) {
  const InEmulator inside;
  Machine& m = machine();
  if (current.thread / group_size >= m.groups.size()) {
    fail(std::string(word) + " at " + text_of(place) + " outside of a whole warp group");
  }
  Group& group = m.groups[current.thread / group_size];
  group.arguments[current.thread % group_size] = arguments;
  if (!arrive(group, word, place)) return wait_in(word, place);
  perform(group.arguments);
  wake_others(group);
}

void* shared_arena(std::size_t bytes, std::size_t alignment, const Place& place) {
  const InEmulator inside;
  const Pages& arena = machine().shared;
  if (bytes > arena.bytes) {
    fail("shared_memory at " + text_of(place) + ": a struct of " + std::to_string(bytes) +
         " bytes, but the launch asked for " + std::to_string(arena.bytes));
  }
  if (reinterpret_cast<std::uintptr_t>(arena.start) % alignment != 0) {
    fail("shared_memory at " + text_of(place) + ": the launch's bytes must be a multiple of " +
         std::to_string(alignment) + ", the struct's alignment");
  }
  return arena.start;
}

const Pages& shared_pages() {
  return machine().shared;
}
bool arguments_hold(const void* address, std::size_t bytes) {
  const Launch& launch = *machine().launch;
  const auto* const first = reinterpret_cast<const unsigned char*>(launch.body.get());
  const auto* const byte = static_cast<const unsigned char*>(address);
  return byte >= first && byte + bytes <= first + launch.body_bytes;
}
bool running() {
  return machine().running;
}
void abandon_launch() {
  static fcontext_t forgotten;
  jump(machine().main, &forgotten);
  __builtin_unreachable();
}

}  // namespace fst::emulator
