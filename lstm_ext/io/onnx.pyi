import os
from typing import Any, Literal, TypeAlias

import onnx
from onnx.backend.base import Backend as _Backend

from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

__all__ = ["Backend", "from_onnx", "to_onnx"]

_Path: TypeAlias = str | os.PathLike[str]

class Backend(_Backend): ...

OPSET: int
IR_VERSION: int

def from_onnx(source: _Path | bytes | bytearray | memoryview | onnx.ModelProto) -> LSTM | Model: ...
def to_onnx(
    model: LSTM | Model | Any,
    path: _Path | None = None,
    *,
    lengths: bool = False,
    initial_states: bool = False,
    activation: Literal["softmax"] | None = None,
) -> onnx.ModelProto: ...
