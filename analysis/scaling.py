#!/usr/bin/env python3
"""scaling.py [--model NAME ...] [--gpus N ...] [--out FIGURE]: seconds per step on H100, predicted.

For each model and number of GPUs the layout to take, what a step and a cycle cost, and the
assumptions behind the numbers. Nothing is measured here: no run on more than one GPU stands behind
it. `--paper` adds the FST paper's own setting."""
import argparse
import sys

import scaling_constants
import scaling_layouts as layouts
import scaling_paper
import scaling_phases as phases
import scaling_sizes as sizes
import scaling_volumes as volumes

OPTIONS = (  # field of Workload, default, meaning
    ("problems", 32, "problems per step"), ("group_size", 8, "responses per problem"),
    ("prompt", 1024, "tokens of a prompt with its problem"),
    ("response", 2048, "tokens of a response, mean"),
    ("longest", 8192, "tokens of the longest response, where sampling ends"),
    ("prompts", 8, "evolved prompts (K)"), ("steps_per_cycle", 6, "steps of a cycle (T)"),
    ("anchors", 192, "problems that candidates are compared on"),
    ("metric_calls", 960, "budget of a cycle's prompt evolution; 0: RL only"),
    ("minibatch", 3, "problems of a proposal"), ("proposals", 1, "proposals per round"),
    ("evidence", 4096, "tokens that the reflection model reads"),
    ("reflection", 1024, "tokens that it writes"),
    ("gradient_leaves", 8, "greatest data-parallel degree; part of the trajectory"))


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    models = list(sizes.MODELS)
    parser.add_argument("--model", nargs="+", choices=models, default=models)
    parser.add_argument("--gpus", nargs="+", type=int, default=[8, 16, 32, 64, 128, 256, 512])
    for field, default, meaning in OPTIONS:
        parser.add_argument("--" + field.replace("_", "-"), type=int, default=default,
                            help=f"{meaning} (default {default})")
    parser.add_argument("--accepted", type=float, default=0.5, help="share of children that pass "
                        "their minibatch (default 0.5)")
    parser.add_argument("--carried", choices=["all_uncharged", "all_charged", "lead_only"],
                        default="all_uncharged", help="evolve.rescore_carried")
    parser.add_argument("--no-kl", action="store_true", help="no KL term: no base model")
    parser.add_argument("--problems-per-gpu", type=int, help="let the step grow with the GPUs")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE",
                        help="another value of a constant, as in the last table")
    parser.add_argument("--paper", action="store_true", help="the FST paper's setting too")
    parser.add_argument("--out", help="figure to write (.png, .pdf, .svg)")
    options = parser.parse_args(argv)
    refuse(parser, options)
    return options


def refuse(parser, options):
    """Ends with a message for what makes no sense."""
    for field, _, _ in OPTIONS:
        least = 0 if field == "metric_calls" else 1
        if getattr(options, field) < least:
            parser.error(f"--{field.replace('_', '-')}: expected at least {least}")
    if min(options.gpus) < 1 or (options.problems_per_gpu or 1) < 1:
        parser.error("--gpus, --problems-per-gpu: expected at least 1")
    if options.response > options.longest:
        parser.error(f"--response: a mean of {options.response} tokens, but the longest response "
                     f"has {options.longest}")
    if options.group_size % options.prompts != 0:
        parser.error(f"--group-size: {options.group_size} responses cannot be split evenly over "
                     f"{options.prompts} prompts")
    if not 0 < options.accepted <= 1:
        parser.error("--accepted: expected a share above 0 and at most 1")
    try:
        options.constants = scaling_constants.constants(
            **{name: float(value) for name, value in (pair.split("=", 1) for pair in options.set)})
    except (scaling_constants.UnknownConstant, ValueError) as error:
        parser.error(f"--set: {error}")


def workload(options, gpus):
    w = phases.Workload(kl=not options.no_kl, **{
        field: getattr(options, field) for field in phases.Workload._fields if field != "kl"})
    return w._replace(problems=options.problems_per_gpu * gpus) if options.problems_per_gpu else w


