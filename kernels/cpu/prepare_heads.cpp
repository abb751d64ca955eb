#include "kernels/prepare_heads.h"

namespace fst::kernels {

// The rows are few and in the cache of the core: three passes cost no more than one.

template <class Exec, class T>
void prepare_heads(const Exec& cpu, const PreparedHeads<T>& to, ConstRows<T> qkv, float eps,
                   const HeadRows& queries, const HeadRows& keys, const PagedBatch& batch) {
  const std::int64_t q = queries.heads * queries.dim, kv = keys.heads * keys.dim;
  const ConstRows<T> k{to.k, kv}, v{qkv.data + q + kv, qkv.stride};
  head_norm_rope_forward(cpu, to.q, q, to.q_rstd, qkv.data, qkv.stride, eps, queries);
  head_norm_rope_forward(cpu, to.k, kv, to.k_rstd, qkv.data + q, qkv.stride, eps, keys);
  kv_write(cpu, to.cache, k, v, batch);
}

template void prepare_heads(const Cpu&, const PreparedHeads<float>&, ConstRows<float>, float,
                            const HeadRows&, const HeadRows&, const PagedBatch&);
template void prepare_heads(const Cpu&, const PreparedHeads<Bf16>&, ConstRows<Bf16>, float,
                            const HeadRows&, const HeadRows&, const PagedBatch&);

}  // namespace fst::kernels
