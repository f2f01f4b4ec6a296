"""Losses: what a prediction costs, and the gradient of that cost.

A loss is a small object without state. `Model` takes any object that has ``check`` and
``value_and_gradient`` as they are described in `Loss`.
"""

import numpy as np

__all__ = ["CrossEntropy", "Loss", "MeanSquaredError"]


def _weights(weights, shape):
    """Weights as float64 of the given shape, and their sum; None stands for ones."""
    if weights is None:
        total = float(np.prod(shape, dtype=np.float64))
    else:
        weights = np.asarray(weights)
        if weights.dtype.kind not in "bfiu":
            raise TypeError(f"weights must be real numbers, got dtype {weights.dtype}")
        if weights.shape != shape:
            raise ValueError(f"weights have shape {weights.shape}, expected {shape}")
        weights = weights.astype(np.float64)
        total = float(weights.sum())
        if not (np.isfinite(total) and (weights >= 0).all()):
            raise ValueError("weights must be finite and >= 0")
    if total == 0:
        raise ValueError("there is nothing to average over: no element counts")
    return weights, total


class Loss:
    """A mean over elements n of a cost of the prediction p_n, each with a weight w_n.

    Predictions have the shape (..., O): elements n run over all axes but the last. Everything is
    computed and accumulated in float64; the gradient comes back in the predictions' dtype.
    """

    def __repr__(self):
        return f"{type(self).__name__}()"

    def check(self, target, shape, weights=None):
        """Raise TypeError or ValueError unless `target` belongs to predictions of this shape.

        Parameters
        ----------
        target : ndarray
        shape : tuple of int
            Shape of the predictions.
        weights : ndarray, optional
            As in `value_and_gradient`.
        """
        raise NotImplementedError

    def value_and_gradient(self, prediction, target, weights=None):
        """Loss, and its gradient with respect to the predictions.

        Parameters
        ----------
        prediction : array_like of shape (..., O), float32 or float64
        target : array_like
            Its shape and dtype are the subclass's. Where the weight is 0 it may be anything, NaN
            included.
        weights : array_like of shape (...), optional
            What each element counts: a mask, or numbers >= 0. Default: all count the same.

        Returns
        -------
        value : float
        gradient : ndarray of shape (..., O)
            In the dtype of `prediction`, and 0 where the weight is 0.
        """
        prediction, target, weights, total = self._checked(prediction, target, weights)
        value, gradient = self._evaluate(prediction, target, weights, total)
        return value, gradient.astype(prediction.dtype)

    def gradient_jvp(self, prediction, prediction_dot, target, weights=None):
        """Differentiate the gradient along a direction: the Hessian times `prediction_dot`.

        Parameters
        ----------
        prediction_dot : array_like of shape (..., O)
            The direction in the predictions.
        prediction, target, weights
            As in `value_and_gradient`.

        Returns
        -------
        ndarray of shape (..., O)
            In the dtype of `prediction`, and 0 where the weight is 0.
        """
        prediction, target, weights, total = self._checked(prediction, target, weights)
        prediction_dot = np.asarray(prediction_dot)
        if prediction_dot.shape != prediction.shape:
            raise ValueError(
                f"prediction_dot has shape {prediction_dot.shape}, prediction has {prediction.shape}"
            )
        return self._tangent(prediction, prediction_dot, weights, total).astype(prediction.dtype)

    def _checked(self, prediction, target, weights):
        prediction, target = np.asarray(prediction), np.asarray(target)
        if prediction.dtype not in (np.float32, np.float64) or prediction.ndim == 0:
            raise TypeError(
                "prediction must be a float32 or float64 array of shape (..., outputs), got "
                f"{prediction.dtype} of shape {prediction.shape}"
            )
        weights, total = _weights(weights, prediction.shape[:-1])
        self.check(target, prediction.shape, weights)
        return prediction, target, weights, total

    def value(self, prediction, target, weights=None):
        """Loss alone; parameters as in `value_and_gradient`."""
        return self.value_and_gradient(prediction, target, weights)[0]

    def gradient(self, prediction, target, weights=None):
        """Gradient alone; parameters as in `value_and_gradient`."""
        return self.value_and_gradient(prediction, target, weights)[1]

    def _evaluate(self, prediction, target, weights, total):
        raise NotImplementedError

    def _tangent(self, prediction, prediction_dot, weights, total):
        raise NotImplementedError


