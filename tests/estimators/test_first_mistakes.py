"""First mistakes with the estimators: each raises an error or warns, and says what to do instead."""

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6", reason="the estimators need scikit-learn 1.6 or newer")

from sklearn.exceptions import ConvergenceWarning

from lstm_ext.callbacks import Callback, EarlyStopping
from lstm_ext.sklearn import LSTMClassifier, LSTMForecaster, LSTMRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
BOTH = pytest.mark.parametrize("kind", [LSTMRegressor, LSTMClassifier])
SMALL = {"hidden_size": 3, "max_iter": 2, "random_state": 0}
X = np.random.default_rng(0).normal(size=(24, 5, 2))
Y = (X[:, :, 0].sum(axis=1) > 0).astype(float)
SERIES = np.sin(0.5 * np.arange(60))


def said(function, *arguments, **options):
    """Return what the call warns of, but for convergence."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*arguments, **options)
    return [str(one.message) for one in caught if one.category is not ConvergenceWarning]


@BOTH
def test_a_table_in_fit_is_warned_of_once(kind):
    table = np.random.default_rng(0).normal(size=(24, 40))
    estimator = kind(**SMALL)
    (text,) = said(estimator.fit, table, Y)
    assert text.startswith("X has shape (24, 40): it is read as 24 sequences of one time step")
    assert not said(estimator.predict, table) and not said(estimator.score, table, Y)


@BOTH
def test_one_sequence_without_its_axis_is_warned_of_where_fit_had_sequences(kind):
    """Five predictions come of it, one for each step, where one was meant."""
    fitted = kind(**SMALL).fit(X, Y)
    for method in ("predict", *(["predict_proba"] if kind is LSTMClassifier else [])):
        (text,) = said(getattr(fitted, method), X[0])
        assert text.endswith("unlike that of fit. Pass X[None] for one sequence of 5 steps")
        assert not said(getattr(fitted, method), X[:1]) and not said(getattr(fitted, method), [X[0]])


@BOTH
def test_a_missing_value_names_the_option_that_allows_it(kind):
    gaps = X.copy()
    gaps[3, 2, 1] = np.nan
    with pytest.raises(ValueError, match=r"X\[3, 2, 1\] is NaN; .*lstm_options=\{'nan': 'hold'\}") as error:
        kind(**SMALL).fit(gaps, Y)
    assert "HistGradientBoosting" not in str(error.value)
    with pytest.raises(ValueError, match="lstm_options"):
        kind(**SMALL).fit(X, Y).predict(gaps)
    assert len(kind(**SMALL, lstm_options={"nan": "hold"}).fit(gaps, Y).predict(gaps)) == 24


@pytest.mark.parametrize("name", ["y", "X"])
def test_so_does_one_of_a_series(name):
    gaps = SERIES.copy()
    gaps[9] = np.nan
    data = {"y": SERIES, "X": SERIES[:, None], name: gaps if name == "y" else gaps[:, None]}
    with pytest.raises(ValueError, match=rf"Input {name} contains NaN.*lstm_options=\{{'nan': 'hold'\}}"):
        LSTMForecaster(n_members=0).fit(**data)
    LSTMForecaster(n_members=0, lstm_options={"nan": "hold"}).fit(**data)


@pytest.mark.parametrize("kind", [LSTMRegressor, LSTMClassifier, LSTMForecaster])
def test_early_stopping_among_the_callbacks_names_the_parameters(kind):
    data = (SERIES,) if kind is LSTMForecaster else (X, Y)
    with pytest.raises(TypeError, match=r"callbacks has EarlyStopping.*expected early_stopping=True, n_iter"):
        kind(**SMALL, callbacks=[EarlyStopping(2)]).fit(*data)
    with pytest.raises(TypeError, match="is the class Callback; expected an object of it"):
        kind(**SMALL, callbacks=[Callback]).fit(*data)


def test_targets_with_and_without_columns_are_the_same():
    flat, column = (LSTMRegressor(**SMALL).fit(X, y) for y in (Y, Y[:, None]))
    assert flat.predict(X).shape == (24,) and column.predict(X).shape == (24, 1)
    np.testing.assert_array_equal(flat.predict(X), column.predict(X)[:, 0])
    scores = [fitted.score(X, y) for fitted in (flat, column) for y in (Y, Y[:, None])]
    assert len(set(scores)) == 1


@BOTH
@pytest.mark.parametrize(("ragged", "message"), [
    ([X[0], X[1, :, :1]], r"X\[1\] has 1 features, X\[0\] has 2"),
    ([[[1.0, 2.0], [3.0]]], r"X\[0\]\[1\] has shape \(1,\)"),
    ([X[0, :, 0], X[1, :3, 0]], r"1-D arrays of different lengths; expected \(time, features\)"),
])
def test_ragged_sequences_are_named(kind, ragged, message):
    with pytest.raises(ValueError, match=message):
        kind(**SMALL).fit(X, Y).predict(ragged)


def test_the_forecaster_refuses_the_order_of_arguments_of_scikit_learn():
    forecaster = LSTMForecaster(n_members=0)
    with pytest.raises(TypeError, match=r"expected fit\(y, X=X\): the series comes first"):
        forecaster.fit(SERIES[:, None], SERIES)
    with pytest.raises(TypeError, match=r"expected score\(y, X=X\)"):
        forecaster.fit(SERIES).score(SERIES[:3, None], SERIES[:3])


@pytest.mark.parametrize("made", [np.asarray, list, tuple])
def test_the_forecaster_refuses_inputs_without_columns(made):
    """They may be the targets, in the order of scikit-learn, or one input: both have the shape (T,)."""
    fitted = LSTMForecaster(n_members=0).fit(SERIES, X=SERIES[:, None])
    for method, options in (
        (LSTMForecaster(n_members=0).fit, {"y": SERIES, "X": made(SERIES)}),
        (fitted.predict, {"horizon": 3, "X": made(SERIES[:3])}),
        (fitted.predict, {"X": SERIES[:1, None], "y": SERIES, "X_past": made(SERIES)}),
        (fitted.update, {"y": SERIES[:3], "X": made(SERIES[:3])}),
        (fitted.backtest, {"y": SERIES, "X": made(SERIES)}),
    ):
        with pytest.raises(ValueError, match=r"(X|X_past) has shape \(\d+,\); expected \(time, inputs\)"):
            method(**options)
