from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "LOSSES",
    "AsymmetricLaplaceMixture",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "GaussianNLL",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "NashSutcliffe",
    "NegativeBinomial",
    "Poisson",
    "Quantile",
    "StudentT",
]

_Array = npt.NDArray[np.floating[Any]]

LOSSES: dict[str, type[Loss]]

class Loss:
    outputs_per_target: int
    @property
    def options(self) -> dict[str, Any]: ...
    def check(
        self,
        target: npt.NDArray[Any],
        shape: tuple[int, ...],
        weights: npt.NDArray[Any] | None = None,
    ) -> None: ...
    def value_and_gradient(
        self,
        prediction: npt.ArrayLike,
        target: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> tuple[float, _Array]: ...
    def gradient_jvp(
        self,
        prediction: npt.ArrayLike,
        prediction_dot: npt.ArrayLike,
        target: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> _Array: ...
    def value(
        self,
        prediction: npt.ArrayLike,
        target: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> float: ...
    def gradient(
        self,
        prediction: npt.ArrayLike,
        target: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> _Array: ...

class MeanSquaredError(Loss): ...
class CrossEntropy(Loss): ...
class _Pointwise(Loss): ...
class MeanAbsoluteError(_Pointwise): ...
class BinaryCrossEntropy(_Pointwise): ...

class Weighted(Loss):
    loss: Loss
    def __init__(self, loss: Loss) -> None: ...
    @property
    def outputs_per_target(self) -> int: ...  # type: ignore[override]

class Huber(_Pointwise):
    delta: float
    def __init__(self, delta: float = 1.0) -> None: ...

class Quantile(_Pointwise):
    levels: tuple[float, ...]
    def __init__(self, levels: float | Sequence[float] = (0.1, 0.5, 0.9)) -> None: ...
    @property
    def outputs_per_target(self) -> int: ...  # type: ignore[override]

class Poisson(_Pointwise):
    def rate(self, prediction: npt.ArrayLike) -> _Array: ...
    def quantile(self, prediction: npt.ArrayLike, levels: npt.ArrayLike) -> _Array: ...

class GaussianNLL(_Pointwise):
    min_scale: float
    def __init__(self, min_scale: float = 1e-6) -> None: ...
    def mean_and_scale(self, prediction: npt.ArrayLike) -> tuple[_Array, _Array]: ...
    def quantile(self, prediction: npt.ArrayLike, levels: npt.ArrayLike) -> _Array: ...

class _Several(_Pointwise): ...

class NegativeBinomial(_Several):
    min_dispersion: float
    def __init__(self, min_dispersion: float = 1e-4) -> None: ...
    def mean_and_dispersion(self, prediction: npt.ArrayLike) -> tuple[_Array, _Array]: ...
    def mean_and_scale(self, prediction: npt.ArrayLike) -> tuple[_Array, _Array]: ...
    def quantile(self, prediction: npt.ArrayLike, levels: npt.ArrayLike) -> _Array: ...

class StudentT(_Several):
    min_scale: float
    def __init__(self, min_scale: float = 1e-6) -> None: ...
    def distribution(self, prediction: npt.ArrayLike) -> tuple[_Array, _Array, _Array]: ...
    def mean_and_scale(self, prediction: npt.ArrayLike) -> tuple[_Array, _Array]: ...
    def quantile(self, prediction: npt.ArrayLike, levels: npt.ArrayLike) -> _Array: ...

class AsymmetricLaplaceMixture(_Several):
    components: int
    min_scale: float
    def __init__(self, components: int = 3, min_scale: float = 1e-4) -> None: ...
    @property
    def outputs_per_target(self) -> int: ...  # type: ignore[override]
    def distribution(self, prediction: npt.ArrayLike) -> tuple[_Array, _Array, _Array, _Array]: ...
    def mean_and_scale(self, prediction: npt.ArrayLike) -> tuple[_Array, _Array]: ...
    def cdf(self, prediction: npt.ArrayLike, y: npt.ArrayLike) -> _Array: ...
    def quantile(self, prediction: npt.ArrayLike, levels: npt.ArrayLike) -> _Array: ...

class NashSutcliffe(_Pointwise):
    eps: float
    def __init__(self, eps: float = 0.1) -> None: ...
    def prepare(
        self,
        y: npt.ArrayLike,
        *,
        groups: npt.ArrayLike | None = None,
        scale: npt.ArrayLike | None = None,
    ) -> _Array: ...
