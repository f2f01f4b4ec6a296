"""What the results against published tables share: arguments, runs over seeds, time, tables."""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np

# The installed package, or, in a checkout that has been compiled in place, that one.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from lstm_ext import __version__, get_num_threads
from lstm_ext.losses import Loss


def arguments(description, quick, argv=None, **more):
    """Parse ``--seeds``, ``--quick`` and the options in `more`.

    Parameters
    ----------
    description : str
        The script's docstring.
    quick : str
        What ``--quick`` does.
    argv : list of str, optional
        Default: the command line.
    **more : dict
        Keywords of ``add_argument`` by the option's name; ``_`` in a name is written ``-``.

    Returns
    -------
    argparse.Namespace
        `seeds` is a range.
    """
    parser = argparse.ArgumentParser(description=description.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=None, help="how many runs; default 10, quick 1")
    parser.add_argument("--first-seed", type=int, default=0, help="default 0")
    parser.add_argument("--quick", action="store_true", help=quick)
    for name, keywords in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **keywords)
    options = parser.parse_args(argv)
    count = options.seeds if options.seeds is not None else 1 if options.quick else 10
    if count < 1:
        parser.error(f"--seeds must be at least 1, got {count}")
    options.seeds = range(options.first_seed, options.first_seed + count)
    return options


def machine():
    """One line: processor, kernel, versions. A table without it says nothing about seconds."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return (
        f"{name}; {get_num_threads()} thread; lstm-ext {__version__}, NumPy {np.__version__}, "
        f"Python {platform.python_version()}"
    )


def table(header, rows):
    """Markdown: the header's words and the rows' cells, numbers as they are given.

    Returns
    -------
    str
    """
    rows = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[k]) for row in rows) for k in range(len(header))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def spread(values, form=",.0f"):
    """Mean and, in brackets, the smallest and the largest value: "8,440 (3,800-24,100)"."""
    values = list(values)
    if not values:
        return "-"
    low, mean, high = (format(f(values), form) for f in (min, np.mean, max))
    return mean if low == high else f"{mean} ({low}-{high})"


def say(*words):
    """Progress, on stderr: stdout is for the table."""
    print(*words, file=sys.stderr, flush=True)


def batches(data, rng, epochs, size, noise):
    """Mini-batches of all epochs, newly shuffled and with noise on the inputs in each.

    Parameters
    ----------
    data : tuple of ndarray
        The inputs (N, T, F), float32, and what else goes with each of the N sequences.
    rng : numpy.random.Generator
    epochs, size : int
    noise : float
        Standard deviation.

    Yields
    ------
    tuple
        As `data`, and what remains of the learning rate: half a cosine from 1 to 0 over the epochs.
    """
    for epoch in range(epochs):
        for some in np.array_split(rng.permutation(len(data[0])), -(-len(data[0]) // size)):
            x, *others = (part[some] for part in data)
            x = x + rng.normal(0, noise, x.shape).astype(np.float32)
            yield x, *others, 0.5 * (1 + np.cos(np.pi * epoch / epochs))


class Watched:
    """A loss that keeps the last predictions: each sequence is judged before it is learned from.

    Parameters
    ----------
    loss : lstm_ext.losses.Loss
    """

    def __init__(self, loss):
        self.loss = loss
        self.prediction = None

    def check(self, target, shape, weights=None):
        """Check as the loss does."""
        self.loss.check(target, shape, weights)

    def value_and_gradient(self, prediction, target, weights=None):
        """Compute what the loss computes, and remember `prediction`."""
        self.prediction = prediction
        return self.loss.value_and_gradient(prediction, target, weights)


class ObservedSquaredError(Loss):
    """Squared error, the mean over those targets that were measured, not NaN."""

    def check(self, target, shape, weights=None):
        """Refuse a target of another shape, and one that is all NaN."""
        if target.shape != shape or np.isnan(target).all():
            raise ValueError(f"y has shape {target.shape}, expected {shape} and some numbers")

    def _evaluate(self, prediction, target, weights, total):
        error = np.where(np.isnan(target), 0, np.subtract(prediction, target, dtype=np.float64))
        count = np.count_nonzero(~np.isnan(target))
        return float(np.vdot(error, error)) / count, error * (2 / count)


class Stopwatch:
    """Seconds of processor time since it was made: that on the wall tells of whoever shares the machine."""

    def __init__(self):
        self._start = time.process_time()

    @property
    def seconds(self):
        """So far."""
        return time.process_time() - self._start
