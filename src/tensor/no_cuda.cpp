#include <stdexcept>

#include "kernels/cuda_device.h"
#include "kernels/products.h"

// The CUDA run time of a program that was built without it: no devices. What needs one is never
// reached, since nobody can open a stream.
namespace fst::kernels {

struct Cuda {};
struct CudaRecord {};

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
std::string cuda_architecture(int /*index*/) {
  absent();
}
std::int64_t cuda_memory(int /*index*/) {
  absent();
}
bool cuda_has_code(int /*index*/) {
  absent();
}
std::string cuda_name(int /*index*/) {
  absent();
}
std::string cuda_identity(int /*index*/) {
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
void poison(const Cuda& /*cuda*/, void* /*memory*/, std::size_t /*bytes*/) {
  absent();
}
void lend_scratch(const Cuda& /*cuda*/, void* /*memory*/, std::size_t /*bytes*/) {
  absent();
}
std::size_t most_scratch(const Cuda& /*cuda*/) {
  absent();
}
void copy_to_device(const Cuda& /*cuda*/, void* /*to*/, const void* /*from*/,
                    std::size_t /*bytes*/) {
  absent();
}
void copy_to_host(const Cuda& /*cuda*/, void* /*to*/, const void* /*from*/, std::size_t /*bytes*/) {
  absent();
}
void copy_on_device(const Cuda& /*cuda*/, void* /*to*/, const void* /*from*/,
                    std::size_t /*bytes*/) {
  absent();
}
void wait(const Cuda& /*cuda*/) {
  absent();
}
void note_exchange(const Cuda& /*cuda*/, CudaExchange /*exchange*/) {
  absent();
}
void await_exchanges(const Cuda& /*cuda*/) {
  absent();
}
void abandon_exchanges(const Cuda& /*cuda*/) {
  absent();
}
void* stream_handle(const Cuda& /*cuda*/) {
  absent();
}
void* allocate_host(const Cuda& /*cuda*/, std::size_t /*bytes*/) {
  absent();
}
void release_host(const Cuda& /*cuda*/, void* /*memory*/) {
  absent();
}
void queue_to_device(const Cuda& /*cuda*/, void* /*to*/, const void* /*from*/,
                     std::size_t /*bytes*/) {
  absent();
}
void queue_to_host(const Cuda& /*cuda*/, void* /*to*/, const void* /*from*/,
                   std::size_t /*bytes*/) {
  absent();
}
std::string use_products(const Cuda& /*cuda*/, Products /*products*/) {
  absent();
}
ProductPlans plan_products(const Cuda& /*cuda*/, std::span<const PlannedProduct> /*products*/,
                           std::int64_t /*working_bytes*/) {
  absent();
}
ProductsMet products_met(const Cuda& /*cuda*/) {
  absent();
}
std::string cublaslt_support() {
  return "none (built without CUDA)";
}
bool cublaslt_usable() {
  return false;
}
std::shared_ptr<CudaEvent> make_event(const Cuda& /*cuda*/) {
  absent();
}
void mark(const Cuda& /*cuda*/, CudaEvent& /*event*/) {
  absent();
}
void wait(const Cuda& /*cuda*/, CudaEvent& /*event*/) {
  absent();
}
const CudaHistory& history(const Cuda& /*cuda*/) {
  absent();
}
void begin_recording(const Cuda& /*cuda*/) {
  absent();
}
std::shared_ptr<const CudaRecord> end_recording(const Cuda& /*cuda*/) {
  absent();
}
void queue_record(const Cuda& /*cuda*/, const CudaRecord& /*record*/) {
  absent();
}

}  // namespace fst::kernels
