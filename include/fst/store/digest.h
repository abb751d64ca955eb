#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace fst {

struct NamedDigest {
  std::string name;
  std::string sha256;  // 64 hexadecimal digits
};

/// SHA-256 of the bytes.
std::string sha256(std::string_view bytes);

/// One SHA-256 per dataset of a history or checkpoint that is a function of the deck
/// (DigestUse::digest), sorted by name: over name, type, number of elements and the elements in
/// logical order, so that chunking, compression and ranks do not matter. Throws Error if the file
/// is damaged or not ours.
std::vector<NamedDigest> digests(const std::filesystem::path& file);
/// SHA-256 over the lines "name sha256\n" of digests(file).
std::string digest(const std::filesystem::path& file);

/// What an HDF5 file of ours is and holds, as text for people: identity, tables with their rows, or
/// arrays and blobs; for other HDF5 files of this program its attributes and datasets.
std::string info(const std::filesystem::path& file);

}  // namespace fst
