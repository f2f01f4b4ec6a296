"""`lstm_ext._data`: what people pass becomes the right floats, or an error that names the argument."""

import datetime
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse
import zoo

from lstm_ext._data import as_labels, as_number_array, has_masked

VALUES = np.array([[0.5, -1.0], [2.0, 3.25], [4.0, 5.0]])
GAP = np.array([[0.5, -1.0], [2.0, np.nan], [4.0, 5.0]])
MASK = np.isnan(GAP)


def masked(fill=1e20, dtype=float):
    """The values with one masked, and something wild below the mask."""
    return np.ma.masked_array(np.where(MASK, fill, VALUES).astype(dtype), MASK)


def with_nothing(nothing):
    values = VALUES.astype(object)
    values[MASK] = nothing
    return values


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("kind", zoo.ORDINARY | zoo.UNUSUAL)
def test_arrays_of_every_kind_become_their_values(kind):
    given = (zoo.ORDINARY | zoo.UNUSUAL)[kind](VALUES)
    result = as_number_array("X", given, allow_nan=False)
    assert type(result) is np.ndarray and result.dtype == np.float64 and result.dtype.isnative
    np.testing.assert_array_equal(result, zoo.values_of(given).astype(float))


@pytest.mark.parametrize("kind", [
    "complex", "strings", "bytes", "datetime", "record", "ragged list", "sparse", "dict", "string",
    "generator", "set",
])
@pytest.mark.parametrize("allow_nan", [False, True])
def test_what_is_no_array_of_numbers_is_refused(kind, allow_nan):
    zoo.refuses(lambda: as_number_array("X", zoo.WRONG[kind](VALUES), allow_nan=allow_nan), "X")


def refuse_words():
    return {
        "dates": (np.array(["2020-01-01"], "M8[us]"), "dates"),
        "durations": (np.array([5], "m8[s]"), "durations"),
        "masked dates": (np.ma.masked_array(np.array(["2020"], "M8[Y]"), [True]), "dates"),
        "a list of dates": ([datetime.date(2020, 1, 1)], "date"),
        "a list of NumPy's dates": ([np.datetime64("2020")], "datetime64"),
        "text that reads as a number": (["1.5"], "text"),
        "objects of text": (np.array([1.0, "2"], object), "text"),
        "a dict in a cell": (np.array([1.0, {}], object), "dict"),
        "complex in a cell": (np.array([1.0, 1j], object), "Complex"),
        "an integer that float64 rounds": (np.array([1, 2**53 + 1]), "2\\*\\*53"),
        "an unsigned one": (np.array([2**63 + 1], np.uint64), "2\\*\\*53"),
        "the same in a list with floats": ([0.5, 2**53 + 1], "2\\*\\*53"),
        "a huge integer": ([10**400], "large"),
        "a huge Decimal": ([Decimal("1e400")], "large"),
        "infinity": ([1.0, np.inf], "infinity"),
        "a ragged array of arrays": ([np.zeros(2), np.zeros(3)], "shape"),
    }


@pytest.mark.parametrize("kind", refuse_words())
def test_refusals_say_what_came(kind):
    given, word = refuse_words()[kind]
    zoo.refuses(lambda: as_number_array("X", given, allow_nan=True), "X", word)


def test_numbers_too_large_for_the_dtype_are_refused():
    for given in ([1e39], np.array([1e39]), np.array([np.longdouble("1e4000")])):
        with pytest.raises(ValueError, match=r"X\[0\] is"):
            as_number_array("X", given, allow_nan=True, dtype=np.float32)
    with pytest.raises(ValueError, match="X"):
        as_number_array("X", np.array([np.longdouble("1e4000")]), allow_nan=True)


def test_integers_beyond_2_53_that_float64_holds_are_taken():
    given = [2**63, 2**62, 3 * 2**60, 0, 5]
    for array in (np.array(given, np.uint64), given, np.array([-(2**63), 2**54])):
        np.testing.assert_array_equal(as_number_array("X", array, allow_nan=False), [float(v) for v in array])


