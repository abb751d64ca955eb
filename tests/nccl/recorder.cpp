// Stands in for libnccl.so.2 where GPUs are emulated (FST_NCCL_LIBRARY): the functions of NCCL that
// the program uses, over files in a folder that the ranks share. It keeps a list of the calls, and
// is as strict as NCCL may be: a send ends only when it has been received, a rank's next group is
// refused while one is under way, and pieces that meet must agree in kind, size and type.
//
//   FST_NCCL_RECORDER=version:21200      what ncclGetVersion tells
//   FST_NCCL_RECORDER=fail:CALL:N:RANK   the N-th CALL of world rank RANK fails, from 1
//   FST_NCCL_RECORDER=lost:N:RANK        the N-th group of world rank RANK meets an error later
//   FST_NCCL_RECORDER=hang:N:RANK        the N-th group of world rank RANK never begins

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

#include "src/comm/nccl_api.h"

namespace fs = std::filesystem;
using namespace fst::nccl;

namespace {

constexpr auto system_error = static_cast<Result>(2);
constexpr auto invalid_argument = static_cast<Result>(4);
constexpr auto invalid_usage = static_cast<Result>(5);
constexpr auto remote_error = static_cast<Result>(6);

/// One movement between this rank and another.
struct Piece {
  char kind;  // 's': part of a send and its receive, 'g': of an all-gather
  std::size_t bytes = 0;
  Type type = u8;
  int peer = 0;
  void* device = nullptr;
  fs::path file = {};

  std::string header() const {
    return std::string(1, kind) + " " + std::to_string(bytes) + " " + std::to_string(type) + "\n";
  }
};

/// What one comm does between ncclGroupStart and ncclGroupEnd.
struct Call {
  char kind;
  bool receives;
  void* device;
  void* all;  // of an all-gather
  std::size_t count;
  Type type;
  int peer;
  cudaStream_t stream;
};

struct Recorder {
  std::string log, last_error;
  int group_depth = 0;
  Result group_error = success;  // of a call in the open group
  std::map<Comm, std::vector<Call>> group;
  std::map<std::string, int> calls;
  int groups = 0;
};
Recorder& recorder() {
  static Recorder instance;
  return instance;
}

std::size_t size_of(Type type) {
  switch (type) {
    case u8:
      return 1;
    case f16:
    case bf16:
      return 2;
    case i32:
    case f32:
      return 4;
    case i64:
    case f64:
      return 8;
  }
  return 0;
}

std::vector<std::string> asked() {
  const char* const text = std::getenv("FST_NCCL_RECORDER");
  std::vector<std::string> words;
  std::istringstream stream(text == nullptr ? "" : text);
  for (std::string word; std::getline(stream, word, ':');) words.push_back(word);
  words.resize(4);
  return words;
}
bool is_me(const std::string& rank) {
  const char* const me = std::getenv("OMPI_COMM_WORLD_RANK");
  return rank == (me == nullptr ? "0" : me);
}
/// Counts the calls of this name; true for the one that is to fail.
bool must_fail(const char* call) {
  const auto words = asked();
  if (words[0] != "fail" || words[1] != call || !is_me(words[3])) return false;
  return ++recorder().calls[call] == std::atoi(words[2].c_str());
}

Result failed(Result result, const std::string& why) {
  recorder().last_error = why;
  return result;
}

bool copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return cudaMemcpyAsync(to, from, bytes, kind, stream) == cudaSuccess &&
         cudaStreamSynchronize(stream) == cudaSuccess;
}

}  // namespace

struct ncclComm {
  fs::path folder;
  int rank = 0, size = 1;
  std::vector<int> sent, received;  // pieces so far, by peer
  std::vector<Piece> out, in;       // under way
  cudaStream_t stream = nullptr;
  bool joined = false, hangs = false;
  Result error = success;

  fs::path joined_file(int r) const { return folder / ("joined-" + std::to_string(r)); }
  fs::path file(int from, int to, int number_of_piece) const {
    return folder / (std::to_string(from) + "-" + std::to_string(to) + "-" +
                     std::to_string(number_of_piece));
  }

  void note(const char* what, const Call& call) const {
    std::ostringstream line;
    line << what << " " << call.count << " " << call.type << " " << call.peer << "\n";
    recorder().log += line.str();
  }

  bool send(Piece piece, const void* from) {
    std::vector<char> values(piece.bytes);
    if (!copy(values.data(), from, piece.bytes, cudaMemcpyDeviceToHost, stream)) return false;
    piece.file = file(rank, piece.peer, sent[static_cast<std::size_t>(piece.peer)]++);
    const fs::path unfinished = piece.file.string() + ".part";
    std::ofstream stream_of_file(unfinished, std::ios::binary);
    stream_of_file << piece.header();
    stream_of_file.write(values.data(), static_cast<std::streamsize>(values.size()));
    stream_of_file.close();
    fs::rename(unfinished, piece.file);
    out.push_back(piece);
    return static_cast<bool>(stream_of_file);
  }
  void expect(Piece piece, void* to) {
    piece.file = file(piece.peer, rank, received[static_cast<std::size_t>(piece.peer)]++);
    piece.device = to;
    in.push_back(piece);
  }

