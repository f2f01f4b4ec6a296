"""`LSTMForecaster` on data as people have them: dates, panels, gaps, inputs; and scikit-learn's tools."""

import tracemalloc

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6", reason="the estimators need scikit-learn 1.6 or newer")
pytest.importorskip("pandas", reason="dates come with pandas")

import pandas as pd
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lstm_ext.sklearn import LSTMForecaster

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
T = 120
RNG = np.random.default_rng(0)
X_ALL = RNG.normal(size=(T + 6, 2))
Y = 10 + 3 * X_ALL[:T, 0] + np.sin(2 * np.pi * np.arange(T) / 12) + 0.1 * RNG.normal(size=T)


def plain(**words):
    return LSTMForecaster(**{"horizon": 4, "n_members": 0, **words})


def dates(kind, n=T):
    return {
        "daily": pd.date_range("2020-01-01", periods=n, freq="D"),
        "months": pd.date_range("2020-01-31", periods=n, freq="ME"),
        "zone": pd.date_range("2020-03-20", periods=n, freq="D", tz="Europe/Berlin"),
        "hours": pd.date_range("2020-03-28", periods=n, freq="h", tz="Europe/Berlin"),
        "periods": pd.period_range("2000-01", periods=n, freq="M"),
        "business": pd.date_range("2020-01-01", periods=n, freq="B"),
        "numbers": pd.RangeIndex(5, 5 + 2 * n, 2),
        "floats": pd.Index(np.arange(n) * 0.5),
    }[kind]


# Dates in, dates out --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [
    "daily", "months", "zone", "hours", "periods", "business", "numbers", "floats",
])
def test_the_dates_that_follow(kind):
    index, whole = dates(kind), dates(kind, T + 4)
    for drop_frequency in (False, True):
        y = pd.Series(Y, index, name="level")
        if drop_frequency and isinstance(index, pd.DatetimeIndex):
            y.index = pd.DatetimeIndex(index.to_numpy() if index.tz is None else index.tolist(), tz=index.tz)
        fitted = plain().fit(y)
        forecast = fitted.predict()
        assert isinstance(forecast, pd.Series) and forecast.name == "level"
        assert list(forecast.index) == list(whole[T:]) and forecast.index.dtype == index.dtype
        lower, upper = fitted.predict_interval()
        assert (lower < forecast).all() and (forecast < upper).all()
        np.testing.assert_array_equal(forecast.to_numpy(), plain().fit(Y).predict())
        assert list(fitted.predict(y=y[:-10]).index) == list(whole[T - 10 : T - 6])


def test_frames_keep_their_columns_and_lists_their_parts():
    frame = pd.DataFrame({"a": Y, "b": -Y}, dates("daily"))
    forecast = plain().fit(frame).predict()
    assert list(forecast.columns) == ["a", "b"] and forecast.shape == (4, 2)
    parts = plain().fit([pd.Series(Y, dates("daily")), pd.Series(Y[:80], dates("daily", 80))]).predict()
    assert [part.index[0] for part in parts] == [pd.Timestamp("2020-04-30"), pd.Timestamp("2020-03-21")]
    with pytest.raises(ValueError, match="feature names should match"):
        plain().fit(frame).predict(y=frame[["b", "a"]])


@pytest.mark.parametrize("make", ["panel", "long", "polars"])
def test_a_panel_is_several_series(make):
    stamps = dates("daily", 60)
    series = {"north": Y[:60], "south": 1000 * Y[60:]}
    long = pd.concat([
        pd.DataFrame({"gauge": name, "date": stamps, "flow": values}) for name, values in series.items()
    ])
    given = long
    if make == "panel":
        given = long.set_index(["gauge", "date"])["flow"]
    if make == "polars":
        pl = pytest.importorskip("polars", reason="polars is not installed")
        pytest.importorskip("pyarrow", reason="polars becomes pandas through pyarrow")
        given = pl.from_pandas(long)
    fitted = plain().fit(given)
    assert fitted.n_series_ == 2 and fitted.n_outputs_ == 1
    expected = np.concatenate(plain().fit(list(series.values())).predict())
    forecast = fitted.predict()
    if make == "panel":
        assert forecast.index.names == ["gauge", "date"]
        np.testing.assert_allclose(forecast.to_numpy(), expected)
        assert forecast.loc["south"].index[0] == pd.Timestamp("2020-03-01")
    else:
        assert list(forecast.columns) == ["gauge", "date", "flow"]
        assert list(forecast["gauge"].unique()) == list(series)
        np.testing.assert_allclose(forecast["flow"].to_numpy(), expected)


