#include "roofline/promise.h"

#include <algorithm>
#include <stdexcept>

#include "nlohmann/json.hpp"

namespace fst::roofline {

using emulator::LaunchRecord;
using emulator::Operation;
using emulator::Traffic;
using emulator::Work;

bool Ran::by(const std::string& kernel) const {
  return std::any_of(launches.begin(), launches.end(), [&](const LaunchRecord& launch) {
    return emulator::kernel_name(launch.kernel).rfind(kernel, 0) == 0;
  });
}

std::vector<Ran> operations_that_ran(const Device& device) {
  device.synchronize();
  std::vector<Ran> all;
  for (LaunchRecord& launch : emulator::take_launches()) {
    if (launch.operation == nullptr) {
      throw std::runtime_error(emulator::kernel_name(launch.kernel) + " outside of all operations");
    }
    if (all.empty() || all.back().operation != launch.operation) {
      all.push_back({launch.operation, {}, 0, 0});
    }
    const Traffic& traffic = launch.traffic;
    all.back().touched += traffic.read.touched + traffic.written.touched;
    all.back().operations += traffic.operations + traffic.tensor_operations;
    all.back().launches.push_back(std::move(launch));
  }
  return all;
}

namespace {

constexpr double promised = 1.05;

bool multiplies(const std::string& name) {
  return name.rfind("linear_", 0) == 0 || name.rfind("attention_", 0) == 0;
}

/// Bytes that a product whose sums are trees may touch beyond the least. Where few tiles would
/// leave the device idle blocks take a leaf each, and another launch joins them: every leaf of
/// every element is written and read once. Else each of 132 blocks puts finished halves of its
/// tile's tree aside, three in float32, in bf16 one and with several matrices another; they stay in
/// the L2 of a GPU. In float32 the results of several matrices are added one by one.
std::int64_t tree_bytes(const Ran& ran, std::int64_t outputs, std::int64_t leaves,
                        std::int64_t matrices) {
  const bool f32 = ran.operation->type == "f32";
  const std::int64_t side = ran.by("tree_kernel<1") ? 64 : 128;
  const std::int64_t aside = std::int64_t{132} * side * side * (f32 ? 3 : matrices > 1 ? 2 : 1);
  const std::int64_t kept = ran.by("tree_kernel") ? aside : matrices * leaves * outputs;
  return 2 * word * (kept + (f32 ? (matrices - 1) * outputs : 0));
}

/// By what a product may do more operations than the least.
double operations_by_design(const Ran& ran) {
  const std::string& name = ran.operation->name;
  // Eight heads at a time are columns of the tensor cores' operation, however many share a KV head;
  // exponentials, as below.
  if (ran.by("attention_kernel<TensorRow")) {
    const auto shape = nlohmann::json::parse(ran.operation->shape);
    return 1.1 * 8 * shape.value("kv_heads", 1.0) / shape.value("heads", 1.0);
  }
  // Scores are computed for whole tiles of 128 keys, twice the triangle of the 128 rows here, sums
  // of values for whole sixteens; exponentials are fma() too, one twentieth of two products of
  // heads of 64.
  if (name == "attention_forward") return 1.7;
  // Two passes form the scores and dout . v twice, seven products for five, in tiles.
  if (name == "attention_backward") return 2.0;
  return promised;
}

}  // namespace

std::int64_t bytes_by_design(const Ran& ran) {
  const Operation& operation = *ran.operation;
  const Work& work = operation.work;
  const auto shape = nlohmann::json::parse(operation.shape);
  const auto extent = [&](const char* of) { return shape.value(of, std::int64_t{0}); };
  const std::string& name = operation.name;
  const std::int64_t element = operation.type == "bf16" ? 2 : 4;
  const std::int64_t rows = extent("rows"), leaves = extent("leaves"), heads = extent("heads");
  if (multiplies(name) && leaves > 1) {
    const std::int64_t outputs = rows * extent(name.rfind("linear_backward", 0) == 0 ? "k" : "n");
    return tree_bytes(ran, outputs, leaves, std::max<std::int64_t>(1, extent("matrices")));
  }
  // In float32 gate and up are written and read.
  if (name == "linear_swiglu" && ran.by("multiply_gates")) return 2 * rows * extent("n") * element;
  // dweight is a chain over rows, dx needs sums along them: two launches, both read dy and x, and
  // the heads' the rotary table.
  if (name == "rms_norm_backward") return 2 * rows * extent("dim") * element;
  if (name == "head_norm_rope_backward") {
    return rows * extent("dim") * (2 * heads * element + word);
  }
  // Eight leaves a row, written and read: pairs, sums.
  if (name == "token_lse") return 2 * 16 * word * rows;
  if (name == "token_entropy" || name == "token_kl") return 2 * 8 * word * rows;
  // dk, dv are chains over rows, dq over keys, dout . out comes before: q, k and v are read twice,
  // dout three times; 3 N + 2 K rows of heads beside the least 4 N + 4 K. And dout . out of each
  // row and head is written once and read twice, in bf16 with lse in 16 bytes.
  if (name == "attention_backward") {
    const std::int64_t keys = extent("kv_heads"), bytes = extent("dim") * element;
    const std::int64_t states = heads * 3 * (operation.type == "bf16" ? 16 : word);
    return work.bytes() * ((3 * heads + 2 * keys) * bytes + states) / (4 * (heads + keys) * bytes);
  }
  // The sum of the law comes before the draw; where the law is cut, the likely ids are listed in
  // between, and cut and what it leaves are found among these: of 2048 at most a key is written and
  // read twice, and the sector of its logit once more.
  const std::int64_t listed = 2048 * (3 * 8 + 32);
  if (name == "sample_tokens") {
    return (ran.by("cut_row") ? 2 * work.read + listed * rows : work.read) + 256 * rows;
  }
  if (name == "kept_tokens") return work.read + listed;
  // The elements of a token's keys lie 16 apart: one token alone touches a sector for each.
  const std::int64_t token_elements = 2 * heads * extent("dim");
  if (name == "kv_write" && work.written == extent("sequences") * token_elements * element) {
    return work.written / (2 * element) * (32 - element);
  }
  if (name == "prepare_heads") {
    return rows * extent("kv_heads") * extent("dim") * (32 - element);
  }
  return 0;
}

std::string broken_promise(const Ran& ran) {
  const Operation& operation = *ran.operation;
  const auto least = static_cast<double>(operation.work.bytes() + bytes_by_design(ran));
  const std::string what = operation.name + " of " + operation.type + " " + operation.shape + " ";
  if (static_cast<double>(ran.touched) > promised * least) {
    return what + "touches " + std::to_string(ran.touched) +
           " bytes; least: " + std::to_string(operation.work.bytes()) + ", by design " +
           std::to_string(bytes_by_design(ran)) + " more";
  }
  const double factor = operations_by_design(ran);
  if (multiplies(operation.name) && static_cast<double>(ran.operations) >
                                        factor * static_cast<double>(operation.work.operations)) {
    return what + "does " + std::to_string(ran.operations) +
           " operations; least: " + std::to_string(operation.work.operations);
  }
  return "";
}

}  // namespace fst::roofline
