"""The base classes of estimators. scikit-learn's come without types: checkers are told what is in them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Self

    import numpy as np
    import numpy.typing as npt

    class BaseEstimator:
        def get_params(self, deep: bool = True) -> dict[str, Any]: ...
        def set_params(self, **params: Any) -> Self: ...
        def get_metadata_routing(self) -> Any: ...
        def __sklearn_tags__(self) -> Any: ...
        def _validate_params(self) -> None: ...
        @classmethod
        def _get_param_names(cls) -> list[str]: ...

    class ClassifierMixin:
        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float: ...

    class RegressorMixin:
        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float: ...

    class TransformerMixin:
        def __init_subclass__(cls, auto_wrap_output_keys: tuple[str, ...] | None = ...) -> None: ...
        def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any: ...

    class OneToOneFeatureMixin:
        def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]: ...

    class Pipeline(BaseEstimator):
        def predict(self, X: Any, **params: Any) -> npt.NDArray[Any]: ...
        def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float: ...
        def __getattr__(self, name: str) -> Any: ...

else:
    from sklearn.base import (
        BaseEstimator,
        ClassifierMixin,
        OneToOneFeatureMixin,
        RegressorMixin,
        TransformerMixin,
    )

__all__ = ["BaseEstimator", "ClassifierMixin", "OneToOneFeatureMixin", "RegressorMixin", "TransformerMixin"]
