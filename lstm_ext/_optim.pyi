from lstm_ext._typing import FloatArray

def norm(x: FloatArray) -> float: ...
def scale(x: FloatArray, factor: float) -> None: ...
def sgd(
    parameters: FloatArray, gradient: FloatArray, scale: float, decay: float, lr: float
) -> None: ...
def sgd_momentum(
    parameters: FloatArray,
    gradient: FloatArray,
    velocity: FloatArray,
    scale: float,
    decay: float,
    lr: float,
    momentum: float,
) -> None: ...
def rmsprop(
    parameters: FloatArray,
    gradient: FloatArray,
    square: FloatArray,
    scale: float,
    decay: float,
    lr: float,
    alpha: float,
    eps: float,
) -> None: ...
def adam(
    parameters: FloatArray,
    gradient: FloatArray,
    m: FloatArray,
    v: FloatArray,
    scale: float,
    decay: float,
    shrink: float,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    t: int,
) -> None: ...
