#include <stdexcept>

#include "kernels/cuda_device.h"

// The CUDA run time of a program that was built without it: no devices. What needs one is never
// reached, since nobody can open a stream.
namespace fst::kernels {

struct Cuda {};

namespace {
[[noreturn]] void absent() {
  throw std::logic_error("built without CUDA");
}
}  // namespace

int cuda_devices() {
  return 0;
}
std::string cuda_support() {
  return "none (built without CUDA)";
}
std::string cuda_name(int /*index*/) {
  absent();
}
std::shared_ptr<const Cuda> cuda_stream(int /*index*/) {
  absent();
}
void* allocate(const Cuda& /*cuda*/, std::size_t /*bytes*/) {
  absent();
}
void release(const Cuda& /*cuda*/, void* /*memory*/) {
  absent();
}
std::size_t free_memory(const Cuda& /*cuda*/) {
  absent();
}
void zero(const Cuda& /*cuda*/, void* /*memory*/, std::size_t /*bytes*/) {
  absent();
}
void copy_to_device(const Cuda& /*cuda*/, void* /*to*/, const void* /*from*/,
                    std::size_t /*bytes*/) {
  absent();
}
void copy_to_host(const Cuda& /*cuda*/, void* /*to*/, const void* /*from*/, std::size_t /*bytes*/) {
  absent();
}
void wait(const Cuda& /*cuda*/) {
  absent();
}

}  // namespace fst::kernels
