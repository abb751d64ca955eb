#include <algorithm>

#include "kernels/cuda/ranks.h"
#include "kernels/philox.h"
#include "kernels/sampling.h"

namespace fst::kernels {

namespace {

using namespace gpu;

// A block takes a row, or a part of it where there are few rows.
constexpr int row_threads = 256;
constexpr std::int64_t ids_per_part = 1024;  // at least
constexpr std::int64_t most_parts = 32;
constexpr std::int64_t wanted_blocks = 264;  // two for each multiprocessor of an H100
// Rows whose kept logits are stored at a time: as many as fill a GPU, and no more memory.
constexpr std::int64_t rows_at_once = 128;
constexpr std::int64_t philox_block = 64;  // ids that share 16 Philox counters
constexpr std::uint32_t draw_domain = 1;   // third counter word, as in cpu/sampling.isa.cpp
constexpr float greatest_gumbel = 22.25f;  // above -log(e) for the least e, 2^-32: 22.18

/// -log(-log(1 - w)) with w from one random word; cpu/sampling.isa.cpp explains it.
DEVICE float gumbel(std::uint32_t word) {
  float w = (static_cast<float>(static_cast<std::int32_t>(word >> 1)) + 0.5f) * 0x1p-31f;
  w = lesser(w, 0x1.fffffep-1f);
  const float u = 1.0f - w;
  const float gap = 1.0f - u;
  const float e = gap == 0.0f ? w : -log(u) * (w / gap);
  return -log(e);
}

/// The better of two: greater score, lower id of equals.
struct Best {
  float score;
  std::int32_t id;
  DEVICE void take(Best other) {
    const bool better = other.score > score || (other.score == score && other.id < id);
    score = better ? other.score : score;
    id = better ? other.id : id;
  }
};

/// Four ids share a counter, 16 apart, and so a thread.
struct Quad {
  std::int64_t counter;
  DEVICE std::int64_t id(int part) const {
    return counter / lanes * philox_block + counter % lanes + part * lanes;
  }
};

/// Part `index` of `count` of what is drawn from.
struct Part {
  std::int64_t index, count;
  DEVICE std::int64_t begin(std::int64_t items) const { return items * index / count; }
  DEVICE std::int64_t end(std::int64_t items) const { return items * (index + 1) / count; }
};

/// This thread's part of argmax s + gumbel over what is kept.
DEVICE Best draw_part(const float* logits, std::int64_t vocab, const Kept& kept, std::uint64_t key,
                      std::uint32_t position, Part of) {
  Best best{-infinity(), 0};
  const std::int64_t counters = (vocab + philox_block - 1) / philox_block * lanes;
  const std::int64_t end = of.end(counters);
  for (Quad quad{of.begin(counters) + threadIdx.x}; quad.counter < end;
       quad.counter += row_threads) {
    float s[4];
    float top = -infinity();
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      const std::int64_t v = quad.id(part);
      const float z = v < vocab ? logits[v] : 0.0f;
      s[part] = v < vocab && kept(z, v) ? (z - kept.max) * kept.beta : -infinity();
      top = greater(top, s[part]);
    }
    // No noise can lift these above the best so far (an equal score has a lower id).
    if (top + greatest_gumbel <= best.score) continue;
    const auto words =
        philox({static_cast<std::uint32_t>(quad.counter), position, draw_domain, 0},
               {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)});
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      best.take({s[part] + gumbel(words[static_cast<std::size_t>(part)]),
                 static_cast<std::int32_t>(quad.id(part))});
    }
  }
  return best;
}

/// This thread's part of the first of the greatest logits.
DEVICE Best greedy_part(const float* logits, std::int64_t vocab, Part of) {
  Best best{-infinity(), 0};
  const std::int64_t end = of.end(vocab);
#pragma unroll 8
  for (std::int64_t v = of.begin(vocab) + threadIdx.x; v < end; v += row_threads) {
    best.take({logits[v], static_cast<std::int32_t>(v)});
  }
  return best;
}

struct DrawShared {
  Best best[row_threads / 32];
};

/// The best of the block, known to thread 0.
DEVICE Best best_of_block(Best best) {
  DrawShared& shared = shared_memory<DrawShared>();
  for (int step = 16; step > 0; step /= 2) {
    best.take({shuffle_xor(best.score, step), shuffle_xor(best.id, step)});
  }
  if (threadIdx.x % 32 == 0) shared.best[threadIdx.x / 32] = best;
  sync_block();
  if (threadIdx.x == 0) {
    for (const Best& other : shared.best) best.take(other);
  }
  return best;
}

/// What a draw needs of its rows; nullptr: no cut, nothing left out.
struct Draws {
  const float* logits;
  const std::uint64_t* keys;
  const std::int32_t* positions;
  const LawSum* totals;
  const std::uint64_t* cuts;
  const LawSum* left_totals;
  const std::int64_t* counts;
  std::int64_t rows, parts, stride, vocab;
  float beta, min_p;
  bool greedy;
};

