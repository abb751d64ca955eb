"""The batch files under SLURM: stopped by a signal, requeued, resumed, finished; and job arrays.

slurm_test.py [limit]: with `limit` the signal is the one that SLURM sends before the time limit (a
minute); without, scancel sends it, which takes the same way.
"""
import os
import pathlib
import signal
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "jobs"))
import job  # noqa: E402
from lab import Lab  # noqa: E402

LIMIT = "limit" in sys.argv[1:]
PATIENCE = 300 if LIMIT else 120  # s
# Long enough to be met alive by the signal, which SLURM sends half a minute after the start.
KEYS = {**job.SMALL, "run.steps": 500 if LIMIT else 12, "eval.every": 0}


def words(keys):
    return [f"--{key}={value}" for key, value in keys.items()]


def rank_of_slurm(number, rank):
    """The process id of a rank of a job."""
    wanted = {f"SLURM_JOB_ID={number}".encode(), f"PMIX_RANK={rank}".encode()}
    for file in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted <= set(file.read_bytes().split(b"\0")):
                return int(file.parent.name)
        except OSError:  # gone meanwhile, or another user's
            pass
    raise RuntimeError(f"job {number} has no rank {rank}")


class Slurm(job.JobTest):
    @classmethod
    def setUpClass(cls):
        cls.lab_folder = tempfile.TemporaryDirectory(prefix="fst_slurm_")
        cls.addClassCleanup(cls.lab_folder.cleanup)
        cls.lab = Lab(cls.lab_folder.name)  # fails the test, with the reason, where it cannot start
        cls.addClassCleanup(cls.lab.down)

    def submit(self, options, script, *arguments, **variables):
        log = "slurm-%a.log" if any(o.startswith("--array") for o in options) else "slurm.log"
        return self.lab.submit(*options, f"--output={self.folder / log}",
                               str(job.ROOT / "jobs" / script), str(job.DECK), *arguments,
                               FST_ROOT=str(job.ROOT), FST_PROGRAM=job.FST,
                               FST_RUNS=str(self.folder), TMPDIR=str(self.folder), **variables)

    def logs(self):
        return "\n".join(log.read_text() for log in sorted(self.folder.glob("slurm*.log")))

    def wait_for(self, number, condition, what):
        end = time.monotonic() + PATIENCE
        while not condition():
            states = self.lab.states(number)
            failed = states & {"FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}
            ended = states == {"COMPLETED"} and not condition()
            if time.monotonic() > end or failed or ended:
                self.fail(f"no {what}; job {number} is {states}:\n{self.logs()[-3000:]}\n"
                          f"{self.lab.jobs(number)}\n{self.lab.logs()}")
            time.sleep(0.1)

    def finish(self, number):
        hastened = set()

        def completed():
            for task in self.lab.jobs(number):
                # SLURM holds a requeued job back for two minutes. A little it needs: it refuses to
                # start a job in the second in which it ended.
                restart = (task["JobId"], task["Restarts"])
                if task["Restarts"] == "0" or restart in hastened:
                    continue
                if task["JobState"] == "PENDING":
                    hastened.add(restart)
                    # The time limit is lifted: SLURM's signal may come a minute early, and a limit of
                    # a minute may then leave no time for a step.
                    self.lab.call("scontrol", "update", f"JobId={task['JobId']}",
                                  "StartTime=now+2", "TimeLimit=10")
            return self.lab.states(number) == {"COMPLETED"}
        self.wait_for(number, completed, "end")

    def test_a_signal_stops_and_requeues_the_job_which_finishes_as_if_undisturbed(self):
        limit = ["--time=1", "--signal=USR1@30"] if LIMIT else ["--time=10"]
        number = self.submit(["-n", "3", *limit], "fst.sbatch",
                             *words({**KEYS, "run.output": self.folder / "stopped"}))
        run = self.folder / "stopped"
        self.wait_for(number, lambda: len(job.metrics(run, "step")) > 0, "first step")
        if not LIMIT:
            self.lab.call("scancel", "--signal=USR1", number)
        self.wait_for(number, lambda: self.lab.jobs(number)[0]["Restarts"] == "1", "requeue")
        self.assertIn("stopped with a checkpoint; requeueing", self.logs())
        self.assertLess(len(job.metrics(run, "step")), KEYS["run.steps"])
        self.finish(number)
        attempts = [line.split()[1] for line in self.logs().splitlines()
                    if line.startswith("attempt ")]
        self.assertGreaterEqual(len(attempts), 2)
        self.assertEqual(attempts, [str(i + 1) for i in range(len(attempts))])
        if not LIMIT:
            self.assertEqual(len(attempts), 2)
        self.run_job("straight", KEYS)
        self.assertEqual(self.digests("stopped"), self.digests("straight"))

    @unittest.skipIf(LIMIT, "has nothing to do with the time limit")
    def test_a_killed_rank_ends_the_job_with_one_message(self):
        # srun is told not to end a job for a bad exit code (75 is none): the other ranks must.
        number = self.submit(["-n", "2", "--time=10"], "fst_colocated.sbatch",
                             *words({**KEYS, "run.steps": 1000,
                                     "run.output": self.folder / "killed"}))
        self.wait_for(number, lambda: job.metrics(self.folder / "killed"), "first line")
        os.kill(rank_of_slurm(number, 1), signal.SIGKILL)
        end = time.monotonic() + PATIENCE
        while self.lab.states(number) != {"FAILED"}:
            self.assertLess(time.monotonic(), end, self.logs()[-4000:])
            time.sleep(0.1)
        reports = [line for line in self.logs().splitlines() if line.startswith("fst: ")]
        self.assertEqual(len(reports), 1, self.logs())
        self.assertRegex(reports[0], r"rank 1 of 2 on node \S+, in \w+ of step \d+, died")

    @unittest.skipIf(LIMIT, "has nothing to do with the time limit")
    def test_an_array_runs_two_methods_with_two_seeds(self):
        keys = {**KEYS, "run.steps": 3}
        number = self.submit(["--array=0-3", "-n", "2", "--time=10"], "fst_colocated.sbatch",
                             *words(keys), FST_METHODS="fst rl")
        self.finish(number)
        found = set()
        for method in ("fst", "rl"):
            for seed in (1, 2):
                run = f"array/{method}/{seed}"
                self.assertEqual(len(job.metrics(self.folder / run, "step")), 3)
                self.assertEqual(bool(job.metrics(self.folder / run, "round")), method == "fst")
                self.run_job("straight", {**keys, "run.method": method, "run.seed": seed})
                self.assertEqual(self.digests(run), self.digests("straight"))
                found.add(tuple(self.digests(run)))
                job.shutil.rmtree(self.folder / "straight")
        self.assertEqual(len(found), 4)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
