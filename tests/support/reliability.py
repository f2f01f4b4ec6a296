"""Write docs/reliability.md from the reports of the suite and its tools.

    python tests/support/reliability.py                 render the page from tests/data/reliability.jsonl
    python tests/support/reliability.py add FILE ...    take the reports FILE into it first, then render
    python tests/support/reliability.py collect         count the tests and the named mistakes
    python tests/support/reliability.py fuzz TARGET LOG take in a log of fuzz_loaders.py

Every number of the page is a sum or the newest value of records, each of which a tool wrote: ``pytest``
with LSTM_EXT_REPORT=FILE in its environment, and ``sanitize.py``, ``random_calls.py``, ``oom_sweep.py``,
``mutations.py``, ``platforms.py`` with ``--report FILE``. A newer record of the same thing replaces the
older one, but for random calls and fuzzing, which add up. Text is written here; numbers are not. A record
that is added without a commit gets the one that is checked out.
"""

import argparse
import collections
import datetime
import json
import re
import subprocess
import sys
from pathlib import Path

import sanitize

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "tests" / "data" / "reliability.jsonl"
PAGE = ROOT / "docs" / "reliability.md"
# What makes a record the same as an older one.
KEYS = {
    "suite": ("kernel", "python", "numpy", "system", "arguments"),
    "collected": ("what",),
    "sanitizer": ("sanitizer", "job"),
    "out of memory": ("job",),
    "operator": ("name",),
    "named": ("name",),
    "platform": ("name",),
    "coverage": ("what",),
    "reproducible": ("what",),
    "random calls": ("under", "kernel", "seed"),
    "fuzz": ("target", "date"),
}
NEVER = [
    "the emulated platforms on the compiled core as it is since it became one stack (`src/_stack.pyx`): the "
    "reports above are of the core before",
    "Python on Windows: there are no wheels; only the kernels run, as the table of platforms says",
    "macOS, Intel or Apple silicon: the workflow builds and tests it, and has not run yet",
    "Python on a real arm64 or s390x machine; Python under an emulator",
    "free-threaded Python, PyPy, GraalPy, Pyodide; Python 3.14",
    "more than 2 cores at once; machines with several sockets",
    "MPI over a network: ranks ran on one machine",
    "memory failures within BLAS, HDF5 and other libraries of C: Python's allocators and the extensions' own "
    "`malloc` were made to fail",
    "the workflows of GitHub: they were linted here, and have not run",
]


def read():
    """Return the records."""
    if not RECORDS.exists():
        return []
    return [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines() if line]


def merge(old, new):
    """Return the records in which newer ones have replaced those of the same thing."""
    found = {}
    for record in [*old, *new]:
        if record["kind"] not in KEYS:
            raise SystemExit(f"a record has the kind {record['kind']!r}, expected one of {', '.join(KEYS)}")
        found[(record["kind"], *(str(record.get(key)) for key in KEYS[record["kind"]]))] = record
    return list(found.values())


def write(records):
    """Write the records, one a line, in a stable order."""
    lines = sorted(json.dumps(record, sort_keys=True) for record in records)
    RECORDS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def collect():
    """Count what is there to be run."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"], cwd=ROOT,
        capture_output=True, text=True, check=False)
    tests = re.findall(r"^tests/(\w+)/\S+: (\d+)$", done.stdout, re.MULTILINE)  # -q twice: one line a file
    if not tests:
        raise SystemExit(f"no test was collected:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    for folder in sorted({folder for folder, _ in tests}):
        count = sum(int(count) for name, count in tests if name == folder)
        yield {"kind": "collected", "what": f"tests: {folder}", "count": count}
    import mutations

    yield {"kind": "collected", "what": "named mistakes", "count": len(mutations.MUTATIONS)}


def fuzz(target, log):
    """Read what libFuzzer prints at its end."""
    text = Path(log).read_text(encoding="utf-8", errors="replace")
    inputs, seconds = map(int, re.findall(r"Done (\d+) runs in (\d+) second", text)[-1])
    crashes = len(re.findall(r"^==\d+== ERROR|artifact_prefix", text, re.MULTILINE))
    today = datetime.date.today().isoformat()
    return {"kind": "fuzz", "target": target, "inputs": inputs, "seconds": seconds, "crashes": crashes,
            "date": today}


def stamped(record):
    """Return a record with the commit that it is of, short."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    head = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    return {"commit": head} | record


