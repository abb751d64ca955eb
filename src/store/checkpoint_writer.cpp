#include <algorithm>
#include <array>
#include <exception>
#include <map>

#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/store/checkpoint_file.h"
#include "fst/store/checksum.h"
#include "fst/store/envelope.h"
#include "fst/store/files.h"
#include "fst/store/h5.h"

#include "checkpoint_layout.h"
#include "history_file.h"

namespace fst {

namespace fs = std::filesystem;
using namespace checkpoint;

namespace {

constexpr std::int64_t file_margin = 1 << 20;  // metadata and alignment of a handful of datasets

/// Sums of the chunks of a global array that `pieces` touch, zero elsewhere.
std::vector<std::uint64_t> chunk_sums(std::int64_t size, std::span<const ArrayPiece> pieces) {
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(chunks_of(size)));
  const auto add = [&](std::int64_t begin, std::span<const float> run) {
    while (!run.empty()) {
      const std::int64_t chunk = begin / chunk_elements;
      const auto length =
          std::min(run.size(), static_cast<std::size_t>(chunk_end(chunk, size) - begin));
      sums[static_cast<std::size_t>(chunk)] += float_sum(begin, run.first(length));
      begin += static_cast<std::int64_t>(length);
      run = run.subspan(length);
    }
  };
  for (const ArrayPiece& piece : pieces) {
    for (std::int64_t i = 0; i < piece.runs(); ++i)
      add(piece.begin + i * piece.stride, piece.run(i));
  }
  return sums;
}

}  // namespace

struct CheckpointWriter::State {
  const Communicator& comm;
  fs::path target, temporary;
  std::optional<h5::File> file;
  std::map<std::string, std::int64_t> arrays;  // sizes
  std::string failure;                         // the first one on this member

  /// Runs a step unless one failed before. A failure waits for commit(), so that the members keep
  /// calling the same collective functions.
  template <class F>
  void attempt(F&& step) {
    const Communicator::Blocking writing(comm, "writing " + target.string());
    try {
      step();
    } catch (const std::exception& error) {
      if (failure.empty()) failure = error.what();
    }
  }
  void small(const std::string& name, const char* kind, h5::Element element,
             std::span<const std::byte> bytes, DigestUse use);
  void verify() const;
  void remove_temporary() const;
};

CheckpointWriter::CheckpointWriter(const Communicator& comm, fs::path target,
                                   const FileIdentity& identity, std::int64_t payload_bytes)
    : state_(std::make_unique<State>(
          State{comm, target, temporary_name(target), std::nullopt, {}, {}})) {
  State& state = *state_;
  const fs::path folder = target.has_parent_path() ? target.parent_path() : fs::path(".");
  together(comm, "room for " + target.string(), [&] {
    if (comm.rank() == 0) expect_space(folder, payload_bytes + file_margin);
  });
  // Attributes are written collectively and must not differ.
  FileIdentity same = identity;
  std::string created = utc_now();
  for (std::string* text : {&same.config, &same.git_commit, &same.version, &created}) {
    comm.broadcast(*text, 0, "identity of " + target.string());
  }
  together(comm, "creating " + target.string(), [&] {
    const Communicator::Blocking creating(comm, "creating " + target.string());
    state.file = h5::File::create(state.temporary, comm);
    set_identity(*state.file, filetype, same, created);
  });
}

CheckpointWriter::~CheckpointWriter() {
  if (state_->file && state_->comm.size() <= 1) {
    state_->attempt([&] { state_->file->close(); });
    state_->remove_temporary();
  }
  // With more members closing is collective, and this is an error's way out: main() ends the world
  // and the next start removes the temporary file.
}

