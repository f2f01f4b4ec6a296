"""A process of the benchmark: worker.py OPTIONS times sections, one line of JSON for each row."""

import json
import os
import sys
from functools import partial

import numpy as np
from contestants import PEERS, Ours
from limits import Limits, NoCompiler
from race import race
from sections import Sections

TOLERANCE = {"float32": 1e-4, "float64": 1e-10}  # of the largest value of an array


def usable_cpus():
    """Return the CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count()))


def main(options):
    threads = options["threads"]
    if hasattr(os, "sched_setaffinity"):
        # Before any pool is started. The last CPU: the first has the most interrupts.
        os.sched_setaffinity(0, usable_cpus()[-threads:])
    # What libraries print must not come between the results.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def send(**message):
        print(json.dumps(message), file=channel, flush=True)

    missing, peers = {}, []
    for name in options["peers"]:
        try:
            peers.append(PEERS[name](threads))
        except ImportError as error:
            missing[name] = str(error)
    try:
        limits = Limits(threads)
    except NoCompiler as error:
        limits, missing["limits"] = None, str(error)

    def ours(threads=threads, kernel=None):
        return Ours(threads, kernel)

    us = ours()
    send(
        process={
            "threads": threads,
            "cpus": usable_cpus(),
            "kernel": us.kernel,
            "versions": {c.name: c.version for c in (us, *peers)},
            "missing": missing,
            "limits": limits.trial if limits else {},
        }
    )
    sections = Sections(ours, peers, shapes=options["shapes"], quick=options["quick"])
    for name in options["sections"]:
        if name == "node":
            for sizes in ((100, 50), (20, 10)):
                send(row={"section": name, **measure_node(*sizes, options)})
            continue
        for row in sections.rows(name):
            send(row={"section": name, **measure(row, limits, threads, options["seconds"])})


def measure(row, limits, threads, seconds):
    """Check that the entries of a row compute the same; time them, and the limits with them."""
    problem, calls, uses, entries, expected = row.problem, {}, {}, {}, {}
    for entry in row.entries:
        entry.use()
        made = entry.make()
        if made is None:
            continue
        call, read = made
        error = check(entry, read(call()), expected)
        calls[entry.label], uses[entry.label] = call, entry.use
        entries[entry.label] = {
            "is_peer": entry.is_peer,
            "same_problem": entry.problem == problem,
            "flops": entry.problem.flops(row.what),
        }
        if entry.tolerance is not None:
            entries[entry.label]["error"] = error
    work = {}
    if limits:
        calls["multiply-add"], work["multiply-add"] = limits.multiply_add(problem.dtype)
        if problem.batch == 1:
            calls["read"], work["read"] = limits.read(problem.recurrent_bytes)
    times = race(calls, seconds=seconds, threads=threads, prepare=uses)
    rates = {name: amount / times[name].summary()["seconds"] for name, amount in work.items()}
    for label, entry in entries.items():
        entry |= times[label].summary()
        entry["flop_rate"] = entry["flops"] / entry["seconds"]
    result = {
        "labels": [entry.label for entry in row.entries],
        "problem": str(problem),
        "sizes": [problem.time, problem.batch, problem.input_size, problem.hidden_size],
        "dtype": problem.dtype,
        "what": row.what,
        "threads": threads,
        "rates": rates,
        "entries": entries,
    }
    if limits:
        result["least_seconds"] = problem.least_seconds(
            row.what, rates["multiply-add"], rates.get("read")
        )
    return result


def measure_node(cells, inputs, options):
    """Time the run of the teaching script, 4 nodes and 100 iterations, next to NumPy."""
    import node_run

    iterations = 2 if options["quick"] else 100
    labels = sorted(node_run.CONTENDERS, key=["float64", "float32", "NumPy"].index)
    calls = {
        label: partial(node_run.run, *node_run.CONTENDERS[label], cells, inputs, iterations)
        for label in labels
    }
    predictions = {label: np.array(call()[0]) for label, call in calls.items()}
    np.testing.assert_allclose(predictions["float64"], predictions["NumPy"], rtol=1e-10)
    # 100 iterations of learning amplify the rounding of float32.
    np.testing.assert_allclose(predictions["float32"], predictions["NumPy"], rtol=1e-3, atol=1e-3)
    times = race(calls, seconds=options["seconds"])
    return {
        "labels": labels,
        "problem": f"{cells} cells, {inputs} inputs",
        "what": f"{iterations} iterations",
        "dtype": "",
        "threads": options["threads"],
        "rates": {},
        "entries": {
            label: {"is_peer": label == "NumPy", "same_problem": True, **times[label].summary()}
            for label in labels
        },
    }


def check(entry, got, expected):
    """Hold a result against the first of its problem and return the error: nothing is timed that differs.

    `expected` (problem -> label, arrays) is filled by the first.
    """
    problem = entry.problem
    got = got if isinstance(got, tuple) else (got,)
    largest = 0.0
    first_label, first = expected.setdefault(problem, (entry.label, got))
    for number, (a, b) in enumerate(zip(got, first, strict=True)):
        who = f"{entry.label} and {first_label} at {problem} {problem.dtype}, array {number}"
        if a.shape != b.shape or a.dtype != b.dtype:
            raise AssertionError(f"{who}: {a.shape} {a.dtype} is not {b.shape} {b.dtype}")
        # XLA flushes subnormal numbers to 0, so the smallest numbers cannot agree to all digits.
        floor = np.finfo(b.dtype).tiny / np.finfo(b.dtype).eps
        error = np.abs(a - b).max() / max(np.abs(b).max(), floor)
        if not error <= (TOLERANCE[problem.dtype] if entry.tolerance is None else entry.tolerance):
            raise AssertionError(f"{who} differ, relative error {error:.1e}")
        largest = max(largest, float(error))
    return largest


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
