"""Losses: values by hand, gradients by central differences, both against PyTorch."""

import numpy as np
import pytest
from loss_examples import EACH, example

from lstm_ext.losses import (
    LOSSES,
    CrossEntropy,
    GaussianNLL,
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    NashSutcliffe,
    Poisson,
    Quantile,
)

DTYPES = ["float32", "float64"]
WEIGHTS = ["none", "mask", "numbers"]
KINDS = [(loss, how) for loss in EACH for how in WEIGHTS]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")


def test_mean_squared_error_by_hand():
    loss = MeanSquaredError()
    prediction = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    target = np.array([[1.0, 0.0], [0.0, 4.0], [5.0, 5.0]])
    value, gradient = loss.value_and_gradient(prediction, target)
    assert value == pytest.approx((4 + 9 + 1) / 6)
    np.testing.assert_allclose(gradient, np.array([[0, 2], [3, 0], [0, 1]]) * 2 / 6)
    value, gradient = loss.value_and_gradient(prediction, target, [True, False, True])
    assert value == pytest.approx((4 + 1) / 4)
    np.testing.assert_allclose(gradient, np.array([[0, 2], [0, 0], [0, 1]]) * 2 / 4)


def test_cross_entropy_by_hand():
    loss = CrossEntropy()
    # softmax = (1/2, 1/4, 1/4) and (1/8, 3/4, 1/8)
    prediction = np.log([[2.0, 1.0, 1.0], [1.0, 6.0, 1.0]])
    value, gradient = loss.value_and_gradient(prediction, np.array([0, 2]))
    assert value == pytest.approx((np.log(2) + np.log(8)) / 2)
    np.testing.assert_allclose(gradient, [[-1 / 4, 1 / 8, 1 / 8], [1 / 16, 3 / 8, -7 / 16]])
    assert loss.value(prediction, [0, 2], [3, 1]) == pytest.approx((3 * np.log(2) + np.log(8)) / 4)


@kinds
@pytest.mark.parametrize("shape", [(7, 1), (5, 3), (4, 6, 2)])
def test_gradient_is_the_derivative_of_the_value(kind, shape):
    loss, prediction, target, weights = example(kind, shape)
    analytic = loss.gradient(prediction, target, weights)
    assert analytic.shape == prediction.shape
    step = 1e-6
    numeric = np.empty(prediction.shape)
    for index in np.ndindex(prediction.shape):
        ahead, behind = prediction.copy(), prediction.copy()
        ahead[index] += step
        behind[index] -= step
        numeric[index] = (
            loss.value(ahead, target, weights) - loss.value(behind, target, weights)
        ) / (2 * step)
    np.testing.assert_allclose(analytic, numeric, rtol=1e-7, atol=1e-9)


def in_torch(torch, loss, p, y):
    """What each element costs, by PyTorch's own functions where it has them."""
    F, name = torch.nn.functional, type(loss).__name__
    if name == "CrossEntropy":
        return F.cross_entropy(p.movedim(-1, 1), y, reduction="none")
    if name == "Quantile":
        e = y.repeat_interleave(len(loss.levels), -1) - p
        q = torch.tensor(loss.levels, dtype=p.dtype).repeat(y.shape[-1])
        return torch.maximum(q * e, (q - 1) * e).mean(-1)
    if name == "GaussianNLL":
        mean, raw = p.chunk(2, -1)
        variance = (F.softplus(raw, threshold=1000) + loss.min_scale) ** 2
        return F.gaussian_nll_loss(mean, y, variance, full=True, eps=0, reduction="none").mean(-1)
    if name == "NegativeBinomial":
        a, raw = p.chunk(2, -1)
        alpha = F.softplus(raw, threshold=1000) + loss.min_dispersion
        counts = torch.distributions.NegativeBinomial(1 / alpha, logits=a + alpha.log())
        return -counts.log_prob(y).mean(-1)
    if name == "StudentT":
        mean, raw, df = p.chunk(3, -1)
        scale = F.softplus(raw, threshold=1000) + loss.min_scale
        return -torch.distributions.StudentT(2 + F.softplus(df), mean, scale).log_prob(y).mean(-1)
    if name == "AsymmetricLaplaceMixture":
        # D. Klotz et al., HESS 26:1673, 2022, eq. 5 to 7, component by component.
        a, center, raw, t = (part.chunk(loss.components, -1) for part in p.chunk(4, -1))
        share = torch.stack(a).softmax(0)
        density = 0
        for m in range(loss.components):
            b, tau = F.softplus(raw[m], threshold=1000) + loss.min_scale, t[m].sigmoid()
            z = (y - center[m]) / b
            fall = torch.maximum(tau * z, (tau - 1) * z)
            density = density + share[m] * tau * (1 - tau) / b * (-fall).exp()
        return -density.log().mean(-1)
    if name == "NashSutcliffe":
        y, scale = y.chunk(2, -1)
        return ((p - y) ** 2 / (scale + 0.1) ** 2).mean(-1)
    return {
        "MeanSquaredError": lambda: F.mse_loss(p, y, reduction="none"),
        "MeanAbsoluteError": lambda: F.l1_loss(p, y, reduction="none"),
        "Huber": lambda: F.huber_loss(p, y, reduction="none", delta=loss.delta),
        "Poisson": lambda: F.poisson_nll_loss(p, y, reduction="none"),
        "BinaryCrossEntropy": lambda: F.binary_cross_entropy_with_logits(p, y, reduction="none"),
    }[name]().mean(-1)


