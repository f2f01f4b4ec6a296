"""The estimators: scikit-learn's manners, three layouts of X, and what they learn by default."""

import io
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn", "1.6", reason="the estimators need scikit-learn 1.6 or newer")

import joblib  # noqa: E402  # comes with scikit-learn
from sklearn import config_context  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError  # noqa: E402
from sklearn.linear_model import LinearRegression, LogisticRegression  # noqa: E402
from sklearn.model_selection import (  # noqa: E402
    GridSearchCV,
    KFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from lstm_ext.sklearn import LSTMClassifier, LSTMRegressor, SequenceScaler  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

BOTH = pytest.mark.parametrize("kind", [LSTMRegressor, LSTMClassifier])


def quick(kind, **words):
    return kind(**{"hidden_size": 4, "max_iter": 3, "random_state": 0, **words})


def ragged(n=12, features=2, seed=0):
    """Sequences of several lengths, a number and a label for each, numbers and labels for each step."""
    rng = np.random.default_rng(seed)
    X = [rng.normal(size=(length, features)) for length in rng.integers(2, 7, n)]
    y = np.array([x[:, 0].sum() for x in X])
    steps = [np.cumsum(x[:, 0]) for x in X]
    return X, y, steps


def target(kind, y):
    """Numbers, or labels made of them."""
    if kind is LSTMRegressor:
        return y
    if isinstance(y, list):
        return [np.where(part > 0, "up", "down") for part in y]
    return np.where(y > 0, "up", "down")


# scikit-learn's own checks --------------------------------------------------------------------

# With mini-batches of 32, the default, a weight of 2 is not a doubled row: the rows are drawn into other
# mini-batches. With one batch of all sequences the check passes, so here nothing is expected to fail.
CHECKED = {"hidden_size": 8, "max_iter": 30, "batch_size": 64, "learning_rate_init": 0.03, "dtype": "float64"}


SHORT = {**CHECKED, "max_iter": 10}
SMALL_STEPS = {**CHECKED, "learning_rate_init": 0.3}
CONFIGURATIONS = [
    LSTMRegressor(**CHECKED), LSTMClassifier(**CHECKED), SequenceScaler(),
    *(LSTMRegressor(**CHECKED, loss=loss) for loss in ("mae", "huber", "poisson", "nse")),
    *(
        LSTMRegressor(**SHORT, loss=loss)
        for loss in ("quantile", "gaussian", "student_t", "negative_binomial", "cmal")
    ),
    LSTMRegressor(**SHORT, early_stopping=True),
    LSTMRegressor(**CHECKED, solver="lbfgs"),
    LSTMRegressor(**SMALL_STEPS, solver="sgd"),
    LSTMRegressor(**CHECKED, num_layers=2, lstm_options={"bidirectional": True}),
    LSTMRegressor(**CHECKED, lstm_options={"nan": "hold"}),
    *(LSTMClassifier(**CHECKED, pooling=pooling) for pooling in ("last", "mean", "attention")),
    LSTMClassifier(**CHECKED, early_stopping=True),
    LSTMClassifier(**CHECKED, class_weight="balanced"),
    LSTMClassifier(**CHECKED, solver="lbfgs"),
    LSTMClassifier(**CHECKED, pooling="last", merge_steps=1, lstm_options={"bidirectional": False}),
]


def expected_to_fail(estimator):
    """Checks that cannot pass, and why."""
    given, reasons = estimator.get_params(), {}
    intervals = ("quantile", "gaussian", "student_t", "negative_binomial", "cmal")
    if given.get("early_stopping") is True or given.get("loss") in intervals:
        reasons["check_sample_weight_equivalence_on_dense_data"] = (
            "a doubled sequence may be learned from in one copy and set aside in the other"
        )
    if given.get("loss") in ("poisson", "negative_binomial"):
        reasons["check_regressor_multioutput"] = "the check has negative targets, whatever positive_only says"
    return reasons


@parametrize_with_checks(CONFIGURATIONS, expected_failed_checks=expected_to_fail)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_expected_failure_of_the_defaults_is_the_weights_in_mini_batches():
    from sklearn.utils.estimator_checks import check_sample_weight_equivalence_on_dense_data as check

    check("LSTMRegressor", LSTMRegressor(max_iter=3, batch_size=64, dtype="float64"))
    with pytest.raises(AssertionError):
        check("LSTMRegressor", LSTMRegressor(max_iter=3, batch_size=4, dtype="float64"))


# The layouts of X -----------------------------------------------------------------------------


@BOTH
def test_features_not_steps_are_columns(kind):
    X = np.random.default_rng(0).normal(size=(10, 7, 3))
    estimator = quick(kind).fit(X, target(kind, X.sum(axis=(1, 2))))
    assert estimator.n_features_in_ == 3
    assert estimator.predict(X[:, :4]).shape == (10,)  # other lengths are fine
    with pytest.raises(ValueError, match=r"X has 2 features, but LSTM.* is expecting 3 features"):
        estimator.predict(X[:, :, :2])


@BOTH
def test_a_table_is_sequences_of_one_step(kind):
    X = np.random.default_rng(0).normal(size=(20, 3))
    y = target(kind, X[:, 0])
    table, array, listed = quick(kind), quick(kind), quick(kind)
    table.fit(X, y), array.fit(X[:, None], y), listed.fit([x[None] for x in X], y)
    expected = table.model_.parameters
    np.testing.assert_array_equal(array.model_.parameters, expected)
    np.testing.assert_array_equal(listed.model_.parameters, expected)
    np.testing.assert_array_equal(array.predict(X[:, None]), table.predict(X))


@BOTH
@pytest.mark.parametrize("every_step", [False, True])
def test_ragged_equals_padded(kind, every_step):
    X, y, steps = ragged()
    y = target(kind, steps if every_step else y)
    estimator = quick(kind, every_step=every_step).fit(X, y)
    lengths = np.array([len(x) for x in X])
    padded = np.full((len(X), lengths.max(), 2), np.nan, "float32")
    for row, x in zip(padded, X, strict=True):
        row[: len(x)] = estimator.x_scaler_.transform(x)
    outputs = estimator.model_.predict(padded, lengths)
    alone = [estimator.predict([x])[0] for x in X]
    for n, length in enumerate(lengths):
        out = outputs[n, :length] if every_step else outputs[n : n + 1]
        if kind is LSTMRegressor:
            expected = estimator.y_scaler_.inverse_transform(out.astype("float64"))[:, 0]
        else:
            expected = estimator.classes_[out.argmax(axis=1)]
        expected = expected if every_step else expected[0]
        together = estimator.predict(X)[n]
        if kind is LSTMRegressor:
            np.testing.assert_allclose(together, expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(together, alone[n], rtol=1e-12, atol=1e-12)
        else:
            np.testing.assert_array_equal(together, expected)


@BOTH
def test_equal_lengths_may_come_as_list_or_array(kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 5, 2))
    objects = np.empty(12, object)
    objects[:] = list(X)
    y = target(kind, X[:, :, 0].sum(axis=1))
    parameters = [quick(kind).fit(form, y).model_.parameters for form in (X, list(X), objects, X.tolist())]
    for other in parameters[1:]:
        np.testing.assert_array_equal(other, parameters[0])


def test_shape_of_y_is_the_shape_of_the_prediction():
    X, y, steps = ragged()
    dense = np.random.default_rng(0).normal(size=(12, 5, 2))
    for given, every_step, targets, shape in [
        (X, False, y, (12,)),
        (X, False, y[:, None], (12, 1)),
        (X, False, np.stack([y, -y], 1), (12, 2)),
        (dense, True, dense[:, :, 0], (12, 5)),
        (dense, True, dense, (12, 5, 2)),
        (dense[:, 0], True, dense[:, 0, :1], (12, 1)),
    ]:
        estimator = quick(LSTMRegressor, every_step=every_step).fit(given, targets)
        assert estimator.predict(given).shape == shape and np.isfinite(estimator.score(given, targets))
    prediction = quick(LSTMRegressor, every_step=True).fit(X, steps).predict(X)
    assert [len(p) for p in prediction] == [len(x) for x in X] and prediction[0].ndim == 1


def test_probabilities():
    X, y, steps = ragged()
    labels = np.digitize(y, [-1, 1])
    classifier = quick(LSTMClassifier).fit(X, labels)
    proba = classifier.predict_proba(X)
    assert proba.shape == (12, 3)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_array_equal(classifier.classes_[proba.argmax(1)], classifier.predict(X))
    np.testing.assert_allclose(np.exp(classifier.predict_log_proba(X)), proba)
    by_step = quick(LSTMClassifier, every_step=True).fit(X, target(LSTMClassifier, steps))
    assert [p.shape for p in by_step.predict_proba(X)] == [(len(x), 2) for x in X]


# What is learned by default -------------------------------------------------------------------


def test_defaults_continue_noisy_waves_better_than_a_linear_model():
    rng = np.random.default_rng(0)
    frequency, phase = rng.uniform(0.3, 1.2, (500, 1)), rng.uniform(0, 2 * np.pi, (500, 1))
    waves = 5 + 100 * np.sin(frequency * np.arange(26) + phase)  # not standardised
    X, y = (waves[:, :25] + 10 * rng.normal(size=(500, 25)))[:, :, None], waves[:, 25]
    ours = LSTMRegressor(max_iter=25, random_state=0).fit(X[:400], y[:400]).score(X[400:], y[400:])
    linear = LinearRegression().fit(X[:400, :, 0], y[:400]).score(X[400:, :, 0], y[400:])
    assert 1 - ours < 0.5 * (1 - linear)


def test_defaults_tell_frequencies_apart():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 300)
    phase = rng.uniform(0, 2 * np.pi, (300, 1))
    waves = np.sin(np.array([0.4, 0.5, 0.6])[label][:, None] * np.arange(30) + phase)
    X = [x[: rng.integers(20, 30), None] for x in waves + 0.2 * rng.normal(size=waves.shape)]
    ours = LSTMClassifier(max_iter=50, random_state=0).fit(X[:200], label[:200]).score(X[200:], label[200:])
    flat = np.array([x[:20, 0] for x in X])
    logistic = LogisticRegression().fit(flat[:200], label[:200]).score(flat[200:], label[200:])
    assert ours > 0.9 and logistic < 0.6