def test_a_panel_of_inputs_is_aligned_by_name():
    stamps = dates("daily", 60)
    y = pd.concat({name: pd.Series(Y[k : k + 60], stamps) for name, k in (("a", 0), ("b", 60))})
    X = pd.concat({name: pd.DataFrame(X_ALL[k : k + 60], stamps) for name, k in (("a", 0), ("b", 60))})
    swapped = pd.concat([X.loc[["b"]], X.loc[["a"]]])
    future = [X_ALL[60:64], X_ALL[120:124]]
    forecasts = [plain().fit(y, X=given).predict(X=future).to_numpy() for given in (X, swapped)]
    np.testing.assert_array_equal(*forecasts)
    with pytest.raises(ValueError, match="X lacks the series 'b'; expected those of y"):
        plain().fit(y, X=X.loc[["a"]])


# Faithful to the data -------------------------------------------------------------------------


@pytest.mark.parametrize("spoil, message", [
    (lambda s: s.sample(frac=1, random_state=0), "expected times in their order"),
    (lambda s: s[::-1], "expected times in their order"),
    (lambda s: pd.concat([s[:5], s[4:]]), "twice; expected each once"),
    (lambda s: s.drop(s.index[[7, 9]]), "lacks 2 of 120 time stamps, the first is 2020-01-08"),
    (lambda s: s.set_axis(s.index + pd.to_timedelta(np.arange(T) % 3, "min")), "not evenly spaced"),
    (lambda s: s.set_axis([*s.index[:-1], pd.NaT]), "missing time stamp at row 119"),
])
def test_an_index_that_is_no_regular_time_is_refused(spoil, message):
    y = pd.Series(Y, dates("daily"))
    for given in (spoil(y), pd.DataFrame({"y": spoil(y)}), [y, spoil(y)]):
        with pytest.raises(ValueError, match=message):
            plain().fit(given)
    with pytest.raises(ValueError, match=message):
        plain().fit(Y[: len(spoil(y))], X=spoil(pd.DataFrame(X_ALL[:T], y.index)))


@pytest.mark.parametrize("kind", ["daily", "periods", "zone", "numbers"])
def test_inputs_of_other_times_are_refused(kind):
    stamps = dates(kind, T + 6)
    y, X = pd.Series(Y, stamps[:T]), pd.DataFrame(X_ALL, stamps, columns=["rain", "warmth"])
    with pytest.raises(ValueError, match=r"X has the index .*; expected"):
        plain().fit(y, X=X[1 : T + 1])
    fitted = plain().fit(y, X=X[:T])
    np.testing.assert_array_equal(fitted.predict(X=X[T : T + 4]), fitted.predict(X=X_ALL[T : T + 4]))
    for wrong in (X[T - 1 : T + 3], X[:4], X[T + 1 : T + 5]):
        with pytest.raises(ValueError, match=r"X has the index .*; expected"):
            fitted.predict(X=wrong)
    with pytest.raises(ValueError, match=r"X_past has the index .*; expected"):
        fitted.predict(X=X[100:104], y=y[:100], X_past=X[1:101])
    with pytest.raises(ValueError, match=r"X has 4 steps .*|X has the index"):
        fitted.predict(3, X[100:104], y=y[:100], X_past=X[:100])
    with pytest.raises(ValueError, match=r"y has the index .*; expected"):
        fitted.update(pd.Series(Y[:2], stamps[:2]), X=X_ALL[:2])


def test_missing_stamps_are_gaps_where_gaps_are_allowed():
    y = pd.Series(Y, dates("daily"))
    gappy = y.drop(y.index[[30, 31, 60]])
    options = {"lstm_options": {"nan": "hold"}}
    whole = y.copy()
    whole.iloc[[30, 31, 60]] = np.nan
    expected = plain(**options).fit(whole).predict()
    np.testing.assert_array_equal(plain(**options).fit(gappy).predict(), expected)


