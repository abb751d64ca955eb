"""Killed at random moments and resumed with random other layouts, a run is the undisturbed run.

FST_KILLS (default 10) kills are done, a third of them in bfloat16; FST_SEED chooses moments, victims and
layouts. A run that finishes is compared, and the next one begun. tests/soak_restart.sh runs this with many kills.
"""
import os
import random
import shutil
import time
import unittest

import job

KILLS = int(os.environ.get("FST_KILLS", 10))
SEED = int(os.environ.get("FST_SEED", 20260512))
# Ranks, and the keys of a layout. All give the same bits, so a run may go on with any of them.
LAYOUTS = [(1, {}), (1, {"engine.threads": 2}), (2, {}), (2, {"learner.micro_batch": 3}), (3, {}),
           (4, {}), (3, job.split(1, 1, 1)), (4, job.split(2, 1, 1)), (4, job.split(1, 1, 2)),
           (4, job.split(1, 2, 1)), (2, {"rollout.tp": 2, "learner.tp": 2}), (4, {"learner.tp": 2}),
           (4, {**job.split(2, 1, 1), "rollout.tp": 2})]
KEYS = {"run.steps": 6, "evolve.max_metric_calls": 72}


class Kill(job.JobTest):
    def kill_job(self, process, ranks, victim):
        """SIGKILL to all, or to the launcher (its ranks follow), or to one rank (the job ends). False if
        the job had finished before."""
        chosen = self.rng.randrange(ranks)
        if ranks == 1 or victim == "all":
            job.kill(process)
        elif victim == "launcher":
            job.kill(process, [process.pid])
        else:
            victims = job.ranks_of(process, ranks)
            if not victims:
                self.assertEqual(process.returncode, 0, self.log()[-4000:])
                return False
            job.kill(process, [victims[chosen]])
            self.assertNotEqual(process.returncode, 75, self.log()[-4000:])
        return process.returncode != 0

    def attempt(self, output, longest):
        """True if the run finished, False if it was killed."""
        ranks, layout = self.rng.choice(LAYOUTS)
        victim = self.rng.choice(["all", "launcher", "rank"])
        moment = self.rng.uniform(0.1, longest)
        began = time.monotonic()
        process = self.start(output, {**self.keys, **layout}, ranks=ranks, resume="auto")
        while time.monotonic() < began + moment:
            if process.poll() is not None:
                self.assertEqual(process.returncode, 0, self.log()[-4000:])
                return True
            time.sleep(0.005)
        if not self.kill_job(process, ranks, victim):
            return True
        self.kills += 1
        print(f"kill {self.kills}: {victim} of {ranks} ranks {layout or 'colocated'} "
              f"after {moment:.2f} s", flush=True)
        return False

    def expect_straight(self, output):
        self.assertEqual(self.digests(output), self.expected)
        steps = [line["step"] for line in job.metrics(self.folder / output, "step")]
        self.assertEqual(steps, list(range(1, KEYS["run.steps"] + 1)))

    def expect_kills_to_change_nothing(self, dtype, kills):
        self.keys = {**KEYS, "engine.dtype": dtype}
        began = time.monotonic()
        self.run_job("straight " + dtype, self.keys)
        longest = 1.5 * (time.monotonic() - began)
        self.expected = self.digests("straight " + dtype)
        self.kills, finished = 0, 0
        while self.kills < kills:
            output = f"run{finished}"
            while self.kills < kills and not self.attempt(output, longest):
                pass
            ranks, layout = self.rng.choice(LAYOUTS)
            self.run_job(output, {**self.keys, **layout}, ranks=ranks, resume="auto")
            self.expect_straight(output)
            finished += 1
            shutil.rmtree(self.folder / output)
        print(f"{dtype}: {self.kills} kills, {finished} runs finished, all equal to the straight run", flush=True)

    def test_killed_and_resumed_anywhere_it_is_the_straight_run(self):
        print(f"seed {SEED}", flush=True)
        self.rng = random.Random(SEED)
        self.expect_kills_to_change_nothing("f32", KILLS - KILLS // 3)
        self.expect_kills_to_change_nothing("bf16", KILLS // 3)


if __name__ == "__main__":
    unittest.main(verbosity=2)
