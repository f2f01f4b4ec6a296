"""y, weights and groups as people have them: what they are read as, or why they are refused."""

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6", reason="the estimators need scikit-learn 1.6 or newer")

import scipy.sparse
import zoo

from lstm_ext.sklearn import LSTMClassifier, LSTMRegressor

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:X has shape:UserWarning"
)

RNG = np.random.default_rng(0)
N, T, F = 8, 4, 2
X = RNG.normal(size=(N, T, F))
Y = np.round(X[..., 0].sum(axis=1), 3)
STEPS = np.round(np.cumsum(X[..., 0], axis=1), 3)
MASK = np.arange(N) == 2


def quick(kind=LSTMRegressor, **words):
    return kind(**{"hidden_size": 3, "max_iter": 2, "random_state": 0, **words})


def labels(y):
    return np.where(np.asarray(y) > 0, "up", "down")


def predicted(y, given=X, kind=LSTMRegressor, **words):
    return quick(kind, **words).fit(given, y).predict(given)


def of_objects(parts):
    array = np.empty(len(parts), object)
    array[:] = parts
    return array


# Missing ----------------------------------------------------------------------------------------


def missing():
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    arrow = pytest.importorskip("pyarrow")
    listed = [None if gap else value for value, gap in zip(Y.tolist(), MASK, strict=True)]
    return {
        "masked": np.ma.masked_array(np.where(MASK, 1e20, Y), MASK),
        "masked integers": np.ma.masked_array(np.where(MASK, 99, 1).astype(int), MASK),
        "masked column": np.ma.masked_array(np.where(MASK, 1e20, Y), MASK)[:, None],
        "list with masked": [np.ma.masked if gap else 1.0 for gap in MASK],
        "list of masked": [np.ma.masked_array([1.0], [gap]) for gap in MASK],
        "NaN": np.where(MASK, np.nan, Y),
        "None": listed,
        "objects with NA": np.array([pandas.NA if v is None else v for v in listed], object),
        "Float64": pandas.Series(listed, dtype="Float64"),
        "polars": polars.Series(listed),
        "pyarrow": arrow.array(listed),
    }


KINDS = [
    "masked", "masked integers", "masked column", "list with masked", "list of masked", "NaN", "None",
    "objects with NA", "Float64", "polars", "pyarrow",
]


@pytest.mark.parametrize("kind", KINDS)
def test_missing_labels_weights_and_groups_are_refused(kind):
    given = missing()[kind]
    for estimator in (LSTMRegressor, LSTMClassifier):
        y = Y if estimator is LSTMRegressor else labels(Y)
        zoo.refuses(lambda e=estimator, y=y: quick(e).fit(X, y, sample_weight=given), "sample_weight")
        fitted = quick(estimator).fit(X, y)
        zoo.refuses(lambda f=fitted, y=y: f.score(X, y, sample_weight=given), "sample_weight")
        zoo.refuses(lambda f=fitted, y=y: f.partial_fit(X, y, sample_weight=given), "sample_weight")
    zoo.refuses(lambda: quick(LSTMClassifier).fit(X, given), "y")
    zoo.refuses(lambda: fitted.score(X, given), "y")
    zoo.refuses(lambda: quick(loss="nse").fit(X, Y, groups=given), "groups")


def outcome(call):
    """What a call returns, or that it is refused."""
    try:
        return np.ravel(call())
    except ValueError:
        return "refused"


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_target_is_what_nan_is(kind):
    given, nan = missing()[kind], np.where(MASK, np.nan, Y)
    if kind in ("masked integers", "list with masked", "list of masked"):
        nan = np.where(MASK, np.nan, 1)
    fitted = quick().fit(X, Y)
    for call in (
        lambda y: quick().fit(X, y).predict(X), lambda y: quick().partial_fit(X, y).predict(X),
        lambda y: fitted.score(X, y),
    ):
        np.testing.assert_array_equal(outcome(lambda c=call: c(given)), outcome(lambda c=call: c(nan)))


@pytest.mark.parametrize("estimator", [LSTMRegressor, LSTMClassifier])
def test_missing_targets_of_steps(estimator):
    mask = np.zeros((N, T), bool)
    mask[3, 1] = True
    right = STEPS if estimator is LSTMRegressor else (STEPS > 0).astype(float)
    masked, nan = np.ma.masked_array(np.where(mask, 1e20, right), mask), np.where(mask, np.nan, right)
    for given in (X, list(X)):
        expected = outcome(lambda g=given: quick(estimator, every_step=True).fit(g, nan).predict(g))
        for y in (masked, list(masked), of_objects(list(masked)), masked[..., None]):
            found = outcome(lambda g=given, y=y: quick(estimator, every_step=True).fit(g, y).predict(g))
            np.testing.assert_array_equal(found, expected)
            assert estimator is LSTMRegressor or isinstance(found, str)
    weight = np.ma.masked_array(np.ones((N, T)), mask)
    for given in (weight, list(weight)):
        zoo.refuses(
            lambda w=given: quick(estimator, every_step=True).fit(X, right, sample_weight=w), "sample_weight"
        )


