#include "fst/tensor/working_memory.h"

#include "kernels/matmul_bf16.h"
#include "kernels/sampling.h"
#include "tests/cuda/attention_case.h"

/// The plan of what kernels work in, held against what they ask for.
namespace fst {
namespace {

using kernels::Bf16;
using test::device;
using test::DeviceArray;

/// What `call(cuda)` asks for at most, on a stream of its own.
template <class Call>
std::int64_t asked_by(const Call& call) {
  const kernels::Cuda cuda = kernels::open_cuda(0);
  call(cuda);
  kernels::wait(cuda);
  return static_cast<std::int64_t>(most_scratch(cuda));
}

template <class T>
std::int64_t asked_by_attention(const test::Case<T>& c, bool longer) {
  return asked_by([&](const kernels::Cuda& cuda) {
    const test::OnDevice<T> there(c.batch);
    const DeviceArray<T> q(test::stored_as<T>(c.q)), out(c.outputs());
    const DeviceArray<float> lse(c.per_head());
    kernels::PagedBatch batch = there.paged;
    batch.longer = longer;
    attention_forward(cuda, kernels::Rows<T>{out.data(), c.q_stride}, lse.data(),
                      {q.data(), c.q_stride}, there.cache(), batch, c.batch.scale());
  });
}

template <class T>
void expect_steps_within_the_plan(const char* type) {
  const test::HeadShape shape{4, 2, 24};
  ops::KernelWork work;
  work.heads = shape.heads, work.kv_heads = shape.kv_heads, work.head_dim = shape.dim;
  work.decoding = 3, work.context = 2033;
  const std::int64_t planned = working_bytes(work);
  const test::Case<T> decoding(shape, {{2033, 1500, 40}, {1, 1, 1}}, 0);
  EXPECT_LE(asked_by_attention(decoding, false), planned) << type;
  // The prompt of a newcomer: the table is as wide as the others need.
  const test::Case<T> mixed(shape, {{2033, 1500, 21}, {1, 1, 21}}, 0);
  const std::int64_t asked = asked_by_attention(mixed, true);
  EXPECT_LE(asked, planned) << type;
  EXPECT_GE(asked, planned - planned / 8) << type << ": more is planned than is ever asked for";
}

TEST(WorkingMemory, OfAttentionHoldsForPromptsBesideLongContexts) {
  expect_steps_within_the_plan<float>("float");
  expect_steps_within_the_plan<Bf16>("Bf16");
}

TEST(WorkingMemory, OfProductsAndSamplingIsEnough) {
  ops::KernelWork work;
  work.rows = 37, work.hidden_size = 40, work.drawn_rows = 3, work.vocab = 3001;
  const std::int64_t planned = working_bytes(work), n = work.hidden_size, k = 128;
  const std::int64_t product = asked_by([&](const kernels::Cuda& cuda) {
    const auto size = [](std::int64_t rows, std::int64_t columns) {
      return static_cast<std::size_t>(rows * columns);
    };
    const DeviceArray<Bf16> x(std::vector<Bf16>(size(work.rows, k)));
    const DeviceArray<Bf16> weight(std::vector<Bf16>(size(n, k)));
    const DeviceArray<float> y(size(work.rows, n));
    linear_forward(cuda, y.data(), n, x.data(), k, weight.data(), nullptr, work.rows, n, k,
                   kernels::SumOrder::leaves, kernels::Update::overwrite);
  });
  EXPECT_GT(product, 0);
  EXPECT_LE(product, planned);
  const std::int64_t sampling = asked_by([&](const kernels::Cuda& cuda) {
    const DeviceArray<float> logits(std::vector<float>(static_cast<std::size_t>(3 * work.vocab)));
    const DeviceArray<std::uint64_t> keys(std::vector<std::uint64_t>{1, 2, 3});
    const DeviceArray<std::int32_t> places(std::vector<std::int32_t>{4, 5, 6}), tokens(3);
    const DeviceArray<float> logprob(3);
    kernels::SamplingRule rule;
    rule.top_p = 0.9f;
    sample_tokens(cuda, tokens.data(), logprob.data(), logits.data(), keys.data(), places.data(), 3,
                  work.vocab, work.vocab, work.vocab, rule);
  });
  EXPECT_GT(sampling, 0);
  EXPECT_LE(sampling, planned);
}

}  // namespace
}  // namespace fst
