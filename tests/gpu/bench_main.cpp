#include <cstdio>
#include <cstdlib>
#include <exception>
#include <numeric>
#include <string>

#include "bench.h"
#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/sampling.h"
#include "kernels/swiglu.h"
#include "kernels/token_law.h"
#include "models.h"

// The kernels at the layer shapes of Qwen3-0.6B and 8B, smallest first; see README.md.
namespace fst::bench {
namespace {

using std::int64_t;
using namespace kernels;

Case product(const Model& model, const Matrix& w, const std::string& which, int64_t rows,
             bool leaves) {
  return {named(model, std::string(w.name) + " " + which + (leaves ? " 8 leaves" : ""), rows),
          "linear " + which,
          {{"rows", rows}, {"n", w.n}, {"k", w.k}},
          4.0 * static_cast<double>(rows * w.k + w.n * w.k + rows * w.n),
          2.0 * static_cast<double>(rows * w.n) * static_cast<double>(w.k)};
}

SumOrder order_of(bool leaves) {
  return leaves ? SumOrder::leaves : SumOrder::chain;
}

void time_forward(Bench& bench, const Model& model, const Matrix& w, int64_t rows) {
  const int64_t packed = packed_weight_size(w.n, w.k);
  const Case c = product(model, w, "y", rows, w.inner_is_cut);
  if (!bench.begin(c, rows * (w.k + w.n) + packed)) return;
  const Ring x = bench.noise(rows * w.k), weight = bench.noise(packed), y = bench.noise(rows * w.n);
  bench.time([&](int64_t i) {
    linear_forward(bench.cuda(), y(i), w.n, x(i), w.k, weight(i), nullptr, rows, w.n, w.k,
                   order_of(w.inner_is_cut), Update::overwrite);
  });
}

void time_backward(Bench& bench, const Model& model, const Matrix& w, int64_t rows) {
  const int64_t floats = rows * (w.k + w.n) + w.n * w.k;
  if (bench.begin(product(model, w, "dX", rows, !w.inner_is_cut), floats)) {
    const Ring dy = bench.noise(rows * w.n), weight = bench.noise(w.n * w.k),
               dx = bench.noise(rows * w.k);
    bench.time([&](int64_t i) {
      linear_backward_input(bench.cuda(), dx(i), w.k, dy(i), w.n, weight(i), w.k, rows, w.n, w.k,
                            order_of(!w.inner_is_cut), Update::overwrite);
    });
  }
  if (bench.begin(product(model, w, "dW", rows, false), floats)) {
    const Ring dy = bench.noise(rows * w.n), x = bench.noise(rows * w.k),
               dweight = bench.noise(w.n * w.k);
    bench.time([&](int64_t i) {
      linear_backward_weight(bench.cuda(), dweight(i), w.k, dy(i), w.n, x(i), w.k, rows, w.n, w.k,
                             Chain::begin);
    });
  }
}

/// `sequences` of `rows` each behind `context` keys.
struct Lengths {
  int64_t sequences, rows, context;
  int64_t all_rows() const { return sequences * rows; }
  int64_t keys() const { return context + rows; }
  int64_t blocks() const { return (keys() + attention_block - 1) / attention_block; }
  double pairs() const {
    return static_cast<double>(sequences) *
           (static_cast<double>(rows * context) + 0.5 * static_cast<double>(rows * (rows + 1)));
  }
};

PagedBatch paged(Bench& bench, const Model& m, const Lengths& l) {
  std::vector<std::int32_t> starts, contexts, table;
  for (int64_t s = 0; s <= l.sequences; ++s)
    starts.push_back(static_cast<std::int32_t>(s * l.rows));
  contexts.assign(static_cast<std::size_t>(l.sequences), static_cast<std::int32_t>(l.context));
  table.resize(static_cast<std::size_t>(l.sequences * l.blocks()));
  std::iota(table.begin(), table.end(), 0);
  return {bench.array(starts), bench.array(contexts),
          bench.array(table),  l.sequences,
          l.blocks(),          m.heads,
          m.kv_heads,          m.dim};
}

void time_attention(Bench& bench, const Model& m, const char* phase, const Lengths& l) {
  const bool backward = std::string(phase) == "backward";
  const int64_t queries = l.all_rows() * m.heads * m.dim, kv = l.all_rows() * m.kv_heads * m.dim,
                cache = l.sequences * l.blocks() * 2 * attention_block * m.kv_heads * m.dim,
                held = l.sequences * l.keys() * 2 * m.kv_heads * m.dim;
  const auto count = [](int64_t n) { return static_cast<double>(n); };
  const Case c{named(m,
                     std::string("attention ") + phase + " " + std::to_string(l.sequences) + " x " +
                         std::to_string(l.keys()) + " keys",
                     l.all_rows()),
               std::string("attention ") + (backward ? "backward" : "forward"),
               {{"sequences", l.sequences},
                {"rows", l.rows},
                {"context", l.context},
                {"heads", m.heads},
                {"kv_heads", m.kv_heads},
                {"dim", m.dim}},
               4.0 * (backward ? count(4 * queries + held + 2 * kv) : count(2 * queries + held)),
               (backward ? 10.0 : 4.0) * l.pairs() * count(m.heads * m.dim)};
  if (!bench.begin(c, (backward ? 4 * queries + 2 * kv : 2 * queries) + cache)) return;
  const PagedBatch batch = paged(bench, m, l);
  const Ring q = bench.noise(queries), keys = bench.noise(cache), out = bench.noise(queries),
             lse = bench.noise(l.all_rows() * m.heads);
  const int64_t stride = m.heads * m.dim, kv_stride = m.kv_heads * m.dim;
  const float scale = 0.0883883f;  // 1 / sqrt(128)
  const auto forward = [&](int64_t i) {
    attention_forward(bench.cuda(), {out(i), stride}, lse(i), {q(i), stride}, keys(i), batch,
                      scale);
  };
  if (!backward) return bench.time(forward);
  const Ring dout = bench.noise(queries), dq = bench.noise(queries), dk = bench.noise(kv),
             dv = bench.noise(kv);
  for (int64_t i = 0; i < bench.copies(); ++i) forward(i);
  bench.time([&](int64_t i) {
    const AttentionGradients<float> g{{dq(i), stride},   {dk(i), kv_stride}, {dv(i), kv_stride},
                                      {dout(i), stride}, {out(i), stride},   lse(i)};
    attention_backward(bench.cuda(), g, {q(i), stride}, keys(i), batch, scale);
  });
}

/// What passes over memory once: the floor is `touched` floats.
Case pass(const Model& m, const std::string& what, int64_t rows, int64_t columns, int64_t touched,
          std::vector<std::pair<std::string, int64_t>> shape = {}) {
  shape.insert(shape.end(), {{"rows", rows}, {"columns", columns}});
  return {named(m, what, rows), what, std::move(shape), 4.0 * static_cast<double>(touched), 0};
}

void time_norms(Bench& bench, const Model& m, int64_t rows) {
  const int64_t n = rows * m.hidden;
  if (bench.begin(pass(m, "RMSNorm", rows, m.hidden, 2 * n), 2 * n)) {
    const Ring x = bench.noise(n), y = bench.noise(n), w = bench.noise(m.hidden),
               rstd = bench.noise(rows);
    bench.time([&](int64_t i) {
      rms_norm_forward(bench.cuda(), y(i), rstd(i), x(i), w(i), rows, m.hidden, 1e-6f);
    });
  }
  if (bench.begin(pass(m, "RMSNorm backward", rows, m.hidden, 3 * n), 3 * n)) {
    const Ring x = bench.noise(n), dy = bench.noise(n), dx = bench.noise(n),
               w = bench.noise(m.hidden), dw = bench.noise(m.hidden), rstd = bench.noise(rows);
    bench.time([&](int64_t i) {
      rms_norm_backward(bench.cuda(), dx(i), dw(i), dy(i), x(i), rstd(i), w(i), rows, m.hidden,
                        false);
    });
  }
}

void time_heads(Bench& bench, const Model& m, int64_t rows) {
  const int64_t columns = m.heads * m.dim, n = rows * columns;
  const auto heads_of = [&] {
    std::vector<std::int32_t> positions(static_cast<std::size_t>(rows));
    std::iota(positions.begin(), positions.end(), 0);
    const std::vector<float> table(static_cast<std::size_t>(rows * m.dim / 2), 0.6f);
    return HeadRows{rows,
                    m.heads,
                    m.dim,
                    bench.array(positions),
                    bench.array(table),
                    bench.array(table),
                    bench.array(std::vector<float>(128, 1.0f))};
  };
  const std::vector<std::pair<std::string, int64_t>> shape{{"heads", m.heads}, {"dim", m.dim}};
  if (bench.begin(pass(m, "QK-norm and RoPE", rows, columns, 2 * n, shape), 2 * n)) {
    const HeadRows heads = heads_of();
    const Ring x = bench.noise(n), y = bench.noise(n), rstd = bench.noise(rows * m.heads);
    bench.time([&](int64_t i) {
      head_norm_rope_forward(bench.cuda(), y(i), columns, rstd(i), x(i), columns, 1e-6f, heads);
    });
  }
  if (bench.begin(pass(m, "QK-norm and RoPE backward", rows, columns, 3 * n, shape), 3 * n)) {
    const HeadRows heads = heads_of();
    const Ring x = bench.noise(n), dy = bench.noise(n), dx = bench.noise(n),
               dw = bench.noise(columns), rstd = bench.noise(rows * m.heads);
    bench.time([&](int64_t i) {
      head_norm_rope_backward(bench.cuda(), dx(i), columns, dw(i), dy(i), columns, x(i), columns,
                              rstd(i), heads);
    });
  }
}

void time_swiglu(Bench& bench, const Model& m, int64_t rows) {
  const int64_t n = rows * m.mlp;
  if (bench.begin(pass(m, "SwiGLU", rows, m.mlp, 3 * n), 3 * n)) {
    const Ring h = bench.noise(n), g = bench.noise(2 * n);
    bench.time([&](int64_t i) { swiglu_forward(bench.cuda(), h(i), g(i), rows, m.mlp); });
  }
  if (bench.begin(pass(m, "SwiGLU backward", rows, m.mlp, 5 * n), 5 * n)) {
    const Ring dh = bench.noise(n), g = bench.noise(2 * n), dg = bench.noise(2 * n);
    bench.time([&](int64_t i) { swiglu_backward(bench.cuda(), dg(i), dh(i), g(i), rows, m.mlp); });
  }
}

void time_law(Bench& bench, const Model& m, int64_t rows) {
  const int64_t v = m.vocab, n = rows * v;
  const LawPart law{v, v, 1.0f};
  const auto targets_of = [&] {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(rows));
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * 97 % 331);
    return bench.array(ids);
  };
  if (bench.begin(pass(m, "token law, log-probability", rows, v, n), n)) {
    const Ring z = bench.noise(n), lse = bench.noise(2 * rows), logprob = bench.noise(rows);
    const std::int32_t* const targets = targets_of();
    bench.time([&](int64_t i) {
      token_lse(bench.cuda(), lse(i), z(i), rows, v, law);
      token_logprob(bench.cuda(), logprob(i), z(i), lse(i), targets, rows, v, law);
    });
  }
  if (bench.begin(pass(m, "token law, gradient", rows, v, 2 * n), 2 * n)) {
    const Ring z = bench.noise(n), dz = bench.noise(n), lse = bench.noise(2 * rows),
               g = bench.noise(rows);
    const std::int32_t* const targets = targets_of();
    token_lse(bench.cuda(), lse(0), z(0), rows, v, law);
    bench.time([&](int64_t i) {
      token_backward(bench.cuda(), dz(i), z(i), lse(0), targets, {.dlogprob = g(i)}, rows, v, v,
                     law);
    });
  }
}

