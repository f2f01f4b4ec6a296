"""Types that the estimators share; imported by type checkers only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from lstm_ext.callbacks import Callback
from lstm_ext.training import EpochRecord

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float64]
Reals: TypeAlias = npt.NDArray[np.floating[Any]]  # float32 or float64
Integers: TypeAlias = npt.NDArray[np.integer[Any]]
Bools: TypeAlias = npt.NDArray[np.bool_]
Numbers: TypeAlias = npt.NDArray[np.number[Any] | np.bool_]

Sequential: TypeAlias = npt.ArrayLike | Sequence[npt.ArrayLike]  # one array, a frame, or a list of them
Validation: TypeAlias = tuple[Sequential, Sequential] | dict[str, Any]
TrainingData: TypeAlias = dict[str, Any]  # keyword arguments of Model.prepare: arrays or None
Callbacks: TypeAlias = Sequence[Callback | Callable[[EpochRecord], object]]
RandomState: TypeAlias = int | np.random.RandomState

Auto: TypeAlias = Literal["auto"]
ComputeDtype: TypeAlias = Literal["float32", "float64"]
Solver: TypeAlias = Literal["adam", "adamw", "rmsprop", "sgd", "lbfgs"]
LearningRate: TypeAlias = Literal["constant", "cosine"]
RegressionLoss: TypeAlias = Literal[
    "mse", "mae", "huber", "quantile", "poisson", "gaussian", "nse", "negative_binomial", "student_t", "cmal"
]
ForecastLoss: TypeAlias = Literal["mse", "mae", "huber", "quantile", "poisson", "gaussian"]
Strategy: TypeAlias = Literal["recursive", "direct"]
Transform: TypeAlias = Literal["auto", "log", "boxcox"]
Pooling: TypeAlias = Literal["last", "mean", "max", "attention"]
