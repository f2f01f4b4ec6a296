"""Ridge regression of a series on its own lags, from the moments of its rows."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lstm_ext.sklearn._types import Floats, Integers

_PENALTIES = np.logspace(-3, 4, 15)
_DECAYS = (0.0, 0.5, 1.0, 1.5)
_ROWS_AT_ONCE = 1024
# A degree of freedom counts so many times: plain generalized cross-validation fits few rows too closely
# (Y.-J. Kim and C. Gu, J. R. Stat. Soc. B 66:337, 2004).
_PRICE = 1.2


def moments(
    series: list[Floats], inputs: list[Floats], targets: list[Floats], window: int, lead: int,
    edges: Sequence[Integers], weights: list[Floats],
) -> Floats:
    """Sum up products of lags, inputs and targets, block by block in time.

    Parameters
    ----------
    series : list of ndarray of shape (T_i, D)
        Without NaN.
    inputs : list of ndarray of shape (T_i, K)
    targets : list of ndarray of shape (T_i, D)
        The series, with NaN where there is no target.
    window, lead : int
        Lags that are read; how many steps ahead the target is.
    edges : list of ndarray of B + 1 int
        The steps at which the blocks of targets of each series begin, and its length.
    weights : list of ndarray of shape (T_i,)
        Of the targets.

    Returns
    -------
    ndarray of shape (B, D, P, P)
        P = window * D + 3 K + 1 + 1: lags (the oldest first), the inputs of the target's step and of the two
        before it, 1, and the target of this column.
    """
    columns, n_inputs = series[0].shape[1], inputs[0].shape[1]
    size = window * columns + 3 * n_inputs + 2
    total = np.zeros((len(edges[0]) - 1, columns, size, size))
    for values, X, target, cuts, weight in zip(series, inputs, targets, edges, weights, strict=True):
        for block, (begin, end) in enumerate(pairwise(cuts)):
            for start in range(max(begin, window + lead - 1), end, _ROWS_AT_ONCE):
                steps = np.arange(start, min(start + _ROWS_AT_ONCE, end))
                # Each row times the root of its weight, so that products have the weight.
                root = np.sqrt(weight[steps])[:, None]
                rows = _rows(values, X, steps, window, lead) * root
                found = target[steps] * root
                known = ~np.isnan(found)
                if known.all() and columns == 1:
                    full = np.column_stack([rows, found])
                    total[block, 0] += full.T @ full
                    continue
                for column in range(columns):
                    there = known[:, column]
                    full = np.column_stack([rows[there], found[there, column]])
                    total[block, column] += full.T @ full
    return total


def _rows(values: Floats, X: Floats, steps: Integers, window: int, lead: int) -> Floats:
    """Rows for the targets at `steps`: lags, inputs, 1."""
    lags = values[steps[:, None] - (window + lead - 1) + np.arange(window)].reshape(len(steps), -1)
    latest = np.maximum(steps[:, None] - np.arange(3), 0)
    return np.column_stack([lags, X[latest].reshape(len(steps), -1), np.ones(len(steps))])


def one_step(
    coefficients: Floats, values: Floats, X: Floats, window: int, lead: int, steps: Integers
) -> Floats:
    """Forecast `steps` of one series from the values up to `lead` steps before them, (len(steps), D)."""
    found = np.empty((len(steps), values.shape[1]))
    for start in range(0, len(steps), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        found[part] = _rows(values, X, steps[part], window, lead) @ coefficients
    return found


def fit(total: Floats, window: int, columns: int, period: int, relative: bool) -> Floats:
    r"""Solve the ridge regressions; penalty and decay of the lags by generalized cross-validation.

    .. math:: \min_{w, b} \sum_n (y_n - w^T x_n - b)^2 + \lambda \sum_j (w_j / s_j)^2, \qquad
        s_j = \max(j^{-\delta}, k^{-1/2} (|j - k m| + 1)^{-\delta} : k = 1, 2, 3)

    for the lag j. A greater :math:`\delta` says that distant lags matter less, but for those of earlier
    periods m. The criterion is that of G. H. Golub, M. Heath and G. Wahba, *Technometrics* 21:215, 1979.

    Parameters
    ----------
    total : ndarray of shape (D, P, P)
        Of `moments`, summed over blocks.
    window, columns, period : int
    relative : bool
        Regress what the target differs from the last value on what the lags differ from it.

    Returns
    -------
    ndarray of shape (P - 1, D)
        Coefficients of lags, inputs and 1.
    """
    size, n_lags = total.shape[1], window * columns
    scales = _scales(window, columns, period, size - 2 - n_lags)
    coefficients = np.zeros((size - 1, columns))
    for column in range(columns):
        moment = total[column]
        change = np.eye(size)
        if relative:
            for lag in range(n_lags - columns):
                change[n_lags - columns + lag % columns, lag] = -1
            change[n_lags - columns + column, -1] = -1
            moment = change.T @ moment @ change
        coefficients[:, column] = _solve(moment, scales, n_lags, columns if relative else 0)
        if relative:
            raw = change @ np.append(-coefficients[:, column], 1.0)
            coefficients[:, column] = -raw[:-1]
    return coefficients


def _scales(window: int, columns: int, period: int, n_inputs: int) -> list[Floats]:
    lag = np.arange(window, 0, -1.0)
    found = []
    decays = _DECAYS if window * columns <= 200 else _DECAYS[1:3]
    for decay in decays:
        scale = lag**-decay
        if period > 1:
            for k in (1, 2, 3):
                scale = np.maximum(scale, (np.abs(lag - k * period) + 1) ** -decay / np.sqrt(k))
        found.append(np.concatenate([np.repeat(scale, columns), np.ones(n_inputs)]))
    return found


def _solve(moment: Floats, scales: list[Floats], n_lags: int, n_last: int) -> Floats:
    """Coefficients of the features and of 1, which is the last but one row; `n_last` lags are left out."""
    count = moment[-2, -2]
    features = len(moment) - 2
    out = np.zeros(features + 1)
    if count < 2:
        return out
    mean = moment[-2] / count
    centred = moment - np.outer(mean, mean) * count
    used = np.r_[0 : n_lags - n_last, n_lags:features]
    spread = np.sqrt(np.maximum(np.diag(centred) / count, 0))
    unit = np.ones(features)
    lags = np.arange(n_lags - n_last)
    common = np.sqrt(np.mean(spread[lags] ** 2)) if lags.size else 0.0
    unit[:n_lags] = 1 / common if common > 0 else 0.0
    inputs = np.arange(n_lags, features)
    unit[inputs] = np.divide(1.0, spread[inputs], out=np.zeros(len(inputs)), where=spread[inputs] > 0)
    best, found = np.inf, np.zeros(used.size)
    for scale in scales:
        factor = (unit * scale)[used]
        values, vectors = np.linalg.eigh(centred[np.ix_(used, used)] * np.outer(factor, factor))
        values = np.maximum(values, 0)
        target = vectors.T @ (factor * centred[used, -1])
        for penalty in _PENALTIES:
            weight = target / (values + penalty)
            residual = max(centred[-1, -1] - 2 * weight @ target + (values * weight) @ weight, 0.0)
            freedom = (values / (values + penalty)).sum() + 1
            left = 1 - _PRICE * freedom / count
            if left <= 0.05:
                continue
            criterion = residual / left**2
            if criterion < best:
                best, found = criterion, factor * (vectors @ weight)
    out[used] = found
    out[-1] = mean[-1] - mean[:features] @ out[:-1]
    return out


def forecast(coefficients: Floats, history: Floats, X: Floats, horizon: int) -> Floats:
    """Forecast step by step; each forecast is a lag of the next.

    Parameters
    ----------
    coefficients : ndarray of shape (P - 1, D), or (L, P - 1, D) for a direct forecast of L steps
    history : ndarray of shape (M, window, D)
    X : ndarray of shape (M, window + horizon, K)
        Of the steps of the history and those to forecast.
    horizon : int

    Returns
    -------
    ndarray of shape (M, horizon, D)
    """
    count, window, columns = history.shape
    values = np.concatenate([history, np.empty((count, horizon, columns))], axis=1)
    for step in range(horizon):
        direct = coefficients.ndim == 3
        first = 0 if direct else step
        latest = np.maximum(window + step - np.arange(3), 0)
        rows = np.column_stack(
            [
                values[:, first : first + window].reshape(count, -1),
                X[:, latest].reshape(count, -1),
                np.ones(count),
            ]
        )
        values[:, window + step] = rows @ (coefficients[step] if direct else coefficients)
    return values[:, window:]