void time_sampling(Bench& bench, const Model& m, int64_t rows) {
  const int64_t v = m.vocab, n = rows * v;
  for (const bool cut : {false, true}) {
    const std::string what = cut ? "sampling, top-k 20 and top-p 0.95" : "sampling";
    if (!bench.begin(pass(m, what, rows, v, n), n)) continue;
    const Ring z = bench.noise(n), logprob = bench.noise(rows), tokens = bench.noise(rows);
    const auto count = static_cast<std::size_t>(rows);
    const auto* const keys = bench.array(std::vector<std::uint64_t>(count, 7));
    const auto* const positions = bench.array(std::vector<std::int32_t>(count, 3));
    const SamplingRule rule = cut ? SamplingRule{0.6f, 20, 0.95f, 0.0f} : SamplingRule{};
    bench.time([&](int64_t i) {
      sample_tokens(bench.cuda(), reinterpret_cast<std::int32_t*>(tokens(i)), logprob(i), z(i),
                    keys, positions, rows, v, v, v, rule);
    });
  }
}

void time_optimiser(Bench& bench, const Model& m, int64_t n) {
  if (bench.begin(pass(m, "gradient norm", 1, n, n), n)) {
    const Ring x = bench.noise(n);
    bench.time([&](int64_t i) {
      ExactSum sum;
      sum_of_squares(bench.cuda(), sum, x(i), n);
    });
  }
  if (bench.begin(pass(m, "AdamW", 1, n, 7 * n), 4 * n)) {
    const Ring p = bench.noise(n), first = bench.noise(n), second = bench.noise(n),
               g = bench.noise(n);
    for (int64_t i = 0; i < bench.copies(); ++i) fill(bench.cuda(), second(i), n, 0.5f, 1, n);
    const AdamWScalars scalars{1.0f, 1.0f, 0.9f, 0.1f, 0.999f, 0.001f, 1e-6f, 1.0f, 1e-8f};
    bench.time(
        [&](int64_t i) { adamw(bench.cuda(), p(i), first(i), second(i), g(i), n, scalars); });
  }
}