def test_every_step_learns_a_running_sum():
    X, _, steps = ragged(150)
    estimator = LSTMRegressor(16, every_step=True, max_iter=60, random_state=0).fit(X[:120], steps[:120])
    assert estimator.score(X[120:], steps[120:]) > 0.9
    labels = target(LSTMClassifier, steps)
    estimator = LSTMClassifier(16, every_step=True, max_iter=60, random_state=0).fit(X[:120], labels[:120])
    assert estimator.score(X[120:], labels[120:]) > 0.85


@pytest.mark.parametrize("solver", ["adam", "adamw", "rmsprop", "sgd", "lbfgs"])
def test_every_solver_learns(solver):
    X, y, _ = ragged(60)
    rate = 0.05 if solver == "sgd" else 0.01
    estimator = quick(LSTMRegressor, hidden_size=8, solver=solver, max_iter=60, learning_rate_init=rate,
                      alpha=1e-5)
    assert estimator.fit(X, y).score(X, y) > 0.9
    assert len(estimator.loss_curve_) == estimator.n_iter_ and estimator.loss_ == estimator.loss_curve_[-1]
    assert estimator.loss_ < 0.3 * estimator.loss_curve_[0]


# Losses ---------------------------------------------------------------------------------------


def noisy(n=400, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 3, 1))
    level = X[:, :, 0].sum(axis=1)
    return X, level, rng


