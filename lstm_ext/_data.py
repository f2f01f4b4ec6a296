"""Data as people have it, turned into checked NumPy arrays: the one place where that happens.

Only NumPy is imported here. Objects of pandas, polars, pyarrow and SciPy are recognized by where their
classes come from, so none of these libraries has to be installed.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import chain
from numbers import Complex, Real
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import NoReturn

    import numpy.typing as npt

    _Array = npt.NDArray[Any]
    _Mask = npt.NDArray[np.bool_]

__all__ = ["as_array", "as_labels", "as_number_array", "check_plain", "has_masked"]

_PLAIN = frozenset({int, float, bool, np.bool_, np.float64, np.float32, np.float16})
_PLAIN |= {np.dtype(code).type for code in "bBhHiIlLqQ"}
_KINDS = {
    "c": "complex numbers", "M": "dates", "m": "durations", "S": "bytes", "U": "text", "V": "records",
    "T": "text", "O": "objects",
}
_TABULAR = ("pandas", "polars", "pyarrow")
_DEEPEST = 64  # axes of a NumPy array: nested lists that are deeper are none
_EXACT = 2**53  # every integer up to it is a float64


def as_number_array(
    name: str, value: object, *, allow_nan: bool, ndim: int | tuple[int, ...] | None = None,
    dtype: npt.DTypeLike | None = np.float64
) -> npt.NDArray[np.floating[Any]]:
    """Turn anything that holds real numbers into a plain array of floats, or raise an error.

    It takes NumPy arrays and subclasses, nested lists and tuples of numbers, arrays or frames of one shape,
    arrays of objects that are numbers (``Decimal`` and ``Fraction``, too), frames, series and index objects
    of pandas and polars, tables and arrays of pyarrow, and what has ``__array__`` or a buffer.

    Missing are: NaN, masked elements (``numpy.ma``, also within lists and arrays of objects), ``None``,
    ``pandas.NA``, and nulls of nullable, pyarrow and polars columns. They become NaN where `allow_nan` is
    True, and raise an error otherwise. The values under a mask are never read.

    Integers, bool (0 and 1), float16 and long double are converted. Refused are: dates, durations, text
    (also text that reads as a number), categories, complex numbers, records, sparse arrays and columns,
    integers that float64 cannot hold exactly, numbers too large for `dtype`, and infinity.

    Parameters
    ----------
    name : str
        The argument, for messages.
    value : array_like
    allow_nan : bool
        Whether values may be missing.
    ndim : int or tuple of int, optional
        The number of dimensions that it has to have.
    dtype : dtype, default float64
        float64 or float32; None keeps float32 and makes float64 of everything else.

    Returns
    -------
    ndarray
        Native, of `dtype`. It is `value` itself, not a copy, where that is such an array.

    Raises
    ------
    TypeError
        If it is no array, or sparse, or its elements are dates, durations, categories, records or objects.
    ValueError
        If the elements are text or complex, the shape is wrong, lists are ragged, or a value is missing,
        infinite or too large. The message says where.
    """
    array = _numbers(name, value, allow_nan)
    if ndim is not None and array.ndim not in (ndim if isinstance(ndim, tuple) else (ndim,)):
        expected = " or ".join(map(str, ndim if isinstance(ndim, tuple) else (ndim,)))
        raise ValueError(f"{name} has shape {array.shape}; expected {expected} dimensions")
    if dtype is None:
        dtype = np.float32 if array.dtype == np.float32 else np.float64
    with np.errstate(over="ignore"):
        floats = array.astype(dtype, copy=False)
    _check_finite(name, array, floats, allow_nan)
    return floats


def _check_finite(name: str, array: _Array, floats: _Array, allow_nan: bool) -> None:
    """Refuse infinity, and NaN unless it is allowed; `array` is what came before the conversion."""
    if array.dtype.kind in "biu":
        return
    with np.errstate(over="ignore", invalid="ignore"):
        total = floats.sum(dtype=np.float64)  # NaN or infinite where an element is: one pass, no mask
    if np.isfinite(total):
        return
    wrong = ~np.isfinite(floats)
    if allow_nan:
        wrong &= ~np.isnan(floats)
    if not wrong.any():
        return
    nan = wrong & np.isnan(floats)
    if nan.any():
        _refuse_nan(name, nan, "NaN")
    where = _first(wrong)
    raise ValueError(
        f"Input {_argument(name)} contains infinity or a value too large for {floats.dtype!r}. "
        f"{name}{_brackets(where)} is {array[where]}; expected finite numbers"
    )


def _first(wrong: _Mask) -> tuple[int, ...]:
    """Return the index of the first True, a tuple."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))


