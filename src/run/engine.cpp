#include "fst/run/engine.h"

#include <array>
#include <cstdio>
#include <span>

#include "fst/base/clock.h"
#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/run/plan.h"
#include "fst/tensor/library_attention.h"
#include "fst/tensor/products.h"

namespace fst {

Device open_engine(World& world, const std::string& name, const std::string& exchange,
                   std::int64_t threads) {
  const Device device = Device::named(name, static_cast<int>(threads), world.node_rank());
  world.connect(device, device_exchange_named(exchange));
  if (device.on_host()) return device;
  const int devices = Device::cuda_devices();
  if (world.node_ranks() > devices) {
    log::info(std::to_string(world.node_ranks()) + " ranks share " + std::to_string(devices) +
              (devices == 1 ? " GPU" : " GPUs") + " on node " + world.host() +
              ": they take turns, and each needs its own memory");
  }
  if (world.all().size() > 1) log::info("tensors travel between ranks " + world.exchange());
  return device;
}

std::string exchange_report(const RunConfig& config, int ranks) {
  const std::string through_host = "through the host's memory, by MPI: ";
  const int devices = Device::cuda_devices();
  if (ranks == 1) return "no tensor travels: one rank";
  if (config.engine.device == "cpu" || (config.engine.device == "auto" && devices == 0)) {
    return through_host + "the device is the CPU";
  }
  if (config.engine.exchange == "host") return through_host + "engine.exchange = host";
  const std::string nccl = "NCCL here: " + nccl_support();
  if (!nccl_usable()) {
    return (config.engine.exchange == "nccl" ? "refused: " : through_host) + nccl;
  }
  return "by NCCL from GPU to GPU between ranks with a GPU each, else through the host's memory; " +
         nccl + ", " + std::to_string(devices) + (devices == 1 ? " GPU" : " GPUs");
}

void expect_one_arithmetic(const World& world, const Device& device, DType dtype) {
  const std::string mine = device.arithmetic(dtype == DType::bf16);
  std::string first = mine;
  world.all().broadcast(first, 0, "arithmetic of rank 0");
  std::array<std::int64_t, 1> other{mine == first ? 0 : world.all().rank()};
  world.all().all_reduce_max(std::span(other), "another arithmetic");
  if (other[0] == 0) return;
  throw InputError(
      "rank 0 has " + first + ", rank " + std::to_string(other[0]) +
      " has another: ranks with one dtype of bf16 need devices of one kind; f32 is the "
      "same on all");
}

void expect_gpu_unless_exact(const Device& device, const RunConfig& config) {
  if (config.engine.exact || !device.on_host()) return;
  throw InputError(
      "engine.exact = off: it is for GPUs, but the device is the CPU (engine.device = " +
      config.engine.device + ")");
}

namespace {

Products products_of(const RunConfig& config) {
  const auto& engine = config.engine;
  if (engine.products == "own" || engine.dtype != "bf16" || !plans_for_gpu(config)) {
    return Products::own;
  }
  return engine.products == "certified" || engine.exact ? Products::certified : Products::any;
}

std::string counted(std::int64_t count, const char* what) {
  return std::to_string(count) + " " + what;
}

/// Uses cuBLASLt on this rank. Throws InputError on all ranks where the deck insists on it and one
/// cannot; false: our kernels do everything on this rank.
bool begin_products(const World& world, const Device& device, const RunConfig& config) {
  const Products products = products_of(config);
  const std::string problem =
      cublaslt_usable() ? use_products(device, products) : cublaslt_support();
  if (config.engine.products == "certified") {
    std::array<std::int64_t, 1> without{problem.empty() ? 0 : world.all().rank() + 1};
    world.all().all_reduce_max(std::span(without), "ranks without cuBLASLt");
    if (without[0] != 0) {
      throw InputError(
          "engine.products = certified: rank " + std::to_string(without[0] - 1) +
          " cannot use cuBLASLt (rank 0: " + (problem.empty() ? cublaslt_support() : problem) +
          "); use own, or name the library by FST_CUBLASLT_LIBRARY");
    }
  }
  if (!problem.empty()) {
    log::info("matrices are multiplied by our kernels; cuBLASLt here: " + problem);
  } else if (products == Products::any) {
    log::info("matrices are multiplied " + products_report(config));
  }
  return problem.empty();
}

}  // namespace

void choose_products(const World& world, const Device& device, const RunConfig& config,
                     std::span<const PlannedProduct> products, std::int64_t working_bytes) {
  if (products_of(config) == Products::own || device.on_host()) return;
  if (!begin_products(world, device, config) || products_of(config) != Products::certified) return;
  const Stopwatch watch;
  ProductPlans made;
  try {
    made = plan_products(device, products, working_bytes);
  } catch (const std::exception& error) {
    throw Error(std::string(error.what()) + "; engine.products = own does without cuBLASLt");
  }
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.1f s", watch.seconds());
  log::info("cuBLASLt " + cublaslt_support() + " was compared with our kernels, " +
            counted(made.shapes, "shapes: ") + counted(made.certified, "with the same bits, ") +
            counted(made.faster, "of them faster and used, ") + seconds);
  if (made.no_room > 0) {
    log::warn(counted(made.no_room, "shapes of products could not be compared with cuBLASLt's: ") +
              "there is not enough memory; our kernels multiply them");
  }
}

void report_products(const World& world, const Device& device, const RunConfig& config) {
  if (products_of(config) != Products::certified) return;
  const ProductsMet mine = products_met(device);
  // Of the rank with most others; both counts are far below 2^32.
  std::array<std::int64_t, 1> most{mine.others << 32 | mine.planned};
  world.all().all_reduce_max(std::span(most), "products that were met");
  if (most[0] == 0) return;
  log::info(
      "products: " + counted(most[0] & 0xffffffff, "shapes were met that the start planned, ") +
      counted(most[0] >> 32, "others"));
}

std::string products_report(const RunConfig& config) {
  const Products products = products_of(config);
  if (products == Products::own) return "by our kernels";
  const std::string here = "cuBLASLt here: " + cublaslt_support();
  if (products == Products::certified) {
    const bool refused = config.engine.products == "certified" && !cublaslt_usable();
    return (refused ? "refused: "
            : cublaslt_usable()
                ? "by cuBLASLt where, compared at the start, it has our kernels' bits and is "
                  "faster, else by our kernels; "
                : "by our kernels; ") +
           here;
  }
  return (cublaslt_usable() ? "by cuBLASLt in any order of sums; " : "by our kernels; ") + here;
}

void expect_attention(const RunConfig& config) {
  if (attention_of(config.engine.attention) == Attention::own || cudnn_usable()) return;
  throw InputError("engine.attention = cudnn: cuDNN here: " + cudnn_support());
}

GeneratorOptions generator_options(const RunConfig& config) {
  GeneratorOptions options;
  options.kv_bytes = config.rollout.kv_mib << 20;
  options.max_batch = config.rollout.max_batch;
  options.prefill_chunk = config.rollout.prefill_chunk;
  options.record_steps = config.engine.graphs;
  return options;
}

Attention attention_of(const std::string& name) {
  if (name == "own") return Attention::own;
  if (name == "cudnn") return Attention::cudnn;
  throw Error("an attention of the name " + name);
}

DType arithmetic_of(const std::string& name) {
  if (name == "f32") return DType::f32;
  if (name == "bf16") return DType::bf16;
  throw Error("there is no arithmetic in " + name);
}

}  // namespace fst
