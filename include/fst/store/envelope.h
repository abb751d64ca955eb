#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "fst/comm/communicator.h"

namespace fst {

/// The first bytes of our HDF5 files (a user block, which HDF5 skips) hold the length and a
/// checksum of all that follows. They are written last and checked before the library sees the
/// file: it would read nonsense from a damaged one, or crash.
inline constexpr std::int64_t envelope_bytes = 512;

/// Computes and writes the envelope of a closed file. Collective over `comm`, whose members share
/// the reading; all of them see the file. Throws Error on every member alike.
void seal_envelope(const Communicator& comm, const std::filesystem::path& file);
/// Seals a closed file that was written under temporary_name(target) and publishes it: how a verb
/// that writes an HDF5 file of its own ends (h5::File::create, put, close, then this). One rank.
void publish_sealed(const std::filesystem::path& target);
/// Throws Error, on every member alike, if the file is not exactly what was sealed.
void check_envelope(const Communicator& comm, const std::filesystem::path& file);
/// True if the file begins like one of ours.
bool has_envelope(const std::filesystem::path& file);

/// Runs `work` on this member; if it threw on any, throws the first one's Error on all. Collective.
void together(const Communicator& comm, std::string_view what, const std::function<void()>& work);

}  // namespace fst
