"""What `LSTMForecaster` computes: smoothing, regressions on lags, LSTMs, and their weighted mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.signal import lfilter
from scipy.stats import boxcox_normmax

from lstm_ext.callbacks import Callback, EarlyStopping
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model
from lstm_ext.sklearn import _lags
from lstm_ext.sklearn._network import to_dtype
from lstm_ext.sklearn._outputs import OutputDecoder
from lstm_ext.sklearn._series import usual_periods
from lstm_ext.sklearn._smoothing import filled, find_period, recent, seasonal_adjustment, smooth
from lstm_ext.training import fit_lbfgs

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import numpy.typing as npt

    from lstm_ext.distributed import DataParallel
    from lstm_ext.sklearn._forecaster import LSTMForecaster
    from lstm_ext.sklearn._series import Series
    from lstm_ext.sklearn._types import Bools, Floats, Integers, Reals
    from lstm_ext.training import EpochRecord

    State = dict[str, Any]  # what was learned, by name
    Member = tuple[Model, int]  # an LSTM, and the block of time that it has not learned from

PARTS = ("smoothing", "differences", "levels")
_N_BLOCKS = 5  # parts of time that are left out in turn, where members do not say how many
_ORIGINS = 400  # from which forecasts are judged, over all series
_EXAMINED = 20  # series whose periods are looked for
_LEADS = 12  # steps ahead for which errors are known at the least, if the series allows
# Of a member's training: steps of the optimizer without a lower validation loss, least and most; and in all.
_LEAST_PATIENCE, _MOST_PATIENCE, _MOST_STEPS = 100, 1000, 5000
_MOST_JUDGED = 1000  # windows on which a member's validation loss is taken
_DIRECT_TARGETS = 2**23  # numbers that the targets of direct forecasts may be
_AT_ONCE = 2**20  # numbers that the LSTM reads at a time in inference
_BELIEF = 30  # independent errors that it takes to believe half of what forecasts have in common
_GROUPS = 10  # of origins, over which the gain of the LSTM's correction is compared
_SURE = 1.5  # standard errors that the gain has to have, to be used at all


# ---- transforms


def transformed(state: State, y: Floats) -> Floats:
    """Return the series on the scale of the transform."""
    name = state["transform"]
    if name == "log":
        return np.log(y)
    if name == "log1p":
        return np.log1p(y)
    if name == "boxcox":
        power = state["power"]
        safe = np.where(power == 0, 1.0, power)
        return np.where(power == 0, np.log(y), (y**safe - 1) / safe)
    return y


def _untransformed(state: State, z: Floats) -> Floats:
    name = state["transform"]
    if name == "log":
        return np.exp(z)
    if name == "log1p":
        return np.expm1(z)
    if name == "boxcox":
        power = state["power"]
        safe = np.where(power == 0, 1.0, power)
        return np.where(power == 0, np.exp(z), np.maximum(safe * z + 1, 1e-300) ** (1 / safe))
    return z


def inverse(state: State, z: Floats, past: Past) -> Floats:
    """Return transformed levels (h, D) in the series' own units, kept within what is plausible."""
    if state["transform"] == "none":
        return z
    # A forecast on a log scale that runs away becomes infinite: ten ranges beyond the past are enough.
    low, high = np.nanmin(past.levels, axis=0), np.nanmax(past.levels, axis=0)
    margin = 10 * np.maximum(high - low, 1e-6) + 1
    return _untransformed(state, np.clip(z, low - margin, high + margin))


# ---- the past of a series


def _scale_of(adjusted: Floats) -> Floats:
    step = np.diff(adjusted, axis=0)
    scale = np.sqrt(np.mean(step**2, axis=0)) if len(step) else np.zeros(adjusted.shape[1])
    spread = adjusted.std(axis=0)
    tiny = 1e-10 * np.maximum(np.abs(adjusted).max(axis=0, initial=0.0), spread)
    return np.where(scale > tiny, scale, np.where(spread > tiny, spread, 1.0))