@kinds
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("float64", 1e-13)])
def test_losses_agree_with_torch(kind, dtype, tolerance):
    torch = pytest.importorskip("torch")
    loss, prediction, target, weights = example(kind, (6, 9, 4))
    prediction = prediction.astype(dtype)
    value, gradient = loss.value_and_gradient(prediction, target, weights)
    p = torch.tensor(prediction.astype("float64"), requires_grad=True)
    each = in_torch(torch, loss, p, torch.tensor(target))
    w = torch.ones_like(each) if weights is None else torch.tensor(weights, dtype=each.dtype)
    theirs = (w * each).sum() / w.sum()
    theirs.backward()
    assert gradient.dtype == dtype
    assert value == pytest.approx(theirs.item(), rel=1e-13)
    np.testing.assert_allclose(gradient, p.grad, rtol=tolerance, atol=tolerance * 1e-2)


@kinds
def test_weight_zero_is_the_same_as_absence_and_weight_two_as_repetition(kind):
    loss, prediction, target, _ = example(kind, (6, 3))
    weights = np.array([1.0, 0.0, 2.0, 1.0, 0.0, 1.0])
    chosen = [0, 2, 2, 3, 5]
    value, gradient = loss.value_and_gradient(prediction, target, weights)
    repeated, each = loss.value_and_gradient(prediction[chosen], target[chosen])
    assert value == pytest.approx(repeated, rel=1e-14)
    np.testing.assert_allclose(gradient[2], 2 * each[1], rtol=1e-13)
    np.testing.assert_array_equal(gradient[[1, 4]], 0)


@kinds
def test_what_does_not_count_may_be_anything(kind):
    loss, prediction, target, _ = example(kind, (5, 3))
    mask = np.array([True, True, False, True, False])
    expected = loss.value_and_gradient(prediction, target, mask)
    prediction[~mask] = np.nan
    target[~mask] = np.nan if target.dtype.kind == "f" else -100
    copies = prediction.copy(), target.copy()
    value, gradient = loss.value_and_gradient(prediction, target, mask)
    assert value == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])
    for array, copy in zip((prediction, target), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_cross_entropy_stays_finite_at_huge_logits():
    loss = CrossEntropy()
    prediction = np.array([[1e4, -1e4, 0.0], [-1e30, 3e38, 0.0]], "float32")
    value, gradient = loss.value_and_gradient(prediction, np.array([0, 1]))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)
    assert loss.value(prediction[:1], np.array([1])) == pytest.approx(2e4)
    np.testing.assert_array_equal(loss.gradient(prediction[:1], np.array([1])), [[1, -1, 0]])


def test_values_are_accumulated_in_double():
    # The square of 1e30 is beyond float32, and 2**26 + 1 is not among its numbers.
    big = np.full((1, 1), 1e30, "float32")
    assert MeanSquaredError().value(big, np.zeros((1, 1))) == pytest.approx(1e60, rel=1e-6)
    prediction = np.ones((2**20, 1), "float32")
    prediction[0] = 2**13
    value = MeanSquaredError().value(prediction, np.zeros_like(prediction))
    assert value == (2**26 + 2**20 - 1) / 2**20