def test_quantiles_hold_their_share_and_do_not_cross():
    X, level, rng = noisy()
    y = 10 * level + 5 * rng.exponential(size=len(X))
    estimator = LSTMRegressor(8, loss="quantile", quantiles=[0.1, 0.5, 0.9], max_iter=30, random_state=0)
    quantiles = estimator.fit(X, y).predict(X)
    assert quantiles.shape == (400, 3) and (np.diff(quantiles) >= 0).all()
    np.testing.assert_allclose((y[:, None] < quantiles).mean(axis=0), [0.1, 0.5, 0.9], atol=0.06)
    assert 0.3 < estimator.score(X, y) < 1
    assert clone(estimator).set_params(quantiles=0.5, max_iter=2).fit(X, y).predict(X).shape == (400,)
    both = clone(estimator).set_params(max_iter=2).fit(X, np.stack([y, -y], 1))
    assert both.predict(X).shape == (400, 2, 3)


def test_gaussian_finds_mean_and_scale():
    X, level, rng = noisy(400)
    scale = np.where(X[:, 0, 0] > 0, 20.0, 2.0)
    y = 100 * level + scale * rng.normal(size=400)
    estimator = LSTMRegressor(16, loss="gaussian", max_iter=60, random_state=0).fit(X, y)
    mean, deviation = estimator.predict(X, return_std=True)
    np.testing.assert_array_equal(mean, estimator.predict(X))
    assert estimator.score(X, y) > 0.9
    assert deviation[scale == 20].mean() == pytest.approx(20, rel=0.35)
    assert deviation[scale == 20].mean() > 2 * deviation[scale == 2].mean()
    with pytest.raises(ValueError, match="loss is 'mse'; expected gaussian, student_t"):
        quick(LSTMRegressor).fit(X, y).predict(X, return_std=True)


def test_poisson_predicts_the_rate_of_large_counts():
    X, level, rng = noisy()
    y = rng.poisson(np.exp(6 + level))
    estimator = LSTMRegressor(8, loss="poisson", max_iter=40, random_state=0).fit(X, y)
    assert (estimator.predict(X) > 0).all() and estimator.score(X, y) > 0.9
    with pytest.raises(ValueError, match=r"y has -3\.0; expected counts >= 0 with loss='poisson'"):
        estimator.fit(X, y - y.min() - 3)


@pytest.mark.parametrize("loss", ["mae", "huber"])
def test_outliers_do_not_decide(loss):
    X, level, _ = noisy()
    y = level.copy()
    y[::10] += 50
    estimator = LSTMRegressor(8, loss=loss, max_iter=30, random_state=0).fit(X, y)
    mean = LSTMRegressor(8, max_iter=30, random_state=0).fit(X, y)
    assert np.abs(estimator.predict(X) - level).mean() < 0.5 * np.abs(mean.predict(X) - level).mean()


@pytest.mark.parametrize("every_step", [False, True])
def test_nash_sutcliffe_counts_small_basins_as_much(every_step):
    rng = np.random.default_rng(0)
    basin = np.repeat([0, 1], 40)
    size = np.where(basin, 1000.0, 1.0)
    X = np.dstack([rng.normal(size=(80, 5)), np.tile(basin[:, None], 5)])
    steps = size[:, None] * np.cumsum(X[:, :, 0], axis=1)
    y = steps if every_step else steps[:, -1]
    small = basin == 0

    def error(**words):
        loss = words.pop("loss")
        estimator = LSTMRegressor(16, loss=loss, every_step=every_step, max_iter=80, random_state=0)
        return np.abs(estimator.fit(X, y, **words).predict(X) - y)[small].mean()

    assert error(loss="nse", groups=basin) < 0.5 * error(loss="mse")
    with pytest.raises(ValueError, match="groups were given; expected None with loss='mse'"):
        error(loss="mse", groups=basin)


