#!/usr/bin/env python3
"""The formulas of analysis/scaling_volumes.py against the bytes that real runs count. FST names the binary."""
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import synthetic  # noqa: F401  puts analysis/ on the path
import fst_store
import scaling_sizes
import scaling_volumes as volumes

ROOT = fst_store.SOURCE
FST = os.environ["FST"]
STEPS, PROBLEMS, GROUP, LEAVES = 4, 5, 4, 8
KEYS = {"run.steps": STEPS, "run.save_every": 2, "train.steps_per_cycle": 2, "train.problems_per_step": PROBLEMS,
        "train.group_size": GROUP, "evolve.prompts": 2, "evolve.anchors": 6, "evolve.max_metric_calls": 24,
        "eval.every": 0, "task.name": "jsonl", "task.verifier": "letter", "rollout.max_new_tokens": 7,
        "reflection.layout": ROOT / "input/reflection/world.txt"}  # short: the model has 512 positions
SPLIT = {"ranks.rollout": 1, "ranks.reflection": 1, "ranks.learner": 2}
LETTERS = {f"Which letter has number {i}?": "ABCD"[i % 4] for i in range(9)}
SIZES = scaling_sizes.from_config(json.loads((ROOT / "input/tiny/config.json").read_text()))
ELEMENTS = scaling_sizes.parameters(SIZES)
# What has no formula (deck, problem files, checkpoints, evidence, stop requests) in all: bytes of a run.
MOST_OTHER = 100_000
# Of a unit: gathered log-sum-exps, log-probabilities and entropies, 14 numbers an entry, and norms of heads.
MOST_OTHER_OF_UNITS = 0.01  # of its bytes
# One prompt a step, which all samples share; the KL term of groups without variance keeps every sequence.
ONE_PROMPT = {"run.method": "rl", "train.problems_per_step": 1, "kl.dead_groups": "true"}
BY_TWO = {"rollout.tp": 2, "learner.tp": 2, "learner.micro_batch": 1}


