"""sktime estimators: `LSTMForecaster`, `LSTMClassifier` and `LSTMRegressor`, with sktime's containers.

Each holds an estimator of `lstm_ext.sklearn`, which computes. Needs sktime 1.2 or newer (the extra
``sktime``).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import pandas as pd
from sktime.datatypes import get_cutoff, update_data

from lstm_ext import sklearn as estimators
from lstm_ext.sklearn._series import following, read

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lstm_ext.sklearn._bases import BaseEstimator
    from lstm_ext.sklearn._series import Series
    from lstm_ext.sklearn._types import Array, Floats, Integers

    Estimator = TypeVar("Estimator")
    Panel = Floats | list[pd.DataFrame]  # (n, channels, time), or frames (time, channels)

    # sktime's classes come without types: checkers are told what is in them.

    class _Base(BaseEstimator):
        def __getattr__(self, name: str) -> Any: ...  # parameters, too: see _parameters_of

    class BaseForecaster(_Base):
        def fit(self, y: Any, X: Any = None, fh: Any = None) -> Self: ...
        def update(self, y: Any, X: Any = None, update_params: bool = True) -> Self: ...
        def predict(self, fh: Any = None, X: Any = None) -> Any: ...
        def predict_interval(self, fh: Any = None, X: Any = None, coverage: Any = 0.9) -> pd.DataFrame: ...
        def predict_quantiles(self, fh: Any = None, X: Any = None, alpha: Any = None) -> pd.DataFrame: ...

    class BaseRegressor(_Base):
        def fit(self, X: Any, y: Any) -> Self: ...
        def predict(self, X: Any) -> Array: ...
        def score(self, X: Any, y: Any) -> float: ...

    class BaseClassifier(BaseRegressor):
        def predict_proba(self, X: Any) -> Floats: ...

else:
    from sktime.classification.base import BaseClassifier
    from sktime.forecasting.base import BaseForecaster
    from sktime.regression.base import BaseRegressor

__all__ = ["LSTMClassifier", "LSTMForecaster", "LSTMRegressor"]


def _parameters_of(
    estimator: Callable[..., Any], without: tuple[str, ...]
) -> Callable[[type[Estimator]], type[Estimator]]:
    """Return a decorator that gives a class the constructor parameters of an estimator, but for `without`.

    sktime reads them from the signature of ``__init__``. It is made here: they are written once.
    """
    given = [p for p in inspect.signature(estimator).parameters.values() if p.name not in without]

    def decorate(cls: type[Estimator]) -> type[Estimator]:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            for parameter in given:
                setattr(self, parameter.name, bound.arguments[parameter.name])
            super(cls, self).__init__()
            self.set_tags(**self._tags_of_parameters())

        first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        signature = inspect.Signature([first, *given])
        __init__.__signature__ = signature  # type: ignore[attr-defined]  # inspect reads it
        __init__.__qualname__, __init__.__module__ = f"{cls.__qualname__}.__init__", cls.__module__
        cls.__init__ = __init__  # type: ignore[method-assign]  # as the decorator promises
        return cls

    return decorate


class _Adapter:
    """The common part of the three."""

    _estimator: type[Any]  # of lstm_ext.sklearn
    lstm_options: dict[str, Any] | None
    get_params: Callable[..., dict[str, Any]]  # sktime's

    def _tags_of_parameters(self) -> dict[str, bool]:
        """Return the tags that depend on the parameters."""
        missing = isinstance(self.lstm_options, dict) and self.lstm_options.get("nan") in ("zero", "hold")
        return {"capability:missing_values": missing}

    def _new(self, **options: Any) -> Any:
        """Return the estimator of `lstm_ext.sklearn`, not fitted."""
        return self._estimator(**self.get_params(deep=False), **options)


def _rows_of(X: pd.DataFrame, index: pd.Index, name: str = "X") -> pd.DataFrame:
    """Return the rows of a frame that belong to an index."""
    positions = X.index.get_indexer(index)
    if (positions < 0).any():
        missing = index[int(np.argmin(positions))]
        raise ValueError(f"{name} has no row for {missing}; expected one for each step of y and fh")
    return X.iloc[positions]


@_parameters_of(estimators.LSTMForecaster, without=("horizon", "coverage", "warm_start"))
class LSTMForecaster(_Adapter, BaseForecaster):
    """Forecast time series, for sktime: exponential smoothing, ridge regression on lags, and LSTMs.

    The parameters are those of `lstm_ext.sklearn.LSTMForecaster` but for `horizon`, `coverage` and
    `warm_start`: ``fh`` says the horizon, `predict_interval` has the coverage. A panel or hierarchy is fitted
    as a whole.

    Parameters
    ----------
    window, period, strategy, difference, transform, n_members, loss, hidden_size, num_layers, solver
        As in `lstm_ext.sklearn.LSTMForecaster`. ``strategy="direct"`` needs ``fh`` in `fit`.
    learning_rate_init, batch_size, max_iter, alpha, momentum, max_norm, tol, n_iter_no_change, early_stopping
        As there.
    validation_fraction, scale, dtype, lstm_options, callbacks, random_state, verbose
        As there. With ``lstm_options={"nan": "hold"}`` or ``"zero"`` y and X may have NaN.

    Attributes
    ----------
    forecaster_ : lstm_ext.sklearn.LSTMForecaster
        The fitted forecaster.

    Notes
    -----
    X is needed for all steps up to the last one of ``fh``; further rows are left out. `update` takes in new
    values, from which level, trend, season and scale follow; it does not learn anew. sktime's
    ``UpdateRefitsEvery`` does. A relative ``fh`` counts from the end of each series. Forecasts of steps that
    `fit` had are not made.

    Examples
    --------
    >>> from sktime.datasets import load_airline
    >>> from lstm_ext.sktime import LSTMForecaster
    >>> y = load_airline()
    >>> forecaster = LSTMForecaster(n_members=2, random_state=0).fit(y[:-12])
    >>> forecaster.predict(fh=[1, 2, 12]).shape
    (3,)
    """

    forecaster_: estimators.LSTMForecaster
    _estimator = estimators.LSTMForecaster
    _tags = {  # noqa: RUF012
        "authors": "The lstm-ext developers",
        "maintainers": "The lstm-ext developers",
        "python_dependencies": ["scikit-learn"],
        "y_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
        "X_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
        "capability:multivariate": True,
        "capability:exogenous": True,
        "capability:categorical_in_X": False,
        "capability:insample": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "capability:missing_values": True,
        "capability:non_contiguous_X": False,
        "capability:update": True,
        "capability:unequal_length": True,
        "requires-fh-in-fit": False,
        "X-y-must-have-same-index": True,
        "property:randomness": "derandomized",
        "capability:random_state": True,
    }

    def _tags_of_parameters(self) -> dict[str, bool]:
        return {**super()._tags_of_parameters(), "requires-fh-in-fit": self.strategy == "direct"}

    def _fit(self, y: pd.DataFrame, X: pd.DataFrame | None, fh: Any) -> Self:
        X = None if X is None else _rows_of(X, y.index)
        horizon = 1
        if self.strategy == "direct":
            horizon = max(self._steps(y, fh)[1])
        self.forecaster_ = self._new(horizon=int(horizon)).fit(y, X=X)
        self._past_y, self._past_X = y, X
        return self

    def _update(self, y: pd.DataFrame, X: pd.DataFrame | None = None, update_params: bool = True) -> Self:
        if (X is None) != (self._past_X is None):
            given, expected = ("None", "inputs, as in fit") if X is None else ("given", "None, as in fit")
            raise ValueError(f"X is {given}; expected {expected}")
        past = update_data(self._past_y, y)
        self._read(past)
        self._past_X = None if X is None else update_data(self._past_X, _rows_of(X, y.index))
        self._past_y = past
        return self

    def _read(self, y: pd.DataFrame) -> Series:
        """Return series as the forecaster reads them; refuse what it cannot go on from."""
        return read("y", y, allow_nan=self.get_tag("capability:missing_values"))

    def _steps(self, y: pd.DataFrame, fh: Any) -> tuple[list[Integers], list[int]]:
        """Return the steps ahead that fh stands for: of each series an array, and the last of each."""
        levels = list(range(y.index.nlevels - 1))
        if not levels:
            steps = [fh.to_relative(self.cutoff).to_numpy()]
        else:
            keys = y.index.droplevel(-1)
            parts = keys.unique()
            if fh.is_relative:
                steps = [fh.to_numpy()] * len(parts)
            else:
                ends = (get_cutoff(y[keys == key].droplevel(levels), return_index=True) for key in parts)
                steps = [fh.to_relative(end).to_numpy() for end in ends]
        if min(one.min() for one in steps) < 1:
            raise NotImplementedError("fh has a step that a series of y already has; expected later steps")
        return steps, [int(one.max()) for one in steps]

    def _ahead(self, fh: Any, X: pd.DataFrame | None) -> tuple[dict[str, Any], Integers]:
        """Return the arguments of the forecaster's `predict`, and which rows of its answer fh asks for."""
        y = self._past_y
        steps, last = self._steps(y, fh)
        horizon = max(last)
        if X is not None and self._past_X is not None:
            series = self._read(y)
            futures = [following(index, horizon) for index in series.indexes]
            if series.keys is None:
                X = _rows_of(X, futures[0])
            else:
                keys = [key if isinstance(key, tuple) else (key,) for key in series.keys]
                X = [
                    _rows_of(X, pd.MultiIndex.from_tuples([(*key, when) for when in future]))
                    .droplevel(list(range(len(key))))
                    for key, future in zip(keys, futures, strict=True)
                ]
        options = {"horizon": horizon, "X": X, "y": y, "X_past": self._past_X}
        return options, np.concatenate([number * horizon + one - 1 for number, one in enumerate(steps)])

    def _predict(self, fh: Any, X: pd.DataFrame | None) -> pd.DataFrame:
        options, rows = self._ahead(fh, X)
        found = self.forecaster_.predict(**options).iloc[rows]
        return pd.DataFrame(found.to_numpy().reshape(len(rows), -1), found.index, self._get_columns())

    def _bounds(self, fh: Any, X: pd.DataFrame | None, coverage: Sequence[float]) -> tuple[pd.Index, Floats]:
        """Return the index of fh, and lower and upper bounds, (coverages, 2, rows, columns)."""
        options, rows = self._ahead(fh, X)
        bounds = []
        for share in coverage:
            if share > 0:
                pair = self.forecaster_.predict_interval(**options, coverage=float(share))
            else:  # so the median is asked for
                pair = [self.forecaster_.predict(**options)] * 2
            bounds.append([bound.iloc[rows].to_numpy().reshape(len(rows), -1) for bound in pair])
        return pair[0].index[rows], np.array(bounds)

    def _predict_interval(self, fh: Any, X: pd.DataFrame | None, coverage: Sequence[float]) -> pd.DataFrame:
        index, bounds = self._bounds(fh, X, coverage)
        values = bounds.transpose(2, 3, 0, 1).reshape(len(index), -1)
        return pd.DataFrame(values, index, self._get_columns("predict_interval", coverage=coverage))

    def _predict_quantiles(self, fh: Any, X: pd.DataFrame | None, alpha: Sequence[float]) -> pd.DataFrame:
        # sktime's own way from intervals mixes up the columns of a multivariate y for several alpha.
        index, bounds = self._bounds(fh, X, [abs(1 - 2 * a) for a in alpha])
        values = np.stack([pair[int(a >= 0.5)] for a, pair in zip(alpha, bounds, strict=True)], axis=2)
        return pd.DataFrame(
            values.reshape(len(index), -1), index, self._get_columns("predict_quantiles", alpha=alpha)
        )

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> Any:
        """Return parameters for sktime's tests: small networks, and the parts without them.

        Parameters
        ----------
        parameter_set : str, default="default"

        Returns
        -------
        list of dict
        """
        plain = {"window": 3, "period": 1, "transform": None, "difference": None}
        return [
            {**plain, "n_members": 2, "hidden_size": 2, "max_iter": 1, "random_state": 0},
            {**plain, "n_members": 0, "strategy": "direct"},
        ]


