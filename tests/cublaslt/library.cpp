// Stands in for libcublasLt.so.13 where GPUs are emulated (FST_CUBLASLT_LIBRARY): the functions of
// cuBLASLt that the program uses. It reads the descriptions and multiplies on the emulated stream
// by the published model of the tensor core. It offers algorithm 1, one chain of blocks of 16 for
// an element, and beside it those that are wrong for us, each in one way:
//
//   2  two halves of the inner indices, added. It says so of itself, and is offered only to those
//   who
//      take split sums; with "secret" it denies it, and is offered to all, first.
//   3  rows of the result lie side by side, whatever their distance ("gaps")
//   4  the chain begins with the old contents ("begin")
//   5  results that are denormal are zero ("flush")
//   6  blocks of 16 in turn to two chains, added ("turns")
//   7  the chain runs from the last block to the first ("backwards")
//   8  two halves where the number of tokens, rows or, in a weight gradient, inner indices, is odd
//      ("tail")
//   9  rounded to float after every term, as without a tensor core ("terms")
//   10 a bfloat16 is cut, not rounded ("cut")
//
// FST_CUBLASLT_STANDIN is a list of words, read at each call:
//   secret gaps ...      as above; but for "secret" offered behind 1
//   none                 no algorithm is offered
//   fail:CALL            CALL, without "cublasLt", returns an error
//   fail:Attributes      what an algorithm says of itself cannot be asked
//   log:FILE             a line for each call of cublasLtMatmulAlgoGetHeuristic and cublasLtMatmul

#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <sstream>
#include <string>

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/lt_api.h"
#include "tests/cuda/tensor_core.h"

using namespace fst::kernels;
using std::int64_t;

namespace fst::kernels::lt {
struct Context {};
struct OperationDescription {
  Transpose a = as_it_lies, b = as_it_lies;
};
struct LayoutDescription {
  DataType type;
  int64_t rows, columns, ld;
  std::int32_t batch = 1;
  int64_t step = 0;
};
struct PreferenceDescription {
  std::uint64_t workspace = 0;
  std::uint32_t reductions = any_reduction;
};
}  // namespace fst::kernels::lt

namespace {

constexpr auto invalid_value = static_cast<lt::Status>(7);
constexpr auto internal_error = static_cast<lt::Status>(14);
enum Algorithms : std::uint64_t {
  chain = 1,
  halves,
  gapless,
  begins_with_old,
  flushes,
  in_turns,
  backwards,
  halves_of_odd,
  by_terms,
  cuts
};
constexpr std::array<std::pair<const char*, std::uint64_t>, 8> wrong{{{"gaps", gapless},
                                                                      {"begin", begins_with_old},
                                                                      {"flush", flushes},
                                                                      {"turns", in_turns},
                                                                      {"backwards", backwards},
                                                                      {"tail", halves_of_odd},
                                                                      {"terms", by_terms},
                                                                      {"cut", cuts}}};
constexpr std::size_t workspace_of_halves = 1024;

std::string words() {
  const char* const text = std::getenv("FST_CUBLASLT_STANDIN");
  return text == nullptr ? "" : text;
}
/// The rest of the word that begins so; nullptr: there is none.
std::unique_ptr<std::string> word(const std::string& start) {
  std::istringstream all(words());
  for (std::string one; all >> one;) {
    if (one.rfind(start, 0) == 0) return std::make_unique<std::string>(one.substr(start.size()));
  }
  return nullptr;
}
bool fails(const std::string& call) {
  std::istringstream all(words());
  for (std::string one; all >> one;) {
    if (one == "fail:" + call) return true;
  }
  return false;
}
void log(const std::string& line) {
  const auto file = word("log:");
  if (file == nullptr) return;
  std::FILE* const to = std::fopen(file->c_str(), "a");
  if (to == nullptr) return;
  std::fprintf(to, "%s\n", line.c_str());
  std::fclose(to);
}

template <class T>
lt::Status take(T& to, const void* value, std::size_t bytes) {
  if (bytes != sizeof to) return invalid_value;
  std::memcpy(&to, value, sizeof to);
  return lt::success;
}

/// What a call means, by columns as cuBLASLt has it: d(m, n) = sum_k a(m, k) b(k, n) + beta c(m,
/// n).
struct Problem {
  lt::OperationDescription operation;
  lt::LayoutDescription a, b, d;
  const std::uint16_t *a_data, *b_data;
  void* d_data;
  bool add;
  std::uint64_t algorithm;

