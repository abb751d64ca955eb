#include "fst/comm/unit.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "fst/base/error.h"
#include "fst/base/range.h"
#include "fst/tensor/ops.h"

namespace fst {

namespace {

/// Tensors up to here are sent whole to everybody: a round of messages costs more than the bytes.
constexpr std::int64_t small_bytes = 32 * 1024;

std::span<std::byte> bytes_of(const Tensor& x) {
  const auto size = static_cast<std::size_t>(x.size() * size_of(x.dtype()));
  return {static_cast<std::byte*>(x.raw()), size};
}

void expect_contiguous(const Tensor& x, std::string_view what) {
  if (!x.contiguous()) {
    throw Error("sum of " + std::string(what) + ": " + x.shape() + " is not contiguous");
  }
}

/// parts[begin] = the parts [begin, end), halved at the middle. `parts` [ranks, n].
void join(Tensor& parts, std::int64_t begin, std::int64_t end) {
  if (end - begin <= 1) return;
  const std::int64_t middle = begin + (end - begin) / 2;
  join(parts, begin, middle);
  join(parts, middle, end);
  Tensor left = parts.rows(begin, begin + 1);
  ops::add(left, parts.rows(middle, middle + 1));
}

}  // namespace

void Unit::sum(Tensor& x, std::string_view what) const {
  const int ranks = size();
  if (ranks <= 1 || x.size() == 0) return;
  expect_contiguous(x, what);
  const std::int64_t n = x.size();
  const bool whole = n * size_of(DType::f32) <= small_bytes;
  const Tensor flat = x.view({n});
  const auto slice = [&](int r) {
    const Range range = whole ? Range{0, n} : part_of(n, ranks, r);
    return flat.rows(range.begin, range.end);
  };
  Tensor mine = slice(rank());
  parts_.reserve(x.device(), DType::f32, {ranks, mine.size()});
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  for (int r = 0; r < ranks; ++r) {
    out.push_back({r, bytes_of(slice(r))});
    in.push_back({r, bytes_of(parts_.tensor().rows(r, r + 1))});
  }
  comm_->transfer(out, in, what);
  join(parts_.tensor(), 0, ranks);
  std::memcpy(mine.raw(), parts_.tensor().raw(), bytes_of(mine).size());
  if (whole) return;
  out.clear();
  in.clear();
  for (int r = 0; r < ranks; ++r) {
    if (r == rank()) continue;
    out.push_back({r, bytes_of(mine)});
    in.push_back({r, bytes_of(slice(r))});
  }
  comm_->transfer(out, in, what);
}

void Unit::gather(Tensor& all, const Tensor& mine, std::string_view what) const {
  const int ranks = std::max(1, size());
  const std::span<std::byte> to = bytes_of(all), from = bytes_of(mine);
  if (to.size() != from.size() * static_cast<std::size_t>(ranks) || all.dtype() != mine.dtype() ||
      !all.contiguous() || !mine.contiguous()) {
    throw Error("gather of " + std::string(what) + ": " + std::to_string(ranks) + " parts " +
                mine.shape() + " do not fill " + all.shape());
  }
  if (from.empty()) return;
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  for (int r = 0; r < ranks; ++r) {
    const auto place = to.subspan(static_cast<std::size_t>(r) * from.size(), from.size());
    if (r == std::max(0, rank())) {
      std::memcpy(place.data(), from.data(), from.size());
    } else {
      out.push_back({r, from});
      in.push_back({r, place});
    }
  }
  comm_->transfer(out, in, what);
}

}  // namespace fst
