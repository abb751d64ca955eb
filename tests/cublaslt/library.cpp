// Stands in for libcublasLt.so.13 where GPUs are emulated (FST_CUBLASLT_LIBRARY): the functions of
// cuBLASLt that the program uses. It reads the descriptions and multiplies on the emulated stream
// by the published model of the tensor core. It offers three algorithms:
//
//   1  one chain of blocks of 16 for an element
//   2  two halves of the inner indices, added: other bits. It says so of itself, and is offered
//   only
//      to those who take split sums; with "secret" it denies it, and is offered to all, first.
//   3  one chain, but rows of the result lie side by side, whatever their distance; with "gaps"
//   only
//
// FST_CUBLASLT_STANDIN is a list of words, read at each call:
//   secret gaps          as above
//   none                 no algorithm is offered
//   fail:CALL            CALL, without "cublasLt", returns an error
//   log:FILE             a line for each call of cublasLtMatmulAlgoGetHeuristic and cublasLtMatmul

#include <cstdio>
#include <cstdlib>
#include <cstring>
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
constexpr std::uint64_t chain = 1, halves = 2, gapless = 3;
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

float chain_of(const std::uint16_t* a, int64_t a_step, const std::uint16_t* b, int64_t b_step,
               int64_t begin, int64_t end) {
  float sum = 0.0f;
  for (; begin < end; begin += 16) {
    std::uint16_t x[16] = {}, y[16] = {};
    for (int64_t i = begin; i < end && i < begin + 16; ++i) {
      x[i - begin] = a[i * a_step];
      y[i - begin] = b[i * b_step];
    }
    sum = test::tensor_core_dot(x, y, sum, test::TensorCore::hopper);
  }
  return sum;
}

/// One column of one product.
KERNEL(32, 1) multiply_column(PARAMETER Problem p) {
  if (threadIdx.x != 0) return;
  const int64_t n = blockIdx.x, i = blockIdx.y, k = p.inner();
  const bool a_lies = p.operation.a == lt::as_it_lies, b_lies = p.operation.b == lt::as_it_lies;
  const std::uint16_t* const b = p.b_data + i * p.b.step + n * (b_lies ? p.b.ld : 1);
  const int64_t ld = p.algorithm == gapless ? p.d.rows : p.d.ld;
  for (int64_t m = 0; m < p.d.rows; ++m) {
    const std::uint16_t* const a = p.a_data + i * p.a.step + m * (a_lies ? 1 : p.a.ld);
    const auto part = [&](int64_t begin, int64_t end) {
      return chain_of(a, a_lies ? p.a.ld : 1, b, b_lies ? 1 : p.b.ld, begin, end);
    };
    float sum = p.algorithm == halves ? part(0, k / 2) + part(k / 2, k) : part(0, k);
    const int64_t at = i * p.d.step + n * ld + m;
    if (p.d.type == lt::f32) {
      float& to = static_cast<float*>(p.d_data)[at];
      to = p.add ? to + sum : sum;
    } else {
      Bf16& to = static_cast<Bf16*>(p.d_data)[at];
      to = narrowed(p.add ? widened(to) + sum : sum);
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
  if (word("gaps") != nullptr) offer(gapless, 0);
  offer(chain, 0);
  return lt::success;
}

lt::Status cublasLtMatmulAlgoConfigGetAttribute(const lt::Algorithm* algorithm,
                                                lt::AlgorithmAttribute attribute, void* value,
                                                std::size_t bytes, std::size_t* written) {
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
