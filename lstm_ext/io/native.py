"""Files of our own: safetensors, with what the numbers belong to as JSON in the metadata."""

from __future__ import annotations

import json
import os
import warnings
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from lstm_ext._files import MAX_TEXT, check_target, open_file, parse_json, read_archive
from lstm_ext._fitted import EstimatorStream as EstimatorStream
from lstm_ext._fitted import last_step
from lstm_ext._fitted import stream as stream
from lstm_ext._safetensors import TensorFile, pack_tensors, write_tensors
from lstm_ext.io._common import FormatError, reading
from lstm_ext.io._packing import (
    ESTIMATORS,
    OPTIMIZERS,
    Packer,
    Unpacker,
    check_options,
    is_estimator,
    is_pipeline,
    unpack_archive,
)
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

if TYPE_CHECKING:
    import io
    from collections.abc import Callable

__all__ = ["load", "save"]

_VERSION = 2  # since 2, with a SHA-256 of everything
_METADATA = "lstm_ext"
# Names that say that a file is of another format, and what writes such files.
_FOREIGN = {
    (".pt", ".pth", ".bin", ".ckpt"): "PyTorch's name for a pickle. lstm_ext.io.to_torch gives a state dict",
    (".pkl", ".pickle", ".joblib"): "a name for a pickle. pickle and joblib take these objects too",
    (".onnx",): "ONNX's name. lstm_ext.io.to_onnx writes such files",
    (".h5", ".hdf5", ".keras"): "Keras's name. lstm_ext.io.to_keras gives weights for set_weights",
    (".c", ".h", ".f90"): "a name for source code. lstm_ext.io.export_c writes such files",
    (".npy", ".mat", ".csv", ".json", ".toml", ".yaml", ".yml", ".zip", ".tar", ".gz", ".py", ".txt",
     ".tflite", ".pb"): "the name of another format",
}
# The first bytes of files that other functions read.
_OTHERS = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file: give it to from_keras"),
    (b"\x93NUMPY", "an array: numpy.load reads it"),
)


def save(obj: Any, path: str | os.PathLike[str], *, optimizer: Any | None = None) -> None:
    """Write an LSTM, a model or an estimator to a file, whole or not at all.

    The file is a safetensors archive: the parameters by name, as any reader of safetensors shows them,
    the configuration as JSON in the metadata, and a SHA-256 of both. Nothing in it can be executed.

    Parameters
    ----------
    obj : LSTM, Model, estimator of `lstm_ext.sklearn`, Pipeline or search
        Of these classes themselves. An estimator with callbacks is refused: they are code. A pipeline of
        scikit-learn may have `SequenceScaler`, ``StandardScaler``, ``MinMaxScaler``, ``RobustScaler``,
        ``MaxAbsScaler`` and "passthrough" before its estimator; of a search (``GridSearchCV``, ...) the
        ``best_estimator_`` is kept.
    path : str or path-like
        Replaced when the new file is complete. Usually ``name.safetensors``; names of other formats
        (``.pt``, ``.pkl``, ``.onnx``, ...) are refused, ``.npz`` gets a warning.
    optimizer : object of `lstm_ext.optim`, optional
        Kept with its settings and its state, so that training goes on with the same bits. Estimators keep
        their own.

    Raises
    ------
    TypeError
        If `obj`, its loss, `optimizer`, or what an estimator holds is none of this package's classes,
        numbers, text or arrays.
    ValueError
        If a parameter is NaN or infinite, or `path` has the name of another format.
    OSError
        If the file cannot be written: no such folder, a disk that is full, a `path` that is a folder, a
        pipe or a device. After any error the former file stands.
    """
    save_object(obj, path, optimizer)


def save_object(
    obj: Any, path: str | os.PathLike[str], optimizer: Any = None, stacklevel: int = 4
) -> None:
    """Do what `save` does; a warning points at the caller so many frames above."""
    metadata, arrays = _described(obj, optimizer, lambda: check_path(path, stacklevel + 2))
    write_tensors(path, metadata, arrays)


def packed(obj: Any) -> bytes:
    """Return the bytes of the file that `save` writes."""
    return pack_tensors(*_described(obj, None))


def _described(
    obj: Any, optimizer: Any, check: Callable[[], None] | None = None
) -> tuple[dict[str, str], dict[str, Any]]:
    """Return metadata and arrays of the file of an object; `check()` comes before anything is packed."""
    if hasattr(obj, "best_estimator_") or hasattr(obj, "cv"):
        obj = last_step(obj)[0]
    if type(obj) not in (LSTM, Model) and not is_estimator(obj) and not is_pipeline(obj):
        raise TypeError(
            f"obj is {type(obj).__name__}; expected an LSTM, a Model, an estimator, or a pipeline that ends "
            "in one"
        )
    if optimizer is not None and type(optimizer) not in OPTIMIZERS.values():
        raise TypeError(f"optimizer is {optimizer!r}; expected one of {', '.join(OPTIMIZERS)}")
    if check is not None:
        check()
    packer = Packer()
    configuration = {"version": _VERSION, "object": packer.pack(obj, "")}
    if optimizer is not None:
        configuration["optimizer"] = packer.pack(optimizer, "optimizer")
    return {_METADATA: json.dumps(configuration)}, packer.arrays


