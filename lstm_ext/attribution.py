"""What each input did to a model's output: gradient times input, and integrated gradients.

Both give one number for each input, x[n, t, i], in the units of the output. They are arithmetic on the exact
derivatives of `LSTM`; `lstm_ext.plot.AttributionDisplay` draws them.
"""

from __future__ import annotations

import copy
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext._data import as_array
from lstm_ext._fitted import model_of
from lstm_ext.model import Model

if TYPE_CHECKING:
    import numpy.typing as npt

    from lstm_ext._fitted import Chain
    from lstm_ext._typing import Array, Doubles, FloatArray
    from lstm_ext.lstm import LSTM, Tape

__all__ = ["gradient_times_input", "integrated_gradients", "output_difference"]


class _Output:
    """One output of a model as a function f of its inputs x (N, T, I), with its gradient.

    It works on a copy of the LSTM, for `LSTM.backward` adds to a gradient that is the user's.
    """

    def __init__(
        self, explained: object, x: npt.ArrayLike, output: int, step: int | None,
        lengths: npt.ArrayLike | None, mask: npt.ArrayLike | None, static: npt.ArrayLike | None,
    ) -> None:
        self.chain: Chain | None = None
        model: Model
        if isinstance(explained, Model):
            model = explained
        else:
            if not hasattr(explained, "get_params"):
                raise TypeError(
                    f"model is {type(explained).__name__}; expected an lstm_ext.Model or a fitted estimator"
                )
            model, self.chain = model_of(explained, "an attribution")
            assert self.chain is not None  # only a Model has none
            x = self.chain.scaled(_numbers("x", x, len(self.chain.x_mean)))
            if static is not None:
                static = self.chain.scaled_static(static)
        outputs = len(model.weight)
        row = _index("output", output, outputs, f"the model has {outputs} outputs")
        self.weight: Array = model.weight[row]
        self.bias: Any = model.bias[row]
        if self.chain is not None:  # in the units of the target, where they are a multiple of the readout's
            scale = self.chain.y_scale[row]
            self.weight = (scale * self.weight).astype(model.weight.dtype)
            self.bias = model.bias.dtype.type(scale * self.bias)
        if step is not None and not model.every_step:
            raise ValueError(f"step is {step!r}, and this model has one output for all steps")
        self.data = model._inputs(x, lengths, mask, static)
        self.x: Array = self.data.x
        N, T = self.x.shape[:2]
        counted = self.data.counted
        self.counted: Array = np.ones((N, T), np.bool_) if counted is None else counted
        self.model = model
        self.lstm: LSTM = copy.copy(model.lstm)
        if step is None:  # the last one that counts
            self.step: Array = (self.counted * np.arange(T)).max(axis=1, initial=0)
        else:
            self.step = np.full(N, _index("step", step, T, f"x has {T} time steps"))

    def baseline(self, given: npt.ArrayLike | None) -> Array:
        """Return the baseline as an array of x's shape and dtype."""
        if self.chain is not None and given is not None:
            given = self.chain.scaled(_numbers("baseline", given))
        values = as_array("baseline", 0 if given is None else given)
        if values.dtype.kind not in "bfiu":
            raise TypeError(f"baseline is {values.dtype}; expected real numbers")
        if not np.isfinite(values).all():
            raise ValueError("baseline holds NaN or inf; expected finite numbers")
        try:
            baseline: Array = np.broadcast_to(values, self.x.shape).astype(self.x.dtype)
            return baseline
        except ValueError:
            raise ValueError(
                f"baseline has shape {values.shape}; expected {self.x.shape} or what broadcasts to it"
            ) from None

    def value(self, points: Array, tape: Tape | None = None) -> tuple[Array, FloatArray, FloatArray]:
        """Return f at points (K, N, T, I), as (K, N), and y and h_n of the K N sequences, run in one pass."""
        K, N = points.shape[:2]
        options: dict[str, Any] = {
            name: None if value is None else np.concatenate([value] * K)
            for name, value in self.data.options.items()
        }
        y, (h_n, _) = self.lstm.forward(points.reshape(K * N, *points.shape[2:]), tape=tape, **options)
        features = self.model._features(y, h_n, np.concatenate([self.counted] * K))
        if self.model.every_step:
            features = features[np.arange(K * N), np.tile(self.step, K)]
        return (features @ self.weight + self.bias).reshape(K, N), y, h_n

    def gradient(self, points: Array) -> Doubles:
        """Return df/dx at points (K, N, T, I), in float64."""
        if not points.size:
            return np.zeros(points.shape)
        K, N = points.shape[:2]
        tape = self.lstm.tape()
        _, y, h_n = self.value(points, tape)
        if not self.model.every_step:
            upon = np.repeat(self.weight[None], K * N, axis=0)
        else:
            upon = np.zeros_like(y)
            upon[np.arange(K * N), np.tile(self.step, K)] = self.weight
        counted = np.concatenate([self.counted] * K)
        dx = self.lstm.backward(tape, *self.model._upon(upon, h_n, y, counted))[0]
        return np.asarray(dx.reshape(points.shape), np.float64)

    def product(self, difference: Array, gradient: Doubles) -> FloatArray:
        """Difference times gradient; 0 where no input was read: no step that counts, or a missing value."""
        read = np.broadcast_to(self.counted[..., None], difference.shape)
        if self.lstm.nan is not None:
            read = read & ~np.isnan(difference)
        with np.errstate(invalid="ignore"):  # what comes after a sequence's end may be anything
            product: FloatArray = np.where(read, difference * gradient, 0).astype(self.lstm.dtype)
        return product


