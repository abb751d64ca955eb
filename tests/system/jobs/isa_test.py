"""isa_test.py ISA: with this instruction set a run has the bits of the machine's best one.

Exit 77 (CTest: skipped) where the CPU lacks it: not run is not passed.
"""
import sys
import unittest

import job

ISA = sys.argv.pop(1)


class Isa(job.JobTest):
    def expect_same_bits(self, keys):
        forced = self.start("forced", keys, environment={"FST_ISA": ISA})
        code = forced.wait()
        if code == 2 and "this CPU lacks it" in self.log():
            self.skipTest(f"not run: the CPU lacks {ISA}")
        self.assertEqual(code, 0, self.log())
        used = [line for line in self.log().splitlines() if line.startswith("attempt ")][-1]
        self.assertIn(f"cpu, {ISA}", used)  # not silently another one
        self.run_job("best", keys)
        self.assertEqual(self.digests("forced"), self.digests("best"))

    def test_the_instruction_set_changes_no_bit(self):
        self.expect_same_bits({"run.steps": 2, "train.steps_per_cycle": 2, "eval.every": 2})

    def test_the_instruction_set_changes_no_bit_in_bfloat16(self):
        self.expect_same_bits({"engine.dtype": "bf16", "run.steps": 1, "eval.every": 0})


if __name__ == "__main__":
    program = unittest.main(verbosity=2, exit=False)
    if program.result.skipped:
        sys.exit(77)
    sys.exit(not program.result.wasSuccessful())
