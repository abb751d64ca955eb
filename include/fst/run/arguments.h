#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <boost/program_options.hpp>

#include "fst/comm/world.h"
#include "fst/tensor/device.h"

namespace fst {

/// How one verb is called. Options are never abbreviated and have no short forms.
struct Usage {
  std::string verb;
  std::string operand;  // name of the one word without dashes, for example "DECK"; empty: none
  std::string summary;  // one sentence
  std::string details;  // formats; may be empty
  boost::program_options::options_description options{"options"};
};

/// The options of a verb, parsed. Every mistake is an InputError that names the option, what was
/// found and what is expected or nearest.
class Arguments {
 public:
  /// Nothing if `words` hold --help: the usage was printed.
  static std::optional<Arguments> parse(const Usage& usage, const std::vector<std::string>& words);

  bool given(const std::string& name) const { return values_.count(name) != 0; }
  bool flag(const std::string& name) const { return values_.at(name).as<bool>(); }
  const std::string& text(const std::string& name) const {
    return values_.at(name).as<std::string>();
  }
  /// The word without dashes; throws InputError if it is missing.
  const std::string& operand() const;
  /// A text that must have been given and not be empty.
  const std::string& required(const std::string& name) const;
  /// Within [low, high].
  std::int64_t integer(const std::string& name, std::int64_t low, std::int64_t high) const;
  double real(const std::string& name, double low, double high) const;
  const std::string& choice(const std::string& name, const std::vector<std::string>& choices) const;

 private:
  std::string verb_, operand_name_;
  boost::program_options::variables_map values_;
};

/// Adds --device, --exchange, --dtype, --tp and --threads.
void add_engine_options(Usage& usage);
/// The device they ask for, by open_engine(). Throws InputError where there is none.
Device engine_device(World& world, const Arguments& arguments);
DType engine_dtype(const Arguments& arguments);

}  // namespace fst
