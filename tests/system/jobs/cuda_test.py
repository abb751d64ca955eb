"""The whole job with device = cuda, on GPUs that tests/emulator executes: the bits of the CPU."""
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


if __name__ == "__main__":
    unittest.main(verbosity=2)
