"""Fitted estimators, pipelines and searches, seen as one function: scaling, a `Model`, what its outputs mean.

Nothing of scikit-learn is imported: steps are known by their class and read through public attributes. A
chain is compared with the object's own `predict` before it is used, so that what this file does not know is
refused and never left out.
"""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext._checks import count
from lstm_ext._data import as_array
from lstm_ext._passes import checked_static
from lstm_ext._pooling import RUNNING
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

if TYPE_CHECKING:
    import numpy.typing as npt

    from lstm_ext.lstm import Stream

    _Array = npt.NDArray[Any]
    _Affine = tuple[_Array, _Array]  # mean and scale

__all__ = ["Chain", "affine_of", "chain_of", "last_step", "model_of", "stream"]

_FORECASTER = "LSTMForecaster"


class Chain:
    r"""What a fitted estimator computes, in pieces that can be written down elsewhere.

    .. math:: z = (x - m) / s, \quad r = W h(z) + b, \quad y = \mu + \sigma \, g(r)

    Attributes
    ----------
    model : Model
        Its readout has the rows that `predict` reads.
    x_mean, x_scale : ndarray of shape (F,), float64
    static_mean, static_scale : ndarray of shape (S,), float64
    kind : {"linear", "softmax", "sigmoid", "exponential", "sorted"}
        g: nothing, probabilities of classes or of labels, expected counts, or an order in groups.
    group : int
        With "sorted": how many outputs are put in order, for each target.
    y_mean, y_scale : ndarray of shape (O,), float64
    shape : tuple
        Of one prediction: () for one target, (K,), (K, Q), or (classes,).
    merge : int
        How many adjacent steps of z the network reads as one, of `merge` times as many features; the last
        one is filled up with 0.
    """

    model: Model
    kind: str
    group: int
    merge: int
    x_mean: _Array
    x_scale: _Array
    static_mean: _Array
    static_scale: _Array
    y_mean: _Array
    y_scale: _Array
    shape: tuple[int, ...]

    def __init__(
        self, model: Model, x: _Affine, static: _Affine, kind: str, group: int, y: _Affine, merge: int = 1
    ) -> None:
        self.model, self.kind, self.group, self.merge = model, kind, group, merge
        self.x_mean, self.x_scale = x
        self.static_mean, self.static_scale = static
        self.y_mean, self.y_scale = y
        self.shape = (model.output_size,)

    def scaled(self, x: npt.ArrayLike) -> _Array:
        """Return x (..., F) as the model takes it."""
        with np.errstate(over="ignore"):
            return ((as_array("x", x) - self.x_mean) / self.x_scale).astype(self.model.lstm.dtype)

    def merged(self, x: _Array) -> _Array:
        """Return scaled x (N, T, F) as the network reads it: (N, T / merge, merge F), rounded up."""
        n, steps, features = x.shape
        x = np.pad(x, ((0, 0), (0, -steps % self.merge), (0, 0)))
        return x.reshape(n, -1, self.merge * features)

    def scaled_static(self, static: npt.ArrayLike) -> _Array:
        """Return static inputs (N, S) as the model takes them."""
        static = (as_array("static", static) - self.static_mean) / self.static_scale
        return static.astype(self.model.lstm.dtype)

    def finished(self, raw: _Array) -> npt.NDArray[np.float64]:
        """Return the prediction (..., *shape) for the readout's outputs (..., O), float64."""
        if self.kind == "softmax":
            raw = np.exp(raw - raw.max(axis=-1, keepdims=True))
            raw /= raw.sum(axis=-1, keepdims=True)
        elif self.kind == "sigmoid":
            raw = np.exp(-np.logaddexp(0, -raw))
        elif self.kind == "exponential":
            raw = np.exp(raw)
        elif self.kind == "sorted":
            groups = raw.reshape(*raw.shape[:-1], -1, self.group)
            raw = np.sort(groups, axis=-1).reshape(raw.shape)
        return np.reshape(raw * self.y_scale + self.y_mean, (*raw.shape[:-1], *self.shape))


