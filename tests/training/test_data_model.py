"""`Model` takes no mask, no date and no sparse matrix for numbers, wherever an array comes in."""

import numpy as np
import pytest
import scipy.sparse
import zoo

from lstm_ext import LSTM, Model
from lstm_ext.attribution import gradient_times_input, integrated_gradients
from lstm_ext.training._stored import Stored

RNG = np.random.default_rng(0)
N, T, F = 6, 5, 3
X = RNG.normal(size=(N, T, F))
MISSING = X.copy()
MISSING[1, 2, 0] = MISSING[4, 0, 2] = np.nan
HOLES = np.isnan(MISSING)
STATIC = RNG.normal(size=(N, 2))


def model(every_step=False, **words):
    return Model(LSTM(F, 4, rng=0, **words), 1, every_step=every_step, rng=0)


def masked(array, holes=None, fill=1e20):
    """An array with some elements masked, by default its first, and a fill value below the mask."""
    array = np.asarray(array)
    if holes is None:
        holes = np.zeros(array.shape, bool)
        holes[(0,) * array.ndim] = True
    filled = array.copy()
    filled[holes] = fill if array.dtype.kind == "f" else 1
    return np.ma.masked_array(filled, holes)


def of_objects(parts):
    array = np.empty(len(parts), object)
    array[:] = parts
    return array


class Variable:
    """As netCDF4 has it: packed integers on the disk, masked floats to whoever reads."""

    def __init__(self, array, dtype="f8"):
        self.array, self.shape, self.dtype = array, array.shape, np.dtype(dtype)

    def __len__(self):
        return len(self.array)

    def __getitem__(self, key):
        return self.array[key]

    def __array__(self, dtype=None, copy=None):
        return self.array


def ways(array, holes=None):
    """The ways in which an array with masked elements may come."""
    whole = masked(array, holes)
    parts = list(whole)
    return {"whole": whole, "list": parts, "objects": of_objects(parts), "variable": Variable(whole)}


ARGUMENTS = {
    "x": X, "y": X[:, 0, :1], "lengths": np.full(N, 3), "mask": np.ones((N, T), bool), "static": STATIC,
    "sample_weight": np.ones(N),
}


def calls(static_size=2):
    m = model(static_size=static_size)
    v = m.parameters.copy()
    return {
        "predict": lambda y, sample_weight=None, **given: m.predict(**given),
        "evaluate": m.evaluate,
        "loss_and_gradient": m.loss_and_gradient,
        "hvp": lambda **given: m.hvp(direction=v, **given),
        "value_and_gradient": lambda **given: m.value_and_gradient(v, **given),
        "fit": lambda **given: m.fit(epochs=1, batch_size=2, rng=0, **given),
        "validation": lambda **given: m.fit(X, ARGUMENTS["y"], static=STATIC, epochs=1, validation=given),
    }


@pytest.mark.parametrize("name", ["x", "y", "lengths", "mask", "static", "sample_weight"])
@pytest.mark.parametrize("call", calls())
def test_masked_elements_are_refused(call, name):
    if call == "predict" and name in ("y", "sample_weight"):
        return  # it has no such argument
    for way, bad in ways(ARGUMENTS[name]).items():
        given = {"x": X, "y": ARGUMENTS["y"], "static": STATIC, name: bad}
        message = zoo.refuses(lambda given=given: calls()[call](**given), name)
        assert "masked" in message, (way, message)


def test_masked_x_is_missing_where_the_layer_has_a_policy():
    for policy in ("zero", "hold"):
        m = model(nan=policy)
        expected = m.predict(MISSING)
        for way, given in ways(X, HOLES).items():
            np.testing.assert_array_equal(m.predict(given), expected, err_msg=way)
            assert m.evaluate(given, ARGUMENTS["y"]) == m.evaluate(MISSING, ARGUMENTS["y"])
        for way, given in ways(X, HOLES).items():
            a, b = model(nan=policy), model(nan=policy)
            words = {"epochs": 2, "batch_size": 2, "rng": 0}
            a.fit(given, ARGUMENTS["y"], **words)
            b.fit(MISSING, ARGUMENTS["y"], **words)
            np.testing.assert_array_equal(a.parameters, b.parameters, err_msg=way)
        np.testing.assert_array_equal(
            gradient_times_input(m, masked(X, HOLES)), gradient_times_input(m, MISSING)
        )


def test_nothing_masked_is_an_array():
    m = model()
    np.testing.assert_array_equal(m.predict(np.ma.masked_array(X)), m.predict(X))
    np.testing.assert_array_equal(m.predict(list(np.ma.masked_array(X))), m.predict(X))
    assert m.evaluate(X, np.ma.masked_array(ARGUMENTS["y"])) == m.evaluate(X, ARGUMENTS["y"])