  int64_t inner() const { return operation.a == lt::as_it_lies ? a.columns : a.rows; }
};

bool fits(const Problem& p) {
  const bool a_lies = p.operation.a == lt::as_it_lies, b_lies = p.operation.b == lt::as_it_lies;
  const int64_t m = a_lies ? p.a.rows : p.a.columns, n = b_lies ? p.b.columns : p.b.rows,
                k = b_lies ? p.b.rows : p.b.columns;
  return p.a.type == lt::bf16 && p.b.type == lt::bf16 && m == p.d.rows && n == p.d.columns &&
         k == p.inner() && p.a.ld >= p.a.rows && p.b.ld >= p.b.rows && p.d.ld >= p.d.rows &&
         p.a.batch == p.d.batch && p.b.batch == p.d.batch;
}

std::string text_of(const Problem& p) {
  std::ostringstream text;
  text << p.d.rows << 'x' << p.d.columns << 'x' << p.inner() << " batch " << p.d.batch
       << (p.d.type == lt::bf16 ? " bf16" : " f32")
       << (p.operation.a == lt::transposed ? " t" : " n")
       << (p.operation.b == lt::transposed ? "t" : "n");
  return text.str();
}

/// Column n of b and row m of a, of one product.
struct Line {
  const std::uint16_t *a, *b;
  int64_t a_step, b_step;
};

float block_of(const Line& line, int64_t begin, int64_t end, float sum) {
  std::uint16_t x[16] = {}, y[16] = {};
  for (int64_t i = begin; i < end && i < begin + 16; ++i) {
    x[i - begin] = line.a[i * line.a_step];
    y[i - begin] = line.b[i * line.b_step];
  }
  return test::tensor_core_dot(x, y, sum, test::TensorCore::hopper);
}

/// The blocks from `begin` in steps of `step`.
float chain_of(const Line& line, int64_t begin, int64_t end, int64_t step = 16, float sum = 0.0f) {
  for (; begin < end; begin += step) sum = block_of(line, begin, end, sum);
  return sum;
}

float sum_of(const Problem& p, const Line& line, float old) {
  const int64_t k = p.inner();
  // Of a weight gradient a does not lie by inner indices, nor does b.
  const bool gradient = p.operation.a == lt::as_it_lies && p.operation.b == lt::transposed;
  const int64_t tokens = gradient ? k : p.d.columns;
  float sum = 0.0f;
  switch (p.algorithm) {
    case begins_with_old:
      return chain_of(line, 0, k, 16, p.add ? old : 0.0f);
    case in_turns:
      return chain_of(line, 0, k, 32) + chain_of(line, 16, k, 32);
    case backwards:
      for (int64_t at = (k - 1) / 16 * 16; at >= 0; at -= 16) sum = block_of(line, at, k, sum);
      break;
    case by_terms:
      for (int64_t i = 0; i < k; ++i) {
        sum += widened(Bf16{line.a[i * line.a_step]}) * widened(Bf16{line.b[i * line.b_step]});
      }
      break;
    default:
      if (p.algorithm == halves || (p.algorithm == halves_of_odd && tokens % 2 == 1)) {
        return chain_of(line, 0, k / 2) + chain_of(line, k / 2, k) + (p.add ? old : 0.0f);
      }
      sum = chain_of(line, 0, k);
  }
  return p.add ? old + sum : sum;
}

/// One column of one product.
KERNEL(32, 1) multiply_column(PARAMETER Problem p) {
  if (threadIdx.x != 0) return;
  const int64_t n = blockIdx.x, i = blockIdx.y;
  const bool a_lies = p.operation.a == lt::as_it_lies, b_lies = p.operation.b == lt::as_it_lies;
  const int64_t ld = p.algorithm == gapless ? p.d.rows : p.d.ld;
  Line line{nullptr, p.b_data + i * p.b.step + n * (b_lies ? p.b.ld : 1), a_lies ? p.a.ld : 1,
            b_lies ? 1 : p.b.ld};
  for (int64_t m = 0; m < p.d.rows; ++m) {
    line.a = p.a_data + i * p.a.step + m * (a_lies ? 1 : p.a.ld);
    const int64_t at = i * p.d.step + n * ld + m;
    float* const wide = static_cast<float*>(p.d_data) + at;
    Bf16* const narrow = static_cast<Bf16*>(p.d_data) + at;
    const bool is_wide = p.d.type == lt::f32;
    const float old = !p.add ? 0.0f : is_wide ? *wide : widened(*narrow);
    float sum = sum_of(p, line, old);
    if (p.algorithm == flushes && std::abs(sum) < std::numeric_limits<float>::min()) sum *= 0.0f;
    if (is_wide) {
      *wide = sum;
    } else if (p.algorithm == cuts) {
      *narrow = {static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(sum) >> 16)};
    } else {
      *narrow = narrowed(sum);
    }
  }
}

}  // namespace

