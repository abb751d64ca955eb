#include "kernels/token_law.h"

#include <atomic>
#include <limits>

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/token_law_isa.h"
#include "kernels/thread_pool.h"

namespace fst::kernels {

namespace {

// Logits per thread below which waking another thread costs more than it saves.
constexpr std::int64_t grain = 16384;

std::int64_t grain_rows(std::int64_t vocab) {
  return vocab < grain ? grain / (vocab + 1) + 1 : 1;
}

/// f.operator()<isa>(row) for every row of `width` logits, on all threads.
template <class F>
void for_rows(const Cpu& cpu, std::int64_t rows, std::int64_t width, const F& f) {
  for_isa(cpu, [&]<Isa isa>() {
    parallel_for(cpu, rows, grain_rows(width), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) f.template operator()<isa>(t);
    });
  });
}

constexpr std::int64_t all_leaves = 8;
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

/// The least row that was noted, from any thread.
class FirstBad {
 public:
  explicit FirstBad(std::int64_t rows) : rows_(rows), row_(rows) {}
  void note(std::int64_t row) {
    std::int64_t seen = row_.load();
    while (row < seen && !row_.compare_exchange_weak(seen, row)) {
    }
  }
  std::int64_t row() const { return row_.load() == rows_ ? -1 : row_.load(); }

 private:
  std::int64_t rows_;
  std::atomic<std::int64_t> row_;
};

LogSumExp lse_of(const float* lse, std::int64_t t) {
  return {lse[2 * t], lse[2 * t + 1]};
}

void store_lse(float* lse, std::int64_t t, const LogSumExp& value) {
  lse[2 * t] = value.max;
  lse[2 * t + 1] = value.log_sum;
}

float value_or_zero(const float* values, std::int64_t t) {
  return values == nullptr ? 0.0f : values[t];
}

float tree(const float* x) {
  return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]));
}

/// Where leaf i of row t lies in what several parts of `leaves` leaves gave, one after the other.
std::int64_t leaf_index(std::int64_t i, std::int64_t t, std::int64_t rows, std::int64_t leaves) {
  return (i / leaves * rows + t) * leaves + i % leaves;
}

}  // namespace

template <>
std::int64_t token_lse(const Cpu& cpu, float* lse, const float* logits, std::int64_t rows,
                       std::int64_t stride, const LawPart& law) {
  FirstBad bad(rows);
  for_rows(cpu, rows, law.columns, [&]<Isa isa>(std::int64_t t) {
    LawSum total{};
    const bool finite = TokenLaw<isa>::sum(total, logits + t * stride, law);
    store_lse(lse, t, finite ? TokenLaw<isa>::lse(total) : LogSumExp{not_a_number, not_a_number});
    if (!finite) bad.note(t);
  });
  return bad.row();
}

template <>
void token_lse_leaves(const Cpu& cpu, float* pairs, const float* logits, std::int64_t rows,
                      std::int64_t stride, const LawPart& law) {
  for_rows(cpu, rows, law.columns, [&]<Isa isa>(std::int64_t t) {
    LawSum sums[all_leaves];
    TokenLaw<isa>::leaf_sums(sums, logits + t * stride, law);
    for (std::int64_t i = 0; i < law.leaves; ++i) {
      pairs[2 * (t * law.leaves + i)] = sums[i].max;
      pairs[2 * (t * law.leaves + i) + 1] = sums[i].sum;
    }
  });
}

template <>
std::int64_t join_lse(const Cpu& cpu, float* lse, const float* pairs, std::int64_t rows,
                      std::int64_t leaves, float beta) {
  FirstBad bad(rows);
  for_rows(cpu, rows, all_leaves, [&]<Isa isa>(std::int64_t t) {
    LawSum sums[all_leaves];
    bool finite = true;
    for (std::int64_t i = 0; i < all_leaves; ++i) {
      const float* pair = pairs + 2 * leaf_index(i, t, rows, leaves);
      sums[i] = {pair[0], pair[1]};
      finite = finite && pair[1] == pair[1];
    }
    store_lse(lse, t,
              finite ? TokenLaw<isa>::lse(TokenLaw<isa>::join(sums, beta))
                     : LogSumExp{not_a_number, not_a_number});
    if (!finite) bad.note(t);
  });
  return bad.row();
}

