"""Runs the program as a user does: decks, ranks, signals, run folders. FST names the binary."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
FST = os.environ["FST"]
DECK = ROOT / "input/quickstart.cfg"
# The quickstart, made small: two cycles of three steps take seconds.
SMALL = {"run.steps": 6, "run.save_every": 1, "train.steps_per_cycle": 3,
         "train.problems_per_step": 8, "train.group_size": 4, "evolve.prompts": 2,
         "evolve.anchors": 12, "evolve.max_metric_calls": 48, "eval.every": 3, "eval.problems": 12,
         "engine.threads": 1}


class JobTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="fst_job_"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def command(self, output, keys=None, ranks=1, deck=DECK, resume=None):
        keys = {**SMALL, **(keys or {}), "run.output": self.folder / output}
        launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
        return [*launcher, FST, "run", str(deck), *(["--resume", resume] if resume else []),
                *(f"--{key}={value}" for key, value in keys.items())]

    def start(self, *arguments, environment=None, **options):
        """The job as a process in a group of its own; its output goes to <folder>/log.txt."""
        with open(self.folder / "log.txt", "a") as log:
            return subprocess.Popen(self.command(*arguments, **options), stdout=log, stderr=log,
                                    env={**os.environ, **(environment or {})},
                                    start_new_session=True)

    def log(self):
        return (self.folder / "log.txt").read_text()

    def run_job(self, *arguments, expect=0, **options):
        """Runs the job to its end and returns its run folder."""
        job = self.start(*arguments, **options)
        self.addCleanup(kill, job)
        self.assertEqual(job.wait(), expect, self.log()[-4000:])
        return self.folder / arguments[0]

    def digest(self, file):
        done = subprocess.run([FST, "info", str(file), "--digest"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        digest = done.stdout.split()[0]
        self.assertRegex(digest, r"^[0-9a-f]{64}$")
        return digest

    def digests(self, output):
        """Of the history and of the newest checkpoint: what happened, and where it led."""
        newest = max((self.folder / output).glob("checkpoint-*.h5"),
                     key=lambda file: int(file.stem.split("-")[1].split(".")[0]))
        return [self.digest(self.folder / output / "history.h5"), newest.name, self.digest(newest)]


def metrics(folder, kind=None):
    """The complete lines of metrics.jsonl."""
    file = folder / "metrics.jsonl"
    text = file.read_text() if file.exists() else ""
    lines = [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]
    return [line for line in lines if kind in (None, line["kind"])]


def kill(job):
    if job.poll() is None:
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
