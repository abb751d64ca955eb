"""Nothing hangs: whatever one rank does in whichever phase, the job ends with one message."""
import concurrent.futures
import os
import socket
import time
import unittest

import job

# run.deadline, s: short where the deadline ends the job; else a job that ends by it comes too late.
SHORT, LONG = 5, 100
PATIENCE = 40  # s that a machine busy with other tests may take for a job of two seconds
# The phase, who fails in it, and the layout. close: amid writing a checkpoint together.
PHASES = {"rollout": (0, 3, job.split(1, 1, 1)), "reflection": (1, 3, job.split(1, 1, 1)),
          "learning": (2, 3, job.split(1, 1, 1)), "evaluation": (1, 2, {}),
          "checkpoint": (1, 2, {}), "close": (1, 3, {})}


class Fault(job.JobTest):
    def run_with_fault(self, phase, kind):
        rank, ranks, layout = PHASES[phase]
        name = f"{phase}_{kind}"
        began = time.monotonic()
        log = name + ".log"
        deadline = SHORT if kind in ("sleep", "stop") else LONG
        process = self.start(name, {**layout, "run.deadline": deadline}, ranks=ranks, log=log,
                             environment={"FST_FAULT": f"{rank} {phase} {kind}"},
                             program=os.environ["FST_WITH_FAULTS"])
        code = process.wait(PATIENCE)
        lines = [line for line in self.log(log).splitlines()
                 if line.startswith("fst: ") and not line.startswith("fst: warning")]
        return code, time.monotonic() - began, lines, self.log(log)

    def expect_one_report(self, kinds, expected, phases=tuple(PHASES), says=""):
        """Each phase with each kind; `expected` of the place at fault is in the only message."""
        node = socket.gethostname()
        cases = [(phase, kind) for phase in phases for kind in kinds]
        with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
            results = list(pool.map(lambda case: self.run_with_fault(*case), cases))
        for (phase, kind), (code, seconds, lines, log) in zip(cases, results):
            with self.subTest(phase=phase, kind=kind):
                rank, ranks, _ = PHASES[phase]
                step = 1 if phase == "learning" else 0
                doing = "checkpoint" if phase == "close" else phase
                place = f"rank {rank} of {ranks} on node {node}, in {doing} of step {step}"
                self.assertNotIn(code, (0, 2, 75), log)
                self.assertEqual(len(lines), 1, log)
                self.assertIn(expected(place), lines[0])
                self.assertIn(says, lines[0])
                print(f"{phase:10} {kind:6} exit {code:3} after {seconds:4.1f} s: {lines[0]}")

    def test_a_rank_that_throws_says_where(self):
        self.expect_one_report(["throw"], lambda place: f"{place}: a fault was injected",
                               [phase for phase in PHASES if phase != "close"])

    def test_a_rank_that_dies_is_named_by_the_others(self):
        self.expect_one_report(["exit", "kill"], lambda place: f"{place}, died")

    def test_a_rank_that_stalls_is_named_by_the_others(self):
        # Beside it another may be late, whose disk is slow.
        self.expect_one_report(["sleep"], lambda place: f"{place} for ",
                               [phase for phase in PHASES if phase != "close"], says="late: ")

    def test_a_stopped_rank_is_told_from_a_busy_one(self):
        self.expect_one_report(["stop"], lambda place: f"{place} for ", says="is stopped")

    def test_an_error_of_all_ranks_is_said_once(self):
        process = self.start("full", {}, ranks=3, file_bytes=8 << 20)  # a checkpoint has 10 MB
        self.assertEqual(process.wait(), 1)
        lines = [line for line in self.log().splitlines() if line.startswith("fst: ")]
        self.assertEqual(len(lines), 1, self.log())
        self.assertRegex(lines[0], r"rank \d of 3 on node \S+, in checkpoint of step 0: .*ulimit")


if __name__ == "__main__":
    unittest.main(verbosity=2)