/// The ceiling of bandwidth: the device copies within its memory.
void time_copy(Bench& bench, const Model& m, int64_t n) {
  if (!bench.begin(pass(m, "device copy", 1, n, 2 * n), 2 * n)) return;
  const Ring from = bench.noise(n), to = bench.noise(n);
  bench.time([&](int64_t i) {
    copy_on_device(bench.cuda(), to(i), from(i), 4 * static_cast<std::size_t>(n));
  });
}

void time_model(Bench& bench, const Model& m, int64_t rows, bool train) {
  time_norms(bench, m, rows);
  time_heads(bench, m, rows);
  time_swiglu(bench, m, rows);
  for (const Matrix& w : matrices_of(m)) time_forward(bench, m, w, rows);
  for (const Matrix& w : matrices_of(m)) {
    if (train) time_backward(bench, m, w, rows);
  }
}

void time_tiny(Bench& bench) {
  time_copy(bench, tiny, 1 << 12);
  time_model(bench, tiny, 5, true);
  time_attention(bench, tiny, "decode", {2, 1, 36});
  time_attention(bench, tiny, "prefill", {1, 19, 0});
  time_attention(bench, tiny, "backward", {1, 19, 0});
  time_law(bench, tiny, 3);
  time_sampling(bench, tiny, 3);
  time_optimiser(bench, tiny, 3000);
  time_bf16(bench, tiny, 5, true);
}

