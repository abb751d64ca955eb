"""Runs the program as a user does: decks, ranks, signals, run folders. FST names the binary."""
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
FST = os.environ["FST"]
DECK = ROOT / "input/quickstart.cfg"
# The quickstart, made small: two cycles of three steps take seconds.
SMALL = {"run.steps": 6, "run.save_every": 1, "train.steps_per_cycle": 3,
         "train.problems_per_step": 8, "train.group_size": 4, "evolve.prompts": 2,
         "evolve.anchors": 12, "evolve.max_metric_calls": 48, "eval.every": 3, "eval.problems": 12,
         "engine.threads": 1}


def split(rollout, reflection, learner):
    return {"ranks.rollout": rollout, "ranks.reflection": reflection, "ranks.learner": learner}


class JobTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="fst_job_"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.numbers = itertools.count()

    def command(self, output, keys=None, ranks=1, deck=DECK, resume=None, program=FST, traffic=None):
        keys = {**SMALL, **(keys or {}), "run.output": self.folder / output}
        launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
        return [*launcher, program, "run", str(deck), *(["--resume", resume] if resume else []),
                *(["--traffic", str(traffic)] if traffic else []),
                *(f"--{key}={value}" for key, value in keys.items())]

    def start(self, *arguments, environment=None, log="log.txt", file_bytes=None, **options):
        """The job as a process in a group of its own; its output goes to <folder>/<log>. What Open
        MPI keeps of a job, and leaves behind when it is killed, lies in a folder of the job's own: it
        removes the one that jobs share while others, which begin at that moment, need it
        (open-mpi/ompi#8510)."""
        session = self.folder / f"mpi-{next(self.numbers)}"
        environment = {**os.environ, "TMPDIR": str(self.folder), "OMPI_MCA_orte_tmpdir_base": str(session),
                       **(environment or {})}
        with open(self.folder / log, "a") as stream:
            limit = ["prlimit", f"--fsize={file_bytes}"] if file_bytes else []
            process = subprocess.Popen([*limit, *self.command(*arguments, **options)],
                                       stdout=stream, stderr=stream, env=environment,
                                       start_new_session=True)
        self.addCleanup(kill, process)
        return process

    def log(self, log="log.txt"):
        return (self.folder / log).read_text()

    def run_job(self, *arguments, expect=0, **options):
        """Runs the job to its end and returns its run folder."""
        job = self.start(*arguments, **options)
        self.assertEqual(job.wait(), expect, self.log()[-4000:])
        return self.folder / arguments[0]

    def wait_for_lines(self, process, output, count):
        """Until metrics.jsonl has `count` lines; the job must still be running then."""
        while len(metrics(self.folder / output)) < count:
            self.assertIsNone(process.poll(), "ended too early:\n" + self.log()[-4000:])
            time.sleep(0.005)

    def digest(self, file):
        done = subprocess.run([FST, "info", str(file), "--digest"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        digest = done.stdout.split()[0]
        self.assertRegex(digest, r"^[0-9a-f]{64}$")
        return digest

    def checkpoints(self, output):
        """The names, oldest first."""
        def age(file):
            step, _, round_ = file.stem.split("-")[1].partition(".r")
            return int(step), int(round_ or -1)
        files = (self.folder / output).glob("checkpoint-*.h5")
        return [file.name for file in sorted(files, key=age)]

    def digests(self, output):
        """Of the history and of the newest checkpoint: what happened, and where it led."""
        newest = self.checkpoints(output)[-1]
        return [self.digest(self.folder / output / "history.h5"), newest,
                self.digest(self.folder / output / newest)]


def metrics(folder, kind=None):
    """The complete lines of metrics.jsonl."""
    file = folder / "metrics.jsonl"
    text = file.read_text() if file.exists() else ""
    lines = [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]
    return [line for line in lines if kind in (None, line["kind"])]


def children(process):
    """The process ids of those that it started: of a launcher, the ranks."""
    found = []
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(status.read_text().rpartition(")")[2].split()[1]) == process.pid:
                found.append(int(status.parent.name))
        except OSError:  # gone meanwhile
            pass
    return found


def ranks_of(process, count):
    """The process ids of a job's ranks, by rank, once all have begun; {} if it ended before."""
    while process.poll() is None:
        found = {}
        for pid in children(process):
            try:
                environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            for name, _, value in (entry.partition(b"=") for entry in environment):
                if name == b"OMPI_COMM_WORLD_RANK":
                    found[int(value)] = pid
        if len(found) == count:
            return found
        time.sleep(0.01)
    return {}


def shared_memory(pids):
    """The files in /dev/shm that these have mapped: a killed Open MPI leaves them behind."""
    files = set()
    for pid in pids:
        try:
            maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
        except OSError:
            continue
        files |= {line.split()[5] for line in maps.splitlines() if " /dev/shm/" in line}
    return {pathlib.Path(file) for file in files}


def kill(process, victims=None):
    """SIGKILL to the victims (a launcher and all its ranks), and away with their shared memory."""
    if process.poll() is not None:
        return
    ranks = children(process)
    left = shared_memory([process.pid, *ranks])
    for pid in [process.pid, *ranks] if victims is None else victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.wait()
    for file in left:
        file.unlink(missing_ok=True)
