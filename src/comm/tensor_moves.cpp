// The operations of Communicator on tensors: how they travel is decided here and nowhere else.

#include <memory>
#include <string>
#include <vector>

#include "fst/base/error.h"
#include "fst/comm/communicator.h"
#include "fst/tensor/host_view.h"
#include "fst/tensor/ops.h"

#include "channel.h"
#include "nccl_channel.h"

namespace fst {

namespace {

std::int64_t bytes_of(const Tensor& x) {
  return x.size() * size_of(x.dtype());
}

void expect_contiguous(const Tensor& x, const char* operation, std::string_view what) {
  if (!x.contiguous()) {
    throw Error(operation + (" of " + std::string(what)) + ": " + x.shape() + " is not contiguous");
  }
}

bool same_elements(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.size() == b.size();
}

/// Pieces from this rank to itself: the i-th outgoing one to the i-th incoming one.
void copy_own(std::span<const OutgoingTensor> out, std::span<const IncomingTensor> in, int rank,
              std::string_view what) {
  std::vector<const Tensor*> own;
  for (const OutgoingTensor& piece : out) {
    for (const int peer : piece.peers) {
      if (peer == rank) own.push_back(&piece.x);
    }
  }
  std::size_t next = 0;
  bool matching = true;
  for (const IncomingTensor& piece : in) {
    if (piece.peer != rank) continue;
    matching = matching && next < own.size() && same_elements(*own[next], piece.x);
    if (!matching) break;
    Tensor to = piece.x;
    if (!to.empty()) ops::copy(to, *own[next]);
    ++next;
  }
  if (!matching || next != own.size()) {
    throw Error("transfer of " + std::string(what) + ": tensors of rank " + std::to_string(rank) +
                " to itself do not match");
  }
}

}  // namespace

void Communicator::connect(const Device& device, DeviceExchange exchange) {
  if (size() <= 1) return;
  channel_->nccl.reset();
  channel_->against_nccl = "engine.exchange = host";
  if (exchange == DeviceExchange::host) return;
  DevicePlace mine{channel_->host, device.identity(), "", 0};
  if (!device.on_host()) {
    mine.nccl_problem = nccl_library().problem;
    mine.nccl_version = nccl_library().version;
  }
  Packer packer;
  mine.pack(packer);
  std::vector<DevicePlace> places;
  for (const auto& part : gather_parts(packer.bytes(), "devices")) {
    Unpacker unpacker(part);
    places.push_back(DevicePlace::unpack(unpacker));
  }
  channel_->against_nccl = fst::against_nccl(places);
  if (exchange == DeviceExchange::nccl && !channel_->against_nccl.empty()) {
    throw InputError("engine.exchange = nccl: tensors cannot travel by NCCL between the ranks of " +
                     name() + ": " + channel_->against_nccl + "; use auto or host");
  }
}

std::string Communicator::against_nccl() const {
  return member() ? channel_->against_nccl : "";
}

/// Null where tensors go through the host's memory. The first exchange makes the communicator of
/// NCCL, so that groups without any have none; collective as that exchange is.
NcclChannel* Communicator::nccl() const {
  if (!channel_->against_nccl.empty()) return nullptr;
  if (!channel_->nccl) {
    const NcclLibrary& library = nccl_library();
    nccl::UniqueId id{};
    if (rank() == 0) {
      const nccl::Result result = library.api.get_unique_id(&id);
      if (result != nccl::success) {
        throw Error(std::string("ncclGetUniqueId: ") + library.api.get_error_string(result));
      }
    }
    move_from(0, std::as_writable_bytes(std::span(&id, 1)), "NCCL's unique id");
    channel_->nccl = std::make_unique<NcclChannel>(library, *channel_, id);
  }
  return channel_->nccl.get();
}

void Communicator::transfer(std::span<const OutgoingTensor> out, std::span<const IncomingTensor> in,
                            std::string_view what) const {
  if (!member()) return;
  std::int64_t sent = 0, received = 0;
  for (const OutgoingTensor& piece : out) {
    expect_contiguous(piece.x, "transfer", what);
    for (const int peer : piece.peers) sent += peer == rank() ? 0 : bytes_of(piece.x);
  }
  for (const IncomingTensor& piece : in) {
    expect_contiguous(piece.x, "transfer", what);
    received += piece.peer == rank() ? 0 : bytes_of(piece.x);
  }
  copy_own(out, in, rank(), what);
  if (size() == 1) return;
  channel_->count(what, sent, received);
  if (NcclChannel* const by_nccl = nccl()) {
    by_nccl->transfer(out, in, what);
  } else {
    move_staged(out, in, what);
  }
}

/// Through the host's memory: what the host cannot reach is copied there once, whoever gets it.
void Communicator::move_staged(std::span<const OutgoingTensor> out,
                               std::span<const IncomingTensor> in, std::string_view what) const {
  std::vector<HostView<std::byte>> read, written;
  std::vector<Outgoing> outgoing;
  std::vector<Incoming> incoming;
  for (const OutgoingTensor& piece : out) {
    if (piece.peers.empty() || (piece.peers.size() == 1 && piece.peers[0] == rank())) continue;
    const std::span<std::byte> bytes = read.emplace_back(piece.x).span();  // stays when moved
    for (const int peer : piece.peers) {
      if (peer != rank()) outgoing.push_back({peer, bytes});
    }
  }
  for (const IncomingTensor& piece : in) {
    if (piece.peer == rank()) continue;
    incoming.push_back({piece.peer, written.emplace_back(piece.x, Contents::undefined).span()});
  }
  move_pieces(outgoing, incoming, what);
  for (HostView<std::byte>& view : written) view.store();
}

void Communicator::all_gather_into(Tensor& all, const Tensor& mine, std::string_view what) const {
  if (!member()) return;
  if (all.dtype() != mine.dtype() || !all.contiguous() || !mine.contiguous() ||
      all.size() != mine.size() * size()) {
    throw Error("gather of " + std::string(what) + ": " + mine.shape() + " of each of " +
                std::to_string(size()) + " ranks into " + all.shape() +
                "; expected contiguous tensors of one dtype that fit");
  }
  if (mine.empty()) return;
  if (size() == 1) return ops::copy(all, mine);
  if (NcclChannel* const by_nccl = nccl()) {
    by_nccl->all_gather_into(all, mine, what);
    const std::int64_t bytes = (size() - 1) * bytes_of(mine);
    return channel_->count(what, bytes, bytes);
  }
  HostView<std::byte> gathered(all, Contents::undefined);
  HostView<std::byte> own(mine);
  all_gather_into(gathered.span(), own.span(), what);
  gathered.store();
}

void Communicator::broadcast(Tensor& x, int root, std::string_view what) const {
  if (size() <= 1 || x.empty()) return;
  expect_contiguous(x, "broadcast", what);
  if (NcclChannel* const by_nccl = nccl()) {
    by_nccl->broadcast(x, root, what);
    return count_broadcast(bytes_of(x), root, what);
  }
  HostView<std::byte> bytes(x, rank() == root ? Contents::read : Contents::undefined);
  broadcast_bytes(bytes.span(), root, what);
  if (rank() != root) bytes.store();
}

}  // namespace fst
