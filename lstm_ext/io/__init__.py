"""Models in and out: files of our own, PyTorch, Keras, ONNX, C.

Each name is found in the module of its format when it is first asked for, and the libraries of a format are
imported where they are used: importing ``lstm_ext.io`` needs only NumPy.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from lstm_ext.io._common import FormatError

_MODULES = {
    "save": "native",
    "load": "native",
    "from_torch": "torch",
    "to_torch": "torch",
    "from_keras": "keras",
    "to_keras": "keras",
    "from_onnx": "onnx",
    "to_onnx": "onnx",
    "from_tflite": "tflite",
    "export_c": "c_export",
    "export_casadi": "control",
    "export_fmu": "control",
    "to_casadi": "casadi",
    "from_neuralhydrology": "hydrology",
    "HydrologyModel": "hydrology",
    "stream": "native",
    "EstimatorStream": "native",
}

if TYPE_CHECKING:
    from lstm_ext.io.c_export import export_c
    from lstm_ext.io.casadi import to_casadi
    from lstm_ext.io.control import export_casadi, export_fmu
    from lstm_ext.io.hydrology import HydrologyModel, from_neuralhydrology
    from lstm_ext.io.keras import from_keras, to_keras
    from lstm_ext.io.native import EstimatorStream, load, save, stream
    from lstm_ext.io.onnx import from_onnx, to_onnx
    from lstm_ext.io.tflite import from_tflite
    from lstm_ext.io.torch import from_torch, to_torch

__all__ = [
    "EstimatorStream",
    "FormatError",
    "HydrologyModel",
    "export_c",
    "export_casadi",
    "export_fmu",
    "from_keras",
    "from_neuralhydrology",
    "from_onnx",
    "from_tflite",
    "from_torch",
    "load",
    "save",
    "stream",
    "to_casadi",
    "to_keras",
    "to_onnx",
    "to_torch",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