template <>
void token_logprob(const Cpu& /*cpu*/, float* logprob, const float* logits, const float* lse,
                   const std::int32_t* targets, std::int64_t rows, std::int64_t stride,
                   const LawPart& law) {
  const std::int64_t columns = law.inside();
  for (std::int64_t t = 0; t < rows; ++t) {
    const std::int64_t target = targets[t] - law.first;
    const bool inside = target >= 0 && target < columns;
    logprob[t] = inside ? (logits[t * stride + target] - lse[2 * t]) * law.beta - lse[2 * t + 1]
                        : -std::numeric_limits<float>::infinity();
  }
}

template <>
void token_entropy(const Cpu& cpu, float* entropy, const float* logits, const float* lse,
                   std::int64_t rows, std::int64_t stride, const LawPart& law) {
  for_rows(cpu, rows, law.columns, [&]<Isa isa>(std::int64_t t) {
    float sums[all_leaves];
    TokenLaw<isa>::entropy_leaves(sums, logits + t * stride, law, lse_of(lse, t));
    entropy[t] = -tree(sums);
  });
}

template <>
void token_entropy_leaves(const Cpu& cpu, float* sums, const float* logits, const float* lse,
                          std::int64_t rows, std::int64_t stride, const LawPart& law) {
  for_rows(cpu, rows, law.columns, [&]<Isa isa>(std::int64_t t) {
    TokenLaw<isa>::entropy_leaves(sums + t * law.leaves, logits + t * stride, law, lse_of(lse, t));
  });
}

template <>
void token_kl(const Cpu& cpu, float* kl, const float* logits, const float* lse,
              const float* reference_logits, const float* reference_lse, std::int64_t rows,
              std::int64_t stride, std::int64_t reference_stride, const LawPart& law) {
  for_rows(cpu, rows, law.columns, [&]<Isa isa>(std::int64_t t) {
    float sums[all_leaves];
    TokenLaw<isa>::kl_leaves(sums, logits + t * stride, reference_logits + t * reference_stride,
                             law, lse_of(lse, t), lse_of(reference_lse, t));
    kl[t] = tree(sums);
  });
}

template <>
void token_kl_leaves(const Cpu& cpu, float* sums, const float* logits, const float* lse,
                     const float* reference_logits, const float* reference_lse, std::int64_t rows,
                     std::int64_t stride, std::int64_t reference_stride, const LawPart& law) {
  for_rows(cpu, rows, law.columns, [&]<Isa isa>(std::int64_t t) {
    TokenLaw<isa>::kl_leaves(sums + t * law.leaves, logits + t * stride,
                             reference_logits + t * reference_stride, law, lse_of(lse, t),
                             lse_of(reference_lse, t));
  });
}

template <>
void join_leaves(const Cpu& /*cpu*/, float* total, const float* sums, std::int64_t rows,
                 std::int64_t leaves, float sign) {
  for (std::int64_t t = 0; t < rows; ++t) {
    float row[all_leaves];
    for (std::int64_t i = 0; i < all_leaves; ++i) row[i] = sums[leaf_index(i, t, rows, leaves)];
    total[t] = sign * tree(row);
  }
}

template <class Exec, class D>
void token_backward(const Exec& cpu, D* dlogits, const float* logits, const float* lse,
                    const std::int32_t* targets, const TokenTerms& terms, std::int64_t rows,
                    std::int64_t dlogits_stride, std::int64_t stride, const LawPart& law) {
  for_rows(cpu, rows, law.columns, [&]<Isa isa>(std::int64_t t) {
    RowTerms row{};
    row.dlogprob = value_or_zero(terms.dlogprob, t);
    if (terms.dentropy != nullptr) {
      row.dentropy = terms.dentropy[t];
      row.entropy = terms.entropy[t];
    }
    if (terms.dkl != nullptr) {
      row.dkl = terms.dkl[t];
      row.kl = terms.kl[t];
      row.reference_logits = terms.reference_logits + t * terms.reference_stride;
      row.reference_lse = lse_of(terms.reference_lse, t);
    }
    TokenLaw<isa>::backward(dlogits + t * dlogits_stride, logits + t * stride, law, lse_of(lse, t),
                            targets[t], row);
  });
}

template void token_backward(const Cpu&, float*, const float*, const float*, const std::int32_t*,
                             const TokenTerms&, std::int64_t, std::int64_t, std::int64_t,
                             const LawPart&);
template void token_backward(const Cpu&, Bf16*, const float*, const float*, const std::int32_t*,
                             const TokenTerms&, std::int64_t, std::int64_t, std::int64_t,
                             const LawPart&);

}  // namespace fst::kernels
