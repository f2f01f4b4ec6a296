"""Sequences as scikit-learn users hand them over, and `SequenceScaler`, which scales them as they are."""

from numbers import Real

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

__all__ = [
    "SequenceScaler", "Sequences", "as_sequences", "check_columns", "check_weight", "frame_columns",
    "per_step", "step_rows",
]

_SHAPES = "(sequences, time, features), a list of (time, features), or (sequences, features)"


class Sequences:
    """Checked sequences: the steps of all of them, one below the other, and how to put them back.

    Attributes
    ----------
    rows : ndarray of shape (S, F)
        The S steps of all sequences.
    lengths : ndarray of shape (n,)
        Steps of each.
    layout : {"table", "array", "list"}
        How they came: 2-D, 3-D, or one by one.
    """

    def __init__(self, rows, lengths, layout):
        self.rows, self.lengths, self.layout = rows, lengths, layout

    def __len__(self):
        return len(self.lengths)

    @property
    def same_length(self):
        """Whether nothing needs padding."""
        return bool((self.lengths == self.lengths[0]).all())

    @property
    def counted(self):
        """True at the steps that are there, (n, T)."""
        return np.arange(self.lengths.max()) < self.lengths[:, None]

    def padded(self, rows):
        """Put rows, one for each step, into an array (n, T, ...), 0 beyond the end of a sequence."""
        if self.same_length:
            return rows.reshape(len(self), -1, *rows.shape[1:])
        array = np.zeros((len(self), self.lengths.max(), *rows.shape[1:]), rows.dtype)
        array[self.counted] = rows
        return array

    def unpadded(self, array):
        """Take the steps that are there out of (n, T, ...): one row for each."""
        return array.reshape(-1, *array.shape[2:]) if self.same_length else array[self.counted]

    def restored(self, rows):
        """Put rows, one for each step, into the layout that the sequences came in; a table has no steps."""
        return rows if self.layout == "table" else self.by_step(rows)

    def by_step(self, rows):
        """Put rows, one for each step, into an array (n, T, ...), or a list of (T_i, ...)."""
        if self.layout == "list":
            return np.split(rows, np.cumsum(self.lengths)[:-1])
        return self.padded(rows)


def _one_by_one(X):
    """Whether X is a list (tuple, array of objects) of sequences, and not a table written as lists."""
    if isinstance(X, np.ndarray):
        if X.dtype != object or X.ndim != 1:
            return False
    elif not isinstance(X, list | tuple):
        return False
    dimensions = {getattr(part, "ndim", None) for part in X}
    if dimensions == {1} and len({len(part) for part in X}) > 1:
        raise ValueError(
            "X is a list of 1-D arrays of different lengths: a sequence has the shape (time, features), "
            "(time, 1) for one feature"
        )
    if dimensions == {None} and len(X):  # lists of lists
        try:
            return np.ndim(X[0]) == 2
        except ValueError:
            return False
    return 2 in dimensions


def _is_frame(part):
    return hasattr(part, "columns") and hasattr(part, "iloc")


def frame_columns(given):
    """Return the column names of a data frame, or of the data frames in a list; None without one."""
    frames = [part for part in (given if isinstance(given, list | tuple) else [given]) if _is_frame(part)]
    found = [list(map(str, frame.columns)) for frame in frames]
    for names in found:
        if names != found[0]:
            raise ValueError(f"the data frames have different columns: {found[0]} and {names}")
    return found[0] if found else None


def check_columns(name, columns, fitted):
    """Refuse a data frame whose columns are not those of the data frame that `fit` had."""
    if columns is not None and fitted is not None and columns != fitted:
        raise ValueError(
            f"The feature names should match those that were passed during fit: {name} has {columns}, "
            f"fit had {fitted}"
        )


