#pragma once

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace fst::test {

/// All cases of a golden file, for example "gepa/traces.json". Throws if there is none. With
/// nlohmann::ordered_json keys keep the order of the file.
template <class Json = nlohmann::json>
Json golden_cases(const std::string& file) {
  const char* elsewhere = std::getenv("FST_GOLDEN_DIR");
  const std::string path = std::string(elsewhere ? elsewhere : FST_GOLDEN_DEFAULT) + "/" + file;
  std::ifstream in(path);
  if (!in) throw std::runtime_error("cannot open " + path);
  Json cases = Json::parse(in).at("cases");
  if (cases.empty()) throw std::runtime_error(path + " holds no case");
  return cases;
}

}  // namespace fst::test
