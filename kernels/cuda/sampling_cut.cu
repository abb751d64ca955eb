#include "kernels/cuda/ranks.h"

namespace fst::kernels {

namespace {

using namespace gpu;

// A block walks through the ranks of a row, one sorted chunk after the other: the sum of top-p is
// defined in rank order, and seldom needs more than the first chunk, which many blocks have listed.
constexpr int cut_threads = 512;
constexpr int list_threads = 256;
constexpr int chunk_ranks = Candidates::most;
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
  std::int64_t index, vocab;
  float max, beta;
};

/// Takes a row's candidates to shared memory. Returns how many there are, -1 where they are too
/// many.
DEVICE std::int64_t take_candidates(CutShared& shared, const Candidates& from, const Row& row) {
  const std::int64_t found = from.of_row(row.index);
  if (found < 0) return -1;
  std::int64_t before = 0;
  for (std::int64_t p = 0; p < from.parts; ++p) {
    const std::int64_t part = row.index * from.parts + p, count = from.counts[part];
    for (std::int64_t i = threadIdx.x; i < count; i += cut_threads) {
      shared.keys[before + i] = from.keys[part * Candidates::most_in_part + i];
    }
    before += count;
  }
  sync_block();
  return found;
}

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
DEVICE void walk(CutShared& shared, const Row& row, const Candidates& candidates,
                 std::int64_t ranks, double wanted) {
  if (threadIdx.x == 0) {
    shared.sum = 0.0;
    shared.walked = 0;
    shared.enough = false;
  }
  sync_block();
  std::uint64_t from = 0;
  for (std::int64_t taken = 0; !shared.enough;) {
    std::int64_t found = taken == 0 ? take_candidates(shared, candidates, row) : -1;
    if (found < 0) {
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

struct ListShared {
  std::int32_t warps[list_threads / 32];
};

/// Block t parts + p: part p of row t.
KERNEL(list_threads, 8)
list_part(Candidates to, const float* logits, const LawSum* totals, std::int64_t stride,
          std::int64_t vocab, float beta) {
  ListShared& shared = shared_memory<ListShared>();
  const std::int64_t t = blockIdx.x / to.parts, p = blockIdx.x % to.parts;
  const LawSum total = totals[t];
  if (total.sum != total.sum) return;
  const std::int64_t end = vocab * (p + 1) / to.parts;
  std::uint64_t* const keys = to.keys + blockIdx.x * Candidates::most_in_part;
  std::int32_t found = 0;
  for (std::int64_t begin = vocab * p / to.parts; begin < end; begin += list_threads) {
    const std::int64_t v = begin + threadIdx.x;
    const float z = v < end ? logits[t * stride + v] : 0.0f;
    const bool flag = v < end && is_likely(z, total.max, beta);
    const FlagRank rank = rank_flags<list_threads>(flag, shared.warps);
    const std::int64_t place = found + rank.before;
    if (flag && place < Candidates::most_in_part) keys[place] = rank_key(z, v);
    found += rank.all;
  }
  if (threadIdx.x == 0) to.counts[blockIdx.x] = found;
}

KERNEL(cut_threads, 2)
cut_row(std::uint64_t* cuts, const float* logits, const LawSum* totals, Candidates candidates,
        std::int64_t stride, std::int64_t vocab, float beta, SamplingRule rule) {
  CutShared& shared = shared_memory<CutShared>();
  const LawSum total = totals[blockIdx.x];
  if (total.sum != total.sum) return;
  const Row row{logits + blockIdx.x * stride, blockIdx.x, vocab, total.max, beta};
  const bool first_ranks = rule.top_k > 0 && rule.top_k < vocab;
  const std::int64_t ranks = first_ranks ? rule.top_k : vocab;
  double mass = static_cast<double>(total.sum);
  if (first_ranks) {
    walk(shared, row, candidates, ranks, static_cast<double>(infinity()));
    mass = shared.sum;
    sync_block();  // all have read the sum
  }
  if (rule.top_p < 1.0f) {
    walk(shared, row, candidates, ranks, static_cast<double>(rule.top_p) * mass);
  }
  if (threadIdx.x == 0) cuts[blockIdx.x] = shared.cut;
}

/// Whether the candidates of row t are there and hold all that is kept.
DEVICE bool lists_kept(const Compaction& c, const Kept& kept, std::int64_t t) {
  const bool among = c.cuts != nullptr ? is_likely(logit_of(kept.cut), kept.max, kept.beta)
                                       : kept.min_p >= likely_weight;
  return among && c.candidates.of_row(t) >= 0;
}

KERNEL(list_threads, 4)
compact_rows(Compaction c) {
  ListShared& shared = shared_memory<ListShared>();
  const std::int64_t t = blockIdx.x;
  const LawSum total = c.totals[t];
  if (total.sum != total.sum) {
    if (threadIdx.x == 0) c.counts[t] = 0;
    return;
  }
  const Kept kept = kept_of(c.cuts, t, c.min_p, total, c.beta);
  const float* const logits = c.logits + t * c.stride;
  std::int64_t found = 0;
  // Every thread of the block comes with an id, or with one beyond the vocabulary.
  const auto take = [&](std::int64_t v) {
    const float z = v < c.vocab ? logits[v] : 0.0f;
    const bool flag = v < c.vocab && kept(z, v);
    const FlagRank rank = rank_flags<list_threads>(flag, shared.warps);
    if (flag) {
      const std::int64_t to = t * c.vocab + found + rank.before;
      c.left[to] = z;
      if (c.ids != nullptr) c.ids[to] = static_cast<std::int32_t>(v);
    }
    found += rank.all;
  };
  if (lists_kept(c, kept, t)) {
    for (std::int64_t part = t * c.candidates.parts; part < (t + 1) * c.candidates.parts; ++part) {
      const std::uint64_t* const keys = c.candidates.keys + part * Candidates::most_in_part;
      for (std::int64_t begin = 0; begin < c.candidates.counts[part]; begin += list_threads) {
        const std::int64_t i = begin + threadIdx.x;
        take(i < c.candidates.counts[part] ? id_of(keys[i]) : c.vocab);
      }
    }
  } else {
    for (std::int64_t begin = 0; begin < c.vocab; begin += list_threads) take(begin + threadIdx.x);
  }
  if (threadIdx.x == 0) c.counts[t] = found;
}

}  // namespace

namespace gpu {

void list_candidates(const Cuda& cuda, const Candidates& to, const float* logits,
                     const LawSum* totals, std::int64_t rows, std::int64_t stride,
                     std::int64_t vocab, float beta) {
  launch(list_part, dim3(static_cast<unsigned>(rows * to.parts)), dim3(list_threads),
         sizeof(ListShared), cuda.stream, to, logits, totals, stride, vocab, beta);
}

void cut_ranks(const Cuda& cuda, std::uint64_t* cuts, const float* logits, const LawSum* totals,
               const Candidates& candidates, std::int64_t rows, std::int64_t stride,
               std::int64_t vocab, float beta, const SamplingRule& rule) {
  launch(cut_row, dim3(static_cast<unsigned>(rows)), dim3(cut_threads), sizeof(CutShared),
         cuda.stream, cuts, logits, totals, candidates, stride, vocab, beta, rule);
}

void compact(const Cuda& cuda, const Compaction& what, std::int64_t rows) {
  launch(compact_rows, dim3(static_cast<unsigned>(rows)), dim3(list_threads), sizeof(ListShared),
         cuda.stream, what);
}

}  // namespace gpu

}  // namespace fst::kernels
