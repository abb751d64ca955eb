// The declarations of src/comm/nccl_api.h against NCCL's own: compiled, never run.

#include <cstddef>
#include <type_traits>

#include <nccl.h>

#include "src/comm/nccl_api.h"

namespace fst {
namespace {

static_assert(sizeof(nccl::UniqueId) == sizeof(ncclUniqueId));
static_assert(sizeof(nccl::Result) == sizeof(ncclResult_t));
static_assert(nccl::success == int{ncclSuccess} && nccl::in_progress == int{ncclInProgress});
static_assert(nccl::u8 == int{ncclUint8} && nccl::i32 == int{ncclInt32} &&
              nccl::i64 == int{ncclInt64} && nccl::f16 == int{ncclFloat16} &&
              nccl::f32 == int{ncclFloat32} && nccl::f64 == int{ncclFloat64} &&
              nccl::bf16 == int{ncclBfloat16});

// What every release since 2.14 has in front.
static_assert(offsetof(nccl::Config, size) == offsetof(ncclConfig_t, size));
static_assert(offsetof(nccl::Config, magic) == offsetof(ncclConfig_t, magic));
static_assert(offsetof(nccl::Config, version) == offsetof(ncclConfig_t, version));
static_assert(offsetof(nccl::Config, blocking) == offsetof(ncclConfig_t, blocking));
static_assert(offsetof(nccl::Config, unused) == offsetof(ncclConfig_t, cgaClusterSize));
static_assert(nccl::Config{}.unused == NCCL_CONFIG_UNDEF_INT);
static_assert(sizeof(nccl::Config) <= sizeof(ncclConfig_t));
static_assert(nccl::oldest_version == NCCL_VERSION(2, 14, 0) &&
              nccl::oldest_version <= NCCL_VERSION_CODE);
constexpr ncclConfig_t theirs = NCCL_CONFIG_INITIALIZER;
static_assert(nccl::Config{}.magic == theirs.magic);

/// Whether our pointer takes their function: as many arguments, each of the same kind and size.
template <class Ours, class Theirs>
constexpr bool passes_alike() {
  constexpr bool pointers = std::is_pointer_v<Ours> && std::is_pointer_v<Theirs>;
  return sizeof(Ours) == sizeof(Theirs) && alignof(Ours) == alignof(Theirs) &&
         (pointers || (!std::is_pointer_v<Ours> && !std::is_pointer_v<Theirs>)) &&
         std::is_class_v<Ours> == std::is_class_v<Theirs>;
}
template <class Ours, class Theirs>
struct Alike : std::false_type {};
template <class R, class... A, class S, class... B>
requires(sizeof...(A) == sizeof...(B)) struct Alike<R (*)(A...), S(B...)> {
  static constexpr bool value = passes_alike<R, S>() && (passes_alike<A, B>() && ...);
};
static_assert(Alike<decltype(NcclApi::get_version), decltype(ncclGetVersion)>::value);
static_assert(Alike<decltype(NcclApi::get_unique_id), decltype(ncclGetUniqueId)>::value);
static_assert(
    Alike<decltype(NcclApi::comm_init_rank_config), decltype(ncclCommInitRankConfig)>::value);
static_assert(Alike<decltype(NcclApi::comm_destroy), decltype(ncclCommDestroy)>::value);
static_assert(Alike<decltype(NcclApi::comm_abort), decltype(ncclCommAbort)>::value);
static_assert(
    Alike<decltype(NcclApi::comm_get_async_error), decltype(ncclCommGetAsyncError)>::value);
static_assert(Alike<decltype(NcclApi::get_error_string), decltype(ncclGetErrorString)>::value);
static_assert(Alike<decltype(NcclApi::get_last_error), decltype(ncclGetLastError)>::value);
static_assert(Alike<decltype(NcclApi::group_start), decltype(ncclGroupStart)>::value);
static_assert(Alike<decltype(NcclApi::group_end), decltype(ncclGroupEnd)>::value);
static_assert(Alike<decltype(NcclApi::send), decltype(ncclSend)>::value);
static_assert(Alike<decltype(NcclApi::recv), decltype(ncclRecv)>::value);
static_assert(Alike<decltype(NcclApi::all_gather), decltype(ncclAllGather)>::value);
static_assert(Alike<decltype(NcclApi::broadcast), decltype(ncclBroadcast)>::value);

}  // namespace
}  // namespace fst