extern "C" {

std::size_t cublasLtGetVersion() {
  return 130100;
}
const char* cublasLtGetStatusString(lt::Status status) {
  return status == lt::success     ? "CUBLAS_STATUS_SUCCESS"
         : status == invalid_value ? "CUBLAS_STATUS_INVALID_VALUE"
                                   : "CUBLAS_STATUS_INTERNAL_ERROR";
}
lt::Status cublasLtCreate(lt::Handle* handle) {
  if (fails("Create")) return internal_error;
  *handle = new lt::Context;
  return lt::success;
}
lt::Status cublasLtDestroy(lt::Handle handle) {
  delete handle;
  return lt::success;
}
lt::Status cublasLtMatmulDescCreate(lt::Operation* operation, lt::ComputeType compute,
                                    lt::DataType scale) {
  if (compute != lt::compute_f32 || scale != lt::f32) return invalid_value;
  *operation = new lt::OperationDescription;
  return lt::success;
}
lt::Status cublasLtMatmulDescDestroy(lt::Operation operation) {
  delete operation;
  return lt::success;
}
lt::Status cublasLtMatmulDescSetAttribute(lt::Operation operation, lt::OperationAttribute attribute,
                                          const void* value, std::size_t bytes) {
  if (attribute == lt::transpose_a) return take(operation->a, value, bytes);
  if (attribute == lt::transpose_b) return take(operation->b, value, bytes);
  return invalid_value;
}
lt::Status cublasLtMatrixLayoutCreate(lt::Layout* layout, lt::DataType type, std::uint64_t rows,
                                      std::uint64_t columns, int64_t ld) {
  *layout = new lt::LayoutDescription{type, static_cast<int64_t>(rows),
                                      static_cast<int64_t>(columns), ld};
  return lt::success;
}
lt::Status cublasLtMatrixLayoutDestroy(lt::Layout layout) {
  delete layout;
  return lt::success;
}
lt::Status cublasLtMatrixLayoutSetAttribute(lt::Layout layout, lt::LayoutAttribute attribute,
                                            const void* value, std::size_t bytes) {
  if (attribute == lt::batch_count) return take(layout->batch, value, bytes);
  if (attribute == lt::batch_offset) return take(layout->step, value, bytes);
  return invalid_value;
}
lt::Status cublasLtMatmulPreferenceCreate(lt::Preference* preference) {
  *preference = new lt::PreferenceDescription;
  return lt::success;
}
lt::Status cublasLtMatmulPreferenceDestroy(lt::Preference preference) {
  delete preference;
  return lt::success;
}
lt::Status cublasLtMatmulPreferenceSetAttribute(lt::Preference preference,
                                                lt::PreferenceAttribute attribute,
                                                const void* value, std::size_t bytes) {
  std::uint32_t alignment = 0;
  switch (attribute) {
    case lt::max_workspace_bytes:
      return take(preference->workspace, value, bytes);
    case lt::reduction_scheme_mask:
      return take(preference->reductions, value, bytes);
    default:
      return take(alignment, value, bytes);
  }
}

lt::Status cublasLtMatmulAlgoGetHeuristic(lt::Handle, lt::Operation operation, lt::Layout a,
                                          lt::Layout b, lt::Layout, lt::Layout d,
                                          lt::Preference preference, int most, lt::Candidate* found,
                                          int* count) {
  const Problem p{*operation, *a, *b, *d, nullptr, nullptr, nullptr, false, 0};
  const bool any = preference->reductions != lt::no_reduction;
  log("heuristic " + text_of(p) + (any ? " any" : " chain") + " workspace " +
      std::to_string(preference->workspace));
  *count = 0;
  if (fails("MatmulAlgoGetHeuristic")) return internal_error;
  if (!fits(p)) return invalid_value;
  if (word("none") != nullptr) return lt::not_supported;
  const auto offer = [&](std::uint64_t algorithm, std::size_t workspace) {
    if (*count == most || workspace > preference->workspace) return;
    found[(*count)++] = {{{algorithm}}, workspace, lt::success, 1.0f, {}};
  };
  if (word("secret") != nullptr) offer(halves, 0);
  if (any) offer(halves, workspace_of_halves);
  offer(chain, 0);
  for (const auto& [told, algorithm] : wrong) {
    if (word(told) != nullptr) offer(algorithm, 0);
  }
  return lt::success;
}

lt::Status cublasLtMatmulAlgoConfigGetAttribute(const lt::Algorithm* algorithm,
                                                lt::AlgorithmAttribute attribute, void* value,
                                                std::size_t bytes, std::size_t* written) {
  if (fails("Attributes")) return internal_error;
  const bool split = algorithm->data[0] == halves && word("secret") == nullptr;
  const std::uint32_t told = attribute == lt::split_k ? (split ? 2 : 1) : (split ? 2 : 0);
  if (bytes != sizeof told) return invalid_value;
  std::memcpy(value, &told, sizeof told);
  *written = sizeof told;
  return lt::success;
}

lt::Status cublasLtMatmul(lt::Handle, lt::Operation operation, const void* alpha, const void* a,
                          lt::Layout a_layout, const void* b, lt::Layout b_layout, const void* beta,
                          const void* c, lt::Layout, void* d, lt::Layout d_layout,
                          const lt::Algorithm* algorithm, void* workspace,
                          std::size_t workspace_bytes, cudaStream_t stream) {
  const float scale = *static_cast<const float*>(beta);
  const Problem p{*operation,
                  *a_layout,
                  *b_layout,
                  *d_layout,
                  static_cast<const std::uint16_t*>(a),
                  static_cast<const std::uint16_t*>(b),
                  d,
                  scale == 1.0f,
                  algorithm->data[0]};
  log("multiply " + text_of(p) + " algorithm " + std::to_string(p.algorithm));
  if (fails("Matmul")) return internal_error;
  const bool in_sixteens =
      (reinterpret_cast<std::uintptr_t>(a) | reinterpret_cast<std::uintptr_t>(b) |
       reinterpret_cast<std::uintptr_t>(d)) %
          16 ==
      0;
  if (!fits(p) || c != d || !in_sixteens || *static_cast<const float*>(alpha) != 1.0f ||
      (scale != 0.0f && scale != 1.0f) ||
      (workspace_bytes > 0 && (workspace == nullptr || workspace_bytes < workspace_of_halves))) {
    return invalid_value;
  }
  const dim3 grid(static_cast<unsigned>(p.d.columns), static_cast<unsigned>(p.d.batch));
  gpu::launch(multiply_column, grid, dim3(32), 0, stream, p);
  return lt::success;
}

}  // extern "C"
