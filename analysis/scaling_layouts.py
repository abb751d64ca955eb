"""Layouts of a job, what a cycle costs in each, and the one to take."""
from collections import namedtuple
from functools import lru_cache
import math

import scaling_memory as memory
import scaling_phases as phases
import scaling_volumes as volumes

DEGREES = (1, 2, 4, 8)
# Ranks of the roles (colocated: all the same), their degrees, and the data-parallel degree.
Layout = namedtuple("Layout", "colocated rollout reflection learner tps dp max_lag recompute")
# Seconds per step, but the fast phase: per cycle. idle: share of GPU time without work.
Prediction = namedtuple(
    "Prediction", "layout rollout learn move fast step fst_step idle bytes slots")
# Of a cycle's prompt evolution, in seconds: all of it; in it the reflection model; the first
# scores; the number of rounds; in a round one minibatch, rewriting, scores of a child that passed.
FastPhase = namedtuple("FastPhase", "seconds rewriting first rounds trial rewrite child")
CLOSE = 1.02  # a simpler layout is taken if it is at most this much slower


def name(layout):
    r, f, l = layout.tps
    if layout.colocated:
        text = f"colocated, tp {r}/{f}/{l}"
    else:
        text = f"{layout.rollout}+{layout.reflection}+{layout.learner}, tp {r}/{f}/{l}"
    text += ", lag 1" if layout.max_lag else ""
    return text + (", recompute" if layout.recompute else "")


def degrees(s):
    return [tp for tp in DEGREES if s.kv_heads % tp == 0 and s.heads % tp == 0]


def layouts(s, gpus, w):
    """Every layout of this many GPUs that the program would accept, memory aside."""
    possible = degrees(s)
    for learning in possible:
        for recompute in (False, True):
            dp = gpus // learning
            if gpus % learning == 0 and dp <= w.gradient_leaves:
                for rollout in (tp for tp in possible if gpus % tp == 0):
                    for reflection in {rollout, learning}:
                        yield Layout(True, gpus, gpus, gpus, (rollout, reflection, learning), dp, 0,
                                     recompute)
            for dp in (2 ** i for i in range(int(math.log2(w.gradient_leaves)) + 1)):
                yield from split_layouts(possible, gpus, learning, dp, recompute)


def split_layouts(possible, gpus, learning, dp, recompute):
    for rollout in possible:
        for reflection in possible:
            left = gpus - dp * learning - reflection
            spare = left % rollout  # goes to the reflection ranks, if they can take it
            if left < rollout or (reflection + spare) % reflection != 0:
                continue
            for lag in (0, 1):
                yield Layout(False, left - spare, reflection + spare, dp * learning,
                             (rollout, reflection, learning), dp, lag, recompute)


@lru_cache(maxsize=None)
def batch(c, s, tp, units, problems, per_problem, prompts, w, slots):
    """Seconds of drawing `per_problem` responses of each problem, a problem on one unit."""
    own = math.ceil(problems / units)
    prefill = own * prompts * phases.forward(c, s, tp, w.prompt, 1)
    count = own * per_problem
    lengths = phases.quantile_lengths(w, count, problems * per_problem)
    return prefill + phases.decode(c, s, tp, lengths, w.prompt, slots)