void CheckpointWriter::array(const std::string& name, std::int64_t size,
                             std::span<const ArrayPiece> mine) {
  State& state = *state_;
  std::int64_t covered = 0;
  for (const ArrayPiece& piece : mine) {
    if (piece.begin < 0 || piece.end() > size) {
      state.attempt([&] {
        throw Error("checkpoint array " + name + " of " + std::to_string(size) +
                    " elements: a piece at " + std::to_string(piece.begin) + " of " +
                    std::to_string(piece.values.size()));
      });
      mine = {};
      break;
    }
    covered += piece.runs() * piece.run_length();
  }
  state.comm.all_reduce_sum(std::span(&covered, 1), "coverage of " + name);
  state.attempt([&] {
    if (covered == size) return;
    throw Error("checkpoint array " + name + " of " + std::to_string(size) +
                " elements: the pieces have " + std::to_string(covered));
  });
  std::vector<std::uint64_t> sums = chunk_sums(size, mine);
  state.comm.all_reduce_sum(std::span<std::uint64_t>(sums), "checksums of " + name);

  state.arrays[name] = size;
  state.attempt([&] {
    state.file->make(name, h5::Element::f32, {size});
    state.file->set_attribute(name, "kind", "array");
    state.file->set_attribute(name, "use", "digest");
    state.file->make(sums_path(name), h5::Element::u64, {chunks_of(size)});
    // Pieces are apart, so each member writes its own without a second phase.
    for (const ArrayPiece& piece : mine) {
      if (piece.values.empty()) continue;
      state.file->write_runs(name, h5::Element::f32, piece.begin, piece.run_length(),
                             std::max(piece.stride, piece.run_length()),
                             std::as_bytes(piece.values));
    }
    if (state.comm.rank() != 0) return;
    state.file->write_bytes(sums_path(name), h5::Element::u64, 0, std::as_bytes(std::span(sums)));
  });
}

void CheckpointWriter::State::small(const std::string& name, const char* kind, h5::Element element,
                                    std::span<const std::byte> bytes, DigestUse use) {
  std::array<std::uint64_t, 2> header{bytes.size(), hash64(bytes)};
  comm.broadcast(std::span<std::uint64_t>(header), 0, name);
  attempt([&] {
    const auto count = static_cast<std::int64_t>(header[0] / h5::bytes_of(element));
    file->make(name, element, {count});
    file->set_attribute(name, "kind", kind);
    file->set_attribute(name, "use", use == DigestUse::digest ? "digest" : "report");
    file->set_attribute(name, "checksum", static_cast<std::int64_t>(header[1]));
    if (comm.rank() == 0) file->write_bytes(name, element, 0, bytes);
  });
}

void CheckpointWriter::blob(const std::string& name, std::string_view bytes, DigestUse use) {
  state_->small(name, "blob", h5::Element::u8, std::as_bytes(std::span(bytes)), use);
}

void CheckpointWriter::integers(const std::string& name, std::span<const std::int64_t> values,
                                DigestUse use) {
  state_->small(name, "integers", h5::Element::i64, std::as_bytes(values), use);
}

/// Reads the arrays back, the members sharing the chunks, and compares with the sums from memory.
void CheckpointWriter::State::verify() const {
  const h5::File written = h5::File::open(temporary);
  std::vector<float> buffer(static_cast<std::size_t>(chunk_elements));
  for (const auto& [name, size] : arrays) {
    const auto sums = written.get<std::uint64_t>(sums_path(name));
    for (std::int64_t chunk = comm.rank(); chunk < chunks_of(size); chunk += comm.size()) {
      const std::int64_t begin = chunk_begin(chunk);
      const auto part =
          std::span(buffer).first(static_cast<std::size_t>(chunk_end(chunk, size) - begin));
      written.read_bytes(name, h5::Element::f32, begin, std::as_writable_bytes(part));
      if (float_sum(begin, part) == sums[static_cast<std::size_t>(chunk)]) continue;
      throw Error(temporary.string() + ": " + name +
                  " does not hold what was written near element " + std::to_string(begin) +
                  " (or the pieces overlap)");
    }
  }
}

void CheckpointWriter::State::remove_temporary() const {
  std::error_code failed;
  if (comm.rank() != 0) return;
  fs::remove(temporary, failed);
  if (failed) log::warn("cannot remove " + temporary.string() + ": " + failed.message());
}

void CheckpointWriter::commit() {
  State& state = *state_;
  try {
    state.attempt([&] { state.file->close(); });
    state.file.reset();
    together(state.comm, "writing " + state.target.string(), [&] {
      if (!state.failure.empty()) throw Error(state.target.string() + ": " + state.failure);
    });
    together(state.comm, "verifying " + state.target.string(), [&] { state.verify(); });
    seal_envelope(state.comm, state.temporary);
    together(state.comm, "publishing " + state.target.string(), [&] {
      if (state.comm.rank() == 0) publish(state.temporary, state.target);
    });
  } catch (...) {
    state.remove_temporary();
    throw;
  }
}

}  // namespace fst
