#include <algorithm>
#include <csignal>
#include <cstring>
#include <map>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "faults.h"
#include "machine.h"

namespace fst::emulator {
namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t device_alignment = 256;  // cudaMalloc's promise

struct Device {
  std::map<const unsigned char*, Pages> allocations;  // by start
  bool closed = false;                                // to the host
  mutable const Pages* latest = nullptr;              // that was asked for
  std::size_t used = 0, limit = asked_memory();
};

Device the_device;
Device& device() {
  return the_device;
}

std::size_t rounded_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

/// Where a thread of a kernel goes on after a bad access: on a stack of its own, as its own may be
/// what overflowed.
struct BadAccess {
  const void* address;
  const unsigned char* code;
  bool named;  // the processor tells no address where it is misaligned for the instruction
} bad_access;
[[noreturn]] void leave_kernel() {
  const InEmulator inside;
  fail("bad access: " + (bad_access.named ? describe_address(bad_access.address)
                                          : std::string("a misaligned address")),
       bad_access.code + 1);
}

const Pages& report_stack() {
  static const Pages stack(256 << 10, 16);
  return stack;
}

void on_bad_access(int signal, siginfo_t* info, void* context) {
  if (!running()) {
    const std::string text =
        "emulator: bad access of host code: " + describe_address(info->si_addr) + "\n";
    [[maybe_unused]] const ssize_t told = write(STDERR_FILENO, text.data(), text.size());
    std::signal(signal, SIG_DFL);
    return;  // to the same access, which now ends the program
  }
  const Pages& stack = report_stack();
  auto* const registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  bad_access = {info->si_addr, reinterpret_cast<const unsigned char*>(registers[REG_RIP]),
                info->si_code != SI_KERNEL};
  const auto top = reinterpret_cast<std::uintptr_t>(stack.start + stack.bytes);
  registers[REG_RIP] = static_cast<greg_t>(reinterpret_cast<std::uintptr_t>(&leave_kernel));
  registers[REG_RSP] = static_cast<greg_t>(top / 16 * 16 - 8);  // as after a call
}

}  // namespace

Pages::Pages(std::size_t count, std::size_t alignment) : bytes(count) {
  const std::size_t inner = rounded_up(rounded_up(count, alignment), page);
  void* const memory = mmap(nullptr, inner + 2 * page, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  base = static_cast<unsigned char*>(memory);
  mapped = inner + 2 * page;
  if (mprotect(base + page, inner, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  start = base + page + inner - rounded_up(count, alignment);
}

Pages& Pages::operator=(Pages&& other) noexcept {
  std::swap(base, other.base);
  std::swap(mapped, other.mapped);
  std::swap(start, other.start);
  std::swap(bytes, other.bytes);
  std::swap(history, other.history);
  return *this;
}

Pages::~Pages() {
  if (base != nullptr) munmap(base, mapped);
}

const Pages* find_allocation(const void* address, std::size_t bytes) {
  const Device& d = device();
  if (d.latest != nullptr && d.latest->holds(address, bytes)) return d.latest;
  const auto& all = d.allocations;
  auto after = all.upper_bound(static_cast<const unsigned char*>(address));
  if (after == all.begin()) return nullptr;
  const Pages& pages = std::prev(after)->second;
  if (!pages.holds(address, bytes)) return nullptr;
  return d.latest = &pages;
}

std::string describe_address(const void* address) {
  const auto* const byte = static_cast<const unsigned char*>(address);
  if (byte == nullptr) return "a null pointer";
  if (reinterpret_cast<std::uintptr_t>(byte) < page) return "an offset from a null pointer";
  const auto near = [&](const Pages& pages, const std::string& what) -> std::string {
    if (pages.base == nullptr || byte < pages.base || byte >= pages.base + pages.mapped) return "";
    const std::string size = std::to_string(pages.bytes) + " bytes of " + what;
    if (byte < pages.start) return std::to_string(pages.start - byte) + " bytes before " + size;
    const std::ptrdiff_t end = byte - (pages.start + pages.bytes);
    if (end >= 0) return std::to_string(end) + " bytes behind the end of " + size;
    return "byte " + std::to_string(byte - pages.start) + " of " + size;
  };
  std::string text = near(shared_pages(), "shared memory");
  for (const auto& [start, pages] : device().allocations) {
    if (text.empty()) text = near(pages, "device memory");
  }
  return text.empty() ? "an address that is no device memory" : text;
}

void catch_bad_accesses() {
  static const bool done = [] {
    static const Pages stack(64 << 10, 16);
    report_stack();
    stack_t alternate{};
    alternate.ss_sp = stack.start;
    alternate.ss_size = stack.bytes;
    struct sigaction action {};
    action.sa_sigaction = on_bad_access;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    return sigaltstack(&alternate, nullptr) == 0 && sigaction(SIGSEGV, &action, nullptr) == 0 &&
           sigaction(SIGBUS, &action, nullptr) == 0;
  }();
  if (!done) throw std::bad_alloc();
}

void Pages::open(bool to_host) const {
  const int protection = to_host ? PROT_READ | PROT_WRITE : PROT_NONE;
  if (mprotect(base + page, mapped - 2 * page, protection) != 0) throw std::bad_alloc();
}

void open_device_memory() {
  Device& d = device();
  if (!d.closed) return;
  for (const auto& [start, pages] : d.allocations) pages.open(true);
  d.closed = false;
}

void close_device_memory() {
  Device& d = device();
  if (!checking() && schedule() != 1) return;
  for (const auto& [start, pages] : d.allocations) pages.open(false);
  d.closed = true;
}

void set_device_memory(std::size_t bytes) {
  device().limit = bytes;
}

cudaError_t allocate_device(void** memory, std::size_t bytes) {
  Device& d = device();
  if (bytes > d.limit - std::min(d.limit, d.used)) return cudaErrorMemoryAllocation;
  Pages pages(bytes, device_alignment);
  const std::size_t filled = recording() == Recording::list ? bytes : 0;  // of which nothing is
  std::memset(pages.start + filled, poison, rounded_up(bytes, device_alignment) - filled);
  if (checking()) pages.history.reset(bytes);
  if (d.closed) pages.open(false);
  *memory = pages.start;
  d.used += bytes;
  d.allocations.emplace(pages.start, std::move(pages));
  catch_bad_accesses();
  return cudaSuccess;
}

cudaError_t free_device(void* memory) {
  Device& d = device();
  const auto found = d.allocations.find(static_cast<unsigned char*>(memory));
  if (found == d.allocations.end()) return cudaErrorInvalidValue;
  const Pages& pages = found->second;
  pages.open(true);
  for (std::size_t i = pages.bytes; i < rounded_up(pages.bytes, device_alignment); ++i) {
    if (pages.start[i] != poison) {
      note_failure("a kernel wrote " + describe_address(pages.start + i));
      break;
    }
  }
  d.used -= pages.bytes;
  d.allocations.erase(found);
  d.latest = nullptr;
  return cudaSuccess;
}

void device_memory(std::size_t* free, std::size_t* total) {
  *total = device().limit;
  *free = device().limit - device().used;
}

}  // namespace fst::emulator