def _brackets(index: tuple[int, ...]) -> str:
    return str(list(index)) if index else ""


def _at(name: str, wrong: _Mask) -> str:
    return f"{name}{_brackets(_first(wrong))}"


def _library(value: object) -> str:
    """Return the library that the class of a value comes from."""
    return type(value).__module__.partition(".")[0]


def _is_sparse(value: object) -> bool:
    return hasattr(value, "toarray") or hasattr(value, "todense")


def _is_container(value: Any) -> bool:
    return isinstance(value, list | tuple) or bool(getattr(value, "ndim", 0)) or (
        _library(value) in _TABULAR and hasattr(value, "__len__")
    )


def has_masked(value: object, depth: int = _DEEPEST) -> bool:
    """Whether a value, or an array within its lists, has masked elements; `depth` lists are looked into."""
    if isinstance(value, np.ma.MaskedArray):
        return bool(np.ma.is_masked(value))
    if isinstance(value, np.ndarray):
        if value.dtype != object:
            return False
        value = value.ravel().tolist() if value.ndim else [value.item()]
    if not isinstance(value, list | tuple) or not depth:
        return False
    return not set(map(type, value)) <= _PLAIN and any(has_masked(part, depth - 1) for part in value)


def check_plain(name: str, value: object) -> None:
    """Refuse an array_like with masked elements, or a sparse one, where neither has a meaning."""
    if _is_sparse(value):
        raise TypeError(f"{name} is a sparse {type(value).__name__}; expected a dense array: call toarray()")
    if has_masked(value):
        raise ValueError(f"{name} has masked elements; expected none: fill or drop them first")


def _argument(name: str) -> str:
    """Return the argument that "X[3]['level']" is a part of."""
    return name.partition("[")[0]


def _refuse_nan(name: str, missing: _Mask, what: str) -> NoReturn:
    # As scikit-learn says it, which its users search for.
    raise ValueError(
        f"Input {_argument(name)} contains NaN. {_at(name, missing)} is {what}; expected finite numbers"
    )


def as_array(name: str, value: object, *, nan: bool = False) -> _Array:
    """Convert as ``numpy.asarray`` does, but lose no mask or date: for arrays whose elements others check.

    What comes from pandas, polars or pyarrow has to hold numbers; its missing values become NaN.

    Parameters
    ----------
    name : str
        The argument, for messages.
    value : array_like
    nan : bool
        Whether masked elements become NaN; else they raise an error, as sparse arrays do.

    Returns
    -------
    ndarray
    """
    if type(value) is np.ndarray and value.dtype != object:
        return value
    if _is_tabular(value):
        return _numbers(name, value, True)  # NumPy would make numbers of polars' dates
    value = _converted(name, value)
    if nan and has_masked(value):
        return _numbers(name, value, True)
    check_plain(name, value)
    try:
        return np.asarray(value)
    except ValueError as error:
        if "inhomogeneous" in str(error):
            raise ValueError(
                f"{name} has rows of different lengths; expected an array: pad the shorter sequences, and "
                "say how long each is with lengths"
            ) from None
        raise ValueError(f"{name} is not an array of numbers: {error}") from None


def _is_tabular(value: object) -> bool:
    """Whether it is of pandas, polars or pyarrow, or a list of such."""
    if isinstance(value, np.ndarray):
        value = value.ravel() if value.dtype == object else ()
    elif not isinstance(value, list | tuple):
        value = (value,)
    kinds = set(map(type, value))
    return any(kind.__module__.partition(".")[0] in _TABULAR and hasattr(kind, "__len__") for kind in kinds)


