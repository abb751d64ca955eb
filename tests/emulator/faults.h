#pragma once

#include <cstddef>

/// What the environment asks of the device, so that a whole program meets it:
///
///   FST_EMULATOR_DEVICES=n         how many there are; 1 unless set
///   FST_EMULATOR_MEMORY=bytes      what each can give; 16 GiB unless set
///   FST_EMULATOR_MAJOR=9,8         the compute capability that each says it has
///   FST_EMULATOR_FAIL=call:number  the call of the run time of this name, or the launch
///                                  ("launch"), counted from 1, fails: cudaMalloc for want of
///                                  memory, cudaFuncGetAttributes for want of code, others with the
///                                  loss of the device, a launch when it comes to run; with ":ecc"
///                                  behind it the device is lost by an error of its memory
namespace fst::emulator {

/// How a device is lost.
enum class Loss { launch, memory };

int asked_devices();
std::size_t asked_memory();
int asked_major(int index, int otherwise);
Loss asked_error();
/// Counts the calls of this name; true for the one that is to fail.
bool must_fail(const char* call);

}  // namespace fst::emulator