def test_exact_numbers_of_other_kinds():
    given = [Decimal("1.5"), Fraction(1, 2), np.float32(3), 4, True, np.array(2.0)]
    np.testing.assert_array_equal(as_number_array("X", given, allow_nan=False), [1.5, 0.5, 3, 4, 1, 2])


def missing():
    return {
        "NaN": GAP,
        "masked": masked(),
        "masked, infinity below": masked(np.inf),
        "masked float32": masked(dtype=np.float32),
        "list of masked rows": list(masked()),
        "list of lists with masked": [[0.5, -1.0], [2.0, np.ma.masked], [4.0, 5.0]],
        "array of objects of masked rows": zoo_objects(list(masked())),
        "masked array of objects": np.ma.masked_array(with_nothing("text"), MASK),
        "None": with_nothing(None),
        "lists with None": with_nothing(None).tolist(),
    }


def zoo_objects(parts):
    array = np.empty(len(parts), object)
    for number, part in enumerate(parts):
        array[number] = part
    return array


@pytest.mark.parametrize("kind", missing())
def test_missing_is_nan_or_refused(kind):
    given = missing()[kind]
    np.testing.assert_array_equal(as_number_array("X", given, allow_nan=True), GAP)
    zoo.refuses(lambda: as_number_array("X", given, allow_nan=False), "X")


def test_masked_integers_and_bool_are_missing_too():
    for dtype in (np.int64, np.uint8, bool):
        given = np.ma.masked_array(np.array([1, 0, 1]).astype(dtype), [False, False, True])
        np.testing.assert_array_equal(as_number_array("X", given, allow_nan=True), [1, 0, np.nan])
        zoo.refuses(lambda given=given: as_number_array("X", given, allow_nan=False), "X", "masked")


def test_masked_arrays_with_nothing_masked_are_arrays():
    for given in (np.ma.masked_array(VALUES), np.ma.masked_array(VALUES, np.zeros_like(MASK)),
                  list(np.ma.masked_array(VALUES))):
        assert not has_masked(given)
        np.testing.assert_array_equal(as_number_array("X", given, allow_nan=False), VALUES)


def test_has_masked_looks_into_lists_and_objects():
    for given in (masked(), list(masked()), (VALUES[0], masked()), zoo_objects(list(masked())),
                  [1.0, np.ma.masked], [[masked()]]):
        assert has_masked(given)
    for given in (VALUES, 3, None, [1, 2], "x", [[1.0], [None]]):
        assert not has_masked(given)


def test_a_list_that_holds_itself_is_refused():
    endless = []
    endless.append(endless)
    zoo.refuses(lambda: as_number_array("X", endless, allow_nan=True), "X")
    assert not has_masked(endless)


def test_a_right_array_is_not_copied_and_nothing_is_written():
    assert as_number_array("X", VALUES, allow_nan=False) is VALUES
    floats = VALUES.astype(np.float32)
    assert as_number_array("X", floats, allow_nan=False, dtype=None) is floats
    given = masked()
    as_number_array("X", given, allow_nan=True)
    assert given.data[MASK] == 1e20
    assert as_number_array("X", VALUES > 0, allow_nan=False, dtype=None).dtype == np.float64


def test_dimensions_are_checked():
    assert as_number_array("X", VALUES, allow_nan=False, ndim=2).shape == (3, 2)
    assert as_number_array("X", VALUES, allow_nan=False, ndim=(1, 2)).shape == (3, 2)
    zoo.refuses(lambda: as_number_array("X", VALUES, allow_nan=False, ndim=3), "X", "dimensions")
    zoo.refuses(lambda: as_number_array("X", 1.0, allow_nan=False, ndim=(1, 2)), "X", "dimensions")


