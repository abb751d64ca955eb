#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fst {

/// The methods of one driver; run.method names one. See run/schedule.h for what each does.
enum class Method : std::uint8_t { fst, rl, gepa, frozen, copies, per_prompt, rl_gepa, gepa_rl };

/// Everything a deck can say. One field per key, with its default; run/keys.cpp binds each field to
/// its key with type, unit, range and one sentence (`fst check --keys`). Paths are absolute after
/// reading: those of a deck are relative to the deck's own folder.
struct RunConfig {
  struct {
    Method method = Method::fst;
    std::int64_t seed = 1;
    std::int64_t steps = 60;
    std::string output;
    std::int64_t save_every = 50;
    std::int64_t keep_every = 0;
    double time_limit = 0.0;
    double deadline = 1800.0;
    std::int64_t rollout_rows_mib = 256;
  } run;
  struct {
    std::string policy, reflection, base;
  } model;
  struct {
    std::string name = "world", variant = "A";
    std::vector<std::string> stages;
    std::int64_t steps_per_stage = 24;
    std::vector<std::int64_t> lengths{4, 5, 6};
    std::string train, dev, test, verifier = "exact", seed_prompt;
    std::int64_t dev_problems = 96, test_problems = 200;
    std::int64_t graph_degree = 5, graph_path = 5, graph_nodes = 25, graph_train = 10000;
    std::string graph_arm = "equal";
  } task;
  struct {
    std::string thinking = "template";
  } chat;
  struct {
    std::int64_t rollout = 0, reflection = 0, learner = 0;
  } ranks;
  struct {
    std::int64_t tp = 1, max_lag = 0;
    double temperature = 1.0;
    std::int64_t max_new_tokens = 12, max_batch = 256, prefill_chunk = 512, kv_mib = 256;
  } rollout;
  struct {
    std::int64_t tp = 1;
    double temperature = 1.0, top_p = 1.0;
    std::int64_t max_new_tokens = 16, evidence_chars = 4000;
    std::string layout = "auto";
  } reflection;
  struct {
    std::int64_t tp = 1, micro_batch = 64, gradient_leaves = 8, head_chunk = 256;
    bool recompute = false;
  } learner;
  struct {
    std::string device = "auto", exchange = "auto", dtype = "f32", products = "auto";
    std::string attention = "own";
    bool exact = true, graphs = true;
    std::int64_t threads = 1, memory_mib = 0;
  } engine;
  struct {
    std::int64_t problems_per_step = 32, group_size = 8, steps_per_cycle = 6;
    std::string loss = "cispo", advantage = "group", std = "population", aggregation = "prompt";
    double advantage_epsilon = 1e-6;
    bool zero_variance_filter = true;
    std::int64_t length_constant = 0;
    double entropy = 0.0;
    double clip_low = 0.2, clip_high = 0.2;
  } train;
  struct {
    double tau = 4.0;
  } cispo;
  struct {
    double coef = 1e-3;
    std::string estimator = "k3", place = "loss";
    bool weighted = false, dead_groups = false;
    double seed_prompt = 0.0;
  } kl;
  struct {
    double lr = 1e-6, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.0, clip = 1.0;
    std::int64_t warmup = 10;
  } optim;
  struct {
    std::int64_t prompts = 4, anchors = 48, max_metric_calls = 240, minibatch = 3;
    std::string acceptance = "strict", selector = "pareto", rescore_carried = "all_uncharged";
    bool reject_known = true, skip_perfect = true, lead_always_kept = false;
    std::int64_t proposals = 1, max_prompt_tokens = 1024;
    std::string population;
  } evolve;
  struct {
    std::int64_t every = 6, samples = 2, problems = 0, max_new_tokens = 0;
    double temperature = 0.6, top_p = 0.95;
    std::string split = "test";
    bool kl = true, population = true;
    std::int64_t kl_samples = 1;
    std::string lead, also;
  } eval;
  struct {
    std::string source = "world", files;
    std::int64_t steps = 3900, row_tokens = 512, rows = 8, warmup = 100, probe_every = 400;
    double lr = 2e-3, gain_lr_scale = 3.0, beta1 = 0.9, beta2 = 0.98, eps = 1e-8,
           weight_decay = 0.05, clip = 1.0, decay_from = 0.5, final_lr = 0.02;
    std::string config, tokenizer, init = "scratch";
    std::int64_t stage1_steps = 500;
    double stop_follow = 0.5;
    std::int64_t stop_tokens = 4600000;
  } pretrain;
};

/// One key of a deck. `text` is the value in the form a deck has it.
struct KeyInfo {
  std::string name, type, text, unit, help;
};
/// All keys with the values of `config`, in order.
std::vector<KeyInfo> keys_of(const RunConfig& config);

/// A deck that has been read: the configuration, and what was set where.
struct Deck {
  RunConfig config;
  std::string folder;              // of the deck file; paths are relative to it
  std::vector<std::string> given;  // keys named in the deck or on the command line
};

/// Reads a deck and `--section.key=value` arguments (which win). `text` is the deck's content (rank
/// 0 reads the file and broadcasts it), `path` its name for messages. Every mistake is reported in
/// one InputError, each with file and line and, for names, the nearest valid one.
Deck parse_deck(const std::string& path, const std::string& text,
                const std::vector<std::string>& overrides);
/// Appends to `mistakes` what cannot work in `config` taken as a whole.
void validate(const RunConfig& config, std::vector<std::string>& mistakes);
/// The deck that reproduces `config`, with every key.
std::string resolved_deck(const RunConfig& config);

const char* name_of(Method method);

}  // namespace fst
