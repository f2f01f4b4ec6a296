import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lstm_ext.callbacks import Callback, EarlyStopping
from lstm_ext.lstm import LSTM
from lstm_ext.schedules import Schedule

__all__ = ["Model"]

_Array = npt.NDArray[np.floating[Any]]

class _Loss(Protocol):
    def check(
        self,
        target: npt.NDArray[Any],
        shape: tuple[int, ...],
        weights: npt.NDArray[Any] | None = None,
    ) -> None: ...
    def value_and_gradient(
        self, prediction: _Array, target: npt.NDArray[Any], weights: npt.NDArray[Any] | None = None
    ) -> tuple[float, _Array]: ...

class _Optimizer(Protocol):
    def step(self, parameters: _Array, gradient: _Array) -> None: ...

class Model:
    lstm: LSTM
    output_size: int
    every_step: bool
    pooling: str
    loss: _Loss
    def __init__(
        self,
        lstm: LSTM,
        output_size: int,
        *,
        every_step: bool = False,
        loss: str | _Loss = "mse",
        pooling: str = "last",
        rng: int | np.random.Generator | None = None,
    ) -> None: ...
    @property
    def parameters(self) -> _Array: ...
    @parameters.setter
    def parameters(self, values: npt.ArrayLike) -> None: ...
    @property
    def gradient(self) -> _Array: ...
    @property
    def attention(self) -> _Array: ...
    @attention.setter
    def attention(self, values: npt.ArrayLike) -> None: ...
    @property
    def weight(self) -> _Array: ...
    @weight.setter
    def weight(self, values: npt.ArrayLike) -> None: ...
    @property
    def bias(self) -> _Array: ...
    @bias.setter
    def bias(self, values: npt.ArrayLike) -> None: ...
    def named_parameters(self) -> dict[str, _Array]: ...
    def named_gradients(self) -> dict[str, _Array]: ...
    def __getstate__(self) -> dict[str, Any]: ...
    def __setstate__(self, state: dict[str, Any]) -> None: ...
    def predict(
        self,
        x: npt.ArrayLike,
        lengths: npt.ArrayLike | None = None,
        *,
        mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None,
    ) -> _Array: ...
    def evaluate(
        self,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        lengths: npt.ArrayLike | None = None,
        *,
        mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> float: ...
    def loss_and_gradient(
        self,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        lengths: npt.ArrayLike | None = None,
        *,
        mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
        seed: int | None = None,
    ) -> float: ...
    def hvp(
        self,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        direction: npt.ArrayLike,
        lengths: npt.ArrayLike | None = None,
        *,
        mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
        seed: int | None = None,
    ) -> _Array: ...
    def value_and_gradient(
        self,
        theta: npt.ArrayLike,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        lengths: npt.ArrayLike | None = None,
        *,
        mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
        seed: int | None = None,
    ) -> tuple[float, npt.NDArray[np.float64]]: ...
    def hessp(
        self,
        theta: npt.ArrayLike,
        direction: npt.ArrayLike,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        lengths: npt.ArrayLike | None = None,
        *,
        mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
        seed: int | None = None,
    ) -> npt.NDArray[np.float64]: ...
    def fit(
        self,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        epochs: int,
        batch_size: int = 32,
        lengths: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
        optimizer: _Optimizer | None = None,
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
    def save(self, path: str | os.PathLike[str]) -> None: ...
    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Model: ...
