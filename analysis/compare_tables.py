"""The tables of compare.py, as lines of Markdown. `runs` is {method: [Run, one per seed]}."""
import numpy as np

import fst_store
from plasticity import cell

OWN = None  # the prompt a method deploys: the lead, or the seed prompt without evolution


def markdown(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def at(run, step, key, prompt=OWN, split="test"):
    """A scalar of the evaluation at `step`, NaN where there is none."""
    found = [entry for entry in run.curve(prompt, split) if entry["step"] == step]
    return fst_store.values(found, key)[0] if found else np.nan


def at_all(runs, step, key, prompt=OWN, split="test"):
    return [at(run, step, key, prompt, split) for run in runs]


def last_step(runs):
    return min(run.curve()[-1]["step"] for run in runs)


def steps_of(runs):
    return sorted({entry["step"] for group in runs.values() for run in group
                   for entry in run.curve()})


def accuracy(runs):
    """Accuracy under the deployed prompt by step: mean (range) over the seeds."""
    rows = [[step] + [cell(at_all(group, step, "accuracy")) for group in runs.values()]
            for step in steps_of(runs)]
    return markdown(["step"] + [f"{method}" for method in runs], rows)


def cost(runs):
    """Mean rollouts (slow + fast) and seconds, evaluations included, by step."""
    def one(group, step):
        slow, fast, seconds = (np.mean(at_all(group, step, key)) for key in
                               ("rollouts/slow", "rollouts/fast", "seconds"))
        return "-" if np.isnan(slow) else f"{slow + fast:.0f} ({fast:.0f} fast), {seconds:.0f} s"
    rows = [[step] + [one(group, step) for group in runs.values()] for step in steps_of(runs)]
    return markdown(["step"] + [f"{method}" for method in runs], rows)


def distance(runs, other):
    """At the last step: accuracy, KL to base under both prompts, P(answers of another variant)."""
    head = ["method", "step", "accuracy", "KL", "accuracy under seed", "KL under seed", "entropy",
            f"P({other}) under seed"]
    rows = []
    for method, group in runs.items():
        step = last_step(group)
        new = at_all(group, step, "gold_probability", "seed", f"test:{other}")
        rows.append([method, step, cell(at_all(group, step, "accuracy")),
                     cell(at_all(group, step, "kl/base")),
                     cell(at_all(group, step, "accuracy", "seed")),
                     cell(at_all(group, step, "kl/base", "seed")),
                     cell(at_all(group, step, "entropy", "seed")),
                     ", ".join("-" if np.isnan(p) else f"{p:.1e}" for p in new)])
    return markdown(head, rows)


def continual(runs):
    """Accuracy on the current variant; where a cycle begins, before / after its fast phase."""
    def both(run, step):
        prompt = run.curve()[0]["prompt"]
        found = [entry["accuracy"] for entry in run.metrics("eval") if entry["step"] == step
                 and entry["prompt"] == prompt and entry["split"] == "test"]
        return [found[0], found[-1]] if found else [np.nan, np.nan]
    rows = []
    for step in steps_of(runs):
        pairs = [np.array([both(run, step) for run in group]) for group in runs.values()]
        rows.append([step] + [f"{cell(pair[:, 0])} / {cell(pair[:, 1])}" for pair in pairs])
    return markdown(["step"] + list(runs), rows)
