// Stands in for libnccl.so.2 where GPUs are emulated (FST_NCCL_LIBRARY): the functions of NCCL that
// the program uses, over files in a folder that the ranks share. It keeps a list of the calls, and
// is as strict, and as late, as NCCL may be: a group is put on its stream some time after the call,
// when ncclCommGetAsyncError is asked for the second time; nothing is read or written before the
// stream comes to it; a send ends only when it has been received; a rank's next group is refused
// before the last one is on the stream, and the end of a communicator before all of them have
// ended, or while a graph holds one; pieces that meet must agree in kind, size and type. Groups
// that a stream captures move, and count for the faults below, whenever their graph does.
//
//   FST_NCCL_RECORDER=version:21200      what ncclGetVersion tells
//   FST_NCCL_RECORDER=fail:CALL:N:RANK   the N-th CALL of world rank RANK fails, from 1
//   FST_NCCL_RECORDER=lost:N:RANK        the N-th group of world rank RANK meets an error on the
//                                        stream and does not end
//   FST_NCCL_RECORDER=hang:N:RANK        it is never put on the stream
//   FST_NCCL_RECORDER=stall:N:RANK       it never begins there

#include "recorder.h"

using namespace fst::nccl;
using namespace fst::nccl::recording;

struct ncclComm {
  std::shared_ptr<Ends> ends = std::make_shared<Ends>();
};

namespace {

Result add(Comm comm, const Call& call, const char* name) {
  if (must_fail(name)) {
    recorder().group_error = system_error;
    return failed(system_error, std::string("planted at ") + name);
  }
  if (comm == nullptr || call.peer < 0 || call.peer >= comm->ends->size || call.device == nullptr ||
      (call.kind == 's' && call.peer == comm->ends->rank) || size_of(call.type) == 0) {
    return failed(invalid_argument, std::string("bad argument of ") + name);
  }
  if (recorder().group_depth == 0) return comm->ends->begin({call});
  recorder().group[comm].push_back(call);
  return success;
}

}  // namespace

extern "C" {

/// The calls so far, one a line: operation, elements, type (as a number), peer.
const char* fst_recorder_log() {
  return recorder().log.c_str();
}
/// How many pieces have come to this rank.
std::int64_t fst_recorder_moved() {
  return recorder().moved;
}
/// Forgets these, and counts faults anew.
void fst_recorder_clear() {
  recorder().log.clear();
  recorder().calls.clear();
  recorder().groups = 0;
  recorder().moved = 0;
}

Result ncclGetVersion(int* version) {
  const auto words = asked();
  *version = words[0] == "version" ? std::atoi(words[1].c_str()) : 22809;
  return success;
}

Result ncclGetUniqueId(UniqueId* id) {
  if (must_fail("ncclGetUniqueId")) return failed(system_error, "planted at ncclGetUniqueId");
  const std::string name = (fs::temp_directory_path() / "fst_nccl_XXXXXX").string();
  if (name.size() >= sizeof id->internal) return failed(system_error, "TMPDIR is too long");
  std::memcpy(id->internal, name.c_str(), name.size() + 1);
  return mkdtemp(id->internal) == nullptr ? failed(system_error, "no folder") : success;
}

Result ncclCommInitRankConfig(Comm* comm, int ranks, UniqueId id, int rank, Config* config) {
  if (must_fail("ncclCommInitRankConfig")) {
    return failed(system_error, "planted at ncclCommInitRankConfig");
  }
  if (config->size != sizeof(Config) || config->magic != 0xcafebeef || config->blocking != 0 ||
      rank < 0 || rank >= ranks) {
    return failed(invalid_argument, "a communicator that does not block is expected");
  }
  *comm = new ncclComm;
  Ends& ends = *(*comm)->ends;
  ends.folder = id.internal;
  ends.rank = rank;
  ends.size = ranks;
  ends.sent.resize(static_cast<std::size_t>(ranks));
  ends.received.resize(static_cast<std::size_t>(ranks));
  std::ofstream(ends.joined_file(rank)).close();
  return in_progress;
}

Result ncclCommDestroy(Comm comm) {
  if (comm->ends->is_in_graphs()) {
    std::fprintf(stderr, "a communicator ends before its graphs: NCCL would wait for ever\n");
    std::abort();
  }
  const bool ended = comm->ends->under_way == 0 && !comm->ends->waiting;
  comm->ends->aborted = true;
  comm->ends->leave();
  delete comm;
  return ended ? success : failed(invalid_usage, "a communicator ends before its groups");
}

Result ncclCommAbort(Comm comm) {
  recorder().log += "abort\n";
  static_cast<void>(ncclCommDestroy(comm));
  return success;
}

Result ncclCommGetAsyncError(Comm comm, Result* state) {
  *state = Ends::look(comm->ends);
  return success;
}

const char* ncclGetErrorString(Result result) {
  switch (static_cast<int>(result)) {
    case 1:
      return "unhandled cuda error";
    case 2:
      return "unhandled system error";
    case 4:
      return "invalid argument";
    case 5:
      return "invalid usage";
    case 6:
      return "remote process exited or there was a network error";
    default:
      return "no error";
  }
}

const char* ncclGetLastError(Comm) {
  return recorder().last_error.c_str();
}

Result ncclGroupStart() {
  if (must_fail("ncclGroupStart")) return failed(system_error, "planted at ncclGroupStart");
  ++recorder().group_depth;
  return success;
}

Result ncclGroupEnd() {
  if (recorder().group_depth == 0) return failed(invalid_usage, "no group is open");
  if (--recorder().group_depth > 0) return success;
  auto group = std::move(recorder().group);
  recorder().group.clear();
  const Result before = std::exchange(recorder().group_error, success);
  if (before != success) return before;
  if (must_fail("ncclGroupEnd")) return failed(system_error, "planted at ncclGroupEnd");
  Result result = success;
  for (const auto& [comm, calls] : group) {
    const Result one = comm->ends->begin(calls);
    if (result == success || one != in_progress) result = one;
  }
  return result;
}

Result ncclSend(const void* from, std::size_t count, Type type, int peer, Comm comm, void* stream) {
  return add(comm,
             {'s', false, const_cast<void*>(from), nullptr, count, type, peer,
              static_cast<cudaStream_t>(stream)},
             "ncclSend");
}

Result ncclRecv(void* to, std::size_t count, Type type, int peer, Comm comm, void* stream) {
  return add(comm, {'s', true, to, nullptr, count, type, peer, static_cast<cudaStream_t>(stream)},
             "ncclRecv");
}

Result ncclAllGather(const void* mine, void* all, std::size_t count, Type type, Comm comm,
                     void* stream) {
  return add(
      comm,
      {'g', false, const_cast<void*>(mine), all, count, type, 0, static_cast<cudaStream_t>(stream)},
      "ncclAllGather");
}

Result ncclBroadcast(const void* from, void* to, std::size_t count, Type type, int root, Comm comm,
                     void* stream) {
  if (from != to) return failed(invalid_argument, "a broadcast in place is expected");
  return add(comm, {'b', false, to, nullptr, count, type, root, static_cast<cudaStream_t>(stream)},
             "ncclBroadcast");
}

}  // extern "C"
