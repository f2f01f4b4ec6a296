"""`SequenceScaler`: what is constant, what is too large, and the layout in which everything comes back."""

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6", reason="the estimators need scikit-learn 1.6 or newer")

import zoo
from sklearn import config_context
from sklearn.pipeline import make_pipeline

from lstm_ext.sklearn import LSTMClassifier, LSTMRegressor, SequenceScaler

# What does not vary -----------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3, 200, 4097])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_constant_is_not_divided_by_what_rounding_leaves(rows, dtype):
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(-1e6, 1e6, 300), 10.0 ** np.arange(-300, 154, 7), [21.3, 0.1, -0.3]])
    values = values[np.abs(values) < 1e38].astype(dtype)
    x = np.broadcast_to(values, (rows, len(values)))
    scaler = SequenceScaler().fit(x)
    np.testing.assert_array_equal(scaler.mean_, values)
    np.testing.assert_array_equal(scaler.scale_, 1)
    np.testing.assert_array_equal(scaler.transform(x), 0)
    weighted = SequenceScaler().fit(x, sample_weight=rng.random(rows) + 1e-3)
    np.testing.assert_array_equal(weighted.mean_, values)
    np.testing.assert_array_equal(weighted.scale_, 1)


def test_a_constant_of_a_million_steps():
    scaler = SequenceScaler().fit(np.full((1000, 1000, 1), 21.3))
    assert scaler.scale_[0] == 1 and scaler.mean_[0] == 21.3


def test_a_constant_with_gaps_and_one_that_was_computed():
    x = np.full((200, 3), 21.3)
    x[::3, 0] = np.nan
    x[:, 1] = np.nan
    x[::2, 2] = np.nextafter(21.3, 22)  # as a mean over a window leaves it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaler = SequenceScaler().fit(x)
    np.testing.assert_array_equal(scaler.scale_, 1)
    np.testing.assert_allclose(scaler.mean_, [21.3, 0, 21.3], rtol=1e-15)
    moved = scaler.transform(x + 1e-6)
    assert np.nanmax(np.abs(moved)) < 1.1e-6


def test_what_weighs_nothing_does_not_make_a_constant_vary():
    x = np.full((20, 1), 21.3)
    x[3], weight = 5.0, np.ones(20)
    weight[3] = 0
    scaler = SequenceScaler().fit(x, sample_weight=weight)
    assert scaler.scale_[0] == 1 and scaler.mean_[0] == 21.3


def test_predictions_do_not_follow_a_constant_that_moves_a_little():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 6, 2))
    X[..., 1] = 21.3
    y = X[..., 0].sum(axis=1)
    regressor = LSTMRegressor(hidden_size=8, max_iter=60, random_state=0).fit(X, y)
    moved = X.copy()
    moved[..., 1] += 1e-6
    np.testing.assert_allclose(regressor.predict(moved), regressor.predict(X), atol=1e-4)


# What varies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, offsets", [
    (np.float32, [0, 1e3, 101325, 1e6]), (np.float64, [0, 101325, 1e9, 1e12, 1e14, 1e15]),
])
def test_noise_on_a_large_offset_varies(dtype, offsets):
    rng = np.random.default_rng(0)
    for offset in offsets:
        x = (offset + rng.normal(0, 0.1, (1000, 1))).astype(dtype)
        scaler = SequenceScaler().fit(x)
        np.testing.assert_allclose(scaler.scale_, (x.astype(float) - offset).std(), rtol=1e-6)
        scaled = scaler.transform(x)
        assert scaled.dtype == dtype
        np.testing.assert_allclose(scaled.std(), 1, rtol=1e-3)


def test_moments_are_those_of_numpy_with_weights_and_gaps():
    rng = np.random.default_rng(0)
    x = 5 + rng.normal(size=(5000, 60)) * np.exp(rng.normal(size=60))  # more than is summed in one go
    x[rng.random(x.shape) < 0.1] = np.nan
    weight = rng.random(5000)
    weight[::7] = 0
    scaler = SequenceScaler().fit(x, sample_weight=weight * 1e300)
    counts = np.where(np.isnan(x), 0, weight[:, None])
    filled = np.nan_to_num(x)
    mean = (counts * filled).sum(axis=0) / counts.sum(axis=0)
    deviation = np.sqrt((counts * (filled - mean) ** 2).sum(axis=0) / counts.sum(axis=0))
    np.testing.assert_allclose(scaler.mean_, mean, rtol=1e-12)
    np.testing.assert_allclose(scaler.scale_, deviation, rtol=1e-12)


@pytest.mark.parametrize("values", [
    [1e-310, 2e-310, 3e-310], [-1e154, 0, 1e154], [1e-200, 2e-200, 4e-200], [3e38, -3e38, 1e38],
])
def test_small_and_large_columns_are_scaled_without_overflow(values):
    x = np.array(values)[:, None]
    scaler = SequenceScaler().fit(x)
    scaled = scaler.transform(x)
    np.testing.assert_allclose([scaled.mean(), scaled.std()], [0, 1], atol=1e-10)
    np.testing.assert_allclose(scaler.inverse_transform(scaled), x, rtol=1e-10, atol=0)