def run_program(*arguments, launcher=()):
    done = subprocess.run([*launcher, FST, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{done.args}: exit code {done.returncode}\n{done.stderr}")


class Run:
    """A finished run: its counted traffic and the rollouts that it recorded."""

    def __init__(self, folder, ranks, keys):
        self.folder, self.ranks = folder, ranks
        lines = [json.dumps({"question": question, "answer": answer}) + "\n"
                 for question, answer in LETTERS.items()]
        (folder / "train.jsonl").write_text("".join(lines[1:]))
        (folder / "test.jsonl").write_text(lines[0])
        paths = {"run.output": folder / "run", "task.train": folder / "train.jsonl",
                 "task.test": folder / "test.jsonl"}
        run_program("run", ROOT / "input/quickstart.cfg", "--traffic", folder / "traffic.json",
                    *(f"--{key}={value}" for key, value in {**KEYS, **paths, **keys}.items()),
                    launcher=["mpirun", "-n", str(ranks)])
        self.table = json.loads((folder / "traffic.json").read_text())
        self.rollouts = fst_store.Run(folder / "run").rows("rollout")
        for rollout, text, feedback in zip(self.rollouts, self.texts(), self.feedback()):
            rollout["bytes"] = volumes.trajectory(len(rollout["prompt_tokens"]), len(rollout["tokens"]),
                                                  len(text.encode()), len(feedback.encode()))

    def counted(self, what, communicator, field="received"):
        """Over all ranks; calls: of one rank, they are the same on every one."""
        rows = [row for row in self.table["traffic"] if (row["what"], row["communicator"]) == (what, communicator)]
        if field == "calls":
            return max((row["calls"] for row in rows), default=0)
        return sum(row[field] for row in rows)

    def names(self):
        return {(row["what"], row["communicator"]) for row in self.table["traffic"]}

    def texts(self):
        """The completions without special tokens, as messages carry them."""
        added = json.loads((ROOT / "input/tiny/tokenizer.json").read_text())["added_tokens"]
        special = {token["id"] for token in added if token["special"]}
        with open(self.folder / "tokens.jsonl", "w") as file:
            for i, rollout in enumerate(self.rollouts):
                tokens = [int(token) for token in rollout["tokens"] if token not in special]
                file.write(json.dumps({"id": str(i), "tokens": tokens}) + "\n")
        run_program("tokenize", "--model", ROOT / "input/tiny", "--in", self.folder / "tokens.jsonl", "--out",
                    self.folder / "texts.jsonl")
        return [json.loads(line)["text"] for line in (self.folder / "texts.jsonl").read_text().splitlines()]

    def feedback(self):
        """The verdicts' words: the model was not taught to answer in tags, so they name the right letter."""
        prompts = [self.detokenized(rollout["prompt_tokens"]) for rollout in self.rollouts]
        return [next("No single option letter was found in <answer> tags. The right letter is " + letter + "."
                     for question, letter in LETTERS.items() if question in prompt) for prompt in prompts]

    def detokenized(self, tokens):
        if not hasattr(self, "pieces"):
            vocabulary = json.loads((ROOT / "input/tiny/tokenizer.json").read_text())["model"]["vocab"]
            self.pieces = {number: piece.replace("Ġ", " ") for piece, number in vocabulary.items()}
        return "".join(self.pieces.get(int(token), "") for token in tokens)

    def trained(self):
        """The rollouts of training steps, each with its problem's place in the step."""
        rows = [row for row in self.rollouts if row["phase"] == "train"]
        return [(row, i // GROUP % PROBLEMS) for i, row in enumerate(rows)]


def learner_of(problem, learners):
    """The learner that holds a problem's gradient leaf."""
    def groups(rank):
        first, last = volumes.part_of(LEAVES, learners, rank)
        return range(volumes.part_of(PROBLEMS, LEAVES, first)[0], volumes.part_of(PROBLEMS, LEAVES, last - 1)[1])
    return next(rank for rank in range(learners) if problem in groups(rank))


class Traffic(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        cls.runs = {}
        for name, (ranks, keys) in {"split": (4, SPLIT), "two": (2, {}), "three": (3, {})}.items():
            folder = pathlib.Path(temporary.name) / name
            folder.mkdir()
            cls.runs[name] = Run(folder, ranks, keys)

    def expect(self, run, expected, communicator):
        for what, count in expected.items():
            self.assertEqual(run.counted(what, communicator), count, (what, communicator))

    def test_what_one_rank_sends_others_receive(self):
        for run in self.runs.values():
            for what, communicator in run.names():
                self.assertEqual(run.counted(what, communicator, "sent"), run.counted(what, communicator), what)

    def test_gradients_and_weights_among_the_learners(self):
        for name, learners in {"split": 2, "two": 2, "three": 3}.items():
            run = self.runs[name]
            self.expect(run, {"gradient leaves": STEPS * volumes.gradient_leaves(ELEMENTS, LEAVES, learners),
                              "updated weights": STEPS * volumes.updated_weights(ELEMENTS, learners)},
                        "learner across")
            for what, count in volumes.learner_sums(learners).items():
                # Norms are counted once over all learners; the ranks of a unit know the same tokens.
                members = "learner" if what == "gradient norm" else "learner across"
                self.expect(run, {what: STEPS * count}, members)
            self.expect(run, {"step statistics": STEPS * volumes.STATISTICS * (run.ranks - 1)}, "all")

    def test_weights_reach_the_rollout_ranks_only_where_roles_are_apart(self):
        self.expect(self.runs["split"], {"policy weights": STEPS * volumes.policy_weights(ELEMENTS, 1)},
                    "policy copies")
        for name in ("two", "three"):
            self.assertNotIn("policy weights", {what for what, _ in self.runs[name].names()})

    def test_every_rank_learns_the_outcome_of_every_request(self):
        for run in self.runs.values():
            calls = run.counted("rewards", "all", "calls")
            self.assertGreater(calls, STEPS)
            self.expect(run, {"rewards": volumes.rewards(len(run.rollouts), run.ranks, calls)}, "all")

    def test_trajectories_go_to_the_learner_of_their_problem(self):
        for name, run in self.runs.items():
            trained = run.trained()
            self.assertEqual(len(trained), STEPS * PROBLEMS * GROUP)
            # Where every rank has every role, problem p is sampled by rank p mod n.
            moved = sum(row["bytes"] for row, problem in trained
                        if name == "split" or problem % run.ranks != learner_of(problem, run.ranks))
            self.assertGreater(moved, 0)
            self.expect(run, {"trajectories for the learners": volumes.routed(moved, run.ranks, STEPS)}, "all")

    def test_the_history_costs_nothing_where_rank_0_samples_alone(self):
        run = self.runs["split"]
        calls = run.counted("trajectories for the history", "all", "calls")
        self.expect(run, {"trajectories for the history": volumes.routed(0, run.ranks, calls)}, "all")

    def test_what_has_no_formula_is_small(self):
        known = {"gradient leaves", "updated weights", "policy weights", "rewards", "trajectories for the learners",
                 "trajectories for the history", "step statistics", *volumes.learner_sums(2)}
        for name, run in self.runs.items():
            other = {pair: run.counted(*pair) for pair in run.names() if pair[0] not in known}
            self.assertLess(sum(other.values()), MOST_OTHER, (name, other))

    def test_a_file_that_cannot_be_written_is_refused_before_any_work(self):
        done = subprocess.run([FST, "run", ROOT / "input/quickstart.cfg", f"--run.output={self.runs['two'].folder}/new",
                               "--traffic", "/nowhere/traffic.json"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("/nowhere/traffic.json: its folder /nowhere does not exist", done.stderr)

    def test_a_rank_alone_moves_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            alone = Run(pathlib.Path(folder), 1, {"run.steps": 1, "run.method": "rl"})
            self.assertEqual(alone.table["traffic"], [])
            self.assertEqual(alone.table["ranks"], 1)


class HalfTraffic(unittest.TestCase):
    """engine.dtype = bf16: weights travel in bfloat16, gradients in float32."""

    def test_weights_travel_at_half_the_size_and_gradients_at_the_same(self):
        keys = {**ONE_PROMPT, "engine.dtype": "bf16", "ranks.rollout": 1, "ranks.learner": 3}
        with tempfile.TemporaryDirectory() as folder:
            run = Run(pathlib.Path(folder), 4, keys)
        self.assertEqual(run.counted("gradient leaves", "learner across"),
                         STEPS * volumes.gradient_leaves(ELEMENTS, LEAVES, 3))
        self.assertEqual(run.counted("updated weights", "learner across"),
                         STEPS * volumes.updated_weights(ELEMENTS, 3, volumes.BF16))
        self.assertEqual(run.counted("policy weights", "policy copies"),
                         STEPS * volumes.policy_weights(ELEMENTS, 1, volumes.BF16))


class UnitTraffic(unittest.TestCase):
    """Ranks that share a model: together (colocated, one model for both roles) and apart."""
    UNITS = ("unit", "rollout unit", "learner unit")

    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        cls.runs = {}
        apart = {"ranks.rollout": 2, "ranks.learner": 2}
        for name, (ranks, keys) in {"together": (2, {}), "apart": (4, apart)}.items():
            folder = pathlib.Path(temporary.name) / name
            folder.mkdir()
            cls.runs[name] = Run(folder, ranks, {**ONE_PROMPT, **BY_TWO, **keys})

    @staticmethod
    def work(run):
        """Tokens that go through the model for sampling, and for learning; tokens drawn."""
        rows = [row for row, _ in run.trained()]
        assert len(rows) == len(run.rollouts) == STEPS * GROUP
        prompts, drawn = sum(len(row["prompt_tokens"]) for row in rows), sum(len(row["tokens"]) for row in rows)
        # A step's prompt is computed once, the last token drawn is not read again.
        return prompts // GROUP + drawn - len(rows), prompts + drawn, drawn

    def expected(self, run):
        """By unit: a step's sampling; the forward passes of the policy and of the base, one backward pass."""
        sampled, learnt, drawn = self.work(run)
        sampling = {**volumes.unit_forward(SIZES, sampled, 2), "logits": volumes.unit_logits(SIZES, drawn, 2)}
        forwards = {what: 2 * count for what, count in volumes.unit_forward(SIZES, learnt, 2).items()}
        return sampling, {**forwards, **volumes.unit_backward(SIZES, learnt, drawn, 2)}

    def test_a_unit_of_samplers_moves_activations_and_logits(self):
        sampling, _ = self.expected(self.runs["apart"])
        for what, count in sampling.items():
            self.assertEqual(self.runs["apart"].counted(what, "rollout unit"), count, what)

    def test_a_unit_of_learners_moves_activations_and_gradients(self):
        _, learning = self.expected(self.runs["apart"])
        for what, count in learning.items():
            self.assertEqual(self.runs["apart"].counted(what, "learner unit"), count, what)

    def test_where_roles_share_ranks_their_units_move_the_same_together(self):
        run = self.runs["together"]
        sampling, learning = self.expected(run)
        for what in {*sampling, *learning}:
            counted = sum(run.counted(what, unit) for unit in self.UNITS)
            self.assertEqual(counted, sampling.get(what, 0) + learning.get(what, 0), what)

    def test_what_has_no_formula_is_small_in_a_unit(self):
        for name, run in self.runs.items():
            known = {what for part in self.expected(run) for what in part}
            moved = {pair: run.counted(*pair) for pair in run.names() if pair[1] in self.UNITS}
            other = sum(count for (what, _), count in moved.items() if what not in known)
            self.assertLess(other, MOST_OTHER_OF_UNITS * sum(moved.values()), name)

    def test_units_exchange_weights_shard_by_shard(self):
        run = self.runs["apart"]
        norms = ELEMENTS - scaling_sizes.linear(SIZES) - SIZES.vocab * SIZES.hidden  # every rank has all of them
        self.assertEqual(run.counted("policy weights", "policy copies"),
                         STEPS * volumes.policy_weights(ELEMENTS + norms, 1))


if __name__ == "__main__":
    unittest.main(verbosity=2)
