"""Time series as people have them: arrays, lists, series and frames with dates, panels, long frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext._data import as_number_array
from lstm_ext.sklearn._sequences import frame_columns

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import pandas as pd

    from lstm_ext.sklearn._types import Floats

    Labels = Hashable | Sequence[Hashable]  # of columns; None without any

# Steps of one day, week or year of what pandas calls a frequency; the first is the shortest season.
_PERIODS = {"Q": (4,), "M": (12,), "W": (52,), "B": (5,), "D": (7,)}
_LONG_NAMES = (("unique_id", "ds"), ("series_id", "time"), ("series", "time"), ("id", "time"))


class Series:
    """The values of series, and the labels and the container that forecasts of them get.

    Attributes
    ----------
    values : list of ndarray of shape (T_i, D)
    several, flat : bool
        Whether they came as several series; whether each is (T,) rather than (T, D).
    names : list of str or None
        Column names.
    indexes : list of pandas index or None
        Of each series, None where it has none.
    keys : pandas index or None
        Of a panel: the names of its series.
    make : str
        The container of forecasts: "array", "series", "frame", "panel" or "long".
    """

    values: list[Floats]
    several: bool
    flat: bool
    names: Labels
    indexes: list[pd.Index | None]
    keys: pd.Index | None
    make: str
    labels: Sequence[Any] | None

    def __init__(
        self, values: list[Floats], several: bool, flat: bool, names: Labels = None,
        indexes: list[pd.Index | None] | None = None, keys: pd.Index | None = None, make: str = "array",
        labels: Sequence[Any] | None = None,
    ) -> None:
        self.values, self.several, self.flat, self.names = values, several, flat, names
        self.indexes = indexes if indexes is not None else [None] * len(values)
        self.keys, self.make, self.labels = keys, make, labels

    def __len__(self) -> int:
        return len(self.values)

    @property
    def lengths(self) -> list[int]:
        """Steps of each series."""
        return [len(one) for one in self.values]

    def answer(self, forecasts: list[Floats], horizon: int) -> Any:
        """Return forecasts, a list of arrays (h, D), in the form in which the series came."""
        parts = [one[:, 0] if self.flat else one for one in forecasts]
        if self.make == "array":
            return parts if self.several else parts[0]
        import pandas as pd

        futures = [following(index, horizon) for index in self.indexes]
        if self.keys is not None and self.labels is not None:  # a panel, or a long frame
            rows = np.concatenate([one.reshape(horizon, -1) for one in parts])
            names = [*self.labels[0], self.labels[1]]
            keys = [key if isinstance(key, tuple) else (key,) for key in self.keys]
            tuples = [(*key, when) for key, future in zip(keys, futures, strict=True) for when in future]
            index = pd.MultiIndex.from_tuples(tuples, names=names)
            found = (
                pd.Series(rows[:, 0], index, name=self.names)
                if self.flat
                else pd.DataFrame(rows, index, self.names)
            )
            return found.reset_index() if self.make == "long" else found
        if self.flat:
            found = [pd.Series(one, time, name=self.names) for one, time in zip(parts, futures, strict=True)]
        else:
            found = [pd.DataFrame(one, time, self.names) for one, time in zip(parts, futures, strict=True)]
        return found if self.several else found[0]


def _library(value: object) -> str:
    return type(value).__module__.partition(".")[0]


def _is_pandas(value: object) -> bool:
    return _library(value) == "pandas" and hasattr(value, "iloc")


def _is_polars_frame(value: object) -> bool:
    return _library(value) == "polars" and hasattr(value, "get_columns")


def _listed(value: Any) -> bool:
    """Whether a value is a list of series, and not one series written as a list."""
    if isinstance(value, np.ndarray):
        return value.dtype == object and value.ndim == 1 and any(np.ndim(part) > 0 for part in value)
    if not isinstance(value, list | tuple):
        return False
    shapes = [getattr(part, "ndim", None) or (2 if hasattr(part, "columns") else None) for part in value]
    if any(shapes):
        return any(shape is not None and shape > 0 for shape in shapes)
    return any(
        isinstance(part, list | tuple) and part and isinstance(part[0], list | tuple) for part in value
    ) or (len({len(part) for part in value if isinstance(part, list | tuple)}) > 1)


def read(name: str, value: Any, *, allow_nan: bool, columns: int | None = None) -> Series:
    """Read series.

    Parameters
    ----------
    name : str
        The argument, for messages.
    value : array_like, series, frame, or list of them
        (T,) or (T, D); a frame with a MultiIndex (series, time), or a long frame with a column of names, one
        of dates and one or more of numbers, is several series.
    allow_nan : bool
    columns : int, optional
        How many columns each has to have.

    Returns
    -------
    Series
    """
    if _is_polars_frame(value) and any(not dtype.is_numeric() for dtype in value.dtypes):
        value = _through_pandas(name, value)
    if _is_pandas(value):
        panel = _panel(name, value, allow_nan)
        if panel is not None:
            _check_columns(name, panel, columns)
            return panel
    several = _listed(value)
    parts = list(value) if several else [value]
    if not parts:
        raise ValueError(f"{name} is an empty list; expected one series or more")
    names = frame_columns(value)
    values: list[Floats] = []
    indexes: list[pd.Index | None] = []
    flat = True
    for number, part in enumerate(parts):
        what = f"{name}[{number}]" if several else name
        if _is_pandas(part) and getattr(part, "ndim", 1) == 2:
            part = _dated(what, part)
        array = np.asarray(as_number_array(what, part, allow_nan=allow_nan), np.float64)
        if array.ndim == 0:
            raise ValueError(f"{what} is the number {array}; expected a series (time,) or (time, columns)")
        if array.ndim > 2:
            raise ValueError(
                f"{what} has shape {array.shape} (dim {array.ndim}); expected (time,) or (time, columns)"
            )
        index = part.index if _is_pandas(part) else None
        if index is not None:
            array, index = _on_a_grid(what, array, index, allow_nan)
        flat = flat and array.ndim == 1
        values.append(array.reshape(len(array), -1))
        indexes.append(index)
    made = "array"
    if all(_is_pandas(part) for part in parts):
        made = "series" if flat else "frame"
        if flat:
            names = (
                next(iter({part.name for part in parts}), None) if len({p.name for p in parts}) == 1 else None
            )
        else:
            names = list(parts[0].columns) if parts[0].ndim == 2 else None
            if values[0].shape[1] != len(names or ()):  # a column of dates became the index
                names = [c for c in parts[0].columns if c != _date_column(parts[0])]
    series = Series(values, several, flat, names, indexes, make=made)
    _check_columns(name, series, columns)
    return series


def _check_columns(name: str, series: Series, columns: int | None) -> None:
    wanted = series.values[0].shape[1] if columns is None else columns
    for number, one in enumerate(series.values):
        what = f"{name}[{number}]" if series.several else name
        if one.shape[1] != wanted:
            raise ValueError(f"{what} has {one.shape[1]} columns; expected {wanted}")


def _through_pandas(name: str, value: Any) -> pd.DataFrame:
    try:
        return value.to_pandas()
    except ImportError as error:
        raise ImportError(
            f"{name} is a polars frame with columns that are no numbers; reading it needs pandas and "
            "pyarrow: "
            f"{error}"
        ) from None


def _dates(frame: pd.DataFrame) -> list[Hashable]:
    return [
        column
        for column, dtype in zip(frame.columns, frame.dtypes, strict=True)
        if dtype.kind == "M" or "datetime" in str(dtype) or "period" in str(dtype)
    ]


def _date_column(frame: pd.DataFrame) -> Hashable:
    found = _dates(frame)
    return found[0] if len(found) == 1 else None


def _dated(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose one column of dates, if it has one, is its index."""
    found = _dates(frame)
    if len(found) > 1:
        raise ValueError(f"{name} has the columns of dates {found}; expected one at the most")
    return frame.set_index(found[0]) if found else frame


