"""What a finished run leaves, and that its folder is not run over."""
import unittest

import job

STEP = {"step", "cycle", "reward/mean", "kl/ref", "optim/grad_norm", "logprob/abs_diff_max",
        "live_groups", "rollouts/slow", "rollouts/fast", "seconds"}
ROUND = {"cycle", "round", "accepted", "metric_calls", "frontier_size", "best_anchor_mean"}
EVAL = {"step", "split", "prompt", "accuracy", "kl/base", "rollouts/slow", "rollouts/fast",
        "seconds"}


class Quickstart(job.JobTest):
    def test_a_run_leaves_what_the_contract_says(self):
        folder = self.run_job("run")
        for name in ("config.resolved.cfg", "history.h5", "metrics.jsonl", "checkpoint-6.h5"):
            self.assertTrue((folder / name).is_file(), name)
        self.assertEqual(list(folder.glob("*.tmp")), [])
        for kind, keys in (("step", STEP), ("round", ROUND), ("eval", EVAL)):
            lines = job.metrics(folder, kind)
            self.assertTrue(lines, kind)
            for line in lines:
                self.assertLessEqual(keys, line.keys())
        steps = job.metrics(folder, "step")
        self.assertEqual([line["step"] for line in steps], [1, 2, 3, 4, 5, 6])
        self.assertEqual([line["cycle"] for line in steps], [0, 0, 0, 1, 1, 1])
        self.assertEqual([line["logprob/abs_diff_max"] for line in steps], [0] * 6)
        self.assertEqual([line["rollouts/slow"] for line in steps], [32 * s for s in range(1, 7)])
        # One set of evaluations with the prompts that trained the weights, one after a fast phase.
        evaluations = [(line["step"], line["prompt"]) for line in job.metrics(folder, "eval")]
        for prompt, expected in (("seed", [0, 3, 3, 6]), ("lead", [0, 3, 3, 6])):
            found = [step for step, name in evaluations if name == prompt]
            self.assertEqual(found[-len(expected):], expected, prompt)

    def test_the_resolved_deck_gives_the_same_run(self):
        folder = self.run_job("run")
        self.run_job("again", deck=folder / "config.resolved.cfg")
        self.assertEqual(self.digests("run"), self.digests("again"))

    def test_a_folder_with_a_run_is_refused_and_kept(self):
        self.run_job("run", {"run.steps": 1})
        before = self.digests("run")
        self.run_job("run", {"run.steps": 1}, expect=2)
        self.assertIn("holds a run", self.log())
        self.assertEqual(self.digests("run"), before)

    def test_a_finished_run_is_finished_again_at_once(self):
        self.run_job("run", {"run.steps": 2})
        before = self.digests("run")
        self.run_job("run", {"run.steps": 2}, resume="auto")
        self.assertEqual(self.digests("run"), before)

    def test_another_seed_is_another_run(self):
        self.run_job("one", {"run.steps": 1, "run.seed": 1})
        self.run_job("two", {"run.steps": 1, "run.seed": 2})
        self.assertNotEqual(self.digests("one")[0], self.digests("two")[0])


if __name__ == "__main__":
    unittest.main(verbosity=2)
