"""The base class of `LSTMRegressor`, `LSTMClassifier` and `LSTMForecaster`: the network and its training."""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import stdtrit
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._metadata_requests import RequestMethod
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from lstm_ext._checks import warn
from lstm_ext.callbacks import Callback, EarlyStopping
from lstm_ext.distributed import DataParallel
from lstm_ext.losses import BinaryCrossEntropy, CrossEntropy
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model
from lstm_ext.optim import SGD, Adam, AdamW, RMSprop
from lstm_ext.schedules import Cosine, Schedule
from lstm_ext.sklearn._bases import BaseEstimator
from lstm_ext.training import fit_lbfgs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from lstm_ext.losses import Loss
    from lstm_ext.sklearn._types import (
        Auto,
        Callbacks,
        ComputeDtype,
        Floats,
        Integers,
        Pooling,
        RandomState,
        Reals,
        Solver,
        TrainingData,
    )
    from lstm_ext.training import EpochRecord, History, SequenceData

    Method = TypeVar("Method", bound=Callable[..., Any])
    Folds = list[tuple[Integers, Integers]]  # the numbers of those to learn from, and of those set aside

# Keyword arguments of LSTM that lstm_options cannot have, and where their values come from.
_TAKEN = {
    "input_size": "the number of features in X",
    "hidden_size": "a parameter of the estimator",
    "num_layers": "a parameter of the estimator",
    "dtype": "a parameter of the estimator",
    "batch_first": "the layout of X",
    "rng": "random_state",
    "static_size": "static of fit",
}
_LSTM_OPTIONS = frozenset(inspect.signature(LSTM).parameters)
# Parameters that a training which continues cannot change.
_BUILDING = (
    "hidden_size", "num_layers", "dtype", "every_step", "loss", "quantiles", "strategy", "window", "horizon",
    "difference", "coverage", "scale", "pooling", "merge_steps", "static_columns", "categorical_columns",
)
# With "auto": epochs, and the steps of the optimizer that they make at the least. 40 sequences make two
# steps in an epoch, and 20 steps without a better loss say nothing.
_EPOCHS, _LEAST_STEPS = 200, 1000
_PATIENCE, _LEAST_PATIENCE = 10, 200
# The loss after an epoch is taken on so many of the sequences at the most.
_JUDGED = 2048
# With batch_size="auto": sequences in a mini-batch, fewer where an epoch would have less than 5 of them.
_BATCH, _LEAST_BATCH, _BATCHES = 32, 8, 5
# Where fewer are set aside, folds judge in turn, and all sequences are learned from in the end.
FEW_ASIDE, FOLDS = 50, 5
# While the learning rate falls to 0, its sum over an epoch is half of what it was.
_STRETCH = 2
# Logits are divided by e to the power of this at the most.
_LOG_TEMPERATURE = 4.0
_DROPPING = ("dropout", "recurrent_dropout", "weight_dropout", "zoneout")
# Hidden states of so many numbers are made at a time in inference.
_NUMBERS_AT_ONCE = 2**24


class _Best(EarlyStopping):
    """Ends a training by tolerance and patience; whatever ends it, the weights of the lowest loss are kept.

    The loss is that of the validation set or, without one, of `data` after the epoch, without dropout. The
    mean over an epoch's mini-batches would not do: each is of other weights, and a spike in the epoch's last
    steps stands in none of them.

    Parameters
    ----------
    patience : int
    tol : float
    data : dict or None
        What `Model.evaluate` takes; None: watch the validation loss.
    penalty : float
        Half of it times the squared norm of the weights belongs to the loss of `data`.
    """

    def __init__(self, patience: int, tol: float, data: TrainingData | None, penalty: float = 0.0) -> None:
        super().__init__(patience, tol, "validation_loss" if data is None else "loss")
        self._data, self._penalty = data, penalty

    def on_fit_begin(self, model: Model, epochs: int, done: int) -> None:
        """Check the data once."""
        super().on_fit_begin(model, epochs, done)
        self.lowest, self.lowest_epoch, self._trained = math.inf, 0, model
        if self._data is not None:
            self._checked = model.prepare(**self._data)

    def _loss(self, record: EpochRecord) -> float:
        if self._data is None:
            return float(record["validation_loss"])
        theta = self._trained.parameters
        loss = self._trained.loss_of(self._checked)
        return loss + 0.5 * self._penalty * float(np.vdot(theta, theta)) if self._penalty else loss

    def on_epoch_end(self, record: EpochRecord) -> bool:
        """Keep the weights if their loss is the lowest; return whether the training has to end."""
        loss, self.last_epoch = self._loss(record), record["epoch"]
        loss = loss if math.isfinite(loss) else math.inf
        if loss < self.lowest or not self.lowest_epoch:
            self.lowest, self.lowest_epoch = loss, self.last_epoch
            self._parameters = self._trained.parameters.copy()
        # Patience counts from the last loss that was lower by more than the tolerance.
        if loss < self.best - self.min_delta or not self.best_epoch:
            self.best, self.best_epoch = loss, self.last_epoch
        return self.done