void time_all(Bench& bench) {
  time_copy(bench, small, int64_t{1} << 28);
  for (const int64_t rows : {1, 8, 32, 512, 4096}) {
    for (const Model* m : {&small, &large}) time_model(bench, *m, rows, rows >= 512);
  }
  for (const int64_t rows : {1, 32, 512}) {
    const Matrix head{"head", small.vocab, small.hidden, false};
    time_forward(bench, small, head, rows);
    time_law(bench, small, rows);
    if (rows < 512) time_sampling(bench, small, rows);
  }
  for (const Model* m : {&small, &large}) {
    time_attention(bench, *m, "decode", {1, 1, 4095});
    time_attention(bench, *m, "decode", {32, 1, 4095});
    time_attention(bench, *m, "prefill", {4, 1024, 0});
    time_attention(bench, *m, "prefill", {1, 4096, 0});
    time_attention(bench, *m, "backward", {4, 1024, 0});
  }
  time_optimiser(bench, small, int64_t{1} << 26);
  for (const int64_t rows : {1, 8, 64, 2048, 8192}) {
    for (const Model* m : {&small, &large}) time_bf16(bench, *m, rows, rows >= 512);
  }
}

/// The words behind the program's name; false where they are none of its.
bool parse(int count, char** words, Options& options) {
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word == "--tiny") {
      options.tiny = true;
    } else if (word == "--filter" && i + 1 < count) {
      options.filter = words[++i];
    } else if (word == "--seconds" && i + 1 < count) {
      options.seconds = std::atof(words[++i]);
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace
}  // namespace fst::bench

int main(int argc, char** argv) {
  fst::bench::Options options;
  if (!fst::bench::parse(argc, argv, options)) {
    std::fprintf(stderr, "usage: fst_gpu_bench [--tiny] [--filter TEXT] [--seconds N]\n");
    return 2;
  }
  try {
    fst::bench::Bench bench(options);
    options.tiny ? fst::bench::time_tiny(bench) : fst::bench::time_all(bench);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fst_gpu_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
