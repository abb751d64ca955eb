#!/usr/bin/env python3
"""Tests of analysis/roofline.py: the floors of the design notes, and what the program lists."""
import contextlib
import io
import json
import os
import unittest

import synthetic  # noqa: F401  puts analysis/ on the path
import roofline
import scaling_constants
import scaling_sizes as sizes

C = scaling_constants.constants()
MODELS = sizes.MODELS
PROGRAM = os.environ["FST_LIST_LAUNCHES"]
# Milliseconds of a decoding step in bf16 on one H100: design notes, engine.md 2.3.
FLOORS = (("0.6B", 1, 512, 0.42), ("0.6B", 64, 512, 1.65), ("0.6B", 1, 2048, 0.48),
          ("0.6B", 64, 2048, 5.41), ("8B", 1, 512, 5.07), ("8B", 64, 512, 6.66),
          ("8B", 1, 2048, 5.15), ("8B", 64, 2048, 11.5))
# The formulas leave out what is not a weight or a key: logits, written and read twice, activations.
BESIDE = 1.08


def reports(model, dtype, tp, *steps):
    s = MODELS[model]
    listed = roofline.listing(PROGRAM, s, dtype, tp, steps)
    return [roofline.report(C, s, dtype, tp, step, lines) for step, lines in listed.items()]


def operations_of(report, name):
    return sum(k["operations"] for k in report["kernels"] if k.get("op", "").startswith(name))


class Floors(unittest.TestCase):
    def test_decoding_floors_are_those_of_the_design_notes(self):
        for model, batch, context, milliseconds in FLOORS:
            step = f"decode:{batch}:{context}"
            seconds, _, _ = roofline.floor(C, MODELS[model], "bf16", 1, step)
            self.assertAlmostEqual(1e3 * seconds / milliseconds, 1, delta=0.012, msg=(model, step))

    def test_float32_doubles_what_is_moved(self):
        half, whole = (roofline.floor(C, MODELS["8B"], dtype, 1, "decode:1:512")
                       for dtype in ("bf16", "f32"))
        self.assertAlmostEqual(whole[0], 2 * half[0])
        self.assertEqual(whole[1], 2 * half[1])


class Listing(unittest.TestCase):
    def test_decoding_moves_what_the_formulas_say(self):
        for model in ("0.6B", "8B"):
            for dtype in ("f32", "bf16"):
                for r in reports(model, dtype, 1, "decode:1:512", "decode:64:2048"):
                    ratio = r["bytes"] / r["floor_bytes"]
                    self.assertTrue(1 <= ratio < BESIDE, (model, dtype, r["step"], ratio))

    def test_the_operations_of_products_and_attention_are_those_of_the_formulas(self):
        for model, s in MODELS.items():
            decode, prefill, train = reports(model, "bf16", 1, "decode:8:511", "prefill:256",
                                             "train:2:256")
            self.assertEqual(operations_of(decode, "linear"), 8 * sizes.token_flop(s), model)
            self.assertEqual(operations_of(decode, "attention"),
                             8 * sizes.attention_flop(s, 1, 511), model)
            self.assertEqual(operations_of(prefill, "linear"),
                             256 * sizes.token_flop(s, head=False), model)
            self.assertEqual(operations_of(prefill, "attention"), sizes.attention_flop(s, 256))
            head = 2 * s.vocab * s.hidden  # of all tokens but the first of each sequence
            self.assertEqual(operations_of(train, "linear"),
                             3 * (512 * 2 * sizes.linear(s) + 510 * head), model)
            # Five products of a pair for the backward pass's, two for the forward pass's.
            self.assertEqual(operations_of(train, "attention"),
                             3.5 * 2 * sizes.attention_flop(s, 256), model)

    def test_ranks_that_share_a_model_move_their_part_and_exchange_sums(self):
        whole, = reports("8B", "bf16", 1, "decode:16:512")
        shared, = reports("8B", "bf16", 8, "decode:16:512")
        self.assertLess(8 * shared["bytes"], 1.08 * whole["bytes"])
        sums = [k for k in shared["kernels"] if k.get("exchange") == "sum"]
        # Two of a layer and the embedding's, of float32 rows.
        self.assertEqual(sum(k["count"] for k in sums), 2 * 36 + 1)
        self.assertEqual({k["exchanged"] for k in sums}, {16 * 4096 * 4})

    def test_every_operation_names_its_kernels_and_grids(self):
        report, = reports("0.6B", "f32", 1, "train:2:64")
        for line in report["kernels"]:
            self.assertGreater(len(line["launches"]), 0)
            for launch in line["launches"]:
                self.assertRegex(launch["kernel"], r"^[a-z_]+(<.*>)?$")
                self.assertTrue(all(extent > 0 for extent in launch["grid"] + launch["block"]))
        steps = [line for line in report["kernels"] if line["op"] == "adamw"]
        self.assertEqual(sum(line["count"] * line["shape"]["n"] for line in steps),
                         sizes.parameters(MODELS["0.6B"]))

    def test_a_step_that_is_none_is_refused(self):
        with self.assertRaisesRegex(roofline.Refused, "decode:1: expected decode:BATCH:CONTEXT"):
            reports("0.6B", "f32", 1, "decode:1")


class Script(unittest.TestCase):
    def run_script(self, *options):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            roofline.main(["--program", PROGRAM, "--model", "0.6B", *options])
        return out.getvalue()

    def test_tables_and_json_say_the_same(self):
        table = self.run_script("--step", "decode:1:512", "--kernels")
        report, = json.loads(self.run_script("--step", "decode:1:512", "--json"))
        self.assertIn(f"**{report['ratio']:.2f}**", table)
        self.assertIn("linear_forward", table)
        parts = sum(k["work_seconds"] + k["launch_seconds"] for k in report["kernels"])
        self.assertAlmostEqual(parts, report["seconds"])
        launches = sum(k["count"] * len(k["launches"]) for k in report["kernels"])
        self.assertEqual(launches, report["launched"])


if __name__ == "__main__":
    unittest.main()
