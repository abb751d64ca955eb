#!/usr/bin/env python3
"""How well weights still learn: reinforcement learning on a new task, started from several weights.

Each group (label=run,run) holds the probe runs from one kind of weights. Beside the curves a table:
P(new answers) is the mean probability of the new task's answers under the seed prompt before the
probe begins. It tells weights that are nearly dead from weights that are merely slow.
"""
import sys

from matplotlib import pyplot
import numpy as np

import fst_store
import plotting

STEPS = (0, 12, 24, 48)


def cell(numbers):
    """Mean (range) of what was measured."""
    known = np.array([x for x in numbers if np.isfinite(x)])
    if not len(known):
        return "-"
    return f"{known.mean():.2f} ({known.min():.2f}-{known.max():.2f})"


def accuracy_at(runs, step):
    curves = [{e["step"]: e["accuracy"] for e in run.curve("seed")} for run in runs]
    return [curve.get(step, np.nan) for curve in curves]


def table(groups):
    head = ["start"] + [f"step {step}" for step in STEPS] + ["P(new answers) at step 0, by seed"]
    lines = [head, ["---"] * len(head)]
    for label, runs in groups.items():
        new = ", ".join(f"{run.curve('seed')[0]['gold_probability']:.1e}" for run in runs)
        lines.append([label] + [cell(accuracy_at(runs, step)) for step in STEPS] + [new])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw(groups, out):
    figure, axis = pyplot.subplots(figsize=(7, 4))
    for label, runs in groups.items():
        curves = plotting.common_steps(runs, "seed")
        plotting.band(axis, curves, "step", "accuracy", label, marker=".")
    axis.set_xlabel("optimiser steps on the new task [1]")
    axis.set_ylabel("test accuracy under the seed prompt [reward]")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    plotting.save(figure, out)


def main(argv):
    options = plotting.arguments(argv, __doc__)
    groups = fst_store.groups(options.runs)
    print(table(groups))
    draw(groups, options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
