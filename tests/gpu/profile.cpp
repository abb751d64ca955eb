// Where the time of a step goes on a GPU: every kernel of one step of decoding and of one prefill
// by name, and how long a step takes when its work is queued piece by piece and as a record.
//   profile CONFIG_JSON [context]
// The weights are random. See profile.sh. Launches come here first (-Wl,--wrap), where an event is
// recorded before and behind each; the device is kept busy meanwhile, so that it never waits for
// the host.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cxxabi.h>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include <cuda_runtime.h>

#include "fst/base/clock.h"
#include "fst/base/random.h"
#include "fst/model/qwen3.h"
#include "fst/tensor/host_view.h"
#include "fst/tensor/recordings.h"

#include "decode_step.h"

namespace {

struct Interval {
  const void* kernel;
  cudaEvent_t begin, end;
};
std::vector<Interval>* intervals = nullptr;  // nullptr: nobody profiles

cudaEvent_t event_now(cudaStream_t stream) {
  cudaEvent_t event = nullptr;
  cudaEventCreate(&event);
  cudaEventRecord(event, stream);
  return event;
}

}  // namespace

extern "C" {
// What the compiler calls for a launch.
cudaError_t __real___cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                                      std::size_t shared, cudaStream_t stream);
cudaError_t __wrap___cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                                      std::size_t shared, cudaStream_t stream) {
  if (intervals == nullptr) {
    return __real___cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
  }
  Interval interval{kernel, event_now(stream), nullptr};
  const cudaError_t error =
      __real___cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
  interval.end = event_now(stream);
  intervals->push_back(interval);
  return error;
}
}

namespace fst {
namespace {

constexpr DType f32 = DType::f32;
constexpr int repeats = 50;

std::string name_of_kernel(const void* kernel) {
  const char* mangled = nullptr;
  if (cudaFuncGetName(&mangled, kernel) != cudaSuccess || mangled == nullptr) {
    cudaGetLastError();
    return "kernel " + std::to_string(reinterpret_cast<std::uintptr_t>(kernel));
  }
  int status = 0;
  char* const text = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  const std::string name = status == 0 ? text : mangled;
  std::free(text);
  static const std::regex scopes("^void |\\(anonymous namespace\\)::|\\w+::");
  const std::string plain = std::regex_replace(name, scopes, "");
  return plain.substr(0, plain.find('('));
}

/// Some ten milliseconds of work for the device.
class Delay {
 public:
  explicit Delay(const Device& device) : memory_(device, f32, {std::int64_t{1} << 28}) {}
  void queue() {
    for (int i = 0; i < 30; ++i) ops::fill(memory_.tensor(), 1.0f);
  }

 private:
  Buffer memory_;
};

void profile(const Device& device, Delay& delay, const char* what,
             const std::function<void()>& work) {
  work();
  device.synchronize();
  delay.queue();
  std::vector<Interval> found;
  intervals = &found;
  work();
  intervals = nullptr;
  device.synchronize();
  struct Total {
    int launches = 0;
    float milliseconds = 0.0f;
  };
  std::map<std::string, Total> totals;
  float all = 0.0f;
  for (const Interval& interval : found) {
    float milliseconds = 0.0f;
    cudaEventElapsedTime(&milliseconds, interval.begin, interval.end);
    Total& total = totals[name_of_kernel(interval.kernel)];
    ++total.launches;
    total.milliseconds += milliseconds;
    all += milliseconds;
    cudaEventDestroy(interval.begin);
    cudaEventDestroy(interval.end);
  }
  std::printf("\n%s: %zu launches, %.3f ms in kernels\n", what, found.size(),
              static_cast<double>(all));
  std::vector<std::pair<std::string, Total>> sorted(totals.begin(), totals.end());
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return a.second.milliseconds > b.second.milliseconds;
  });
  for (const auto& [name, total] : sorted) {
    const double microseconds = 1000.0 * static_cast<double>(total.milliseconds);
    std::printf("  %-40s %5d x %9.2f us = %10.1f us\n", name.c_str(), total.launches,
                microseconds / total.launches, microseconds);
  }
}

