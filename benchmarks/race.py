"""Timing contestants against each other: interleaved, in one process."""

import gc
import math
import time
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Times:
    """Seconds per call, one sample for each round."""

    repeats: int  # calls in a sample
    samples: list = field(default_factory=list)
    disturbed: int = 0  # samples during which somebody else had the core

    def summary(self):
        """Return the median, the quartiles and what else is worth keeping."""
        low, median, high = (float(q) for q in np.percentile(self.samples, [25, 50, 75]))
        return {
            "seconds": median,
            "quartiles": [low, high],
            "rounds": len(self.samples),
            "repeats": self.repeats,
            "disturbed": self.disturbed,
        }


def settle(longest=1.0):
    """Wait until no thread of this process is busy.

    The threads of OpenMP and onnxruntime go on spinning after a call, at the cost of the next
    contestant. The window is longer than a scheduler's tick, by which CPU time is accounted.
    """
    end = time.perf_counter() + longest
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(0.01)
        if time.process_time() - before < 1e-3:
            return


def race(calls, *, seconds, threads=1, prepare=None, fewest=5, most=101):
    """Time `calls` (name -> callable) in turns; name -> Times.

    A round takes a sample of each, in an order drawn anew. There are as many rounds as fit in
    `seconds`, but at least `fewest` (2 where a call takes seconds) and at most `most`. A sample is
    one call, or as many as last a millisecond; a short call runs once untimed before its sample,
    because another's data are in the caches. `prepare` (name -> callable) runs before that.

    On one thread, a sample during which somebody else had the core counts its CPU time.
    """
    prepare = prepare or {}

    def take(name, repeats, warm):
        call, clock, cpu_clock = calls[name], time.perf_counter, time.process_time
        if threads > 1:
            settle()
        prepare.get(name, int)()
        if warm:
            call()
        cpu, start = cpu_clock(), clock()
        for _ in range(repeats):
            call()
        wall, cpu = clock() - start, cpu_clock() - cpu
        disturbed = threads == 1 and cpu < 0.95 * wall
        return (cpu if disturbed else wall) / repeats, disturbed

    first, times = {}, {}
    for name in calls:
        first[name] = take(name, 1, False)[0]
        if first[name] < 0.02:  # it may have been the first call of all
            first[name] = min(first[name], take(name, 1, False)[0])
        times[name] = Times(repeats=max(1, math.ceil(1e-3 / first[name])))
    if max(first.values()) > 2:
        fewest = min(fewest, 2)
    rng = np.random.default_rng(0)
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        for done in range(most):
            if done >= fewest and time.perf_counter() - start > seconds:
                break
            for name in rng.permutation(list(calls)):
                sample, disturbed = take(name, times[name].repeats, first[name] < 0.02)
                times[name].samples.append(sample)
                times[name].disturbed += disturbed
    finally:
        gc.enable()
    return times
