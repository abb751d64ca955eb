#!/usr/bin/env python3
"""Accuracy over optimiser steps, over all rollouts (slow and fast) and over seconds.

Each run is evaluated under the prompt its method would deploy: the lead, or the seed prompt where
prompts do not evolve. Groups (label=run,run) show the mean and the range over their runs.
"""
import sys

from matplotlib import pyplot

import fst_store
import plotting

PANELS = [("step", "optimiser steps [1]"), ("rollouts", "rollouts, slow and fast [1]"),
          ("seconds", "wall time [s]")]


def draw(groups, out):
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(12, 3.6), sharey=True)
    for label, runs in groups.items():
        curves = plotting.common_steps(runs)
        for axis, (x, _) in zip(axes, PANELS):
            plotting.band(axis, curves, x, "accuracy", label, marker=".")
    for axis, (_, title) in zip(axes, PANELS):
        axis.set_xlabel(title)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test accuracy, mean@k [reward]")
    axes[0].set_ylim(0, 1.02)
    axes[-1].legend(loc="lower right", fontsize=8)
    plotting.save(figure, out)


def main(argv):
    options = plotting.arguments(argv, __doc__)
    draw(fst_store.groups(options.runs), options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
