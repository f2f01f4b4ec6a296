"""Records and outputs of many megabytes are written past the caches: the numbers are those of small ones."""

import numpy as np
import pytest

from lstm_ext import LSTM, _kernels


@pytest.mark.every_kernel
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden_size", [32, 35])
@pytest.mark.parametrize("lengths", [False, True])
def test_a_large_batch_has_the_numbers_of_its_sequences(dtype, hidden_size, lengths):
    """Gates of 40 to 80 MB, outputs of 10 to 20: more than most caches hold."""
    N, T, I = 96, 1700, 3  # noqa: E741
    rng = np.random.default_rng(0)
    lstm = LSTM(I, hidden_size, dtype=dtype, rng=0)
    x = rng.normal(size=(N, T, I)).astype(dtype)
    ends = rng.integers(0, T + 1, size=N) if lengths else np.full(N, T)
    dy = rng.normal(size=(N, T, hidden_size)).astype(dtype)
    for n in range(N):
        dy[n, ends[n] :] = 0
    tape = lstm.tape()
    y, _ = lstm.forward(x, lengths=ends, tape=tape)
    dx, _ = lstm.backward(tape, dy)
    few = np.array([0, 1, 50, 95])
    small = lstm.tape()
    want, _ = lstm.forward(x[few], lengths=ends[few], tape=small)
    want_dx, _ = lstm.backward(small, dy[few])
    tolerance = dict(rtol=0, atol=2e-6 if dtype == "float32" else 1e-14)
    np.testing.assert_allclose(y[few], want, **tolerance)
    np.testing.assert_allclose(dx[few], want_dx, **tolerance)
    if _kernels.current() != "blas":  # whose bits depend on the number of rows
        np.testing.assert_array_equal(y[few], want)
