"""What table.py makes of made-up passes: the sums, and which of them is a failure."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

TABLE = pathlib.Path(__file__).with_name("table.py")
SHAPE = {"rows": 2, "n": 3, "k": 4}


def case(name, operation, amount, **rest):
    return {"case": name, "operation": operation, "shape": SHAPE, "bytes": amount[0], "flops": amount[1], **rest}


# A device that copies 1 byte and does 10 operations a nanosecond.
COPY = case("copy", "device copy", (4000, 0), microseconds=[4.0, 4.0, 9.0])
PRODUCT = case("x", "linear y", (1000, 400000), microseconds=[50.0, 90.0, 110.0])
CEILING = case("ceiling of arithmetic", "linear y", (1, 1e6), microseconds=[100.0])
PEER = case("x", "linear y", (1000, 400000), microseconds=[75.0, 80.0])


class Table(unittest.TestCase):
    def table(self, own, peer=None, tests=None):
        """The exit status and what certificate.json holds."""
        with tempfile.TemporaryDirectory() as folder:
            def file(name, text):
                path = pathlib.Path(folder) / name
                path.write_text(text)
                return str(path)
            passes = [file(f"own-{i}", "".join(json.dumps(line) + "\n" for line in lines)) for i, lines in enumerate(own)]
            command = [sys.executable, TABLE, f"{folder}/json", "--own", *passes]
            if peer:
                command += ["--peer", file("peer", "".join(json.dumps(line) + "\n" for line in peer))]
            if tests is not None:
                suite = [{"name": f"t{i}", "result": "COMPLETED", **({"failures": [{}]} if bad else {})}
                         for i, bad in enumerate(tests)]
                report = {"time": "1s", "testsuites": [{"name": "S", "testsuite": suite}]}
                command += ["--tests", file("tests", json.dumps(report))]
            done = subprocess.run(command, capture_output=True, text=True)
            return done.returncode, json.loads(pathlib.Path(f"{folder}/json").read_text()), done.stdout

    def test_median_ratio_and_share_of_the_floor_over_all_passes(self):
        second = case("x", "linear y", (1000, 400000), microseconds=[100.0])
        code, found, text = self.table([[COPY, PRODUCT], [second]], [CEILING, PEER], [False, False])
        self.assertEqual(code, 0, text)
        line = found["cases"][1]
        self.assertEqual((line["microseconds"], line["peer_microseconds"]), (95.0, 77.5))
        self.assertAlmostEqual(line["ratio_to_peer"], 77.5 / 95)
        self.assertAlmostEqual(line["floor_microseconds"], 40.0)
        self.assertAlmostEqual(line["share_of_floor"], 40.0 / 95)
        self.assertEqual(found["tests"]["ran"], 2)

    def test_bfloat16_has_a_ceiling_of_its_own(self):
        own = case("b", "bf16 linear y", (10, 400000), microseconds=[8.0])
        ceiling = case("ceiling of bf16 arithmetic", "bf16 linear y", (1, 1e6), microseconds=[10.0])
        _, found, text = self.table([[COPY, own]], [CEILING, ceiling], [False])
        self.assertAlmostEqual(found["cases"][1]["floor_microseconds"], 4.0)
        self.assertIn("0.1 TFLOP/s in bfloat16", text)

    def test_a_failed_test_fails(self):
        code, found, text = self.table([[COPY]], [CEILING], [False, True])
        self.assertEqual((code, found["tests"]["failed"]), (1, ["S.t1"]))
        self.assertIn("1 failed S.t1", text)

    def test_what_was_not_run_is_no_certificate(self):
        skipped = case("y", "linear y", (1, 1), not_run="out of time")
        self.assertEqual(self.table([[COPY, skipped]], [CEILING], [False])[0], 3)
        self.assertIn("not run: out of time", self.table([[COPY, skipped]], [CEILING], [False])[2])
        self.assertEqual(self.table([[COPY]], [CEILING])[0], 3)
        self.assertEqual(self.table([[COPY]], [CEILING], [])[0], 3)
        code, found, _ = self.table([[COPY, PRODUCT]], None, [False])
        self.assertEqual(code, 3)
        self.assertIsNone(found["cases"][1]["floor_microseconds"])  # no peak was measured


if __name__ == "__main__":
    unittest.main(verbosity=2)
