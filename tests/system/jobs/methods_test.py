"""One key turns the deck into every method; a continual run changes its task."""
import json
import unittest

import job


class Methods(job.JobTest):
    def lines(self, method, **keys):
        keys = {"run.method": method, "run.steps": 3, **keys}
        folder = self.run_job(method, keys)
        return {kind: job.metrics(folder, kind) for kind in ("step", "round", "eval")}

    def test_fst_evolves_and_trains(self):
        lines = self.lines("fst")
        self.assertEqual(len(lines["step"]), 3)
        self.assertTrue(lines["round"])
        self.assertGreater(lines["step"][-1]["rollouts/fast"], 0)

    def test_rl_trains_under_the_seed_prompt_alone(self):
        lines = self.lines("rl")
        self.assertEqual(len(lines["step"]), 3)
        self.assertEqual(lines["round"], [])
        self.assertEqual(lines["step"][-1]["rollouts/fast"], 0)
        self.assertEqual({line["prompt"] for line in lines["eval"]}, {"seed"})
        self.assertIn("evolve.max_metric_calls", self.log())  # listed as not used

    def test_gepa_leaves_the_weights_alone(self):
        lines = self.lines("gepa")
        self.assertEqual(lines["step"], [])
        self.assertTrue(lines["round"])
        kl = [line["kl/base"] for line in lines["eval"] if line["kl/base"] is not None]
        self.assertTrue(kl)
        self.assertEqual(set(kl), {0})

    def test_frozen_keeps_the_given_prompts(self):
        prompts = self.folder / "prompts.jsonl"
        prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in
                                   ("rules", "rules\nredReverse")))
        lines = self.lines("frozen", **{"evolve.population": prompts})
        self.assertEqual(lines["round"], [])
        self.assertEqual(len(lines["step"]), 3)
        self.assertIn("lead", {line["prompt"] for line in lines["eval"]})

    def test_copies_and_per_prompt_baselines_train(self):
        for method in ("copies", "per_prompt"):
            with self.subTest(method):
                self.assertEqual(len(self.lines(method)["step"]), 3)

    def test_one_fast_phase_before_or_after_training(self):
        before, after = self.lines("gepa_rl"), self.lines("rl_gepa")
        for lines in (before, after):
            self.assertEqual(len(lines["step"]), 3)
            self.assertEqual(len({line["cycle"] for line in lines["round"]}), 1)
        self.assertGreater(before["step"][0]["rollouts/fast"], 0)
        self.assertEqual(after["step"][-1]["rollouts/fast"], 0)

    def test_a_continual_run_changes_its_task(self):
        keys = {"task.stages": "A,B", "task.steps_per_stage": 2, "train.steps_per_cycle": 2,
                "run.steps": 4}
        folder = self.run_job("continual", keys)
        self.assertEqual([line["stage"] for line in job.metrics(folder, "step")], list("AABB"))
        self.run_job("resumed", {**keys, "run.steps": 2})
        self.run_job("resumed", keys, resume="auto")
        self.assertEqual(self.digests("continual"), self.digests("resumed"))

    def test_the_seed_prompt_anchor_changes_the_weights(self):
        for name, coefficient in (("without", 0), ("with", 0.1)):
            self.run_job(name, {"run.steps": 3, "kl.seed_prompt": coefficient})
        self.assertNotEqual(self.digests("without")[2], self.digests("with")[2])


if __name__ == "__main__":
    unittest.main(verbosity=2)
