"""Attributions: against central differences, and against what the papers promise of them."""

import numpy as np
import pytest

from lstm_ext import LSTM, Model
from lstm_ext.attribution import gradient_times_input, integrated_gradients, output_difference

N, T, I, H = 3, 6, 2, 5  # noqa: E741

FAMILY = {
    "default": {},
    "two layers": {"num_layers": 2},
    "bidirectional": {"bidirectional": True},
    "peepholes, projected": {"peepholes": True, "proj_size": 3},
    "layer norm": {"layer_norm": True},
}


def make(every_step=False, outputs=2, **options):
    model = Model(
        LSTM(I, H, dtype="float64", rng=1, **options), outputs, every_step=every_step, rng=2
    )
    model.parameters = 1.5 * model.parameters  # away from the linear range
    return model


@pytest.fixture
def x():
    return 1.5 * np.random.default_rng(3).normal(size=(N, T, I))


def differences(f, x, eps=1e-6):
    """Central differences of f (N,) with respect to every element of x (N, T, I)."""
    gradient = np.empty(x.shape)
    for t, i in np.ndindex(x.shape[1:]):
        step = np.zeros(x.shape)
        step[:, t, i] = eps
        gradient[:, t, i] = (f(x + step) - f(x - step)) / (2 * eps)
    return gradient


def close(actual, desired):
    np.testing.assert_allclose(actual, desired, rtol=1e-7, atol=1e-9)


# Against central differences


@pytest.mark.parametrize("options", FAMILY.values(), ids=list(FAMILY))
@pytest.mark.parametrize("output", [0, 1])
def test_gradient_times_input_is_that_of_central_differences(x, options, output):
    model, b = make(**options), np.array([0.3, -0.2])
    expected = (x - b) * differences(lambda x: model.predict(x)[:, output], x)
    close(gradient_times_input(model, x, output, baseline=b), expected)


@pytest.mark.parametrize("step", [None, 0, 3, -1])
def test_an_output_of_one_step(x, step):
    model, lengths = make(every_step=True), np.array([6, 4, 5])
    at = lengths - 1 if step is None else np.full(N, step % T)
    words = {"lengths": lengths}
    expected = x * differences(lambda x: model.predict(x, **words)[np.arange(N), at, 1], x)
    close(gradient_times_input(model, x, 1, step=step, **words), expected)


def test_integrated_gradients_are_the_integral_of_central_differences(x):
    """The paper's own sum, equation 3, by midpoints instead of right ends."""
    model, b, m = make(), np.full((T, I), 0.1), 400
    total = np.zeros(x.shape)
    for k in range(m):
        point = b + (k + 0.5) / m * (x - b)
        total += differences(lambda x: model.predict(x)[:, 1], point) / m
    actual = integrated_gradients(model, x, 1, baseline=b)
    np.testing.assert_allclose(actual, (x - b) * total, rtol=0, atol=1e-5)


# What integrated gradients promise


def completeness(model, x, output=0, baseline=0, **words):
    """f(x) - f(baseline) of the last output that counts, (N,)."""
    change = model.predict(x, **words) - model.predict(baseline + np.zeros_like(x), **words)
    return change[:, output]


