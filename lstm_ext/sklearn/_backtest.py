"""Rolling origins: how well a forecaster would have done, next to naive forecasts."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from lstm_ext.sklearn._series import read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from lstm_ext.sklearn._forecaster import LSTMForecaster
    from lstm_ext.sklearn._series import Series
    from lstm_ext.sklearn._types import Floats, Integers

_MEASURES = ("MAE", "RMSE", "MASE", "coverage")


def naive_error(y: Floats, period: int) -> Floats:
    """Return the mean absolute error of the (seasonal) naive forecast of one step within y (T, D), (D,)."""
    period = period if len(y) > period else 1
    with np.errstate(invalid="ignore"):
        steps = np.abs(y[period:] - y[:-period]) if len(y) > period else np.zeros((0, y.shape[1]))
    count = (~np.isnan(steps)).sum(axis=0)
    mean = np.nansum(steps, axis=0) / np.maximum(count, 1)
    spread = np.nanstd(y, axis=0) if len(y) else np.zeros(y.shape[1])
    return np.where(mean > 0, mean, np.where(spread > 0, spread, 1.0))


class Backtest:
    """Forecasts from several origins, and how good they are.

    Attributes
    ----------
    table : dict
        For "LSTMForecaster", "naive" and "seasonal naive" a dict of MAE, RMSE, MASE (mean absolute scaled
        error) and coverage (of the intervals), means over origins, steps and columns.
    origins : ndarray of shape (M,)
        Steps that were known at each.
    truth, forecast, lower, upper : ndarray of shape (M, N, h, D)
        N series.
    coverage : float
        What the intervals are for.
    """

    table: dict[str, dict[str, float]]
    origins: Integers
    truth: Floats
    forecast: Floats
    lower: Floats
    upper: Floats
    coverage: float

    def __init__(
        self, table: dict[str, dict[str, float]], origins: Integers, truth: Floats,
        forecast: Floats, lower: Floats, upper: Floats, coverage: float, series: Series,
    ) -> None:
        self.table, self.origins, self.truth, self.forecast = table, origins, truth, forecast
        self.lower, self.upper, self.coverage, self._series = lower, upper, coverage, series

    def _rows(self) -> Iterator[tuple[str, list[str]]]:
        for name, row in self.table.items():
            yield name, [f"{row[m]:.4g}" if m in row else "" for m in _MEASURES]

    def __str__(self) -> str:
        head = f"{'':16}" + "".join(f"{measure:>10}" for measure in _MEASURES)
        lines = [f"{name:16}" + "".join(f"{cell:>10}" for cell in cells) for name, cells in self._rows()]
        return "\n".join([head, *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cells = "".join(f"<th>{measure}</th>" for measure in _MEASURES)
        rows = "".join(
            f"<tr><th>{name}</th>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
            for name, row in self._rows()
        )
        return f"<table><tr><th></th>{cells}</tr>{rows}</table>"

    def plot(self, ax: Any = None, *, series: int = 0, column: int = 0) -> Any:
        """Draw a series and its forecasts with their intervals.

        Parameters
        ----------
        ax : matplotlib axes, optional
        series, column : int
            Which.

        Returns
        -------
        matplotlib axes
        """
        import matplotlib.pyplot as plt

        if ax is None:
            ax = plt.subplots(figsize=(8, 3.5), layout="constrained")[1]
        y = self._series.values[series][:, column]
        index = self._series.indexes[series]
        when = np.arange(len(y)) if index is None else index
        when = when.to_timestamp() if hasattr(when, "to_timestamp") else when
        horizon = self.truth.shape[2]
        first = max(0, int(self.origins[0]) - 4 * horizon)
        ax.plot(when[first:], y[first:], color="0.35", linewidth=1, label="observed")
        for number, origin in enumerate(self.origins):
            steps = slice(int(origin), int(origin) + horizon)
            ax.fill_between(
                when[steps],
                self.lower[number, series, :, column],
                self.upper[number, series, :, column],
                color="#0072B2",
                alpha=0.18,
                linewidth=0,
                label=None if number else f"{100 * self.coverage:.3g} % interval",
            )
            ax.plot(
                when[steps],
                self.forecast[number, series, :, column],
                color="#0072B2",
                linewidth=1.2,
                label=None if number else "forecast",
            )
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, ncols=3, loc="upper left")
        return ax


def backtest(
    forecaster: LSTMForecaster, y: Any, horizon: int | None, origins: int | Sequence[int], X: Any,
    step: int | None, coverage: float | None,
) -> Backtest:
    """Compute what `LSTMForecaster.backtest` returns."""
    horizon = forecaster.horizon if horizon is None else horizon
    for name, value in (("horizon", horizon), ("step", step)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
            raise ValueError(f"{name} is {value!r}; expected an integer of at least 1")
    coverage = forecaster.coverage if coverage is None else coverage
    series = read("y", y, allow_nan=forecaster._allow_nan)
    shortest = min(series.lengths)
    inputs = None
    if X is not None:
        inputs = forecaster._exogenous("X", X, series, series.lengths, "as y", None, forecaster._allow_nan)
    if isinstance(origins, int | np.integer) and not isinstance(origins, bool):
        if origins < 1:
            raise ValueError(f"origins is {origins}; expected at least 1")
        step = max(1, horizon // 4) if step is None else step
        ends = shortest - horizon - step * np.arange(origins)[::-1]
    else:
        ends = np.sort(np.asarray(origins))
        if ends.dtype.kind not in "iu" or not len(ends):
            raise ValueError(f"origins is {origins!r}; expected how many, or the steps known at each")
    if ends[0] < 4 or ends[-1] + horizon > shortest:
        raise ValueError(
            f"the origins lie from {ends[0]} to {ends[-1]}, and the shortest series has {shortest} steps; "
            f"expected at least 4, and horizon={horizon} steps after the last: take fewer origins or a "
            "smaller "
            "step"
        )
    found: dict[str, list[Floats]] = {"forecast": [], "lower": [], "upper": []}
    naive, seasonal, followed, errors = [], [], [], []
    several = series.values
    for end in ends:
        # Series of different lengths end together: each is cut as far before its own end.
        cuts = [len(one) - shortest + int(end) for one in several]
        past = [one[:cut] for one, cut in zip(several, cuts, strict=True)]
        exogenous: dict[str, Any] = {}
        if inputs is not None:
            exogenous["X"] = [one[:cut] for one, cut in zip(inputs, cuts, strict=True)]
        dated = [_with_dates(one, index) for one, index in zip(past, series.indexes, strict=True)]
        fitted = clone(forecaster).set_params(horizon=int(horizon)).fit(dated, **exogenous)
        if inputs is not None:
            exogenous["X"] = [one[cut : cut + horizon] for one, cut in zip(inputs, cuts, strict=True)]
        bounds = fitted.predict_interval(coverage=coverage, **exogenous)
        for name, values in zip(
            ("forecast", "lower", "upper"), (fitted.predict(**exogenous), *bounds), strict=True
        ):
            found[name].append(np.stack(values))
        period = fitted.period_
        ahead = np.arange(horizon)
        naive.append(np.stack([np.repeat(_last(one)[None], horizon, axis=0) for one in past]))
        seasonal.append(
            np.stack(
                [
                    one[len(one) - period + ahead % period]
                    if len(one) >= period
                    else np.repeat(one[-1:], horizon, axis=0)
                    for one in past
                ]
            )
        )
        followed.append(np.stack([one[cut : cut + horizon] for one, cut in zip(several, cuts, strict=True)]))
        errors.append(np.stack([naive_error(one, period) for one in past])[:, None])
    arrays = {name: np.stack(values) for name, values in found.items()}
    truth, unit = np.stack(followed), np.stack(errors)
    table = {
        name: _measures(values, truth, unit)
        for name, values in (
            ("LSTMForecaster", arrays["forecast"]),
            ("naive", np.stack(naive)),
            ("seasonal naive", np.stack(seasonal)),
        )
    }
    known = ~np.isnan(truth)
    inside = (arrays["lower"] <= truth) & (truth <= arrays["upper"])
    table["LSTMForecaster"]["coverage"] = float(inside[known].mean())
    return Backtest(table, ends, truth, **arrays, coverage=coverage, series=series)


def _with_dates(values: Floats, index: pd.Index | None) -> Floats | pd.DataFrame:
    """Return values with the index that they have, which suggests a period."""
    if index is None:
        return values
    import pandas as pd

    return pd.DataFrame(values, index[: len(values)])


def _last(one: Floats) -> Floats:
    """Return the last value of each column that is known."""
    return np.array(
        [column[~np.isnan(column)][-1] if (~np.isnan(column)).any() else np.nan for column in one.T]
    )


def _measures(forecast: Floats, truth: Floats, unit: Floats) -> dict[str, float]:
    error = np.abs(forecast - truth)
    return {
        "MAE": float(np.nanmean(error)),
        "RMSE": float(np.sqrt(np.nanmean(error**2))),
        "MASE": float(np.nanmean(error / unit)),
    }
