import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import OptimizeResult

from lstm_ext.callbacks import Callback, EarlyStopping
from lstm_ext.model import Model
from lstm_ext.schedules import Schedule

__all__ = ["fit", "fit_lbfgs"]

def fit(
    model: Model,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    epochs: int,
    batch_size: int = 32,
    lengths: npt.ArrayLike | None = None,
    mask: npt.ArrayLike | None = None,
    static: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    optimizer: Any = None,
    schedule: Schedule | None = None,
    rng: int | np.random.Generator | None = None,
    validation: tuple[npt.ArrayLike, ...] | dict[str, Any] | None = None,
    early_stopping: EarlyStopping | None = None,
    callbacks: Sequence[Callback | Callable[[dict[str, Any]], object]] = (),
    callback: Callback | Callable[[dict[str, Any]], object] | None = None,
    progress: bool = False,
    bucket: bool = False,
    bptt: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1,
    resume: bool = False,
    comm: Any = None,
) -> list[dict[str, Any]]: ...
def fit_lbfgs(
    model: Model,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    max_iter: int = 200,
    tol: float = 1e-5,
    weight_decay: float = 0.0,
    memory: int = 10,
    batch_size: int = 256,
    lengths: npt.ArrayLike | None = None,
    mask: npt.ArrayLike | None = None,
    static: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    validation: tuple[npt.ArrayLike, ...] | dict[str, Any] | None = None,
    early_stopping: EarlyStopping | None = None,
    callbacks: Sequence[Callback | Callable[[dict[str, Any]], object]] = (),
    callback: Callback | Callable[[dict[str, Any]], object] | None = None,
    progress: bool = False,
) -> OptimizeResult: ...
