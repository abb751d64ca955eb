#!/usr/bin/env python3
"""The work of fst_gpu_bench, done by torch in float32 (TF32 off) or bfloat16 on the same device.

peer.py CASES [--seconds N]: CASES are the lines that fst_gpu_bench printed; for each case that torch
has an operation for, and for the ceilings of arithmetic (products of 8192^3), a line of the same form
goes to standard output. Keys and values are contiguous here, not paged: torch has less to do there.
"""
import argparse
import json
import sys
import time

import torch
import torch.nn.functional as F

DEVICE = torch.device("cuda")
BEYOND_CACHES = 256 << 20  # bytes, as in bench.cpp
SAMPLES, SHORTEST_SAMPLE = 21, 200.0  # microseconds
GRAPHS = 256  # that are kept at most


class Rings:
    """Copies of each input, so many that all together are larger than any cache."""

    def __init__(self, floats, dtype=torch.float32):
        self.dtype = dtype
        self.copies = max(1, min(1 << 12, -(-BEYOND_CACHES // (4 * floats))))

    def __call__(self, *shape):
        ring = torch.randn(self.copies, *shape, device=DEVICE, dtype=self.dtype)
        return lambda call: ring[call % self.copies]


def normalised(x, weight):
    return F.rms_norm(x, (x.shape[-1],), weight, 1e-6)


def rotated(x, cosine, sine):
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def backward_of(forward, rings, gradient, copies):
    """A call of forward's backward alone: the graphs, one for each copy of the inputs, are kept."""
    graphs = []
    for copy_ in range(min(copies, GRAPHS)):
        inputs = [ring(copy_).detach().requires_grad_() for ring in rings]
        graphs.append((forward(*inputs), inputs, gradient(copy_)))

    def call(i):
        out, inputs, dout = graphs[i % len(graphs)]
        return torch.autograd.grad(out, inputs, dout, retain_graph=True)
    return call


def linear(s, which, dtype=torch.float32):
    rows, n, k = s["rows"], s["n"], s["k"]
    ring = Rings((rows * (n + k) + n * k) * dtype.itemsize // 4, dtype)
    if which == "y":
        x, weight = ring(rows, k), ring(n, k)
        return lambda i: x(i) @ weight(i).T
    if which == "dX":
        dy, weight = ring(rows, n), ring(n, k)
        return lambda i: dy(i) @ weight(i)
    dy, x = ring(rows, n), ring(rows, k)
    return lambda i: dy(i).T @ x(i)


def attention(s, backward):
    sequences, rows, keys = s["sequences"], s["rows"], s["context"] + s["rows"]
    heads, kv_heads, dim = s["heads"], s["kv_heads"], s["dim"]
    ring = Rings(sequences * dim * (2 * heads * rows + 2 * kv_heads * keys))
    q = ring(sequences, heads, rows, dim)
    k, v = ring(sequences, kv_heads, keys, dim), ring(sequences, kv_heads, keys, dim)

    group = heads // kv_heads

    def forward(q, k, v):
        if rows == 1:  # a group's heads as rows: no key is copied
            return F.scaled_dot_product_attention(q.view(sequences, kv_heads, group, dim), k, v)
        # In float32 enable_gqa would take the kernel that holds all scores.
        return F.scaled_dot_product_attention(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1),
                                              is_causal=True)
    if not backward:
        return lambda i: forward(q(i), k(i), v(i))
    return backward_of(forward, (q, k, v), ring(sequences, heads, rows, dim), ring.copies)


def rms_norm(s, backward):
    rows, columns = s["rows"], s["columns"]
    ring = Rings((3 if backward else 2) * rows * columns)
    x, weight = ring(rows, columns), ring(columns)
    if not backward:
        return lambda i: normalised(x(i), weight(i))
    return backward_of(normalised, (x, weight), ring(rows, columns), ring.copies)


def heads(s, backward):
    rows, count, dim = s["rows"], s["heads"], s["dim"]
    ring = Rings((3 if backward else 2) * rows * count * dim)
    x, weight = ring(rows, count, dim), ring(dim)
    cosine, sine = (torch.randn(rows, 1, dim // 2, device=DEVICE) for _ in range(2))

    def forward(x, weight):
        return rotated(normalised(x, weight), cosine, sine)
    if not backward:
        return lambda i: forward(x(i), weight(i))
    return backward_of(forward, (x, weight), ring(rows, count, dim), ring.copies)


def swiglu(s, backward):
    rows, columns = s["rows"], s["columns"]
    ring = Rings((5 if backward else 3) * rows * columns)
    both = ring(rows, 2 * columns)

    def forward(both):
        gate, up = both.chunk(2, dim=-1)
        return F.silu(gate) * up
    if not backward:
        return lambda i: forward(both(i))
    return backward_of(forward, (both,), ring(rows, columns), ring.copies)


def law(s, backward):
    rows, columns = s["rows"], s["columns"]
    ring = Rings((2 if backward else 1) * rows * columns)
    z = ring(rows, columns)
    targets = torch.randint(columns, (rows, 1), device=DEVICE)

    def forward(z):
        lse = z.logsumexp(-1, keepdim=True)
        return z.gather(-1, targets) - lse, lse
    if backward:
        return backward_of(lambda z: forward(z)[0], (z,), ring(rows, 1), ring.copies)

    def checked(i):  # fst tells its caller at once whether all logits were finite
        logprob, lse = forward(z(i))
        return bool(lse.isfinite().all())
    return checked


def sampling(s, cut):
    rows, columns = s["rows"], s["columns"]
    z = Rings(rows * columns)(rows, columns)

    def draw(i):
        logits = z(i)
        if cut:
            kept, order = (logits / 0.6).topk(20, dim=-1)
            mass = kept.softmax(-1)
            kept = kept.masked_fill(mass.cumsum(-1) - mass >= 0.95, float("-inf"))
            token = order.gather(-1, torch.multinomial(kept.softmax(-1), 1))
            return bool(token.isfinite().all())
        token = torch.multinomial(logits.softmax(-1), 1)
        return bool((logits.gather(-1, token) - logits.logsumexp(-1, keepdim=True)).isfinite().all())
    return draw


def adamw(s):
    ring = Rings(4 * s["columns"])
    parameter, gradient = ring(s["columns"])(0), ring(s["columns"])(0)
    parameter = torch.nn.Parameter(parameter)
    parameter.grad = gradient
    optimiser = torch.optim.AdamW([parameter], lr=1e-6, fused=True)
    return lambda i: optimiser.step()


def norm(s):
    x = Rings(s["columns"])(s["columns"])
    return lambda i: float(torch.linalg.vector_norm(x(i)))


def copy(s):
    ring = Rings(2 * s["columns"])
    to, from_ = ring(s["columns"]), ring(s["columns"])
    return lambda i: to(i).copy_(from_(i))


OPERATIONS = {
    **{f"linear {w}": lambda s, w=w: linear(s, w) for w in ("y", "dX", "dW")},
    **{f"bf16 linear {w}": lambda s, w=w: linear(s, w, torch.bfloat16) for w in ("y", "dX", "dW")},
    "attention forward": lambda s: attention(s, False),
    "attention backward": lambda s: attention(s, True),
    "RMSNorm": lambda s: rms_norm(s, False), "RMSNorm backward": lambda s: rms_norm(s, True),
    "QK-norm and RoPE": lambda s: heads(s, False),
    "QK-norm and RoPE backward": lambda s: heads(s, True),
    "SwiGLU": lambda s: swiglu(s, False), "SwiGLU backward": lambda s: swiglu(s, True),
    "token law, log-probability": lambda s: law(s, False),
    "token law, gradient": lambda s: law(s, True),
    "sampling": lambda s: sampling(s, False),
    "sampling, top-k 20 and top-p 0.95": lambda s: sampling(s, True),
    "AdamW": adamw, "gradient norm": norm, "device copy": copy,
}
CEILINGS = [{"case": case, "operation": operation, "shape": {"rows": 8192, "n": 8192, "k": 8192},
             "bytes": 3 * size * 8192**2, "flops": 2 * 8192**3}
            for case, operation, size in (("ceiling of arithmetic", "linear y", 4),
                                          ("ceiling of bf16 arithmetic", "bf16 linear y", 2))]


def microseconds(call, first, calls):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for i in range(first, first + calls):
        call(i)
    end.record()
    end.synchronize()
    return 1000 * start.elapsed_time(end)


def timed(call):
    """As Bench::time: 21 samples of so many calls that the events' clock is fine enough."""
    microseconds(call, 0, 3)
    calls = 1
    while calls < 256 and microseconds(call, 0, calls) < SHORTEST_SAMPLE:
        calls *= 2
    return [microseconds(call, sample * calls, calls) / calls for sample in range(SAMPLES)]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("cases")
    arguments.add_argument("--seconds", type=float, default=1e9)
    options = arguments.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    begun = time.monotonic()
    print(f"torch {torch.__version__} on {torch.cuda.get_device_name()}", file=sys.stderr)
    with open(options.cases) as lines:
        cases = [*CEILINGS, *map(json.loads, lines)]
    for case in cases:
        line = {key: case[key] for key in ("case", "operation", "shape", "bytes", "flops")}
        if time.monotonic() - begun > options.seconds:
            line["not_run"] = "out of time"
        else:
            try:
                line["microseconds"] = timed(OPERATIONS[case["operation"]](case["shape"]))
            except RuntimeError as error:
                line["not_run"] = str(error).splitlines()[0]
        print(json.dumps(line), flush=True)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
