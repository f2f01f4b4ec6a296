"""A model: an LSTM, a linear readout and a loss, over one flat vector of parameters."""

from __future__ import annotations

import math
import os
import weakref
from html import escape
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from lstm_ext import _missing
from lstm_ext._arrays import Lock
from lstm_ext._checks import count, made
from lstm_ext._data import as_array
from lstm_ext._fixed import FixedFloat
from lstm_ext._passes import checked_static
from lstm_ext._pooling import POOLINGS, POOLS
from lstm_ext._provided import provided
from lstm_ext._typing import Float
from lstm_ext.distributed import as_group
from lstm_ext.losses import LOSSES, Loss
from lstm_ext.lstm import LSTM
from lstm_ext.training import SequenceData, Stored
from lstm_ext.training import fit as fit_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from lstm_ext._pooling import Pool, Pooling
    from lstm_ext._typing import Array, Doubles, FloatArray
    from lstm_ext.callbacks import Callback, EarlyStopping
    from lstm_ext.losses import LossName
    from lstm_ext.schedules import Schedule
    from lstm_ext.training import EpochRecord, History

    _State = tuple[FloatArray, FloatArray]
    _StateLike = tuple[npt.ArrayLike | None, npt.ArrayLike | None]

    class _Loss(Protocol):
        def check(self, target: Array, shape: tuple[int, ...], weights: Array | None = None) -> None: ...
        def value_and_gradient(
            self, prediction: FloatArray, target: Array, weights: Array | None = None
        ) -> tuple[float, FloatArray]: ...

    class _Optimizer(Protocol):
        def step(self, parameters: FloatArray, gradient: FloatArray) -> None: ...

__all__ = ["Model"]

# A model puts its LSTM's weights into a vector of its own: each LSTM belongs to one model.
_MODEL_OF: weakref.WeakKeyDictionary[LSTM, weakref.ref[Model[Any]]] = weakref.WeakKeyDictionary()
_TOGETHER = 256  # sequences that `evaluate` holds in memory at once


