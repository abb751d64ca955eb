"""Bytes that the ranks of `fst run` move, by the name under which they are counted.

What a number means is defined in include/fst/comm/traffic.h: over all ranks, the bytes that came
from another rank. tests/analysis/traffic_test.py compares each with what real runs count."""

F32, BF16 = 4, 2
LENGTH = 8       # a length that goes along with a message, and a 64-bit count
EXACT_SUM = 69   # words of the order-free accumulator: kernels/exact_sum.h
STATISTICS = 112  # bytes of StepStats: learn/learner.h
STEP_SUMS = 7    # exact sums of a step: loss, KL, entropy, ratio and the anchor's


def part_of(count, parts, index):
    """Part `index` of `count` items cut into `parts` as evenly as possible: (begin, end)."""
    return count * index // parts, count * (index + 1) // parts


def tree_nodes(leaves, ranks, rank):
    """Nodes of the halving tree over the gradient leaves that `rank` alone can join."""
    own = part_of(leaves, ranks, rank)

    def count(begin, end):
        if end <= own[0] or own[1] <= begin:
            return 0
        if own[0] <= begin and end <= own[1]:
            return 1
        middle = begin + (end - begin) // 2
        return count(begin, middle) + count(middle, end)
    return count(0, leaves)


def gradient_leaves(elements, leaves, ranks):
    """'gradient leaves': each learner sends every other one that one's shard of its nodes."""
    nodes = [tree_nodes(leaves, ranks, rank) for rank in range(ranks)]
    shards = [end - begin for begin, end in (part_of(elements, ranks, r) for r in range(ranks))]
    return F32 * sum(nodes[a] * shards[b] for a in range(ranks) for b in range(ranks) if a != b)


def updated_weights(elements, ranks, item=F32):
    """'updated weights': each learner sends its shard to all others."""
    return item * elements * (ranks - 1)


def policy_weights(elements, ranks, item=F32):
    """'policy weights': a learner's to all rollout ranks, unless they are the same ranks."""
    return item * elements * ranks


def reduction(words, ranks):
    """Any all-reduce of 64-bit words: every member's operand to every other."""
    return 8 * words * ranks * (ranks - 1)


def learner_sums(ranks):
    """Small sums of one step among the learners, by name."""
    return {"gradient norm": reduction(EXACT_SUM, ranks),
            "step statistics": reduction(STEP_SUMS * EXACT_SUM, ranks),
            "token counts": reduction(4, ranks),
            "greatest ratio and difference": reduction(2, ranks)}


def rewards(requests, ranks, calls=1):
    """'rewards': number and outcome of each request to all ranks.

    4 request, 4 reward, 4 + 4 lengths, 1 finish, 1 status, 8 answer, 8 KL to the base."""
    return (34 * requests + calls * LENGTH * ranks) * (ranks - 1)


def trajectory(prompt, response, text, feedback):
    """One trajectory as a message: lengths in tokens, texts in bytes.

    4 request, 8 policy, 4 prompt length, 1 finish, 4 reward, 1 status, 8 answer, 8 KL, and four
    lengths; a token is 4 bytes, and so is a log-probability."""
    return 38 + 4 * LENGTH + 4 * (prompt + response) + 4 * response + text + feedback


def routed(messages, ranks, calls=1):
    """Messages of `messages` bytes in all that go to another rank, as 'trajectories for the
    learners', 'evidence for reflection'; the lengths go between all pairs in every call."""
    return messages + calls * LENGTH * ranks * (ranks - 1)


def tensor_sum(elements, tp):
    """One sum of a float32 tensor over a unit: the parts' slices, then the joined slices; small
    tensors whole in one round (comm/unit.h)."""
    if F32 * elements <= 32 * 1024:
        return F32 * elements * tp * (tp - 1)
    return 2 * F32 * elements * (tp - 1)


def tensor_gather(elements, tp):
    """Parts of `elements` each, to every rank of a unit."""
    return F32 * elements * tp * (tp - 1)


def unit_forward(s, tokens, tp):
    """By name, of one forward pass over `tokens` on a unit of `tp` ranks."""
    one = tensor_sum(tokens * s.hidden, tp)
    return {"embedding": one, "attention output": s.layers * one, "MLP output": s.layers * one}


def unit_backward(s, tokens, entries, tp):
    """By name, of the backward pass; `entries` are the tokens with a logit row. The matrices that
    share an input (q, k, v; gate, up) are joined one by one, for the order of the contract."""
    return {"attention gradient": s.layers * tensor_sum(3 * tokens * s.hidden, tp),
            "MLP gradient": s.layers * tensor_sum(2 * tokens * s.hidden, tp),
            "gradient of the head": tensor_sum(entries * s.hidden, tp)}


def unit_logits(s, rows, tp):
    """'logits' of rows that are sampled from."""
    return tensor_gather(rows * s.vocab // tp, tp)
