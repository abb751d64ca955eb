#include "fst/model/identity.h"

#include <algorithm>
#include <bit>

#include "fst/base/error.h"
#include "fst/base/random.h"
#include "fst/tensor/host_view.h"

namespace fst {

namespace {

/// Multiply-and-fold over 64-bit words; stable, fast, not cryptographic. Constants: the 64-bit
/// golden ratio and the finaliser of MurmurHash3 (public domain).
std::uint64_t mixed(std::uint64_t hash, std::uint64_t word) {
  hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
  hash ^= hash >> 32;
  hash *= 0xff51afd7ed558ccdu;
  return hash ^ (hash >> 29);
}

std::uint64_t hash_values(std::uint64_t hash, const float* values, std::int64_t n) {
  for (std::int64_t i = 0; i + 1 < n; i += 2) {
    const std::uint64_t low = std::bit_cast<std::uint32_t>(values[i]);
    const std::uint64_t high = std::bit_cast<std::uint32_t>(values[i + 1]);
    hash = mixed(hash, low | high << 32);
  }
  return n % 2 == 0 ? hash : mixed(hash, std::bit_cast<std::uint32_t>(values[n - 1]));
}

/// The hash of rows of a block is a sum over them and, of each row, the eighths of the whole
/// parameter's columns: a shard owns whole ones. `first_row`, of the whole parameter.
std::uint64_t hash_rows(const ParameterSpec& spec, std::int64_t first_row,
                        std::span<const float> values) {
  constexpr std::int64_t eighths = 8;
  const std::uint64_t name = hash_text(spec.name);
  const std::int64_t rows = static_cast<std::int64_t>(values.size()) / spec.cols;
  std::uint64_t total = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::uint64_t row = mixed(name, static_cast<std::uint64_t>(first_row + r));
    for (std::int64_t i = 0; i < eighths; ++i) {
      const Range columns = part_of(spec.global_cols, eighths, i);
      const std::int64_t begin = columns.begin - spec.col_begin;
      if (columns.size() == 0 || begin < 0 || begin >= spec.cols) continue;
      total += hash_values(mixed(row, static_cast<std::uint64_t>(i)),
                           values.data() + r * spec.cols + begin, columns.size());
    }
  }
  return total;
}

}  // namespace

ModelIdentity::ModelIdentity(const Qwen3Config& config, const Shard& shard)
    : shard_(shard), specs_(parameter_specs(config, shard)) {
  if (shard.rank != 0) return;
  for (const ParameterSpec& spec : specs_) {
    const std::uint64_t rows =
        mixed(hash_text(spec.name), static_cast<std::uint64_t>(spec.global_rows));
    share_ += mixed(rows, static_cast<std::uint64_t>(spec.global_cols));
  }
}

void ModelIdentity::add(std::int64_t begin, std::span<const float> values) {
  auto spec =
      std::upper_bound(specs_.begin(), specs_.end(), begin,
                       [](std::int64_t at, const ParameterSpec& s) { return at < s.offset; });
  for (--spec; !values.empty(); ++spec) {
    const std::int64_t end =
        std::min(spec->offset + spec->size(), begin + static_cast<std::int64_t>(values.size()));
    if ((begin - spec->offset) % spec->cols != 0 || (end - begin) % spec->cols != 0) {
      throw Error("identity: a part of a row of " + spec->name);
    }
    const auto count = static_cast<std::size_t>(end - begin);
    if (!spec->replicated || shard_.rank == 0) {
      const std::int64_t row = spec->row_begin + (begin - spec->offset) / spec->cols;
      share_ += hash_rows(*spec, row, values.first(count));
    }
    values = values.subspan(count);
    begin = end;
  }
}

std::uint64_t ModelIdentity::of(const TensorParallel* unit, const Device& device) const {
  if (shard_of(unit) != shard_) throw Error("identity: parameters of another unit");
  if (shard_.degree == 1) return share_;
  Buffer mine(device, DType::i64, {1}), all(device, DType::i64, {shard_.degree});
  const auto share_word = static_cast<std::int64_t>(share_);
  copy_in(mine.tensor(), std::span(&share_word, 1));
  unit->gather(all.tensor(), mine.tensor(), "identity of a model");
  std::uint64_t total = 0;
  const HostView<const std::int64_t> shares(all.tensor());
  for (const std::int64_t value : shares.span()) {
    total += static_cast<std::uint64_t>(value);
  }
  return total;
}

}  // namespace fst