def _panel(name: str, value: pd.Series | pd.DataFrame, allow_nan: bool) -> Series | None:
    """Read a panel or a long frame; None where it is neither."""
    make, keys_of = "panel", None
    if value.index.nlevels == 1:
        if value.ndim == 1:
            return None
        dates = _dates(value)
        kinds = [getattr(dtype, "kind", "O") for dtype in value.dtypes]
        texts = [
            column
            for column, dtype, kind in zip(value.columns, value.dtypes, kinds, strict=True)
            if column not in dates and (kind in "OUST" or str(dtype) in ("category", "string", "str"))
        ]
        known = next((pair for pair in _LONG_NAMES if set(pair) <= set(value.columns)), None)
        if known is not None:
            ids, when = [known[0]], known[1]
        elif len(dates) == 1 and texts:
            ids, when = texts, dates[0]
        else:
            return None
        value, make = value.set_index([*ids, when]), "long"
        if value.shape[1] == 0:
            raise ValueError(f"{name} has no column of numbers beside {[*ids, when]}; expected one or more")
        keys_of = ids
    index = value.index
    codes, keys = index.droplevel(-1).factorize()
    if (codes < 0).any():
        raise ValueError(f"{name} has rows without a name of their series; expected one for each row")
    values, indexes = [], []
    times = index.get_level_values(-1)
    flat = value.ndim == 1 or value.shape[1] == 1
    numbers = np.asarray(as_number_array(name, value, allow_nan=allow_nan), np.float64)
    for code, key in enumerate(keys):
        rows = np.flatnonzero(codes == code)
        array, time = _on_a_grid(f"{name}, series {key!r},", numbers[rows], times[rows], allow_nan)
        values.append(array.reshape(len(array), -1))
        indexes.append(time)
    labels = (list(keys_of or index.names[:-1]), index.names[-1])
    names = (value.name if value.ndim == 1 else value.columns[0]) if flat else list(value.columns)
    return Series(values, True, flat, names, indexes, keys, make, labels)


