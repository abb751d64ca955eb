"""What goes wrong with GPUs ends the job as on the CPU: one line that says where and what, one exit code."""
import json
import os
import re
import shutil
import socket
import subprocess
import unittest

import job
from cuda_test import CUDA, EMULATED, TINY

PATIENCE = 100  # s that a machine busy with other tests may take for an emulated job of a few
NODE = re.escape(socket.gethostname())
ONE = rf"^fst: rank 0 of 1 on node {NODE}(, in [^:]*)?: "  # in start-up it says no more
THREE = rf"^fst: rank \d of 3 on node {NODE}(, in [^:]*)?: "
HOST = {"engine.exchange": "host"}  # for a GPU each: NCCL may be here, these GPUs are not
LOST = r"[^:]*: cudaErrorLaunchFailure, the device was lost at "


class CudaFault(job.JobTest):
    def cuda_job(self, keys=None, **options):
        return self.start("run", {**TINY, **CUDA, "run.steps": 1, **(keys or {})}, program=EMULATED,
                          **options)

    def expect_one_line(self, code, says, keys=None, environment=None, **options):
        """The job ends with this code after one line of this pattern."""
        (self.folder / "log.txt").unlink(missing_ok=True)
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        process = self.cuda_job(keys, environment=environment, **options)
        self.assertEqual(process.wait(PATIENCE), code, self.log()[-4000:])
        lines = [line for line in self.log().splitlines()
                 if line.startswith("fst: ") and not line.startswith("fst: warning")]
        self.assertEqual(len(lines), 1, self.log()[-4000:])
        self.assertRegex(lines[0], says)
        print(f"exit {code}: {lines[0]}")

    def test_without_a_gpu_a_job_for_one_is_refused_and_auto_takes_the_cpu(self):
        none = {"FST_EMULATOR_DEVICES": "0"}
        for ranks, layout in [(1, {}), (3, job.split(1, 1, 1))]:
            self.expect_one_line(2, "^fst: device cuda: there is no GPU 0; CUDA here: .* 0 devices; use cpu or auto$",
                                 layout, none, ranks=ranks)
            self.assertFalse((self.folder / "run").exists())
        (self.folder / "log.txt").unlink()
        process = self.cuda_job({"engine.device": "auto"}, environment=none)
        self.assertEqual(process.wait(PATIENCE), 0, self.log())
        self.assertRegex(self.log(), "attempt 1 .*; cpu, ")
        done = subprocess.run([EMULATED, "--version"], capture_output=True, text=True, check=True,
                              env={**os.environ, **none})
        self.assertRegex(done.stdout, r"cuda +13\.0, driver 13\.0, 0 devices\n")

    def test_a_gpu_without_compiled_code_is_refused(self):
        self.expect_one_line(2, "^fst: device cuda: GPU 0 is emulated device, sm_90, .* no code: build it with ",
                             environment={"FST_EMULATOR_FAIL": "cudaFuncGetAttributes:1"})

    def test_gpus_of_several_kinds_are_refused_in_bf16_alone(self):
        mixed = {"FST_EMULATOR_DEVICES": "2", "FST_EMULATOR_MAJOR": "9,8"}
        self.expect_one_line(2, "^fst: rank 0 has bf16 of sm_90, rank 1 has another: ",
                             {"engine.dtype": "bf16"}, mixed, ranks=2)
        (self.folder / "log.txt").unlink()
        process = self.cuda_job(HOST, environment=mixed, ranks=2)
        self.assertEqual(process.wait(PATIENCE), 0, self.log())

    def test_ranks_that_share_gpus_say_so(self):
        process = self.cuda_job(job.split(1, 1, 1), environment={"FST_EMULATOR_DEVICES": "2"}, ranks=3)
        self.assertEqual(process.wait(PATIENCE), 0, self.log())
        self.assertEqual(len(re.findall(f"^3 ranks share 2 GPUs on node {NODE}: ", self.log(), re.M)), 1, self.log())
        (self.folder / "log.txt").unlink()
        shutil.rmtree(self.folder / "run")
        process = self.cuda_job({**job.split(1, 1, 1), **HOST}, environment={"FST_EMULATOR_DEVICES": "3"}, ranks=3)
        self.assertEqual(process.wait(PATIENCE), 0, self.log())
        self.assertNotIn("share", self.log())

    def test_too_little_memory_is_told_with_what_was_wanted_and_what_was_free(self):
        wanted = r"out of memory: \d+ bytes wanted on cuda 0, emulated device, .* GiB, \d+ free$"
        trusted = {"engine.memory_mib": 4096}  # else the plan is held against the GPU: the next test
        for megabytes in [1, 24]:
            self.expect_one_line(1, ONE + wanted, trusted, {"FST_EMULATOR_MEMORY": str(megabytes << 20)})
        self.expect_one_line(1, THREE + wanted, {**trusted, **job.split(1, 1, 1)},
                             {"FST_EMULATOR_MEMORY": str(1 << 20)}, ranks=3)
        self.expect_one_line(1, ONE + wanted, environment={"FST_EMULATOR_FAIL": "cudaMalloc:1"})

    def test_a_plan_that_does_not_fit_the_gpu_is_refused_before_any_work(self):
        self.expect_one_line(2, r"^fst: engine\.memory_mib = 0 allows what its GPU has, 64\.0 MiB, but every rank needs ",
                             environment={"FST_EMULATOR_MEMORY": str(64 << 20)})
        self.assertFalse((self.folder / "run").exists())

    def test_a_lost_device_ends_the_job_at_the_next_call(self):
        for fault, where in [("launch:1", "a launch"), ("launch:2000", "a launch"),
                             ("cudaMemcpyAsync:100", "cudaMemcpyAsync"),
                             ("cudaStreamSynchronize:100", "cudaStreamSynchronize"),
                             ("cudaEventSynchronize:10", "cudaEventSynchronize"),
                             ("cudaFuncSetAttribute:1", "cudaFuncSetAttribute")]:
            with self.subTest(fault=fault):
                self.expect_one_line(1, ONE + LOST + where,
                                     environment={"FST_EMULATOR_FAIL": fault})
        self.expect_one_line(1, THREE + LOST, job.split(1, 1, 1),
                             {"FST_EMULATOR_FAIL": "launch:300"}, ranks=3)

    def test_an_error_of_the_devices_memory_is_named(self):
        says = r"[^:]*: cudaErrorECCUncorrectable, the device was lost at a launch"
        for layout, ranks, who in [({}, 1, ONE), (job.split(1, 1, 1), 3, THREE)]:
            self.expect_one_line(1, who + says, layout, {"FST_EMULATOR_FAIL": "launch:300:ecc"}, ranks=ranks)

    def test_heads_that_no_kernel_takes_are_refused_before_any_work(self):
        folder = self.folder / "wide"
        shutil.copytree(job.ROOT / "input/tiny", folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "head_dim": 160}))
        self.expect_one_line(2, "^fst: .*wide: heads of 160 elements: device cuda has attention for 128 at most",
                             {"model.policy": folder})


if __name__ == "__main__":
    unittest.main(verbosity=2)
