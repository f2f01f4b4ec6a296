"""`LSTMForecaster`: time series, cut into windows, and continued."""

from numbers import Integral, Real

import numpy as np
from scipy.special import ndtri
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from lstm_ext.sklearn._network import Network, to_dtype
from lstm_ext.sklearn._readings import Reading
from lstm_ext.sklearn._sequences import SequenceScaler, check_columns, frame_columns


class LSTMForecaster(Network):
    r"""Forecast time series with an LSTM.

    The series are cut into windows. At each step the LSTM reads the step before and the exogenous inputs of
    this one, and forecasts this one.

    ``strategy="recursive"``: it forecasts further steps by taking each forecast for what was measured. Any
    horizon can be asked for.

    ``strategy="direct"``: where a window ends, the LSTM goes on for `horizon` steps and is told, in place of
    the series, that it is not known. It learns to forecast these steps as well as each step of the window.
    Nothing that was forecast is fed back.

    Parameters
    ----------
    window : int, default=24
        Steps that a forecast looks back.
    horizon : int, default=1
        Steps to forecast.
    strategy : {"recursive", "direct"}, default="recursive"
    difference : int or None, default=None
        Learn how the series differs from its value so many steps before: 1 for series with a trend, the
        period for those with a season. What is learned is then a correction of the naive or seasonal
        naive forecast.
    loss : {"mse", "mae", "huber", "quantile", "poisson", "gaussian"}, default="mse"
        As in `LSTMRegressor`; "gaussian" and, with ``strategy="direct"``, "quantile" give intervals.
        "poisson" is for counts, and not with `difference`.
    coverage : float, default=0.9
        The probability within an interval.
    hidden_size, num_layers, solver, learning_rate_init, batch_size, max_iter, alpha, momentum, max_norm
        As in `LSTMRegressor`, with windows for sequences.
    tol, n_iter_no_change, warm_start, scale, dtype, lstm_options, callbacks, random_state, verbose
        As in `LSTMRegressor`.
    early_stopping : bool, default=True
    validation_fraction : float, default=0.1
        As in `LSTMRegressor`; the last windows of each series are set aside. What follows them is not learned
        from; the steps within them, which their neighbours have learned, are judged, too. So the validation
        loss says when to end, and is lower than that of a forecast.

    Attributes
    ----------
    model_ : lstm_ext.Model
    y_scaler_, X_scaler_ : SequenceScaler or None
        Of the series as it is read, and of the exogenous inputs.
    target_mean_, target_scale_ : ndarray of shape (horizon, D), or (1, D) if recursive
        With which the targets are standardised, each step ahead by itself.
    n_series_, n_outputs_, n_exogenous_ : int
        Series that `fit` had, their columns, and columns of X.
    n_iter_, loss_, loss_curve_, validation_loss_curve_
        As in `LSTMRegressor`.

    Notes
    -----
    A series is an array (T,) or (T, D), evenly spaced in time; several are a list of them. Exogenous inputs
    X are (T, K), or a list of them; X[t] belongs to y[t] and has to be known for the steps that are forecast
    (the calendar, a plan, another forecast). What is measured along with y, and not known in advance, is a
    further column of y. With ``lstm_options={"nan": "hold"}`` or ``"zero"`` y and X may have NaN: what is
    missing is no target.

    Examples
    --------
    >>> import numpy as np
    >>> from lstm_ext.sklearn import LSTMForecaster
    >>> y = np.sin(0.3 * np.arange(300))
    >>> forecaster = LSTMForecaster(window=30, horizon=10, max_iter=50, random_state=0).fit(y[:290])
    >>> bool(np.abs(forecaster.predict() - y[290:]).max() < 0.2)
    True
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        **Network._parameter_constraints,
        "window": [Interval(Integral, 1, None, closed="left")],
        "horizon": [Interval(Integral, 1, None, closed="left")],
        "strategy": [StrOptions({"direct", "recursive"})],
        "difference": [Interval(Integral, 1, None, closed="left"), None],
        "loss": [StrOptions({"mse", "mae", "huber", "quantile", "poisson", "gaussian"})],
        "coverage": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self,
        window=24,
        horizon=1,
        *,
        strategy="recursive",
        difference=None,
        loss="mse",
        coverage=0.9,
        hidden_size=32,
        num_layers=1,
        solver="adam",
        learning_rate_init=0.003,
        batch_size=32,
        max_iter=200,
        alpha=0.0,
        momentum=0.9,
        max_norm=1.0,
        tol=1e-4,
        n_iter_no_change=10,
        early_stopping=True,
        validation_fraction=0.1,
        warm_start=False,
        scale=True,
        dtype="float32",
        lstm_options=None,
        callbacks=None,
        random_state=None,
        verbose=False,
    ):
        super().__init__(
            hidden_size, num_layers, solver, learning_rate_init, batch_size, max_iter, alpha, momentum,
            max_norm, tol, n_iter_no_change, early_stopping, validation_fraction, warm_start, scale, dtype,
            lstm_options, callbacks, random_state, verbose,
        )
        self.window = window
        self.horizon = horizon
        self.strategy = strategy
        self.difference = difference
        self.loss = loss
        self.coverage = coverage

    def _check_parameters(self):
        super()._check_parameters()
        for word in ("bidirectional", "reverse"):
            if (self.lstm_options or {}).get(word):
                raise ValueError(f"lstm_options has {word!r}, and a forecast reads forwards")
        if self.strategy == "recursive" and self.loss == "quantile":
            raise ValueError(
                "loss='quantile' needs strategy='direct': quantiles of one step do not add up to those of "
                "several; loss='gaussian' does"
            )
        if self.loss == "poisson" and self.difference:
            raise ValueError("loss='poisson' is for counts, and difference makes others of them")

    # ---- what comes in

    def _series(self, name, series, columns=None, nan=False):
        """Return (list of (T, D) arrays, whether a list came, whether a series has columns)."""
        several = isinstance(series, list | tuple) and len(series) > 0 and np.ndim(series[0]) > 0
        checked, dimensions = [], set()
        for number, one in enumerate(series if several else [series]):
            one_name = f"{name}[{number}]" if several else name
            one = check_array(
                one, ensure_2d=False, dtype=np.float64, input_name=one_name, estimator=self,
                ensure_all_finite="allow-nan" if nan else True,
            )
            if one.ndim not in (1, 2):
                raise ValueError(f"{one_name} has shape {one.shape}, expected (time,) or (time, columns)")
            dimensions.add(one.ndim)
            one = one.reshape(len(one), -1)
            columns = one.shape[1] if columns is None else columns
            if one.shape[1] != columns:
                raise ValueError(f"{one_name} has {one.shape[1]} columns, expected {columns}")
            checked.append(one)
        if len(dimensions) > 1:
            raise ValueError(f"{name} has series of shape (time,) and of shape (time, columns)")
        return checked, several, dimensions == {2}

    def _exogenous(self, name, X, steps, why, columns, nan=False):
        """Return X as a list, each with as many steps as it has to have, and `why` says why."""
        if X is None:
            if columns:
                raise ValueError(f"{name} is None, expected {columns} columns: fit had exogenous inputs")
            return [np.empty((n, 0)) for n in steps]
        if columns == 0:
            raise ValueError(f"{name} was given, and fit had no exogenous inputs")
        checked, several, _ = self._series(name, X, columns, nan)
        if len(checked) == 1 < len(steps) and not several:
            checked = checked * len(steps)  # the same for all series: a calendar
        if len(checked) != len(steps):
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: there are {len(steps)} series, "
                f"{name} has {len(checked)}"
            )
        for number, (one, n) in enumerate(zip(checked, steps, strict=True)):
            if len(one) != n:
                raise ValueError(f"{name} has {len(one)} steps for series {number}, expected {n}, {why}")
        return checked

    # ---- windows

    def _inputs(self, y, X, known):
        """Join features: the series where it is known, 0 elsewhere, whether it is, and X.

        y (N, S, D) and X (N, S, K) in their own units, known (S,) bool.
        """
        if self.y_scaler_ is not None:
            y = (y - self.y_scaler_.mean_) / self.y_scaler_.scale_
        if self.X_scaler_ is not None:
            X = (X - self.X_scaler_.mean_) / self.X_scaler_.scale_
        parts = [np.where(known[:, None], y, 0), X]
        if self.strategy == "direct":
            parts.insert(1, np.broadcast_to(~known[:, None], (*y.shape[:2], 1)))
        return to_dtype("y", np.concatenate(parts, axis=2), self.dtype)

    def _windows(self, y, X):
        """Cut one series: inputs (n, S, D), exogenous inputs (n, S, K) and targets (n, S, D)."""
        lag = self.difference or 0
        z = y[lag:] - y[:-lag] if lag else y
        ahead = self._ahead
        cut, cut_X = _slide(z, self.window + ahead), _slide(X[lag:], self.window + ahead)
        targets = cut[:, 1:]
        if lag and ahead > lag:
            # Against the last values that are known at the window's end.
            step = np.arange(ahead)
            first = lag + self.window + np.arange(len(cut))[:, None]
            targets = targets.copy()
            targets[:, -ahead:] = y[first + step] - y[first + step - lag * (step // lag + 1)]
        return cut[:, :-1], cut_X[:, 1:], targets

    @property
    def _ahead(self):
        """Steps beyond a window that are learned."""
        return 1 if self.strategy == "recursive" else self.horizon

    def fit(self, y, X=None, *, comm=None):
        """Learn from series.

        Parameters
        ----------
        y : array_like of shape (T,) or (T, D), or list of such arrays
        X : array_like of shape (T, K), or list of such arrays, optional
            Exogenous inputs; one array serves several series of equal length.
        comm : MPI communicator or lstm_ext.distributed.DataParallel, optional
            Train on all its ranks together: each calls `fit` with all data and the same random_state, and
            takes its part of every mini-batch.

        Returns
        -------
        LSTMForecaster

        Raises
        ------
        ValueError
            If a series is too short for one window and its horizon, or anything does not fit.
        """
        self._check_parameters()
        comm = self._team(comm)
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but y is None.")
        nan = self._allow_nan
        series, several, columns = self._series("y", y, nan=nan)
        exogenous = self._exogenous("X", X, [len(one) for one in series], "as y", None, nan)
        names = {"y": frame_columns(y), "X": frame_columns(X)}
        if self.loss == "poisson" and any((one < 0).any() for one in series):
            raise ValueError("y has negative values, and loss='poisson' is for counts >= 0")
        ahead = self._ahead
        least = (self.difference or 0) + self.window + ahead
        for number, one in enumerate(series):
            if len(one) < least:
                words = f"window={self.window}, horizon={ahead}, difference={self.difference or 0}"
                raise ValueError(f"series {number} of y has {len(one)} steps, expected {least}: {words}")

        cut = [self._windows(*pair) for pair in zip(series, exogenous, strict=True)]
        inputs, inputs_X, targets = (np.concatenate(parts) for parts in zip(*cut, strict=True))
        missing = np.isnan(targets).any(axis=2)
        beyond = np.arange(targets.shape[1]) >= self.window - 1
        if missing.all():
            raise ValueError("y has no window that something is known to follow")
        reading = Reading(self.loss, self._quantiles)
        n_outputs = targets.shape[2] * reading.per_target
        n_inputs = targets.shape[2] + exogenous[0].shape[1] + (self.strategy == "direct")
        known = np.arange(inputs.shape[1]) < self.window
        if self._goes_on(False):
            self._check_architecture(n_inputs, n_outputs)
        else:
            self._new_network(
                n_inputs, n_outputs, every_step=True, loss=reading.loss, rng=self._generator(),
                bias=reading.start(targets.reshape(-1, targets.shape[2])),
            )
            self._reading = reading
            self.n_outputs_, self.n_exogenous_ = targets.shape[2], exogenous[0].shape[1]
            self._fit_scalers(series, exogenous, targets[:, beyond])
        self._names = names
        # What `predict` goes on from.
        self.n_series_, self._several, self._columns = len(series), several, columns
        keep = self.window + (self.difference or 0)
        pairs = zip(series, exogenous, strict=True)
        self._tails = [(one[-keep:].copy(), x[-keep:].copy()) for one, x in pairs]

        # The steps of a window are one step ahead, those beyond it 1, 2, ... steps.
        lead = np.maximum(np.arange(targets.shape[1]) - (self.window - 1), 0)
        targets = (targets - self.target_mean_[lead]) / self.target_scale_[lead]
        data = {
            "x": self._inputs(inputs, inputs_X, known),
            "y": to_dtype("y", np.nan_to_num(targets, nan=0.0), self.dtype),
            "lengths": None,
            "sample_weight": (~missing).astype(np.float64) if missing.any() else None,
        }
        counts = [len(windows[0]) for windows in cut]
        known = ~missing[:, beyond].all(axis=1)
        self._train(
            data, incremental=False, split=lambda: self._last_windows(counts, ahead, known), comm=comm
        )
        return self

    @property
    def _quantiles(self):
        tail = (1 - self.coverage) / 2
        return [tail, 0.5, 1 - tail]

    def _fit_scalers(self, series, exogenous, targets):
        self.y_scaler_ = self.X_scaler_ = None
        shape = (self._ahead, self.n_outputs_)
        self.target_mean_, self.target_scale_ = np.zeros(shape), np.ones(shape)
        if not self.scale:
            return
        lag = self.difference or 0
        read = np.concatenate([one[lag:] - one[:-lag] if lag else one for one in series])
        self.y_scaler_ = SequenceScaler()._fit_rows(read)
        if self.n_exogenous_:
            self.X_scaler_ = SequenceScaler()._fit_rows(np.concatenate(exogenous))
        if self.loss != "poisson":
            scaler = SequenceScaler()._fit_rows(targets.reshape(-1, np.prod(shape)))
            self.target_mean_, self.target_scale_ = scaler.mean_.reshape(shape), scaler.scale_.reshape(shape)

    def _last_windows(self, counts, ahead, known):
        """Set the last windows of each series aside, and leave out those that reach into their targets.

        known: for each window whether something is known to follow; others are not set aside.
        """
        learn, test, start = [], [], 0
        for n in counts:
            follows = np.flatnonzero(known[start : start + n])
            aside = follows[len(follows) - max(1, round(self.validation_fraction * len(follows))) :]
            first = aside[0] if aside.size else n + ahead - 1
            learn.append(np.arange(start, start + max(0, first - (ahead - 1))))
            test.append(start + aside)
            start += n
        if not sum(known[part].sum() for part in learn):
            raise ValueError(
                f"early_stopping=True sets validation_fraction={self.validation_fraction} of {sum(counts)} "
                "windows aside, and leaves none to learn from"
            )
        return np.concatenate(learn), np.concatenate(test)

    # ---- forecasts

    def predict(self, horizon=None, X=None, *, y=None, X_past=None):
        """Continue series: those that `fit` had, or others.

        Parameters
        ----------
        horizon : int, optional
            Steps; default and, with ``strategy="direct"``, largest: the parameter `horizon`.
        X : array_like of shape (horizon, K), or list of such arrays
            The exogenous inputs of the steps that are forecast, if `fit` had any.
        y : array_like of shape (T,) or (T, D), or list of such arrays, optional
            Series to continue in place of those of `fit`; their last `window` steps (and `difference`
            before them) are read.
        X_past : array_like of shape (T, K), or list of such arrays
            The exogenous inputs of `y`.

        Returns
        -------
        ndarray of shape (horizon,) or (horizon, D), or a list of them
            The mean, with "mae" and "quantile" the median; a list for a list of series.
        """
        check_is_fitted(self)
        task = self._task(horizon, X, y, X_past)
        forecast = self._recursive(task)[0] if self._is_recursive else self._direct(task)[0]
        if self._reading.axis:
            forecast = forecast[..., 1]
        return self._answer(task, forecast)

    def predict_interval(self, horizon=None, X=None, *, y=None, X_past=None, coverage=None, n_paths=500):
        """Bounds between which the series will be, step by step, with a probability of `coverage`.

        With ``loss="quantile"`` the network predicts them. With ``loss="gaussian"`` they come from the
        predicted standard deviations, and with ``strategy="recursive"`` from `n_paths` drawn paths, in
        each of which what was drawn is fed back (`random_state` draws).

        Parameters
        ----------
        horizon, X, y, X_past
            As in `predict`.
        coverage : float, optional
            Default: the parameter `coverage`; with "quantile" it can be no other.
        n_paths : int, default=500

        Returns
        -------
        lower, upper : as `predict` returns
        """
        check_is_fitted(self)
        if self._reading.name not in ("quantile", "gaussian"):
            raise ValueError(
                f"predict_interval needs loss='quantile' or 'gaussian', this is loss={self._reading.name!r}"
            )
        coverage = self.coverage if coverage is None else coverage
        if not 0 < coverage < 1:
            raise ValueError(f"coverage is {coverage!r}, expected a number between 0 and 1")
        task = self._task(horizon, X, y, X_past)
        if self._is_recursive:
            if not isinstance(n_paths, Integral) or n_paths < 2:
                raise ValueError(f"n_paths is {n_paths!r}, expected an integer of at least 2")
            paths = self._recursive(task, self._generator(), n_paths)
            bounds = np.quantile(paths, [(1 - coverage) / 2, (1 + coverage) / 2], axis=0)
        elif self._reading.name == "quantile":
            learned = self._built["coverage"]
            if coverage != learned:
                raise ValueError(f"coverage is {coverage}, this forecaster has learned coverage={learned}")
            quantiles = self._direct(task)[0]
            bounds = quantiles[..., 0], quantiles[..., -1]
        else:
            mean, deviation = self._direct(task)
            half = ndtri((1 + coverage) / 2) * deviation
            bounds = mean - half, mean + half
        return tuple(self._answer(task, bound) for bound in bounds)

    @property
    def _is_recursive(self):
        return self.strategy == "recursive"

    def _task(self, horizon, X, y, X_past):
        """Check what is to be continued: a dict of arrays with the series as first axis."""
        horizon = self.horizon if horizon is None else horizon
        if not isinstance(horizon, Integral) or horizon < 1:
            raise ValueError(f"horizon is {horizon!r}, expected an integer of at least 1")
        learned = self._built["horizon"]
        if not self._is_recursive and horizon > learned:
            raise ValueError(
                f"horizon is {horizon}, this forecaster has learned {learned} steps: fit with a longer "
                "horizon, or strategy='recursive'"
            )
        keep = self.window + (self.difference or 0)
        for name, given, fitted in (("y", y, "y"), ("X_past", X_past, "X"), ("X", X, "X")):
            check_columns(name, frame_columns(given), self._names[fitted])
        if y is None:
            if X_past is not None:
                raise ValueError("X_past was given without y")
            tails, several, columns = self._tails, self._several, self._columns
        else:
            series, several, columns = self._series("y", y, self.n_outputs_, self._allow_nan)
            past = self._exogenous(
                "X_past", X_past, [len(one) for one in series], "as y", self.n_exogenous_, self._allow_nan
            )
            for number, one in enumerate(series):
                if len(one) < keep:
                    raise ValueError(f"series {number} of y has {len(one)} steps, expected at least {keep}")
            tails = [(one[-keep:], x[-keep:]) for one, x in zip(series, past, strict=True)]
        if self.difference:
            for number, (one, _) in enumerate(tails):
                if np.isnan(one[-self.difference :]).any():
                    raise ValueError(
                        f"series {number} of y has a gap in its last {self.difference} steps, to which "
                        f"forecasts with difference={self.difference} are added: fill it"
                    )
        future = self._exogenous("X", X, [horizon] * len(tails), "the horizon", self.n_exogenous_)
        return {
            "y": np.stack([tail[0] for tail in tails]),
            "X": np.concatenate([np.stack([tail[1] for tail in tails]), np.stack(future)], axis=1),
            "horizon": int(horizon), "several": several, "columns": columns,
        }

    def _answer(self, task, forecast):
        if not task["columns"]:
            forecast = forecast[..., 0]
        return list(forecast) if task["several"] else forecast[0]

    def _read_window(self, task):
        """Return the series as it is read, differences if asked for, (N, window, D)."""
        lag = self.difference or 0
        return task["y"][:, lag:] - task["y"][:, :-lag] if lag else task["y"]

    def _direct(self, task):
        """Return [forecast (N, h, D) or (N, h, D, Q), with "gaussian" the standard deviation]."""
        lag, horizon = self.difference or 0, task["horizon"]
        known = np.arange(self.window + horizon - 1) < self.window
        y = np.pad(self._read_window(task), ((0, 0), (0, horizon - 1), (0, 0)))
        outputs = self._outputs(self._inputs(y, task["X"][:, lag + 1 :], known))[:, self.window - 1 :]
        values = self._reading.read(outputs, self.target_mean_[:horizon], self.target_scale_[:horizon])
        if lag:
            step = np.arange(horizon)
            naive = task["y"][:, task["y"].shape[1] + step - lag * (step // lag + 1)]
            values[0] = values[0] + (naive[..., None] if self._reading.axis else naive)
        return values

    def _recursive(self, task, rng=None, n_paths=1):
        """Feed forecasts back: paths (n_paths, N, h, D). With rng each step is drawn, else the mean."""
        lag, lstm = self.difference or 0, self.model_.lstm
        weight, bias = (a.astype(np.float64) for a in (self.model_.weight, self.model_.bias))
        window, X = self._read_window(task), task["X"][:, lag:]
        n = len(window)
        levels = list(np.tile(task["y"], (n_paths, 1, 1)).transpose(1, 0, 2)[-max(lag, 1) :])
        known = np.ones(1, bool)
        hidden, state = lstm(
            self._inputs(window, X[:, 1 : self.window + 1], np.ones(self.window, bool))
        )
        last = np.tile(hidden[:, -1], (n_paths, 1))
        state = tuple(np.tile(part, (1, n_paths, 1)) for part in state)
        X = np.tile(X, (n_paths, 1, 1))
        path = np.empty((n_paths * n, task["horizon"], self.n_outputs_))
        for step in range(task["horizon"]):
            outputs = last.astype(np.float64) @ weight.T + bias
            values = self._reading.read(outputs, self.target_mean_[0], self.target_scale_[0])
            value = values[0] if rng is None else rng.normal(values[0], values[1])
            path[:, step] = value + levels[-lag] if lag else value
            levels.append(path[:, step])
            if step + 1 < task["horizon"]:
                at = self.window + step + 1
                hidden, state = lstm(self._inputs(value[:, None], X[:, at : at + 1], known), state)
                last = hidden[:, -1]
        return path.reshape(n_paths, n, *path.shape[1:])


def _slide(array, span):
    """All windows of `span` rows of (T, D): (n, span, D)."""
    return np.lib.stride_tricks.sliding_window_view(array, span, axis=0).swapaxes(1, 2)
