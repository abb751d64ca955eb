#pragma once

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace fst::test {

/// The folder of outside data: FST_GOLDEN_DIR, else that of the source tree.
inline std::string golden_dir() {
  const char* folder = std::getenv("FST_GOLDEN_DIR");
  return folder != nullptr && *folder != '\0' ? folder : FST_GOLDEN_DEFAULT;
}

/// The folder of the real Qwen3 tokenizer: FST_TOKENIZER_DIR, else the one unpacked from
/// tests/golden.
inline std::string qwen3_tokenizer_dir() {
  const char* folder = std::getenv("FST_TOKENIZER_DIR");
  return folder != nullptr && *folder != '\0' ? folder : FST_TOKENIZER_DEFAULT;
}

/// The lines of a JSON-lines file below golden_dir(). No lines is a failure, not an empty success.
inline std::vector<nlohmann::json> golden_lines(const std::string& path) {
  std::ifstream file(golden_dir() + "/" + path);
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) lines.push_back(nlohmann::json::parse(line));
  }
  EXPECT_FALSE(lines.empty()) << "nothing found in " << golden_dir() << "/" << path;
  return lines;
}

}  // namespace fst::test
