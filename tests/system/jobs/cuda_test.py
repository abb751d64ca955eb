"""The whole job with device = cuda, on GPUs that tests/emulator executes: in f32 the bits of the CPU."""
import os
import re
import unittest

import job

EMULATED = os.environ["FST_EMULATED"]
# What the emulator does in seconds: every part of the loop, each once or twice.
TINY = {"run.steps": 2, "run.save_every": 1, "train.steps_per_cycle": 1,
        "train.problems_per_step": 2, "train.group_size": 2, "evolve.prompts": 1,
        "evolve.anchors": 2, "evolve.minibatch": 1, "evolve.max_metric_calls": 4, "eval.every": 2, "eval.problems": 2,
        "eval.samples": 1, "kl.seed_prompt": 0.1, "rollout.kv_mib": 8}
CUDA = {"engine.device": "cuda"}
CPU = {"engine.device": "cpu"}  # auto would take a GPU that is there
# What a phase left in bytes that others share may not be read, and memory is taken once: another call fails.
STRICT = {"FST_POISON_PHASES": "1", "FST_EMULATOR_FAIL": "cudaMalloc:2"}
# What is planned, over what a job of these sizes uses: sequences are shorter than planned, pieces are rounded up.
SLACK = 1.25
MIB = {"MiB": 1.0, "GiB": 1024.0}
USED = re.compile(r"([a-z ]+) ([\d.]+) ([MG]iB) of ([\d.]+) ([MG]iB)")


class Cuda(job.JobTest):
    def cuda_job(self, output, keys=None, **options):
        folder = self.run_job(output, {**TINY, **CUDA, **(keys or {})}, program=EMULATED, environment=STRICT,
                              **options)
        self.assertNotIn("more memory than planned", self.log())
        return folder

    def memory(self):
        """Of each kind of rank of the last job: MiB used and planned by phase."""
        lines = [line for line in self.log().splitlines() if line.startswith("memory of ")]
        kinds = {}
        for line in lines:
            kind, _, phases = line.partition(", used of what was planned: ")
            kinds[kind] = {name.strip(): (float(used) * MIB[a], float(planned) * MIB[b])
                           for name, used, a, planned, b in USED.findall(phases)}
        return kinds

    def expect_used(self, kinds):
        """The plan of the last job was kept, and not by planning too much."""
        memory = self.memory()
        for kind in kinds:
            phases = memory["memory of " + kind]
            print(kind, phases)
            for phase, (used, planned) in phases.items():
                self.assertLessEqual(used, planned, (kind, phase))
                self.assertLessEqual(planned, SLACK * used + 0.2, (kind, phase))

    def test_a_gpu_has_the_bits_of_the_cpu_in_any_layout_and_after_a_restart(self):
        self.run_job("cpu", {**TINY, **CPU})
        self.cuda_job("cuda")
        used = [line for line in self.log().splitlines() if line.startswith("attempt ")][-1]
        self.assertIn("cuda 0, emulated device", used)  # not the CPU under another name
        self.assertEqual(self.digests("cuda"), self.digests("cpu"))
        self.expect_used(["every rank"])
        self.cuda_job("split", job.split(1, 1, 1), ranks=3)
        self.assertEqual(self.digests("split"), self.digests("cpu"))
        self.expect_used(["a rollout rank", "a reflection rank", "a learner rank"])
        self.cuda_job("shared", {"learner.tp": 2, "rollout.tp": 2}, ranks=2)
        self.assertEqual(self.digests("shared"), self.digests("cpu"))
        self.expect_used(["every rank"])
        # Begun on the CPU, ended on a GPU.
        self.run_job("moved", {**TINY, **CPU, "run.steps": 1})
        self.cuda_job("moved", resume="auto")
        self.assertEqual(self.digests("moved"), self.digests("cpu"))

    def test_a_run_in_bf16_has_one_set_of_bits_on_gpus_and_stays_there(self):
        bf16 = {"engine.dtype": "bf16"}
        self.cuda_job("alone", bf16)
        shared = {**bf16, "learner.tp": 2, "rollout.tp": 2, "learner.micro_batch": 1, "learner.recompute": "on"}
        self.cuda_job("moved", {**shared, "run.steps": 1}, ranks=2)
        self.expect_used(["every rank"])
        # Sums of products in bf16 are the device's: a CPU's would be others.
        self.run_job("moved", {**TINY, **CPU, **bf16}, resume="auto", expect=2)
        self.assertIn("engine.dtype: the run has bf16 of sm_90, here is bf16 of CPUs", self.log())
        self.cuda_job("moved", {**bf16, **job.split(1, 1, 1)}, ranks=3, resume="auto")
        self.expect_used(["a rollout rank", "a reflection rank", "a learner rank"])
        self.assertEqual(self.digests("moved"), self.digests("alone"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
