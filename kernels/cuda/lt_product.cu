#include "kernels/cuda/lt_product.h"

namespace fst::kernels {

namespace {

const LtApi& api() {
  return lt_library().api;
}

void expect(lt::Status status, const char* call) {
  if (status != lt::success) throw LtError(call, status);
}

/// A description that cuBLASLt made, until the end of the scope.
template <class T>
class Owned {
 public:
  explicit Owned(lt::Status (*destroy)(T)) : destroy_(destroy) {}
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (value_ != nullptr) destroy_(value_);
  }
  T* to_be_set() { return &value_; }
  T get() const { return value_; }

 private:
  T value_ = nullptr;
  lt::Status (*destroy_)(T);
};

/// A matrix of `columns` columns that lie `ld` elements apart.
struct Layout : Owned<lt::Layout> {
  Layout(lt::DataType type, std::int64_t rows, std::int64_t columns, std::int64_t ld,
         std::int32_t batch, std::int64_t step)
      : Owned(api().layout_destroy) {
    expect(api().layout_create(to_be_set(), type, static_cast<std::uint64_t>(rows),
                               static_cast<std::uint64_t>(columns), ld),
           "cublasLtMatrixLayoutCreate");
    if (batch == 1) return;
    set(lt::batch_count, batch);
    set(lt::batch_offset, step);
  }

 private:
  template <class V>
  void set(lt::LayoutAttribute attribute, V value) {
    expect(api().layout_set(get(), attribute, &value, sizeof value),
           "cublasLtMatrixLayoutSetAttribute");
  }
};

/// What lies by rows here lies by columns there, transposed: cuBLASLt computes c^T = b^T a^T, its
/// first operand is our b, its rows are our columns.
struct Description {
  Owned<lt::Operation> operation{api().operation_destroy};
  Layout first, second, result;

  explicit Description(const LtProduct& p)
      : first(p.b_lies == Lies::inner
                  ? Layout(lt::bf16, p.inner, p.columns, p.ldb, p.batch, p.b_step)
                  : Layout(lt::bf16, p.columns, p.inner, p.ldb, p.batch, p.b_step)),
        second(p.a_lies == Lies::inner
                   ? Layout(lt::bf16, p.inner, p.rows, p.lda, p.batch, p.a_step)
                   : Layout(lt::bf16, p.rows, p.inner, p.lda, p.batch, p.a_step)),
        result(p.narrow ? lt::bf16 : lt::f32, p.columns, p.rows, p.ldc, p.batch, p.c_step) {
    expect(api().operation_create(operation.to_be_set(), lt::compute_f32, lt::f32),
           "cublasLtMatmulDescCreate");
    set(lt::transpose_a, p.b_lies == Lies::inner ? lt::transposed : lt::as_it_lies);
    set(lt::transpose_b, p.a_lies == Lies::inner ? lt::as_it_lies : lt::transposed);
  }

 private:
  void set(lt::OperationAttribute attribute, lt::Transpose value) {
    expect(api().operation_set(operation.get(), attribute, &value, sizeof value),
           "cublasLtMatmulDescSetAttribute");
  }
};

struct Wishes : Owned<lt::Preference> {
  explicit Wishes(LtSums sums) : Owned(api().preference_destroy) {
    expect(api().preference_create(to_be_set()), "cublasLtMatmulPreferenceCreate");
    const bool chain = sums == LtSums::chain;
    set(lt::max_workspace_bytes, std::uint64_t{chain ? 0 : most_workspace});
    set(lt::reduction_scheme_mask, chain ? lt::no_reduction : lt::any_reduction);
    for (const auto attribute : {lt::min_alignment_a_bytes, lt::min_alignment_b_bytes,
                                 lt::min_alignment_c_bytes, lt::min_alignment_d_bytes}) {
      set(attribute, std::uint32_t{16});
    }
  }

 private:
  template <class V>
  void set(lt::PreferenceAttribute attribute, V value) {
    expect(api().preference_set(get(), attribute, &value, sizeof value),
           "cublasLtMatmulPreferenceSetAttribute");
  }
};

/// Whether an algorithm says of itself that it sums an element in one go.
bool says_chain(const lt::Algorithm& algorithm) {
  std::int32_t parts = 0;
  std::uint32_t scheme = lt::any_reduction;
  std::size_t written = 0;
  const auto told = [&](lt::AlgorithmAttribute attribute, void* value) {
    return api().algorithm_get(&algorithm, attribute, value, 4, &written) == lt::success;
  };
  return told(lt::split_k, &parts) && told(lt::reduction_scheme, &scheme) && parts <= 1 &&
         scheme == lt::no_reduction;
}

}  // namespace

LtError::LtError(const char* call, lt::Status status)
    : std::runtime_error(std::string(call) + ": " + api().get_status_string(status)) {}

std::vector<LtAlgorithm> lt_algorithms(lt::Handle handle, const LtProduct& p, LtSums sums,
                                       int most) {
  const Description description(p);
  const Wishes wishes(sums);
  std::vector<lt::Candidate> offered(static_cast<std::size_t>(most));
  int count = 0;
  const lt::Status status =
      api().candidates(handle, description.operation.get(), description.first.get(),
                       description.second.get(), description.result.get(), description.result.get(),
                       wishes.get(), most, offered.data(), &count);
  if (status == lt::not_supported) return {};
  expect(status, "cublasLtMatmulAlgoGetHeuristic");
  const std::size_t workspace = sums == LtSums::chain ? 0 : most_workspace;
  std::vector<LtAlgorithm> fit;
  for (int i = 0; i < count && i < most; ++i) {
    const lt::Candidate& c = offered[static_cast<std::size_t>(i)];
    if (c.state != lt::success || c.workspace_bytes > workspace) continue;
    if (sums == LtSums::chain && !says_chain(c.algorithm)) continue;
    fit.push_back({c.algorithm, c.workspace_bytes});
  }
  return fit;
}

void lt_multiply(const Cuda& cuda, lt::Handle handle, const LtProduct& p,
                 const LtAlgorithm& algorithm, void* workspace) {
  const Description description(p);
  const float alpha = 1.0f, beta = p.add ? 1.0f : 0.0f;
  const lt::Status status = api().multiply(
      handle, description.operation.get(), &alpha, p.b, description.first.get(), p.a,
      description.second.get(), &beta, p.c, description.result.get(), p.c, description.result.get(),
      &algorithm.algorithm, workspace, algorithm.workspace_bytes, cuda.stream);
  if (status == lt::success) return;
  cudaGetLastError();  // cuBLASLt's own; the next launch is not to be blamed for it
  throw LtError("cublasLtMatmul", status);
}

}  // namespace fst::kernels