def test_masked_arrays_with_nothing_masked_are_taken():
    np.testing.assert_array_equal(predicted(np.ma.masked_array(Y)), predicted(Y))
    np.testing.assert_array_equal(
        predicted(np.ma.masked_array(STEPS), every_step=True), predicted(STEPS, every_step=True)
    )
    weight = np.arange(1.0, N + 1)
    np.testing.assert_array_equal(
        quick().fit(X, Y, sample_weight=np.ma.masked_array(weight)).predict(X),
        quick().fit(X, Y, sample_weight=weight).predict(X),
    )


# What is no number ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [
    "dates", "durations", "text", "objects of text", "complex", "sparse", "categories", "integers", "dict",
])
def test_targets_that_are_no_numbers_are_refused(kind):
    pandas = pytest.importorskip("pandas")
    given = {
        "dates": pandas.Series(pandas.date_range("2020", periods=N)),
        "durations": np.arange(N).astype("m8[s]"),
        "text": [str(value) for value in Y],
        "objects of text": np.array([str(value) for value in Y], object),
        "complex": Y + 1j,
        "sparse": scipy.sparse.csr_array(Y[:, None]),
        "categories": pandas.Series(pandas.Categorical(range(N))),
        "integers": np.full(N, 2**53 + 1),
        "dict": {"y": Y},
    }[kind]
    zoo.refuses(lambda: quick().fit(X, given), "y")
    if kind not in ("categories", "sparse", "dict"):  # one by one these are no longer what they were
        zoo.refuses(lambda: quick(every_step=True).fit([x[:1] for x in X], [[v] for v in given]), "y")
    fitted = quick().fit(X, Y)
    zoo.refuses(lambda: fitted.score(X, given), "y")
    zoo.refuses(lambda: quick().fit(X, Y, sample_weight=given), "sample_weight")


def test_targets_of_every_kind_of_number_are_read_right():
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    arrow = pytest.importorskip("pyarrow")
    expected = predicted(Y)
    for given in (
        list(Y), Y.astype(object), Y.astype("longdouble"), Y.astype(">f8"), pandas.Series(Y),
        pandas.Series(Y, dtype="Float64"), polars.Series(Y), arrow.array(Y), Y[:, None],
        pandas.DataFrame({"y": Y}), polars.DataFrame({"y": Y}),
    ):
        np.testing.assert_array_equal(np.ravel(predicted(given)), expected)


def test_labels_of_every_kind_are_read_right():
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    right = labels(Y)
    expected = predicted(right, kind=LSTMClassifier)
    for given in (
        right.tolist(), right.astype(object), pandas.Series(right), pandas.Series(right, dtype="category"),
        pandas.Series(right, dtype="string"), polars.Series(right),
        polars.Series(right, dtype=polars.Categorical),
    ):
        np.testing.assert_array_equal(predicted(given, kind=LSTMClassifier), expected)
    numbered = predicted(pandas.Series(Y > 0, dtype="boolean"), kind=LSTMClassifier)
    np.testing.assert_array_equal(numbered, expected == "up")


# Lengths and labels of rows ---------------------------------------------------------------------


def frames(steps=None):
    pandas = pytest.importorskip("pandas")
    return [pandas.DataFrame(x, columns=["a", "b"], index=steps) for x in X]


def test_targets_as_frames_with_columns_in_another_order_are_refused():
    pandas = pytest.importorskip("pandas")
    y = [pandas.DataFrame(x, columns=["p", "q"]) for x in X]
    assert predicted(y, every_step=True).shape == (N, T, 2)
    y[3] = y[3][["q", "p"]]
    zoo.refuses(lambda: quick(every_step=True).fit(X, y), "columns", "item 3")


def test_an_index_of_y_in_another_order_or_shifted_is_refused():
    pandas = pytest.importorskip("pandas")
    dates = pandas.date_range("2020", periods=N + 1)
    table = pandas.DataFrame(X[:, 0], index=dates[:N])
    right = pandas.Series(Y, index=dates[:N])
    expected = predicted(Y, table)
    np.testing.assert_array_equal(predicted(right, table), expected)
    # A number says nothing of a date.
    np.testing.assert_array_equal(predicted(pandas.Series(Y), table), expected)
    fitted = quick().fit(table, right)
    for wrong in (right[::-1], pandas.Series(Y, index=dates[1:]), right.sample(frac=1, random_state=0)):
        message = zoo.refuses(lambda y=wrong: quick().fit(table, y), "y", "position 0")
        assert "to_numpy" in message
        zoo.refuses(lambda y=wrong: quick().fit(table, y.to_frame()), "y", "position 0")
        zoo.refuses(lambda w=wrong: quick().fit(table, Y, sample_weight=w.abs()), "sample_weight", "position")
        zoo.refuses(lambda g=wrong: quick(loss="nse").fit(table, Y, groups=g), "groups", "position")
        zoo.refuses(lambda y=wrong > 0: quick(LSTMClassifier).fit(table, y), "y", "position 0")
        zoo.refuses(lambda f=fitted, y=wrong: f.score(table, y), "y", "position 0")
    numbered = pandas.DataFrame(X[:, 0])
    zoo.refuses(lambda: quick().fit(numbered[:-1], pandas.Series(Y)[1:]), "y", "position 0")
    shuffled = pandas.Series(Y).sample(frac=1, random_state=0)
    zoo.refuses(lambda: quick().fit(numbered, shuffled), "y", "position")


