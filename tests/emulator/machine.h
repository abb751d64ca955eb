#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <boost/context/detail/fcontext.hpp>

#include "checks.h"
#include "emulate.h"
#include "emulator.h"
#include "history.h"
#include "record.h"
#include "schedule.h"

/// Within the emulator: the machine that executes one block at a time on the calling thread.
namespace fst::emulator {

struct Launch {
  const void* kernel = nullptr;
  std::unique_ptr<Body> body;
  std::size_t body_bytes = 0;
  dim3 grid, block;
  std::size_t shared = 0;
  std::shared_ptr<Operation> operation;
};

/// Executes all blocks of a launch; false where something was wrong (report() then says what).
bool execute(const Launch& launch);

/// What is done with launches (record.cpp): record_launch() executes, counts or only lists one.
Recording recording();
void record_launch(const Launch& launch);
std::shared_ptr<Operation> current_operation();
/// Of the launch that runs; only called where `counting`.
inline bool counting = false;
void count_access(const void* address, std::size_t bytes, Access access);
void count_tensor_product(std::int64_t rows, std::int64_t columns, std::int64_t depth);

/// Whether a kernel is being executed.
bool running();
/// The thread of its block that executes it.
struct Current {
  unsigned thread = 0;
  const unsigned char *stack = nullptr, *stack_end = nullptr;
};
inline Current current;
inline unsigned current_thread() {
  return current.thread;
}
inline bool own_stack_holds(const void* address, std::size_t bytes) {
  const auto* const first = static_cast<const unsigned char*>(address);
  return first >= current.stack && first + bytes <= current.stack_end;
}
/// "thread 5 of block (1,0,0)".
std::string current_thread_name();
bool arguments_hold(const void* address, std::size_t bytes);
std::string text_of(const Place& place);

/// Leaves the kernel for good: notes `what`, with the running thread, and abandons the launch.
/// `code` is the address behind the guilty instruction, where it is known.
[[noreturn]] void fail(std::string what, const void* code = nullptr);
void note_failure(std::string what);
/// Adds the line of the guilty code; not on a thread's stack.
void complete_report();
[[noreturn]] void abandon_launch();
/// Where the program was loaded: its symbols' addresses count from there.
std::uintptr_t program_base();
const std::string& report();
std::string forget_report();

/// Makes the running thread wait until another wakes it; what the words are built of.
void wait_in(const char* word, const Place& place);
void wake(unsigned thread);
/// As meet_warp for the 128 threads of a warp group.
void meet_group(const char* word, void* arguments, void (*perform)(Lanes), const Place& place);

/// sum[r][c] += the product of row r of a and row c of b, both of 16 bf16 (tensor.cpp).
void multiply_tile(const std::uint16_t* a, int rows, const std::uint16_t* b, int columns,
                   float* sum);

/// Barriers and loads of a block (hopper.cpp); a load that is late lands when nobody can run.
void begin_hopper();
void end_hopper();
bool land_a_load();

/// The asynchronous copies of a block; those that nobody waited for end with it.
void begin_copies(unsigned threads);
void end_copies();

/// Pages between two guard pages. `start` is aligned; between the end of `bytes` and the guard page
/// behind it is only what the alignment needs.
struct Pages {
  unsigned char* base = nullptr;  // the guard page in front
  std::size_t mapped = 0;         // with both guards
  unsigned char* start = nullptr;
  std::size_t bytes = 0;
  mutable History history;  // of device memory, in the checked build
  Pages() = default;
  Pages(std::size_t bytes, std::size_t alignment);
  Pages(Pages&& other) noexcept { *this = std::move(other); }
  Pages& operator=(Pages&& other) noexcept;
  ~Pages();
  bool holds(const void* address, std::size_t count = 1) const {
    const auto* const first = static_cast<const unsigned char*>(address);
    return first >= start && first + count <= start + bytes;
  }
  void open(bool to_host) const;
};
constexpr unsigned char poison = 0xff;  // what memory is filled with: NaN in float32 and bf16

/// While one exists, what is executed is the emulator's, not the kernel's: instrumented copies of
/// library functions may be called without being judged.
class InEmulator {
 public:
  InEmulator() : was_(std::exchange(inside, true)) {}
  ~InEmulator() { inside = was_; }
  InEmulator(const InEmulator&) = delete;
  InEmulator& operator=(const InEmulator&) = delete;
  static inline bool inside = true;

 private:
  bool was_;
};

/// The allocation of the device that holds [address, address + bytes); nullptr: none.
const Pages* find_allocation(const void* address, std::size_t bytes = 1);
/// "40 bytes behind 1024 bytes of device memory".
std::string describe_address(const void* address);
const Pages& shared_pages();

/// Makes a bad access of a kernel a report.
void catch_bad_accesses();

}  // namespace fst::emulator
