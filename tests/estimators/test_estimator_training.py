"""How the estimators train: the best weights, steps rather than epochs, all or nothing."""

import copy
import os
import warnings

import numpy as np
import pytest
from scipy.special import log_softmax

sklearn = pytest.importorskip("sklearn", "1.6", reason="the estimators need scikit-learn 1.6 or newer")

from sklearn.exceptions import ConvergenceWarning, NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, GroupKFold  # noqa: E402
from sklearn.utils import get_tags  # noqa: E402

from lstm_ext.sklearn import LSTMClassifier, LSTMForecaster, LSTMRegressor  # noqa: E402

ignore_convergence = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
BOTH = pytest.mark.parametrize("kind", [LSTMRegressor, LSTMClassifier])


def data(kind, n=40, seed=0, noise=0.0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6, 2))
    y = X[:, :, 0].sum(axis=1) + noise * rng.normal(size=n)
    return X, (y if kind is LSTMRegressor else np.where(y > 0, "up", "down"))


def quick(kind, **words):
    return kind(**{"hidden_size": 4, "max_iter": 4, "random_state": 0, **words})


# The best weights -----------------------------------------------------------------------------


class StopAtASpike:
    """A callback that ends the training where the loss is well above one that it has passed."""

    def __init__(self, estimator, X, y):
        self.estimator, self.X, self.y, self.losses = estimator, X, y, []

    def loss(self):
        scaled = self.estimator.x_scaler_.transform(self.X)
        return self.estimator.model_.evaluate(scaled, self.y)

    def __call__(self, record):
        self.losses.append(self.loss())
        return self.losses[-1] > 1.2 * min(self.losses) and len(self.losses) > 5


@ignore_convergence
@BOTH
@pytest.mark.parametrize("seed", range(4))
def test_no_weights_passed_have_a_lower_loss_than_those_kept(kind, seed):
    X, y = data(kind)
    if kind is LSTMRegressor:
        y = (y - y.mean()) / y.std()
    numbers = y if kind is LSTMRegressor else np.searchsorted(["down", "up"], y)
    # A rate at which the loss jumps.
    estimator = quick(kind, hidden_size=8, max_iter=200, learning_rate_init=0.2, random_state=seed)
    if kind is LSTMClassifier:
        estimator.set_params(pooling="last", lstm_options={"bidirectional": False})
    watcher = StopAtASpike(estimator, X, numbers[:, None] if kind is LSTMRegressor else numbers)
    estimator.set_params(callbacks=[watcher]).fit(X, y)
    assert watcher.losses[-1] > 1.2 * min(watcher.losses)
    assert watcher.loss() == pytest.approx(min(watcher.losses), rel=1e-6)
    assert estimator.best_loss_ == pytest.approx(min(watcher.losses), rel=1e-5)


def test_few_sequences_get_as_many_steps_as_many():
    X, y = data(LSTMRegressor)
    with pytest.warns(ConvergenceWarning, match="max_iter=500 reached") as caught:
        LSTMRegressor(4, random_state=0, tol=0).fit(X, y)  # 2 steps an epoch: 1000
    said = str(caught[0].message)
    assert "in the last 100 epochs" in said and "set max_iter=1000, or a larger learning_rate_init" in said
    stopped = LSTMRegressor(4, random_state=0, tol=1e9).fit(X, y)
    assert stopped.n_iter_ == 101  # the first, and 200 steps that were no better
    many = LSTMRegressor(4, random_state=0, tol=1e9).fit(*data(LSTMRegressor, 32 * 30))
    assert many.n_iter_ == 11


