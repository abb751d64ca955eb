#include <nlohmann/json.hpp>

#include "fst/base/error.h"
#include "fst/run/arguments.h"
#include "fst/run/conversation.h"
#include "fst/run/model_source.h"
#include "fst/run/records.h"
#include "fst/run/verbs.h"
#include "fst/store/files.h"
#include "fst/task/task.h"

// The verbs from lines to lines that need no model: tokenize and verify.

namespace fst {

namespace po = boost::program_options;

namespace {

using Json = nlohmann::ordered_json;

void append_line(std::string& out, const Json& line) {
  out += line.dump() + "\n";
}

/// One line of `fst tokenize`.
Json tokenize_line(const Record& line, const Tokenizer& tokenizer, const Chat& chat) {
  Json out;
  out["id"] = line.text("id");
  const std::string kind = line.one_of({"text", "tokens", "messages"});
  if (kind == "tokens") {
    const auto tokens =
        line.tokens("tokens", tokenizer.vocab_size(), "the tokenizer has that many");
    out["text"] = tokenizer.decode(tokens, SpecialTokens::keep);
    return out;
  }
  const bool add = line.flag("add_generation_prompt").value_or(false);
  const std::string text =
      kind == "text" ? line.text("text")
                     : rendered(line, chat, add ? GenerationPrompt::add : GenerationPrompt::omit);
  if (kind == "messages") out["text"] = text;
  out["tokens"] = in_line(line, [&] { return tokenizer.encode(text); });
  return out;
}

Json verify_line(const Record& line, const std::string& task) {
  const std::string problem = line.has("problem") ? line.text("problem") : std::string();
  const Verdict verdict =
      verify_by_name(task, problem, line.text("reference"), line.text("completion"));
  Json out;
  out["id"] = line.text("id");
  out["reward"] = verdict.reward;
  out["status"] = to_string(verdict.status);
  out["feedback"] = verdict.feedback;
  return out;
}

}  // namespace

int tokenize_verb(World&, const Words& words) {
  Usage usage;
  usage.verb = "tokenize";
  usage.summary = "Text or chat to token ids and back, one JSON object a line.";
  usage.details =
      "{\"id\", \"text\"} gives {\"id\", \"tokens\"}; {\"id\", \"tokens\"} gives {\"id\", "
      "\"text\"}, special tokens\n"
      "included; {\"id\", \"messages\", \"enable_thinking\"?, \"add_generation_prompt\"?} gives "
      "{\"id\", \"text\",\n"
      "\"tokens\"}; both switches are as in the chat template, the second one is false unless "
      "given.";
  usage.options.add_options()(
      "model", po::value<std::string>(),
      "folder with tokenizer.json and tokenizer_config.json, or checkpoint")(
      "in", po::value<std::string>(), "input, JSON lines")("out", po::value<std::string>(),
                                                           "output, JSON lines");
  const auto arguments = Arguments::parse(usage, words);
  if (!arguments) return EXIT_SUCCESS;
  const std::string model = arguments->required("model");
  const std::string in = arguments->required("in"), target = arguments->required("out");
  expect_output(target);
  const ModelFiles files = read_model_files(model);
  const Tokenizer tokenizer = tokenizer_of(files, model);
  const Chat chat = chat_of(files, model);
  std::string out;
  for (const Record& line : parse_records(
           in, read_input(in),
           {"id", "text", "tokens", "messages", "enable_thinking", "add_generation_prompt"})) {
    append_line(out, tokenize_line(line, tokenizer, chat));
  }
  write_text(target, out);
  return EXIT_SUCCESS;
}

int verify_verb(World&, const Words& words) {
  Usage usage;
  usage.verb = "verify";
  usage.summary = "The verifier of a task on its own: completions in, verdicts out.";
  usage.details =
      "{\"id\", \"completion\", \"reference\", \"problem\"?} gives {\"id\", \"reward\", "
      "\"status\", \"feedback\"};\n"
      "status is ok, unparsable, timeout or error.";
  usage.options.add_options()("task", po::value<std::string>(),
                              "world, star_graph, exact, letter or json")(
      "in", po::value<std::string>(), "input, JSON lines")("out", po::value<std::string>(),
                                                           "output, JSON lines");
  const auto arguments = Arguments::parse(usage, words);
  if (!arguments) return EXIT_SUCCESS;
  const std::string task = arguments->required("task");
  const std::string in = arguments->required("in"), target = arguments->required("out");
  expect_output(target);
  verify_by_name(task, "", "", "");  // refuses an unknown task before the file is read
  std::string out;
  for (const Record& line :
       parse_records(in, read_input(in), {"id", "completion", "reference", "problem"})) {
    append_line(out, verify_line(line, task));
  }
  write_text(target, out);
  return EXIT_SUCCESS;
}

}  // namespace fst