def test_nash_sutcliffe_of_ragged_basins_takes_the_steps_that_are_there():
    X, _, steps = ragged()
    basin = np.arange(12) % 3
    estimator = quick(LSTMRegressor, loss="nse", every_step=True).fit(X, steps, groups=basin)
    scaled = [estimator.y_scaler_.transform(part[:, None]) for part in steps]
    scale = np.array([np.concatenate([s for s, b in zip(scaled, basin, strict=True) if b == k]).std()
                      for k in range(3)])[basin]
    fresh = quick(LSTMRegressor, loss="nse", every_step=True, max_iter=1, batch_size=12).fit(
        X, steps, groups=basin
    )
    before = quick(LSTMRegressor, every_step=True, max_iter=1, learning_rate_init=1e-12).fit(X, steps)
    cost = [
        ((p - s) / before.y_scaler_.scale_ / (k + 0.1)) ** 2
        for p, s, k in zip(before.predict(X), steps, scale, strict=True)
    ]
    assert fresh.loss_curve_[0] == pytest.approx(np.concatenate(cost).mean(), rel=1e-4)


# Weights, repeats, going on -------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_weight_of_two_is_a_doubled_sequence(kind, solver):
    X, y, _ = ragged()
    y = target(kind, y)
    twice = np.arange(12) % 3  # 0, 1 or 2 times
    words = {"solver": solver, "batch_size": 100, "dtype": "float64", "max_iter": 8}
    weighted = quick(kind, **words).fit(X, y, sample_weight=twice)
    index = np.repeat(np.arange(12), twice)
    repeated = quick(kind, **words).fit([X[n] for n in index], y[index])
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(weighted.model_.parameters, repeated.model_.parameters, rtol=1e-7, atol=1e-9)
    plain = quick(kind, **words).fit(X, y)
    assert not np.allclose(plain.model_.parameters, weighted.model_.parameters, rtol=1e-3)


@BOTH
def test_steps_have_weights_too(kind):
    X, _, steps = ragged()
    y = target(kind, steps)
    words = {"every_step": True, "batch_size": 100, "dtype": "float64"}
    ones = quick(kind, **words).fit(X, y, sample_weight=[np.ones(len(x)) for x in X])
    np.testing.assert_allclose(
        ones.model_.parameters, quick(kind, **words).fit(X, y).model_.parameters, atol=1e-9
    )
    # What weighs nothing may be anything.
    weight = [np.arange(len(x)) > 0 for x in X]
    other = [part.copy() for part in y]
    for part in other:
        part[0] = 99.0 if kind is LSTMRegressor else ("up" if part[0] == "down" else "down")
    first = quick(kind, **words).fit(X, y, sample_weight=weight)
    second = quick(kind, **words).fit(X, other, sample_weight=weight)
    np.testing.assert_array_equal(first.model_.parameters, second.model_.parameters)
    assert first.score(X, y, weight) == pytest.approx(second.score(X, other, weight))


@BOTH
def test_same_random_state_same_bits(kind):
    X, y, _ = ragged()
    y = target(kind, y)
    words = {"num_layers": 2, "lstm_options": {"dropout": 0.3}, "early_stopping": True,
             "validation_fraction": 0.3}
    first, second, other = (quick(kind, random_state=seed, **words).fit(X, y) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.model_.parameters, second.model_.parameters)
    assert first.loss_curve_ == second.loss_curve_
    assert first.loss_curve_ != other.loss_curve_
    state = np.random.RandomState(5)
    drawn = [quick(kind, random_state=state).fit(X, y).loss_ for _ in range(2)]
    assert drawn[0] != drawn[1]


@BOTH
def test_pickle_joblib_and_threads_give_the_same_bits(kind):
    X, y, _ = ragged(40)
    estimator = quick(kind).fit(X, target(kind, y))
    method = "predict" if kind is LSTMRegressor else "predict_proba"
    expected = getattr(estimator, method)(X)
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    for copy in (pickle.loads(pickle.dumps(estimator)), joblib.load(file)):
        np.testing.assert_array_equal(getattr(copy, method)(X), expected)
        # It goes on as the first would, optimiser and random numbers included.
    first, second = estimator, pickle.loads(pickle.dumps(estimator))
    first.partial_fit(X, target(kind, y)), second.partial_fit(X, target(kind, y))
    np.testing.assert_array_equal(first.model_.parameters, second.model_.parameters)
    expected = getattr(estimator, method)(X)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: getattr(estimator, method)(X), range(16)):
            np.testing.assert_array_equal(result, expected)


