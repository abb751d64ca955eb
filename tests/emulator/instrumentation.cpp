#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "checks.h"
#include "machine.h"

/// What -fsanitize=thread,alignment,bounds compiles into the checked kernels calls these functions;
/// the sanitizers' own libraries are not linked. Names and arguments are those of libtsan and
/// libubsan in GCC 12.
namespace {

using fst::emulator::Access;

struct SourceLocation {
  const char* file;
  std::uint32_t line, column;
};

void judge(const void* address, std::size_t bytes, Access access, const void* code) {
  if (fst::emulator::InEmulator::inside || fst::emulator::own_stack_holds(address, bytes)) return;
  const fst::emulator::InEmulator inside;
  fst::emulator::check_access(address, bytes, access, code);
  if (fst::emulator::counting) fst::emulator::count_access(address, bytes, access);
}

[[noreturn]] void found(const SourceLocation& location, std::string what) {
  const std::string path = location.file;
  what += " at " + path.substr(path.find_last_of('/') + 1) + ":" + std::to_string(location.line) +
          ":" + std::to_string(location.column);
  if (fst::emulator::running()) fst::emulator::fail(what);
  std::fprintf(stderr, "emulator: host code: %s\n", what.c_str());
  std::abort();
}

}  // namespace

#define FST_CODE __builtin_return_address(0)
#define FST_READ_WRITE(name, bytes)           \
  void __tsan_read##name(void* p) {           \
    judge(p, bytes, Access::read, FST_CODE);  \
  }                                           \
  void __tsan_write##name(void* p) {          \
    judge(p, bytes, Access::write, FST_CODE); \
  }
// Host code in the same files may hold atomics, as the guards of local statics are.
#define FST_ATOMICS(bits, type)                                                              \
  type __tsan_atomic##bits##_load(const volatile type* p, int) {                             \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                             \
  }                                                                                          \
  void __tsan_atomic##bits##_store(volatile type* p, type v, int) {                          \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                \
  }                                                                                          \
  type __tsan_atomic##bits##_exchange(volatile type* p, type v, int) {                       \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                      \
  }                                                                                          \
  type __tsan_atomic##bits##_fetch_add(volatile type* p, type v, int) {                      \
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                       \
  }                                                                                          \
  type __tsan_atomic##bits##_fetch_sub(volatile type* p, type v, int) {                      \
    return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST);                                       \
  }                                                                                          \
  bool __tsan_atomic##bits##_compare_exchange_strong(volatile type* p, type* e, type v, int, \
                                                     int) {                                  \
    return __atomic_compare_exchange_n(p, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);  \
  }                                                                                          \
  bool __tsan_atomic##bits##_compare_exchange_weak(volatile type* p, type* e, type v, int a, \
                                                   int b) {                                  \
    return __tsan_atomic##bits##_compare_exchange_strong(p, e, v, a, b);                     \
  }

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

FST_READ_WRITE(1, 1)
FST_READ_WRITE(2, 2)
FST_READ_WRITE(4, 4)
FST_READ_WRITE(8, 8)
FST_READ_WRITE(16, 16)
void __tsan_unaligned_read2(void* p) {
  __tsan_read2(p);
}
void __tsan_unaligned_read4(void* p) {
  __tsan_read4(p);
}
void __tsan_unaligned_read8(void* p) {
  __tsan_read8(p);
}
void __tsan_unaligned_read16(void* p) {
  __tsan_read16(p);
}
void __tsan_unaligned_write2(void* p) {
  __tsan_write2(p);
}
void __tsan_unaligned_write4(void* p) {
  __tsan_write4(p);
}
void __tsan_unaligned_write8(void* p) {
  __tsan_write8(p);
}
void __tsan_unaligned_write16(void* p) {
  __tsan_write16(p);
}
void __tsan_read_range(void* p, std::size_t bytes) {
  judge(p, bytes, Access::read, FST_CODE);
}
void __tsan_write_range(void* p, std::size_t bytes) {
  judge(p, bytes, Access::write, FST_CODE);
}

FST_ATOMICS(8, std::uint8_t)
FST_ATOMICS(32, std::uint32_t)
FST_ATOMICS(64, std::uint64_t)

struct TypeMismatch {
  SourceLocation location;
  const void* type;
  unsigned char log_alignment, kind;
};
void __ubsan_handle_type_mismatch_v1_abort(const TypeMismatch* mismatch, std::uintptr_t address) {
  const fst::emulator::InEmulator inside;
  const std::uintptr_t alignment = std::uintptr_t{1} << mismatch->log_alignment;
  found(mismatch->location, "misaligned access: an address " + std::to_string(address % alignment) +
                                " bytes behind a multiple of " + std::to_string(alignment));
}

struct OutOfBounds {
  SourceLocation location;
};
void __ubsan_handle_out_of_bounds_abort(const OutOfBounds* bounds, std::uintptr_t index) {
  const fst::emulator::InEmulator inside;
  found(bounds->location, "index " + std::to_string(static_cast<std::intptr_t>(index)) +
                              " out of bounds of its array");
}

}  // extern "C"
