"""Checked sequences from arrays, lists and frames; `SequenceScaler`, which scales them in any layout."""

from __future__ import annotations

import copy
import sys
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._set_output import ADAPTERS_MANAGER, _get_output_config
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from lstm_ext._checks import warn
from lstm_ext._data import as_labels, as_number_array
from lstm_ext.sklearn._bases import BaseEstimator, OneToOneFeatureMixin, TransformerMixin

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    import pandas as pd

    from lstm_ext.sklearn._types import Array, Bools, Floats, Integers, Reals, Sequential

__all__ = [
    "SequenceScaler", "Sequences", "as_sequences", "check_columns", "check_groups", "check_weight",
    "frame_columns", "per_step", "row_values", "step_rows",
]

_SHAPES = "(sequences, time, features), a list of (time, features), or (sequences, features)"
_LONG = {"case_id", "dim_id", "reading_id", "value"}  # columns of sktime's "pd-long"
# Columns by which frames in long format say which sequence and which step a row is of.
_IDS = {"id", "case_id", "case", "instance", "instances", "unique_id", "series_id", "sequence_id", "basin_id"}
_TIMES = {"time", "timestamp", "date", "datetime", "ds", "reading_id", "timepoint", "timepoints", "time_idx"}
_TIME_LAST = "if X is (sequences, features, time), as sktime's numpy3D, pass X.transpose(0, 2, 1)"
_PARTS_TIME_LAST = "if the sequences are (features, time), as in aeon, pass [x.T for x in X]"


class Sequences:
    """Checked sequences: the steps of all of them, one below the other, and how to put them back.

    Attributes
    ----------
    rows : ndarray of shape (S, F)
        The S steps of all sequences.
    lengths : ndarray of shape (n,)
        Steps of each.
    layout : {"table", "array", "list"}
        How they came: 2-D, 3-D, or one by one (and as a panel).
    frames : data frame, list, or None
        What they came in, if that was a data frame, or a list of sequences.
    index : pandas.Index or None
        The labels of the sequences, if they came with any.
    row_index : pandas.Index, list of them, or None
        The labels of the steps: of all steps of a panel, or of each sequence in a list.
    doubt : str or None
        What may be wrong with the layout: a warning that is due when the sequences are used.
    """

    def __init__(
        self, rows: Array, lengths: Integers, layout: str, frames: Any = None, index: pd.Index | None = None,
        row_index: pd.Index | list[pd.Index] | None = None,
    ) -> None:
        self.rows, self.lengths, self.layout = rows, lengths, layout
        self.frames, self.index, self.row_index = frames, index, row_index
        self.doubt: str | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def with_rows(self, rows: Array) -> Sequences:
        """Return the same sequences with other features."""
        other = copy.copy(self)
        other.rows = rows
        return other

    @property
    def is_panel(self) -> bool:
        """Whether they came as one frame with a row for each step."""
        return self.layout == "list" and self.row_index is not None and not isinstance(self.row_index, list)

    @property
    def same_length(self) -> bool:
        """Whether nothing needs padding."""
        return bool((self.lengths == self.lengths[0]).all())

    @property
    def counted(self) -> Bools:
        """True at the steps that are there, (n, T)."""
        return np.arange(self.lengths.max()) < self.lengths[:, None]

    def padded(self, rows: Array) -> Array:
        """Put rows, one for each step, into an array (n, T, ...), 0 beyond the end of a sequence."""
        if self.doubt is not None:  # not before: a fit that is refused for y or a weight warns of nothing
            warn(self.doubt)
            self.doubt = None
        if self.same_length:
            return rows.reshape(len(self), -1, *rows.shape[1:])
        array = np.zeros((len(self), self.lengths.max(), *rows.shape[1:]), rows.dtype)
        array[self.counted] = rows
        return array

    def unpadded(self, array: Array) -> Array:
        """Take the steps that are there out of (n, T, ...): one row for each."""
        return array.reshape(-1, *array.shape[2:]) if self.same_length else array[self.counted]

    def restored(self, rows: Array) -> Array | list[Array]:
        """Put rows, one for each step, into the layout that the sequences came in; a table has no steps."""
        return rows if self.layout == "table" else self.by_step(rows)

    def by_step(self, rows: Array) -> Array | list[Array]:
        """Put rows, one for each step, into an array (n, T, ...), or a list of (T_i, ...)."""
        if self.layout == "list":
            return np.split(rows, np.cumsum(self.lengths)[:-1])
        return self.padded(rows)


def _one_by_one(X: Any) -> bool:
    """Whether X is a list (tuple, array of objects) of sequences, and not a table written as lists."""
    if isinstance(X, np.ndarray):
        if X.dtype != object or X.ndim != 1:
            return False
    elif not isinstance(X, list | tuple):
        return False
    dimensions = {getattr(part, "ndim", None) for part in X}
    if dimensions == {1} and len({len(part) for part in X}) > 1:
        raise ValueError(
            "X is a list of 1-D arrays of different lengths; expected (time, features) for each sequence, "
            "(time, 1) for one feature"
        )
    if dimensions == {None} and len(X):  # lists of lists
        try:
            return np.ndim(X[0]) == 2
        except ValueError:
            return False
    return 2 in dimensions