def number(value):
    """Return a number with its thousands apart."""
    return f"{value:,}"


def table(head, rows):
    """Return a table of Markdown, or a line that says that there is nothing to show."""
    if not rows:
        return "No report of this is here.\n"
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def render(records):
    """Return the page."""
    of = {kind: [r for r in records if r["kind"] == kind] for kind in KEYS}
    for kind, keys in KEYS.items():
        of[kind].sort(key=lambda r, keys=keys: [str(r.get(key)) for key in keys])
    total = sum(r["count"] for r in of["collected"] if r["what"].startswith("tests: "))
    reported = {(r["sanitizer"], r["job"]) for r in of["sanitizer"]}
    runs = [(kind, job) for kind, jobs in sanitize.RUNS.items() for job in jobs]
    missing = [run for run in runs if run not in reported]
    calls, random = sum(r["calls"] for r in of["random calls"]), of["random calls"]
    named, operator = of["named"], of["operator"]

    def score(found):
        built = [r for r in found if r["verdict"] != "unbuilt"]
        killed = sum(r["verdict"] == "killed" for r in built)
        return f"{killed} of {len(built)} seen" if built else "none run"

    memory = of["out of memory"]
    names = ("calls", "memory_errors", "wrong", "crashes", "in_numpy")
    others = collections.Counter()
    for r in memory:
        others.update(r.get("other_errors", {}))
    sums = {key: sum(r[key] for r in memory) for key in names}
    parts = [
        "# Reliability\n",
        "What is tested, how often, and what has never run. The numbers are those of the tools' own reports "
        "(`tests/support/reliability.py` writes this page; "
        "the records are in `tests/data/reliability.jsonl`). A table without a report says "
        "so.\n",
        "## The suite\n",
        f"{number(total)} tests were collected when the reports were made.\n" if total else "",
        table(["folder", "tests"], [
            (r["what"][7:], number(r["count"])) for r in of["collected"] if r["what"].startswith("tests: ")]),
        "Runs of the suite, by kernel:\n",
        table(["kernel", "arguments", "passed", "failed", "skipped", "Python", "NumPy", "system"], [
            (r["kernel"], f"`{r['arguments'] or 'all'}`", number(r["passed"]), r["failed"], r["skipped"],
             r["python"], r["numpy"], r["system"]) for r in of["suite"]]),
        "Every change runs the whole suite twice, from the sources and on the installed wheel, and what "
        "depends on the kernel under each of them (`.ci/run`).\n",
        "## Random calls\n",
        f"{number(calls)} calls with random layers, sizes, arrays, tapes and threads, "
        f"{number(sum(r['refused'] for r in random))} of them refused by an error, as they should be. A "
        "crash, another error, or two different answers end the run (`tests/support/random_calls.py`).\n"
        if random else "",
        table(["under", "kernel", "rounds", "calls", "refused", "seconds of CPU", "commit"], [
            (r["under"] or "no sanitizer", r["kernel"], number(r["rounds"]), number(r["calls"]),
             number(r["refused"]), r["seconds"], r.get("commit", "-")) for r in random]),
        "## Sanitizers\n",
        "AddressSanitizer with UndefinedBehaviorSanitizer, and ThreadSanitizer with libomp and archer, which "
        "tells it the barriers of OpenMP; a planted race is found, its mended form is silent. "
        "Under it no thread writes `parameters` while another computes, which would be a race of the caller. "
        "The threads at the C level are OpenMP's, in a C program (`tests/support/c_level_threads.c`), beside "
        "a Python thread that trains; if they share a workspace, ThreadSanitizer reports it. "
        "The forks run without AddressSanitizer's quarantine: its lock, and before LLVM 18 those of its "
        "allocator, are not free in a child, which then waits without end in `malloc` or `free`. "
        "`tests/support/fork_and_malloc.c` shows that in a program without this package. "
        "`tests/support/sanitize.py` builds and runs all of it; "
        "[profiling](profiling.md#memory-errors-and-races) has the commands.\n",
        table(["sanitizer", "job", "reports", "exit code", "its last line", "commit"], [
            (r["sanitizer"], r["job"], r["reports"], r["exit"], r["said"] + r.get("note", ""),
             r.get("commit", "-"))
            for r in of["sanitizer"]]
            + [(kind, job, "-", "-", "no report yet", "-") for kind, job in missing]),
        "## Out of memory\n",
        (f"One allocation of Python after the other fails: {number(sums['calls'])} calls, "
         f"{number(sums['memory_errors'])} of which ended in MemoryError; after {sums['wrong']} of them the "
         f"next call was wrong; {sums['crashes']} crashes here and {sums['in_numpy']} within NumPy. In jobs "
         "named malloc it is an allocation of the extensions in C, for workspaces, tapes and packed weights "
         "(`python tests/support/oom_sweep.py`).\n" if memory else ""),
        table(["job", "calls", "MemoryError", "other errors", "wrong afterwards", "crashes", "in NumPy",
               "commit"], [
            (r["job"], number(r["calls"]), number(r["memory_errors"]), r["others"], r["wrong"], r["crashes"],
             r["in_numpy"], r.get("commit", "-")) for r in memory]),
        "The other errors, by what was called. NumPy's functions and Python's `compile` return without an "
        "exception where memory is short, which Python makes a SystemError:\n" if others else "",
        "".join(f"- {count} times `{text}`\n" for text, count in others.most_common()),
        "## Mistakes put into the sources\n",
        f"Named mistakes: {score(named)}. Mistakes drawn by operators: {score(operator)}. A survivor is one "
        "that no test of the files that were asked has seen (`tests/support/mutations.py`).\n",
        table(["survivor"], [(f"`{r['name']}`",) for r in [*named, *operator] if r["verdict"] == "survived"])
        if any(r["verdict"] == "survived" for r in [*named, *operator]) else "",
        "## Fuzzing of files\n",
        table(["format", "inputs", "seconds", "faults", "on"], [
            (r["target"], number(r["inputs"]), r["seconds"], r["crashes"], r["date"]) for r in of["fuzz"]]),
        "## Platforms\n",
        "The kernels' own driver compares them with plain C loops, without Python "
        "(`tests/support/platforms.py`):\n",
        table(["platform", "cases", "numbers compared", "errors"], [
            (r["name"], number(r["cases"]), number(r["numbers"]), r["errors"])
            for r in of["platform"]]),
        "## Coverage\n",
        table(["what", "lines", "branches"], [
            (r["what"], r["lines"], r["branches"]) for r in of["coverage"]]),
        "## Reproducible builds\n",
        table(["what", "builds", "equal bytes"], [
            (r["what"], r["builds"], "yes" if r["equal"] else "no") for r in of["reproducible"]]),
        "## What has never run\n",
        "".join(f"- {line}\n" for line in NEVER),
    ]
    return "\n".join(part for part in parts if part)


def main():
    """Take in what was given, and render."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["add", "collect", "fuzz"])
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    new = []
    if options.what == "add":
        for path in options.arguments:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
            new += [stamped(json.loads(line)) for line in lines if line]
    elif options.what == "collect":
        new = list(collect())
    elif options.what == "fuzz":
        new = [fuzz(*options.arguments)]
    records = merge(read(), new)
    write(records)
    PAGE.write_text(render(records), encoding="utf-8")


if __name__ == "__main__":
    main()
