// What the verbs do with good input, beside the golden tests.

#include <algorithm>
#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

#include "bad_case.h"
#include "golden_h5.h"
namespace fst::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(Program, HelpAndVersionAreAnsweredOnStdout) {
  const Ended help = run_fst({"--help"}), version = run_fst({"--version"});
  EXPECT_EQ(help.code, 0);
  for (const char* verb : {"run DECK", "eval DECK", "pretrain DECK", "score", "generate",
                           "tokenize", "verify", "export", "check DECK", "info FILE"}) {
    EXPECT_TRUE(holds(help.out, std::string("fst ") + verb)) << verb;
  }
  EXPECT_EQ(version.code, 0);
  EXPECT_TRUE(holds(version.out, "fst ") && holds(version.out, "hdf5")) << version.out;
  for (const char* verb : {"run", "eval", "pretrain", "score", "generate", "tokenize", "verify",
                           "export", "check", "info"}) {
    const Ended usage = run_fst({verb, "--help"});
    EXPECT_EQ(usage.code, 0) << verb;
    EXPECT_TRUE(holds(usage.out, std::string("usage: fst ") + verb)) << usage.out;
    EXPECT_TRUE(usage.err.empty()) << usage.err;
  }
}

TEST(Program, EveryKeyOfADeckIsListed) {
  const Ended ended = run_fst({"check", "--keys"});
  EXPECT_EQ(ended.code, 0);
  for (const char* key : {"run.method", "engine.threads", "evolve.max_metric_calls", "optim.lr"}) {
    EXPECT_TRUE(holds(ended.out, std::string("\n") + key + " ")) << key;
  }
}

TEST(Program, CheckPrintsWhatADeckComesToAndTouchesNothing) {
  const Scene scene;
  const std::string deck =
      scene.file("deck.cfg",
                 "[run]\nmethod = rl\nsteps = 12\noutput = run\n[model]\npolicy = model\n"
                 "[ranks]\nrollout = 2\nlearner = 1\n[optim]\nlr = 0.5 # a comment\n");
  const Ended ended = run_fst({"check", deck, "--run.seed=77", "--evolve.anchors=5"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  for (const char* part :
       {"seed = 77", "lr = 0.5\n", "# ignored by run.method = rl\n  evolve.anchors", "3 ranks",
        "rollout rank: ", "learner rank: ", "moments: ", "12 steps", "checkpoint-<step>.h5",
        "<|im_start|>"}) {
    EXPECT_TRUE(holds(ended.out, part)) << "no \"" << part << "\" in: " << ended.out;
  }
  EXPECT_FALSE(fs::exists(scene.path("run")));
}

TEST(Program, TheResolvedDeckGivesItselfBack) {
  const Scene scene;
  const auto resolved = [&](const std::string& deck) {
    const std::string out = run_fst({"check", deck}).out;
    return out.substr(0, out.find("\n# "));
  };
  const std::string first =
      resolved(scene.file("deck.cfg", "[task]\nvariant = B\n[cispo]\ntau = 3.25\n"));
  EXPECT_TRUE(holds(first, "variant = B")) << first;
  EXPECT_EQ(resolved(scene.file("again.cfg", first)), first);
}

TEST(Program, AnExportedModelScoresTheSame) {
  const Scene scene;
  const std::string in = scene.file(
      "in.jsonl", "{\"id\": \"a\", \"tokens\": [1, 2, 3]}\n\n{\"id\": \"b\", \"tokens\": [4]}\n");
  const std::string copy = scene.path("copy");
  ASSERT_EQ(run_fst({"export", "--model", scene.model(), "--out", copy}).code, 0);
  const auto score = [&](const std::string& model) {
    const std::string out = scene.path("out.h5");
    const Ended ended = run_fst({"score", "--model", model, "--tokens", in, "--out", out});
    EXPECT_EQ(ended.code, 0) << ended.err;
    return text_of(out);
  };
  const std::string original = score(scene.model());
  EXPECT_FALSE(original.empty());
  EXPECT_TRUE(score(copy) == original) << "other bytes";
  const GoldenFile scores(scene.path("out.h5"));
  EXPECT_EQ(scores.floats("/case/0/logprob").size(), 2U);
  EXPECT_EQ(scores.floats("/case/1/logprob").size(), 0U);
  const Ended info = run_fst({"info", scene.path("out.h5")});
  EXPECT_EQ(info.code, 0) << info.err;
  EXPECT_TRUE(holds(info.out, "/case/0/logprob: f32 [2]")) << info.out;
}

TEST(Program, ACheckpointServesWhereverAFolderDoes) {
  const Scene scene;
  const std::string deck = (fs::path(FST_SOURCE_DIR) / "input" / "quickstart.cfg").string();
  const Ended run =
      run_fst({"run", deck, "--run.method=rl", "--run.output=" + scene.path("run"), "--run.steps=1",
               "--eval.every=0", "--train.problems_per_step=2", "--run.save_every=1"});
  ASSERT_EQ(run.code, 0) << run.err;
  const std::string checkpoint = scene.path("run/checkpoint-1.h5");
  const std::string folder = scene.path("folder");
  ASSERT_EQ(run_fst({"export", "--model", checkpoint, "--out", folder}).code, 0);
  const std::string in = scene.file("in.jsonl", R"({"id": "a", "tokens": [5, 6, 7]})");
  const auto score = [&](const std::string& model) {
    const Ended ended = run_fst({"score", "--model", model, "--tokens", in, "--out", scene.out()});
    EXPECT_EQ(ended.code, 0) << ended.err;
    return text_of(scene.out());
  };
  EXPECT_TRUE(score(checkpoint) == score(folder)) << "other bytes";

  const std::string digest = run_fst({"info", checkpoint, "--digest"}).out;
  EXPECT_EQ(digest.size(), 65U) << digest;  // 64 digits of SHA-256 and a line break
  EXPECT_EQ(run_fst({"info", "--digest", checkpoint}).out, digest);
  const std::string full = run_fst({"info", "--digest=full", checkpoint}).out;
  EXPECT_TRUE(holds(full, "  /policy/weights\n")) << full;

  fs::resize_file(checkpoint, fs::file_size(checkpoint) - 9);
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"info", checkpoint},
           {"info", checkpoint, "--digest"},
           {"export", "--model", checkpoint, "--out", scene.path("again")}}) {
    const Ended ended = run_fst(words);
    EXPECT_EQ(ended.code, 2) << words[0];
    EXPECT_TRUE(holds(ended.err, "damaged")) << ended.err;
  }
}