def test_a_sum_that_overflows_is_not_infinity():
    given = np.array([1.7e308, 1.7e308])
    assert as_number_array("X", given, allow_nan=False) is given


# Frames ------------------------------------------------------------------------------------------


def pandas_columns(pd):
    pa = pytest.importorskip("pyarrow")
    return {
        "Int64": pd.array([1, None, 3], dtype="Int64"),
        "UInt8": pd.array([1, None, 3], dtype="UInt8"),
        "Float64": pd.array([1.0, None, 3.0], dtype="Float64"),
        "Float32": pd.array([1.0, None, 3.0], dtype="Float32"),
        "arrow int": pd.array([1, None, 3], dtype=pd.ArrowDtype(pa.int64())),
        "arrow float": pd.array([1.0, None, 3.0], dtype=pd.ArrowDtype(pa.float32())),
        "arrow decimal": pd.array([Decimal(1), None, Decimal(3)], dtype=pd.ArrowDtype(pa.decimal128(5, 2))),
        "objects with NA": np.array([1, pd.NA, 3.0], object),
        "objects with None": np.array([1, None, 3.0], object),
    }


@pytest.mark.parametrize("kind", [
    "Int64", "UInt8", "Float64", "Float32", "arrow int", "arrow float", "arrow decimal", "objects with NA",
    "objects with None",
])
def test_nullable_columns_of_pandas(kind):
    pd = pytest.importorskip("pandas")
    column = pandas_columns(pd)[kind]
    frame = pd.DataFrame({"level": column, "flow": [0.5, 1.5, 2.5]})
    expected = [[1, 0.5], [np.nan, 1.5], [3, 2.5]]
    np.testing.assert_array_equal(as_number_array("X", frame, allow_nan=True), expected)
    np.testing.assert_array_equal(as_number_array("X", frame["level"], allow_nan=True), [1, np.nan, 3])
    np.testing.assert_array_equal(as_number_array("X", column, allow_nan=True), [1, np.nan, 3])
    zoo.refuses(lambda: as_number_array("X", frame, allow_nan=False), "X", "level")


@pytest.mark.parametrize("kind", ["boolean", "bool[pyarrow]"])
def test_nullable_bool(kind):
    pd = pytest.importorskip("pandas")
    if "arrow" in kind:
        pytest.importorskip("pyarrow")
    column = pd.Series([True, None, False], dtype=kind)
    np.testing.assert_array_equal(as_number_array("X", column, allow_nan=True), [1, np.nan, 0])


def pandas_wrong(pd):
    return {
        "dates": pd.to_datetime(["2020", "2021"]),
        "dates with a time zone": pd.to_datetime(["2020", "2021"]).tz_localize("UTC"),
        "durations": pd.to_timedelta([1, 2]),
        "periods": pd.period_range("2020", periods=2, freq="M"),
        "text": ["1", "2"],
        "categories": pd.Categorical([1, 2]),
        "intervals": pd.interval_range(0, 2),
        "sparse": pd.arrays.SparseArray([0.0, 1.0]),
        "complex": [1j, 2j],
        "dates as objects": np.array([datetime.datetime(2020, 1, 1), datetime.datetime(2021, 1, 1)], object),
        "an integer that float64 rounds": pd.array([2**53 + 1, None], dtype="Int64"),
    }


@pytest.mark.parametrize("kind", [
    "dates", "dates with a time zone", "durations", "periods", "text", "categories", "intervals", "sparse",
    "complex", "dates as objects", "an integer that float64 rounds",
])
def test_columns_of_pandas_that_are_no_numbers(kind):
    pd = pytest.importorskip("pandas")
    column = pandas_wrong(pd)[kind]
    frame = pd.DataFrame({"good": [1.0, 2.0], "bad": column})
    zoo.refuses(lambda: as_number_array("X", frame, allow_nan=True), "X", "bad")
    zoo.refuses(lambda: as_number_array("X", column, allow_nan=True), "X")