def last_step(obj: Any) -> tuple[Any, list[tuple[str, Any]], Any]:
    """Return (best estimator of a search or obj, its steps, its last step), none of them unfitted."""
    seen = obj
    if hasattr(obj, "best_estimator_"):
        seen = obj.best_estimator_
    elif hasattr(obj, "param_distributions") or hasattr(obj, "param_grid"):
        raise ValueError(
            f"{type(obj).__name__} has no best_estimator_; expected one that was fitted with refit=True"
        )
    if type(seen).__name__ == "Pipeline" and _is_sklearn(seen):
        steps = [(name, step) for name, step in seen.steps if step is not None and step != "passthrough"]
        if not steps:
            raise ValueError("the pipeline has no step; expected an estimator of lstm_ext.sklearn at its end")
        inner = last_step(steps[-1][1])
        return seen, [*steps[:-1], *inner[1]], inner[2]
    return seen, [], seen


def _is_sklearn(obj: object) -> bool:
    return type(obj).__module__.partition(".")[0] == "sklearn"


def _is_ours(obj: object) -> bool:
    return type(obj).__module__.startswith("lstm_ext.sklearn")


def affine_of(name: str, step: Any) -> _Affine:
    """Return (m, s) of a fitted scaler, which gives (x - m) / s, or raise an error that names the step."""
    kind = type(step).__name__
    known = _SCALERS if _is_sklearn(step) else ("SequenceScaler",) if _is_ours(step) else ()
    if kind not in known:
        raise TypeError(
            f"step {name!r} is {kind}; expected SequenceScaler, {', '.join(_SCALERS)} or 'passthrough', "
            "which "
            "can be folded into the model: apply other steps before it, and leave them out"
        )
    if getattr(step, "n_features_in_", None) is None:
        raise ValueError(f"step {name!r} ({kind}) is not fitted; expected a fitted one")
    n = step.n_features_in_
    zeros, ones = np.zeros(n), np.ones(n)
    if kind == "MinMaxScaler":
        if getattr(step, "clip", False):
            raise ValueError(f"step {name!r} is MinMaxScaler(clip=True); expected clip=False")
        mean, scale = -step.min_ / step.scale_, 1 / step.scale_
    else:
        center = {"RobustScaler": "center_", "MaxAbsScaler": None}.get(kind, "mean_")
        mean = None if center is None else getattr(step, center, None)
        if kind == "StandardScaler" and not step.with_mean:
            mean = None  # it is known, and not subtracted
        mean, scale = zeros if mean is None else mean, getattr(step, "scale_", None)
        scale = ones if scale is None else scale
    mean, scale = (np.asarray(values, np.float64) for values in (mean, scale))
    fits = mean.shape == scale.shape == (n,) and np.isfinite([mean, scale]).all() and (scale != 0).all()
    if not fits:
        raise ValueError(f"step {name!r} ({kind}) has other scales than {n} finite numbers")
    return mean, scale


_SCALERS = ("StandardScaler", "MinMaxScaler", "RobustScaler", "MaxAbsScaler")


def chain_of(obj: Any, target: str, *, merging: bool = False) -> Chain:
    """Return the `Chain` of a fitted estimator, pipeline or search; raise an error that names what hinders.

    Parameters
    ----------
    obj : estimator
    target : str
        What it is for, in errors: "C code".
    merging : bool
        Whether `target` reads several steps as one where the estimator does.
    """
    root, steps, estimator = last_step(obj)
    kind = type(estimator).__name__
    if not _is_ours(estimator) or kind == "SequenceScaler":
        raise TypeError(
            f"the last step is {kind}; expected LSTMRegressor or LSTMClassifier, or an LSTM or a Model for "
            f"{target}"
        )
    if kind == _FORECASTER:
        raise TypeError(
            f"the estimator is {kind}, whose windows and horizon {target} does not have; expected "
            "LSTMRegressor or "
            "LSTMClassifier, or give its model_"
        )
    model = getattr(estimator, "model_", None)
    if not isinstance(model, Model):
        raise ValueError(f"the estimator {kind} is not fitted; expected a fitted one: call fit first")
    _check_estimator(estimator, target, merging)
    model, output, group, y = _outputs(estimator, model, target)
    features = int(estimator.n_features_in_)
    mean, scale = np.zeros(features), np.ones(features)
    for name, step in steps:
        step_mean, step_scale = affine_of(name, step)
        if step_mean.shape != (features,):
            raise ValueError(f"step {name!r} has {len(step_mean)} features; expected {features}")
        # ((x - m) / s - m') / s' = (x - (m + s m')) / (s s')
        mean, scale = mean + scale * step_mean, scale * step_scale
    if getattr(estimator, "x_scaler_", None) is not None:
        step_mean, step_scale = affine_of("x_scaler_", estimator.x_scaler_)
        mean, scale = mean + scale * step_mean, scale * step_scale
    static = np.zeros(model.lstm.static_size), np.ones(model.lstm.static_size)
    if getattr(estimator, "static_scaler_", None) is not None:
        static = affine_of("static_scaler_", estimator.static_scaler_)
    merge = getattr(estimator, "merge_steps_", 1)
    chain = Chain(model, (mean, scale), static, output, group, y, merge)
    _compare(chain, root, bool(steps) and not all(_is_ours(step) for _, step in steps), target)
    return chain


