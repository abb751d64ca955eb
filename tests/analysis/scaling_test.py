#!/usr/bin/env python3
"""Tests of analysis/scaling.py: hand-worked numbers, what must grow or shrink, refusals."""
import contextlib
import io
import json
import pathlib
import tempfile
import unittest

import synthetic  # noqa: F401  puts analysis/ on the path
import fst_store
import scaling
import scaling_constants
import scaling_layouts as layouts
import scaling_memory as memory
import scaling_paper
import scaling_phases as phases
import scaling_sizes as sizes
import scaling_volumes as volumes

C = scaling_constants.constants()
MODELS = sizes.MODELS
W = phases.Workload(32, 8, 1024, 2048, 8192, 8, 6, 192, 960, 3, 1, 0.5, "all_uncharged", 4096, 1024,
                    8, True)
# Parameters, matrices of the layers in millions, cache bytes per token: design notes, engine.md 2.1.
TABLE = {"0.6B": (596049920, 440.4, 114688), "1.7B": (1720574976, 1409.3, 114688),
         "4B": (4022468096, 3633.3, 147456), "8B": (8190735360, 6945.8, 147456),
         "14B": (14768307200, 13212.1, 163840), "32B": (32762123264, 31205.6, 262144)}


class Sizes(unittest.TestCase):
    def test_parameters_and_caches_are_those_of_the_design_notes(self):
        for name, (parameters, matrices, cache) in TABLE.items():
            s = MODELS[name]
            self.assertEqual(sizes.parameters(s), parameters, name)
            self.assertAlmostEqual(sizes.linear(s) / 1e6, matrices, delta=0.1, msg=name)
            self.assertEqual(sizes.cache_bytes(s), cache, name)

    def test_a_config_file_gives_the_same_sizes(self):
        config = json.loads((fst_store.SOURCE / "tests/bench/qwen3_0.6b.json").read_text())
        self.assertEqual(sizes.from_config(config, "0.6B"), MODELS["0.6B"])
        tiny = json.loads((fst_store.SOURCE / "input/tiny/config.json").read_text())
        # 4 layers of 128 x (2 x 128 + 2 x 64 + 3 x 384) = 196608 and norms 320; 128; 448 x 128 tied.
        self.assertEqual(sizes.parameters(sizes.from_config(tiny)), 4 * 196928 + 128 + 57344)

    def test_training_operations_per_token_are_those_of_the_design_notes(self):
        for name, gigaflop in {"0.6B": 4.99, "8B": 49.03, "32B": 204.8}.items():
            self.assertAlmostEqual(sizes.train_flop(MODELS[name], 4096) / 1e9, gigaflop, delta=0.05)


