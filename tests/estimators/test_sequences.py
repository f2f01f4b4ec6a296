"""X as people have it: frames of three libraries, panels, masked arrays; what each is read as, or refused."""

import datetime
import linecache
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6", reason="the estimators need scikit-learn 1.6 or newer")

import scipy.sparse
import zoo
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from lstm_ext.sklearn import LSTMClassifier, LSTMRegressor, SequenceScaler

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:X has shape:UserWarning"
)

RNG = np.random.default_rng(0)
N, T, F = 6, 5, 2
X = RNG.normal(size=(N, T, F))
Y = X[..., 0].sum(axis=1)
NAMES = ["rain", "level"]
HOLD = {"lstm_options": {"nan": "hold"}}


def quick(kind=LSTMRegressor, **words):
    return kind(**{"hidden_size": 3, "max_iter": 2, "random_state": 0, **words})


def predicted(given, **words):
    return quick(**words).fit(given, Y).predict(given)


# Panels -----------------------------------------------------------------------------------------


def multiindex(x=X, instances="abcdef"):
    pandas = pytest.importorskip("pandas")
    index = pandas.MultiIndex.from_product([list(instances), range(x.shape[1])], names=["site", "day"])
    return pandas.DataFrame(x.reshape(-1, x.shape[2]), index=index, columns=NAMES)


def nested(x=X):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({
        name: [pandas.Series(one[:, j]) for one in x] for j, name in enumerate(NAMES)
    })


def long(x=X, cases=range(N)):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame([
        {"case_id": case, "dim_id": name, "reading_id": t, "value": one[t, j]}
        for case, one in zip(cases, x, strict=True) for j, name in enumerate(NAMES) for t in range(len(one))
    ])


def date_level():
    panel = multiindex()
    times = datetime.datetime(2020, 1, 1) + np.arange(T) * datetime.timedelta(days=1)
    panel.index = panel.index.set_levels(times, level=1)
    return panel


def three_levels():
    pandas = pytest.importorskip("pandas")
    return pandas.concat({"north": multiindex(X[:3], "abc"), "south": multiindex(X[3:], "abc")})


PANELS = {
    "MultiIndex": multiindex, "dates": date_level, "three levels": three_levels, "nested": nested,
    "long": lambda: long().rename(columns=str),
    "long, rows in any order": lambda: long().sort_values(["reading_id", "dim_id"], kind="stable"),
    "long, names of cases that are not sorted": lambda: long(cases=list("fbecad")),
    "nested arrays": lambda: nested().map(np.asarray),
    "nested lists": lambda: nested().map(list),
    "nested tuples": lambda: nested().map(tuple),
    "list of frames": lambda: [frame.droplevel(0) for _, frame in multiindex().groupby("site")],
}


@pytest.mark.parametrize("kind", PANELS)
def test_a_panel_is_one_sequence_for_each_instance(kind):
    given = PANELS[kind]()
    regressor = quick().fit(given, Y)
    prediction = regressor.predict(given)
    assert prediction.shape == (N,) and regressor.n_features_in_ == F
    # "long" sorts its columns by name.
    columns = [1, 0] if list(regressor.feature_names_in_) == sorted(NAMES) else [0, 1]
    np.testing.assert_array_equal(prediction, predicted(X[..., columns]))
    by_step = quick(every_step=True).fit(given, [one[:, 0] for one in X]).predict(given)
    assert [part.shape for part in by_step] == [(T,)] * N
    labels = np.where(Y > 0, "up", "down")
    classifier = quick(LSTMClassifier).fit(given, labels)
    assert classifier.predict_proba(given).shape == (N, 2)
    scaled = SequenceScaler().fit_transform(given)
    assert [part.shape for part in scaled] == [(T, F)] * N


def test_instances_of_different_lengths_keep_their_steps():
    panel = multiindex().drop([("b", 4), ("d", 0), ("d", 1)])
    parts = [X[0], X[1, :4], X[2], X[3, 2:], X[4], X[5]]
    np.testing.assert_array_equal(predicted(panel), predicted(parts))


