from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

__all__ = ["AttributionDisplay", "ForecastDisplay", "LearningCurveDisplay", "StateDisplay"]

# matplotlib is optional, and imported when something is drawn: its types are Any here.
_Axes = Any
_Array = npt.NDArray[np.float64]

class LearningCurveDisplay:
    loss: _Array
    validation: _Array | None
    validation_is_score: bool
    epochs: npt.NDArray[Any]
    ax_: _Axes
    score_ax_: _Axes
    figure_: Any
    line_: Any
    validation_line_: Any
    def __init__(
        self,
        loss: npt.ArrayLike,
        validation: npt.ArrayLike | None = None,
        *,
        validation_is_score: bool = False,
        epochs: npt.ArrayLike | None = None,
    ) -> None: ...
    @classmethod
    def from_history(cls, history: Sequence[dict[str, Any]], *, ax: _Axes = None) -> Self: ...
    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: _Axes = None) -> Self: ...
    def plot(self, ax: _Axes = None) -> Self: ...

class ForecastDisplay:
    history: _Array
    prediction: _Array
    truth: _Array | None
    interval: tuple[_Array, ...] | None
    coverage: float | None
    index: npt.NDArray[Any]
    ax_: _Axes
    figure_: Any
    history_line_: Any
    prediction_line_: Any
    truth_line_: Any
    band_: Any
    def __init__(
        self,
        history: npt.ArrayLike,
        prediction: npt.ArrayLike,
        *,
        truth: npt.ArrayLike | None = None,
        interval: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        coverage: float | None = None,
        index: npt.ArrayLike | None = None,
    ) -> None: ...
    @classmethod
    def from_predictions(
        cls,
        history: npt.ArrayLike,
        prediction: npt.ArrayLike,
        *,
        truth: npt.ArrayLike | None = None,
        interval: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        coverage: float | None = None,
        index: npt.ArrayLike | None = None,
        ylabel: str | None = None,
        ax: _Axes = None,
    ) -> Self: ...
    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        y: npt.ArrayLike,
        *,
        horizon: int | None = None,
        X: npt.ArrayLike | None = None,
        X_past: npt.ArrayLike | None = None,
        truth: npt.ArrayLike | None = None,
        coverage: float | None = None,
        index: npt.ArrayLike | None = None,
        ylabel: str | None = None,
        ax: _Axes = None,
    ) -> Self: ...
    @classmethod
    def from_samples(
        cls,
        history: npt.ArrayLike,
        samples: npt.ArrayLike,
        *,
        coverage: float = 0.9,
        truth: npt.ArrayLike | None = None,
        index: npt.ArrayLike | None = None,
        ylabel: str | None = None,
        ax: _Axes = None,
    ) -> Self: ...
    def plot(self, ax: _Axes = None, *, ylabel: str | None = None) -> Self: ...

class StateDisplay:
    values: dict[str, _Array]
    feature_names: list[str] | None
    ax_: npt.NDArray[Any]
    figure_: Any
    def __init__(
        self, values: dict[str, npt.ArrayLike], *, feature_names: Sequence[str] | None = None
    ) -> None: ...
    @classmethod
    def from_model(
        cls,
        model: LSTM | Model,
        x: npt.ArrayLike,
        *,
        show: Sequence[str] = ("x", "i", "f", "o", "c", "h"),
        layer: int = -1,
        reverse: bool = False,
        units: Sequence[int] | None = None,
        state: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        static: npt.ArrayLike | None = None,
        feature_names: Sequence[str] | None = None,
        ax: Sequence[_Axes] | None = None,
    ) -> Self: ...
    def plot(self, ax: Sequence[_Axes] | None = None) -> Self: ...

class AttributionDisplay:
    attribution: _Array
    change: float | None
    feature_names: list[str]
    ax_: _Axes
    figure_: Any
    def __init__(
        self,
        attribution: npt.ArrayLike,
        *,
        change: float | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> None: ...
    @classmethod
    def from_model(
        cls,
        model: Model,
        x: npt.ArrayLike,
        output: int = 0,
        *,
        step: int | None = None,
        baseline: npt.ArrayLike | None = None,
        method: str = "integrated_gradients",
        points: int = 32,
        static: npt.ArrayLike | None = None,
        feature_names: Sequence[str] | None = None,
        label: str = "contribution",
        ax: _Axes = None,
    ) -> Self: ...
    def plot(self, ax: _Axes = None, *, label: str = "contribution") -> Self: ...
