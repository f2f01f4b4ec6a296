"""`LSTMForecaster`: the estimator around `_hybrid`, which computes its forecasts."""

from __future__ import annotations

import copy
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple, Self, overload

import numpy as np
from scipy.stats import t as student
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from lstm_ext._data import as_number_array
from lstm_ext.sklearn._backtest import backtest, naive_error
from lstm_ext.sklearn._hybrid import PARTS, Fit, Past, combined, inverse, regressed, smoothed
from lstm_ext.sklearn._network import Network, naming_the_option
from lstm_ext.sklearn._sequences import check_columns, frame_columns
from lstm_ext.sklearn._series import Series, check_same_index, following, packed, read, unpacked
from lstm_ext.sklearn._smoothing import recent

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from lstm_ext.model import Model
    from lstm_ext.sklearn._backtest import Backtest
    from lstm_ext.sklearn._hybrid import State
    from lstm_ext.sklearn._outputs import OutputDecoder
    from lstm_ext.sklearn._types import (
        Auto,
        Callbacks,
        ComputeDtype,
        Floats,
        ForecastLoss,
        Numbers,
        RandomState,
        Sequential,
        Solver,
        Strategy,
        Transform,
    )


class _Task(NamedTuple):
    """Series to continue, their standardized inputs up to the horizon, and the horizon."""

    series: Series
    X: list[Floats]
    horizon: int