def test_a_split_by_scikit_learn_keeps_rows_together():
    pandas = pytest.importorskip("pandas")
    from sklearn.model_selection import cross_val_score, train_test_split

    table, y = pandas.DataFrame(X[:, 0]), pandas.Series(Y)
    X_train, X_test, y_train, y_test = train_test_split(table, y, random_state=0)
    assert np.isfinite(quick().fit(X_train, y_train).score(X_test, y_test))
    assert np.isfinite(cross_val_score(quick(), table, y, cv=2)).all()


def test_an_index_of_steps_that_is_not_that_of_x_is_refused():
    pandas = pytest.importorskip("pandas")
    given = frames(range(10, 10 + T))
    right = [pandas.Series(y, index=range(10, 10 + T)) for y in STEPS]
    assert len(predicted(right, given, every_step=True)) == N
    wrong = [*right[:5], pandas.Series(STEPS[5], index=range(11, 11 + T)), *right[6:]]
    zoo.refuses(lambda: quick(every_step=True).fit(given, wrong), r"y\[5\]", "position 0")
    fitted = quick(every_step=True).fit(given, right)
    zoo.refuses(lambda: fitted.score(given, wrong), r"y\[5\]", "position 0")


def panel():
    pandas = pytest.importorskip("pandas")
    return pandas.concat(dict(zip("hgfedcba", frames(), strict=True)), names=["site", "step"])


def test_targets_of_a_panel_are_by_instance_or_by_row():
    pandas = pytest.importorskip("pandas")
    given = panel()
    by_site = pandas.Series(Y, index=list("hgfedcba"))
    np.testing.assert_array_equal(predicted(by_site, given), predicted(Y))
    zoo.refuses(lambda: quick().fit(given, by_site.sort_index()), "y", "position 0")
    by_row = pandas.Series(STEPS.ravel(), index=given.index)
    message = zoo.refuses(lambda: quick().fit(given, by_row), "y", "every_step=True")
    assert "inconsistent numbers of samples" in message
    expected = predicted(STEPS, every_step=True)
    for y in (by_row, STEPS.ravel(), by_row.to_frame(), list(STEPS), STEPS):
        np.testing.assert_array_equal(
            np.squeeze(predicted(y, given, every_step=True)), expected
        )
    zoo.refuses(lambda: quick(every_step=True).fit(given, by_row.sort_index()), "y", "position 0")
    weights = pandas.Series(np.arange(1.0, 1 + N * T), index=given.index)
    weighted = quick(every_step=True).fit(given, by_row, sample_weight=weights).predict(given)
    by_array = quick(every_step=True).fit(X, STEPS, sample_weight=weights.to_numpy().reshape(N, T)).predict(X)
    np.testing.assert_array_equal(weighted, by_array)
    zoo.refuses(
        lambda: quick(every_step=True).fit(given, by_row, sample_weight=weights[::-1]), "sample_weight"
    )


@pytest.mark.parametrize("kind", [LSTMRegressor, LSTMClassifier])
def test_lengths_that_differ_are_refused(kind):
    y, steps = (Y, STEPS) if kind is LSTMRegressor else (labels(Y), labels(STEPS))
    for wrong in (y[:-1], [*y, y[0]], steps[..., None], y[0], [y]):
        zoo.refuses(lambda wrong=wrong: quick(kind).fit(X, wrong), "y|numbers of samples|input")
    for wrong in (steps[:-1], steps[:, 1:], y, list(steps)[1:], [*steps[:-1], steps[0][:2]]):
        zoo.refuses(lambda wrong=wrong: quick(kind, every_step=True).fit(X, wrong), "y")
    zoo.refuses(lambda: quick(kind).fit(X, [*steps[:-1], steps[0][:2]]), "every_step=True")
    for weight in (np.ones(N - 1), np.ones((N, 2)), [np.ones(T)] * (N - 1)):
        by_step = quick(kind, every_step=True)
        zoo.refuses(lambda e=by_step, w=weight: e.fit(X, steps, sample_weight=w), "samples|sample_weight")


def test_a_huge_target_is_refused_by_name():
    y = Y.copy()
    y[3] = 1e300
    zoo.refuses(lambda: quick().fit(X, y), "column 0 of y")
