from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SGD", "Adam", "AdamW", "RMSprop", "clip_by_global_norm", "clip_by_value", "global_norm"]

_Vector = npt.NDArray[np.floating[Any]]

def global_norm(gradient: _Vector) -> float: ...
def clip_by_global_norm(gradient: _Vector, max_norm: float) -> float: ...
def clip_by_value(gradient: _Vector, max_value: float) -> None: ...

class _Optimizer:
    lr: float
    weight_decay: float
    max_norm: float | None
    max_value: float | None
    def __init__(
        self, lr: float, weight_decay: float, max_norm: float | None, max_value: float | None
    ) -> None: ...
    def __getstate__(self) -> dict[str, Any]: ...
    def step(self, parameters: _Vector, gradient: _Vector) -> None: ...
    @property
    def state(self) -> dict[str, Any]: ...
    @state.setter
    def state(self, state: dict[str, Any]) -> None: ...

class Adam(_Optimizer):
    betas: tuple[float, float]
    eps: float
    def __init__(
        self,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
        max_value: float | None = None,
    ) -> None: ...

class AdamW(Adam):
    def __init__(
        self,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        max_norm: float | None = None,
        max_value: float | None = None,
    ) -> None: ...

class RMSprop(_Optimizer):
    alpha: float
    eps: float
    def __init__(
        self,
        lr: float = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
        max_value: float | None = None,
    ) -> None: ...

class SGD(_Optimizer):
    momentum: float
    def __init__(
        self,
        lr: float,
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
        max_value: float | None = None,
    ) -> None: ...