def test_columns_of_polars():
    pl = pytest.importorskip("polars")
    good = pl.DataFrame({
        "int": [1, None], "float": [1.5, None], "bool": [True, None], "null": [None, None],
        "decimal": [Decimal("1.5"), None],
    })
    expected = [[1, 1.5, 1, np.nan, 1.5], [np.nan] * 5]
    np.testing.assert_array_equal(as_number_array("X", good, allow_nan=True), expected)
    zoo.refuses(lambda: as_number_array("X", good, allow_nan=False), "X")
    for column in good.get_columns():
        zoo.refuses(lambda column=column: as_number_array("X", column, allow_nan=False), "X")
    for bad in (
        [datetime.datetime(2020, 1, 1)], [datetime.date(2020, 1, 1)], [datetime.timedelta(1)], ["1"],
        pl.Series(["x"], dtype=pl.Categorical), [2**53 + 1], [[1.0]],
    ):
        frame = pl.DataFrame({"good": [1.0], "bad": bad})
        zoo.refuses(lambda frame=frame: as_number_array("X", frame, allow_nan=True), "X", "bad")


def test_tables_of_pyarrow():
    pa = pytest.importorskip("pyarrow")
    good = pa.table({"int": [1, None], "float": [1.5, None], "bool": [True, None]})
    np.testing.assert_array_equal(
        as_number_array("X", good, allow_nan=True), [[1, 1.5, 1], [np.nan] * 3]
    )
    np.testing.assert_array_equal(as_number_array("X", good["int"], allow_nan=True), [1, np.nan])
    zoo.refuses(lambda: as_number_array("X", good, allow_nan=False), "X")
    for bad in (["1"], [datetime.datetime(2020, 1, 1)], [2**53 + 1]):
        zoo.refuses(lambda bad=bad: as_number_array("X", pa.table({"bad": bad}), allow_nan=True), "X", "bad")


def test_a_frame_of_float32_stays_float32():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": np.zeros(2, np.float32), "b": pd.array([1, None], dtype="Float32")})
    assert as_number_array("X", frame, allow_nan=True, dtype=None).dtype == np.float32
    frame["c"] = [1, 2]
    assert as_number_array("X", frame, allow_nan=True, dtype=None).dtype == np.float64


# Labels ------------------------------------------------------------------------------------------


def test_labels_are_what_they_hold():
    pd = pytest.importorskip("pandas")
    pl = pytest.importorskip("polars")
    for given, expected in (
        (["a", "b"], ["a", "b"]),
        (np.ma.masked_array([1, 2]), [1, 2]),
        (pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
        (pd.Series([1, 2], dtype="Int64"), [1, 2]),
        (pd.Series(["a", "b"], dtype="string"), ["a", "b"]),
        (pl.Series(["a", "b"]), ["a", "b"]),
        (pl.Series([1, 2]), [1, 2]),
        (pl.Series(["a", "b"], dtype=pl.Categorical), ["a", "b"]),
    ):
        result = as_labels("y", given)
        assert type(result) is np.ndarray
        assert result.tolist() == expected
    assert as_labels("y", pd.Series([1, 2], dtype="Int64")).dtype == np.int64


def test_labels_that_are_missing_are_refused():
    pd = pytest.importorskip("pandas")
    pl = pytest.importorskip("polars")
    for given in (
        np.ma.masked_array([1, 2], [False, True]), [np.ma.masked_array([1, 2], [False, True])],
        ["a", None], [1.0, np.nan], np.array(["a", np.nan], object), np.array(["a", pd.NA], object),
        pd.Series(["a", None]), pd.Series(["a", None], dtype="category"), pd.Series([1, None], dtype="Int64"),
        pl.Series(["a", None]), pl.Series([1, None]), scipy.sparse.csr_array(VALUES),
    ):
        zoo.refuses(lambda given=given: as_labels("y", given), "y")