@pytest.mark.parametrize("loss", EACH, ids=repr)
def test_inputs_are_left_alone(loss):
    _, prediction, target, weights = example((loss, "numbers"), (5, 3))
    copies = prediction.copy(), target.copy(), weights.copy()
    loss.value_and_gradient(prediction, target, weights)
    for array, copy in zip((prediction, target, weights), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@kinds
def test_second_derivatives_are_those_of_the_gradient(kind):
    loss, prediction, target, weights = example(kind, (5, 4))
    direction = np.random.default_rng(3).normal(size=prediction.shape)
    tangent = loss.gradient_jvp(prediction, direction, target, weights)
    step = 1e-6
    ahead, behind = (loss.gradient(prediction + s * direction, target, weights) for s in (step, -step))
    np.testing.assert_allclose(tangent, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-9)
    if not isinstance(loss, MeanAbsoluteError | Quantile):
        assert np.abs(tangent).max() > 1e-3


def test_the_minimum_of_each_loss_is_what_it_is_for():
    y = np.random.default_rng(0).gamma(2.0, size=(101, 1))

    def best(loss, candidates):
        at = [loss.value(np.full((101, 1), c), y) for c in candidates]
        return candidates[int(np.argmin(at))]

    grid = np.linspace(0, 6, 6001)
    assert best(MeanAbsoluteError(), grid) == pytest.approx(np.median(y), abs=1e-3)
    assert best(Quantile(0.9), grid) == pytest.approx(np.quantile(y, 0.9), abs=1e-3)
    assert np.exp(best(Poisson(), np.log(grid[1:]))) == pytest.approx(y.mean(), abs=1e-3)
    assert best(Huber(100.0), grid) == pytest.approx(y.mean(), abs=1e-3)
    assert best(Huber(1e-6), grid) == pytest.approx(np.median(y), abs=1e-3)


def test_gaussian_is_the_density_of_scipy():
    from scipy.stats import norm

    loss, rng = GaussianNLL(min_scale=0.01), np.random.default_rng(0)
    prediction, y = rng.normal(size=(7, 4)), rng.normal(size=(7, 2))
    mean, scale = loss.mean_and_scale(prediction)
    np.testing.assert_allclose(scale, 0.01 + np.log1p(np.exp(prediction[:, 2:])))
    assert loss.value(prediction, y) == pytest.approx(-norm.logpdf(y, mean, scale).mean())


def test_gaussian_and_poisson_at_the_edges():
    loss = GaussianNLL()
    value, gradient = loss.value_and_gradient(np.array([[0.0, -1e4], [0.0, 1e4]]), np.array([[0.0], [1.0]]))
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert Poisson().value(np.array([[1e3]]), np.array([[1.0]])) == np.inf


def test_nash_sutcliffe_scales():
    loss, rng = NashSutcliffe(eps=0.1), np.random.default_rng(0)
    y = rng.normal(size=(6, 9, 2)) * [1.0, 5.0]
    basins = np.array(["b", "a", "b", "a", "c", "a"])
    joined = loss.prepare(y, groups=basins)
    assert joined.shape == (6, 9, 4)
    np.testing.assert_array_equal(joined[..., :2], y)
    for basin in "abc":
        rows = basins == basin
        np.testing.assert_allclose(
            joined[rows][..., 2:], np.broadcast_to(y[rows].std(axis=(0, 1)), (rows.sum(), 9, 2))
        )
    # One value for each sequence, as in the paper.
    last = loss.prepare(y[:, -1], groups=basins)
    np.testing.assert_allclose(last[0, 2:], y[[0, 2], -1].std(axis=0))
    np.testing.assert_allclose(loss.prepare(y[:, -1], scale=[1, 2, 3, 4, 5, 6])[:, 3], [1, 2, 3, 4, 5, 6])
    # Targets alone: every sequence by itself; 1 - NSE where the scale is not small.
    p = rng.normal(size=y.shape)
    own = loss.prepare(y)
    assert loss.value(p, y) == loss.value(p, own)
    tiny = NashSutcliffe(eps=1e-12)
    nse = 1 - ((p - y) ** 2).sum(axis=1) / ((y - y.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    assert tiny.value(p, y) == pytest.approx(np.mean(1 - nse))
    # Padding has no part in the scale.
    mask = rng.random((6, 9)) < 0.7
    spoiled = np.where(mask[..., None], y, np.nan)
    by_hand = np.stack([y[n][mask[n]].std(axis=0) for n in range(6)])
    error = ((p - y) / (by_hand[:, None] + 0.1)) ** 2
    assert loss.value(p, spoiled, mask) == pytest.approx(error[mask].mean())


def test_losses_have_names():
    assert {type(loss) for loss in EACH} == set(LOSSES.values())
    for cls in LOSSES.values():
        loss = cls()
        assert repr(cls(**loss.options)) == repr(loss)
    assert repr(Huber(2)) == "Huber(delta=2.0)" and repr(MeanSquaredError()) == "MeanSquaredError()"


@pytest.mark.parametrize("make, error, words", [
    (lambda: Huber(0), ValueError, "delta is 0; expected a finite number > 0"),
    (lambda: Huber("1"), TypeError, "delta is .*; expected"),
    (lambda: Quantile(()), ValueError, "levels is empty; expected numbers between 0 and 1"),
    (lambda: Quantile((0.5, 1.0)), ValueError, "levels is 1.0; expected numbers between 0 and 1"),
    (lambda: GaussianNLL(-1), ValueError, "min_scale is .*; expected"),
    (lambda: NashSutcliffe(0), ValueError, "eps is .*; expected"),
    (lambda: NashSutcliffe().prepare(np.ones((3, 2)), groups=[1, 2]), ValueError,
     r"groups have shape \(2,\)"),
    (lambda: NashSutcliffe().prepare(np.ones((3, 2)), scale=np.ones((3, 3))), ValueError, "scale has shape"),
    (lambda: NashSutcliffe().prepare(np.ones((3, 2)), scale=[1] * 3, groups=[1] * 3), ValueError,
     "groups and scale were given"),
    (lambda: NashSutcliffe().prepare(np.ones(3)), ValueError, r"y is float64 \(3,\)"),
    (lambda: NashSutcliffe().prepare(np.ones((3, 1))), ValueError, "has no scale of its own"),
])
def test_bad_words_to_a_loss(make, error, words):
    with pytest.raises(error, match=words):
        make()


P = np.zeros((4, 3))
MSE, CE = MeanSquaredError(), CrossEntropy()


@pytest.mark.parametrize("loss, prediction, target, weights, error, words", [
    (MSE, P, np.zeros((4,)), None, ValueError, r"y has shape \(4,\).* \(4, 3\)"),
    (MSE, P, np.zeros((4, 1)), None, ValueError, r"y has shape \(4, 1\)"),
    (MSE, P, np.zeros((4, 3), complex), None, TypeError, "complex128; expected real numbers"),
    (MSE, P, np.zeros((4, 3), object), None, TypeError, "y is object; expected"),
    (MSE, P.astype(int), np.zeros((4, 3)), None, TypeError, "prediction is .*; expected a float32 or"),
    (MSE, np.float64(1), np.float64(1), None, TypeError, "prediction is .*; expected a float32 or"),
    (MSE, P, P, np.ones(3), ValueError, r"weights have shape \(3,\); expected \(4,\)"),
    (MSE, P, P, np.ones((4, 3)), ValueError, "weights have shape"),
    (MSE, P, P, [1, 1, -1, 1], ValueError, "weights hold other .* finite ones >= 0"),
    (MSE, P, P, [1, 1, np.nan, 1], ValueError, "weights hold other .* finite ones >= 0"),
    (MSE, P, P, [1, 1, np.inf, 1], ValueError, "weights hold other .* finite ones >= 0"),
    (MSE, P, P, ["a"] * 4, TypeError, "weights are .*; expected real numbers"),
    (MSE, P, P, np.zeros(4), ValueError, "nothing to average over"),
    (MSE, P[:0], P[:0], None, ValueError, "nothing to average over"),
    (CE, P, np.zeros(4), None, TypeError, "y is float64; expected integer class numbers"),
    (CE, P, np.zeros(4, bool), None, TypeError, "y is bool; expected integer class numbers"),
    (CE, P, np.zeros((4, 3), int), None, ValueError, r"y has shape \(4, 3\); expected \(4,\)"),
    (CE, P, np.array([0, 1, 2, 3]), None, ValueError, "from 0 to 3, .* 3 classes, 0 to 2"),
    (CE, P, np.array([0, 1, 2, -1]), None, ValueError, "from -1 to 2"),
    (CE, P, np.array([0, 1, 3, 1]), [1, 0, 1, 1], ValueError, "from 0 to 3"),
    (CE, P[:0], np.zeros(0, int), None, ValueError, "nothing to average over"),
    (Quantile((0.1, 0.9)), P, P, None, ValueError, "3 outputs; expected a multiple of 2"),
    (Quantile(), P, P, None, ValueError, r"expected \(4, 1\) for y"),
    (GaussianNLL(), P, P, None, ValueError, "3 outputs; expected an even number"),
    (GaussianNLL(), P[:, :2], P[:, :2], None, ValueError, r"expected \(4, 1\) for y"),
    (Poisson(), P, P - 1, None, ValueError, "y has -1.*; expected counts >= 0"),
    (NashSutcliffe(), P, P, None, ValueError, r"prepare\(y, groups"),
    (NashSutcliffe(), P, np.full((4, 6), -1.0), None, ValueError, "scales in y hold .*; expected"),
    (MeanAbsoluteError(), P, P.astype(str), None, TypeError, "y is .*; expected real numbers"),
])
def test_bad_input_is_refused(loss, prediction, target, weights, error, words):
    with pytest.raises(error, match=words):
        loss.value_and_gradient(prediction, target, weights)


def test_an_overconfident_scale_still_has_a_gradient():
    """The logistic function of -40 is 4e-18 and not 0; divided by a tiny variance it counts."""
    loss = GaussianNLL()
    for raw in (-30.0, -37.0, -40.0):
        scale = 1e-6 + np.log1p(np.exp(raw))
        expected = np.exp(raw) / (1 + np.exp(raw)) * (1 - 1 / scale**2) / scale
        gradient = loss.gradient(np.array([[0.0, raw]]), np.array([[1.0]]))
        assert gradient[0, 1] == pytest.approx(expected, rel=1e-12)
