from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    OneToOneFeatureMixin,
    RegressorMixin,
    TransformerMixin,
)

from lstm_ext.callbacks import Callback
from lstm_ext.io.native import EstimatorStream
from lstm_ext.model import Model
from lstm_ext.sklearn._backtest import Backtest
from lstm_ext.sklearn._network import Network

__all__ = ["LSTMClassifier", "LSTMForecaster", "LSTMRegressor", "SequenceScaler"]

_Floats = npt.NDArray[np.float64]
_X = npt.ArrayLike | Sequence[npt.ArrayLike]
_Validation = tuple[_X, _X] | dict[str, Any]
_Callback = Callback | Callable[[dict[str, Any]], object]

class _Supervised(Network):
    def stream(
        self, batch: int = 1, static: _X | None = None, *, max_steps: int | None = None
    ) -> EstimatorStream: ...

class LSTMRegressor(RegressorMixin, _Supervised):
    model_: Model
    x_scaler_: SequenceScaler | None
    y_scaler_: SequenceScaler | None
    n_features_in_: int
    static_scaler_: SequenceScaler | None
    n_outputs_: int
    n_static_in_: int
    interval_shift_: _Floats | None
    interval_factor_: _Floats | None
    calibration_: tuple[_Floats, _Floats, _Floats | None] | None
    n_iter_: int
    loss_: float
    best_loss_: float
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
        batch_size: int | str = 32,
        max_iter: int | str = "auto",
        alpha: float = 0.0,
        momentum: float = 0.9,
        max_norm: float | None = 1.0,
        tol: float = 1e-4,
        n_iter_no_change: int | str = "auto",
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        scale: bool = True,
        dtype: str = "float32",
        lstm_options: dict[str, Any] | None = None,
        callbacks: Sequence[_Callback] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
        target_weight: npt.ArrayLike | None = None,
        static_columns: Sequence[str | int] | None = None,
        categorical_columns: Sequence[str | int] | None = None,
        bptt: int | None = None,
        learning_rate: str = "constant",
    ) -> None: ...
    def fit(
        self,
        X: _X,
        y: _X,
        sample_weight: _X | None = None,
        groups: npt.ArrayLike | None = None,
        *,
        static: npt.ArrayLike | None = None,
        validation: _Validation | None = None,
        comm: Any = None,
    ) -> Self: ...
    def partial_fit(
        self, X: _X, y: _X, sample_weight: _X | None = None, *, static: npt.ArrayLike | None = None
    ) -> Self: ...
    def predict(
        self,
        X: _X,
        return_std: bool = False,
        *,
        static: npt.ArrayLike | None = None,
        n_draws: int | None = None,
    ) -> Any: ...
    def predict_interval(
        self, X: _X, coverage: float | None = None, *, static: npt.ArrayLike | None = None
    ) -> tuple[Any, Any]: ...
    def score(
        self, X: _X, y: _X, sample_weight: _X | None = None, *, static: npt.ArrayLike | None = None
    ) -> float: ...

