"""Threads: one model used from many, and the same bits for any number."""

import threading

import numpy as np
import pytest
from harness import Case, run_layer
from zoo import refuses

import lstm_ext
from lstm_ext import LSTM

pytestmark = pytest.mark.every_kernel

# More sequences than fit a block, so that there is something to divide; ragged and not.
CASES = [
    Case(input_size=3, hidden_size=17, batch=100, time=12, dtype="float32"),
    Case(
        input_size=5,
        hidden_size=20,
        num_layers=2,
        bidirectional=True,
        batch=77,
        time=15,
        lengths=tuple(int(n) for n in np.random.default_rng(0).integers(0, 16, 77)),
    ),
    Case(
        input_size=2,
        hidden_size=8,
        batch=500,
        time=5,
        dtype="float32",
        lengths=tuple(int(n) for n in np.random.default_rng(1).integers(0, 6, 500)),
    ),
    Case(input_size=8, hidden_size=33, batch=1, time=50),
]


@pytest.fixture(autouse=True)
def _restore_threads():
    before = lstm_ext.get_num_threads()
    yield
    lstm_ext.set_num_threads(before)


def assert_identical(run, expected):
    for name, value in expected.items():
        np.testing.assert_array_equal(run[name], value, err_msg=name)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("checkpoint", [None, 4])
def test_same_bits_for_any_number_of_threads(case, checkpoint):
    parameters, arrays = case.draw()
    lstm = case.layer(parameters, checkpoint=checkpoint)
    lstm_ext.set_num_threads(1)
    expected = run_layer(lstm, arrays, case.lengths)
    state = arrays["h_0"], arrays["c_0"]
    y, _ = lstm(arrays["x"], state, lengths=case.lengths)
    for threads in (2, 3, 4, 16, 1):
        lstm_ext.set_num_threads(threads)
        assert lstm_ext.get_num_threads() == threads
        for _ in range(3):
            assert_identical(run_layer(lstm, arrays, case.lengths), expected)
        np.testing.assert_array_equal(lstm(arrays["x"], state, lengths=case.lengths)[0], y)


@pytest.mark.parametrize("threads", [1, 2])
def test_one_model_from_eight_threads(threads):
    """Each with its own tape: forward, inference and streams run at once.

    `gradient` is shared, so backward is serial here (and in the next test each has its own layer).
    """
    lstm_ext.set_num_threads(threads)
    case = Case(input_size=3, hidden_size=17, num_layers=2, bidirectional=True, batch=9, time=12)
    parameters, _ = case.draw()
    lstm = case.layer(parameters)
    inputs = [case.draw(seed)[1] for seed in range(8)]
    expected = [run_layer(lstm, a) for a in inputs]
    results, failures = [None] * 8, []
    start = threading.Barrier(8)

    def work(k):
        try:
            a = inputs[k]
            tape = lstm.tape()
            start.wait(timeout=30)
            for _ in range(20):
                y, (h_n, c_n) = lstm.forward(a["x"], (a["h_0"], a["c_0"]), tape=tape)
                plain, _ = lstm(a["x"], (a["h_0"], a["c_0"]))
                np.testing.assert_array_equal(y, expected[k]["y"])
                np.testing.assert_array_equal(plain, expected[k]["y"])
                np.testing.assert_array_equal(h_n, expected[k]["h_n"])
                np.testing.assert_array_equal(c_n, expected[k]["c_n"])
            results[k] = tape
        except BaseException as failure:
            failures.append(failure)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive()
    if failures:
        raise failures[0]
    for k, tape in enumerate(results):
        lstm.gradient[:] = 0
        a = inputs[k]
        dx, (dh_0, dc_0) = lstm.backward(tape, a["dy"], (a["dh_n"], a["dc_n"]))
        for name, value in (("dx", dx), ("dh_0", dh_0), ("dc_0", dc_0)):
            np.testing.assert_array_equal(value, expected[k][name])
        for name, value in lstm.named_gradients().items():
            np.testing.assert_array_equal(value, expected[k][name])


def test_backward_from_eight_threads():
    """Backward on one model at once: each dx is right, and no addition to `gradient` is lost."""
    # Short sequences and many weights: most of the time goes into adding to `gradient`.
    case = Case(input_size=40, hidden_size=80, num_layers=2, batch=2, time=2)
    parameters, _ = case.draw()
    lstm = case.layer(parameters)
    inputs = [case.draw(seed)[1] for seed in range(8)]
    expected = [run_layer(lstm, a) for a in inputs]
    total = sum(np.concatenate([run[name].ravel() for name in parameters]) for run in expected)
    lstm.gradient[:] = 0
    failures = []
    start = threading.Barrier(8)

    def work(k):
        try:
            a = inputs[k]
            tape = lstm.tape()
            start.wait(timeout=30)
            for _ in range(50):
                lstm.forward(a["x"], (a["h_0"], a["c_0"]), tape=tape)
                dx, dstate = lstm.backward(tape, a["dy"], (a["dh_n"], a["dc_n"]))
                np.testing.assert_array_equal(dx, expected[k]["dx"])
                np.testing.assert_array_equal(dstate[0], expected[k]["dh_0"])
        except BaseException as failure:
            failures.append(failure)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive()
    if failures:
        raise failures[0]
    np.testing.assert_allclose(lstm.gradient, 50 * total, rtol=1e-9, atol=1e-9)


def test_streams_of_one_model_from_eight_threads():
    lstm = LSTM(3, 17, 2, rng=0)
    xs = np.random.default_rng(0).standard_normal((8, 200, 3)).astype("float32")
    expected = []
    for x in xs:
        stream = lstm.stream()
        expected.append([stream.step(x_t) for x_t in x])
    results = [None] * 8

    def work(k):
        stream = lstm.stream()
        results[k] = [stream.step(x_t) for x_t in xs[k]]

    workers = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    np.testing.assert_array_equal(results, expected)


@pytest.mark.parametrize("value", [0, -1, 2.5, "2", (2,), 2**31, 2**70])
def test_wrong_number_of_threads(value):
    before = lstm_ext.get_num_threads()
    refuses(lambda: lstm_ext.set_num_threads(value), "n")
    assert lstm_ext.get_num_threads() == before


def test_default_number_of_threads_follows_the_cpus_at_hand():
    import os
    import subprocess
    import sys

    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no CPU affinity")
    program = (
        "import os\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import lstm_ext; print(lstm_ext.get_num_threads())"
    )
    environment = {k: v for k, v in os.environ.items() if "NUM_THREADS" not in k}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=environment,
    )
    assert done.stdout.split() == ["1"]