def _converted(name: str, value: Any) -> Any:
    """Return what ``__array__`` makes of an object, with its mask: a netCDF variable has one."""
    if isinstance(value, np.ndarray | list | tuple) or not hasattr(value, "__array__") or _is_sparse(value):
        return value
    if getattr(value, "requires_grad", False) is True:
        raise TypeError(
            f"{name} is a tensor with requires_grad=True; expected plain numbers: gradients do not flow back "
            f"into it: pass {name}.detach()"
        )
    try:
        return np.asanyarray(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} is not an array of numbers: {error}") from None


def _refuse_kind(name: str, kind: str) -> NoReturn:
    more = {
        "dates": ": convert them to numbers, such as days since the first",
        "durations": ": convert them to numbers of a unit that you choose",
        "text": ": could not convert string to float, as text is not read as numbers",
        "categories": ": encode them as numbers",
    }.get(kind, "")
    if kind == "complex numbers":
        raise ValueError(f"Complex data not supported: {name} holds complex numbers; expected real numbers")
    wrong = ValueError if kind in ("text", "bytes") else TypeError  # as NumPy and scikit-learn have it
    raise wrong(f"{name} holds {kind}; expected real numbers{more}")


def _numbers(name: str, value: Any, allow_nan: bool) -> _Array:
    """Return an array of kind f, i, u or b, NaN where a value is missing."""
    if type(value) is np.ndarray and value.dtype.kind == "f":
        return value
    if _is_sparse(value):
        check_plain(name, value)
    if isinstance(value, np.ma.MaskedArray):
        return _from_masked(name, value, allow_nan)
    library = _library(value)
    if library == "pandas" and hasattr(value, "dtype") | hasattr(value, "dtypes"):
        return _from_pandas(name, value, allow_nan)
    if library == "polars" and hasattr(value, "is_empty"):
        return _from_polars(name, value, allow_nan)
    if library == "pyarrow" and hasattr(value, "to_pylist"):
        return _from_arrow(name, value, allow_nan)
    if isinstance(value, list | tuple):
        return _from_list(name, value, allow_nan)
    if isinstance(value, dict | set | frozenset | str | bytes) or hasattr(value, "__next__"):
        raise TypeError(f"{name} is {type(value).__name__}; expected an array of real numbers")
    value = _converted(name, value)
    if isinstance(value, np.ma.MaskedArray):
        return _from_masked(name, value, allow_nan)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} is not an array of numbers: {error}") from None
    return _from_array(name, array, allow_nan)


def _from_array(name: str, array: _Array, allow_nan: bool) -> _Array:
    kind = array.dtype.kind
    if kind in "fb":
        return array
    if kind in "iu":
        return _from_integers(name, array)
    if kind == "O":
        return _from_objects(name, array, allow_nan)
    _refuse_kind(name, _KINDS.get(kind, f"elements of dtype {array.dtype}"))


def _from_integers(name: str, array: _Array) -> _Array:
    """Refuse integers that float64 rounds: two of them could become one number."""
    if array.itemsize < 8 or not array.size or (-_EXACT <= array.min() and array.max() <= _EXACT):
        return array
    size = np.abs(array.astype(array.dtype.newbyteorder("="))).astype(np.uint64)  # |-2**63| wraps to 2**63
    lowest = np.where(size == 0, 1, size & (~size + np.uint64(1)))
    rounded = size // lowest > _EXACT
    if rounded.any():
        where = _first(rounded)
        raise ValueError(
            f"{name}{_brackets(where)} is {array[where]}, which float64 cannot hold exactly; expected "
            "integers up to 2**53: subtract an offset first, or convert to float yourself"
        )
    return array