def rollout_seconds(c, s, tp, ranks, w, slots):
    prompts = min(w.prompts, w.group_size)
    return batch(c, s, tp, ranks // tp, w.problems, w.group_size, prompts, w, slots)


def fast_phase(c, s, layout, w, slots):
    """One cycle's prompt evolution: the scores of the candidates it begins with, then rounds:
    parents on a minibatch, rewriting, children on it, and those that pass on all anchors."""
    if w.metric_calls == 0:
        return FastPhase(*[0.0] * 7)
    tp, units = layout.tps[0], layout.rollout // layout.tps[0]
    first = {"all_uncharged": w.prompts, "all_charged": w.prompts, "lead_only": 1}[w.carried]
    budget = w.metric_calls - (0 if w.carried == "all_uncharged" else first * w.anchors)
    passing = w.accepted * w.proposals
    rounds = max(0.0, budget / (2 * w.minibatch * w.proposals + passing * w.anchors))

    def score(problems, candidates):
        return batch(c, s, tp, units, problems, candidates, candidates, w, slots)
    own = math.ceil(w.proposals / (layout.reflection // layout.tps[1]))
    rewrite = own * phases.forward(c, s, layout.tps[1], w.evidence, 1) + phases.decode(
        c, s, layout.tps[1], [w.reflection] * own, w.evidence, own)
    child = score(w.anchors, max(1, round(passing))) * min(1.0, passing)
    trial, start = score(w.minibatch * w.proposals, 1), score(w.anchors, first)
    seconds = start + rounds * (2 * trial + rewrite + child)
    return FastPhase(seconds, rounds * rewrite, start, rounds, trial, rewrite, child)


def messages(c, gpus, w):
    """Trajectories to the learners and rewards to all: bytes over one link, and their latency."""
    requests = w.problems * w.group_size
    one = volumes.trajectory(w.prompt, w.response, c.text_bytes * w.response, c.feedback_bytes)
    return 2 * c.message_latency + requests * (one + 34) / phases.link_rate(c, gpus)


def predict(c, s, gpus, w, layout):
    """The prediction for a layout, or None where it does not fit in memory."""
    used, slots = memory.needed(c, s, layout, w)
    if used > c.memory or slots < 1:
        return None
    learning = layout.tps[2]
    share = math.ceil(w.gradient_leaves / layout.dp) / w.gradient_leaves
    rollout = rollout_seconds(c, s, layout.tps[0], layout.rollout, w, slots)
    learn = (phases.gradients(c, s, learning, w, share, layout.recompute)
             + phases.gradient_exchange(c, s, learning, layout.dp, w.gradient_leaves)
             + phases.update(c, s, learning, layout.dp, w.gradient_leaves))
    move = messages(c, gpus, w)
    if not layout.colocated or layout.tps[0] != learning:
        move += phases.adoption(c, s, layout.tps[0], gpus)
    step = rollout + learn + move
    if layout.max_lag:  # the first step of a cycle has nothing to run beside
        turns = w.steps_per_cycle
        step = ((turns - 1) * max(rollout, learn) + rollout + learn) / turns + move
    fast = fast_phase(c, s, layout, w, slots)
    cycle = fast.seconds + w.steps_per_cycle * step
    working = busy(layout, w, rollout, learn, fast)
    return Prediction(layout, rollout, learn, move, fast.seconds, step, cycle / w.steps_per_cycle,
                      1 - working / (gpus * cycle), used, slots)


def busy(layout, w, rollout, learn, fast):
    """GPU seconds of a cycle in which ranks have work, counting a unit's slowest response."""
    drawing = layout.tps[0] * min(layout.rollout // layout.tps[0], w.problems)
    rewriting = layout.tps[1] * min(layout.reflection // layout.tps[1], w.proposals)
    return (drawing * w.steps_per_cycle * rollout + layout.learner * w.steps_per_cycle * learn
            + layout.rollout * (fast.seconds - fast.rewriting) + rewriting * fast.rewriting)


def simplicity(layout):
    """Of two layouts of about the same speed the smaller key is easier to run."""
    return (layout.max_lag, not layout.colocated, layout.recompute, sum(layout.tps))


def recommend(c, s, gpus, w):
    """The fastest FST step; None if no layout fits."""
    fitting = [p for p in (predict(c, s, gpus, w, x) for x in layouts(s, gpus, w)) if p]
    if not fitting:
        return None
    fastest = min(p.fst_step for p in fitting)
    return min((p for p in fitting if p.fst_step <= CLOSE * fastest),
               key=lambda p: (simplicity(p.layout), p.fst_step))


def least_memory(c, s, gpus, w):
    """Bytes of the fullest GPU in the layout that needs least: for the message when none fits."""
    return min((memory.needed(c, s, x, w)[0] for x in layouts(s, gpus, w)), default=float("inf"))
