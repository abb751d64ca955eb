"""A request to stop, to whichever rank, stops all at the same safe point with exit code 75."""
import os
import pathlib
import signal
import time
import unittest

import job

# A fast phase of several rounds: there are safe points right after the first one.
KEYS = {"eval.every": 0, "evolve.max_metric_calls": 200}


def catches(pid, number):
    """Whether a process has a handler for a signal."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return int(mask.split()[1], 16) >> (number - 1) & 1


class Stop(job.JobTest):
    straight = None  # digests of the undisturbed run

    def expect_straight(self, output):
        if Stop.straight is None:
            self.run_job("straight", KEYS)
            Stop.straight = self.digests("straight")
        self.assertEqual(self.digests(output), Stop.straight)

    def expect_stopped_and_resumed(self, keys, ranks):
        """The stopped run has one newest checkpoint, short of the end, and goes on to the same."""
        self.assertLess(len(job.metrics(self.folder / "stopped", "step")), 6)
        self.assertTrue(self.checkpoints("stopped"))
        self.assertEqual(list((self.folder / "stopped").glob("*.tmp")), [])
        self.run_job("stopped", {**keys, "run.time_limit": 0}, ranks=ranks, resume="auto")
        self.expect_straight("stopped")

    def signal_one_rank(self, keys, ranks, rank, number):
        process = self.start("stopped", keys, ranks=ranks)
        self.wait_for_lines(process, "stopped", 1)
        os.kill(job.ranks_of(process, ranks)[rank], number)
        self.assertEqual(process.wait(), 75, self.log()[-4000:])
        self.expect_stopped_and_resumed(keys, ranks)

    def test_sigterm_to_the_learner_alone(self):
        self.signal_one_rank({**KEYS, **job.split(1, 1, 1)}, 3, 2, signal.SIGTERM)

    def test_sigusr1_to_one_of_three_colocated_ranks(self):
        self.signal_one_rank(KEYS, 3, 1, signal.SIGUSR1)

    def test_a_signal_before_anything_is_loaded(self):
        process = self.start("stopped", KEYS, ranks=2)
        rank = job.ranks_of(process, 2)[1]
        while not catches(rank, signal.SIGUSR1):  # the first thing that main() does
            time.sleep(0.001)
        os.kill(rank, signal.SIGUSR1)
        self.assertEqual(process.wait(), 75, self.log()[-4000:])
        self.assertEqual(job.metrics(self.folder / "stopped", "step"), [])
        self.expect_stopped_and_resumed(KEYS, 2)

    def test_the_time_limit_of_the_deck(self):
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                output = f"limited{ranks}"
                # Over before the first safe point, whatever the machine: one round is done by then.
                self.run_job(output, {**KEYS, "run.time_limit": 1e-3}, ranks=ranks, expect=75)
                self.assertEqual(self.checkpoints(output), ["checkpoint-0.r0.h5"])
                self.run_job(output, {**KEYS, "run.time_limit": 0}, ranks=ranks, resume="auto")
                self.expect_straight(output)

    def test_attempts_are_numbered_in_the_log(self):
        self.run_job("run", {**KEYS, "run.time_limit": 1e-3}, expect=75)
        self.run_job("run", {**KEYS, "run.steps": 1}, resume="auto")
        self.run_job("run", {**KEYS, "run.steps": 2}, ranks=2, resume="auto")
        numbers = [line.split()[1] for line in self.log().splitlines()
                   if line.startswith("attempt ")]
        self.assertEqual(numbers, ["1", "2", "3"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
