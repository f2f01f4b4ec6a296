from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["CrossEntropy", "Loss", "MeanSquaredError"]

_Array = npt.NDArray[np.floating[Any]]

class Loss:
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
