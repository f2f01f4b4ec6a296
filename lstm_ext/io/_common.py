"""What the formats share: their error, caps, orders of gates, checks of what a file holds."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext import _files
from lstm_ext._files import MAX_BYTES, MAX_TEXT
from lstm_ext._optional import require
from lstm_ext._options import DEFAULTS
from lstm_ext.lstm import LSTM

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    _Array = npt.NDArray[Any]

__all__ = [
    "GATES", "MAX_BYTES", "MAX_TEXT", "ONNX_GATES", "FormatError", "as_weights", "bare_lstm", "check_names",
    "common_dtype", "fill", "parse_json", "reading", "refuse_options", "reorder_gates", "require", "shorten",
]

# Orders of gates, as they are stacked along the first axis. Keras's i, f, c, o are ours: its c is our g.
GATES = "ifgo"
ONNX_GATES = "iofg"


class FormatError(ValueError):
    """A file, or the weights that came from one, cannot be taken over exactly. Nothing has been changed.

    The one error of all readers of `lstm_ext.io` for what a file holds; a file that is not there or may
    not be read is an OSError.
    """


def reorder_gates(array: _Array, source: str, target: str) -> _Array:
    """Put the blocks of the first axis, one for each gate, into another order; a copy.

    Parameters
    ----------
    array : ndarray, (len(source) * H, ...)
    source, target : str
        One letter for each gate, such as `GATES` or `ONNX_GATES`, or "ifo" for peepholes.
    """
    if sorted(source) != sorted(target):
        raise ValueError(f"{target!r} is not another order of {source!r}")
    blocks = array.reshape(len(source), -1, *array.shape[1:])
    return blocks[[source.index(gate) for gate in target]].reshape(array.shape)


def check_names(what: str, names: Iterable[Any], expected: Iterable[Any]) -> None:
    """Raise FormatError unless `names` are `expected`, in any order."""
    names, expected = set(names), set(expected)
    if names != expected:
        parts = [
            f"{verb} {', '.join(map(shorten, sorted(some, key=str)[:5]))}{', ...' if len(some) > 5 else ''}"
            for verb, some in (("lacks", expected - names), ("has besides", names - expected))
            if some
        ]
        raise FormatError(f"{what} {', '.join(parts)}")


def shorten(value: object, length: int = 80) -> str:
    """Text of a value from a file, short enough for a message."""
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= length else text[: length - 3] + "..."


def as_weights(name: str, array: Any, shape: Sequence[int]) -> _Array:
    """`array` in memory and native byte order, or FormatError: float32 or float64, finite, of this shape."""
    array = np.asarray(array)
    if array.dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise FormatError(f"{shorten(name)} is {array.dtype}; expected float32 or float64")
    if array.shape != tuple(shape):
        raise FormatError(f"{shorten(name)} has shape {array.shape}; expected {tuple(shape)}")
    if not np.isfinite(array).all():
        raise FormatError(f"{shorten(name)} holds NaN or inf")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def common_dtype(arrays: Mapping[str, _Array], dtype: Any = None) -> Any:
    """Return `dtype`, or if it is None that of all `arrays`, a dict by name: float32 or float64."""
    found = set()
    for name, array in arrays.items():
        found.add(array.dtype.newbyteorder("="))
        if not found <= {np.dtype("float32"), np.dtype("float64")}:
            raise FormatError(f"{shorten(name)} is {array.dtype}; expected float32 or float64")
    if dtype is None and len(found) != 1:
        raise FormatError("the weights are float32 and float64: choose with dtype=")
    return found.pop() if dtype is None else dtype


def fill(view: _Array, name: str, array: npt.ArrayLike) -> None:
    """Assign `array` to the parameter `view`; FormatError where it is too large for the dtype asked for."""
    with np.errstate(over="ignore"):
        view[...] = array
    if not np.isfinite(view).all():
        raise FormatError(f"{shorten(name)} holds numbers that are infinite in {view.dtype}")


def parse_json(text: str | bytes, what: str) -> Any:
    """Read JSON without duplicate keys, NaN, great depth or length, or raise FormatError."""
    try:
        return _files.parse_json(text, what)
    except ValueError as error:
        raise FormatError(str(error)) from None


@contextlib.contextmanager
def reading(path: str | bytes | os.PathLike[Any]) -> Iterator[None]:
    """Turn whatever libraries and checks make of a file's bytes into one FormatError with the path.

    A file that is not there or may not be read stays an OSError, and a lack of memory a MemoryError.
    """
    with _files.blamed(os.fsdecode(os.fspath(path)), FormatError):
        yield


def bare_lstm(**options: Any) -> LSTM:
    """Return an LSTM with all parameters 0: nothing is drawn for what is about to be overwritten."""
    lstm = LSTM.__new__(LSTM)
    lstm.__setstate__({**options, "parameters": 0})
    return lstm


def refuse_pooling(model: object, target: str) -> None:
    """Raise ValueError for a model whose readout reads more than the last hidden state."""
    pooling = getattr(model, "pooling", "last")
    if pooling != "last":
        raise ValueError(f"pooling is {pooling!r}; expected 'last' for {target}, which does not pool here")


def refuse_options(lstm: LSTM, target: str, allowed: Iterable[str] = ()) -> None:
    """Raise ValueError for an option of `lstm` that `target` does not have.

    Options that change nothing in inference, or only how it is called, pass.
    """
    harmless = {"num_layers", "batch_first", "checkpoint", "dropout", "recurrent_dropout",
                "weight_dropout", "cell_activation", "precision", *allowed}
    for name, default in DEFAULTS.items():
        value = getattr(lstm, name)
        if name not in harmless and value != default and not (name == "nan" and value == "raise"):
            raise ValueError(f"{target} has no {name}, and this LSTM has {name}={value!r}")
