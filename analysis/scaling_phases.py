"""Seconds of the parts of a step on one unit of `tp` GPUs, from operations and bytes.

`s` is a scaling_sizes.Sizes, `c` are scaling_constants.constants(). Nothing overlaps unless said."""
from collections import namedtuple
from functools import lru_cache
import math

import scaling_sizes as sizes
import scaling_volumes as volumes

Workload = namedtuple("Workload", [
    "problems", "group_size", "prompt", "response", "longest", "prompts", "steps_per_cycle",
    "anchors", "metric_calls", "minibatch", "proposals", "accepted", "carried", "evidence",
    "reflection", "gradient_leaves", "kl"])
STRIDE = 64  # decoding steps between two looks at who is still running: a numerical step


def quantile_lengths(w, count, total=None):
    """Lengths of `count` responses: longest * u^a at evenly spaced u, with a such that the mean is
    `response`. `total`: the longest of that many draws is among them."""
    a = w.longest / w.response - 1
    lengths = [w.longest * ((i + 0.5) / count) ** a for i in range(count)]
    if total is not None and total > count:
        lengths[-1] = w.longest * ((total - 0.5) / total) ** a
    return [max(1, round(length)) for length in lengths]


def sum_seconds(c, elements, tp, item=4):
    """One sum over a unit, by reduce-scatter and all-gather or in one shot."""
    if tp == 1:
        return 0.0
    return c.sum_latency + 2 * (tp - 1) / tp * elements * item / c.nvlink_rate


def decode_floor(c, s, tp, batch, cached):
    """Seconds of one step of `batch` sequences with `cached` tokens in all: one GPU's limits."""
    weights = sizes.decode_weight_bytes(s, tp) / c.hbm_rate
    products = batch * sizes.token_flop(s) / tp / c.decode_gemm_rate
    return max(weights, products) + cached * sizes.cache_bytes(s, tp) / c.hbm_rate


def decode_step(c, s, tp, batch, cached):
    """What is planned of the floor, the launches, the sums and the gathering of the logits."""
    launches = c.layer_kernels * s.layers * c.launch_seconds
    work = max(decode_floor(c, s, tp, batch, cached) / c.decode_efficiency, launches)
    sums = (2 * s.layers + 1) * sum_seconds(c, batch * s.hidden, tp)
    logits = (tp - 1) / tp * batch * s.vocab * 4 / c.nvlink_rate
    return work + sums + logits


def decode(c, s, tp, lengths, prompt, slots):
    """Seconds of responses of these lengths on one unit, at most `slots` at a time, the next one
    beginning where one ends."""
    waiting = sorted(lengths, reverse=True)  # the order is not known beforehand: longest last
    running, seconds, step = [], 0.0, 0
    while waiting or running:
        while waiting and len(running) < slots:
            running.append((step, step + waiting.pop()))
        stride = min(STRIDE, min(end for _, end in running) - step)
        middle = step + stride / 2
        cached = sum(prompt + middle - begin for begin, _ in running)
        seconds += stride * decode_step(c, s, tp, len(running), cached)
        step += stride
        running = [(begin, end) for begin, end in running if end > step]
    return seconds


@lru_cache(maxsize=None)
def forward(c, s, tp, length, logits):
    """Seconds of one sequence's forward pass, the unit's sums included."""
    flop = sizes.token_flop(s, head=False) * length + 2 * s.vocab * s.hidden * logits
    products = flop / tp / c.gemm_rate
    attention = sizes.attention_flop(s, length) / tp / c.attention_forward_rate
    passes = c.forward_passes * sizes.saved_bytes(s, tp) * length / c.hbm_rate
    sums = (2 * s.layers + 1) * (sum_seconds(c, length * s.hidden, tp))
    return (products + attention + passes) / c.kernel_efficiency + sums


def backward(c, s, tp, length, logits):
    """The same of the backward pass. Matrices that share an input are joined one by one."""
    flop = 2 * (sizes.token_flop(s, head=False) * length + 2 * s.vocab * s.hidden * logits)
    attention = 2.5 * sizes.attention_flop(s, length) / tp / c.attention_backward_rate
    passes = ((c.elementwise_passes - c.forward_passes) * sizes.saved_bytes(s, tp) * length
              / c.hbm_rate)
    sums = s.layers * (sum_seconds(c, 3 * length * s.hidden, tp)
                       + sum_seconds(c, 2 * length * s.hidden, tp))
    return (flop / tp / c.gemm_rate + attention + passes) / c.kernel_efficiency + sums


@lru_cache(maxsize=None)
def gradients(c, s, tp, w, share, recompute):
    """Forward (the base too, for the KL term), backward, of a learner's share of the step."""
    lengths = quantile_lengths(w, w.problems * w.group_size)
    forwards = 1 + (1 if w.kl else 0) + (1 if recompute else 0)
    one = sum(forwards * forward(c, s, tp, w.prompt + n, n) + backward(c, s, tp, w.prompt + n, n)
              for n in lengths)
    return share * one


def update(c, s, tp, dp, leaves):
    """Zeroing and joining the gradient leaves, AdamW on this rank's part."""
    elements = sizes.parameters(s) / tp
    own = math.ceil(leaves / dp)
    return (own * c.leaf_bytes * elements + c.adamw_bytes * elements / dp) / c.hbm_rate


def exchange(c, bytes_per_rank, ranks, neighbours):
    """Every rank sends `bytes_per_rank` to the others in equal parts; `neighbours` of the ranks,
    itself among them, are in its node."""
    if ranks == 1:
        return 0.0
    outside = max(0, ranks - neighbours) / (ranks - 1)
    latency = c.message_latency if outside > 0 else c.sum_latency
    return latency + bytes_per_rank * ((1 - outside) / c.nvlink_rate + outside / c.network_rate)


def gradient_exchange(c, s, tp, dp, leaves):
    """Gradient nodes to their owners in float32, updated weights back in bfloat16."""
    elements = sizes.parameters(s) // tp
    neighbours = max(1, int(c.gpus_per_node) // tp)
    return sum(exchange(c, total / dp, dp, neighbours)
               for total in (volumes.gradient_leaves(elements, leaves, dp),
                             volumes.updated_weights(elements, dp, sizes.WEIGHT)))


def link_rate(c, gpus):
    return c.nvlink_rate if gpus <= c.gpus_per_node else c.network_rate


def adoption(c, s, tp, gpus):
    """The new weights to the rollout ranks, each its part, along a pipeline."""
    return c.message_latency + sizes.WEIGHT * sizes.parameters(s) / tp / link_rate(c, gpus)
