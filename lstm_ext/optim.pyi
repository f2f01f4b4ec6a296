from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SGD", "Adam", "clip_by_global_norm", "global_norm"]

_Vector = npt.NDArray[np.floating[Any]]

def global_norm(gradient: _Vector) -> float: ...
def clip_by_global_norm(gradient: _Vector, max_norm: float) -> float: ...

class _Optimizer:
    lr: float
    max_norm: float | None
    def __init__(self, lr: float, max_norm: float | None) -> None: ...
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
        max_norm: float | None = None,
    ) -> None: ...

class SGD(_Optimizer):
    momentum: float
    def __init__(
        self, lr: float, *, momentum: float = 0.0, max_norm: float | None = None
    ) -> None: ...