def _check_estimator(estimator: Any, target: str, merging: bool) -> None:
    """Raise ValueError for what an estimator does to X besides scaling it."""
    for name in ("static_columns", "categorical_columns"):
        given = getattr(estimator, name, None)
        if given is not None and len(given):
            raise ValueError(
                f"the estimator has {name}={given!r}, which {target} does not have; expected only numbers: "
                "give "
                "static inputs as static=, and write categories as columns of 0 and 1"
            )
    if getattr(estimator, "_categories", None):  # found by their dtype
        raise ValueError(
            f"the estimator has columns of categories, which {target} does not have; expected only numbers: "
            "write categories as columns of 0 and 1"
        )
    merged = getattr(estimator, "merge_steps_", 1)
    if merged != 1 and not merging:
        raise ValueError(
            f"the estimator reads {merged} steps as one, which {target} does not; expected an estimator that "
            "was "
            "fitted with merge_steps=1"
        )


def _outputs(estimator: Any, model: Model, target: str) -> tuple[Model, str, int, _Affine]:
    """Return (model, kind, group, (mean, scale)): what the outputs mean."""
    O = model.output_size  # noqa: E741
    loss: Any = model.loss
    if type(loss).__name__ == "Weighted":  # by columns of y: another loss of the same outputs
        loss = getattr(loss, "loss", None)
    kind = type(loss).__name__
    nothing = np.zeros(O), np.ones(O)
    if kind == "CrossEntropy":
        return model, "softmax", 1, nothing
    if kind == "BinaryCrossEntropy":
        return model, "sigmoid", 1, nothing
    scaler = getattr(estimator, "y_scaler_", None)
    mean, scale = nothing if scaler is None else (scaler.mean_, scaler.scale_)
    if kind in ("MeanSquaredError", "MeanAbsoluteError", "Huber", "NashSutcliffe"):
        return model, "linear", 1, (mean, scale)
    if kind == "Poisson":
        return model, "exponential", 1, nothing
    if kind == "GaussianNLL":
        K = O // 2
        means = (mean, scale) if len(mean) == K else (mean[:K], scale[:K])
        return _rows(model, K), "linear", 1, means
    if kind == "Quantile":
        Q = int(loss.outputs_per_target)
        y = nothing if scaler is None else (np.repeat(mean, Q), np.repeat(scale, Q))
        shift = getattr(estimator, "interval_shift_", None)
        if shift is not None:  # calibrated: in units of the scaled target
            y = y[0] + np.ravel(shift) * y[1], y[1]
        return model, "sorted", Q, y
    raise ValueError(
        f"the estimator's loss is {kind}, whose predictions {target} does not have; expected mse, mae, "
        "huber, nse, "
        "quantile, poisson, gaussian or a classifier"
    )


def _rows(model: Model, count: int) -> Model:
    """Return a model with only the first rows of the readout."""
    part = Model(
        copy.deepcopy(model.lstm), count, every_step=model.every_step, pooling=model.pooling, rng=0
    )
    part.weight[...], part.bias[...] = model.weight[:count], model.bias[:count]
    if model.pooling == "attention":
        part.attention[...] = model.attention
    return part


