#!/usr/bin/env python3
"""Prompt evolution, round by round: anchor scores, metric calls, what became of the proposals."""
import sys

from matplotlib import pyplot
import numpy as np

import fst_store
from lineage import OUTCOMES
import plotting


def draw(run, out):
    figure, (scores, calls, fates) = pyplot.subplots(3, 1, figsize=(9, 7.5))
    cycles = run.read("/round/cycle")
    rounds = np.arange(len(cycles))
    scores.plot(rounds, run.read("/round/best_anchor_mean"), ".-", label="best candidate")
    scores.plot(rounds, run.read("/round/mean_anchor_mean"), ".-", label="mean of the frontier")
    scores.set_ylabel("mean anchor score [reward]")
    scores.set_ylim(0, 1.02)
    calls.plot(rounds, run.read("/round/metric_calls"), ".-", label="metric calls in the cycle")
    calls.set_ylabel("rollouts [1]")
    size = calls.twinx()
    size.plot(rounds, run.read("/round/frontier_size"), "C1.", label="frontier")
    size.set_ylabel("candidates on the frontier [1]", color="C1")
    for axis in (scores, calls):
        for start in np.flatnonzero(np.diff(cycles, prepend=-1)):
            axis.axvline(start - 0.5, color="0.85", linewidth=1)
        axis.legend(fontsize=8, loc="lower right")
        axis.set_xlabel("evolution round, cycles one after another [1]")
    cycle, outcome = run.read("/proposal/cycle"), run.read("/proposal/outcome")
    shown = np.unique(cycle)
    bottom = np.zeros(len(shown))
    for code, name in OUTCOMES.items():
        count = np.array([np.sum((cycle == c) & (outcome == code)) for c in shown])
        if count.any():
            fates.bar(shown, count, bottom=bottom, label=name.replace("_", " "))
            bottom = bottom + count
    fates.set_xlabel("cycle [1]")
    fates.set_ylabel("proposals [1]")
    fates.legend(fontsize=8)
    plotting.save(figure, out)


def main(argv):
    options = plotting.arguments(argv, __doc__)
    draw(fst_store.Run(options.runs[0]), options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