def test_a_variable_on_the_disk_that_is_packed_is_read_as_it_says():
    packed = Variable(np.ma.masked_array(X), "i2")  # integers there, X to whoever reads
    np.testing.assert_array_equal(Stored(packed).astype("f8")[np.arange(3)], X[:3])
    a, b = model(), model()
    a.fit(packed, ARGUMENTS["y"], epochs=2, batch_size=2, rng=0)
    b.fit(X, ARGUMENTS["y"], epochs=2, batch_size=2, rng=0)
    np.testing.assert_array_equal(a.parameters, b.parameters)


def test_a_masked_variable_on_the_disk_is_refused_when_it_is_read():
    m = model()
    before = m.parameters.copy()
    zoo.refuses(lambda: m.fit(Variable(masked(X)), ARGUMENTS["y"], epochs=1, batch_size=N), "x", "masked")
    np.testing.assert_array_equal(m.parameters, before)


@pytest.mark.parametrize("name", ["x", "y", "lengths", "mask", "static", "sample_weight"])
@pytest.mark.parametrize("kind", ["dates", "durations", "sparse", "text", "complex", "None"])
def test_what_is_no_number_is_refused(name, kind):
    right = ARGUMENTS[name]
    bad = {
        "dates": right.astype("i8").astype("M8[us]"), "durations": right.astype("i8").astype("m8[s]"),
        "sparse": scipy.sparse.csr_array(right.reshape(N, -1)), "text": right.astype(str),
        "complex": right + 1j, "None": zoo.object_with_none(right),
    }[kind]
    for call in ("evaluate", "loss_and_gradient", "fit"):
        given = {"x": X, "y": ARGUMENTS["y"], "static": STATIC, name: bad}
        zoo.refuses(lambda given=given, call=call: calls()[call](**given), name)


def test_masked_parameters_and_directions_are_refused():
    m = model()
    zoo.refuses(lambda: setattr(m, "parameters", masked(m.parameters)), "parameters", "masked")
    zoo.refuses(lambda: setattr(m, "bias", masked(m.bias)), "bias", "masked")
    zoo.refuses(lambda: m.hvp(X, ARGUMENTS["y"], masked(m.parameters)), "direction", "masked")
    zoo.refuses(lambda: m.value_and_gradient(masked(m.parameters), X, ARGUMENTS["y"]), "parameters", "masked")
    for call in (gradient_times_input, integrated_gradients):
        zoo.refuses(lambda call=call: call(m, masked(X)), "x", "masked")


def test_numbers_that_overflow_the_dtype_are_refused_where_they_count():
    m, x = model(), X.copy()
    x[2, 4, 1] = -1e300
    zoo.refuses(lambda: m.predict(x), r"x\[2, 4, 1\]", "float32")
    zoo.refuses(lambda: m.fit(x, ARGUMENTS["y"], epochs=1), "x", "float32")
    zoo.refuses(lambda: m.predict(np.full((1, 2, F), np.longdouble("1e4000"))), "x", "float32")
    lengths = np.full(N, 4)
    np.testing.assert_array_equal(m.predict(x, lengths), m.predict(X, lengths))
    infinite = X.copy()
    infinite[2, 4, 1] = -np.inf  # a number like any other: its own sequence is spoiled
    others = np.arange(N) != 2
    np.testing.assert_array_equal(m.predict(infinite)[others], m.predict(X)[others])


def tables(kind):
    """Frames of three libraries in lists: one column is no number, or has a gap."""
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    columns = {
        "dates": list(pandas.date_range("2020", periods=T)), "text": list("12345"),
        "gap": [1, None, 2, 3, 4], "bool": [True, False, True, True, False],
    }[kind]
    frame = pandas.DataFrame({"a": columns, "b": 0.5, "c": 1.0})
    if kind == "gap":
        frame["a"] = frame["a"].astype("Int64")
    table = polars.DataFrame({"a": columns, "b": [0.5] * T, "c": [1.0] * T})
    return [[frame] * 2, [table] * 2, [table.to_arrow()] * 2, of_objects([table, table])]


@pytest.mark.parametrize("kind", ["dates", "text"])
def test_frames_in_lists_whose_columns_are_no_numbers_are_refused(kind):
    m = model()
    for given in tables(kind):
        zoo.refuses(lambda x=given: m.predict(x), "x", "'a'")
        zoo.refuses(lambda x=given: m.lstm(x), "x", "'a'")
        zoo.refuses(lambda x=given: m.lstm.stream(T).step(x[0]), "x_t", "'a'")


@pytest.mark.parametrize("kind", ["gap", "bool"])
def test_frames_in_lists_are_read_by_their_columns(kind):
    first = [1, np.nan, 2, 3, 4] if kind == "gap" else [1, 0, 1, 1, 0]
    expected = np.stack([np.column_stack([first, np.full(T, 0.5), np.ones(T)])] * 2)
    m = model(nan="hold")
    for given in tables(kind):
        np.testing.assert_array_equal(m.predict(given), m.predict(expected))
        np.testing.assert_array_equal(m.lstm(given)[0], m.lstm(expected)[0])
