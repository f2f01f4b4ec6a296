"""lstm_ext.sktime: sktime's own checks, and that what sktime hands over reaches the estimators as it is."""

import inspect

import numpy as np
import pytest

pytest.importorskip("sktime", reason="lstm_ext.sktime needs sktime")
pd = pytest.importorskip("pandas", reason="sktime needs pandas")

from sktime.forecasting.base import ForecastingHorizon  # noqa: E402
from sktime.utils.estimator_checks import check_estimator  # noqa: E402

import lstm_ext.sklearn as estimators  # noqa: E402
from lstm_ext.sktime import LSTMClassifier, LSTMForecaster, LSTMRegressor  # noqa: E402

SMALL = {"n_members": 2, "hidden_size": 2, "max_iter": 2, "window": 6, "random_state": 0}
CLASSES = [LSTMForecaster, LSTMClassifier, LSTMRegressor]

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_checks_of_sktime(cls):
    # The forecaster's slowest do in every combination what others, and the tests below, do in some.
    slow = [
        "test_predict_time_index", "test_predict_interval", "test_update_predict_predicted_index",
        "test_non_state_changing_method_contract",
    ]
    slow = slow if cls is LSTMForecaster else None
    results = check_estimator(cls, verbose=False, tests_to_exclude=slow)
    assert len(results) > 100
    assert {name: outcome for name, outcome in results.items() if outcome != "PASSED"} == {}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_parameters_are_those_of_the_estimator(cls):
    ours = inspect.signature(getattr(estimators, cls.__name__)).parameters
    theirs = inspect.signature(cls).parameters
    assert set(ours) - set(theirs) <= {"horizon", "coverage", "warm_start", "every_step"}
    assert {name: p.default for name, p in theirs.items()} == {name: ours[name].default for name in theirs}
    changed = cls(hidden_size=7, lstm_options={"nan": "hold"})
    assert changed.clone().get_params() == changed.get_params()
    assert changed.get_tag("capability:missing_values") and not cls().get_tag("capability:missing_values")
    with pytest.raises(TypeError, match="no_such"):
        cls(no_such=1)


def series(length=80, start="2020-01-01", seed=0, columns=("a",)):
    rng = np.random.default_rng(seed)
    index = pd.date_range(start, periods=length, freq="D")
    season = np.sin(np.arange(length) * 2 * np.pi / 7)[:, None]
    return pd.DataFrame(10 + season + 0.1 * rng.normal(size=(length, len(columns))), index, list(columns))


def inputs(index, seed=9):
    return pd.DataFrame({"x": np.random.default_rng(seed).normal(size=len(index))}, index)


def panel(parts):
    return pd.concat(parts, names=["series", "time"])


@pytest.mark.parametrize("columns", [("a",), ("a", "b")])
def test_forecasts_are_the_estimators(columns):
    y = series(84, columns=columns)
    X = inputs(y.index)
    ours = estimators.LSTMForecaster(**SMALL).fit(y[:80], X=X[:80])
    theirs = LSTMForecaster(**SMALL).fit(y[:80], X=X)  # more rows than y
    expected = ours.predict(4, X=X[80:])
    for fh in ([1, 2, 3, 4], ForecastingHorizon(y.index[80:], is_relative=False)):
        pd.testing.assert_frame_equal(theirs.predict(fh=fh, X=X), expected, check_freq=False)
    skipping = theirs.predict(fh=[2, 4], X=X[80:])
    pd.testing.assert_frame_equal(skipping, expected.iloc[[1, 3]], check_freq=False)
    found = theirs.predict_interval(fh=[2, 4], X=X[80:], coverage=[0.5, 0.9])
    for coverage in (0.5, 0.9):
        bounds = ours.predict_interval(4, X=X[80:], coverage=coverage)
        for side, bound in zip(("lower", "upper"), bounds, strict=True):
            for column in columns:
                part = bound[column].iloc[[1, 3]]
                np.testing.assert_allclose(found[column, coverage, side], part, rtol=1e-12)
    quantiles = theirs.predict_quantiles(fh=[2, 4], X=X[80:], alpha=[0.05, 0.5, 0.95])
    for column in columns:
        np.testing.assert_allclose(quantiles[column, 0.05], found[column, 0.9, "lower"], rtol=1e-12)
        np.testing.assert_allclose(quantiles[column, 0.95], found[column, 0.9, "upper"], rtol=1e-12)
        np.testing.assert_allclose(quantiles[column, 0.5], expected[column].iloc[[1, 3]], rtol=1e-12)


