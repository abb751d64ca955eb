#pragma once

#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "support/temporary_folder.h"

namespace fst::testing {

inline std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// How the program is started.
struct Start {
  int ranks = 0;                      // 0: without a launcher
  rlim_t file_bytes = RLIM_INFINITY;  // no file may grow beyond
};

/// How it ended. A signal is 128 + its number, as in a shell.
struct Ended {
  int code = -1;
  std::string out, err;
};

/// Runs fst with these words and waits for it.
inline Ended run_fst(const std::vector<std::string>& words, const Start& start = {}) {
  const TemporaryFolder folder;
  const std::string out = (folder.path() / "out").string(), err = (folder.path() / "err").string();
  std::vector<std::string> all;
  if (start.ranks > 0) all = {FST_MPIEXEC, "-n", std::to_string(start.ranks)};
  all.push_back(FST_PROGRAM);
  all.insert(all.end(), words.begin(), words.end());
  std::vector<char*> argv;
  for (std::string& word : all) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child == 0) {
    const int nothing = open("/dev/null", O_RDONLY);
    const int to_out = open(out.c_str(), O_WRONLY | O_CREAT, 0600);
    const int to_err = open(err.c_str(), O_WRONLY | O_CREAT, 0600);
    dup2(nothing, 0);
    dup2(to_out, 1);
    dup2(to_err, 2);
    if (start.file_bytes != RLIM_INFINITY) {
      const rlimit limit{start.file_bytes, start.file_bytes};
      setrlimit(RLIMIT_FSIZE, &limit);
    }
    execvp(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child) throw std::runtime_error("waitpid failed");
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return {code, text_of(out), text_of(err)};
}

/// A file of outside data: FST_GOLDEN_DIR, else the project's own.
inline std::filesystem::path golden_path(const std::string& name) {
  const char* folder = std::getenv("FST_GOLDEN_DIR");
  return std::filesystem::path(folder != nullptr ? folder : FST_GOLDEN_DEFAULT) / name;
}

inline std::vector<std::string> lines_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty()) lines.push_back(line);
  }
  return lines;
}

}  // namespace fst::testing