class LSTMClassifier(ClassifierMixin, _Supervised):
    classes_: npt.NDArray[Any]
    model_: Model
    x_scaler_: SequenceScaler | None
    static_scaler_: SequenceScaler | None
    n_features_in_: int
    n_static_in_: int
    merge_steps_: int
    n_iter_: int
    loss_: float
    best_loss_: float
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
        batch_size: int | str = "auto",
        max_iter: int | str = "auto",
        alpha: float = 0.0,
        momentum: float = 0.9,
        max_norm: float | None = 1.0,
        tol: float = 1e-4,
        n_iter_no_change: int | str = "auto",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        scale: bool = True,
        dtype: str = "float32",
        lstm_options: dict[str, Any] | None = None,
        callbacks: Sequence[_Callback] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
        pooling: str = "max",
        merge_steps: int | str = "auto",
        class_weight: dict[Any, float] | str | None = None,
        static_columns: Sequence[str | int] | None = None,
        categorical_columns: Sequence[str | int] | None = None,
        bptt: int | None = None,
        learning_rate: str = "cosine",
    ) -> None: ...
    def fit(
        self,
        X: _X,
        y: _X,
        sample_weight: _X | None = None,
        *,
        static: npt.ArrayLike | None = None,
        validation: _Validation | None = None,
        comm: Any = None,
    ) -> Self: ...
    def partial_fit(
        self,
        X: _X,
        y: _X,
        classes: npt.ArrayLike | None = None,
        sample_weight: _X | None = None,
        *,
        static: npt.ArrayLike | None = None,
    ) -> Self: ...
    def predict(
        self, X: _X, *, static: npt.ArrayLike | None = None, n_draws: int | None = None
    ) -> Any: ...
    def predict_proba(
        self, X: _X, *, static: npt.ArrayLike | None = None, n_draws: int | None = None
    ) -> Any: ...
    def predict_log_proba(self, X: _X, *, static: npt.ArrayLike | None = None) -> Any: ...
    def score(
        self, X: _X, y: _X, sample_weight: _X | None = None, *, static: npt.ArrayLike | None = None
    ) -> float: ...

class LSTMForecaster(Network):
    model_: Model
    models_: list[Model]
    period_: int
    transform_: str
    window_: int
    weights_: dict[str, _Floats]
    lstm_share_: _Floats
    fitted_values_: Any
    n_series_: int
    n_outputs_: int
    n_exogenous_: int
    n_iter_: int
    loss_: float
    loss_curve_: list[float]
    validation_loss_curve_: list[float] | None
    def __init__(
        self,
        window: int | str = "auto",
        horizon: int = 1,
        *,
        period: int | str = "auto",
        strategy: str = "recursive",
        difference: int | str | None = "auto",
        transform: str | None = "auto",
        n_members: int = 5,
        loss: str = "mse",
        coverage: float = 0.9,
        hidden_size: int = 32,
        num_layers: int = 1,
        solver: str = "adam",
        learning_rate_init: float = 0.003,
        batch_size: int = 32,
        max_iter: int | str = "auto",
        alpha: float = 0.0,
        momentum: float = 0.9,
        max_norm: float | None = 1.0,
        tol: float = 1e-4,
        n_iter_no_change: int | str = "auto",
        early_stopping: bool = True,
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
        self, y: Any, unused: None = None, *, X: Any = None, sample_weight: Any = None, comm: Any = None
    ) -> Self: ...
    def predict(
        self, horizon: Any = None, X: Any = None, *, y: Any = None, X_past: Any = None
    ) -> Any: ...
    def predict_interval(
        self,
        horizon: Any = None,
        X: Any = None,
        *,
        y: Any = None,
        X_past: Any = None,
        coverage: float | None = None,
    ) -> tuple[Any, Any]: ...
    def score(self, y: Any, unused: None = None, *, X: Any = None) -> float: ...
    def update(self, y: Any, *, X: Any = None) -> Self: ...
    def backtest(
        self,
        y: Any,
        horizon: int | None = None,
        origins: int | Sequence[int] = 8,
        *,
        X: Any = None,
        step: int | None = None,
        coverage: float | None = None,
    ) -> Backtest: ...

class SequenceScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    mean_: _Floats
    scale_: _Floats
    n_features_in_: int
    feature_names_in_: npt.NDArray[np.object_]
    with_mean: bool
    with_std: bool
    def __init__(self, with_mean: bool = True, with_std: bool = True) -> None: ...
    def __sklearn_tags__(self) -> Any: ...
    def fit(self, X: _X, y: object = None, sample_weight: npt.ArrayLike | None = None) -> Self: ...
    def fit_transform(self, X: _X, y: object = None, **fit_params: Any) -> Any: ...
    def transform(self, X: _X) -> Any: ...
    def inverse_transform(self, X: _X) -> Any: ...