def _from_masked(name: str, value: np.ma.MaskedArray[Any, Any], allow_nan: bool) -> _Array:
    mask = np.ma.getmaskarray(value)
    data = np.asarray(value.data)
    if data.dtype.kind not in "biufO":
        return _from_array(name, data, allow_nan)
    mask = mask if mask.dtype == np.bool_ else np.ones(value.shape, bool)
    if not mask.any():
        return _from_array(name, data, allow_nan)
    if not allow_nan:
        raise ValueError(
            f"{name} has masked elements ({int(mask.sum())}, the first is {_at(name, mask)}); expected none: "
            "fill or drop them first"
        )
    return _filled(name, np.where(mask, data.dtype.type(0) if data.dtype != object else 0, data), mask)


def _filled(name: str, data: _Array, missing: _Mask) -> _Array:
    """Return data as floats with NaN where it is missing; there the data are 0, whatever they were."""
    data = _from_array(name, data, True)
    if not missing.any():
        return data
    floats = data.astype(data.dtype if data.dtype.kind == "f" else np.float64)
    floats[missing] = np.nan
    return floats


def _from_list(name: str, value: Sequence[Any], allow_nan: bool) -> _Array:
    leaves, kinds = value, set(map(type, value))
    for _ in range(_DEEPEST):
        if not kinds or not kinds <= {list, tuple}:
            break
        leaves = list(chain.from_iterable(leaves))
        kinds = set(map(type, leaves))
    else:
        raise ValueError(f"{name} is a list of lists, more than {_DEEPEST} deep; expected an array")
    if kinds <= _PLAIN:
        try:
            array = np.asarray(value)
        except ValueError:  # ragged
            array = None
        if array is None or (array.dtype == object and not kinds <= {int}):
            if all(_is_container(part) for part in value):
                return _stack(name, value, allow_nan)
            raise ValueError(f"{name} is a ragged list; expected lists of one length")
        if array.dtype.kind == "f" and int in kinds:
            _from_integers(name, np.array([v for v in leaves if type(v) is int and abs(v) < 2**63], np.int64))
        return _from_array(name, array, allow_nan)
    if any(map(_is_container, value)):
        return _stack(name, value, allow_nan)
    array = np.empty(len(value), object)
    array[:] = value
    return _from_objects(name, array, allow_nan)


def _stack(name: str, parts: Sequence[Any], allow_nan: bool) -> _Array:
    arrays = [_numbers(f"{name}[{number}]", part, allow_nan) for number, part in enumerate(parts)]
    for number, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"{name}[{number}] has shape {array.shape}, {name}[0] has {arrays[0].shape}; expected one "
                "shape for all"
            )
    return np.stack(arrays)


def _from_objects(name: str, array: _Array, allow_nan: bool) -> _Array:
    if array.ndim == 1 and array.size and all(map(_is_container, array)):
        return _stack(name, list(array), allow_nan)
    floats = np.empty(array.shape)
    missing = np.zeros(array.shape, bool)
    flat, flat_missing = floats.reshape(-1), missing.reshape(-1)
    for number, element in enumerate(array.ravel().tolist() if array.ndim else [array.item()]):
        if _is_missing(element):
            flat[number], flat_missing[number] = np.nan, True
            continue
        try:
            flat[number] = _number(element)
        except (TypeError, ValueError) as error:
            where = tuple(int(i) for i in np.unravel_index(number, array.shape)) if array.ndim else ()
            raise type(error)(
                f"{name}{_brackets(where)} is {element!r}; expected a real number: {error}"
            ) from None
    if missing.any() and not allow_nan:
        _refuse_nan(name, missing, repr(array[_first(missing)]))
    return floats


def _is_missing(element: object) -> bool:
    return element is None or element is np.ma.masked or type(element).__name__ == "NAType"


