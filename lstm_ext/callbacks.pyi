from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ext.model import Model

__all__ = ["Callback", "EarlyStopping", "ProgressBar"]

class Callback:
    def on_fit_begin(self, model: Model, epochs: int, done: int) -> None: ...
    def on_batch_end(self, epoch: int, share: float, loss: float) -> None: ...
    def on_epoch_end(self, record: dict[str, Any]) -> object: ...
    def on_fit_end(self) -> None: ...

class EarlyStopping(Callback):
    patience: int
    min_delta: float
    monitor: str | None
    restore_best: bool
    best: float
    best_epoch: int
    last_epoch: int
    def __init__(
        self,
        patience: int = 10,
        min_delta: float = 0.0,
        monitor: str | None = None,
        restore_best: bool = True,
    ) -> None: ...
    @property
    def done(self) -> bool: ...
    def saved(self) -> tuple[dict[str, Any], npt.NDArray[np.floating[Any]] | None]: ...
    def restore(
        self, state: dict[str, Any], parameters: npt.NDArray[np.floating[Any]] | None
    ) -> None: ...

class ProgressBar(Callback):
    def __init__(self, **words: Any) -> None: ...
