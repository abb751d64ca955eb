#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <boost/context/detail/fcontext.hpp>

#include "emulate.h"
#include "emulator.h"

/// Within the emulator: the machine that executes one block at a time on the calling thread.
namespace fst::emulator {

struct Launch {
  std::unique_ptr<Body> body;
  std::size_t body_bytes = 0;
  dim3 grid, block;
  std::size_t shared = 0;
};

/// Executes all blocks of a launch; false where something was wrong (report() then says what).
bool execute(const Launch& launch);

/// Whether a kernel is being executed, and by which thread of its block.
bool running();
unsigned current_thread();
/// "thread 5 of block (1,0,0)".
std::string current_thread_name();
std::string text_of(const Place& place);

/// Leaves the kernel for good: notes `what`, with the running thread, and abandons the launch.
/// Outside of a kernel it notes only.
[[noreturn]] void fail(std::string what);
void note_failure(std::string what);
const std::string& report();
std::string forget_report();

/// Choices of the schedule.
std::size_t choose(std::size_t count);
template <class T>
void shuffle_by_schedule(std::vector<T>& items) {
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[choose(i)]);
}

/// Pages with a guard page before and behind, filled with 0xFF; `bytes` ends at the hind guard but
/// for what `alignment` needs.
struct Pages {
  unsigned char* base = nullptr;  // the guard page in front
  std::size_t mapped = 0;         // with both guards
  unsigned char* start = nullptr;
  std::size_t bytes = 0;
  Pages() = default;
  Pages(std::size_t bytes, std::size_t alignment);
  Pages(Pages&& other) noexcept { *this = std::move(other); }
  Pages& operator=(Pages&& other) noexcept;
  ~Pages();
  bool holds(const void* address, std::size_t count = 1) const;
};
constexpr unsigned char poison = 0xff;

/// The allocation of the device that holds [address, address + bytes); nullptr: none.
const Pages* find_allocation(const void* address, std::size_t bytes = 1);
/// "40 bytes behind 1024 bytes of device memory".
std::string describe_address(const void* address);
const Pages& shared_pages();

/// Makes a bad access of a kernel a report; once per thread of the program.
void catch_bad_accesses();

/// A word in the middle of which the stack of the running thread must not be used any more.
[[noreturn]] void abandon_launch();

}  // namespace fst::emulator