class _Resumed(Schedule):
    """A schedule of which `done` epochs are done."""

    def __init__(self, schedule: Schedule, done: int) -> None:
        self.schedule, self.done = schedule, done

    def factor(self, epochs: float) -> float:
        """Return the factor after so many epochs more."""
        return self.schedule.factor(self.done + epochs)


class _Curves(Callback):
    """Records the losses of every epoch in the attributes that scikit-learn's estimators have."""

    def __init__(self, estimator: Network, prints: bool) -> None:
        self.estimator, self.prints = estimator, prints and estimator.verbose

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Take the record of an epoch."""
        estimator, loss = self.estimator, record["loss"]
        estimator.n_iter_ += 1
        estimator.loss_ = loss
        estimator.loss_curve_.append(loss)
        more = ""
        if estimator.validation_loss_curve_ is not None:  # the two curves stay side by side
            estimator.validation_loss_curve_.append(record.get("validation_loss", np.nan))
        if "validation_loss" in record:
            more = f", validation loss {record['validation_loss']:.6g}"
        if self.prints:
            print(f"Iteration {estimator.n_iter_}, loss {loss:.6g}{more}")


def _group_of(comm: Any) -> DataParallel | None:
    """Return `comm` as a `DataParallel`, or None; every rank of an estimator is given all data."""
    return comm if comm is None or isinstance(comm, DataParallel) else DataParallel(comm, shards="cut")


def _is_stochastic(estimator: Network) -> bool:
    if estimator.solver == "lbfgs":
        raise AttributeError("solver is 'lbfgs'; expected a solver with mini-batches for partial_fit")
    if getattr(estimator, "class_weight", None) == "balanced":
        raise AttributeError(
            "class_weight is 'balanced'; expected None or a dict for partial_fit, which does not see all of y"
        )
    return True


class _Request(RequestMethod):  # type: ignore[misc]  # scikit-learn has no types
    """A method `set_{name}_request` whose docstring leaves `help` readable: scikit-learn's has 40 lines."""

    def __get__(self, instance: object, owner: type) -> Callable[..., Any]:
        method: Callable[..., Any] = super().__get__(instance, owner)
        method.__doc__ = (
            f"Choose the arguments that a pipeline or search passes to `{self.name}`: True, False, None or "
            "another name\nfor each; see \"Metadata routing\" in scikit-learn's user guide."
        )
        return method


