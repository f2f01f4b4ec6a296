"""How long one step takes, and how long the longest of millions: from Python, Cython, C, numba and Fortran.

    python benchmarks/step_latency.py                       a million steps each, 10 million in the loops
    python benchmarks/step_latency.py --steps 100000 --loops 1000000

One sequence (N = 1), I = 32, H = 64, float32, one thread. Each step is under the clock by itself; what the
clock takes is in all figures, and in the first rows alone. The last column says how often the process lost
its core to another: on a machine that is not quiet, the worst steps are those. The clock of the thread does
not count them, and takes longer to read. Every caller ends in the same state, or is not timed. What cannot
be built or is not installed is named and left out. The last lines are those of the two examples of real
time, each with its own model.
"""

import argparse
import ctypes
import importlib.util
import os
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from contestants import OnnxRuntime, Ours, Torch
from problem import Problem

import lstm_ext
from lstm_ext.cython_lstm import Network, address

HERE = Path(__file__).parent
PROBLEM = Problem(time=1, batch=1, input_size=32, hidden_size=64)
CHECKED = 100  # steps after which all callers have the same state
pointer, size = ctypes.c_void_p, ctypes.c_int64


class Memory:
    """A network, and the arrays of one caller."""

    def __init__(self):
        self.network = Network(Ours(1).layer(PROBLEM))
        self.x = PROBLEM.x[0, 0].copy()
        self.h, self.c = np.zeros((2, 1, 1, 64), "float32")
        self.workspace = np.zeros(self.network.step_workspace(), np.uint8)

    @property
    def arrays(self):
        """What steps read and write."""
        return self.x, self.h, self.c, self.workspace


