"""From a regression loss by name to what the network's outputs mean."""

import numpy as np
from scipy.special import ndtri

from lstm_ext import losses

# Losses of counts, which are not standardised, and those that predict a distribution.
COUNTS = ("poisson", "negative_binomial")
DISTRIBUTIONS = ("gaussian", "student_t", "negative_binomial", "cmal", "poisson")
# Those whose purpose is an interval: calibrated by default.
INTERVALS = ("quantile", "gaussian", "student_t", "negative_binomial", "cmal")


def check_quantiles(quantiles):
    """Return quantiles, one number or several, as a tuple of floats."""
    try:
        levels = np.atleast_1d(np.asarray(quantiles, dtype=np.float64))
    except (TypeError, ValueError):
        levels = np.empty(0)
    if levels.ndim != 1 or not levels.size or not ((levels > 0) & (levels < 1)).all() or (
        np.diff(levels) <= 0
    ).any():
        raise ValueError(f"quantiles are {quantiles!r}, expected increasing numbers between 0 and 1")
    return tuple(levels.tolist())


class Reading:
    """A loss, how many outputs it needs for each target, and what they say about it."""

    def __init__(self, name, quantiles):
        self.name = name
        self.axis = name == "quantile" and np.ndim(quantiles) > 0  # whether quantiles have an axis
        kinds = {
            "mse": losses.MeanSquaredError, "mae": losses.MeanAbsoluteError, "huber": losses.Huber,
            "poisson": losses.Poisson, "gaussian": losses.GaussianNLL, "nse": losses.NashSutcliffe,
            "negative_binomial": losses.NegativeBinomial, "student_t": losses.StudentT,
            "cmal": losses.AsymmetricLaplaceMixture,
        }
        if name == "quantile":
            self.loss = losses.Quantile(check_quantiles(quantiles))
        else:
            self.loss = kinds[name]()
        self.per_target = self.loss.outputs_per_target

    def start(self, targets, weight=None):
        """Return the readout's first bias, which says what is known without looking at X.

        That is the mean of counts; other targets are standardised, and taken for normal.

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
            start = np.log(np.maximum(mean, 1e-6))
            return start if self.name == "poisson" else np.concatenate([start, np.zeros(n_targets)])
        if self.name == "quantile":
            return np.tile(ndtri(self.loss.levels), n_targets)
        if self.name == "gaussian":
            # log(e - 1) is where the loss's softplus is 1.
            return np.repeat([0.0, np.log(np.e - 1)], n_targets)
        if self.name == "student_t":
            return np.repeat([0.0, np.log(np.e - 1), 3.0], n_targets)  # 5 degrees of freedom
        if self.name == "cmal":
            # Components beside each other: equal ones would stay equal.
            m = self.loss.components
            places = ndtri((np.arange(m) + 0.5) / m)
            return np.repeat(np.concatenate([np.zeros(m), places, np.full(2 * m, 0.0)]), n_targets)
        return np.zeros(n_targets)

    def read(self, outputs, mean, scale):
        """Turn outputs (..., O) into what `predict` returns, in the targets' units.

        Parameters
        ----------
        outputs : ndarray of shape (..., O), float64
        mean, scale : ndarray of shape (K,), or one that broadcasts against (..., K)
            With which the targets were standardised.

        Returns
        -------
        list of ndarrays
            The prediction (..., K), or (..., K, Q); where a loss has it the standard deviation, too.
        """
        if self.name == "poisson":
            return [self.loss.rate(outputs)]
        if self.name in DISTRIBUTIONS:
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

    def quantiles(self, outputs, levels):
        """Return quantiles of the predicted distributions, (..., K, Q), of standardised targets."""
        return self.loss.quantile(outputs, levels)


class Calibration:
    """What networks gave for sequences that they had not learned from, and how far that was off.

    Split and cross conformal prediction: predicted intervals are widened or narrowed so that they would
    have held their share of the targets set aside (V. Vovk, A. Gammerman, G. Shafer, *Algorithmic
    Learning in a Random World*, 2005; for quantiles Y. Romano, E. Patterson, E. Candes, "Conformalized
    quantile regression", NeurIPS 2019, Theorem 2: each bound by itself).

    Parameters
    ----------
    outputs : ndarray of shape (m, O)
    targets : ndarray of shape (m, K)
        Standardised; NaN where there is none.
    weights : ndarray of shape (m,) or None
    """

    def __init__(self, outputs, targets, weights=None):
        self.outputs, self.targets = outputs, targets
        self.weights = np.ones(len(targets)) if weights is None else weights

    def shifts(self, levels):
        """Return what to add to the quantiles of each target, (K, Q), standardised."""
        k, q = self.targets.shape[1], len(levels)
        predicted = np.sort(self.outputs.reshape(-1, k, q), axis=-1)
        shifts = np.zeros((k, q))
        for column in range(k):
            error = self.targets[:, column, None] - predicted[:, column]
            for number, level in enumerate(levels):
                shifts[column, number] = self._outward(error[:, number], level)
        return shifts

    def factors(self, reading, coverage):
        """Return by what to multiply half the width of the intervals of each target, (K,)."""
        low, middle, high = interval_of(reading, self.outputs, coverage)
        with np.errstate(divide="ignore", invalid="ignore"):
            below, above = (middle - self.targets) / (middle - low), (self.targets - middle) / (high - middle)
        score = np.maximum(below, above)
        return np.array([self._outward(column, coverage) for column in score.T])

    def _outward(self, values, level):
        """Return the quantile of `values` that as many new ones will stay below, or above if level < 0.5."""
        there = np.isfinite(values) & (self.weights > 0)
        values, weights = values[there], self.weights[there]
        if not values.size:
            return 0.0
        order = np.argsort(values)
        values, share = values[order], np.cumsum(weights[order])
        # One more that nobody has seen, on the far side.
        total = share[-1] + weights.mean()
        if level >= 0.5:
            place = np.searchsorted(share, level * total * (1 - 1e-12))
        else:
            place = np.searchsorted(share, level * total * (1 + 1e-12), side="right") - 1
        return float(values[np.clip(place, 0, len(values) - 1)])


def interval_of(reading, outputs, coverage):
    """Return lower bound, median and upper bound of standardised targets, each (..., K)."""
    tail = (1 - coverage) / 2
    low, middle, high = np.moveaxis(reading.quantiles(outputs, [tail, 0.5, 1 - tail]), -1, 0)
    if reading.name in COUNTS:  # a count stands for all numbers that round to it
        low, high = low - 0.5, high + 0.5
    return low, middle, high
