"""From a regression loss by name to what the network's outputs mean."""

import numpy as np
from scipy.special import ndtri

from lstm_ext import losses


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
        if self.name == "poisson":
            there = ~np.isnan(targets)
            weight = there if weight is None else there * weight[:, None]
            mean = np.average(np.where(there, targets, 0), axis=0, weights=weight)
            return np.log(np.maximum(mean, 1e-6))
        if self.name == "quantile":
            return np.tile(ndtri(self.loss.levels), n_targets)
        if self.name == "gaussian":
            # log(e - 1) is where the loss's softplus is 1.
            return np.repeat([0.0, np.log(np.e - 1)], n_targets)
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
            The prediction (..., K), or (..., K, Q); with "gaussian" the standard deviation, too.
        """
        if self.name == "poisson":
            return [self.loss.rate(outputs)]
        if self.name == "gaussian":
            center, deviation = self.loss.mean_and_scale(outputs)
            return [center * scale + mean, deviation * scale]
        if self.name != "quantile":
            return [outputs * scale + mean]
        values = outputs.reshape(*outputs.shape[:-1], -1, self.per_target)
        # Sorted, so that they do not cross: no worse an estimate (Chernozhukov, Fernandez-Val and
        # Galichon, 2010, Econometrica 78:1093).
        values = np.sort(values, axis=-1) * scale[..., None] + mean[..., None]
        return [values if self.axis else values[..., 0]]