@ignore_convergence
@BOTH
def test_early_stopping_with_few_sequences_learns_from_all(kind):
    X, y = data(kind, 40, noise=2.0)
    words = {"hidden_size": 16, "max_iter": 60, "learning_rate_init": 0.02}
    estimator = quick(kind, early_stopping=True, **words).fit(X, y)
    # 40 sequences say little: a classifier waits for evidence.
    assert 1 <= estimator.n_iter_ < (60 if kind is LSTMRegressor else 61)
    assert len(estimator.validation_loss_curve_) == len(estimator.loss_curve_) == estimator.n_iter_
    whole = quick(kind, n_iter_no_change=60, tol=0, **words).fit(X, y)
    assert estimator.score(*data(kind, 400, 1)) >= whole.score(*data(kind, 400, 1)) - 0.02


# All or nothing -------------------------------------------------------------------------------


def boom(record):
    raise RuntimeError("boom")


class Late:
    """Raises in the second epoch, when everything has changed."""

    def __init__(self, error):
        self.error = error

    def __call__(self, record):
        if record["epoch"] == 2:
            raise self.error


def state_of(estimator):
    """Everything that is not a parameter, copied."""
    names = set(vars(estimator)) - set(estimator.get_params(deep=False))
    return {name: copy.deepcopy(vars(estimator)[name]) for name in names}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        if name == "model_":
            np.testing.assert_array_equal(one[name].parameters, other[name].parameters)
        elif name == "_rng":
            assert one[name].bit_generator.state == other[name].bit_generator.state
        elif isinstance(one[name], np.ndarray | list | int | float | str | tuple | dict | None):
            np.testing.assert_equal(one[name], other[name])
    if one.get("_optimizer") is not None:
        np.testing.assert_equal(one["_optimizer"].state, other["_optimizer"].state)


FAILURES = {
    "bad callbacks": ({"callbacks": [3]}, None, TypeError),
    "a callback that raises": ({"callbacks": [boom]}, None, RuntimeError),
    "an error in the second epoch": ({"callbacks": [Late(ValueError("no"))]}, None, ValueError),
    "nothing to set aside": (
        {"early_stopping": True, "validation_fraction": 0.99}, lambda X, y: (X[:1], y[:1]), ValueError
    ),
    "y too large": ({"scale": False}, lambda X, y: (X, 1e300 * y), ValueError),
    "X too large": ({"scale": False}, lambda X, y: (1e300 * X, y), ValueError),
    "NaN": ({}, lambda X, y: (X * np.nan, y), ValueError),
    "lengths": ({}, lambda X, y: (X, y[:5]), ValueError),
    "an option": ({"lstm_options": {"zoneout": (2, 0)}}, None, ValueError),
    "a diverging loss": (
        {"learning_rate_init": 1e38, "max_norm": None, "solver": "sgd", "max_iter": 50}, None,
        FloatingPointError,
    ),
    "a width": ({"warm_start": True}, lambda X, y: (X[:, :, :1], y), ValueError),
    "sizes": ({"warm_start": True, "hidden_size": 7}, None, ValueError),
}


@ignore_convergence
@BOTH
@pytest.mark.parametrize("name", FAILURES)
def test_a_refused_fit_changes_nothing(kind, name):
    words, change, error = FAILURES[name]
    X, y = data(kind)
    if kind is LSTMClassifier and name in ("y too large", "nothing to set aside"):
        bad = X, ["one"] * len(X)
    else:
        bad = (X, y) if change is None else change(X, y)
    fresh = quick(kind, **words)
    if not words.get("warm_start"):
        with pytest.raises(error):
            fresh.fit(*bad)
        assert not state_of(fresh)
        with pytest.raises(NotFittedError):
            fresh.predict(X)
    fitted = quick(kind, early_stopping=True).fit(X, y)
    before, answers = state_of(fitted), fitted.predict(X)
    parameters = fitted.get_params()
    with pytest.raises(error):
        fitted.set_params(**words).fit(*bad)
    assert_same(before, state_of(fitted))
    fitted.set_params(**parameters)
    np.testing.assert_array_equal(fitted.predict(X), answers)
    # It goes on as if nothing had happened.
    twin = quick(kind, early_stopping=True).fit(X, y)
    np.testing.assert_array_equal(
        fitted.partial_fit(X, y).model_.parameters, twin.partial_fit(X, y).model_.parameters
    )