class Phases(unittest.TestCase):
    def test_decoding_floors_are_those_of_the_design_notes(self):
        for name, context, batch, milliseconds in (
                ("0.6B", 512, 1, 0.42), ("0.6B", 2048, 256, 20.5), ("8B", 512, 256, 12.0),
                ("8B", 2048, 64, 11.5), ("8B", 8192, 1, 5.45), ("8B", 8192, 256, 109)):
            floor = phases.decode_floor(C, MODELS[name], 1, batch, batch * context)
            self.assertAlmostEqual(1e3 * floor / milliseconds, 1, delta=0.01, msg=(name, context))

    def test_a_decoding_step_by_hand(self):
        # 8B on 4 GPUs, 16 sequences with 2048 tokens each. Weights 15.136 GB / 4 at 3 TB/s: 1.2613
        # ms, more than the products'. Cache 16 x 2048 x 36864 B: 0.4027 ms. 85 % of that floor:
        # 1.9577 ms, more than 252 launches. 73 sums of 16 x 4096 floats: 6.3 us + 1.5 x 262144 B at
        # 370 GB/s = 7.363 us each, 0.5375 ms. Logits: 3/4 x 16 x 151936 floats: 0.0197 ms.
        step = phases.decode_step(C, MODELS["8B"], 4, 16, 16 * 2048)
        self.assertAlmostEqual(step * 1e3, 1.9577 + 0.5375 + 0.0197, delta=0.0005)

    def test_few_small_layers_are_bound_by_launches(self):
        small = MODELS["0.6B"]._replace(hidden=64, inner=64, vocab=512)
        self.assertAlmostEqual(phases.decode_step(C, small, 1, 1, 1), 28 * 7 * 1.3e-6, delta=1e-12)

    def test_a_forward_pass_by_hand(self):
        # 0.6B, 1024 tokens, all with logits. Matrices 2 x 596.0 M x 1024 = 1.2206 TFLOP: 1.8779 ms.
        # Attention 4 x 28 x 2048 x 524800 = 0.1204 TFLOP: 0.2229 ms. Passes 2.2 x 804608 x 1024 B:
        # 0.6042 ms. In all over 0.88: 3.0739 ms.
        s = MODELS["0.6B"]
        self.assertAlmostEqual(1e3 * phases.forward(C, s, 1, 1024, 1024), 3.0739, delta=0.003)

    def test_a_backward_pass_by_hand(self):
        # 0.6B, 1024 tokens: matrices twice 1.8779 ms; attention 2.5 x 0.1204 TFLOP at 420: 0.7167
        # ms; 4.5 passes: 1.2359 ms; over 0.88: 6.4869 ms.
        s = MODELS["0.6B"]
        self.assertAlmostEqual(1e3 * phases.backward(C, s, 1, 1024, 1024), 6.4869, delta=0.005)

    def test_a_learning_step_sums_its_sequences(self):
        w = W._replace(problems=2, group_size=1, prompts=1, response=512, longest=512, prompt=512)
        s = MODELS["0.6B"]
        one = phases.forward(C, s, 1, 1024, 512), phases.backward(C, s, 1, 1024, 512)
        self.assertAlmostEqual(phases.gradients(C, s, 1, w, 1.0, False), 2 * (2 * one[0] + one[1]))
        self.assertAlmostEqual(phases.gradients(C, s, 1, w._replace(kl=False), 0.5, True),
                               2 * one[0] + one[1])

    def test_tensor_parallel_traffic_of_a_forward_pass_is_that_of_the_design_notes(self):
        # engine.md 2.3: 45.7 ms of bfloat16 sums for 16384 tokens of 8B on 8 GPUs, 72 sums.
        rate = C._replace(sum_latency=0.0)
        self.assertAlmostEqual(
            72 * phases.sum_seconds(rate, 16384 * 4096, 8, item=2) * 1e3, 45.7, delta=0.1)

    def test_an_update_streams_thirty_bytes_per_parameter(self):
        free = C._replace(leaf_bytes=0)  # engine.md 2.2: 82 ms for 8B on one GPU
        self.assertAlmostEqual(phases.update(free, MODELS["8B"], 1, 1, 8) * 1e3, 82, delta=0.5)

    def test_lengths_have_the_mean_and_the_longest(self):
        for mean, longest in ((2048, 8192), (4096, 8192), (8192, 8192), (100, 8192)):
            lengths = phases.quantile_lengths(W._replace(response=mean, longest=longest), 4096)
            self.assertAlmostEqual(sum(lengths) / 4096 / mean, 1, delta=0.02)
            self.assertLessEqual(max(lengths), longest)
        own = phases.quantile_lengths(W, 8, 256)
        self.assertEqual(own[-1], phases.quantile_lengths(W, 256)[-1])

    def test_responses_that_do_not_fit_beside_each_other_wait(self):
        s, lengths = MODELS["8B"], [1000] * 8
        together, two, one = (phases.decode(C, s, 1, lengths, 100, n) for n in (8, 2, 1))
        self.assertAlmostEqual(one, 8 * phases.decode(C, s, 1, [1000], 100, 1))
        self.assertLess(together, two)
        self.assertLess(two, one)

    def test_exchanges_between_nodes_use_the_network(self):
        near = phases.gradient_exchange(C, MODELS["8B"], 2, 4, 8)
        far = phases.gradient_exchange(C, MODELS["8B"], 8, 4, 8)
        # 4 nodes' shards of 4.095e9 floats, then the weights in bfloat16: 3/4 of 24.57 GB.
        self.assertAlmostEqual(near, 0.75 * 6 * 4095367680 / 370e9 + 2 * 6.3e-6, delta=1e-4)
        self.assertAlmostEqual(far, 0.75 * 6 * 1023841920 / 40e9 + 2 * 20e-6, delta=1e-4)


