#!/usr/bin/env python3
"""The floors of the source tree: who may include whom, and other rules a compiler does not know.

floors_test.py ROOT checks the tree, then plants one violation of each rule in a copy of it and
expects exactly that one to be reported.
"""
import pathlib
import re
import shutil
import sys
import tempfile
import unittest

FLOORS = [["base"], ["tensor"], ["comm"], ["store", "task"], ["model", "evolve"], ["rollout"],
          ["learn"], ["run"], ["main"]]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
WITHOUT_MPI = {"task", "model", "evolve"}  # build where there is neither MPI nor HDF5
FREE_KERNEL_HEADERS = {"kernels/philox.h", "kernels/exact_sum.h", "kernels/exec.h", "kernels/shared_library.h"}
# A foreign header (its first path component) and the only places that may include it.
OWNERS = {
    "mpi.h": ["include/fst/comm/", "src/comm/", "include/fst/store/", "src/store/"],
    "hdf5.h": ["include/fst/store/", "src/store/"],
    "nccl.h": [],  # opened at run time: src/comm/nccl_api.h
    "cuda_runtime.h": ["kernels/cuda/"],
    "boost": ["include/fst/run/", "src/run/", "src/main.cpp"],
    "nlohmann": ["src/"],
}
DEVICE_MEMORY = "fst/tensor/device_memory.h"  # addresses for a library that moves tensors itself
DEVICE_MEMORY_USERS = ["src/tensor/", "src/comm/nccl_channel.cpp"]
CUDA_SWITCHES = ["include/fst/tensor/device.h"]
LINES = {"src": 400, "include": 400, "kernels": 400, "analysis": 80}
LONGER = {"analysis/scaling": 200, "analysis/roofline": 200}  # what a file may have whose path begins so: a model, not a figure
SUFFIXES = {".h", ".cpp", ".cu", ".cuh", ".py"}
INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')


def floor_of(path):
    """src/model/x.cpp and include/fst/model/x.h: model; kernels/cpu/x.cpp: kernels."""
    parts = path.split("/")
    if parts[0] == "kernels":
        return "kernels"
    name = parts[2] if parts[0] == "include" else parts[1]
    return "main" if name == "main.cpp" else name


def include_fault(path, quote, header):
    """What is wrong with this include, or an empty string."""
    floor, parts = floor_of(path), header.split("/")
    if parts[0] in OWNERS:
        owners = OWNERS[parts[0]]
        who = f"only {', '.join(owners)}" if owners else "no part of the program"
        return "" if path.startswith(tuple(owners)) else f"{who} may include it"
    if parts[0] == "kernels":
        free = floor in ("kernels", "tensor") or header in FREE_KERNEL_HEADERS
        return "" if free else "only tensor includes kernels/"
    if header == DEVICE_MEMORY and not path.startswith(tuple(DEVICE_MEMORY_USERS)):
        return f"only {', '.join(DEVICE_MEMORY_USERS)} may include it"
    if parts[0] == "fst":
        other = parts[1]
        if floor == "kernels":
            return "kernels/ knows nothing of the floors"
        if other not in LEVEL:
            return f"no such floor: {other}"
        if other != floor and LEVEL[other] >= LEVEL[floor]:
            return f"{floor} includes upward or sideways"
        if floor in WITHOUT_MPI and other in ("comm", "store"):
            return f"{floor} builds without MPI and HDF5"
        return ""
    beside = quote == '"' and len(parts) == 1
    return "" if quote == "<" or beside else "own headers are named from fst/ or kernels/"


def line_faults(path, line):
    match = INCLUDE.match(line)
    if match and not path.endswith(".py"):
        fault = include_fault(path, *match.groups())
        if fault:
            yield f"{match.group(2)}: {fault}"
    code = line.split("//")[0]
    roles = path.startswith("src/run/roles") or floor_of(path) == "comm"
    if re.search(r"[.>]member\(\)", code) and not roles:
        yield "a branch on a role outside src/run/roles*.cpp"
    if re.match(r"\s*#\s*(el)?if.*FST_WITH_CUDA", code) and path not in CUDA_SWITCHES:
        yield "FST_WITH_CUDA outside the files that may know it"
    above = path.startswith(("src/", "include/")) and floor_of(path) not in ("base", "tensor")
    if above and re.search(r"\.(data<|span<|raw\(\))", code):
        yield "only tensor/ follows a tensor's pointer, which may be a GPU's: use HostView"