@ignore_convergence
@BOTH
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()])
def test_an_error_while_a_network_goes_on_gives_the_old_one_back(kind, method, error):
    X, y = data(kind)
    estimator = quick(kind, warm_start=True).fit(X, y)
    before = state_of(estimator)
    late = Late(error)
    last = 1 if method == "partial_fit" else 2
    estimator.set_params(callbacks=[lambda record: late({"epoch": 2 if record["epoch"] == last else 0})])
    with pytest.raises(type(error)):
        getattr(estimator, method)(X, y)
    if isinstance(error, KeyboardInterrupt):  # what has been learned is kept
        assert estimator.n_iter_ > before["n_iter_"] and len(estimator.loss_curve_) == estimator.n_iter_
        assert np.isfinite(estimator.model_.parameters).all()
    else:
        assert_same(before, state_of(estimator))


@ignore_convergence
@BOTH
def test_ctrl_c_before_anything_is_learned_changes_nothing(kind, monkeypatch):
    X, y = data(kind)
    fitted = quick(kind).fit(X, y)
    before = state_of(fitted)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(kind, "_fit_scaler", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(X, y)
    assert_same(before, state_of(fitted))


# Going on -------------------------------------------------------------------------------------


@ignore_convergence
@BOTH
def test_equal_settings_go_on(kind):
    X, y = data(kind)
    options = {"zoneout": (0.1, 0.1), "bidirectional": True}
    estimator = quick(kind, warm_start=True, lstm_options=options).fit(X, y)
    estimator.set_params(
        hidden_size=np.int64(4), num_layers=np.int8(1), dtype=np.str_("float32"), every_step=np.bool_(False),
        lstm_options={"bidirectional": True, "zoneout": [0.1, np.float64(0.1)]},
    ).fit(X, y)
    assert estimator.n_iter_ == 8
    options["bidirectional"] = False  # the caller's own dict, changed since
    estimator.set_params(lstm_options=options)
    with pytest.raises(ValueError, match=r"lstm_options is .*with which the network was made"):
        estimator.fit(X, y)


@ignore_convergence
def test_quantiles_go_on_however_they_are_written():
    X, y = data(LSTMRegressor)
    estimator = quick(LSTMRegressor, warm_start=True, loss="quantile", quantiles=[0.1, 0.9]).fit(X, y)
    n_iter = estimator.n_iter_
    for quantiles in ((0.1, 0.9), np.array([0.1, 0.9])):
        estimator.set_params(quantiles=quantiles).fit(X, y)
    assert estimator.n_iter_ > n_iter
    with pytest.raises(ValueError, match=r"quantiles is .*with which the network was made"):
        estimator.set_params(quantiles=[0.1, 0.8]).fit(X, y)


@ignore_convergence
@BOTH
def test_a_fitted_network_answers_with_its_own_settings(kind):
    X, y = data(kind)
    fitted = quick(kind).fit(X, y)
    answers, score = fitted.predict(X), fitted.score(X, y)
    fitted.set_params(
        hidden_size=9, num_layers=2, every_step=True, scale=False, dtype="float64",
        lstm_options={"nan": "hold"}, solver="sgd",
    )
    np.testing.assert_array_equal(fitted.predict(X), answers)
    assert fitted.score(X, y) == score
    with pytest.raises(ValueError, match="contains NaN"):
        fitted.predict(X * np.nan)
    by_step = quick(kind, every_step=True)
    many = np.repeat(np.asarray(y)[:, None], 6, axis=1)
    answers = by_step.fit(X, many).predict(X)
    np.testing.assert_array_equal(by_step.set_params(every_step=False).predict(X), answers)


# What is said, and to whom --------------------------------------------------------------------


@pytest.mark.parametrize("estimator, labels", [
    (LSTMRegressor(4, max_iter=2), False),
    (LSTMRegressor(4, max_iter=2, solver="lbfgs"), False),
    (LSTMRegressor(4, max_iter=2, early_stopping=True, validation_fraction=0.5, n_iter_no_change=5), False),
    (LSTMRegressor(4, max_iter=2, loss="nse"), False),
    (LSTMClassifier(4, max_iter=2), True),
])
def test_warnings_point_at_the_caller(estimator, labels):
    X, y = data(LSTMClassifier if labels else LSTMRegressor, 120)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(X, y)
    assert caught and {os.path.basename(w.filename) for w in caught} == {os.path.basename(__file__)}


@ignore_convergence
def test_forecaster_warnings_point_at_the_caller():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        LSTMForecaster(6, max_iter=2, random_state=0).fit(np.sin(np.arange(100.0)))
    assert all(os.path.basename(w.filename) == os.path.basename(__file__) for w in caught)


@ignore_convergence
@pytest.mark.parametrize(
    "every_step, said", [(False, "all count as one basin"), (True, "a basin of its own")]
)
def test_groups_that_reach_nobody_are_missed_aloud(every_step, said):
    X, y = data(LSTMRegressor)
    y = np.repeat(y[:, None], 6, axis=1) * np.arange(1, 7) if every_step else y
    groups = np.arange(40) % 4
    with pytest.warns(UserWarning, match=f"groups is None.*{said}.*set_fit_request"):
        GridSearchCV(
            quick(LSTMRegressor, loss="nse", every_step=every_step), {"hidden_size": [2]}, cv=GroupKFold(2)
        ).fit(X, y, groups=groups)
    with sklearn.config_context(enable_metadata_routing=True), warnings.catch_warnings():
        warnings.filterwarnings("error", message="groups is None")
        network = quick(LSTMRegressor, loss="nse", every_step=every_step).set_fit_request(groups=True)
        search = GridSearchCV(network, {"hidden_size": [2]}, cv=GroupKFold(2)).fit(X, y, groups=groups)
    expected = quick(LSTMRegressor, loss="nse", every_step=every_step, hidden_size=2).fit(X, y, groups=groups)
    np.testing.assert_array_equal(search.best_estimator_.model_.parameters, expected.model_.parameters)


def test_counts_are_positive():
    assert get_tags(LSTMRegressor(loss="poisson")).target_tags.positive_only
    assert not get_tags(LSTMRegressor()).target_tags.positive_only


@pytest.mark.parametrize("label, said", [("one", "'one'"), (np.str_("one"), "'one'"), (3, "3")])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_one_class_is_named_as_it_was_written(label, said, method):
    words = {"classes": [label]} if method == "partial_fit" else {}
    with pytest.raises(ValueError, match=f"contains only one class: {said}$"):
        getattr(quick(LSTMClassifier), method)(np.zeros((4, 3, 1)), [label] * 4, **words)


# How a classifier's training ends ---------------------------------------------------------------


@ignore_convergence
@BOTH
def test_the_rate_falls_to_0_or_stays(kind):
    X, y = data(kind)
    for given, least, most in (("cosine", 0.0, 0.1), ("constant", 1.0, 1.0), (None, 0.0, 1.0)):
        rates = []
        words = {} if given is None else {"learning_rate": given}
        estimator = quick(kind, max_iter=30, n_iter_no_change=30, **words)
        estimator.set_params(callbacks=[lambda record, rates=rates: rates.append(record["lr"])]).fit(X, y)
        assert least * 0.003 <= rates[-1] <= most * 0.003
        if given is None:  # the default
            assert rates[-1] == 0.003
    with pytest.raises(ValueError, match="'learning_rate' parameter"):
        quick(kind, learning_rate="adaptive").fit(X, y)


@pytest.mark.parametrize("n, size, batches", [
    (3, 3, 1), (8, 8, 1), (9, 5, 2), (36, 8, 5), (67, 12, 6), (160, 32, 5), (170, 29, 6), (5000, 32, 157),
])
def test_mini_batches_of_few_sequences_are_small_and_even(n, size, batches):
    """At most 32; five of an epoch, or more, while that leaves at least eight; none much smaller."""
    estimator = LSTMClassifier(batch_size="auto")
    assert (estimator._batch_of(n), estimator._steps_of(n)) == (size, batches)
    assert n - (batches - 1) * size > size - batches  # the last one
    assert LSTMClassifier(batch_size=7)._batch_of(n) == 7


@ignore_convergence
def test_the_logits_of_folds_are_divided_by_what_makes_them_right():
    """Labels drawn from known probabilities, and logits that say three times too much of them."""
    rng = np.random.default_rng(0)
    X, y = data(LSTMClassifier)
    estimator = quick(LSTMClassifier).fit(X, y)
    right = rng.normal(size=(4000, 2))
    labels = (rng.random(4000) < 1 / (1 + np.exp(right[:, 0] - right[:, 1]))).astype(int)
    held = estimator.model_.prepare(np.zeros((4000, 1, estimator.model_.lstm.input_size)), labels)
    for factor, expected in ((3.0, 3.0), (1.0, 1.0), (0.2, 1.0)):
        temperature, loss = estimator._temperature(held, factor * right)
        assert abs(temperature - expected) < 0.2 * expected
        logits = log_softmax(factor * right / temperature, axis=1)
        assert np.isclose(loss, -logits[np.arange(4000), labels].mean(), rtol=1e-6)


def flipped(n=150, share=0.3, seed=0):
    """Labels of which a share is wrong: what a network that is trained to the end learns by heart."""
    X, y = data(LSTMClassifier, n=n, seed=seed)
    wrong = np.random.default_rng(seed + 1).random(n) < share
    return X, np.where(wrong, np.where(y == "up", "down", "up"), y)


@ignore_convergence
def test_a_training_ends_early_where_that_is_better_and_not_by_chance():
    words = {"hidden_size": 16, "max_iter": 120, "learning_rate_init": 0.02}
    noisy = quick(LSTMClassifier, early_stopping=True, **words).fit(*flipped())
    assert noisy.n_iter_ < 100
    X, y = data(LSTMClassifier)
    apart = X + 2 * np.where(y == "up", 1, -1)[:, None, None]
    clear = quick(LSTMClassifier, early_stopping=True, **words).fit(apart, y)
    plain = quick(LSTMClassifier, **words).fit(apart, y)  # the same network, but for its calibration
    assert clear.n_iter_ == plain.n_iter_
    np.testing.assert_array_equal(clear.model_.lstm.parameters, plain.model_.lstm.parameters)
    ratio = clear.model_.weight / plain.model_.weight
    assert np.ptp(ratio) < 1e-5 and 0 < ratio.mean() <= 1
    assert len(noisy.validation_loss_curve_) == noisy.n_iter_


@ignore_convergence
@pytest.mark.parametrize("labels", ["one each", "several", "by step"])
def test_early_stopping_leaves_probabilities_that_can_be_believed(labels):
    X, y = flipped(60)
    X_test, y_test = flipped(400, seed=7)
    if labels == "several":
        y, y_test = (np.stack([part == "up"] * 2, axis=1).astype(int) for part in (y, y_test))
    elif labels == "by step":
        y, y_test = (np.tile((part == "up").astype(int)[:, None], X.shape[1]) for part in (y, y_test))
    words = {"hidden_size": 16, "max_iter": 60, "learning_rate_init": 0.02, "every_step": labels == "by step"}

    def loss(estimator):
        p = np.clip(estimator.predict_proba(X_test), 1e-12, 1 - 1e-12)
        if labels == "one each":
            p, truth = p[:, 1], y_test == estimator.classes_[1]
        else:
            p, truth = (p[..., 1] if labels == "by step" else p), y_test
        return -np.where(truth, np.log(p), np.log(1 - p)).mean()

    plain = quick(LSTMClassifier, **words).fit(X, y)
    careful = quick(LSTMClassifier, early_stopping=True, **words).fit(X, y)
    assert loss(careful) < loss(plain) and loss(careful) < 0.75