TEST(Program, ScoresAndSamplesAreTheSameHoweverManyRanksShareTheModel) {
  const Scene scene;
  const std::string model = (fs::path(FST_SOURCE_DIR) / "input" / "tiny").string();
  std::string lines;  // more packs than there are units, of odd lengths
  for (int i = 0; i < 7; ++i) {
    lines += R"({"id": ")" + std::to_string(i) + R"(", "tokens": [5)";
    for (int t = 0; t < 400 - 31 * i; ++t) lines += ", " + std::to_string((7 * t + i) % 380);
    lines += "]}\n";
  }
  const std::string in = scene.file("in.jsonl", lines);
  const auto run = [&](const std::string& verb, std::vector<std::string> more, int ranks) {
    std::vector<std::string> words = {verb, "--model", model, "--out", scene.out()};
    words.insert(words.end(), more.begin(), more.end());
    const Ended ended = run_fst(words, {.ranks = ranks});
    EXPECT_EQ(ended.code, 0) << ended.err;
  };
  const auto scores = [&](const std::vector<std::string>& more, int ranks) {
    run("score", more, ranks);
    const GoldenFile file(scene.out());
    std::vector<float> all;  // the order in the file may differ
    for (int i = 0; i < 7; ++i) {
      for (const char* name : {"/logprob", "/logits"}) {
        const auto values = file.floats("/case/" + std::to_string(i) + name);
        all.insert(all.end(), values.begin(), values.end());
      }
    }
    return all;
  };
  const auto completions = [&](const std::vector<std::string>& more, int ranks) {
    run("generate", more, ranks);
    return text_of(scene.out());
  };
  std::vector<std::string> score = {"--tokens", in, "--logits"};
  std::vector<std::string> generate = {"--prompts", in,  "--max-new-tokens", "5",
                                       "--samples", "3", "--temperature",    "1.1",
                                       "--seed",    "3"};
  const auto scores_alone = scores(score, 1);
  const auto completions_alone = completions(generate, 1);
  EXPECT_GT(completions_alone.size(), 1000U);
  for (std::vector<std::string>* words : {&score, &generate}) {
    words->insert(words->end(), {"--tp", "2"});
  }
  for (const int ranks : {2, 4}) {
    EXPECT_TRUE(scores(score, ranks) == scores_alone) << ranks << " ranks";
    EXPECT_TRUE(completions(generate, ranks) == completions_alone) << ranks << " ranks";
  }
}