class Network(BaseEstimator):
    """The common part of the estimators. Their `fit` and `predict` turn users' data into arrays and back."""

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012  # scikit-learn's name and form
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "num_layers": [Interval(Integral, 1, None, closed="left")],
        "solver": [StrOptions({"adam", "adamw", "rmsprop", "sgd", "lbfgs"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "max_norm": [Interval(Real, 0, None, closed="neither"), None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "warm_start": ["boolean"],
        "scale": ["boolean"],
        "dtype": [StrOptions({"float32", "float64"})],
        "lstm_options": [dict, None],
        "callbacks": ["array-like", None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    model_: Model
    n_iter_: int
    loss_: float
    best_loss_: float
    loss_curve_: list[float]
    validation_loss_curve_: list[float] | None
    _built: dict[str, Any]
    _rng: np.random.Generator
    _optimizer: SGD | Adam | RMSprop | None

    def __init__(
        self, hidden_size: int, num_layers: int, solver: Solver, learning_rate_init: float,
        batch_size: int | Auto, max_iter: int | Auto, alpha: float, momentum: float, max_norm: float | None,
        tol: float, n_iter_no_change: int | Auto, early_stopping: bool | Auto, validation_fraction: float,
        warm_start: bool, scale: bool, dtype: ComputeDtype, lstm_options: dict[str, Any] | None,
        callbacks: Callbacks | None, random_state: RandomState | None, verbose: bool,
    ) -> None:
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.alpha = alpha
        self.momentum = momentum
        self.max_norm = max_norm
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.scale = scale
        self.dtype = dtype
        self.lstm_options = lstm_options
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, value in list(vars(cls).items()):
            if isinstance(value, RequestMethod):
                setattr(cls, name, _Request(value.name, value.keys, value.validate_keys))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._allow_nan
        tags.input_tags.three_d_array = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    @property
    def _allow_nan(self) -> bool:
        """Whether the layer has a policy for missing values."""
        return (self.lstm_options or {}).get("nan") in ("zero", "hold")

    @property
    def _takes_nan(self) -> bool:
        """Whether the fitted network does: `lstm_options` may have been set anew since."""
        return self.model_.lstm.nan in ("zero", "hold")

    def _check_parameters(self) -> None:
        self._validate_params()
        options = self.lstm_options or {}
        for name in options:
            if name in _TAKEN:
                raise ValueError(f"lstm_options has {name!r}: it is {_TAKEN[name]}")
            if name not in _LSTM_OPTIONS:
                raise ValueError(f"lstm_options has {name!r}; expected keyword arguments of lstm_ext.LSTM")
        for callback in self.callbacks if isinstance(self.callbacks, list | tuple) else ():
            if isinstance(callback, EarlyStopping):
                raise TypeError(
                    f"callbacks has {callback!r}; expected early_stopping=True, n_iter_no_change and tol, "
                    "which "
                    "are parameters of the estimator"
                )
        dropped = [name for name in _DROPPING if np.any(options.get(name, 0))]
        if self.solver == "lbfgs" and dropped:
            raise ValueError(
                f"lstm_options has {', '.join(dropped)}; expected none of them with solver='lbfgs', whose "
                "loss must "
                "not vary from call to call: take another solver"
            )

    # ---- all or nothing

    @contextlib.contextmanager
    def _all_or_nothing(self, comm: Any = None) -> Iterator[None]:
        """Give every fitted attribute back as it was, if the block raises, on one of the ranks of `comm`.

        That includes what a training changes in place: the network's weights, its optimizer, the random
        numbers, the curves. Ctrl-C within the training proper is no failure: what has been learned stays.
        """
        parameters = set(self._get_param_names())
        before = {name: value for name, value in vars(self).items() if name not in parameters}
        kept: dict[str, Any] = {name: list(v) for name, v in before.items() if isinstance(v, list)}
        model, rng = before.get("model_"), before.get("_rng")
        weights = None if model is None else model.parameters.copy()
        state = None if rng is None else copy.deepcopy(rng.bit_generator.state)
        kept["_optimizer"] = copy.deepcopy(before.get("_optimizer"))
        group = _group_of(comm)
        try:
            with contextlib.nullcontext() if group is None else group.agreed():
                yield
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and getattr(error, "_network_is_whole", False):
                raise
            for name in set(vars(self)) - parameters:
                delattr(self, name)
            self.__dict__.update(before)
            self.__dict__.update({name: value for name, value in kept.items() if name in before})
            if model is not None:
                model.parameters = weights
            if rng is not None:
                rng.bit_generator.state = state
            raise

    # ---- training

    def _goes_on(self, incremental: bool) -> bool:
        """Whether a fit starts from the network that is there."""
        return (incremental or self.warm_start) and hasattr(self, "model_")

    def _architecture(self, n_inputs: int, n_outputs: int) -> dict[str, Any]:
        given = self.get_params(deep=False)
        fixed = {name: copy.deepcopy(given[name]) for name in _BUILDING if name in given}
        fixed["lstm_options"] = copy.deepcopy(dict(self.lstm_options or {}))
        return {"inputs": n_inputs, "outputs": n_outputs, **fixed}

    def _check_architecture(self, n_inputs: int, n_outputs: int) -> None:
        for name, value in self._architecture(n_inputs, n_outputs).items():
            # A file of an earlier version lacks the parameters that came later.
            if name in self._built and not _equal(self._built[name], value):
                raise ValueError(
                    f"{name} is {value!r}; expected {self._built[name]!r}, with which the network was made: "
                    "set "
                    "warm_start=False and call fit for a new one"
                )

    def _generator(self) -> np.random.Generator:
        return np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))

    def _layer_options(self) -> dict[str, Any]:
        """Return the options of the layer; an estimator may have defaults of its own."""
        return dict(self.lstm_options or {})

    @property
    def _merged_steps(self) -> int:
        return getattr(self, "merge_steps_", 1)

    def _new_network(
        self, n_inputs: int, n_outputs: int, *, every_step: bool, loss: Loss, rng: np.random.Generator,
        bias: npt.ArrayLike = 0, pooling: Pooling = "last", static_size: int = 0,
    ) -> None:
        """Make a model; nothing of the estimator is touched before it stands."""
        options = self._layer_options()
        if static_size:
            options["static_size"] = static_size
        lstm = LSTM(
            n_inputs * self._merged_steps, self.hidden_size, self.num_layers, dtype=self.dtype, rng=rng,
            **options,
        )
        model = Model(lstm, n_outputs, every_step=every_step, loss=loss, pooling=pooling, rng=rng)
        model.bias[...] = bias
        self.model_ = model
        self._built = self._architecture(n_inputs, n_outputs)
        self._rng = rng
        self.n_iter_, self.loss_curve_ = 0, []
        self.validation_loss_curve_ = None
        self._optimizer = None

    def _new_optimizer(self) -> SGD | Adam | RMSprop:
        lr, alpha, max_norm = self.learning_rate_init, self.alpha, self.max_norm
        if self.solver == "sgd":
            return SGD(lr, momentum=self.momentum, weight_decay=alpha, max_norm=max_norm)
        if self.solver == "rmsprop":
            return RMSprop(lr, weight_decay=alpha, max_norm=max_norm)
        return (AdamW if self.solver == "adamw" else Adam)(lr, weight_decay=alpha, max_norm=max_norm)

    def _process_group(self, comm: Any) -> DataParallel | None:
        """Return `comm` as a `DataParallel` whose ranks have all data, as the scalers need them."""
        group = _group_of(comm)
        if group is None:
            return None
        if group.shards != "cut":
            raise ValueError(
                f"comm has shards={group.shards!r}; expected 'cut': every rank is given all data"
            )
        if self.solver == "lbfgs":
            raise ValueError("comm was given with solver='lbfgs'; expected a solver with mini-batches")
        if self.random_state is None:
            raise ValueError("random_state is None; expected a number with comm: all ranks draw alike")
        return group

    def _in_epochs(self, value: int | Auto, epochs: int, least: int, data: TrainingData) -> int:
        """Return a number of epochs: as given, or so many that they make at least `least` steps."""
        return value if value != "auto" else max(epochs, math.ceil(least / self._steps_of(len(data["x"]))))

    def _steps_of(self, n: int) -> int:
        """Count the steps of the optimizer in an epoch of n sequences."""
        return -(-n // self._batch_of(n))

    def _batch_of(self, n: int) -> int:
        """Return how many of n sequences make a mini-batch; "auto": all of an epoch as large, within one."""
        if self.batch_size != "auto":
            return self.batch_size
        size = min(_BATCH, max(_LEAST_BATCH, n // _BATCHES))
        return -(-n // -(-n // size))

    def _train(
        self, data: TrainingData, *, incremental: bool, split: Callable[[], tuple[Integers, Integers]],
        comm: DataParallel | None = None, folds: Callable[[TrainingData], Folds | None] | None = None,
        validation: TrainingData | None = None, early_stopping: bool | None = None, **options: Any,
    ) -> tuple[TrainingData, Floats] | None:
        """Train `model_` on a dict of x, y, lengths, sample_weight, each an array or None.

        split() gives the numbers of those to learn from and of those set aside for early stopping, and
        folds(data), if given, pairs of them in which each sequence is set aside once, or None where one
        split is enough. `validation` is a dict like `data` to watch in place of those set aside,
        `early_stopping` stands for the parameter, `options` go to `Model.fit`, and `comm` is what
        `_process_group` has returned.

        Returns
        -------
        tuple (data, outputs) or None
            The sequences set aside, a dict like `data`, and what networks that have not learned from them
            gave for them.
        """
        callbacks = [_Curves(self, comm is None or comm.first), *(self.callbacks or ())]
        if incremental:
            if self._optimizer is None:
                self._optimizer = self._new_optimizer()
            # One epoch is no ground to judge convergence on.
            with _learning():
                self._steps(data, 1, callbacks=callbacks, **options)
            return None
        stops = self.early_stopping if early_stopping is None else early_stopping
        if validation is None and stops:
            counting, drawn = _counting(data), copy.deepcopy(self._rng.bit_generator.state)
            pairs = folds(counting) if folds is not None and self.solver != "lbfgs" else None
            if pairs is not None:
                classes = isinstance(self.model_.loss, CrossEntropy | BinaryCrossEntropy)
                if classes:
                    return self._cross_classify(counting, pairs, callbacks, comm, options, drawn)
                return self._cross_train(counting, pairs, callbacks, comm, options)
            learn, aside = split()
            data, validation = _taken(data, learn), _taken(data, aside)
        data = _counting(data)
        self._curve_beside(validation is not None)
        if self.solver == "lbfgs":
            with _learning():
                self._minimize(data, validation, callbacks)
        else:
            self._descend(data, validation, callbacks, comm, options)
        return None if validation is None else (validation, self._raw_outputs(validation))

    def _curve_beside(self, validated: bool) -> list[float]:
        """Return `validation_loss_curve_`, as long as `loss_curve_` if there is or was a validation."""
        if validated and self.validation_loss_curve_ is None:
            self.validation_loss_curve_ = [np.nan] * self.n_iter_
        return [] if self.validation_loss_curve_ is None else self.validation_loss_curve_

    def _descend(
        self, data: TrainingData, validation: TrainingData | None, callbacks: list[Any],
        comm: DataParallel | None, options: Any,
    ) -> None:
        """Train by mini-batches until the loss no longer falls, and keep the best weights."""
        epochs = self._in_epochs(self.max_iter, _EPOCHS, _LEAST_STEPS, data)
        stopping = self._stopping(data, validation)
        self._optimizer = self._new_optimizer()
        with _learning():
            records = self._steps(
                data, epochs, validation=validation, callbacks=callbacks, early_stopping=stopping, comm=comm,
                schedule=self._schedule(epochs), **options,
            )
        self.best_loss_ = stopping.lowest
        # A callback may have ended it before.
        if len(records) == epochs and not stopping.done:
            which = "validation loss" if validation else "loss"
            warn(
                f"max_iter={epochs} reached, and the {which} has still fallen by more than tol={self.tol} in "
                f"the last {stopping.patience} epochs (n_iter_no_change={self.n_iter_no_change!r}): set "
                f"max_iter={2 * epochs}, or a larger learning_rate_init (it is {self.learning_rate_init:g}) "
                "or tol",
                ConvergenceWarning,
            )

    def _schedule(self, epochs: int) -> Schedule | None:
        return Cosine(epochs) if getattr(self, "learning_rate", "constant") == "cosine" else None

    def _stopping(self, data: TrainingData, validation: object) -> _Best:
        patience = self._in_epochs(self.n_iter_no_change, _PATIENCE, _LEAST_PATIENCE, data)
        if validation:
            return _Best(patience, self.tol, None)
        n = len(data["x"])
        # Spread over all sequences, in case they are sorted.
        judged = data if n <= _JUDGED else _taken(data, np.linspace(0, n - 1, _JUDGED).astype(int))
        return _Best(patience, self.tol, judged, 0.0 if self.solver == "adamw" else self.alpha)

    def _cross_train(
        self, data: TrainingData, pairs: Folds, callbacks: list[Any], comm: DataParallel | None, options: Any
    ) -> tuple[TrainingData, Floats]:
        """Find by folds how many steps are best, and make so many on all sequences.

        Few sequences set aside would say little about when to end, and would be missed. The networks of the
        folds go on side by side, epoch by epoch, so that one number is chosen by the mean of their losses.
        Then all are trained anew, the folds' like the last one: for twice as many epochs, while the
        learning rate falls to 0, which takes the noise of the last steps away. So what the folds' networks
        give for the sequences set aside is as good as what the last one will give for others, no better.
        """
        model, patience = self.model_, self._stopping(data, True).patience
        start = model.parameters.copy()
        parts = [_counting(_taken(data, learn)) for learn, _ in pairs]
        tests = [_taken(data, aside) for _, aside in pairs]
        counts = np.array([_sum_of_weights(test, model.every_step) for test in tests])
        states = [start.copy() for _ in pairs]
        optimizers = [self._new_optimizer() for _ in pairs]
        epochs = self._in_epochs(self.max_iter, _EPOCHS, _LEAST_STEPS, parts[0])
        curve: list[float] = []
        best, lowest, improved = 0, math.inf, 0
        while len(curve) < epochs and len(curve) - improved < patience:
            losses: list[float] = []
            for part, test, state, optimizer in zip(parts, tests, states, optimizers, strict=True):
                model.parameters, self._optimizer = state, optimizer
                self._steps(part, 1, comm=comm, **options)
                state[...] = model.parameters
                losses.append(model.evaluate(**test) if counts[len(losses)] else 0.0)
            curve.append(float(np.average(losses, weights=counts)))
            if curve[-1] < lowest or not best:
                best = len(curve)
            if curve[-1] < lowest - self.tol:
                improved = len(curve)
            lowest = min(lowest, curve[-1])
        per_epoch, per_fold = self._steps_of(len(data["x"])), self._steps_of(len(parts[0]["x"]))
        best = _STRETCH * best
        outputs = []
        for part, test in zip(parts, tests, strict=True):
            model.parameters, self._optimizer = start, self._new_optimizer()
            self._steps(part, best, comm=comm, schedule=Cosine(best), **options)
            outputs.append(self._raw_outputs(test))
        epochs = max(1, round(best * per_fold / per_epoch))
        model.parameters, self._optimizer = start, self._new_optimizer()
        validation_curve = self._curve_beside(True)
        done = self.n_iter_
        with _learning():
            self._steps(data, epochs, callbacks=callbacks, comm=comm, schedule=Cosine(epochs), **options)
        # Beside each epoch the folds' loss after as many steps.
        for epoch in range(done, self.n_iter_):
            after = (epoch - done + 1) * per_epoch // per_fold
            validation_curve[epoch] = curve[min(max(after, 1), len(curve)) - 1]
        self.best_loss_ = lowest
        return _taken(data, np.concatenate([aside for _, aside in pairs])), np.concatenate(outputs)

    def _cross_classify(
        self, data: TrainingData, pairs: Folds, callbacks: list[Any], comm: DataParallel | None, options: Any,
        drawn: Mapping[str, Any],
    ) -> tuple[TrainingData, Floats]:
        """Find by folds whether fewer steps are better, train so on all sequences, and calibrate.

        The networks of the folds are trained to the end, side by side. After each epoch they are judged by
        the cross entropy of the sequences set aside, once all logits are divided by the one number >= 1 that
        is best for that (C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern neural
        networks", ICML 2017, section 4.2): a network that is too sure of itself is mended so, and need not be
        stopped long before it tells the classes apart best. The training ends early, with a learning rate
        that falls to 0 over twice the best number of epochs, where the folds say with a confidence of 95 %
        that this is better, by a one-sided t test of the difference, and by more than `tol`: the lowest of
        many losses is low by chance, too, and few sequences seldom show more than that. The last network's
        logits are divided by the number that is best for the folds' networks, which were trained as long.

        `drawn` is the state of the random numbers before the folds were drawn: a training that does not end
        early is that of `early_stopping=False`.
        """
        model, start = self.model_, self.model_.parameters.copy()
        parts = [_counting(_taken(data, learn)) for learn, _ in pairs]
        tests = [_taken(data, aside) for _, aside in pairs]
        counts = np.array([_sum_of_weights(test, model.every_step) for test in tests])
        held = _taken(data, np.concatenate([aside for _, aside in pairs]))
        ends = np.cumsum([len(aside) for _, aside in pairs])
        places = [slice(end - len(aside), end) for end, (_, aside) in zip(ends, pairs, strict=True)]
        checked = model.prepare(**held)

        def trained(
            epochs: int, schedule: Schedule | None, judge: Callable[[Floats], None] | None = None
        ) -> Floats:
            """Train the folds' networks anew, and return what they give for the sequences set aside."""
            states = [start.copy() for _ in pairs]
            optimizers = [self._new_optimizer() for _ in pairs]
            for done in range(epochs):
                now = None if schedule is None else _Resumed(schedule, done)
                outputs = []
                for part, test, state, optimizer in zip(parts, tests, states, optimizers, strict=True):
                    model.parameters, self._optimizer = state, optimizer
                    self._steps(part, 1, comm=comm, schedule=now, **options)
                    state[...] = model.parameters
                    if judge or done + 1 == epochs:
                        outputs.append(self._raw_outputs(test))
                if judge:
                    judge(np.concatenate(outputs))
            return np.concatenate(outputs)

        judged: list[list[float]] = []

        def judge(outputs: Floats) -> None:
            temperature, _ = self._temperature(checked, outputs)
            judged.append([
                self._loss_of(checked[place], outputs[place] / temperature) if count else 0.0
                for place, count in zip(places, counts, strict=True)
            ])

        full = self._in_epochs(self.max_iter, _EPOCHS, _LEAST_STEPS, parts[0])
        outputs = trained(full, self._schedule(full), judge)
        curves = np.array(judged)
        curve = np.average(curves, axis=1, weights=counts)
        best = 1 + int(curve.argmin())
        gain = curves[-max(1, full // 10) :].mean(axis=0) - curves[best - 1]
        mean = float(np.average(gain, weights=counts))
        error = math.sqrt(float(np.average((gain - mean) ** 2, weights=counts)) / max(len(pairs) - 1, 1))
        early = mean > max(error * stdtrit(max(len(pairs) - 1, 1), 0.95), self.tol)
        length = min(_STRETCH * best, full)
        if early:
            outputs = trained(length, Cosine(length))
        temperature, lowest = self._temperature(checked, outputs)
        per_epoch, per_fold = self._steps_of(len(data["x"])), self._steps_of(len(parts[0]["x"]))
        epochs = max(1, round(length * per_fold / per_epoch))
        model.parameters, self._optimizer = start, self._new_optimizer()
        validation_curve = self._curve_beside(True)
        done, self._rng.bit_generator.state = self.n_iter_, drawn
        if early:
            with _learning():
                self._steps(data, epochs, callbacks=callbacks, comm=comm, schedule=Cosine(epochs), **options)
        else:
            self._descend(data, None, callbacks, comm, options)
        for epoch in range(done, self.n_iter_):
            after = (epoch - done + 1) * per_epoch // per_fold
            validation_curve[epoch] = curve[min(max(after, 1), len(curve)) - 1]
        self.best_loss_ = lowest
        model.weight /= temperature
        model.bias /= temperature
        return held, outputs

    def _temperature(self, held: SequenceData, outputs: Floats) -> tuple[float, float]:
        """Return the number >= 1 by which logits are best divided, and the loss after that."""

        def loss_at(log: float) -> float:
            return self._loss_of(held, outputs * math.exp(-log))

        found = minimize_scalar(
            loss_at, bounds=(0, _LOG_TEMPERATURE), method="bounded", options={"xatol": 1e-3}
        )
        as_they_are = loss_at(0)
        if as_they_are <= found.fun:
            return 1.0, float(as_they_are)
        return math.exp(found.x), float(found.fun)

    def _loss_of(self, held: SequenceData, outputs: Floats) -> float:
        return self.model_.loss.value_and_gradient(outputs, held.y, held.weights(self.model_.every_step))[0]

    def _steps(self, data: TrainingData, epochs: int, **options: Any) -> History:
        return self.model_.fit(
            **data, epochs=epochs, batch_size=self._batch_of(len(data["x"])), optimizer=self._optimizer,
            rng=self._rng, **options,
        )

    def _minimize(self, data: TrainingData, validation: TrainingData | None, callbacks: list[Any]) -> None:
        stopping = self._stopping(data, validation) if validation else None
        result = fit_lbfgs(
            self.model_, **data, max_iter=self._lbfgs_iterations, tol=self.tol, weight_decay=self.alpha,
            validation=validation, callbacks=callbacks, early_stopping=stopping,
        )
        if not self.loss_curve_:  # it began at a minimum
            self.n_iter_, self.loss_ = 1, result.fun
        self.best_loss_ = stopping.lowest if stopping else self.loss_
        if result.status == 1:
            warn(
                f"lbfgs has not converged within max_iter={self._lbfgs_iterations} iterations: raise "
                f"max_iter, or tol ({self.tol})",
                ConvergenceWarning,
            )

    @property
    def _lbfgs_iterations(self) -> int:
        return _EPOCHS if self.max_iter == "auto" else self.max_iter

    # ---- inference

    def _raw_outputs(self, data: TrainingData, seed: int | None = None) -> Floats:
        """Raw outputs in float64, (n, O) or (n, T, O), of any number of sequences.

        seed draws what dropout drops; None: nothing is dropped.
        """
        model, x, lengths, static = self.model_, data["x"], data["lengths"], data.get("static")
        weight, bias = model.weight.astype(np.float64), model.bias.astype(np.float64)
        n, steps = x.shape[:2]
        size = max(1, _NUMBERS_AT_ONCE // (steps * max(model.lstm.output_size, x.shape[2])))
        parts = []
        for start in range(0, n, size):
            part = slice(start, start + size)
            few = None if lengths is None else lengths[part]
            fixed = None if static is None else static[part]
            if seed is None:
                hidden, (h_n, _) = model.lstm(x[part], lengths=few, static=fixed)
            else:
                hidden, (h_n, _) = model.lstm.forward(
                    x[part], lengths=few, static=fixed, tape=model.lstm.tape(), seed=seed + start
                )
            counted = None if few is None else np.arange(steps) < few[:, None]
            # In float64, so that a prediction does not depend on which others are asked for.
            parts.append(model._features(hidden, h_n, counted).astype(np.float64) @ weight.T + bias)
        return np.concatenate(parts)


@contextlib.contextmanager
def naming_the_option(allow_nan: bool) -> Iterator[None]:
    """Say of a missing value that is refused, which option would let it through."""
    try:
        yield
    except ValueError as error:
        if allow_nan or " contains NaN" not in str(error):
            raise
        raise ValueError(
            f"{error}: fill them, or fit with lstm_options={{'nan': 'hold'}}, which reads the last known "
            "value"
        ) from None


@contextlib.contextmanager
def _learning() -> Iterator[None]:
    """Mark a Ctrl-C that comes while the network learns: its weights are whole, the best so far."""
    try:
        yield
    except KeyboardInterrupt as error:
        error._network_is_whole = True  # type: ignore[attr-defined]  # a mark for _all_or_nothing
        raise


def _equal(one: Any, other: Any) -> bool:
    """Whether two settings mean the same, by whatever numbers and sequences they are written."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    one, other = (v.tolist() if isinstance(v, np.ndarray | np.generic) else v for v in (one, other))
    several = [isinstance(v, list | tuple) for v in (one, other)]
    if all(several):
        return len(one) == len(other) and all(map(_equal, one, other))
    if any(several):
        return False
    try:
        return bool(one == other) or repr(one) == repr(other)
    except (TypeError, ValueError):  # objects that compare in a way of their own
        return repr(one) == repr(other)


def _sum_of_weights(data: TrainingData, every_step: bool) -> float:
    """Return what the sequences of `data` count together."""
    weight, lengths = data["sample_weight"], data["lengths"]
    n, steps = data["x"].shape[:2]
    if not every_step:
        return float(n if weight is None else weight.sum())
    if weight is not None and weight.ndim == 2:
        return float(weight.sum())
    lengths = np.full(n, steps) if lengths is None else lengths
    return float(lengths.sum() if weight is None else weight @ lengths)


def _counting(data: TrainingData) -> TrainingData:
    """Leave out what weighs nothing: it would still take a place in a mini-batch."""
    weight = data["sample_weight"]
    if weight is None:
        return data
    return _taken(data, np.flatnonzero(weight.reshape(len(weight), -1).any(axis=1)))


def _taken(data: TrainingData, index: Integers) -> TrainingData:
    return {name: None if array is None else array[index] for name, array in data.items()}


def only_stochastic(method: Method) -> Method:
    """Decorate a method that takes steps on mini-batches: estimators without them do not have it."""
    decorated: Method = available_if(_is_stochastic)(method)
    return decorated


def to_dtype(name: str, values: Reals, dtype: npt.DTypeLike) -> Reals:
    """Convert, and refuse what is too large for it."""
    with np.errstate(over="ignore"):
        converted = values.astype(dtype, copy=False)
    if np.isinf(converted).any():
        raise ValueError(
            f"{name} has numbers too large for {dtype}; expected smaller ones: take dtype='float64', or "
            "scale=True"
        )
    return converted
