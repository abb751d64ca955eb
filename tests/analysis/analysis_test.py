#!/usr/bin/env python3
"""Tests of analysis/ on small synthetic runs: what is read, what is printed, that figures are drawn."""
import contextlib
import io
import json
import math
import pathlib
import tempfile
import unittest

import synthetic
import numpy as np

import compare
import fst_store
import frontier
import kl_reward
import learning_curve
import lineage
import plasticity
import summary


class Analysis(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.figure = self.folder / "figure.png"

    def run_folder(self, name, curve, **options):
        return synthetic.write_run(self.folder / name, curve, **options)

    def run_script(self, script, *arguments):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            script.main([str(argument) for argument in arguments])
        return printed.getvalue()

    def expect_figure(self, file=None):
        self.assertEqual((file or self.figure).read_bytes()[:4], b"\x89PNG")

    def test_every_line_of_the_schema_is_understood(self):
        text = (fst_store.SOURCE / "include/fst/store/schema.def").read_text()
        lines = [line for line in text.splitlines() if line.startswith("FST_DATASET(\"")]
        self.assertEqual(len(fst_store.SCHEMA), len(lines))
        self.assertEqual(fst_store.SCHEMA["/step/grad_norm"].type, "f64")

    def test_columns_come_back_as_written(self):
        run = fst_store.Run(self.run_folder("a", {0: 0.5}))
        self.assertEqual(run.read("/candidate/text"), ["rules", "rules\nredReverse é"])
        self.assertEqual(run.read("/candidate/anchor_mean").tolist(), [0.125, 0.5])
        self.assertEqual([list(x) for x in run.read("/proposal/scores_after")], [[], [1, 1, 0]])
        self.assertEqual(run.rows("candidate")[1]["slot"], 0)
        self.assertEqual(run.rows("rollout"), [])

    def test_a_half_written_last_line_is_left_out(self):
        folder = self.run_folder("a", {0: 0.5, 6: 0.75})
        with open(folder / "metrics.jsonl", "a") as file:
            file.write('{"kind": "eval", "st')
        self.assertEqual([e["step"] for e in fst_store.Run(folder).curve()], [0, 6])

    def test_the_last_evaluation_of_a_step_counts(self):
        folder = self.run_folder("a", {0: 0.5, 6: 0.75})
        with open(folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps(synthetic.evaluation(6, "lead", 0.875, 0.1, 9.0)) + "\n")
        curve = fst_store.Run(folder).curve()
        self.assertEqual(fst_store.values(curve, "accuracy").tolist(), [0.5, 0.875])

    def test_seconds_add_up_over_attempts(self):
        folder = self.run_folder("a", {})
        lines = [synthetic.evaluation(step, "seed", 0.5, 0.0, seconds)
                 for step, seconds in ((0, 10.0), (6, 20.0), (12, 5.0), (18, 8.0))]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        curve = fst_store.Run(folder).curve()
        self.assertEqual(fst_store.values(curve, "seconds").tolist(), [10, 20, 25, 28])

    def test_methods_without_evolution_are_judged_under_the_seed_prompt(self):
        run = fst_store.Run(self.run_folder("a", {0: 0.5}, leads=False))
        self.assertEqual(run.curve()[0]["prompt"], "seed")
        self.assertEqual(fst_store.values(run.curve(), "rollouts").tolist(), [0])

    def test_values_of_null_are_not_numbers(self):
        run = fst_store.Run(self.run_folder("a", {0: 0.5}))
        self.assertTrue(math.isnan(fst_store.values(run.curve("population"), "kl/base")[0]))

    def test_figures_of_groups_are_drawn(self):
        a, b = self.run_folder("a", {0: 0.1, 6: 0.6}), self.run_folder("b", {0: 0.2, 6: 0.8, 12: 0.9})
        c = self.run_folder("c", {0: 0.1, 6: 0.2}, leads=False)
        for script in (learning_curve, kl_reward):
            self.run_script(script, f"FST={a},{b}", c, "--out", self.figure)
            self.expect_figure()
            self.figure.unlink()

    def test_lineage_prints_accepted_and_refused_proposals(self):
        text = self.run_script(lineage, self.run_folder("a", {0: 0.5}), "--out", self.figure)
        self.assertIn("seed #0, anchor mean 0.125: rules\n", text)
        self.assertIn("round 0: from #0, minibatch 1, duplicate: rules\n", text)
        self.assertIn("round 1: from #0, minibatch 1 -> 2, accepted #1, anchor mean 0.500: "
                      "rules\n        redReverse é\n", text)
        self.assertIn("slot 0: #1, anchor mean 0.500: rules\n        redReverse é", text)
        self.expect_figure()

    def test_frontier_is_drawn(self):
        self.run_script(frontier, self.run_folder("a", {0: 0.5}), "--out", self.figure)
        self.expect_figure()

    def test_plasticity_prints_probabilities_beside_the_curves(self):
        a = self.run_folder("a", {0: 0.0, 12: 0.25, 24: 0.25, 48: 0.5}, leads=False)
        b = self.run_folder("b", {0: 0.0, 12: 0.75, 24: 0.75}, leads=False)
        text = self.run_script(plasticity, f"late={a},{b}", "--out", self.figure)
        self.assertIn("| late | 0.00 (0.00-0.00) | 0.50 (0.25-0.75) | 0.50 (0.25-0.75) "
                      "| 0.50 (0.50-0.50) | 5.0e-01, 5.0e-01 |", text)
        self.expect_figure()

    def test_summary_names_lead_prompt_and_files(self):
        folder = self.run_folder("a", {0: 0.5, 6: 0.75})
        (folder / "checkpoint-6.h5").touch()
        text = self.run_script(summary, folder)
        self.assertIn("accuracy under lead: 0.500 at step 0, 0.750 at step 6", text)
        self.assertIn("lead prompt:\n  rules\n  redReverse é\n", text)
        self.assertIn("checkpoint-6.h5", text)

    def comparison(self, fst_end):
        out = self.folder / "compare"
        for seed in (21, 22):
            for experiment in ("A", "hard"):
                fst = {0: 0.5, 6: 0.75, 12: 0.92, 60: fst_end}
                self.run_folder(f"compare/{experiment}/fst/{seed}", fst)
                rl = {0: 0.05, 12: 0.08, 120: 0.5}
                self.run_folder(f"compare/{experiment}/rl/{seed}", rl, leads=False)
                self.run_folder(f"compare/{experiment}/gepa/{seed}", {0: 0.7, 36: 0.75})
            self.run_folder(f"compare/probe/base/{seed}", {0: 0.1, 48: 0.5}, leads=False)
            self.run_folder(f"compare/continual/fst/{seed}", {0: 0.1, 72: 0.5})
        for metrics in out.rglob("metrics.jsonl"):
            (metrics.parent / "finished").touch()
        return self.run_script(compare, out), out

    def test_comparison_prints_tables_and_draws_figures(self):
        text, out = self.comparison(fst_end=0.95)
        self.assertIn("| 12 | 0.92 (0.92-0.92) | 0.08 (0.08-0.08) | - |", text)
        self.assertIn("| 60 | 15600 (240 fast), 61 s |", text)
        self.assertIn("| fst | 60 | 0.95 (0.95-0.95) | 0.60 (0.60-0.60) | 0.10 (0.10-0.10) "
                      "| 1.20 (1.20-1.20) | 0.50 (0.50-0.50) | 1.0e-03, 1.0e-03 |", text)
        self.assertEqual(text.count("| yes |"), 7)
        for name in ("learning_curve_A", "learning_curve_hard", "kl_reward", "continual", "plasticity"):
            self.expect_figure(out / "figures" / f"{name}.png")

    def test_a_bar_that_is_missed_is_said_to_be(self):
        text, _ = self.comparison(fst_end=0.85)
        self.assertIn("| A: FST at step 60 is at least 0.9 | 0.850 | **no** |", text)
        self.assertEqual(text.count("| yes |"), 6)

    def test_unfinished_runs_are_not_compared(self):
        _, out = self.comparison(fst_end=0.95)
        (out / "A/fst/22/finished").unlink()
        self.assertEqual(len(compare.experiment(out, "A")["fst"]), 1)
        self.assertTrue(np.isfinite(compare.bars(compare.experiment(out, "A"),
                                                 compare.experiment(out, "hard"))[0][1]))


if __name__ == "__main__":
    unittest.main(verbosity=2)
