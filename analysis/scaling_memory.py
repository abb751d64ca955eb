"""Bytes of one GPU by role: what must fit before a layout is proposed.

Source of the list: the design notes (engine.md 2.4, architecture.md 3) and `fst check`."""
import math

import scaling_sizes as sizes


def weights(s, degrees):
    """One copy of a model's shard per tensor-parallel degree that this rank has it in."""
    return sum(sizes.WEIGHT * sizes.parameters(s) / tp for tp in set(degrees))


def gradient_buffers(s, tp, dp, leaves):
    """1 + log2(leaves of a rank): the tree is summed depth first."""
    levels = math.ceil(math.log2(math.ceil(leaves / dp)))
    return 4 * (1 + levels) * sizes.gradient_elements(s) / tp


def optimizer(s, tp, dp):
    """Master weights and both moments in float32, once over the data-parallel ranks."""
    return 12 * sizes.parameters(s) / tp / dp


def activations(c, s, tp, w, recompute):
    """Of a micro-batch of one sequence of the greatest length, and a chunk of logits."""
    tokens = w.prompt + w.longest
    kept = sizes.saved_bytes(s, tp, recompute) * tokens
    if recompute:
        kept += sizes.layer_bytes(s, tp) * tokens
    return kept + c.head_chunk * s.vocab * (4 + 2) / tp


def learner(c, s, tp, dp, w, recompute):
    """(what stays over the whole cycle, what only a step needs), in bytes."""
    lasting = optimizer(s, tp, dp)
    passing = (gradient_buffers(s, tp, dp, w.gradient_leaves) + c.bucket_bytes * (dp > 1)
               + activations(c, s, tp, w, recompute))
    return lasting, passing


def slots(s, tp, w, room):
    """Sequences of the greatest length whose keys and values fit in `room` bytes of each rank."""
    return int(room // (sizes.cache_bytes(s, tp) * (w.prompt + w.longest)))


def colocated(c, s, tps, dp, w, recompute):
    """(bytes of a rank, slots): it fits if the bytes do and there is a slot. `tps`: rollout,
    reflection, learner. Rollouts and steps alternate, so the cache takes the place of gradients
    and activations; base and reflection model are the same frozen weights."""
    rollout, reflection, learning = tps
    frozen = {reflection} | ({learning, rollout} if w.kl else set())
    lasting, passing = learner(c, s, learning, dp, w, recompute)
    held = weights(s, {rollout, learning}) + weights(s, frozen) + lasting
    room = slots(s, rollout, w, c.memory - held)
    return held + passing, room


def split(c, s, tps, dp, w, recompute):
    """The same of the fullest rank of disjoint roles."""
    rollout, reflection, learning = tps
    frozen = 2 if w.kl else 1
    lasting, passing = learner(c, s, learning, dp, w, recompute)
    learns = frozen * weights(s, {learning}) + lasting + passing
    samples = frozen * weights(s, {rollout})
    reflects = weights(s, {reflection}) + sizes.cache_bytes(s, reflection) * (
        w.evidence + w.reflection)
    room = slots(s, rollout, w, c.memory - samples)
    return max(learns, samples, reflects), room


def needed(c, s, layout, w):
    one = colocated if layout.colocated else split
    return one(c, s, layout.tps, layout.dp, w, layout.recompute)
