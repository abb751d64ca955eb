"""The FST paper's own setting, as this model sees it: Qwen3-8B on 8 H100, B = 32, G = 8, responses
of at most 8192 tokens; 60 s per RL step and 100 s per FST step, six steps a cycle."""
import scaling_constants
import scaling_layouts as layouts
import scaling_phases as phases
import scaling_sizes as sizes

RL_STEP, FST_STEP, CYCLE, GPUS, LONGEST = 60.0, 100.0, 6, 8, 8192
SOURCE = "arXiv:2605.12484, appendix D"
MEANS = (512, 1024, 2048, 4096, LONGEST)
RATIOS = (0.25, 0.5)  # mean over longest response, for the fit
# What the paper's software is taken for: vLLM for rollouts, tp 1, and an eager FSDP trainer that
# recomputes activations, scores old log-probabilities, and asks an API for reflections.
PEER = {"decode_efficiency": 0.76, "kernel_efficiency": 0.35 / 0.57}
PEER_SOURCES = (
    ("decode_efficiency 0.76", "engine.md 1.3, 2.3: vLLM 0.10.2, Qwen3-8B on one H100, "
     "1024 -> 2048"),
    ("kernel_efficiency 0.61", "engine.md 1.1: 33-39 % MFU of torchtitan, Llama-3.1-8B, 8 x H100; "
     "57 % is the sum of the parts"),
    ("one more forward pass", "old log-probabilities, in the paper's own timing bars (figure 10)"),
    ("recomputation", "activation checkpointing: assumed"),
    ("API_SECONDS 20", "one reflection by the paper's gpt-5.2: assumed"))
API_SECONDS = 20.0
PEER_SLOTS = 24  # sequences of 9k in 0.6 of a GPU's memory, its share for vLLM, less the weights
PLAIN = layouts.Layout(True, GPUS, GPUS, GPUS, (1, 1, 1), GPUS, 0, True)


def workload(mean, longest=LONGEST, carried="lead_only"):
    """The paper's, but for prompts (1024 tokens: assumed; the limit is 4096)."""
    return phases.Workload(32, 8, 1024, mean, longest, 8, CYCLE, 192, 960, 3, 1, 0.5, carried,
                           4096, 1024, 8, True)


def ours(c, w):
    """The recommended layout's (rollout, learn, RL step, fast phase of a cycle, FST step)."""
    p = layouts.recommend(c, sizes.MODELS["8B"], GPUS, w)
    return p.rollout, p.learn, p.step, p.fast, p.fst_step


def peer(w):
    """The same of the paper's software."""
    c, s = scaling_constants.constants(**PEER), sizes.MODELS["8B"]
    rollout = layouts.rollout_seconds(c, s, 1, GPUS, w, PEER_SLOTS)
    lengths = phases.quantile_lengths(w, w.problems * w.group_size)
    old = sum(phases.forward(c, s, 1, w.prompt + n, n) for n in lengths) / GPUS
    learn = phases.gradients(c, s, 1, w, 1 / GPUS, True) + old
    learn += phases.gradient_exchange(c, s, 1, GPUS, GPUS) + phases.update(c, s, 1, GPUS, GPUS)
    step, fast = rollout + learn, peer_fast_phase(w).seconds
    return rollout, learn, step, fast, step + fast / CYCLE


def peer_fast_phase(w):
    c = scaling_constants.constants(**PEER)
    fast = layouts.fast_phase(c, sizes.MODELS["8B"], PLAIN, w, PEER_SLOTS)
    rewriting = fast.rounds * API_SECONDS
    return fast._replace(seconds=fast.seconds - fast.rewriting + rewriting, rewriting=rewriting,
                         rewrite=API_SECONDS)


def fitted_longest(ratio):
    """The longest response for which the peer's RL step takes what the paper says, if the mean is
    `ratio` of it. The only number that is fitted; the FST step then is a prediction."""
    low, high = 256, LONGEST
    for _ in range(12):
        middle = (low + high) // 2
        slow = peer(workload(max(1, round(ratio * middle)), middle))[2] > RL_STEP
        low, high = (low, middle) if slow else (middle, high)
    return low


def table(c):
    """(headings, rows) over mean lengths: ours in its best layout, and the paper's software."""
    head = ["mean / longest response", "whose", "rollout", "learn", "RL step", "paper",
            "fast phase", "FST step", "paper"]
    lengths = [(mean, LONGEST) for mean in MEANS]
    lengths += [(round(longest * ratio), longest)
                for ratio in RATIOS for longest in (fitted_longest(ratio),)]
    rows = []
    for mean, longest in lengths:
        w = workload(mean, longest)
        for whose, numbers in (("fst", ours(c, w)), ("peer", peer(w))):
            rollout, learn, step, fast, fst = (f"{x:.0f}" for x in numbers)
            rows.append([f"{mean} / {longest}", whose, rollout, learn, step, f"{RL_STEP:.0f}", fast,
                         fst, f"{FST_STEP:.0f}"])
    return head, rows


def floor_seconds(c, mean):
    """No tp 1 engine is faster: the decoding floor of 32 equal responses a GPU."""
    s = sizes.MODELS["8B"]
    ideal = c._replace(decode_efficiency=1.0, launch_seconds=0.0)
    return phases.decode(ideal, s, 1, [mean] * 32, 1024, 32)


def explanation(c):
    """What of the difference is explained, in sentences with numbers."""
    lines = [f"- If all responses had {LONGEST} tokens, decoding alone could not take less than "
             f"{floor_seconds(c, LONGEST):.0f} s at tp 1, the paper's degree: its 60 s are of "
             "shorter ones."]
    peers = scaling_constants.constants(**PEER)
    tail = phases.decode(peers, sizes.MODELS["8B"], 1, [LONGEST], 1024, 1)
    lines.append(f"- One response of {LONGEST} tokens takes {tail:.0f} s by itself at tp 1: the "
                 "longest response, more than the mean, sets the step.")
    lines += [fit_sentence(ratio) for ratio in RATIOS]
    return "\n".join(lines)


def fit_sentence(ratio):
    longest = fitted_longest(ratio)
    w = workload(round(ratio * longest), longest)
    rollout, learn, step, _, fst = peer(w)
    fast = peer_fast_phase(w)
    paper = CYCLE * (FST_STEP - RL_STEP)
    scores = fast.first + fast.rounds * fast.child
    return (f"- With a mean of {ratio:g} of the longest, {longest} tokens at most make the paper's "
            f"RL step {step:.0f} s ({rollout:.0f} s rollouts, {learn:.0f} s learning). That is the "
            f"one fitted number; the FST step is then predicted as {fst:.0f} s where the paper has "
            f"{FST_STEP:.0f} s. Its fast phase took {paper:.0f} s, the predicted one "
            f"{fast.seconds:.0f} s: {scores:.0f} s for scoring all anchors "
            f"{1 + fast.rounds * w.accepted:.1f} times, {2 * fast.rounds * fast.trial:.0f} s for "
            f"{2 * fast.rounds:.0f} minibatches of 3, each as slow as its longest response, and "
            f"{fast.rewriting:.0f} s for {fast.rounds:.1f} reflections one after another. Scoring "
            f"explains {scores / paper:.0%} of the paper's figure; its minibatches and reflections "
            "must have been fewer, shorter or overlapped, which the paper does not say.")
