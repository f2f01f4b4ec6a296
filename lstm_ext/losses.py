"""Losses: what a prediction costs, and the gradient of that cost.

A loss is a small object without state. `Model` takes any object that has ``check`` and
``value_and_gradient`` as they are described in `Loss`. Those that have a name are in `LOSSES`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from scipy.special import (
    digamma,
    expit,
    gammaln,
    log_softmax,
    logsumexp,
    ndtri,
    polygamma,
    softmax,
    stdtrit,
)

from lstm_ext._checks import count, number, positive
from lstm_ext._data import as_array, as_labels, as_number_array

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from lstm_ext._typing import Array, Doubles, FloatArray

__all__ = [
    "LOSSES",
    "AsymmetricLaplaceMixture",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "GaussianNLL",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "NashSutcliffe",
    "NegativeBinomial",
    "Poisson",
    "Quantile",
    "StudentT",
]


def _weights(
    given: npt.ArrayLike | None, shape: tuple[int, ...]
) -> tuple[Doubles | None, float]:
    """Weights as float64 of the given shape, and their sum; None stands for ones."""
    weights: Array | None = None
    if given is None:
        total = float(math.prod(shape))
    else:
        weights = as_array("weights", given)
        if weights.dtype.kind not in "bfiu":
            raise TypeError(f"weights are {weights.dtype}; expected real numbers")
        if weights.shape != shape:
            raise ValueError(f"weights have shape {weights.shape}; expected {shape}")
        weights = weights.astype(np.float64)
        total = float(weights.sum())
        if not (np.isfinite(total) and (weights >= 0).all()):
            raise ValueError("weights hold other numbers than expected, finite ones >= 0")
    if total == 0:
        raise ValueError("there is nothing to average over: no element counts")
    return weights, total


def _check_numbers(target: Array, expected: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if target.dtype.kind not in "bfiu":
        raise TypeError(f"y is {target.dtype}; expected real numbers")
    if target.shape != expected:
        more = "" if expected == shape else f": expected {expected} for y"
        if target.shape == expected[:-1] and expected[-1] == 1:
            more += ": pass y[..., None]"
        raise ValueError(f"y has shape {target.shape}, the predictions have shape {shape}{more}")


class Loss:
    """A mean over elements n of a cost of the prediction p_n, each with a weight w_n.

    Predictions have the shape (..., O): elements n run over all axes but the last. Everything is
    computed and accumulated in float64; the gradient comes back in the predictions' dtype.

    Attributes
    ----------
    outputs_per_target : int
        Outputs that the readout needs for each column of the target.
    """

    outputs_per_target = 1
    _options: tuple[str, ...] = ()  # names of the constructor's arguments, which are attributes, too

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{type(self).__name__}({arguments})"

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's arguments, by name."""
        return {name: getattr(self, name) for name in self._options}

    def _by_output(self, weights: Doubles, n: int) -> Doubles:
        """Return weights of targets as those of the outputs, n for each target."""
        return np.tile(weights, n)

    def complete_target(self, target: Array, shape: tuple[int, ...], weights: Array | None) -> Array:
        """Return the target with what the loss derives from the whole of it, once, before a training."""
        return target

    def check(
        self, target: npt.NDArray[Any], shape: tuple[int, ...], weights: npt.NDArray[Any] | None = None
    ) -> None:
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

    def value_and_gradient(
        self, prediction: npt.ArrayLike, target: npt.ArrayLike, weights: npt.ArrayLike | None = None
    ) -> tuple[float, FloatArray]:
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
        p, y, w, total = self._checked(prediction, target, weights)
        value, gradient = self._evaluate(p, y, w, total)
        return value, gradient.astype(p.dtype)

    def gradient_jvp(
        self, prediction: npt.ArrayLike, prediction_dot: npt.ArrayLike, target: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> FloatArray:
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
        p, y, w, total = self._checked(prediction, target, weights)
        p_dot = as_array("prediction_dot", prediction_dot)
        if p_dot.shape != p.shape:
            raise ValueError(f"prediction_dot has shape {p_dot.shape}, prediction has {p.shape}")
        tangent: FloatArray = self._tangent(p, p_dot, y, w, total).astype(p.dtype)
        return tangent

    def _checked(
        self, prediction: npt.ArrayLike, target: npt.ArrayLike, weights: npt.ArrayLike | None
    ) -> tuple[Array, Array, Doubles | None, float]:
        p, y = as_array("prediction", prediction), as_array("y", target)
        if p.dtype not in (np.float32, np.float64) or p.ndim == 0:
            raise TypeError(
                f"prediction is {p.dtype} of shape {p.shape}; expected a float32 or float64 array of shape "
                "(..., outputs)"
            )
        w, total = _weights(weights, p.shape[:-1])
        y = self.complete_target(y, p.shape, w)
        self.check(y, p.shape, w)
        return p, y, w, total

    def value(
        self, prediction: npt.ArrayLike, target: npt.ArrayLike, weights: npt.ArrayLike | None = None
    ) -> float:
        """Only the loss; parameters as in `value_and_gradient`."""
        return self.value_and_gradient(prediction, target, weights)[0]

    def gradient(
        self, prediction: npt.ArrayLike, target: npt.ArrayLike, weights: npt.ArrayLike | None = None
    ) -> FloatArray:
        """Only the gradient; parameters as in `value_and_gradient`."""
        return self.value_and_gradient(prediction, target, weights)[1]

    def _evaluate(
        self, prediction: Array, target: Array, weights: Array | None, total: float
    ) -> tuple[float, Array]:
        raise NotImplementedError

    def _tangent(
        self, prediction: Array, prediction_dot: Array, target: Array, weights: Array | None, total: float
    ) -> Array:
        raise NotImplementedError


class MeanSquaredError(Loss):
    r"""Squared error, for regression. Targets: real numbers of the predictions' shape.

    .. math::

        L = \frac{\sum_n w_n \lVert p_n - y_n \rVert^2}{O \sum_n w_n} \qquad
        \frac{\partial L}{\partial p_n} = \frac{2 w_n (p_n - y_n)}{O \sum_n w_n} \qquad
        \frac{\partial^2 L}{\partial p_n^2} \dot p_n = \frac{2 w_n \dot p_n}{O \sum_n w_n}
    """

    def check(
        self, target: npt.NDArray[Any], shape: tuple[int, ...], weights: npt.NDArray[Any] | None = None
    ) -> None:
        """Refuse a target that is not real numbers of the predictions' shape."""
        _check_numbers(target, shape, shape)

    def _cost(self, p: Doubles, y: Doubles) -> tuple[Doubles, Doubles]:
        error = p - y
        return error * error, 2 * error

    def _evaluate(
        self, prediction: Array, target: Array, weights: Array | None, total: float
    ) -> tuple[float, Array]:
        error = np.subtract(prediction, target, dtype=np.float64)
        weighted = error
        if weights is not None:
            error[weights == 0] = 0  # Assigned, not multiplied: 0 * NaN is NaN.
            weighted = error * weights[..., None]
        total *= prediction.shape[-1]
        return float(np.vdot(error, weighted)) / total, weighted * (2 / total)

    def _tangent(
        self, prediction: Array, prediction_dot: Array, target: Array, weights: Array | None, total: float
    ) -> Array:
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

    def check(
        self, target: npt.NDArray[Any], shape: tuple[int, ...], weights: npt.NDArray[Any] | None = None
    ) -> None:
        """Refuse a target that is not class numbers from 0 to K - 1."""
        if target.dtype.kind not in "iu":
            raise TypeError(f"y is {target.dtype}; expected integer class numbers")
        if target.shape != shape[:-1]:
            raise ValueError(f"y has shape {target.shape}; expected {shape[:-1]}: one class each")
        counted = target if weights is None else target[weights != 0]
        if counted.size and not (counted.min() >= 0 and counted.max() < shape[-1]):
            raise ValueError(
                f"y has classes from {counted.min()} to {counted.max()}, the predictions are for "
                f"{shape[-1]} classes, 0 to {shape[-1] - 1}"
            )

    def _evaluate(
        self, prediction: Array, target: Array, weights: Array | None, total: float
    ) -> tuple[float, Array]:
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

    def _tangent(
        self, prediction: Array, prediction_dot: Array, target: Array, weights: Array | None, total: float
    ) -> Array:
        logits = prediction.astype(np.float64)
        if weights is not None:
            logits = np.where(weights[..., None] != 0, logits, 0)
        share = np.exp(logits - logits.max(axis=-1, keepdims=True))
        share /= share.sum(axis=-1, keepdims=True)
        tangent = share * (prediction_dot - (share * prediction_dot).sum(axis=-1, keepdims=True)) / total
        if weights is not None:
            tangent = np.where(weights[..., None] != 0, tangent * weights[..., None], 0)
        return tangent


class _Pointwise(Loss):
    """A mean over elements and outputs of a cost of one number and its target."""

    def check(
        self, target: npt.NDArray[Any], shape: tuple[int, ...], weights: npt.NDArray[Any] | None = None
    ) -> None:
        """Refuse a target that is not real numbers of the predictions' shape."""
        _check_numbers(target, shape, shape)

    def _cost(self, p: Doubles, y: Doubles) -> tuple[Doubles, Doubles]:
        """Return costs and their derivatives by p, each of the shape of p."""
        raise NotImplementedError

    def _curvature(self, p: Doubles, p_dot: Doubles, y: Doubles) -> Doubles:
        """Return the derivative of the derivatives along `p_dot`."""
        raise NotImplementedError

    def _terms(self, shape: tuple[int, ...]) -> int:
        """Count the costs that an element is the mean of."""
        return shape[-1]

    def _evaluate(
        self, prediction: Array, target: Array, weights: Array | None, total: float
    ) -> tuple[float, Array]:
        p, y = _double(weights, prediction, target)
        cost, slope = self._cost(p, y)
        if weights is not None:
            cost *= weights[..., None]
            slope *= weights[..., None]
        total *= self._terms(prediction.shape)
        return float(cost.sum()) / total, slope / total

    def _tangent(
        self, prediction: Array, prediction_dot: Array, target: Array, weights: Array | None, total: float
    ) -> Array:
        p, p_dot, y = _double(weights, prediction, prediction_dot, target)
        tangent = self._curvature(p, p_dot, y)
        if weights is not None:
            tangent *= weights[..., None]
        return tangent / (total * self._terms(prediction.shape))


def _double(weights: Array | None, *arrays: Array) -> list[Doubles]:
    """Arrays as float64, 0 where nothing counts: NaN times weight 0 is NaN."""
    if weights is None:
        return [np.asarray(a, np.float64) for a in arrays]
    counted = (weights != 0)[..., None]
    return [np.where(counted, a, np.float64(0)) for a in arrays]


def _levels(given: npt.ArrayLike) -> Doubles:
    """Probabilities as an array, (Q,)."""
    levels: Doubles = np.atleast_1d(as_number_array("levels", given, allow_nan=True))
    if levels.ndim != 1 or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"levels is {levels.tolist()}; expected numbers between 0 and 1")
    return levels