class Model(FixedFloat[Float]):
    r"""An LSTM, a linear readout of its hidden states, and a loss.

    .. math:: p = W h + b

    Sequence to one (the default): h is the last hidden state of the top layer, after each
    sequence's last valid step. A bidirectional LSTM has two of them, one for each direction, each
    after having read the whole sequence; they are joined. Sequence to sequence
    (``every_step=True``): h runs over the hidden states of all steps.

    With `pooling`, h is one vector made of the hidden states of all steps that count: of the forward and
    the backward direction of each step, if there are two. Long sequences then learn faster, as the
    gradient reaches every step at once.

    Parameters
    ----------
    lstm : LSTM
        With ``batch_first=True``. The model takes it over: it moves the LSTM's parameters and
        gradient into its own vectors.
    output_size : int
        Outputs O of the readout; with cross entropy, the number of classes.
    every_step : bool
        Read out every step, not only the last.
    loss : str or object
        "mse", "cross_entropy", "mae", "huber", "quantile", "poisson", "gaussian", "nse",
        "binary_cross_entropy", "negative_binomial", "student_t" or "cmal": one of `losses.LOSSES` with its
        defaults. Or an object: one of those classes, or any with ``check`` and ``value_and_gradient`` as in
        `losses.Loss`. Some need more outputs than there are targets: quantile one for each level, gaussian
        two.
    pooling : {"last", "mean", "max", "attention"}
        What a sequence to one model reads: the last hidden state, or over all steps the mean, the largest
        value of each unit, or a mean with learned weights, :math:`a = \mathrm{softmax}_t (v \cdot h_t)`
        (C. Raffel, D. P. W. Ellis, "Feed-forward networks with attention can solve some long-term memory
        problems", ICLR workshop 2016). v, `attention`, begins at 0, which is the mean.
    rng : None, int or numpy.random.Generator
        Where the readout's first weights come from: glorot uniform, bias 0 (X. Glorot, Y. Bengio,
        "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010).

    Attributes
    ----------
    lstm : LSTM
        Its parameters are the first part of `parameters`; `weight` and `bias` follow.
    output_size : int
    every_step : bool
    pooling : str
    loss : object

    Notes
    -----
    `predict` and `evaluate` may run in several threads at once. Training may not: the model has one
    gradient and one tape.
    """

    lstm: LSTM[Float]
    output_size: int
    every_step: bool
    pooling: Pooling
    loss: _Loss
    _parameters: npt.NDArray[Float]
    _gradient: npt.NDArray[Float]

    _fixed = frozenset(("lstm", "output_size", "every_step", "loss", "pooling"))

    def __init__(
        self, lstm: LSTM[Float], output_size: int, *, every_step: bool = False,
        loss: LossName | _Loss = "mse", pooling: Pooling = "last",
        rng: int | np.random.Generator | None = None,
    ) -> None:
        if not isinstance(lstm, LSTM):
            raise TypeError(f"lstm is {type(lstm).__name__}; expected an LSTM")
        if not lstm.batch_first:
            raise ValueError("lstm has batch_first=False; expected batch_first=True")
        output_size = count("output_size", output_size, 1)
        if isinstance(loss, str):
            if loss not in LOSSES:
                raise ValueError(f"loss is {loss!r}; expected one of {', '.join(LOSSES)}")
            loss = LOSSES[loss]()
        made("loss", loss)
        if not (hasattr(loss, "check") and hasattr(loss, "value_and_gradient")):
            raise TypeError(f"loss is {loss!r}; expected a name or one with check and value_and_gradient")
        if not isinstance(pooling, str) or pooling not in POOLINGS:
            raise ValueError(f"pooling is {pooling!r}; expected one of {', '.join(POOLINGS)}")
        if every_step and pooling != "last":
            raise ValueError(f"pooling is {pooling!r}; expected 'last' with every_step=True")
        each = getattr(loss, "outputs_per_target", 1)
        if output_size % each:
            raise ValueError(
                f"output_size is {output_size}; expected {each} for each column of y with {loss!r}"
            )
        self._fix(lstm=lstm, output_size=output_size, every_step=bool(every_step), loss=loss, pooling=pooling)
        self._lay_out()
        bound = math.sqrt(6 / sum(self.weight.shape))
        self.weight[...] = np.random.default_rng(rng).uniform(-bound, bound, self.weight.shape)

    def _lay_out(self) -> None:
        """Allocate the flat vectors and make the LSTM's and the readout's views of them."""
        known = _MODEL_OF.get(self.lstm)
        model = None if known is None else known()
        if model is not None and model is not self:
            raise ValueError(
                "lstm is part of another Model, which would no longer train; expected one of its own, for "
                "example copy.deepcopy(lstm)"
            )
        _MODEL_OF[self.lstm] = weakref.ref(self)
        output_size, n_lstm = self.output_size, self.lstm.parameters.size
        shape = (output_size, self.lstm.output_size)
        n_pool = _pool_parameters(self.pooling, shape[1])
        n = n_lstm + n_pool + output_size * (shape[1] + 1)
        self._parameters, self._gradient = np.zeros((2, n), self.lstm.dtype)
        self.lstm.bind(self._parameters[:n_lstm], self._gradient[:n_lstm])
        self._attention, self._dattention = (
            a[n_lstm : n_lstm + n_pool] for a in (self._parameters, self._gradient)
        )
        self._weight, self._dweight = (
            a[n_lstm + n_pool : -output_size].reshape(shape) for a in (self._parameters, self._gradient)
        )
        self._bias, self._dbias = (a[-output_size:] for a in (self._parameters, self._gradient))
        self._tape = self.lstm.tape()
        # The gradient and the tape belong to one computation at a time: one that Ctrl-C has left
        # behind may still be at work.
        self._lock = Lock("model")

    @property
    def _directions(self) -> int:
        return 2 if self.lstm.bidirectional else 1

    @property
    def stochastic(self) -> bool:
        """Whether a seed changes what training computes: whether the LSTM has dropout or zoneout."""
        lstm = self.lstm
        return any((lstm.dropout, lstm.recurrent_dropout, lstm.weight_dropout, *lstm.zoneout))

    @property
    def parameters(self) -> npt.NDArray[Float]:
        """Flat vector of all parameters, (n,). Assigning copies into it."""
        return self._parameters

    @parameters.setter
    def parameters(self, values: npt.ArrayLike) -> None:
        _assign("parameters", self._parameters, values)

    @property
    def gradient(self) -> npt.NDArray[Float]:
        """Flat vector that `loss_and_gradient` fills, (n,), in the order of `parameters`."""
        return self._gradient

    @property
    def attention(self) -> npt.NDArray[Float]:
        """With ``pooling="attention"`` the vector v, (`lstm.output_size`,), else empty: a view."""
        return self._attention

    @attention.setter
    def attention(self, values: npt.ArrayLike) -> None:
        _assign("attention", self._attention, values)

    @property
    def weight(self) -> npt.NDArray[Float]:
        """Weights of the readout, (O, `lstm.output_size`): a view into `parameters`.

        Assigning copies into it.
        """
        return self._weight

    @weight.setter
    def weight(self, values: npt.ArrayLike) -> None:
        _assign("weight", self._weight, values)

    @property
    def bias(self) -> npt.NDArray[Float]:
        """Bias of the readout, (O,): a view into `parameters`. Assigning copies into it."""
        return self._bias

    @bias.setter
    def bias(self, values: npt.ArrayLike) -> None:
        _assign("bias", self._bias, values)

    def named_parameters(self) -> dict[str, npt.NDArray[Float]]:
        """Return views into `parameters` by name: ``lstm.weight_ih_l0`` to ``bias``."""
        lstm = {f"lstm.{name}": view for name, view in self.lstm.named_parameters().items()}
        pool = {"attention": self._attention} if self._attention.size else {}
        return lstm | pool | {"weight": self.weight, "bias": self.bias}

    def named_gradients(self) -> dict[str, npt.NDArray[Float]]:
        """Return views into `gradient`, by the names of `named_parameters`."""
        lstm = {f"lstm.{name}": view for name, view in self.lstm.named_gradients().items()}
        pool = {"attention": self._dattention} if self._attention.size else {}
        return lstm | pool | {"weight": self._dweight, "bias": self._dbias}

    def __repr__(self) -> str:
        pooling = "" if self.pooling == "last" else f", pooling={self.pooling!r}"
        return (
            f"Model({self.lstm!r}, output_size={self.output_size}, every_step={self.every_step}, "
            f"loss={self.loss!r}{pooling})"
        )

    def _repr_html_(self) -> str:
        """Return a table of the parts, what each returns and its number of parameters, for notebooks."""
        n_lstm, features = self.lstm.parameters.size, self.lstm.output_size
        steps = "N, T, " if self.every_step else "N, "
        parts: list[tuple[str, str, int]] = [(repr(self.lstm), f"N, T, {features}", n_lstm)]
        if self.pooling != "last":
            parts.append((f"{self.pooling} over time", f"N, {features}", self._attention.size))
        parts += [
            ("linear readout", f"{steps}{self.output_size}", self._weight.size + self._bias.size),
            (f"loss {self.loss!r}", "", 0),
        ]
        rows = "".join(
            f"<tr><td>{escape(part)}</td><td>{f'({shape})' if shape else ''}</td><td>{count or ''}</td></tr>"
            for part, shape, count in parts
        )
        return (
            f"<table><caption>Model, {self._parameters.size} parameters, {self.lstm.dtype.name}</caption>"
            f"<tr><th>part</th><th>returns</th><th>parameters</th></tr>{rows}</table>"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {
            "lstm": self.lstm,
            "output_size": self.output_size,
            "every_step": self.every_step,
            "loss": self.loss,
            "pooling": self.pooling,
            "attention": self._attention.copy(),
            "weight": self.weight.copy(),
            "bias": self.bias.copy(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        weight, bias = state.pop("weight"), state.pop("bias")
        attention = state.pop("attention", ())  # pickles of earlier versions have no pooling
        self.__dict__.update({"pooling": "last"} | state)
        self._lay_out()
        self._attention[...] = attention
        self.weight[...], self.bias[...] = weight, bias

    # Inputs -----------------------------------------------------------------------------------

    def _inputs(
        self, given: npt.ArrayLike | Stored, lengths: npt.ArrayLike | None, mask: npt.ArrayLike | None,
        static: npt.ArrayLike | None,
    ) -> SequenceData:
        gaps = self.lstm.nan in ("zero", "hold")
        x: Array | Stored
        x = given.with_gaps(gaps) if isinstance(given, Stored) else as_array("x", given, nan=gaps)
        if x.ndim != 3:
            raise ValueError(f"x has shape {x.shape}; expected (batch, time, features)")
        if x.shape[2] != self.lstm.input_size:
            raise ValueError(
                f"x has {x.shape[2]} features; expected {self.lstm.input_size} (input_size)"
            )
        if x.dtype.kind not in "bfiu":
            raise TypeError(f"x is {x.dtype}; expected real numbers")
        steps = counted = None
        if lengths is not None:
            if mask is not None:
                raise ValueError("lengths and mask were given: a mask says by itself how long a sequence is")
            steps = as_array("lengths", lengths)
            if steps.dtype.kind not in "iu":
                raise TypeError(f"lengths are {steps.dtype}; expected integers")
            if steps.shape != x.shape[:1]:
                raise ValueError(f"lengths have shape {steps.shape}; expected {x.shape[:1]}")
            if steps.size and not (steps.min() >= 0 and steps.max() <= x.shape[1]):
                raise ValueError(
                    f"lengths run from {steps.min()} to {steps.max()}, x has {x.shape[1]} time steps"
                )
            steps = steps.astype(np.intp, copy=False)  # differences of unsigned ones wrap around
        if mask is not None:
            counted = as_array("mask", mask)
            if counted.dtype != np.bool_ or counted.shape != x.shape[:2]:
                raise ValueError(f"mask is {counted.dtype} {counted.shape}; expected bool {x.shape[:2]}")
        features = None if static is None else as_array("static", static)
        data = SequenceData(x, None, steps, counted, checked_static(self.lstm, features, len(x)))
        with np.errstate(over="ignore"):
            data.x = x.astype(self.lstm.dtype, copy=False)
        if isinstance(x, Stored):  # its numbers are looked at when they are read
            return data
        if x.dtype.kind == "f" and x.itemsize > data.x.itemsize:
            _refuse_overflow(x, data.x, data.counted)
        if self.lstm.nan == "raise":
            _missing.fill(
                data.x, "raise", self.lstm.nan_mask, self.lstm.dtype, True, self.lstm.input_size, steps,
                counted,
            )
        return data

    def prepare(
        self, x: npt.ArrayLike, y: npt.ArrayLike, lengths: npt.ArrayLike | None = None, *,
        mask: npt.ArrayLike | None = None, static: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> SequenceData:
        """Check a data set once, for any number of calls of `loss_of` and `gradient_of`.

        Parameters
        ----------
        x, y, lengths, mask, static, sample_weight
            As in `loss_and_gradient`.

        Returns
        -------
        training.SequenceData
            The arrays, converted where necessary. ``data[index]`` takes some of the sequences.
        """
        data = self._inputs(x, lengths, mask, static)
        if sample_weight is not None:
            data.weight = self._sample_weight(sample_weight, data.x.shape[:2])
        target = as_array("y", y)
        if target.shape[:1] != data.x.shape[:1]:
            raise ValueError(f"y has shape {target.shape}, x has {data.x.shape[0]} sequences")
        shape = (*data.x.shape[: 2 if self.every_step else 1], self.output_size)
        weights = data.weights(self.every_step)
        if isinstance(self.loss, Loss):
            target = self.loss.complete_target(target, shape, weights)
        self.loss.check(target, shape, weights)
        data.y = target
        return data

    def _sample_weight(self, given: npt.ArrayLike, shape: tuple[int, ...]) -> Doubles:
        weight = as_array("sample_weight", given)
        if weight.dtype.kind not in "bfiu":
            raise TypeError(f"sample_weight is {weight.dtype}; expected real numbers")
        allowed = (shape[:1], shape) if self.every_step else (shape[:1],)
        if weight.shape not in allowed:
            expected = " or ".join(map(str, allowed))
            raise ValueError(f"sample_weight has shape {weight.shape}; expected {expected}")
        weights: Doubles = weight.astype(np.float64)
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError("sample_weight holds other numbers than expected, finite ones >= 0")
        return weights

    # Outputs ----------------------------------------------------------------------------------

    def _pool(self, y: FloatArray, counted: Array | None) -> Pool | None:
        """Return how the hidden states of all steps become one vector; None where they do not."""
        if self.pooling == "last":
            return None
        return POOLS[self.pooling](y, counted, self._attention)

    def _features(self, y: FloatArray, h_n: FloatArray, counted: Array | None = None) -> FloatArray:
        """Hidden states that the readout reads: (N, T, D*H) or (N, D*H)."""
        if self.every_step:
            return y
        pool = self._pool(y, counted)
        if pool is not None:
            return pool.forward(y)
        top = h_n[-self._directions :].transpose(1, 0, 2)
        return top.reshape(len(top), self.weight.shape[1])

    def predict(
        self, x: npt.ArrayLike, lengths: npt.ArrayLike | None = None, *, mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None,
    ) -> npt.NDArray[Float]:
        """Predictions for sequences.

        Parameters
        ----------
        x : array_like of shape (N, T, I)
            Real numbers; converted to the LSTM's dtype. Masked elements (``numpy.ma``) are missing where the
            LSTM has ``nan="zero"`` or ``"hold"``. Elsewhere, and in other arguments, they raise an error.
        lengths : array_like of N integers, optional
            Valid steps of each sequence, 0 to T. What follows them is ignored.
        mask : array_like of bool, (N, T), optional
            True where a step counts; the others are passed over.
        static : array_like, (N, S)
            The static inputs, where the LSTM has a `static_size`.

        Returns
        -------
        ndarray of shape (N, O), or (N, T, O) with every_step=True
            In the LSTM's dtype; 0 where a step does not count. With cross entropy these are logits.
        """
        return self._predict(self._inputs(x, lengths, mask, static))

    def _predict(self, data: SequenceData) -> npt.NDArray[Float]:
        y, (h_n, _) = self.lstm(data.x, **data.options)
        counted = data.counted
        prediction: npt.NDArray[Any] = self._features(y, h_n, counted) @ self.weight.T + self.bias
        if self.every_step and counted is not None:
            prediction[~counted] = 0
        return prediction

    def evaluate(
        self, x: npt.ArrayLike, y: npt.ArrayLike, lengths: npt.ArrayLike | None = None, *,
        mask: npt.ArrayLike | None = None, static: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> float:
        """Loss of the predictions for `x`; parameters as in `loss_and_gradient`.

        Returns
        -------
        float
        """
        return self.loss_of(
            self.prepare(x, y, lengths, mask=mask, static=static, sample_weight=sample_weight)
        )

    def loss_of(self, data: SequenceData) -> float:
        """Return the loss of what `prepare` has returned, or of a part of it."""
        if len(data.x) <= _TOGETHER:
            return self._value(data, data.weights(self.every_step))
        total = counted = 0.0
        for start in range(0, len(data.x), _TOGETHER):
            part = data[start : start + _TOGETHER]
            weights = part.weights(self.every_step)
            weight = len(part.x) if weights is None else float(weights.sum())
            if weight:
                total += self._value(part, weights) * weight
                counted += weight
        if not counted:
            raise ValueError("there is nothing to average over: no element counts")
        return total / counted

    def _value(self, data: SequenceData, weights: Array | None) -> float:
        return self.loss.value_and_gradient(self._predict(data), data.y, weights)[0]

    def loss_and_gradient(
        self, x: npt.ArrayLike, y: npt.ArrayLike, lengths: npt.ArrayLike | None = None, *,
        mask: npt.ArrayLike | None = None, static: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None, seed: int | None = None,
    ) -> float:
        """Loss of a batch; fills `gradient` with its derivative by every parameter.

        Parameters
        ----------
        x : array_like of shape (N, T, I)
        y : array_like
            Targets, as the loss wants them. Mean squared error: (N, O), or (N, T, O) with
            every_step=True. Cross entropy: class numbers (N,) or (N, T).
        lengths : array_like of N integers, optional
            Valid steps of each sequence, 0 to T. With every_step=True only they count in the mean.
        mask, static
            As in `predict`.
        sample_weight : array_like of shape (N,), or (N, T) with every_step=True, optional
            What each element counts, numbers >= 0: the loss is sum(weight cost) / sum(weight).
        seed : int, optional
            Draws what the LSTM's dropout and zoneout drop; None: nothing.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If the arrays do not fit the model or each other; `gradient` is left as it was.
        """
        data = self.prepare(x, y, lengths, mask=mask, static=static, sample_weight=sample_weight)
        return self.gradient_of(data, seed)[0]

    def gradient_of(
        self, data: SequenceData, seed: int | None = None,
        state: _StateLike | None = None,
    ) -> tuple[float, _State]:
        """Fill `gradient` with that of the loss of what `prepare` has returned, or of a part of it.

        Parameters
        ----------
        data : training.SequenceData
        seed : int, optional
            As in `loss_and_gradient`.
        state : (h_0, c_0), optional
            The states to begin with, (num_layers * directions, N, H), for truncated backpropagation.

        Returns
        -------
        float
            The loss.
        (h_n, c_n) : ndarrays
            The final states.
        """
        with self._lock:
            hidden, final = self.lstm.forward(data.x, state, tape=self._tape, seed=seed, **data.options)
            pool = self._pool(hidden, data.counted)
            features = self._features(hidden, final[0]) if pool is None else pool.forward(hidden)
            prediction = features @ self._weight.T + self._bias
            value, dprediction = self.loss.value_and_gradient(
                prediction, data.y, data.weights(self.every_step)
            )
            rows = dprediction.reshape(-1, self.output_size)
            np.matmul(rows.T, features.reshape(len(rows), -1), out=self._dweight)
            rows.sum(axis=0, out=self._dbias)
            self.lstm.gradient[...] = 0
            dfeatures = dprediction @ self._weight
            if pool is None:
                dy, dstate = self._upon(dfeatures, final[0])
            else:
                (dy, self._dattention[...]), dstate = pool.backward(dfeatures), None
            self.lstm.backward(self._tape, dy, dstate, input_gradient=False)
        return value, final

    def _upon(
        self, dfeatures: FloatArray, h_n: FloatArray, y: FloatArray | None = None,
        counted: Array | None = None,
    ) -> tuple[FloatArray | None, tuple[FloatArray, None] | None]:
        """Return (dy, dstate) that carry the gradient of what the readout reads; pooling needs y."""
        if self.every_step:
            return dfeatures, None
        pool = None if y is None else self._pool(y, counted)
        if pool is not None:
            return pool.backward(dfeatures)[0], None
        dh_n = np.zeros_like(h_n)
        dh_top = dfeatures.reshape(len(dfeatures), self._directions, -1)
        dh_n[-self._directions :] = dh_top.transpose(1, 0, 2)
        return None, (dh_n, None)

    def hvp(
        self, x: npt.ArrayLike, y: npt.ArrayLike, direction: npt.ArrayLike,
        lengths: npt.ArrayLike | None = None, *, mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None, sample_weight: npt.ArrayLike | None = None,
        seed: int | None = None,
    ) -> npt.NDArray[Float]:
        r"""Hessian of the loss times a direction, at the present parameters: exact.

        .. math:: H v = \frac{d}{d\epsilon} \nabla L(\theta + \epsilon v) \Big|_{\epsilon = 0}

        by forward over reverse (B. A. Pearlmutter, 1994, "Fast exact multiplication by the Hessian",
        *Neural Computation* 6:147), at the cost of two to three gradients.

        Parameters
        ----------
        x, y, lengths, mask, static, sample_weight, seed
            As in `loss_and_gradient`.
        direction : array_like, (n,)
            v, in the order of `parameters`.

        Returns
        -------
        ndarray, (n,)
            In the LSTM's dtype. `gradient` stays as it is.
        """
        gradient_jvp = getattr(self.loss, "gradient_jvp", None)
        if gradient_jvp is None:
            raise TypeError(
                f"loss is {self.loss!r}; expected one with gradient_jvp, as in losses.Loss, for a Hessian"
            )
        data = self.prepare(x, y, lengths, mask=mask, static=static, sample_weight=sample_weight)
        v = as_array("direction", direction)
        if v.shape != self._parameters.shape or v.dtype.kind not in "bfiu":
            raise ValueError(
                f"direction is {v.dtype} {v.shape}; expected numbers of shape {self._parameters.shape}"
            )
        v = v.astype(self.lstm.dtype, copy=False)
        n = self.lstm.parameters.size
        n_weight = n + self._attention.size
        v_attention, v_bias = v[n:n_weight], v[-self.output_size :]
        v_weight = v[n_weight : -self.output_size].reshape(self.weight.shape)
        tape = self.lstm.tape()
        (hidden, (h_n, _)), (hidden_dot, (h_dot, _)) = self.lstm.jvp(
            data.x, dparameters=v[:n], tape=tape, seed=seed, **data.options
        )
        pool = self._pool(hidden, data.counted)
        if pool is None:
            features, features_dot = self._features(hidden, h_n), self._features(hidden_dot, h_dot)
        else:
            features, features_dot = pool.forward(hidden), pool.jvp(hidden_dot, v_attention)
        prediction = features @ self.weight.T + self.bias
        prediction_dot = features_dot @ self.weight.T + features @ v_weight.T + v_bias
        weights = data.weights(self.every_step)
        d = self.loss.value_and_gradient(prediction, data.y, weights)[1]
        d_dot: FloatArray = gradient_jvp(prediction, prediction_dot, data.y, weights)

        product = np.empty_like(self._parameters)
        dfeatures, dfeatures_dot = d @ self.weight, d_dot @ self.weight + d @ v_weight
        if pool is None:
            dy, dstate = self._upon(dfeatures, h_n)
            dy_dot, dstate_dot = self._upon(dfeatures_dot, h_n)
        else:
            dy, dstate, dstate_dot = pool.backward(dfeatures)[0], None, None
            dy_dot, product[n:n_weight] = pool.backward_jvp(
                dfeatures, dfeatures_dot, hidden_dot, v_attention
            )
        product[:n] = self.lstm.backward_jvp(
            tape, dy, dy_dot, dstate, dstate_dot, input_gradient=False
        )["gradient_dot"]
        rows, rows_dot = d.reshape(-1, self.output_size), d_dot.reshape(-1, self.output_size)
        product[n_weight : -self.output_size].reshape(self.weight.shape)[...] = (
            rows_dot.T @ features.reshape(len(rows), -1) + rows.T @ features_dot.reshape(len(rows), -1)
        )
        product[-self.output_size :] = rows_dot.sum(axis=0)
        return product

    # As scipy.optimize calls them: the parameters first.

    def value_and_gradient(
        self, theta: npt.ArrayLike, x: npt.ArrayLike, y: npt.ArrayLike, lengths: npt.ArrayLike | None = None,
        *, mask: npt.ArrayLike | None = None, static: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None, seed: int | None = None,
    ) -> tuple[float, Doubles]:
        """Loss and gradient at `theta`, which become the model's parameters.

        For ``scipy.optimize.minimize(model.value_and_gradient, theta, args=(x, y), jac=True,
        hessp=model.hessp, method="trust-krylov")``. Then assign ``model.parameters = result.x``: the model
        has the point that was evaluated last, which a trust-region method may have rejected.

        Parameters
        ----------
        theta : array_like, (n,)
        x, y, lengths, mask, static, sample_weight, seed
            As in `loss_and_gradient`.

        Returns
        -------
        float
        ndarray of float64, (n,)
        """
        data = self.prepare(x, y, lengths, mask=mask, static=static, sample_weight=sample_weight)
        self.parameters = theta
        return self.gradient_of(data, seed)[0], np.array(self._gradient, np.float64)

    def hessp(
        self, theta: npt.ArrayLike, direction: npt.ArrayLike, x: npt.ArrayLike, y: npt.ArrayLike,
        lengths: npt.ArrayLike | None = None, *, mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None, sample_weight: npt.ArrayLike | None = None,
        seed: int | None = None,
    ) -> Doubles:
        """Hessian at `theta` times a direction, as `hvp`, in float64; `theta` becomes the parameters."""
        self.parameters = theta
        product = self.hvp(
            x, y, direction, lengths, mask=mask, static=static, sample_weight=sample_weight, seed=seed
        )
        return np.asarray(product, np.float64)

    def fit(
        self, x: npt.ArrayLike, y: npt.ArrayLike, *, epochs: int, batch_size: int = 32,
        lengths: npt.ArrayLike | None = None, mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None, sample_weight: npt.ArrayLike | None = None,
        optimizer: _Optimizer | None = None, schedule: Schedule | None = None,
        rng: int | np.random.Generator | None = None,
        validation: tuple[npt.ArrayLike, ...] | dict[str, Any] | None = None,
        early_stopping: EarlyStopping | None = None,
        callbacks: Sequence[Callback | Callable[[EpochRecord], object]] = (),
        callback: Callback | Callable[[EpochRecord], object] | None = None, progress: bool = False,
        bucket: bool = False, bptt: int | None = None, checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 1, resume: bool = False, comm: Any = None,
    ) -> History:
        """Train on mini-batches, shuffled anew in every epoch.

        Parameters
        ----------
        x, y, lengths, mask, static, sample_weight
            The training set, as in `loss_and_gradient`. x may stay on the disk: a ``numpy.memmap``, a data
            set of h5py or zarr, or any object with ``shape``, ``dtype`` and slices. A thread of its own
            reads it, two mini-batches ahead; of a memory map any sequence, of the others whole chunks:
            then chunks are shuffled, and the sequences of each 8 of them.
        epochs : int
            Passes over the training set.
        batch_size : int
            Sequences in a mini-batch; the last one of an epoch may be smaller.
        optimizer : SGD, RMSprop, Adam, AdamW or object with ``step(parameters, gradient)``, optional
            Goes on from the state it has. Default: a new ``Adam()``.
        schedule : schedules.Schedule, optional
            Multiplies ``optimizer.lr`` before every step; the ``lr`` given is put back at the end.
        rng : None, int or numpy.random.Generator
            Where the order of the mini-batches comes from, and what dropout and zoneout drop, if the
            LSTM has them.
        validation : tuple (x, y) or (x, y, lengths), or dict of the arguments of `evaluate`, optional
            Evaluated after every epoch; nothing is dropped in it.
        early_stopping : callbacks.EarlyStopping, optional
            Ends training when a loss no longer falls, and gives back the best parameters.
        callbacks : sequence of callbacks.Callback or callables
            A callable is called with the record of each epoch (see Returns).
            Training ends early where one returns True.
        callback : callable, optional
            One more of them.
        progress : bool
            Show a bar with the loss and the remaining time; needs tqdm.
        bucket : bool
            Mini-batches of sequences of similar lengths, for a training set with `lengths` or a `mask`:
            the order drawn is cut into pools of 64 mini-batches, each pool is sorted by length, and the
            mini-batches are shuffled.
        bptt : int, optional
            Truncated backpropagation through time (R. J. Williams, J. Peng, "An efficient
            gradient-based algorithm for on-line training of recurrent network trajectories", *Neural
            Computation* 2(4), 1990): every mini-batch is cut into windows of so many steps; each
            window makes one step of the optimizer, begins with the states in which the last one
            ended, and its gradient ends where it began. With every_step=True alone.
        checkpoint : str or path-like, optional
            A file that holds the state of the training, replaced in one piece after every
            `checkpoint_every` epochs and after the last.
        checkpoint_every : int
        resume : bool
            Go on from `checkpoint`, to the same bits as if nothing had happened; begin if there is no
            such file. `rng` and `optimizer` are set to what they were then.
        comm : MPI communicator or distributed.DataParallel, optional
            Train on all its ranks together: each calls `fit` with its part of the training set, or with
            the whole, see `distributed.DataParallel`. Rank 0's parameters, optimizer state and generator
            are everybody's; rank 0 alone reads and writes `checkpoint`.

        Returns
        -------
        training.History
            A list with a record for every epoch, ``{"epoch": 1, "loss": ..., "validation_loss": ...,
            "lr": ..., "seconds": ...}``; ``history["loss"]`` has the losses of all epochs. The loss is the
            mean over the epoch's mini-batches, each as it was before its step; the validation loss is that
            after the last of them, the lr that of the last step, each where there is one.

        Raises
        ------
        TypeError, ValueError
            If anything does not fit; nothing has been changed.
        FloatingPointError
            If a loss, a gradient or a step is NaN or infinite. The parameters are those before that
            mini-batch, or with `early_stopping` the best.
        KeyboardInterrupt
            Ctrl-C. No step is left half done. A mini-batch that takes long is dropped, and may be
            computed to its end in the background.
        distributed.RankError
            With `comm`: another rank has failed, does not answer, or has other parameters.
        """
        arguments = locals()
        del arguments["self"]
        if comm is not None:
            arguments["comm"] = as_group(comm)
        return fit_model(self, **arguments)

    # Files ------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, whole or not at all.

        The file is of safetensors, as `lstm_ext.io.save` writes it: the parameters by name, what the model
        is as JSON, and a SHA-256 of both. It is not a pickle, and no other package is needed.

        Parameters
        ----------
        path : str or path-like
            Usually ``name.safetensors``; names of other formats are refused.

        Raises
        ------
        TypeError
            If the loss is an object of another package's class.
        ValueError
            If a parameter is NaN or infinite, or `path` has the name of another format.
        OSError
            If the file cannot be written. After any error the former file stands.
        """
        provided("native files").save_object(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model that `save` has written, or a former version, or `lstm_ext.io.save`.

        Nothing in the file is executed, and no more memory is taken than its length accounts for.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        Model

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not a saved model, or a damaged one; an `lstm_ext.io.FormatError`.
        """
        native = provided("native files")
        model = native.load(path)
        if not isinstance(model, Model):
            raise native.FormatError(
                f"{os.fspath(path)} holds {type(model).__name__}; expected a Model: lstm_ext.io.load reads it"
            )
        if not isinstance(model, cls):
            own = cls.__new__(cls)
            state = model.__getstate__()
            del model  # its LSTM becomes the other's
            own.__setstate__(state)
            return own
        return model


def _pool_parameters(pooling: str, features: int) -> int:
    """Count the parameters of a pooling."""
    return features if pooling == "attention" else 0


def _refuse_overflow(x: Array, converted: Array, counted: Array | None) -> None:
    """Refuse finite numbers that the dtype of the LSTM cannot hold, in steps that count."""
    wrong = np.isinf(converted)
    if not wrong.any():
        return
    wrong &= np.isfinite(x)
    if counted is not None:
        wrong &= counted[..., None]
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"x{list(where)} is {x[where]:g}; expected numbers that {converted.dtype} can hold: scale x, or "
            "take an LSTM of dtype='float64'"
        )


def _assign(name: str, target: FloatArray, given: npt.ArrayLike) -> None:
    values = as_array(name, given)
    if values.shape != target.shape:
        raise ValueError(f"{name} has shape {values.shape}; expected {target.shape}")
    if values.dtype.kind not in "bfiu":
        raise TypeError(f"{name} is {values.dtype}; expected real numbers")
    target[...] = values
