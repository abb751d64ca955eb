#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "fst/comm/world.h"
#include "fst/model/qwen3.h"
#include "fst/rollout/generator.h"
#include "fst/run/config.h"
#include "fst/tensor/device.h"
#include "fst/tensor/products.h"
#include "fst/tensor/tensor.h"

namespace fst {

/// The device of this rank where a deck or an option says `name` = cpu | cuda | auto, and how
/// tensors travel between ranks, `exchange` = auto | nccl | host. Where a node has more ranks than
/// GPUs they share them; rank 0 says so of its own, and between GPUs how tensors travel. Throws
/// InputError where there is no such device or exchange. After World::split(); collective over all
/// ranks.
Device open_engine(World& world, const std::string& name, const std::string& exchange,
                   std::int64_t threads);

/// The device of a job and what was planned for it.
struct JobMemory {
  Device device;
  std::int64_t longest = 0;  // tokens of a sequence that was planned for; 0: nothing was planned
  std::int64_t unit_elements = 0;  // of the largest sum over the ranks of a unit
};
/// open_engine(), refused where the ranks' arithmetics differ or engine.exact = off is for nothing;
/// then choose_products() with all that the job will multiply (job_products() in plan.h), and where
/// the device is a GPU all of the memory that the plan gives this rank, at once (memory_of_rank()
/// there). After World::split(); collective over all ranks.
JobMemory open_planned_engine(World& world, const RunConfig& config);
/// The same without memory, which is taken as it is needed; products also for the base in the
/// policy's place, whose turn may come.
JobMemory open_unplanned_engine(World& world, const RunConfig& config);

/// One line for each kind of rank, of the one whose memory was used most: what of the plan was.
/// Nothing where nothing was planned. Collective over all ranks.
void report_memory_use(const World& world, const Device& device);

/// How tensors would travel between `ranks` ranks on this machine with this deck, in a sentence,
/// for `fst check`. Moves nothing and throws nothing.
std::string exchange_report(const RunConfig& config, int ranks);

/// Throws InputError on all ranks where their devices do not compute the same bits: in bf16 the CPU
/// and every kind of GPU have sums of products of their own. Collective over all ranks.
void expect_one_arithmetic(const World& world, const Device& device, DType dtype);
/// Throws InputError where the deck gives exactness away, engine.exact = off, and the device is the
/// CPU, which has nothing for it. After expect_one_arithmetic(), so that it throws on all ranks.
void expect_gpu_unless_exact(const Device& device, const RunConfig& config);
/// Lets products of bf16 matrices on this device be as engine.products and engine.exact say, and
/// says so on rank 0. Where cuBLASLt is to have our kernels' bits, each rank finds its algorithms
/// for `products` now and never later, with working memory of its own that it gives back;
/// `working_bytes`: what kernels will have to work in, 0: no bound. Throws InputError on all ranks
/// where the deck names cuBLASLt and a rank lacks it or cannot begin with it, Error where a device
/// fails meanwhile; where it may be used and is not here, our kernels are. Collective over all
/// ranks.
void choose_products(const World& world, const Device& device, const RunConfig& config,
                     std::span<const PlannedProduct> products, std::int64_t working_bytes);
/// One line of how many certified shapes were met, and, which is no fault, how many others, of the
/// rank with most of these. Nothing where no products are certified. Collective over all ranks.
void report_products(const World& world, const Device& device, const RunConfig& config);
/// How products would be done on this machine with this deck, in a sentence, for `fst check`.
std::string products_report(const RunConfig& config);

/// Throws InputError where the deck wants cuDNN's attention and this process has no cuDNN.
void expect_attention(const RunConfig& config);
/// How a job samples; without stop tokens, and in the phase of rollouts.
GeneratorOptions generator_options(const RunConfig& config);
/// What a deck means by engine.attention.
Attention attention_of(const std::string& name);
/// What a deck or an option means by a dtype, f32 or bf16.
DType arithmetic_of(const std::string& name);

}  // namespace fst
