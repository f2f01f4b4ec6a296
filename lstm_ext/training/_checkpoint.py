"""The state of a training in a file: all that is needed to go on to the same bits."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lstm_ext._files import blamed, open_file, parse_json, read_archive
from lstm_ext._safetensors import TensorFile, pack_tensors, write_tensors
from lstm_ext.training._history import History

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lstm_ext._typing import Array, FloatArray
    from lstm_ext.callbacks import EarlyStopping
    from lstm_ext.schedules import Schedule
    from lstm_ext.training._protocols import Trainable

    _Path = str | os.PathLike[str]
    _Record = Mapping[str, Any]

_FORMAT = "lstm_ext.Training 2"
_FORMER_FORMAT = "lstm_ext.Training 1"  # an .npz
_METADATA = "lstm_ext.checkpoint"
_MAX_STATE = 2**24  # characters of JSON


class TrainingState(NamedTuple):
    """The objects of a training whose state a checkpoint holds; of `settings` a checkpoint has to be."""

    model: Trainable
    settings: dict[str, Any]
    rng: np.random.Generator
    optimizer: Any
    schedule: Schedule | None
    early_stopping: EarlyStopping | None


def save(path: _Path, training: TrainingState, history: Sequence[_Record]) -> None:
    """Write the state after an epoch, whole or not at all."""
    write_tensors(path, *_content(training, history))


def packed(training: TrainingState, history: Sequence[_Record]) -> bytes:
    """Return the bytes that `save` would write."""
    return pack_tensors(*_content(training, history))


def _content(
    training: TrainingState, history: Sequence[_Record]
) -> tuple[dict[str, str], dict[str, Array]]:
    model, settings, rng, optimizer, schedule, early_stopping = training
    arrays: dict[str, Array] = {"parameters": model.parameters}
    state: dict[str, Any] = {}
    for name, value in optimizer.state.items():
        if isinstance(value, np.ndarray):
            arrays[f"optimizer.{name}"] = value
        else:
            state[name] = value
    columns, described = _columns(history)
    arrays |= {f"history.{name}": values for name, values in columns.items()}
    content = {
        "settings": settings,
        "history": described,
        "optimizer": state,
        "rng": _plain(rng.bit_generator.state),
        "schedule": None if schedule is None else schedule.state,
        "early_stopping": None,
    }
    if early_stopping is not None:
        content["early_stopping"], best = early_stopping.saved()
        if best is not None:
            arrays["best"] = best
    # A tensor, for a header may have a megabyte at most.
    text = json.dumps(content, default=_number).encode()
    if len(text) > _MAX_STATE:
        raise ValueError(
            f"the state of the training has {len(text)} characters besides its numbers; expected at most "
            f"{_MAX_STATE}: what callbacks add to the records of epochs must be numbers"
        )
    arrays["state"] = np.frombuffer(text, np.uint8)
    return {_METADATA: _FORMAT}, arrays


def _columns(history: Sequence[_Record]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the numbers that all records have, as arrays by name, and a description of the rest."""
    columns: dict[str, Array] = {}
    for name in history[0] if history else ():
        values: list[Any] = [record.get(name) for record in history]
        kinds = {type(value) for value in values}
        if kinds == {float}:
            columns[name] = np.array(values)
        elif kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):
            columns[name] = np.array(values, np.int64)
    rest = [{k: v for k, v in record.items() if k not in columns} for record in history]
    return columns, {
        "epochs": len(history), "columns": list(columns), "rest": rest if any(rest) else None,
    }


def _records(described: dict[str, Any], columns: dict[str, Array]) -> list[dict[str, Any]]:
    """Undo `_columns`."""
    epochs, names, rest = described["epochs"], described["columns"], described["rest"]
    if type(epochs) is not int or not 0 <= epochs or set(names) != set(columns):
        raise ValueError("its history is not one of epochs")
    rest = [{}] * epochs if rest is None else rest
    if not names and any(not record for record in rest):
        raise ValueError("its history has an epoch without a record")
    if not isinstance(rest, list) or len(rest) != epochs or not all(isinstance(r, dict) for r in rest):
        raise ValueError(f"its history has not {epochs} records")
    values = [columns[name].tolist() for name in names]
    if any(len(column) != epochs for column in values):
        raise ValueError(f"its history has columns of other lengths than {epochs}")
    return [
        dict(zip(names, row, strict=True)) | more
        for row, more in zip(zip(*values, strict=True) if names else [()] * epochs, rest, strict=True)
    ]


def load(path: _Path, training: TrainingState) -> History:
    """Read such a file into the objects of a training, and return its history.

    Raises ValueError, and changes nothing, if the file is not one of a training with these settings.
    """
    with blamed(f"{os.fspath(path)} is not a checkpoint of this training"):
        file = open_file(path)
    with file:
        return _unpack(file, path, training)


def unpack(content: bytes, path: _Path, training: TrainingState) -> History:
    """Read the bytes of such a file, which errors call `path`; else as `load`."""
    return _unpack(io.BytesIO(content), path, training)


