#pragma once

#include <concepts>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fst/comm/communicator.h"
#include "fst/comm/pack.h"

namespace fst {

namespace detail {
/// Unpacks each part to its end and appends the messages: by source rank, then in the order sent.
template <Message T>
std::vector<T> unpack_all(const std::vector<std::vector<std::byte>>& parts) {
  std::vector<T> messages;
  for (const auto& part : parts) {
    Unpacker unpacker(part);
    while (!unpacker.done()) messages.push_back(T::unpack(unpacker));
  }
  return messages;
}
}  // namespace detail

/// Sends each message of `mine` to rank to_rank(message) of `comm` and returns those that came
/// here, by source rank, then by index there. Collective over `comm`; elsewhere returns nothing.
template <Message T, std::invocable<const T&> ToRank>
std::vector<T> route(const Communicator& comm, std::span<const T> mine, ToRank&& to_rank,
                     std::string_view what) {
  if (!comm.member()) return {};
  std::vector<Packer> packers(static_cast<std::size_t>(comm.size()));
  for (const T& message : mine) {
    const int rank = to_rank(message);
    if (rank < 0 || rank >= comm.size()) {
      throw Error("route " + std::string(what) + ": rank " + std::to_string(rank) + " is not in " +
                  comm.name() + " of " + std::to_string(comm.size()) + " ranks");
    }
    message.pack(packers[static_cast<std::size_t>(rank)]);
  }
  std::vector<std::vector<std::byte>> to;
  for (Packer& packer : packers) to.push_back(packer.take());
  return detail::unpack_all<T>(comm.exchange(to, what));
}

/// The messages of all members, by rank, then by index there; the same on every member.
/// Collective over `comm`; elsewhere returns nothing.
template <Message T>
std::vector<T> all_gather(const Communicator& comm, std::span<const T> mine,
                          std::string_view what) {
  if (!comm.member()) return {};
  Packer packer;
  for (const T& message : mine) message.pack(packer);
  return detail::unpack_all<T>(comm.all_gather(packer.bytes(), what));
}

}  // namespace fst
