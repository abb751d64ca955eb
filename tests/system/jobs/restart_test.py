"""Stopped and resumed, a run is the run that was never disturbed."""
import os
import signal
import unittest

import job


class Restart(job.JobTest):
    def stop_and_resume(self, ranks, keys, after_lines):
        self.run_job("straight", keys, ranks=ranks)
        process = self.start("stopped", keys, ranks=ranks)
        self.addCleanup(job.kill, process)
        self.wait_for_lines(process, "stopped", after_lines)
        os.kill(process.pid, signal.SIGUSR1)  # mpirun passes it to every rank
        self.assertEqual(process.wait(), 75, self.log()[-4000:])
        self.assertLess(len(job.metrics(self.folder / "stopped", "step")), 6)
        self.run_job("stopped", keys, ranks=ranks, resume="auto")
        self.assertEqual(self.digests("straight"), self.digests("stopped"))

    def test_stopped_between_steps_and_resumed(self):
        # Rounds of the first cycle, evaluations and a step or two are done.
        straight = self.run_job("measured")
        lines = job.metrics(straight)
        after = next(i for i, line in enumerate(lines) if line["kind"] == "step") + 1
        self.stop_and_resume(1, {}, after)

    def test_stopped_between_evolution_rounds_and_resumed(self):
        self.stop_and_resume(2, {"eval.every": 0, "evolve.max_metric_calls": 200}, 1)

    def test_a_longer_run_is_the_continued_shorter_one(self):
        self.run_job("long", {"run.steps": 12})
        self.run_job("extended", {"run.steps": 6})
        self.run_job("extended", {"run.steps": 12}, resume="auto")
        self.assertEqual(self.digests("long"), self.digests("extended"))

    def test_fewer_steps_than_done_are_refused(self):
        self.run_job("run", {"run.steps": 3})
        self.run_job("run", {"run.steps": 2}, resume="auto", expect=2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