class LSTMForecaster(Network):
    r"""Forecast time series: exponential smoothing, ridge regression on lags, and LSTMs for what these leave.

    A forecast is the weighted mean of three:

    - *smoothing*: level, damped trend and season of each series by exponential smoothing;
    - *differences*: ridge regression on the lags of the series relative to its last value, step by step;
    - *levels*: ridge regression on the lags of the series without its season, and an LSTM that forecasts what
      this regression leaves. Inputs X enter both regressions and the LSTM.

    The mean of `n_members` LSTMs is taken. Each does not learn from one of `n_members` parts of time, so that
    the errors of all three can be measured on steps that they have not learned from. These errors choose the
    transform, the weights (inverse mean squared errors: J. M. Bates and C. W. J. Granger, *Oper. Res. Q.*
    20:451, 1969), the share of the LSTM's correction, and the width of the intervals.

    All series together are learned from, each in units of its own level and scale.

    Parameters
    ----------
    window : int or "auto", default="auto"
        Steps that a forecast looks back. "auto": two periods and at least 24, but a third of the shortest
        series at the most.
    horizon : int, default=1
        Steps to forecast.
    period : int or "auto", default="auto"
        Steps of a season, 1 for none. "auto": what helps to forecast; periods of the calendar are tried where
        y has an index of dates.
    strategy : {"recursive", "direct"}, default="recursive"
        "recursive" learns one step, and takes each forecast for what was measured; any horizon can be asked
        for. "direct" learns all steps up to `horizon`; no forecast is an input of another.
    difference : int, None or "auto", default="auto"
        "auto": the weighted mean of forecasts with and without differences to the last value. An int:
        everything learns how the series differs from its value so many steps before. None: no differences.
    transform : {"auto", "log", "boxcox"} or None, default="auto"
        Of the series. "auto": logarithms where all values are positive and they forecast better. "boxcox":
        the power that is most likely (G. E. P. Box and D. R. Cox, *J. R. Stat. Soc. B* 26:211, 1964).
    n_members : int, default=5
        LSTMs whose mean is taken; 0: only smoothing and regressions.
    loss : {"mse", "mae", "huber", "quantile", "poisson", "gaussian"}, default="mse"
        Of the LSTMs, as in `LSTMRegressor`. With "gaussian" and "quantile" the width of intervals varies with
        what the LSTM reads. "poisson" is for counts: the LSTM forecasts their rate by itself, beside
        smoothing.
    coverage : float, default=0.9
        The probability within an interval.
    hidden_size, num_layers, solver, learning_rate_init, batch_size, alpha, momentum, max_norm
        As in `LSTMRegressor`, with windows for sequences.
    max_iter : int or "auto", default="auto"
        Epochs of each member. "auto": 200, but at least 1000 and at most 5000 steps of the optimizer.
    early_stopping : bool, default=True
        End the training of a member when its loss on the part of time that it does not learn from no longer
        falls, and keep its best weights.
    validation_fraction : float, default=0.1
        With ``n_members=1``: this share of each series, at its end, is not learned from.
    tol : float, default=1e-4
        Of "lbfgs": the largest element of the gradient at which it ends.
    n_iter_no_change : int or "auto", default="auto"
        Epochs without a lower validation loss after which the training of a member ends. "auto": 10, but at
        least 100 and at most 1000 steps of the optimizer.
    warm_start, dtype, lstm_options, callbacks, random_state, verbose
        As in `LSTMRegressor`.
    scale : bool, default=True
        Read each series relative to its mean and the size of its steps, and X relative to its mean and
        standard deviation.

    Attributes
    ----------
    models_ : list of lstm_ext.Model
        The members.
    model_ : lstm_ext.Model
        The first of them.
    period_ : int
    transform_ : {"none", "log", "boxcox", "log1p"}
    window_ : int
    weights_ : dict
        The weight of "smoothing", "differences" and "levels" for each column of y.
    lstm_share_ : ndarray of shape (D,)
        How much of the LSTM's correction is used, 0 to 1.
    fitted_values_ : ndarray of shape (T, D) or list of them
        Forecasts of one step for the series of `fit`; NaN at its start, and before its last 2000 steps.
    n_series_, n_outputs_, n_exogenous_ : int
        Series that `fit` had, their columns, and columns of X.
    n_iter_ : int
        Epochs of the member that took most.
    loss_ : float
        The mean of the members' last losses.
    loss_curve_, validation_loss_curve_ : list of float
        Of each epoch, the mean over the members that had it.

    Notes
    -----
    A series is an array (T,) or (T, D), evenly spaced in time; several are a list of them. A pandas Series or
    frame with an index of dates is answered by one with the dates that follow. A frame with a MultiIndex
    (series, time), and a long frame with a column of names and one of dates, are several series.

    Exogenous inputs X are (T, K), or a list of them; X[t] belongs to y[t] and has to be known for the steps
    that are forecast (the calendar, a plan, another forecast). What is measured along with y, and not known
    in advance, is a further column of y. Where both carry an index, it is compared.

    With ``lstm_options={"nan": "hold"}`` or ``"zero"`` y and X may have NaN: what is missing is no target,
    and is read as lying on a straight line between its neighbors.

    Intervals are split-conformal (J. Lei and others, *J. Am. Stat. Assoc.* 113:1094, 2018), over parts of
    time that are left out in turn (R. F. Barber and others, *Ann. Stat.* 49:486, 2021). They assume that the
    series goes on behaving as it did.

    Examples
    --------
    >>> import numpy as np
    >>> from lstm_ext.sklearn import LSTMForecaster
    >>> y = np.sin(0.3 * np.arange(300))
    >>> forecaster = LSTMForecaster(horizon=10, n_members=2, random_state=0).fit(y[:290])
    >>> bool(np.abs(forecaster.predict() - y[290:]).max() < 0.2)
    True
    """

    batch_size: int
    model_: Model
    n_iter_: int
    loss_: float
    loss_curve_: list[float]
    validation_loss_curve_: list[float] | None
    models_: list[Model]
    period_: int
    transform_: str
    window_: int
    weights_: dict[str, Floats]
    lstm_share_: Floats
    fitted_values_: Any
    n_series_: int
    n_outputs_: int
    n_exogenous_: int
    _state: State
    _decoder: OutputDecoder

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        **Network._parameter_constraints,
        "window": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "horizon": [Interval(Integral, 1, None, closed="left")],
        "period": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "strategy": [StrOptions({"direct", "recursive"})],
        "difference": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"}), None],
        "transform": [StrOptions({"auto", "log", "boxcox"}), None],
        "n_members": [Interval(Integral, 0, None, closed="left")],
        "loss": [StrOptions({"mse", "mae", "huber", "quantile", "poisson", "gaussian"})],
        "coverage": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self, window: int | Auto = "auto", horizon: int = 1, *, period: int | Auto = "auto",
        strategy: Strategy = "recursive", difference: int | Auto | None = "auto",
        transform: Transform | None = "auto", n_members: int = 5, loss: ForecastLoss = "mse",
        coverage: float = 0.9, hidden_size: int = 32, num_layers: int = 1, solver: Solver = "adam",
        learning_rate_init: float = 0.003, batch_size: int = 32, max_iter: int | Auto = "auto",
        alpha: float = 0.0, momentum: float = 0.9, max_norm: float | None = 1.0, tol: float = 1e-4,
        n_iter_no_change: int | Auto = "auto", early_stopping: bool = True, validation_fraction: float = 0.1,
        warm_start: bool = False, scale: bool = True, dtype: ComputeDtype = "float32",
        lstm_options: dict[str, Any] | None = None, callbacks: Callbacks | None = None,
        random_state: RandomState | None = None, verbose: bool = False,
    ) -> None:
        super().__init__(
            hidden_size, num_layers, solver, learning_rate_init, batch_size, max_iter, alpha, momentum,
            max_norm, tol, n_iter_no_change, early_stopping, validation_fraction, warm_start, scale, dtype,
            lstm_options, callbacks, random_state, verbose,
        )
        self.window = window
        self.horizon = horizon
        self.period = period
        self.strategy = strategy
        self.difference = difference
        self.transform = transform
        self.n_members = n_members
        self.loss = loss
        self.coverage = coverage

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "weights_")

    def _check_parameters(self) -> None:
        super()._check_parameters()
        for name in ("bidirectional", "reverse"):
            if (self.lstm_options or {}).get(name):
                raise ValueError(f"lstm_options has {name!r}; expected none that reads a series backwards")
        if self.strategy == "recursive" and self.loss == "quantile":
            raise ValueError(
                "loss is 'quantile'; expected another with strategy='recursive', whose steps' quantiles do "
                "not add "
                "up: loss='gaussian', or strategy='direct'. Every loss has intervals"
            )
        if self.loss == "poisson":
            if isinstance(self.difference, Integral):
                raise ValueError(
                    f"difference is {self.difference}; expected None or 'auto' with loss='poisson', for "
                    "counts"
                )
            if self.transform in ("log", "boxcox"):
                raise ValueError(
                    f"transform is {self.transform!r}; expected None or 'auto' with loss='poisson', for "
                    "counts"
                )
            if not self.n_members:
                raise ValueError("n_members is 0; expected 1 or more with loss='poisson', a loss of LSTMs")

    @property
    def _lag(self) -> int:
        """The steps of an explicit difference, else 0."""
        return int(self.difference) if isinstance(self.difference, Integral) else 0

    # ---- learning

    def fit(
        self, y: Sequential, unused: None = None, *, X: Sequential | None = None,
        sample_weight: Sequential | None = None, comm: Any = None,
    ) -> Self:
        """Learn from series.

        Parameters
        ----------
        y : array_like of shape (T,) or (T, D), series, frame, or list of them
        unused : None
            scikit-learn's pipelines and searches give None here.
        X : array_like of shape (T, K), or list of such arrays, optional
            Exogenous inputs; one array serves several series of equal length.
        sample_weight : array_like of shape (T,), or list of them, optional
            What each step counts as a target, >= 0: in the regressions, the LSTMs, and the errors by which
            forecasts are judged; for several series also one number each. Smoothing follows all steps.
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
        if unused is not None:
            raise TypeError(
                "fit has a second argument by position; expected fit(y, X=X): the series comes first, and "
                "fit(X, y) would forecast the inputs"
            )
        with self._all_or_nothing(comm):
            self._learn(y, X, sample_weight, comm)
        return self

    def _learn(self, y: Any, X: Any, sample_weight: Any, comm: Any) -> None:
        self._check_parameters()
        comm = self._process_group(comm)
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but y is None.")
        with naming_the_option(self._allow_nan):
            series = read("y", y, allow_nan=self._allow_nan)
            inputs = self._exogenous("X", X, series, series.lengths, "as y", None, self._allow_nan)
        if self.loss == "poisson" and any((one < 0).any() for one in series.values):
            raise ValueError("y has negative values; expected counts >= 0 with loss='poisson'")
        ahead = self.horizon if self.strategy == "direct" else 1
        goes_on = self._goes_on(False) or (self.warm_start and hasattr(self, "weights_"))
        least = self._lag + (4 if self.window == "auto" else self.window) + ahead
        for number, length in enumerate(series.lengths):
            if length < least:
                window = 4 if self.window == "auto" else self.window
                raise ValueError(
                    f"series {number} of y has {length} steps; expected {least} with window={window}, "
                    f"horizon={ahead}, difference={self._lag}"
                )
        if all(np.isnan(one[self._lag :]).all() for one in series.values):
            raise ValueError("y has only missing values; expected numbers")

        n_outputs, n_exogenous = series.values[0].shape[1], inputs[0].shape[1]
        if goes_on:
            self._check_architecture(n_exogenous, n_outputs)
        weights = _step_weights(sample_weight, series)
        rng = self._generator()
        self._x_mean, self._x_scale = _standardization(inputs, self.scale)
        fitted = Fit(self, series, [self._scaled_inputs(X) for X in inputs], ahead, weights)
        fitted.choose_transform()
        models = copy.deepcopy(self.models_) if goes_on else None
        members = fitted.train(rng, models, comm) if self.n_members else []
        fitted.judge(members)

        self.n_series_, self.n_outputs_, self.n_exogenous_ = len(series), n_outputs, n_exogenous
        self._built = self._architecture(n_exogenous, n_outputs)
        self._decoder, self.models_ = fitted.decoder, members
        if members:
            self.model_ = members[0]
        elif hasattr(self, "model_"):
            del self.model_
        before = goes_on and self.n_iter_
        curves = fitted.curves
        self.n_iter_ = (before or 0) + max((len(c["loss"]) for c in curves), default=0)
        old = (self.loss_curve_, self.validation_loss_curve_) if goes_on else ([], [])
        self.loss_curve_ = [*old[0], *_mean_curve(curves, "loss")]
        self.validation_loss_curve_ = [*(old[1] or []), *_mean_curve(curves, "validation_loss")] or None
        self.loss_ = float(np.mean([c["loss"][-1] for c in curves])) if curves else np.nan
        self._state = fitted.state
        self.weights_ = dict(zip(PARTS, fitted.state["weights"], strict=True))
        self.period_, self.transform_ = fitted.period, fitted.state["transform"]
        self.window_, self.lstm_share_ = fitted.window, fitted.state["share"]
        shown = [one[:, 0] if series.flat else one for one in fitted.fitted_values()]
        self.fitted_values_ = shown if series.several else shown[0]
        self._names = {"y": frame_columns(y), "X": None if X is None else frame_columns(X)}
        self._remember(series, inputs)

    def _remember(self, series: Series, inputs: list[Floats]) -> None:
        """Keep what `predict` goes on from."""
        keep = self.window_ + self._state["lag"] + 1
        starts = [min(recent(length, self.period_), max(0, length - keep)) for length in series.lengths]
        self._history = [one[start:].copy() for one, start in zip(series.values, starts, strict=True)]
        self._history_X = [one[start:].copy() for one, start in zip(inputs, starts, strict=True)]
        self._form: dict[str, Any] = {
            "several": series.several,
            "flat": series.flat,
            "make": series.make,
            "names": series.names if isinstance(series.names, list | str | int) else None,
            "indexes": [packed(index) for index in series.indexes],
            "keys": None if series.keys is None else [_plain(key) for key in series.keys],
            "labels": None
            if series.labels is None
            else [[_plain(name) for name in series.labels[0]], _plain(series.labels[1])],
        }

    def _scaled_inputs(self, X: Floats) -> Floats:
        return _held((X - self._x_mean) / self._x_scale)

    def _exogenous(
        self, name: str, X: Any, series: Series, steps: list[int], why: str, columns: int | None,
        nan: bool = False, indexes: list[pd.Index | None] | None = None,
    ) -> list[Floats]:
        """Return X as a list, each with as many steps as it has to have, and `why` says why."""
        if X is None:
            if columns:
                raise ValueError(f"{name} is None; expected {columns} columns: fit had exogenous inputs")
            return [np.empty((n, 0)) for n in steps]
        if columns == 0:
            raise ValueError(f"{name} was given; expected None, as fit had no exogenous inputs")
        found = read(name, X, allow_nan=nan, columns=columns)
        if found.flat and found.make == "array":
            raise ValueError(
                f"{name} has shape ({found.lengths[0]},); expected (time, inputs): {name}[:, None] is one "
                "input"
            )
        if found.keys is not None and series.keys is not None:
            order = found.keys.get_indexer(series.keys)
            if (order < 0).any():
                raise ValueError(
                    f"{name} lacks the series {series.keys[int(np.argmin(order))]!r}; expected those of y"
                )
            found.values, found.indexes = ([part[k] for k in order] for part in (found.values, found.indexes))
        checked, given = found.values, found.indexes
        if len(checked) == 1 < len(steps) and not found.several:
            checked, given = checked * len(steps), given * len(steps)  # the same for all series: a calendar
        if len(checked) != len(steps):
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: {name} has {len(checked)} "
                "series; "
                f"expected {len(steps)}"
            )
        expected = series.indexes if indexes is None else indexes
        for number, (one, n, index, other) in enumerate(zip(checked, steps, given, expected, strict=True)):
            if len(one) != n:
                raise ValueError(f"{name} has {len(one)} steps for series {number}; expected {n}, {why}")
            check_same_index(name, index, other, number, found.several)
        return checked

    # ---- forecasts

    @overload
    def predict(
        self, horizon: int | None = None, X: Sequential | None = None, *, y: Numbers,
        X_past: Sequential | None = None,
    ) -> Floats: ...

    @overload
    def predict(
        self, horizon: int | Sequential | None = None, X: Sequential | None = None, *,
        y: Sequential | None = None, X_past: Sequential | None = None,
    ) -> Any: ...

    def predict(
        self, horizon: int | Sequential | None = None, X: Sequential | None = None, *,
        y: Sequential | None = None, X_past: Sequential | None = None,
    ) -> Any:
        """Continue series: those that `fit` had, or others.

        Parameters
        ----------
        horizon : int, optional
            Steps; default and, with ``strategy="direct"``, largest: the parameter `horizon`. A series in its
            place is `y`, as a pipeline gives it.
        X : array_like of shape (horizon, K), or list of such arrays
            The exogenous inputs of the steps that are forecast, if `fit` had any.
        y : array_like of shape (T,) or (T, D), or list of such arrays, optional
            Series to continue in place of those of `fit`. The longer they are, the better their level, scale
            and season are known; at least `window_` steps.
        X_past : array_like of shape (T, K), or list of such arrays
            The exogenous inputs of `y`.

        Returns
        -------
        ndarray of shape (horizon,) or (horizon, D), or a list of them
            A list for a list of series; pandas objects with the dates that follow where the series had dates.
        """
        check_is_fitted(self)
        task = self._task(horizon, X, y, X_past)
        return task.series.answer(list(self._forecast(task)[0]), task.horizon)

    def predict_interval(
        self, horizon: int | Sequential | None = None, X: Sequential | None = None, *,
        y: Sequential | None = None, X_past: Sequential | None = None, coverage: float | None = None,
    ) -> tuple[Any, Any]:
        """Bounds between which the series will be, each step with a probability of `coverage`.

        They are split-conformal: as far from the forecast, in units of the series' scale, as that share of
        the errors of forecasts over parts of time that were not learned from, for each number of steps ahead.

        Parameters
        ----------
        horizon, X, y, X_past
            As in `predict`.
        coverage : float, optional
            Default: the parameter `coverage` that `fit` had.

        Returns
        -------
        lower, upper : as `predict` returns
        """
        check_is_fitted(self)
        coverage = self._built["coverage"] if coverage is None else coverage
        if not isinstance(coverage, Real) or not 0 < float(coverage) < 1:
            raise ValueError(f"coverage is {coverage!r}; expected a number between 0 and 1")
        coverage = float(coverage)
        task = self._task(horizon, X, y, X_past)
        _, middle, width, past = self._forecast(task)
        half = width * self._quantile(task.horizon, coverage)
        answers = []
        for sign in (-1, 1):
            bound = np.stack(
                [
                    inverse(self._state, part, one)
                    for part, one in zip(middle + sign * half, past, strict=True)
                ]
            )
            if self._built["loss"] == "poisson":
                bound = np.maximum(bound, 0)
            answers.append(task.series.answer(list(bound), task.horizon))
        return answers[0], answers[1]

    def _quantile(self, horizon: int, coverage: float) -> Floats:
        """Return how many units of width an interval is to each side, (horizon, D)."""
        state = self._state["interval"]
        size = state["size"]
        steps = len(size)
        if horizon > steps:  # errors go on to grow as they have grown
            growth = np.full(size.shape[1], 0.5)
            if steps > 1:
                ratio = np.log(np.maximum(size[-1], 1e-300) / np.maximum(size[0], 1e-300)) / np.log(steps)
                growth = np.clip(ratio, 0.0, 1.0)
            more = np.arange(steps + 1, horizon + 1)[:, None] / steps
            size = np.concatenate([size, size[-1] * more**growth])
        size = size[:horizon]
        levels = np.linspace(0, 1, len(state["errors"]))
        count = state["count"]
        level = min(coverage * (1 + 1 / np.maximum(count, 1)), 1.0)
        factor = np.array([np.interp(level, levels, column) for column in state["errors"].T])
        # Few errors say little about their tail: there a Student's t with their number of degrees of freedom.
        wide = student.ppf((1 + coverage) / 2, max(count - 1, 1))
        if 1 / max(count, 1) > (1 - coverage):
            factor = np.maximum(factor, wide)
        level = (1 + coverage) / 2
        half: Floats = size * factor * student.ppf(level, max(state["free"], 2)) / student.ppf(level, np.inf)
        return half

    def score(self, y: Sequential, unused: None = None, *, X: Sequential | None = None) -> float:
        r"""Return how well the series of `fit` are forecast: minus the mean absolute scaled error.

        .. math:: -\frac{1}{h} \sum_{k=1}^{h} |\hat y_{T+k} - y_{T+k}| / q, \qquad
            q = \mathrm{mean}_t |y_t - y_{t-m}|

        over the series of `fit`, the last 2000 steps of each, and m its period (R. J. Hyndman and A. B.
        Koehler, *Int. J. Forecasting* 22:679, 2006). 0 is best; -1 is as good as the (seasonal) naive
        forecast of one step.

        Parameters
        ----------
        y : array_like of shape (h,) or (h, D), or list of them
            What followed the series of `fit`.
        unused : None
        X : array_like of shape (h, K), optional
            The exogenous inputs of these steps.

        Returns
        -------
        float
        """
        check_is_fitted(self)
        if unused is not None:
            raise TypeError("score has a second argument by position; expected score(y, X=X)")
        truth = read("y", y, allow_nan=True, columns=self.n_outputs_)
        if len(truth) != self.n_series_:
            raise ValueError(f"y has {len(truth)} series; expected {self.n_series_}: fit had as many")
        lengths = set(truth.lengths)
        if len(lengths) > 1 or 0 in lengths:
            raise ValueError(f"y has series of {sorted(lengths)} steps; expected one length, of at least 1")
        task = self._task(lengths.pop(), X, None, None)
        for number, (index, other) in enumerate(zip(truth.indexes, task.series.indexes, strict=True)):
            if index is not None and other is not None:
                check_same_index("y", index, following(other, task.horizon), number, truth.several)
        errors = []
        for one, forecast, past in zip(truth.values, self._forecast(task)[0], self._history, strict=True):
            errors.append(np.abs(forecast - one) / naive_error(past, self.period_))
        return -float(np.nanmean(errors))

    def update(self, y: Sequential, *, X: Sequential | None = None) -> Self:
        """Take in what was measured since, without learning anew.

        Level, trend, season and scale follow; regressions, LSTMs and weights stay. `fit` learns anew.

        Parameters
        ----------
        y : array_like of shape (t,) or (t, D), or list of them
            What follows the series of `fit`.
        X : array_like of shape (t, K), or list of them, optional
            Its exogenous inputs, if `fit` had any.

        Returns
        -------
        LSTMForecaster
        """
        check_is_fitted(self)
        check_columns("y", frame_columns(y), self._names["y"])
        new = read("y", y, allow_nan=self._takes_missing, columns=self.n_outputs_)
        if len(new) != self.n_series_:
            raise ValueError(f"y has {len(new)} series; expected {self.n_series_}: fit had as many")
        before = self._remembered()
        if new.keys is not None and before.keys is not None:
            order = new.keys.get_indexer(before.keys)
            if (order < 0).any():
                raise ValueError(
                    f"y lacks the series {before.keys[int(np.argmin(order))]!r}; expected those that fit had"
                )
            new.values, new.indexes = ([part[k] for k in order] for part in (new.values, new.indexes))
            new.keys = before.keys
        for number, (index, other) in enumerate(zip(new.indexes, before.indexes, strict=True)):
            if index is not None and other is not None:
                check_same_index("y", index, following(other, len(index)), number, new.several)
        inputs = self._exogenous("X", X, new, new.lengths, "as y", self.n_exogenous_, self._takes_missing)
        lengths = new.lengths
        new.values = [np.concatenate(pair) for pair in zip(self._history, new.values, strict=True)]
        inputs = [np.concatenate(pair) for pair in zip(self._history_X, inputs, strict=True)]
        form = self._form
        self._remember(new, inputs)
        ends = [
            packed(following(other, length)) if other is not None else None
            for other, length in zip(before.indexes, lengths, strict=True)
        ]
        self._form = {**form, "indexes": ends}
        return self

    def backtest(
        self, y: Sequential, horizon: int | None = None, origins: int | Sequence[int] = 8, *,
        X: Sequential | None = None, step: int | None = None, coverage: float | None = None,
    ) -> Backtest:
        """Forecast from several origins, learning anew at each, and compare with naive forecasts.

        Parameters
        ----------
        y : array_like of shape (T,) or (T, D), or list of them
        horizon : int, optional
            Default: the parameter `horizon`.
        origins : int or sequence of int, default=8
            How many, `step` steps from one to the next, the last forecast ending with the series; or the
            lengths of the parts from which is forecast.
        X : array_like of shape (T, K), or list of them, optional
        step : int, optional
            Default: a quarter of the horizon, and at least 1.
        coverage : float, optional
            Of the intervals. Default: the parameter `coverage`.

        Returns
        -------
        Backtest
            Its ``table`` has MAE, RMSE, MASE and coverage of this forecaster, the naive and the seasonal
            naive forecast; print it, or call its ``plot``. This object itself is not fitted.
        """
        return backtest(self, y, horizon, origins, X, step, coverage)

    # ---- the way from series to forecasts

    @property
    def _takes_missing(self) -> bool:
        return self._built["lstm_options"].get("nan") in ("zero", "hold")

    def _remembered(self) -> Series:
        """Return the series that were remembered, as `read` returns series."""
        import_needed = self._form["make"] != "array" or any(self._form["indexes"])
        form = self._form
        keys = form["keys"]
        if keys is not None:
            import pandas as pd

            keys = pd.Index([tuple(key) if isinstance(key, list) else key for key in keys])
        return Series(
            self._history,
            form["several"],
            form["flat"],
            form["names"],
            [unpacked(one) for one in form["indexes"]] if import_needed else None,
            keys,
            form["make"],
            form["labels"],
        )

    def _task(self, horizon: Any, X: Any, y: Any, X_past: Any) -> _Task:
        """Check what is to be continued."""
        if horizon is not None and not isinstance(horizon, Integral) and np.ndim(horizon) > 0 and y is None:
            horizon, y = None, horizon
        horizon = self._built["horizon"] if horizon is None else horizon
        if isinstance(horizon, bool | np.bool_) or not isinstance(horizon, Integral) or horizon < 1:
            raise ValueError(f"horizon is {horizon!r}; expected an integer of at least 1")
        if self._built["strategy"] == "direct" and horizon > self._built["horizon"]:
            raise ValueError(
                f"horizon is {horizon}; expected at most {self._built['horizon']}, the steps that were "
                "learned: fit "
                "with a longer horizon, or strategy='recursive'"
            )
        for name, given, fitted in (("y", y, "y"), ("X_past", X_past, "X"), ("X", X, "X")):
            if given is not None:
                check_columns(name, frame_columns(given), self._names[fitted])
        if y is None:
            if X_past is not None:
                raise ValueError("X_past was given without y; expected both")
            series, past = self._remembered(), self._history_X
        else:
            series = read("y", y, allow_nan=self._takes_missing, columns=self.n_outputs_)
            past = self._exogenous(
                "X_past", X_past, series, series.lengths, "as y", self.n_exogenous_, self._takes_missing
            )
            least = self.window_ + self._state["lag"]
            for number, length in enumerate(series.lengths):
                if length < least:
                    raise ValueError(f"series {number} of y has {length} steps; expected at least {least}")
            if self._built["loss"] == "poisson" and any((one < 0).any() for one in series.values):
                raise ValueError("y has negative values; expected counts >= 0 with loss='poisson'")
            if self._state["transform"] in ("log", "boxcox"):
                for number, one in enumerate(series.values):
                    if (one <= 0).any():
                        raise ValueError(
                            f"series {number} of y has the value {np.nanmin(one):g}; expected values "
                            f"above 0 with transform={self._state['transform']!r}"
                        )
        lag = self._state["lag"]
        if lag:
            for number, one in enumerate(series.values):
                if np.isnan(one[-lag:]).any():
                    raise ValueError(
                        f"series {number} of y has a gap in its last {lag} steps; expected none with "
                        f"difference={lag}: fill it"
                    )
        expected = None
        if X is not None:
            expected = [None if index is None else following(index, int(horizon)) for index in series.indexes]
        future = self._exogenous(
            "X", X, series, [int(horizon)] * len(series), "the horizon", self.n_exogenous_, indexes=expected
        )
        inputs = [self._scaled_inputs(np.concatenate(pair)) for pair in zip(past, future, strict=True)]
        return _Task(series, inputs, int(horizon))

    def _forecast(self, task: _Task) -> tuple[Floats, Floats, Floats, list[Past]]:
        """Return forecasts (N, h, D), the same transformed, the unit of their width, and the pasts."""
        state, horizon = self._state, task.horizon
        pasts = [Past(state, y, X) for y, X in zip(task.series.values, task.X, strict=True)]
        paths = {
            "smoothing": smoothed(pasts, state["period"], horizon),
            **regressed(state, pasts, horizon, -1, self.models_, self._decoder, state["share"]),
        }
        forecasts, middle = combined(state, pasts, paths, state["weights"])
        scale = np.stack([past.scale for past in pasts])[:, None]
        spread = paths["spread"] if paths["spread"] is not None else 1.0
        return forecasts, middle, scale * spread, pasts


def _step_weights(sample_weight: Any, series: Series) -> list[Floats]:
    """Return the weight of each step of each series, a list of (T_i,)."""
    lengths = series.lengths
    if sample_weight is None:
        return [np.ones(length) for length in lengths]
    if series.several and not isinstance(sample_weight, list | tuple):
        each = as_number_array("sample_weight", sample_weight, allow_nan=False, ndim=1)
        if len(each) != len(series):
            raise ValueError(f"sample_weight has {len(each)} numbers; expected {len(series)}, one a series")
        weights = [np.full(length, weight) for length, weight in zip(lengths, each, strict=True)]
    else:
        given = sample_weight if series.several else [sample_weight]
        if len(given) != len(series):
            raise ValueError(f"sample_weight has {len(given)} parts; expected {len(series)}, one a series")
        weights = []
        for number, (one, length) in enumerate(zip(given, lengths, strict=True)):
            name = f"sample_weight[{number}]" if series.several else "sample_weight"
            if series.several and np.ndim(one) == 0:
                one = np.full(length, one)
            one = as_number_array(name, one, allow_nan=False, ndim=1)
            if len(one) != length:
                raise ValueError(f"{name} has {len(one)} steps; expected {length}, as y")
            weights.append(one)
    if any((one < 0).any() for one in weights):
        raise ValueError("sample_weight has negative values; expected numbers >= 0")
    if not any(one.any() for one in weights):
        raise ValueError("sample_weight is 0 everywhere; expected a number above 0")
    return weights


def _standardization(inputs: list[Floats], scale: bool) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the columns of X, over all series; NaN does not count."""
    rows = np.concatenate(inputs)
    mean, deviation = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
    if scale and rows.size:
        there = ~np.isnan(rows).all(axis=0)
        mean[there] = np.nanmean(rows[:, there], axis=0)
        deviation[there] = np.nanstd(rows[:, there], axis=0)
        varies = np.nanmax(rows, axis=0, initial=-np.inf) > np.nanmin(rows, axis=0, initial=np.inf)
        deviation[~varies | (deviation == 0)] = 1.0
    return mean, deviation


def _held(X: Floats) -> Floats:
    """Return X (T, K) with each missing value replaced by the last one that is known, or 0, the mean."""
    missing = np.isnan(X)
    if missing.any():
        last = np.maximum.accumulate(np.where(missing, -1, np.arange(len(X))[:, None]), axis=0)
        X = np.where(last < 0, 0.0, np.take_along_axis(X, np.maximum(last, 0), axis=0))
    return X


def _mean_curve(curves: list[dict[str, list[float]]], name: str) -> list[float]:
    """Return the mean of the members' curves, each as long as it is."""
    found = [curve[name] for curve in curves if curve[name]]
    longest = max((len(one) for one in found), default=0)
    return [float(np.mean([one[k] for one in found if k < len(one)])) for k in range(longest)]


def _plain(value: Any) -> Any:
    """Return a name as text or a number that a file can hold."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    value = value.item() if hasattr(value, "item") else value
    return value if isinstance(value, str | int | float) or value is None else str(value)
