from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

__all__ = ["from_torch", "to_torch"]

def from_torch(
    source: Any,
    *,
    prefix: str = "",
    head: str | None = None,
    batch_first: bool | None = None,
    dropout: float | None = None,
    every_step: bool = False,
    loss: Any = "mse",
    dtype: npt.DTypeLike | None = None,
) -> LSTM | Model: ...
def to_torch(
    obj: LSTM | Model, *, prefix: str | None = None, head: str = "head"
) -> dict[str, npt.NDArray[np.floating[Any]]]: ...