def _sequences(X: Panel) -> list[Floats]:
    """Return sktime's panel, (n, channels, time) or a list of frames, as a list of (time, features)."""
    return [one.T for one in X] if isinstance(X, np.ndarray) else [frame.to_numpy() for frame in X]


_PANEL_TAGS = {
    "authors": "The lstm-ext developers",
    "maintainers": "The lstm-ext developers",
    "python_dependencies": ["scikit-learn"],
    "X_inner_mtype": ["df-list", "numpy3D"],
    "capability:multivariate": True,
    "capability:unequal_length": True,
    "capability:missing_values": True,
    "capability:categorical_in_X": False,
    "property:randomness": "derandomized",
    "capability:random_state": True,
}
_SMALL = {"hidden_size": 2, "max_iter": 2, "random_state": 0}


@_parameters_of(estimators.LSTMClassifier, without=("every_step", "warm_start"))
class LSTMClassifier(_Adapter, BaseClassifier):
    """Classify time series with an LSTM, for sktime.

    Parameters
    ----------
    hidden_size, num_layers, solver, learning_rate_init, batch_size, max_iter, alpha, momentum, max_norm, tol
        As in `lstm_ext.sklearn.LSTMClassifier`.
    n_iter_no_change, early_stopping, validation_fraction, scale, dtype, lstm_options, callbacks, random_state
        As there. With ``lstm_options={"nan": "hold"}`` or ``"zero"`` X may have NaN.
    verbose
        As there.

    Attributes
    ----------
    estimator_ : lstm_ext.sklearn.LSTMClassifier
        The fitted classifier.

    Examples
    --------
    >>> import numpy as np
    >>> from lstm_ext.sktime import LSTMClassifier
    >>> fast = np.random.default_rng(0).integers(0, 2, 60)
    >>> X = np.sin(np.where(fast, 0.8, 0.5)[:, None, None] * np.arange(20))  # (n, channels, time)
    >>> LSTMClassifier(random_state=0).fit(X, fast).predict(X).shape
    (60,)
    """

    estimator_: estimators.LSTMClassifier
    _estimator = estimators.LSTMClassifier
    _tags = {**_PANEL_TAGS, "capability:predict_proba": True}  # noqa: RUF012

    def _fit(self, X: Panel, y: Array) -> Self:
        self.estimator_ = self._new().fit(_sequences(X), y)
        return self

    def _predict(self, X: Panel) -> Array:
        labels: Array = self.estimator_.predict(_sequences(X))
        return labels

    def _predict_proba(self, X: Panel) -> Floats:
        probabilities: Floats = self.estimator_.predict_proba(_sequences(X))
        return probabilities

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> Any:
        """Return parameters for sktime's tests: small networks.

        Parameters
        ----------
        parameter_set : str, default="default"

        Returns
        -------
        list of dict
        """
        return [_SMALL, {**_SMALL, "lstm_options": {"nan": "hold"}}]


