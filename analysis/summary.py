#!/usr/bin/env python3
"""summary.py RUN: what a run reached, its lead prompt, and where its files are."""
import sys

import fst_store


def main(argv):
    run = fst_store.Run(argv[0])
    for prompt in ("lead", "seed", "population"):
        curve = run.curve(prompt)
        if not curve:
            continue
        first, last = curve[0], curve[-1]
        line = f"accuracy under {prompt}: {first['accuracy']:.3f} at step {first['step']}, "
        line += f"{last['accuracy']:.3f} at step {last['step']}"
        if last["kl/base"] is not None:
            line += f"; KL to base {last['kl/base']:.3f} nat/token"
        print(line)
    last = run.curve()[-1]
    print(f"rollouts: {last['rollouts/slow']} slow + {last['rollouts/fast']} fast, "
          f"{last['seconds']:.0f} s in all")
    steps = run.metrics("step")
    if steps:
        print(f"last step: live groups {steps[-1]['live_groups']}, share of the most frequent "
              f"answer {steps[-1]['collapse_share']:.2f}, sampler against learner "
              f"{steps[-1]['logprob/abs_diff_max']:g}")
    leads = [c for c in run.rows("candidate") if c["slot"] == 0]
    if leads:
        print("lead prompt:")
        print("\n".join("  " + line for line in leads[-1]["text"].splitlines()))
    print(f"history {run.folder / 'history.h5'}, scalars {run.folder / 'metrics.jsonl'}, "
          f"figures {run.folder / 'figures'}")
    checkpoints = sorted(run.folder.glob("checkpoint-*.h5"), key=lambda file: file.stat().st_mtime)
    if checkpoints:
        print(f"weights {checkpoints[-1]} (fst export, fst eval and fst generate take it)")


if __name__ == "__main__":
    main(sys.argv[1:])
