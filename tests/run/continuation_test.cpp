// What a resumed run may have other than the run it goes on with, and what it is told otherwise.
#include "fst/run/continuation.h"

#include <algorithm>
#include <filesystem>
#include <sys/resource.h>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/store/checkpoint_file.h"

#include "changed_keys.h"
#include "run_fixture.h"
#include "support/temporary_folder.h"

namespace fst {
namespace {

namespace fs = std::filesystem;
using test::execute;
using test::small_config;

template <class Work>
std::string refusal(const Work& work) {
  try {
    work();
  } catch (const InputError& error) {
    return error.what();
  }
  ADD_FAILURE() << "accepted";
  return "";
}

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(Continuation, EveryKeyThatDecidesABitIsRefusedByName) {
  const RunConfig then;
  const RunConfig now = parse_deck("/decks/some.cfg", "", test::every_key_changed()).config;
  const std::string message = refusal([&] { expect_same_deck(now, then, "some.h5"); });
  const auto ours = keys_of(now), theirs = keys_of(then);
  std::size_t refused = 0, free = 0;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    const bool changed = ours[i].text != theirs[i].text;
    const bool fixed = changed && !may_change_on_resume(ours[i].name);
    EXPECT_EQ(holds(message, "\n  " + ours[i].name + " = " + ours[i].text + ", but"), fixed)
        << ours[i].name;
    (fixed ? refused : free) += changed ? 1 : 0;
  }
  EXPECT_GT(refused, 60u);
  EXPECT_GT(free, 40u);
  EXPECT_TRUE(message.starts_with("some.h5: ")) << message;
}

TEST(Continuation, LayoutLimitsAndPathsMayChange) {
  for (const char* key :
       {"run.steps",         "run.output",      "run.time_limit",   "run.save_every",
        "run.keep_every",    "ranks.rollout",   "ranks.reflection", "ranks.learner",
        "rollout.tp",        "learner.tp",      "reflection.tp",    "engine.threads",
        "engine.exchange",   "engine.products", "engine.graphs",    "learner.micro_batch",
        "rollout.max_batch", "rollout.kv_mib",  "model.policy",     "model.base",
        "task.train"}) {
    EXPECT_TRUE(may_change_on_resume(key)) << key;
  }
  for (const char* key :
       {"run.method", "run.seed", "run.rollout_rows_mib", "rollout.max_lag", "rollout.temperature",
        "learner.gradient_leaves", "engine.dtype", "engine.exact", "train.group_size", "optim.lr",
        "eval.every", "task.name", "cispo.tau", "kl.coef", "evolve.anchors"}) {
    EXPECT_FALSE(may_change_on_resume(key)) << key;
  }
}

/// A short run to be resumed, and a copy of its model to be changed.
class Resumed : public ::testing::Test {
 protected:
  Resumed() {
    fs::copy(std::string(FST_SOURCE_DIR) + "/input/tiny", model_, fs::copy_options::recursive);
    config_.run.steps = 1;
    config_.model.policy = model_.string();
  }
  void resume() { execute(config_, {.mode = ResumeMode::automatic, .file = {}}); }

