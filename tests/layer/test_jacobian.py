"""Jacobians: both modes, against jvp, against central differences, and against each other."""

import numpy as np
import pytest

from lstm_ext import LSTM, _jacobian

pytestmark = pytest.mark.every_kernel

N, T, F, H, S = 3, 5, 2, 4, 3
OUTPUTS, INPUTS = ("y", "h_n", "c_n"), ("x", "h_0", "c_0")
CONFIGURATIONS = [
    {},
    {"num_layers": 2},
    {"bidirectional": True, "num_layers": 2},
    {"reverse": True},
    {"batch_first": False},
    {"proj_size": 3, "num_layers": 2, "peepholes": True},
    {"learn_state": True},
    {"static_size": S},
    {"static_size": S, "entity_aware": True},
    {"layer_norm": True, "recurrent_dropout": 0.3, "zoneout": (0.1, 0.2)},
    {"nan": "hold"},
    {"nan": "zero", "nan_mask": True, "bidirectional": True},
]


def problem(options, which, unbatched=False):
    rng = np.random.default_rng(0)
    lstm = LSTM(F, H, dtype="float64", rng=1, **options)
    lstm.parameters = rng.normal(size=lstm.parameters.size) / 2
    x = rng.normal(size=(T, F) if unbatched else (N, T, F) if lstm.batch_first else (T, N, F))
    if lstm.nan:
        x[rng.random(x.shape) < 0.3] = np.nan
    words = {}
    if which == "lengths":
        words["lengths"] = np.array([T]) if unbatched else np.array([T, 0, 3])
    if which == "mask":
        words["mask"] = rng.random((1 if unbatched else N, T)) < 0.6
    if lstm.static_size:
        words["static"] = rng.normal(size=(1 if unbatched else N, S))
    state = None
    if not lstm.learn_state:
        layers, batch = len(lstm._passes.suffixes), () if unbatched else (N,)
        state = tuple(
            rng.normal(size=(layers, *batch, width)) / 2 for width in (lstm.proj_size or H, H)
        )
    return lstm, x, state, words


def batch_first(lstm, array, unbatched=False):
    return array if lstm.batch_first or unbatched else array.swapaxes(0, 1)


def differences(lstm, x, state, words, step=1e-6):
    """Central differences, input by input and sequence by sequence at once, as {(of, wrt): J}."""
    if state is None:
        state = lstm._passes.learned_state(lstm.parameters, N, False)
    found = {}
    for name in (*INPUTS, *(["static"] if lstm.static_size else [])):
        given = {"x": batch_first(lstm, x), "h_0": np.moveaxis(state[0], 1, 0),
                 "c_0": np.moveaxis(state[1], 1, 0), "static": words.get("static")}
        columns = {word: [] for word in OUTPUTS}
        for j in np.ndindex(given[name].shape[1:]):
            results = []
            for sign in (1, -1):
                moved = {k: None if v is None else v.copy() for k, v in given.items()}
                moved[name][(slice(None), *j)] += sign * step
                more = {**words, "static": moved["static"]} if lstm.static_size else words
                y, (h, c) = lstm(
                    np.ascontiguousarray(batch_first(lstm, moved["x"])),
                    (np.moveaxis(moved["h_0"], 0, 1), np.moveaxis(moved["c_0"], 0, 1)), **more,
                )
                results.append({"y": batch_first(lstm, y), "h_n": np.moveaxis(h, 1, 0),
                                "c_n": np.moveaxis(c, 1, 0)})
            for word in OUTPUTS:
                columns[word].append((results[0][word] - results[1][word]) / (2 * step))
        for word in OUTPUTS:
            stacked = np.stack(columns[word], axis=-1)
            found[word, name] = stacked.reshape(*stacked.shape[:-1], *given[name].shape[1:])
    return found


@pytest.mark.parametrize("which", [None, "lengths", "mask"])
@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
def test_both_modes_are_the_derivative(options, which, monkeypatch):
    monkeypatch.setattr(_jacobian, "BUDGET", 5000)  # several calls, the last of them smaller
    lstm, x, state, words = problem(options, which)
    expected = differences(lstm, x, state, words)
    inputs = tuple(dict.fromkeys(name for _, name in expected))
    lstm.gradient = 3
    for mode in ("forward", "reverse"):
        found = lstm.jacobian(x, state, of=OUTPUTS, wrt=inputs, mode=mode, **words)
        assert found.keys() == expected.keys()
        for key, values in expected.items():
            np.testing.assert_allclose(found[key], values, rtol=1e-6, atol=1e-8, err_msg=f"{mode} {key}")
            assert found[key].any() == values.any()
    assert (lstm.gradient == 3).all()