TEST(Program, GeneratedTokensScoreWhatTheyWereDrawnWithInEitherArithmetic) {
  const Scene scene;
  const std::string model = (fs::path(FST_SOURCE_DIR) / "input" / "tiny").string();
  const std::vector<std::vector<int>> prompts = {{5, 6, 7}, {9}, {11, 380, 2, 40, 41}};
  std::string in;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    in += json{{"id", std::to_string(i)}, {"tokens", prompts[i]}}.dump() + "\n";
  }
  const std::string prompt_file = scene.file("prompts.jsonl", in);
  const auto with = [&](std::vector<std::string> words, const std::string& dtype, int ranks = 0) {
    words.insert(words.end(), {"--model", model, "--out", scene.out(), "--temperature", "1.1",
                               "--dtype", dtype});
    if (ranks > 0) words.insert(words.end(), {"--tp", std::to_string(ranks)});
    const Ended ended = run_fst(words, {.ranks = ranks});
    EXPECT_EQ(ended.code, 0) << ended.err;
  };
  std::string drawn_before;
  for (const std::string dtype : {"f32", "bf16"}) {
    const std::vector<std::string> generate = {
        "generate", "--prompts", prompt_file, "--samples", "3", "--max-new-tokens", "33"};
    with(generate, dtype);
    const std::string drawn = text_of(scene.out());
    EXPECT_NE(drawn, drawn_before) << dtype;
    drawn_before = drawn;
    const auto completions = lines_of(scene.out());
    std::string whole;
    for (std::size_t i = 0; i < completions.size(); ++i) {
      const json one = json::parse(completions[i]);
      auto tokens = prompts[static_cast<std::size_t>(std::stoi(one["id"].get<std::string>()))];
      for (const json& token : one["tokens"]) tokens.push_back(token);
      whole += json{{"id", std::to_string(i)}, {"tokens", tokens}}.dump() + "\n";
    }
    with({"score", "--tokens", scene.file("whole.jsonl", whole)}, dtype);
    const GoldenFile scores(scene.out());
    for (std::size_t i = 0; i < completions.size(); ++i) {
      const auto expected = json::parse(completions[i])["logprobs"].get<std::vector<float>>();
      auto found = scores.floats("/case/" + std::to_string(i) + "/logprob");
      ASSERT_GE(found.size(), expected.size());
      found.erase(found.begin(), found.end() - static_cast<std::ptrdiff_t>(expected.size()));
      EXPECT_EQ(found, expected) << dtype << ", completion " << i;
    }
    with(generate, dtype, 2);
    EXPECT_EQ(text_of(scene.out()), drawn) << dtype << " on two ranks";
  }
}

TEST(Program, CheckPrintsHowDegreesAndReplicasDivideTheMemory) {
  const std::string deck = (fs::path(FST_SOURCE_DIR) / "input" / "quickstart.cfg").string();
  const auto check = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"check", deck});
    const Ended ended = run_fst(more);
    EXPECT_EQ(ended.code, 0) << ended.err;
    return ended.out;
  };
  // 836,000 parameters of 4 bytes: moments are twice that over the ranks that share them.
  EXPECT_TRUE(holds(check({}), "    weights: 3.2 MiB\n")) << check({});
  EXPECT_TRUE(holds(check({}), "    moments: 6.4 MiB\n")) << check({});
  // In bf16 moments and masters are float32, and shared likewise; the weights are not.
  const std::string narrow = check({"--engine.dtype=bf16"});
  for (const char* part :
       {"    weights: 1.6 MiB\n", "    masters: 3.2 MiB\n", "    moments: 6.4 MiB\n"}) {
    EXPECT_TRUE(holds(narrow, part)) << narrow;
  }
  const std::string grid = check({"--ranks.rollout=4", "--ranks.reflection=2", "--ranks.learner=4",
                                  "--rollout.tp=2", "--learner.tp=2"});
  for (const char* part :
       {"10 ranks: 4 rollout, 2 reflection, 4 learner", "rollout: 2 units of 2 ranks",
        "note: 1 of them without work: evolve.proposals = 1", "learner: 2 units of 2 ranks",
        "    weights: 1.6 MiB\n", "    moments: 1.6 MiB\n", "gradients of the other replicas"}) {
    EXPECT_TRUE(holds(grid, part)) << "no \"" << part << "\" in: " << grid;
  }
  const std::string eight = check({"--ranks", "8", "--learner.tp=2"});
  EXPECT_TRUE(holds(eight, "any number that 2 divides, colocated")) << eight;
  EXPECT_TRUE(holds(eight, "    moments: 0.8 MiB\n")) << eight;
  EXPECT_TRUE(holds(eight, "    the sampler's weights: 3.2 MiB\n")) << eight;
  const std::string narrow_eight = check({"--ranks", "8", "--learner.tp=2", "--engine.dtype=bf16"});
  EXPECT_TRUE(holds(narrow_eight, "    masters: 0.4 MiB\n")) << narrow_eight;
}