def test_panels_agree_with_sktime():
    pytest.importorskip("sktime")
    from sktime.datatypes import convert

    channels = X.transpose(0, 2, 1)
    expected = predicted(X)
    for kind in ("nested_univ", "pd-multiindex", "df-list"):
        given = convert(channels, "numpy3D", kind, "Panel")
        np.testing.assert_array_equal(predicted(given), expected)
    given = convert(convert(channels, "numpy3D", "nested_univ", "Panel"), "nested_univ", "pd-long", "Panel")
    np.testing.assert_array_equal(predicted(given), expected)


# Layouts of others ------------------------------------------------------------------------------

WALKS = np.random.default_rng(5).normal(size=(20, 12, 3)).cumsum(axis=1)
ENDS = WALKS[:, -1, 0]
RAGGED = [walk[: 5 + number % 7] for number, walk in enumerate(WALKS)]


def named(dims):
    xarray = pytest.importorskip("xarray")
    places = {"case": 0, "time": 1, "feature": 2}
    return xarray.DataArray(WALKS.transpose([places[dim] for dim in dims]), dims=dims)


def with_columns(columns):
    pandas = pytest.importorskip("pandas")
    rows = WALKS.reshape(-1, 3)
    ids, times = np.repeat(np.arange(20), 12), np.tile(np.arange(12), 20)
    return pandas.DataFrame(np.column_stack([ids, times, rows]), columns=[*columns, "a", "b", "c"])