def as_sequences(estimator, X, *, reset, allow_nan=False):
    """Check X with scikit-learn's `validate_data`, features as columns, whatever the layout.

    Parameters
    ----------
    estimator : estimator
        Gets, or is compared with, ``n_features_in_``.
    X : array_like
        (n, T, F), a list of (T_i, F), or (n, F) for sequences of one step.
    reset : bool
        True in fit.
    allow_nan : bool
        Let NaN through.

    Returns
    -------
    Sequences
    """
    words = {
        "reset": reset,
        "dtype": [np.float64, np.float32],
        "ensure_all_finite": "allow-nan" if allow_nan else True,
    }
    if _one_by_one(X):
        parts = [np.asarray(part) for part in X]
        for number, part in enumerate(parts):
            if part.ndim != 2:
                raise ValueError(f"X[{number}] has shape {part.shape}, expected (time, features)")
            if part.shape[1] != parts[0].shape[1]:
                raise ValueError(
                    f"X[{number}] has {part.shape[1]} features, X[0] has {parts[0].shape[1]}"
                )
            if not len(part):
                raise ValueError(f"X[{number}] has no time step")
        lengths = np.array([len(part) for part in parts])
        rows, columns = np.concatenate(parts), frame_columns(X)
        if columns is not None:
            # With their names, which validate_data keeps and compares.
            rows = next(type(part) for part in X if _is_frame(part))(rows, columns=columns)
        return Sequences(validate_data(estimator, rows, **words), lengths, "list")
    if getattr(X, "ndim", 2) >= 3 or (isinstance(X, list | tuple) and _depth(X) >= 3):
        X = np.asarray(X)
        if X.ndim != 3:
            raise ValueError(f"Found array with dim {X.ndim} for X, expected {_SHAPES}")
        n, steps, features = X.shape
        if n and not steps:
            raise ValueError(f"X has shape {X.shape}: there is no time step")
        # Features, not steps, are scikit-learn's columns: validate_data would count axis 1.
        rows = validate_data(estimator, X.reshape(n * steps, features), **words)
        return Sequences(rows, np.full(n, steps), "array")
    rows = validate_data(estimator, X, **words)
    return Sequences(rows, np.ones(len(rows), int), "table")


def _depth(nested):
    depth = 0
    while isinstance(nested, list | tuple) and nested:
        nested, depth = nested[0], depth + 1
    return depth + getattr(nested, "ndim", 0)


def step_rows(name, values, X, *, dtype, estimator=None):
    """Check values that come with every step of X, and put them one below the other.

    Parameters
    ----------
    name : str
        The argument, for messages.
    values : array_like
        (n, T) or (n, T, O), or a list of (T_i,) or (T_i, O).
    X : Sequences
    dtype : dtype or None
        What they shall become; None keeps it.

    Returns
    -------
    ndarray of shape (S,) or (S, O)
    """
    values = values.to_numpy() if hasattr(values, "to_numpy") else values  # a frame iterates over columns
    try:
        n = len(values)
    except TypeError:
        raise TypeError(f"{name} is {type(values).__name__}, expected an array or a list of arrays") from None
    if n != len(X):
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {len(X)} sequences, "
            f"{name} has {n}"
        )
    parts = []
    for number, (part, length) in enumerate(zip(values, X.lengths, strict=True)):
        part = np.asarray(part)
        if part.ndim not in (1, 2):
            raise ValueError(
                f"{name} has {part.ndim + 1} dimensions, expected one value, or one row of values, for each "
                "step of each sequence: every_step=True"
            )
        if len(part) != length:
            raise ValueError(f"{name}[{number}] has {len(part)} steps, X[{number}] has {length}")
        if part.shape[1:] != np.shape(parts[0] if parts else part)[1:]:
            raise ValueError(f"{name}[{number}] has shape {part.shape}, {name}[0] has {parts[0].shape}")
        parts.append(part)
    return check_array(
        np.concatenate(parts), ensure_2d=False, dtype=dtype, input_name=name, estimator=estimator
    )


