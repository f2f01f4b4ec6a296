"""Models in and out: files of our own, PyTorch, Keras, ONNX, C.

Each name is found in the room of its format when it is first asked for, and the libraries of a format are
imported where they are used: importing ``lstm_ext.io`` needs NumPy alone.
"""

from importlib import import_module as _import_module

from lstm_ext.io._common import FormatError

_ROOMS = {
    "save": "native",
    "load": "native",
    "from_torch": "torch",
    "to_torch": "torch",
    "from_keras": "keras",
    "to_keras": "keras",
    "from_onnx": "onnx",
    "to_onnx": "onnx",
    "export_c": "c_export",
    "stream": "native",
    "EstimatorStream": "native",
}

__all__ = [
    "EstimatorStream",
    "FormatError",
    "export_c",
    "from_keras",
    "from_onnx",
    "from_torch",
    "load",
    "save",
    "stream",
    "to_keras",
    "to_onnx",
    "to_torch",
]


def __getattr__(name):
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(f"{__name__}.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
