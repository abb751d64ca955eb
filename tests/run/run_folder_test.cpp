#include "fst/run/run_folder.h"

#include "fst/base/error.h"

#include "run_fixture.h"
#include "temporary_folder.h"

namespace fst {
namespace {

/// What a job says that is refused; "" where it begins.
std::string refusal(const RunConfig& config, const Resume& resume) {
  World world = World::alone();
  try {
    const Run run(world, config, resume);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(RunFolder, IsRefusedBeforeAnyModelIsRead) {
  const testing::TemporaryFolder folder;
  RunConfig config = test::small_config(folder.path() / "run");
  test::execute(config);
  const Resume automatic{ResumeMode::automatic, ""};
  const Resume named{ResumeMode::file, (folder.path() / "run/checkpoint-3.h5").string()};
  EXPECT_EQ(refusal(config, automatic), "");
  config.model.policy = "/nowhere";
  EXPECT_NE(refusal(config, {}).find("holds a run already"), std::string::npos);
  EXPECT_NE(refusal(config, automatic).find("/nowhere"), std::string::npos);
  config.optim.lr = 2e-3;
  for (const Resume& resume : {automatic, named}) {
    EXPECT_NE(refusal(config, resume).find("this checkpoint belongs to another deck"),
              std::string::npos);
  }
}

TEST(RunFolder, IsMadeLateAndFreeForTheNextJob) {
  const testing::TemporaryFolder folder;
  const RunConfig config = test::small_config(folder.path() / "run");
  const World world = World::alone();
  {
    RunFolder entered = enter_folder(world, config, {ResumeMode::automatic, ""});
    EXPECT_FALSE(std::filesystem::exists(config.run.output)) << "nothing is refused yet";
    EXPECT_FALSE(entered.lock);
    make_folder(entered, world, config);
    EXPECT_TRUE(entered.lock);
    EXPECT_FALSE(entered.from);
    EXPECT_THROW(RunLock(config.run.output, 0.1), Error);
  }
  EXPECT_NO_THROW(RunLock(config.run.output, 0.1));
  EXPECT_TRUE(enter_folder(world, config, {}).lock);
}

TEST(RunFolder, OfAQuickerJobIsLeftToIt) {
  const testing::TemporaryFolder folder;
  const RunConfig config = test::small_config(folder.path() / "run");
  const World world = World::alone();
  RunFolder late = enter_folder(world, config, {});
  test::execute(config);
  EXPECT_THROW(make_folder(late, world, config), InputError);
}

}  // namespace
}  // namespace fst