@pytest.mark.parametrize("options", CONFIGURATIONS[:6], ids=str)
def test_columns_are_jvp(options):
    lstm, x, state, words = problem(options, None)
    rng = np.random.default_rng(2)
    for mode in ("forward", "reverse"):
        J = lstm.jacobian(x, state, of=("y", "c_n"), wrt=("x", "h_0"), mode=mode, **words)
        dx, dh = rng.normal(size=x.shape), rng.normal(size=state[0].shape)
        _, (y_dot, (_, c_dot)) = lstm.jvp(x, dx, state, (dh, None), **words)
        dx, dh = batch_first(lstm, dx), np.moveaxis(dh, 1, 0)
        np.testing.assert_allclose(
            batch_first(lstm, y_dot),
            np.einsum("ntpsi,nsi->ntp", J["y", "x"], dx) + np.einsum("ntplq,nlq->ntp", J["y", "h_0"], dh),
            rtol=1e-11, atol=1e-13,
        )
        np.testing.assert_allclose(
            np.moveaxis(c_dot, 1, 0),
            np.einsum("nlpsi,nsi->nlp", J["c_n", "x"], dx) + np.einsum("nlpkq,nkq->nlp", J["c_n", "h_0"], dh),
            rtol=1e-11, atol=1e-13,
        )


@pytest.mark.parametrize(
    "options", [{}, {"static_size": S, "num_layers": 2}, {"batch_first": False}], ids=str
)
def test_one_sequence(options):
    lstm, x, state, words = problem(options, "lengths", unbatched=True)
    whole = LSTM(F, H, dtype="float64", **{**options, "batch_first": True})
    whole.parameters = lstm.parameters
    for mode in ("forward", "reverse", None):
        J = lstm.jacobian(x, state, mode=mode, **words)
        assert J.shape == (T, H, T, F)
        batch = whole.jacobian(x[None], tuple(part[:, None] for part in state), **words)
        np.testing.assert_allclose(J, batch[0], rtol=0, atol=1e-14)


def test_causality():
    lstm, x, state, _ = problem({"num_layers": 2}, None)
    J = lstm.jacobian(x, state, mode="reverse")
    for t in range(T):
        assert not J[:, t, :, t + 1 :].any()
        assert J[:, t, :, : t + 1].any(axis=(1, 3)).all()


@pytest.mark.parametrize(("n", "t"), [(0, 3), (2, 0)])
def test_nothing(n, t):
    lstm = LSTM(F, H, rng=0)
    for mode in ("forward", "reverse", None):
        assert lstm.jacobian(np.zeros((n, t, F)), mode=mode).shape == (n, t, H, t, F)
        J = lstm.jacobian(np.zeros((n, t, F)), of="c_n", wrt="c_0", mode=mode)
        np.testing.assert_array_equal(J, np.broadcast_to(np.eye(H), (n, H, H)).reshape(n, 1, H, 1, H))


def test_float32():
    lstm, x, state, _ = problem({}, None)
    small = LSTM(F, H)
    small.parameters = lstm.parameters
    J = small.jacobian(x, state)
    assert J.dtype == np.float32
    np.testing.assert_allclose(J, lstm.jacobian(x, state), rtol=1e-4, atol=1e-6)


def test_mistakes():
    lstm = LSTM(F, H)
    x = np.zeros((N, T, F))
    with pytest.raises(ValueError, match="of is 'h'; expected one or several of y, h_n, c_n"):
        lstm.jacobian(x, of="h")
    with pytest.raises(ValueError, match="wrt is 'weights'; expected one or several of x, h_0, c_0, static"):
        lstm.jacobian(x, wrt=("x", "weights"))
    with pytest.raises(ValueError, match="wrt is empty"):
        lstm.jacobian(x, wrt=())
    with pytest.raises(ValueError, match="wrt is 'static', and this LSTM takes no static"):
        lstm.jacobian(x, wrt="static")
    with pytest.raises(ValueError, match="mode is 'both'"):
        lstm.jacobian(x, mode="both")
    with pytest.raises(ValueError, match="x has 1 features"):
        lstm.jacobian(x[..., :1])
