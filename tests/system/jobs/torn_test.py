"""What --resume auto makes of a run folder with damaged files."""
import shutil
import subprocess
import unittest

import job


class Torn(job.JobTest):
    keys = {"run.steps": 4}

    def setUp(self):
        super().setUp()
        self.run_job("straight", self.keys)
        self.expected = self.digests("straight")
        self.run_job("torn", {"run.steps": 3})
        self.run = self.folder / "torn"
        self.assertEqual(self.checkpoints("torn"), ["checkpoint-2.h5", "checkpoint-3.h5"])

    def damage(self, name, change):
        file = self.run / name
        file.write_bytes(change(file.read_bytes()))

    def expect_resumed_from(self, step, ranks):
        self.run_job("torn", self.keys, ranks=ranks, resume="auto")
        self.assertIn(f"resumed at step {step} from", self.log())
        self.assertEqual(self.digests("torn"), self.expected)

    def test_a_truncated_newest_checkpoint_is_named_and_the_previous_one_taken(self):
        self.damage("checkpoint-3.h5", lambda data: data[:len(data) // 3])
        self.expect_resumed_from(2, ranks=2)
        self.assertIn("checkpoint-3.h5: damaged or incomplete", self.log())
        self.assertIn("trying the checkpoint before", self.log())

    def test_one_flipped_bit_in_the_weights_is_noticed(self):
        def flip(data):
            middle = len(data) // 2
            return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1:]
        self.damage("checkpoint-3.h5", flip)
        self.expect_resumed_from(2, ranks=1)
        self.assertIn("checkpoint-3.h5: damaged or incomplete", self.log())
        # It is out of the way: the next attempt does not stumble over it, and may take what is new.
        self.assertTrue((self.run / "checkpoint-3.h5.aside").exists())
        self.run_job("torn", {"run.steps": 5}, resume="auto")
        self.assertIn("resumed at step 4 from", self.log())

    def test_without_any_good_checkpoint_the_run_begins_again(self):
        for name in ("checkpoint-2.h5", "checkpoint-3.h5"):
            self.damage(name, lambda data: data[:1000])
        self.run_job("torn", self.keys, resume="auto")
        self.assertEqual(self.digests("torn"), self.expected)
        for name in ("checkpoint-2.h5", "checkpoint-3.h5"):
            self.assertIn(f"{name}: damaged or incomplete", self.log())
            self.assertTrue((self.run / f"{name}.aside").exists())
        self.assertIn("attempt 2 from the start", self.log())

    def test_torn_tails_of_journal_and_metrics_cost_nothing(self):
        with open(self.run / "history.journal", "ab") as journal:
            journal.write(b"half a record")
        with open(self.run / "metrics.jsonl", "a") as lines:
            lines.write('{"kind": "ste')
        self.expect_resumed_from(3, ranks=1)

    def test_a_damaged_history_is_an_error_that_names_it(self):
        self.damage("history.h5", lambda data: data[:-100])
        self.run_job("torn", self.keys, resume="auto", expect=1)
        self.assertIn("history.h5: damaged or incomplete", self.log())

    def test_going_on_from_an_older_checkpoint_sets_the_newer_one_aside(self):
        older = self.run / "checkpoint-2.h5"
        self.run_job("torn", self.keys, resume=str(older))
        self.assertEqual(self.digests("torn"), self.expected)


class CheckpointAsModel(job.JobTest):
    """Ranks that use a checkpoint as a model share the check of its bytes."""
    BLOCK = 1 << 20  # of the checksum, dealt to the ranks in turn

    def setUp(self):
        super().setUp()
        self.run_job("source", {"run.steps": 1, "run.method": "rl", "eval.every": 0})
        self.model = self.folder / "source" / self.checkpoints("source")[-1]

    def generate(self, ranks):
        """Exit code, what was generated, and the messages."""
        prompts, out = self.folder / "prompts.jsonl", self.folder / f"out{ranks}.jsonl"
        prompts.write_text("".join(f'{{"id": "{i}", "tokens": [{i}, 2, 3]}}\n' for i in range(5)))
        out.unlink(missing_ok=True)
        launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
        done = subprocess.run([*launcher, job.FST, "generate", "--model", self.model, "--prompts", prompts, "--out",
                               out, "--max-new-tokens", "4"], capture_output=True, text=True)
        text = out.read_text() if out.exists() else None
        return done.returncode, text, [line for line in done.stderr.splitlines() if line.startswith("fst: ")]

    def test_a_flipped_bit_in_the_part_of_any_rank_is_noticed_by_all(self):
        self.assertEqual(self.generate(1), self.generate(3))
        good = self.model.read_bytes()
        for block in range(3):
            with self.subTest(block=block):
                place = block * self.BLOCK + self.BLOCK // 2
                self.model.write_bytes(good[:place] + bytes([good[place] ^ 16]) + good[place + 1:])
                code, text, lines = self.generate(3)
                self.assertEqual((code, text, len(lines)), (2, None, 1), lines)
                self.assertIn(f"{self.model}: damaged or incomplete: its bytes are not those", lines[0])

    def test_roles_apart_read_the_same_from_it(self):
        other = self.folder / "other.h5"  # another path: loaded once more
        shutil.copy(self.model, other)
        keys = {"run.steps": 1, "model.policy": self.model, "model.base": other, "model.reflection": other,
                "kl.seed_prompt": 0.1, "kl.dead_groups": "true"}
        self.run_job("alone", keys)
        self.run_job("apart", {**keys, **job.split(2, 1, 2), "learner.tp": 2}, ranks=5)
        self.assertEqual(self.digests("alone"), self.digests("apart"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