  const testing::TemporaryFolder folder_;
  const fs::path model_ = folder_.path() / "model";
  RunConfig config_ = small_config(folder_.path() / "run");
};

/// The folder with one weight changed.
void change_a_weight(const fs::path& folder) {
  const fs::path file = folder / "model.safetensors";
  fs::permissions(file, fs::perms::owner_write, fs::perm_options::add);
  std::FILE* stream = std::fopen(file.c_str(), "r+b");
  ASSERT_NE(stream, nullptr);
  ASSERT_EQ(std::fseek(stream, -2, SEEK_END), 0);
  ASSERT_EQ(std::fputc(0x01, stream), 0x01);
  ASSERT_EQ(std::fclose(stream), 0);
}

TEST_F(Resumed, TheSameFilesElsewhereAreTheSame) {
  execute(config_);
  fs::rename(model_, folder_.path() / "moved");
  config_.model.policy = (folder_.path() / "moved").string();
  config_.run.steps = 2;
  resume();
  EXPECT_TRUE(fs::exists(folder_.path() / "run/checkpoint-2.h5"));
}

TEST_F(Resumed, AnotherBaseOrReflectionModelIsRefusedByName) {
  const fs::path other = folder_.path() / "other";
  fs::copy(model_, other, fs::copy_options::recursive);
  change_a_weight(other);
  execute(config_);
  const RunConfig good = config_;
  config_.model.base = other.string();
  EXPECT_TRUE(holds(refusal([&] { resume(); }), "model.base: not the model this run began with"));
  config_ = good;
  config_.model.reflection = other.string();
  EXPECT_TRUE(
      holds(refusal([&] { resume(); }), "model.reflection: not the model this run began with"));
  config_ = good;
  resume();
}

TEST_F(Resumed, AnotherTokenizerUnderTheSameWeightsIsRefusedByName) {
  execute(config_);
  folder_.write("model/generation_config.json", "{\"eos_token_id\": 3}");
  const std::string message = refusal([&] { resume(); });
  EXPECT_TRUE(holds(message, "\n  model.policy: generation_config.json: ")) << message;
  EXPECT_TRUE(holds(message, "\n  model.reflection: generation_config.json: ")) << message;
}

TEST_F(Resumed, OtherProblemsUnderTheSameNameAreRefused) {
  const auto problems = [](const std::string& words, const std::string& answer) {
    std::string lines;
    for (int i = 0; i < 9; ++i) {
      lines += "{\"id\": \"" + words + std::to_string(i) + "\", \"question\": \"" + words + " " +
               std::to_string(i) + "\", \"answer\": \"" + answer + "\"}\n";
    }
    return lines;
  };
  config_.run.method = Method::rl;
  config_.task.name = "jsonl";
  config_.task.train = folder_.write("train.jsonl", problems("train", "a")).string();
  config_.task.test = folder_.write("test.jsonl", problems("test", "b")).string();
  config_.task.seed_prompt = folder_.write("seed.txt", "rules").string();
  execute(config_);
  folder_.write("train.jsonl", problems("train", "c"));
  config_.task.seed_prompt.clear();
  const std::string message = refusal([&] { resume(); });
  EXPECT_TRUE(holds(message, "\n  task.train: its content is another one")) << message;
  EXPECT_TRUE(holds(message, "\n  task.seed_prompt: the run began with one")) << message;
  EXPECT_FALSE(holds(message, "task.test")) << message;
}

TEST_F(Resumed, ACheckpointOfAnotherDeckIsRefusedBeforeAnythingChanges) {
  execute(config_);
  const auto before = test::checkpoint_digests(folder_.path() / "run", 1);
  config_.optim.lr *= 2;
  config_.run.steps = 2;
  EXPECT_TRUE(holds(refusal([&] { resume(); }), "optim.lr = 0.002, but the run has 0.001"));
  EXPECT_EQ(test::checkpoint_digests(folder_.path() / "run", 1), before);
  EXPECT_FALSE(fs::exists(folder_.path() / "run/checkpoint-2.h5"));
}

TEST_F(Resumed, TheNewestTwoCheckpointsAndTheMilestonesAreKept) {
  config_.run.steps = 7;
  config_.run.save_every = 1;
  config_.run.keep_every = 3;
  config_.run.method = Method::rl;
  execute(config_);
  std::vector<std::string> names;
  for (const auto& id : list_checkpoints(folder_.path() / "run")) names.push_back(file_name(id));
  EXPECT_EQ(names,
            (std::vector<std::string>{"checkpoint-7.h5", "checkpoint-6.h5", "checkpoint-3.h5"}));
}

TEST_F(Resumed, WithoutRoomForACheckpointThePreviousOneStays) {
  execute(config_);
  const auto before = test::checkpoint_digests(folder_.path() / "run", 1);
  config_.run.steps = 2;
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  rlimit small = limit;
  small.rlim_cur = fs::file_size(folder_.path() / "run/checkpoint-1.h5");  // no room to spare
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  std::string message;
  try {
    resume();
  } catch (const Error& error) {
    message = error.what();
  }
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  EXPECT_TRUE(holds(message, "bytes needed")) << message;
  EXPECT_FALSE(fs::exists(folder_.path() / "run/checkpoint-2.h5"));
  for (const auto& entry : fs::directory_iterator(folder_.path() / "run")) {
    EXPECT_FALSE(holds(entry.path().filename().string(), "tmp")) << entry.path();
  }
  EXPECT_EQ(test::checkpoint_digests(folder_.path() / "run", 1), before);
}

}  // namespace
}  // namespace fst
