"""The whole job with device = cuda, on GPUs that tests/emulator executes: in f32 the bits of the CPU."""
import os
import unittest

import job

EMULATED = os.environ["FST_EMULATED"]
# What the emulator does in seconds: every part of the loop, each once or twice.
TINY = {"run.steps": 2, "run.save_every": 1, "train.steps_per_cycle": 1,
        "train.problems_per_step": 2, "train.group_size": 2, "evolve.prompts": 1,
        "evolve.anchors": 2, "evolve.minibatch": 1, "evolve.max_metric_calls": 4, "eval.every": 2, "eval.problems": 2,
        "eval.samples": 1, "kl.seed_prompt": 0.1}
CUDA = {"engine.device": "cuda"}
CPU = {"engine.device": "cpu"}  # auto would take a GPU that is there


class Cuda(job.JobTest):
    def cuda_job(self, output, keys=None, **options):
        return self.run_job(output, {**TINY, **CUDA, **(keys or {})}, program=EMULATED, **options)

    def test_a_gpu_has_the_bits_of_the_cpu_in_any_layout_and_after_a_restart(self):
        self.run_job("cpu", {**TINY, **CPU})
        self.cuda_job("cuda")
        used = [line for line in self.log().splitlines() if line.startswith("attempt ")][-1]
        self.assertIn("cuda 0, emulated device", used)  # not the CPU under another name
        self.assertEqual(self.digests("cuda"), self.digests("cpu"))
        self.cuda_job("split", job.split(1, 1, 1), ranks=3)
        self.assertEqual(self.digests("split"), self.digests("cpu"))
        self.cuda_job("shared", {"learner.tp": 2, "rollout.tp": 2}, ranks=2)
        self.assertEqual(self.digests("shared"), self.digests("cpu"))
        # Begun on the CPU, ended on a GPU.
        self.run_job("moved", {**TINY, **CPU, "run.steps": 1})
        self.cuda_job("moved", resume="auto")
        self.assertEqual(self.digests("moved"), self.digests("cpu"))

    def test_a_run_in_bf16_has_one_set_of_bits_on_gpus_and_stays_there(self):
        bf16 = {"engine.dtype": "bf16"}
        self.cuda_job("alone", bf16)
        shared = {**bf16, "learner.tp": 2, "rollout.tp": 2, "learner.micro_batch": 1, "learner.recompute": "on"}
        self.cuda_job("moved", {**shared, "run.steps": 1}, ranks=2)
        # Sums of products in bf16 are the device's: a CPU's would be others.
        self.run_job("moved", {**TINY, **CPU, **bf16}, resume="auto", expect=2)
        self.assertIn("engine.dtype: the run has bf16 of sm_90, here is bf16 of CPUs", self.log())
        self.cuda_job("moved", {**bf16, **job.split(1, 1, 1)}, ranks=3, resume="auto")
        self.assertEqual(self.digests("moved"), self.digests("alone"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
