"""`LSTMForecaster`: windows, both strategies, exogenous inputs, intervals, and what it refuses."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6", reason="the estimators need scikit-learn 1.6 or newer")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from lstm_ext.sklearn import LSTMForecaster

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

STRATEGIES = pytest.mark.parametrize("strategy", ["direct", "recursive"])


def quick(window=6, horizon=3, **words):
    return LSTMForecaster(window, horizon, **{
        "strategy": "direct", "hidden_size": 4, "max_iter": 2, "n_members": 2, "random_state": 0,
        "early_stopping": False, **words,
    })


def season(n=240, seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    return 20 + 5 * np.sin(2 * np.pi * t / 12) + noise * 5 * rng.normal(size=n)


def rmse(forecast, truth):
    return np.sqrt(np.mean((np.asarray(forecast) - truth) ** 2))


# What it learns -------------------------------------------------------------------------------


@STRATEGIES
def test_defaults_forecast_a_season_better_than_naive(strategy):
    y = season()
    forecaster = LSTMForecaster(24, 12, strategy=strategy, max_iter=10, n_members=2, random_state=0)
    forecaster.fit(y[:180])
    origins = range(180, 228)
    truth = np.stack([y[t : t + 12] for t in origins])
    forecast = forecaster.predict(y=[y[:t] for t in origins])
    assert rmse(forecast, truth) < 0.9 * rmse([y[t - 12 : t] for t in origins], truth)
    assert rmse(forecast, truth) < 0.5 * rmse([np.repeat(y[t - 1], 12) for t in origins], truth)


@STRATEGIES
def test_difference_goes_on_with_a_trend(strategy):
    t = np.arange(200)
    y = 3 * t + 40 * np.sin(2 * np.pi * t / 10)
    forecaster = LSTMForecaster(12, 15, strategy=strategy, difference=10, hidden_size=8, max_iter=10,
                                n_members=2, random_state=0)
    forecast = forecaster.fit(y[:180]).predict()
    assert rmse(forecast, y[180:195]) < 1  # the differences are constant: 30
    several = forecaster.predict(y=[y[:100], y[:120] + 1000])
    assert rmse(several[0], y[100:115]) < 1 and rmse(several[1], y[120:135] + 1000) < 1


@STRATEGIES
def test_exogenous_inputs_of_the_future_are_used(strategy):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    y = 10 * X[:, 0] + 5 * np.roll(X[:, 0], 1)  # nothing in y's own past says what comes
    y[0] = 0
    forecaster = LSTMForecaster(
        5, 4, strategy=strategy, hidden_size=8, max_iter=20, n_members=2, random_state=0
    )
    forecaster.fit(y[:280], X=X[:280])
    assert rmse(forecaster.predict(X=X[280:284]), y[280:284]) < 3
    assert rmse(forecaster.predict(2, X[290:292], y=y[:290], X_past=X[:290]), y[290:292]) < 3
    # Each step is told its own X: another future, another forecast, and only from that step on.
    other = X[280:284].copy()
    other[2, 0] += 1
    change = forecaster.predict(X=other) - forecaster.predict(X=X[280:284])
    assert not change[:2].any() and change[2] == pytest.approx(10, rel=0.35)


def test_several_series_of_several_lengths():
    series = [season(n, seed) for seed, n in enumerate((60, 90, 45))]
    forecaster = quick().fit(series)
    forecast = forecaster.predict()
    assert isinstance(forecast, list) and [f.shape for f in forecast] == [(3,)] * 3
    np.testing.assert_allclose(forecaster.predict(y=series[1]), forecast[1], rtol=1e-12)
    columns = quick().fit(np.stack([season(50), season(50, 1)], axis=1))
    assert columns.predict().shape == (3, 2) and columns.n_outputs_ == 2
    assert quick().fit(season(50)[:, None]).predict().shape == (3, 1)


@STRATEGIES
def test_a_longer_forecast_begins_as_the_shorter_one(strategy):
    y = season(60)
    forecaster = quick(strategy=strategy).fit(y)
    if strategy == "direct":
        np.testing.assert_allclose(forecaster.predict(2), forecaster.predict(3)[:2], rtol=1e-12)
        return
    np.testing.assert_allclose(forecaster.predict(8)[:3], forecaster.predict(3), rtol=1e-12)


@pytest.mark.parametrize("loss", ["mae", "huber", "poisson"])
@STRATEGIES
def test_losses(loss, strategy):
    y = np.random.default_rng(0).poisson(np.exp(4 + np.sin(np.arange(150) / 2)))
    forecaster = LSTMForecaster(12, 4, strategy=strategy, loss=loss, max_iter=30, random_state=0,
                                learning_rate_init=0.01, n_members=2)
    forecast = forecaster.fit(y[:146]).predict()
    assert rmse(forecast, y[146:]) < 0.8 * y.std()
    assert loss != "poisson" or (forecast > 0).all()


# Intervals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [
    {"loss": "quantile", "strategy": "direct"}, {"loss": "gaussian", "strategy": "direct"},
    {"loss": "gaussian"}, {"loss": "quantile", "strategy": "direct", "difference": 1}, {}, {"loss": "mae"},
    {"loss": "poisson"}, {"n_members": 0, "difference": None},
], ids=lambda words: "-".join(map(str, words.values())) or "default")
def test_intervals_hold_their_share_whatever_the_loss(words):
    y = season(500, noise=0.3)
    if words.get("loss") == "poisson":
        y = np.round(y.clip(0))
    words = {"n_members": 2, **words}
    forecaster = LSTMForecaster(12, 3, coverage=0.8, hidden_size=8, max_iter=10, random_state=0,
                                learning_rate_init=0.01, **words).fit(y[:350])
    origins = range(350, 497)
    truth = np.stack([y[t : t + 3] for t in origins])
    lower, upper = (np.stack(bound) for bound in forecaster.predict_interval(y=[y[:t] for t in origins]))
    middle = np.stack(forecaster.predict(y=[y[:t] for t in origins]))
    assert lower.shape == upper.shape == truth.shape
    assert (lower <= middle).all() and (middle <= upper).all()
    assert 0.72 < ((lower <= truth) & (truth <= upper)).mean() < 0.88
    wider, narrow = (forecaster.predict_interval(coverage=coverage) for coverage in (0.95, 0.5))
    assert (wider[1] - wider[0] > narrow[1] - narrow[0]).all()


def test_uncertainty_of_a_random_walk_grows_like_its_root():
    y = np.cumsum(np.random.default_rng(0).normal(size=600))
    forecaster = LSTMForecaster(5, 1, difference=1, n_members=0).fit(y)
    lower, upper = forecaster.predict_interval(16)
    width = upper - lower
    assert width[0] == pytest.approx(2 * 1.645, rel=0.15)
    np.testing.assert_allclose(width[[3, 15]] / width[0], [2, 4], rtol=0.25)


@pytest.mark.parametrize("words", [{}, {"loss": "gaussian"}, {"strategy": "direct", "horizon": 4}])
def test_a_series_has_its_forecast_whichever_others_are_asked_for(words):
    series = [season(80, seed) for seed in range(3)]
    forecaster = quick(8, **{"strategy": "recursive", **words}).fit(series)
    alone = [bound[0] for bound in forecaster.predict_interval(y=series[1:2])]
    among = [bound[1] for bound in forecaster.predict_interval(y=series)]
    np.testing.assert_allclose(alone, among, rtol=1e-12)
    np.testing.assert_allclose(forecaster.predict(y=series[2]), forecaster.predict(y=series)[2], rtol=1e-12)


# Repeats, gaps, scikit-learn ------------------------------------------------------------------


@STRATEGIES
def test_same_random_state_same_bits_also_after_a_pickle(strategy):
    y = season(60)
    first, second = (quick(strategy=strategy).fit(y) for _ in range(2))
    np.testing.assert_array_equal(first.predict(), second.predict())
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(first)).predict(), first.predict())
    assert clone(first).get_params() == first.get_params() and not hasattr(clone(first), "model_")
    again = quick(strategy=strategy, warm_start=True).fit(y).fit(y)
    assert again.n_iter_ == 4


@STRATEGIES
def test_missing_values_are_no_targets(strategy):
    y = season(200)
    y[60:66] = y[100] = y[199] = np.nan
    words = {"strategy": strategy, "hidden_size": 8, "max_iter": 30, "learning_rate_init": 0.01}
    forecaster = quick(12, 6, lstm_options={"nan": "hold", "nan_mask": True}, **words).fit(y)
    forecast = forecaster.predict()
    assert np.isfinite(forecast).all() and rmse(forecast, season(206)[200:]) < 3
    with pytest.raises(ValueError, match="Input y contains NaN"):
        quick(strategy=strategy).fit(y)
    with pytest.raises(ValueError, match="y has only missing values; expected numbers"):
        quick(lstm_options={"nan": "zero"}).fit(np.full(30, np.nan))


def test_a_short_series_is_learned_from_with_all_settings():
    for length in (4, 5, 8, 12, 20):
        for words in ({}, {"n_members": 0}, {"n_members": 1}, {"early_stopping": False}, {"transform": None}):
            y = season(length + 1)
            least = LSTMForecaster(random_state=0, max_iter=2, hidden_size=2, **words)
            if length == 4:
                with pytest.raises(ValueError, match="series 0 of y has 4 steps; expected 5"):
                    least.fit(y[:4])
                continue
            forecast = least.fit(y[:length]).predict(3)
            assert np.isfinite(forecast).all() and np.isfinite(least.predict_interval(3)).all()


# Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words, arguments, message", [
    ({}, (None,), "requires y to be passed"),
    ({}, (season(8),), r"series 0 of y has 8 steps; expected 9 with window=6, horizon=3, difference=0"),
    ({"strategy": "recursive", "difference": 2}, ([season(20), season(8)],), "series 1 of y has 8 steps"),
    ({}, (np.zeros((9, 2, 2)),), "dim 3"),
    ({}, ([season(20), np.zeros((20, 2))],), r"y\[1\] has 2 columns; expected 1"),
    ({}, (["a"] * 20,), "could not convert"),
    ({}, (season(20), {"X": np.zeros((19, 1))}), "X has 19 steps for series 0; expected 20, as y"),
    ({}, ([season(20)] * 2, {"X": [np.zeros((20, 1))]}), "X has 1 series; expected 2"),
    ({"loss": "poisson"}, (np.arange(-5.0, 20),), "negative values; expected counts >= 0"),
    ({"loss": "poisson", "difference": 1}, (np.arange(20.0),), "difference is 1; expected None or 'auto'"),
    ({"loss": "quantile", "strategy": "recursive"}, (season(20),), "loss is 'quantile'; expected another"),
    ({"lstm_options": {"bidirectional": True}}, (season(20),), "expected none that reads a series backwards"),
    ({"window": 0}, (season(20),), "The 'window' parameter of LSTMForecaster must be an int"),
    ({"loss": "nse"}, (season(20),), "The 'loss' parameter of LSTMForecaster must be a str among"),
])
def test_bad_fits_are_refused(words, arguments, message):
    forecaster = quick(**words)
    words = arguments[-1] if isinstance(arguments[-1], dict) else {}
    with pytest.raises(ValueError, match=message):
        forecaster.fit(arguments[0], **words)
    with pytest.raises(NotFittedError, match="This LSTMForecaster instance is not fitted yet"):
        forecaster.predict()


def test_bad_forecasts_are_refused():
    y, X = season(40), np.zeros((40, 2))
    plain, told = quick().fit(y), quick().fit(y, X=X)
    for forecaster, words, message in [
        (plain, {"horizon": 4}, "horizon is 4; expected at most 3"),
        (plain, {"horizon": 0}, "horizon is 0; expected an integer"),
        (plain, {"X": X[:3]}, "X was given; expected None, as fit had no exogenous inputs"),
        (plain, {"y": y[:5]}, "series 0 of y has 5 steps; expected at least 6"),
        (plain, {"y": np.stack([y, y], 1)}, "y has 2 columns; expected 1"),
        (plain, {"y": np.full(10, np.nan)}, "Input y contains NaN"),
        (plain, {"X_past": X}, "X_past was given without y; expected both"),
        (told, {}, "X is None; expected 2 columns: fit had exogenous inputs"),
        (told, {"X": X[:2]}, "X has 2 steps for series 0; expected 3, the horizon"),
        (told, {"X": X[:3, :1]}, "X has 1 columns; expected 2"),
        (told, {"X": np.full((3, 2), np.nan)}, "Input X contains NaN"),
        (told, {"X": X[:3], "y": y}, "X_past is None"),
    ]:
        with pytest.raises(ValueError, match=message):
            forecaster.predict(**words)
    with pytest.raises(ValueError, match=r"coverage is 1\.5; expected a number between 0 and 1"):
        plain.predict_interval(coverage=1.5)


# What once went wrong ------------------------------------------------------------------------------


def test_a_gap_at_the_end_sets_windows_aside_that_something_follows():
    series = np.sin(0.3 * np.arange(120))
    series[-35:] = np.nan
    options = {"nan": "hold", "nan_mask": True}
    forecaster = LSTMForecaster(10, 4, max_iter=2, lstm_options=options, random_state=0).fit(series)
    assert np.isfinite(forecaster.predict()).all()
    series = np.sin(0.3 * np.arange(120))
    series[-1] = np.nan
    forecaster = LSTMForecaster(
        10, 4, difference=1, max_iter=2, lstm_options=options, random_state=0
    ).fit(series)
    with pytest.raises(ValueError, match="series 0 of y has a gap in its last 1 steps"):
        forecaster.predict()


def test_columns_of_data_frames_are_compared():
    pandas = pytest.importorskip("pandas")
    a, b = np.random.default_rng(0).normal(size=(2, 60))
    X = pandas.DataFrame({"a": a, "b": b})
    forecaster = LSTMForecaster(8, 5, max_iter=2, n_members=1, random_state=0).fit(3 * a[:55], X=X[:55])
    assert np.isfinite(forecaster.predict(X=X[55:])).all()
    with pytest.raises(ValueError, match="feature names should match"):
        forecaster.predict(X=X[55:][["b", "a"]])


def test_what_was_learned_is_not_what_the_parameters_say_now():
    series = np.sin(0.3 * np.arange(80))
    forecaster = quick(10, 4, loss="quantile").fit(series)
    before, interval = forecaster.predict(), forecaster.predict_interval()
    forecaster.set_params(coverage=0.5, window=3, period=5, loss="mse", difference=2, transform="log")
    np.testing.assert_array_equal(forecaster.predict(), before)
    np.testing.assert_array_equal(forecaster.predict_interval(), interval)
    with pytest.raises(ValueError, match=r"horizon is \d+; expected at most 4"):
        forecaster.set_params(horizon=6).predict(6)
