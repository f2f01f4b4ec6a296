"""Losses of distributions: against SciPy, the readable reference, and draws; weights for each target."""

from itertools import pairwise

import numpy as np
import pytest
import reference_losses as reference
from loss_examples import WEIGHTED, example
from scipy import stats
from scipy.integrate import quad

from lstm_ext.losses import (
    AsymmetricLaplaceMixture,
    CrossEntropy,
    GaussianNLL,
    MeanSquaredError,
    NegativeBinomial,
    Poisson,
    StudentT,
    Weighted,
)

LEVELS = np.array([0.01, 0.05, 0.3, 0.5, 0.9, 0.99])


def predictions(loss, n=40, columns=2, seed=0):
    return np.random.default_rng(seed).normal(size=(n, columns * loss.outputs_per_target)) * 1.5


def frozen(loss, p):
    """The distribution that the predictions of one target stand for, in SciPy."""
    if isinstance(loss, Poisson):
        return stats.poisson(np.exp(p[..., 0]))
    if isinstance(loss, GaussianNLL):
        return stats.norm(p[..., 0], loss.min_scale + np.log1p(np.exp(p[..., 1])))
    if isinstance(loss, NegativeBinomial):
        mean, alpha = np.exp(p[..., 0]), loss.min_dispersion + np.log1p(np.exp(p[..., 1]))
        return stats.nbinom(1 / alpha, 1 / (1 + alpha * mean))
    return stats.t(2 + np.log1p(np.exp(p[..., 2])), p[..., 0], loss.min_scale + np.log1p(np.exp(p[..., 1])))


SCIPY = [Poisson(), GaussianNLL(0.1), NegativeBinomial(), StudentT(0.1)]
by_scipy = pytest.mark.parametrize("loss", SCIPY, ids=repr)


@by_scipy
def test_costs_are_negative_log_likelihoods_of_scipy(loss):
    p = predictions(loss, columns=1)
    there = frozen(loss, p)
    y = there.rvs(random_state=1).astype(float)
    log = there.logpmf(y) if isinstance(loss, Poisson | NegativeBinomial) else there.logpdf(y)
    if isinstance(loss, Poisson):  # whose constant is left out
        log = log + [np.sum(np.log(np.arange(1, count + 1))) for count in y]
    assert loss.value(p, y[:, None]) == pytest.approx(-log.mean(), rel=1e-9)


@by_scipy
def test_quantiles_are_those_of_scipy(loss):
    p = predictions(loss, columns=1)
    expected = np.stack([frozen(loss, p).ppf(level) for level in LEVELS], axis=-1)
    np.testing.assert_allclose(loss.quantile(p, LEVELS)[:, 0], expected, rtol=1e-9)


@by_scipy
def test_mean_and_scale_are_those_of_scipy(loss):
    if isinstance(loss, Poisson):
        return
    p = predictions(loss, columns=1)
    if isinstance(loss, StudentT):
        p[:, 2] = np.abs(p[:, 2])  # next to two degrees of freedom the variance is cut
    mean, scale = loss.mean_and_scale(p)
    np.testing.assert_allclose(mean[:, 0], frozen(loss, p).mean(), rtol=1e-9)
    np.testing.assert_allclose(scale[:, 0], frozen(loss, p).std(), rtol=1e-9)


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("loss", [NegativeBinomial(), StudentT(), AsymmetricLaplaceMixture()], ids=repr)
def test_costs_are_those_of_the_reference(loss, columns):
    p = predictions(loss, 10, columns)
    y = np.random.default_rng(1).poisson(2.0, (10, columns)).astype(float)
    assert loss.value(p, y) == pytest.approx(reference.value(loss, p, y), rel=1e-10)


def one_mixture(seed):
    loss = AsymmetricLaplaceMixture()
    return loss, predictions(loss, 1, 1, seed)


@pytest.mark.parametrize("seed", range(5))
def test_a_mixture_is_a_distribution(seed):
    loss, p = one_mixture(seed)

    def density(y):
        return np.exp(-loss.value(p, np.array([[y]])))

    places = np.sort(p[0, 3:6])
    ends = [-2000, -50, *places, 50, 2000]
    parts = [quad(density, a, b, limit=500)[0] for a, b in pairwise(ends)]
    assert sum(parts) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(loss.cdf(p, places[None, None])[0, 0], np.cumsum(parts)[1:4], atol=1e-6)
    first = [quad(lambda y: y * density(y), a, b, limit=500)[0] for a, b in pairwise(ends)]
    mean, scale = loss.mean_and_scale(p)
    assert mean[0, 0] == pytest.approx(sum(first), abs=1e-5)
    second = [
        quad(lambda y: (y - mean[0, 0]) ** 2 * density(y), a, b, limit=500)[0]
        for a, b in pairwise(ends)
    ]
    assert scale[0, 0] == pytest.approx(np.sqrt(sum(second)), rel=1e-5)


