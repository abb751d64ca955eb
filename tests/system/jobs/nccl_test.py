"""Whole jobs whose tensors travel by NCCL: on emulated GPUs, by the library of tests/nccl."""
import json
import os
import re
import shutil
import socket
import subprocess
import unittest

import job
from cuda_test import CPU, CUDA, EMULATED, TINY

RECORDER = os.environ["FST_NCCL_RECORDER_LIBRARY"]
PATIENCE = 100  # s that a machine busy with other tests may take for an emulated job of a few
SHORT = {**TINY, "eval.every": 0}  # evaluation moves no tensor
NODE = re.escape(socket.gethostname())
NCCL = {"FST_NCCL_LIBRARY": RECORDER, "FST_EMULATOR_DEVICES": "4"}
# Every exchange of tensors in one layout: sums in learners' units, gradients and weights between their
# replicas, and weights from shards to whole models.
LAYOUT = {"learner.tp": 2, "rollout.tp": 1, "run.deadline": 60}
RANKS = 4
TWO = {"learner.tp": 2, "rollout.tp": 1}  # the same without replicas


class Nccl(job.JobTest):
    def nccl_job(self, output, keys=None, ranks=RANKS, layout=None, environment=None, **options):
        keys = {**SHORT, **CUDA, **(LAYOUT if layout is None else layout), **(keys or {})}
        return self.start(output, keys, ranks=ranks, program=EMULATED,
                          environment={**NCCL, **(environment or {})}, **options)

    def expect_exit(self, code, process):
        self.assertEqual(process.wait(PATIENCE), code, self.log()[-4000:])

    def expect_one_line(self, code, says, *arguments, **options):
        """The job ends with this code after one line of this pattern."""
        (self.folder / "log.txt").unlink(missing_ok=True)
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        self.expect_exit(code, self.nccl_job("run", *arguments, **options))
        lines = [line for line in self.log().splitlines()
                 if line.startswith("fst: ") and not line.startswith("fst: warning")]
        self.assertEqual(len(lines), 1, self.log()[-4000:])
        self.assertRegex(lines[0], says)
        print(f"exit {code}: {lines[0]}")

    def traffic(self, output):
        """Bytes by rank, communicator and name; nothing that takes time."""
        return json.loads((self.folder / f"{output}.json").read_text())

    def test_a_job_moves_the_same_bytes_and_leaves_the_same_bits_by_nccl(self):
        self.run_job("cpu", {**SHORT, **CPU})
        for output, exchange in [("nccl", "auto"), ("host", "host")]:
            self.expect_exit(0, self.nccl_job(output, {"engine.exchange": exchange},
                                              traffic=self.folder / f"{output}.json"))
            self.assertEqual(self.digests(output), self.digests("cpu"))
        ways = re.findall("^tensors travel between ranks (.*)$", self.log(), re.M)
        self.assertEqual(ways, ["by NCCL 2.28.9", "through the host's memory (engine.exchange = host)"])
        moved = self.traffic("host")
        self.assertGreater(len(json.dumps(moved)), 1000)
        self.assertEqual(self.traffic("nccl"), moved)
        # Ranks 0 and 2, 1 and 3 share: units of two neighbours have two GPUs, replicas have one.
        self.expect_exit(0, self.nccl_job("shared", environment={"FST_EMULATOR_DEVICES": "2"}))
        self.assertEqual(self.digests("shared"), self.digests("cpu"))
        self.assertRegex(self.log(), r"(?m)^tensors travel between ranks by NCCL 2\.28\.9 and, in groups that share "
                                     rf"a GPU, through the host's memory \(rank 0 and rank 2 share GPU-\w+ of node {NODE}\)$")

    def test_samplers_apart_get_the_weights_of_their_learner_by_broadcast(self):
        self.run_job("cpu", {**SHORT, **CPU})
        apart = {"ranks.rollout": 2, "ranks.reflection": 1, "ranks.learner": 1, "run.deadline": 60}
        for output, exchange in [("nccl", "auto"), ("host", "host")]:
            self.expect_exit(0, self.nccl_job(output, {"engine.exchange": exchange}, layout=apart,
                                              traffic=self.folder / f"{output}.json"))
            self.assertEqual(self.digests(output), self.digests("cpu"))
        moved = self.traffic("host")
        self.assertEqual(self.traffic("nccl"), moved)
        copied = [row for row in moved["traffic"] if row["what"] == "policy weights"]
        self.assertEqual({row["communicator"] for row in copied}, {"policy copies"})
        self.assertEqual(len([row for row in copied if row["received"] > 0]), 2)  # of 4 ranks
        self.expect_one_line(1, rf"^fst: rank 3 of 4 on node {NODE}[^:]*: ncclBroadcast: unhandled system error "
                                r"\(planted at ncclBroadcast\), at the broadcast of policy weights \(communicator policy copies, ",
                             {"run.steps": 1}, layout=apart, environment={"FST_NCCL_RECORDER": "fail:ncclBroadcast:1:3"})

    def test_units_that_draw_have_the_bits_and_the_traffic_of_steps_that_are_not_recorded(self):
        self.run_job("cpu", {**SHORT, **CPU})
        units = {"learner.tp": 2, "rollout.tp": 2, "reflection.tp": 2}
        for output, exchange in [("nccl", "auto"), ("host", "host")]:  # through the host nothing is recorded
            self.expect_exit(0, self.nccl_job(output, {"engine.exchange": exchange}, ranks=2, layout=units,
                                              traffic=self.folder / f"{output}.json"))
            self.assertEqual(self.digests(output), self.digests("cpu"))
        self.assertEqual(self.traffic("nccl"), self.traffic("host"))

    def test_nccl_that_is_asked_for_and_cannot_be_is_refused(self):
        refused = r"^fst: engine\.exchange = nccl: tensors cannot travel by NCCL between the ranks of all: "
        for environment, why in [
                ({"FST_NCCL_LIBRARY": "/nowhere/x.so"}, r"rank 0: /nowhere/x\.so: cannot open .*"),
                ({"FST_NCCL_RECORDER": "version:21200"},
                 r"rank 0: .*recorder\.so is version 2\.12\.0; at least 2\.14\.0 is needed"),
                ({"FST_NCCL_LIBRARY": "libm.so.6"}, r"rank 0: libm\.so\.6 does not tell its version"),
                ({"FST_EMULATOR_DEVICES": "1"}, rf"rank 0 and rank 1 share GPU-\w+ of node {NODE}")]:
            with self.subTest(environment=environment):
                self.expect_one_line(2, refused + why + "; use auto or host$", {"engine.exchange": "nccl"},
                                     ranks=2, layout={}, environment=environment)

    def test_without_nccl_tensors_go_through_the_host(self):
        self.expect_exit(0, self.nccl_job("run", {"run.steps": 1}, ranks=2, layout={},
                                          environment={"FST_NCCL_LIBRARY": "/nowhere/x.so"}))
        self.assertRegex(self.log(), r"(?m)^tensors travel between ranks through the host's memory \(rank 0: /nowhere/x\.so: ")

    def test_an_error_of_nccl_ends_the_job_with_call_exchange_and_rank(self):
        rank = rf"^fst: rank 1 of 2 on node {NODE}(, in \w+ of step \d+|, in start-up)?: "
        place = r", at the \w+ of [^(]*\(communicator [^,]*, its rank \d of \d, host [^,]*, NCCL 2\.28\.9\)$"
        for fault, says in [("fail:ncclSend:3:1", r"ncclSend: unhandled system error \(planted at ncclSend\)"),
                            ("lost:20:1", r"NCCL: remote process exited or there was a network error")]:
            with self.subTest(fault=fault):
                self.expect_one_line(1, rank + says + place, {"run.steps": 1}, ranks=2, layout=TWO,
                                     environment={"FST_NCCL_RECORDER": fault})

    def test_a_gpu_that_hangs_ends_the_job_at_the_deadline(self):
        for fault in ("hang:20:1", "stall:20:1"):  # before the exchange is queued, and when its turn comes
            with self.subTest(fault=fault):
                self.expect_one_line(1, rf"^fst: rank \d of 2 on node {NODE}[^:]*: waited \d+ s for [^(]* \((transfer|all_gather_into), "
                                        r"wait \d+ of communicator [^)]*\) on its rank \d of \d, host ",
                                     {"run.steps": 1, "run.deadline": 1}, ranks=2, layout=TWO,
                                     environment={"FST_NCCL_RECORDER": fault})

    def test_version_and_check_say_what_there_is(self):
        def said(*words, **environment):
            return subprocess.run([EMULATED, *words], capture_output=True, text=True, check=True,
                                  env={**os.environ, **NCCL, **environment}).stdout
        self.assertRegex(said("--version"), r"\nnccl +2\.28\.9\n")
        self.assertRegex(said("--version", FST_NCCL_LIBRARY="/nowhere/x.so"), r"\nnccl +none \(/nowhere/x\.so: cannot open ")
        check = ["check", str(job.DECK), "--engine.device=cuda"]
        self.assertIn("tensors between ranks: no tensor travels: one rank\n", said(*check))
        four = [*check, "--ranks", "4"]
        self.assertIn("tensors between ranks: by NCCL from GPU to GPU between ranks with a GPU each, else through the "
                      "host's memory; NCCL here: 2.28.9, 4 GPUs\n", said(*four))
        self.assertIn("by MPI: NCCL here: none (/nowhere/x.so: ", said(*four, FST_NCCL_LIBRARY="/nowhere/x.so"))
        self.assertIn("by MPI: engine.exchange = host\n", said(*four, "--engine.exchange=host"))
        self.assertIn("by MPI: the device is the CPU\n", said(*four, "--engine.device=cpu"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
