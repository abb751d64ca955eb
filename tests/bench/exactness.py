#!/usr/bin/env python3
"""exactness.py --build FOLDER --models FOLDER [--repeat N] [--only TEXT] [--parts]: what the canonical sums cost beside
plain ones, in one run. See README.md."""
import argparse
import json
import os
import pathlib
import random
import statistics
import sys

import compare
import random_folder

ROOT = pathlib.Path(__file__).resolve().parents[2]
TRAINING, DECODING = 0.05, 0.10  # the most that exactness may cost
PARTS = ("forward", "input", "norm", "leaves")
MOST_DELTA = 1e-3  # of losses and log-probabilities: the rounding of sums of a few thousand terms
LARGE_BYTES = 8 << 30  # what the 0.6B model needs, packed and as it is read


class Bench(compare.Worker):
    """model_bench_plain with one model. A side of a comparison is a tuple of the PARTS that are plain."""

    def __init__(self, options, folder):
        super().__init__(str(options.build / "tests/model_bench_plain"), str(folder))

    def run(self, plain, do, **arguments):
        if do == "train":
            arguments["leaves"] = 1 if "leaves" in plain else 8
        return self.ask(do, plain=",".join(plain), **arguments)

    def seconds(self, plain, case):
        """(processor time, time on the wall)"""
        reply = self.run(plain, case["do"], threads=case["threads"], **case["work"])
        return tuple(compare.seconds_of({"seconds": reply[key]}) for key in ("cpu_seconds", "seconds"))


def model_folder(options, name):
    config = json.loads((ROOT / "tests/bench/qwen3_0.6b.json").read_text())
    if name == "tiny":
        return ROOT / "input/tiny"
    if name == "wide":  # one layer of it, for training in little time
        config |= {"num_hidden_layers": 1, "vocab_size": 2048, "bos_token_id": 0, "eos_token_id": 1}
    folder = options.models / ("qwen3_0.6b" if name == "0.6B" else name)
    random_folder.write(config, folder)
    return folder


def texts(vocab, count, shortest, longest):
    dice = random.Random(1)
    return [dice.choices(range(vocab), k=dice.randint(shortest, longest)) for _ in range(count)]


def counted(threads):
    return f"{threads} thread{'s' * (threads > 1)}"


