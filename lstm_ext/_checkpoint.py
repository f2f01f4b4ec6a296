"""The state of a training in a file: all that is needed to go on to the same bits."""

import io
import os

import numpy as np

from lstm_ext._files import pack_archive, read_archive, write_archive

_FORMAT = "lstm_ext.Training 1"


def save(path, model, settings, rng, optimizer, schedule, early_stopping, history):
    """Write the state after an epoch, whole or not at all."""
    write_archive(path, *_content(model, settings, rng, optimizer, schedule, early_stopping, history))


def packed(*state):
    """Return the bytes that `save` would write."""
    file = io.BytesIO()
    pack_archive(file, *_content(*state))
    return file.getvalue()


def _content(model, settings, rng, optimizer, schedule, early_stopping, history):
    arrays = {"parameters": model.parameters}
    state = {}
    for name, value in optimizer.state.items():
        if isinstance(value, np.ndarray):
            arrays[f"optimizer.{name}"] = value
        else:
            state[name] = value
    content = {
        "format": _FORMAT,
        "settings": settings,
        "history": history,
        "optimizer": state,
        "rng": _plain(rng.bit_generator.state),
        "schedule": None if schedule is None else schedule.state,
        "early_stopping": None,
    }
    if early_stopping is not None:
        content["early_stopping"], best = early_stopping.saved()
        if best is not None:
            arrays["best"] = best
    return content, arrays


def load(path, *state):
    """Read such a file into the objects of a training, and return its history.

    Raises ValueError, and changes nothing, if the file is not one of a training with these settings.
    """
    with open(path, "rb") as file:
        return unpack(file.read(), path, *state)


def unpack(content, path, model, settings, rng, optimizer, schedule, early_stopping):
    """Read the bytes of such a file, which sentences call `path`; else as `load`."""
    try:
        content, arrays = read_archive(content)
        if content["format"] != _FORMAT:
            raise ValueError(f"its format is {content['format']!r}, not {_FORMAT!r}")
        arrays = {name: _vector(name, *parts, model.parameters) for name, parts in arrays.items()}
        saved = content["settings"]
        history, parameters, best = content["history"], arrays.pop("parameters"), arrays.pop("best", None)
        if not isinstance(history, list):
            raise ValueError(f"its history is {type(history).__name__}, not a list")
        state = content["optimizer"] | {
            name.removeprefix("optimizer."): vector for name, vector in arrays.items()
        }
    except Exception as error:  # whatever zip, JSON and npy make of arbitrary bytes
        raise ValueError(f"{os.fspath(path)} is not a checkpoint of this training: {error}") from error
    for name, value in settings.items():
        if saved.get(name) != value:
            raise ValueError(
                f"{os.fspath(path)} is a checkpoint of another training: {name} was {saved.get(name)!r}, "
                f"and is {value!r}. Give what was given then, or resume=False"
            )
    try:
        generator = _arrays(content["rng"])
        former = rng.bit_generator.state
        rng.bit_generator.state = generator
        try:
            optimizer.state = state
        except Exception:
            rng.bit_generator.state = former
            raise
        if schedule is not None:
            schedule.state = content["schedule"]
        if early_stopping is not None:
            early_stopping.restore(content["early_stopping"], best)
    except Exception as error:
        raise ValueError(f"{os.fspath(path)} does not fit this training: {error}") from error
    model.parameters = parameters
    return history


def _vector(name, shape, dtype, data, like):
    if shape != like.shape or dtype != like.dtype or len(data) != like.nbytes:
        raise ValueError(f"{name} is {dtype} {shape}, this model has {like.dtype} {like.shape}")
    vector = np.frombuffer(data, dtype).copy()
    if name in ("parameters", "best") and not np.isfinite(vector).all():
        raise ValueError(f"{name} holds NaN or inf")
    return vector


def _plain(state):
    """Return the state of a bit generator with its arrays as lists."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    if isinstance(state, np.ndarray):
        return {"dtype": state.dtype.name, "array": state.tolist()}
    return state.item() if isinstance(state, np.generic) else state


def _arrays(state):
    """Undo `_plain`."""
    if isinstance(state, dict):
        if set(state) == {"dtype", "array"}:
            return np.array(state["array"], state["dtype"])
        return {name: _arrays(value) for name, value in state.items()}
    return state
