"""The history and the weights are the same, bit for bit, however the work is laid out."""
import json
import os
import shutil
import subprocess
import unittest

import job

# Two cycles with rounds, steps, evaluations, KL and checkpoints, in a second or two on one rank.
# With the entropy bonus every group moves the weights, whatever its rewards.
TINY = {"run.steps": 4, "train.steps_per_cycle": 2, "train.problems_per_step": 5,
        "train.group_size": 4, "evolve.prompts": 2, "evolve.anchors": 6,
        "evolve.max_metric_calls": 18, "evolve.proposals": 2, "eval.every": 2, "eval.problems": 4,
        "train.entropy": 0.01, "train.zero_variance_filter": "false", "rollout.max_new_tokens": 6,
        "run.deadline": 120}
# Two cycles of one step each: enough of every part of the job in another arithmetic.
BRIEF = {"engine.dtype": "bf16", "run.steps": 2, "train.steps_per_cycle": 1}


def tp(rollout, reflection, learner):
    return {"rollout.tp": rollout, "reflection.tp": reflection, "learner.tp": learner}


class Layouts(job.JobTest):
    keys = TINY

    def expect_same(self, variants, common=None):
        common = {**self.keys, **(common or {})}
        self.run_job("plain", common)
        expected = self.digests("plain")
        for name, (ranks, keys, environment) in variants.items():
            with self.subTest(name):
                self.run_job(name, {**common, **keys}, ranks=ranks, environment=environment)
                self.assertEqual(self.digests(name), expected)
        return expected

    def eight_heads(self):
        """A small random model with eight KV heads: what degrees 4 and 8 divide."""
        config = json.loads((job.ROOT / "input/tiny/config.json").read_text())
        config.update(hidden_size=48, num_hidden_layers=2, num_attention_heads=8,
                      num_key_value_heads=8, head_dim=8, intermediate_size=64)
        (self.folder / "config.json").write_text(json.dumps(config))
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(job.ROOT / "input/tiny" / name, self.folder / name)
        (self.folder / "pretrain.cfg").write_text(
            "[run]\noutput = made\n[learner]\nmicro_batch = 8\n[pretrain]\nsource = world\n"
            "config = config.json\ntokenizer = .\nsteps = 1\nprobe_every = 0\n")
        subprocess.run([job.FST, "pretrain", str(self.folder / "pretrain.cfg")], check=True,
                       capture_output=True)
        return {"model.policy": self.folder / "made/model"}

    def test_ranks_change_no_bit(self):
        self.expect_same({"colocated on 2": (2, {}, {}),
                          "colocated on 3": (3, {}, {}),
                          "colocated on 4": (4, {"learner.micro_batch": 1}, {}),
                          "colocated on 8": (8, {}, {}),
                          "split 1+1+1": (3, job.split(1, 1, 1), {}),
                          "split 2+1+1": (4, {**job.split(2, 1, 1), "engine.threads": 2}, {}),
                          "split 3+1+2": (6, {**job.split(3, 1, 2), "learner.micro_batch": 8}, {}),
                          "split 4+2+2": (8, job.split(4, 2, 2), {})})

    def test_degrees_change_no_bit(self):
        """Colocated and apart, alike and mixed; the embedded model has two KV heads."""
        self.expect_same({"all by 2": (2, {**tp(2, 2, 2), "learner.micro_batch": 1}, {}),
                          "learner by 2": (2, tp(1, 1, 2), {}),
                          "DP 2 x TP 2, mixed": (4, {**tp(1, 2, 2), "engine.threads": 2}, {}),
                          "2+1+2 by 2, 1, 2": (5, {**job.split(2, 1, 2), **tp(2, 1, 2)}, {}),
                          "2+1+1 by 2, 1, 1": (4, {**job.split(2, 1, 1), **tp(2, 1, 1)}, {})})

    def test_degrees_4_and_8_change_no_bit(self):
        self.expect_same({"4, 2, 1": (4, tp(4, 2, 1), {}),
                          "1, 2, 4": (4, {**tp(1, 2, 4), "learner.micro_batch": 8}, {}),
                          "2+1+4 by 2, 1, 4": (7, {**job.split(2, 1, 4), **tp(2, 1, 4)}, {}),
                          "8, 4, DP 2 x TP 4": (8, tp(8, 4, 4), {}),
                          "4, 8, 8": (8, tp(4, 8, 8), {})}, self.eight_heads())

    def test_degrees_change_no_bit_of_a_run_that_samples_ahead(self):
        self.expect_same({"mixed": (4, tp(1, 2, 2), {}),
                          "2+1+2 by 2, 1, 2": (5, {**job.split(2, 1, 2), **tp(2, 1, 2)}, {})},
                         {"rollout.max_lag": 1})

    def test_a_run_goes_on_in_any_other_layout(self):
        self.run_job("straight", self.keys)
        places = [(2, tp(2, 1, 2)), (1, {}), (3, job.split(1, 1, 1)), (4, tp(1, 1, 2))]
        for step, (ranks, keys) in enumerate(places, start=1):
            self.run_job("moved", {**self.keys, **keys, "run.steps": step}, ranks=ranks,
                         resume="auto")
        self.assertEqual(self.digests("moved"), self.digests("straight"))

    def test_nothing_of_the_layout_changes_a_bit_in_bfloat16(self):
        found = self.expect_same(
            {"2 threads, micro-batch 8": (1, {"engine.threads": 2, "learner.micro_batch": 8}, {}),
             "micro-batch 1, head chunk 7": (1, {"learner.micro_batch": 1, "learner.head_chunk": 7,
                                                 "rollout.max_batch": 5, "rollout.prefill_chunk": 16}, {}),
             "colocated on 2": (2, {}, {}),
             "split 1+1+1": (3, job.split(1, 1, 1), {}),
             "all by 2, activations recomputed": (2, {**tp(2, 2, 2), "learner.recompute": "true"}, {}),
             "DP 2 x TP 2, mixed": (4, tp(1, 2, 2), {})}, BRIEF)
        self.run_job("wide", {**self.keys, **BRIEF, "engine.dtype": "f32"})
        self.assertNotEqual(self.digests("wide")[2], found[2])

    def test_a_run_in_bfloat16_goes_on_in_any_other_layout(self):
        self.run_job("straight", {**self.keys, **BRIEF})
        for step, (ranks, keys) in enumerate([(2, tp(2, 1, 2)), (3, job.split(1, 1, 1))], start=1):
            self.run_job("moved", {**self.keys, **BRIEF, **keys, "run.steps": step}, ranks=ranks, resume="auto")
        self.assertEqual(self.digests("moved"), self.digests("straight"))

    def test_threads_and_batches_change_no_bit(self):
        self.expect_same({"2 threads": (1, {"engine.threads": 2}, {}),
                          "micro-batch 1": (1, {"learner.micro_batch": 1}, {}),
                          "micro-batch 8": (1, {"learner.micro_batch": 8}, {}),
                          "batch of 5": (1, {"rollout.max_batch": 5,
                                             "rollout.prefill_chunk": 16}, {})})

    def test_a_join_in_the_order_of_ranks_is_noticed(self):
        """A program whose sums follow the ranks: the same on one, something else on several."""
        mutated = {"program": os.environ["FST_MUTATED"]}
        model = {**self.keys, **self.eight_heads()}
        self.run_job("plain", model)
        self.run_job("mutated", model, **mutated)
        plain = self.digests("plain")
        self.assertEqual(self.digests("mutated"), plain)
        for name, ranks, keys in (("by replica", 3, {}), ("by place", 4, tp(4, 4, 4))):
            with self.subTest(name):
                self.run_job(name, {**model, **keys}, ranks=ranks, **mutated)
                self.assertNotEqual(self.digests(name)[2], plain[2])

    def test_gradient_leaves_are_part_of_the_trajectory(self):
        self.run_job("eight", self.keys)
        self.run_job("two", {**self.keys, "learner.gradient_leaves": 2})
        self.assertNotEqual(self.digests("eight")[2], self.digests("two")[2])


if __name__ == "__main__":
    unittest.main(verbosity=2)
