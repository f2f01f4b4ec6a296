"""What the estimators take besides X and y: static inputs, categories, gaps, weights, validation, draws."""

import pickle

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn", "1.6", reason="the estimators need scikit-learn 1.6 or newer")

from scipy import stats  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.utils.class_weight import compute_class_weight  # noqa: E402

from lstm_ext.sklearn import LSTMClassifier, LSTMRegressor  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

BOTH = pytest.mark.parametrize("kind", [LSTMRegressor, LSTMClassifier])
STEPS = pytest.mark.parametrize("every_step", [False, True])
WHOLE = {"dtype": "float64", "batch_size": 1000}  # one mini-batch of all: their order does not matter


def quick(kind, **words):
    return kind(**{"hidden_size": 4, "max_iter": 4, "random_state": 0, **words})


def data(kind, n=40, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6, 2))
    y = X[:, :, 0].sum(axis=1)
    return X, (y if kind is LSTMRegressor else np.where(y > 0, "up", "down"))


def by_step(kind, X):
    steps = np.cumsum(X[:, :, 0], axis=1)
    return steps if kind is LSTMRegressor else np.where(steps > 0, "up", "down")


def same_network(one, other, **words):
    np.testing.assert_allclose(one.model_.parameters, other.model_.parameters, **{"rtol": 1e-9, **words})


# Static inputs --------------------------------------------------------------------------------


@BOTH
@STEPS
def test_static_inputs_are_learned(kind, every_step):
    rng = np.random.default_rng(0)
    X, static = rng.normal(size=(200, 5, 1)), rng.normal(size=(200, 2)) * [1, 100] + [0, 50]
    y = 3 * static[:, 0] + X[:, -1, 0]
    y = np.repeat(y[:, None], 5, axis=1) if every_step else y
    y = y if kind is LSTMRegressor else y > 0
    words = {"hidden_size": 8, "max_iter": 60, "every_step": every_step, "learning_rate_init": 0.01}
    fitted = quick(kind, **words).fit(X[:150], y[:150], static=static[:150])
    without = quick(kind, **words).fit(X[:150], y[:150])
    score = fitted.score(X[150:], y[150:], static=static[150:])
    assert score > 0.8 and score > without.score(X[150:], y[150:]) + 0.1
    assert fitted.n_static_in_ == 2 and fitted.n_features_in_ == 1
    for given, said in (
        (None, "static has 0 columns; expected 2"), (static[:, :1], "static has 1 columns; expected 2"),
        (static[:3], "inconsistent numbers of samples"), (static * np.nan, "static contains NaN"),
    ):
        with pytest.raises(ValueError, match=said):
            fitted.predict(X, static=given)
    with pytest.raises(ValueError, match="static has 2 columns; expected 0"):
        without.predict(X, static=static)


@BOTH
def test_static_columns_are_static_inputs(kind):
    X, y = data(kind)
    static = np.random.default_rng(1).normal(size=(40, 2))
    wide = np.concatenate([X[:, :, :1], np.repeat(static[:, None], 6, axis=1), X[:, :, 1:]], axis=2)
    given = quick(kind, **WHOLE).fit(X, y, static=static)
    named = quick(kind, static_columns=[1, -2], **WHOLE).fit(wide, y)
    same_network(named, given)
    assert named.n_features_in_ == 4
    np.testing.assert_allclose(
        named.score(wide, y), given.score(X, y, static=static), rtol=1e-9
    )
    wide[3, 2, 1] += 1
    with pytest.raises(ValueError, match=r"has column 1, which varies within X\[3\]; expected one value"):
        named.predict(wide)
    for columns, said in (([7], "has 7"), (["rain"], "has 'rain'"), ([0, 1, 2, 3], "names all columns")):
        with pytest.raises(ValueError, match=said):
            quick(kind, static_columns=columns).fit(np.repeat(wide[:, :1], 6, axis=1), y)


# Categories -----------------------------------------------------------------------------------