def _frequency(index: pd.Index) -> pd.tseries.offsets.BaseOffset | None:
    """Return the frequency of an index of dates, None where there is none."""
    import pandas as pd

    if isinstance(index, pd.PeriodIndex):
        return index.freq
    if index.freq is not None:
        return index.freq
    if len(index) < 3:
        return None
    found = pd.infer_freq(index)
    if found is None and index.tz is not None:  # days are not all of 24 hours where the clock is changed
        found = pd.infer_freq(index.tz_localize(None)) if index.tz_localize(None).is_unique else None
        found = found or pd.infer_freq(index.tz_convert("UTC"))
    return pd.tseries.frequencies.to_offset(found) if found is not None else None


def _on_a_grid(name: str, array: Floats, index: pd.Index, allow_nan: bool) -> tuple[Floats, pd.Index | None]:
    """Check that an index goes up evenly; missing stamps become NaN where that is allowed."""
    import pandas as pd

    if index.nlevels > 1:
        raise ValueError(f"{name} has an index of {index.nlevels} levels; expected one, of times")
    if index.hasnans:
        raise ValueError(
            f"{name} has a missing time stamp at row {int(np.argmax(index.isna()))}; expected all"
        )
    dated = isinstance(index, pd.DatetimeIndex | pd.PeriodIndex)
    if not dated and not pd.api.types.is_numeric_dtype(index.dtype):
        return array, None  # names: nothing says that they are times
    if not index.is_monotonic_increasing:
        row = int(np.argmax(np.asarray(index[1:] < index[:-1]))) + 1
        raise ValueError(
            f"{name} has the time {index[row]} after {index[row - 1]} (row {row}); expected times in "
            "their order: use sort_index()"
        )
    if not index.is_unique:
        first = index[index.duplicated()][0]
        raise ValueError(
            f"{name} has the time {first} twice; expected each once: use groupby(level=0).mean()"
        )
    if len(index) < 3:
        return array, index
    if not dated:
        steps = np.diff(np.asarray(index, dtype=np.float64))
        step = np.median(steps)
        if np.allclose(steps, step, rtol=1e-6):
            return array, index
        whole = np.round(steps / steps.min())
        if not np.allclose(whole * steps.min(), steps, rtol=1e-6) or whole.max() > 10_000:
            raise ValueError(f"{name} has an index that is not evenly spaced; expected steps of one size")
        full = pd.Index(index[0] + np.arange(int(whole.sum()) + 1) * steps.min()).astype(index.dtype)
        positions = np.concatenate([[0], np.cumsum(whole).astype(int)])
    else:
        frequency = _frequency(index)
        if isinstance(index, pd.PeriodIndex):
            full = pd.period_range(index[0], index[-1], freq=frequency)
        elif frequency is not None:
            return array, index
        else:
            full = _full_range(index)
            if full is None:
                raise ValueError(
                    f"{name} has time stamps that are not evenly spaced; expected one frequency: use "
                    "asfreq() or resample(), or to_numpy() if the gaps between them mean nothing"
                )
        if len(full) == len(index):
            return array, index
        positions = full.get_indexer(index)
    missing = np.setdiff1d(np.arange(len(full)), positions)
    if not allow_nan:
        raise ValueError(
            f"{name} lacks {len(missing)} of {len(full)} time stamps, the first is {full[missing[0]]}; "
            "expected all: fill the gaps, for example with asfreq() and interpolate(), or let them be "
            "missing "
            "values with lstm_options={'nan': 'hold'}"
        )
    wide = np.full((len(full), *array.shape[1:]), np.nan)
    wide[positions] = array
    return wide, full


