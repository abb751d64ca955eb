#include "kernels/cuda/gpu.h"
#include "kernels/cuda/scatter.h"
#include "kernels/cuda/storage.h"

namespace fst::kernels {

namespace {

using namespace gpu;

constexpr int link_threads = 256;
constexpr int walk_threads = 256;
constexpr std::int32_t none = -1;

/// For every i: the next one of the same index, and whether there is one before it.
struct Links {
  std::int32_t* next;
  std::int32_t* has_previous;  // zeros at first
};

/// A thread looks for the successor of one index among all that come later, which pass through
/// shared memory tile by tile. Everyone has at most one predecessor, so no two threads mark the
/// same place.
KERNEL(link_threads, 4) link(Links links, const std::int32_t* index, std::int64_t count) {
  std::int32_t(&tile)[link_threads] = shared_memory<std::int32_t[link_threads]>();
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * link_threads;
  const std::int64_t mine = begin + threadIdx.x;
  const std::int32_t wanted = mine < count ? index[mine] : 0;
  std::int64_t found = count;
  for (std::int64_t at = begin; at < count; at += link_threads) {
    sync_block();
    if (at + threadIdx.x < count) tile[threadIdx.x] = index[at + threadIdx.x];
    sync_block();
    const std::int64_t rest = count - at;
    const int size = rest < link_threads ? static_cast<int>(rest) : link_threads;
    const int first = at == begin ? static_cast<int>(threadIdx.x) + 1 : 0;
    if (found < count) continue;
    int hit = size;
    for (int i = size - 1; i >= first; --i) hit = tile[i] == wanted ? i : hit;
    if (hit < size) found = at + hit;
  }
  if (mine >= count) return;
  links.next[mine] = found < count ? static_cast<std::int32_t>(found) : none;
  if (found < count) links.has_previous[found] = 1;
}

/// Block x begins at the x-th index if its chain does, and takes the columns of block y.
template <class To, class From>
KERNEL(walk_threads, 4)
walk(To* to, std::int64_t ld_to, const From* from, std::int64_t ld_from, const std::int32_t* index,
     std::int64_t columns, VocabRows vocab, Links links) {
  const std::int64_t begin = blockIdx.x;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.y) * walk_threads + threadIdx.x;
  const std::int64_t row = index[begin] - vocab.first;
  if (links.has_previous[begin] != 0 || row < 0 || row >= vocab.count || column >= columns) return;
  To total = to[row * ld_to + column];
  std::int32_t i = static_cast<std::int32_t>(begin);
  while (i != none) {
    const std::int32_t next = links.next[i];
    total = narrowed_to<To>(widened(total) + widened(from[i * ld_from + column]));
    i = next;
  }
  to[row * ld_to + column] = total;
}

}  // namespace

template <class To, class From>
void scatter_add(const Cuda& cuda, To* to, std::int64_t ld_to, const From* from,
                 std::int64_t ld_from, const std::int32_t* index, std::int64_t count,
                 std::int64_t columns, const VocabRows& vocab) {
  if (count == 0 || columns == 0) return;
  const auto bytes = static_cast<std::size_t>(count) * sizeof(std::int32_t);
  Links links{};
  links.next = static_cast<std::int32_t*>(scratch(cuda, 2 * bytes));
  links.has_previous = links.next + count;
  check(cudaMemsetAsync(links.has_previous, 0, bytes, cuda.stream), "cudaMemset");
  const auto blocks = static_cast<unsigned>((count + link_threads - 1) / link_threads);
  launch(link, dim3(blocks), dim3(link_threads), sizeof(std::int32_t[link_threads]), cuda.stream,
         links, index, count);
  const auto strips = static_cast<unsigned>((columns + walk_threads - 1) / walk_threads);
  launch(walk<To, From>, dim3(static_cast<unsigned>(count), strips), dim3(walk_threads), 0,
         cuda.stream, to, ld_to, from, ld_from, index, columns, vocab, links);
}

template void scatter_add(const Cuda&, float*, std::int64_t, const float*, std::int64_t,
                          const std::int32_t*, std::int64_t, std::int64_t, const VocabRows&);
template void scatter_add(const Cuda&, Bf16*, std::int64_t, const Bf16*, std::int64_t,
                          const std::int32_t*, std::int64_t, std::int64_t, const VocabRows&);
template void scatter_add(const Cuda&, float*, std::int64_t, const Bf16*, std::int64_t,
                          const std::int32_t*, std::int64_t, std::int64_t, const VocabRows&);

}  // namespace fst::kernels