def frames(n=30, seed=0):
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(seed)
    made = []
    for length in rng.integers(3, 7, n):
        kinds = pandas.Categorical(rng.choice(["rain", "snow", "sun"], length))
        made.append(pandas.DataFrame({"heat": rng.normal(size=length), "sky": kinds}))
    y = np.array([frame["heat"].sum() + 3 * (frame["sky"] == "snow").sum() for frame in made])
    return made, y


def test_categories_are_learned_as_a_column_for_each():
    X, y = frames()
    fitted = quick(LSTMRegressor, **WHOLE).fit(X, y)
    by_hand = [
        np.column_stack([frame["heat"], *(frame["sky"] == kind for kind in ("rain", "snow", "sun"))])
        for frame in X
    ]
    same_network(fitted, quick(LSTMRegressor, **WHOLE).fit(by_hand, y))
    assert fitted.n_features_in_ == 2 and list(fitted.feature_names_in_) == ["heat", "sky"]
    # Categories that do not occur, or are in another order, change nothing.
    other = [frame.assign(sky=frame["sky"].astype(object).astype("category")) for frame in X]
    np.testing.assert_array_equal(fitted.predict(other), fitted.predict(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), fitted.predict(X))
    text = [frame.astype({"sky": object}) for frame in X]
    same_network(quick(LSTMRegressor, categorical_columns=["sky"], **WHOLE).fit(text, y), fitted)
    unseen = X[0].assign(sky="hail")
    with pytest.raises(ValueError, match="column 'sky' of X has 'hail'; expected one of the categories"):
        fitted.predict([unseen])


@BOTH
def test_numbers_may_be_categories(kind):
    X, y = data(kind)
    X[:, :, 1] = np.random.default_rng(0).integers(3, 6, (40, 6))
    fitted = quick(kind, categorical_columns=[1], **WHOLE).fit(X, y)
    by_hand = np.concatenate([X[:, :, :1], X[:, :, 1:] == np.array([3, 4, 5])], axis=2)
    same_network(fitted, quick(kind, **WHOLE).fit(by_hand, y))
    X[0, 0, 1] = 9
    with pytest.raises(ValueError, match="column 1 of X has 9; expected one of the categories that fit had"):
        fitted.predict(X)


def test_a_category_may_be_static():
    X, y = data(LSTMRegressor)
    soil = np.random.default_rng(0).integers(0, 3, 40)
    wide = np.concatenate([X, np.repeat(soil[:, None, None], 6, axis=1)], axis=2)
    named = quick(LSTMRegressor, categorical_columns=[2], static_columns=[2], **WHOLE).fit(wide, y)
    given = quick(LSTMRegressor, **WHOLE).fit(X, y, static=soil[:, None] == np.arange(3))
    same_network(named, given)


# Targets that are not known, and weights of targets ---------------------------------------------


@pytest.mark.parametrize("form", ["array", "masked", "list", "object"])
def test_a_sequence_without_a_target_is_not_learned_from(form):
    X, y = data(LSTMRegressor)
    gaps = y.copy()
    gaps[::5] = np.nan
    given = {
        "array": gaps, "list": gaps.tolist(), "object": gaps.astype(object),
        "masked": np.ma.MaskedArray(np.where(np.isnan(gaps), 1e9, y), mask=np.isnan(gaps)),
    }[form]
    known = ~np.isnan(gaps)
    fitted, without = quick(LSTMRegressor, **WHOLE).fit(X, given), quick(LSTMRegressor, **WHOLE)
    same_network(fitted, without.fit(X[known], y[known]), rtol=1e-7, atol=1e-9)
    assert fitted.score(X, given) == pytest.approx(without.score(X[known], y[known]), rel=1e-6)
    assert not isinstance(fitted.model_.loss, type(None)) and "Weighted" not in repr(fitted.model_)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "gaussian", "student_t", "quantile", "nse", "cmal"])
