"""A checkpoint goes on only with its deck and models; refusals name the key."""
import shutil
import unittest

import job


class Refuse(job.JobTest):
    def setUp(self):
        super().setUp()
        self.run_job("run", {"run.steps": 1})
        self.before = self.digests("run")

    def expect_refused(self, keys, *says, ranks=1):
        self.run_job("run", {"run.steps": 2, **keys}, resume="auto", expect=2, ranks=ranks)
        for text in says:
            self.assertIn(text, self.log())
        self.assertEqual(self.digests("run"), self.before)  # and nothing was touched

    def other_model(self):
        """The embedded model with one bit of one weight changed."""
        folder = self.folder / "other"
        shutil.copytree(job.ROOT / "input/tiny", folder)
        weights = folder / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-2] ^= 1
        weights.write_bytes(data)
        return folder

    def test_keys_of_the_trajectory_may_not_change(self):
        self.expect_refused({"optim.lr": 1e-4, "train.group_size": 8, "engine.dtype": "bf16"},
                            "belongs to another deck", "optim.lr = 1e-04, but the run has 3e-04",
                            "train.group_size = 8, but the run has 4",
                            "engine.dtype = bf16, but the run has f32", ranks=2)

    def test_another_policy_is_refused_by_name(self):
        self.expect_refused({"model.policy": self.other_model()},
                            "model.policy: not the model this run began with")

    def test_another_base_is_refused_by_name(self):
        self.expect_refused({"model.base": self.other_model()},
                            "model.base: not the model this run began with")

    def test_another_reflection_model_is_refused_by_name(self):
        self.expect_refused({"model.reflection": self.other_model()},
                            "model.reflection: not the model this run began with")

    def test_a_moved_model_is_the_same_model(self):
        folder = self.folder / "moved"
        shutil.copytree(job.ROOT / "input/tiny", folder)
        self.run_job("run", {"run.steps": 2, "model.policy": folder}, resume="auto")


if __name__ == "__main__":
    unittest.main(verbosity=2)
