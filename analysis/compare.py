#!/usr/bin/env python3
"""compare.py OUT: what the runs of jobs/compare.sh say: Markdown on stdout, OUT/figures/*.png."""
import pathlib
import sys

import numpy as np

import compare_tables as tables
import fst_store
import kl_reward
import learning_curve
import plasticity

PROBES = ["base", "rl_early", "fst_early", "fst_anchor_early", "rl_late", "fst_late",
          "fst_anchor_late"]


def experiment(out, name, methods=("fst", "fst_anchor", "rl", "gepa")):
    """{method: [Run per seed]}, of the runs that are finished."""
    runs = {}
    for method in methods:
        folders = sorted(file.parent for file in (out / name / method).glob("*/finished"))
        if folders:
            runs[method] = [fst_store.Run(folder) for folder in folders]
    return runs


def bars(plain, hard):
    """What an implementation must show, means over the seeds: (sentence, value, holds)."""
    def mean(runs, method, step):
        return np.mean(tables.at_all(runs[method], step, "accuracy"))
    rl_end = mean(plain, "rl", 120)
    within = max(mean(plain, "fst", step) for step in (0, 6, 12))
    gepa = mean(plain, "gepa", tables.last_step(plain["gepa"]))
    checks = [("A: FST at step 12 is at least 0.7", mean(plain, "fst", 12), lambda x: x >= 0.7),
              ("A: FST at step 60 is at least 0.9", mean(plain, "fst", 60), lambda x: x >= 0.9),
              (f"A: FST within 12 steps is above RL only at step 120 ({rl_end:.3f})", within,
               lambda x: x > rl_end),
              ("A: GEPA only ends between 0.68 and 0.82", gepa, lambda x: 0.68 <= x <= 0.82),
              ("A: RL only at step 120 is below 0.8", rl_end, lambda x: x < 0.8),
              ("hard: FST at step 12 is at least 0.9", mean(hard, "fst", 12), lambda x: x >= 0.9),
              ("hard: RL only at step 12 is below 0.1", mean(hard, "rl", 12), lambda x: x < 0.1)]
    return [(text, value, bool(holds(value))) for text, value, holds in checks]


def main(argv):
    out = pathlib.Path(argv[0])
    plain, hard = experiment(out, "A"), experiment(out, "hard")
    stages, probes = experiment(out, "continual"), experiment(out, "probe", PROBES)
    figures = out / "figures"
    figures.mkdir(exist_ok=True)
    for name, runs in (("A", plain), ("hard", hard)):
        print(f"### Variant {name}: accuracy on the test split, mean (range) over seeds\n")
        print(tables.accuracy(runs))
        print("Rollouts and wall time to that step, evaluations included in the time:\n")
        print(tables.cost(runs))
        learning_curve.draw(runs, figures / f"learning_curve_{name}.png")
    print("### Distance from the base model at the end of A\n")
    print(tables.distance(plain, "B"))
    kl_reward.draw(plain, figures / "kl_reward.png")
    if stages:
        print("### Continual run A, B, C: accuracy on the current variant\n")
        print(tables.continual(stages))
        learning_curve.draw(stages, figures / "continual.png")
    if probes:
        print("### Plasticity: RL only on B under the seed prompt, from the weights of A\n")
        print(plasticity.table(probes) + "\n")
        plasticity.draw(probes, figures / "plasticity.png")
    print("### Bars\n")
    print(tables.markdown(["bar", "measured", "holds"],
                          [[text, f"{value:.3f}", "yes" if holds else "**no**"]
                           for text, value, holds in bars(plain, hard)]))


if __name__ == "__main__":
    main(sys.argv[1:])
