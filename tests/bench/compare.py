#!/usr/bin/env python3
"""compare.py --bench PROGRAM --tiny FOLDER --large FOLDER --json FILE [--peer NAME] [--repeat N] [--only NAME]: our speed
beside transformers' or llama.cpp's in one run. See README.md."""
import argparse
import itertools
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys

# Of log-probabilities. float32: rounding of sums of a few thousand terms, over all layers; bf16: what transformers
# itself is off by (tests/golden/README.md).
MOST_DELTA = {"f32": 1e-3, "bf16": 0.5}
PEERS = {"transformers": "peer.py", "llama": "peer_llama.py"}


class Worker:
    """A process that answers one line of JSON with another."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    def ask(self, do, **arguments):
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args} ended")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Pair:
    """Both sides with one model."""

    def __init__(self, options, folder):
        config = json.loads((pathlib.Path(folder) / "config.json").read_text())
        self.config = config
        self.size = {"f32": 4, "bf16": 2}[options.dtype]  # bytes
        self.ours = Worker(options.bench, folder, options.device, options.dtype)
        self.peer = Worker(sys.executable, str(pathlib.Path(__file__).parent / PEERS[options.peer]), folder,
                           options.device, options.dtype)
        self.settings = {"transformers": {"threads": [1, 2], "attention": ["sdpa", "eager"]},
                         "llama": {"threads": [1, 2], "cache": sorted({"f16", options.dtype}),
                                   "flash": [False, True]}}[options.peer]
        self.bars = {"transformers": [0.9, 1.1, 1.5], "llama": [1.0, 1.0, 1.5]}[options.peer]  # of the large model
        self.limits = self.peer if options.device == "cuda" else self.ours
        self.dice = random.Random(1)
        # torch gives the padding token's embedding no gradient, whatever it is used for.
        self.tokens = [token for token in range(config["vocab_size"])
                       if token != config.get("pad_token_id")]

    def texts(self, count, shortest, longest):
        return [self.dice.choices(self.tokens, k=self.dice.randint(shortest, longest))
                for _ in range(count)]

    def weights(self):
        """Parameters of all layers' matrices, and of the head."""
        c = self.config
        q, kv = (c[name] * c["head_dim"] for name in ("num_attention_heads", "num_key_value_heads"))
        layer = c["hidden_size"] * (2 * q + 2 * kv + 3 * c["intermediate_size"])
        return layer * c["num_hidden_layers"], c["vocab_size"] * c["hidden_size"]

    def attention_flop(self, length):
        """Of a causal forward pass over one text: scores and weighted values."""
        c = self.config
        return (c["num_hidden_layers"] * c["num_attention_heads"] * c["head_dim"] * 4
                * length * (length + 1) / 2)

    def close(self):
        self.ours.close()
        self.peer.close()


def seconds_of(reply):
    seconds = reply["seconds"]
    return statistics.median(seconds) if isinstance(seconds, list) else seconds


def fastest(pair, case):
    """The peer's settings that are fastest for this case, best of two calls each."""
    trials = {}
    names = list(case["peer"])
    for values in itertools.product(*case["peer"].values()):
        settings = dict(zip(names, values))
        times = [seconds_of(pair.peer.ask(case["do"], **settings, **case["trial"]))
                 for _ in range(2)]
        trials[json.dumps(settings)] = min(times)
    return json.loads(min(trials, key=trials.get)), trials


