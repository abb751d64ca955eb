#include "fst/model/model_files.h"

#include <fstream>
#include <iterator>

#include "fst/base/error.h"

namespace fst {

ModelFiles read_model_folder(const std::filesystem::path& folder) {
  ModelFiles files;
  for (const char* name : model_file_names) {
    const std::filesystem::path file = folder / name;
    if (!std::filesystem::exists(file)) continue;
    std::ifstream in(file, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    if (!in || std::filesystem::is_directory(file)) {
      throw InputError(file.string() + ": cannot be read");
    }
    files[name] = std::move(text);
  }
  return files;
}

}  // namespace fst