class Memory(unittest.TestCase):
    def test_what_a_learner_holds_is_that_of_the_design_notes(self):
        # engine.md 2.4: 36.9 GB for 8B, tp 2 x dp 4, one gradient buffer, policy only.
        s = MODELS["8B"]
        held = memory.weights(s, {2}) + memory.optimizer(s, 2, 4)
        self.assertAlmostEqual((held + memory.gradient_buffers(s, 2, 4, 4)) / 1e9, 36.9, delta=0.05)
        twice = memory.gradient_buffers(s, 2, 4, 8)
        self.assertEqual(twice, 2 * memory.gradient_buffers(s, 2, 4, 4))

    def test_a_tied_embedding_has_two_accumulators(self):
        s = MODELS["0.6B"]
        self.assertEqual(memory.gradient_buffers(s, 1, 8, 8),
                         4 * (sizes.parameters(s) + 151936 * 1024))

    def test_every_layout_that_is_proposed_fits(self):
        for name, s in MODELS.items():
            for gpus in (8, 32, 64):
                p = layouts.recommend(C, s, gpus, W)
                if p is not None:
                    self.assertLessEqual(p.bytes, 80e9, (name, gpus))
                    self.assertGreaterEqual(p.slots, 1)
                    self.assertEqual(p.bytes, memory.needed(C, s, p.layout, W)[0])

    def test_what_does_not_fit_is_not_proposed(self):
        self.assertIsNone(layouts.recommend(C, MODELS["32B"], 8, W))
        self.assertIsNone(layouts.recommend(C._replace(memory=20e9), MODELS["8B"], 8, W))
        self.assertGreater(layouts.least_memory(C, MODELS["32B"], 8, W), 80e9)


class Layouts(unittest.TestCase):
    def test_layouts_are_ones_that_the_program_accepts(self):
        for gpus in (8, 24, 128):
            found = list(layouts.layouts(MODELS["4B"], gpus, W))
            self.assertTrue(found)
            for x in found:
                for ranks, tp in zip((x.rollout, x.reflection, x.learner), x.tps):
                    self.assertEqual(ranks % tp, 0, x)
                    self.assertGreater(ranks, 0, x)
                self.assertLessEqual(x.dp, W.gradient_leaves)
                self.assertEqual(x.dp * x.tps[2], x.learner)
                self.assertEqual(gpus, x.rollout if x.colocated
                                 else x.rollout + x.reflection + x.learner)

    def test_more_gpus_are_never_slower(self):
        for name in ("0.6B", "8B"):
            seconds = [layouts.recommend(C, MODELS[name], gpus, W).fst_step
                       for gpus in (8, 16, 32, 64, 128, 256)]
            for before, after in zip(seconds, seconds[1:]):
                self.assertLessEqual(after, before * layouts.CLOSE)

    def test_longer_responses_larger_models_and_slower_memory_cost_more(self):
        def step(model="8B", w=W, c=C):
            return layouts.recommend(c, MODELS[model], 16, w).fst_step
        self.assertLess(step(), step(w=W._replace(response=4096)))
        self.assertLess(step(), step(w=W._replace(longest=16384)))
        self.assertLess(step(), step(w=W._replace(problems=64)))
        self.assertLess(step("4B"), step("8B"))
        self.assertLess(step("8B"), step("14B"))
        self.assertLess(step(), step(c=C._replace(hbm_rate=2e12)))
        self.assertLess(step(), step(c=C._replace(kernel_efficiency=0.5)))
        self.assertLess(step(w=W._replace(metric_calls=0)), step())

    def test_without_prompt_evolution_a_cycle_is_its_steps(self):
        p = layouts.recommend(C, MODELS["4B"], 8, W._replace(metric_calls=0))
        self.assertEqual((p.fast, p.fst_step), (0, p.step))

    def test_rounds_spend_the_budget(self):
        layout = layouts.Layout(True, 8, 8, 8, (1, 1, 1), 8, 0, False)
        fast = layouts.fast_phase(C, MODELS["4B"], layout, W._replace(carried="lead_only"), 40)
        # 192 of 960 calls for the lead, then rounds of 3 + 3 and, every second time, 192.
        self.assertAlmostEqual(fast.rounds, (960 - 192) / (6 + 96))
        self.assertAlmostEqual(fast.seconds, fast.first + fast.rounds * (
            2 * fast.trial + fast.rewrite + fast.child))

    def test_sampling_ahead_hides_the_shorter_half(self):
        one = layouts.Layout(False, 4, 2, 2, (1, 1, 1), 2, 0, False)
        plain = layouts.predict(C, MODELS["0.6B"], 8, W, one)
        ahead = layouts.predict(C, MODELS["0.6B"], 8, W, one._replace(max_lag=1))
        hidden = 5 / 6 * min(plain.rollout, plain.learn)
        self.assertAlmostEqual(plain.step - ahead.step, hidden)
        self.assertLess(ahead.idle, plain.idle)

    def test_idle_time_of_roles_by_hand(self):
        layout = layouts.Layout(False, 2, 1, 1, (1, 1, 1), 1, 0, False)
        fast = layouts.FastPhase(30.0, 6.0, 0, 0, 0, 0, 0)
        # Two rollout ranks work 6 x 10 s and 24 s, the learner 6 x 5 s, the reflection rank 6 s.
        self.assertEqual(layouts.busy(layout, W, 10.0, 5.0, fast), 2 * 84 + 30 + 6)