@STEPS
@pytest.mark.filterwarnings("ignore:groups is None")
def test_each_target_counts_where_it_is_known(loss, every_step):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 6, 2))
    y = np.cumsum(X, axis=1) if every_step else X.sum(axis=1)
    gaps = np.where(rng.random(y.shape) < 0.3, np.nan, y)
    words = {"loss": loss, "every_step": every_step, "early_stopping": False, "quantiles": [0.1, 0.9]}
    fitted = quick(LSTMRegressor, **words).fit(X, gaps)
    assert np.isfinite(fitted.predict(X)).all() and np.isfinite(fitted.score(X, gaps))
    # What is not known has no part: not in the scaling, not in the loss.
    assert fitted.y_scaler_.mean_ == pytest.approx(np.nanmean(gaps.reshape(-1, 2), axis=0))
    first = quick(LSTMRegressor, **{**words, "max_iter": 1}, batch_size=100).fit(X, gaps)
    assert np.isfinite(first.loss_)
    if loss == "mse":
        blank = quick(LSTMRegressor, **{**words, "max_iter": 1}, batch_size=100, learning_rate_init=1e-12)
        error = (blank.fit(X, gaps).predict(X) - gaps) / blank.y_scaler_.scale_
        assert first.loss_ == pytest.approx(np.nanmean(error**2), rel=1e-4)


def test_a_column_without_weight_has_no_part():
    X, y = data(LSTMRegressor)
    both = np.stack([y, np.random.default_rng(0).normal(size=40)], axis=1)
    other = np.stack([y, 1000 + 10 * np.random.default_rng(0).normal(size=40)], axis=1)
    words = {"target_weight": [1, 0], "scale": False}
    first, second = (quick(LSTMRegressor, **words).fit(X, targets) for targets in (both, other))
    np.testing.assert_array_equal(first.model_.parameters, second.model_.parameters)
    equal = quick(LSTMRegressor, target_weight=[2, 2], **WHOLE).fit(X, both)
    same_network(equal, quick(LSTMRegressor, **WHOLE).fit(X, both), rtol=1e-7)
    heavy = quick(LSTMRegressor, hidden_size=2, max_iter=300, target_weight=[100, 1]).fit(X, both)
    light = quick(LSTMRegressor, hidden_size=2, max_iter=300, target_weight=[1, 100]).fit(X, both)
    error = [np.mean((fitted.predict(X)[:, 0] - y) ** 2) for fitted in (heavy, light)]
    assert error[0] < 0.5 * error[1]
    for weight in ([1], [0, 0], [1, -1], [1, np.nan]):
        with pytest.raises(ValueError, match=r"target_weight is .*; expected 2 numbers >= 0"):
            quick(LSTMRegressor, target_weight=weight).fit(X, both)


def test_nothing_known_is_refused():
    X, y = data(LSTMRegressor)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        quick(LSTMRegressor).fit(X, y * np.nan)
    half = np.where(np.arange(40) < 20, np.nan, y)
    with pytest.raises(ValueError, match="only missing targets where sample_weight"):
        quick(LSTMRegressor).fit(X, half, sample_weight=np.arange(40) < 20)
    with pytest.raises(ValueError, match="infinity"):
        quick(LSTMRegressor).fit(X, np.where(np.arange(40) == 3, np.inf, half))


# Validation, bptt -----------------------------------------------------------------------------


