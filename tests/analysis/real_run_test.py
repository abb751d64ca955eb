#!/usr/bin/env python3
"""analysis/ on what the program really writes: a short run of the quickstart deck. FST names the binary."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import synthetic  # puts analysis/ on the path
import fst_store

ROOT = fst_store.SOURCE
KEYS = ["run.steps=4", "train.steps_per_cycle=2", "train.problems_per_step=8", "train.group_size=4",
        "evolve.prompts=2", "evolve.anchors=12", "evolve.max_metric_calls=60", "eval.every=2",
        "eval.problems=12", "eval.also=B"]


class RealRun(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = pathlib.Path(cls.temporary.name) / "run"
        subprocess.run([os.environ["FST"], "run", ROOT / "input/quickstart.cfg",
                        f"--run.output={cls.folder}", *(f"--{key}" for key in KEYS)],
                       check=True, capture_output=True)
        cls.run_read = fst_store.Run(cls.folder)

    def test_every_column_of_the_schema_can_be_read(self):
        lengths = {}
        for path in fst_store.SCHEMA:
            table = path.split("/")[1]
            lengths.setdefault(table, set()).add(len(self.run_read.read(path)))
        self.assertEqual({table for table, rows in lengths.items() if len(rows) != 1}, set())
        self.assertEqual(lengths["step"], {4})

    def test_history_and_metrics_hold_the_same_scalars(self):
        for kind, table, names in (("step", "step", {"reward/mean": "reward_mean", "kl/ref": "kl_ref",
                                                     "optim/grad_norm": "grad_norm"}),
                                   ("eval", "evaluation", {"accuracy": "accuracy", "step": "step"}),
                                   ("round", "round", {"metric_calls": "metric_calls"})):
            lines = self.run_read.metrics(kind)
            self.assertTrue(lines, kind)
            for key, column in names.items():
                self.assertEqual([line[key] for line in lines],
                                 list(self.run_read.read(f"/{table}/{column}")), (kind, key))

    def test_rewards_of_a_step_are_those_of_its_rollouts(self):
        rows = [row for row in self.run_read.rows("rollout") if row["phase"] == "train"]
        for step, mean in zip(self.run_read.read("/step/step"), self.run_read.read("/step/reward_mean")):
            rewards = [float(row["reward"]) for row in rows if row["step"] == step - 1]
            self.assertEqual(len(rewards), 32)
            self.assertAlmostEqual(sum(rewards) / 32, mean, places=12)

    def test_the_other_variant_is_measured_beside(self):
        curve = self.run_read.curve("seed", "test:B")
        self.assertEqual([entry["step"] for entry in curve], [0, 2, 4])
        self.assertTrue(all(0 < p < 1 for p in fst_store.values(curve, "gold_probability")))

    def test_every_script_draws_and_prints(self):
        for script in ("learning_curve", "kl_reward", "lineage", "frontier", "plasticity"):
            figure = self.folder / f"{script}.png"
            subprocess.run([sys.executable, ROOT / "analysis" / f"{script}.py", self.folder, "--out",
                            figure], check=True, capture_output=True)
            self.assertEqual(figure.read_bytes()[:4], b"\x89PNG")
        done = subprocess.run([sys.executable, ROOT / "analysis/summary.py", self.folder], check=True,
                              capture_output=True, text=True)
        self.assertIn("lead prompt:", done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
