"""Sampling ahead (rollout.max_lag = 1) trains on rollouts of older weights by their true ratios, and
its trajectory depends neither on the layout nor on where the run was stopped."""
import unittest

import job


def split(rollout, reflection, learner):
    return {"ranks.rollout": rollout, "ranks.reflection": reflection, "ranks.learner": learner}


class Lag(job.JobTest):
    # Five steps in cycles of three: two cycles, the second one unfinished. With this learning rate,
    # entropy bonus and cap each step moves the weights, and some ratio reaches the cap.
    keys = {"rollout.max_lag": 1, "run.steps": 5, "optim.lr": 1e-3, "optim.warmup": 1,
            "train.zero_variance_filter": "false", "train.entropy": 0.01, "cispo.tau": 1.05}
    RL = {"run.method": "rl", "train.steps_per_cycle": 6}

    def run_lagged(self, output, keys, **options):
        return self.run_job(output, {**self.keys, **keys}, **options)

    def expect_same(self, name, method, layouts):
        self.run_lagged(name, method)
        expected = self.digests(name)
        for number, (ranks, keys) in enumerate(layouts):
            with self.subTest(name, ranks=ranks, **keys):
                output = f"{name} {number}"
                self.run_lagged(output, {**method, **keys}, ranks=ranks)
                self.assertEqual(self.digests(output), expected)

    def test_layouts_change_no_bit(self):
        self.expect_same("fst", {}, [(2, {}), (3, split(1, 1, 1)), (4, split(2, 1, 1))])
        self.expect_same("rl", self.RL, [(3, {}), (3, split(1, 0, 2))])
        self.expect_same("bf16", {"engine.dtype": "bf16", "run.steps": 4}, [(4, {**split(2, 1, 1), "rollout.tp": 2})])

    def test_the_lag_is_real_and_each_cycle_begins_on_policy(self):
        for name, method, on_policy in (("fst", {}, [1, 4]), ("rl", self.RL, [1])):
            with self.subTest(name):
                steps = job.metrics(self.run_lagged(name, method), "step")
                self.assertEqual([line["step"] for line in steps], [1, 2, 3, 4, 5])
                for line in steps:
                    self.assertEqual(line["logprob/abs_diff_max"], 0)
                    exact = line["ratio/mean"] == line["ratio/max"] == 1
                    self.assertEqual(exact, line["step"] in on_policy, line)
                self.assertGreater(max(line["cispo/frac_capped"] for line in steps), 0)
                self.run_lagged(name + " on policy", {**method, "rollout.max_lag": 0})
                first, other = (self.digests(output) for output in (name, name + " on policy"))
                self.assertNotEqual(first[2], other[2])

    def test_stopped_with_rollouts_in_hand_and_resumed_in_another_layout(self):
        for name, method, layout, steps in (("fst", {}, split(1, 1, 1), (2, 3, 4)),
                                            ("rl", self.RL, split(2, 0, 1), (3,))):
            self.run_lagged("straight " + name, method)
            for step in steps:  # begun on one rank and gone on with on three, or the other way
                with self.subTest(f"{name}, stopped behind step {step}"):
                    places = [({}, 1), (layout, 3)]
                    begin, end = places if step % 2 == 0 else reversed(places)
                    output = f"{name} {step}"
                    self.run_lagged(output, {**method, **begin[0], "run.steps": step},
                                    ranks=begin[1])
                    self.run_lagged(output, {**method, **end[0]}, ranks=end[1], resume="auto")
                    self.assertEqual(self.digests(output), self.digests("straight " + name))

    def test_a_run_keeps_its_lag(self):
        self.run_lagged("run", {"run.steps": 2})
        before = self.digests("run")
        self.run_lagged("run", {"rollout.max_lag": 0}, resume="auto", expect=2)
        self.assertIn("rollout.max_lag = 0, but the run has 1", self.log())
        self.assertEqual(self.digests("run"), before)


if __name__ == "__main__":
    unittest.main(verbosity=2)
