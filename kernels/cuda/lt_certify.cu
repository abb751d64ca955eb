#include <algorithm>
#include <array>
#include <limits>
#include <span>

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/lt_clock.h"
#include "kernels/cuda/lt_plans.h"
#include "kernels/cuda/quad.h"
#include "kernels/philox.h"

/// Which of cuBLASLt's algorithms have the bits of our kernels: those that give every word that
/// ours give, also between the rows, of random operands. What the trials are to tell:
///
/// - another order of a chain (parts of it summed side by side, in one block or in several, larger
///   blocks, another direction) and sums that are rounded elsewhere, or not at all: `mirrored`
///   operands, whose second half is the first in reverse with the other sign, leave nothing but the
///   errors of the sum. A plain sum shows these in float32 alone.
/// - a sum that begins with the old contents instead of ending with them: where mirrored, these are
///   as small as the errors, so that a chain that began with them would have cut them.
/// - where terms are cut off: exponents that lie as in a layer, as far apart as a block's terms
/// meet
///   at all, and so far that most do not.
/// - operands and results that are denormal, which a kernel may take for zero: `tiny`.
/// - rounding to bfloat16: any.
/// - ways of their own for incomplete tiles, and orders that depend on the number of tokens, where
///   blocks share the last tiles: the fewest tokens of a shape, an odd number, and the most.
/// - addresses: the former two begin 16 bytes behind an address of 256 and have gaps between the
///   rows, the last has neither.
///
/// What is equal was tried, not proved.
namespace fst::kernels {

namespace {

using namespace gpu;

constexpr int threads = 256;
constexpr int most_algorithms = 8;
/// How random numbers lie: exponents of a and of the old contents from `lowest` on, `spread` + 1 of
/// them, those of b around 1 where a's are not; a float32 of the old contents is two of bfloat16.
struct Draw {
  std::uint32_t spread;
  bool mirrored;
  bool tiny = false;
};
constexpr Draw plain{2, false}, mirrored{12, true};
constexpr std::array<Draw, 6> draws{
    {plain, {12, false}, {40, false}, {2, true}, mirrored, {3, false, true}}};
constexpr std::array<Draw, 2> few_draws{{plain, mirrored}};
constexpr std::uint32_t exponent_of_1 = 127;
constexpr std::uint32_t below_1 = exponent_of_1 - 6;  // of b, so that tiny sums are denormal too
// Exponents of a mirrored sum's errors, of a few terms of about 1 and of thousands up to 2^12.
constexpr std::uint32_t smallest_error = exponent_of_1 - 24, largest_error = exponent_of_1 - 6;

/// Random bf16: sign, seven bits of fraction, an exponent; one in 16 is zero.
DEVICE std::uint32_t random_half(std::uint32_t word, std::uint32_t lowest, std::uint32_t spread) {
  if (word >> 28 == 0) return 0;
  const std::uint32_t exponent = lowest + (word >> 8 & 0xffff) % (spread + 1);
  return (word & 1) << 15 | exponent << 7 | (word >> 1 & 127);
}

/// A random matrix of an operand: where its inner indices are, and how many a chain has.
struct Operand {
  std::int64_t ld;
  Lies lies;
  std::int32_t inner;
  bool mirrored, negative;  // the second half of a chain is the first; with the other sign
  std::uint32_t seed, lowest, spread;
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
  return random_half(words[0], o.lowest, o.spread) ^ (second && o.negative ? 0x8000u : 0u);
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

/// Device memory of whole words of 16 bytes behind `front` bytes, until the end of the scope.
class Array {
 public:
  Array(const Cuda& cuda, std::int64_t bytes, std::int64_t front = 0)
      : cuda_(cuda), quads_(parts_of(bytes, 16)), front_(front) {
    memory_ = allocate(cuda, static_cast<std::size_t>(front + 16 * quads_));
    if (memory_ == nullptr) throw OutOfMemory(no_room_to_compare);
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { release(cuda_, memory_); }

  void* data() const { return static_cast<unsigned char*>(memory_) + front_; }
  const uint4* quads() const { return static_cast<const uint4*>(data()); }
  std::int64_t size() const { return quads_; }
  void fill(const Operand& operand) {
    launch(random_kernel, blocks_of(quads_), dim3(threads), 0, cuda_.stream,
           static_cast<uint4*>(data()), quads_, operand);
  }

 private:
  const Cuda& cuda_;
  std::int64_t quads_, front_;
  void* memory_ = nullptr;
};

/// Elements of a gap between rows, and bytes before the first.
constexpr int ragged_gap = 8;
constexpr std::int64_t ragged_front = 16;

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
  Trial(const Cuda& cuda, lt::Handle handle, const LtShape& shape, int tokens, bool ragged)
      : cuda_(cuda),
        handle_(handle),
        product_(product_of(shape, tokens, ragged ? ragged_gap : 0)),
        a_(cuda, 2 * elements_of_a(product_), ragged ? ragged_front : 0),
        b_(cuda, 2 * elements_of_b(product_), ragged ? ragged_front : 0),
        own_(cuda, bytes_of_c(product_), ragged ? ragged_front : 0),
        other_(cuda, bytes_of_c(product_), ragged ? ragged_front : 0),
        count_(cuda, sizeof(std::int64_t)) {
    product_.a = static_cast<const Bf16*>(a_.data());
    product_.b = static_cast<const Bf16*>(b_.data());
  }

