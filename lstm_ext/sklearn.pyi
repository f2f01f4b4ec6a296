from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin, OneToOneFeatureMixin, RegressorMixin, TransformerMixin

from lstm_ext._forecaster import LSTMForecaster as LSTMForecaster
from lstm_ext._network import Network
from lstm_ext._sequences import SequenceScaler as SequenceScaler
from lstm_ext.callbacks import Callback
from lstm_ext.model import Model

__all__ = ["LSTMClassifier", "LSTMForecaster", "LSTMRegressor", "SequenceScaler"]

_Floats = npt.NDArray[np.float64]
_X = npt.ArrayLike | Sequence[npt.ArrayLike]
_Callback = Callback | Callable[[dict[str, Any]], object]

class _Supervised(Network): ...

class LSTMRegressor(RegressorMixin, _Supervised):
    model_: Model
    x_scaler_: SequenceScaler | None
    y_scaler_: SequenceScaler | None
    n_features_in_: int
    n_outputs_: int
    n_iter_: int
    loss_: float
    loss_curve_: list[float]
    validation_loss_curve_: list[float] | None
    def __init__(
        self,
        hidden_size: int = 32,
        *,
        num_layers: int = 1,
        every_step: bool = False,
        loss: str = "mse",
        quantiles: float | Sequence[float] = 0.5,
        solver: str = "adam",
        learning_rate_init: float = 0.003,
        batch_size: int = 32,
        max_iter: int = 200,
        alpha: float = 0.0,
        momentum: float = 0.9,
        max_norm: float | None = 1.0,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        scale: bool = True,
        dtype: str = "float32",
        lstm_options: dict[str, Any] | None = None,
        callbacks: Sequence[_Callback] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None: ...
    def fit(
        self, X: _X, y: _X, sample_weight: _X | None = None, groups: npt.ArrayLike | None = None
    ) -> Self: ...
    def partial_fit(self, X: _X, y: _X, sample_weight: _X | None = None) -> Self: ...
    def predict(self, X: _X, return_std: bool = False) -> Any: ...
    def score(self, X: _X, y: _X, sample_weight: _X | None = None) -> float: ...

class LSTMClassifier(ClassifierMixin, _Supervised):
    classes_: npt.NDArray[Any]
    model_: Model
    x_scaler_: SequenceScaler | None
    n_features_in_: int
    n_iter_: int
    loss_: float
    loss_curve_: list[float]
    validation_loss_curve_: list[float] | None
    def __init__(
        self,
        hidden_size: int = 32,
        *,
        num_layers: int = 1,
        every_step: bool = False,
        solver: str = "adam",
        learning_rate_init: float = 0.003,
        batch_size: int = 32,
        max_iter: int = 200,
        alpha: float = 0.0,
        momentum: float = 0.9,
        max_norm: float | None = 1.0,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        scale: bool = True,
        dtype: str = "float32",
        lstm_options: dict[str, Any] | None = None,
        callbacks: Sequence[_Callback] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None: ...
    def fit(self, X: _X, y: _X, sample_weight: _X | None = None) -> Self: ...
    def partial_fit(
        self, X: _X, y: _X, classes: npt.ArrayLike | None = None, sample_weight: _X | None = None
    ) -> Self: ...
    def predict(self, X: _X) -> Any: ...
    def predict_proba(self, X: _X) -> Any: ...
    def predict_log_proba(self, X: _X) -> Any: ...
    def score(self, X: _X, y: _X, sample_weight: _X | None = None) -> float: ...