class Volumes(unittest.TestCase):
    def test_nodes_of_the_gradient_tree(self):
        self.assertEqual([volumes.tree_nodes(8, 4, r) for r in range(4)], [1, 1, 1, 1])
        # Of three ranks, leaves [0, 2), [2, 5) and [5, 8): {01}, {23, 4}, {5, 67}.
        self.assertEqual([volumes.tree_nodes(8, 3, r) for r in range(3)], [1, 2, 2])

    def test_volumes_vanish_with_one_rank(self):
        self.assertEqual(volumes.gradient_leaves(1001, 8, 1), 0)
        self.assertEqual(volumes.updated_weights(1001, 1), 0)
        self.assertEqual(volumes.rewards(256, 1), 0)
        self.assertEqual(volumes.tensor_sum(4096, 1), 0)

    def test_large_sums_take_two_rounds_and_small_ones_one(self):
        self.assertEqual(volumes.tensor_sum(8192, 4), 4 * 8192 * 12)
        self.assertEqual(volumes.tensor_sum(8196, 4), 2 * 4 * 8196 * 3)


class Program(unittest.TestCase):
    def run_script(self, *arguments):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            scaling.main([str(argument) for argument in arguments])
        return printed.getvalue()

    def refused(self, *arguments):
        said = io.StringIO()
        with contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as ended:
            scaling.main([str(argument) for argument in arguments])
        self.assertEqual(ended.exception.code, 2)
        return said.getvalue()

    def test_tables_state_layouts_and_every_assumption(self):
        text = self.run_script("--model", "0.6B", "32B", "--gpus", 8)
        self.assertIn("| 0.6B | 8 | colocated, tp 1/1/1 |", text)
        self.assertIn("| 32B | 8 | none fits: at least ", text)
        for constant in scaling_constants.CONSTANTS:
            self.assertIn(f"| {constant.name} | {constant.value:g} | {constant.unit} |", text)
            self.assertTrue(constant.unit and constant.source)

    def test_another_value_of_a_constant_is_named_as_such(self):
        text = self.run_script("--model", "0.6B", "--gpus", 8, "--set", "hbm_rate=2e12")
        self.assertIn("| hbm_rate | 2e+12 | B/s | given on the command line |", text)

    def test_a_figure_is_drawn(self):
        with tempfile.TemporaryDirectory() as folder:
            figure = pathlib.Path(folder) / "scaling.png"
            self.run_script("--model", "0.6B", "32B", "--gpus", 8, 64, "--out", figure)
            self.assertEqual(figure.read_bytes()[:4], b"\x89PNG")

    def test_the_paper_s_setting_is_compared(self):
        text = self.run_script("--model", "8B", "--gpus", 8, "--paper")
        self.assertIn("### The paper's setting", text)
        self.assertEqual(text.count("| 60 |"), 2 * (len(scaling_paper.MEANS) + 2))
        w = scaling_paper.workload(*(round(scaling_paper.fitted_longest(0.5) * x) for x in (0.5, 1)))
        self.assertAlmostEqual(scaling_paper.peer(w)[2], scaling_paper.RL_STEP, delta=0.5)
        # 32 responses of 8192 tokens a GPU: 8192 x (5.045 ms + 32 x 5120 x 147456 B at 3 TB/s).
        self.assertAlmostEqual(scaling_paper.floor_seconds(C, 8192), 107.3, delta=0.2)

    def test_what_makes_no_sense_is_refused(self):
        self.assertIn("invalid choice: '7B'", self.refused("--model", "7B"))
        self.assertIn("--gpus", self.refused("--gpus", 0))
        self.assertIn("longest response has 8192", self.refused("--response", 9000))
        self.assertIn("cannot be split evenly over 3", self.refused("--prompts", 3))
        self.assertIn("--problems: expected at least 1", self.refused("--problems", 0))
        self.assertIn("--accepted", self.refused("--accepted", 0))
        self.assertIn("no constant nvlink; there are memory,", self.refused("--set", "nvlink=1"))
        self.assertIn("--set", self.refused("--set", "nvlink_rate"))
        self.assertIn("could not convert", self.refused("--set", "nvlink_rate=fast"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