def test_quantiles_of_a_mixture_invert_its_probabilities():
    loss = AsymmetricLaplaceMixture()
    p = predictions(loss)
    quantiles = loss.quantile(p, LEVELS)
    assert quantiles.shape == (40, 2, 6) and (np.diff(quantiles, axis=-1) > 0).all()
    np.testing.assert_allclose(loss.cdf(p, quantiles), np.broadcast_to(LEVELS, quantiles.shape), atol=1e-9)


def test_one_component_is_the_asymmetric_laplace_of_scipy():
    loss = AsymmetricLaplaceMixture(1)
    p = predictions(loss, columns=1)
    _, center, raw, t = p.T
    b, tau = loss.min_scale + np.log1p(np.exp(raw)), 1 / (1 + np.exp(-t))
    # SciPy's kappa and scale for exp(-tau z) above and exp((1 - tau) z) below.
    kappa = np.sqrt(tau / (1 - tau))
    theirs = stats.laplace_asymmetric(kappa, center, b / np.sqrt(tau * (1 - tau)))
    y = theirs.rvs(random_state=0)
    assert loss.value(p, y[:, None]) == pytest.approx(-theirs.logpdf(y).mean(), rel=1e-9)
    np.testing.assert_allclose(loss.quantile(p, [0.05, 0.95])[:, 0, 1], theirs.ppf(0.95), rtol=1e-8)


@pytest.mark.parametrize("loss", SCIPY, ids=repr)
@pytest.mark.parametrize("levels", [0, [0.5, 1.0], [[0.5]], np.nan])
def test_bad_levels_are_refused(loss, levels):
    with pytest.raises(ValueError, match=r"levels is .*; expected numbers between 0 and 1"):
        loss.quantile(predictions(loss), levels)


@pytest.mark.parametrize("loss, target, said", [
    (NegativeBinomial(), -1.0, r"y has -1.0; expected counts >= 0"),
    (StudentT(), "a", "y is .*; expected real numbers"),
])
def test_bad_targets_are_refused(loss, target, said):
    with pytest.raises((ValueError, TypeError), match=said):
        loss.value(np.zeros((3, loss.outputs_per_target)), np.full((3, 1), target))
    with pytest.raises(ValueError, match="expected a multiple of"):
        loss.value(np.zeros((3, loss.outputs_per_target + 1)), np.zeros((3, 1)))


def test_extreme_predictions_give_finite_costs_or_say_so():
    for loss in (NegativeBinomial(), StudentT(), AsymmetricLaplaceMixture()):
        p = np.full((1, loss.outputs_per_target), 30.0)
        for sign in (1, -1):
            value, gradient = loss.value_and_gradient(sign * p, np.array([[3.0]]))
            assert np.isfinite(value) and np.isfinite(gradient).all()


# Weights for each target ----------------------------------------------------------------------


def joined(loss, shape, how="none"):
    _, p, y, weights = example((loss.loss, how), shape)
    each = np.random.default_rng(5).integers(0, 3, y.shape).astype(float)
    return p, y, each, weights


@pytest.mark.parametrize("how", ["none", "mask", "numbers"])
@pytest.mark.parametrize("loss", WEIGHTED, ids=repr)
def test_weighted_losses_have_exact_gradients(loss, how):
    p, y, each, weights = joined(loss, (4, 3, 2), how)
    target = np.concatenate([np.where(each > 0, y, np.nan), each], axis=-1)
    value, gradient = loss.value_and_gradient(p, target, weights)
    direction = np.random.default_rng(6).normal(size=p.shape)
    step = 1e-6
    ahead, behind = (loss.value_and_gradient(p + s * step * direction, target, weights) for s in (1, -1))
    assert np.isfinite(value)
    assert (ahead[0] - behind[0]) / (2 * step) == pytest.approx(np.vdot(gradient, direction), rel=1e-6)
    np.testing.assert_allclose(
        loss.gradient_jvp(p, direction, target, weights), (ahead[1] - behind[1]) / (2 * step),
        rtol=1e-5, atol=1e-8,
    )
    # A target without a weight changes nothing, whatever it is.
    other = np.concatenate([np.where(each > 0, y, 1.0), each], axis=-1)
    np.testing.assert_array_equal(loss.gradient(p, other, weights), gradient)


@pytest.mark.parametrize("loss", WEIGHTED, ids=repr)
def test_weights_of_one_are_the_loss_itself(loss):
    p, y, each, weights = joined(loss, (5, 2))
    ones = np.concatenate([y, np.ones_like(each)], axis=-1)
    value, gradient = loss.value_and_gradient(p, ones, weights)
    expected = loss.loss.value_and_gradient(p, y, weights)
    assert value == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-12, atol=1e-15)


def test_weighted_refuses_what_it_cannot_weigh():
    with pytest.raises(TypeError, match="expected a loss of numbers"):
        Weighted(CrossEntropy())
    loss = Weighted(MeanSquaredError())
    with pytest.raises(ValueError, match="expected targets and 2 weights"):
        loss.value(np.zeros((3, 2)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="weights in y hold other numbers"):
        loss.value(np.zeros((3, 1)), np.array([[0.0, -1.0]] * 3))
