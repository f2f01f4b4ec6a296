"""Every kernel that this machine runs, side by side.

The whole suite runs under one kernel when it is named: ``LSTM_EXT_KERNEL=avx2 pytest``. Here is the
short version of that: each kernel against the reference, and each against each.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from harness import TOLERANCE, Case, assert_close, assert_same_run, run_layer, run_reference

from lstm_ext import _kernels

CASES = [
    Case(
        input_size=input_size,
        hidden_size=hidden_size,
        batch=batch,
        time=time,
        dtype=dtype,
        num_layers=2,
        bidirectional=True,
        cell_activation=cell_activation,
        lengths=(1, time, 0, time // 2)[:batch] + (time,) * (batch - 4) if batch > 3 else None,
    )
    for dtype in ("float32", "float64")
    for input_size, hidden_size, batch, time, cell_activation in (
        (1, 1, 1, 1, "tanh"),
        (3, 5, 4, 7, "identity"),
        (3, 16, 7, 5, "tanh"),
        (50, 17, 13, 4, "tanh"),
        (2, 20, 5, 9, "identity"),
        (17, 33, 6, 6, "tanh"),
        (8, 64, 12, 3, "tanh"),
        (3, 7, 1, 130, "tanh"),
        (3, 40, 130, 3, "tanh"),
        (390, 400, 9, 2, "tanh"),  # more than a piece of a panel, and weights beyond L2
    )
]


@pytest.fixture
def select():
    """Choose kernels in a test; the one in force before is put back."""
    before = _kernels.current()
    yield _kernels.select
    _kernels.select(before)


def test_names(select):
    names = _kernels.available()
    assert {"baseline", "blas"} <= set(names) <= {"avx512", "avx2", "baseline", "blas"}
    for name in names:
        select(name)
        assert _kernels.current() == name


@pytest.mark.parametrize("name", ["avx3", "", "AVX2", None, 3])
def test_unknown_kernel(name):
    before = _kernels.current()
    with pytest.raises((ValueError, TypeError), match=r"baseline.*blas"):
        _kernels.select(name)
    assert _kernels.current() == before


@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_agree(case, select):
    parameters, arrays = case.draw()
    expected = run_reference(case, parameters, arrays, case.lengths)
    for name in _kernels.available():
        select(name)
        run = run_layer(case.layer(parameters), arrays, case.lengths)
        assert_same_run(run, expected, TOLERANCE[case.dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_layer_survives_a_change_of_kernel(dtype, select):
    """A layer, its tape and its free workspaces, used under one kernel after another."""
    case = Case(num_layers=2, bidirectional=True, hidden_size=17, dtype=dtype, batch=7)
    parameters, arrays = case.draw()
    expected = run_reference(case, parameters, arrays)
    lstm = case.layer(parameters)
    tape = lstm.tape()
    for name in (*_kernels.available(), *reversed(_kernels.available())):
        select(name)
        assert_close(
            lstm(arrays["x"], (arrays["h_0"], arrays["c_0"]))[0], expected["y"], TOLERANCE[dtype]
        )
        assert_same_run(run_layer(lstm, arrays, tape=tape), expected, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_stream_survives_a_change_of_kernel(dtype, select):
    """What was packed for one kernel is not read by another."""
    case = Case(num_layers=2, hidden_size=17, dtype=dtype, batch=3, time=12)
    parameters, arrays = case.draw()
    lstm = case.layer(parameters)
    y, _ = lstm(arrays["x"])
    for made_under in _kernels.available():
        select(made_under)
        stream = lstm.stream(3)
        for t in range(case.time):
            select(_kernels.available()[t % len(_kernels.available())])
            assert_close(stream.step(arrays["x"][:, t]), y[:, t], TOLERANCE[dtype], f"step {t}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_packed_kernels_say_the_same_alone_and_in_a_batch(dtype, select):
    for name in _kernels.available():
        if name == "blas":
            continue
        select(name)
        for hidden_size in (5, 16, 33, 400):
            case = Case(
                hidden_size=hidden_size, num_layers=2, bidirectional=True, batch=23, dtype=dtype
            )
            parameters, arrays = case.draw()
            lstm = case.layer(parameters)
            y, _ = lstm(arrays["x"])
            for n in range(case.batch):
                np.testing.assert_array_equal(lstm(arrays["x"][n])[0], y[n])
            for size in range(2, 20):
                np.testing.assert_array_equal(lstm(arrays["x"][:size])[0], y[:size])


def run_python(program, **environment):
    return subprocess.run(
        [sys.executable, "-P", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
        check=False,
    )


@pytest.mark.parametrize("name", _kernels.available())
def test_environment_variable_forces_a_kernel(name):
    done = run_python(
        "from lstm_ext import _kernels; print(_kernels.current())", LSTM_EXT_KERNEL=name
    )
    assert (done.returncode, done.stdout.strip()) == (0, name), done.stderr


def test_environment_variable_with_an_unknown_name():
    done = run_python("import lstm_ext", LSTM_EXT_KERNEL="avx3")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    for word in ("ImportError", "LSTM_EXT_KERNEL", "avx3", "baseline", "blas"):
        assert word in last


def test_empty_environment_variable_is_none():
    done = run_python(
        "from lstm_ext import _kernels; print(_kernels.current())", LSTM_EXT_KERNEL=""
    )
    assert done.stdout.strip() == _kernels.available()[0], done.stderr