def test_warm_start_goes_on():
    X, y, _ = ragged(30)
    estimator = quick(LSTMRegressor, warm_start=True).fit(X, y)
    before = estimator.model_.parameters.copy()
    estimator.fit(X, y)
    assert estimator.n_iter_ == len(estimator.loss_curve_) == 6
    assert estimator.loss_curve_[3] < estimator.loss_curve_[0]
    assert not np.array_equal(estimator.model_.parameters, before)
    cold = quick(LSTMRegressor).fit(X, y)
    cold.fit(X, y)
    assert cold.n_iter_ == 3
    np.testing.assert_array_equal(cold.model_.parameters, before)
    with pytest.raises(ValueError, match="hidden_size is 5; expected 4, with which"):
        estimator.set_params(hidden_size=5).fit(X, y)
    levels = np.array([0.1, 0.9])
    estimator = quick(
        LSTMRegressor, loss="quantile", quantiles=levels, warm_start=True, early_stopping=False
    ).fit(X, y).fit(X, y)
    assert estimator.n_iter_ == 6
    labels = target(LSTMClassifier, y)
    classifier = quick(LSTMClassifier, warm_start=True).fit(X, labels)
    with pytest.raises(ValueError, match=r"y has the classes .* as fit had, with warm_start=True"):
        classifier.fit(X, np.where(labels == "up", "left", "right"))


def test_partial_fit_is_an_epoch():
    X, y, _ = ragged(30)
    estimator = quick(LSTMRegressor, max_iter=5, tol=0)
    for _ in range(5):
        assert estimator.partial_fit(X, y) is estimator
    whole = quick(LSTMRegressor, max_iter=5, tol=0).fit(X, y)
    np.testing.assert_array_equal(estimator.model_.parameters, whole.model_.parameters)
    assert estimator.n_iter_ == 5 and estimator.loss_curve_ == whole.loss_curve_
    classifier = quick(LSTMClassifier)
    labels = target(LSTMClassifier, y)
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        classifier.partial_fit(X, labels)
    classifier.partial_fit(X[:5], ["up"] * 5, classes=["down", "up"])
    classifier.partial_fit(X, labels)
    with pytest.raises(ValueError, match=r"y contains previously unseen labels: \['left'\]"):
        classifier.partial_fit(X[:1], ["left"])
    with pytest.raises(AttributeError, match="partial_fit"):
        quick(LSTMRegressor, solver="lbfgs").partial_fit(X, y)
    assert not hasattr(quick(LSTMRegressor, solver="lbfgs"), "partial_fit")


def test_early_stopping_returns_to_the_best():
    X, y, _ = ragged(180)
    y = y + 3 * np.random.default_rng(0).normal(size=180)
    for solver in ("adam", "lbfgs"):
        estimator = LSTMRegressor(
            24, solver=solver, early_stopping=True, validation_fraction=0.3, learning_rate_init=0.02,
            n_iter_no_change=5, max_iter=100, tol=0, random_state=0,
        ).fit(X, y)
        curve = estimator.validation_loss_curve_
        assert len(curve) == estimator.n_iter_ < 100 and np.argmin(curve) < len(curve) - 1
        # Those set aside are the ones that random_state draws after the weights.
        twin = clone(estimator).set_params(max_iter=int(np.argmin(curve)) + 1).fit(X, y)
        np.testing.assert_array_equal(twin.model_.parameters, estimator.model_.parameters)
    with pytest.raises(ValueError, match=r"validation_fraction is 0.1; expected a share of the 1 seq"):
        quick(LSTMRegressor, early_stopping=True).fit(X[:1], y[:1])


def test_convergence_is_reported():
    X, y, _ = ragged(30)
    with pytest.warns(ConvergenceWarning, match="max_iter=12 reached"):
        quick(LSTMRegressor, max_iter=12).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator = quick(LSTMRegressor, tol=1e9, n_iter_no_change=4, max_iter=30).fit(X, y)
    assert estimator.n_iter_ == 5  # the first, and four that were no better
    with pytest.warns(ConvergenceWarning, match="lbfgs has not converged within max_iter=2"):
        quick(LSTMRegressor, solver="lbfgs", max_iter=2).fit(X, y)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_callbacks_hear_of_every_epoch_and_may_stop(solver, capsys):
    X, y, _ = ragged()
    seen = []

    def stop_at_three(record):
        seen.append(record["epoch"])
        return record["epoch"] == 3

    estimator = quick(LSTMRegressor, solver=solver, max_iter=50, callbacks=[stop_at_three], verbose=True)
    estimator.fit(X, y)
    assert seen == [1, 2, 3] and estimator.n_iter_ == 3
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3 and printed[2] == f"Iteration 3, loss {estimator.loss_:.6g}"


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_an_interrupted_fit_leaves_a_usable_estimator(solver):
    X, y, _ = ragged()

    def interrupt(record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    estimator = quick(LSTMRegressor, solver=solver, max_iter=50, callbacks=[interrupt])
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, y)
    assert np.isfinite(estimator.predict(X)).all() and estimator.n_iter_ == 2


# With the rest of scikit-learn ----------------------------------------------------------------


def test_grid_search_over_a_pipeline():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 6, 2)) * [1, 100] + [5, 0]
    y = X[:, :, 0].sum(axis=1)
    network = LSTMRegressor(max_iter=25, learning_rate_init=0.02, scale=False, random_state=0)
    pipeline = make_pipeline(SequenceScaler(), network)
    grid = {"lstmregressor__hidden_size": [1, 8], "sequencescaler__with_std": [True, False]}
    with joblib.parallel_config("threading", n_jobs=2):
        search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    alone = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    np.testing.assert_array_equal(scores, alone.cv_results_["mean_test_score"])
    assert np.isfinite(scores).all()
    # Unscaled, the second feature would drown the first.
    assert search.best_params_ == {"lstmregressor__hidden_size": 8, "sequencescaler__with_std": True}
    assert search.predict(X).shape == (60,)


