#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "fst/base/error.h"
#include "fst/run/arguments.h"
#include "fst/run/model_source.h"
#include "fst/run/records.h"
#include "fst/run/verbs.h"
#include "fst/store/digest.h"
#include "fst/store/files.h"

// The verbs that turn or describe whole files: export and info.

namespace fst {

namespace po = boost::program_options;
namespace fs = std::filesystem;

namespace {

/// Throws InputError unless a folder can be made at `target`: nothing is there, or an empty folder.
void expect_new_folder(const fs::path& target) {
  std::error_code error;
  if (fs::exists(target, error) && !fs::is_directory(target, error)) {
    throw InputError(target.string() + ": not a folder");
  }
  if (fs::exists(target, error) && !fs::is_empty(target, error)) {
    throw InputError(target.string() + ": holds files already; expected a new or empty folder");
  }
  const fs::path temporary = temporary_name(target);
  if (fs::exists(temporary, error)) {
    throw InputError(temporary.string() +
                     ": is in the way (an export that was cut off?); remove it first");
  }
}

/// A folder's path without the slash that may end it.
fs::path plain_path(const std::string& text) {
  fs::path path = fs::path(text).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

/// What `fst info` prints; `digests_wanted` is none, one or full. The file is the user's input, so
/// a damaged one, or one that is not ours, is an InputError.
std::string description(const std::string& path, const std::string& digests_wanted) {
  try {
    if (digests_wanted == "none") return info(path);
    if (digests_wanted == "one") return digest(path) + "\n";
    std::string text;
    for (const NamedDigest& one : digests(path)) text += one.sha256 + "  " + one.name + "\n";
    return text;
  } catch (const Error& error) {
    throw InputError(error.what());
  }
}

}  // namespace

int export_verb(World&, const Words& words) {
  Usage usage;
  usage.verb = "export";
  usage.summary = "A checkpoint (or a model folder) to a Hugging Face folder.";
  usage.options.add_options()("model", po::value<std::string>(), "checkpoint or model folder")(
      "out", po::value<std::string>(), "the folder to make")(
      "dtype", po::value<std::string>()->default_value("f32"),
      "stored type: f32, or bf16 rounded to nearest even");
  const auto arguments = Arguments::parse(usage, words);
  if (!arguments) return EXIT_SUCCESS;
  const std::string model = arguments->required("model");
  const fs::path target = plain_path(arguments->required("out"));
  const DType storage =
      arguments->choice("dtype", {"f32", "bf16"}) == "bf16" ? DType::bf16 : DType::f32;
  expect_new_folder(target);
  expect_parent(target.string());
  const ModelSource source = ModelSource::open(model);
  const Parameters parameters = source.load(Communicator::self(), Device::cpu());

  const fs::path temporary = temporary_name(target);
  try {
    write_model_folder(temporary, parameters, storage, source.files);
    fs::rename(temporary, target);
  } catch (...) {
    std::error_code ignored;  // the first error is the one to report
    fs::remove_all(temporary, ignored);
    throw;
  }
  return EXIT_SUCCESS;
}

int info_verb(World&, const Words& words) {
  Usage usage;
  usage.verb = "info";
  usage.operand = "FILE";
  usage.summary = "What one of our HDF5 files (history, checkpoint, scores) is and holds.";
  usage.options.add_options()("digest", po::value<std::string>(),
                              "print one SHA-256 over everything in the file that is a function of "
                              "the deck; --digest=full: one for each dataset");
  Words complete = words;  // a bare --digest must not take the word behind it as its value
  std::replace(complete.begin(), complete.end(), std::string("--digest"),
               std::string("--digest=one"));
  const auto arguments = Arguments::parse(usage, complete);
  if (!arguments) return EXIT_SUCCESS;
  const std::string path = arguments->operand();
  expect_file(path);
  const std::string digests_wanted =
      arguments->given("digest") ? arguments->choice("digest", {"one", "full"}) : "none";
  std::fputs(description(path, digests_wanted).c_str(), stdout);
  return EXIT_SUCCESS;
}

}  // namespace fst
