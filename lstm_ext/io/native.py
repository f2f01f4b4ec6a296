"""Files of our own: safetensors, with what the numbers belong to as JSON in the metadata."""

import inspect
import json
import math

import numpy as np

from lstm_ext import losses, optim
from lstm_ext._options import CONFIGURATION, checked_count, parameter_shapes
from lstm_ext.io._common import MAX_TEXT, FormatError, bare_lstm, parse_json, require
from lstm_ext.io._tensors import DTYPES, open_tensors
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model, replace_file

__all__ = ["load", "save"]

_VERSION = 1
_METADATA = "lstm_ext"
_LSTM_WORDS = tuple(word for word in CONFIGURATION if word != "cell_activation")
_MODEL_WORDS = ("output_size", "every_step")


def _public(module, base):
    found = {name: getattr(module, name) for name in module.__all__}
    return {
        name: cls for name, cls in found.items()
        if isinstance(cls, type) and issubclass(cls, base) and cls is not base
    }


# What a file may name: these, LSTM and Model, and nothing else.
_LOSSES = _public(losses, losses.Loss)
_OPTIMIZERS = _public(optim, optim._Optimizer)


def save(obj, path, *, optimizer=None):
    """Write an LSTM or a model to a file, whole or not at all.

    The file is a safetensors archive: the parameters by name, as any reader of safetensors shows them,
    and the configuration as JSON in the metadata. Nothing in it can be executed.

    Parameters
    ----------
    obj : LSTM or Model
    path : str or path-like
        Replaced when the new file is complete. Usually ``name.safetensors``.
    optimizer : object of `lstm_ext.optim`, optional
        Kept with its settings and its state, so that training goes on with the same bits.

    Raises
    ------
    TypeError
        If `obj`, its loss or `optimizer` is not of this package: a file could not name it.
    ValueError
        If a number is NaN or infinite. Nothing has been written.
    """
    library = require("safetensors.numpy", "io")
    if type(obj) not in (LSTM, Model):
        raise TypeError(f"obj is {type(obj).__name__}, expected an LSTM or a Model")
    if optimizer is not None and type(optimizer) not in _OPTIMIZERS.values():
        raise TypeError(f"optimizer is {optimizer!r}, expected one of {', '.join(_OPTIMIZERS)}")
    packer = _Packer()
    configuration = {"version": _VERSION, "object": packer.pack(obj, "")}
    if optimizer is not None:
        configuration["optimizer"] = packer.pack(optimizer, "optimizer.")
    with replace_file(path) as temporary:
        library.save_file(packer.arrays, temporary, {_METADATA: json.dumps(configuration)})
        with open(temporary, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > MAX_TEXT:
            raise ValueError(f"the header would have {length} bytes, and `load` reads at most {MAX_TEXT}")


def load(path, *, return_optimizer=False):
    """Read what `save` has written.

    Nothing in the file is executed or imported, and no more memory is taken than twice its length and
    the gradient of what it holds. Names, dtypes, shapes and sizes are checked before anything is made of
    them, and every number is finite.

    Parameters
    ----------
    path : str or path-like
    return_optimizer : bool, default False
        Return the optimiser, too, or None where none was saved.

    Returns
    -------
    LSTM or Model
        A new one, the same bit for bit.
    optimizer : object of `lstm_ext.optim` or None, with `return_optimizer`

    Raises
    ------
    OSError
        If the file cannot be read.
    FormatError
        If it is not such a file, or a damaged one, or a later version's.
    """
    with open_tensors(path) as tensors:
        if _METADATA not in tensors.metadata:
            raise FormatError("it has no configuration of lstm_ext: weights of PyTorch go to from_torch")
        configuration = parse_json(tensors.metadata[_METADATA], "its configuration")
        if not isinstance(configuration, dict) or configuration.get("version") != _VERSION:
            version = configuration.get("version") if isinstance(configuration, dict) else None
            raise FormatError(f"its version is {version!r}, this lstm_ext reads version {_VERSION}")
        _words(configuration, ("version", "object"), ("optimizer",))
        unpacker = _Unpacker(tensors)
        obj = unpacker.unpack(configuration["object"], "", ("LSTM", "Model"))
        optimizer = None
        if "optimizer" in configuration:
            optimizer = unpacker.unpack(configuration["optimizer"], "optimizer.", _OPTIMIZERS)
            for name, value in optimizer.state.items():
                if name != "t" and (value.shape, value.dtype) != (obj.parameters.shape, obj.parameters.dtype):
                    raise FormatError(f"optimizer.{name} does not belong to {obj.parameters.size} parameters")
        if tensors.unread:
            raise FormatError(f"it has a tensor {sorted(tensors.unread)[0]!r} that belongs to nothing")
    return (obj, optimizer) if return_optimizer else obj


def _words(description, needed, possible=()):
    """Raise FormatError unless the keys are those `needed`, and some of those `possible`."""
    if not isinstance(description, dict) or not set(needed) <= set(description) <= {*needed, *possible}:
        found = sorted(description) if isinstance(description, dict) else description
        raise FormatError(f"its configuration has {found!r}, expected {sorted(needed)}")


def _settings(obj):
    """Arguments of an object's constructor, as its attributes have them."""
    return {name: getattr(obj, name) for name in inspect.signature(type(obj)).parameters}


class _Packer:
    """Objects to JSON and a dict of arrays by name."""

    def __init__(self):
        self.arrays = {}

    def pack(self, value, prefix):
        """Return the JSON of a value whose arrays' names begin with `prefix`."""
        kind = type(value).__name__
        if type(value) is LSTM:
            self._add(prefix, value.named_parameters())
            words = {word: getattr(value, word) for word in _LSTM_WORDS}
            return {"is": kind, **words, "dtype": value.dtype.name}
        if type(value) is Model:
            described = {"is": kind, "lstm": self.pack(value.lstm, f"{prefix}lstm.")}
            self._add(prefix, {"weight": value.weight, "bias": value.bias})
            described |= {word: getattr(value, word) for word in _MODEL_WORDS}
            return described | {"loss": self.pack(value.loss, f"{prefix}loss.")}
        if type(value) in _LOSSES.values():
            return {"is": kind, **self._pack_settings(value, prefix)}
        if type(value) in _OPTIMIZERS.values():
            state = value.state
            steps = state.pop("t")
            self._add(prefix, state)
            return {"is": kind, **self._pack_settings(value, prefix), "t": steps}
        raise TypeError(f"{prefix.rstrip('.')} is {value!r}, which no file can name")

    def _pack_settings(self, obj, prefix):
        return {name: self._pack_setting(value, prefix + name) for name, value in _settings(obj).items()}

    def _pack_setting(self, value, name):
        if isinstance(value, np.ndarray):
            self._add("", {name: value})
            return {"array": name}
        if isinstance(value, (tuple, list)):
            return [self._pack_setting(v, f"{name}.{k}") for k, v in enumerate(value)]
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        raise TypeError(f"{name} is {value!r}, expected numbers, text, or arrays, for a file")

    def _add(self, prefix, arrays):
        for name, array in arrays.items():
            if array.dtype not in DTYPES.values():
                raise TypeError(f"{prefix}{name} is {array.dtype}, expected numbers, for a file")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"{prefix}{name} holds NaN or inf: nothing has been saved")
            self.arrays[prefix + name] = np.ascontiguousarray(array)


