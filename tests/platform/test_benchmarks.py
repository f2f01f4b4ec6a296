"""The benchmarks run, and refuse to time what is not the same."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytestmark = pytest.mark.needs_source

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_a_quick_run_measures_every_section(tmp_path):
    file = tmp_path / "results.json"
    command = [sys.executable, BENCHMARKS / "compare.py", "--quick", "--peers", "--json", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    results = json.loads(file.read_text())

    timed = set(results["options"]["sections"]) - {"memory"}
    assert {row["section"] for row in results["rows"]} == timed
    for row in results["rows"]:
        assert f"\n## {row['section']}\n" in done.stdout
        assert list(row["entries"]) == row["labels"]
        for entry in row["entries"].values():
            low, high = entry["quartiles"]
            assert 0 < low <= entry["seconds"] <= high < 10
            if row["section"] != "node":
                assert entry["flop_rate"] == pytest.approx(entry["flops"] / entry["seconds"])
        if shutil.which("cc") and row["section"] != "node":
            assert 1e9 < row["rates"]["multiply-add"] < 1e12
            assert 0 < row["least_seconds"] < math.inf
    if sys.platform == "linux":
        assert all(row["bytes"] >= 0 for row in results["memory"])


def test_the_overhead_of_fit_is_over_the_same_steps():
    """The loop written out does what `fit` does, so that the two may be compared."""
    from fit_overhead import bare_loop, measure

    from lstm_ext import LSTM, SGD, Model

    rng = np.random.default_rng(0)
    for every_step in (False, True):
        x = rng.normal(size=(8, 5, 3))
        y = rng.normal(size=(8, 5, 2) if every_step else (8, 2))
        bare, fitted = (
            Model(LSTM(3, 4, dtype="float64", rng=0), 2, every_step=every_step, rng=0) for _ in range(2)
        )
        loss = bare_loop(bare, x, y, 3, SGD(0.1))
        history = fitted.fit(x, y, epochs=3, batch_size=8, optimizer=SGD(0.1), rng=0)
        assert loss == pytest.approx(history[-1]["loss"], rel=1e-12)
        np.testing.assert_allclose(bare.parameters, fitted.parameters, rtol=1e-11, atol=1e-13)
    seconds, times = measure(False, 0.01, batch=2, steps=3, inputs=2, hidden=4, batches=2)
    assert set(seconds) == {"bare loop", "fit"} and min(seconds.values()) > 0
    assert all(len(t.samples) >= 5 for t in times.values())


def test_different_results_are_not_timed():
    from problem import Problem
    from worker import check

    entry = SimpleNamespace(label="one", problem=Problem(3, 2, 4, 5, dtype="float64"), tolerance=None)
    y = np.linspace(-1, 1, 30).reshape(2, 3, 5)
    expected = {}
    check(entry, (y, y[0]), expected)
    check(entry, (y + 1e-12, y[0]), expected)
    with pytest.raises(AssertionError, match=r"array 1 differ, relative error 1\.0e-09"):
        check(entry, (y, y[0] + 1e-9), expected)
    with pytest.raises(AssertionError, match="array 0 differ"):
        check(entry, (np.where(y > 0.9, np.nan, y), y[0]), expected)
    with pytest.raises(AssertionError, match=r"\(2, 3, 5\)"):
        check(entry, (y[:1], y[0]), expected)


def test_flops_and_lengths():
    from problem import Problem

    dense = Problem(100, 32, 12, 64)
    assert dense.flops("inference") == 2 * 100 * 32 * (12 + 64) * 4 * 64
    assert dense.flops("training") == 3 * dense.flops("inference")
    ragged = Problem(100, 32, 12, 64, ragged=True)
    assert ragged.lengths.max() == 100
    assert 0.5 < ragged.lengths.mean() / 100 < 0.65
    assert ragged.mask.sum() == ragged.lengths.sum()
    ratio = ragged.flops("training") / dense.flops("training")
    assert ratio == pytest.approx(ragged.lengths.mean() / 100)


def test_silent_data_are_subnormal():
    from problem import Problem

    x = Problem(1000, 2, 3, 4, silent=True).x
    tail = np.abs(x[:, 300:])
    assert 0 < tail.max() < np.finfo("float32").tiny
    assert np.abs(x[:, 0]).max() > 0.1


@needs_compiler
@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_chain_of_the_limit_stands_for_another(tmp_path, dtype, vector_bytes):
    """Each chain starts from a value known at run time alone and must end where that leads."""
    from limits import CHAINS, NoCompiler, compile_loops

    try:
        library = compile_loops(tmp_path, dtype, vector_bytes)
    except NoCompiler:
        if vector_bytes == 16:
            raise
        pytest.skip("wider than a register of this CPU")
    seed = np.random.default_rng(0).uniform(-1, 1, CHAINS).astype(dtype)
    out = np.empty_like(seed)
    steps = 5
    flops = library.multiply_add(steps, 0.5, 0.25, seed.ctypes.data, out.ctypes.data)
    np.testing.assert_allclose(out, 0.5 + (seed - 0.5) * 0.5**steps, rtol=1e-6)
    assert flops == 2 * steps * CHAINS * vector_bytes / seed.itemsize


def test_contestants_take_turns():
    from race import race

    order = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    times = race(calls, seconds=0, fewest=4, most=4)
    assert all(len(t.samples) == 4 for t in times.values())
    turns = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    # 3 to warm up; then 4 rounds of 3, of which two may meet at a seam
    assert 3 + 4 * 3 - 4 <= len(turns) <= 3 + 4 * 3
