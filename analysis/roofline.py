#!/usr/bin/env python3
"""roofline.py [--model NAME ...] [--step STEP ...]: the kernels of a step on H100, on paper.

What the program itself lists (tests/roofline/list_launches, no GPU needed): the operations of a
step with the least bytes and operations of each, and its launches. Each takes the longer of bytes
at the memory's rate and operations at its arithmetic's peak, and each launch its share of a CUDA
graph; the sum stands beside the floor of the design notes. What kernels move beyond the least
(partial sums of trees, second passes) takes time where it is too much for the L2. Nothing is
measured here."""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from collections import namedtuple

import scaling
import scaling_constants
import scaling_phases as phases
import scaling_sizes as sizes

SOURCE = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = SOURCE / "build/tests/roofline/list_launches"
STEPS = ["decode:1:512", "decode:64:512", "decode:1:2048", "decode:64:2048", "prefill:2048",
         "train:2:2048"]
# FLOP/s of an H100: 67e12 is NVIDIA's peak of float32 FMA at boost clock, which 90 % can be had of;
# tensor cores gave 798e12 to the best measured product (design notes, engine.md).
PEAKS = {"f32": 60e12, "bf16": 790e12}
ELEMENT = {"f32": 4, "bf16": 2}  # bytes of a weight, an activation, a cached element
L2 = 50e6                        # bytes (design notes, engine.md)
PRODUCTS = "linear_", "attention_"  # by tensor cores in bf16; all else is float32 arithmetic

Cost = namedtuple("Cost", "bytes more_bytes operations work_seconds launched launch_seconds")


class Refused(Exception):
    """The program did not list the step."""


def config_of(s):
    """A config.json of these sizes."""
    return {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_act": "silu",
            "vocab_size": s.vocab, "hidden_size": s.hidden, "num_hidden_layers": s.layers,
            "num_attention_heads": s.heads, "num_key_value_heads": s.kv_heads,
            "head_dim": s.head_dim, "intermediate_size": s.inner, "rms_norm_eps": 1e-6,
            "rope_theta": 1e6, "max_position_embeddings": 40960, "tie_word_embeddings": s.tied}


def listing(program, s, dtype, tp, steps):
    """{step: its lines} as the program lists them."""
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "config.json"
        config.write_text(json.dumps(config_of(s)))
        run = subprocess.run([program, config, dtype, str(tp), *steps], capture_output=True,
                             text=True)
    if run.returncode != 0:
        raise Refused(run.stderr.strip())
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    return {step: [line for line in lines if line.get("step") == step] for step in steps}


def cost(c, line, tp):
    """Of all repetitions of a line: an operation, or an exchange between the ranks of a unit."""
    count = line["count"]
    if "exchange" in line:
        passes = (2 if line["exchange"] == "sum" else 1) * (tp - 1) / tp
        seconds = line["exchanged"] * passes / c.nvlink_rate
        return Cost(0, 0, 0, count * seconds, 0, count * c.sum_latency)
    moved = line["read"] + line["written"]
    peak = PEAKS[line["type"] if line["op"].startswith(PRODUCTS) else "f32"]
    streamed = moved + (line["more"] if line["more"] > L2 else 0)
    seconds = max(streamed / c.hbm_rate, line["operations"] / peak)
    launches = len(line["launches"])
    return Cost(count * moved, count * line["more"], count * line["operations"], count * seconds,
                count * launches, count * launches * c.launch_seconds)


def total(costs):
    return Cost(*(sum(values) for values in zip(*costs)))


def floor(c, s, dtype, tp, step):
    """Seconds, bytes and operations of the design notes' formulas (engine.md 2.1) on one rank; no
    bytes where they speak of none."""
    kind, *counts = step.split(":")
    scale = ELEMENT[dtype] / sizes.WEIGHT
    at_peak = c._replace(decode_gemm_rate=PEAKS[dtype])
    if kind == "decode":
        batch, context = map(int, counts)
        cached = batch * context * sizes.cache_bytes(s, tp)
        moved = scale * (sizes.decode_weight_bytes(s, tp) + cached)
        operations = batch * (sizes.token_flop(s) + sizes.attention_flop(s, 1, context)) / tp
        faster = at_peak._replace(hbm_rate=c.hbm_rate / scale)
        return phases.decode_floor(faster, s, tp, batch, batch * context), moved, operations
    sequences, length = (1, int(counts[0])) if kind == "prefill" else map(int, counts)
    tokens = sequences * length
    if kind == "prefill":
        matrices = tokens * sizes.token_flop(s, head=False)
        operations = (matrices + sizes.attention_flop(s, length)) / tp
        return operations / PEAKS[dtype], None, operations
    operations = tokens * sizes.train_flop(s, length) / tp
    update = c.adamw_bytes * sizes.parameters(s) / tp / c.hbm_rate
    return operations / PEAKS[dtype] + update, None, operations