@_parameters_of(estimators.LSTMRegressor, without=("every_step", "warm_start"))
class LSTMRegressor(_Adapter, BaseRegressor):
    """Regression on time series with an LSTM, for sktime.

    Parameters
    ----------
    hidden_size, num_layers, loss, quantiles, solver, learning_rate_init, batch_size, max_iter, alpha
        As in `lstm_ext.sklearn.LSTMRegressor`; `quantiles` is one number.
    momentum, max_norm, tol, n_iter_no_change, early_stopping, validation_fraction, scale, dtype, lstm_options
        As there. With ``lstm_options={"nan": "hold"}`` or ``"zero"`` X may have NaN.
    callbacks, random_state, verbose
        As there.

    Attributes
    ----------
    estimator_ : lstm_ext.sklearn.LSTMRegressor
        The fitted regressor.

    Examples
    --------
    >>> import numpy as np
    >>> from lstm_ext.sktime import LSTMRegressor
    >>> X = np.random.default_rng(0).normal(size=(60, 2, 10))  # (n, channels, time)
    >>> LSTMRegressor(random_state=0).fit(X, X[:, 0].sum(axis=1)).predict(X).shape
    (60,)
    """

    estimator_: estimators.LSTMRegressor
    _estimator = estimators.LSTMRegressor
    _tags = {**_PANEL_TAGS}  # noqa: RUF012

    def _fit(self, X: Panel, y: Array) -> Self:
        if np.ndim(self.quantiles):
            raise ValueError(f"quantiles is {self.quantiles!r}; expected one number")
        self.estimator_ = self._new().fit(_sequences(X), y)
        return self

    def _predict(self, X: Panel) -> Floats:
        predicted: Floats = self.estimator_.predict(_sequences(X))
        return predicted

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> Any:
        """Return parameters for sktime's tests: small networks.

        Parameters
        ----------
        parameter_set : str, default="default"

        Returns
        -------
        list of dict
        """
        return [_SMALL, {**_SMALL, "loss": "mae", "lstm_options": {"nan": "hold"}}]