def test_a_gap_in_one_column_leaves_the_others_their_steps():
    t = np.arange(T + 4)
    both = np.stack([np.sin(2 * np.pi * t / 12), np.cos(2 * np.pi * t / 12)], axis=1)
    gappy = both[:T].copy()
    gappy[::2, 1] = np.nan  # every other day
    words = {"lstm_options": {"nan": "hold"}, "transform": None, "period": 12}
    fitted = plain(**words).fit(gappy)
    np.testing.assert_allclose(fitted.predict()[:, 0], both[T:, 0], atol=0.05)
    np.testing.assert_allclose(fitted.predict()[:, 1], both[T:, 1], atol=0.25)
    assert np.isfinite(fitted.predict()).all()
    members = LSTMForecaster(horizon=2, n_members=2, hidden_size=4, max_iter=3, random_state=0, **words)
    assert np.isfinite(members.fit(gappy).predict()).all()


def test_each_series_has_its_own_scale_and_every_window_its_own_level():
    small = plain(horizon=6).fit(Y).predict()
    both = plain(horizon=6).fit([Y, 1000 * Y]).predict()
    np.testing.assert_allclose(both[1], 1000 * both[0], rtol=1e-6)
    np.testing.assert_allclose(both[0], small, rtol=0.05)
    shifted = plain(horizon=6, transform=None).fit(Y + 1e6).predict()
    np.testing.assert_allclose(shifted - 1e6, plain(horizon=6, transform=None).fit(Y).predict(), atol=1e-4)


def test_positional_and_flat_inputs_are_refused():
    with pytest.raises(TypeError, match=r"expected fit\(y, X=X\)"):
        plain().fit(X_ALL[:T], Y)
    with pytest.raises(ValueError, match=r"expected \(time, inputs\)"):
        plain().fit(Y, X=X_ALL[:T, 0])


# scikit-learn's tools, and the verbs of forecasting ---------------------------------------------