def _numbers(name: str, given: npt.ArrayLike, features: int | None = None) -> Array:
    values = as_array(name, given)
    if values.dtype.kind not in "bfiu":
        raise TypeError(f"{name} is {values.dtype}; expected real numbers")
    if features is not None and (values.ndim != 3 or values.shape[2] != features):
        raise ValueError(f"{name} has shape {values.shape}; expected (batch, time, {features})")
    return values


def _index(name: str, value: int, size: int, bounds: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected an integer") from None
    if not -size <= number < size:
        raise ValueError(f"{name} is {number}; expected an integer from {-size} to {size - 1}: {bounds}")
    return number % size


def gradient_times_input(
    model: Model | Any, x: npt.ArrayLike, output: int = 0, *, step: int | None = None,
    baseline: npt.ArrayLike | None = None, lengths: npt.ArrayLike | None = None,
    mask: npt.ArrayLike | None = None, static: npt.ArrayLike | None = None,
) -> FloatArray:
    r"""First-order contribution of each input to one output of a model.

    .. math:: a_{nti} = (x_{nti} - b_{nti}) \, \frac{\partial f}{\partial x_{nti}}(x_n)

    (A. Shrikumar, P. Greenside, A. Kundaje, 2017, *ICML*, arXiv:1704.02685, section 2.) One forward and one
    backward pass. It describes small changes of x only: where a gate is saturated the gradient is near 0,
    however much the input did to saturate it. `integrated_gradients` sees that.

    Parameters
    ----------
    model : Model, or a fitted estimator, pipeline or search
        Not changed: its gradient neither. Of an estimator x and `baseline` are in the units of X, and the
        attributions in those of the target; for a classifier, and for counts, f is what comes before
        softmax, sigma or the exponential.
    x : array_like, (N, T, I)
    output : int, default 0
        f is this row of the readout: with cross entropy the logit of a class.
    step : int, optional
        With ``every_step=True``: f is the output at this step; None: at each sequence's last one that
        counts.
    baseline : array_like that broadcasts to x, optional
        b, the input that stands for "nothing"; default 0, or of an estimator the mean of each feature.
    lengths, mask, static
        As in `Model.predict`. Static inputs are held fixed.

    Returns
    -------
    ndarray, (N, T, I)
        In the model's dtype and the units of the output. 0 where a step does not count, and where x is NaN
        under a policy for missing values.

    Examples
    --------
    >>> import numpy as np
    >>> from lstm_ext import LSTM, Model
    >>> model = Model(LSTM(2, 8, rng=0), output_size=1, rng=0)
    >>> gradient_times_input(model, np.ones((4, 10, 2))).shape
    (4, 10, 2)
    """
    f = _Output(model, x, output, step, lengths, mask, static)
    difference = f.x - f.baseline(baseline)
    return f.product(difference, f.gradient(f.x[None])[0])


def integrated_gradients(
    model: Model | Any, x: npt.ArrayLike, output: int = 0, *, step: int | None = None,
    baseline: npt.ArrayLike | None = None, points: int = 32, lengths: npt.ArrayLike | None = None,
    mask: npt.ArrayLike | None = None, static: npt.ArrayLike | None = None,
) -> FloatArray:
    r"""Contribution of each input to one output of a model, along the straight way from a baseline.

    .. math:: a_{nti} = (x_{nti} - b_{nti}) \int_0^1
              \frac{\partial f}{\partial x_{nti}} \big(b_n + \alpha (x_n - b_n)\big) \, d\alpha

    (M. Sundararajan, A. Taly, Q. Yan, 2017, "Axiomatic attribution for deep networks", *ICML*,
    arXiv:1703.01365.) They add up to what is to be explained (the paper's axiom of completeness):
    :math:`\sum_{ti} a_{nti} = f(x_n) - f(b_n)`. The integral is a Gauss-Legendre sum, exact for polynomials
    of degree ``2 * points - 1``, where the paper's is a Riemann sum. How far completeness is missed tells
    whether `points` were enough: where the way leads layer normalization past 0, where it is steep,
    thousands may not be.

    Parameters
    ----------
    model, x, output, step, lengths, mask, static
        As in `gradient_times_input`.
    baseline : array_like that broadcasts to x, optional
        b; default 0. A value that is missing in x is missing in b, too.
    points : int, default 32
        Gradients that are computed for each sequence.

    Returns
    -------
    ndarray, (N, T, I)
        As from `gradient_times_input`.

    Examples
    --------
    >>> import numpy as np
    >>> from lstm_ext import LSTM, Model
    >>> model = Model(LSTM(2, 8, dtype="float64", rng=0), output_size=1, rng=0)
    >>> x = np.random.default_rng(0).normal(size=(4, 10, 2))
    >>> a = integrated_gradients(model, x)
    >>> np.allclose(a.sum(axis=(1, 2)), output_difference(model, x))
    True
    """
    f = _Output(model, x, output, step, lengths, mask, static)
    b = f.baseline(baseline)
    try:
        points = operator.index(points)
    except TypeError:
        raise TypeError(f"points is {points!r}; expected an integer") from None
    if points < 1:
        raise ValueError(f"points is {points}; expected 1 or more")
    nodes, weights = np.polynomial.legendre.leggauss(points)
    alphas: Array = ((nodes + 1) / 2).astype(b.dtype)  # from [-1, 1] to [0, 1]
    difference, integral = f.x - b, np.zeros(b.shape)
    rows = max(1, 64 // max(1, len(b)))  # few sequences: several points in a pass, for speed
    for start in range(0, points, rows):
        part = slice(start, start + rows)
        way = b + alphas[part, None, None, None] * difference
        integral += np.einsum("k,knti->nti", weights[part] / 2, f.gradient(way))
    return f.product(difference, integral)


def output_difference(
    model: Model | Any, x: npt.ArrayLike, output: int = 0, *, step: int | None = None,
    baseline: npt.ArrayLike | None = None, lengths: npt.ArrayLike | None = None,
    mask: npt.ArrayLike | None = None, static: npt.ArrayLike | None = None,
) -> FloatArray:
    r"""Output less the output of the baseline, :math:`f(x_n) - f(b_n)`: what is to be explained.

    Parameters
    ----------
    model, x, output, step, baseline, lengths, mask, static
        As in `integrated_gradients`.

    Returns
    -------
    ndarray, (N,)
        In the model's dtype.
    """
    f = _Output(model, x, output, step, lengths, mask, static)
    if not f.x.size:
        return np.zeros(len(f.x), f.x.dtype)
    b = f.baseline(baseline)
    b[np.isnan(f.x)] = np.nan  # what is missing is missing in both
    outputs = f.value(np.stack([f.x, b]))[0]
    difference: FloatArray = outputs[0] - outputs[1]
    return difference
