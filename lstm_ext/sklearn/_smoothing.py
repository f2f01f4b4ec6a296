"""Level, trend and season of a series: exponential smoothing, the period, seasonal adjustment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import lfilter

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lstm_ext.sklearn._types import Floats

MEMORY = 2000  # steps, or eight periods: older values say nothing about level, trend and season of now
# Periods beyond these many steps are looked for only where calendars have them.
_LONG = 24
_CALENDAR = (48, 52, 96, 144, 168, 288, 336, 365, 720, 1440)
_USUAL = (4, 7, 12, 24)
_CYCLES = 2.9  # that a series has to have of a period
_PENALTY = 3.0  # of each seasonal value, in the units of Akaike's criterion


def recent(length: int, period: int) -> int:
    """Return from which step on the values of a series of this length count."""
    return max(0, length - max(MEMORY, 8 * period))


def filled(z: Floats) -> Floats:
    """Return z (T, D) with straight lines over what is missing, and its nearest value at the ends."""
    missing = np.isnan(z)
    if not missing.any():
        return z
    z, steps = z.copy(), np.arange(len(z))
    for column, gaps in zip(z.T, missing.T, strict=True):
        if gaps.all():
            column[:] = 0.0
        elif gaps.any():
            column[gaps] = np.interp(steps[gaps], steps[~gaps], column[~gaps])
    return z


def _grid(seasonal: bool) -> Floats:
    """Smoothing parameters (alpha, beta, phi, gamma) of all models, (4, G)."""
    rows = []
    for alpha in (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 0.999):
        trends = [(share * alpha, phi) for share in (0.02, 0.1, 0.3) for phi in (0.8, 0.9, 0.97)]
        for beta, phi in [(0.0, 0.0), *trends]:
            for gamma in (0.0, 0.05, 0.15, 0.35, 0.6) if seasonal else (0.0,):
                rows.append((alpha, beta, phi, gamma * (1 - alpha)))
    return np.array(rows).T


def _first_states(z: Floats, period: int) -> tuple[Floats, Floats, Floats]:
    """Level, slope and season (m, N) that the first values of z (T, N) suggest."""
    steps, n = len(z), z.shape[1]
    if period == 1:
        k = min(steps, 10)
        slope = (z[k - 1] - z[0]) / max(k - 1, 1)
        return z[: max(min(3, steps), k // 2)].mean(axis=0), slope, np.zeros((1, n))
    cycles = min(steps // period, 4)
    means = z[: cycles * period].reshape(cycles, period, n).mean(axis=1)
    slope = (means[-1] - means[0]) / max((cycles - 1) * period, 1)
    centre = (period - 1) / 2
    trend = means.mean(axis=0) + slope * (
        np.arange(cycles * period)[:, None] - centre - (cycles - 1) * period / 2
    )
    season = (z[: cycles * period] - trend).reshape(cycles, period, n).mean(axis=0)
    return trend[0], slope, season - season.mean(axis=0)


def smooth(z: Floats, period: int, origins: Sequence[int], horizon: int) -> tuple[Floats, Floats]:
    r"""Forecast by exponential smoothing from several origins, in one pass over the series.

    Level, damped trend and season follow the series (ETS(A, Ad, A) in its form with one error)

    .. math::
        \hat z_t = l_{t-1} + \phi b_{t-1} + s_{t-m}, \quad e_t = z_t - \hat z_t, \quad
        l_t = l_{t-1} + \phi b_{t-1} + \alpha e_t, \quad b_t = \phi b_{t-1} + \beta e_t, \quad
        s_t = s_{t-m} + \gamma e_t.

    A grid of parameters is tried; the forecast is the mean over the grid, weighted by Akaike weights of the
    errors up to the origin (R. J. Hyndman and others, *Forecasting with Exponential Smoothing*, Springer,
    2008; K. P. Burnham and D. R. Anderson, *Sociol. Methods Res.* 33:261, 2004).

    Parameters
    ----------
    z : ndarray of shape (T, N)
        Series of one length; NaN is passed over.
    period : int
        m; 1 without a season.
    origins : sequence of int
        Increasing; forecasts from origin t have seen z[:t].
    horizon : int

    Returns
    -------
    forecasts : ndarray of shape (len(origins), horizon, N)
    criterion : ndarray of shape (N,)
        The least Akaike criterion of the grid at the last origin, without the count of seasonal values.
    """
    steps, n = z.shape
    period = period if period > 1 and steps >= 2 * period + 4 else 1
    alpha, beta, phi, gamma = (part[:, None] for part in _grid(period > 1))
    level, slope, season = (
        np.tile(part[..., None, :], (len(alpha), 1)) for part in _first_states(filled(z), period)
    )
    slope = np.where(beta > 0, slope, 0.0)
    count = 1 + 2 * (beta > 0) + (gamma > 0)
    total, seen = np.zeros((len(alpha), n)), np.zeros(n)
    damped = np.cumsum(phi ** np.arange(1, horizon + 1)[:, None, None], axis=0)
    scale = np.maximum(np.nanmax(np.abs(z), axis=0, initial=0.0, where=~np.isnan(z)), 1e-300) ** 2 * 1e-24
    forecasts, wanted, criterion = np.empty((len(origins), horizon, n)), 0, np.zeros(n)
    for t in range(steps + 1):
        while wanted < len(origins) and origins[wanted] == t:
            fit = np.maximum(seen, 1) * np.log((total + scale) / np.maximum(seen, 1)) + 2 * count
            criterion = fit.min(axis=0)
            weight = np.exp(-0.5 * (fit - criterion))
            weight /= weight.sum(axis=0)
            for k in range(horizon):
                forecasts[wanted, k] = (weight * (level + damped[k] * slope + season[(t + k) % period])).sum(
                    axis=0
                )
            wanted += 1
        if t == steps or wanted == len(origins):
            break
        moved = phi * slope
        error = z[t] - (level + moved + season[t % period])
        known = ~np.isnan(z[t])
        if known.all():
            seen += 1
        else:
            error, seen = np.where(known, error, 0.0), seen + known
        total += error * error
        level = level + moved + alpha * error
        slope = moved + beta * error
        if period > 1:
            season[t % period] += gamma * error
    return forecasts, criterion


def find_period(series: list[Floats], usual: Collection[int] = ()) -> int:
    """Return the period that series have in common, 1 where no season helps to forecast them.

    Candidates are the peaks of the autocorrelation of the differences and common periods. The one whose
    exponential smoothing has the least Akaike criterion, summed over the series, is taken.

    Parameters
    ----------
    series : list of ndarray of shape (T_i,)
    usual : collection of int
        Periods that the time stamps suggest.
    """
    found, peaks = [], set()
    for z in series:
        z = filled(z[recent(len(z), 1) :, None])[:, 0]
        if len(z) < 14 or not z.std() or not np.ptp(np.diff(z)):
            continue
        found.append((z - z.mean()) / z.std())
        peaks |= _peaks(found[-1])
    if not found:
        return 1
    longest = int(max(map(len, found)) / _CYCLES)
    calendar = {c for c in _CALENDAR for peak in peaks if abs(c - peak) <= max(1, 0.04 * c)}
    candidates = sorted(
        k
        for k in {*peaks, *_USUAL, *calendar, *usual}
        if 1 < k <= longest and (k <= _LONG or k in calendar or k in usual)
    )

    def criterion(period: int) -> float:
        total = 0.0
        for z in found:
            own = period if period * _CYCLES <= len(z) else 1
            total += smooth(z[:, None], own, [len(z)], 1)[1][0] + _PENALTY * min(own, _LONG) * (own > 1)
        return total

    values = {k: criterion(k) for k in (1, *candidates)}
    best = min(values, key=values.__getitem__)
    if best == 1 or values[best] > values[1] - 6:
        return 1
    for divisor in candidates:
        if divisor < best and best % divisor == 0:
            # A multiple of a period has to pay for all of its seasonal values.
            surplus = _PENALTY * (max(0, best - _LONG) - max(0, divisor - _LONG)) * len(found)
            if values[divisor] <= values[best] + surplus:
                return divisor
    return best


def _peaks(z: Floats) -> set[int]:
    """Return the lags of the four highest peaks of the autocorrelation of the differences."""
    steps, longest = len(z), int(len(z) / _CYCLES)
    difference = np.diff(z) - np.diff(z).mean()
    lags = min(steps - 3, longest + 1)
    spectrum = np.fft.rfft(difference, 2 ** int(2 * steps).bit_length())
    overlap = (steps - 1 - np.arange(lags + 1)) / (steps - 1)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: lags + 1] / overlap
    correlation /= correlation[0]
    inner = np.arange(2, min(longest, lags - 1) + 1)
    here = correlation[inner]
    high = (here >= correlation[inner - 1]) & (here >= correlation[inner + 1]) & (here > 1.6 / np.sqrt(steps))
    inner = inner[high]
    return set(inner[np.argsort(-correlation[inner], kind="stable")][:4].tolist())


def seasonal_adjustment(z: Floats, period: int, share: float = 0.1) -> tuple[Floats, Floats]:
    """Split a series into a season that changes slowly and the rest.

    The trend is a centered moving average over one period. The season of a phase is the mean of what is above
    the trend there, over the cycles before and after, weighted by (1 - share) to the power of their distance.

    Parameters
    ----------
    z : ndarray of shape (T, D)
        Without NaN.
    period : int
    share : float

    Returns
    -------
    adjusted : ndarray of shape (T, D)
    season : ndarray of shape (period, D)
        Of the steps that follow: that of T + k is ``season[k % period]``.
    """
    steps, columns = z.shape
    if period < 2 or steps < 2 * period + 2:
        return z, np.zeros((1, columns))
    half = period // 2
    kernel = np.ones(2 * half + 1) / period
    if period % 2 == 0:
        kernel[[0, -1]] /= 2
    totals = np.concatenate([np.zeros((1, columns)), np.cumsum(z - z.mean(axis=0), axis=0)])
    wide = totals[2 * half + 1 :] - totals[: -2 * half - 1]
    if period % 2 == 0:  # half the weight at both ends
        inner = totals[2 * half :] - totals[: -2 * half]
        wide = (inner[:-1] + inner[1:]) / 2
    middle = wide / period + z.mean(axis=0)
    ends = min(len(middle), period)
    line = np.arange(ends) - (ends - 1) / 2
    norm = max((line**2).sum(), 1.0)
    ahead = np.arange(1, half + 1)[:, None]
    before = middle[0] - line @ middle[:ends] / norm * ahead[::-1]
    after = middle[-1] + line @ middle[-ends:] / norm * ahead
    above = z - np.concatenate([before, middle, after])
    # A row for each cycle; what is missing of the first one weighs nothing.
    decay, cycles = 1 - share, -(-steps // period)
    lacking = cycles * period - steps
    values = np.concatenate([np.zeros((lacking, columns)), above]).reshape(cycles, period, columns)
    ones = (np.arange(cycles * period) >= lacking).astype(float).reshape(cycles, period, 1)

    def both_ways(rows: Floats) -> tuple[Floats, Floats]:
        past = lfilter([1.0], [1.0, -decay], rows, axis=0)
        return past, past + lfilter([1.0], [1.0, -decay], rows[::-1], axis=0)[::-1] - rows

    (past, total), (past_weight, weight) = both_ways(values), both_ways(ones)
    season = (total / weight).reshape(-1, columns)[lacking:]
    following = past[-1] / past_weight[-1]
    level = following.mean(axis=0)
    return z - season, following - level
