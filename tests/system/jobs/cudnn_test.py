"""Whole jobs whose learner leaves attention to cuDNN: on emulated GPUs, by the library of tests/cudnn."""
import os
import re
import subprocess
import unittest

import job
from cuda_test import CUDA, EMULATED, TINY

LIBRARY = {"FST_CUDNN_LIBRARY": os.environ["FST_CUDNN_STAND_IN_LIBRARY"]}
NONE = {"FST_CUDNN_LIBRARY": "/nowhere/x.so"}
BF16 = {**TINY, **CUDA, "engine.dtype": "bf16", "engine.exact": "off"}
CUDNN = {**BF16, "engine.attention": "cudnn"}
# Largest difference of a log-probability between the sampler, with our attention, and the learner: rounding of the
# model's hidden states in bf16, 2^-8 of values around 4, far above what the two attentions differ by.
LOGPROB_DIFFERENCE = 0.05


class Cudnn(job.JobTest):
    def cudnn_job(self, output, keys=None, environment=None, **options):
        process = self.start(output, {**CUDNN, **(keys or {})}, program=EMULATED,
                             environment={**LIBRARY, **(environment or {})}, **options)
        return process.wait()

    def expect_refused(self, says, keys=None, environment=None):
        (self.folder / "log.txt").unlink(missing_ok=True)
        self.assertEqual(self.cudnn_job("refused", keys, environment), 2, self.log()[-4000:])
        self.assertRegex(self.log(), says)

    def test_a_job_learns_with_it_twice_alike_and_near_our_own(self):
        for output in ["one", "two"]:
            self.assertEqual(self.cudnn_job(output), 0, self.log()[-4000:])
        self.assertEqual(self.digests("one"), self.digests("two"))
        self.run_job("own", BF16, program=EMULATED)
        self.assertNotEqual(self.digests("one"), self.digests("own"))  # it was used
        steps = job.metrics(self.folder / "one", "step")
        self.assertEqual(len(steps), TINY["run.steps"])
        difference = max(step["logprob/abs_diff_max"] for step in steps)
        self.assertTrue(0 < difference < LOGPROB_DIFFERENCE, difference)
        # Activations that are computed again are the same; so is a learner of another layout but for the sums' order.
        self.assertEqual(self.cudnn_job("again", {"learner.recompute": "on"}), 0, self.log()[-4000:])
        self.assertEqual(self.digests("again"), self.digests("one"))
        self.assertEqual(self.cudnn_job("shared", {"learner.tp": 2, "rollout.tp": 2}, ranks=2), 0, self.log()[-4000:])

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
