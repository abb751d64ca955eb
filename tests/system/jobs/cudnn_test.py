"""Whole jobs whose learner leaves attention to cuDNN: on emulated GPUs, by the library of tests/cudnn."""
import os
import re
import subprocess
import unittest

import job
from cuda_test import CUDA, EMULATED

LIBRARY = {"FST_CUDNN_LIBRARY": os.environ["FST_CUDNN_STAND_IN_LIBRARY"]}
NONE = {"FST_CUDNN_LIBRARY": "/nowhere/x.so"}
# One step of reinforcement learning, of which one group of completions has a gradient.
BF16 = {"run.method": "rl", "run.steps": 1, "run.save_every": 1, "train.steps_per_cycle": 1, "train.problems_per_step": 2,
        "train.group_size": 8, "eval.every": 0, **CUDA, "engine.dtype": "bf16", "engine.exact": "off",
        "engine.products": "own"}  # cuBLASLt itself has no use for emulated GPUs
CUDNN = {**BF16, "engine.attention": "cudnn"}
# What rounding in bf16, 2^-9 of a value at a time, leaves after 8 layers, in steps of which it was at most half as much.
LOGPROB_DIFFERENCE = 0.1  # between the sampler, with our attention, and the learner
NORM_DIFFERENCE = 0.01    # of the gradient, relative


class Cudnn(job.JobTest):
    def cudnn_job(self, output, keys=None, environment=None, **options):
        process = self.start(output, {**CUDNN, **(keys or {})}, program=EMULATED,
                             environment={**LIBRARY, **(environment or {})}, **options)
        return process.wait()

    def expect_refused(self, says, keys=None, environment=None):
        (self.folder / "log.txt").unlink(missing_ok=True)
        self.assertEqual(self.cudnn_job("refused", keys, environment), 2, self.log()[-4000:])
        self.assertRegex(self.log(), says)

    def step_of(self, output):
        step, = job.metrics(self.folder / output, "step")
        return step

    def expect_near(self, output, own):
        norm = self.step_of(output)["optim/grad_norm"]
        self.assertGreater(own, 0.1)
        self.assertLess(abs(norm / own - 1), NORM_DIFFERENCE)
        print(f"{output}: gradient {norm / own - 1:+.5f}, log-probability {self.step_of(output)['logprob/abs_diff_max']:.4f}")

    def test_a_job_learns_with_it_near_our_own_attention(self):
        self.run_job("own", BF16, program=EMULATED)
        own = self.step_of("own")
        self.assertEqual(own["logprob/abs_diff_max"], 0)
        self.assertEqual(self.cudnn_job("cudnn"), 0, self.log()[-4000:])
        difference = self.step_of("cudnn")["logprob/abs_diff_max"]
        self.assertTrue(0 < difference < LOGPROB_DIFFERENCE, difference)  # above 0: it was used
        self.expect_near("cudnn", own["optim/grad_norm"])
        # Activations that are computed again are the same, so the run has the same bits.
        self.assertEqual(self.cudnn_job("again", {"learner.recompute": "on"}), 0, self.log()[-4000:])
        self.assertEqual(self.digests("again"), self.digests("cudnn"))
        self.assertEqual(self.cudnn_job("shared", {"learner.tp": 2, "rollout.tp": 2}, ranks=2), 0, self.log()[-4000:])
        self.expect_near("shared", own["optim/grad_norm"])

    def test_where_it_cannot_be_it_is_refused(self):
        self.expect_refused(r"engine\.attention: cudnn sums in an order of its own: it needs engine\.exact = off",
                            {"engine.exact": "on"})
        self.expect_refused(r"engine\.exact: off is for engine\.dtype = bf16", {"engine.dtype": "f32"})
        self.expect_refused(r"off is for GPUs, but engine\.device = cpu", {"engine.device": "cpu"})
        self.expect_refused(r"engine\.attention = cudnn: cuDNN here: none \(/nowhere/x\.so: cannot open", environment=NONE)
        self.expect_refused(r"none \(.*stand_in\.so is version 9\.10\.0; at least 9\.19\.0 is needed\)",
                            environment={"FST_CUDNN_STAND_IN": "version:91000"})
        self.expect_refused(r"none \(libm\.so\.6 does not tell its version\)", environment={"FST_CUDNN_LIBRARY": "libm.so.6"})

    def test_a_failure_of_cudnn_ends_the_job_with_its_words(self):
        for fault, says in [("fail:execute:3", r"cudnnBackendExecute: CUDNN_STATUS_EXECUTION_FAILED, planted"),
                            ("fail:plan:2", r"cuDNN 9\.19\.0 has no plan for attention of \d+ x 128 rows, .*planted")]:
            (self.folder / "log.txt").unlink(missing_ok=True)
            self.assertEqual(self.cudnn_job(fault.replace(":", "-"), environment={"FST_CUDNN_STAND_IN": fault}), 1)
            self.assertRegex(self.log(), says)

    def test_version_and_check_say_what_there_is(self):
        def said(*words, **environment):
            return subprocess.run([EMULATED, *words], capture_output=True, text=True, check=True,
                                  env={**os.environ, **environment}).stdout
        self.assertRegex(said("--version", **LIBRARY), r"\ncudnn +9\.19\.0\n")
        self.assertRegex(said("--version", **NONE), r"\ncudnn +none \(/nowhere/x\.so: cannot open ")
        check = ["check", str(job.DECK), *(f"--{key}={value}" for key, value in CUDNN.items())]
        self.assertIn("attention of the learner: by cuDNN; here: 9.19.0\n", said(*check, **LIBRARY))
        self.assertTrue(re.search(r"cuDNN's working memory: \d+\.\d MiB\n", said(*check, **NONE)))


if __name__ == "__main__":
    unittest.main(verbosity=2)
