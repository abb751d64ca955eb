#include <algorithm>
#include <array>
#include <limits>
#include <memory>

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/lt_plans.h"
#include "kernels/cuda/quad.h"
#include "kernels/philox.h"

/// Which of cuBLASLt's algorithms have the bits of our kernels.
namespace fst::kernels {

namespace {

using namespace gpu;

constexpr int threads = 256;
constexpr int most_algorithms = 8;
/// Random operands: `spread` is how far their exponents lie apart, as in a layer, as far as a
/// block's terms still meet, and so far that most are cut off. Where `mirrored`, the second half of
/// a chain is the first in reverse with the other sign: what is left are the chain's rounding
/// errors, so that an order that differs shows in a bf16 too, which would hide it in a plain sum's
/// last bits.
struct Draw {
  std::uint32_t spread;
  bool mirrored;
};
constexpr std::array<Draw, 5> draws{{{2, false}, {12, false}, {40, false}, {2, true}, {12, true}}};
constexpr int samples = 3, calls_of_sample = 4;

/// Random bf16: sign, seven bits of fraction, an exponent of `spread` around 0; one in 16 is zero.
DEVICE std::uint32_t random_half(std::uint32_t word, std::uint32_t spread) {
  if (word >> 28 == 0) return 0;
  const std::uint32_t exponent = 127 - spread / 2 + (word >> 8 & 0xffff) % (spread + 1);
  return (word & 1) << 15 | exponent << 7 | (word >> 1 & 127);
}

/// A random matrix of an operand: where its inner indices are, and how many a chain has.
struct Operand {
  std::int64_t ld;
  Lies lies;
  std::int32_t inner;
  bool mirrored, negative;  // the second half of a chain is the first; with the other sign
  std::uint32_t seed, spread;
};

/// Element `column` of row `row` in memory.
DEVICE std::uint32_t random_element(const Operand& o, std::int64_t row, std::int64_t column) {
  const std::int64_t along = o.lies == Lies::inner ? column : row;
  const auto across = static_cast<std::uint32_t>(o.lies == Lies::inner ? row : column);
  const auto chain = static_cast<std::uint32_t>(along / o.inner);
  auto k = static_cast<std::int32_t>(along % o.inner);
  const bool second = o.mirrored && k >= (o.inner + 1) / 2;
  if (second) k = o.inner - 1 - k;
  const auto words = philox({static_cast<std::uint32_t>(k), across, chain, 0}, {o.seed, 0});
  return random_half(words[0], o.spread) ^ (second && o.negative ? 0x8000u : 0u);
}

/// Eight elements of bf16 a thread; `quads` of them.
KERNEL(threads, 4) random_kernel(uint4* to, std::int64_t quads, PARAMETER Operand o) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i >= quads) return;
  std::uint32_t out[4];
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    const std::int64_t at = 8 * i + 2 * w;  // rows are of whole eights
    const std::int64_t row = at / o.ld, column = at % o.ld;
    out[w] = random_element(o, row, column) | random_element(o, row, column + 1) << 16;
  }
  to[i] = {out[0], out[1], out[2], out[3]};
}

/// Adds to `count` how many words differ.
KERNEL(threads, 4)
compare_kernel(std::int64_t* count, const uint4* x, const uint4* y, std::int64_t quads) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i >= quads) return;
  const uint4 u = x[i], v = y[i];
  const int differ = (u.x != v.x) + (u.y != v.y) + (u.z != v.z) + (u.w != v.w);
  if (differ > 0) add_atomic(count, std::int64_t{differ});
}

dim3 blocks_of(std::int64_t quads) {
  return dim3(static_cast<unsigned>(parts_of(quads, threads)));
}

/// Not enough memory to compare.
struct NoRoom {};