def faults(root):
    """All violations below `root`, as 'path:line: what'."""
    found = []
    for top, limit in LINES.items():
        for file in sorted((root / top).rglob("*")):
            if file.suffix not in SUFFIXES:
                continue
            path, lines = file.relative_to(root).as_posix(), file.read_text().splitlines()
            most = next((n for start, n in LONGER.items() if path.startswith(start)), limit)
            if len(lines) > most:
                found.append(f"{path}:{most + 1}: {len(lines)} lines, more than {most}")
            for number, line in enumerate(lines if top != "analysis" else [], 1):
                found += [f"{path}:{number}: {fault}" for fault in line_faults(path, line)]
    return found


PLANTS = [  # file, text, what must be reported
    ("src/task/planted.cpp", '#include "fst/model/qwen3.h"', "upward"),
    ("src/task/planted.cpp", '#include "fst/store/h5.h"', "sideways"),
    ("include/fst/base/planted.h", '#include "fst/tensor/tensor.h"', "upward"),
    ("src/model/planted.cpp", '#include "fst/comm/world.h"', "without MPI"),
    ("src/evolve/planted.cpp", '#include "fst/model/tokenizer.h"', "sideways"),
    ("kernels/cpu/planted.cpp", '#include "fst/base/error.h"', "knows nothing"),
    ("src/model/planted.cpp", '#include "kernels/matmul.h"', "only tensor"),
    ("src/run/planted.cpp", '#include "kernels/cpu/vec.h"', "only tensor"),
    ("src/learn/planted.cpp", "#include <mpi.h>", "may include it"),
    ("src/comm/planted.cpp", "#include <hdf5.h>", "may include it"),
    ("src/learn/planted.cpp", "#include <boost/program_options.hpp>", "may include it"),
    ("include/fst/task/planted.h", "#include <nlohmann/json.hpp>", "may include it"),
    ("src/tensor/planted.cpp", "#include <cuda_runtime.h>", "may include it"),
    ("src/comm/planted.cpp", "#include <nccl.h>", "no part of the program may include it"),
    ("src/comm/planted.cpp", '#include "fst/tensor/device_memory.h"', "may include it"),
    ("src/model/planted.cpp", '#include "fst/nowhere/x.h"', "no such floor"),
    ("src/model/planted.cpp", '#include "model/qwen3.h"', "from fst/"),
    ("src/run/planted.cpp", "if (world.learner().member()) step();", "a branch on a role"),
    ("src/learn/planted.cpp", "if (comm->member()) step();", "a branch on a role"),
    ("src/model/planted.cpp", "#if FST_WITH_CUDA", "FST_WITH_CUDA"),
    ("src/learn/planted.cpp", "norm += x.data<float>()[0];", "use HostView"),
    ("src/rollout/planted.cpp", "for (float p : buffer.span<float>()) sum += p;", "use HostView"),
    ("src/base/planted.cpp", "//\n" * 401, "more than 400"),
    ("analysis/planted.py", "#\n" * 81, "more than 80"),
    ("analysis/scaling_planted.py", "#\n" * 201, "more than 200"),
]
ALLOWED = [
    ("src/rollout/planted.cpp", '#include "kernels/philox.h"\n#include "fst/model/qwen3.h"\n'),
    ("src/run/roles_planted.cpp", "if (world.learner().member()) step();\n"),
    ("src/run/planted.cpp", "step();  // where learner.member() holds\n"),
    ("src/store/planted.cpp", "#include <mpi.h>\n#include <hdf5.h>\n"),
]


class Floors(unittest.TestCase):
    root = pathlib.Path(__file__).resolve().parents[2]

    def copy(self, folder):
        copy = pathlib.Path(folder)
        for top in LINES:
            if (self.root / top).is_dir():
                shutil.copytree(self.root / top, copy / top)
        return copy

    def plant(self, copy, path, text):
        file = copy / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return [fault for fault in faults(copy) if fault.startswith(path + ":")]

    def test_the_tree_keeps_its_floors(self):
        self.assertGreater(sum(1 for _ in (self.root / "src").rglob("*.cpp")), 10)
        self.assertEqual(faults(self.root), [])

    def test_every_planted_violation_is_reported(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = self.copy(folder)
            for path, text, expected in PLANTS:
                with self.subTest(path=path, text=text[:60]):
                    reported = self.plant(copy, path, text)
                    self.assertEqual(len(reported), 1, reported)
                    self.assertIn(expected, reported[0])
                (copy / path).unlink()

    def test_what_is_allowed_is_not_reported(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = self.copy(folder)
            for path, text in ALLOWED:
                self.assertEqual(self.plant(copy, path, text), [], path)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Floors.root = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main(verbosity=2)
