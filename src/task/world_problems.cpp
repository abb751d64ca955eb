#include <algorithm>
#include <cstddef>
#include <numeric>
#include <set>
#include <utility>

#include "fst/base/error.h"
#include "fst/task/world.h"

namespace fst::world {

namespace {

using Taken = std::set<std::string>;  // questions a stream must not hold

/// One split as a function of the position.
struct Stream {
  std::string variant, split;
  std::uint64_t seed;
  std::vector<std::int64_t> lengths;
};

// Blocks are keyed by their number, so that any position costs the same.
Rng block_rng(const Stream& stream, std::uint64_t block, std::uint64_t use) {
  return Rng(stream.seed, Purpose::problem_stream,
             {hash_text("world"), hash_text(stream.variant), hash_text(stream.split), block, use});
}

Tag tag_at(const Stream& stream, std::uint64_t block, std::size_t slot) {
  Rng rng = block_rng(stream, block, 0);
  std::array<Tag, tag_count> tags = {Tag::red, Tag::blue, Tag::green, Tag::gold};
  for (std::size_t i = tags.size(); i > 1; --i) std::swap(tags[i - 1], tags[rng.below(i)]);
  return tags[slot];
}

Problem problem_at(const Stream& stream, const Taken& taken, std::int64_t position) {
  if (position < 0) {
    throw Error("world: expected a position of at least 0, found " + std::to_string(position));
  }
  const auto block = static_cast<std::uint64_t>(position / tag_count);
  const auto slot = static_cast<std::size_t>(position % tag_count);
  const Tag tag = tag_at(stream, block, slot);
  const Rule rule = hidden_rule(stream.variant, tag);
  Rng rng = block_rng(stream, block, 1 + slot);
  constexpr int max_draws = 10'000;  // only a split that holds nearly all questions gets there
  for (int draw = 0; draw < max_draws; ++draw) {
    const Question question{tag, draw_clear_list(rng, rule, stream.lengths)};
    std::string text = list_text(tag_text(tag), question.list);
    if (taken.contains(text)) continue;
    return {"world/" + stream.variant + "/" + stream.split + "/" + std::to_string(position),
            std::move(text), gold_answer(question, rule), ""};
  }
  throw InputError(
      "world: the dev and test splits hold nearly all questions of these lengths; "
      "make them smaller or allow more lengths");
}

// The first `size` problems, all different and none of `taken`, which grows by them.
std::vector<Problem> fixed_split(const Stream& stream, std::int64_t size, Taken& taken) {
  std::vector<Problem> problems;
  for (std::int64_t position = 0; position < size; ++position) {
    problems.push_back(problem_at(stream, taken, position));
    taken.insert(problems.back().question);
  }
  return problems;
}

void check_lengths(const std::vector<std::int64_t>& lengths) {
  if (lengths.empty()) throw InputError("world: expected at least one list length, found none");
  for (const std::int64_t length : lengths) {
    if (length < min_length || length > max_length) {
      throw InputError("world: list lengths must be 3 to 6, found " + std::to_string(length));
    }
  }
}

}  // namespace

Task make_world_task(const TaskOptions& options) {
  check_lengths(options.lengths);
  hidden_rule(options.variant, Tag::red);  // throws for an unknown variant
  constexpr std::int64_t default_test_size = 96;
  constexpr std::uint64_t no_seed = 0;  // dev and test are the same for every run

  Taken taken;
  Task task;
  task.name = "world";
  task.variant = options.variant;
  task.seed_prompt = seed_prompt;
  task.reflection_style = ReflectionStyle::world;
  task.test = fixed_split({options.variant, "test", no_seed, options.lengths},
                          options.test_size > 0 ? options.test_size : default_test_size, taken);
  task.dev =
      fixed_split({options.variant, "dev", no_seed, options.lengths}, options.dev_size, taken);
  const Stream train{options.variant, "train", options.seed, options.lengths};
  task.train = [train, taken](std::int64_t position) { return problem_at(train, taken, position); };
  task.verify = verify;
  return task;
}

}  // namespace fst::world