def test_direct_forecasts_take_their_horizon_from_fh():
    y = series()
    with pytest.raises(ValueError, match="fh"):
        LSTMForecaster(**SMALL, strategy="direct").fit(y)
    theirs = LSTMForecaster(**SMALL, strategy="direct").fit(y, fh=[1, 3])
    ours = estimators.LSTMForecaster(**SMALL, strategy="direct", horizon=3).fit(y)
    pd.testing.assert_frame_equal(theirs.predict(), ours.predict(3).iloc[[0, 2]], check_freq=False)


def test_a_panel_is_one_fit_and_each_series_goes_on_from_its_own_end():
    parts = {"u": series(60, seed=1), "v": series(50, seed=2)}
    future = {k: pd.date_range(y.index[-1], periods=15, freq="D")[1:] for k, y in parts.items()}
    y, X = panel(parts), panel({k: inputs(one.index) for k, one in parts.items()})
    X_future = panel({k: inputs(at, seed=3) for k, at in future.items()})
    theirs = LSTMForecaster(**SMALL).fit(y, X=X)
    ours = estimators.LSTMForecaster(**SMALL).fit(
        list(parts.values()), X=[X.loc[k] for k in parts]
    ).predict(14, X=[X_future.loc[k] for k in parts])
    relative = theirs.predict(fh=[1, 3], X=X_future.sort_index(level="time"))  # rows in another order
    for key, expected in zip(parts, ours, strict=True):
        np.testing.assert_allclose(relative.loc[key], expected.iloc[[0, 2]], rtol=1e-12)
        assert list(relative.loc[key].index) == list(expected.index[[0, 2]])
    when = future["u"][:2]
    absolute = theirs.predict(fh=ForecastingHorizon(when, is_relative=False, freq="D"), X=X_future)
    for key, expected in zip(parts, ours, strict=True):
        np.testing.assert_allclose(absolute.loc[key], expected.loc[when], rtol=1e-12)
    early = ForecastingHorizon(future["v"][:2], is_relative=False, freq="D")
    with pytest.raises(NotImplementedError):  # u has these steps
        theirs.predict(fh=early, X=X_future)
    with pytest.raises(ValueError, match="no row for"):
        theirs.predict(fh=[1, 3], X=X_future.drop(X_future.index[1]))


def test_a_hierarchy_is_one_fit():
    leaves = {("n", "u"): series(60, seed=1), ("n", "v"): series(60, seed=2), ("s", "w"): series(60, seed=3)}
    y = pd.concat(leaves, names=["region", "series", "time"])
    theirs = LSTMForecaster(**SMALL).fit(y)
    ours = estimators.LSTMForecaster(**SMALL).fit(list(leaves.values())).predict(2)
    found = theirs.predict(fh=[1, 2])
    assert found.index.names == y.index.names
    for key, expected in zip(leaves, ours, strict=True):
        np.testing.assert_allclose(found.loc[key], expected, rtol=1e-12)


@pytest.mark.parametrize("update_params", [True, False])
def test_update_goes_on_from_new_values_and_does_not_learn(update_params):
    y = series(80)
    X = inputs(y.index)
    theirs = LSTMForecaster(**SMALL).fit(y[:60], X=X[:60])
    network = theirs.forecaster_.model_
    theirs.update(y[55:70], X=X[55:70], update_params=update_params)  # overlaps with what it had
    assert theirs.forecaster_.model_ is network and theirs.cutoff[0] == y.index[69]
    expected = theirs.forecaster_.predict(2, X=X[70:72], y=y[:70], X_past=X[:70])
    pd.testing.assert_frame_equal(theirs.predict(fh=[1, 2], X=X[70:]), expected, check_freq=False)


def test_a_refused_update_leaves_the_series():
    y = series(80)
    X = inputs(y.index)
    for forecaster, more, message in (
        (LSTMForecaster(**SMALL).fit(y[:60]), {"y": y[65:70]}, "lacks 5 of 70"),
        (LSTMForecaster(**SMALL).fit(y[:60], X=X[:60]), {"y": y[60:62]}, "X is None"),
        (LSTMForecaster(**SMALL).fit(y[:60]), {"y": y[60:62], "X": X[60:62]}, "X is given"),
    ):
        with pytest.raises(ValueError, match=message):
            forecaster.update(**more)
        assert len(forecaster._past_y) == 60


