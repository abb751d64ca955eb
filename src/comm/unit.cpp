#include "fst/comm/unit.h"

#include <algorithm>
#include <string>
#include <vector>

#include "fst/base/error.h"
#include "fst/base/range.h"
#include "fst/tensor/ops.h"

namespace fst {

namespace {

/// Tensors up to here are sent whole to everybody: a second round costs more than the bytes.
/// Between two ranks both ways move as many.
constexpr std::int64_t small_bytes = std::int64_t{32} << 10;

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

std::int64_t Unit::bytes_of(std::int64_t ranks, std::int64_t elements) {
  const std::int64_t bytes = elements * size_of(DType::f32);
  const std::int64_t slice = (elements + ranks - 1) / ranks * size_of(DType::f32);
  return ranks == 2 ? ranks * bytes : ranks * std::max(slice, std::min(bytes, small_bytes));
}

void Unit::reserve(const Device& device, std::int64_t elements) const {
  if (size() <= 1) return;
  parts_.reserve(device.during(MemoryPhase::always), DType::u8, {bytes_of(size(), elements)});
}

void Unit::sum(Tensor& x, std::string_view what) const {
  if (size() <= 1 || x.size() == 0) return;
  expect_contiguous(x, what);
  if (size() == 2 || x.size() * size_of(DType::f32) <= small_bytes) {
    parts_.reserve(x.device().during(MemoryPhase::always), DType::f32, {size(), x.size()});
    comm_->all_gather_into(parts_.tensor(), x, what);
    join(parts_.tensor(), 0, size());
    take_first(x);
  } else {
    sum_slices(x, what);
  }
}

/// x = the first part.
void Unit::take_first(Tensor& x) const {
  Tensor flat = x.view({x.size()});
  ops::convert(flat, parts_.tensor().rows(0, 1).view({x.size()}));
}

/// Each rank joins one slice.
void Unit::sum_slices(Tensor& x, std::string_view what) const {
  const Tensor flat = x.view({x.size()});
  const auto slice = [&](int r) {
    const Range range = part_of(x.size(), size(), r);
    return flat.rows(range.begin, range.end);
  };
  Tensor mine = slice(rank());
  parts_.reserve(x.device().during(MemoryPhase::always), DType::f32, {size(), mine.size()});
  std::vector<OutgoingTensor> out;
  std::vector<IncomingTensor> in;
  for (int r = 0; r < size(); ++r) {
    out.push_back({{r}, slice(r)});
    in.push_back({r, parts_.tensor().rows(r, r + 1)});
  }
  comm_->transfer(out, in, what);
  join(parts_.tensor(), 0, size());
  take_first(mine);
  out = {{{}, mine}};
  in.clear();
  for (int r = 0; r < size(); ++r) {
    if (r == rank()) continue;
    out.front().peers.push_back(r);
    in.push_back({r, slice(r)});
  }
  comm_->transfer(out, in, what);
}

void Unit::gather(Tensor& all, const Tensor& mine, std::string_view what) const {
  comm_->all_gather_into(all, mine, what);
}

}  // namespace fst