def _slow(u: Floats, window: int) -> Floats:
    """Exponential moving average of u (T, D) over about `window` steps."""
    share = 2 / (window + 1)
    first = u[: max(1, min(window, len(u)) // 2)].mean(axis=0)
    average: Floats = lfilter([share], [1.0, share - 1], u, axis=0, zi=((1 - share) * first)[None])[0]
    return average


class Past:
    """A series up to an origin, in the units in which the regressions and the LSTMs read it.

    Parameters
    ----------
    state : dict
    y : ndarray of shape (T, D)
    X : ndarray of shape (T + h, K)
        Standardized.
    whole : bool
        Keep all steps, to learn from them; else those that a forecast needs.

    Attributes
    ----------
    levels : ndarray of shape (T, D)
        Transformed.
    z : ndarray
        Differences of the levels, or the levels: what smoothing reads. NaN where it is missing.
    v, u : ndarray
        Without gaps, relative to `mean` and `scale`: with its season and without it.
    season : ndarray of shape (m, D)
        Of the steps that follow, in units of `scale`.
    slow : ndarray
        A moving average of u, which the LSTM reads u relative to.
    """

    def __init__(self, state: State, y: Floats, X: Floats, whole: bool = False) -> None:
        lag, period, window = state["lag"], state["period"], state["window"]
        self.lag, self.levels = lag, transformed(state, y)
        z = self.levels[lag:] - self.levels[:-lag] if lag else self.levels
        start = min(recent(len(z), period), max(0, len(z) - window - 1))
        self.z = z[start:]
        rest = filled(z)
        adjusted, season = seasonal_adjustment(rest if whole else rest[start:], period)
        latest = adjusted[start:] if whole else adjusted
        if state["absolute"] or not state["scaled"]:
            self.mean, self.scale = np.zeros(z.shape[1]), np.ones(z.shape[1])
        else:
            self.mean, self.scale = latest.mean(axis=0), _scale_of(latest)
        self.v = ((rest if whole else rest[start:]) - self.mean) / self.scale
        self.u = (adjusted - self.mean) / self.scale
        self.season = season / self.scale
        self.slow = np.zeros_like(self.u) if state["absolute"] else _slow(self.u, window)
        self.X = X[lag:] if whole else X[lag + start :]
        if not whole:
            ahead = len(X) - len(y)
            self.v, self.slow = self.v[-window:], self.slow[-window:]
            short = window + 1 - len(self.u)
            self.u = np.concatenate([np.repeat(self.u[:1], max(short, 0), axis=0), self.u[-window - 1 :]])
            self.X = self.X[-window - ahead :]

    def seasons(self, horizon: int) -> Floats:
        """Season of the steps that follow, (h, D)."""
        return self.season[np.arange(horizon) % len(self.season)]

    def in_levels(self, path: Floats) -> Floats:
        """Add up differences, if the state has them: transformed levels of a path (h, D) of z."""
        if not self.lag:
            return path
        known = np.concatenate([self.levels[-self.lag :], np.empty_like(path)])
        for step in range(len(path)):
            known[self.lag + step] = known[step] + path[step]
        return known[self.lag :]


# ---- forecasts


def smoothed(pasts: list[Past], period: int, horizon: int) -> Floats:
    """Forecasts of exponential smoothing, (N, h, D), in the units of z."""
    found = np.empty((len(pasts), horizon, pasts[0].z.shape[1]))
    for rows in _alike([len(past.z) for past in pasts]):
        z = np.concatenate([pasts[row].z for row in rows], axis=1)
        ahead = smooth(z, period, [len(z)], horizon)[0][0]
        for row, part in zip(rows, np.split(ahead, len(rows), axis=1), strict=True):
            found[row] = part
    return found


def _alike(keys: Sequence[Hashable]) -> list[list[int]]:
    """Return the positions of each different key, a few at a time."""
    positions: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        positions.setdefault(key, []).append(position)
    return [rows[start : start + 64] for rows in positions.values() for start in range(0, len(rows), 64)]


def _readout(
    models: list[Model], hidden: list[Reals], decoder: OutputDecoder, size: Floats
) -> tuple[Floats, Floats | None]:
    """Mean over the members: corrections (N, ..., D) and widths, or None."""
    corrections: list[Reals] = []
    widths: list[Reals] = []
    for model, state in zip(models, hidden, strict=True):
        outputs = state.astype(np.float64) @ model.weight.T.astype(np.float64) + model.bias.astype(np.float64)
        values = decoder.decode(outputs, np.zeros_like(size), size)
        middle = values[0]
        if decoder.axis:
            widths.append((values[0][..., -1] - values[0][..., 0]) / 2)
            middle = values[0][..., 1]
        elif len(values) > 1:
            widths.append(values[1])
        corrections.append(middle)
    return np.mean(corrections, axis=0), np.mean(widths, axis=0) if widths else None


def regressed(
    state: State, pasts: list[Past], horizon: int, block: int, models: list[Model], decoder: OutputDecoder,
    share: Floats,
) -> dict[str, Any]:
    """Forecasts of both regressions, and of that of the levels with the LSTMs.

    Parameters
    ----------
    state : dict
    pasts : list of Past
    horizon : int
    block : int
        The part of time that the regressions have not learned from; -1: none.
    models : list of Model
    decoder : OutputDecoder
    share : ndarray of shape (D,)
        Of the LSTMs' correction that is used.

    Returns
    -------
    dict
        differences, levels, base (levels without the correction): (N, h, D) in units of z. spread: None, or
        how wide the LSTMs say the errors are, relative to their usual width, (N, h, D) or (N, 1, D).
    """
    v, u = np.stack([past.v for past in pasts]), np.stack([past.u for past in pasts])
    X = np.stack([past.X for past in pasts])
    short, direct = state["level_window"], state["ahead"] > 1
    level = state["levels"][block] if direct else state["levels"][block, 0]
    difference = state["differences"][block] if direct else state["differences"][block, 0]
    paths: dict[str, Any] = {
        "differences": _lags.forecast(difference, v, X, horizon),
        "base": _lags.forecast(level, u[:, -short:], X[:, state["window"] - short :], horizon),
        "spread": None,
    }
    paths["levels"] = paths["base"]
    if models:
        slow = np.stack([past.slow for past in pasts])
        step = _direct if direct else _recursive
        size = max(1, _AT_ONCE // (u.shape[1] * max(models[0].lstm.output_size, 8)))
        parts = [
            step(
                state,
                u[k : k + size],
                slow[k : k + size],
                X[k : k + size],
                horizon,
                level,
                models,
                decoder,
                share,
                paths["base"][k : k + size],
            )
            for k in range(0, len(u), size)
        ]
        paths["levels"] = np.concatenate([part[0] for part in parts])
        if parts[0][1] is not None:
            usual = state["usual_spread"]
            spread = np.concatenate([part[1] for part in parts if part[1] is not None])
            paths["spread"] = np.clip(spread / usual[: spread.shape[1]], 0.2, 5.0)
    mean, scale = (np.stack([getattr(past, name) for past in pasts])[:, None] for name in ("mean", "scale"))
    season = np.stack([past.seasons(horizon) for past in pasts])
    for name in (*PARTS[1:], "base"):
        if state["absolute"] and name == "base":
            continue
        paths[name] = mean + scale * (paths[name] + (0 if name == "differences" else season))
    return paths


def _features(state: State, u: Floats, slow: Floats, X: Floats, dtype: npt.DTypeLike) -> Reals:
    """Return what the LSTM reads: steps of u, u relative to its moving average, X of the next step."""
    step = np.diff(u, axis=-2) / state["step_size"]
    rows = [step, (u[..., 1:, :] - slow) / state["slow_size"], X]
    if state["ahead"] > 1:
        rows.append(np.zeros((*step.shape[:-1], 1)))
    return to_dtype("y", np.concatenate(rows, axis=-1), dtype)


def _recursive(
    state: State, u: Floats, slow: Floats, X: Floats, horizon: int, level: Floats, models: list[Model],
    decoder: OutputDecoder, share: Floats, base: Floats,
) -> tuple[Floats, Floats | None]:
    window, short, dtype = state["window"], state["level_window"], models[0].lstm.dtype
    count, _, columns = u.shape
    features = _features(state, u, slow, X[:, 1 : window + 1], dtype)
    hidden, states = [], []
    for model in models:
        out, final = model.lstm(features)
        hidden.append(out[:, -1])
        states.append(final)
    lags = np.concatenate([u[:, -short:], np.empty((count, horizon, columns))], axis=1)
    slow, last, spread = slow[:, -1], u[:, -1], None
    decay = 2 / (window + 1)
    for step in range(horizon):
        correction, width = _readout(models, hidden, decoder, state["residual_size"][0])
        if step == 0 and width is not None:
            spread = width[:, None]
        if state["absolute"]:
            value = np.log1p(correction)
        else:
            latest = np.maximum(window + step - np.arange(3), 0)
            rows = np.column_stack([
                lags[:, step : step + short].reshape(count, -1), X[:, latest].reshape(count, -1),
                np.ones(count),
            ])
            value = rows @ level + share * correction
        lags[:, short + step] = value
        if step + 1 < horizon:
            slow = np.zeros_like(slow) if state["absolute"] else slow + decay * (value - slow)
            features = _features(
                state, np.stack([last, value], axis=1), slow[:, None], X[:, window + step + 1, None], dtype
            )
            for number, model in enumerate(models):
                out, states[number] = model.lstm(features, states[number])
                hidden[number] = out[:, -1]
            last = value
    return lags[:, short:], spread


def _direct(
    state: State, u: Floats, slow: Floats, X: Floats, horizon: int, level: Floats, models: list[Model],
    decoder: OutputDecoder, share: Floats, base: Floats,
) -> tuple[Floats, Floats | None]:
    window, dtype = state["window"], models[0].lstm.dtype
    features = _features(state, u, slow, X[:, 1 : window + 1], dtype)
    beyond = np.zeros((len(u), horizon - 1, features.shape[2]), features.dtype)
    n_exogenous = X.shape[2]
    beyond[..., -1] = 1
    beyond[..., beyond.shape[2] - 1 - n_exogenous : -1] = X[:, window + 1 : window + horizon]
    features = np.concatenate([features, beyond], axis=1)
    hidden = [model.lstm(features)[0][:, window - 1 :] for model in models]
    correction, width = _readout(models, hidden, decoder, state["residual_size"][:horizon])
    return (np.log1p(correction) if state["absolute"] else base + share * correction), width


def combined(
    state: State, pasts: list[Past], paths: dict[str, Any], weights: Floats
) -> tuple[Floats, Floats]:
    """Return the weighted mean of the parts in the series' units, and transformed, (N, h, D) each."""
    found, middle = [], []
    for row, past in enumerate(pasts):
        total = np.zeros(paths["smoothing"].shape[1:])
        for part, weight in zip(PARTS, weights, strict=True):
            if np.any(weight):
                total = total + weight * inverse(state, past.in_levels(paths[part][row]), past)
        found.append(total)
        middle.append(transformed(state, np.maximum(total, 0) if state["transform"] == "log1p" else total))
    return np.stack(found), np.stack(middle)


# ---- learning


class _Windows:
    """Windows of rows, cut when they are asked for: what `Model.fit` reads piece by piece."""

    random_access = True

    def __init__(self, rows: Reals, starts: Integers, steps: int, hidden: tuple[int, int] | None) -> None:
        self.rows, self.starts, self.steps, self.hidden = rows, starts, steps, hidden
        self.dtype, self.shape = rows.dtype, (len(starts), steps, rows.shape[1])

    def __getitem__(self, index: Integers) -> Reals:
        found: Reals = self.rows[self.starts[index][:, None] + np.arange(self.steps)]
        if self.hidden is not None:
            known, columns = self.hidden
            found[:, known:, :columns] = 0
            found[:, known:, -1] = 1
        return found


class _Curve(Callback):
    """Records the losses of a member."""

    def __init__(self, number: int, prints: bool) -> None:
        self.number, self.prints = number, prints
        self.losses: dict[str, list[float]] = {"loss": [], "validation_loss": []}

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Take the record of an epoch."""
        self.losses["loss"].append(float(record["loss"]))
        if "validation_loss" in record:
            self.losses["validation_loss"].append(float(record["validation_loss"]))
        if self.prints:
            more = f", validation loss {record['validation_loss']:.6g}" if "validation_loss" in record else ""
            print(f"Member {self.number + 1}, iteration {record['epoch']}, loss {record['loss']:.6g}{more}")


class Fit:
    """What is learned from series: `state`, a dict of numbers and arrays, and the members.

    Parameters
    ----------
    estimator : LSTMForecaster
        Its parameters are read.
    series : Series
    inputs : list of ndarray of shape (T_i, K)
        Standardized.
    ahead : int
        Steps that are learned at once: 1, or the horizon.
    weights : list of ndarray of shape (T_i,)
        What each step counts as a target.
    """

    def __init__(
        self, estimator: LSTMForecaster, series: Series, inputs: list[Floats], ahead: int,
        weights: list[Floats],
    ) -> None:
        self.estimator, self.values, self.inputs, self.ahead = estimator, series.values, inputs, ahead
        self.columns, self.weights = series.values[0].shape[1], weights
        self.curves: list[dict[str, list[float]]] = []
        self.decoder = OutputDecoder(estimator.loss, _levels(estimator.coverage))
        self.positive = all(np.nanmin(one, initial=np.inf, where=~np.isnan(one)) > 0 for one in self.values)
        self.period = self._period(series)
        lag = estimator._lag
        shortest = min(len(one) for one in self.values) - lag
        if estimator.window == "auto":
            longest = max(1, min(shortest // 3, shortest - ahead - 1))
            self.window = max(1, min(max(2 * self.period, 24), longest))
            self.level_window = max(1, min(max(self.period, 12), shortest // 4, self.window))
        else:
            self.window = self.level_window = int(estimator.window)
        # Each member learns from all blocks but two: one ends its training, one judges it.
        self.n_blocks = max(_N_BLOCKS, 2 * estimator.n_members)
        if estimator.n_members == 1:
            self.n_blocks = min(20, max(_N_BLOCKS, round(1 / estimator.validation_fraction)))
        self.n_blocks = max(2, min(self.n_blocks, (shortest - self.window) // 2))
        self.edges = [self._edges(len(one) - lag) for one in self.values]
        # The root mean square of the steps of each series: errors of all series are in this unit.
        self.unit = np.stack([_scale_of(filled(one)) for one in self.values])
        self.leads = max(estimator.horizon, min(max(_LEADS, self.period), (shortest - self.window) // 4), 1)
        if ahead > 1:
            self.leads = estimator.horizon
        self._choose_origins(lag)
        # Errors of overlapping forecasts are alike: about one for each horizon is new.
        self.independent = sum(one.sum() for one in weights) / estimator.horizon

    def _period(self, series: Series) -> int:
        if self.estimator.period != "auto":
            return int(self.estimator.period)
        chosen = np.unique(np.linspace(0, len(series) - 1, min(len(series), _EXAMINED)).astype(int))
        usual = {period for number in chosen for period in usual_periods(series.indexes[number])}
        return find_period([column for number in chosen for column in series.values[number].T], usual)

    def _edges(self, steps: int) -> Integers:
        """Return where the blocks of a series begin; the first has the steps before the first window, too."""
        edges = self.window + np.arange(self.n_blocks + 1) * (steps - self.window) // self.n_blocks
        edges[0] = 0
        return edges

    def _choose_origins(self, lag: int) -> None:
        """Choose from where forecasts are judged: (number of series, its steps until then, block)."""
        chosen = np.unique(np.linspace(0, len(self.values) - 1, min(len(self.values), _ORIGINS)).astype(int))
        each = max(2, _ORIGINS // len(chosen))
        self.origins = []
        for number in chosen:
            steps = len(self.values[number]) - lag
            first = min(
                max(self.window + 1, 2 * self.period + 4 if steps > 3 * self.period + 8 else 0), steps - 1
            )
            ends = np.unique(np.linspace(first, steps - 1, min(each, steps - first)).astype(int))
            blocks = np.searchsorted(self.edges[number], ends, side="right") - 1
            self.origins += [
                (int(number), int(end) + lag, int(block)) for end, block in zip(ends, blocks, strict=True)
            ]
        # Later errors say more about those to come: half a weight for each third of the series before its
        # end.
        ages = np.array([self._age(*origin) for origin in self.origins])
        late = []
        for (number, end, _), value in zip(self.origins, 0.5 ** (3 * ages), strict=True):
            counted = np.zeros(self.leads)
            ahead = self.weights[number][end : end + self.leads]
            counted[: len(ahead)] = ahead
            late.append(value * counted[:, None])
        self.late = np.stack(late)

    def _age(self, number: int, end: int, block: int) -> float:
        """How far before the end of its series an origin lies, 0 to 1."""
        return 1 - end / len(self.values[number])

    # ---- smoothing and regressions

    def choose_transform(self) -> None:
        """Fit the parts without LSTMs, with the transform that forecasts best."""
        wanted, absolute = self.estimator.transform, self.estimator.loss == "poisson"
        if wanted in ("log", "boxcox") and not self.positive:
            raise ValueError(
                f"transform is {wanted!r}; expected None or 'auto' for y with values that are not above 0"
            )
        names = ["none" if wanted is None else wanted]
        if absolute:
            names = ["log1p"]
        elif wanted == "auto":
            names = ["none", "log"] if self.positive else ["none"]
        best = np.inf
        for name in names:
            state, wholes = self._fit_parts(name)
            judged = self._judge_parts(state)
            weights, error = self._weigh(state, judged)
            if error < best or best == np.inf:
                best, self.state, self.judged, self.wholes = error, state, judged, wholes
                self.state["weights"] = weights

    def _fit_parts(self, name: str) -> tuple[State, list[Past]]:
        estimator = self.estimator
        state: State = {
            "transform": name,
            "power": np.zeros(self.columns),
            "lag": estimator._lag,
            "period": self.period,
            "window": self.window,
            "level_window": self.level_window,
            "ahead": self.ahead,
            "absolute": estimator.loss == "poisson",
            "scaled": bool(estimator.scale),
            "share": np.zeros(self.columns),
        }
        if name == "boxcox":
            state["power"] = np.array(
                [
                    _power(np.concatenate([one[:, column] for one in self.values]))
                    for column in range(self.columns)
                ]
            )
        wholes = [Past(state, y, X, whole=True) for y, X in zip(self.values, self.inputs, strict=True)]
        gaps = []
        for y in self.values:
            z = transformed(state, y)
            gaps.append(np.isnan(z[state["lag"] :] - z[: -state["lag"]] if state["lag"] else z))
        state |= self._regress(state, wholes, gaps)
        self.gaps = gaps
        return state, wholes

    def _regress(self, state: State, wholes: list[Past], gaps: list[Bools]) -> dict[str, Floats]:
        """Fit both regressions, without each block and on all: arrays (blocks + 1, leads, P, D)."""
        found = {}
        X, weights = [whole.X for whole in wholes], [one[state["lag"] :] for one in self.weights]
        for part, read, window, relative, period in (
            ("differences", "v", self.window, True, self.period),
            ("levels", "u", self.level_window, False, 1),
        ):
            rows = [getattr(whole, read) for whole in wholes]
            targets = [np.where(gap, np.nan, row) for row, gap in zip(rows, gaps, strict=True)]
            leads = []
            for lead in range(1, self.ahead + 1):
                sums = _lags.moments(rows, X, targets, window, lead, self.edges, weights)
                total = sums.sum(axis=0)
                leads.append(
                    [
                        _lags.fit(total - left_out, window, self.columns, period, relative)
                        for left_out in [*sums, np.zeros_like(total)]
                    ]
                )
            found[part] = np.array(leads).swapaxes(0, 1)
        if state["absolute"]:
            found = {part: np.zeros_like(values) for part, values in found.items()}
        return found

    def _judge_parts(self, state: State) -> dict[str, Any]:
        """Forecast from the origins: a dict of paths, the pasts, and the truth, (N, h, D)."""
        horizon, pasts, truths = self.leads, [], []
        for number, end, _ in self.origins:
            y, X = self.values[number], self.inputs[number]
            ahead = X[end : end + horizon]
            lacking = horizon - len(ahead)
            ahead = np.concatenate([X[:end], ahead, np.repeat(X[-1:], lacking, axis=0)])
            pasts.append(Past(state, y[:end], ahead))
            following = y[end : end + horizon]
            truths.append(
                np.concatenate([following, np.full((horizon - len(following), self.columns), np.nan)])
            )
        truth = np.stack(truths)
        paths = {"smoothing": self._smooth_origins(state, horizon)}
        paths |= self._by_block(state, pasts, horizon, [], np.zeros(self.columns))
        unit = np.stack([self.unit[number] for number, _, _ in self.origins])[:, None]
        parts = {}
        for part in PARTS:
            values = [
                inverse(state, past.in_levels(path), past)
                for past, path in zip(pasts, paths[part], strict=True)
            ]
            parts[part] = (np.stack(values) - truth) / unit
        return {"pasts": pasts, "truth": truth, "paths": paths, "errors": parts, "unit": unit}

    def _smooth_origins(self, state: State, horizon: int) -> Floats:
        """Smoothing from all origins, in one pass over each series."""
        lag, found = state["lag"], np.empty((len(self.origins), horizon, self.columns))
        rows_of: dict[int, list[tuple[int, int]]] = {}
        for row, (number, end, _) in enumerate(self.origins):
            rows_of.setdefault(number, []).append((row, end - lag))
        numbers = list(rows_of)
        keys = [(len(self.values[number]), tuple(end for _, end in rows_of[number])) for number in numbers]
        for places in _alike(keys):
            z = []
            for place in places:
                levels = transformed(state, self.values[numbers[place]])
                z.append(levels[lag:] - levels[:-lag] if lag else levels)
            first = keys[places[0]][1][0]
            start = recent(first, self.period)
            ends = [end - start for end in keys[places[0]][1]]
            ahead = smooth(np.concatenate(z, axis=1)[start:], self.period, ends, horizon)[0]
            for place, part in zip(places, np.split(ahead, len(places), axis=2), strict=True):
                for (row, _), path in zip(rows_of[numbers[place]], part, strict=True):
                    found[row] = path
        return found

    def _by_block(
        self, state: State, pasts: list[Past], horizon: int, members: list[Member], share: Floats
    ) -> dict[str, Floats]:
        """Forecast by regressions and members, each from the origins of the block that it does not know."""
        found: dict[str, Floats] = {}
        blocks = np.array([block for _, _, block in self.origins])
        for block in np.unique(blocks):
            rows = np.flatnonzero(blocks == block)
            models = [model for model, left in members if left == block]
            paths = regressed(
                state, [pasts[row] for row in rows], horizon, block, models, self.decoder, share
            )
            for name, path in paths.items():
                if path is None:
                    continue
                whole = found.setdefault(name, np.full((len(pasts), *path.shape[1:]), np.nan))
                whole[rows] = path
        return found

    def _mean(self, values: Floats, horizon: int) -> Floats:
        """Mean of values (N, h, D) over origins and leads up to a horizon; late origins count more."""
        values = values[:, :horizon]
        weight = np.where(np.isfinite(values), self.late[:, : values.shape[1]], 0.0)
        total = (weight * np.where(weight > 0, values, 0.0)).sum(axis=(0, 1))
        mean: Floats = total / np.maximum(weight.sum(axis=(0, 1)), 1e-300)
        return mean

    def _weigh(self, state: State, judged: dict[str, Any]) -> tuple[Floats, float]:
        """Weights of the parts by their errors, (3, D), and the error of the weighted mean."""
        horizon = self.estimator.horizon
        errors = [judged["errors"][part] for part in PARTS]
        products = np.array([[self._mean(one * other, horizon) for other in errors] for one in errors])
        used = [True, self.estimator.difference == "auto" and not state["absolute"], True]
        weights = np.stack(
            [_least(products[..., column], self.independent, used) for column in range(self.columns)], axis=1
        )
        total = sum(w * judged["errors"][part] for part, w in zip(PARTS, weights, strict=True))
        return weights, float(self._mean(total**2, horizon).mean())

    # ---- LSTMs

    def train(
        self, rng: np.random.Generator, models: list[Model] | None, comm: DataParallel | None
    ) -> list[Model]:
        """Train the members, each without one block of time; return them."""
        estimator, state = self.estimator, self.state
        wholes = self.wholes
        n_exogenous = self.inputs[0].shape[1]
        steps = np.concatenate([np.diff(whole.u, axis=0) for whole in wholes])
        slow = np.concatenate([whole.u - whole.slow for whole in wholes])
        for name, values in (("step_size", steps), ("slow_size", slow)):
            size = np.sqrt(np.mean(values**2, axis=0)) if len(values) else np.ones(self.columns)
            state[name] = np.where(size > 0, size, 1.0)
        rows, starts, targets, owners = [], [], [], []
        offset, reach = 0, self.window + self.ahead - 1
        for number, whole in enumerate(wholes):
            u = np.concatenate([whole.u[:1], whole.u])
            X = np.concatenate([whole.X[1:], np.zeros((1, n_exogenous))])
            rows.append(_features(state, u, whole.slow, X, estimator.dtype))
            count = len(whole.u) - reach
            if count > 0:
                starts.append(offset + np.arange(count))
                targets.append(self.window + np.arange(count))
                owners.append(np.full(count, number))
            offset += len(whole.u)
        self.rows = np.concatenate(rows)
        starts, targets, owners = (np.concatenate(parts) for parts in (starts, targets, owners))
        if self.ahead > 1:
            stride = -(-len(starts) * (reach * self.columns) // _DIRECT_TARGETS)
            starts, targets, owners = starts[::stride], targets[::stride], owners[::stride]
        blocks = np.empty(len(starts), int)
        for number, edges in enumerate(self.edges):
            mine = owners == number
            blocks[mine] = np.searchsorted(edges, targets[mine], side="right") - 1
        state["residual_size"] = self._residual_size(wholes)
        trained, self.members = [], []
        for number in range(estimator.n_members):
            ends, left = (
                (self.n_blocks - 1 - 2 * number) % self.n_blocks,
                (self.n_blocks - 2 - 2 * number) % self.n_blocks,
            )
            model = models[number] if models and number < len(models) else self._new_model(rng)
            residual = self._residuals(wholes, left)
            self._train_member(model, number, residual, starts, blocks, (ends, left), rng, comm)
            trained.append(model)
            self.members.append((model, left))
        return trained

    def _new_model(self, rng: np.random.Generator) -> Model:
        estimator, state = self.estimator, self.state
        lstm = LSTM(
            self.rows.shape[1],
            estimator.hidden_size,
            estimator.num_layers,
            dtype=estimator.dtype,
            rng=rng,
            **(estimator.lstm_options or {}),
        )
        model = Model(
            lstm,
            self.columns * self.decoder.per_target,
            every_step=self.ahead > 1,
            loss=self.decoder.loss,
            rng=rng,
        )
        if not state["absolute"]:
            model.weight[...] = 0  # begins as the regression only
        values = np.concatenate(self.values)
        model.bias[...] = self.decoder.initial_bias(values)
        return model

    def _residuals(self, wholes: list[Past], block: int) -> list[Floats]:
        """Return what the regression of the levels without `block` leaves: for each lead, (sum of T, D)."""
        found = []
        coefficients = self.state["levels"][block]
        for lead in range(1, self.ahead + 1):
            parts = []
            for number, whole in enumerate(wholes):
                left = np.full_like(whole.u, np.nan)
                steps = np.arange(self.level_window + lead - 1, len(whole.u))
                if self.state["absolute"]:
                    left[steps] = self.values[number][self.state["lag"] :][steps]
                else:
                    left[steps] = whole.u[steps] - _lags.one_step(
                        coefficients[lead - 1], whole.u, whole.X, self.level_window, lead, steps
                    )
                left[self.gaps[number]] = np.nan
                parts.append(left)
            found.append(np.concatenate(parts))
        return found

    def _residual_size(self, wholes: list[Past]) -> Floats:
        if self.state["absolute"]:
            return np.ones((self.ahead, self.columns))
        size = np.stack([np.sqrt(np.nanmean(left**2, axis=0)) for left in self._residuals(wholes, -1)])
        return np.where(np.isfinite(size) & (size > 1e-12), size, 1.0)

    def _targets(self, residual: list[Floats], starts: Integers) -> Floats:
        """Targets of windows: (n, D), or (n, steps, D) for direct forecasts."""
        size: Floats = self.state["residual_size"]
        end = starts + self.window
        if self.ahead == 1:
            targets: Floats = residual[0][end] / size[0]
            return targets
        inside = residual[0][starts[:, None] + 1 + np.arange(self.window - 1)] / size[0]
        beyond = [residual[lead][end + lead] / size[lead] for lead in range(self.ahead)]
        return np.concatenate([inside, np.stack(beyond, axis=1)], axis=1)

    def _target_weights(self, starts: Integers) -> Floats:
        """Return the weights of the targets of windows, (n,) or, for direct forecasts, (n, steps)."""
        weights: Floats = np.concatenate([one[self.state["lag"] :] for one in self.weights])
        end = starts + self.window
        if self.ahead == 1:
            return weights[end]
        offsets = np.concatenate([np.arange(1, self.window), self.window + np.arange(self.ahead)])
        by_step: Floats = weights[starts[:, None] + offsets]
        return by_step

    def _train_member(
        self, model: Model, number: int, residual: list[Floats], starts: Integers, blocks: Integers,
        aside: tuple[int, int], rng: np.random.Generator, comm: DataParallel | None,
    ) -> None:
        estimator = self.estimator
        hidden = (self.window, 2 * self.columns) if self.ahead > 1 else None
        reach = self.window + self.ahead - 1

        def data(index: Integers) -> tuple[Any, Reals, Floats | None]:
            # The windows are Any: Model.fit takes arrays, and what has their shape, dtype and indexing.
            y = self._targets(residual, starts[index])
            known = ~np.isnan(y).any(axis=-1)
            y = to_dtype("y", np.nan_to_num(y, nan=0.0), estimator.dtype)
            weight = known * self._target_weights(starts[index])
            windows = _Windows(self.rows, starts[index], reach, hidden)
            return windows, y, None if (weight == 1).all() else weight

        ends, judges = aside
        left = np.isin(blocks, [ends, judges] if estimator.early_stopping else [judges])
        reaching = left.copy()
        for shift in range(1, self.ahead):  # windows whose targets reach into what is left out
            reaching[:-shift] |= left[shift:] & (starts[shift:] - starts[:-shift] == shift)
        learn, aside = np.flatnonzero(~reaching), np.flatnonzero(blocks == ends)
        x, y, weight = data(learn)
        counted = len(learn) if weight is None else int(weight.reshape(len(weight), -1).any(axis=1).sum())
        curve = _Curve(number, estimator.verbose)
        self.curves.append(curve.losses)
        if not counted:
            model.parameters[...] = 0 if not self.state["absolute"] else model.parameters
            curve.losses["loss"].append(0.0)
            return
        per_epoch = -(-counted // estimator.batch_size)
        validation = stopping = None
        if estimator.early_stopping and len(aside):
            aside = aside[
                np.unique(np.linspace(0, len(aside) - 1, min(len(aside), _MOST_JUDGED)).astype(int))
            ]
            x_aside, y_aside, weight_aside = data(aside)
            if weight_aside is None or weight_aside.any():
                validation = {
                    "x": x_aside[np.arange(len(aside))],
                    "y": y_aside,
                    "sample_weight": weight_aside,
                }
                least, most = -(-_LEAST_PATIENCE // per_epoch), max(1, _MOST_PATIENCE // per_epoch)
                patience = 10 if estimator.n_iter_no_change == "auto" else estimator.n_iter_no_change
                if estimator.n_iter_no_change == "auto":
                    patience = min(max(patience, least), most)
                stopping = EarlyStopping(patience, 0.0, "validation_loss")
        epochs = estimator.max_iter
        if epochs == "auto":
            epochs = max(1, min(max(200, -(-1000 // per_epoch)), _MOST_STEPS // per_epoch))
        options: dict[str, Any] = {
            "validation": validation,
            "early_stopping": stopping,
            "callbacks": [curve, *(estimator.callbacks or ())],
        }
        if estimator.solver == "lbfgs":
            fit_lbfgs(
                model,
                x[np.arange(len(learn))],
                y,
                sample_weight=weight,
                max_iter=epochs,
                tol=estimator.tol,
                weight_decay=estimator.alpha,
                **options,
            )
            if not curve.losses["loss"]:
                curve.losses["loss"].append(0.0)
            return
        model.fit(
            x,
            y,
            sample_weight=weight,
            epochs=epochs,
            batch_size=estimator.batch_size,
            optimizer=estimator._new_optimizer(),
            rng=rng,
            comm=comm,
            **options,
        )

    # ---- what the forecasts are worth

    def judge(self, members: list[Model]) -> None:
        """Find the share of the LSTMs' correction, the weights, and the size of errors."""
        state, judged = self.state, self.judged
        if members:
            blocks = np.array([block for _, _, block in self.origins])
            left = {block for _, block in self.members}
            seen = np.isin(blocks, list(left))
            ones = np.ones(self.columns)
            state["usual_spread"] = np.ones((self.leads, self.columns))
            paths = self._by_block(state, judged["pasts"], self.leads, self.members, ones)
            if "spread" in paths:
                usual = np.nanmean(paths["spread"][seen], axis=0)
                usual = np.where(np.isfinite(usual) & (usual > 0), usual, 1.0)
                state["usual_spread"] = np.concatenate(
                    [usual, np.repeat(usual[-1:], self.leads - len(usual), axis=0)]
                )
                judged["spread"] = np.where(
                    seen[:, None, None], np.clip(paths["spread"] / usual, 0.2, 5.0), 1.0
                )
            state["share"] = ones if state["absolute"] else self._share(paths, seen)
            before = judged["paths"]["levels"]
            corrected = before + state["share"] * (paths["levels"] - paths.get("base", before))
            if state["absolute"]:
                corrected = paths["levels"]
            judged["paths"]["levels"] = np.where(seen[:, None, None], corrected, before)
            values = [
                inverse(state, past.in_levels(path), past)
                for past, path in zip(judged["pasts"], judged["paths"]["levels"], strict=True)
            ]
            judged["errors"]["levels"] = (np.stack(values) - judged["truth"]) / judged["unit"]
            if state["absolute"]:  # nothing but members can forecast here
                for part in PARTS:
                    judged["errors"][part][~seen] = np.nan
            state["weights"] = self._weigh(state, judged)[0]
        state["interval"] = self._interval()

    def _share(self, paths: dict[str, Floats], seen: Bools) -> Floats:
        """Return the share of the correction of least squared error, less where its gain is uncertain."""
        horizon = self.estimator.horizon
        truth = self._true_paths()
        base = (paths["base"] - truth)[seen][:, :horizon]
        change = (paths["levels"] - paths["base"])[seen][:, :horizon]
        scale = np.stack([past.scale for past in self.judged["pasts"]])[seen][:, None]
        base, change = base / scale, np.where(np.isnan(base), np.nan, change) / scale
        total = np.nansum(change**2, axis=(0, 1))
        share = np.clip(-np.nansum(base * change, axis=(0, 1)) / np.maximum(total, 1e-300), 0.0, 1.0)
        gain = np.nansum(np.square(base) - np.square(base + share * change), axis=1)
        # Groups of origins that lie together in time: what is gained in one may be lost in the next.
        order = np.argsort([-self._age(*origin) for origin in self.origins], kind="stable")
        order = [row for row in order if seen[row]]
        place = np.cumsum(seen) - 1
        gains = [gain[place[group]].sum(axis=0) for group in np.array_split(order, _GROUPS) if len(group)]
        if len(gains) < 3:
            return np.zeros(self.columns)
        gains = np.stack(gains)
        error = gains.std(axis=0, ddof=1) / np.sqrt(len(gains))
        sure = np.clip(1 - (_SURE * error / np.maximum(gains.mean(axis=0), 1e-300)) ** 2, 0.0, 1.0)
        return np.where(gains.mean(axis=0) > 0, share * sure, 0.0)

    def _true_paths(self) -> Floats:
        """Return what followed each origin, in units of z."""
        state, found = self.state, []
        for past, truth in zip(self.judged["pasts"], self.judged["truth"], strict=True):
            levels = transformed(state, truth)
            if past.lag:
                both = np.concatenate([past.levels[-past.lag :], levels])
                levels = both[past.lag :] - both[: -past.lag]
            found.append(levels)
        return np.stack(found)

    def _interval(self) -> dict[str, Any]:
        """Size of the errors by steps ahead, and their distribution in units of it."""
        state, judged = self.state, self.judged
        pasts = judged["pasts"]
        _, middle = combined(state, pasts, judged["paths"], state["weights"])
        scale = np.stack([past.scale for past in pasts])[:, None]
        errors = (transformed(state, judged["truth"]) - middle) / (scale * judged.get("spread", 1.0))
        if state["absolute"]:
            errors[np.isnan(judged["errors"]["levels"])] = np.nan
        count = int(np.isfinite(errors[:, 0]).any(axis=1).sum())
        weight = np.where(np.isfinite(errors), self.late, 0.0)
        square = np.where(weight > 0, errors, 0.0) ** 2
        size = np.sqrt((weight * square).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-300))
        for step in range(1, len(size)):  # no farther step is better known, where few errors say otherwise
            size[step] = np.maximum(size[step], size[step - 1])
        size = np.where(size > 0, size, 1e-12)
        quantiles = np.stack(
            [
                _weighted_quantiles(np.abs(errors[..., column] / size[:, column]), weight[..., column])
                for column in range(self.columns)
            ],
            axis=1,
        )
        independent = 2 * sum(one.sum() for one in self.weights) / max(1, self.leads)
        return {"size": size, "errors": quantiles, "count": count, "free": float(max(independent - 1, 2))}

    def fitted_values(self) -> list[Floats]:
        """Forecasts of one step over the latest steps of each series, with all that was learned."""
        state, found = self.state, []
        for whole, y in zip(self.wholes, self.values, strict=True):
            found.append(self._fitted(state, whole, y))
        return found

    def _fitted(self, state: State, whole: Past, y: Floats) -> Floats:
        lag, length = state["lag"], len(whole.u)
        out = np.full_like(y, np.nan)
        first = max(self.window, recent(length, self.period))
        steps = np.arange(first, length)
        if not len(steps):
            return out
        start = recent(length, self.period)
        z = whole.levels[lag:] - whole.levels[:-lag] if lag else whole.levels
        season = whole.v - whole.u
        paths = {"smoothing": smooth(z[start:], self.period, list(steps - start), 1)[0][:, 0]}
        for part, read, window in (
            ("differences", whole.v, self.window),
            ("levels", whole.u, self.level_window),
        ):
            path = _lags.one_step(state[part][-1, 0], read, whole.X, window, 1, steps)
            if part == "levels":
                if self.members_are_there:
                    path = self._corrected(state, whole, steps, path)
                path = path + season[steps]
            paths[part] = whole.mean + whole.scale * path
        total = 0.0
        for part, weight in zip(PARTS, state["weights"], strict=True):
            levels = paths[part] + (whole.levels[steps] if lag else 0)
            total = total + np.where(weight > 0, weight * inverse(state, levels, whole), 0.0)
        out[steps + lag] = total
        return out

    @property
    def members_are_there(self) -> bool:
        """Whether the LSTMs take part in the forecast of the levels."""
        return bool(getattr(self, "members", [])) and bool(np.any(self.state["share"]))

    def _corrected(self, state: State, whole: Past, steps: Integers, path: Floats) -> Floats:
        n_exogenous = whole.X.shape[1]
        u = np.concatenate([whole.u[:1], whole.u])
        X = np.concatenate([whole.X[1:], np.zeros((1, n_exogenous))])
        rows = _features(state, u, whole.slow, X, self.estimator.dtype)
        windows = _Windows(rows, steps - self.window, self.window, None)
        models = [model for model, _ in self.members]
        parts = []
        for start in range(0, len(steps), 512):
            x = windows[np.arange(start, min(start + 512, len(steps)))]
            hidden = [model.lstm(x)[0][:, -1] for model in models]
            parts.append(_readout(models, hidden, self.decoder, state["residual_size"][0])[0])
        correction = np.concatenate(parts)
        return np.log1p(correction) if state["absolute"] else path + state["share"] * correction


def _least(products: Floats, independent: float, used: list[bool]) -> Floats:
    """Weights >= 0 of sum 1 with the least mean square of the weighted errors.

    `products` (3, 3) are their mean products. Those of different forecasts are believed the more, the more
    independent errors there are; without them the weights are inverse mean squares.
    """
    believed = independent / (independent + _BELIEF)
    products = products * np.where(np.eye(len(products), dtype=bool), 1.0, believed)
    products = products + 1e-12 * max(np.trace(products), 1e-300) * np.eye(len(products))
    best, found = np.inf, np.zeros(len(products))
    for number in range(1, 2 ** len(products)):
        chosen = [k for k in range(len(products)) if number >> k & 1 and used[k]]
        if not chosen:
            continue
        weights = np.zeros(len(products))
        solved = np.linalg.solve(products[np.ix_(chosen, chosen)], np.ones(len(chosen)))
        weights[chosen] = solved / solved.sum()
        value = weights @ products @ weights
        if (weights >= 0).all() and value < best:
            best, found = value, weights
    return found


def _weighted_quantiles(values: Floats, weight: Floats) -> Floats:
    """Quantiles of values at 401 even levels, each value counting by its weight; 1 where there is none."""
    used = weight > 0
    if not used.any():
        return np.ones(401)
    values, weight = values[used], weight[used]
    order = np.argsort(values)
    reached = np.cumsum(weight[order]) - weight[order] / 2
    return np.interp(np.linspace(0, 1, 401), reached / weight.sum(), values[order])


def _levels(coverage: float) -> list[float]:
    tail = (1 - coverage) / 2
    return [tail, 0.5, 1 - tail]


def _power(values: Floats) -> float:
    """Return the most likely exponent of Box and Cox, kept between -1 and 2."""
    values = values[~np.isnan(values)]
    if len(np.unique(values)) < 2:
        return 1.0
    return float(np.clip(boxcox_normmax(values / np.exp(np.mean(np.log(values))), method="mle"), -1.0, 2.0))
