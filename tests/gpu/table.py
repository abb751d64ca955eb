#!/usr/bin/env python3
"""One table and one JSON file of what certify.sh found.

table.py JSON --own FILE... [--peer FILE...] [--tests FILE]: the lines of fst_gpu_bench and of peer.py,
several passes each, and GoogleTest's JSON report. Exit 1 where a test or a case failed; exit 3 where
part of the work was not done.
"""
import argparse
import json
import statistics
import sys

COPY, PRODUCT, BF16_PRODUCT = "device copy", "ceiling of arithmetic", "ceiling of bf16 arithmetic"


def passes(files):
    """The cases of all passes in order, their samples together."""
    cases = {}
    for file in files:
        with open(file) as lines:
            for case in map(json.loads, lines):
                merged = cases.setdefault(case["case"], {**case, "microseconds": []})
                merged["microseconds"] += case.get("microseconds", [])
                if "not_run" in case:
                    merged["not_run"] = case["not_run"]
    for case in cases.values():
        if case["microseconds"]:
            case["median"] = statistics.median(case["microseconds"])
    return cases


def best_rate(cases, operations, amount):
    """The greatest `amount` per second of the measured cases with these names or operations."""
    rates = [1e6 * case[amount] / case["median"] for case in cases.values() if "median" in case
             and any(name in (case["case"], case["operation"]) for name in operations)]
    return max(rates, default=None)


def ceilings(own, peer):
    """Bytes and operations per second that this device was seen to do in this run."""
    return {"bytes_per_second": best_rate({**peer, **own}, [COPY], "bytes"),
            "flops_per_second": best_rate(peer, [PRODUCT], "flops"),
            "bf16_flops_per_second": best_rate(peer, [BF16_PRODUCT], "flops")}


def floor(case, top):
    """Microseconds that the device needs at least; None where its ceiling was not measured."""
    kind = "bf16_flops" if case["operation"].startswith("bf16") else "flops"
    needs = [(case["bytes"], top["bytes_per_second"]), (case["flops"], top[f"{kind}_per_second"])]
    if any(amount and not rate for amount, rate in needs):
        return None
    return 1e6 * max(amount / rate for amount, rate in needs if amount)


def row(case, peer, top):
    line = {"case": case["case"], "microseconds": case.get("median"),
            "peer_microseconds": peer.get("median"), "not_run": case.get("not_run")}
    line["floor_microseconds"] = floor(case, top)
    if case.get("median") and line["floor_microseconds"]:
        line["share_of_floor"] = line["floor_microseconds"] / case["median"]
    if case.get("median") and peer.get("median"):
        line["ratio_to_peer"] = peer["median"] / case["median"]
    if "not_run" in peer:
        line["peer_not_run"] = peer["not_run"]
    return line


def text_of(line):
    def cell(key, form, scale=1):
        return format(scale * line[key], form) if line.get(key) is not None else "-"
    return (f"{line['case']:<52}{cell('microseconds', '.1f'):>12}{cell('peer_microseconds', '.1f'):>12}"
            f"{cell('ratio_to_peer', '.2f'):>9}{cell('floor_microseconds', '.1f'):>12}"
            f"{cell('share_of_floor', '.0f', 100):>7}"
            + (f"  not run: {line['not_run']}" if line.get("not_run") else "")
            + (f"  peer: {line['peer_not_run']}" if line.get("peer_not_run") else ""))


def tests_of(file):
    """How many tests ran, which failed, and the seconds; None where no test ran."""
    if not file:
        return None
    with open(file) as report:
        found = json.load(report)
    failed = [f"{suite['name']}.{test['name']}" for suite in found["testsuites"]
              for test in suite["testsuite"] if test.get("failures")]
    ran = sum(test.get("result") == "COMPLETED" for suite in found["testsuites"]
              for test in suite["testsuite"])
    return {"ran": ran, "failed": failed, "seconds": found.get("time")}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("json")
    arguments.add_argument("--own", nargs="+", required=True)
    arguments.add_argument("--peer", nargs="*", default=[])
    arguments.add_argument("--tests")
    options = arguments.parse_args()
    own, peer = passes(options.own), passes(options.peer)
    top, tests = ceilings(own, peer), tests_of(options.tests)
    lines = [row(case, peer.get(name, {}), top) for name, case in own.items()]
    print(f"{'case':<52}{'us':>12}{'peer us':>12}{'ratio':>9}{'floor us':>12}{'%floor':>7}")
    for line in lines:
        print(text_of(line))
    if top["bytes_per_second"]:
        print(f"ceiling of bandwidth: {top['bytes_per_second'] / 1e9:.1f} GB/s, by a device copy")
    if top["flops_per_second"]:
        print(f"ceiling of arithmetic: {top['flops_per_second'] / 1e12:.1f} TFLOP/s in float32, by "
              "torch's product of 8192^3")
    if top["bf16_flops_per_second"]:
        print(f"and {top['bf16_flops_per_second'] / 1e12:.1f} TFLOP/s in bfloat16")
    print("peer: " + ("torch in float32, TF32 off, or bfloat16" if peer else "none was run"))
    print(f"tests: {tests['ran']} ran, {len(tests['failed'])} failed {' '.join(tests['failed'])}"
          f" in {tests['seconds']}" if tests else "tests: none was run")
    with open(options.json, "w") as file:
        json.dump({"ceilings": top, "tests": tests, "cases": lines}, file, indent=1)
    if tests and tests["failed"]:
        sys.exit(1)
    if not peer or not tests or not tests["ran"] or any(line["not_run"] for line in lines):
        sys.exit(3)


if __name__ == "__main__":
    main()
