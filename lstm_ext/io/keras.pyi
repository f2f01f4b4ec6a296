from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

__all__ = ["from_keras", "to_keras"]

_Activation = str | tuple[str | float, ...]

def from_keras(
    source: Any,
    *,
    activation: _Activation | None = None,
    recurrent_activation: _Activation | None = None,
    go_backwards: bool | None = None,
    bidirectional: bool | None = None,
    every_step: bool | None = None,
    loss: Any = "mse",
    batch_first: bool = True,
    dtype: npt.DTypeLike | None = None,
    ignore: Iterable[str] = (),
) -> LSTM | Model: ...
def to_keras(obj: LSTM | Model) -> list[npt.NDArray[np.floating[Any]]]: ...