def _is_pandas(value: object, dimensions: int = 2) -> bool:
    library = type(value).__module__.partition(".")[0]
    # Frames of other packages, such as geopandas, are pandas' as well.
    known = library == "pandas" or any(kind.__module__.startswith("pandas.") for kind in type(value).__mro__)
    return known and hasattr(value, "iloc") and getattr(value, "ndim", None) == dimensions


def _labels(part: Any) -> list[Any] | None:
    """Return the column labels of a data frame of pandas, polars or pyarrow, as they are; or None."""
    if type(part) is np.ndarray:
        return None
    if _is_pandas(part):
        return list(part.columns)
    library = type(part).__module__.partition(".")[0]
    if library == "polars" and hasattr(part, "get_columns"):
        return list(part.columns)
    if library == "pyarrow" and hasattr(part, "schema"):
        return list(part.schema.names)
    if hasattr(part, "__dataframe__") and hasattr(part, "columns"):  # of another library
        return list(part.columns)
    return None


def frame_columns(given: Any) -> list[str] | None:
    """Return the column names of a data frame, or of the data frames in a list; None without one.

    Parameters
    ----------
    given : object
        Any data: what has no columns has no names.

    Returns
    -------
    list of str, or None
        None, too, for columns that are numbered 0, 1, 2, ...: pandas numbers them where there are no names.

    Raises
    ------
    ValueError
        If a name occurs twice, the frames of a list have different columns, or some have none.
    """
    several = isinstance(given, list | tuple) or (
        isinstance(given, np.ndarray) and given.dtype == object and given.ndim == 1
    )
    found = [_labels(part) for part in (given if several else [given])]
    first = found[0] if found else None
    for number, labels in enumerate(found):
        if labels != first:
            if labels is None or first is None:
                raise ValueError(
                    f"the data frames have different columns: of the list, item {number} has "
                    f"{labels or 'no column names'}, item 0 has {first or 'none'}"
                )
            raise ValueError(f"the data frames have different columns: {first} and {labels} (item {number})")
    if first is None:
        return None
    names = list(map(str, first))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the column {twice!r} occurs twice in {names}; expected different names")
    return None if first == list(range(len(first))) else names


def check_columns(name: str, columns: list[str] | None, fitted: list[str] | None) -> None:
    """Refuse a data frame whose columns are not those of the data frame that `fit` had."""
    if columns is not None and fitted is not None and columns != fitted:
        raise ValueError(
            f"The feature names should match those that were passed during fit: {name} has {columns}, "
            f"fit had {fitted}"
        )


def as_sequences(
    estimator: Any, X: Any, *, reset: bool, allow_nan: bool = False, tables: bool = False
) -> Sequences:
    """Check X as scikit-learn's `validate_data` does, features as columns, whatever the layout.

    Parameters
    ----------
    estimator : estimator
        Gets, or is compared with, ``n_features_in_`` and ``feature_names_in_``.
    X : array_like
        (n, T, F), a list of (T_i, F), (n, F) for sequences of one step, or a panel: a data frame of pandas
        with a MultiIndex (instance, time), one with a series in each cell, or sktime's long format.
    reset : bool
        True in fit.
    allow_nan : bool
        Let NaN through, and make NaN of what is missing.
    tables : bool
        Whether (n, F) is a table of steps as good as any. Else the result is in `Sequences.doubt`.

    Returns
    -------
    Sequences
    """
    _check_dims(X)
    _check_cells(X)
    given, X = X, _unpacked(X)
    names = frame_columns(X)  # first, as two columns of one name are refused
    _check_long(X, names)
    if _is_pandas(X):
        sequences = _from_frame(X, allow_nan)
        if sequences.frames is not X:
            names = frame_columns(sequences.frames)
    elif _one_by_one(X):
        sequences = _from_parts(list(X), allow_nan)
        sequences.index = given.index if given is not X else None
        if reset and not tables and names is None and sequences.same_length:
            part = sequences.rows.reshape(len(sequences), -1, sequences.rows.shape[1])
            sequences.doubt = _channels_first(part, "list")
    else:
        if isinstance(X, list | tuple) and not len(X):
            X = np.empty((0, 1))  # for scikit-learn's error message
        rows = as_number_array("X", X, allow_nan=allow_nan, dtype=None)
        if rows.ndim >= 3:
            if rows.ndim != 3:
                raise ValueError(f"Found array with dim {rows.ndim} for X; expected {_SHAPES}")
            n, steps, features = rows.shape
            if n and not steps:
                raise ValueError(f"X has shape {rows.shape}; expected one time step or more")
            # Features, not steps, are scikit-learn's columns: validate_data would count axis 1.
            sequences = Sequences(rows.reshape(n * steps, features), np.full(n, steps), "array")
            if reset and not tables:
                sequences.doubt = _channels_first(rows)
        else:
            sequences = _table(rows, X if names else None)
    rows = check_array(
        sequences.rows, dtype=[np.float64, np.float32], ensure_all_finite=False, input_name="X",
        estimator=estimator,
    )
    _check_numbered(estimator, X, names, reset)
    if not reset and names is None:
        _check_time_last(estimator, sequences)
    # Names and number of features; the numbers have been checked.
    validate_data(estimator, _named(names, rows), reset=reset, skip_check_array=True)
    sequences = sequences.with_rows(rows)
    if sequences.layout == "table" and reset and not tables:
        n, features = rows.shape
        sequences.doubt = (
            f"X has shape {rows.shape}: it is read as {n} sequences of one time step. Pass X[None] for one "
            f"series of {n} steps, X[:, :, None] for {n} series of {features} steps, and X[:, None] for "
            "sequences of one step, which then are not warned of (X.to_numpy()[...] of a data frame). For "
            "forecasts of a series there is LSTMForecaster"
        )
    return sequences