def check_weight(sample_weight, X, every_step=False):
    """Check weights of sequences, (n,), or of their steps.

    Returns
    -------
    ndarray of float64, (n,) or, if weights came step by step, (S,); or None
    """
    if sample_weight is None:
        return None
    by_step = every_step and not isinstance(sample_weight, Real)
    by_step = by_step and np.ndim(next(iter(sample_weight), 0)) == 1
    if by_step:
        weight = step_rows("sample_weight", sample_weight, X, dtype=np.float64)
        if weight.ndim != 1:
            raise ValueError("sample_weight has one number for each step, not several")
        target = weight
    else:
        weight, target = sample_weight, X.lengths
    weight = _check_sample_weight(weight, target, dtype=np.float64)
    if (weight < 0).any():
        raise ValueError("Negative values in data passed to `sample_weight`: weights are numbers >= 0")
    if not weight.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weight


def per_step(weight, X):
    """Return weights of sequences as weights of their steps, (S,)."""
    return weight if weight is None or len(weight) == len(X.rows) else np.repeat(weight, X.lengths)


class SequenceScaler(  # type: ignore[call-arg]  # scikit-learn's keyword: no data frame has three axes
    OneToOneFeatureMixin, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None
):
    r"""Scale each feature by its mean and standard deviation over the steps of all sequences.

    .. math:: z = (x - \mu) / \sigma, \qquad
        \mu = \frac{\sum_s w_s x_s}{\sum_s w_s}, \quad
        \sigma^2 = \frac{\sum_s w_s (x_s - \mu)^2}{\sum_s w_s}

    scikit-learn's ``StandardScaler`` for arrays (n, T, F) and lists of (T_i, F); (n, F) is scaled as
    there. Every sequence comes back in the layout it came in. NaN is left out of the sums, and stays.

    Parameters
    ----------
    with_mean : bool, default=True
        Subtract the mean.
    with_std : bool, default=True
        Divide by the standard deviation; a feature that does not vary is not divided.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (F,)
        float64; 0 and 1 where nothing is subtracted or divided.
    n_features_in_ : int
        F.

    Examples
    --------
    >>> import numpy as np
    >>> from lstm_ext.sklearn import SequenceScaler
    >>> scaler = SequenceScaler().fit([np.array([[1.0], [3.0]]), np.array([[5.0]])])
    >>> float(scaler.mean_[0])
    3.0
    """

    def __init__(self, with_mean=True, with_std=True):
        self.with_mean = with_mean
        self.with_std = with_std

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X, y=None, sample_weight=None):
        """Find mean and standard deviation.

        Parameters
        ----------
        X : array_like of shape (n, T, F) or (n, F), or list of arrays (T_i, F)
        y : ignored
        sample_weight : array_like of shape (n,), optional
            What each sequence counts.

        Returns
        -------
        SequenceScaler
        """
        X = as_sequences(self, X, reset=True, allow_nan=True)
        weight = check_weight(sample_weight, X)
        return self._fit_rows(X.rows, per_step(weight, X))

    def _fit_rows(self, rows, weight=None):
        there = ~np.isnan(rows)
        weight = there.astype(np.float64) if weight is None else there * weight[:, None]
        total = weight.sum(axis=0)
        total[total == 0] = 1  # a feature that is never there

        def average(values):
            return np.einsum("sf,sf->f", weight, np.where(there, values, 0)) / total

        mean = average(rows.astype(np.float64, copy=False))
        deviation = np.sqrt(average((rows - mean) ** 2))
        # What rounding leaves of a constant is not to be blown up.
        constant = deviation <= 10 * np.finfo(rows.dtype).eps * np.abs(mean)
        self.n_features_in_ = rows.shape[1]
        self.mean_ = mean if self.with_mean else np.zeros_like(mean)
        self.scale_ = np.where(constant, 1.0, deviation) if self.with_std else np.ones_like(mean)
        return self

    def transform(self, X):
        """Scale.

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
        X = as_sequences(self, X, reset=False, allow_nan=True)
        return X.restored(self._transform_rows(X.rows))

    def _transform_rows(self, rows):
        return ((rows - self.mean_) / self.scale_).astype(rows.dtype, copy=False)

    def inverse_transform(self, X):
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
        X = as_sequences(self, X, reset=False, allow_nan=True)
        return X.restored((X.rows * self.scale_ + self.mean_).astype(X.rows.dtype, copy=False))
