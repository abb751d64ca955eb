"""The history and the weights are the same, bit for bit, however the work is laid out."""
import unittest

import job


class Layouts(job.JobTest):
    keys = {"run.steps": 4}

    def expect_same(self, variants):
        self.run_job("plain", self.keys)
        expected = self.digests("plain")
        for name, (ranks, keys, environment) in variants.items():
            with self.subTest(name):
                self.run_job(name, {**self.keys, **keys}, ranks=ranks, environment=environment)
                self.assertEqual(self.digests(name), expected)

    def test_ranks_change_no_bit(self):
        self.expect_same({"colocated on 2": (2, {}, {}), "colocated on 3": (3, {}, {}),
                          "split 1+1+1": (3, job.split(1, 1, 1), {}),
                          "split 2+1+1": (4, job.split(2, 1, 1), {}),
                          "split 1+1+2": (4, job.split(1, 1, 2), {})})

    def test_threads_and_batches_change_no_bit(self):
        self.expect_same({"2 threads": (1, {"engine.threads": 2}, {}),
                          "micro-batch 1": (1, {"learner.micro_batch": 1}, {}),
                          "micro-batch 8": (1, {"learner.micro_batch": 8}, {}),
                          "batch of 5": (1, {"rollout.max_batch": 5,
                                             "rollout.prefill_chunk": 16}, {})})

    def test_gradient_leaves_are_part_of_the_trajectory(self):
        self.run_job("eight", self.keys)
        self.run_job("two", {**self.keys, "learner.gradient_leaves": 2})
        self.assertNotEqual(self.digests("eight")[2], self.digests("two")[2])


if __name__ == "__main__":
    unittest.main(verbosity=2)
