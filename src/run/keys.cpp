#include "keys.h"

#include <utility>

#include "key_table.h"

namespace fst {

namespace {

using keys::big;
using keys::infinity;
using keys::Table;

void bind_run(Table& t, RunConfig& c) {
  t.method("run.method", c.run.method, "what is trained: fast-slow training or a baseline");
  t.number("run.seed", c.run.seed, 0, big, "", "seed of every random stream of the run");
  t.number("run.steps", c.run.steps, 0, big, "optimiser steps",
           "step to reach; without slow weights (gepa) a cycle counts train.steps_per_cycle");
  t.path("run.output", c.run.output, "run folder");
  t.number("run.save_every", c.run.save_every, 1, big, "steps", "steps between checkpoints");
  t.number("run.keep_every", c.run.keep_every, 0, big, "steps",
           "checkpoints of multiples of this step are kept for good; 0: only the newest two");
  t.number("run.time_limit", c.run.time_limit, 0, infinity, "s",
           "stop with a checkpoint (exit 75) after this long; 0: never");
  t.number("run.deadline", c.run.deadline, 1, infinity, "s",
           "longest wait between ranks before the job ends with an error");
  t.number("run.rollout_rows_mib", c.run.rollout_rows_mib, 0, big, "MiB",
           "rollout rows (tokens, log-probabilities) are kept in the history up to this size");
  t.path("model.policy", c.model.policy,
         "Hugging Face folder or checkpoint where the policy starts");
  t.path("model.reflection", c.model.reflection, "reflection model; empty: model.policy");
  t.path("model.base", c.model.base, "frozen base of the KL terms; empty: model.policy");
  t.choice("chat.thinking", c.chat.thinking, {"template", "think", "no_think"},
           "thinking mode of the chat template; template: its own default");
}

void bind_task(Table& t, RunConfig& c) {
  t.choice("task.name", c.task.name, {"world", "star_graph", "jsonl"}, "the task");
  t.text("task.variant", c.task.variant, "variant of the embedded world: A, B, C or hard");
  t.list("task.stages", c.task.stages,
         "variants of a continual run, for example A,B,C; empty: task.variant alone");
  t.number("task.steps_per_stage", c.task.steps_per_stage, 1, big, "steps", "length of a stage");
  t.list("task.lengths", c.task.lengths, 3, 6, "list lengths of the world's problems");
  t.path("task.train", c.task.train, "JSONL file of training problems");
  t.path("task.dev", c.task.dev, "JSONL file of development problems");
  t.path("task.test", c.task.test, "JSONL file of test problems");
  t.choice("task.verifier", c.task.verifier, {"exact", "letter", "json"},
           "how answers of a JSONL task are judged");
  t.path("task.seed_prompt", c.task.seed_prompt,
         "text file with the seed prompt; empty: the task's own");
  t.number("task.dev_problems", c.task.dev_problems, 0, big, "problems",
           "size of a generated dev split");
  t.number("task.test_problems", c.task.test_problems, 1, big, "problems",
           "size of star_graph's generated test split (the world's is 96)");
  t.number("task.graph_degree", c.task.graph_degree, 2, 1000, "", "star graph: arms at the source");
  t.number("task.graph_path", c.task.graph_path, 2, 1000, "nodes", "star graph: nodes of the path");
  t.number("task.graph_nodes", c.task.graph_nodes, 4, 1000000, "",
           "star graph: labels lie below this");
  t.number("task.graph_train", c.task.graph_train, 1, big, "problems",
           "star graph: training problems");
  t.choice("task.graph_arm", c.task.graph_arm, {"equal", "path"},
           "star graph: decoy arms of path - 1 (equal) or path fresh nodes");
}

void bind_roles(Table& t, RunConfig& c) {
  t.number("ranks.rollout", c.ranks.rollout, 0, 1000000, "ranks",
           "rollout ranks; all three 0: colocated");
  t.number("ranks.reflection", c.ranks.reflection, 0, 1000000, "ranks", "reflection ranks");
  t.number("ranks.learner", c.ranks.learner, 0, 1000000, "ranks", "learner ranks");
  t.number("rollout.tp", c.rollout.tp, 1, 8, "ranks", "tensor-parallel degree of a rollout unit");
  t.number("rollout.max_lag", c.rollout.max_lag, 0, 1, "steps",
           "1: within a cycle, sample step t+1 while t is learnt");
  t.number("rollout.temperature", c.rollout.temperature, 1e-3, 100, "",
           "sampling temperature in training");
  t.number("rollout.max_new_tokens", c.rollout.max_new_tokens, 1, 1000000, "tokens",
           "longest completion");
  t.number("rollout.max_batch", c.rollout.max_batch, 1, 65536, "sequences",
           "sequences decoded together");
  t.number("rollout.prefill_chunk", c.rollout.prefill_chunk, 16, 1000000, "tokens",
           "prompt tokens computed at once; changes no bit");
  t.number("rollout.kv_mib", c.rollout.kv_mib, 1, big, "MiB",
           "memory for keys and values per rank");
  t.number("reflection.tp", c.reflection.tp, 1, 8, "ranks",
           "tensor-parallel degree of a reflection unit");
  t.number("reflection.temperature", c.reflection.temperature, 0, 100, "",
           "sampling temperature of the reflection model");
  t.number("reflection.top_p", c.reflection.top_p, 1e-6, 1, "", "top-p of the reflection model");
  t.number("reflection.max_new_tokens", c.reflection.max_new_tokens, 1, 1000000, "tokens",
           "longest reply");
  t.number("reflection.evidence_chars", c.reflection.evidence_chars, 16, big, "characters",
           "longer completions are shown to the reflection model as head and tail");
  t.path("reflection.layout", c.reflection.layout,
         "layout file of the reflection chat; auto: the world's or the general one");
  t.number("learner.tp", c.learner.tp, 1, 8, "ranks", "tensor-parallel degree of a learner unit");
  t.number("learner.micro_batch", c.learner.micro_batch, 1, big, "sequences",
           "sequences per micro-batch; changes no bit");
  t.flag("learner.recompute", c.learner.recompute,
         "keep only the inputs of layers and compute a layer again for its gradient: less memory, "
         "a third more work; changes no bit");
  t.number("learner.gradient_leaves", c.learner.gradient_leaves, 1, 64, "",
           "leaves of the gradient sum; part of the trajectory, bounds the data-parallel degree");
  t.number("learner.head_chunk", c.learner.head_chunk, 1, 65536, "tokens",
           "rows of the vocabulary projection computed at once; changes no bit");
  t.choice("engine.device", c.engine.device, {"auto", "cpu", "cuda"}, "where the model runs");
  t.choice("engine.exchange", c.engine.exchange, {"auto", "nccl", "host"},
           "how tensors travel between GPUs: by NCCL where each rank has its own, or through the "
           "host's memory; changes no bit");
  t.choice("engine.dtype", c.engine.dtype, {"f32", "bf16"}, "arithmetic");
  t.choice(
      "engine.products", c.engine.products, {"auto", "own", "certified"},
      "who multiplies bf16 matrices on a GPU: own kernels; cuBLASLt too, where it is found, before "
      "the job begins, to have their bits and to be faster (certified); auto: certified where "
      "cuBLASLt is there, else own, or cuBLASLt as it likes where engine.exact = off");
  t.flag("engine.exact", c.engine.exact,
         "off: libraries may sum in any order, so that a completion's bits depend on its batch and "
         "the sampler's log-probabilities are not the learner's; bf16 on a GPU only");
  t.flag(
      "engine.graphs", c.engine.graphs,
      "steps of sampling on a GPU are recorded as CUDA graphs; off: their kernels are queued one "
      "by one, for profilers and to look for faults; changes no bit");
  t.choice(
      "engine.attention", c.engine.attention, {"own", "cudnn"},
      "whose attention the learner's passes use: our own, or cuDNN's (9.19 or later, opened at "
      "run time), which needs engine.exact = off");
  t.number("engine.threads", c.engine.threads, 1, 1024, "threads",
           "threads per rank; changes no bit");
  t.number("engine.memory_mib", c.engine.memory_mib, 0, big, "MiB",
           "memory that a rank may take, as fst check estimates it; 0: what the machine has, or "
           "its GPU, or "
           "an H100 where there is none");
}

void bind_train(Table& t, RunConfig& c) {
  t.number("train.problems_per_step", c.train.problems_per_step, 1, big, "problems",
           "B of the paper");
  t.number("train.group_size", c.train.group_size, 1, 65536, "rollouts",
           "G of the paper: rollouts per problem");
  t.number("train.steps_per_cycle", c.train.steps_per_cycle, 1, big, "steps", "T of the paper");
  t.choice("train.loss", c.train.loss, {"cispo", "reinforce", "grpo", "dapo", "dr_grpo"},
           "policy loss");
  t.choice("train.advantage", c.train.advantage, {"group", "mean_only", "per_prompt", "batch"},
           "what rewards are centred and scaled by");
  t.choice("train.std", c.train.std, {"population", "unbiased"},
           "divisor of the group's deviation");
  t.number("train.advantage_epsilon", c.train.advantage_epsilon, 0, 1, "",
           "added to the deviation");
  t.flag("train.zero_variance_filter", c.train.zero_variance_filter,
         "drop groups whose rewards are all equal");
  t.choice("train.aggregation", c.train.aggregation, {"prompt", "token", "sequence", "constant"},
           "how token losses are averaged");
  t.number("train.length_constant", c.train.length_constant, 0, big, "tokens",
           "length of aggregation = constant; 0: rollout.max_new_tokens");
  t.number("train.entropy", c.train.entropy, 0, 1000, "", "weight of the entropy bonus");
  t.number("train.clip_low", c.train.clip_low, 0, 1, "",
           "grpo, dapo, dr_grpo: lower clip of the ratio");
  t.number("train.clip_high", c.train.clip_high, 0, 1000, "",
           "grpo, dapo, dr_grpo: upper clip of the ratio");
  t.number("cispo.tau", c.cispo.tau, 1, infinity, "",
           "absolute cap of the importance ratio, above 1");
  t.number("kl.coef", c.kl.coef, 0, 1000, "",
           "weight of the KL term to the base under the same prompt");
  t.choice("kl.estimator", c.kl.estimator, {"k1", "k2", "k3", "k3_clamped", "k3+"},
           "estimator of the KL term");
  t.choice("kl.place", c.kl.place, {"loss", "reward"}, "where the KL term acts (reward: k1)");
  t.flag("kl.weighted", c.kl.weighted, "multiply a token's KL term by its capped ratio");
  t.flag("kl.dead_groups", c.kl.dead_groups, "keep the KL term where a group has no variance");
  t.number("kl.seed_prompt", c.kl.seed_prompt, 0, 1000, "",
           "weight of the full KL to the base under the seed prompt");
  t.number("optim.lr", c.optim.lr, 0, 1, "", "learning rate after warm-up");
  t.number("optim.warmup", c.optim.warmup, 0, big, "steps",
           "linear warm-up: step s uses lr * s / warmup");
  t.number("optim.beta1", c.optim.beta1, 0, 0.999999, "", "AdamW");
  t.number("optim.beta2", c.optim.beta2, 0, 0.9999999, "", "AdamW");
  t.number("optim.eps", c.optim.eps, 0, 1, "", "AdamW");
  t.number("optim.weight_decay", c.optim.weight_decay, 0, 10, "", "AdamW, on matrices");
  t.number("optim.clip", c.optim.clip, 0, infinity, "", "limit of the gradient norm; 0: none");
}

void bind_evolve(Table& t, RunConfig& c) {
  t.number("evolve.prompts", c.evolve.prompts, 1, 65536, "prompts",
           "K of the paper: population size");
  t.number("evolve.anchors", c.evolve.anchors, 1, big, "problems",
           "problems candidates are compared on");
  t.number("evolve.max_metric_calls", c.evolve.max_metric_calls, 0, big, "rollouts",
           "budget of a fast phase");
  t.number("evolve.minibatch", c.evolve.minibatch, 1, big, "problems",
           "records shown to the reflection model");
  t.choice("evolve.acceptance", c.evolve.acceptance, {"strict", "or_equal"},
           "gate of a child against its parent");
  t.choice("evolve.selector", c.evolve.selector,
           {"pareto", "current_best", "epsilon_greedy", "top_k_pareto"}, "how parents are chosen");
  t.choice("evolve.rescore_carried", c.evolve.rescore_carried,
           {"all_uncharged", "all_charged", "lead_only"},
           "how carried prompts are scored again in a new cycle");
  t.flag("evolve.reject_known", c.evolve.reject_known,
         "a reply equal to a known candidate is no proposal");
  t.flag("evolve.skip_perfect", c.evolve.skip_perfect,
         "no reflection on a minibatch that is all right");
  t.flag("evolve.lead_always_kept", c.evolve.lead_always_kept,
         "the best mean stays even where it is redundant");
  t.number("evolve.proposals", c.evolve.proposals, 1, 1024, "", "independent proposals per round");
  t.number("evolve.max_prompt_tokens", c.evolve.max_prompt_tokens, 1, big, "tokens",
           "longer children are rejected");
  t.path("evolve.population", c.evolve.population,
         "JSONL file of prompts ({\"prompt\"}) for run.method = frozen");
  t.number("eval.every", c.eval.every, 0, big, "steps", "steps between evaluations; 0: none");
  t.number("eval.samples", c.eval.samples, 1, 65536, "", "k of mean@k and best@k");
  t.number("eval.problems", c.eval.problems, 0, big, "problems",
           "first problems of the split; 0: all");
  t.number("eval.max_new_tokens", c.eval.max_new_tokens, 0, 1000000, "tokens",
           "0: rollout.max_new_tokens");
  t.number("eval.temperature", c.eval.temperature, 0, 100, "", "sampling temperature");
  t.number("eval.top_p", c.eval.top_p, 1e-6, 1, "", "top-p");
  t.choice("eval.split", c.eval.split, {"test", "dev"}, "which problems");
  t.flag("eval.kl", c.eval.kl, "measure the exact KL to the base");
  t.number("eval.kl_samples", c.eval.kl_samples, 1, 65536, "",
           "completions per problem for the KL, at temperature 1");
  t.flag("eval.population", c.eval.population, "evaluate every prompt of the population too");
  t.path("eval.lead", c.eval.lead,
         "fst eval: text file with the prompt; empty: the checkpoint's lead or the seed");
  t.text("eval.also", c.eval.also,
         "world variant whose gold answers' probability is reported too; empty: none");
}

void bind_pretrain(Table& t, RunConfig& c) {
  t.choice("pretrain.source", c.pretrain.source, {"world", "text", "chat"},
           "generated rows, or JSONL of text or chats");
  t.path("pretrain.files", c.pretrain.files,
         "JSONL file for text ({\"text\"}) or chat ({\"messages\"})");
  t.choice("pretrain.init", c.pretrain.init, {"scratch", "policy"},
           "random weights, or model.policy");
  t.path("pretrain.config", c.pretrain.config, "config.json of the model made from scratch");
  t.path("pretrain.tokenizer", c.pretrain.tokenizer,
         "folder with tokenizer.json and tokenizer_config.json");
  t.number("pretrain.steps", c.pretrain.steps, 1, big, "steps", "optimiser steps");
  t.number("pretrain.stage1_steps", c.pretrain.stage1_steps, 0, big, "steps",
           "world: short one-line rows first");
  t.number("pretrain.row_tokens", c.pretrain.row_tokens, 2, big, "tokens",
           "text and chat: longest row");
  t.number("pretrain.rows", c.pretrain.rows, 1, big, "rows", "text and chat: rows per step");
  t.number("pretrain.lr", c.pretrain.lr, 0, 1, "", "peak learning rate");
  t.number("pretrain.gain_lr_scale", c.pretrain.gain_lr_scale, 0, 1000, "",
           "factor on the rate of q_norm and k_norm");
  t.number("pretrain.warmup", c.pretrain.warmup, 0, big, "steps", "linear warm-up");
  t.number("pretrain.decay_from", c.pretrain.decay_from, 0, 1, "",
           "fraction of the steps after which the rate falls");
  t.number("pretrain.final_lr", c.pretrain.final_lr, 0, 1, "",
           "last rate as a fraction of the peak");
  t.number("pretrain.beta1", c.pretrain.beta1, 0, 0.999999, "", "AdamW");
  t.number("pretrain.beta2", c.pretrain.beta2, 0, 0.9999999, "", "AdamW");
  t.number("pretrain.eps", c.pretrain.eps, 0, 1, "", "AdamW");
  t.number("pretrain.weight_decay", c.pretrain.weight_decay, 0, 10, "", "AdamW, on matrices");
  t.number("pretrain.clip", c.pretrain.clip, 0, infinity, "",
           "limit of the gradient norm; 0: none");
  t.number("pretrain.probe_every", c.pretrain.probe_every, 0, big, "steps",
           "steps between skill probes; 0: none");
  t.number("pretrain.stop_follow", c.pretrain.stop_follow, 0, 1, "",
           "stop if follow is below this ...");
  t.number("pretrain.stop_tokens", c.pretrain.stop_tokens, 0, big, "tokens",
           "... after so many tokens");
}

}  // namespace

std::vector<Key> bind_keys(RunConfig& config) {
  Table table;
  bind_run(table, config);
  bind_task(table, config);
  bind_roles(table, config);
  bind_train(table, config);
  bind_evolve(table, config);
  bind_pretrain(table, config);
  return std::move(table.keys);
}

std::vector<KeyInfo> keys_of(const RunConfig& config) {
  RunConfig copy = config;
  std::vector<KeyInfo> infos;
  for (auto& key : bind_keys(copy)) infos.push_back(std::move(key.info));
  return infos;
}

const char* name_of(Method method) {
  switch (method) {
    case Method::fst:
      return "fst";
    case Method::rl:
      return "rl";
    case Method::gepa:
      return "gepa";
    case Method::frozen:
      return "frozen";
    case Method::copies:
      return "copies";
    case Method::per_prompt:
      return "per_prompt";
    case Method::rl_gepa:
      return "rl_gepa";
    case Method::gepa_rl:
      return "gepa_rl";
  }
  return "unknown";
}

}  // namespace fst
