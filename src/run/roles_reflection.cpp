#include <algorithm>

#include "fst/base/error.h"
#include "fst/comm/exchange.h"
#include "fst/run/engine.h"
#include "fst/run/layouts.h"
#include "fst/run/records.h"
#include "fst/run/roles.h"

namespace fst {

namespace {

/// The layouts that ship with the program; `reflection.layout` names another file.
ReflectionLayout layout_of(const World& world, const RunConfig& config, const Task& task) {
  const std::string& file = config.reflection.layout;
  if (file != "auto") return parse_layout(read_input(world, file), file);
  return builtin_layout(task.reflection_style == ReflectionStyle::world ? "world" : "qwen3");
}

/// A reply on its way, with the task it answers.
struct Numbered {
  std::int32_t task = 0;
  ReflectionReply reply;
  void pack(Packer& packer) const {
    packer.put(task);
    packer.put(reply);
  }
  static Numbered unpack(Unpacker& unpacker) {
    const auto task = unpacker.get<std::int32_t>();
    return {task, ReflectionReply::unpack(unpacker)};
  }
};

}  // namespace

void ReflectionReply::pack(Packer& packer) const {
  packer.put(reply.status);
  packer.put(std::string_view(reply.text));
  packer.put(std::string_view(evidence));
}

ReflectionReply ReflectionReply::unpack(Unpacker& unpacker) {
  ReflectionReply r;
  r.reply.status = unpacker.get<ReplyStatus>();
  r.reply.text = unpacker.get<std::string>();
  r.evidence = unpacker.get<std::string>();
  return r;
}

ReflectionRole::ReflectionRole(RunContext& context, const Task& task)
    : context_(&context), layout_(layout_of(context.world, context.config, task)) {
  if (!context.world.reflection().member()) return;
  FrozenModel& frozen = context.frozen.at(context.world.reflection(), context.reflection_path(),
                                          context.unit(Role::reflection));
  tokenizer_ = std::make_unique<Tokenizer>(frozen.source.tokenizer());
  chat_ = std::make_unique<Chat>(frozen.source.chat());
  vocab_ = law_vocabulary(frozen.source, *tokenizer_);
  GeneratorOptions options = generator_options(context.config);
  options.stop_ids = frozen.source.config.eos_token_ids;
  options.phase = MemoryPhase::reflection;
  generator_ = std::make_unique<Generator>(*frozen.model, options);
  if (context.longest > 0) generator_->reserve();
}

std::int64_t ReflectionRole::prompt_length(std::string_view prompt) const {
  return static_cast<std::int64_t>(context_->tokenizer.encode(prompt).size());
}

/// The request that asks for task's rewrite, and the evidence it shows.
std::pair<GenerateRequest, std::string> ReflectionRole::question(
    const RequestBatch& batch, const ReflectionTask& task,
    const std::vector<Trajectory>& shown) const {
  std::vector<Evidence> evidence;
  for (const std::int32_t request : task.requests) {
    const auto t = std::find_if(shown.begin(), shown.end(),
                                [&](const Trajectory& x) { return x.request == request; });
    if (t == shown.end()) {
      throw Error("reflection: rollout " + std::to_string(request) + " did not arrive");
    }
    const Request& r = batch.requests[static_cast<std::size_t>(request)];
    evidence.push_back({batch.problems[static_cast<std::size_t>(r.problem)].question, t->text,
                        t->verdict.feedback, static_cast<double>(t->verdict.reward)});
  }
  const auto& options = context_->config.reflection;
  const ReflectionChat chat =
      render_reflection(layout_, task.prompt, evidence, {.evidence_bytes = options.evidence_chars});
  std::vector<ChatMessage> messages;
  if (chat.has_system) messages.push_back({"system", chat.system, {}});
  messages.push_back({"user", chat.user, {}});
  GenerateRequest request;
  request.prompt =
      tokenizer_->encode(chat_->render(messages, GenerationPrompt::add, context_->thinking));
  request.key = task.key;
  request.max_new_tokens = static_cast<std::int32_t>(options.max_new_tokens);
  request.law = {.temperature = static_cast<float>(options.temperature),
                 .top_p = static_cast<float>(options.top_p),
                 .vocab = vocab_};
  return {std::move(request), chat.user};
}

std::vector<ReflectionReply> ReflectionRole::rewrite(RolloutRole& rollouts,
                                                     const RequestBatch& batch,
                                                     const std::vector<ReflectionTask>& tasks) {
  const World& world = context_->world;
  const int units = std::max(world.units(Role::reflection), 1);
  const auto unit_of = [&](std::size_t task) { return static_cast<int>(task) % units; };
  std::vector<std::pair<std::int32_t, int>> wanted;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    for (int place = 0; place < world.plan().reflection.tp; ++place) {
      const int rank = world.world_rank(Role::reflection, unit_of(i), place);
      for (const std::int32_t request : tasks[i].requests) {
        const std::pair<std::int32_t, int> entry{request, rank};
        if (std::find(wanted.begin(), wanted.end(), entry) == wanted.end()) wanted.push_back(entry);
      }
    }
  }
  const auto shown = rollouts.for_reflection(wanted);

  std::vector<Numbered> mine;
  std::vector<GenerateRequest> generate;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    if (!generator_ || unit_of(i) != world.across(Role::reflection).rank()) continue;
    auto [request, evidence] = question(batch, tasks[i], shown);
    mine.push_back({static_cast<std::int32_t>(i), {{}, std::move(evidence)}});
    generate.push_back(std::move(request));
  }
  if (generator_) {
    const auto completions = generator_->generate(generate);
    for (std::size_t i = 0; i < mine.size(); ++i) {
      Reply& reply = mine[i].reply.reply;
      reply.text = tokenizer_->decode(completions[i].tokens, SpecialTokens::skip);
      reply.status =
          completions[i].finish == Finish::stop ? ReplyStatus::complete : ReplyStatus::unfinished;
    }
  }
  if (world.unit(Role::reflection).rank() > 0) mine.clear();  // the first speaks for the unit
  std::vector<ReflectionReply> replies(tasks.size());
  for (auto& numbered :
       all_gather<Numbered>(world.all(), mine, "replies of the reflection model")) {
    replies.at(static_cast<std::size_t>(numbered.task)) = std::move(numbered.reply);
  }
  return replies;
}

}  // namespace fst
