#pragma once

#include <cstdlib>
#include <dlfcn.h>
#include <string>
#include <vector>

namespace fst::kernels {

/// A library that is opened at run time and stays until the process ends, so that the program needs
/// none to be built or to start.
class SharedLibrary {
 public:
  /// What the environment variable names, or else the first of the usual names that can be opened.
  SharedLibrary(const char* variable, std::vector<std::string> names) {
    const char* const named = std::getenv(variable);
    if (named != nullptr && *named != '\0') names = {named};
    for (const std::string& name : names) {
      name_ = name;
      library_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (library_ != nullptr) return;
      const char* const reason = dlerror();
      if (problem_.empty()) problem_ = reason == nullptr ? name + " cannot be opened" : reason;
    }
  }

  bool opened() const { return library_ != nullptr; }
  /// Why the first name cannot be opened, where none can.
  const std::string& problem() const { return problem_; }
  const std::string& name() const { return name_; }

  /// nullptr where the library lacks it, or has lacked another before.
  template <class Function>
  void find(Function& function, const char* name) {
    void* const found = missing_.empty() ? dlsym(library_, name) : nullptr;
    if (found == nullptr && missing_.empty()) missing_ = name;
    function = reinterpret_cast<Function>(found);
  }
  /// The first function that was looked up in vain; "": all were found.
  const std::string& missing() const { return missing_; }

 private:
  void* library_ = nullptr;
  std::string name_, problem_, missing_;
};

}  // namespace fst::kernels
