import os
from typing import Any, Literal

from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

__all__ = ["export_c"]

LONGEST_NAME: int

def export_c(
    model: LSTM | Model | Any,
    path: str | os.PathLike[str],
    *,
    weights: Literal["inline", "binary"] = "inline",
    name: str = "model",
) -> list[str]: ...