class _Unpacker:
    """The way back, from a file that may be hostile."""

    def __init__(self, tensors):
        self.tensors = tensors
        self.total = sum(math.prod(tensors.specification(name)[1]) for name in tensors.names)

    def unpack(self, described, prefix, allowed):
        """Return the object described, one of the classes `allowed` by name."""
        kind = described.get("is") if isinstance(described, dict) else None
        if not isinstance(kind, str) or kind not in allowed:
            raise FormatError(f"{prefix or 'it'} is {kind!r}, expected {' or '.join(allowed)}")
        words = {name: value for name, value in described.items() if name != "is"}
        if kind == "LSTM":
            return self._lstm(words, prefix)
        if kind == "Model":
            return self._model(words, prefix)
        if kind in _LOSSES:
            return self._object(_LOSSES[kind], words, prefix)
        _words(words, (*_parameters(_OPTIMIZERS[kind]), "t"))
        steps = words.pop("t")
        optimizer = self._object(_OPTIMIZERS[kind], words, prefix)
        names = optimizer._names() if steps else ()
        optimizer.state = {"t": steps, **{name: self.tensors.read(prefix + name) for name in names}}
        return optimizer

    def _lstm(self, words, prefix):
        _words(words, _LSTM_WORDS)
        dtype = words["dtype"]
        if dtype not in ("float32", "float64"):
            raise FormatError(f"its dtype is {dtype!r}, expected float32 or float64")
        # Compared before names are made of these sizes, which are any numbers that JSON can hold.
        count = checked_count(words)
        if count > self.total:
            raise FormatError(f"it has {self.total} numbers, an LSTM of its sizes has {count} parameters")
        inputs = words["input_size"] * (2 if words["nan_mask"] else 1)
        shapes = parameter_shapes(words, inputs)
        self.tensors.check({prefix + name: shape for name, shape in shapes.items()}, dtype)
        lstm = bare_lstm(**words)
        for name, view in lstm.named_parameters().items():
            view[...] = self.tensors.read(prefix + name)
        return lstm

    def _model(self, words, prefix):
        _words(words, ("lstm", *_MODEL_WORDS, "loss"))
        loss = self.unpack(words["loss"], f"{prefix}loss.", _LOSSES)
        lstm = self.unpack(words["lstm"], f"{prefix}lstm.", ("LSTM",))
        output_size, every_step = words["output_size"], words["every_step"]
        if type(output_size) is not int or type(every_step) is not bool:
            raise FormatError(f"it has output_size={output_size!r}, every_step={every_step!r}")
        if not 0 < output_size * lstm.output_size <= self.total:
            raise FormatError(f"it has {self.total} numbers, too few for output_size={output_size}")
        model = Model(lstm, output_size, every_step=every_step, loss=loss)
        names = {"weight": model.weight, "bias": model.bias}
        self.tensors.check({prefix + name: view.shape for name, view in names.items()}, lstm.dtype)
        for name, view in names.items():
            view[...] = self.tensors.read(prefix + name)
        return model

    def _object(self, cls, words, prefix):
        _words(words, _parameters(cls))
        return cls(**{name: self._setting(value, prefix + name) for name, value in words.items()})

    def _setting(self, value, name):
        if isinstance(value, dict):
            if value != {"array": name}:
                raise FormatError(f"{name} is {value!r}, expected a number, text or an array")
            return self.tensors.read(name)
        if isinstance(value, list):
            return tuple(self._setting(v, f"{name}.{k}") for k, v in enumerate(value))
        return value


def _parameters(cls):
    return tuple(inspect.signature(cls).parameters)
