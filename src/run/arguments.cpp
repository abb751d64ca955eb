#include "fst/run/arguments.h"

#include <cstdio>
#include <sstream>

#include "fst/base/error.h"
#include "fst/base/nearest.h"
#include "fst/run/engine.h"

namespace fst {

namespace po = boost::program_options;

namespace {

constexpr const char* operand_key = "operand";

std::string usage_text(const Usage& usage) {
  std::ostringstream text;
  text << "usage: fst " << usage.verb;
  if (!usage.operand.empty()) text << " " << usage.operand;
  text << " [options]\n\n" << usage.summary << "\n";
  if (!usage.details.empty()) text << "\n" << usage.details << "\n";
  text << "\n" << usage.options;
  return text.str();
}

std::vector<std::string> option_names(const Usage& usage) {
  std::vector<std::string> names;
  for (const auto& option : usage.options.options()) names.push_back("--" + option->long_name());
  return names;
}

std::string number_text(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

po::variables_map parse_words(const Usage& usage, const std::vector<std::string>& words) {
  po::options_description all;
  all.add(usage.options);
  po::positional_options_description positional;
  if (!usage.operand.empty()) {
    all.add_options()(operand_key, po::value<std::string>(), "");
    positional.add(operand_key, 1);
  }
  namespace style = po::command_line_style;
  const int long_only = style::allow_long | style::long_allow_adjacent | style::long_allow_next;
  po::variables_map values;
  po::store(
      po::command_line_parser(words).options(all).positional(positional).style(long_only).run(),
      values);
  po::notify(values);
  return values;
}

}  // namespace

std::optional<Arguments> Arguments::parse(const Usage& usage,
                                          const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    if (word != "--help") continue;
    std::fputs(usage_text(usage).c_str(), stdout);
    return std::nullopt;
  }
  const std::string verb = "fst " + usage.verb + ": ";
  Arguments arguments;
  arguments.verb_ = usage.verb;
  arguments.operand_name_ = usage.operand;
  try {
    arguments.values_ = parse_words(usage, words);
  } catch (const po::unknown_option& error) {
    const std::string name = error.get_option_name();
    throw InputError(verb + "unknown option " + name + " (nearest: " +
                     nearest(name, option_names(usage)) + "; see fst " + usage.verb + " --help)");
  } catch (const po::too_many_positional_options_error&) {
    std::string message = verb + "one word too many without dashes";
    if (!usage.operand.empty()) message += "; expected one " + usage.operand;
    throw InputError(message + " (see fst " + usage.verb + " --help)");
  } catch (const po::error& error) {
    throw InputError(verb + error.what() + " (see fst " + usage.verb + " --help)");
  }
  return arguments;
}

const std::string& Arguments::operand() const {
  if (!given(operand_key) || text(operand_key).empty()) {
    throw InputError("fst " + verb_ + ": expected a " + operand_name_ + " (see fst " + verb_ +
                     " --help)");
  }
  return text(operand_key);
}

const std::string& Arguments::required(const std::string& name) const {
  if (!given(name) || text(name).empty()) {
    throw InputError("fst " + verb_ + ": --" + name + " is missing (see fst " + verb_ + " --help)");
  }
  return text(name);
}

std::int64_t Arguments::integer(const std::string& name, std::int64_t low,
                                std::int64_t high) const {
  const auto value = values_.at(name).as<std::int64_t>();
  if (value >= low && value <= high) return value;
  throw InputError("fst " + verb_ + ": --" + name + " is " + std::to_string(value) +
                   "; expected an integer from " + std::to_string(low) + " to " +
                   std::to_string(high));
}

double Arguments::real(const std::string& name, double low, double high) const {
  const auto value = values_.at(name).as<double>();
  if (value >= low && value <= high) return value;  // false for NaN
  throw InputError("fst " + verb_ + ": --" + name + " is " + number_text(value) +
                   "; expected a number from " + number_text(low) + " to " + number_text(high));
}

const std::string& Arguments::choice(const std::string& name,
                                     const std::vector<std::string>& choices) const {
  const std::string& value = text(name);
  std::string list;
  for (const std::string& choice : choices) {
    if (choice == value) return value;
    list += (list.empty() ? "" : ", ") + choice;
  }
  throw InputError("fst " + verb_ + ": --" + name + " is " + value + "; expected one of " + list +
                   " (nearest: " + nearest(value, choices) + ")");
}

void add_engine_options(Usage& usage) {
  usage.options.add_options()("device", po::value<std::string>()->default_value("auto"),
                              "auto, cpu or cuda")(
      "exchange", po::value<std::string>()->default_value("auto"),
      "how tensors travel between GPUs: auto, nccl or host; changes no bit")(
      "dtype", po::value<std::string>()->default_value("f32"),
      "weights and activations: f32 or bf16")("tp", po::value<std::int64_t>()->default_value(1),
                                              "ranks that share one copy of the model")(
      "threads", po::value<std::int64_t>()->default_value(1), "threads per rank; changes no bit");
}

Device engine_device(World& world, const Arguments& arguments) {
  const std::string device = arguments.choice("device", {"auto", "cpu", "cuda"});
  return open_engine(world, device, arguments.choice("exchange", {"auto", "nccl", "host"}),
                     arguments.integer("threads", 1, 1024));
}

DType engine_dtype(const Arguments& arguments) {
  return arithmetic_of(arguments.choice("dtype", {"f32", "bf16"}));
}

}  // namespace fst
