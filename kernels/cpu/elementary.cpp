#include "kernels/elementary.h"

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/elementary_isa.h"

namespace fst::kernels {

template <>
void exp_each(const Cpu& cpu, float* y, const float* x, std::int64_t n) {
  for_isa(cpu, [&]<Isa isa>() { Elementary<isa>::exp_each(y, x, n); });
}

template <>
void log_each(const Cpu& cpu, float* y, const float* x, std::int64_t n) {
  for_isa(cpu, [&]<Isa isa>() { Elementary<isa>::log_each(y, x, n); });
}

template <>
float row_dot(const Cpu& cpu, const float* x, const float* y, std::int64_t n) {
  return for_isa(cpu, [&]<Isa isa>() { return Elementary<isa>::row_dot(x, y, n); });
}

void sine_cosine_each(const Cpu& cpu, double* sine, double* cosine, const double* x,
                      std::int64_t n) {
  for_isa(cpu, [&]<Isa isa>() { Elementary<isa>::sine_cosine_each(sine, cosine, x, n); });
}

double power(const Cpu& cpu, double base, double exponent) {
  return for_isa(cpu, [&]<Isa isa>() { return Elementary<isa>::power(base, exponent); });
}

}  // namespace fst::kernels
