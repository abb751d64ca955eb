#include "kernels/adamw.h"

#include <algorithm>
#include <mutex>

#include "kernels/cpu/adamw_isa.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/thread_pool.h"

namespace fst::kernels {

namespace {
// Elements per thread below which waking another thread costs more than it saves.
constexpr std::int64_t grain = 16384;
}  // namespace

template <>
void adamw(const Cpu& cpu, float* parameter, float* m, float* v, const float* gradient,
           std::int64_t n, const AdamWScalars& scalars) {
  for_isa(cpu, [&]<Isa isa>() {
    parallel_for(cpu, n, grain, [&](std::int64_t begin, std::int64_t end) {
      AdamW<isa>::step(parameter + begin, m + begin, v + begin, gradient + begin, end - begin,
                       scalars);
    });
  });
}

template <>
void sum_of_squares(const Cpu& cpu, ExactSum& sum, const float* x, std::int64_t n) {
  std::mutex mutex;
  for_isa(cpu, [&]<Isa isa>() {
    parallel_for(cpu, n, grain, [&](std::int64_t begin, std::int64_t end) {
      ExactSum part;
      for (std::int64_t at = begin; at < end; at += square_block) {
        const std::int64_t count = std::min(square_block, end - at);
        double high = 0.0, low = 0.0;
        if (AdamW<isa>::squares(high, low, x + at, count)) {
          part.add(high);
          part.add(low);
        } else {
          for (std::int64_t i = at; i < at + count; ++i) part.add_product(x[i], x[i]);
        }
      }
      const std::lock_guard lock(mutex);
      sum.merge(part);
    });
  });
}

}  // namespace fst::kernels