  bool begin_all_gather(const Call& call) {
    const std::size_t bytes = call.count * size_of(call.type);
    auto* const all = static_cast<char*>(call.all);
    const auto place = [&](int r) { return all + static_cast<std::size_t>(r) * bytes; };
    bool good = cudaMemcpyAsync(place(rank), call.device, bytes, cudaMemcpyDeviceToDevice,
                                stream) == cudaSuccess;
    for (int r = 0; r < size; ++r) {
      if (r == rank) continue;
      good = good && send({'g', bytes, call.type, r}, call.device);
      expect({'g', bytes, call.type, r}, place(r));
    }
    return good && cudaStreamSynchronize(stream) == cudaSuccess;
  }

  Result begin(const std::vector<Call>& calls) {
    if (!joined || !out.empty() || !in.empty() || hangs) {
      return failed(invalid_usage, "a group begins while another is under way");
    }
    const auto words = asked();
    const bool chosen = ++recorder().groups == std::atoi(words[1].c_str()) && is_me(words[2]);
    if (words[0] == "hang" && chosen) {
      hangs = true;
      return in_progress;
    }
    if (words[0] == "lost" && chosen) error = remote_error;
    stream = calls.front().stream;
    for (const Call& call : calls) {
      const std::size_t bytes = call.count * size_of(call.type);
      if (call.kind == 'g') {
        note("all_gather", call);
        if (!begin_all_gather(call)) return failed(system_error, "an all-gather cannot be begun");
      } else if (call.receives) {
        note("recv", call);
        expect({'s', bytes, call.type, call.peer}, call.device);
      } else {
        note("send", call);
        if (!send({'s', bytes, call.type, call.peer}, call.device)) {
          return failed(system_error, "a message cannot be written");
        }
      }
    }
    return in_progress;
  }

  /// True if the piece is there.
  bool receive(const Piece& piece) {
    if (!fs::exists(piece.file)) return false;
    std::ifstream stream_of_file(piece.file, std::ios::binary);
    std::string header;
    std::getline(stream_of_file, header);
    std::vector<char> values(piece.bytes);
    if (header + "\n" != piece.header()) {
      error = failed(invalid_usage, "rank " + std::to_string(piece.peer) + " sent \"" + header +
                                        "\" where rank " + std::to_string(rank) + " expected \"" +
                                        piece.header().substr(0, piece.header().size() - 1) + "\"");
      return false;
    }
    stream_of_file.read(values.data(), static_cast<std::streamsize>(values.size()));
    if (!stream_of_file ||
        !copy(piece.device, values.data(), piece.bytes, cudaMemcpyHostToDevice, stream)) {
      error = failed(system_error, "a message cannot be read");
      return false;
    }
    fs::remove(piece.file);
    return true;
  }

  Result look() {
    if (error != success) return error;
    if (hangs) return in_progress;
    if (!joined) {
      joined = true;
      for (int r = 0; r < size; ++r) joined = joined && fs::exists(joined_file(r));
      return joined ? success : in_progress;
    }
    std::erase_if(in, [&](const Piece& piece) { return error == success && receive(piece); });
    std::erase_if(out, [&](const Piece& piece) { return !fs::exists(piece.file); });
    if (error != success) return error;
    return in.empty() && out.empty() ? success : in_progress;
  }

  void leave() {
    std::error_code ignored;  // another rank may have removed the folder, or still use it
    for (const Piece& piece : out) fs::remove(piece.file, ignored);
    std::ofstream(folder / ("left-" + std::to_string(rank))).close();
    for (int r = 0; r < size; ++r) {
      if (!fs::exists(folder / ("left-" + std::to_string(r)), ignored)) return;
    }
    fs::remove_all(folder, ignored);
  }
};

namespace {

Result add(Comm comm, const Call& call, const char* name) {
  if (must_fail(name)) {
    recorder().group_error = system_error;
    return failed(system_error, std::string("planted at ") + name);
  }
  if (comm == nullptr || call.peer < 0 || call.peer >= comm->size || call.device == nullptr ||
      (call.kind == 's' && call.peer == comm->rank) || size_of(call.type) == 0) {
    return failed(invalid_argument, std::string("bad argument of ") + name);
  }
  if (recorder().group_depth == 0) return comm->begin({call});
  recorder().group[comm].push_back(call);
  return success;
}

}  // namespace

extern "C" {

/// The calls so far, one a line: operation, elements, type (as a number), peer.
const char* fst_recorder_log() {
  return recorder().log.c_str();
}
/// Forgets these, and counts faults anew.
void fst_recorder_clear() {
  recorder().log.clear();
  recorder().calls.clear();
  recorder().groups = 0;
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
  (*comm)->folder = id.internal;
  (*comm)->rank = rank;
  (*comm)->size = ranks;
  (*comm)->sent.resize(static_cast<std::size_t>(ranks));
  (*comm)->received.resize(static_cast<std::size_t>(ranks));
  std::ofstream((*comm)->joined_file(rank)).close();
  return in_progress;
}

Result ncclCommDestroy(Comm comm) {
  comm->leave();
  delete comm;
  return success;
}

Result ncclCommAbort(Comm comm) {
  recorder().log += "abort\n";
  return ncclCommDestroy(comm);
}

Result ncclCommGetAsyncError(Comm comm, Result* state) {
  *state = comm->look();
  return success;
}

const char* ncclGetErrorString(Result result) {
  switch (static_cast<int>(result)) {
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
    const Result one = comm->begin(calls);
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

}  // extern "C"