@BOTH
@STEPS
def test_a_validation_set_is_watched(kind, every_step):
    X, y = data(kind)
    others, answers = data(kind, 30, 1)
    if every_step:
        y, answers = by_step(kind, X), by_step(kind, others)
    words = {"max_iter": 30, "every_step": every_step}
    fitted = quick(kind, **words).fit(X, y, validation=(others, answers))
    assert len(fitted.validation_loss_curve_) == fitted.n_iter_ == 30
    assert fitted.best_loss_ == min(fitted.validation_loss_curve_)
    # X is learned from as a whole, whatever the validation is.
    plain = quick(kind, **words).fit(X, y)
    np.testing.assert_allclose(fitted.loss_curve_, plain.loss_curve_, rtol=1e-6)
    weighted = {"X": others, "y": answers, "sample_weight": np.arange(30)}
    assert quick(kind, **words).fit(X, y, validation=weighted).best_loss_ != fitted.best_loss_
    for bad, error, said in (
        (3, TypeError, "validation is int; expected a tuple"),
        ({"X": others}, TypeError, r"validation is \['X'\]; expected"),
        ((others[:, :, :1], answers), ValueError, "X has 1 features"),
        ((others, answers[:3]), ValueError, "inconsistent numbers|y has 3"),
    ):
        with pytest.raises(error, match=said):
            quick(kind, **words).fit(X, y, validation=bad)


@BOTH
def test_truncated_backpropagation(kind):
    X, _ = data(kind)
    y = by_step(kind, X)
    whole, cut = (quick(kind, every_step=True, bptt=bptt).fit(X, y) for bptt in (None, 2))
    assert not np.allclose(whole.model_.parameters, cut.model_.parameters)
    assert cut.bptt == 2 and np.isfinite(cut.score(X, y))
    with pytest.raises(ValueError, match="bptt is 2; expected None without every_step=True"):
        quick(kind, bptt=2).fit(X, y[:, 0])
    with pytest.raises(ValueError, match="bptt is 2; expected None with solver='lbfgs'"):
        quick(kind, every_step=True, bptt=2, solver="lbfgs").fit(X, y)


# Draws ----------------------------------------------------------------------------------------


@BOTH
@STEPS
def test_draws_with_dropped_units(kind, every_step):
    X, y = data(kind)
    y = by_step(kind, X) if every_step else y
    options = {"recurrent_dropout": 0.3}
    fitted = quick(kind, every_step=every_step, lstm_options=options, max_iter=20).fit(X, y)
    method = fitted.predict if kind is LSTMRegressor else fitted.predict_proba
    draws = method(X, n_draws=12)
    assert draws.shape == (12, *method(X).shape)
    assert draws.std(axis=0).mean() > 1e-3
    np.testing.assert_array_equal(method(X, n_draws=12), draws)  # random_state draws
    np.testing.assert_allclose(draws.mean(axis=0), method(X), atol=6 * draws.std(axis=0).max())
    assert len(fitted.predict(X, n_draws=3)) == (3 if kind is LSTMRegressor else 40)
    ragged = [x[: 2 + k % 4] for k, x in enumerate(X)]
    if every_step:
        assert [part.shape[:2] for part in method(ragged, n_draws=3)] == [(3, len(x)) for x in ragged]
    with pytest.raises(ValueError, match="n_draws is 5; expected None for a network that drops nothing"):
        quick(kind, every_step=every_step).fit(X, y).predict(X, n_draws=5)
    for bad in (0, 1.5, True):
        with pytest.raises(ValueError, match=r"n_draws is .*; expected an integer of at least 1"):
            fitted.predict(X, n_draws=bad)
    with pytest.raises(NotFittedError):
        quick(kind).predict(X, n_draws=3)


# Classes --------------------------------------------------------------------------------------


@STEPS
def test_several_labels_at_once(every_step):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 5, 2))
    y = (np.cumsum(X, axis=1) if every_step else X.sum(axis=1)) > 0
    y = np.concatenate([y, ~y[..., :1]], axis=-1).astype(int)
    fitted = quick(LSTMClassifier, hidden_size=16, every_step=every_step, max_iter=60).fit(X[:150], y[:150])
    assert fitted.predict(X).shape == y.shape == fitted.predict_proba(X).shape
    assert set(np.unique(fitted.predict(X))) == {0, 1}
    assert (fitted.predict(X[150:]) == y[150:]).mean() > 0.9 and fitted.score(X[150:], y[150:]) > 0.75
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(X)), fitted.predict_proba(X))
    np.testing.assert_array_equal(fitted.classes_, np.arange(3))
    again = quick(LSTMClassifier, every_step=every_step, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="expected 3 labels, as fit had"):
        again.fit(X, y[..., 0])
    with pytest.raises(ValueError, match="class_weight is a dict; expected 'balanced' or None for several"):
        quick(LSTMClassifier, every_step=every_step, class_weight={0: 2}).fit(X, y)