/// The law of what is left: the whole one unless something was left out.
DEVICE LogLaw law_left(LawSum total, const LawSum* left_totals, const std::int64_t* counts,
                       std::int64_t t, std::int64_t vocab, float beta) {
  const LawSum left = counts == nullptr || counts[t] == vocab ? total : left_totals[t];
  return {left.max, log(left.sum), beta};
}

/// Block t parts + i: the best of part i of row t.
KERNEL(row_threads, 4)
draw_parts(Best* bests, Draws in) {
  const std::int64_t t = blockIdx.x / in.parts;
  const Part part{blockIdx.x % in.parts, in.parts};
  const LawSum total = in.totals[t];
  if (total.sum != total.sum) return;
  const float* const logits = in.logits + t * in.stride;
  const Kept kept = kept_of(in.cuts, t, in.min_p, total, in.beta);
  const Best mine = in.greedy ? greedy_part(logits, in.vocab, part)
                              : draw_part(logits, in.vocab, kept, in.keys[t],
                                          static_cast<std::uint32_t>(in.positions[t]), part);
  const Best best = best_of_block(mine);
  if (threadIdx.x == 0) bests[blockIdx.x] = best;
}

/// The best of a row's parts, a thread for each row.
KERNEL(row_threads, 4)
finish_draws(std::int32_t* tokens, float* logprob, const Best* bests, Draws in) {
  const std::int64_t t = static_cast<std::int64_t>(blockIdx.x) * row_threads + threadIdx.x;
  if (t >= in.rows) return;
  const LawSum total = in.totals[t];
  if (total.sum != total.sum) {
    tokens[t] = -1;
    logprob[t] = not_a_number();
    return;
  }
  Best best = bests[t * in.parts];
#pragma unroll 8
  for (std::int64_t i = 1; i < in.parts; ++i) best.take(bests[t * in.parts + i]);
  tokens[t] = best.id;
  logprob[t] = law_left(total, in.left_totals, in.counts, t, in.vocab,
                        in.beta)(in.logits[t * in.stride + best.id]);
}

/// probability[i] = exp(log p) of the kept logits; the greedy rule keeps one. *count, -1 where a
/// logit is not finite.
KERNEL(row_threads, 4)
finish_kept(std::int32_t* ids, float* probability, std::int64_t* count, const float* logits,
            const float* left, const LawSum* totals, const LawSum* left_totals,
            const std::int64_t* counts, std::int64_t vocab, float beta, bool greedy) {
  const LawSum total = totals[0];
  if (total.sum != total.sum) {
    if (threadIdx.x == 0) *count = -1;
    return;
  }
  if (greedy) {
    const Best best = best_of_block(greedy_part(logits, vocab, {0, 1}));
    if (threadIdx.x != 0) return;
    ids[0] = best.id;
    probability[0] = 1.0f;
    *count = 1;
    return;
  }
  const LogLaw log_p = law_left(total, left_totals, counts, 0, vocab, beta);
  for (std::int64_t i = threadIdx.x; i < counts[0]; i += row_threads) {
    probability[i] = exp(log_p(left[i]));
  }
  if (threadIdx.x == 0) *count = counts[0];
}

/// The working memory of one call, for `rows` rows at a time.
struct Arrays {
  std::int64_t* word;
  std::int64_t* counts;
  std::uint64_t* cuts;
  LawSum *pairs, *totals, *left_totals;
  Best* bests;  // [rows, parts]
  Candidates candidates;
  float* left;

  /// `listed`: in how many parts a row's candidates are listed; 0: nothing is cut.
  Arrays(const Cuda& cuda, std::int64_t rows, std::int64_t parts, std::int64_t listed,
         std::int64_t left_size) {
    const std::int64_t listed_keys = rows * listed * Candidates::most_in_part;
    const std::int64_t wide = 1 + 2 * rows + listed_keys;  // 64-bit words
    const std::int64_t sums = (all_leaves + 2) * rows;     // LawSum
    const auto bytes = static_cast<std::size_t>(wide) * sizeof(std::int64_t) +
                       static_cast<std::size_t>(sums) * sizeof(LawSum) +
                       static_cast<std::size_t>(rows * parts) * sizeof(Best) +
                       static_cast<std::size_t>(rows * listed) * sizeof(std::int32_t) +
                       static_cast<std::size_t>(left_size) * sizeof(float);
    word = static_cast<std::int64_t*>(scratch(cuda, bytes));
    counts = word + 1;
    void* const after_counts = counts + rows;
    cuts = static_cast<std::uint64_t*>(after_counts);
    candidates.keys = cuts + rows;
    candidates.parts = listed;
    void* const after_keys = candidates.keys + listed_keys;
    pairs = static_cast<LawSum*>(after_keys);
    totals = pairs + all_leaves * rows;
    left_totals = totals + rows;
    void* const after_sums = left_totals + rows;
    bests = static_cast<Best*>(after_sums);
    void* const after_bests = bests + rows * parts;
    candidates.counts = static_cast<std::int32_t*>(after_bests);
    void* const after_lists = candidates.counts + rows * listed;
    left = static_cast<float*>(after_lists);
  }
};

