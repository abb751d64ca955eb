#pragma once

#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "attention_definition.h"
#include "device.h"

/// Problems of attention for the tests of CUDA kernels, and what the forward pass must give.
namespace fst::test {

using Floats = std::vector<float>;
using Lengths = std::vector<std::int64_t>;

/// Keys of each sequence at the end, and how many of them, the last, are rows of the batch.
struct Extent {
  Lengths lengths, rows;
};

inline std::string name_of(const HeadShape& s, const Extent& e) {
  std::string name = std::to_string(s.heads) + "/" + std::to_string(s.kv_heads) + " heads of " +
                     std::to_string(s.dim) + ", rows/keys";
  for (std::size_t i = 0; i < e.rows.size(); ++i) {
    name += " " + std::to_string(e.rows[i]) + "/" + std::to_string(e.lengths[i]);
  }
  return name;
}

/// A batch whose keys are all in the cache and whose last rows are attended; everything strided. T:
/// what rows and the cache hold.
template <class T>
struct Case {
  HeadShape shape;
  Batch batch;
  std::int64_t gap, q_stride, kv_stride;
  Floats q, k, v;

  /// `order`: that of the cache's blocks.
  Case(const HeadShape& heads, const Extent& extent, std::int64_t between, std::uint32_t order = 1)
      : shape(heads), batch(heads, extent.lengths, extent.lengths, order), gap(between) {
    q_stride = heads.heads * heads.dim + gap;
    kv_stride = heads.kv_heads * heads.dim + gap;
    Noise noise(7);
    k = held<T>(noise.normals(batch.rows() * kv_stride));
    v = held<T>(noise.normals(batch.rows() * kv_stride));
    kv_write(twin(), batch.cache.data(), {k.data(), kv_stride}, {v.data(), kv_stride},
             batch.paged());
    for (std::size_t s = 0; s < extent.rows.size(); ++s) {
      const std::int64_t rows = extent.rows[s];
      batch.cu_seqlens[s + 1] = batch.cu_seqlens[s] + static_cast<std::int32_t>(rows);
      batch.context[s] = static_cast<std::int32_t>(extent.lengths[s] - rows);
    }
    q = held<T>(noise.normals(batch.rows() * q_stride, 1.5));
  }
  std::size_t outputs() const { return static_cast<std::size_t>(batch.rows() * q_stride); }
  std::size_t per_head() const { return static_cast<std::size_t>(batch.rows() * shape.heads); }
};

/// What a kernel reads of a batch, on the device; the cache begins `shift` elements behind what is
/// aligned.
template <class T>
struct OnDevice {
  DeviceArray<std::int32_t> cu_seqlens, context, table;
  std::int64_t shift;
  DeviceArray<T> memory;
  kernels::PagedBatch paged;

  explicit OnDevice(const Batch& batch, std::int64_t behind = 0)
      : cu_seqlens(batch.cu_seqlens),
        context(batch.context),
        table(batch.table),
        shift(behind),
        memory(shifted(stored_as<T>(batch.cache), behind)),
        paged(batch.paged()) {
    paged.cu_seqlens = cu_seqlens.data();
    paged.context = context.data();
    paged.block_table = table.data();
  }
  T* cache() const { return memory.data() + shift; }

 private:
  static std::vector<T> shifted(std::vector<T> xs, std::int64_t behind) {
    xs.insert(xs.begin(), static_cast<std::size_t>(behind), T{});
    return xs;
  }
};

inline constexpr float untouched = std::numeric_limits<float>::quiet_NaN();

/// Outputs in rows of Case::q_stride, `untouched` between them.
struct Forward {
  Floats out, lse;
};

/// What the CPU gives.
template <class T>
Forward twin_forward(const Case<T>& c) {
  const std::vector<T> q = stored_as<T>(c.q), cache = stored_as<T>(c.batch.cache);
  std::vector<T> out = stored_as<T>(Floats(c.outputs(), untouched));
  Floats lse(c.per_head());
  attention_forward(twin(), into(out, c.q_stride), lse.data(), from(q, c.q_stride), cache.data(),
                    c.batch.paged(), c.batch.scale());
  return {widened(out), lse};
}
/// What the device must give: of float the CPU's bits, of Bf16 those of the definition with the
/// tensor core's sums.
template <class T>
Forward defined_forward(const Case<T>& c) {
  if constexpr (std::is_same_v<T, float>) {
    return twin_forward(c);
  } else {
    const Result defined = attention_definition<T>(c.batch, c.q, c.q_stride, tensor_chain_of);
    Forward r{Floats(c.outputs(), untouched), defined.lse};
    for (std::int64_t row = 0; row < c.batch.rows(); ++row) {
      const auto begin = defined.out.begin() + row * c.batch.width();
      std::copy(begin, begin + c.batch.width(), r.out.begin() + row * c.q_stride);
    }
    return r;
  }
}

/// What the device gives; the cache begins `shift` elements behind what is aligned.
template <class T>
struct DeviceForward {
  DeviceArray<T> out;
  DeviceArray<float> lse;

  explicit DeviceForward(const Case<T>& c, std::int64_t shift = 0)
      : out(stored_as<T>(Floats(c.outputs(), untouched))), lse(c.per_head()) {
    const OnDevice<T> there(c.batch, shift);
    const DeviceArray<T> q(stored_as<T>(c.q));
    attention_forward(device(), kernels::Rows<T>{out.data(), c.q_stride}, lse.data(),
                      {q.data(), c.q_stride}, there.cache(), there.paged, c.batch.scale());
  }
};

}  // namespace fst::test
