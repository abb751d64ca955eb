"""Reads what `fst run` writes: history.h5, by the lines of schema.def, and metrics.jsonl."""
from collections import namedtuple
import json
import os
import pathlib
import re

os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")  # the run may be going on
import h5py  # noqa: E402
import numpy as np  # noqa: E402

SOURCE = pathlib.Path(__file__).resolve().parents[1]
LINE = re.compile(r'FST_DATASET\("([^"]*)", (\w+), "([^"]*)", "([^"]*)", "([^"]*)", (\w+)\)')


Column = namedtuple("Column", "path type dims unit meaning use")
SCHEMA = {column.path: column for column in
          map(Column._make, LINE.findall((SOURCE / "include/fst/store/schema.def").read_text()))}


class Run:
    """A run folder."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.name = self.folder.name

    def read(self, path):
        """A column of history.h5: an array; for str and list_* a list of str or of arrays."""
        column = SCHEMA[path]
        with h5py.File(self.folder / "history.h5", "r") as file:
            if not (column.type == "str" or column.type.startswith("list_")):
                return file[path][:]
            values, offsets = file[path + "/values"][:], file[path + "/offsets"][:]
        rows = [values[a:b] for a, b in zip(offsets[:-1], offsets[1:])]
        return [row.tobytes().decode() for row in rows] if column.type == "str" else rows

    def rows(self, table):
        """The rows of a table of history.h5, each a dictionary by column name."""
        paths = [path for path in SCHEMA if path.startswith(f"/{table}/")]
        columns = {path.split("/")[2]: self.read(path) for path in paths}
        return [dict(zip(columns, row)) for row in zip(*columns.values())]

    def metrics(self, kind):
        """The lines of metrics.jsonl of a kind (step, round, eval), seconds added over attempts."""
        lines, before, last = [], 0.0, 0.0
        text = (self.folder / "metrics.jsonl").read_text()
        for line in text[:text.rfind("\n") + 1].splitlines():  # the last one may be half written
            entry = json.loads(line)
            if entry["kind"] in ("step", "eval"):
                before += last if entry["seconds"] < last else 0.0
                last = entry["seconds"]
                entry["seconds"] = before + last
            lines.append(entry)
        return [entry for entry in lines if entry["kind"] == kind]

    def curve(self, prompt=None, split="test"):
        """The last evaluation at each step under `prompt`, by default the lead where there is one.

        A cycle's first step is evaluated twice; the last is the one after its fast phase."""
        found = [entry for entry in self.metrics("eval") if entry["split"] == split]
        if prompt is None:
            prompt = "lead" if any(entry["prompt"] == "lead" for entry in found) else "seed"
        by_step = {entry["step"]: entry for entry in found if entry["prompt"] == prompt}
        return [by_step[step] for step in sorted(by_step)]


def values(curve, key):
    """One value per evaluation; null is NaN. `rollouts` is slow and fast together."""
    if key == "rollouts":
        return values(curve, "rollouts/slow") + values(curve, "rollouts/fast")
    return np.array([np.nan if entry[key] is None else entry[key] for entry in curve], float)


def groups(arguments):
    """Runs by label, in order: 'label=run,run' is a group, a run alone is labelled by its name."""
    named = [argument.split("=", 1) if "=" in argument else (pathlib.Path(argument).name, argument)
             for argument in arguments]
    return {label: [Run(folder) for folder in folders.split(",")] for label, folders in named}
