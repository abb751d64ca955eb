#include "fst/comm/communicator.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "fst/base/error.h"
#include "fst/base/random.h"

#include "board.h"
#include "channel.h"
#include "nccl_channel.h"

namespace fst {

namespace {

// Above this a message is worth a barrier, so that the core is not kept while a partner is busy and
// not given away while data moves.
constexpr std::size_t large_bytes = std::size_t{64} << 10;
constexpr int data_tag = 1;

bool alone(const Communicator& comm) {
  return comm.size() <= 1;
}

constexpr std::int64_t length_bytes = sizeof(std::int64_t);  // of a length that goes along

std::int64_t bytes_of(std::size_t count) {
  return static_cast<std::int64_t>(count);
}

/// Bytes of the pieces that leave this rank, or come to it.
template <class Piece>
std::int64_t moved_bytes(std::span<const Piece> pieces, int rank) {
  std::int64_t bytes = 0;
  for (const Piece& piece : pieces) {
    if (piece.peer != rank) bytes += bytes_of(piece.bytes.size());
  }
  return bytes;
}

Pace meet(const Communicator::Channel& channel, std::size_t bytes, const char* operation,
          std::string_view what) {
  if (bytes < large_bytes) return Pace::patient;
  channel.gather_round(operation, what);
  return Pace::eager;
}

template <class T>
void reduce(const Communicator::Channel& channel, std::span<T> x, MPI_Datatype type, MPI_Op op,
            const char* operation, std::string_view what) {
  const Pace pace = meet(channel, x.size_bytes(), operation, what);
  const auto chunk = static_cast<std::size_t>(
      std::max<std::int64_t>(1, channel.chunk_bytes / static_cast<std::int64_t>(sizeof(T))));
  for (std::size_t begin = 0; begin < x.size(); begin += chunk) {
    const auto part = x.subspan(begin, std::min(chunk, x.size() - begin));
    MPI_Request request = MPI_REQUEST_NULL;
    FST_MPI_CHECK(MPI_Iallreduce(MPI_IN_PLACE, part.data(), static_cast<int>(part.size()), type, op,
                                 channel.comm, &request));
    channel.wait({&request, 1}, operation, what, pace);
  }
  const std::int64_t bytes = (channel.size - 1) * bytes_of(x.size_bytes());
  channel.count(what, bytes, bytes);
}

/// Pieces from this rank to itself: the i-th outgoing one to the i-th incoming one.
void copy_own(std::span<const Outgoing> out, std::span<const Incoming> in, int rank,
              std::string_view what) {
  std::vector<std::span<const std::byte>> own;
  for (const Outgoing& piece : out) {
    if (piece.peer == rank) own.push_back(piece.bytes);
  }
  std::size_t next = 0;
  bool matching = true;
  for (const Incoming& piece : in) {
    if (piece.peer != rank) continue;
    matching = matching && next < own.size() && own[next].size() == piece.bytes.size();
    if (!matching) break;
    if (!piece.bytes.empty()) {
      std::memcpy(piece.bytes.data(), own[next].data(), piece.bytes.size());
    }
    ++next;
  }
  if (!matching || next != own.size()) {
    throw Error("transfer of " + std::string(what) + ": pieces of rank " + std::to_string(rank) +
                " to itself do not match");
  }
}

}  // namespace

Communicator::Communicator() = default;
Communicator::Communicator(Communicator&&) noexcept = default;
Communicator& Communicator::operator=(Communicator&&) noexcept = default;
Communicator::~Communicator() = default;
Communicator::Communicator(std::unique_ptr<Channel> channel) : channel_(std::move(channel)) {}

Communicator Communicator::self() {
  return Communicator(std::make_unique<Channel>(MPI_COMM_NULL, "self"));
}

Communicator Communicator::subset(int color, int key, std::string name) const {
  if (!member()) return {};
  MPI_Comm part = MPI_COMM_NULL;
  if (alone(*this)) {
    if (color < 0) return {};
  } else {
    const Blocking split(*this, "making communicator " + name);
    FST_MPI_CHECK(MPI_Comm_split(channel_->comm, color < 0 ? MPI_UNDEFINED : color, key, &part));
    if (part == MPI_COMM_NULL) return {};
  }
  auto channel = std::make_unique<Channel>(part, std::move(name));
  channel->id =
      hash_text(channel->name + "/" + std::to_string(color) + "/" + std::to_string(channel_->id));
  channel->board = channel_->board;
  channel->deadline = channel_->deadline;
  channel->chunk_bytes = channel_->chunk_bytes;
  return Communicator(std::move(channel));
}

int Communicator::rank() const {
  return member() ? channel_->rank : -1;
}
int Communicator::size() const {
  return member() ? channel_->size : 0;
}
std::string Communicator::name() const {
  return member() ? channel_->name : "";
}
double Communicator::deadline() const {
  return member() ? channel_->deadline : 0;
}
void Communicator::set_deadline(double seconds) {
  if (member()) channel_->deadline = seconds;
}
void Communicator::set_chunk_bytes(std::int64_t bytes) {
  if (member()) channel_->chunk_bytes = std::clamp<std::int64_t>(bytes, 1, std::int64_t{1} << 30);
}

MPI_Comm native(const Communicator& comm) {
  if (alone(comm)) throw Error("a communicator of one member has no MPI communicator");
  return comm.channel().comm;
}

const TrafficTable& Communicator::traffic() const {
  static const TrafficTable none;
  return member() ? channel_->traffic : none;
}

Communicator::Blocking::Blocking(const Communicator& comm, std::string_view what) : comm_(&comm) {
  if (comm.member() && comm.channel().board != nullptr) {
    comm.channel().board->begin_blocking(what, comm.deadline());
  }
}

Communicator::Blocking::~Blocking() {
  if (comm_->member() && comm_->channel().board != nullptr) comm_->channel().board->end_blocking();
}

void Communicator::broadcast_bytes(std::span<std::byte> x, int root, std::string_view what) const {
  if (alone(*this)) return;
  move_from(root, x, what);
  count_broadcast(bytes_of(x.size()), root, what);
}

void Communicator::count_broadcast(std::int64_t bytes, int root, std::string_view what) const {
  const bool mine = rank() == root;
  channel_->count(what, mine ? (size() - 1) * bytes : 0, mine ? 0 : bytes);
}

void Communicator::move_from(int root, std::span<std::byte> x, std::string_view what) const {
  const Pace pace = meet(*channel_, x.size(), "broadcast", what);
  const auto chunk = static_cast<std::size_t>(channel_->chunk_bytes);
  for (std::size_t begin = 0; begin < x.size(); begin += chunk) {
    const auto part = x.subspan(begin, std::min(chunk, x.size() - begin));
    MPI_Request request = MPI_REQUEST_NULL;
    FST_MPI_CHECK(MPI_Ibcast(part.data(), static_cast<int>(part.size()), MPI_BYTE, root,
                             channel_->comm, &request));
    channel_->wait({&request, 1}, "broadcast", what, pace);
  }
}

void Communicator::broadcast(std::string& text, int root, std::string_view what) const {
  if (alone(*this)) return;
  std::array<std::uint64_t, 1> length{text.size()};
  broadcast(std::span<std::uint64_t>(length), root, what);
  text.resize(length[0]);
  broadcast(std::span<char>(text), root, what);
}

void Communicator::all_reduce_sum(std::span<std::int64_t> x, std::string_view what) const {
  // As unsigned numbers: the same bits, and overflow is defined.
  all_reduce_sum(std::span(reinterpret_cast<std::uint64_t*>(x.data()), x.size()), what);
}

void Communicator::all_reduce_sum(std::span<std::uint64_t> x, std::string_view what) const {
  if (!alone(*this)) reduce(*channel_, x, MPI_UINT64_T, MPI_SUM, "all_reduce_sum", what);
}

void Communicator::all_reduce_sum(kernels::ExactSum& sum, std::string_view what) const {
  if (alone(*this)) return;
  auto state = sum.state();
  all_reduce_sum(std::span<std::int64_t>(state), what);
  sum = kernels::ExactSum::from_state(state);
}

void Communicator::all_reduce_max(std::span<std::int64_t> x, std::string_view what) const {
  if (!alone(*this)) reduce(*channel_, x, MPI_INT64_T, MPI_MAX, "all_reduce_max", what);
}

void Communicator::all_reduce_max(std::span<double> x, std::string_view what) const {
  if (!alone(*this)) reduce(*channel_, x, MPI_DOUBLE, MPI_MAX, "all_reduce_max", what);
}

std::vector<std::vector<std::byte>> Communicator::all_gather(std::span<const std::byte> mine,
                                                             std::string_view what) const {
  auto parts = gather_parts(mine, what);
  if (alone(*this)) return parts;
  std::int64_t total = 0;
  for (const auto& part : parts) total += bytes_of(part.size());
  const std::int64_t others = size() - 1, own = bytes_of(mine.size());
  channel_->count(what, others * (length_bytes + own), others * length_bytes + total - own);
  return parts;
}

std::vector<std::vector<std::byte>> Communicator::gather_parts(std::span<const std::byte> mine,
                                                               std::string_view what) const {
  if (!member()) return {};
  std::vector<std::vector<std::byte>> parts(static_cast<std::size_t>(size()));
  parts[static_cast<std::size_t>(rank())].assign(mine.begin(), mine.end());
  if (alone(*this)) return parts;

  std::vector<std::int64_t> sizes(parts.size());
  const auto own = static_cast<std::int64_t>(mine.size());
  MPI_Request request = MPI_REQUEST_NULL;
  FST_MPI_CHECK(
      MPI_Iallgather(&own, 1, MPI_INT64_T, sizes.data(), 1, MPI_INT64_T, channel_->comm, &request));
  channel_->wait({&request, 1}, "all_gather", what);
  std::int64_t total = 0;
  for (const std::int64_t bytes : sizes) total += bytes;
  for (std::size_t r = 0; r < parts.size(); ++r)
    parts[r].resize(static_cast<std::size_t>(sizes[r]));
  if (total > channel_->chunk_bytes) {  // displacements of MPI are 32 bits wide
    for (std::size_t r = 0; r < parts.size(); ++r) {
      move_from(static_cast<int>(r), parts[r], what);
    }
    return parts;
  }

  std::vector<int> counts, displacements;
  int end = 0;
  for (const std::int64_t bytes : sizes) {
    counts.push_back(static_cast<int>(bytes));
    displacements.push_back(end);
    end += static_cast<int>(bytes);
  }
  std::vector<std::byte> all(static_cast<std::size_t>(total));
  FST_MPI_CHECK(MPI_Iallgatherv(mine.data(), static_cast<int>(own), MPI_BYTE, all.data(),
                                counts.data(), displacements.data(), MPI_BYTE, channel_->comm,
                                &request));
  channel_->wait({&request, 1}, "all_gather", what, Pace::eager);
  const std::byte* from = all.data();
  for (auto& part : parts) {
    std::copy_n(from, part.size(), part.begin());
    from += part.size();
  }
  return parts;
}

void Communicator::all_gather_into(std::span<std::byte> all, std::span<const std::byte> mine,
                                   std::string_view what) const {
  const auto parts = static_cast<std::size_t>(std::max(1, size()));
  if (all.size() != mine.size() * parts) {
    throw Error("all_gather_into of " + std::string(what) + ": " + std::to_string(parts) +
                " parts of " + std::to_string(mine.size()) + " bytes do not fill " +
                std::to_string(all.size()));
  }
  if (mine.empty()) return;
  if (alone(*this)) {
    std::memcpy(all.data(), mine.data(), mine.size());
    return;
  }
  if (all.size() <= static_cast<std::size_t>(channel_->chunk_bytes)) {
    const Pace pace = meet(*channel_, all.size(), "all_gather_into", what);
    const int count = static_cast<int>(mine.size());
    MPI_Request request = MPI_REQUEST_NULL;
    FST_MPI_CHECK(MPI_Iallgather(mine.data(), count, MPI_BYTE, all.data(), count, MPI_BYTE,
                                 channel_->comm, &request));
    channel_->wait({&request, 1}, "all_gather_into", what, pace);
    const std::int64_t bytes = (size() - 1) * bytes_of(mine.size());
    channel_->count(what, bytes, bytes);
    return;
  }
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  for (int r = 0; r < size(); ++r) {
    out.push_back({r, mine});
    in.push_back({r, all.subspan(static_cast<std::size_t>(r) * mine.size(), mine.size())});
  }
  transfer(out, in, what);
}

std::vector<std::vector<std::byte>> Communicator::exchange(
    std::span<const std::vector<std::byte>> to, std::string_view what) const {
  if (!member()) return {};
  if (to.size() != static_cast<std::size_t>(size())) {
    throw Error("exchange of " + std::string(what) + ": " + std::to_string(to.size()) +
                " parts for " + std::to_string(size()) + " ranks");
  }
  if (alone(*this)) return {to.begin(), to.end()};
  std::vector<std::int64_t> send_sizes, receive_sizes(to.size());
  for (const auto& part : to) send_sizes.push_back(static_cast<std::int64_t>(part.size()));
  MPI_Request request = MPI_REQUEST_NULL;
  FST_MPI_CHECK(MPI_Ialltoall(send_sizes.data(), 1, MPI_INT64_T, receive_sizes.data(), 1,
                              MPI_INT64_T, channel_->comm, &request));
  channel_->wait({&request, 1}, "exchange", what);

  std::vector<std::vector<std::byte>> from(to.size());
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  for (std::size_t r = 0; r < to.size(); ++r) {
    from[r].resize(static_cast<std::size_t>(receive_sizes[r]));
    out.push_back({static_cast<int>(r), to[r]});
    in.push_back({static_cast<int>(r), from[r]});
  }
  const std::int64_t lengths = (size() - 1) * length_bytes;
  channel_->count(what, lengths + moved_bytes<Outgoing>(out, rank()),
                  lengths + moved_bytes<Incoming>(in, rank()));
  move_pieces(out, in, what);
  return from;
}

void Communicator::transfer(std::span<const Outgoing> out, std::span<const Incoming> in,
                            std::string_view what) const {
  if (!member()) return;
  if (!alone(*this)) {
    channel_->count(what, moved_bytes(out, rank()), moved_bytes(in, rank()));
  }
  move_pieces(out, in, what);
}

void Communicator::move_pieces(std::span<const Outgoing> out, std::span<const Incoming> in,
                               std::string_view what) const {
  copy_own(out, in, rank(), what);
  if (alone(*this)) return;
  channel_->gather_round("transfer", what);

  // Messages between two ranks with one tag arrive in order, so no numbering is needed.
  const auto chunk = static_cast<std::size_t>(channel_->chunk_bytes);
  std::vector<MPI_Request> requests;
  for (const Incoming& piece : in) {
    if (piece.peer == rank()) continue;
    for (std::size_t begin = 0; begin < piece.bytes.size(); begin += chunk) {
      const auto part = piece.bytes.subspan(begin, std::min(chunk, piece.bytes.size() - begin));
      FST_MPI_CHECK(MPI_Irecv(part.data(), static_cast<int>(part.size()), MPI_BYTE, piece.peer,
                              data_tag, channel_->comm, &requests.emplace_back()));
    }
  }
  for (const Outgoing& piece : out) {
    if (piece.peer == rank()) continue;
    for (std::size_t begin = 0; begin < piece.bytes.size(); begin += chunk) {
      const auto part = piece.bytes.subspan(begin, std::min(chunk, piece.bytes.size() - begin));
      FST_MPI_CHECK(MPI_Isend(part.data(), static_cast<int>(part.size()), MPI_BYTE, piece.peer,
                              data_tag, channel_->comm, &requests.emplace_back()));
    }
  }
  channel_->wait(requests, "transfer", what, Pace::eager);
}

void Communicator::barrier(std::string_view what) const {
  if (!alone(*this)) channel_->gather_round("barrier", what);
}

bool Communicator::all_of(bool mine, std::string_view what) const {
  std::array<std::int64_t, 1> failed{mine ? 0 : 1};
  all_reduce_max(std::span<std::int64_t>(failed), what);
  return failed[0] == 0;
}

}  // namespace fst