@BOTH
def test_cross_validation_takes_ragged_sequences(kind):
    X, y, steps = ragged(30)
    scores = cross_val_score(quick(kind), X, target(kind, y), cv=3)
    assert scores.shape == (3,) and np.isfinite(scores).all()
    assert len(cross_val_predict(quick(kind), X, target(kind, y), cv=3)) == 30
    by_step = quick(kind, every_step=True)
    assert np.isfinite(cross_val_score(by_step, X, target(kind, steps), cv=KFold(3))).all()


def test_metadata_routing_brings_weights_through_a_pipeline():
    X, y, _ = ragged(30)
    weight = np.arange(30) % 2
    with sklearn.config_context(enable_metadata_routing=True):
        regressor = quick(LSTMRegressor).set_fit_request(sample_weight=True).set_score_request(
            sample_weight=True
        )
        pipeline = make_pipeline(SequenceScaler().set_fit_request(sample_weight=True), regressor)
        pipeline.fit(X, y, sample_weight=weight)
        expected = quick(LSTMRegressor).fit(
            SequenceScaler().fit(X, sample_weight=weight).transform(X), y, sample_weight=weight
        )
        np.testing.assert_array_equal(pipeline[-1].model_.parameters, expected.model_.parameters)
        cross_validate(regressor, X, y, params={"sample_weight": weight}, cv=2)


@BOTH
def test_clone_and_parameters(kind):
    estimator = kind(7, lstm_options={"bidirectional": True}, solver="sgd")
    copy = clone(estimator)
    assert copy.get_params() == estimator.get_params() and not hasattr(copy, "model_")
    assert copy.hidden_size == 7 and "solver='sgd'" in repr(copy)


def test_options_reach_the_layer():
    X, y, _ = ragged()
    options = {"bidirectional": True, "peepholes": True, "init": "torch"}
    estimator = quick(LSTMRegressor, num_layers=2, lstm_options=options).fit(X, y)
    lstm = estimator.model_.lstm
    assert lstm.bidirectional and lstm.peepholes and lstm.num_layers == 2 and lstm.hidden_size == 4
    assert lstm.dtype == "float32"
    assert quick(LSTMRegressor, dtype="float64").fit(X, y).model_.lstm.dtype == "float64"


def test_data_frames_keep_their_names():
    pandas = pytest.importorskip("pandas", reason="names come from data frames")
    frame = pandas.DataFrame(np.random.default_rng(0).normal(size=(20, 2)), columns=["rain", "heat"])
    estimator = quick(LSTMRegressor).fit(frame, frame["rain"])
    assert list(estimator.feature_names_in_) == ["rain", "heat"]
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(frame.rename(columns={"rain": "snow"}))


def test_large_sets_are_predicted_in_parts(monkeypatch):
    X, y, _ = ragged()
    estimator = quick(LSTMRegressor, every_step=False).fit(X, y)
    whole = estimator.predict(X)
    monkeypatch.setattr("lstm_ext.sklearn._network._NUMBERS_AT_ONCE", 50)
    np.testing.assert_allclose(estimator.predict(X), whole, rtol=1e-12)


# Scaling --------------------------------------------------------------------------------------


def test_scaler_is_standard_scaler_over_all_steps():
    X, _, _ = ragged()
    rows = np.concatenate(X)
    scaler, standard = SequenceScaler().fit(X), StandardScaler().fit(rows)
    np.testing.assert_allclose(scaler.mean_, standard.mean_)
    np.testing.assert_allclose(scaler.scale_, standard.scale_)
    there = scaler.transform(X)
    assert isinstance(there, list)
    np.testing.assert_allclose(np.concatenate(there), standard.transform(rows))
    np.testing.assert_allclose(np.concatenate(scaler.inverse_transform(there)), rows)
    dense = rows[:20].reshape(4, 5, 2)
    assert SequenceScaler().fit_transform(dense).shape == (4, 5, 2)
    weight = np.arange(12) % 3
    weighted = SequenceScaler().fit(X, sample_weight=weight)
    doubled = SequenceScaler().fit([x for x, w in zip(X, weight, strict=True) for _ in range(w)])
    np.testing.assert_allclose(weighted.scale_, doubled.scale_)


def test_scaler_leaves_gaps_and_constants_alone():
    x = np.array([[1.0, 0.1], [np.nan, 0.1], [3.0, 0.1]])
    scaler = SequenceScaler().fit([x])
    np.testing.assert_allclose(scaler.mean_, [2, 0.1])
    np.testing.assert_array_equal(scaler.scale_, [1, 1])
    np.testing.assert_array_equal(np.isnan(scaler.transform(x)), np.isnan(x))
    assert SequenceScaler().fit(x.astype("float32")).transform(x.astype("float32")).dtype == "float32"


