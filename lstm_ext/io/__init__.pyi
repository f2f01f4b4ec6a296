from lstm_ext.io._common import FormatError as FormatError
from lstm_ext.io.c_export import export_c as export_c
from lstm_ext.io.keras import from_keras as from_keras
from lstm_ext.io.keras import to_keras as to_keras
from lstm_ext.io.native import EstimatorStream as EstimatorStream
from lstm_ext.io.native import load as load
from lstm_ext.io.native import save as save
from lstm_ext.io.native import stream as stream
from lstm_ext.io.onnx import from_onnx as from_onnx
from lstm_ext.io.onnx import to_onnx as to_onnx
from lstm_ext.io.torch import from_torch as from_torch
from lstm_ext.io.torch import to_torch as to_torch

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
