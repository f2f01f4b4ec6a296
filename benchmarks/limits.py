"""The physical limits of the CPU at hand, measured: multiply-adds a second, bytes read a second."""

import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_name("limits.c")
REALS = {"float32": ("float", ctypes.c_float), "float64": ("double", ctypes.c_double)}
VECTOR_BYTES = (64, 32, 16)
CHAINS = 12  # as in limits.c


class NoCompiler(RuntimeError):
    """There is no C compiler that builds limits.c."""


def compile_loops(directory, dtype, vector_bytes):
    """Build limits.c for a dtype and a width of vectors; return it as a library of ctypes."""
    compiler = os.environ.get("CC", "cc").split()
    if shutil.which(compiler[0]) is None:
        raise NoCompiler(f"no C compiler {compiler[0]!r}; name one in the environment variable CC")
    real, ctype = REALS[dtype]
    target = Path(directory) / f"limits_{real}_{vector_bytes}.so"
    command = [*compiler, "-O2", "-ffp-contract=fast", "-shared", "-fPIC", "-w"]
    command += [f"-DREAL={real}", f"-DVLEN={vector_bytes}", str(SOURCE), "-o", str(target)]
    for native in ("-march=native", "-mcpu=native"):
        done = subprocess.run([*command, native], capture_output=True, text=True)
        if done.returncode == 0:
            break
    else:
        raise NoCompiler(f"{compiler[0]} does not build {SOURCE.name}: {done.stderr.strip()}")
    library, size, pointer = ctypes.CDLL(str(target)), ctypes.c_ssize_t, ctypes.c_void_p
    library.multiply_add.restype = ctypes.c_double
    library.multiply_add.argtypes = [size, ctype, ctype, pointer, pointer]
    library.read_over.restype = ctypes.c_int64
    library.read_over.argtypes = [pointer, size, size]
    return library


class Limits:
    """The loops of limits.c at the best width of vectors, on `threads` threads at once."""

    def __init__(self, threads=1):
        self.threads = threads
        self.trial = {}  # flop/s of each width on one thread: "float32 x 512 bit" -> rate
        self._fastest = {}
        self._pool = ThreadPoolExecutor(threads)
        with tempfile.TemporaryDirectory(prefix="lstm_ext_limits_") as directory:
            for dtype in REALS:
                rates = {}
                for width in VECTOR_BYTES:
                    try:
                        library = compile_loops(directory, dtype, width)
                    except NoCompiler:  # wider than a register of this CPU
                        if width == VECTOR_BYTES[-1] and not rates:
                            raise
                        continue
                    seconds = [self._timed(self._adder(library, dtype)) for _ in range(9)]
                    rates[library] = self._flops_of(library, dtype) / min(seconds)
                    self.trial[f"{dtype} x {8 * width} bit"] = rates[library]
                self._fastest[dtype] = max(rates, key=rates.get)

    @staticmethod
    def _timed(call):
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    STEPS = 100_000  # a millisecond or a few

    def _adder(self, library, dtype, steps=STEPS):
        """Return a call that runs the chains, v <- v/2 + 1/2, and checks that each ends in 1."""
        seed, out = np.arange(CHAINS, dtype=dtype), np.zeros(CHAINS, dtype)

        def call():
            library.multiply_add(steps, 0.5, 0.5, seed.ctypes.data, out.ctypes.data)
            if np.abs(out - 1).max() > 1e-6:
                raise AssertionError(f"the chains of limits.c ended in {out}, not in 1")

        return call

    def _flops_of(self, library, dtype, steps=STEPS):
        seed, out = np.zeros(CHAINS, dtype), np.zeros(CHAINS, dtype)
        return library.multiply_add(1, 0.5, 0.5, seed.ctypes.data, out.ctypes.data) * steps

    def multiply_add(self, dtype):
        """Return a call of some milliseconds, and the flops that it does on all threads."""
        library = self._fastest[dtype]
        if self.threads == 1:
            return self._adder(library, dtype), self._flops_of(library, dtype)
        steps = 5 * self.STEPS  # longer, so that handing it to the threads weighs little
        calls = [self._adder(library, dtype, steps) for _ in range(self.threads)]

        def call():
            for done in [self._pool.submit(one) for one in calls]:
                done.result()

        return call, self.threads * self._flops_of(library, dtype, steps)

    def read(self, size):
        """Return a call that reads `size` bytes over and over on one thread, and the bytes in all.

        So it is the level of the cache that holds `size` bytes which sets the pace.
        """
        size = max(512, size - size % 512)
        store = np.arange(size + 64, dtype=np.uint8)
        address = store.ctypes.data + -store.ctypes.data % 64
        times = max(1, 100_000_000 // size)
        library = self._fastest["float32"]

        def call(keep_alive=store):
            library.read_over(address, size, times)

        return call, size * times
