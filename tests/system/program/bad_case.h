#pragma once

#include <algorithm>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "program.h"
#include "tiny_folder.h"

namespace fst::testing {

/// Where a case happens: a folder with a good model ("model") and good input files.
class Scene {
 public:
  Scene() { make_tiny_folder(model()); }

  std::filesystem::path model() const { return folder_.path() / "model"; }
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }
  std::string out() const { return path("out"); }
  /// Writes a file and returns its path.
  std::string file(const std::string& name, const std::string& text) const {
    return folder_.write(name, text).string();
  }

 private:
  TemporaryFolder folder_;
};

/// A mistake, and what the program must say about it.
struct BadCase {
  std::string name;
  int code;                        // of the exit
  std::vector<std::string> words;  // all on stderr
  std::function<std::vector<std::string>(const Scene&)> arguments;
  Start start = {};
};
inline std::ostream& operator<<(std::ostream& out, const BadCase& bad) {
  return out << bad.name;
}
inline std::string name_of_case(const ::testing::TestParamInfo<BadCase>& info) {
  return info.param.name;
}

/// The program says what is wrong, ends with the right code and leaves neither the output nor a
/// temporary file.
inline void expect_refused(const BadCase& bad) {
  const Scene scene;
  const std::vector<std::string> arguments = bad.arguments(scene);
  const auto listing = [&] {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(scene.path(""))) {
      names.push_back(entry.path().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  };
  const auto files = listing();
  const Ended ended = run_fst(arguments, bad.start);
  EXPECT_EQ(ended.code, bad.code) << ended.err;
  for (const std::string& word : bad.words) {
    EXPECT_NE(ended.err.find(word), std::string::npos) << "no \"" << word << "\" in: " << ended.err;
  }
  EXPECT_EQ(listing(), files) << "files came or went";
}

}  // namespace fst::testing
