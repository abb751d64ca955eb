"""Writes run folders in the layout of history.h5 and metrics.jsonl, with made-up numbers."""
import json
import pathlib
import sys

import h5py
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "analysis"))
import fst_store  # noqa: E402

DTYPES = {"f32": "f4", "f64": "f8", "i32": "i4", "i64": "i8", "u8": "u1", "str": "u1"}


def write_history(folder, tables):
    """`tables`: rows (dictionaries) by table name; columns that a row leaves out are empty or 0."""
    with h5py.File(pathlib.Path(folder) / "history.h5", "w") as file:
        for path, column in fst_store.SCHEMA.items():
            _, table, name = path.split("/")
            rows = [row.get(name) for row in tables.get(table, [])]
            dtype = DTYPES[column.type.removeprefix("list_")]
            if column.type == "str" or column.type.startswith("list_"):
                if column.type == "str":
                    rows = [np.frombuffer((row or "").encode(), "u1") for row in rows]
                rows = [np.asarray([] if row is None else row, dtype) for row in rows]
                lengths = [len(row) for row in rows]
                file[path + "/values"] = np.concatenate([np.empty(0, dtype), *rows])
                file[path + "/offsets"] = np.concatenate([[0], np.cumsum(lengths)]).astype("i8")
            else:
                file[path] = np.array([row or 0 for row in rows], dtype)


def evaluation(step, prompt, accuracy, kl, seconds, cycle=0, split="test", gold=0.5):
    return {"kind": "eval", "step": step, "cycle": cycle, "split": split, "prompt": prompt,
            "accuracy": accuracy, "best_at_k": accuracy, "kl/base": kl, "entropy": 0.5,
            "collapse_share": 0.25, "gold_probability": gold, "rollouts/slow": 256 * step,
            "rollouts/fast": 240 if prompt == "lead" else 0, "seconds": seconds}


def write_run(folder, curve, leads=True, split="test"):
    """`curve`: accuracy by step. The seed prompt has a tenth of it, twice the KL."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for step, accuracy in sorted(curve.items()):
        if leads:
            lines.append(evaluation(step, "lead", accuracy, 0.01 * step, step + 1.0, split=split))
            lines.append(evaluation(step, "population", accuracy, None, step + 1.0, split=split))
            lines.append(evaluation(step, "seed", 0.1 * accuracy, 0.02 * step, step + 1.0))
        else:
            lines.append(evaluation(step, "seed", accuracy, 0.02 * step, step + 1.0, split=split))
        lines.append(evaluation(step, "seed", 0.01, 0.02 * step, step + 1.0, split="test:B",
                                gold=1e-3))
        lines.append({"kind": "step", "step": step + 1, "cycle": 0, "reward/mean": accuracy,
                      "live_groups": 9, "collapse_share": 0.25, "logprob/abs_diff_max": 0.0,
                      "seconds": step + 2.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    candidate = {"cycle": 0, "round": -1, "origin": "seed", "text": "rules", "anchor_mean": 0.125,
                 "anchor_scores": [0, 0.25], "slot": -1}
    child = dict(candidate, id=1, round=1, origin="mutation", parents=[0], text="rules\nredReverse é",
                 anchor_mean=0.5, slot=0, in_population=1)
    tried = {"cycle": 0, "round": 0, "parent": 0, "child": -1, "outcome": 7, "child_text": "rules",
             "scores_before": [0, 1, 0], "minibatch": [3, 1, 4]}
    accepted = dict(tried, round=1, child=1, outcome=1, child_text="rules\nredReverse é",
                    scores_after=[1, 1, 0])
    rounds = [{"cycle": 0, "round": r, "metric_calls": 100 + 60 * r, "best_anchor_mean": 0.5,
               "mean_anchor_mean": 0.3, "frontier_size": 1 + r} for r in range(2)]
    write_history(folder, {"candidate": [candidate, child], "proposal": [tried, accepted],
                           "round": rounds} if leads else {})
    return folder
