#include "bench.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <stdexcept>

#include "kernels/elementwise.h"

namespace fst::bench {
namespace {

constexpr std::int64_t beyond_caches = std::int64_t{256} << 20;  // twice the L2 cache of a B200
constexpr std::int64_t noise_floats = std::int64_t{1} << 22;
constexpr int samples = 21;
constexpr double shortest_sample = 200.0;  // microseconds; the clock of events ticks in 0.5

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Bench::Bench(const Options& options)
    : options_(options), cuda_(kernels::open_cuda(0)), begun_(now()) {
  kernels::check(cudaEventCreateWithFlags(&start_, 0), "cudaEventCreate");
  kernels::check(cudaEventCreateWithFlags(&end_, 0), "cudaEventCreate");
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(options.tiny ? 1 << 12 : noise_floats));
  for (float& value : values) value = normal(random);
  source_ = array(values);
  kept_.clear();  // it outlives the cases
  std::fprintf(stderr, "on %s\n", kernels::cuda_name(0).c_str());
}

Bench::~Bench() {
  drop();
  kernels::release(cuda_, source_);
  cudaEventDestroy(start_);
  cudaEventDestroy(end_);
  kernels::close_cuda(cuda_);
}

void* Bench::keep(std::size_t bytes) {
  void* const memory = kernels::allocate(cuda_, bytes);
  if (memory == nullptr) {
    throw std::runtime_error(case_.name + ": " + std::to_string(bytes) +
                             " bytes of device memory are not to be had");
  }
  kept_.push_back(memory);
  return memory;
}

void Bench::drop() {
  for (void* const memory : kept_) kernels::release(cuda_, memory);
  kept_.clear();
}

void Bench::print(const std::string& rest) const {
  std::string shape;
  for (const auto& [name, value] : case_.shape) {
    shape += (shape.empty() ? "\"" : ", \"") + name + "\": " + std::to_string(value);
  }
  std::printf(
      "{\"case\": \"%s\", \"operation\": \"%s\", \"shape\": {%s}, \"bytes\": %.0f, "
      "\"flops\": %.0f, %s}\n",
      case_.name.c_str(), case_.operation.c_str(), shape.c_str(), case_.bytes, case_.flops,
      rest.c_str());
  std::fflush(stdout);
}

bool Bench::begin(const Case& next, std::int64_t floats) {
  drop();
  case_ = next;
  calls_ = 0;
  const bool ceiling = next.operation == "device copy";  // all figures are compared with it
  if (!ceiling && next.name.find(options_.filter) == std::string::npos) return false;
  if (now() - begun_ > options_.seconds) {
    print("\"not_run\": \"out of time\"");
    return false;
  }
  const std::int64_t wanted = options_.tiny ? 1 << 12 : beyond_caches;
  copies_ = std::clamp<std::int64_t>((wanted + 4 * floats - 1) / (4 * floats), 1, 1 << 16);
  return true;
}

Ring Bench::noise(std::int64_t floats) {
  const std::int64_t stride = aligned(floats), all = stride * copies_;
  auto* const memory = static_cast<float*>(keep(static_cast<std::size_t>(4 * all)));
  const std::int64_t period = options_.tiny ? 1 << 12 : noise_floats;
  for (std::int64_t i = 0; i < all; i += period) {
    kernels::copy_on_device(cuda_, memory + i, source_,
                            static_cast<std::size_t>(4 * std::min(period, all - i)));
  }
  return {memory, stride, copies_};
}

RingOf<kernels::Bf16> Bench::halves(std::int64_t elements) {
  const auto ring = unset<kernels::Bf16>(elements);
  const std::int64_t all = aligned(elements) * copies_;
  const std::int64_t period = options_.tiny ? 1 << 12 : noise_floats;
  for (std::int64_t i = 0; i < all; i += period) {
    kernels::narrow(cuda_, ring(0) + i, kernels::Storage::bf16, source_, std::min(period, all - i));
  }
  return ring;
}

double Bench::microseconds(const std::function<void(std::int64_t)>& call, std::int64_t calls) {
  kernels::check(cudaEventRecord(start_, cuda_.stream), "cudaEventRecord");
  for (std::int64_t i = 0; i < calls; ++i) call(calls_++);
  kernels::check(cudaEventRecord(end_, cuda_.stream), "cudaEventRecord");
  kernels::check(cudaEventSynchronize(end_), "cudaEventSynchronize");
  float milliseconds = 0;
  kernels::check(cudaEventElapsedTime(&milliseconds, start_, end_), "cudaEventElapsedTime");
  return 1000.0 * static_cast<double>(milliseconds);
}

void Bench::time(const std::function<void(std::int64_t)>& call) {
  const int wanted = options_.tiny ? 3 : samples;
  microseconds(call, options_.tiny ? 1 : 3);
  std::int64_t calls = 1;
  while (!options_.tiny && calls < 256 && microseconds(call, calls) < shortest_sample) calls *= 2;
  std::string list;
  for (int i = 0; i < wanted; ++i) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3f",
                  microseconds(call, calls) / static_cast<double>(calls));
    list += (list.empty() ? "" : ", ") + std::string(text);
  }
  print("\"calls\": " + std::to_string(calls) + ", \"microseconds\": [" + list + "]");
}

}  // namespace fst::bench