def _named(names: list[str] | None, rows: Array) -> Any:
    """Return what scikit-learn reads the names and the number of features from."""
    if names is None:
        return rows
    for library in ("pandas", "polars"):
        if library in sys.modules:
            return sys.modules[library].DataFrame({name: [] for name in names})
    import pyarrow

    return pyarrow.table({name: [] for name in names})


def _check_numbered(estimator: Any, X: Any, names: list[str] | None, reset: bool) -> None:
    """Refuse numbered columns in another order: to scikit-learn a number is no name."""
    fitted: Any = getattr(estimator, "feature_names_in_", None)
    if reset or (names is None) == (fitted is None):
        return
    if names is None and _labels(X[0] if _is_list(X) else X) is None:
        return
    named = list(fitted) if names is None else names
    numbered = list(map(str, range(len(named))))
    given, known = names or numbered, numbered if fitted is None else named
    if set(given) == set(known) == set(numbered):
        check_columns("X", given, known)


def _unpacked(values: Any) -> Any:
    """Return a column of arrays, a pandas Series of them, as a list; everything else as it is."""
    if _is_pandas(values, 1) and values.dtype == object and len(values) and np.ndim(values.iloc[0]):
        return list(values)
    return values


def _table(rows: Array, frame: Any) -> Sequences:
    index = frame.index if frame is not None and _is_pandas(frame) else None
    return Sequences(rows, np.ones(len(rows) if rows.ndim else 0, int), "table", frame, index)


def _from_parts(parts: list[Any], allow_nan: bool) -> Sequences:
    arrays: list[Array] = []
    for number, part in enumerate(parts):
        if type(part) is np.ndarray and part.dtype.kind == "f":
            array = part  # NaN and infinity are looked for in all of them at once
        else:
            array = as_number_array(f"X[{number}]", part, allow_nan=allow_nan, dtype=None)
        if array.ndim != 2:
            raise ValueError(f"X[{number}] has shape {array.shape}; expected (time, features)")
        if arrays and array.shape[1] != arrays[0].shape[1]:
            same = len({getattr(one, "shape", (None,))[0] for one in parts}) == 1
            raise ValueError(
                f"X[{number}] has {array.shape[1]} features, X[0] has {arrays[0].shape[1]}; expected "
                f"(time, features) with the same features{f': {_PARTS_TIME_LAST}' if same else ''}"
            )
        if not len(array):
            raise ValueError(f"X[{number}] has no time step; expected one or more")
        if type(part) is not np.ndarray:
            _check_times(f"X[{number}]", part)
        arrays.append(array)
    try:
        rows = as_number_array("X", np.concatenate(arrays), allow_nan=allow_nan, dtype=None)
    except ValueError:
        for number, array in enumerate(arrays):  # where it is, sequence by sequence
            as_number_array(f"X[{number}]", array, allow_nan=allow_nan, dtype=None)
        raise
    index = [part.index for part in parts] if all(map(_is_pandas, parts)) else None
    lengths = np.array([len(array) for array in arrays])
    return Sequences(rows, lengths, "list", parts, row_index=index)


def _check_times(name: str, frame: Any) -> None:
    """Refuse a frame whose index are dates that do not increase: rows are read in their order."""
    index = frame.index if _is_pandas(frame) or _is_pandas(frame, 1) else None
    if index is None or getattr(index.dtype, "kind", "O") not in "mM" or index.is_monotonic_increasing:
        return
    times = index.to_numpy()
    row = int(np.argmax(~(times[1:] >= times[:-1]))) + 1
    raise ValueError(
        f"{name} has the time {index[row]} after {index[row - 1]} (row {row}); expected increasing times: "
        "sort_index()"
    )


def _from_frame(X: pd.DataFrame, allow_nan: bool) -> Sequences:
    """Read a data frame of pandas: a panel, one with series in its cells, the long format, or a table."""
    if set(X.columns) == _LONG and X.shape[1] == len(_LONG):
        return _from_panel(_pivoted(X), allow_nan)
    if X.index.nlevels > 1:
        return _from_panel(X, allow_nan)
    if X.shape[1] and len(X) and all(dtype.kind == "O" for dtype in X.dtypes):
        cells = X.to_numpy(dtype=object)
        if any(getattr(cell, "ndim", None) == 2 for cell in cells.ravel()):
            raise TypeError(
                f"X has tables in its cells; expected a list of (time, features), as "
                f"list(X[{X.columns[0]!r}]), or a series in each cell"
            )
        holds = np.array([
            getattr(cell, "ndim", None) == 1 or isinstance(cell, list | tuple) for cell in cells.ravel()
        ])
        if holds.all():
            return _from_cells(X, cells, allow_nan)
        if holds.any():
            row, column = divmod(int(np.argmin(holds)), X.shape[1])
            raise TypeError(
                f"X has series in its cells, and {cells[row, column]!r} in row {row}, column "
                f"{X.columns[column]!r}; expected a series in each cell"
            )
    return _table(as_number_array("X", X, allow_nan=allow_nan, dtype=None), X)


