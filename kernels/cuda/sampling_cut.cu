#include "kernels/cuda/ranks.h"

namespace fst::kernels {

namespace {

using namespace gpu;

// A block walks through the ranks of a row, one sorted chunk after the other: the sum of top-p is
// defined in rank order, and seldom needs more than the first chunk.
constexpr int cut_threads = 512;
constexpr int chunk_ranks = 2048;
constexpr float chunk_nats = 8.0f;  // of the greatest logit: where nearly all of the mass is
constexpr int bins = 256;

struct CutShared {
  std::uint64_t keys[chunk_ranks];
  float weights[chunk_ranks];
  std::int32_t counts[bins];
  std::int32_t warps[cut_threads / 32];
  std::int32_t digit, rest;
  bool exact;
  double sum;  // of the ranks walked so far
  std::int64_t walked;
  std::uint64_t cut;  // the last of them
  bool enough;
};

/// A row and its law.
struct Row {
  const float* logits;
  std::int64_t vocab;
  float max, beta;
};

/// Takes the keys that satisfy `wanted` to shared memory, or the first chunk_ranks of them in order
/// of ids. Returns how many there are.
template <class Wanted>
DEVICE std::int64_t gather(CutShared& shared, const Row& row, Wanted wanted) {
  std::int64_t found = 0;
  for (std::int64_t begin = 0; begin < row.vocab; begin += cut_threads) {
    const std::int64_t v = begin + threadIdx.x;
    const float z = v < row.vocab ? row.logits[v] : 0.0f;
    const std::uint64_t key = rank_key(z, v);
    const bool flag = v < row.vocab && wanted(z, key);
    const FlagRank rank = rank_flags<cut_threads>(flag, shared.warps);
    if (flag && found + rank.before < chunk_ranks) shared.keys[found + rank.before] = key;
    found += rank.all;
  }
  sync_block();
  return found;
}

/// The count-th of the keys from `from` on (there are as many), by their bytes from the highest
/// down.
DEVICE std::uint64_t key_at(CutShared& shared, const Row& row, std::uint64_t from,
                            std::int32_t count) {
  std::uint64_t prefix = 0, mask = 0;
  for (int shift = 56; shift >= 0; shift -= 8) {
    if (threadIdx.x < bins) shared.counts[threadIdx.x] = 0;
    sync_block();
    for (std::int64_t v = threadIdx.x; v < row.vocab; v += cut_threads) {
      const std::uint64_t key = rank_key(row.logits[v], v);
      if (key >= from && (key & mask) == prefix)
        add_atomic(&shared.counts[(key >> shift) & 255], 1);
    }
    sync_block();
    if (threadIdx.x == 0) {
      int digit = 0;
      std::int32_t rest = count;
      while (rest > shared.counts[digit]) rest -= shared.counts[digit++];
      shared.digit = digit;
      shared.rest = rest;
      shared.exact = rest == shared.counts[digit];
    }
    sync_block();
    prefix |= static_cast<std::uint64_t>(shared.digit) << shift;
    mask |= std::uint64_t{255} << shift;
    count = shared.rest;
    if (shared.exact) break;  // all that share the prefix belong to it
  }
  return prefix | ~mask;
}

/// Sorts the first `count` keys, ascending (bitonic).
DEVICE void sort(CutShared& shared, int count) {
  int size = 1;
  while (size < count) size *= 2;
  for (int i = count + static_cast<int>(threadIdx.x); i < size; i += cut_threads) {
    shared.keys[i] = last_rank;
  }
  sync_block();
  for (int run = 2; run <= size; run *= 2) {
    for (int step = run / 2; step > 0; step /= 2) {
      for (int i = static_cast<int>(threadIdx.x); i < size / 2; i += cut_threads) {
        const int low = (i / step) * 2 * step + i % step;
        const std::uint64_t a = shared.keys[low], b = shared.keys[low + step];
        const bool ascending = (low & run) == 0;
        if ((a > b) == ascending) {
          shared.keys[low] = b;
          shared.keys[low + step] = a;
        }
      }
      sync_block();
    }
  }
}

/// Walks until the sum of weights reaches `wanted` or `ranks` are taken; shared.sum and shared.cut
/// say where that was.
DEVICE void walk(CutShared& shared, const Row& row, std::int64_t ranks, double wanted) {
  if (threadIdx.x == 0) {
    shared.sum = 0.0;
    shared.walked = 0;
    shared.enough = false;
  }
  sync_block();
  std::uint64_t from = 0;
  for (std::int64_t taken = 0; !shared.enough;) {
    const auto likely = [&](float z, std::uint64_t key) {
      return key >= from && (z - row.max) * row.beta >= -chunk_nats;
    };
    std::int64_t found = gather(shared, row, likely);
    if (found == 0 || found > chunk_ranks) {
      const std::int64_t rest = row.vocab - taken;
      const std::uint64_t last = key_at(
          shared, row, from, static_cast<std::int32_t>(rest < chunk_ranks ? rest : chunk_ranks));
      found =
          gather(shared, row, [&](float, std::uint64_t key) { return key >= from && key <= last; });
    }
    const int count = static_cast<int>(found);
    sort(shared, count);
    for (int i = static_cast<int>(threadIdx.x); i < count; i += cut_threads) {
      shared.weights[i] = weight_of(logit_of(shared.keys[i]), row.max, row.beta);
    }
    sync_block();
    from = shared.keys[count - 1] + 1;
    taken += count;
    if (threadIdx.x == 0) {
      double sum = shared.sum;
      std::int64_t walked = shared.walked;
      int i = 0;
      while (i < count && walked < ranks && (walked == 0 || sum < wanted)) {
        sum = sum + static_cast<double>(shared.weights[i++]);
        ++walked;
      }
      if (i > 0) shared.cut = shared.keys[i - 1];
      shared.sum = sum;
      shared.walked = walked;
      shared.enough = i < count || walked == ranks || !(sum < wanted);
    }
    sync_block();
  }
}

KERNEL(cut_threads, 2)
cut_row(std::uint64_t* cuts, const float* logits, const LawSum* totals, std::int64_t stride,
        std::int64_t vocab, float beta, SamplingRule rule) {
  CutShared& shared = shared_memory<CutShared>();
  const LawSum total = totals[blockIdx.x];
  if (total.sum != total.sum) return;
  const Row row{logits + blockIdx.x * stride, vocab, total.max, beta};
  const bool first_ranks = rule.top_k > 0 && rule.top_k < vocab;
  const std::int64_t ranks = first_ranks ? rule.top_k : vocab;
  double mass = static_cast<double>(total.sum);
  if (first_ranks) {
    walk(shared, row, ranks, static_cast<double>(infinity()));
    mass = shared.sum;
    sync_block();  // all have read the sum
  }
  if (rule.top_p < 1.0f) walk(shared, row, ranks, static_cast<double>(rule.top_p) * mass);
  if (threadIdx.x == 0) cuts[blockIdx.x] = shared.cut;
}

}  // namespace

namespace gpu {

void cut_ranks(const Cuda& cuda, std::uint64_t* cuts, const float* logits, const LawSum* totals,
               std::int64_t rows, std::int64_t stride, std::int64_t vocab, float beta,
               const SamplingRule& rule) {
  launch(cut_row, dim3(static_cast<unsigned>(rows)), dim3(cut_threads), sizeof(CutShared),
         cuda.stream, cuts, logits, totals, stride, vocab, beta, rule);
}

}  // namespace gpu

}  // namespace fst::kernels