def measure(pair, case, repeat):
    """Ours, peer, peer, ours, and the machine's limits between; medians over all calls."""
    settings, trials = fastest(pair, case)
    calls = {"ours": lambda: pair.ours.ask(case["do"], threads=case["threads"], **case["work"]),
             "peer": lambda: pair.peer.ask(case["do"], **settings, **case["work"])}
    for call in calls.values():
        call()
    seconds, limits = {"ours": [], "peer": []}, []
    for _ in range((repeat + 1) // 2):
        for side in ("ours", "peer", "peer", "ours"):
            seconds[side].append(seconds_of(calls[side]()))
            if side == "ours":
                limits.append(pair.limits.ask("limits", threads=case["threads"]))
    peak = statistics.median(one["flop"] / one["flop_seconds"] for one in limits)
    bandwidth = statistics.median(one["bytes"] / one["byte_seconds"] for one in limits)
    ours, peer = (statistics.median(seconds[side]) for side in ("ours", "peer"))
    ratios = [p / o for o, p in zip(seconds["ours"], seconds["peer"])]
    return {"case": case["name"], "unit": case["unit"], "ours": case["amount"] / ours,
            "peer": case["amount"] / peer, "ratio": peer / ours, "bar": case["bar"],
            "ratio_least": min(ratios), "ratio_most": max(ratios),
            "peak_gflops": peak / 1e9, "read_gb_s": bandwidth / 1e9,
            "flop_fraction": case["flop"] / ours / peak if peak else None,
            "read_fraction": case["bytes"] / ours / bandwidth,
            "read_bar": case.get("read_bar"), "peer_settings": settings, "trials": trials,
            "seconds": seconds, "limits": limits}


def worst_delta(pair, texts, logprobs, first=None):
    """Greatest |difference| to the peer's log-probabilities of the same texts; `first`: of the first token that
    ours speaks of, for each text."""
    theirs = pair.peer.ask("score", threads=2, sequences=texts)["logprobs"]
    pairs = []
    for i, (ours, peer) in enumerate(zip(logprobs, theirs)):
        mine = peer if first is None else peer[first[i] - 1:]
        if len(ours) != len(mine):
            sys.exit(f"text {i}: {len(ours)} log-probabilities of ours for {len(mine)} tokens")
        pairs += zip(ours, mine)
    return max(abs(ours - peer) for ours, peer in pairs)


def completions_delta(pair, do, work):
    reply = pair.ours.ask(do, threads=2, **work)
    texts = [prompt + new for prompt, new in zip(work["sequences"], reply["tokens"])]
    return worst_delta(pair, texts, reply["logprobs"], [len(p) for p in work["sequences"]])


def tiny_cases(pair):
    texts, prompts = pair.texts(64, 32, 48), pair.texts(64, 20, 36)
    layers, head = pair.weights()
    tokens = sum(map(len, texts))
    train_flop = 6 * (layers * tokens + head * (tokens - len(texts))) + 3 * sum(
        pair.attention_flop(len(text)) for text in texts)
    everything = pair.settings
    cases = []
    for threads in (1, 2):
        cases.append({"name": f"tiny: training, {threads} thread{'s' * (threads > 1)}", "do": "train",
                      "threads": threads, "unit": "tokens/s", "amount": tokens, "bar": 2.0,
                      "flop": train_flop, "bytes": 0, "peer": {**everything, "fused": [False, True]},
                      "trial": {"steps": 3, "sequences": texts},
                      "work": {"steps": 5, "sequences": texts}})
    # 64 different prompts; eight draws of each of eight; and what a training step asks for: two draws of each of
    # eight questions (12 tokens) under each of four system prompts (24 tokens).
    questions, systems = pair.texts(8, 12, 12), pair.texts(4, 24, 24)
    batches = {"64": prompts, "8 x 8": [prompt for prompt in prompts[:8] for _ in range(8)],
               "4 x 8 x 2": [system + question for question in questions for system in systems for _ in range(2)]}
    for (name, batch), threads in itertools.product(batches.items(), (1, 2)):
        work = {"new_tokens": 12, "sequences": batch, "batches": 5}
        drawn = len(batch) * work["new_tokens"]
        # Every different beginning of a prompt is computed once.
        rows = len({tuple(prompt[:n]) for prompt in batch for n in range(1, len(prompt) + 1)}) + drawn - len(batch)
        cases.append({"name": f"tiny: sampling {name}, {threads} thread{'s' * (threads > 1)}",
                      "do": "sample", "threads": threads, "unit": "tokens/s", "amount": drawn,
                      "bar": 10.0, "flop": 2 * (layers * rows + head * drawn), "bytes": 0,
                      "peer": everything, "trial": work, "work": work})
    return cases, texts, [("sample", {"new_tokens": 12, "sequences": prompts, "batches": 1})]


def large_cases(pair, length, new):
    layers, head = pair.weights()
    everything = pair.settings
    prompt = pair.texts(1, length, length)
    cases = [{"name": f"0.6B: prefill {length}", "do": "prefill", "threads": 2, "unit": "tokens/s",
              "amount": length, "bar": pair.bars[0], "bytes": pair.size * (layers + head),
              "flop": 2 * (layers * length + head) + pair.attention_flop(length),
              "peer": everything, "trial": {"sequences": prompt}, "work": {"sequences": prompt}}]
    checks = []
    for batch, bar in zip((1, 8), pair.bars[1:]):
        prompts = pair.texts(batch, 33, 33)  # 16 n + 1: see decode() in model_bench.cpp
        work = {"new_tokens": new, "sequences": prompts}
        cases.append({"name": f"0.6B: decode, batch {batch}", "do": "decode", "threads": 2,
                      "unit": "tokens/s", "amount": batch * new, "bar": bar,
                      "read_bar": 0.85 if batch == 1 else None, "bytes": pair.size * (layers + head) * new,
                      "flop": 2 * (layers + head) * batch * new, "peer": everything,
                      "trial": {"new_tokens": 2, "sequences": prompts}, "work": work})
        checks.append(("decode", work))
    return cases, prompt, checks


def check(pair, name, texts, checks):
    """Log-probabilities of both sides, of texts and of what ours drew."""
    ours = pair.ours.ask("score", threads=2, sequences=texts)["logprobs"]
    deltas = {f"{name}: forward": worst_delta(pair, texts, ours)}
    for do, work in checks:
        deltas[f"{name}: {do} {len(work['sequences'])}"] = completions_delta(pair, do, work)
    return deltas


def loss_deltas(pair, texts):
    """Both sides from the same weights: the losses before each of the first steps."""
    work = {"threads": 1, "steps": 3, "sequences": texts}
    ours, peer = (side.ask("train", **work)["loss"] for side in (pair.ours, pair.peer))
    return {f"tiny: loss before step {i + 1}": abs(a - b) for i, (a, b) in enumerate(zip(ours, peer))}


def percent(fraction):
    return f"{100 * fraction:.0f} %" if fraction else "-"


def print_table(rows, deltas, most):
    print(f"\n{'case':28} {'ours':>9} {'peer':>9} {'':8} {'ratio':>6} {'(range)':>13} {'bar':>5} "
          f"{'of FMA peak':>11} {'of read':>8}  peer's best settings")
    for row in rows:
        span = f"{row['ratio_least']:.2f}-{row['ratio_most']:.2f}"
        settings = " ".join(f"{key}={value}" for key, value in row["peer_settings"].items())
        met = row["ratio"] >= row["bar"] and row["read_fraction"] >= (row["read_bar"] or 0)
        print(f"{row['case']:28} {row['ours']:9.1f} {row['peer']:9.1f} {row['unit']:8} "
              f"{row['ratio']:6.2f} {span:>13} {row['bar']:5.1f} {percent(row['flop_fraction']):>11} "
              f"{percent(row['read_fraction']):>8}  {settings}{'' if met else '  MISSED'}")
    for row in rows:
        print(f"limits during {row['case']}: {row['peak_gflops']:.0f} GFLOP/s, "
              f"{row['read_gb_s']:.1f} GB/s")
    for name, delta in deltas.items():
        print(f"max |difference| {name}: {delta:.1e}{'' if delta <= most else '  TOO LARGE'}")


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("bench", "tiny", "large", "json"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--repeat", type=int, default=8, help="calls of each side per case")
    parser.add_argument("--peer", choices=PEERS, default="transformers")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--only", default="", help="cases whose name has this text")
    parser.add_argument("--prefill", type=int, default=512, help="tokens")
    parser.add_argument("--new-tokens", type=int, default=16, help="decoding steps per call")
    return parser.parse_args()


def main():
    options = arguments()
    rows, deltas = [], {}
    models = [("tiny", options.tiny), ("0.6B", options.large)]
    if options.peer == "llama":  # which does not train
        models = models[1:]
    for name, folder in models:
        pair = Pair(options, folder)
        if name == "tiny":
            cases, texts, checks = tiny_cases(pair)
        else:
            cases, texts, checks = large_cases(pair, options.prefill, options.new_tokens)
        cases = [case for case in cases if options.only in case["name"]]
        if cases:
            deltas.update(check(pair, name, texts, checks))
            if name == "tiny":
                deltas.update(loss_deltas(pair, texts))
        for case in cases:
            print(f"measuring {case['name']}", flush=True)
            rows.append(measure(pair, case, options.repeat))
        pair.close()
    record = {"load": os.getloadavg(), "cases": rows, "max_difference": deltas}
    pathlib.Path(options.json).write_text(json.dumps(record, indent=1) + "\n")
    print_table(rows, deltas, MOST_DELTA[options.dtype])
    print(f"load average at the end {os.getloadavg()[0]:.1f}; raw numbers: {options.json}")
    sys.exit(any(delta > MOST_DELTA[options.dtype] for delta in deltas.values()))


if __name__ == "__main__":
    main()