@pytest.mark.parametrize("options", FAMILY.values(), ids=list(FAMILY))
def test_they_add_up_to_the_change_of_the_output(x, options):
    model = make(**options)
    # Layer normalisation is steep around 0: there a short way.
    for b in (0.9 * x,) if model.lstm.layer_norm else (0, np.array([2, -1]), x[::-1]):
        a = integrated_gradients(model, x, 1, baseline=b, points=100)
        np.testing.assert_allclose(a.sum((1, 2)), completeness(model, x, 1, b), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("step", [None, 2])
def test_the_difference_of_outputs_is_that_of_predictions(x, step):
    model, lengths = make(every_step=True), np.array([6, 3, 5])
    at = lengths - 1 if step is None else step
    words = {"lengths": lengths}
    change = model.predict(x, **words) - model.predict(np.full_like(x, 0.2), **words)
    actual = output_difference(model, x, 1, step=step, baseline=0.2, **words)
    np.testing.assert_allclose(actual, change[np.arange(N), at, 1], rtol=1e-12)
    a = integrated_gradients(model, x, 1, step=step, baseline=0.2, points=100, **words)
    np.testing.assert_allclose(a.sum((1, 2)), actual, rtol=1e-7)


def test_gradient_times_input_does_not_add_up(x):
    """Else the test above would say nothing."""
    model = make()
    gap = gradient_times_input(model, x).sum((1, 2)) - completeness(model, x)
    assert np.abs(gap).min() > 1e-3


def test_more_points_bring_completeness_closer(x):
    model = make()
    gaps = [
        np.abs(integrated_gradients(model, x, points=p).sum((1, 2)) - completeness(model, x)).max()
        for p in (2, 4, 8, 16)
    ]
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < 1e-4 * gaps[0]


def test_an_input_without_influence_has_no_part():
    """The paper's axiom: a variable that f does not depend on gets 0."""
    model = make()
    model.lstm["weight_ih_l0"][:, 1] = 0
    x = np.random.default_rng(0).normal(size=(N, T, I))
    a = integrated_gradients(model, x)
    assert (a[..., 1] == 0).all() and (a[..., 0] != 0).all()


def test_points_share_passes_and_change_nothing():
    """Few sequences run with several points in a pass; 70 do not."""
    model = make()
    x = np.random.default_rng(0).normal(size=(70, T, I))
    whole = integrated_gradients(model, x, points=5)
    alone = np.concatenate([integrated_gradients(model, row[None], points=5) for row in x])
    np.testing.assert_allclose(whole, alone, rtol=1e-12, atol=1e-15)


# Steps and values that do not count


@pytest.mark.parametrize("every_step", [False, True])
def test_what_lies_beyond_a_length_is_not_read(x, every_step):
    model, lengths = make(every_step=every_step), np.array([6, 0, 4])
    spoiled = x.copy()
    spoiled[1], spoiled[2, 4:] = np.nan, np.inf
    for method in (gradient_times_input, integrated_gradients):
        a = method(model, spoiled, lengths=lengths)
        np.testing.assert_array_equal(a, method(model, x, lengths=lengths))
        assert (a[1] == 0).all() and (a[2, 4:] == 0).all() and (a[2, :4] != 0).all()


def test_a_mask_is_a_shorter_sequence(x):
    model, mask = make(every_step=True), np.ones((N, T), bool)
    mask[:, [1, 5]] = False
    a = integrated_gradients(model, x, mask=mask)
    short = integrated_gradients(model, x[:, [0, 2, 3, 4]])
    np.testing.assert_allclose(a[:, [0, 2, 3, 4]], short, rtol=1e-12)
    assert (a[:, [1, 5]] == 0).all()


@pytest.mark.parametrize("policy", ["zero", "hold"])
def test_a_missing_value_has_no_part_and_the_others_still_add_up(x, policy):
    model = make(nan=policy)
    x[0, 2, 1] = x[1, 0] = np.nan
    a = integrated_gradients(model, x, points=64)
    assert (a[np.isnan(x)] == 0).all() and np.isfinite(a).all()
    nothing = np.where(np.isnan(x), np.nan, 0)
    change = (model.predict(x) - model.predict(nothing))[:, 0]
    np.testing.assert_allclose(a.sum((1, 2)), change, rtol=1e-7)
    np.testing.assert_allclose(output_difference(model, x), change, rtol=1e-12)


def test_static_inputs_are_held_fixed(x):
    model = make(static_size=2)
    static = np.random.default_rng(0).normal(size=(N, 2))
    a = integrated_gradients(model, x, static=static, points=64)
    expected = completeness(model, x, static=static)
    np.testing.assert_allclose(a.sum((1, 2)), expected, rtol=1e-7)


# The model and the arrays


def test_the_model_is_not_changed(x):
    model = make()
    model.loss_and_gradient(x, np.zeros((N, 2)))
    before = model.gradient.copy(), model.parameters.copy(), x.copy()
    gradient_times_input(model, x)
    integrated_gradients(model, x)
    for old, new in zip(before, (model.gradient, model.parameters, x), strict=True):
        np.testing.assert_array_equal(old, new)


def test_float32_is_close_to_float64(x):
    model = make()
    single = Model(LSTM(I, H, rng=1), 2, rng=2)
    single.parameters = model.parameters
    a = integrated_gradients(single, x)
    assert a.dtype == np.float32
    np.testing.assert_allclose(a, integrated_gradients(model, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, T, I), (N, 0, I)])
@pytest.mark.parametrize("every_step", [False, True])
def test_empty_batches_and_sequences(shape, every_step):
    model = make(every_step=every_step)
    assert integrated_gradients(model, np.empty(shape)).shape == shape
    assert gradient_times_input(model, np.empty(shape)).shape == shape
    assert (output_difference(model, np.empty(shape)) == np.zeros(shape[0])).all()


@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (TypeError, "model is LSTM; expected an lstm_ext.Model or a fitted estimator", {"model": LSTM(I, H)}),
        (ValueError, "x has 3 features; expected 2", {"x": np.zeros((1, 2, 3))}),
        (ValueError, "output is 2; expected an integer from -2 to 1", {"output": 2}),
        (TypeError, "output is 'a'; expected an integer", {"output": "a"}),
        (ValueError, "step is 1, and this model has one output for all steps", {"step": 1}),
        (ValueError, r"baseline has shape \(3,\); expected \(3, 6, 2\)", {"baseline": np.zeros(3)}),
        (ValueError, "baseline holds NaN or inf", {"baseline": np.nan}),
        (TypeError, "points is 1.5; expected an integer", {"points": 1.5}),
        (ValueError, "points is 0; expected 1 or more", {"points": 0}),
        (ValueError, r"lengths have shape \(1,\)", {"lengths": [1]}),
    ],
)
def test_bad_input_gets_a_sentence(x, error, words, change):
    with pytest.raises(error, match=words):
        integrated_gradients(**{"model": make(), "x": x, **change})


def test_a_step_beyond_the_sequence_gets_a_sentence(x):
    with pytest.raises(ValueError, match="step is 6; expected an integer from -6 to 5"):
        integrated_gradients(make(every_step=True), x, step=6)