def _number(element: object) -> float:
    """Return an object as a float, if it is a real number."""
    if isinstance(element, np.ndarray) and element.ndim == 0 and element.dtype.kind in "biufO":
        element = element.item()
    if isinstance(element, bool | np.bool_ | float):
        return float(element)
    if isinstance(element, np.integer | int):
        try:
            number = float(int(element))
        except OverflowError:
            raise ValueError("it is too large for float64") from None
        if int(number) != int(element):
            raise ValueError("float64 cannot hold it exactly")
        return number
    if isinstance(element, Real | Decimal):
        try:
            number = float(element)
        except OverflowError:
            raise ValueError("it is too large for float64") from None
        if np.isinf(number):
            raise ValueError("it is infinite, or too large for float64")
        return number
    if isinstance(element, Complex):
        raise ValueError("Complex data not supported")
    if isinstance(element, str | bytes):
        raise ValueError("could not convert string to float, as text is not read as numbers")
    if type(element).__module__.partition(".")[0] in ("datetime", "pandas", "numpy"):
        raise TypeError(f"{type(element).__name__} is not converted")
    raise TypeError(f"float() argument must be a string or a real number, not {type(element).__name__!r}")


def _columns(
    name: str, columns: Iterable[tuple[Any, Any]], convert: Callable[[str, Any, bool], _Array],
    allow_nan: bool
) -> _Array:
    """Return the columns of a table, given as (label, column) pairs, beside each other."""
    arrays = [convert(f"{name}[{label!r}]", column, allow_nan) for label, column in columns]
    kinds = {array.dtype for array in arrays}
    if len(kinds) > 1 and kinds != {np.dtype(np.float32), np.dtype(np.float64)}:
        # Not NumPy's rules: int32 and float32 are float64 there, uint64 and int64 lose bits.
        small = all(array.dtype in (np.float32, np.float16, np.bool_) for array in arrays)
        arrays = [array.astype(np.float32 if small else np.float64) for array in arrays]
    return np.stack(arrays, axis=1)


def _from_pandas(name: str, value: Any, allow_nan: bool) -> _Array:
    if value.ndim == 2:
        kinds = set(value.dtypes)
        if len(kinds) == 1 and isinstance(one := next(iter(kinds)), np.dtype) and one.kind in "fiub":
            return _from_array(name, value.to_numpy(), allow_nan)
        if not value.shape[1]:
            return np.empty(value.shape)
        columns = ((label, value.iloc[:, j]) for j, label in enumerate(value.columns))
        return _columns(name, columns, _from_pandas, allow_nan)
    dtype = value.dtype
    if hasattr(value, "levels"):
        raise TypeError(f"{name} is a MultiIndex; expected real numbers")
    if isinstance(dtype, np.dtype):
        return _from_array(name, value.to_numpy(), allow_nan)
    word = type(dtype).__name__
    if word == "SparseDtype":
        raise TypeError(f"{name} is a sparse column; expected a dense one: call sparse.to_dense()")
    if word == "CategoricalDtype":
        _refuse_kind(name, "categories")
    if word in ("DatetimeTZDtype", "PeriodDtype"):
        _refuse_kind(name, "dates")
    if word == "StringDtype":
        _refuse_kind(name, "text")
    plain = getattr(dtype, "numpy_dtype", None)
    decimal = word == "ArrowDtype" and "decimal" in str(dtype)
    kind = "f" if decimal else getattr(plain, "kind", None)
    if kind not in ("b", "i", "u", "f"):
        _refuse_kind(name, _KINDS.get(str(kind), f"elements of dtype {dtype}"))
    missing = np.asarray(value.isna(), bool)
    if missing.any() and not allow_nan:
        _refuse_nan(name, missing, "missing")
    nothing = False if kind == "b" else 0
    return _filled(name, value.to_numpy(dtype=np.float64 if decimal else plain, na_value=nothing), missing)


def _from_polars(name: str, value: Any, allow_nan: bool) -> _Array:
    if hasattr(value, "get_columns"):
        if not value.width:
            return np.empty(value.shape)
        columns = ((column.name, column) for column in value.get_columns())
        return _columns(name, columns, _from_polars, allow_nan)
    dtype, word = value.dtype, type(value.dtype).__name__
    if not (dtype.is_numeric() or word in ("Boolean", "Null")):
        kinds = {"String": "text", "Categorical": "categories", "Enum": "categories"}
        kind = "durations" if word == "Duration" else "dates" if dtype.is_temporal() else kinds.get(word)
        if kind is None:
            array = value.to_numpy()
            if word in ("Array", "Object") and array.dtype.kind in "biufO":
                return _from_array(name, array, allow_nan)
            kind = f"elements of dtype {dtype}"
        _refuse_kind(name, kind)
    missing = value.is_null().to_numpy()
    if missing.any():
        if not allow_nan:
            _refuse_nan(name, missing, "missing")
        if word == "Null":
            return np.full(len(value), np.nan)
        value = value.fill_null(False if word == "Boolean" else 0)
    array = value.to_numpy()
    return _filled(name, array.astype(np.float64) if dtype.is_decimal() else array, missing)