def _compare(chain: Chain, obj: Any, table: bool, target: str) -> None:
    """Hold the chain against the object's own predict: what this file does not know must not be left out.

    Parameters
    ----------
    table : bool
        X has two axes: a step is of scikit-learn, which takes no others.
    """
    rng, F, S = np.random.default_rng(0), len(chain.x_mean), len(chain.static_mean)
    x = chain.x_mean + chain.x_scale * rng.normal(size=(4, 1 if table else 6, F))
    scaled, own = {}, {}
    if S:
        own["static"] = chain.static_mean + chain.static_scale * rng.normal(size=(4, S))
        scaled["static"] = chain.scaled_static(own["static"])
    method = "predict_proba" if chain.kind in ("softmax", "sigmoid") else "predict"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            theirs = np.asarray(getattr(obj, method)(x[:, 0] if table else x, **own), np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{type(obj).__name__} cannot be taken for {target}: its {method} says: {error}"
            ) from error
    raw = chain.model.predict(chain.merged(chain.scaled(x)), **scaled).astype(np.float64)
    steps = 2 if chain.model.every_step else 1
    shape = theirs.shape[steps:] if theirs.shape[:steps] == raw.shape[:steps] else None
    if shape is None or np.prod(shape, dtype=int) != raw.shape[-1]:
        raise ValueError(
            f"{type(obj).__name__} cannot be taken for {target}: its {method} gives {theirs.shape[1:]}, and "
            "its network "
            f"{raw.shape[1:]}"
        )
    chain.shape = shape
    mine = chain.finished(raw)
    size = max(np.abs(theirs).max(), np.abs(chain.y_scale).max())
    if not np.abs(mine - theirs).max() <= 1e-4 * size:
        raise ValueError(
            f"{type(obj).__name__} cannot be taken for {target}: its {method} does more than scaling and a "
            "network; "
            "expected LSTMRegressor or LSTMClassifier without further processing"
        )


def _plain(model: Model) -> Chain:
    """Return a model as a chain that scales nothing."""
    x, static, y = ((np.zeros(n), np.ones(n)) for n in (
        model.lstm.input_size, model.lstm.static_size, model.output_size
    ))
    return Chain(model, x, static, "linear", 1, y)


def model_of(obj: Any, target: str) -> tuple[Model, Chain | None]:
    """Return (model, chain or None): a `Model` as it is, an estimator as its chain."""
    if isinstance(obj, Model):
        return obj, None
    chain = chain_of(obj, target)
    return chain.model, chain


# ---- step by step