def _from_panel(X: pd.DataFrame, allow_nan: bool) -> Sequences:
    """Read a frame whose index is (instance, time): one sequence for each instance, in order."""
    instances, time = X.index.droplevel(-1), X.index.get_level_values(-1)
    codes, labels = instances.factorize()  # in order of appearance
    try:
        order, _ = time.factorize(sort=True)
    except TypeError:
        raise TypeError(f"the last level of X's MultiIndex holds {time.dtype} that have no order; expected "
                        "the times of an instance") from None
    if (codes < 0).any() or (order < 0).any():
        raise ValueError("X's MultiIndex has missing labels; expected (instance, time) for each row")
    step = np.diff(codes)
    same = step == 0
    if (step < 0).any():
        row = int(np.argmax(step < 0)) + 1
        raise ValueError(
            f"X's rows of instance {instances[row]} are not together (row {row}); expected one instance "
            "after another: X.sort_index()"
        )
    backwards = same & (np.diff(order) <= 0)
    if backwards.any():
        row = int(np.argmax(backwards)) + 1
        raise ValueError(
            f"X has the time {time[row]} after {time[row - 1]} for instance {instances[row]} (row {row}); "
            "expected increasing times: X.sort_index()"
        )
    rows = as_number_array("X", X, allow_nan=allow_nan, dtype=None)
    lengths = np.bincount(codes, minlength=0)
    return Sequences(rows, lengths, "list", X, labels, X.index)


def _from_cells(X: pd.DataFrame, cells: npt.NDArray[np.object_], allow_nan: bool) -> Sequences:
    """Read a frame with a series in each cell: a row is a sequence, a column a feature."""
    parts = []
    for number, row in enumerate(cells):
        for label, cell in zip(X.columns, row, strict=True):
            _check_times(f"X[{number}][{label!r}]", cell)
        columns = [
            as_number_array(f"X[{number}][{label!r}]", cell, allow_nan=allow_nan)
            for label, cell in zip(X.columns, row, strict=True)
        ]
        if len({len(column) for column in columns}) > 1:
            raise ValueError(
                f"X[{number}] has series of {[len(column) for column in columns]} steps in its cells; "
                "expected one length in a row"
            )
        if not len(columns[0]):
            raise ValueError(f"X[{number}] has no time step; expected one or more")
        parts.append(np.stack(columns, axis=1))
    lengths = np.array([len(part) for part in parts])
    return Sequences(np.concatenate(parts), lengths, "list", X, X.index)


def _pivoted(X: pd.DataFrame) -> pd.DataFrame:
    """Return sktime's long format as a frame with the index (instance, time) and a column for each dim_id."""
    if X[["case_id", "dim_id", "reading_id"]].isna().any(axis=None):
        raise ValueError("X has missing labels in case_id, dim_id or reading_id; expected one for each value")
    if X.duplicated(["case_id", "dim_id", "reading_id"]).any():
        raise ValueError("X has two values of one (case_id, dim_id, reading_id); expected one")
    panel = X.pivot(index=["case_id", "reading_id"], columns="dim_id", values="value")
    return panel.reindex(X["case_id"].unique(), level=0)