def _from_arrow(name: str, value: Any, allow_nan: bool) -> _Array:
    if hasattr(value, "column_names") or hasattr(value, "schema"):
        if not value.num_columns:
            return np.empty((value.num_rows, 0))
        columns = zip(value.schema.names, value.columns, strict=True)
        return _columns(name, columns, _from_arrow, allow_nan)
    word = str(value.type)
    if not word.startswith(("int", "uint", "float", "double", "halffloat", "bool", "decimal")):
        if word.startswith(("fixed_size_list", "list", "large_list", "extension<arrow.fixed")):
            return _from_list(name, value.to_pylist(), allow_nan)
        starts = {
            "timestamp": "dates", "date": "dates", "time": "dates", "duration": "durations",
            "string": "text", "large_string": "text", "dictionary": "categories", "binary": "bytes",
        }
        kinds = [kind for start, kind in starts.items() if word.startswith(start)]
        _refuse_kind(name, kinds[0] if kinds else f"elements of type {word}")
    missing = np.asarray(value.is_null().to_numpy(zero_copy_only=False), bool)
    if missing.any():
        if not allow_nan:
            _refuse_nan(name, missing, "missing")
        value = value.fill_null(False if word == "bool" else 0)
    if word.startswith("decimal"):
        return _filled(name, np.array([float(v) for v in value.to_pylist()]), missing)
    return _filled(name, value.to_numpy(zero_copy_only=False), missing)


def as_labels(name: str, value: Any) -> _Array:
    """Turn labels into a plain array: numbers, text or objects, none of them missing.

    Columns of pandas, polars and pyarrow become arrays of what they hold; categories become their values.
    Masked elements, nulls, ``None``, ``pandas.NA`` and NaN raise an error, and so do sparse arrays.

    Parameters
    ----------
    name : str
        The argument, for messages.
    value : array_like

    Returns
    -------
    ndarray
    """
    library = _library(value)
    value = value if library in _TABULAR else _converted(name, value)
    check_plain(name, value)
    if library == "pandas" and hasattr(value, "dtype") | hasattr(value, "dtypes"):
        missing = np.asarray(value.isna(), bool)
        if missing.any():
            _refuse_nan(name, missing, "missing")
        if value.ndim == 1 and not isinstance(value.dtype, np.dtype):
            plain = getattr(value.dtype, "numpy_dtype", None)
            if getattr(plain, "kind", "O") in "biuf":
                return np.asarray(value.to_numpy(dtype=plain))
        return _checked_labels(name, np.asarray(value))
    if library == "pyarrow" and hasattr(value, "to_pylist"):
        if hasattr(value, "schema"):
            value = [list(row.values()) for row in value.to_pylist()]
        else:
            value = value.to_pylist()
    elif library == "polars" and hasattr(value, "is_empty"):
        value = value.rows() if hasattr(value, "rows") else value.to_list()
        if value and isinstance(value[0], tuple):
            value = list(map(list, value))
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is not an array of labels: {error}") from None
    return _checked_labels(name, array)


def _checked_labels(name: str, array: _Array) -> _Array:
    if array.dtype.kind in "fc":
        missing = np.isnan(array)
    elif array.dtype.kind in "mM":
        missing = np.isnat(array)
    elif array.dtype == object:
        flat = [_is_missing(v) or (isinstance(v, float) and v != v) for v in array.ravel()]
        missing = np.array(flat, bool).reshape(array.shape)
    else:
        return array
    if missing.any():
        _refuse_nan(name, missing, "missing")
    return array
