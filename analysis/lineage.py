#!/usr/bin/env python3
"""Where the prompts come from: candidates with parent, scores and text, and what was refused.

The figure: anchor scores over rounds, children joined to their parents, refusals as crosses.
"""
import re
import sys

from matplotlib import pyplot

import fst_store
import plotting

HEADER = (fst_store.SOURCE / "include/fst/evolve/proposal.h").read_text()
ENUM = re.search(r"enum class ProposalOutcome[^{]*{(.*?)};", HEADER, re.S).group(1)
OUTCOMES = {int(code): name for name, code in re.findall(r"(\w+) = (\d+)", ENUM)}


def made_in(proposals):
    """Round of birth by candidate, of the children that were accepted."""
    return {p["child"]: p["round"] for p in proposals if OUTCOMES[int(p["outcome"])] == "accepted"}


def cycle_text(cycle, candidates, proposals):
    named = {c["id"]: f"#{c['id']}, anchor mean {c['anchor_mean']:.3f}" for c in candidates}
    yield f"cycle {cycle}"
    for c in candidates:
        if c["id"] not in made_in(proposals):
            origin = "seed" if c["origin"] == "seed" else "carried over"
            yield f"  {origin} {named[c['id']]}: {c['text']}"
    for p in proposals:
        gate = f"{p['scores_before'].sum():g}"
        gate += f" -> {p['scores_after'].sum():g}" if len(p["scores_after"]) else ""
        yield (f"  round {p['round']}: from #{p['parent']}, minibatch {gate}, "
               f"{OUTCOMES[int(p['outcome'])]} {named.get(p['child'], '')}".rstrip()
               + (f": {p['child_text']}" if p["child_text"] else ""))
    for c in sorted((c for c in candidates if c["slot"] >= 0), key=lambda c: c["slot"]):
        yield f"  slot {c['slot']}: {named[c['id']]}: {c['text']}"


def draw(cycles, out):
    figure, axis = pyplot.subplots(figsize=(11, 5))
    start = 0
    for cycle, (candidates, proposals) in cycles.items():
        axis.axvline(start, color="0.8", linewidth=1)
        born = made_in(proposals)
        place = {c["id"]: (start + born.get(c["id"], -1) + 1, c["anchor_mean"]) for c in candidates}
        for p in proposals:
            parent = place.get(p["parent"], (start, 0))
            if OUTCOMES[int(p["outcome"])] == "accepted":
                axis.plot(*zip(parent, place[p["child"]]), color="C0", linewidth=0.8, alpha=0.6)
            else:
                axis.plot(start + p["round"] + 1, parent[1], "x", color="0.6", markersize=4)
        axis.plot(*zip(*place.values()), "o", color="C0", markersize=4)
        for c in (c for c in candidates if c["slot"] == 0):
            label = f"cycle {cycle}, #{c['id']}: {' '.join(c['text'].split())[:60]}"
            axis.plot(*place[c["id"]], "o", color="C1", markersize=8, label=label)
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
    for cycle, rows in cycles.items():
        print("\n".join(line.replace("\n", "\n        ") for line in cycle_text(cycle, *rows)))
    draw(cycles, options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