def _channels_first(x: Array, layout: str = "array") -> str | None:
    """Return what to say of an array that looks like (sequences, features, time), as sktime has it, or None.

    It does where there are several steps and many more features, and where there are more features than steps
    and values that change much less from feature to feature than from step to step, or, with one step, than
    they vary over the features: a table that was given an axis of one step does not.
    """
    n, steps, features = x.shape
    if features <= steps or features < 8:
        return None
    if steps == 1 or features < 4 * steps:
        part = x[:: max(1, n // 100)].astype(np.float64, copy=False)
        by_feature = np.diff(part, axis=2)
        other = np.diff(part, axis=1) if steps > 1 else part - np.mean(part, axis=2, keepdims=True)
        if not np.isfinite(other).any() or not np.isfinite(by_feature).any():
            return None
        with np.errstate(over="ignore"):
            if np.nanmean(by_feature**2) >= np.nanmean(other**2) / (4 if steps > 1 else 2):
                return None
    last = _TIME_LAST if layout == "array" else _PARTS_TIME_LAST
    shape = x.shape if layout == "array" else f"{x.shape[1:]} in each of {n} parts"
    return (
        f"X has shape {shape}: it is read as {n} sequences of {steps} time steps and {features} features. "
        f"{last[0].upper()}{last[1:]}"
    )


def _check_time_last(estimator: Any, X: Sequences) -> None:
    """Refuse sequences of another width whose steps are as many as the features that `fit` had."""
    expected, features = getattr(estimator, "n_features_in_", None), X.rows.shape[1]
    if X.layout == "table" or features == expected or not (X.lengths == expected).all():
        return
    right = _TIME_LAST if X.layout == "array" else _PARTS_TIME_LAST
    raise ValueError(
        f"X has {features} features, but {type(estimator).__name__} is expecting {expected} features as "
        f"input. All sequences have {expected} time steps: {right}"
    )


def _check_dims(X: Any) -> None:
    """Refuse an array of xarray whose dimensions say that time is not where it is read."""
    dims = getattr(X, "dims", None)
    if type(X).__module__.partition(".")[0] != "xarray" or not isinstance(dims, tuple) or len(dims) != 3:
        return
    places = [k for k, name in enumerate(dims) if str(name).lower() in _TIMES]
    if len(places) == 1 and places[0] != 1:
        others = [name for name in dims if name != dims[places[0]]]
        right = (others[0], dims[places[0]], others[1])
        raise ValueError(
            f"X has the dimensions {dims}; expected (sequences, time, features): if that is what {right} "
            f"are, pass X.transpose{right}"
        )


def _check_cells(X: Any) -> None:
    """Refuse series in the cells of what is no data frame of pandas."""
    if isinstance(X, np.ndarray):
        if X.dtype == object and X.ndim == 2 and X.size and getattr(X[0, 0], "ndim", 0) == 1:
            raise TypeError(
                "X is an array with series in its cells; expected numbers, or a data frame: pass "
                "pandas.DataFrame(X)"
            )
        return
    library = type(X).__module__.partition(".")[0]
    if library == "polars" and hasattr(X, "get_columns"):
        nested = [name for name, kind in X.schema.items() if kind.is_nested()]
    elif library == "pyarrow" and hasattr(X, "schema"):
        nested = [field.name for field in X.schema if field.type.num_fields]
    else:
        return
    if nested:
        raise TypeError(
            f"X has lists in the cells of {nested[0]!r}; expected numbers, or series in the cells of a data "
            "frame of pandas: pass X.to_pandas()"
        )


def _check_long(X: Any, names: list[str] | None) -> None:
    """Refuse a data frame whose columns say which sequence, and which step of it, each row is."""
    if names is None or not hasattr(X, "columns") or set(names) == _LONG:
        return
    lower = [name.lower() for name in names]
    sequence = next((name for name, low in zip(names, lower, strict=True) if low in _IDS), None)
    step = next((name for name, low in zip(names, lower, strict=True) if low in _TIMES), None)
    if sequence is None or step is None:
        return
    label = (_labels(X) or names)[names.index(sequence)]
    if len(set(X[label].to_pylist() if hasattr(X[label], "to_pylist") else list(X[label]))) == X.shape[0]:
        return  # a row for each
    pandas = "X" if _is_pandas(X) else "X.to_pandas()"
    raise ValueError(
        f"X has the columns {sequence!r} and {step!r}, as a panel in long format; expected features: pass "
        f"{pandas}.set_index([{sequence!r}, {step!r}]) for a sequence for each {sequence!r}, or leave these "
        "columns out"
    )


def _check_index(name: str, given: Any, index: pd.Index | None, what: str) -> None:
    """Refuse values whose labels are those of X in another order, or others of their kind."""
    mine = getattr(given, "index", None) if _is_pandas(given, 1) or _is_pandas(given) else None
    if mine is None or index is None or len(mine) != len(index) or mine.nlevels != index.nlevels:
        return
    if mine.equals(index):
        return
    kinds = [
        [getattr(level.dtype, "kind", "O") for level in (
            one.levels if one.nlevels > 1 else [one]
        )] for one in (mine, index)
    ]
    kinds = [["i" if kind in "iu" else kind for kind in one] for one in kinds]
    if kinds[0] != kinds[1]:
        return  # numbered, against dates: nothing to compare
    for number, (label, expected) in enumerate(zip(mine, index, strict=True)):
        if label != expected:
            raise ValueError(
                f"{name} has the index label {label!r} at position {number}, X's {what} have {expected!r}; "
                f"expected one index. Align them, or pass {name}.to_numpy() if the order is right"
            )


def _is_list(values: Any) -> bool:
    return isinstance(values, list | tuple) or (
        isinstance(values, np.ndarray) and values.dtype == object and values.ndim == 1
    )


def _converted(name: str, values: Any, dtype: npt.DTypeLike | None, allow_nan: bool) -> Array:
    if dtype is None:
        return as_labels(name, values)
    return as_number_array(name, values, allow_nan=allow_nan, dtype=dtype)


def row_values(
    name: str, values: Any, X: Sequences, *, dtype: npt.DTypeLike | None, allow_nan: bool = False
) -> Array:
    """Check values that come with every sequence of X: targets (n,) or (n, O), or labels.

    Parameters
    ----------
    name : str
        The argument, for messages.
    values : array_like
        In pandas with an index: the index has to be that of X, if X has one, too.
    X : Sequences
    dtype : dtype or None
        What they shall become; None: they are labels, and stay what they are.
    allow_nan : bool
        Whether numbers may be missing.

    Returns
    -------
    ndarray of shape (n,) or (n, O)
    """
    given, values = values, _unpacked(values)
    if _is_list(values):
        frame_columns(values)
    try:
        array = _converted(name, values, dtype, allow_nan)
    except ValueError as error:
        if "shape" not in str(error) and "ragged" not in str(error) and "inhomogeneous" not in str(error):
            raise
        raise ValueError(f"{error}; one value for each step needs every_step=True") from None
    if array.ndim not in (1, 2):
        raise ValueError(
            f"{name} has shape {array.shape}; expected (n,) or (n, outputs): one target for each step needs "
            "every_step=True"
        )
    if len(array) != len(X) and len(array) == len(X.rows):
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {len(X)} sequences, {name} "
            f"has {len(array)} rows, one for each step; expected one for each sequence, or every_step=True"
        )
    check_consistent_length(X.lengths, array)
    _check_index(name, given, X.index, "sequences")
    return array


def step_rows(
    name: str, values: Any, X: Sequences, *, dtype: npt.DTypeLike | None, allow_nan: bool = False
) -> Array:
    """Check values that come with every step of X, and put them one below the other.

    Parameters
    ----------
    name : str
        The argument, for messages.
    values : array_like
        (n, T) or (n, T, O), or a list of (T_i,) or (T_i, O); for a panel also (S,) or (S, O), row by row.
    X : Sequences
    dtype : dtype or None
        What they shall become; None: they are labels, and stay what they are.
    allow_nan : bool
        Whether numbers may be missing.

    Returns
    -------
    ndarray of shape (S,) or (S, O)
    """
    given, values = values, _unpacked(values)
    if not _is_list(values):
        if isinstance(values, str | bytes | dict) or not hasattr(values, "__len__"):
            raise TypeError(
                f"{name} is {type(values).__name__}; expected an array or a list of arrays"
            )
        array = _converted(name, values, dtype, allow_nan)  # a frame iterates over columns
        if X.is_panel and array.ndim in (1, 2) and len(array) == len(X.rows):
            _check_index(name, given, X.row_index, "rows")
            return array
        values = array
    else:
        frame_columns(values)
    _check_index(name, given, X.index, "sequences")
    if len(values) != len(X):
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {len(X)} sequences, "
            f"{name} has {len(values)}"
        )
    parts: list[Array] = []
    for number, (given, length) in enumerate(zip(values, X.lengths, strict=True)):
        part = _converted(f"{name}[{number}]", given, dtype, allow_nan)
        if part.ndim not in (1, 2):
            raise ValueError(
                f"{name} has {part.ndim + 1} dimensions; expected one value, or one row of values, for each "
                "step of each sequence with every_step=True"
            )
        if len(part) != length:
            hint = ""
            if len(part) == X.rows.shape[1]:
                hint = ": " + (_TIME_LAST if X.layout == "array" else _PARTS_TIME_LAST)
            raise ValueError(
                f"{name}[{number}] has {len(part)} steps; expected {length}, as X[{number}]{hint}"
            )
        if part.shape[1:] != np.shape(parts[0] if parts else part)[1:]:
            raise ValueError(
                f"{name}[{number}] has shape {part.shape}; expected {parts[0].shape}, as {name}[0]"
            )
        if isinstance(X.row_index, list):
            _check_index(f"{name}[{number}]", given, X.row_index[number], f"sequence {number}")
        parts.append(part)
    return np.concatenate(parts)


