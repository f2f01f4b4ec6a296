"""The caches that the kernels take from the machine: `_kernels.caches`, in every process the same."""

import glob
import json
import subprocess
import sys

import numpy as np
import pytest

from lstm_ext import LSTM, _kernels


def linux_caches():
    """What Linux says of the first CPU, in bytes."""
    found = {}
    for folder in glob.glob("/sys/devices/system/cpu/cpu0/cache/index*"):
        level, kind, size = (open(f"{folder}/{name}").read().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            found[int(level)] = int(size[:-1]) * {"K": 1024, "M": 1024**2}[size[-1]]
    return found


def test_they_are_what_the_system_says():
    said = linux_caches()
    if not {1, 2} <= set(said):
        pytest.skip("this system says nothing of its caches")
    assert _kernels.caches == {"L1d": said[1], "L2": said[2], "L3": said.get(3, 0)}


def test_they_are_sizes_of_caches_and_the_same_in_every_process():
    assert 4096 <= _kernels.caches["L1d"] <= _kernels.caches["L2"] <= 2**28
    program = "import json; from lstm_ext import _kernels; print(json.dumps(_kernels.caches))"
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-P", "-c", program], capture_output=True, check=True, timeout=60
        )
        assert json.loads(done.stdout) == _kernels.caches


@pytest.mark.every_kernel
def test_weights_that_are_far_give_the_bits_of_those_that_are_near():
    """A row alone asks for nothing ahead; among others, of weights beyond L2, it does."""
    if _kernels.current() == "blas":
        pytest.skip("BLAS's bits depend on the number of rows")
    for hidden_size in (400, 1030):
        lstm = LSTM(5, hidden_size, rng=0)
        x = np.random.default_rng(0).normal(size=(40, 2, 5)).astype("float32")
        y, _ = lstm(x)
        for n in (0, 17, 39):
            np.testing.assert_array_equal(lstm(x[n])[0], y[n])