/// Device memory of whole words of 16 bytes, until the end of the scope.
class Array {
 public:
  Array(const Cuda& cuda, std::int64_t bytes) : cuda_(cuda), quads_(parts_of(bytes, 16)) {
    memory_ = allocate(cuda, static_cast<std::size_t>(16 * quads_));
    if (memory_ == nullptr) throw NoRoom{};
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { release(cuda_, memory_); }

  void* data() const { return memory_; }
  void fill(const Operand& operand) {
    launch(random_kernel, blocks_of(quads_), dim3(threads), 0, cuda_.stream,
           static_cast<uint4*>(memory_), quads_, operand);
  }
  /// Old contents of a result: as floats, words whose low bits are random too. None where a sum's
  /// errors are looked at.
  void fill_result(std::uint32_t seed, const Draw& draw) {
    if (draw.mirrored) return zero(cuda_, memory_, static_cast<std::size_t>(16 * quads_));
    fill({16, Lies::inner, 16, false, false, seed, draw.spread});
  }
  bool equals(const Array& other) const {
    const Array count(cuda_, 16);
    zero(cuda_, count.memory_, 16);
    launch(compare_kernel, blocks_of(quads_), dim3(threads), 0, cuda_.stream,
           static_cast<std::int64_t*>(count.memory_), static_cast<const uint4*>(memory_),
           static_cast<const uint4*>(other.memory_), quads_);
    return read_word(cuda_, static_cast<const std::int64_t*>(count.memory_)) == 0;
  }

 private:
  const Cuda& cuda_;
  std::int64_t quads_;
  void* memory_ = nullptr;
};

/// A product of a shape with so many tokens, rows `gap` elements apart.
LtProduct product_of(const LtShape& shape, int tokens, int gap) {
  const bool gradient = shape.a_lies == Lies::outer;
  LtProduct p{};
  p.rows = gradient ? shape.rows : tokens;
  p.columns = shape.columns;
  p.inner = gradient ? tokens : shape.inner;
  p.batch = shape.chains;
  p.narrow = shape.narrow, p.add = shape.add;
  p.a_lies = shape.a_lies, p.b_lies = shape.b_lies;
  p.lda = (gradient ? p.rows : p.inner * p.batch) + gap, p.a_step = p.inner;
  const bool across = p.b_lies == Lies::inner;
  p.ldb = (across ? p.inner * p.batch : p.columns) + gap;
  p.b_step = across ? p.inner : p.inner * p.ldb;
  p.ldc = p.columns + (p.batch == 1 ? gap : 0), p.c_step = p.rows * p.ldc;
  return p;
}
std::int64_t elements_of_a(const LtProduct& p) {
  return p.lda * (p.a_lies == Lies::inner ? p.rows : p.inner);
}
std::int64_t elements_of_b(const LtProduct& p) {
  return p.ldb * (p.b_lies == Lies::inner ? p.columns : p.inner * p.batch);
}
std::int64_t bytes_of_c(const LtProduct& p) {
  return p.batch * p.rows * p.ldc * (p.narrow ? 2 : 4);
}

/// Our product of the same operands, its `batch` chains joined.
Bf16Product joined(const LtProduct& p) {
  Bf16Product own{};
  own.c = p.c, own.ldc = p.ldc, own.narrow = p.narrow, own.add = p.add;
  own.a = p.a, own.lda = p.lda;
  own.b = p.b, own.ldb = p.ldb, own.b_lies = p.b_lies;
  own.rows = p.rows, own.columns = p.columns;
  own.starts[1] = p.inner * p.batch;
  own.matrices = 1, own.leaves = p.batch;
  own.wide = true;
  return own;
}

void multiply_gradient(const Cuda& cuda, const LtProduct& p) {
  const Bf16Gradient own{
      static_cast<float*>(p.c), p.ldc, p.a, p.lda, p.b, p.ldb, p.rows, p.columns, p.add, true};
  Sequences one{};
  one.count = 1;
  one.starts[1] = p.inner;
  one.blocks[1] = static_cast<int>(parts_of(p.inner, tensor_block));
  run(cuda, own, one, plan_of(cuda, own, one));
}

/// All chains, each by itself, by our kernels.
void multiply_chains(const Cuda& cuda, const LtProduct& p) {
  if (p.a_lies == Lies::outer) return multiply_gradient(cuda, p);
  for (int i = 0; i < p.batch; ++i) {
    Bf16Product own = joined(p);
    own.a += i * p.a_step, own.b += i * p.b_step;
    own.c = static_cast<unsigned char*>(p.c) + i * p.c_step * (p.narrow ? 2 : 4);
    own.starts[1] = p.inner;
    own.leaves = 1;
    run(cuda, own, plan_of(cuda, own));
  }
}

/// What a call of the job costs, with its join.
void multiply_joined(const Cuda& cuda, const LtProduct& p) {
  if (p.a_lies == Lies::outer) return multiply_gradient(cuda, p);
  const Bf16Product own = joined(p);
  run(cuda, own, plan_of(cuda, own));
}

/// Operands of a shape and what two ways make of them.
class Trial {
 public:
  Trial(const Cuda& cuda, lt::Handle handle, const LtShape& shape, int tokens, int gap)
      : cuda_(cuda),
        handle_(handle),
        product_(product_of(shape, tokens, gap)),
        a_(cuda, 2 * elements_of_a(product_)),
        b_(cuda, 2 * elements_of_b(product_)),
        own_(cuda, bytes_of_c(product_)),
        other_(cuda, bytes_of_c(product_)) {
    product_.a = static_cast<const Bf16*>(a_.data());
    product_.b = static_cast<const Bf16*>(b_.data());
  }