def test_missing_values():
    y = series(60)
    y.iloc[20] = np.nan
    with pytest.raises(ValueError, match="missing"):
        LSTMForecaster(**SMALL).fit(y)
    found = LSTMForecaster(n_members=2, max_iter=2, lstm_options={"nan": "hold"}).fit(y).predict(fh=[1])
    assert np.isfinite(found.to_numpy()).all()


def test_a_fit_for_each_level_and_an_evaluation():
    """Compositors of sktime."""
    from sktime.forecasting.compose import ForecastByLevel
    from sktime.forecasting.model_evaluation import evaluate
    from sktime.forecasting.stream import UpdateRefitsEvery
    from sktime.split import SlidingWindowSplitter

    parts = {"u": series(60, seed=1), "v": series(60, seed=2)}
    each = ForecastByLevel(LSTMForecaster(**SMALL)).fit(panel(parts)).predict(fh=[1])
    for key, y in parts.items():
        alone = LSTMForecaster(**SMALL).fit(y).predict(fh=[1])
        np.testing.assert_allclose(each.loc[key], alone, rtol=1e-12)
    y = parts["u"]
    splits = SlidingWindowSplitter(fh=[1, 2], window_length=40, step_length=8)
    for strategy in ("refit", "update", "no-update_params"):
        scores = evaluate(LSTMForecaster(**SMALL), cv=splits, y=y, strategy=strategy, error_score="raise")
        assert len(scores) == 3 and np.isfinite(scores["test_MeanAbsolutePercentageError"]).all()
    anew = UpdateRefitsEvery(LSTMForecaster(**SMALL), refit_interval=0).fit(y[:50])
    network = anew.forecaster_.forecaster_
    anew.update(y[50:])
    assert anew.forecaster_.forecaster_ is not network
    assert np.isfinite(anew.predict(fh=[1]).to_numpy()).all()


def samples():
    rng = np.random.default_rng(0)
    fast = rng.integers(0, 2, 40)
    X = np.sin(np.where(fast, 0.8, 0.5)[:, None, None] * np.arange(15)) + 0.1 * rng.normal(size=(40, 2, 15))
    return X, fast


@pytest.mark.parametrize("name", ["LSTMClassifier", "LSTMRegressor"])
@pytest.mark.parametrize("equal", [True, False])
def test_panels_reach_the_estimator_as_they_are(name, equal):
    """numpy3D is (n, channels, time); frames are (time, channels), of any length."""
    X, y = samples()
    cls = {"LSTMClassifier": LSTMClassifier, "LSTMRegressor": LSTMRegressor}[name]
    y = y if name == "LSTMClassifier" else y + X[:, 0, 0]
    lengths = [15] * 40 if equal else [8 + k % 8 for k in range(40)]
    arrays = [one[:, :length].T for one, length in zip(X, lengths, strict=True)]
    ours = getattr(estimators, name)(4, max_iter=20, random_state=0).fit(arrays, y).predict(arrays)
    frames = [pd.DataFrame(one, columns=["p", "q"]) for one in arrays]
    containers = [frames, panel(dict(enumerate(frames))),
                  pd.DataFrame({c: [frame[c] for frame in frames] for c in "pq"})]
    if equal:
        containers.append(X)
    fitted = cls(4, max_iter=20, random_state=0).fit(containers[-1], y)
    assert len(set(ours)) > 1
    for container in containers:
        np.testing.assert_allclose(fitted.predict(container), ours, rtol=1e-6)
    if name == "LSTMClassifier":
        np.testing.assert_allclose(fitted.predict_proba(containers[0]).sum(axis=1), 1, rtol=1e-6)


def test_several_quantiles_are_refused():
    X, y = samples()
    with pytest.raises(ValueError, match="quantiles is"):
        LSTMRegressor(4, loss="quantile", quantiles=[0.1, 0.9]).fit(X, y)


def test_labels_may_be_words():
    X, y = samples()
    words = np.where(y, "fast", "slow")
    assert set(LSTMClassifier(4, max_iter=20, random_state=0).fit(X, words).predict(X)) <= {"fast", "slow"}


def test_missing_values_of_a_panel():
    X, y = samples()
    X[3, 0, 2] = np.nan
    with pytest.raises(ValueError, match="missing"):
        LSTMClassifier(4).fit(X, y)
    fitted = LSTMClassifier(4, max_iter=5, random_state=0, lstm_options={"nan": "hold"}).fit(X, y)
    assert np.isfinite(fitted.predict_proba(X)).all()