def check_groups(groups: Any, X: Sequences) -> Array:
    """Check labels of the sequences' groups, (n,)."""
    array = as_labels("groups", groups)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim != 1:
        raise ValueError(f"groups has shape {array.shape}; expected (n,), one label for each sequence")
    check_consistent_length(X.lengths, array)
    _check_index("groups", groups, X.index, "sequences")
    return array


def check_weight(sample_weight: Any, X: Sequences, every_step: bool = False) -> Floats | None:
    """Check weights of sequences, (n,), or of their steps.

    Returns
    -------
    ndarray of float64, (n,) or, if weights came step by step, (S,); or None
    """
    if sample_weight is None:
        return None
    by_step = every_step and not isinstance(sample_weight, Real) and _by_step(sample_weight, X)
    if by_step:
        weight = step_rows("sample_weight", sample_weight, X, dtype=np.float64)
        if weight.ndim != 1:
            raise ValueError("sample_weight has several numbers for each step; expected one")
        target = weight
    else:
        weight, target = sample_weight, X.lengths
        if not isinstance(weight, Real):
            weight = as_number_array("sample_weight", weight, allow_nan=False)
            _check_index("sample_weight", sample_weight, X.index, "sequences")
    checked: Floats = _check_sample_weight(weight, target, dtype=np.float64)
    if (checked < 0).any():
        raise ValueError("Negative values in data passed to `sample_weight`: weights are numbers >= 0")
    if not checked.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return checked


def _by_step(weight: Any, X: Sequences) -> bool:
    """Whether weights came for each step, and not for each sequence."""
    if _is_list(_unpacked(weight)):
        return bool(len(weight)) and np.ndim(_unpacked(weight)[0]) == 1
    if len(np.shape(weight)) == 1:  # row by row, with the index of a panel
        return X.is_panel and len(weight) == len(X.rows) != len(X)
    return True


def per_step(weight: Floats | None, X: Sequences) -> Floats | None:
    """Return weights of sequences as weights of their steps, (S,)."""
    return weight if weight is None or len(weight) == len(X.rows) else np.repeat(weight, X.lengths)


_LARGEST = 1e154  # the square of more is no float64
_HUGE = 1e9  # from here on a value that makes all others equal is taken for a fault of the data
_NARROW = 1e-3  # standard deviations: what half of the values should not lie within
_LARGE = 100  # a column of less has no -999 for what is missing, and a rare 1 among small numbers is none
_SAMPLE = 1000  # steps by which both are judged
_AT_ONCE = 2**18  # numbers that are summed in one go


