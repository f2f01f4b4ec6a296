from typing import Any

import numpy as np
import numpy.typing as npt

_Vector = npt.NDArray[np.floating[Any]]

def norm(x: _Vector) -> float: ...
def scale(x: _Vector, factor: float) -> None: ...
def sgd(
    parameters: _Vector, gradient: _Vector, scale: float, decay: float, lr: float
) -> None: ...
def sgd_momentum(
    parameters: _Vector,
    gradient: _Vector,
    velocity: _Vector,
    scale: float,
    decay: float,
    lr: float,
    momentum: float,
) -> None: ...
def rmsprop(
    parameters: _Vector,
    gradient: _Vector,
    square: _Vector,
    scale: float,
    decay: float,
    lr: float,
    alpha: float,
    eps: float,
) -> None: ...
def adam(
    parameters: _Vector,
    gradient: _Vector,
    m: _Vector,
    v: _Vector,
    scale: float,
    decay: float,
    shrink: float,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    t: int,
) -> None: ...