  /// Other operands, and what our kernels make of them.
  void draw(std::uint32_t seed, const Draw& how) {
    const std::uint32_t middle = (how.tiny ? below_1 : exponent_of_1) - how.spread / 2;
    const std::uint32_t lowest = how.tiny ? 0 : middle;
    const LtProduct& p = product_;
    a_.fill({p.lda, p.a_lies, p.inner, how.mirrored, false, 3 * seed, lowest, how.spread});
    b_.fill({p.ldb, p.b_lies, p.inner, how.mirrored, true, 3 * seed + 1, middle, how.spread});
    old_ = {16, Lies::inner, 16, false, false, 3 * seed + 2, lowest, how.spread};
    if (how.mirrored) old_.lowest = smallest_error, old_.spread = largest_error - smallest_error;
    own_.fill(old_);
    multiply_chains(cuda_, to(own_));
  }
  /// Every word, so also that nothing is written between the rows.
  bool equal(const LtAlgorithm& algorithm) {
    other_.fill(old_);
    lt_multiply(cuda_, handle_, to(other_), algorithm, nullptr);
    zero(cuda_, count_.data(), sizeof(std::int64_t));
    auto* const count = static_cast<std::int64_t*>(count_.data());
    launch(compare_kernel, blocks_of(own_.size()), dim3(threads), 0, cuda_.stream, count,
           own_.quads(), other_.quads(), own_.size());
    return read_word(cuda_, count) == 0;
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
  Array a_, b_, own_, other_, count_;
  Operand old_{};  // contents of a result
};

/// Leaves those algorithms that have our bits on this many tokens.
void keep_equal(Trial& trial, std::uint32_t seed, std::span<const Draw> kinds,
                std::vector<LtAlgorithm>& algorithms) {
  for (const Draw& draw : kinds) {
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
    float time = std::numeric_limits<float>::infinity();
    try {
      time = clock.milliseconds([&] { trial.run(algorithm); });
    } catch (const LtError&) {  // it did it before; the others may still
    }
    if (time >= plan.milliseconds) continue;
    plan.milliseconds = time;
    plan.algorithm = algorithm;
  }
  plan.use = plan.milliseconds < plan.own_milliseconds;
}

void certify(const Cuda& cuda, lt::Handle handle, const LtShape& shape, LtPlan& plan) {
  const int most = plan.most_tokens, tokens = shape.tokens;
  std::vector<LtAlgorithm> algorithms =
      lt_algorithms(handle, product_of(shape, most, 0), LtSums::chain, most_algorithms);
  plan.offered = static_cast<int>(algorithms.size());
  if (plan.offered == 0) return;
  const int least = tokens == tokens_of_plan(1) ? 1 : tokens / 2 + 1;
  const int odd = std::min((least + most) / 2 | 1, most);
  {
    Trial trial(cuda, handle, shape, least, true);
    keep_equal(trial, 1, draws, algorithms);
  }
  {
    Trial trial(cuda, handle, shape, odd, true);
    keep_equal(trial, 1 + draws.size(), few_draws, algorithms);
  }
  Trial trial(cuda, handle, shape, most, false);
  keep_equal(trial, 1 + draws.size() + few_draws.size(), draws, algorithms);
  plan.equal = static_cast<int>(algorithms.size());
  if (plan.equal > 0) choose_fastest(cuda, trial, algorithms, plan);
}

}  // namespace

LtPlan certified_plan(const Cuda& cuda, lt::Handle handle, const LtShape& shape, int most_tokens) {
  LtPlan plan;
  plan.most_tokens = most_tokens;
  try {
    certify(cuda, handle, shape, plan);
  } catch (const LtError& error) {
    plan.use = false;
    plan.problem = error.what();
  } catch (const OutOfMemory&) {
    plan.use = false;
    plan.problem = no_room_to_compare;
  } catch (const CudaError& error) {
    throw std::runtime_error("while cuBLASLt " + lt_library().version_text() +
                             " was compared with our kernels, " + text_of(shape) + ": " +
                             error.what());
  }
  return plan;
}

LtPlan first_plan(lt::Handle handle, const LtShape& shape) {
  LtPlan plan;
  plan.most_tokens = std::numeric_limits<int>::max();
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