# One huge cell ----------------------------------------------------------------------------------


def layouts(x):
    return {"array": x, "list": list(x), "table": x.reshape(-1, x.shape[-1])}


@pytest.mark.parametrize("layout", ["array", "list", "table"])
@pytest.mark.parametrize("value, dtype", [
    (-1.797e308, np.float64), (1e155, np.float64), (1e100, np.float64), (9.96921e36, np.float64),
    (-1e12, np.float64), (9.96921e36, np.float32), (1e20, np.float32), (-1e12, np.float32),
])
def test_a_huge_cell_is_refused_by_the_name_of_its_column(layout, value, dtype):
    x = np.random.default_rng(0).normal(size=(30, 5, 3)).astype(dtype)
    x[7, 2, 1] = value
    zoo.refuses(lambda: SequenceScaler().fit(layouts(x)[layout]), "column 1 of X")


@pytest.mark.parametrize("kind", [LSTMRegressor, LSTMClassifier])
@pytest.mark.parametrize("value", [-1.797e308, 1e200, 1e30])
def test_estimators_refuse_a_huge_cell(kind, value):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 5, 3)), rng.integers(0, 2, 30)
    X[7, 2, 1] = value
    zoo.refuses(lambda: kind(hidden_size=2, max_iter=2).fit(X, y), "column 1")


def test_a_huge_target_is_refused():
    X, y = np.zeros((30, 5, 3)), np.arange(30.0)
    y[3] = 1e300
    zoo.refuses(lambda: LSTMRegressor(hidden_size=2, max_iter=2).fit(X, y), "column 0")


def test_the_column_has_its_name():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"rain": [0.0, 1.0, 2.0, 3.0], "level": [1.0, 1e300, 2.0, 3.0]})
    zoo.refuses(lambda: SequenceScaler().fit(frame), "'level'")


def test_outliers_and_wide_ranges_are_no_faults():
    rng = np.random.default_rng(0)
    wide = rng.lognormal(0, 2, size=(2000, 1))
    count = np.where(rng.random((2000, 1)) < 0.01, 1e18, 1e16) * rng.random((2000, 1))
    outlier = rng.normal(size=(2000, 1))
    outlier[5] = 1e3
    indicator = np.where(rng.random((2000, 1)) < 0.5, 0, 1) + 1e-12 * rng.random((2000, 1))
    rare = np.where(rng.random((2000, 1)) < 0.01, 1e6, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for x in (wide, count, outlier, indicator, rare):
            assert SequenceScaler().fit(x).scale_[0] == pytest.approx(x.std())


@pytest.mark.parametrize("value, share", [(1e6, 0.001), (-1e9, 0.001), (-9999, 0.2), (32767, 0.4)])
def test_outliers_and_codes_that_hide_the_others_are_warned_of(value, share):
    rng = np.random.default_rng(0)
    x = rng.random(size=(50, 20, 3))
    x[..., 1][rng.random((50, 20)) < share] = value
    for fit in (
        lambda: SequenceScaler().fit(x), lambda: SequenceScaler().fit(list(x)),
        lambda: LSTMRegressor(hidden_size=2, max_iter=1).fit(x, np.arange(50.0)),
    ):
        with pytest.warns(UserWarning, match="column 1 of X has values up to") as caught:
            fit()
        assert [warning.filename for warning in caught if "column 1" in str(warning.message)] == [__file__]


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6])
@pytest.mark.parametrize("value", [9.96921e36, 1e20, -1e12])
def test_many_huge_cells_are_refused_as_one_is(value, share):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 20, 3))
    x[..., 1][rng.random((50, 20)) < share] = value
    zoo.refuses(lambda: SequenceScaler().fit(x), "column 1 of X")


def test_a_value_that_overflows_when_it_is_scaled_is_refused():
    x = np.array([[1e-5], [2e-5], [3e-5]])
    scaler = SequenceScaler().fit(x)
    zoo.refuses(lambda: scaler.transform([[1e307]]), "column 0 of X")
    zoo.refuses(lambda: scaler.transform(np.array([[3e38]], np.float32)), "column 0 of X")
    wide = SequenceScaler().fit([[1e100], [-1e100], [0.0]])
    zoo.refuses(lambda: wide.inverse_transform([[1e300]]), "column 0 of X")
    zoo.refuses(lambda: wide.inverse_transform(np.array([[1.0]], np.float32)), "column 0 of X")