@STEPS
def test_class_weights_are_sample_weights(every_step):
    X, y = data(LSTMClassifier)
    y = by_step(LSTMClassifier, X) if every_step else y
    words = {"every_step": every_step, **WHOLE}
    given = np.random.default_rng(0).integers(1, 3, 40)
    up = y == "up"
    expected = given[:, None] * np.where(up, 3.0, 1.0) if every_step else given * np.where(up, 3.0, 1.0)
    weighted = quick(LSTMClassifier, class_weight={"up": 3.0, "down": 1.0}, **words).fit(X, y, given)
    same_network(weighted, quick(LSTMClassifier, **words).fit(X, y, expected), rtol=1e-6, atol=1e-9)
    balanced = quick(LSTMClassifier, class_weight="balanced", **words).fit(X, y)
    by_class = dict(zip(["down", "up"], compute_class_weight(
        "balanced", classes=np.array(["down", "up"]), y=y.ravel()), strict=True))
    same_network(balanced, quick(LSTMClassifier, class_weight=by_class, **words).fit(X, y))
    with pytest.raises(AttributeError, match="partial_fit") as refused:
        balanced.partial_fit(X, y)
    assert "class_weight is 'balanced'; expected None or a dict" in str(refused.value.__cause__)
    for bad in ({"up": -1.0}, {"up": 0.0, "down": 0.0}):
        with pytest.raises(ValueError, match="class_weight"):
            quick(LSTMClassifier, class_weight=bad).fit(X, data(LSTMClassifier)[1])


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
def test_every_pooling_learns(pooling):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 120)
    X = [rng.normal(size=(length, 1)) for length in rng.integers(60, 100, 120)]
    for x, up in zip(X, label, strict=True):
        x[rng.integers(5, 50)] += 8 if up else -8
    fitted = LSTMClassifier(8, pooling=pooling, max_iter=60, random_state=0).fit(X[:80], label[:80])
    assert fitted.model_.pooling == pooling and fitted.merge_steps_ == 4
    assert fitted.score(X[80:], label[80:]) > 0.7
    with pytest.raises(ValueError, match="'pooling' parameter"):
        quick(LSTMClassifier, pooling="sum").fit(X, label)


def test_merged_steps_are_read_as_one():
    X, y = data(LSTMClassifier)
    fitted = quick(LSTMClassifier, merge_steps=2, scale=False, **WHOLE).fit(X, y)
    same_network(fitted, quick(LSTMClassifier, scale=False, **WHOLE).fit(X.reshape(40, 3, 4), y))
    # A sequence ends with 0 where its last step is not whole.
    ragged = [x[: 3 + k % 4] for k, x in enumerate(X)]
    by_hand = [np.vstack([x, np.zeros((len(x) % 2, 2))]).reshape(-1, 4) for x in ragged]
    fitted = quick(LSTMClassifier, merge_steps=2, scale=False, **WHOLE).fit(ragged, y)
    same_network(fitted, quick(LSTMClassifier, scale=False, **WHOLE).fit(by_hand, y))
    assert quick(LSTMClassifier).fit(X, y).merge_steps_ == 1
    with pytest.raises(ValueError, match="merge_steps is 2; expected 1 or 'auto' with every_step=True"):
        quick(LSTMClassifier, merge_steps=2, every_step=True).fit(X, by_step(LSTMClassifier, X))