def _unpack(file: io.BufferedReader | io.BytesIO, path: _Path, training: TrainingState) -> History:
    model, settings, rng, optimizer, schedule, early_stopping = training
    with blamed(f"{os.fspath(path)} is not a checkpoint of this training"):
        content, history, arrays = _read(file, model.parameters)
        parameters, best = arrays.pop("parameters"), arrays.pop("best", None)
        saved = content["settings"]
        if not isinstance(saved, dict):
            raise ValueError(f"its settings are {type(saved).__name__}")
        state = content["optimizer"] | {
            name.removeprefix("optimizer."): vector for name, vector in arrays.items()
        }
        generator = _arrays(content["rng"])
    for name, value in settings.items():
        if saved.get(name) != value:
            raise ValueError(
                f"{os.fspath(path)} is a checkpoint of another training: {name} was {saved.get(name)!r}, "
                f"and is {value!r}. Give what was given then, or resume=False"
            )
    former: list[tuple[Any, Any]] = [
        (part, part.state) for part in (rng.bit_generator, optimizer, schedule) if part is not None
    ]
    kept = None if early_stopping is None else early_stopping.saved()
    try:
        with blamed(f"{os.fspath(path)} does not fit this training"):
            rng.bit_generator.state = generator
            optimizer.state = state
            if schedule is not None:
                schedule.state = content["schedule"]
            if early_stopping is not None:
                early_stopping.restore(content["early_stopping"], best)
    except BaseException:
        for part, value in former:
            part.state = value
        if early_stopping is not None and kept is not None:
            early_stopping.restore(*kept)
        raise
    model.parameters = parameters
    return History(history)


def _read(
    file: io.BufferedReader | io.BytesIO, like: FloatArray
) -> tuple[dict[str, Any], list[Any], dict[str, Array]]:
    """Return the JSON, the history and the vectors of a checkpoint."""
    first = file.read(4)
    file.seek(0)
    if first == b"PK\x03\x04":
        content, packed_arrays = read_archive(file, longest=_MAX_STATE)
        if content["format"] != _FORMER_FORMAT:
            raise ValueError(f"its format is {content['format']!r}, not {_FORMER_FORMAT!r}")
        arrays = {name: _vector(name, parts, like) for name, parts in packed_arrays.items()}
        history = content["history"]
        if not isinstance(history, list):
            raise ValueError(f"its history is {type(history).__name__}, not a list")
        return content, history, arrays
    tensors = TensorFile(file)
    if tensors.metadata.get(_METADATA) != _FORMAT:
        raise ValueError(f"its format is {tensors.metadata.get(_METADATA)!r}, not {_FORMAT!r}")
    # Shapes are compared before anything is read.
    arrays, columns = {}, {}
    for name in sorted(tensors.names - {"state"}):
        dtype, shape = tensors.specification(name)
        if name.startswith("history."):
            if dtype not in (np.float64, np.int64) or len(shape) != 1:
                raise ValueError(f"{name} is {dtype} {shape}")
            columns[name.removeprefix("history.")] = tensors.read(name, finite=False)
        else:
            _check_vector(name, dtype, shape, like)
            arrays[name] = _finite(name, tensors.read(name, finite=False))
    if "state" not in tensors.names or tensors.specification("state")[0] != np.uint8:
        raise ValueError("it has no state")
    if tensors.specification("state")[1][0] > _MAX_STATE:
        raise ValueError(f"its state has more than {_MAX_STATE} characters")
    content = parse_json(tensors.read("state").tobytes(), "its state", _MAX_STATE, constants=True)
    tensors.check_digest()
    return content, _records(content["history"], columns), arrays


def _check_vector(
    name: str, dtype: np.dtype[Any] | str, shape: tuple[int, ...], like: FloatArray
) -> None:
    if shape != like.shape or dtype != like.dtype:
        raise ValueError(f"{name} is {dtype} {shape}, this model has {like.dtype} {like.shape}")


def _finite(name: str, vector: Array) -> Array:
    if name in ("parameters", "best") and not np.isfinite(vector).all():
        raise ValueError(f"{name} holds NaN or inf")
    return vector


def _vector(
    name: str, parts: tuple[tuple[int, ...], np.dtype[Any], bytes], like: FloatArray
) -> Array:
    shape, dtype, data = parts
    _check_vector(name, dtype, shape, like)
    if len(data) != like.nbytes:
        raise ValueError(f"{name} has {len(data)} bytes; expected {like.nbytes}")
    return _finite(name, np.frombuffer(data, dtype).copy())


def _number(value: object) -> Any:
    """Return a NumPy scalar as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is {type(value).__name__}; expected what JSON can hold")


def _plain(state: Any) -> Any:
    """Return the state of a bit generator with its arrays as lists."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    if isinstance(state, np.ndarray):
        return {"dtype": state.dtype.name, "array": state.tolist()}
    return state.item() if isinstance(state, np.generic) else state


def _arrays(state: Any) -> Any:
    """Undo `_plain`."""
    if isinstance(state, dict):
        if set(state) == {"dtype", "array"}:
            return np.array(state["array"], state["dtype"])
        return {name: _arrays(value) for name, value in state.items()}
    return state