def run(*command):
    """Run a compiler; its complaint as an ImportError."""
    if shutil.which(command[0]) is None:
        raise ImportError(f"there is no {command[0]}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImportError(done.stderr)


def c_compiler():
    return (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]


def by_address(library, memory, step, name="loop"):
    """Return what times a loop in a shared library of C or Fortran."""
    loop = getattr(ctypes.CDLL(str(library)), name)
    loop.argtypes, loop.restype = [*7 * [pointer], size], None

    def times(spent):
        arrays = [a.ctypes.data for a in memory.arrays]
        loop(step, memory.network.address, *arrays, spent.ctypes.data, len(spent))

    return times


def from_c(directory, memory, step=None, name="loop"):
    library = directory / "latency_c.so"
    flags = ["-O2", "-shared", "-fPIC", f"-I{lstm_ext.get_include()}"]
    run(c_compiler(), *flags, str(HERE / "latency_loop.c"), "-o", str(library))
    return by_address(library, memory, step, name)


def from_fortran(directory, memory):
    library = directory / "latency_fortran.so"
    run("gfortran", "-O2", "-shared", "-fPIC", str(HERE / "latency_loop.f90"), "-o", str(library))
    return by_address(library, memory, address("lstm_step_s"))


def from_cython(directory, memory):
    source, extension = directory / "latency_loop.c", directory / "latency_loop.so"
    run(sys.executable, "-m", "cython", "-3", str(HERE / "latency_loop.pyx"), "-o", str(source))
    include = sysconfig.get_path("include")
    run(c_compiler(), "-O2", "-shared", "-fPIC", f"-I{include}", str(source), "-o", str(extension))
    spec = importlib.util.spec_from_file_location("latency_loop", extension)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda spent: module.loop(memory.network, *memory.arrays, spent)


def from_numba(directory, memory):
    from numba import njit

    step = ctypes.CFUNCTYPE(ctypes.c_int, pointer, ctypes.c_ssize_t, *6 * [pointer])(address("lstm_step_s"))
    clock_gettime = ctypes.CDLL(None).clock_gettime
    clock_gettime.argtypes = [ctypes.c_int, pointer]

    @njit
    def loop(network, x, h, c, workspace, timespec, spent):
        for n in range(len(spent)):
            clock_gettime(1, timespec.ctypes.data)
            start = timespec[0] * 1_000_000_000 + timespec[1]
            step(network, 1, x.ctypes.data, h.ctypes.data, c.ctypes.data, h.ctypes.data, c.ctypes.data,
                 workspace.ctypes.data)
            clock_gettime(1, timespec.ctypes.data)
            spent[n] = timespec[0] * 1_000_000_000 + timespec[1] - start

    timespec = np.zeros(2, np.int64)
    loop(memory.network.address, *memory.arrays, timespec, np.zeros(0, np.int64))
    return lambda spent: loop(memory.network.address, *memory.arrays, timespec, spent)


def from_python(contestant):
    """Return what times `contestant`'s step, and what reads its state."""
    call, read = contestant.step(PROBLEM)
    last = [None]

    def times(spent):
        clock = time.perf_counter_ns
        for n in range(len(spent)):
            start = clock()
            result = call()
            spent[n] = clock() - start
        last[0] = result

    return times, lambda: read(last[0]).reshape(-1)


def callers(directory):
    """(name, share of the steps that it is given, function that makes times and state)."""

    def compiled(make, *arguments):
        memory = Memory()
        return make(directory, memory, *arguments), lambda: memory.h.reshape(-1)

    yield "Stream.step from Python", 1, lambda: from_python(Ours(1))
    yield "Cython", 1, lambda: compiled(from_cython)
    yield "C", 1, lambda: compiled(from_c, address("lstm_step_s"))
    yield "C, by the clock of the thread", 1, lambda: compiled(from_c, address("lstm_step_s"), "loop_on_core")
    yield "numba", 1, lambda: compiled(from_numba)
    yield "Fortran", 1, lambda: compiled(from_fortran)
    yield "onnxruntime from Python", 0.1, lambda: from_python(OnnxRuntime(1))
    yield "torch LSTMCell from Python", 0.1, lambda: from_python(Torch(1))


def row(name, times, count):
    """Print one row of the table."""
    times(np.zeros(1000, np.int64))  # warm
    spent = np.ones(count, np.int64)  # ones: its pages are there
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    times(spent)
    lost = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before
    us = spent / 1000
    print(f"| {name} | {count:,} | {np.median(us):.2f} | {np.quantile(us, 0.9999):.2f} | {us.max():.1f} | "
          f"{lost} |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--loops", type=int, default=10_000_000, help="steps of the examples of real time")
    given = parser.parse_args()
    print("| one step, in us | steps | median | 99.99 % | worst | times off the core |\n" + "|---" * 6 + "|")
    lstm, x = Ours(1).layer(PROBLEM), np.repeat(PROBLEM.x, CHECKED, axis=1)
    expected = lstm(x)[1][0].reshape(-1)
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        try:
            row("the clock alone, from C", from_c(directory, Memory()), given.steps)
            row("the clock of the thread", from_c(directory, Memory(), None, "loop_on_core"), given.steps)
        except ImportError as error:
            print(f"| the clock alone: {error} |")
        for name, share, make in callers(directory):
            try:
                times, state = make()
            except ImportError as error:
                print(f"| {name}: left out, {error} |")
                continue
            times(np.zeros(CHECKED, np.int64))
            if not np.allclose(state(), expected, rtol=0, atol=1e-5):
                raise SystemExit(f"{name} computes something else")
            row(name, times, max(1000, int(given.steps * share)))

    for name in ("audio", "control"):
        command = [sys.executable, str(HERE.parent / "examples" / f"realtime_{name}.py")]
        command += ["--samples" if name == "audio" else "--steps", str(given.loops)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"\nrealtime_{name}.py: left out, {done.stderr.strip().splitlines()[-1]}")
            continue
        print("\n" + re.search(r"^[\d,]+ (blocks|steps).*", done.stdout, re.MULTILINE)[0])


if __name__ == "__main__":
    main()
