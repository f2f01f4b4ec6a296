"""From a network's outputs to predictions, intervals and their calibration, for each regression loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from lstm_ext import losses

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from lstm_ext.sklearn._types import Floats, Reals

# Losses of counts, which are not standardized, and those that predict a distribution.
COUNTS = ("poisson", "negative_binomial")
DISTRIBUTIONS = ("gaussian", "student_t", "negative_binomial", "cmal", "poisson")
# Those whose purpose is an interval: calibrated by default.
INTERVALS = ("quantile", "gaussian", "student_t", "negative_binomial", "cmal")
_WITH_SCALE = (
    losses.GaussianNLL, losses.StudentT, losses.NegativeBinomial, losses.AsymmetricLaplaceMixture
)


def check_quantiles(quantiles: npt.ArrayLike) -> tuple[float, ...]:
    """Return quantiles, one number or several, as a tuple of floats."""
    try:
        levels = np.atleast_1d(np.asarray(quantiles, dtype=np.float64))
    except (TypeError, ValueError):
        levels = np.empty(0)
    if levels.ndim != 1 or not levels.size or not ((levels > 0) & (levels < 1)).all() or (
        np.diff(levels) <= 0
    ).any():
        raise ValueError(f"quantiles is {quantiles!r}; expected increasing numbers between 0 and 1")
    return tuple(levels.tolist())


class OutputDecoder:
    """The loss by its name, how many outputs it needs for each target, and how to decode them."""

    def __init__(self, name: str, quantiles: npt.ArrayLike) -> None:
        self.name = name
        self.axis = name == "quantile" and np.ndim(quantiles) > 0  # whether quantiles have an axis
        self.loss = (
            losses.Quantile(check_quantiles(quantiles)) if name == "quantile" else losses.LOSSES[name]()
        )
        self.per_target = self.loss.outputs_per_target

    @property
    def levels(self) -> tuple[float, ...]:
        """The quantiles that the outputs are."""
        return self.loss.levels if isinstance(self.loss, losses.Quantile) else ()

    def initial_bias(self, targets: Floats, weight: Floats | None = None) -> Floats:
        """Return the bias with which the readout predicts the targets' distribution without X.

        That is the mean of counts; other targets are standardized, and taken for normal.

        Parameters
        ----------
        targets : ndarray of shape (n, K)
            In their own units; NaN does not count.
        weight : ndarray of shape (n,), optional
        """
        n_targets = targets.shape[1]
        if self.name in COUNTS:
            there = ~np.isnan(targets)
            weight = there if weight is None else there * weight[:, None]
            mean = np.average(np.where(there, targets, 0), axis=0, weights=weight)
            rate = np.log(np.maximum(mean, 1e-6))
            return rate if self.name == "poisson" else np.concatenate([rate, np.zeros(n_targets)])
        if isinstance(self.loss, losses.Quantile):
            return np.tile(ndtri(self.loss.levels), n_targets)
        if self.name == "gaussian":
            # log(e - 1) is where the loss's softplus is 1.
            return np.repeat([0.0, np.log(np.e - 1)], n_targets)
        if self.name == "student_t":
            return np.repeat([0.0, np.log(np.e - 1), 3.0], n_targets)  # 5 degrees of freedom
        if isinstance(self.loss, losses.AsymmetricLaplaceMixture):
            # Components beside each other: equal ones would stay equal.
            m = self.loss.components
            places = ndtri((np.arange(m) + 0.5) / m)
            return np.repeat(np.concatenate([np.zeros(m), places, np.full(2 * m, 0.0)]), n_targets)
        return np.zeros(n_targets)

    def decode(self, outputs: Floats, mean: Floats, scale: Floats) -> list[Reals]:
        """Turn outputs (..., O) into what `predict` returns, in the targets' units.

        Parameters
        ----------
        outputs : ndarray of shape (..., O), float64
        mean, scale : ndarray of shape (K,), or one that broadcasts against (..., K)
            With which the targets were standardized.

        Returns
        -------
        list of ndarrays
            The prediction (..., K), or (..., K, Q); where a loss has it the standard deviation, too.
        """
        if isinstance(self.loss, losses.Poisson):
            return [self.loss.rate(outputs)]
        if isinstance(self.loss, _WITH_SCALE):
            center, deviation = self.loss.mean_and_scale(outputs)
            if self.name in COUNTS:
                return [center, deviation]
            return [center * scale + mean, deviation * scale]
        if self.name != "quantile":
            return [outputs * scale + mean]
        values = outputs.reshape(*outputs.shape[:-1], -1, self.per_target)
        # Sorted, so that they do not cross: no worse an estimate (Chernozhukov, Fernandez-Val and
        # Galichon, 2010, Econometrica 78:1093).
        values = np.sort(values, axis=-1) * scale[..., None] + mean[..., None]
        return [values if self.axis else values[..., 0]]

    def quantiles(self, outputs: Floats, levels: Sequence[float]) -> Reals:
        """Return quantiles of the predicted distributions, (..., K, Q), of standardized targets."""
        if not isinstance(self.loss, (losses.Poisson, *_WITH_SCALE)):
            raise TypeError(f"loss is {self.name!r}; expected one of {', '.join(DISTRIBUTIONS)}")
        return self.loss.quantile(outputs, levels)


class Calibration:
    """Outputs for sequences that the networks had not learned from, and the errors of these outputs.

    Split and cross conformal prediction: predicted intervals are widened or narrowed so that they would
    have held their share of the targets set aside (V. Vovk, A. Gammerman, G. Shafer, *Algorithmic
    Learning in a Random World*, 2005; for quantiles Y. Romano, E. Patterson, E. Candes, "Conformalized
    quantile regression", NeurIPS 2019, Theorem 2: each bound by itself).

    Parameters
    ----------
    outputs : ndarray of shape (m, O)
    targets : ndarray of shape (m, K)
        Standardized; NaN where there is none.
    weights : ndarray of shape (m,) or None
    """

    def __init__(self, outputs: Floats, targets: Floats, weights: Floats | None = None) -> None:
        self.outputs, self.targets = outputs, targets
        self.weights = np.ones(len(targets)) if weights is None else weights

    def shifts(self, levels: Sequence[float]) -> Floats:
        """Return what to add to the quantiles of each target, (K, Q), standardized."""
        k, q = self.targets.shape[1], len(levels)
        predicted = np.sort(self.outputs.reshape(-1, k, q), axis=-1)
        shifts = np.zeros((k, q))
        for column in range(k):
            error = self.targets[:, column, None] - predicted[:, column]
            for number, level in enumerate(levels):
                shifts[column, number] = self._outward(error[:, number], level)
        return shifts

    def factors(self, decoder: OutputDecoder, coverage: float) -> Floats:
        """Return by what to multiply half the width of the intervals of each target, (K,)."""
        low, middle, high = interval_of(decoder, self.outputs, coverage)
        with np.errstate(divide="ignore", invalid="ignore"):
            below, above = (middle - self.targets) / (middle - low), (self.targets - middle) / (high - middle)
        score = np.maximum(below, above)
        return np.array([self._outward(column, coverage) for column in score.T])

    def _outward(self, values: Floats, level: float) -> float:
        """Return the quantile of `values` that as many new ones will stay below, or above if level < 0.5."""
        there = np.isfinite(values) & (self.weights > 0)
        values, weights = values[there], self.weights[there]
        if not values.size:
            return 0.0
        order = np.argsort(values)
        values, share = values[order], np.cumsum(weights[order])
        # A new value, on the far side.
        total = share[-1] + weights.mean()
        if level >= 0.5:
            place = np.searchsorted(share, level * total * (1 - 1e-12))
        else:
            place = np.searchsorted(share, level * total * (1 + 1e-12), side="right") - 1
        return float(values[np.clip(place, 0, len(values) - 1)])


def interval_of(decoder: OutputDecoder, outputs: Floats, coverage: float) -> tuple[Reals, Reals, Reals]:
    """Return lower bound, median and upper bound of standardized targets, each (..., K)."""
    tail = (1 - coverage) / 2
    low, middle, high = np.moveaxis(decoder.quantiles(outputs, [tail, 0.5, 1 - tail]), -1, 0)
    if decoder.name in COUNTS:  # a count stands for all numbers that round to it
        low, high = low - 0.5, high + 0.5
    return low, middle, high