def test_both_directions_are_read_unless_steps_are_answered():
    X, y = data(LSTMClassifier)
    assert quick(LSTMClassifier).fit(X, y).model_.lstm.bidirectional
    for options in ({"bidirectional": False}, {"reverse": True}):
        assert not quick(LSTMClassifier, lstm_options=options).fit(X, y).model_.lstm.bidirectional
    steps = by_step(LSTMClassifier, X)
    assert not quick(LSTMClassifier, every_step=True).fit(X, steps).model_.lstm.bidirectional


# Intervals ------------------------------------------------------------------------------------


def heteroscedastic(n, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 8, 2))
    scale = 0.2 + 0.6 / (1 + np.exp(-4 * X[:, -3:, 1].mean(axis=1)))
    return X, X[:, :, 0].sum(axis=1) + scale * rng.normal(size=n), scale


def coverage_of(fitted, X, y, **words):
    low, high = fitted.predict_interval(X, **words)
    return np.mean((low <= y) & (y <= high))


@pytest.mark.parametrize("loss", ["quantile", "gaussian", "student_t", "cmal"])
def test_intervals_hold_their_share_by_default(loss):
    X, y, _ = heteroscedastic(300)
    fitted = LSTMRegressor(loss=loss, quantiles=[0.05, 0.5, 0.95], random_state=0).fit(X, y)
    others = heteroscedastic(4000, 1)
    assert 0.85 < coverage_of(fitted, *others[:2]) < 0.95
    without = LSTMRegressor(
        loss=loss, quantiles=[0.05, 0.5, 0.95], early_stopping=False, max_iter=150, random_state=0
    ).fit(X, y)
    assert coverage_of(without, *others[:2]) < 0.8  # which is why
    if loss == "quantile":
        low, _, high = fitted.predict(others[0]).T
        bounds = fitted.predict_interval(others[0], coverage=0.9)
        np.testing.assert_allclose(np.stack(bounds), np.stack([low, high]))
        with pytest.raises(ValueError, match=r"coverage is 0.5; expected one whose bounds, 0.25 and 0.75"):
            fitted.predict_interval(others[0], coverage=0.5)
        return
    assert 0.42 < coverage_of(fitted, *others[:2], coverage=0.5) < 0.58
    mean, deviation = fitted.predict(others[0], return_std=True)
    if loss == "gaussian":
        low, high = fitted.predict_interval(others[0])
        np.testing.assert_allclose(low, mean - stats.norm.ppf(0.95) * deviation, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(high, mean + stats.norm.ppf(0.95) * deviation, rtol=1e-6, atol=1e-6)
        assert np.corrcoef(deviation, others[2])[0, 1] > 0.5


def test_counts_that_vary_much_have_intervals():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 5, 1))
    mean = np.exp(1 + 0.5 * X[:, :, 0].sum(axis=1))
    y = rng.negative_binomial(2, 2 / (2 + mean)).astype(float)
    fitted = LSTMRegressor(8, loss="negative_binomial", random_state=0).fit(X[:300], y[:300])
    low, high = fitted.predict_interval(X[300:])
    assert (low >= 0).all() and (low == np.round(low)).all() and (high == np.round(high)).all()
    assert 0.86 < np.mean((low <= y[300:]) & (y[300:] <= high)) <= 0.97
    expected, deviation = fitted.predict(X[300:], return_std=True)
    assert np.corrcoef(np.log(expected), np.log(mean[300:]))[0, 1] > 0.8
    assert (deviation**2 > expected).all()
    with pytest.raises(ValueError, match="expected counts >= 0 with loss='negative_binomial'"):
        quick(LSTMRegressor, loss="negative_binomial").fit(X, y - 1)