TEST(Program, ExportAsBf16HalvesTheWeights) {
  const Scene scene;
  ASSERT_EQ(
      run_fst({"export", "--model", scene.model(), "--out", scene.out() + "/", "--dtype", "bf16"})
          .code,
      0);
  const auto size = [](const fs::path& folder) {
    return fs::file_size(folder / "model.safetensors");
  };
  EXPECT_LT(size(scene.out()), size(scene.model()) * 6 / 10);
  EXPECT_TRUE(holds(text_of(fs::path(scene.out()) / "config.json"), "\"bfloat16\""));
  EXPECT_EQ(text_of(fs::path(scene.out()) / "tokenizer.json"),
            text_of(scene.model() / "tokenizer.json"));
}

TEST(Program, SamplesAreNumberedAndDifferAndAreDrawnFromTheLaw) {
  const Scene scene;
  const std::string in = scene.file(
      "in.jsonl", "{\"id\": \"x\", \"tokens\": [5, 6]}\n{\"id\": \"y\", \"text\": \"red a\"}\n");
  const Ended ended =
      run_fst({"generate", "--model", scene.model(), "--prompts", in, "--out", scene.out(),
               "--samples", "4", "--temperature", "1.5", "--max-new-tokens", "500"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const auto lines = lines_of(scene.out());
  ASSERT_EQ(lines.size(), 8U);
  std::vector<json> of_x;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const json line = json::parse(lines[i]);
    EXPECT_EQ(line["id"], i < 4 ? "x" : "y");
    EXPECT_EQ(line["sample"], i % 4);
    EXPECT_EQ(line["tokens"].size(), line["logprobs"].size());
    // 64 positions, of which the prompt has two: the model's end is a length.
    EXPECT_TRUE(line["finish"] == "stop" || i >= 4 || line["tokens"].size() == 62) << lines[i];
    for (const json& token : line["tokens"]) EXPECT_LT(token, 390);  // the tokenizer's vocabulary
    if (i < 4) of_x.push_back(line["tokens"]);
  }
  std::sort(of_x.begin(), of_x.end());
  EXPECT_EQ(std::unique(of_x.begin(), of_x.end()), of_x.end());
}

TEST(Program, AnUnknownChatTemplateIsAcceptedUntilAConversationComes) {
  const Scene scene;
  std::ofstream(scene.model() / "chat_template.jinja") << "{{ messages | length }}";
  const std::string in = scene.file("in.jsonl", R"({"id": "a", "text": "red a b"})");
  const Ended ended =
      run_fst({"tokenize", "--model", scene.model(), "--in", in, "--out", scene.out()});
  EXPECT_EQ(ended.code, 0) << ended.err;
}

TEST(Program, AnOutputIsReplacedWhenTheNewOneIsComplete) {
  const Scene scene;
  scene.file("out", "old");
  const std::string good = R"({"id": "a", "completion": " 7 ", "reference": "7", "more": 1})";
  const std::string bad = scene.file("bad.jsonl", good + "\n{}\n");
  EXPECT_EQ(run_fst({"verify", "--task", "exact", "--in", bad, "--out", scene.out()}).code, 2);
  EXPECT_EQ(text_of(scene.out()), "old");
  const Ended ended = run_fst(
      {"verify", "--task", "exact", "--in", scene.file("in.jsonl", good), "--out", scene.out()});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_TRUE(holds(ended.err, "member \"more\" is ignored")) << ended.err;
  const json line = json::parse(text_of(scene.out()));
  EXPECT_EQ(line["reward"], 1.0);
  EXPECT_EQ(line["status"], "ok");
}

}  // namespace
}  // namespace fst::testing