FOREIGN = {
    "channels first, fitted": (
        lambda: quick().fit(WALKS, ENDS).predict(WALKS.transpose(0, 2, 1)),
        ("X has 12 features", "expecting 3 features", "X.transpose(0, 2, 1)"),
    ),
    "channels first, scored": (
        lambda: quick(LSTMClassifier).fit(WALKS, ENDS > 0).score(WALKS.transpose(0, 2, 1), ENDS > 0),
        ("X has 12 features", "X.transpose(0, 2, 1)"),
    ),
    "channels first, scaled": (
        lambda: SequenceScaler().fit(WALKS).transform(WALKS.transpose(0, 2, 1)),
        ("X has 12 features", "X.transpose(0, 2, 1)"),
    ),
    "channels first, one feature": (
        lambda: quick().fit(WALKS[..., :1], ENDS).predict(WALKS[..., :1].transpose(0, 2, 1)),
        ("X has 12 features", "X.transpose(0, 2, 1)"),
    ),
    "channels first, y by step": (
        lambda: quick(every_step=True).fit(WALKS.transpose(0, 2, 1), WALKS[..., 0]),
        (r"y[0] has 12 steps; expected 3, as X[0]", "X.transpose(0, 2, 1)"),
    ),
    "a list of channels first": (
        lambda: quick().fit([walk.T for walk in RAGGED], ENDS), ("X[1] has 6 features", "[x.T for x in X]"),
    ),
    "a list of channels first, fitted": (
        lambda: quick().fit(RAGGED, ENDS).predict([walk.T for walk in WALKS]),
        ("X has 12 features", "[x.T for x in X]"),
    ),
    "dimensions with time last": (
        lambda: quick().fit(named(("case", "feature", "time")), ENDS),
        ("X has the dimensions", "X.transpose('case', 'time', 'feature')"),
    ),
    "dimensions with time first": (
        lambda: SequenceScaler().fit(named(("time", "case", "feature"))),
        ("X has the dimensions", "X.transpose('case', 'time', 'feature')"),
    ),
    "long, other names": (
        lambda: quick().fit(with_columns(["id", "Time"]), ENDS),
        ("columns 'id' and 'Time'", "X.set_index(['id', 'Time'])"),
    ),
    "long, y by row": (
        lambda: quick().fit(with_columns(["unique_id", "ds"]), WALKS[..., 0].ravel()), ("'unique_id'",),
    ),
    "long, polars": (
        lambda: quick().fit(pytest.importorskip("polars").from_pandas(with_columns(["id", "time"])), ENDS),
        ("X.to_pandas().set_index(['id', 'time'])",),
    ),
    "long, pyarrow": (
        lambda: quick().fit(
            pytest.importorskip("pyarrow").Table.from_pandas(with_columns(["id", "time"])), ENDS
        ),
        ("X.to_pandas().set_index(['id', 'time'])",),
    ),
    "lists in cells, pyarrow": (
        lambda: quick().fit(pytest.importorskip("pyarrow").table({"a": X[..., 0].tolist()}), Y),
        ("lists in the cells of 'a'", "X.to_pandas()"),
    ),
    "lists in cells, polars": (
        lambda: quick().fit(pytest.importorskip("polars").DataFrame({"a": X[..., 0].tolist()}), Y),
        ("lists in the cells of 'a'", "X.to_pandas()"),
    ),
    "tables in cells": (
        lambda: quick().fit(pytest.importorskip("pandas").DataFrame({"a": list(X)}), Y),
        ("tables in its cells", "list(X['a'])"),
    ),
    "an array of series": (lambda: quick().fit(nested().to_numpy(), Y), ("pandas.DataFrame(X)",)),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_layouts_of_others_are_refused_with_the_right_call(kind):
    act, words = FOREIGN[kind]
    with pytest.raises((TypeError, ValueError)) as caught:
        act()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_right_calls_are_right():
    expected = quick().fit(WALKS, ENDS).predict(WALKS)
    frame = with_columns(["id", "time"]).set_index(["id", "time"])
    turned = WALKS.transpose(0, 2, 1)
    for given in (
        named(("case", "time", "feature")), turned.transpose(0, 2, 1), frame,
        named(("case", "feature", "time")).transpose("case", "time", "feature"),
    ):
        np.testing.assert_array_equal(quick().fit(given, ENDS).predict(given), expected)
    one_row_each = with_columns(["id", "time"]).iloc[::12]  # a table with an id is a table
    assert quick().fit(one_row_each, ENDS).n_features_in_ == 5


@pytest.mark.parametrize("change, words", [
    (lambda panel: panel.iloc[::-1], "increasing"),
    (lambda panel: panel.sort_index(level=1), "not together"),
    (lambda panel: panel.iloc[[0, 0, 1]], "increasing"),
    (lambda panel: panel.iloc[[1, 0, 2]], "increasing"),
    (lambda panel: panel.set_index(
        panel.index.map(lambda label: (label[0], None if label[1] == 2 else label[1]))
    ), "missing"),
])
def test_panels_whose_order_is_not_clear_are_refused(change, words):
    zoo.refuses(lambda: quick().fit(change(multiindex()), Y), "X", words)
    fitted = quick().fit(multiindex(), Y)
    zoo.refuses(lambda: fitted.predict(change(multiindex())), "X", words)


def test_columns_of_a_panel_have_names():
    regressor = quick().fit(multiindex(), Y)
    assert list(regressor.feature_names_in_) == NAMES
    zoo.refuses(lambda: regressor.predict(multiindex()[NAMES[::-1]]), "feature names")
    regressor = quick().fit(nested(), Y)
    zoo.refuses(lambda: regressor.predict(nested()[NAMES[::-1]]), "feature names")


def test_nested_frames_that_are_not_whole_are_refused():
    short, number, empty = nested(), nested(), nested()
    short.iat[1, 1] = short.iat[1, 1][:3]
    number.iat[1, 1] = 3.0
    empty.iat[1, 1], empty.iat[1, 0] = empty.iat[1, 1][:0], empty.iat[1, 0][:0]
    zoo.refuses(lambda: quick().fit(short, Y), r"X\[1\]", "steps")
    zoo.refuses(lambda: quick().fit(number, Y), "X", "cell")
    zoo.refuses(lambda: quick().fit(empty, Y), r"X\[1\]", "step")


def test_long_frames_that_are_not_whole_are_refused():
    pandas = pytest.importorskip("pandas")
    frame = long()
    zoo.refuses(lambda: quick().fit(frame.drop(index=3), Y), "X", "NaN")
    zoo.refuses(lambda: quick().fit(pandas.concat([frame, frame[:1]]), Y), "X", "two values")
    zoo.refuses(lambda: quick().fit(frame.assign(case_id=None), Y), "X", "missing")
    zoo.refuses(lambda: quick().fit(frame.assign(value="x"), Y), "X", "text")


def test_a_column_of_arrays_is_a_list():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"series": list(X), "y": Y, "steps": list(X[..., 0])}, index=list("fedcba"))
    np.testing.assert_array_equal(predicted(table["series"]), predicted(X))
    ragged = pandas.Series([x[: 2 + n % 3] for n, x in enumerate(X)])
    np.testing.assert_array_equal(predicted(ragged), predicted(list(ragged)))
    every = quick(every_step=True)
    by_step = every.fit(table["series"], table["steps"]).predict(table["series"])
    np.testing.assert_array_equal(by_step, every.fit(list(X), list(X[..., 0])).predict(list(X)))
    every.fit(table["series"], table["steps"], sample_weight=table["steps"].map(abs))
    zoo.refuses(lambda: quick().fit(table["series"], table["y"].sort_index()), "y", "position 0")
    zoo.refuses(
        lambda: quick(every_step=True).fit(table["series"], table["steps"].sort_index()), "y", "position 0"
    )


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_frames_whose_dates_go_back_are_refused(zone):
    pandas = pytest.importorskip("pandas")
    dates = pandas.date_range("2020-10-25", periods=T, freq="h", tz=zone)
    frames = [frame.set_index(dates) for frame in pandas_frames()]
    np.testing.assert_array_equal(predicted(frames), predicted(X))
    for change in (lambda frame: frame[::-1], lambda frame: frame.iloc[[1, 0, 2, 3, 4]]):
        bad = [*frames[:3], change(frames[3]), *frames[4:]]
        zoo.refuses(lambda bad=bad: quick().fit(bad, Y), r"X\[3\]", "sort_index")
        zoo.refuses(lambda bad=bad: SequenceScaler().fit(bad), r"X\[3\]", "sort_index")
    cells = nested()
    cells.iat[2, 1] = cells.iat[2, 1].set_axis(dates)[::-1]
    zoo.refuses(lambda: quick().fit(cells, Y), r"X\[2\]", "sort_index")


