"""What `LSTMRegressor`, `LSTMClassifier` and `LSTMForecaster` share: the network and its training."""

import inspect
import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from lstm_ext.callbacks import Callback, EarlyStopping
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model
from lstm_ext.optim import SGD, Adam, AdamW, RMSprop
from lstm_ext.training import fit_lbfgs

# What of LSTM's words the estimators say in words of their own, or cannot feed.
_TAKEN = {
    "input_size": "it is the number of features in X",
    "hidden_size": "it is a parameter of the estimator",
    "num_layers": "it is a parameter of the estimator",
    "dtype": "it is a parameter of the estimator",
    "batch_first": "X says it",
    "rng": "random_state says it",
    "static_size": "static inputs need lstm_ext.Model",
    "entity_aware": "static inputs need lstm_ext.Model",
}
_LSTM_WORDS = frozenset(inspect.signature(LSTM).parameters)
# What a network that goes on cannot change.
_BUILDING = (
    "hidden_size", "num_layers", "dtype", "every_step", "loss", "quantiles", "strategy", "window", "horizon",
    "difference", "coverage", "scale",
)
_DROPPING = ("dropout", "recurrent_dropout", "weight_dropout", "zoneout")
# Hidden states of so many numbers are made at a time in inference.
_NUMBERS_AT_ONCE = 2**24


class _Curves(Callback):
    """Writes the losses of every epoch down where users of scikit-learn look for them."""

    def __init__(self, estimator, prints):
        self.estimator, self.prints = estimator, prints and estimator.verbose

    def on_epoch_end(self, record):
        """Take the record of an epoch."""
        estimator, loss = self.estimator, record["loss"]
        estimator.n_iter_ += 1
        estimator.loss_ = loss
        estimator.loss_curve_.append(loss)
        more = ""
        if "validation_loss" in record:
            estimator.validation_loss_curve_.append(record["validation_loss"])
            more = f", validation loss {record['validation_loss']:.6g}"
        elif estimator.validation_loss_curve_ is not None:
            estimator.validation_loss_curve_.append(np.nan)  # the two curves stay side by side
        if self.prints:
            print(f"Iteration {estimator.n_iter_}, loss {loss:.6g}{more}")


def _is_stochastic(estimator):
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit takes steps on mini-batches, and solver='lbfgs' has none")
    return True