class Weighted(Loss):
    r"""Another loss, with a weight for each target: 0 where it is not known.

    .. math:: L = \frac{\sum_n w_n \sum_k v_{nk} c_{nk}}{K \sum_n w_n}

    The weights travel with the targets, as the last K columns of y. Where one is 0 the target may be
    anything. `LSTMRegressor` trains with it if y has NaN or the targets have weights.

    Parameters
    ----------
    loss : Loss
        Of this module, but for `CrossEntropy`.
    """

    loss: MeanSquaredError | _Pointwise

    _options = ("loss",)

    def __init__(self, loss: Loss) -> None:
        if not isinstance(loss, MeanSquaredError | _Pointwise):
            raise TypeError(f"loss is {loss!r}; expected a loss of numbers, of lstm_ext.losses")
        self.loss = loss

    @property
    def outputs_per_target(self) -> int:  # type: ignore[override]  # constant in the other losses
        """Outputs for each column of the target: those of the loss."""
        return self.loss.outputs_per_target

    def _columns(self, shape: tuple[int, ...]) -> int:
        return shape[-1] // self.loss.outputs_per_target

    def check(
        self, target: npt.NDArray[Any], shape: tuple[int, ...], weights: npt.NDArray[Any] | None = None
    ) -> None:
        """Refuse targets that the loss refuses, and weights that are not finite numbers >= 0."""
        k = self._columns(shape)
        if target.ndim != len(shape) or target.shape[-1] <= k:
            raise ValueError(f"y has shape {target.shape}; expected targets and {k} weights for them")
        target, each = target[..., :-k], target[..., -k:]
        if not (np.isfinite(each).all() and (each >= 0).all()):
            raise ValueError("the weights in y hold other numbers than expected, finite ones >= 0")
        known = np.where((each > 0)[..., : min(k, target.shape[-1])], target[..., :k], 0)
        self.loss.check(np.concatenate([known, target[..., k:]], axis=-1), shape, weights)

    def _parts(self, target: Array, shape: tuple[int, ...]) -> tuple[Array, Doubles]:
        k = self._columns(shape)
        target, each = target[..., :-k], target[..., -k:].astype(np.float64)
        known = np.where(each > 0, target[..., :k], 0)
        return np.concatenate([known, target[..., k:]], axis=-1), each

    def _evaluate(
        self, prediction: Array, target: Array, weights: Array | None, total: float
    ) -> tuple[float, Array]:
        target, each = self._parts(target, prediction.shape)
        p, y = _double(weights, prediction, target)
        cost, slope = self.loss._cost(p, y)
        if weights is not None:
            each = each * weights[..., None]
        cost = cost * self.loss._by_output(each, cost.shape[-1] // each.shape[-1])
        slope = slope * self.loss._by_output(each, slope.shape[-1] // each.shape[-1])
        total *= cost.shape[-1]
        return float(cost.sum()) / total, slope / total

    def _tangent(
        self, prediction: Array, prediction_dot: Array, target: Array, weights: Array | None, total: float
    ) -> Array:
        target, each = self._parts(target, prediction.shape)
        p, p_dot, y = _double(weights, prediction, prediction_dot, target)
        if isinstance(self.loss, MeanSquaredError):
            tangent, terms = 2 * p_dot, each.shape[-1]
        else:
            tangent, terms = self.loss._curvature(p, p_dot, y), self.loss._terms(prediction.shape)
        if weights is not None:
            each = each * weights[..., None]
        each = self.loss._by_output(each, tangent.shape[-1] // each.shape[-1])
        return tangent * each / (total * terms)


class BinaryCrossEntropy(_Pointwise):
    r"""Cross entropy of O labels, each of which is there or not, in nats. Targets: 0 or 1.

    .. math::

        L = \frac{\sum_n w_n \sum_k (\log(1 + e^{p_{nk}}) - y_{nk} p_{nk})}{O \sum_n w_n} \qquad
        \frac{\partial L}{\partial p_{nk}} = \frac{w_n (\sigma(p_{nk}) - y_{nk})}{O \sum_n w_n}

    The predictions are logits. As in PyTorch's ``BCEWithLogitsLoss``; D. R. Cox, "The regression analysis
    of binary sequences", J. R. Stat. Soc. B 20:215, 1958.
    """

    def check(
        self, target: npt.NDArray[Any], shape: tuple[int, ...], weights: npt.NDArray[Any] | None = None
    ) -> None:
        """Refuse a target that is not numbers from 0 to 1 of the predictions' shape."""
        super().check(target, shape, weights)
        counted = target if weights is None else target[weights != 0]
        if ((counted < 0) | (counted > 1)).any():
            raise ValueError("y has numbers outside 0 to 1; expected 0 or 1 for each label")

    def _cost(self, p: Doubles, y: Doubles) -> tuple[Doubles, Doubles]:
        return np.logaddexp(0, p) - y * p, expit(p) - y

    def _curvature(self, p: Doubles, p_dot: Doubles, y: Doubles) -> Doubles:
        curvature: Doubles = expit(p) * expit(-p)
        return curvature * p_dot


class MeanAbsoluteError(_Pointwise):
    r"""Absolute error: its minimum is the median. Targets: real numbers of the predictions' shape.

    .. math::

        L = \frac{\sum_n w_n \lVert p_n - y_n \rVert_1}{O \sum_n w_n} \qquad
        \frac{\partial L}{\partial p_n} = \frac{w_n \operatorname{sign}(p_n - y_n)}{O \sum_n w_n}

    The derivative at 0 is taken as 0; the second one is 0.
    """

    def _cost(self, p: Doubles, y: Doubles) -> tuple[Doubles, Doubles]:
        error = p - y
        return np.abs(error), np.sign(error)

    def _curvature(self, p: Doubles, p_dot: Doubles, y: Doubles) -> Doubles:
        return np.zeros_like(p)


class Huber(_Pointwise):
    r"""Squared error for small errors, absolute for large ones. Targets: of the predictions' shape.

    .. math::

        \rho(e) = \begin{cases} e^2 / 2 & |e| \le \delta \\
                   \delta (|e| - \delta / 2) & |e| > \delta \end{cases} \qquad
        L = \frac{\sum_n w_n \sum_k \rho(p_{nk} - y_{nk})}{O \sum_n w_n}

    P. J. Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 35(1), 1964. As in
    PyTorch's ``HuberLoss``.

    Parameters
    ----------
    delta : float
        Greater than 0, in the targets' units.
    """

    delta: float

    _options = ("delta",)

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = positive("delta", delta)

    def _cost(self, p: Doubles, y: Doubles) -> tuple[Doubles, Doubles]:
        error = p - y
        slope = np.clip(error, -self.delta, self.delta)
        return slope * (error - 0.5 * slope), slope

    def _curvature(self, p: Doubles, p_dot: Doubles, y: Doubles) -> Doubles:
        return np.where(np.abs(p - y) <= self.delta, p_dot, 0.0)


class Quantile(_Pointwise):
    r"""Pinball loss: its minimum are quantiles of the target's distribution.

    .. math::

        \rho_q(e) = \max(q e, (q - 1) e) \qquad
        L = \frac{\sum_n w_n \sum_{k,j} \rho_{q_j}(y_{nk} - p_{nkj})}{O \sum_n w_n}

    R. Koenker, G. Bassett, "Regression quantiles", Econometrica 46(1), 1978.

    With Q levels and targets (..., K) there are O = K Q outputs: those of the first target at all
    levels, then those of the second. Nothing keeps the quantiles from crossing. The derivative where
    p = y is taken as 0; the second one is 0.

    Parameters
    ----------
    levels : float or sequence of floats
        The levels q, each between 0 and 1; 0.5 is the median.
    """

    levels: tuple[float, ...]

    _options = ("levels",)

    def __init__(self, levels: float | Sequence[float] = (0.1, 0.5, 0.9)) -> None:
        given = tuple(levels) if isinstance(levels, Iterable) else (levels,)
        self.levels = tuple(
            number("levels", q, lambda v: 0 < v < 1, "numbers between 0 and 1") for q in given
        )
        if not self.levels:
            raise ValueError("levels is empty; expected numbers between 0 and 1")

    def _by_output(self, weights: Doubles, n: int) -> Doubles:
        return np.repeat(weights, n, axis=-1)

    @property
    def outputs_per_target(self) -> int:  # type: ignore[override]  # constant in the other losses
        """Outputs for each column of the target: the number of levels."""
        return len(self.levels)

    def check(
        self, target: npt.NDArray[Any], shape: tuple[int, ...], weights: npt.NDArray[Any] | None = None
    ) -> None:
        """Refuse a target that is not real numbers, one for every Q outputs."""
        if shape[-1] % len(self.levels):
            raise ValueError(
                f"there are {shape[-1]} outputs; expected a multiple of {len(self.levels)}: one for each "
                "target and level"
            )
        _check_numbers(target, (*shape[:-1], shape[-1] // len(self.levels)), shape)

    def _cost(self, p: Doubles, y: Doubles) -> tuple[Doubles, Doubles]:
        q = np.tile(self.levels, y.shape[-1])
        error = np.repeat(y, len(self.levels), axis=-1) - p
        slope = np.where(error > 0, -q, 1 - q)
        slope[error == 0] = 0
        return -slope * error, slope

    def _curvature(self, p: Doubles, p_dot: Doubles, y: Doubles) -> Doubles:
        return np.zeros_like(p)


class Poisson(_Pointwise):
    r"""Negative log likelihood of counts whose rate is :math:`e^p`. Targets: numbers >= 0.

    .. math::

        L = \frac{\sum_n w_n \sum_k (e^{p_{nk}} - y_{nk} p_{nk})}{O \sum_n w_n} \qquad
        \frac{\partial L}{\partial p_{nk}} = \frac{w_n (e^{p_{nk}} - y_{nk})}{O \sum_n w_n}

    but for :math:`\log y!`, which does not depend on p (P. McCullagh, J. A. Nelder, *Generalized Linear
    Models*, 2nd ed., 1989, ch. 6; PyTorch's ``PoissonNLLLoss``).
    """

    def check(
        self, target: npt.NDArray[Any], shape: tuple[int, ...], weights: npt.NDArray[Any] | None = None
    ) -> None:
        """Refuse a target that is not numbers >= 0 of the predictions' shape."""
        super().check(target, shape, weights)
        counted = target if weights is None else target[weights != 0]
        if (counted < 0).any():
            raise ValueError(f"y has {counted.min()}; expected counts >= 0")

    def rate(self, prediction: npt.ArrayLike) -> FloatArray:
        """Return the expected counts for predictions (..., O), of the same shape."""
        return np.exp(prediction)

    def quantile(self, prediction: npt.ArrayLike, levels: npt.ArrayLike) -> FloatArray:
        """Return quantiles of the counts for predictions (..., K), (..., K, Q)."""
        from scipy.stats import poisson

        rate = self.rate(as_array("prediction", prediction).astype(np.float64))
        quantiles: Doubles = poisson.ppf(_levels(levels), rate[..., None])
        return quantiles

    def _cost(self, p: Doubles, y: Doubles) -> tuple[Doubles, Doubles]:
        with np.errstate(over="ignore"):
            rate = np.exp(p)
        return rate - y * p, rate - y

    def _curvature(self, p: Doubles, p_dot: Doubles, y: Doubles) -> Doubles:
        with np.errstate(over="ignore"):
            return np.exp(p) * p_dot


class GaussianNLL(_Pointwise):
    r"""Negative log likelihood of a normal distribution whose mean and scale are predicted.

    .. math::

        \mu, s = p, \quad \sigma = \sigma_0 + \log(1 + e^s) \qquad
        L = \frac{\sum_n w_n \sum_k \left( \log \sigma_{nk} + \frac{1}{2} z_{nk}^2
            + \frac{1}{2} \log 2 \pi \right)}{K \sum_n w_n}, \; z = \frac{y - \mu}{\sigma}

    D. A. Nix, A. S. Weigend, "Estimating the mean and variance of the target probability
    distribution", ICNN 1994.

    With targets (..., K) there are O = 2 K outputs: the K means, then the K raw scales s.

    Parameters
    ----------
    min_scale : float
        :math:`\sigma_0`, greater than 0, in the targets' units: the loss has no lower bound without.
    """

    min_scale: float

    outputs_per_target = 2
    _options = ("min_scale",)

    def __init__(self, min_scale: float = 1e-6) -> None:
        self.min_scale = positive("min_scale", min_scale)

    def check(
        self, target: npt.NDArray[Any], shape: tuple[int, ...], weights: npt.NDArray[Any] | None = None
    ) -> None:
        """Refuse a target that is not real numbers, one for every two outputs."""
        if shape[-1] % 2:
            raise ValueError(f"there are {shape[-1]} outputs; expected an even number: means and scales")
        _check_numbers(target, (*shape[:-1], shape[-1] // 2), shape)

    def _terms(self, shape: tuple[int, ...]) -> int:
        return shape[-1] // 2

    def mean_and_scale(self, prediction: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation for predictions (..., 2 K), each (..., K)."""
        mean, raw = np.split(as_array("prediction", prediction), 2, axis=-1)
        return mean, (self.min_scale + np.logaddexp(0, raw)).astype(raw.dtype)

    def quantile(self, prediction: npt.ArrayLike, levels: npt.ArrayLike) -> FloatArray:
        """Return quantiles for predictions (..., 2 K), (..., K, Q)."""
        mean, scale = self.mean_and_scale(as_array("prediction", prediction).astype(np.float64))
        z: Doubles = ndtri(_levels(levels))
        return mean[..., None] + scale[..., None] * z

    def _parts(self, p: Doubles, y: Doubles) -> tuple[Doubles, Doubles, Doubles]:
        mean, raw = np.split(p, 2, axis=-1)
        scale = self.min_scale + np.logaddexp(0, raw)
        return scale, (y - mean) / scale, raw

    def _cost(self, p: Doubles, y: Doubles) -> tuple[Doubles, Doubles]:
        scale, z, raw = self._parts(p, y)
        s = expit(raw)
        cost = np.log(scale) + 0.5 * z * z + 0.5 * math.log(2 * math.pi)
        return cost, np.concatenate([-z / scale, s * (1 - z * z) / scale], axis=-1)

    def _curvature(self, p: Doubles, p_dot: Doubles, y: Doubles) -> Doubles:
        scale, z, raw = self._parts(p, y)
        s = expit(raw)
        mean_dot, raw_dot = np.split(p_dot, 2, axis=-1)
        mixed = 2 * z * s / scale**2
        second = s * ((3 * z * z - 1) * s / scale**2 + expit(-raw) * (1 - z * z) / scale)
        return np.concatenate(
            [mean_dot / scale**2 + mixed * raw_dot, mixed * mean_dot + second * raw_dot], axis=-1
        )


class _Several(_Pointwise):
    """A negative log likelihood whose distribution has several numbers, each an output for each target."""

    def _terms(self, shape: tuple[int, ...]) -> int:
        return shape[-1] // self.outputs_per_target

    def check(
        self, target: npt.NDArray[Any], shape: tuple[int, ...], weights: npt.NDArray[Any] | None = None
    ) -> None:
        """Refuse a target that is not real numbers, one for every `outputs_per_target` outputs."""
        n = self.outputs_per_target
        if shape[-1] % n:
            raise ValueError(f"there are {shape[-1]} outputs; expected a multiple of {n} for {self!r}")
        _check_numbers(target, (*shape[:-1], shape[-1] // n), shape)

    def _split(self, values: npt.ArrayLike) -> list[Doubles]:
        """Return the numbers of each target: outputs_per_target arrays (..., K)."""
        return np.split(as_array("prediction", values).astype(np.float64), self.outputs_per_target, axis=-1)


class NegativeBinomial(_Several):
    r"""Negative log likelihood of counts that vary more than a Poisson distribution's.

    .. math::

        a, s = p, \quad \mu = e^a, \quad \alpha = \alpha_0 + \log(1 + e^s), \quad r = 1 / \alpha \qquad
        c = -\log \frac{\Gamma(y + r)}{\Gamma(r) \, y!} + r \log(1 + \alpha \mu)
            - y \log \frac{\alpha \mu}{1 + \alpha \mu}

    The mean is :math:`\mu`, the variance :math:`\mu + \alpha \mu^2` (A. C. Cameron, P. K. Trivedi,
    *Regression Analysis of Count Data*, 2nd ed., 2013, NB2; as in DeepAR, D. Salinas et al., Int. J.
    Forecasting 36:1181, 2020). With targets (..., K) there are O = 2 K outputs: the K logarithms of the
    means, then the K raw dispersions s.

    Parameters
    ----------
    min_dispersion : float
        :math:`\alpha_0`, greater than 0.
    """

    min_dispersion: float

    outputs_per_target = 2
    _options = ("min_dispersion",)

    def __init__(self, min_dispersion: float = 1e-4) -> None:
        self.min_dispersion = positive("min_dispersion", min_dispersion)

    def check(
        self, target: npt.NDArray[Any], shape: tuple[int, ...], weights: npt.NDArray[Any] | None = None
    ) -> None:
        """Refuse a target that is not numbers >= 0, one for every two outputs."""
        super().check(target, shape, weights)
        counted = target if weights is None else target[weights != 0]
        if (counted < 0).any():
            raise ValueError(f"y has {counted.min()}; expected counts >= 0")

    def mean_and_dispersion(self, prediction: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return mean and dispersion for predictions (..., 2 K), each (..., K)."""
        log_mean, raw = self._split(prediction)
        return np.exp(log_mean), self.min_dispersion + np.logaddexp(0, raw)

    def mean_and_scale(self, prediction: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation for predictions (..., 2 K), each (..., K)."""
        mean, dispersion = self.mean_and_dispersion(prediction)
        return mean, np.sqrt(mean + dispersion * mean * mean)

    def quantile(self, prediction: npt.ArrayLike, levels: npt.ArrayLike) -> FloatArray:
        """Return quantiles of the counts for predictions (..., 2 K), (..., K, Q)."""
        from scipy.stats import nbinom

        mean, dispersion = (part[..., None] for part in self.mean_and_dispersion(prediction))
        quantiles: Doubles = nbinom.ppf(_levels(levels), 1 / dispersion, 1 / (1 + dispersion * mean))
        return quantiles

    def _numbers(self, p: Doubles) -> tuple[Doubles, Doubles, Doubles, Doubles]:
        log_mean, raw = np.split(p, 2, axis=-1)
        with np.errstate(over="ignore"):
            return np.exp(log_mean), self.min_dispersion + np.logaddexp(0, raw), log_mean, raw

    def _cost(self, p: Doubles, y: Doubles) -> tuple[Doubles, Doubles]:
        mean, alpha, log_mean, raw = self._numbers(p)
        r = 1 / alpha
        both = np.logaddexp(0, log_mean + np.log(alpha))  # log(1 + alpha mean)
        cost = gammaln(r) + gammaln(y + 1) - gammaln(y + r) + r * both - y * (log_mean + np.log(alpha) - both)
        bracket = digamma(y + r) - digamma(r) - both + (mean - y) / (r + mean)
        slope = [(mean - y) / (1 + alpha * mean), r * r * bracket * expit(raw)]
        return cost, np.concatenate(slope, axis=-1)

    def _curvature(self, p: Doubles, p_dot: Doubles, y: Doubles) -> Doubles:
        mean, alpha, log_mean, raw = self._numbers(p)
        log_mean_dot, raw_dot = np.split(p_dot, 2, axis=-1)
        r, s = 1 / alpha, expit(raw)
        mean_dot, alpha_dot = mean * log_mean_dot, s * raw_dot
        r_dot, base = -alpha_dot * r * r, 1 + alpha * mean
        product_dot = alpha_dot * mean + alpha * mean_dot
        both = np.logaddexp(0, log_mean + np.log(alpha))
        bracket = digamma(y + r) - digamma(r) - both + (mean - y) / (r + mean)
        bracket_dot = (polygamma(1, y + r) - polygamma(1, r)) * r_dot - product_dot / base + (
            mean_dot * (r + mean) - (mean - y) * (r_dot + mean_dot)
        ) / (r + mean) ** 2
        by_alpha, by_alpha_dot = r * r * bracket, 2 * r * r_dot * bracket + r * r * bracket_dot
        return np.concatenate(
            [
                mean_dot / base - (mean - y) * product_dot / base**2,
                by_alpha_dot * s + by_alpha * s * expit(-raw) * raw_dot,
            ],
            axis=-1,
        )


class StudentT(_Several):
    r"""Negative log likelihood of Student's t, whose tails are heavier than a normal distribution's.

    .. math::

        \mu, s, d = p, \quad \sigma = \sigma_0 + \log(1 + e^s), \quad \nu = 2 + \log(1 + e^d), \quad
        z = \frac{y - \mu}{\sigma} \qquad
        c = \log \frac{\Gamma(\nu / 2)}{\Gamma((\nu + 1) / 2)} + \frac{1}{2} \log(\nu \pi)
            + \log \sigma + \frac{\nu + 1}{2} \log\left(1 + \frac{z^2}{\nu}\right)

    K. L. Lange, R. J. A. Little, J. M. G. Taylor, "Robust statistical modeling using the t distribution",
    J. Am. Stat. Assoc. 84:881, 1989. More than two degrees of freedom, so that there is a variance. With
    targets (..., K) there are O = 3 K outputs: the K means, the K raw scales s, the K raw degrees of
    freedom d.

    Parameters
    ----------
    min_scale : float
        :math:`\sigma_0`, greater than 0, in the targets' units.
    """

    min_scale: float

    outputs_per_target = 3
    _options = ("min_scale",)

    def __init__(self, min_scale: float = 1e-6) -> None:
        self.min_scale = positive("min_scale", min_scale)

    def distribution(self, prediction: npt.ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return mean, scale and degrees of freedom for predictions (..., 3 K), each (..., K)."""
        mean, raw, raw_df = self._split(prediction)
        return mean, self.min_scale + np.logaddexp(0, raw), 2 + np.logaddexp(0, raw_df)

    def mean_and_scale(self, prediction: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation for predictions (..., 3 K), each (..., K)."""
        mean, scale, df = self.distribution(prediction)
        # Next to two degrees of freedom the variance has no bound: that of 2.1 is the largest said.
        return mean, scale * np.sqrt(1 + 2 / np.maximum(df - 2, 0.1))

    def quantile(self, prediction: npt.ArrayLike, levels: npt.ArrayLike) -> FloatArray:
        """Return quantiles for predictions (..., 3 K), (..., K, Q)."""
        mean, scale, df = (part[..., None] for part in self.distribution(prediction))
        t: Doubles = stdtrit(df, _levels(levels))
        return mean + scale * t

    def _cost(self, p: Doubles, y: Doubles) -> tuple[Doubles, Doubles]:
        mean, raw, raw_df = np.split(p, 3, axis=-1)
        _, scale, df = self.distribution(p)
        z = (y - mean) / scale
        tail = np.log1p(z * z / df)
        cost = (
            gammaln(df / 2) - gammaln((df + 1) / 2) + 0.5 * np.log(df * np.pi) + np.log(scale)
            + 0.5 * (df + 1) * tail
        )
        pull = (df + 1) * z / (df + z * z)
        by_df = 0.5 * (digamma(df / 2) - digamma((df + 1) / 2) + (1 - pull * z) / df + tail)
        slope = [-pull / scale, (1 - pull * z) / scale * expit(raw), by_df * expit(raw_df)]
        return cost, np.concatenate(slope, axis=-1)

    def _curvature(self, p: Doubles, p_dot: Doubles, y: Doubles) -> Doubles:
        mean, raw, raw_df = np.split(p, 3, axis=-1)
        mean_dot, raw_dot, raw_df_dot = np.split(p_dot, 3, axis=-1)
        _, scale, df = self.distribution(p)
        s, s_df = expit(raw), expit(raw_df)
        scale_dot, df_dot = s * raw_dot, s_df * raw_df_dot
        z = (y - mean) / scale
        z_dot = -(mean_dot + z * scale_dot) / scale
        base, base_dot = df + z * z, df_dot + 2 * z * z_dot
        pull = (df + 1) * z / base
        pull_dot = (df_dot * z + (df + 1) * z_dot - pull * base_dot) / base
        along_dot = pull_dot * z + pull * z_dot  # of pull * z
        by_scale = (1 - pull * z) / scale
        by_scale_dot = -(along_dot + by_scale * scale_dot) / scale
        by_df = 0.5 * (
            digamma(df / 2) - digamma((df + 1) / 2) + (1 - pull * z) / df + np.log1p(z * z / df)
        )
        by_df_dot = 0.5 * (
            0.5 * (polygamma(1, df / 2) - polygamma(1, (df + 1) / 2)) * df_dot
            - along_dot / df - (1 - pull * z) * df_dot / df**2 + (2 * z * z_dot - z * z * df_dot / df) / base
        )
        return np.concatenate(
            [
                (pull * scale_dot / scale - pull_dot) / scale,
                by_scale_dot * s + by_scale * s * expit(-raw) * raw_dot,
                by_df_dot * s_df + by_df * s_df * expit(-raw_df) * raw_df_dot,
            ],
            axis=-1,
        )


class AsymmetricLaplaceMixture(_Several):
    r"""Negative log likelihood of a mixture of asymmetric Laplace distributions (CMAL).

    .. math::

        c = -\log \sum_m \pi_m \frac{\tau_m (1 - \tau_m)}{b_m}
            \exp\left( -\frac{y - \mu_m}{b_m} (\tau_m - [y < \mu_m]) \right), \quad
        \pi = \mathrm{softmax}(a), \; b = b_0 + \log(1 + e^s), \; \tau = \sigma(t)

    D. Klotz et al., "Uncertainty estimation with deep learning for rainfall-runoff modeling", HESS 26:1673,
    2022: the countable mixture of asymmetric Laplacians, which was the best of four there. With M
    components and targets (..., K) there are O = 4 M K outputs: for each of a, :math:`\mu`, s, t and each
    component, the K targets.

    Parameters
    ----------
    components : int
        M, at least 1; the paper's is 3.
    min_scale : float
        :math:`b_0`, greater than 0, in the targets' units.
    """

    components: int
    min_scale: float

    _options = ("components", "min_scale")

    def __init__(self, components: int = 3, min_scale: float = 1e-4) -> None:
        self.components = count("components", components, 1)
        self.min_scale = positive("min_scale", min_scale)

    @property
    def outputs_per_target(self) -> int:  # type: ignore[override]  # constant in the other losses
        """Outputs for each column of the target: four for each component."""
        return 4 * self.components

    def distribution(
        self, prediction: npt.ArrayLike
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return weights, locations, scales and asymmetries for predictions (..., 4 M K): (..., M, K)."""
        a, location, s, t = self._numbers(as_array("prediction", prediction).astype(np.float64))
        return softmax(a, axis=-2), location, self.min_scale + np.logaddexp(0, s), expit(t)

    def _numbers(self, p: Doubles) -> Iterator[Doubles]:
        parts = p.reshape(*p.shape[:-1], 4, self.components, -1)
        return (parts[..., k, :, :] for k in range(4))

    def mean_and_scale(self, prediction: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation for predictions (..., 4 M K), each (..., K)."""
        weight, location, b, tau = self.distribution(prediction)
        product = tau * (1 - tau)
        center = location + b * (1 - 2 * tau) / product
        variance = b * b * (1 - 2 * product) / product**2
        mean = (weight * center).sum(axis=-2)
        spread = (weight * (variance + (center - mean[..., None, :]) ** 2)).sum(axis=-2)
        return mean, np.sqrt(spread)

    def cdf(self, prediction: npt.ArrayLike, y: npt.ArrayLike) -> FloatArray:
        """Return the probability of at most y, (..., K, Q), for predictions (..., 4 M K)."""
        weight, location, b, tau = (part[..., None] for part in self.distribution(prediction))
        z = (as_array("y", y)[..., None, :, :] - location) / b
        below = tau * np.exp((1 - tau) * np.minimum(z, 0))
        above = 1 - (1 - tau) * np.exp(-tau * np.maximum(z, 0))
        probability: Doubles = (weight * np.where(z < 0, below, above)).sum(axis=-3)
        return probability

    def quantile(self, prediction: npt.ArrayLike, levels: npt.ArrayLike) -> FloatArray:
        """Return quantiles for predictions (..., 4 M K), (..., K, Q), by bisection."""
        p = _levels(levels)
        _, location, b, tau = (part[..., None] for part in self.distribution(prediction))
        own = location + b * np.where(
            p < tau, np.log(p / tau) / (1 - tau), -np.log((1 - p) / (1 - tau)) / tau
        )
        low: Doubles = own.min(axis=-3)  # the mixture's quantiles lie between its components'
        high: Doubles = own.max(axis=-3)
        for _ in range(60):
            middle = 0.5 * (low + high)
            less = self.cdf(prediction, middle) < p
            low, high = np.where(less, middle, low), np.where(less, high, middle)
        return 0.5 * (low + high)

    def _terms_of(
        self, p: Doubles, y: Doubles
    ) -> tuple[Doubles, Doubles, Doubles, Doubles, Doubles, Doubles, Doubles]:
        a, location, s, t = self._numbers(p)
        b, tau = self.min_scale + np.logaddexp(0, s), expit(t)
        z = (y[..., None, :] - location) / b
        side = tau - (z < 0)
        log_share = log_softmax(a, axis=-2)
        joint = log_share - np.logaddexp(0, t) - np.logaddexp(0, -t) - np.log(b) - side * z
        return log_share, b, tau, s, z, side, joint

    def _cost(self, p: Doubles, y: Doubles) -> tuple[Doubles, Doubles]:
        log_share, b, tau, s, z, side, joint = self._terms_of(p, y)
        total = logsumexp(joint, axis=-2)
        belief = np.exp(joint - total[..., None, :])
        slope = np.stack(
            [
                np.exp(log_share) - belief,
                -belief * side / b,
                -belief * expit(s) * (side * z - 1) / b,
                -belief * (1 - 2 * tau - z * tau * (1 - tau)),
            ],
            axis=-3,
        )
        return -total, slope.reshape(p.shape)

    def _curvature(self, p: Doubles, p_dot: Doubles, y: Doubles) -> Doubles:
        log_share, b, tau, s, z, side, joint = self._terms_of(p, y)
        a_dot, location_dot, s_dot, t_dot = self._numbers(p_dot)
        share, belief = np.exp(log_share), softmax(joint, axis=-2)
        steep = expit(s)
        b_dot, tau_dot = steep * s_dot, tau * (1 - tau) * t_dot
        z_dot = -(location_dot + z * b_dot) / b
        share_dot = share * (a_dot - (share * a_dot).sum(axis=-2, keepdims=True))
        by_b, by_t = (side * z - 1) / b, 1 - 2 * tau - z * tau * (1 - tau)
        joint_dot = (
            a_dot - (share * a_dot).sum(axis=-2, keepdims=True)
            + side / b * location_dot + by_b * b_dot + by_t * t_dot
        )
        belief_dot = belief * (joint_dot - (belief * joint_dot).sum(axis=-2, keepdims=True))
        by_b_dot = (tau_dot * z + side * z_dot - by_b * b_dot) / b
        by_t_dot = -2 * tau_dot - z_dot * tau * (1 - tau) - z * (1 - 2 * tau) * tau_dot
        tangent = np.stack(
            [
                share_dot - belief_dot,
                -(belief_dot * side + belief * (tau_dot - side * b_dot / b)) / b,
                -(
                    belief_dot * steep * by_b + belief * steep * (1 - steep) * s_dot * by_b
                    + belief * steep * by_b_dot
                ),
                -(belief_dot * by_t + belief * by_t_dot),
            ],
            axis=-3,
        )
        return tangent.reshape(p.shape)


class NashSutcliffe(_Pointwise):
    r"""Squared error relative to how much the target varies where it comes from.

    .. math::

        L = \frac{\sum_n w_n \sum_k (p_{nk} - y_{nk})^2 / (s_{nk} + \epsilon)^2}{O \sum_n w_n}

    NSE* of F. Kratzert et al., "Towards learning universal, regional, and local hydrological behaviors
    via machine learning applied to large-sample datasets", HESS 23:5089, 2019, eq. 11: s is the
    standard deviation of the target over its basin's training period. Without it, basins with much
    water would decide by themselves.

    The scales travel with the targets: y (..., 2 O) holds the targets, then their scales. `prepare`
    makes it. Of only targets (N, T, O), each sequence is taken for a basin of its own.

    Parameters
    ----------
    eps : float
        :math:`\epsilon`, greater than 0, in the targets' units.
    """

    eps: float

    _options = ("eps",)

    def __init__(self, eps: float = 0.1) -> None:
        self.eps = positive("eps", eps)

    def prepare(
        self, y: npt.ArrayLike, *, groups: npt.ArrayLike | None = None, scale: npt.ArrayLike | None = None
    ) -> FloatArray:
        """Join targets and their scales.

        Parameters
        ----------
        y : array_like of shape (N, O) or (N, T, O)
            Targets.
        groups : array_like of shape (N,), optional
            The basin of each sequence, by any label: the scales are the standard deviations of all
            its targets.
        scale : array_like of shape (N, O) or (N,), optional
            The scales, in the place of groups. Without either, those of every sequence, over T.

        Returns
        -------
        ndarray of shape (N, 2 O) or (N, T, 2 O)
            What `Model.fit` takes for y.
        """
        y = as_array("y", y)
        if y.ndim not in (2, 3) or y.dtype.kind not in "bfiu":
            raise ValueError(f"y is {y.dtype} {y.shape}; expected numbers (N, O) or (N, T, O)")
        y = y.astype(y.dtype if y.dtype.kind == "f" else np.float64, copy=False)
        if groups is not None and scale is not None:
            raise ValueError("groups and scale were given: the scales come from one of them")
        rows = (len(y), y.shape[-1])
        if scale is not None:
            scale = as_number_array("scale", scale, allow_nan=False)
            scale = scale[:, None] if scale.ndim == 1 else scale
            if scale.ndim != 2 or scale.shape[0] != rows[0] or scale.shape[1] not in (1, rows[1]):
                raise ValueError(f"scale has shape {scale.shape}; expected {rows}")
        elif groups is not None:
            groups = as_labels("groups", groups)
            if groups.shape != rows[:1]:
                raise ValueError(f"groups have shape {groups.shape}; expected {rows[:1]}")
            scale = np.empty(rows)
            labels, number = np.unique(groups, return_inverse=True)
            for k in range(len(labels)):
                scale[number == k] = y[number == k].reshape(-1, rows[1]).std(axis=0, dtype=np.float64)
        else:
            return self.complete_target(y, y.shape, None)
        return self._joined(y, scale)

    def _joined(self, y: Array, scale: Array) -> FloatArray:
        scale = scale.reshape(len(y), *(1,) * (y.ndim - 2), -1)
        return np.concatenate([y, np.broadcast_to(scale, y.shape).astype(y.dtype)], axis=-1)

    def complete_target(self, target: Array, shape: tuple[int, ...], weights: Array | None) -> Array:
        """Return targets and their scales; targets by themselves get the scale of their sequence."""
        if target.shape != shape or target.dtype.kind not in "bfiu":
            return target  # has its scales, or `check` will refuse it
        if len(shape) < 3:
            raise ValueError(
                f"y has shape {target.shape}, one target for each sequence has no scale of its own: give "
                "what NashSutcliffe().prepare(y, groups=...) or prepare(y, scale=...) returns"
            )
        y = target.astype(target.dtype if target.dtype.kind == "f" else np.float64, copy=False)
        counted = None if weights is None else (np.asarray(weights) != 0)[..., None]
        if counted is None:
            scale = y.std(axis=1, dtype=np.float64)
        else:
            n = np.maximum(counted.sum(axis=1), 1)
            mean = np.where(counted, y, 0).sum(axis=1, dtype=np.float64) / n
            square = np.square(np.where(counted, y - mean[:, None], 0)).sum(axis=1)
            scale = np.sqrt(square / n)
        return self._joined(y, scale)

    def check(
        self, target: npt.NDArray[Any], shape: tuple[int, ...], weights: npt.NDArray[Any] | None = None
    ) -> None:
        """Refuse a target that is not numbers and scales >= 0, two for each output."""
        _check_numbers(target, (*shape[:-1], 2 * shape[-1]), shape)
        scale = target[..., shape[-1] :]
        scale = scale if weights is None else scale[weights != 0]
        if not (scale >= 0).all():
            raise ValueError("the scales in y hold negative numbers or NaN; expected numbers >= 0")

    def _cost(self, p: Doubles, y: Doubles) -> tuple[Doubles, Doubles]:
        y, scale = np.split(y, 2, axis=-1)
        error = (p - y) / (scale + self.eps)
        return error * error, 2 * error / (scale + self.eps)

    def _curvature(self, p: Doubles, p_dot: Doubles, y: Doubles) -> Doubles:
        return 2 * p_dot / (y[..., p.shape[-1] :] + self.eps) ** 2


LossName: TypeAlias = Literal[
    "mse", "cross_entropy", "mae", "huber", "quantile", "poisson", "gaussian", "binary_cross_entropy",
    "negative_binomial", "student_t", "cmal", "nse",
]
#: Losses by the names that `Model` knows.
LOSSES: dict[str, type[Loss]] = {
    "mse": MeanSquaredError,
    "cross_entropy": CrossEntropy,
    "mae": MeanAbsoluteError,
    "huber": Huber,
    "quantile": Quantile,
    "poisson": Poisson,
    "gaussian": GaussianNLL,
    "binary_cross_entropy": BinaryCrossEntropy,
    "negative_binomial": NegativeBinomial,
    "student_t": StudentT,
    "cmal": AsymmetricLaplaceMixture,
    "nse": NashSutcliffe,
}
