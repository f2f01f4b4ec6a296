"""From a regression loss by name to what the network's outputs mean."""

import numpy as np

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

    def read(self, outputs, scaler):
        """Turn outputs (..., O) into what `predict` returns, in the targets' units.

        Parameters
        ----------
        outputs : ndarray of shape (..., O), float64
        scaler : SequenceScaler or None
            That of the targets.

        Returns
        -------
        list of ndarrays
            The prediction (..., K), or (..., K, Q); with "gaussian" the standard deviation, too.
        """
        mean, scale = (0.0, 1.0) if scaler is None else (scaler.mean_, scaler.scale_)
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
        values = np.sort(values, axis=-1) * np.reshape(scale, (-1, 1)) + np.reshape(mean, (-1, 1))
        return [values if self.axis else values[..., 0]]