def markdown(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def size_text(count):
    if count == 0:
        return "0"
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def moved(s, p, w):
    """Bytes of a step over all ranks: gradients and weights of the learners, and adoption."""
    layout, elements = p.layout, sizes.parameters(s)
    learners = (volumes.gradient_leaves(elements, w.gradient_leaves, layout.dp)
                + volumes.updated_weights(elements, layout.dp, sizes.WEIGHT))
    if layout.colocated and layout.tps[0] == layout.tps[2]:
        return learners
    units = layout.rollout // layout.tps[0]
    return learners + volumes.policy_weights(elements, units, sizes.WEIGHT)


def unit_sums(s, p, w):
    """Bytes of a step's tensor-parallel sums and gathered logits, sampling and learning."""
    requests, (rollout, _, learner) = w.problems * w.group_size, p.layout.tps
    tokens, drawn = requests * (w.prompt + w.response), requests * w.response
    prompts = w.problems * w.prompts * w.prompt  # each read once for its samples
    forwards = 1 + w.kl + p.layout.recompute
    total = 0
    if learner > 1:
        total += forwards * sum(volumes.unit_forward(s, tokens, learner).values())
        total += sum(volumes.unit_backward(s, tokens, drawn, learner).values())
    if rollout > 1:
        total += sum(volumes.unit_forward(s, prompts + drawn, rollout).values())
        total += volumes.unit_logits(s, drawn, rollout)
    return total


def row(c, s, gpus, p, w):
    if p is None:
        least = layouts.least_memory(c, s, gpus, w) / 1e9
        return [s.name, str(gpus), f"none fits: at least {least:.0f} GB/GPU"] + ["-"] * 10
    return [s.name, str(gpus), layouts.name(p.layout), f"{p.rollout:.1f}", f"{p.learn:.1f}",
            f"{p.move:.2f}", f"{p.step:.1f}", f"{p.fast:.0f}", f"**{p.fst_step:.1f}**",
            f"{p.idle:.0%}", f"{p.bytes / 1e9:.0f}", size_text(moved(s, p, w)),
            size_text(unit_sums(s, p, w))]


HEAD = ["model", "H100", "layout: rollout+reflection+learner, tp of each", "rollout s", "learn s",
        "move s", "RL step s", "fast phase s", "FST step s", "idle", "GB/GPU", "moved/step",
        "tp sums/step"]


RULES = """\
Responses have the lengths longest x u^a, u evenly spaced, a such that the mean is right. No groups
are dropped. Nothing overlaps but, with lag 1, sampling and learning. Verifying, evaluations and
checkpoints take no time. A prompt is computed once per problem but read by each of its sequences. A
problem is sampled by one unit. A fast phase: scores of the carried prompts, then rounds of
minibatch, rewriting, minibatch and, where a child passes, all anchors.
"""


def predictions(options):
    """{model: [(gpus, prediction or None)]}"""
    found = {}
    for model in options.model:
        found[model] = [
            (gpus, layouts.recommend(options.constants, sizes.MODELS[model], gpus,
                                     workload(options, gpus))) for gpus in sorted(options.gpus)]
    return found


def draw(found, path):
    import plotting  # needs matplotlib, which the tables do not
    figure, axis = plotting.pyplot.subplots(figsize=(7, 4.5))
    for model, curve in found.items():
        points = [(gpus, p.fst_step) for gpus, p in curve if p]
        if points:
            axis.plot(*zip(*points), marker="o", label=model)
    axis.set(xscale="log", yscale="log", xlabel="H100", ylabel="predicted seconds per FST step")
    axis.set_xticks(sorted({gpus for curve in found.values() for gpus, _ in curve}))
    axis.set_yticks([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000])
    least, most = (edge([p.fst_step for curve in found.values() for _, p in curve if p] or [1])
                   for edge in (min, max))
    axis.set_ylim(0.8 * least, 1.25 * most)
    for scale in (axis.get_xaxis(), axis.get_yaxis()):
        scale.set_major_formatter(plotting.matplotlib.ticker.ScalarFormatter())
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    plotting.save(figure, path)


def main(argv):
    options = arguments(argv)
    found = predictions(options)
    print("### Predicted seconds, fastest layout that fits\n")
    c = options.constants
    print(markdown(HEAD, [row(c, sizes.MODELS[model], gpus, p, workload(options, gpus))
                          for model, curve in found.items() for gpus, p in curve]))
    if options.paper:
        print(f"### The paper's setting ({scaling_paper.SOURCE}): Qwen3-8B, 8 x H100, seconds\n")
        print(markdown(*scaling_paper.table(c)))
        print(scaling_paper.explanation(c) + "\n")
        print(markdown(["the paper's software is taken for", "source"], scaling_paper.PEER_SOURCES))
    print("### Assumptions\n")
    print(f"Workload: {workload(options, min(options.gpus))}\n".replace("Workload(", "(", 1))
    print(RULES)
    print(markdown(["constant", "value", "unit", "source"], scaling_constants.rows(c)))
    if options.out:
        draw(found, options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