class EstimatorStream:
    """A fitted estimator that is given one time step at a time, and predicts after each.

    Made by `lstm_ext.io.stream`, or the estimator's `stream`. It keeps the weights and scales that the
    estimator had then. Where the estimator pools, running sums are kept beside the network's state. Where it
    reads several steps as one, a merged step that is not whole is read with zeros in place of the steps to
    come, as `predict` reads the end of a sequence, and read anew when they are there. A network that reads
    backwards needs the whole sequence: it is kept, and read again at each step.
    """

    def __init__(
        self, chain: Chain, batch: int = 1, static: npt.ArrayLike | None = None, max_steps: int | None = None
    ) -> None:
        model, lstm = chain.model, chain.model.lstm
        self._backwards = bool(lstm.bidirectional or lstm.reverse)
        if max_steps is not None:
            max_steps = count("max_steps", max_steps, 1)
        elif self._backwards:
            raise ValueError(
                "max_steps is None; expected a number for a network that reads backwards (bidirectional or "
                "reverse): the stream keeps so many steps, and reads all of them again at each"
            )
        if static is not None and len(chain.static_mean):
            static = chain.scaled_static(static)
        self._chain, self._max_steps = chain, max_steps
        self._weight = model.weight.astype(np.float64).T
        self._bias = model.bias.astype(np.float64)
        features = len(chain.x_mean)
        if self._backwards:
            self._batch = count("batch", batch, 1)
            self._model = copy.deepcopy(model)
            self._static = checked_static(lstm, static, self._batch)
            self._kept = np.zeros((self._batch, max_steps or 0, features), lstm.dtype)
        else:
            self._stream = lstm.stream(batch, static)
            # One that reads the merged steps that are not whole.
            self._trial = lstm.stream(batch, static) if chain.merge > 1 else None
            self._batch = self._stream.batch
            self._part = np.zeros((self._batch, chain.merge, features), lstm.dtype)
            self._pool = None
            if model.pooling != "last":
                attention = (model.attention.copy(),) if model.pooling == "attention" else ()
                self._pool = RUNNING[model.pooling]((self._batch, lstm.output_size), *attention)
        self._steps = 0

    @property
    def batch(self) -> int:
        """Sequences that advance together."""
        return self._batch

    @property
    def steps(self) -> int:
        """Time steps since the stream was made, or reset, or its state was set."""
        return self._steps

    @property
    def state(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | dict[str, npt.NDArray[Any]]:
        """What the stream remembers: a copy. Assign it, to this stream or one like it, to go back there.

        (h, c) of the network, as `Stream.state`. Where the estimator pools or merges steps, and where the
        network reads backwards, a dict of arrays by name.
        """
        if self._backwards:
            return {"kept": self._kept[:, : self._steps].copy()}
        h, c = self._stream.state
        if self._pool is None and self._trial is None:
            return h, c
        state = {"h": h, "c": c}
        if self._pool is not None:
            state["pool"] = self._pool.state.copy()
        if self._trial is not None:
            state["part"] = self._part[:, : self._steps % self._chain.merge].copy()
        return state

    @state.setter
    def state(self, state: tuple[npt.ArrayLike, npt.ArrayLike] | dict[str, npt.NDArray[Any]]) -> None:
        names = ["h", "c"]
        if self._backwards:
            names = ["kept"]
        elif self._pool is not None or self._trial is not None:
            names += (["pool"] if self._pool is not None else []) + (["part"] if self._trial else [])
        else:
            self._stream.state = state  # type: ignore[assignment]  # which checks it
            self._steps = 0
            return
        if not isinstance(state, dict) or list(state) != names:
            raise TypeError(f"state is {type(state).__name__}; expected a dict of {', '.join(names)}")
        arrays = {name: as_array(f"state[{name!r}]", values) for name, values in state.items()}
        shapes = {
            "kept": (self._batch, self._max_steps, len(self._chain.x_mean)),
            "pool": None if self._backwards or self._pool is None else self._pool.state.shape,
            "part": (self._batch, self._chain.merge - 1, len(self._chain.x_mean)),
        }
        for name, array in arrays.items():
            expected = shapes.get(name)
            if expected is None:  # h and c, which the network's stream checks
                continue
            free = name != "pool"  # as many steps as there were
            if array.ndim == len(expected) and free and array.shape[1] <= expected[1]:
                expected = (expected[0], array.shape[1], expected[2])
            if array.shape != expected or array.dtype.kind not in "bfiu":
                raise ValueError(
                    f"state[{name!r}] is {array.dtype} {array.shape}; expected numbers of shape {expected}"
                )
        if self._backwards:
            self._steps = arrays["kept"].shape[1]
            self._kept[:, : self._steps] = arrays["kept"]
            return
        self._stream.state = arrays["h"], arrays["c"]
        self._steps = 0
        if self._pool is not None:
            self._pool.state[...] = arrays["pool"]
        if self._trial is not None:
            self._part[...] = 0
            self._steps = arrays["part"].shape[1]
            self._part[:, : self._steps] = arrays["part"]

    def reset(self) -> None:
        """Begin new sequences."""
        self._steps = 0
        if self._backwards:
            return
        self._stream.reset()
        self._part[...] = 0
        if self._pool is not None:
            self._pool.reset()

    def step(self, x_t: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Advance by one time step.

        Parameters
        ----------
        x_t : array_like, (N, F), or (F,) where the batch is 1
            In the units of X.

        Returns
        -------
        ndarray
            What `predict` gives for the sequences up to this step, or a classifier's `predict_proba`: one
            row for each sequence, or that row for (F,).
        """
        x_t = as_array("x_t", x_t)
        if x_t.dtype.kind not in "bfiu":
            raise TypeError(f"x_t is {x_t.dtype}; expected real numbers")
        expected = (self.batch, len(self._chain.x_mean))
        if x_t.shape != expected and not (self.batch == 1 and x_t.shape == expected[1:]):
            raise ValueError(f"x_t has shape {x_t.shape}; expected {expected}")
        if self._steps == self._max_steps:
            raise ValueError(
                f"max_steps is {self._max_steps}, and this is step {self._steps + 1}; expected a reset "
                "before, or a stream with more steps"
            )
        scaled = self._chain.scaled(x_t)
        if self._backwards:
            features = self._read_again(scaled)
        elif self._trial is None:
            features = self._pooled(self._stream.step(scaled), keep=True)
            self._steps += 1
        else:
            features = self._merged(self._trial, scaled)
        features = features[0] if x_t.ndim == 1 and features.ndim == 2 else features
        return self._chain.finished(np.asarray(features, np.float64) @ self._weight + self._bias)

    def _pooled(self, h: _Array, keep: bool) -> _Array:
        """Return what is read out of the hidden state and those before it."""
        if self._pool is None:
            return h
        before = None if keep else self._pool.state.copy()
        features: _Array = self._pool.add(h.reshape(self._batch, -1)).astype(h.dtype)
        if not keep:
            self._pool.state[...] = before
        return features

    def _merged(self, trial: Stream, scaled: _Array) -> _Array:
        """Read what there is of a merged step, with `trial` unless it is whole."""
        place = self._steps % self._chain.merge
        self._part[:, place] = scaled
        whole, merged = place + 1 == self._chain.merge, self._part.reshape(self._batch, -1)
        try:
            if not whole:
                trial._follow(self._stream)
            h = (self._stream if whole else trial).step(merged)
        except BaseException:
            self._part[:, place] = 0
            raise
        features = self._pooled(h, keep=whole)
        self._steps += 1
        if whole:
            self._part[...] = 0
        return features

    def _read_again(self, scaled: _Array) -> _Array:
        """Read all steps so far, and this one."""
        self._kept[:, self._steps] = scaled
        x = self._chain.merged(self._kept[:, : self._steps + 1])
        y, (h_n, _) = self._model.lstm(x, static=self._static)
        features: _Array = self._model._features(y, h_n)
        self._steps += 1
        return features[:, -1] if self._model.every_step else features

    def __repr__(self) -> str:
        return f"EstimatorStream({self._model if self._backwards else self._stream!r})"


def stream(
    obj: Any, batch: int = 1, static: npt.ArrayLike | None = None, *, max_steps: int | None = None
) -> Stream | EstimatorStream:
    """Return a stream of an LSTM, a model, or a fitted estimator, pipeline or search, with its scaling.

    Parameters
    ----------
    obj : LSTM, Model, LSTMRegressor, LSTMClassifier, Pipeline or search
        Of a pipeline the other steps are `SequenceScaler`, ``StandardScaler``, ``MinMaxScaler``,
        ``RobustScaler``, ``MaxAbsScaler`` or "passthrough".
    batch : int, default 1
        Sequences that advance together.
    static : array_like, (batch, S), optional
        Static inputs, in their own units.
    max_steps : int, optional
        Refuse more steps than this. Needed for a model or estimator whose network reads backwards
        (bidirectional, as `LSTMClassifier` by default, or reverse): the stream then keeps so many steps and
        reads all of them again at each, which takes as long as `predict` does. Others go on for ever.

    Returns
    -------
    Stream or EstimatorStream
        Its `step` gives what `predict` gives for the steps so far, in the units of the target.

    Raises
    ------
    TypeError, ValueError
        If a step of a pipeline is another one; it is named. If the network reads backwards, and there is no
        `max_steps`.
    """
    if isinstance(obj, LSTM):
        if max_steps is not None:
            raise ValueError(f"max_steps is {max_steps!r}; expected None for an LSTM, or a Model of it")
        return obj.stream(batch, static)
    if isinstance(obj, Model):
        return EstimatorStream(_plain(obj), batch, static, max_steps)
    return EstimatorStream(chain_of(obj, "a stream", merging=True), batch, static, max_steps)