def test_a_refused_fit_leaves_the_scaler_as_it_was():
    scaler = SequenceScaler().fit([[1.0, 2.0], [3.0, 5.0]])
    before = {name: np.copy(value) for name, value in vars(scaler).items()}
    huge = [[1.0, 2.0, 3.0], [1e300, 2.0, 4.0], [0.0, 1.0, 2.0]]
    for bad in (huge, [[np.inf]], "x", [np.zeros((2, 1)), np.zeros((2, 2))]):
        zoo.refuses(lambda bad=bad: scaler.fit(bad), "X")
    zoo.refuses(lambda: scaler.fit(np.zeros((2, 3)), sample_weight=[-1.0, 1.0]), "sample_weight")
    assert set(before) == set(vars(scaler))
    for name, value in vars(scaler).items():
        np.testing.assert_array_equal(value, before[name])


# Layouts ----------------------------------------------------------------------------------------


def frames():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    return [
        pandas.DataFrame(
            rng.normal(size=(n, 2)), columns=["rain", "level"],
            index=pandas.date_range("2020-01-01", periods=n, tz="UTC"),
        )
        for n in (3, 5, 4)
    ]


def panel():
    pandas = pytest.importorskip("pandas")
    return pandas.concat(dict(zip("abc", frames(), strict=True)), names=["site", "time"])


def test_set_output_makes_frames_of_what_is_no_array():
    pandas = pytest.importorskip("pandas")
    scaler = SequenceScaler().set_output(transform="pandas")
    given = frames()
    scaled = scaler.fit_transform(given)
    plain = SequenceScaler().fit_transform([frame.to_numpy() for frame in given])
    for frame, out, values in zip(given, scaled, plain, strict=True):
        assert isinstance(out, pandas.DataFrame)
        assert out.index.equals(frame.index) and list(out.columns) == ["rain", "level"]
        np.testing.assert_array_equal(out, values)
    table = scaler.fit_transform(given[1])
    assert table.index.equals(given[1].index) and list(table.columns) == ["rain", "level"]
    array = scaler.fit_transform(np.zeros((2, 3, 4)))
    assert type(array) is np.ndarray and array.shape == (2, 3, 4)
    listed = scaler.fit_transform([np.zeros((2, 3)), np.zeros((1, 3))])
    assert [list(part.columns) for part in listed] == [["x0", "x1", "x2"]] * 2
    assert list(scaler.get_feature_names_out()) == ["x0", "x1", "x2"]


def test_set_output_of_a_panel_keeps_its_index():
    scaler = SequenceScaler().set_output(transform="pandas")
    given = panel()
    out = scaler.fit_transform(given)
    assert out.index.equals(given.index)
    np.testing.assert_array_equal(out, np.concatenate(SequenceScaler().fit_transform(given)))


def test_set_output_for_polars():
    polars = pytest.importorskip("polars")
    given = [polars.DataFrame({"rain": [1.0, 2.0, 3.0], "level": [0.0, 1.0, 0.0]})] * 2
    scaler = SequenceScaler().set_output(transform="polars")
    out = scaler.fit_transform(given)
    assert all(isinstance(part, polars.DataFrame) and part.columns == ["rain", "level"] for part in out)
    assert isinstance(scaler.fit_transform(given[0]), polars.DataFrame)


def test_the_global_wish_is_heard_and_the_default_is_arrays():
    pandas = pytest.importorskip("pandas")
    given = frames()
    with config_context(transform_output="pandas"):
        assert all(isinstance(part, pandas.DataFrame) for part in SequenceScaler().fit_transform(given))
    assert all(type(part) is np.ndarray for part in SequenceScaler().fit_transform(given))


def test_a_panel_stays_a_panel_in_a_pipeline():
    given, y = panel(), [1.0, 2.0, 3.0]
    listed = frames()
    words = {"hidden_size": 3, "max_iter": 3, "random_state": 0, "scale": False}
    expected = make_pipeline(SequenceScaler(), LSTMRegressor(**words)).fit(listed, y).predict(listed)
    for output in ("default", "pandas"):
        pipeline = make_pipeline(SequenceScaler(), LSTMRegressor(**words)).set_output(transform=output)
        np.testing.assert_array_equal(pipeline.fit(given, y).predict(given), expected)


def test_missing_values_of_every_kind_are_left_out_and_stay():
    pandas = pytest.importorskip("pandas")
    values = np.array([[1.0, 5.0], [np.nan, 6.0], [3.0, 10.0]])
    masked = np.ma.masked_array(np.where(np.isnan(values), 1e20, values), np.isnan(values))
    nullable = pandas.DataFrame({"a": pandas.array([1, None, 3], dtype="Int64"), "b": values[:, 1]})
    expected = SequenceScaler().fit_transform(values)
    np.testing.assert_array_equal(SequenceScaler().fit_transform(masked), expected)
    np.testing.assert_array_equal(SequenceScaler().fit_transform([masked])[0], expected)
    np.testing.assert_array_equal(SequenceScaler().fit_transform(masked[None])[0], expected)
    np.testing.assert_array_equal(SequenceScaler().fit_transform(nullable), expected)
    np.testing.assert_array_equal(SequenceScaler().fit_transform([nullable])[0], expected)
    assert masked.data[1, 0] == 1e20