def check_path(path: str | os.PathLike[str], stacklevel: int) -> None:
    """Raise ValueError for a name that belongs to another format, OSError for what cannot be written."""
    ending = os.path.splitext(os.fsdecode(os.fspath(path)))[1].lower()
    for endings, whose in _FOREIGN.items():
        if ending in endings:
            raise ValueError(
                f"path is {os.fspath(path)!r}; expected a name that ends in .safetensors, which the file is. "
                f"{ending} is {whose}"
            )
    if ending == ".npz":
        warnings.warn(
            f"path is {os.fspath(path)!r}, and the file is of safetensors, which numpy.load does not read; "
            "expected a name that ends in .safetensors",
            stacklevel=stacklevel,
        )
    check_target(path)


if TYPE_CHECKING:
    from lstm_ext.optim import SGD, Adam, AdamW, RMSprop
    from lstm_ext.sklearn import LSTMClassifier, LSTMForecaster, LSTMRegressor
    from lstm_ext.sklearn._bases import Pipeline

    _Saved: TypeAlias = LSTM | Model | LSTMClassifier | LSTMForecaster | LSTMRegressor | Pipeline
    _Optimizer: TypeAlias = SGD | Adam | AdamW | RMSprop


@overload
def load(path: str | os.PathLike[str], *, return_optimizer: Literal[False] = False) -> _Saved: ...
@overload
def load(
    path: str | os.PathLike[str], *, return_optimizer: Literal[True]
) -> tuple[_Saved, _Optimizer | None]: ...
def load(path: str | os.PathLike[str], *, return_optimizer: bool = False) -> Any:
    """Read what `save` or `Model.save` has written; former versions' ``.npz`` too.

    The bytes say which it is, not the name. Nothing in the file is executed, and it can name no class but
    those of `save`. Names, dtypes, shapes and sizes are checked against what the file holds before memory
    is taken for them, and all of it against its SHA-256, where it has one.

    Parameters
    ----------
    path : str or path-like
    return_optimizer : bool, default False
        Return the optimiser, too, or None where none was saved.

    Returns
    -------
    LSTM, Model, estimator or Pipeline
        A new one, the same bit for bit.
    optimizer : object of `lstm_ext.optim` or None, with `return_optimizer`

    Raises
    ------
    OSError
        If the file cannot be read.
    FormatError
        If it is not such a file, or a damaged one, or a later version's; if a parameter is not finite.
    """
    with reading(path), open_file(path) as file:
        first = file.read(8)
        if first[:4] == b"PK\x03\x04":
            found = _of_archive(file), None
        else:
            # The length of a header, which other files of this kind begin with, has zeros there.
            if first[:1] == b"\x80" and any(first[3:]):
                raise FormatError("it is a pickle, which can run any code when it is read")
            for begin, what in _OTHERS:
                if first.startswith(begin):
                    raise FormatError(f"it is {what}; expected a file of lstm_ext.io.save")
            found = _of_tensors(TensorFile(file))
    return found if return_optimizer else found[0]


def _of_archive(file: io.BufferedReader) -> tuple[Any, Any]:
    """Return the model of a former version's ``.npz``."""
    file.seek(0)
    content = file.read(2**16)
    for name, what in (
        (b"data.pkl", "a file of PyTorch: read it with from_torch(path, prefix=, head=)"),
        (b"model.weights.h5", "a file of Keras: give it to from_keras"),
    ):
        if name in content:
            raise FormatError(f"it is {what}; expected a file of lstm_ext.io.save")
    return unpack_archive(*read_archive(file, ["parameters"], 100_000))


def _of_tensors(tensors: TensorFile) -> tuple[Any, Any]:
    if "lstm_ext.checkpoint" in tensors.metadata:
        raise FormatError("it is a checkpoint of a training: give it to Model.fit(checkpoint=, resume=True)")
    if _METADATA not in tensors.metadata:
        raise FormatError("it has no configuration of lstm_ext: weights of PyTorch go to from_torch")
    configuration = parse_json(tensors.metadata[_METADATA], "its configuration", MAX_TEXT)
    version = configuration.get("version") if isinstance(configuration, dict) else None
    if type(version) is not int or version not in (1, _VERSION):
        raise FormatError(f"its version is {version!r}, this lstm_ext reads versions 1 and {_VERSION}")
    check_options(configuration, ("version", "object"), ("optimizer",))
    if version == 1 and "sha256" in tensors.metadata:
        raise FormatError("its version is 1, which has no SHA-256, and it has one")
    unpacker = Unpacker(tensors)
    obj = unpacker.unpack(configuration["object"], "", ("LSTM", "Model", *ESTIMATORS, "Pipeline"))
    optimizer = None
    if "optimizer" in configuration:
        optimizer = unpacker.unpack(configuration["optimizer"], "optimizer", OPTIMIZERS)
        parameters: Any = getattr(getattr(obj, "model_", obj), "parameters", None)
        for name, value in optimizer.state.items():
            if name != "t" and (value.shape, value.dtype) != (parameters.shape, parameters.dtype):
                raise FormatError(f"optimizer.{name} does not belong to {parameters.size} parameters")
    if tensors.unread:
        raise FormatError(f"it has a tensor {min(tensors.unread)[:80]!r} that belongs to nothing")
    if version > 1:
        tensors.check_digest()
    return obj, optimizer
