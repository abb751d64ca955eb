#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace fst::golden {

/// The folder of golden data: FST_GOLDEN_DIR, else the one compiled in.
inline std::filesystem::path folder() {
  const char* set = std::getenv("FST_GOLDEN_DIR");
  return set != nullptr ? set : FST_GOLDEN_DEFAULT;
}

/// The folder of the real Qwen3 tokenizer: FST_TOKENIZER_DIR, else the one compiled in. It is not
/// part of the source tree, so it may be absent.
inline std::filesystem::path qwen3_folder() {
  const char* set = std::getenv("FST_TOKENIZER_DIR");
  return set != nullptr ? set : FST_TOKENIZER_DEFAULT;
}

/// The objects of a file of JSON lines. Throws if there is none.
inline std::vector<nlohmann::json> lines(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::vector<nlohmann::json> out;
  for (std::string line; std::getline(stream, line);) {
    if (!line.empty()) out.push_back(nlohmann::json::parse(line));
  }
  if (out.empty()) throw std::runtime_error(file.string() + ": no lines");
  return out;
}

}  // namespace fst::golden