def _full_range(index: pd.DatetimeIndex) -> pd.DatetimeIndex | None:
    """Return the even range that an index with gaps is a part of, or None."""
    import pandas as pd

    bare = index.tz_localize(None) if index.tz is not None else index
    candidates = [pd.infer_freq(bare[start : start + 3]) for start in range(min(len(bare) - 2, 50))]
    counts = {name: candidates.count(name) for name in candidates if name is not None}
    step = pd.Series(np.diff(bare.to_numpy())).mode()[0]
    options = [*sorted(counts, key=counts.__getitem__, reverse=True), pd.tseries.frequencies.to_offset(step)]
    for option in options:
        full = pd.date_range(index[0], index[-1], freq=option)
        if len(full) <= 20 * len(index) and len(full) >= len(index) and (full.get_indexer(index) >= 0).all():
            return full
    return None


def following(index: pd.Index | None, horizon: int) -> pd.Index:
    """Return the index of the steps that follow one, or a range from 0 where there is none."""
    import pandas as pd

    if index is None:
        return pd.RangeIndex(horizon)
    if isinstance(index, pd.PeriodIndex):
        return pd.period_range(index[-1] + 1, periods=horizon, freq=index.freq, name=index.name)
    if isinstance(index, pd.DatetimeIndex):
        frequency = _frequency(index) or (index[1] - index[0] if len(index) > 1 else None)
        if frequency is None:
            raise ValueError("y has one time stamp; expected two or more, to know the next")
        return pd.date_range(index[-1], periods=horizon + 1, freq=frequency, name=index.name)[-horizon:]
    if isinstance(index, pd.RangeIndex):
        return pd.RangeIndex(index.stop, index.stop + horizon * index.step, index.step, name=index.name)
    step = index[-1] - index[-2] if len(index) > 1 else 1
    return pd.Index(index[-1] + step * np.arange(1, horizon + 1), name=index.name)


