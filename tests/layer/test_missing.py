"""Missing values: the policies "raise", "zero" and "hold", with and without the mask as inputs."""

import itertools

import numpy as np
import pytest

from lstm_ext import LSTM

pytestmark = pytest.mark.every_kernel

N, T, F = 3, 7, 2


def holes(rng):
    x = rng.normal(size=(N, T, F))
    x[rng.random(x.shape) < 0.4] = np.nan
    x[0, 0] = np.nan
    return x


def filled_by_hand(x, policy, nan_mask, counted):
    """Plain loops over sequences, features and time."""
    out, missing = np.zeros_like(x), np.zeros_like(x)
    for n, f in itertools.product(range(N), range(F)):
        last = 0.0
        for t in range(T):
            if not counted[n, t]:
                continue
            if np.isnan(x[n, t, f]):
                missing[n, t, f] = 1
                out[n, t, f] = last if policy == "hold" else 0
            else:
                out[n, t, f] = last = x[n, t, f]
    return np.concatenate([out, missing], axis=-1) if nan_mask else out


CASES = list(itertools.product(
    ("zero", "hold"), (False, True), (None, "lengths", "mask"),
    ({}, {"batch_first": False}, {"bidirectional": True}, {"peepholes": True, "num_layers": 2}),
))


@pytest.mark.parametrize(("policy", "nan_mask", "which", "extra"), CASES)
def test_policies(policy, nan_mask, which, extra):
    rng = np.random.default_rng(3)
    x = holes(rng)
    counted, words = np.ones((N, T), bool), {}
    if which == "lengths":
        lengths = np.array([T, 0, 4])
        counted, words = np.arange(T) < lengths[:, None], {"lengths": lengths}
    if which == "mask":
        counted = rng.random((N, T)) < 0.7
        words = {"mask": counted}
    lstm = LSTM(F, 4, nan=policy, nan_mask=nan_mask, dtype="float64", rng=1, **extra)
    plain = LSTM(F * (1 + nan_mask), 4, dtype="float64", **extra)
    plain.parameters = lstm.parameters
    turn = (lambda a: a) if lstm.batch_first else (lambda a: np.ascontiguousarray(a.swapaxes(0, 1)))

    tape, other = lstm.tape(), plain.tape()
    y, state = lstm.forward(turn(x), tape=tape, **words)
    expected, states = plain.forward(turn(filled_by_hand(x, policy, nan_mask, counted)), tape=other, **words)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(state[1], states[1])

    # The gradient: that of a function of what is not missing.
    dy = rng.normal(size=y.shape)
    dx, _ = lstm.backward(tape, dy)
    assert dx.shape == turn(x).shape
    assert not dx[np.isnan(turn(x)) | ~turn(counted[..., None] & np.ones(F, bool))].any()
    np.testing.assert_array_equal(lstm.gradient, plain_gradient(plain, other, dy))
    direction = turn(rng.normal(size=x.shape))
    step = 1e-6
    plus, minus = (np.sum(dy * lstm(turn(x) + s * direction, **words)[0]) for s in (step, -step))
    difference = (plus - minus) / (2 * step)
    assert difference == pytest.approx(np.sum(dx * direction), rel=1e-6, abs=1e-9)

    (y_again, _), (y_dot, _) = lstm.jvp(turn(x), direction, **words)
    np.testing.assert_allclose(y_again, y, rtol=0, atol=1e-14)
    assert np.sum(dy * y_dot) == pytest.approx(np.sum(dx * direction), rel=1e-10, abs=1e-13)


def plain_gradient(plain, tape, dy):
    plain.gradient = 0
    plain.backward(tape, dy)
    return plain.gradient


@pytest.mark.parametrize("policy", ["zero", "hold"])
@pytest.mark.parametrize("nan_mask", [False, True])
@pytest.mark.parametrize("extra", [{}, {"peepholes": True}])
def test_stream(policy, nan_mask, extra):
    x = holes(np.random.default_rng(5)).astype("float32")
    lstm = LSTM(F, 4, 2, nan=policy, nan_mask=nan_mask, rng=1, **extra)
    y, _ = lstm(x)
    stream = lstm.stream(N)
    for _ in range(2):  # the second time from a reset: nothing is held over it
        steps = np.stack([stream.step(x[:, t]) for t in range(T)], axis=1)
        np.testing.assert_array_equal(steps, y)
        stream.reset()


def test_one_sequence():
    x = holes(np.random.default_rng(5))
    lstm = LSTM(F, 4, nan="hold", nan_mask=True, dtype="float64", rng=1)
    tape = lstm.tape()
    y, _ = lstm.forward(x[0], tape=tape)
    np.testing.assert_array_equal(y, lstm(x)[0][0])
    assert lstm.backward(tape, y)[0].shape == (T, F)
    stream = lstm.stream()
    np.testing.assert_array_equal([stream.step(x[0, t]) for t in range(T)], y)


def test_raise():
    x = np.zeros((N, T, F))
    x[1, 4, 1] = np.nan
    lstm = LSTM(F, 4, nan="raise", rng=1)
    with pytest.raises(ValueError, match=r"x holds 1 NaN, the first at \[1, 4, 1\]; expected none"):
        lstm(x)
    lstm(x, lengths=[7, 4, 7])  # beyond the length nobody looks
    with pytest.raises(ValueError, match="x_t holds 1 NaN"):
        lstm.stream(N).step(x[:, 4])


def test_no_policy_spoils_its_own_sequence_alone():
    x = np.zeros((N, T, F))
    x[1, 4, 1] = np.nan
    y, _ = LSTM(F, 4, rng=1)(x)
    assert np.isnan(y[1, 4:]).all()
    assert np.isfinite(np.delete(y, 1, axis=0)).all()


def test_mistakes():
    with pytest.raises(ValueError, match="nan is 'drop'; expected None, 'raise', 'zero' or 'hold'"):
        LSTM(F, 4, nan="drop")
    with pytest.raises(ValueError, match="nan_mask is True and nan is None"):
        LSTM(F, 4, nan_mask=True)
    lstm = LSTM(F, 4, nan="hold")
    with pytest.raises(ValueError, match="x has 3 features, this LSTM takes 2"):
        lstm(np.zeros((N, T, 3)))
    with pytest.raises(ValueError, match="x has 1 dimensions"):
        lstm(np.zeros(3))
    with pytest.raises(ValueError, match="x_t has shape"):
        lstm.stream().step(np.zeros(3))