class Network(BaseEstimator):
    """The common part of the estimators. Their `fit` and `predict` turn users' data into arrays and back."""

    _parameter_constraints: dict = {  # noqa: RUF012  # scikit-learn's name and form
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "num_layers": [Interval(Integral, 1, None, closed="left")],
        "solver": [StrOptions({"adam", "adamw", "rmsprop", "sgd", "lbfgs"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "max_norm": [Interval(Real, 0, None, closed="neither"), None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
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

    def __init__(
        self, hidden_size, num_layers, solver, learning_rate_init, batch_size, max_iter, alpha, momentum,
        max_norm, tol, n_iter_no_change, early_stopping, validation_fraction, warm_start, scale, dtype,
        lstm_options, callbacks, random_state, verbose,
    ):
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

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._allow_nan
        tags.input_tags.three_d_array = True
        return tags

    def __sklearn_is_fitted__(self):
        return hasattr(self, "model_")

    @property
    def _allow_nan(self):
        """Whether the layer has a policy for missing values."""
        return (self.lstm_options or {}).get("nan") in ("zero", "hold")

    def _check_parameters(self):
        self._validate_params()
        options = self.lstm_options or {}
        for word in options:
            if word in _TAKEN:
                raise ValueError(f"lstm_options has {word!r}: {_TAKEN[word]}")
            if word not in _LSTM_WORDS:
                raise ValueError(f"lstm_options has {word!r}, which is no keyword of lstm_ext.LSTM")
        dropped = [word for word in _DROPPING if np.any(options.get(word, 0))]
        if self.solver == "lbfgs" and dropped:
            raise ValueError(
                f"solver='lbfgs' needs the same loss every time, and lstm_options has {', '.join(dropped)}, "
                "which draws anew: take another solver"
            )

    # ---- training

    def _goes_on(self, incremental):
        """Whether a fit starts from the network that is there."""
        return (incremental or self.warm_start) and hasattr(self, "model_")

    def _architecture(self, n_inputs, n_outputs):
        given = self.get_params(deep=False)
        words = {word: given[word] for word in _BUILDING if word in given}
        words["lstm_options"] = dict(self.lstm_options or {})
        return {"inputs": n_inputs, "outputs": n_outputs, **words}

    def _check_architecture(self, n_inputs, n_outputs):
        for word, value in self._architecture(n_inputs, n_outputs).items():
            if repr(self._built[word]) != repr(value):  # quantiles may be an array
                raise ValueError(
                    f"the network that is there was made with {word}={self._built[word]!r}, now it would be "
                    f"{value!r}: set warm_start=False and call fit for a new one"
                )

    def _generator(self):
        return np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))

    def _new_network(self, n_inputs, n_outputs, *, every_step, loss, rng, bias=0):
        """Make a model; nothing of the estimator is touched before it stands."""
        lstm = LSTM(
            n_inputs, self.hidden_size, self.num_layers, dtype=self.dtype, rng=rng,
            **(self.lstm_options or {}),
        )
        model = Model(lstm, n_outputs, every_step=every_step, loss=loss, rng=rng)
        model.bias[...] = bias
        self.model_ = model
        self._built = self._architecture(n_inputs, n_outputs)
        self._rng = rng
        self.n_iter_, self.loss_curve_ = 0, []
        self.validation_loss_curve_ = [] if self.early_stopping else None
        self._optimizer = None

    def _new_optimizer(self):
        words = {"weight_decay": self.alpha, "max_norm": self.max_norm}
        if self.solver == "sgd":
            return SGD(self.learning_rate_init, momentum=self.momentum, **words)
        kind = {"adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}[self.solver]
        return kind(self.learning_rate_init, **words)

    def _team(self, comm):
        """Return `comm` as a `DataParallel` whose ranks have all data, as the scalers need them."""
        if comm is None:
            return None
        from lstm_ext.distributed import DataParallel

        team = comm if isinstance(comm, DataParallel) else DataParallel(comm, shards="cut")
        if team.shards != "cut":
            raise ValueError("comm has shards='given', and estimators are given all data: say shards='cut'")
        if self.solver == "lbfgs":
            raise ValueError("comm shares mini-batches, and solver='lbfgs' has none: take another solver")
        if self.random_state is None:
            raise ValueError("with comm, random_state must be a number: all ranks draw alike")
        return team

    def _train(self, data, *, incremental, split, comm=None):
        """Train `model_` on a dict of x, y, lengths, sample_weight, each an array or None.

        split() gives the numbers of those to learn from and of those set aside for `early_stopping`;
        `comm` is what `_team` has returned.
        """
        callbacks = [_Curves(self, comm is None or comm.first), *(self.callbacks or ())]
        if incremental:
            if self._optimizer is None:
                self._optimizer = self._new_optimizer()
            # One epoch is no ground to judge convergence on.
            self._steps(data, 1, callbacks=callbacks)
            return
        validation = None
        if self.early_stopping:
            learn, aside = split()
            data, validation = _taken(data, learn), _taken(data, aside)
            if self.validation_loss_curve_ is None:
                self.validation_loss_curve_ = [np.nan] * self.n_iter_
        weight = data["sample_weight"]
        if weight is not None:
            # What weighs nothing would still take a place in a mini-batch.
            data = _taken(data, np.flatnonzero(weight.reshape(len(weight), -1).any(axis=1)))
        stopping = EarlyStopping(
            self.n_iter_no_change, self.tol, "validation_loss" if validation else "loss",
            restore_best=self.early_stopping,
        )
        if self.solver == "lbfgs":
            self._minimize(data, validation, callbacks, stopping if validation else None)
            return
        self._optimizer = self._new_optimizer()
        records = self._steps(
            data, self.max_iter, validation=validation, callbacks=callbacks, early_stopping=stopping,
            comm=comm,
        )
        # Somebody else may have ended it before.
        if len(records) == self.max_iter and not stopping.done:
            which = "validation loss" if validation else "loss"
            warnings.warn(
                f"max_iter={self.max_iter} reached, and the {which} has still fallen by more than tol="
                f"{self.tol} in the last n_iter_no_change={self.n_iter_no_change} epochs",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _steps(self, data, epochs, **words):
        return self.model_.fit(
            **data, epochs=epochs, batch_size=self.batch_size, optimizer=self._optimizer, rng=self._rng,
            **words,
        )

    def _minimize(self, data, validation, callbacks, stopping):
        result = fit_lbfgs(
            self.model_, **data, max_iter=self.max_iter, tol=self.tol, weight_decay=self.alpha,
            validation=validation, callbacks=callbacks, early_stopping=stopping,
        )
        if not self.loss_curve_:  # it began at a minimum
            self.n_iter_, self.loss_ = 1, result.fun
        if result.status == 1:
            warnings.warn(
                f"lbfgs has not converged within max_iter={self.max_iter} iterations: raise max_iter, or tol "
                f"({self.tol})",
                ConvergenceWarning,
                stacklevel=5,
            )

    # ---- inference

    def _outputs(self, x, lengths=None):
        """Raw outputs in float64, (n, O) or (n, T, O), of any number of sequences."""
        model = self.model_
        weight, bias = model.weight.astype(np.float64), model.bias.astype(np.float64)
        n, steps = x.shape[:2]
        size = max(1, _NUMBERS_AT_ONCE // (steps * max(model.lstm.output_size, x.shape[2])))
        parts = []
        for start in range(0, n, size):
            part = slice(start, start + size)
            hidden, (h_n, _) = model.lstm(x[part], lengths=None if lengths is None else lengths[part])
            # In float64, so that a prediction does not depend on which others are asked for.
            parts.append(model._features(hidden, h_n).astype(np.float64) @ weight.T + bias)
        return np.concatenate(parts)


def _taken(data, index):
    return {name: None if array is None else array[index] for name, array in data.items()}


only_stochastic = available_if(_is_stochastic)


def to_dtype(name, values, dtype):
    """Convert, and refuse what is too large for it."""
    with np.errstate(over="ignore"):
        converted = values.astype(dtype, copy=False)
    if np.isinf(converted).any():
        raise ValueError(f"{name} has numbers too large for {dtype}: take dtype='float64', or scale=True")
    return converted