def _moments(
    rows: Reals, weight: Floats | None, column: Callable[[int], str]
) -> tuple[Floats, Floats, Floats]:
    """Return the mean, the standard deviation, 0 for a constant, and the largest size of each column.

    Parameters
    ----------
    rows : ndarray of shape (S, F)
        NaN is left out.
    weight : ndarray of shape (S,) or None
        All above 0.
    column : callable
        What a column is called in messages, by its number.
    """
    empty = np.full(rows.shape[1], np.nan)
    lowest, highest = (
        (f.reduce(rows, axis=0).astype(np.float64) if len(rows) else empty) for f in (np.fmin, np.fmax)
    )
    largest = np.fmax(np.abs(lowest), np.abs(highest))
    if (largest > _LARGEST).any():
        number = int(np.nanargmax(largest))
        value = lowest[number] if -lowest[number] == largest[number] else highest[number]
        raise ValueError(
            f"{column(number)} has the value {value:g}; expected absolute values of at most {_LARGEST:g}, "
            "which float64 can square: mark it as missing (NaN), or correct it"
        )
    nothing = np.isnan(largest)
    lowest, highest, largest = (np.where(nothing, 0, part) for part in (lowest, highest, largest))
    # Two steps of the dtype: what rounding leaves of a constant that was computed.
    constant = highest - lowest <= 2 * np.spacing(largest.astype(rows.dtype)).astype(np.float64)
    # Within [-1, 1] about the middle of the range, so that nothing cancels, overflows or vanishes.
    middle = lowest + (highest - lowest) / 2
    exponent = np.frexp(highest - lowest)[1]

    def sums(center: Floats | float, square: bool) -> tuple[Floats, Floats]:
        total, first, second = np.zeros((3, rows.shape[1]))
        size = max(1, _AT_ONCE // max(rows.shape[1], 1))
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            values = np.ldexp(part - middle, -exponent) - center
            counts = None if weight is None else weight[start : start + size, None]
            if np.isnan(values.sum()):
                there = ~np.isnan(values)
                values[~there] = 0
                counts = there if counts is None else there * counts
            if counts is None:
                total += len(values)
                first += values.sum(axis=0)
            else:
                total += np.broadcast_to(counts, values.shape).sum(axis=0)
                first += (counts * values).sum(axis=0)
            if square:
                values *= values
                second += values.sum(axis=0) if counts is None else (counts * values).sum(axis=0)
        total[total == 0] = 1  # a column that is never there
        return first / total, second / total

    center = sums(0, False)[0]
    rest, square = sums(center, True)  # the second pass finds what the first has rounded
    center = center + rest
    deviation = np.ldexp(np.sqrt(np.maximum(square - rest**2, 0)), exponent)
    mean = np.where(lowest == highest, lowest, middle + np.ldexp(center, exponent))
    constant |= deviation == 0
    return mean, np.where(constant, 0, deviation), largest


def _look_for_outliers(
    rows: Reals, mean: Floats, deviation: Floats, largest: Floats, column: Callable[[int], str]
) -> None:
    """Refuse columns of which a huge value makes the rest equal once it is scaled, and warn of others."""
    sample = np.sort(rows[:: max(1, len(rows) // _SAMPLE)], axis=0)  # NaN comes last
    if not len(sample):
        return
    # The shortest interval that holds half of the values.
    count = len(sample) - np.isnan(sample).sum(axis=0)
    stop = np.arange(len(sample))[:, None] + count // 2
    inside = stop < count
    values = np.take_along_axis(sample, np.where(inside, stop, 0), axis=0)
    width = np.where(inside, values - sample, np.inf).min(axis=0)
    narrow = (width > 0) & (width < _NARROW * deviation) & (largest > _LARGE)
    suspects = np.flatnonzero(narrow | (largest > _HUGE))
    if not suspects.size:
        return
    scaled = (sample - mean) / np.where(deviation == 0, 1, deviation)
    before, after = (
        1 + (np.diff(part[:, suspects], axis=0) > 0).sum(axis=0)
        for part in (sample, scaled.astype(np.float32))
    )
    blind = suspects[(before > 2) & (after <= np.maximum(before / 2, 2)) & (largest[suspects] > _HUGE)]
    if blind.size:
        raise ValueError(
            f"{column(blind[0])} has values up to {largest[blind[0]]:g}, beside which the others are all the "
            "same once they are scaled: mark the huge ones as missing (NaN), or take logarithms"
        )
    for number in np.flatnonzero(narrow).tolist():
        warn(
            f"{column(number)} has values up to {largest[number]:g}, and half of its values lie within "
            f"{width[number] / deviation[number]:.1g} standard deviations, where a network hardly tells them "
            "apart. Mark numbers that stand for missing values as NaN, or compress large values (logarithm)"
        )


class _ByLayout(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):
    """`transform` for every layout: scikit-learn's own wrapper makes data frames of tables only."""

    fit: Any
    _transform_rows: Any
    get_feature_names_out: Any

    def fit_transform(self, X: Sequential, y: object = None, **fit_params: Any) -> Any:
        """Fit, and scale the same data.

        Parameters
        ----------
        X : array_like
            As in `fit`.
        y : ignored
        **fit_params : dict
            Further arguments of `fit`.

        Returns
        -------
        ndarray, list of ndarrays, data frame, or list of them
            As `transform` returns.
        """
        return self.fit(X, y, **fit_params).transform(X)

    def transform(self, X: Sequential) -> Any:
        """Scale.

        Parameters
        ----------
        X : array_like
            As in `fit`.

        Returns
        -------
        ndarray, list of ndarrays, data frame, or list of them
            In the layout of X. After ``set_output(transform="pandas")``, or "polars", tables, panels and the
            sequences of a list are data frames, in pandas with the index of X.
        """
        check_is_fitted(self)
        X = as_sequences(self, X, reset=False, allow_nan=True, tables=True)
        return self._output(X, self._transform_rows(X.rows))

    def _output(self, X: Sequences, rows: Array) -> Any:
        library = _get_output_config("transform", self)["dense"]
        if library == "default" or X.layout == "array":
            return X.restored(rows)
        container = ADAPTERS_MANAGER.adapters[library]
        names = self.get_feature_names_out()
        if X.layout == "table" or X.is_panel:
            return container.create_container(rows, X.frames, columns=names)
        origins = X.frames if isinstance(X.frames, list) else [None] * len(X)
        return [
            container.create_container(part, origin, columns=names)
            for part, origin in zip(X.by_step(rows), origins, strict=True)
        ]


class SequenceScaler(OneToOneFeatureMixin, _ByLayout):
    r"""Scale each feature by its mean and standard deviation over the steps of all sequences.

    .. math:: z = (x - \mu) / \sigma, \qquad
        \mu = \frac{\sum_s w_s x_s}{\sum_s w_s}, \quad
        \sigma^2 = \frac{\sum_s w_s (x_s - \mu)^2}{\sum_s w_s}

    scikit-learn's ``StandardScaler`` for arrays (n, T, F), lists of (T_i, F) and panels; (n, F) is scaled as
    there. Every sequence comes back in the layout it came in. NaN is left out of the sums, and stays; so are
    masked elements and the missing values of data frames, which become NaN.

    Parameters
    ----------
    with_mean : bool, default=True
        Subtract the mean.
    with_std : bool, default=True
        Divide by the standard deviation. A feature that does not vary, by more than two steps of its dtype,
        is not divided.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (F,)
        float64; 0 and 1 where nothing is subtracted or divided.
    n_features_in_ : int
        F.
    feature_names_in_ : ndarray of shape (F,)
        The names of the columns, if `fit` had data frames.

    Examples
    --------
    >>> import numpy as np
    >>> from lstm_ext.sklearn import SequenceScaler
    >>> scaler = SequenceScaler().fit([np.array([[1.0], [3.0]]), np.array([[5.0]])])
    >>> float(scaler.mean_[0])
    3.0
    """

    mean_: Floats
    scale_: Floats
    n_features_in_: int
    feature_names_in_: npt.NDArray[np.object_]
    with_mean: bool
    with_std: bool

    def __init__(self, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean = with_mean
        self.with_std = with_std

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: Sequential, y: object = None, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Find mean and standard deviation.

        Parameters
        ----------
        X : array_like of shape (n, T, F) or (n, F), list of arrays (T_i, F), or panel
        y : ignored
        sample_weight : array_like of shape (n,), optional
            What each sequence counts.

        Returns
        -------
        SequenceScaler

        Raises
        ------
        ValueError
            If anything does not fit, or a value is too large to be squared, or so large that it makes all
            others equal.
        """
        before = dict(vars(self))
        try:
            X = as_sequences(self, X, reset=True, allow_nan=True, tables=True)
            weight = check_weight(sample_weight, X)
            return self._fit_rows(X.rows, per_step(weight, X))
        except Exception:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _fit_rows(self, rows: Reals, weight: Floats | None = None, *, name: str = "X") -> Self:
        """Find mean and standard deviation of rows (S, F), which `name` calls in messages."""
        if weight is not None:
            counted = weight > 0
            if not counted.all():
                rows, weight = rows[counted], weight[counted]
            weight = weight / weight.max()

        def column(number: int) -> str:
            return self._column(name, number)

        mean, deviation, largest = _moments(rows, weight, column)
        if self.with_std:
            _look_for_outliers(rows, mean, deviation, largest, column)
        self.n_features_in_ = rows.shape[1]
        self.mean_ = mean if self.with_mean else np.zeros_like(mean)
        self.scale_ = np.where(deviation == 0, 1.0, deviation) if self.with_std else np.ones_like(mean)
        return self

    def _column(self, name: str, number: int) -> str:
        names = getattr(self, "feature_names_in_", None)
        return f"column {number if names is None else repr(str(names[number]))} of {name}"

    def _transform_rows(self, rows: Array, *, name: str = "X") -> Array:
        with np.errstate(over="ignore"):
            scaled = ((rows - self.mean_) / self.scale_).astype(rows.dtype, copy=False)
        return self._checked(name, rows, scaled)

    def _checked(self, name: str, rows: Array, scaled: Array) -> Array:
        wrong = np.isinf(scaled)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise ValueError(
                f"{self._column(name, column)} has the value {rows[row, column]:g}, which is too large for "
                f"{rows.dtype} once it is scaled: mark it as missing (NaN), or correct it"
            )
        return scaled

    def inverse_transform(self, X: Sequential) -> Any:
        """Undo `transform`.

        Parameters
        ----------
        X : array_like
            As in `fit`.

        Returns
        -------
        ndarray or list of ndarray
            In the layout of X.
        """
        check_is_fitted(self)
        X = as_sequences(self, X, reset=False, allow_nan=True, tables=True)
        with np.errstate(over="ignore"):
            rows = (X.rows * self.scale_ + self.mean_).astype(X.rows.dtype, copy=False)
        return X.restored(self._checked("X", X.rows, rows))