class MeanSquaredError(Loss):
    r"""Squared error, for regression. Targets: real numbers of the predictions' shape.

    .. math::

        L = \frac{\sum_n w_n \lVert p_n - y_n \rVert^2}{O \sum_n w_n} \qquad
        \frac{\partial L}{\partial p_n} = \frac{2 w_n (p_n - y_n)}{O \sum_n w_n} \qquad
        \frac{\partial^2 L}{\partial p_n^2} \dot p_n = \frac{2 w_n \dot p_n}{O \sum_n w_n}
    """

    def check(self, target, shape, weights=None):
        """Refuse a target that is not real numbers of the predictions' shape."""
        if target.dtype.kind not in "bfiu":
            raise TypeError(f"y must be real numbers, got dtype {target.dtype}")
        if target.shape != shape:
            raise ValueError(f"y has shape {target.shape}, the predictions have shape {shape}")

    def _evaluate(self, prediction, target, weights, total):
        error = np.subtract(prediction, target, dtype=np.float64)
        weighted = error
        if weights is not None:
            error[weights == 0] = 0  # Assigned, not multiplied: 0 * NaN is NaN.
            weighted = error * weights[..., None]
        total *= prediction.shape[-1]
        return float(np.vdot(error, weighted)) / total, weighted * (2 / total)

    def _tangent(self, prediction, prediction_dot, weights, total):
        tangent = prediction_dot * (2 / (total * prediction.shape[-1]))
        if weights is not None:
            tangent = np.where(weights[..., None] == 0, 0, tangent * weights[..., None])
        return tangent


class CrossEntropy(Loss):
    r"""Cross entropy of a softmax over K classes, in nats, for classification.

    .. math::

        L = \frac{\sum_n w_n (\log \sum_k e^{p_{nk}} - p_{n y_n})}{\sum_n w_n} \qquad
        \frac{\partial L}{\partial p_{nk}} =
            \frac{w_n (\mathrm{softmax}(p_n)_k - [k = y_n])}{\sum_n w_n} \qquad
        \frac{\partial^2 L}{\partial p_n^2} \dot p_n =
            \frac{w_n s_n \odot (\dot p_n - s_n \cdot \dot p_n)}{\sum_n w_n},
            \; s_n = \mathrm{softmax}(p_n)

    The predictions (..., K) are logits: any real numbers. The largest of each row is taken out
    before the exponential, so nothing overflows. Targets: integers (...) from 0 to K - 1.
    """

    def check(self, target, shape, weights=None):
        """Refuse a target that is not class numbers from 0 to K - 1."""
        if target.dtype.kind not in "iu":
            raise TypeError(f"y must be integer class numbers, got dtype {target.dtype}")
        if target.shape != shape[:-1]:
            raise ValueError(f"y has shape {target.shape}, expected {shape[:-1]}: one class each")
        counted = target if weights is None else target[weights != 0]
        if counted.size and not (counted.min() >= 0 and counted.max() < shape[-1]):
            raise ValueError(
                f"y has classes from {counted.min()} to {counted.max()}, the predictions are for "
                f"{shape[-1]} classes, 0 to {shape[-1] - 1}"
            )

    def _evaluate(self, prediction, target, weights, total):
        logits = prediction.astype(np.float64)
        if weights is not None:
            logits[weights == 0] = 0
            target = np.where(weights == 0, 0, target)
        logits -= logits.max(axis=-1, keepdims=True)
        gradient = np.exp(logits)
        partition = gradient.sum(axis=-1, keepdims=True)
        gradient /= partition
        label = target.astype(np.intp)[..., None]
        cost = np.log(partition) - np.take_along_axis(logits, label, axis=-1)
        at_label = np.take_along_axis(gradient, label, axis=-1)
        np.put_along_axis(gradient, label, at_label - 1, axis=-1)
        if weights is not None:
            cost *= weights[..., None]
            gradient *= weights[..., None]
        return float(cost.sum()) / total, gradient / total

    def _tangent(self, prediction, prediction_dot, weights, total):
        logits = prediction.astype(np.float64)
        counted = None if weights is None else weights[..., None] != 0
        if weights is not None:
            logits = np.where(counted, logits, 0)
        share = np.exp(logits - logits.max(axis=-1, keepdims=True))
        share /= share.sum(axis=-1, keepdims=True)
        tangent = share * (prediction_dot - (share * prediction_dot).sum(axis=-1, keepdims=True)) / total
        return tangent if weights is None else np.where(counted, tangent * weights[..., None], 0)