def usual_periods(index: pd.Index | None) -> tuple[int, ...]:
    """Return the seasonal periods that the frequency of an index suggests, in steps."""
    try:
        import pandas as pd
    except ImportError:
        return ()
    if not isinstance(index, pd.DatetimeIndex | pd.PeriodIndex) or len(index) < 3:
        return ()
    frequency = _frequency(index)
    if frequency is None:
        return ()
    name = frequency.name.split("-")[0].rstrip("SE") or frequency.name
    multiple = frequency.n
    for letters, periods in _PERIODS.items():
        if name == letters or name == "B" + letters:
            return tuple(p // multiple for p in periods if p % multiple == 0 and p // multiple > 1)
    try:
        a_day = round(pd.Timedelta(days=1) / pd.Timedelta(frequency))
    except (TypeError, ValueError):
        return ()
    return (a_day, 7 * a_day) if a_day > 1 else ()


def check_same_index(
    name: str, index: pd.Index | None, expected: pd.Index | None, number: int, several: bool
) -> None:
    """Refuse inputs whose index is not that of the series they belong to.

    Both have to carry one; a range from 0 says nothing next to dates, and names are not compared.
    """
    if (
        index is None
        or expected is None
        or (index.dtype.kind != expected.dtype.kind and _is_default(index, expected))
    ):
        return
    if len(index) == len(expected) and (index == expected).all():
        return
    what = f"{name}[{number}]" if several else name
    if index.dtype.kind != expected.dtype.kind or len(index) != len(expected):
        found, wanted = f"{index[0]} to {index[-1]}", f"{expected[0]} to {expected[-1]}"
    else:
        row = int(np.argmax(np.asarray(index != expected)))
        found, wanted = f"{index[row]} at row {row}", f"{expected[row]}"
    raise ValueError(
        f"{what} has the index {found}; expected {wanted}, the times that it belongs to: align it by its "
        f"index, or give {what}.to_numpy() if its rows are in the right places"
    )


def _is_default(*indexes: pd.Index) -> bool:
    """Whether one of them counts rows from 0, which is what pandas gives to what has no index."""
    import pandas as pd

    return any(isinstance(one, pd.RangeIndex) and one.start == 0 and one.step == 1 for one in indexes)


def packed(index: pd.Index | None) -> dict[str, Any] | None:
    """Return what `following` needs of an index as text and numbers, which a file can hold; None of None."""
    if index is None:
        return None
    import pandas as pd

    name = index.name if isinstance(index.name, str | int) else None
    if isinstance(index, pd.PeriodIndex):
        return {"kind": "period", "last": str(index[-1]), "frequency": index.freqstr, "name": name}
    if isinstance(index, pd.DatetimeIndex):
        frequency = _frequency(index) or (index[1] - index[0] if len(index) > 1 else None)
        if isinstance(frequency, pd.Timedelta):
            frequency = pd.tseries.frequencies.to_offset(frequency)
        return {
            "kind": "date",
            "last": index[-1].isoformat(),
            "unit": index.unit,
            "name": name,
            "zone": None if index.tz is None else str(index.tz),
            "frequency": None if frequency is None else frequency.freqstr,
        }
    last = index[-1].item() if hasattr(index[-1], "item") else index[-1]
    step = index[-1] - index[-2] if len(index) > 1 else 1
    return {
        "kind": "number",
        "last": last,
        "step": step.item() if hasattr(step, "item") else step,
        "name": name,
    }


def unpacked(description: dict[str, Any] | None) -> pd.Index | None:
    """Return an index that `following` goes on from as from the one that was packed."""
    if description is None:
        return None
    import pandas as pd

    name, last = description["name"], description["last"]
    if description["kind"] == "period":
        return pd.PeriodIndex([last], freq=description["frequency"], name=name)
    if description["kind"] == "date":
        stamp = pd.Timestamp(last)
        if description["zone"] is not None:
            stamp = stamp.tz_convert(description["zone"])
        index = pd.DatetimeIndex([stamp], name=name).as_unit(description["unit"])
        index.freq = description["frequency"]
        return index
    step = description["step"]
    if isinstance(last, int) and isinstance(step, int):
        return pd.RangeIndex(last, last + step, step, name=name)
    return pd.Index([last - step, last], name=name)
