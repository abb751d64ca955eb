#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

#include "checks.h"
#include "machine.h"
#include "src/comm/nccl_api.h"
#include "streams.h"

/// What the stand-in for NCCL (recorder.cpp) keeps, and how groups of its calls move over files and
/// on emulated streams.
namespace fst::nccl::recording {

namespace fs = std::filesystem;

inline constexpr auto cuda_error = static_cast<Result>(1);
inline constexpr auto system_error = static_cast<Result>(2);
inline constexpr auto invalid_argument = static_cast<Result>(4);
inline constexpr auto invalid_usage = static_cast<Result>(5);
inline constexpr auto remote_error = static_cast<Result>(6);

/// One movement between this rank and another.
struct Piece {
  char kind;  // part of 's': a send and its receive, 'g': an all-gather, 'b': a broadcast
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
  int peer;  // of a broadcast, its root
  cudaStream_t stream;
};

struct Recorder {
  std::string log, last_error;
  int group_depth = 0;
  Result group_error = success;  // of a call in the open group
  std::map<Comm, std::vector<Call>> group;
  std::map<std::string, int> calls;
  int groups = 0;
  std::int64_t moved = 0;  // pieces that have come
};
inline Recorder& recorder() {
  static Recorder instance;
  return instance;
}

inline std::size_t size_of(Type type) {
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

inline std::vector<std::string> asked() {
  const char* const text = std::getenv("FST_NCCL_RECORDER");
  std::vector<std::string> words;
  std::istringstream stream(text == nullptr ? "" : text);
  for (std::string word; std::getline(stream, word, ':');) words.push_back(word);
  words.resize(4);
  return words;
}
inline bool is_me(const std::string& rank) {
  const char* const me = std::getenv("OMPI_COMM_WORLD_RANK");
  return rank == (me == nullptr ? "0" : me);
}
/// Counts the calls of this name; true for the one that is to fail.
inline bool must_fail(const char* call) {
  const auto words = asked();
  if (words[0] != "fail" || words[1] != call || !is_me(words[3])) return false;
  return ++recorder().calls[call] == std::atoi(words[2].c_str());
}

inline Result failed(Result result, const std::string& why) {
  recorder().last_error = why;
  return result;
}

/// What a group moves. Its pieces have no files yet: a captured group moves as often as its graph
/// is queued, and other pieces each time.
struct Group {
  std::vector<Piece> out, in;
  bool captured = false, stalls = false, is_lost = false;

  /// Counts the group; whether it is the one that FST_NCCL_RECORDER names.
  bool chosen() {
    const auto words = asked();
    const bool is_it = ++recorder().groups == std::atoi(words[1].c_str()) && is_me(words[2]);
    stalls = is_it && words[0] == "stall";
    is_lost = is_it && words[0] == "lost";
    return is_it;
  }
};

/// Lives until the last of its groups has left the streams.
struct Ends {
  fs::path folder;
  int rank = 0, size = 1;
  std::vector<int> sent, received;          // pieces so far, by peer, as far as the stream has come
  Group moving;                             // what it has come to
  std::vector<std::weak_ptr<void>> graphs;  // alive with the graphs that hold a group
  std::vector<fs::path> left;               // written here, perhaps not read yet
  std::optional<Group> waiting;             // the group that is not on the stream yet
  cudaStream_t stream = nullptr;
  int looks = 0, under_way = 0;
  bool joined = false, hangs = false, aborted = false;
  Result error = success;

  fs::path joined_file(int r) const { return folder / ("joined-" + std::to_string(r)); }
  fs::path file(int from, int to, int number_of_piece) const {
    return folder / (std::to_string(from) + "-" + std::to_string(to) + "-" +
                     std::to_string(number_of_piece));
  }
  bool broken() const { return error != success; }

  void note(const char* what, const Call& call) const {
    std::ostringstream line;
    line << what << " " << call.count << " " << call.type << " " << call.peer << "\n";
    recorder().log += line.str();
  }

  void add_all_gather(Group& group, const Call& call) const {
    const std::size_t bytes = call.count * size_of(call.type);
    for (int r = 0; r < size; ++r) {
      auto* const place = static_cast<char*>(call.all) + static_cast<std::size_t>(r) * bytes;
      group.out.push_back({'g', bytes, call.type, r, call.device});  // to itself, too
      group.in.push_back({'g', bytes, call.type, r, place});
    }
  }

  void add_broadcast(Group& group, const Call& call) const {
    const std::size_t bytes = call.count * size_of(call.type);
    if (rank != call.peer)
      return group.in.push_back({'b', bytes, call.type, call.peer, call.device});
    for (int r = 0; r < size; ++r) {
      if (r != rank) group.out.push_back({'b', bytes, call.type, r, call.device});
    }
  }

  static const char* name_of(const Call& call) {
    if (call.kind == 'g') return "all_gather";
    if (call.kind == 'b') return "broadcast";
    return call.receives ? "recv" : "send";
  }

  Result begin(const std::vector<Call>& calls) {
    if (!joined || waiting || hangs) {
      return failed(invalid_usage, "a group begins before the last one is on the stream");
    }
    stream = calls.front().stream;
    looks = 0;
    Group group;
    group.captured = fst::emulator::is_capturing(stream);
    if (!group.captured) hangs = group.chosen() && asked()[0] == "hang";
    for (const Call& call : calls) {
      const std::size_t bytes = call.count * size_of(call.type);
      note(name_of(call), call);
      if (call.stream != stream) return failed(invalid_usage, "a group of several streams");
      if (call.kind == 'g') {
        add_all_gather(group, call);
      } else if (call.kind == 'b') {
        add_broadcast(group, call);
      } else if (call.receives) {
        group.in.push_back({'s', bytes, call.type, call.peer, call.device});
      } else {
        group.out.push_back({'s', bytes, call.type, call.peer, call.device});
      }
    }
    waiting = std::move(group);
    return in_progress;
  }

  /// On the stream: everything that leaves, then everything that comes, then the wait until the
  /// others have what left.
  static Result queue(const std::shared_ptr<Ends>& self, Group&& moved) {
    const auto group = std::make_shared<const Group>(std::move(moved));
    if (group->captured) {
      const auto token = std::make_shared<int>();
      self->graphs.push_back(token);
      fst::emulator::retain_in_graph(self->stream, token);
    } else {
      ++self->under_way;
    }
    const auto add = [&](auto&& ready, auto&& run) {
      return fst::emulator::queue_with_others(
                 self->stream,
                 [self, ready] { return self->aborted || (!self->broken() && ready(*self)); },
                 [self, run] {
                   if (!self->aborted) run(*self);
                 }) == cudaSuccess;
    };
    const bool queued = add([](Ends&) { return true; }, [group](Ends& e) { e.enter(*group); }) &&
                        add([](Ends& e) { return !e.moving.stalls; }, &Ends::write) &&
                        add(&Ends::have_come, &Ends::read) &&
                        add(
                            [](Ends& e) {
                              return std::none_of(e.moving.out.begin(), e.moving.out.end(),
                                                  [](auto& p) { return fs::exists(p.file); });
                            },
                            [](Ends& e) { --e.under_way; });
    return queued ? success : failed(cuda_error, "the stream takes no work");
  }

  /// The stream has come to a group.
  void enter(const Group& group) {
    moving = group;
    if (group.captured) {
      static_cast<void>(moving.chosen());
      ++under_way;
    }
    for (Piece& piece : moving.out) {
      piece.file = file(rank, piece.peer, sent[static_cast<std::size_t>(piece.peer)]++);
    }
    for (Piece& piece : moving.in) {
      piece.file = file(piece.peer, rank, received[static_cast<std::size_t>(piece.peer)]++);
    }
  }

  static void write(Ends& ends) {
    if (ends.moving.is_lost) ends.error = remote_error;
    for (const Piece& piece : ends.moving.out) {
      const fs::path unfinished = piece.file.string() + ".part";
      std::ofstream file(unfinished, std::ios::binary);
      file << piece.header();
      if (ends.holds(piece)) {
        file.write(static_cast<const char*>(piece.device),
                   static_cast<std::streamsize>(piece.bytes));
      }
      file.close();
      if (!file) ends.error = failed(system_error, "a message cannot be written");
      fs::rename(unfinished, piece.file);
      ends.left.push_back(piece.file);
    }
  }

  static bool have_come(Ends& ends) {
    for (const Piece& piece : ends.moving.in) {
      if (!fs::exists(piece.file)) return false;
      std::ifstream file(piece.file, std::ios::binary);
      std::string header;
      std::getline(file, header);
      if (header + "\n" == piece.header()) continue;
      ends.error =
          failed(invalid_usage, "rank " + std::to_string(piece.peer) + " sent \"" + header +
                                    "\" where rank " + std::to_string(ends.rank) + " expected \"" +
                                    piece.header().substr(0, piece.header().size() - 1) + "\"");
      return false;
    }
    return true;
  }

  static void read(Ends& ends) {
    for (const Piece& piece : ends.moving.in) {
      if (!ends.holds(piece)) return;
      std::ifstream file(piece.file, std::ios::binary);
      file.ignore(static_cast<std::streamsize>(piece.header().size()));
      file.read(static_cast<char*>(piece.device), static_cast<std::streamsize>(piece.bytes));
      if (!file) ends.error = failed(system_error, "a message cannot be read");
      fst::emulator::mark_initialised(piece.device, piece.bytes);
      fs::remove(piece.file);
      ++recorder().moved;
    }
  }

  /// Whether the memory of a piece is still there.
  bool holds(const Piece& piece) {
    if (fst::emulator::find_allocation(piece.device, piece.bytes) != nullptr) return true;
    error = failed(invalid_usage, "memory of a group was given back before the group ended");
    return false;
  }

  static Result look(const std::shared_ptr<Ends>& self) {
    if (self->broken()) return self->error;
    if (self->hangs) return in_progress;
    if (!self->joined) {
      self->joined = true;
      for (int r = 0; r < self->size; ++r) {
        self->joined = self->joined && fs::exists(self->joined_file(r));
      }
      return self->joined ? success : in_progress;
    }
    if (!self->waiting) return success;
    if (++self->looks == 1) return in_progress;
    self->error = queue(self, *std::exchange(self->waiting, std::nullopt));
    return self->error;
  }

  bool is_in_graphs() const {
    return std::any_of(graphs.begin(), graphs.end(), [](auto& graph) { return !graph.expired(); });
  }

  void leave() const {
    std::error_code ignored;  // another rank may have removed the folder, or still use it
    for (const fs::path& piece : left) fs::remove(piece, ignored);
    std::ofstream(folder / ("left-" + std::to_string(rank))).close();
    for (int r = 0; r < size; ++r) {
      if (!fs::exists(folder / ("left-" + std::to_string(r)), ignored)) return;
    }
    fs::remove_all(folder, ignored);
  }
};

}  // namespace fst::nccl::recording