def shape_text(line):
    if "exchange" in line:
        return line["what"]
    return " ".join(f"{name}={count}" for name, count in line["shape"].items())


def kernel_text(line):
    return ", ".join(f"{launch['kernel']} {'x'.join(map(str, launch['grid']))}"
                     for launch in line.get("launches", []))


def report(c, s, dtype, tp, step, lines):
    """What is known of a step, as JSON has it."""
    costs = [cost(c, line, tp) for line in lines]
    whole = total(costs)
    seconds = whole.work_seconds + whole.launch_seconds
    least, moved, operations = floor(c, s, dtype, tp, step)
    return {"model": s.name, "dtype": dtype, "tp": tp, "step": step, **whole._asdict(),
            "seconds": seconds, "floor_seconds": least, "floor_bytes": moved,
            "floor_operations": operations, "ratio": seconds / least,
            "kernels": [{**line, **each._asdict()} for line, each in zip(lines, costs)]}


HEAD = ["model", "type", "tp", "step", "GB", "GB more", "GFLOP", "work ms", "launches",
        "launch ms", "sum ms", "floor ms", "sum / floor", "bytes / floor"]


def row(r):
    """A step's line of the table."""
    bytes_ratio = f"{r['bytes'] / r['floor_bytes']:.3f}" if r["floor_bytes"] else "-"
    return [r["model"], r["dtype"], str(r["tp"]), r["step"], f"{r['bytes'] / 1e9:.3f}",
            f"{r['more_bytes'] / 1e9:.3f}", f"{r['operations'] / 1e9:.1f}",
            f"{1e3 * r['work_seconds']:.3f}", str(r["launched"]),
            f"{1e3 * r['launch_seconds']:.3f}", f"{1e3 * r['seconds']:.3f}",
            f"{1e3 * r['floor_seconds']:.3f}", f"**{r['ratio']:.2f}**", bytes_ratio]


KERNEL_HEAD = ["operation", "type", "shape", "kernels and grids", "times", "MB each", "MB more",
               "MFLOP each", "us each", "share"]


def kernel_row(r, k):
    count, seconds = k["count"], k["work_seconds"] + k["launch_seconds"]
    return [k.get("op", k.get("exchange")), k.get("type", "-"), shape_text(k), kernel_text(k),
            str(count), f"{k['bytes'] / count / 1e6:.3f}", f"{k['more_bytes'] / count / 1e6:.3f}",
            f"{k['operations'] / count / 1e6:.2f}",
            f"{1e6 * seconds / count:.2f}", f"{seconds / r['seconds']:.1%}"]


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    models = list(sizes.MODELS)
    parser.add_argument("--model", nargs="+", choices=models, default=models)
    parser.add_argument("--step", nargs="+", default=STEPS,
                        help="decode:BATCH:CONTEXT, prefill:TOKENS, train:SEQUENCES:TOKENS")
    parser.add_argument("--dtype", choices=list(PEAKS), default="bf16")
    parser.add_argument("--tp", type=int, choices=[1, 2, 4, 8], default=1,
                        help="ranks that share the model")
    parser.add_argument("--kernels", action="store_true", help="a table of each step's operations")
    parser.add_argument("--json", action="store_true", help="everything, an object for each step")
    parser.add_argument("--program", default=PROGRAM,
                        help=f"list_launches (default {PROGRAM.relative_to(SOURCE)})")
    return parser.parse_args(argv)


def main(argv):
    options = arguments(argv)
    c = scaling_constants.constants()
    reports = []
    for model in options.model:
        s = sizes.MODELS[model]
        listed = listing(options.program, s, options.dtype, options.tp, options.step)
        reports += [report(c, s, options.dtype, options.tp, step, lines)
                    for step, lines in listed.items()]
    if options.json:
        print(json.dumps(reports, indent=1))
        return
    print(scaling.markdown(HEAD, [row(r) for r in reports]))
    for r in reports if options.kernels else []:
        print(f"### {r['model']}, {r['dtype']}, tp {r['tp']}, {r['step']}\n")
        print(scaling.markdown(KERNEL_HEAD, [kernel_row(r, k) for k in r["kernels"]]))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (Refused, OSError) as error:
        sys.exit(f"roofline.py: {error}")
