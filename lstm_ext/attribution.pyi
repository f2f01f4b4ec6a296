from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ext.model import Model

__all__ = ["gradient_times_input", "integrated_gradients", "output_difference"]

_Array = npt.NDArray[np.floating[Any]]

def gradient_times_input(
    model: Model | Any,
    x: npt.ArrayLike,
    output: int = 0,
    *,
    step: int | None = None,
    baseline: npt.ArrayLike | None = None,
    lengths: npt.ArrayLike | None = None,
    mask: npt.ArrayLike | None = None,
    static: npt.ArrayLike | None = None,
) -> _Array: ...
def integrated_gradients(
    model: Model | Any,
    x: npt.ArrayLike,
    output: int = 0,
    *,
    step: int | None = None,
    baseline: npt.ArrayLike | None = None,
    points: int = 32,
    lengths: npt.ArrayLike | None = None,
    mask: npt.ArrayLike | None = None,
    static: npt.ArrayLike | None = None,
) -> _Array: ...
def output_difference(
    model: Model | Any,
    x: npt.ArrayLike,
    output: int = 0,
    *,
    step: int | None = None,
    baseline: npt.ArrayLike | None = None,
    lengths: npt.ArrayLike | None = None,
    mask: npt.ArrayLike | None = None,
    static: npt.ArrayLike | None = None,
) -> _Array: ...
