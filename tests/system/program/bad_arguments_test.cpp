// Mistakes on the command line and in decks.

#include "bad_case.h"

namespace fst::testing {
namespace {

using Words = std::vector<std::string>;

/// `verb` with good files and these words behind.
std::function<Words(const Scene&)> with(const std::string& verb, const Words& more) {
  return [=](const Scene& scene) {
    const std::string in = scene.file("in.jsonl", R"({"id": "a", "tokens": [1, 2, 3]})");
    Words words = {verb, "--model", scene.model().string()};
    if (verb == "score") words.insert(words.end(), {"--tokens", in, "--out", scene.out()});
    if (verb == "generate") words.insert(words.end(), {"--prompts", in, "--out", scene.out()});
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
}
std::function<Words(const Scene&)> exactly(const Words& words) {
  return [=](const Scene&) { return words; };
}

class BadArguments : public ::testing::TestWithParam<BadCase> {};
TEST_P(BadArguments, AreRefusedBeforeAnyWork) {
  expect_refused(GetParam());
}

const std::vector<BadCase> argument_cases = {
    {"NoVerb", 2, {"usage", "fst run DECK", "fst pretrain DECK"}, exactly({})},
    {"UnknownVerb", 2, {"unknown verb scroe", "nearest: score"}, exactly({"scroe"})},
    {"UnknownOption",
     2,
     {"unknown option --tokns", "nearest: --tokens"},
     exactly({"score", "--tokns", "x"})},
    {"AbbreviatedOption", 2, {"unknown option --mod"}, exactly({"score", "--mod", "x"})},
    {"ShortOption", 2, {"fst score", "one word too many"}, exactly({"score", "-m", "x"})},
    {"OptionTwice", 2, {"--out"}, with("score", {"--out", "elsewhere"})},
    {"OptionWithoutValue", 2, {"--temperature"}, with("score", {"--temperature"})},
    {"ScoreWithoutModel",
     2,
     {"--model is missing"},
     exactly({"score", "--tokens", "x", "--out", "y"})},
    {"ScoreWithoutTokens",
     2,
     {"--tokens is missing"},
     exactly({"score", "--model", "x", "--out", "y"})},
    {"ScoreWithoutOut",
     2,
     {"--out is missing"},
     exactly({"score", "--model", "x", "--tokens", "y"})},
    {"EmptyModel",
     2,
     {"--model is missing"},
     exactly({"score", "--model", "", "--tokens", "x", "--out", "y"})},
    {"OneWordTooMany", 2, {"one word too many"}, with("score", {"extra"})},
    {"CudaDevice", 2, {"there is no GPU 0"}, with("score", {"--device", "cuda"})},
    {"UnknownDevice",
     2,
     {"--device is gpu", "expected one of auto, cpu, cuda"},
     with("score", {"--device", "gpu"})},
    {"DegreeOfMoreRanksThanThereAre",
     2,
     {"--tp 2: does not divide the job's 1 rank", "mpirun -n 2",
      "vocab_size 397 cannot be shared by 2 ranks"},
     with("score", {"--tp", "2"})},
    {"DegreeThatIsNone",
     2,
     {"--tp 3", "expected 1, 2, 4 or 8"},
     with("generate", {"--tp", "3"}),
     {.ranks = 3}},
    {"NoTensorParallel", 2, {"--tp is 0"}, with("score", {"--tp", "0"})},
    {"NoThreads", 2, {"--threads is 0", "from 1 to"}, with("score", {"--threads", "0"})},
    {"NegativeTemperature", 2, {"--temperature is -1"}, with("score", {"--temperature", "-1"})},
    {"ZeroTemperatureOfALaw", 2, {"--temperature is 0"}, with("score", {"--temperature", "0"})},
    {"NanTemperature", 2, {"--temperature is nan"}, with("generate", {"--temperature", "nan"})},
    {"TextAsTemperature",
     2,
     {"--temperature", "warm"},
     with("generate", {"--temperature", "warm"})},
    {"NoSamples", 2, {"--samples is 0"}, with("generate", {"--samples", "0"})},
    {"FractionOfASample", 2, {"--samples", "1.5"}, with("generate", {"--samples", "1.5"})},
    {"TopPOfZero", 2, {"--top-p is 0"}, with("generate", {"--top-p", "0"})},
    {"TopPAboveOne", 2, {"--top-p is 1.1"}, with("generate", {"--top-p", "1.1"})},
    {"NegativeTopK", 2, {"--top-k is -1"}, with("generate", {"--top-k", "-1"})},
    {"NoNewTokens", 2, {"--max-new-tokens is 0"}, with("generate", {"--max-new-tokens", "0"})},
    {"NegativeSeed", 2, {"--seed is -3"}, with("generate", {"--seed", "-3"})},
    {"HugeSeed",
     2,
     {"--seed", "99999999999999999999"},
     with("generate", {"--seed", "99999999999999999999"})},
    {"UnknownTask",
     2,
     {"exat", "exact"},
     [](const Scene& s) {
       return Words{"verify", "--task", "exat", "--in", s.file("in", "{}"), "--out", s.out()};
     }},
    {"VerifyWithoutTask", 2, {"--task is missing"}, exactly({"verify", "--in", "x", "--out", "y"})},
    {"ExportAsHalf",
     2,
     {"--dtype is f16", "expected one of f32, bf16"},
     [](const Scene& s) {
       return Words{"export", "--model", s.model().string(), "--out", s.out(), "--dtype", "f16"};
     }},
    {"ExportOntoTheModel",
     2,
     {"holds files already"},
     [](const Scene& s) {
       return Words{"export", "--model", s.model().string(), "--out", s.model().string()};
     }},
    {"ExportIntoNowhere",
     2,
     {"does not exist"},
     [](const Scene& s) {
       return Words{"export", "--model", s.model().string(), "--out", s.path("no/where")};
     }},
    {"RunWithoutDeck", 2, {"expected a DECK"}, exactly({"run"})},
    {"PretrainWithoutDeck", 2, {"expected a DECK"}, exactly({"pretrain", "--run.seed=3"})},
    {"EvalOfAMissingDeck", 2, {"no such file"}, exactly({"eval", "no/such.cfg"})},
    {"UnknownOptionOfRun",
     2,
     {"unknown option --resum", "--resume"},
     exactly({"run", "deck.cfg", "--resum", "auto"})},
    {"ResumeFromNothing",
     2,
     {"--resume gone.h5", "none, auto or a checkpoint"},
     [](const Scene& s) {
       return Words{"run", s.file("deck.cfg", ""), "--resume", "gone.h5"};
     }},
    {"RunWithoutOutput",
     2,
     {"run.output"},
     [](const Scene& s) {
       return Words{"run", s.file("deck.cfg", "[model]\npolicy = model\n")};
     }},
    {"RunWithoutPolicy",
     2,
     {"model.policy"},
     [](const Scene& s) {
       return Words{"run", s.file("deck.cfg", "[run]\noutput = out\n")};
     }},
    {"RunOfMoreRanksThanThereAre",
     2,
     {"but the job has 1 ranks"},
     [](const Scene& s) {
       return Words{"run", s.file("deck.cfg",
                                  "[run]\noutput = out\n[model]\npolicy = model\n"
                                  "[ranks]\nrollout = 2\nreflection = 1\nlearner = 1\n")};
     }},
    {"InfoOfNothing", 2, {"expected a FILE"}, exactly({"info"})},
    {"InfoOfAMissingFile", 2, {"no such file"}, exactly({"info", "no/such.h5"})},
    {"InfoOfAFolder",
     2,
     {"a folder"},
     [](const Scene& s) {
       return Words{"info", s.model().string()};
     }},
    {"InfoOfAText",
     2,
     {"in.txt"},
     [](const Scene& s) {
       return Words{"info", s.file("in.txt", "hello")};
     }},
    {"UnknownDigest",
     2,
     {"--digest is half"},
     [](const Scene& s) {
       return Words{"info", s.file("x", "y"), "--digest=half"};
     }},
};
INSTANTIATE_TEST_SUITE_P(CommandLine, BadArguments, ::testing::ValuesIn(argument_cases),
                         name_of_case);

/// `fst check` of a deck with this text.
std::function<Words(const Scene&)> check(const std::string& text, const Words& more = {}) {
  return [=](const Scene& scene) {
    Words words = {"check", scene.file("deck.cfg", text)};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
}

const std::vector<BadCase> deck_cases = {
    {"NoDeck", 2, {"expected a DECK"}, exactly({"check"})},
    {"MissingDeck", 2, {"no/such.cfg", "no such file"}, exactly({"check", "no/such.cfg"})},
    {"FolderAsDeck",
     2,
     {"a folder"},
     [](const Scene& s) {
       return Words{"check", s.model().string()};
     }},
    {"UnknownKey", 2, {"deck.cfg:2", "run.stepz", "run.steps"}, check("[run]\nstepz = 3\n")},
    {"ValueOutOfRange",
     2,
     {"deck.cfg:3", "optim.beta1", "expected a number"},
     check("\n[optim]\nbeta1 = 2\n")},
    {"TextForANumber", 2, {"run.steps = many", "an integer"}, check("[run]\nsteps = many\n")},
    {"UnknownMethod", 2, {"run.method = ftt", "nearest: fst"}, check("[run]\nmethod = ftt\n")},
    {"KeyTwice",
     2,
     {"deck.cfg:3", "set again", "deck.cfg:2"},
     check("[run]\nsteps = 3\nsteps = 4\n")},
    {"LineWithoutEquals", 2, {"deck.cfg:2", "expected `key = value`"}, check("[run]\nsteps 3\n")},
    {"BinaryDeck", 2, {"not a text file"}, check(std::string("[run]\0x", 7))},
    {"UnknownOverride", 2, {"command line", "run.sseed", "run.seed"}, check("", {"--run.sseed=3"})},
    {"OverrideWithoutValue", 2, {"--run.seed"}, check("", {"--run.seed"})},
    {"GroupThatDoesNotSplit",
     2,
     {"train.group_size", "cannot be split evenly"},
     check("[train]\ngroup_size = 7\n[evolve]\nprompts = 4\n")},
    {"AllMistakesAtOnce",
     2,
     {"2 mistakes", "deck.cfg:2", "deck.cfg:3"},
     check("[run]\nsteps = -1\nseeds = 2\n")},
    {"LagWithoutRatios",
     2,
     {"deck.cfg:2", "rollout.max_lag", "has no ratio", "cispo"},
     check("[rollout]\nmax_lag = 1\n[train]\nloss = reinforce\n")},
    {"LagOfTwo", 2, {"deck.cfg:2", "rollout.max_lag = 2"}, check("[rollout]\nmax_lag = 2\n")},
    {"RolloutAbsent", 2, {"ranks.rollout"}, check("[ranks]\nlearner = 2\nreflection = 1\n")},
    {"MissingPolicy",
     2,
     {"nowhere", "neither a model folder nor a checkpoint"},
     check("[model]\npolicy = nowhere\n")},
    {"UnknownVariant", 2, {"task.variant", "no variant D"}, check("[task]\nvariant = D\n")},
    {"MissingProblems",
     2,
     {"none.jsonl"},
     [](const Scene& s) {
       return Words{"check", s.file("deck.cfg",
                                    "[model]\npolicy = model\n[task]\nname = jsonl\n"
                                    "train = none.jsonl\ntest = none.jsonl\n")};
     }},
    {"BadProblemLine",
     2,
     {"problems.jsonl:2"},
     [](const Scene& s) {
       s.file(
           "problems.jsonl",
           "{\"question\": \"1+1\", \"answer\": \"2\", \"split\": \"train\"}\n{\"question\": 3}\n");
       return Words{"check", s.file("deck.cfg",
                                    "[model]\npolicy = model\n[task]\nname = jsonl\n"
                                    "train = problems.jsonl\ntest = problems.jsonl\n")};
     }},
    {"MissingSeedPrompt",
     2,
     {"prompt.txt"},
     check("[model]\npolicy = model\n[task]\nseed_prompt = prompt.txt\n")},
    {"DegreeThatDividesNoModel",
     2,
     {"deck.cfg:2", "learner.tp is 3; expected 1, 2, 4 or 8"},
     check("[learner]\ntp = 3\n")},
    {"DegreeThatDoesNotDivideTheRanks",
     2,
     {"deck.cfg:6", "learner.tp = 2 does not divide the 3 learner ranks"},
     check("[ranks]\nrollout = 1\nreflection = 1\nlearner = 3\n[learner]\ntp = 2\n")},
    {"DegreeThatDoesNotDivideTheModel",
     2,
     {"rollout.tp = 4: ", "num_key_value_heads 2 cannot be shared by 4 ranks; the nearest",
      "vocab_size 397"},
     check("[model]\npolicy = model\n[rollout]\ntp = 4\n")},
    {"DegreeThatDoesNotDivideTheReflectionModel",
     2,
     {"reflection.tp = 2: ", "vocab_size 397"},
     check("[model]\npolicy = model\n[reflection]\ntp = 2\n")},
    {"MoreReplicasThanLeaves",
     2,
     {"deck.cfg:6", "learner.gradient_leaves = 2", "4 learner ranks with learner.tp = 1",
      "4 replicas"},
     check("[ranks]\nrollout = 1\nreflection = 1\nlearner = 4\n[learner]\ngradient_leaves = 2\n")},
    {"MoreColocatedReplicasThanLeaves",
     2,
     {"learner.gradient_leaves = 8", "9 replicas"},
     check("", {"--ranks", "9"})},
    {"NcclOnTheCpu",
     2,
     {"engine.exchange: nccl moves tensors between GPUs, but engine.device = cpu"},
     check("[engine]\ndevice = cpu\nexchange = nccl\n")},
    {"InexactSumsInF32OnTheCpu",
     2,
     {"engine.exact: off is for engine.dtype = bf16", "off is for GPUs, but engine.device = cpu"},
     check("[engine]\ndevice = cpu\nexact = off\n")},
    {"CertifiedProductsInF32",
     2,
     {"engine.products: certified is for engine.dtype = bf16 on a GPU"},
     check("[engine]\nproducts = certified\n")},
    {"RolesThatDoNotAddUp",
     2,
     {"2 + 1 + 1 = 4, but the job has 5 ranks"},
     check("[ranks]\nrollout = 2\nreflection = 1\nlearner = 1\n", {"--ranks", "5"})},
    {"ColocatedRanksThatADegreeDoesNotDivide",
     2,
     {"reflection.tp = 2 does not divide the 3 reflection ranks"},
     check("[reflection]\ntp = 2\n", {"--ranks", "3"})},
    {"MoreMemoryThanIsAllowed",
     2,
     {"engine.memory_mib allows 3.0 MiB, but every rank needs", "for what a micro-batch works on"},
     check("[model]\npolicy = model\n[engine]\nmemory_mib = 3\n")},
    {"MoreMemoryThanALearnerMayHave",
     2,
     {"engine.memory_mib allows 4.0 MiB, but a learner rank needs", "larger tp or more learners"},
     check("[model]\npolicy = model\n[engine]\nmemory_mib = 4\n[ranks]\nrollout = 1\n"
           "reflection = 1\nlearner = 1\n")},
    {"PretrainingByDegrees",
     2,
     {"learner.tp: fst pretrain shares no model"},
     [](const Scene& s) {
       return Words{"pretrain", s.file("deck.cfg", "[run]\noutput = out\n[learner]\ntp = 2\n")};
     }},
    {"RunThatDoesNotFitItsMemory",
     2,
     {"engine.memory_mib allows 3.0 MiB, but every rank needs"},
     [](const Scene& s) {
       return Words{"run", s.file("deck.cfg", "[run]\noutput = out\n[model]\npolicy = model\n"),
                    "--engine.memory_mib=3"};
     }},
};
INSTANTIATE_TEST_SUITE_P(Decks, BadArguments, ::testing::ValuesIn(deck_cases), name_of_case);

}  // namespace
}  // namespace fst::testing