def test_searches_pipelines_and_cross_validation_give_finite_scores():
    scores = cross_val_score(plain(), Y, cv=TimeSeriesSplit(3, test_size=4))
    assert np.isfinite(scores).all() and (scores < 0).all()
    assert np.isfinite(cross_val_score(plain(), Y, cv=TimeSeriesSplit(3, test_size=1))).all()
    search = GridSearchCV(plain(), {"period": [1, 12]}, cv=TimeSeriesSplit(2, test_size=6)).fit(Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(5).shape == (5,)
    pipeline = make_pipeline(StandardScaler(), plain()).fit(Y[:, None])
    scaler = pipeline[0]
    forecast = scaler.inverse_transform(pipeline.predict(Y[:, None]))
    np.testing.assert_allclose(forecast, plain().fit(Y[:, None]).predict(), rtol=0.05)
    assert np.isfinite(pipeline.score(Y[:4, None]))


@pytest.mark.parametrize("words", [{"n_members": 0}, {}, {"strategy": "direct", "horizon": 2}])
def test_what_weighs_nothing_is_no_target(words):
    words = {"n_members": 2, "hidden_size": 3, "max_iter": 3, "horizon": 2, "random_state": 0, **words}
    words |= {"transform": None, "period": 1}
    weight = np.ones(T)
    weight[20:50] = 0
    whole = LSTMForecaster(**words).fit(Y).predict()
    assert not np.array_equal(LSTMForecaster(**words).fit(Y, sample_weight=weight).predict(), whole)
    np.testing.assert_array_equal(LSTMForecaster(**words).fit(Y, sample_weight=np.ones(T)).predict(), whole)
    other = RNG.normal(size=T) * 50
    alone = LSTMForecaster(**words).fit([Y, other], sample_weight=[1.0, 0.0]).predict()
    both = LSTMForecaster(**words).fit([Y, other]).predict()
    assert not np.array_equal(alone[0], both[0])
    for wrong, message in (
        (weight[:-1], "sample_weight has 119 steps; expected 120"), (-weight, "negative values"),
        (0 * weight, "0 everywhere"), (np.full(T, np.nan), "Input sample_weight contains NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            LSTMForecaster(**words).fit(Y, sample_weight=wrong)


def test_a_weight_of_two_is_a_series_given_twice():
    words = {"transform": None, "period": 1, "window": 6, "difference": None}
    one, other = Y[:60], Y[60:]
    weighted = plain(**words).fit([one, other], sample_weight=[2.0, 1.0]).predict(y=one)
    repeated = plain(**words).fit([one, one, other]).predict(y=one)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-6)
    params = {"sample_weight": np.ones(T)}
    scores = cross_val_score(plain(), Y, cv=TimeSeriesSplit(2, test_size=4), params=params)
    assert np.isfinite(scores).all()


def test_score_is_the_scaled_error_and_dates_are_compared():
    fitted = plain(period=12).fit(Y[:100])
    expected = np.abs(fitted.predict(8) - Y[100:108]).mean() / np.abs(Y[12:100] - Y[:88]).mean()
    assert fitted.score(Y[100:108]) == pytest.approx(-expected)
    dated = pd.Series(Y, dates("daily"))
    fitted = plain().fit(dated[:100])
    assert np.isfinite(fitted.score(dated[100:104]))
    with pytest.raises(ValueError, match="y has the index"):
        fitted.score(dated[101:105])
    with pytest.raises(ValueError, match="y has 2 series; expected 1"):
        fitted.score([Y[:3], Y[:3]])


@pytest.mark.parametrize("make", [lambda y: y, lambda y: pd.Series(y, dates("daily", len(y)), name="a")])
def test_an_update_takes_in_what_was_measured(make):
    y = make(Y)
    fitted = plain().fit(y[:100])
    weights = fitted.weights_
    assert fitted.update(y[100:108]) is fitted
    np.testing.assert_allclose(fitted.predict(), fitted.predict(y=y[:108]), rtol=1e-12)
    assert fitted.weights_ is weights
    before = fitted.predict()
    with pytest.raises(ValueError):
        fitted.update(make(np.full(3, np.nan)))
    with pytest.raises(ValueError):
        fitted.update([Y[:3], Y[:3]])
    np.testing.assert_array_equal(fitted.predict(), before)
    if isinstance(y, pd.Series):
        assert fitted.predict().index[0] == y.index[108]


def test_an_update_of_a_panel_goes_by_name():
    stamps = dates("daily", 70)
    y = pd.concat({name: pd.Series(Y[k : k + 60], stamps[:60]) for name, k in (("a", 0), ("b", 60))})
    new = {name: pd.Series(np.full(5, level), stamps[60:65]) for name, level in (("a", 12.0), ("b", 8.0))}
    forecasts = []
    for order in (("a", "b"), ("b", "a")):
        fitted = plain().fit(y).update(pd.concat({name: new[name] for name in order}))
        forecasts.append(fitted.predict())
    assert list(forecasts[0].index.get_level_values(0)[:4]) == ["a"] * 4
    pd.testing.assert_series_equal(*forecasts)
    with pytest.raises(ValueError, match="y lacks the series 'b'"):
        plain().fit(y).update(pd.concat({"a": new["a"], "c": new["b"]}))


@pytest.mark.parametrize("words", [
    {"n_members": 1}, {"n_members": 2, "window": 6, "y_gap": True}, {"n_members": 3, "strategy": "direct"},
])
def test_a_forecast_is_never_missing(words):
    y = 10 + np.sin(np.arange(60) * 2 * np.pi / 7) + 0.1 * np.random.default_rng(0).normal(size=60)
    words = dict(words)
    if words.pop("y_gap", False):
        y[20] = np.nan
        words["lstm_options"] = {"nan": "hold"}
    words = {"hidden_size": 2, "max_iter": 2, "horizon": 3, "random_state": 0, **words}
    fitted = LSTMForecaster(**words).fit(y)
    assert np.isfinite(fitted.predict()).all() and np.isfinite(fitted.predict_interval()).all()
    assert np.isfinite(fitted.lstm_share_).all()


def test_a_backtest_knows_the_dates():
    y = pd.Series(Y, dates("months"))
    fitted = plain(horizon=4).fit(y[: T - 4])
    tested = plain(horizon=4).backtest(y, origins=1)
    np.testing.assert_allclose(tested.forecast[0, 0, :, 0], fitted.predict(), rtol=1e-12)


def test_a_refused_fit_leaves_the_old_forecaster():
    fitted = LSTMForecaster(horizon=2, n_members=2, hidden_size=3, max_iter=2, random_state=0).fit(Y)
    before, interval = fitted.predict(), fitted.predict_interval()

    def stop(record):
        raise RuntimeError("stopped")

    for words, y in (({"callbacks": [stop]}, Y), ({"transform": "log"}, Y - 100), ({"window": 200}, Y),
                     ({}, np.full(50, np.inf)), ({"callbacks": [3]}, Y)):
        settings = fitted.get_params()
        with pytest.raises((RuntimeError, ValueError, TypeError)):
            fitted.set_params(**words).fit(y)
        fitted.set_params(**settings)
        np.testing.assert_array_equal(fitted.predict(), before)
        np.testing.assert_array_equal(fitted.predict_interval(), interval)
    fresh = LSTMForecaster(n_members=1, hidden_size=2, callbacks=[stop])
    with pytest.raises(RuntimeError, match="stopped"):
        fresh.fit(Y)
    assert not [name for name in vars(fresh) if name.endswith("_")]


def test_fitted_values_are_forecasts_of_one_step():
    fitted = LSTMForecaster(horizon=3, n_members=2, hidden_size=4, max_iter=5, random_state=0).fit(Y)
    values = fitted.fitted_values_
    assert values.shape == Y.shape and np.isnan(values[:24]).all() and np.isfinite(values[24:]).all()
    assert np.nanstd(values - Y) < 1.1 * np.std(Y)
    several = plain(difference=1).fit([Y, Y[:60]]).fitted_values_
    assert [len(one) for one in several] == [T, 60] and np.isfinite(several[1][30:]).all()


@pytest.mark.parametrize("words", [{}, {"X": X_ALL[:T]}, {"origins": [90, 100]}, {"origins": 3, "step": 5}])
def test_a_backtest_compares_with_naive_forecasts(words):
    tested = plain(horizon=4).backtest(Y, **{"origins": 3, **words})
    assert set(tested.table) == {"LSTMForecaster", "naive", "seasonal naive"}
    ours = tested.table["LSTMForecaster"]
    assert set(ours) == {"MAE", "RMSE", "MASE", "coverage"} and np.isfinite(list(ours.values())).all()
    first = int(tested.origins[0])
    X = words.get("X")
    fitted = plain(horizon=4).fit(Y[:first], X=None if X is None else X[:first])
    expected = fitted.predict(X=None if X is None else X[first : first + 4])
    np.testing.assert_array_equal(tested.forecast[0, 0, :, 0], expected)
    np.testing.assert_array_equal(tested.truth[0, 0, :, 0], Y[first : first + 4])
    error = np.abs(tested.truth - tested.forecast)
    assert ours["MAE"] == pytest.approx(error.mean()) and "MASE" in str(tested)
    naive = np.abs(tested.truth[:, 0, :, 0] - Y[tested.origins - 1][:, None]).mean()
    assert tested.table["naive"]["MAE"] == pytest.approx(naive)
    pytest.importorskip("matplotlib", reason="pictures need matplotlib").use("agg")
    assert tested.plot().lines
    with pytest.raises(ValueError, match="take fewer origins"):
        plain(horizon=4).backtest(Y[:20], origins=30)


def test_windows_are_cut_when_they_are_read():
    y = np.cumsum(np.random.default_rng(0).normal(size=30_000))
    tracemalloc.start()
    try:
        LSTMForecaster(window=168, horizon=2, n_members=1, hidden_size=2, max_iter=1, random_state=0).fit(y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 25e6  # the windows of all steps are 40 MB in float64, and 20 MB as the LSTM reads them


@pytest.mark.parametrize("transform", ["log", "boxcox", None, "auto"])
def test_transforms(transform):
    t = np.arange(120)
    y = np.exp(0.02 * t + 0.3 * np.sin(2 * np.pi * t / 12))
    fitted = plain(transform=transform, horizon=12, period=12).fit(y[:108])
    error = np.abs(fitted.predict() / y[108:] - 1).max()
    assert error < (0.25 if transform is None else 0.05)
    assert fitted.transform_ == {None: "none", "auto": "log"}.get(transform, transform)
    assert (np.array(fitted.predict_interval()) > 0).all() or transform is None
    if transform in ("log", "boxcox"):
        with pytest.raises(ValueError, match=f"transform is {transform!r}; expected None or 'auto'"):
            plain(transform=transform).fit(y - 1)
        with pytest.raises(ValueError, match="expected values above 0"):
            fitted.predict(y=y[:60] - 1)


def test_the_period_is_found_or_read_from_the_dates():
    t = np.arange(100)
    y = np.sin(2 * np.pi * t / 7) + 0.3 * np.random.default_rng(0).normal(size=100)
    assert plain().fit(y).period_ == 7
    assert plain().fit(np.random.default_rng(0).normal(size=100)).period_ == 1
    assert plain(period=5).fit(y).period_ == 5
    hours = 10 + np.sin(2 * np.pi * np.arange(24 * 30) / 24)
    index = pd.date_range("2020-01-01", periods=len(hours), freq="h")
    noisy = hours + 0.1 * np.random.default_rng(0).normal(size=len(hours))
    assert plain().fit(pd.Series(noisy, index)).period_ == 24