double milliseconds_per_call(const Device& device, const std::function<void()>& work) {
  for (int i = 0; i < 3; ++i) work();
  device.synchronize();
  const Stopwatch watch;
  for (int i = 0; i < repeats; ++i) {
    work();
    device.synchronize();  // as a step that reads its tokens
  }
  return 1000.0 * watch.seconds() / repeats;
}

void profile_decoding(Qwen3& model, Delay& delay, std::int64_t sequences, std::int64_t context) {
  const Device& device = model.device();
  DecodeStep step(model, sequences, context);
  const auto run = [&] { step(); };
  const std::string what =
      "decoding, batch " + std::to_string(sequences) + ", context " + std::to_string(context);
  profile(device, delay, what.c_str(), run);
  const double plain = milliseconds_per_call(device, run);
  Recordings recordings(device);
  const double recorded = milliseconds_per_call(device, [&] { recordings.run({0}, run); });
  std::printf("  a step: %.3f ms queued piece by piece, %.3f ms as a record: %.0f tokens/s\n",
              plain, recorded, 1000.0 * static_cast<double>(sequences) / recorded);
}

void profile_prefill(Qwen3& model, Delay& delay, std::int64_t tokens) {
  PackedSequences packed(model.device());
  const TokenBatch& batch =
      packed.pack({std::vector<TokenId>(static_cast<std::size_t>(tokens), 7)});
  KvCache cache(model.local_config(), model.device(), packed.blocks(), model.dtype());
  const auto run = [&] { model.forward(batch, cache); };
  profile(model.device(), delay, ("prefill, " + std::to_string(tokens) + " tokens").c_str(), run);
  const double milliseconds = milliseconds_per_call(model.device(), run);
  std::printf("  %.3f ms: %.0f tokens/s\n", milliseconds,
              1000.0 * static_cast<double>(tokens) / milliseconds);
}

Parameters random_parameters(const Qwen3Config& config, const Device& device, DType dtype) {
  Parameters parameters(config, device, {}, {dtype});
  Rng rng(1, Purpose::initial_weights, {});
  std::vector<float> some(4099);
  for (float& value : some) value = static_cast<float>(0.02 * rng.normal());
  for (std::int64_t begin = 0; begin < parameters.size();) {
    const std::int64_t count =
        std::min(parameters.size() - begin, static_cast<std::int64_t>(some.size()));
    parameters.put(begin, std::span(some).first(static_cast<std::size_t>(count)));
    begin += count;
  }
  return parameters;
}

void run(const char* file, std::int64_t context, DType dtype) {
  std::ifstream stream(file);
  const std::string text((std::istreambuf_iterator<char>(stream)), {});
  const Qwen3Config config = Qwen3Config::parse(text, file);
  const Device device = Device::cuda(0);
  std::printf("%s, %s, %s\n", device.description().c_str(), file, name_of(dtype));
  Qwen3 model(config, device,
              {.use = Use::inference,
               .max_positions = std::max<std::int64_t>(context + 1, 4096),
               .dtype = dtype});
  model.set_weights(random_parameters(config, device, dtype));
  Delay delay(device);
  for (const std::int64_t sequences : {1, 8, 64}) {
    profile_decoding(model, delay, sequences, context);
  }
  profile_prefill(model, delay, 512);
  profile_prefill(model, delay, 4096);
}

}  // namespace
}  // namespace fst

int main(int argc, char** argv) {
  const bool bf16 = argc == 4 && std::string(argv[3]) == "bf16";
  if (argc < 2 || argc > 4 || (argc == 4 && !bf16)) {
    std::fprintf(stderr, "usage: profile CONFIG_JSON [context [bf16]]\n");
    return EXIT_FAILURE;
  }
  try {
    fst::run(argv[1], argc > 2 ? std::atoll(argv[2]) : 512,
             bf16 ? fst::DType::bf16 : fst::DType::f32);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "profile: %s\n", error.what());
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