def training(name, sequences, threads):
    return {"model": name, "name": f"{name}: training, {counted(threads)}", "do": "train", "threads": threads,
            "bar": TRAINING,
            # As many micro-batches as leaves: one accumulation then has the same products.
            "work": {"steps": 1, "sequences": sequences, "micro_batch": len(sequences) // 8}}


def decoding(name, vocab, batch, threads, new):
    # Prompts of 16 n + 1 tokens: see decode() in model_bench.cpp.
    return {"model": name, "name": f"{name}: decoding, batch {batch}, {counted(threads)}", "do": "decode",
            "threads": threads, "bar": DECODING,
            "work": {"new_tokens": new, "sequences": texts(vocab, batch, 33, 33)}}


def sampling(threads):
    return {"model": "tiny", "name": f"tiny: sampling 64 prompts, {counted(threads)}", "do": "sample",
            "threads": threads, "bar": DECODING,
            "work": {"new_tokens": 12, "sequences": texts(448, 64, 20, 36), "batches": 5}}


def cases():
    found = []
    for threads in (1, 2):
        # The sequences of a step of the quickstart.
        found.append(training("tiny", texts(448, 256, 32, 48), threads))
        found += [decoding("tiny", 448, batch, threads, new) for batch, new in ((1, 256), (8, 256), (64, 64))]
        found.append(sampling(threads))
    found += [training("wide", texts(2048, 32, 112, 144), threads) for threads in (1, 2)]
    return found + [decoding("0.6B", 151936, batch, 2, 16) for batch in (1, 8)]


def measure(bench, case, plain, repeat):
    """Canonical, plain, plain, canonical, and so on; both times of each call."""
    sides, seconds = ((), plain), ([], [])
    for side in sides:
        bench.seconds(side, case)
    for _ in range((repeat + 1) // 2):
        for which in (0, 1, 1, 0):
            seconds[which].append(bench.seconds(sides[which], case))
    return seconds


def typical(side, which):
    """Of calls: what other programs do to a call only adds to its time, so the first quartile, not the median."""
    return statistics.quantiles((call[which] for call in side), n=4)[0]


def cost(seconds, which):
    """(cost of the canonical side, its quartiles over pairs of calls), 0: in processor time, 1: on the wall."""
    canonical, plain = (typical(side, which) for side in seconds)
    first, _, third = statistics.quantiles((a[which] / b[which] - 1 for a, b in zip(*seconds)), n=4)
    return canonical / plain - 1, first, third


def check(bench, vocab):
    """Both sides compute the same up to rounding, and not the same bits. Returns the greatest differences."""
    some = texts(vocab, 8, 40, 48)
    losses = [bench.run(side, "train", threads=1, steps=1, sequences=some)["loss"] for side in ((), PARTS)]
    logprobs = [sum(bench.run(side, "score", threads=1, sequences=some)["logprobs"], []) for side in ((), PARTS)]
    greatest = [max(abs(a - b) for a, b in zip(*pair)) for pair in (losses, logprobs)]
    if max(greatest) == 0.0:
        sys.exit("the plain sums have the bits of the canonical ones: nothing is switched")
    if max(greatest) > MOST_DELTA:
        sys.exit(f"losses and log-probabilities differ by {greatest}: more than rounding")
    return greatest


def available_bytes():
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return 0


def print_head():
    print(f"{'case':40} {'canonical':>10} {'plain':>10} {'cost':>7} {'(quartiles)':>16} {'bar':>5} {'on the wall':>12}",
          flush=True)


def print_row(row):
    canonical, plain = (1e3 * typical(side, 0) for side in row["seconds"])
    value, first, third = cost(row["seconds"], 0)
    span, missed = f"{first:+.1%} to {third:+.1%}", value > row["bar"] and row["part"] == "all"
    name = row["case"] if row["part"] == "all" else f"  {row['part']} alone"
    print(f"{name:40} {canonical:7.2f} ms {plain:7.2f} ms {value:+7.1%} {span:>16} {row['bar']:5.0%} "
          f"{cost(row['seconds'], 1)[0]:+12.1%}{'  MISSED' if missed else ''}", flush=True)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--models", type=pathlib.Path, required=True, help="folder for models with random weights")
    parser.add_argument("--json", type=pathlib.Path, help="file for every call's processor time and time on the wall")
    parser.add_argument("--repeat", type=int, default=20, help="calls of each side per case")
    parser.add_argument("--only", default="", help="cases whose name has this text")
    parser.add_argument("--parts", action="store_true", help="also each part of the difference by itself")
    return parser.parse_args()


def measure_model(options, model, wanted):
    """Rows of one model: all parts together and, where asked, one by one; "nothing" is the noise."""
    folder, rows = model_folder(options, model), []
    bench = Bench(options, folder)
    if model != "0.6B":  # whose gradients need more memory
        vocab = json.loads((folder / "config.json").read_text())["vocab_size"]
        print(f"{model}: greatest difference of losses and log-probabilities: {check(bench, vocab)}", flush=True)
    for case in wanted:
        parts = PARTS if case["do"] == "train" else PARTS[:1]
        for part in ("all", *(("nothing", *parts) if options.parts else ())):
            plain = {"all": parts, "nothing": ()}.get(part, (part,))
            rows.append({"case": case["name"], "part": part, "bar": case["bar"],
                         "seconds": measure(bench, case, plain, options.repeat)})
            print_row(rows[-1])
    bench.close()
    return rows


def main():
    options = arguments()
    chosen = [case for case in cases() if options.only in case["name"]]
    rows = []
    print_head()
    for model in dict.fromkeys(case["model"] for case in chosen):
        if model == "0.6B" and available_bytes() < LARGE_BYTES:
            print(f"0.6B: not run, it needs {LARGE_BYTES >> 30} GiB of free memory")
            continue
        rows += measure_model(options, model, [case for case in chosen if case["model"] == model])
    print(f"load average at the end {os.getloadavg()[0]:.1f}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
