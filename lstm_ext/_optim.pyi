from typing import Any

import numpy as np
import numpy.typing as npt

_Vector = npt.NDArray[np.floating[Any]]

def norm(x: _Vector) -> float: ...
def scale(x: _Vector, factor: float) -> None: ...
def sgd(parameters: _Vector, gradient: _Vector, scale: float, lr: float) -> None: ...
def sgd_momentum(
    parameters: _Vector,
    gradient: _Vector,
    velocity: _Vector,
    scale: float,
    lr: float,
    momentum: float,
) -> None: ...
def adam(
    parameters: _Vector,
    gradient: _Vector,
    m: _Vector,
    v: _Vector,
    scale: float,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    t: int,
) -> None: ...