def test_scale_of_features_and_targets_makes_no_difference():
    X, y, _ = ragged(40)
    words = {"dtype": "float64", "max_iter": 5}
    plain = quick(LSTMRegressor, **words).fit(X, y).predict(X)
    moved = quick(LSTMRegressor, **words).fit([1e3 * x - 7 for x in X], 1e-4 * y + 2)
    np.testing.assert_allclose(moved.predict([1e3 * x - 7 for x in X]), 1e-4 * plain + 2, rtol=1e-9)
    assert quick(LSTMRegressor, scale=False).fit(X, y).x_scaler_ is None


# Bad input ------------------------------------------------------------------------------------

X0, Y0, STEPS0 = ragged()
WORDS = {
    "nan": (lambda X: [*X[:2], np.full((3, 2), np.nan), *X[3:]], "Input X contains NaN"),
    "inf": (lambda X: [*X[:2], np.full((3, 2), np.inf), *X[3:]], "Input X contains infinity"),
    "width": (lambda X: [x[:, :1] for x in X],
              r"X has 1 features, but LSTM.* is expecting 2 features as input"),
    "widths": (lambda X: [*X[:3], X[3][:, :1]], r"X\[3\] has 1 features, X\[0\] has 2"),
    "flat": (lambda X: [x[:, 0] for x in X],
             r"list of 1-D arrays of different lengths; expected \(time, features\)"),
    "deep": (lambda X: [*X[:1], X[1][None]], r"X\[1\] has shape \(1, .*, 2\); expected \(time, features\)"),
    "4-D": (lambda X: np.zeros((3, 4, 2, 1)), r"Found array with dim 4 for X; expected \(seq.*"),
    "1-D": (lambda X: np.zeros(4), "Expected 2D array, got 1D array instead"),
    "no sequence": (lambda X: np.zeros((0, 4, 2)), r"Found array with 0 sample\(s\)"),
    "no step": (lambda X: np.zeros((3, 0, 2)), r"X has shape \(3, 0, 2\); expected one time step or more"),
    "one empty": (lambda X: [*X[:2], np.zeros((0, 2))], r"X\[2\] has no time step"),
    "no feature": (lambda X: np.zeros((3, 4, 0)), r"Found array with 0 feature\(s\)"),
    "complex": (lambda X: np.zeros((3, 4, 2), complex), "Complex data not supported"),
    "text": (lambda X: np.full((3, 4, 2), "a"), "could not convert string to float"),
    "huge": (lambda X: np.full((3, 4, 2), 1e300), None),
}


@BOTH
@pytest.mark.parametrize("name", [name for name in WORDS if name != "huge"])
def test_bad_sequences_are_refused(kind, name):
    change, words = WORDS[name]
    fitted = quick(kind).fit(X0, target(kind, Y0))
    with pytest.raises(ValueError, match=words):
        fitted.predict(change(X0))
    if name != "width":
        bad = change(X0)
        with pytest.raises(ValueError, match=words):
            quick(kind).fit(bad, target(kind, Y0)[: len(bad)])


BAD_TARGETS = [
    (LSTMRegressor, {}, None, "requires y to be passed, but the target y is None"),
    (LSTMRegressor, {}, np.full(12, np.nan), "Input y contains NaN"),
    (LSTMRegressor, {}, Y0[:5], r"inconsistent numbers of samples: \[12, 5\]"),
    (LSTMRegressor, {}, np.zeros((12, 2, 2)), r"y has shape \(12, 2, 2\); expected \(n,\) or .*every_step"),
    (LSTMRegressor, {}, ["a"] * 12, "could not convert string to float"),
    (LSTMRegressor, {"every_step": True}, Y0, "one value, or one row of values, for each step"),
    (LSTMRegressor, {"every_step": True}, STEPS0[:4], r"X has 12 sequences, y has 4"),
    (LSTMRegressor, {"every_step": True}, [*STEPS0[:1], *STEPS0[:-1]], r"y\[1\] has .* steps; expected"),
    (LSTMClassifier, {}, None, "requires y to be passed, but the target y is None"),
    (LSTMClassifier, {}, Y0, "Unknown label type: continuous"),
    (LSTMClassifier, {}, ["one"] * 12, "at least 2 classes in the data, but .* only one class: .*one"),
    (LSTMClassifier, {}, ["a", "b"], r"inconsistent numbers of samples: \[12, 2\]"),
    (LSTMClassifier, {}, np.arange(24).reshape(12, 2), "y should be a 1d array, got an array of shape"),
    (LSTMClassifier, {"every_step": True}, target(LSTMClassifier, Y0), "for each step"),
]


@pytest.mark.parametrize("kind, words, y, message", BAD_TARGETS)
def test_bad_targets_are_refused(kind, words, y, message):
    estimator = quick(kind, **words)
    with pytest.raises(ValueError, match=message):
        estimator.fit(X0, y)
    with pytest.raises(NotFittedError, match=f"This {kind.__name__} instance is not fitted yet"):
        estimator.predict(X0)


