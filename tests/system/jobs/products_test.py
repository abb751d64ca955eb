"""Whole jobs in bf16 whose products are cuBLASLt's: on emulated GPUs, by the library of tests/cublaslt."""
import os
import re
import subprocess
import unittest

import job
from cuda_test import CPU, CUDA, EMULATED, TINY

STANDIN = os.environ["FST_CUBLASLT_STANDIN_LIBRARY"]
# Few tokens, as every shape is compared on the emulator. A micro-batch of one sequence begins the sum of a weight
# gradient, which may be cuBLASLt's.
BF16 = {**TINY, **CUDA, "engine.dtype": "bf16", "run.steps": 1, "eval.every": 0, "kl.seed_prompt": 0,
        "kl.coef": 0, "learner.micro_batch": 1, "learner.head_chunk": 16, "rollout.max_new_tokens": 16,
        "rollout.max_batch": 8, "rollout.prefill_chunk": 24}
# Six prompts at once, more than 64 rows: products of o and down that no fused kernel does.
MANY = {**BF16, "rollout.prefill_chunk": 72, "eval.every": 2, "eval.problems": 6, "eval.kl": "off"}
FREE = {**BF16, "engine.exact": "off"}
COMPARED = re.compile(r"cuBLASLt 13\.1\.0 was compared with our kernels, (\d+) shapes: (\d+) with the same bits, (\d+) of them")
MET = re.compile(r"products: (\d+) shapes were met that the start planned, (\d+) others")


class Products(job.JobTest):
    def library_job(self, output, keys, library=STANDIN, words="", environment=None, **options):
        environment = {"FST_CUBLASLT_LIBRARY": library, **(environment or {}),
                       "FST_CUBLASLT_STANDIN": f"log:{self.folder}/{output}.calls {words}"}
        return self.run_job(output, keys, program=EMULATED, environment=environment, **options)

    def calls(self, output, text):
        path = self.folder / f"{output}.calls"
        return [line for line in path.read_text().splitlines() if text in line] if path.exists() else []

    def expect_planned(self, fewest):
        """All products of the last job were among those that its start compared."""
        compared, equal, used = (int(number) for number in COMPARED.findall(self.log())[-1])
        met, others = (int(number) for number in MET.findall(self.log())[-1])
        self.assertEqual(compared, equal)
        self.assertEqual(others, 0)
        self.assertGreaterEqual(met, fewest)
        self.assertLessEqual(met, compared)
        self.assertGreater(used, 0)  # the stand-in is one launch

    def test_certified_products_have_the_bits_of_our_kernels(self):
        self.library_job("own", {**MANY, "engine.products": "own"})
        self.assertEqual(self.calls("own", ""), [])
        self.library_job("auto", MANY)
        self.expect_planned(16)
        lines = self.calls("auto", "")
        shapes = [line for line in lines if line.startswith("heuristic")]
        self.assertEqual(len(shapes), len(set(shapes)))  # each is asked for once
        # What was multiplied behind the start: qkv and gate_up, o and down in leaves, the head; dX by chains and in leaves;
        # dW. Only one kind is the last shape's, which the start was still comparing.
        used = lines[lines.index(shapes[-1]) + 1:]
        for kind in (" batch 1 bf16 tn", " batch 8 f32 tn", " batch 1 f32 tn", " batch 1 bf16 nn", " batch 8 f32 nn",
                     " batch 1 f32 nt"):
            self.assertTrue([line for line in used if kind in line], kind)
        self.assertEqual(self.digests("auto"), self.digests("own"))
        two = {**MANY, **{f"{role}.tp": 2 for role in ("rollout", "reflection", "learner")}, "rollout.prefill_chunk": 24}
        self.library_job("two", {**two, "engine.products": "certified"}, ranks=2)
        self.expect_planned(16)
        self.assertTrue(self.calls("two", "batch 4 f32"))  # half of the leaves
        self.assertEqual(self.digests("two"), self.digests("own"))

    def test_a_device_that_fails_meanwhile_ends_the_job_and_says_what_to_do(self):
        self.library_job("fault", BF16, environment={"FST_EMULATOR_FAIL": "launch:60"}, expect=1)
        self.assertRegex(self.log(), r"fst: rank 0 of 1 on node .*: while cuBLASLt 13\.1\.0 was compared with our kernels, \w+ \[\d+, \d+\]"
                                     r".* tokens: .*cudaError.*; engine.products = own does without cuBLASLt")

    def test_a_run_may_give_its_bits_away_and_keeps_to_it(self):
        self.library_job("free", FREE)
        self.assertIn("matrices are multiplied by cuBLASLt in any order of sums", self.log())
        self.assertTrue(self.calls("free", "algorithm 2"))  # split sums
        self.assertFalse(self.calls("free", "batch 8"))
        self.library_job("free", {**BF16, "engine.products": "own"}, resume="auto", expect=2)
        self.assertIn("engine.exact = true, but the run has false", self.log())
        self.library_job("free", FREE, resume="auto")

    def test_a_library_that_is_not_there_is_refused_where_it_is_named(self):
        self.library_job("none", {**BF16, "engine.products": "certified"}, library="/no/such.so", expect=2)
        self.assertIn("engine.products = certified: rank 0 cannot use cuBLASLt", self.log())
        self.library_job("none", {**BF16, "engine.products": "certified"}, words="fail:Create", expect=2)
        self.assertIn("rank 0 cannot use cuBLASLt (rank 0: cublasLtCreate: CUBLAS_STATUS_INTERNAL_ERROR)", self.log())
        never = {**BF16, "run.steps": 0}
        self.library_job("begins", never, words="fail:Create")
        self.assertIn("matrices are multiplied by our kernels; cuBLASLt here: cublasLtCreate", self.log())
        self.run_job("emulated", never, program=EMULATED, environment={"FST_CUBLASLT_LIBRARY": ""})
        self.assertIn("cuBLASLt here: none (GPUs are emulated and FST_CUBLASLT_LIBRARY is not set)", self.log())
        self.library_job("own", {**FREE, "run.steps": 0}, library="/no/such.so")
        self.assertIn("matrices are multiplied by our kernels; cuBLASLt here: none (/no/such.so", self.log())
        self.run_job("cpu", {**FREE, **CPU}, expect=2)
        self.assertIn("engine.exact: off is for GPUs, but engine.device = cpu", self.log())
        self.run_job("auto", {**FREE, "engine.device": "auto"}, program=EMULATED, expect=2,
                     environment={"FST_EMULATOR_DEVICES": "0"})
        self.assertIn("engine.exact = off: it is for GPUs, but the device is the CPU", self.log())

    def test_check_says_who_will_multiply(self):
        for keys, expected in ((BF16, "by cuBLASLt where, compared at the start, it has our kernels' bits"),
                               ({**BF16, "engine.products": "own"}, "by our kernels\n"),
                               ({**BF16, "engine.dtype": "f32"}, "by our kernels\n"),
                               (FREE, "by cuBLASLt in any order of sums; cuBLASLt here: 13.1.0")):
            deck = [f"--{key}={value}" for key, value in keys.items()]
            done = subprocess.run([EMULATED, "check", str(job.DECK), *deck], capture_output=True, text=True,
                                  env={**os.environ, "FST_CUBLASLT_LIBRARY": STANDIN})
            self.assertIn("products of matrices: " + expected, done.stdout, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
