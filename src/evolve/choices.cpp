#include "fst/evolve/choices.h"

#include <memory>
#include <utility>

#include "fst/base/error.h"
#include "fst/base/random.h"

namespace fst {

void fisher_yates(std::vector<int>& list,
                  const std::function<std::uint64_t(std::uint64_t)>& below) {
  for (std::size_t place = list.size(); place-- > 1;) {
    std::swap(list[place], list[static_cast<std::size_t>(below(place + 1))]);
  }
}

Choices keyed_choices(std::uint64_t run_seed, std::int64_t cycle, std::int64_t round) {
  const auto words = {static_cast<std::uint64_t>(cycle), static_cast<std::uint64_t>(round)};
  // Copies of one Choices go on in the same two streams.
  const auto parents = std::make_shared<Rng>(run_seed, Purpose::parent_choice, words);
  const auto shuffles = std::make_shared<Rng>(run_seed, Purpose::minibatch_shuffle, words);
  return {
      [parents](std::span<const int> list) -> std::size_t {
        if (list.empty()) throw Error("choose: the list is empty");
        return static_cast<std::size_t>(parents->below(list.size()));
      },
      [shuffles](std::vector<int>& list) {
        fisher_yates(list, [&](std::uint64_t n) { return shuffles->below(n); });
      },
      [parents] { return parents->uniform(); },
  };
}

}  // namespace fst
