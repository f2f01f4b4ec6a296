"""Files of our own: safetensors, with what the numbers belong to as JSON in the metadata."""

import json

from lstm_ext._files import replace_file
from lstm_ext.io._common import MAX_TEXT, FormatError, parse_json, require
from lstm_ext.io._packing import ESTIMATORS, OPTIMIZERS, Packer, Unpacker, check_words, is_estimator
from lstm_ext.io._tensors import open_tensors
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

__all__ = ["load", "save"]

_VERSION = 1
_METADATA = "lstm_ext"


def save(obj, path, *, optimizer=None):
    """Write an LSTM, a model or an estimator to a file, whole or not at all.

    The file is a safetensors archive: the parameters by name, as any reader of safetensors shows them,
    and the configuration as JSON in the metadata. Nothing in it can be executed.

    Parameters
    ----------
    obj : LSTM, Model or estimator of `lstm_ext.sklearn`
        Of these classes themselves. An estimator with callbacks is refused: they are code.
    path : str or path-like
        Replaced when the new file is complete. Usually ``name.safetensors``.
    optimizer : object of `lstm_ext.optim`, optional
        Kept with its settings and its state, so that training goes on with the same bits. Estimators keep
        their own.

    Raises
    ------
    TypeError
        If `obj`, its loss, `optimizer`, or what an estimator holds is none of this package's classes,
        numbers, text or arrays.
    ValueError
        If a parameter is NaN or infinite. Nothing has been written.
    """
    library = require("safetensors.numpy", "io")
    if type(obj) not in (LSTM, Model) and not is_estimator(obj):
        raise TypeError(f"obj is {type(obj).__name__}, expected an LSTM, a Model or an estimator")
    if optimizer is not None and type(optimizer) not in OPTIMIZERS.values():
        raise TypeError(f"optimizer is {optimizer!r}, expected one of {', '.join(OPTIMIZERS)}")
    packer = Packer()
    configuration = {"version": _VERSION, "object": packer.pack(obj, "")}
    if optimizer is not None:
        configuration["optimizer"] = packer.pack(optimizer, "optimizer")
    with replace_file(path) as temporary:
        library.save_file(packer.arrays, temporary, {_METADATA: json.dumps(configuration)})
        with open(temporary, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > MAX_TEXT:
            raise ValueError(f"the header would have {length} bytes, and load reads at most {MAX_TEXT}")


def load(path, *, return_optimizer=False):
    """Read what `save` has written.

    Nothing in the file is executed, and it can name no class but those of `save`. Names, dtypes, shapes
    and sizes are checked against what the file holds before memory is taken for them.

    Parameters
    ----------
    path : str or path-like
    return_optimizer : bool, default False
        Return the optimiser, too, or None where none was saved.

    Returns
    -------
    LSTM, Model or estimator
        A new one, the same bit for bit.
    optimizer : object of `lstm_ext.optim` or None, with `return_optimizer`

    Raises
    ------
    OSError
        If the file cannot be read.
    FormatError
        If it is not such a file, or a damaged one, or a later version's; if a parameter is not finite.
    """
    with open_tensors(path) as tensors:
        if _METADATA not in tensors.metadata:
            raise FormatError("it has no configuration of lstm_ext: weights of PyTorch go to from_torch")
        configuration = parse_json(tensors.metadata[_METADATA], "its configuration")
        version = configuration.get("version") if isinstance(configuration, dict) else None
        if version != _VERSION or type(version) is not int:
            raise FormatError(f"its version is {version!r}, this lstm_ext reads version {_VERSION}")
        check_words(configuration, ("version", "object"), ("optimizer",))
        unpacker = Unpacker(tensors)
        obj = unpacker.unpack(configuration["object"], "", ("LSTM", "Model", *ESTIMATORS))
        optimizer = None
        if "optimizer" in configuration:
            optimizer = unpacker.unpack(configuration["optimizer"], "optimizer", OPTIMIZERS)
            parameters = getattr(getattr(obj, "model_", obj), "parameters", None)
            for name, value in optimizer.state.items():
                if name != "t" and (value.shape, value.dtype) != (parameters.shape, parameters.dtype):
                    raise FormatError(f"optimizer.{name} does not belong to {parameters.size} parameters")
        if tensors.unread:
            raise FormatError(f"it has a tensor {sorted(tensors.unread)[0]!r} that belongs to nothing")
    return (obj, optimizer) if return_optimizer else obj
