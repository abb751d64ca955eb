#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "fst/base/random.h"

namespace fst::test {

/// Replaces a file without flushing to the disk, which would be most of a test's time (ext4 flushes
/// files that are truncated and written again, so the old one is removed first).
inline void overwrite(const std::filesystem::path& file, const std::string& bytes) {
  std::filesystem::remove(file);
  std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
}

struct Damage {
  std::string what;
  std::string bytes;
};

/// Damaged forms of a file: cut at the ends of its parts and at random places, one bit changed at
/// random places (half of them in the first 4 KiB, where the metadata is densest), bytes added.
inline std::vector<Damage> damaged_forms(const std::string& good, int cuts, int flips) {
  Rng random(20260512);
  std::vector<Damage> forms;
  for (const std::size_t end : {std::size_t{0}, std::size_t{1}, std::size_t{511}, std::size_t{512},
                                std::size_t{513}, good.size() / 2, good.size() - 1}) {
    forms.push_back({"cut at " + std::to_string(end), good.substr(0, end)});
  }
  for (int i = 0; i < cuts; ++i) {
    const auto end = static_cast<std::size_t>(random.below(good.size()));
    forms.push_back({"cut at " + std::to_string(end), good.substr(0, end)});
  }
  for (int i = 0; i < flips; ++i) {
    const std::size_t most = i % 2 == 0 ? std::min<std::size_t>(good.size(), 4096) : good.size();
    const auto at = static_cast<std::size_t>(random.below(most));
    const auto bit = static_cast<unsigned>(random.below(8));
    std::string bytes = good;
    bytes[at] = static_cast<char>(static_cast<unsigned char>(bytes[at]) ^ (1u << bit));
    forms.push_back({"bit " + std::to_string(bit) + " of byte " + std::to_string(at), bytes});
  }
  forms.push_back({"one byte more", good + "x"});
  forms.push_back({"zeros", std::string(good.size(), '\0')});
  return forms;
}

}  // namespace fst::test
