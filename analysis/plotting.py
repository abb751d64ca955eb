"""What the figures share: arguments, curves with mean and range over seeds."""
import argparse
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
import numpy as np  # noqa: E402

import fst_store  # noqa: E402


def arguments(argv, description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("runs", nargs="+", help="run folders, or label=folder,... for a group")
    parser.add_argument("--out", required=True, help="figure to write (.png, .pdf, .svg)")
    return parser.parse_args(argv)


def common_steps(runs, prompt=None):
    """One curve per run, over the steps that all of them have."""
    curves = [run.curve(prompt) for run in runs]
    steps = set.intersection(*({entry["step"] for entry in curve} for curve in curves))
    return [[entry for entry in curve if entry["step"] in steps] for curve in curves]


def band(axis, curves, x, y, label, **style):
    """Mean of `y` over the curves against the mean of `x`, with its range; returns the colour."""
    xs = np.mean([fst_store.values(curve, x) for curve in curves], axis=0)
    ys = np.array([fst_store.values(curve, y) for curve in curves])
    line, = axis.plot(xs, ys.mean(axis=0), label=label, **style)
    if len(curves) > 1:
        axis.fill_between(xs, ys.min(axis=0), ys.max(axis=0), color=line.get_color(), alpha=0.2,
                          linewidth=0)
    return line.get_color()


def save(figure, path):
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    print(path, file=sys.stderr)  # stdout belongs to tables
