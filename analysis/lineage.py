#!/usr/bin/env python3
"""Where the prompts come from: candidates with parent, scores and text, and what was refused.

Text goes to stdout; the figure shows anchor scores over the evolution rounds, children joined to
their parents, refused proposals as crosses at their parent's score.
"""
import re
import sys

from matplotlib import pyplot

import fst_store
import plotting

HEADER = (fst_store.SOURCE / "include/fst/evolve/proposal.h").read_text()
ENUM = re.search(r"enum class ProposalOutcome[^{]*{(.*?)};", HEADER, re.S).group(1)
OUTCOMES = {int(code): name for name, code in re.findall(r"(\w+) = (\d+)", ENUM)}


def cycle_text(cycle, candidates, proposals):
    yield f"cycle {cycle}"
    for c in candidates:
        if c["origin"] in ("seed", "carried"):
            yield f"  #{c['id']} {c['origin']}, anchor mean {c['anchor_mean']:.3f}: {c['text']}"
    means = {c["id"]: c["anchor_mean"] for c in candidates}
    for p in proposals:
        outcome = OUTCOMES[int(p["outcome"])]
        gate = f"{p['scores_before'].sum():g}"
        gate += f" -> {p['scores_after'].sum():g}" if len(p["scores_after"]) else ""
        new = outcome == "accepted"
        child = f" #{p['child']}, anchor mean {means[p['child']]:.3f}" if new else ""
        text = f": {p['child_text']}" if p["child_text"] else ""
        yield f"  round {p['round']}: #{p['parent']} {outcome}{child}, minibatch {gate}{text}"
    for c in sorted((c for c in candidates if c["slot"] >= 0), key=lambda c: c["slot"]):
        yield f"  slot {c['slot']}: #{c['id']} {c['anchor_mean']:.3f} {c['text']}"


def draw(cycles, out):
    figure, axis = pyplot.subplots(figsize=(11, 5))
    start = 0
    for cycle, (candidates, proposals) in cycles.items():
        axis.axvline(start, color="0.8", linewidth=1)
        place = {c["id"]: (start + max(0, c["round"] + 1), c["anchor_mean"]) for c in candidates}
        for p in proposals:
            parent = place.get(p["parent"], (start, 0))
            if OUTCOMES[int(p["outcome"])] == "accepted":
                axis.plot(*zip(parent, place[p["child"]]), color="C0", linewidth=0.8, alpha=0.6)
            else:
                axis.plot(start + p["round"] + 1, parent[1], "x", color="0.6", markersize=4)
        for c in candidates:
            lead = c["slot"] == 0
            axis.plot(*place[c["id"]], "o", color="C1" if lead else "C0",
                      markersize=8 if lead else 4,
                      label=f"cycle {cycle}, #{c['id']}: {c['text'][:60]}" if lead else None)
        start += max([p["round"] for p in proposals], default=0) + 2
    axis.set_xlabel("evolution rounds, cycles one after another [1]")
    axis.set_ylabel("mean anchor score [reward]")
    axis.legend(title="leads", fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
    plotting.save(figure, out)


def main(argv):
    options = plotting.arguments(argv, __doc__)
    run = fst_store.Run(options.runs[0])
    candidates, proposals = run.rows("candidate"), run.rows("proposal")
    cycles = {cycle: ([c for c in candidates if c["cycle"] == cycle],
                      [p for p in proposals if p["cycle"] == cycle])
              for cycle in sorted({int(c["cycle"]) for c in candidates})}
    for cycle, (of_cycle, tried) in cycles.items():
        print("\n".join(cycle_text(cycle, of_cycle, tried)))
    draw(cycles, options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