@BOTH
@pytest.mark.parametrize("weight, message", [
    (np.ones(5), "sample_weight.shape == "),
    (-np.ones(12), "Negative values in data passed to `sample_weight`"),
    (np.zeros(12), "Sample weights must contain at least one non-zero number"),
    (np.full(12, np.nan), "Input sample_weight contains NaN"),
    (np.ones((12, 2)), "Sample weights must be 1D array or scalar"),
])
def test_bad_weights_are_refused(kind, weight, message):
    with pytest.raises(ValueError, match=message):
        quick(kind).fit(X0, target(kind, Y0), sample_weight=weight)


@BOTH
@pytest.mark.parametrize("words, message", [
    ({"hidden_size": 0}, "The 'hidden_size' parameter of LSTM.* must be an int in the range"),
    ({"solver": "newton"}, "The 'solver' parameter of LSTM.* must be a str among"),
    ({"validation_fraction": 1.0}, "'validation_fraction'"),
    ({"lstm_options": {"input_size": 3}}, "lstm_options has 'input_size': it is the number of features"),
    ({"lstm_options": {"static_size": 3}}, "it is static of fit"),
    ({"lstm_options": {"bidirektional": True}}, "has 'bidirektional'; expected keyword arguments of lstm"),
    ({"lstm_options": {"zoneout": (0.5, 0)}, "solver": "lbfgs"}, "expected none of them with solver='lbfgs'"),
    ({"lstm_options": {"zoneout": (2, 0)}}, "zoneout"),
])
def test_bad_parameters_are_refused(kind, words, message):
    with pytest.raises(ValueError, match=message):
        quick(kind, **words).fit(X0, target(kind, Y0))


@pytest.mark.parametrize("quantiles", [[0.5, 0.1], [0.0, 0.5], [], "median", [[0.1]], 1.0])
def test_bad_quantiles_are_refused(quantiles):
    with pytest.raises(ValueError, match="quantiles"):
        quick(LSTMRegressor, loss="quantile", quantiles=quantiles).fit(X0, Y0)


def test_unfitted():
    for estimator, method in [
        (LSTMRegressor(), "predict"), (LSTMClassifier(), "predict"), (LSTMClassifier(), "predict_proba"),
        (SequenceScaler(), "transform"), (SequenceScaler(), "inverse_transform"),
    ]:
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            getattr(estimator, method)(X0)


def test_missing_values_go_to_the_layer_where_it_has_a_policy():
    X = [x.copy() for x in X0]
    X[0][1, 0] = np.nan
    estimator = quick(LSTMRegressor, lstm_options={"nan": "hold", "nan_mask": True}).fit(X, Y0)
    assert np.isfinite(estimator.predict(X)).all()
    from sklearn.utils import get_tags

    assert get_tags(estimator).input_tags.allow_nan and not get_tags(LSTMRegressor()).input_tags.allow_nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        quick(LSTMRegressor).fit(X, Y0)


def test_a_column_of_labels_is_taken_with_a_warning():
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        quick(LSTMClassifier).fit(X0, target(LSTMClassifier, Y0)[:, None])


def test_numbers_too_large_for_float32_are_refused():
    X = np.full((3, 4, 2), 1e300)
    with pytest.raises(ValueError, match="too large for float32; expected smaller ones: take dtype"):
        quick(LSTMRegressor, scale=False).fit(X, [1.0, 2.0, 3.0])


# What once went wrong ------------------------------------------------------------------------------


def test_lists_of_data_frames_keep_their_names():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    X = [pandas.DataFrame(rng.normal(size=(n, 2)), columns=["a", "b"]) for n in (3, 5, 4, 6)]
    regressor = LSTMRegressor(max_iter=2, random_state=0).fit(X, rng.normal(size=4))
    assert list(regressor.feature_names_in_) == ["a", "b"]
    with pytest.raises(ValueError, match="feature names should match"):
        regressor.predict([frame[["b", "a"]] for frame in X])
    with pytest.raises(ValueError, match="different columns"):
        regressor.fit([X[0], X[1][["b", "a"]]], [0.0, 1.0])


def test_a_scaler_ignores_a_wish_for_data_frames():
    with config_context(transform_output="pandas"):
        X = np.random.default_rng(0).normal(size=(4, 3, 2))
        assert SequenceScaler().fit_transform(X).shape == (4, 3, 2)


def test_what_weighs_nothing_does_not_scale_its_group():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 4, 2)), rng.normal(size=20)
    groups, weight = np.arange(20) % 2, np.ones(20)
    y[0], weight[0] = 100.0, 0.0
    words = {"loss": "nse", "dtype": "float64", "batch_size": 20, "max_iter": 5, "random_state": 0}
    whole = LSTMRegressor(**words).fit(X, y, sample_weight=weight, groups=groups)
    without = LSTMRegressor(**words).fit(X[1:], y[1:], groups=groups[1:])
    np.testing.assert_allclose(whole.predict(X), without.predict(X), rtol=1e-9)


def test_validation_losses_stand_beside_their_epochs():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 4, 2)), rng.normal(size=30)
    regressor = LSTMRegressor(early_stopping=True, max_iter=3, random_state=0).fit(X, y)
    regressor.partial_fit(X, y)
    curve = regressor.validation_loss_curve_
    assert len(curve) == len(regressor.loss_curve_) and np.isnan(curve[-1]) and np.isfinite(curve[0])