/// A rule in numbers.
struct Cut {
  bool greedy, ranks, likely;
  float beta;
  Cut(const SamplingRule& rule, std::int64_t vocab)
      : greedy(rule.temperature == 0.0f),
        ranks(!greedy && ((rule.top_k > 0 && rule.top_k < vocab) || rule.top_p < 1.0f)),
        likely(!greedy && rule.min_p > 0.0f),
        beta(greedy ? 1.0f : 1.0f / rule.temperature) {}
  bool truncates() const { return ranks || likely; }
};

/// Some rows' logits.
struct Rows {
  const float* logits;
  std::int64_t rows, stride, columns, vocab;
};

/// In how many parts a row is drawn from; the better of two does not depend on it.
std::int64_t parts_for(std::int64_t rows, std::int64_t vocab) {
  const std::int64_t most = std::min((vocab + ids_per_part - 1) / ids_per_part, most_parts);
  return std::clamp<std::int64_t>(wanted_blocks / rows, 1, most);
}

void sum_rows(const Cuda& cuda, const Arrays& a, const Rows& in, float beta) {
  sum_leaves(cuda, a.pairs, in.logits, in.rows, in.stride, {in.columns, in.vocab, beta});
  join_pairs(cuda, a.totals, a.pairs, in.rows, all_leaves, beta);
}

/// Queues: what the rule keeps of the rows, and its law.
void keep_rows(const Cuda& cuda, const Arrays& a, std::int32_t* ids, const Rows& in, const Cut& cut,
               const SamplingRule& rule) {
  list_candidates(cuda, a.candidates, in.logits, a.totals, in.rows, in.stride, in.vocab, cut.beta);
  if (cut.ranks) {
    cut_ranks(cuda, a.cuts, in.logits, a.totals, a.candidates, in.rows, in.stride, in.vocab,
              cut.beta, rule);
  }
  compact(cuda,
          {a.left, ids, a.counts, in.logits, a.totals, cut.ranks ? a.cuts : nullptr, a.candidates,
           in.stride, in.vocab, cut.beta, rule.min_p},
          in.rows);
  const LawPart law{in.vocab, in.vocab, cut.beta};
  sum_leaves(cuda, a.pairs, a.left, in.rows, in.vocab, law, a.counts);
  join_pairs(cuda, a.left_totals, a.pairs, in.rows, all_leaves, cut.beta);
}

}  // namespace

template <>
void sample_tokens(const Cuda& cuda, std::int32_t* tokens, float* logprob, const float* logits,
                   const std::uint64_t* keys, const std::int32_t* positions, std::int64_t rows,
                   std::int64_t stride, std::int64_t columns, std::int64_t vocab,
                   const SamplingRule& rule) {
  if (rows == 0) return;
  const Cut cut(rule, vocab);
  const std::int64_t most = cut.truncates() && rows > rows_at_once ? rows_at_once : rows;
  const std::int64_t parts = parts_for(most, vocab);
  const bool cuts = cut.truncates();
  const Arrays a(cuda, most, parts, cuts ? parts : 0, cuts ? most * vocab : 0);
  for (std::int64_t t = 0; t < rows; t += most) {
    const Rows in{logits + t * stride, rows - t < most ? rows - t : most, stride, columns, vocab};
    sum_rows(cuda, a, in, cut.beta);
    if (cut.truncates()) keep_rows(cuda, a, nullptr, in, cut, rule);
    const Draws draws{in.logits,
                      keys + t,
                      positions + t,
                      a.totals,
                      cut.ranks ? a.cuts : nullptr,
                      a.left_totals,
                      cut.truncates() ? a.counts : nullptr,
                      in.rows,
                      parts,
                      stride,
                      vocab,
                      cut.beta,
                      rule.min_p,
                      cut.greedy};
    launch(draw_parts, dim3(static_cast<unsigned>(in.rows * parts)), dim3(row_threads),
           sizeof(DrawShared), cuda.stream, a.bests, draws);
    const auto blocks = static_cast<unsigned>((in.rows + row_threads - 1) / row_threads);
    launch(finish_draws, dim3(blocks), dim3(row_threads), 0, cuda.stream, tokens + t, logprob + t,
           a.bests, draws);
  }
}

template <>
std::int64_t kept_tokens(const Cuda& cuda, std::int32_t* ids, float* probability,
                         const float* logits, std::int64_t columns, std::int64_t vocab,
                         const SamplingRule& rule) {
  const Cut cut(rule, vocab);
  const Arrays a(cuda, 1, 1, parts_for(1, vocab), vocab);
  const Rows in{logits, 1, columns, columns, vocab};
  sum_rows(cuda, a, in, cut.beta);
  if (!cut.greedy) keep_rows(cuda, a, ids, in, cut, rule);
  launch(finish_kept, dim3(1), dim3(row_threads), sizeof(DrawShared), cuda.stream, ids, probability,
         a.word, logits, a.left, a.totals, a.left_totals, a.counts, vocab, cut.beta, cut.greedy);
  return read_word(cuda, a.word);
}

}  // namespace fst::kernels
