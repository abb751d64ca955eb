"""Mistakes of the user that only the ranks can meet: whoever meets one, it is said once and the job ends."""
import json
import shutil
import socket
import time
import unittest

import job

TINY = job.ROOT / "input/tiny"
PATIENCE = 40   # s that a machine busy with other tests may take for a job of two seconds
DEADLINE = 100  # run.deadline, s: a job that ends by it comes too late
POSITIONS = 40  # of a reflection model: fewer than the world's reflection prompts have tokens


class Mistake(job.JobTest):
    def model(self, name, **changed):
        """A copy of the embedded model with other sizes."""
        folder = self.folder / name
        shutil.copytree(TINY, folder)
        config = json.loads((TINY / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changed}))
        return folder

    def expect_refused(self, keys, code, says, **options):
        """The job ends soon with this code; one line says what is wrong, in words of this pattern."""
        (self.folder / "log.txt").unlink(missing_ok=True)
        began = time.monotonic()
        process = self.start("run", {"run.deadline": DEADLINE, **keys}, **options)
        self.assertEqual(process.wait(PATIENCE), code, self.log())
        print(f"exit {code} after {time.monotonic() - began:.1f} s", end=": ")
        lines = [line for line in self.log().splitlines() if line.startswith("fst: ")]
        self.assertEqual(len(lines), 1, self.log())
        self.assertRegex(lines[0], says)
        print(lines[0])

    def test_a_prompt_too_long_for_the_reflection_model_ends_the_job_at_once(self):
        model = {"model.reflection": self.model("short", max_position_embeddings=POSITIONS)}
        for ranks, layout, who in [(3, job.split(1, 1, 1), "1"),
                                   (4, {**job.split(1, 2, 1), "reflection.tp": 2}, "[12]"), (2, {}, "[01]")]:
            with self.subTest(ranks=ranks, layout=layout):
                place = f"rank {who} of {ranks} on node {socket.gethostname()}, in reflection of step 0: "
                self.expect_refused({**model, **layout}, 1,
                                    place + f".* prompt tokens .* exceed the {POSITIONS} positions", ranks=ranks)
                shutil.rmtree(self.folder / "run")

    def test_a_file_that_one_rank_reads_is_refused_before_any_work(self):
        folder = self.model("torn")
        weights = (TINY / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(weights[:-1])
        place = f"rank 1 of 3 on node {socket.gethostname()}, in start-up: .*"
        self.expect_refused({**job.split(1, 1, 1), "model.reflection": folder, "run.deadline": 6}, 2,
                            place + "torn/model.safetensors", ranks=3)

    def test_a_file_for_all_ranks_is_refused_by_all_and_leaves_no_run_folder(self):
        bad = self.folder / "prompts.jsonl"
        bad.write_text('{"text": "a key that nobody knows"}\n')
        for path, says in [("/nowhere.jsonl", "^fst: /nowhere.jsonl: no such file"),
                           (bad, f'^fst: {bad}:1: expected {{"prompt"')]:
            for ranks, layout in [(3, job.split(1, 1, 1)), (2, {}), (1, {})]:
                with self.subTest(path=path, ranks=ranks):
                    self.expect_refused({**layout, "run.method": "frozen", "evolve.population": path}, 2, says,
                                        ranks=ranks)
                    self.assertFalse((self.folder / "run").exists())
        self.expect_refused({"reflection.layout": bad}, 2, f"^fst: .*{bad}", ranks=2)

    def test_lengths_that_cannot_fit_are_refused_before_any_work(self):
        for keys, says in [({"rollout.max_new_tokens": 500}, "rollout.max_new_tokens = 500 behind the first prompt"),
                           ({"eval.max_new_tokens": 500}, "eval.max_new_tokens = 500 behind the first prompt"),
                           ({"reflection.max_new_tokens": 513}, "reflection.max_new_tokens = 513 behind any prompt")]:
            with self.subTest(keys=keys):
                self.expect_refused({**job.split(1, 1, 1), **keys}, 2, f"^fst: {says}.*tiny takes 512 positions",
                                    ranks=3)
                self.assertFalse((self.folder / "run").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