def test_intervals_of_every_step_and_several_targets():
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(length, 1)) for length in rng.integers(4, 9, 80)]
    y = [np.column_stack([np.cumsum(x), -np.cumsum(x)]) + 0.3 * rng.normal(size=(len(x), 2)) for x in X]
    y[0][2, 1] = np.nan
    for loss in ("gaussian", "quantile"):
        fitted = quick(
            LSTMRegressor, loss=loss, every_step=True, quantiles=[0.05, 0.95], hidden_size=8, max_iter=40,
            learning_rate_init=0.01,
        ).fit(X[:60], y[:60])
        low, high = fitted.predict_interval(X[60:])
        inside = [(a <= t) & (t <= b) for a, b, t in zip(low, high, y[60:], strict=True)]
        assert 0.8 < np.concatenate(inside).mean() < 0.98
        assert [part.shape for part in low] == [part.shape for part in y[60:]]


def test_too_few_sequences_are_not_calibrated_and_it_is_said():
    X, y = data(LSTMRegressor, 6)
    with pytest.warns(UserWarning, match="X has 6 sequences; expected at least 10 to calibrate"):
        fitted = quick(LSTMRegressor, loss="gaussian").fit(X, y)
    assert fitted.calibration_ is None and len(fitted.predict_interval(X)) == 2
    plain = quick(LSTMRegressor).fit(X, y)
    with pytest.raises(ValueError, match="loss is 'mse'; expected quantile, gaussian"):
        plain.predict_interval(X)
    for coverage in (0, 1, "a", np.nan):
        with pytest.raises(ValueError, match=r"coverage is .*; expected a number between 0 and 1"):
            fitted.predict_interval(X, coverage)
    with pytest.raises(ValueError, match=r"quantiles is \[0.5\]; expected two or more"):
        quick(LSTMRegressor, loss="quantile", early_stopping=False).fit(X, y).predict_interval(X)


def test_poisson_intervals_come_from_the_distribution():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4, 1))
    y = rng.poisson(np.exp(1 + 0.3 * X.sum(axis=(1, 2))))
    fitted = LSTMRegressor(8, loss="poisson", max_iter=30, random_state=0).fit(X, y)
    low, high = fitted.predict_interval(X, 0.8)
    rate = fitted.predict(X)
    np.testing.assert_array_equal(low, stats.poisson.ppf(0.1, rate))
    np.testing.assert_array_equal(high, stats.poisson.ppf(0.9, rate))


# Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["mse", "quantile", "gaussian", "student_t", "negative_binomial", "cmal"])
def test_regressors_are_saved_with_what_they_have_learned(loss, tmp_path):
    pytest.importorskip("safetensors")
    from lstm_ext import io

    X, y = data(LSTMRegressor)
    y = np.abs(np.round(y))
    y[3] = np.nan
    wide = np.concatenate([X, np.repeat(np.arange(40)[:, None, None] % 3, 6, axis=1)], axis=2)
    fitted = quick(
        LSTMRegressor, loss=loss, quantiles=[0.1, 0.9], categorical_columns=[2], static_columns=[2]
    ).fit(wide, y)
    io.save(fitted, tmp_path / "fitted.safetensors")
    copy = io.load(tmp_path / "fitted.safetensors")
    np.testing.assert_array_equal(copy.predict(wide), fitted.predict(wide))
    if loss != "mse":
        np.testing.assert_array_equal(copy.predict_interval(wide), fitted.predict_interval(wide))
    copy.partial_fit(wide, y)


@pytest.mark.parametrize("several", [False, True])
def test_classifiers_are_saved_with_what_they_have_learned(several, tmp_path):
    pytest.importorskip("safetensors")
    from lstm_ext import io

    X, y = data(LSTMClassifier)
    y = np.stack([y == "up", y == "down"], axis=1).astype(int) if several else y
    fitted = quick(LSTMClassifier, pooling="attention", merge_steps=2).fit(X, y, static=X[:, 0])
    io.save(fitted, tmp_path / "fitted.safetensors")
    copy = io.load(tmp_path / "fitted.safetensors")
    np.testing.assert_array_equal(
        copy.predict_proba(X, static=X[:, 0]), fitted.predict_proba(X, static=X[:, 0])
    )
