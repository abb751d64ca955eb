#!/usr/bin/env python3
"""Accuracy against the distance from the base model, under the deployed and under the seed prompt.

Left: how far the policy moved under the prompt it is used with. Right: how far the weights moved
under the bare seed prompt, at the same accuracy. Points are evaluations, lines follow training.
"""
import sys

from matplotlib import pyplot

import fst_store
import plotting


def own_and_seed(run):
    """Accuracy and KL under the run's own prompt, and KL under the seed prompt, by step."""
    own, seed = run.curve(), {entry["step"]: entry for entry in run.curve("seed")}
    own = [entry for entry in own if entry["step"] in seed]
    return (fst_store.values(own, "accuracy"), fst_store.values(own, "kl/base"),
            fst_store.values([seed[entry["step"]] for entry in own], "kl/base"))


def draw(groups, out):
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharex=True, sharey=True)
    for label, runs in groups.items():
        colour = None
        for run in runs:
            accuracy, own, seed = own_and_seed(run)
            for axis, kl in zip(axes, (own, seed)):
                line, = axis.plot(kl, accuracy, marker=".", color=colour,
                                  label=label if run is runs[0] else None, linewidth=1)
                colour = line.get_color()
    axes[0].set_xlabel("KL to base under the deployed prompt [nat/token]")
    axes[1].set_xlabel("KL to base under the seed prompt [nat/token]")
    axes[0].set_ylabel("test accuracy, mean@k [reward]")
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=8)
    plotting.save(figure, out)


def main(argv):
    options = plotting.arguments(argv, __doc__)
    draw(fst_store.groups(options.runs), options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
