"""Whole jobs in bf16 whose products are cuBLASLt's: on emulated GPUs, by the library of tests/cublaslt."""
import os
import unittest

import job
from cuda_test import CPU, CUDA, EMULATED, TINY

STANDIN = os.environ["FST_CUBLASLT_STANDIN_LIBRARY"]
# A micro-batch of one sequence begins the sum of a weight gradient, which may be cuBLASLt's.
BF16 = {**TINY, **CUDA, "engine.dtype": "bf16", "run.steps": 1, "eval.every": 0, "kl.seed_prompt": 0,
        "kl.coef": 0, "learner.micro_batch": 1}
FREE = {**BF16, "engine.exact": "off"}


class Products(job.JobTest):
    def library_job(self, output, keys, library=STANDIN, **options):
        environment = {"FST_CUBLASLT_LIBRARY": library,
                       "FST_CUBLASLT_STANDIN": f"log:{self.folder}/{output}.calls"}
        return self.run_job(output, keys, program=EMULATED, environment=environment, **options)

    def calls(self, output, text):
        path = self.folder / f"{output}.calls"
        return [line for line in path.read_text().splitlines() if text in line] if path.exists() else []

    def test_certified_products_have_the_bits_of_our_kernels(self):
        self.library_job("own", {**BF16, "engine.products": "own"})
        self.assertEqual(self.calls("own", ""), [])
        self.library_job("certified", {**BF16, "engine.products": "certified"})
        self.assertIn("matrices are multiplied by cuBLASLt where it has our kernels' bits", self.log())
        shapes = self.calls("certified", "heuristic")
        self.assertEqual(len(shapes), len(set(shapes)))  # each is asked for once
        for kind in (" tn chain", " nn chain", " nt chain", " batch 8 "):  # forward, dX, dW, leaves
            self.assertTrue([line for line in shapes if kind in line], kind)
        # Comparing and timing multiply some two dozen times a shape; what is more was used.
        self.assertGreater(len(self.calls("certified", "multiply")), 24 * len(shapes))
        self.assertEqual(self.digests("certified"), self.digests("own"))

    def test_a_run_may_give_its_bits_away_and_keeps_to_it(self):
        self.library_job("free", FREE)
        self.assertIn("matrices are multiplied by cuBLASLt in any order of sums", self.log())
        self.assertTrue(self.calls("free", "algorithm 2"))  # split sums
        self.assertFalse(self.calls("free", "batch 8"))
        self.library_job("free", BF16, resume="auto", expect=2)
        self.assertIn("engine.exact = true, but the run has false", self.log())
        self.library_job("free", FREE, resume="auto")

    def test_a_library_that_is_not_there_is_refused_where_it_is_named(self):
        self.library_job("none", {**BF16, "engine.products": "certified"}, library="/no/such.so", expect=2)
        self.assertIn("engine.products = certified: rank 0 has no cuBLASLt", self.log())
        self.library_job("own", {**FREE, "run.steps": 0}, library="/no/such.so")
        self.assertIn("matrices are multiplied by our kernels; cuBLASLt here: none (/no/such.so", self.log())
        self.run_job("cpu", {**FREE, **CPU}, expect=2)
        self.assertIn("engine.exact: off is for GPUs, but engine.device = cpu", self.log())
        self.run_job("auto", {**FREE, "engine.device": "auto"}, program=EMULATED, expect=2,
                     environment={"FST_EMULATOR_DEVICES": "0"})
        self.assertIn("engine.exact = off: it is for GPUs, but the device is the CPU", self.log())


if __name__ == "__main__":
    unittest.main(verbosity=2)