# What may be something else ---------------------------------------------------------------------


def told(call):
    """Return the warnings of a call that are about the shape of X."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [warning for warning in caught if "X has shape" in str(warning.message)]


def test_a_table_is_warned_of_once_and_at_the_line_of_the_caller():
    table = X[:, 0]
    estimator = quick()
    (warning,) = told(lambda: estimator.fit(table, Y))
    assert "one time step" in str(warning.message) and "X[None]" in str(warning.message)
    assert warning.category is UserWarning and warning.filename == __file__
    assert "fit(table" in linecache.getline(__file__, warning.lineno)
    assert not told(lambda: (estimator.predict(table), estimator.score(table, Y)))
    pipeline = make_pipeline(SequenceScaler(), quick())
    (warning,) = told(lambda: pipeline.fit(table, Y))
    assert warning.filename == __file__
    searched = told(lambda: GridSearchCV(quick(), {"hidden_size": [2]}, cv=2).fit(table, Y))
    assert {warning.filename for warning in searched} == {__file__}


def test_a_refused_fit_warns_of_nothing():
    for y in (Y[:-1], [None] * N, list("abcdef")):
        zoo.refuses(lambda y=y: quick().fit(X[:, 0], y), "y|samples")  # a warning would be its error


def test_a_table_as_a_frame_is_warned_of():
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    for frame in (pandas.DataFrame(X[:, 0]), polars.DataFrame(X[:, 0])):
        assert len(told(lambda frame=frame: quick().fit(frame, Y))) == 1
        assert len(told(lambda frame=frame: quick(LSTMClassifier).fit(frame, Y > 0))) == 1


def test_sequences_of_one_step_that_say_so_are_not():
    assert not told(lambda: quick().fit(X[:, :1], Y))
    assert not told(lambda: quick().fit(list(X[:, :1]), Y))
    assert not told(lambda: SequenceScaler().fit_transform(X[:, 0]))
    assert not told(lambda: quick().fit(X, Y))


@pytest.mark.parametrize("n, channels, steps", [(20, 1, 90), (20, 6, 100), (20, 3, 12), (20, 12, 29)])
def test_arrays_with_the_time_last_are_warned_of(n, channels, steps):
    walks = np.cumsum(np.random.default_rng(0).normal(size=(n, channels, steps)), axis=2)
    y = walks[:, 0, -1]
    (warning,) = told(lambda: quick().fit(walks, y))
    assert "X.transpose(0, 2, 1)" in str(warning.message) and warning.filename == __file__
    assert not told(lambda: quick().fit(walks.transpose(0, 2, 1), y))
    (warning,) = told(lambda: quick().fit(list(walks), y))
    assert "[x.T for x in X]" in str(warning.message) and warning.filename == __file__
    assert not told(lambda: quick().fit(list(walks.transpose(0, 2, 1)), y))


def test_many_features_and_several_steps_are_warned_of_whatever_they_hold():
    noise = np.random.default_rng(0).normal(size=(20, 3, 12))
    (warning,) = told(lambda: quick().fit(noise, noise[:, 0, 0]))
    assert "X.transpose(0, 2, 1)" in str(warning.message)


@pytest.mark.parametrize("steps, features", [(12, 29), (24, 50), (10, 12), (30, 5), (2, 7), (1, 40)])
def test_ordinary_arrays_are_not(steps, features):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(20, steps, features))
    for x in (noise, np.cumsum(noise, axis=1), noise * 10.0 ** rng.integers(-3, 4, features)):
        assert not told(lambda x=x: quick().fit(x, x[:, 0, 0]))


# Names of columns -------------------------------------------------------------------------------


def pandas_frames(x=X, names=NAMES):
    pandas = pytest.importorskip("pandas")
    return [pandas.DataFrame(one, columns=names) for one in x]


def polars_frames(x=X, names=NAMES):
    polars = pytest.importorskip("polars")
    return [polars.DataFrame(one, schema=names) for one in x]


def arrow_tables(x=X, names=NAMES):
    arrow = pytest.importorskip("pyarrow")
    return [arrow.table(dict(zip(names, one.T, strict=True))) for one in x]


LIBRARIES = {"pandas": pandas_frames, "polars": polars_frames, "pyarrow": arrow_tables}


@pytest.mark.parametrize("library", LIBRARIES)
def test_frames_in_lists_have_names(library):
    make = LIBRARIES[library]
    given, swapped = make(), make(X[..., ::-1], NAMES[::-1])
    regressor = quick().fit(given, Y)
    assert list(regressor.feature_names_in_) == NAMES
    np.testing.assert_array_equal(regressor.predict(given), predicted(X))
    zoo.refuses(lambda: regressor.predict(swapped), "feature names")
    zoo.refuses(lambda: regressor.partial_fit(swapped, Y), "feature names")
    scaler = SequenceScaler().fit(given)
    zoo.refuses(lambda: scaler.transform(swapped), "feature names")
    zoo.refuses(lambda: scaler.inverse_transform(swapped), "feature names")
    mixed = [*given[:3], swapped[3], *given[4:]]
    zoo.refuses(lambda: quick().fit(mixed, Y), "columns", "item 3")
    zoo.refuses(lambda: quick().fit([*given[:3], X[3], *given[4:]], Y), "columns", "item 3")
    zoo.refuses(lambda: quick().fit([X[0], *given[1:]], Y), "columns")
    as_objects = np.empty(N, object)
    as_objects[:] = given
    assert list(quick().fit(as_objects, Y).feature_names_in_) == NAMES


@pytest.mark.parametrize("library", LIBRARIES)
def test_tables_of_every_library_have_names(library):
    make = LIBRARIES[library]
    table, swapped = make()[0], make(X[..., ::-1], NAMES[::-1])[0]
    regressor = quick().fit(table, np.arange(T))
    assert list(regressor.feature_names_in_) == NAMES
    np.testing.assert_array_equal(
        regressor.predict(table), quick().fit(X[0][:, None], np.arange(T)).predict(X[0][:, None])
    )
    zoo.refuses(lambda: regressor.predict(swapped), "feature names")


def test_names_of_one_library_are_those_of_another():
    regressor = quick().fit(pandas_frames(), Y)
    for make in LIBRARIES.values():
        np.testing.assert_array_equal(regressor.predict(make()), regressor.predict(pandas_frames()))
        zoo.refuses(lambda make=make: regressor.predict(make(X[..., ::-1], NAMES[::-1])), "feature names")


class Interchanged:
    """A frame of a library that nobody here has heard of, as scikit-learn takes it."""

    def __init__(self, frame):
        self.frame, self.columns, self.shape, self.ndim = frame, frame.columns, frame.shape, 2

    def __len__(self):
        return len(self.frame)

    def __array__(self, dtype=None, copy=None):
        return self.frame.to_numpy()

    def __dataframe__(self, *arguments, **words):
        return self.frame.__dataframe__(*arguments, **words)


def test_frames_of_other_libraries_have_names():
    given, swapped = pandas_frames(), pandas_frames(X[..., ::-1], NAMES[::-1])
    for wrap in (lambda frames: list(map(Interchanged, frames)), lambda frames: Interchanged(frames[0])):
        y = Y if isinstance(wrap(given), list) else np.arange(T)
        regressor = quick().fit(wrap(given), y)
        assert list(regressor.feature_names_in_) == NAMES
        zoo.refuses(lambda r=regressor, w=wrap: r.predict(w(swapped)), "feature names")


def test_arrays_after_frames_are_warned_of_as_scikit_learn_does():
    regressor = quick().fit(polars_frames(), Y)
    with pytest.warns(UserWarning, match="valid feature names"):
        regressor.predict(X)
    regressor = quick().fit(X, Y)
    with pytest.warns(UserWarning, match="without feature names"):
        regressor.predict(polars_frames())


def test_two_columns_of_one_name_are_refused():
    for given in (pandas_frames(names=["a", "a"]), pandas_frames(names=["a", "a"])[0]):
        zoo.refuses(lambda given=given: quick().fit(given, Y), "'a'", "twice")
        zoo.refuses(lambda given=given: SequenceScaler().fit(given), "'a'", "twice")


def test_numbered_columns_in_another_order_are_refused():
    for given in (pandas_frames(names=[0, 1]), pandas_frames(names=[0, 1])[0]):
        several = isinstance(given, list)
        swapped = [frame[[1, 0]] for frame in given] if several else given[[1, 0]]
        y = Y if several else np.arange(T)
        for fit, predict in ((given, swapped), (swapped, given)):
            fitted = quick().fit(fit, y)
            zoo.refuses(lambda fitted=fitted, bad=predict: fitted.predict(bad), "feature names")
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*feature names")
            regressor = quick().fit(given, y)
            regressor.predict(X if several else X[0])  # pandas' own numbers are no names


# Missing values and other things in the cells ---------------------------------------------------


MISSING = X.copy()
MISSING[2, 1, 0] = MISSING[4, 3, 1] = np.nan
MASK = np.isnan(MISSING)


def masked(fill=1e20):
    return np.ma.masked_array(np.where(MASK, fill, X), MASK)


def nullable():
    pandas = pytest.importorskip("pandas")
    return [
        pandas.DataFrame({
            name: pandas.array([None if np.isnan(v) else v for v in one[:, j]], dtype="Float64")
            for j, name in enumerate(NAMES)
        }) for one in MISSING
    ]


def objects_with_na():
    pandas = pytest.importorskip("pandas")
    return [frame.astype(object).where(~frame.isna(), pandas.NA) for frame in pandas_frames(MISSING)]


def of_objects(parts):
    array = np.empty(len(parts), object)
    array[:] = parts
    return array


GAPS = {
    "masked": masked,
    "list of masked": lambda: list(masked()),
    "masked in an array of objects": lambda: of_objects(list(masked())),
    "masked, infinity below": lambda: masked(np.inf),
    "Float64 in lists": nullable,
    "pandas.NA in lists": objects_with_na,
    "nulls of polars in lists": lambda: [
        frame.with_columns(*(frame[name].fill_nan(None) for name in NAMES))
        for frame in polars_frames(MISSING)
    ],
    "pyarrow in lists": lambda: [frame.to_arrow() for frame in GAPS["nulls of polars in lists"]()],
    "panel": lambda: multiindex(MISSING),
    "nested": lambda: nested(MISSING),
}


@pytest.mark.parametrize("kind", GAPS)
def test_missing_values_are_nan_where_that_is_allowed_and_else_refused(kind):
    given = GAPS[kind]()
    np.testing.assert_array_equal(predicted(given, **HOLD), predicted(MISSING, **HOLD))
    for estimator in (quick(), quick(LSTMClassifier)):
        y = Y if isinstance(estimator, LSTMRegressor) else Y > 0
        zoo.refuses(lambda e=estimator, y=y: e.fit(given, y), "X")
        e = estimator.fit(X, y)
        zoo.refuses(lambda e=e: e.predict(given), "X")


def test_a_masked_table_is_refused_and_a_plain_one_is_taken():
    zoo.refuses(lambda: quick().fit(masked()[:, 1], Y), "X", "masked")
    np.testing.assert_array_equal(predicted(np.ma.masked_array(X)), predicted(X))
    np.testing.assert_array_equal(predicted(list(np.ma.masked_array(X))), predicted(X))


def wrong_columns():
    pandas = pytest.importorskip("pandas")
    return {
        "dates": pandas.date_range("2020", periods=T),
        "dates with a time zone": pandas.date_range("2020", periods=T, tz="UTC"),
        "durations": pandas.to_timedelta(range(T)),
        "text": list("12345"),
        "categories": pandas.Categorical([1, 2, 3, 4, 5]),
        "complex": np.arange(T) * 1j,
        "sparse": pandas.arrays.SparseArray([0.0, 1, 0, 0, 0]),
        "objects": [{}, {}, {}, {}, {}],
        "dates as objects": np.array([datetime.date(2020, 1, 1)] * T, object),
        "integers beyond float64": np.array([2**53 + 1] * T),
    }


@pytest.mark.parametrize("kind", [
    "dates", "dates with a time zone", "durations", "text", "categories", "complex", "sparse", "objects",
    "dates as objects", "integers beyond float64",
])
def test_columns_that_are_no_numbers_are_refused_where_they_have_no_meaning(kind):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"good": np.arange(5.0), "bad": wrong_columns()[kind]})
    good = pandas.DataFrame({"good": np.arange(5.0), "bad": np.ones(5)})
    panel = pandas.concat({"a": frame, "b": frame})
    for bad, y in ((frame, np.arange(5)), ([frame] * 3, np.arange(3)), (panel, np.arange(2))):
        if kind == "categories":  # which the estimators take, and know by their labels
            quick().fit(bad, y).predict(bad)
        else:
            zoo.refuses(lambda bad=bad, y=y: quick().fit(bad, y), "bad")
        zoo.refuses(lambda bad=bad: SequenceScaler().fit(bad), "bad")
    fitted, scaler = quick().fit([good] * 3, np.arange(3)), SequenceScaler().fit(good)
    zoo.refuses(lambda: fitted.predict([frame]), "bad")
    zoo.refuses(lambda: scaler.transform(frame), "bad")
    zoo.refuses(lambda: scaler.inverse_transform(frame), "bad")


@pytest.mark.parametrize("kind", ["M8[us]", "m8[s]", "complex128", "U5", "S5"])
def test_arrays_that_are_no_numbers_are_refused(kind):
    given = np.zeros((N, T, F)).astype(kind)
    for bad in (given, list(given), given[:, 0], np.ma.masked_array(given)):
        zoo.refuses(lambda bad=bad: quick().fit(bad, Y), "X")
        zoo.refuses(lambda bad=bad: SequenceScaler().fit(bad), "X")


def test_sparse_is_refused_in_every_place():
    sparse = scipy.sparse.csr_array(X[0])
    for bad in (sparse, [sparse] * N, of_objects([sparse] * N)):
        zoo.refuses(lambda bad=bad: quick().fit(bad, Y), "sparse")
        zoo.refuses(lambda bad=bad: SequenceScaler().fit(bad), "sparse")


def test_numbers_of_every_kind_are_read_right():
    integers = np.round(3 * X)
    expected = predicted(integers)
    for dtype in ("f2", "i1", "i8", ">f8", "longdouble", object):
        np.testing.assert_array_equal(predicted(integers.astype(dtype)), expected)
        np.testing.assert_array_equal(predicted(list(integers.astype(dtype))), expected)
    np.testing.assert_array_equal(predicted(X > 0), predicted((X > 0).astype(float)))
    np.testing.assert_array_equal(predicted((X > 0).tolist()), predicted((X > 0).astype(float)))
