#include "machine.h"

namespace fst::kernels::gpu {

using emulator::Access;
using emulator::check_access;

namespace {

template <class Integer, class Update>
void atomically(Integer* to, const void* code, const Update& update) {
  const emulator::InEmulator inside;
  if (emulator::checking()) check_access(to, sizeof *to, Access::atomic, code);
  if (emulator::counting) emulator::count_access(to, sizeof *to, Access::atomic);
  *to = update(*to);
}

}  // namespace

void add_atomic(std::int32_t* to, std::int32_t value) {
  atomically(to, __builtin_return_address(0), [&](std::int32_t old) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(old) +
                                     static_cast<std::uint32_t>(value));
  });
}

void add_atomic(std::int64_t* to, std::int64_t value) {
  atomically(to, __builtin_return_address(0), [&](std::int64_t old) {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(old) +
                                     static_cast<std::uint64_t>(value));
  });
}

void min_atomic(std::int32_t* to, std::int32_t value) {
  atomically(to, __builtin_return_address(0),
             [&](std::int32_t old) { return value < old ? value : old; });
}

bool any(bool flag, const Place& place) {
  const auto perform = [](emulator::Lanes lanes) {
    bool found = false;
    for (int i = 0; i < 32; ++i) found = found || *static_cast<const bool*>(lanes[i]);
    for (int i = 0; i < 32; ++i) *static_cast<bool*>(lanes[i]) = found;
  };
  emulator::meet_warp("any", &flag, perform, place);
  return flag;
}

}  // namespace fst::kernels::gpu

namespace fst::emulator {

void meet_warp_barrier(const Place& place) {
  const auto perform = [](Lanes) {
    if (checking()) check_warp_synced(current_thread() / 32);
  };
  meet_warp("sync_warp", nullptr, perform, place);
}

}  // namespace fst::emulator