  /// Other operands, and what our kernels make of them.
  void draw(std::uint32_t seed, const Draw& how) {
    seed_ = 3 * seed, draw_ = how;
    const LtProduct& p = product_;
    a_.fill({p.lda, p.a_lies, p.inner, how.mirrored, false, seed_, how.spread});
    b_.fill({p.ldb, p.b_lies, p.inner, how.mirrored, true, seed_ + 1, how.spread});
    own_.fill_result(seed_ + 2, draw_);
    multiply_chains(cuda_, to(own_));
  }
  /// Every word, so also that nothing is written between the rows.
  bool equal(const LtAlgorithm& algorithm) {
    other_.fill_result(seed_ + 2, draw_);
    lt_multiply(cuda_, handle_, to(other_), algorithm, nullptr);
    return own_.equals(other_);
  }
  void run_own() { multiply_joined(cuda_, to(own_)); }
  void run(const LtAlgorithm& algorithm) {
    lt_multiply(cuda_, handle_, to(other_), algorithm, nullptr);
    if (product_.batch == 1) return;
    const LtProduct result = to(own_);
    join_partials(cuda_, joined(result), {static_cast<float*>(other_.data()), product_.ldc});
  }

 private:
  LtProduct to(const Array& c) const {
    LtProduct p = product_;
    p.c = c.data();
    return p;
  }

  const Cuda& cuda_;
  lt::Handle handle_;
  LtProduct product_;
  Array a_, b_, own_, other_;
  std::uint32_t seed_ = 0;
  Draw draw_{};
};

/// The least time of a call.
class Clock {
 public:
  explicit Clock(const Cuda& cuda) : cuda_(cuda) {
    check(cudaEventCreateWithFlags(&begin_, 0), "cudaEventCreate");
    check(cudaEventCreateWithFlags(&end_, 0), "cudaEventCreate");
  }
  Clock(const Clock&) = delete;
  Clock& operator=(const Clock&) = delete;
  ~Clock() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  template <class Call>
  float milliseconds(const Call& call) {
    float least = std::numeric_limits<float>::infinity();
    call();
    for (int i = 0; i < samples; ++i) {
      check(cudaEventRecord(begin_, cuda_.stream), "cudaEventRecord");
      for (int c = 0; c < calls_of_sample; ++c) call();
      check(cudaEventRecord(end_, cuda_.stream), "cudaEventRecord");
      check(cudaEventSynchronize(end_), "cudaEventSynchronize");
      float time = 0.0f;
      check(cudaEventElapsedTime(&time, begin_, end_), "cudaEventElapsedTime");
      least = std::min(least, time / calls_of_sample);
    }
    return least;
  }

 private:
  const Cuda& cuda_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

/// Leaves those algorithms that have our bits on this many tokens.
void keep_equal(Trial& trial, std::uint32_t seed, std::vector<LtAlgorithm>& algorithms) {
  for (const Draw& draw : draws) {
    if (algorithms.empty()) return;
    trial.draw(seed++, draw);
    std::erase_if(algorithms, [&](const LtAlgorithm& algorithm) {
      try {
        return !trial.equal(algorithm);
      } catch (const LtError&) {
        return true;
      }
    });
  }
}

void choose_fastest(const Cuda& cuda, Trial& trial, const std::vector<LtAlgorithm>& equal,
                    LtPlan& plan) {
  Clock clock(cuda);
  plan.own_milliseconds = clock.milliseconds([&] { trial.run_own(); });
  plan.milliseconds = std::numeric_limits<float>::infinity();
  for (const LtAlgorithm& algorithm : equal) {
    const float time = clock.milliseconds([&] { trial.run(algorithm); });
    if (time >= plan.milliseconds) continue;
    plan.milliseconds = time;
    plan.algorithm = algorithm;
  }
  plan.use = plan.milliseconds < plan.own_milliseconds;
}

void certify(const Cuda& cuda, lt::Handle handle, const LtShape& shape, LtPlan& plan) {
  std::vector<LtAlgorithm> algorithms =
      lt_algorithms(handle, product_of(shape, shape.tokens, 0), LtSums::chain, most_algorithms);
  plan.offered = static_cast<int>(algorithms.size());
  if (plan.offered == 0) return;
  {
    constexpr int gap = 8;
    Trial ragged(cuda, handle, shape, shape.tokens / 2 + 3, gap);
    keep_equal(ragged, 1, algorithms);
  }
  Trial trial(cuda, handle, shape, shape.tokens, 0);
  keep_equal(trial, 1 + draws.size(), algorithms);
  plan.equal = static_cast<int>(algorithms.size());
  if (plan.equal > 0) choose_fastest(cuda, trial, algorithms, plan);
}

}  // namespace

LtPlan certified_plan(const Cuda& cuda, lt::Handle handle, const LtShape& shape) {
  LtPlan plan;
  try {
    certify(cuda, handle, shape, plan);
  } catch (const LtError& error) {
    plan.use = false;
    plan.problem = error.what();
  } catch (const NoRoom&) {
    plan.use = false;
    plan.problem = "not enough memory to compare";
  }
  return plan;
}

LtPlan first_plan(lt::Handle handle, const LtShape& shape) {
  LtPlan plan;
  try {
    const auto found = lt_algorithms(handle, product_of(shape, shape.tokens, 0), LtSums::any, 1);
    plan.offered = static_cast<int>(found.size());
    plan.use = !found.empty();
    if (plan.use) plan.algorithm = found.front();
  } catch (const LtError& error) {
    plan.problem = error.what();
  }
  return plan;
}

}  // namespace fst::kernels
