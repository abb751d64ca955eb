// Speed of the matrix products beside the limits of the machine, measured in the same run: the FMA
// peak of one core and the read bandwidth. Best of several interleaved rounds. Lines of bfloat16
// products begin with "bf16" and stand behind the float32 ones of the same shape.
// Usage: matmul_bench [threads] [isa: scalar | avx2 | avx512 | amx] [rounds] [part of a name, e.g.
// "dW"]

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/limits.h"
#include "kernels/matmul.h"
#include "kernels/matmul_bf16.h"
#include "kernels/thread_pool.h"

namespace {

namespace bench = fst::bench;
using namespace fst::kernels;

struct Free {
  void operator()(float* p) const { std::free(p); }
};
using Floats = std::unique_ptr<float, Free>;

Floats numbers(std::int64_t count) {
  constexpr std::size_t alignment = 64;
  const auto bytes = (static_cast<std::size_t>(count) * sizeof(float) / alignment + 1) * alignment;
  Floats x(static_cast<float*>(std::aligned_alloc(alignment, bytes)));
  std::uint32_t state = 12345;
  for (std::int64_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    x.get()[i] = static_cast<float>(state >> 8) * 0x1p-24f - 0.5f;
  }
  return x;
}

/// Seconds of the clock or, with one thread, of that thread's processor time: other processes on
/// its core then do not count.
double now(bool processor_time) {
  timespec t{};
  clock_gettime(processor_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double seconds_of(const std::function<void()>& f, int calls, bool processor_time) {
  const double start = now(processor_time);
  for (int i = 0; i < calls; ++i) f();
  return (now(processor_time) - start) / calls;
}

/// A measurement: `work` is multiply-adds or bytes per call.
struct Case {
  std::string name;
  double flop, bytes;
  std::function<void()> run;
  int calls = 1;
  double best = 1e30;
};

/// Every thread runs FMA chains; 0: not measured on this instruction set.
Case peak_case(const Cpu& cpu, int threads) {
  return {"FMA peak", bench::multiply_add(cpu, threads), 0,
          [=] { bench::multiply_add(cpu, threads); }};
}

struct Setup {
  Cpu cpu;
  std::vector<Floats> memory;
  std::vector<Case> cases;
  std::string only;  // cases whose name lacks this are left out

  float* take(std::int64_t count) {
    memory.push_back(numbers(count));
    return memory.back().get();
  }
  /// bfloat16 numbers: the upper halves of others.
  Bf16* take_halves(std::int64_t count) {
    float* memory_of_both = take((count + 1) / 2);
    Floats from = numbers(count);
    auto* x = reinterpret_cast<Bf16*>(memory_of_both);
    for (std::int64_t i = 0; i < count; ++i) x[i] = narrowed(from.get()[i]);
    return x;
  }
  bool wants(const std::string& name) const { return name.find(only) != std::string::npos; }
};

std::string label(const char* kind, std::int64_t t, std::int64_t n, std::int64_t k) {
  return std::string(kind) + " T=" + std::to_string(t) + " N=" + std::to_string(n) +
         " K=" + std::to_string(k);
}

void add_forward(Setup& s, std::int64_t t, std::int64_t n, std::int64_t k, SumOrder order) {
  const std::string name = label(order == SumOrder::chain ? "y  chain " : "y  leaves", t, n, k);
  if (!s.wants(name)) return;
  float *x = s.take(t * k), *y = s.take(t * n), *packed = s.take(packed_weight_size(n, k));
  const Cpu cpu = s.cpu;
  const double weights = static_cast<double>(n * k);
  s.cases.push_back({name, 2 * static_cast<double>(t) * weights, 4 * weights, [=] {
                       linear_forward(cpu, y, n, x, k, packed, nullptr, t, n, k, order,
                                      Update::overwrite);
                     }});
}

void add_forward_bf16(Setup& s, std::int64_t t, std::int64_t n, std::int64_t k, SumOrder order) {
  const std::string name =
      label(order == SumOrder::chain ? "bf16 y  chain " : "bf16 y  leaves", t, n, k);
  if (!s.wants(name)) return;
  Bf16 *x = s.take_halves(t * k), *y = s.take_halves(t * n),
       *packed = s.take_halves(packed_weight_size(n, k, order));
  const Cpu cpu = s.cpu;
  const double weights = static_cast<double>(n * k);
  s.cases.push_back({name, 2 * static_cast<double>(t) * weights, 2 * weights, [=] {
                       linear_forward(cpu, y, n, x, k, packed, nullptr, t, n, k, order,
                                      Update::overwrite);
                     }});
}

void add_backward_bf16(Setup& s, std::int64_t t, std::int64_t n, std::int64_t k, SumOrder order) {
  const std::string dx_name =
      label(order == SumOrder::chain ? "bf16 dX chain " : "bf16 dX leaves", t, n, k);
  const std::string dw_name = label("bf16 dW       ", t, n, k);
  if (!s.wants(dx_name) && !s.wants(dw_name)) return;
  Bf16 *x = s.take_halves(t * k), *w = s.take_halves(n * k), *dy = s.take_halves(t * n),
       *dx = s.take_halves(t * k);
  float* dw = s.take(n * k);
  const Cpu cpu = s.cpu;
  const double weights = static_cast<double>(n * k);
  const double flop = 2 * static_cast<double>(t) * weights;
  if (s.wants(dx_name)) {
    s.cases.push_back({dx_name, flop, 2 * weights, [=] {
                         linear_backward_input(cpu, dx, k, dy, n, w, k, t, n, k, order,
                                               Update::overwrite);
                       }});
  }
  if (s.wants(dw_name)) {
    s.cases.push_back({dw_name, flop, 4 * weights, [=] {
                         const std::int32_t whole[] = {0, static_cast<std::int32_t>(t)};
                         linear_backward_weight(cpu, dw, k, dy, n, x, k, whole, 1, n, k,
                                                Chain::resume);
                       }});
  }
}

void add_backward(Setup& s, std::int64_t t, std::int64_t n, std::int64_t k, SumOrder order) {
  const std::string dx_name = label(order == SumOrder::chain ? "dX chain " : "dX leaves", t, n, k);
  const std::string dw_name = label("dW       ", t, n, k);
  if (!s.wants(dx_name) && !s.wants(dw_name)) return;
  float *x = s.take(t * k), *w = s.take(n * k), *dy = s.take(t * n), *dx = s.take(t * k),
        *dw = s.take(n * k);
  const Cpu cpu = s.cpu;
  const double weights = static_cast<double>(n * k);
  const double flop = 2 * static_cast<double>(t) * weights;
  if (s.wants(dx_name)) {
    s.cases.push_back({dx_name, flop, 4 * weights, [=] {
                         linear_backward_input(cpu, dx, k, dy, n, w, k, t, n, k, order,
                                               Update::overwrite);
                       }});
  }
  if (s.wants(dw_name)) {
    s.cases.push_back({dw_name, flop, 4 * weights, [=] {
                         linear_backward_weight(cpu, dw, k, dy, n, x, k, t, n, k, Chain::resume);
                       }});
  }
}

void add_tiny_model(Setup& s) {
  for (const std::int64_t t : {1, 16, 64, 512, 2048}) {
    add_forward(s, t, 256, 128, SumOrder::chain);
    add_forward(s, t, 128, 128, SumOrder::leaves);
    add_forward(s, t, 768, 128, SumOrder::chain);
    add_forward(s, t, 128, 384, SumOrder::leaves);
    add_forward(s, t, 448, 128, SumOrder::chain);
    if (t < 64) continue;
    add_backward(s, t, 256, 128, SumOrder::leaves);
    add_backward(s, t, 128, 128, SumOrder::chain);
    add_backward(s, t, 384, 128, SumOrder::leaves);
    add_backward(s, t, 128, 384, SumOrder::chain);
    add_backward(s, t, 448, 128, SumOrder::leaves);
  }
}

void add_large(Setup& s) {
  for (const std::int64_t t : {1, 2, 4, 8, 16, 32, 64}) {
    add_forward(s, t, 32768, 1024, SumOrder::chain);
    add_forward_bf16(s, t, 32768, 1024, SumOrder::chain);
    add_forward(s, t, 16384, 3072, SumOrder::leaves);
    add_forward_bf16(s, t, 16384, 3072, SumOrder::leaves);
  }
  for (const std::int64_t t : {128, 512, 2048}) {
    add_forward(s, t, 3072, 1024, SumOrder::chain);
    add_forward_bf16(s, t, 3072, 1024, SumOrder::chain);
    add_forward(s, t, 1024, 3072, SumOrder::leaves);
    add_forward_bf16(s, t, 1024, 3072, SumOrder::leaves);
    add_backward(s, t, 3072, 1024, SumOrder::leaves);
    add_backward_bf16(s, t, 3072, 1024, SumOrder::leaves);
    add_backward(s, t, 1024, 3072, SumOrder::chain);
    add_backward_bf16(s, t, 1024, 3072, SumOrder::chain);
  }
}

void add_pack(Setup& s) {
  const std::int64_t n = 4096, k = 1024;
  if (!s.wants("pack")) return;
  float *w = s.take(n * k), *packed = s.take(n * k);
  const Cpu cpu = s.cpu;
  s.cases.push_back({label("pack     ", 0, n, k), 0, 8.0 * static_cast<double>(n * k),
                     [=] { pack_weight(cpu, packed, w, Storage::f32, n, k); }});
}

/// Reads memory that no cache holds.
Case read_case(const Cpu& cpu, const float* x, std::int64_t count) {
  return {"read bandwidth", 0, 4.0 * static_cast<double>(count),
          [=] { bench::read_all<1, 1024>(cpu, x, count); }};
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  const std::string isa = argc > 2 ? argv[2] : "";
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 7;
  ThreadPool pool(threads);
  Setup setup;
  setup.only = argc > 4 ? argv[4] : "";
  Isa chosen = best_isa();
  for (const Isa one : {Isa::avx2, Isa::avx512, Isa::amx}) {
    if (isa == name_of(one) && supports(one)) chosen = one;
  }
  if (isa == "scalar") chosen = Isa::scalar_fma;
  setup.cpu = {chosen, &pool};
  const std::int64_t stream = std::int64_t{1} << 26;
  const float* memory = setup.take(stream);
  setup.cases.push_back(peak_case(setup.cpu, threads));
  setup.cases.push_back(read_case(setup.cpu, memory, stream));
  add_tiny_model(setup);
  add_large(setup);
  add_pack(setup);
  for (Case& c : setup.cases) {
    const double once =
        std::min(seconds_of(c.run, 1, threads == 1), seconds_of(c.run, 1, threads == 1));
    c.calls = std::max(1, static_cast<int>(0.004 / once));
  }
  for (int round = 0; round < rounds; ++round) {
    for (Case& c : setup.cases) c.best = std::min(c.best, seconds_of(c.run, c.calls, threads == 1));
  }
  const double peak = setup.cases[0].flop / setup.cases[0].best;
  const double bandwidth = setup.cases[1].bytes / setup.cases[1].best;
  std::printf("%s, %d threads\n", name_of(setup.cpu.isa), threads);
  for (const Case& c : setup.cases) {
    std::printf("%-40s %9.1f us %8.1f GFLOP/s %5.1f%% of peak  %6.1f GB/s %5.1f%% of read\n",
                c.name.c_str(), c.best * 1e6, c.flop / c.best * 1e-9,
                peak > 0 ? 100 * c.flop / c.best / peak : 0.0, c.bytes / c.best * 1e-9,
                100 * c.bytes / c.best / bandwidth);
  }
  return 0;
}
