"""The layer as a Python object: parameters and their views, initialisation, copies, words."""

import copy
import pickle

import numpy as np
import pytest
from harness import Case, assert_same_run, run_layer
from zoo import misaligned, read_only, refuses

import lstm_ext
from lstm_ext import LSTM

pytestmark = pytest.mark.every_kernel

STACKS = [(1, False), (2, False), (1, True), (3, True)]


# ---- parameters ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", STACKS, ids=str)
def test_names_shapes_and_order(stack):
    """For each layer, for each direction: weight_ih, weight_hh, bias, end to end in one vector."""
    case = Case(num_layers=stack[0], bidirectional=stack[1])
    lstm = case.layer()
    assert list(lstm.named_parameters()) == list(lstm.named_gradients()) == case.names()
    total = sum(int(np.prod(shape)) for shape in case.shapes())
    assert lstm.parameters.shape == lstm.gradient.shape == (total,)
    for flat, named in (
        (lstm.parameters, lstm.named_parameters()),
        (lstm.gradient, lstm.named_gradients()),
    ):
        flat[:] = np.arange(total)
        start = 0
        for view, shape in zip(named.values(), case.shapes(), strict=True):
            assert view.shape == shape
            np.testing.assert_array_equal(view.ravel(), np.arange(start, start + view.size))
            start += view.size
            view[...] = -1
        assert (flat == -1).all()


def test_views_write_through():
    lstm = LSTM(3, 5, rng=0)
    flat = lstm.parameters
    bias = lstm["bias_l0"]
    lstm["bias_l0"] = np.arange(20)
    np.testing.assert_array_equal(bias, np.arange(20))
    np.testing.assert_array_equal(flat[-20:], np.arange(20))
    lstm["bias_l0"] += 1
    np.testing.assert_array_equal(flat[-20:], np.arange(1, 21))
    lstm["bias_l0"][5:10] = 0
    assert not flat[-15:-10].any()
    assert lstm.parameters is flat or np.shares_memory(lstm.parameters, flat)
    value = np.ones((20, 5))
    lstm["weight_hh_l0"] = value
    value[:] = 9
    assert (lstm["weight_hh_l0"] == 1).all()


@pytest.mark.parametrize("name", ["parameters", "gradient"])
def test_the_flat_vectors_cannot_be_swapped_by_accident(name):
    """`lstm.parameters = a` copies in, or is refused: it never unties the views in silence."""
    lstm = LSTM(3, 5, rng=0)
    x = np.random.default_rng(0).standard_normal((2, 4, 3))
    vector = np.linspace(-1, 1, lstm.parameters.size)
    try:
        setattr(lstm, name, vector)
    except AttributeError:
        pass
    else:
        np.testing.assert_array_equal(getattr(lstm, name), vector.astype("float32"))
        refuses(lambda: setattr(lstm, name, vector[:-1]), name)
        refuses(lambda: setattr(lstm, name, vector + 1j), name)
        refuses(lambda: setattr(lstm, name, vector[None]), name)
    vector[:] = np.nan
    views = lstm.named_parameters() if name == "parameters" else lstm.named_gradients()
    flat = np.concatenate([v.ravel() for v in views.values()])
    np.testing.assert_array_equal(flat, getattr(lstm, name))
    assert np.isfinite(lstm(x)[0]).all()


def test_attributes():
    lstm = LSTM(3, 5, 2, bidirectional=True, batch_first=False, dtype="float64", rng=0)
    assert (lstm.input_size, lstm.hidden_size, lstm.num_layers) == (3, 5, 2)
    assert lstm.bidirectional is True
    assert lstm.batch_first is False
    assert lstm.dtype == "float64"
    assert lstm.cell_activation == "tanh"


# ---- bind ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bind(dtype):
    """The storage moves into slices of bigger vectors; values come along, results stay."""
    case = Case(num_layers=2, bidirectional=True, dtype=dtype)
    parameters, arrays = case.draw()
    lstm = case.layer(parameters)
    expected = run_layer(lstm, arrays)
    size = lstm.parameters.size
    big, big_gradient = (np.full(size + 10, 7, dtype) for _ in range(2))
    old, gradient = lstm.parameters.copy(), lstm.gradient.copy()
    lstm.bind(big[3:-7], big_gradient[3:-7])
    np.testing.assert_array_equal(big[3:-7], old)
    np.testing.assert_array_equal(big_gradient[3:-7], gradient)
    assert np.shares_memory(lstm.parameters, big)
    assert np.shares_memory(lstm.gradient, big_gradient)
    assert_same_run(run_layer(lstm, arrays), expected, 0)
    for outside in (big, big_gradient):
        assert (outside[:3] == 7).all()
        assert (outside[-7:] == 7).all()

    big[3:-7] *= -1
    np.testing.assert_array_equal(lstm.parameters, -old)
    np.testing.assert_array_equal(lstm["bias_l0"], -parameters["bias_l0"])
    flipped = case.layer({k: -v for k, v in parameters.items()})
    assert_same_run(run_layer(lstm, arrays), run_layer(flipped, arrays), 0)


BAD_STORAGE = {
    "shorter": lambda a: a[:-1],
    "longer": lambda a: np.append(a, 0).astype(a.dtype),
    "two axes": lambda a: a[None],
    "other dtype": lambda a: a.astype("float64"),
    "int": lambda a: a.astype("int32"),
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "read-only": read_only,
    "strided": lambda a: np.zeros(2 * a.size, a.dtype)[::2],
    "reversed": lambda a: a[::-1],
    "0-stride": lambda a: np.lib.stride_tricks.as_strided(a, a.shape, (0,)),
    "misaligned": misaligned,
    "list": lambda a: a.tolist(),
    "None": lambda a: None,
    "number": lambda a: 0.0,
}


@pytest.mark.parametrize("kind", BAD_STORAGE)
@pytest.mark.parametrize("which", ["parameters", "gradient"])
def test_wrong_storage(which, kind):
    lstm = LSTM(3, 5, rng=0)
    parameters, gradient = lstm.parameters, lstm.gradient
    before = parameters.copy()
    storage = {"parameters": np.zeros_like(parameters), "gradient": np.zeros_like(gradient)}
    untouched = storage["parameters" if which == "gradient" else "gradient"]
    untouched[:] = 7
    storage[which] = BAD_STORAGE[kind](storage[which])
    refuses(lambda: lstm.bind(storage["parameters"], storage["gradient"]), which)
    assert lstm.parameters is parameters or np.shares_memory(lstm.parameters, parameters)
    assert lstm.gradient is gradient or np.shares_memory(lstm.gradient, gradient)
    np.testing.assert_array_equal(lstm.parameters, before)
    assert (untouched == 7).all()


def test_overlapping_storage_is_refused():
    lstm = LSTM(3, 5, rng=0)
    size = lstm.parameters.size
    both = np.zeros(2 * size, "float32")
    refuses(lambda: lstm.bind(both[:size], both[:size]), "gradient")
    refuses(lambda: lstm.bind(both[:size], both[size - 1 : -1]), "gradient")
    lstm.bind(both[:size], both[size:])


def test_bind_to_its_own_storage():
    lstm = LSTM(3, 5, rng=0)
    before = lstm.parameters.copy()
    lstm.bind(lstm.parameters, lstm.gradient)
    np.testing.assert_array_equal(lstm.parameters, before)
    shifted = np.zeros(before.size + 1, "float32")
    lstm.bind(shifted[:-1], np.zeros_like(before))
    lstm.bind(shifted[1:], np.zeros_like(before))  # overlaps the storage that it moves out of
    np.testing.assert_array_equal(lstm.parameters, before)


# ---- initialisation -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stack", STACKS, ids=str)
def test_initialisation(stack, dtype):
    H = 40
    case = Case(
        input_size=30, hidden_size=H, num_layers=stack[0], bidirectional=stack[1], dtype=dtype
    )
    lstm = case.layer()
    assert not lstm.gradient.any()
    for name, value in lstm.named_parameters().items():
        gates = value.reshape(4, H, -1).astype("float64")
        if name.startswith("bias"):
            np.testing.assert_array_equal(gates[..., 0], np.outer([0, 1, 0, 0], np.ones(H)))
        elif name.startswith("weight_hh"):
            # Orthogonal, gate by gate, and each drawn anew.
            for q in gates:
                np.testing.assert_allclose(q @ q.T, np.eye(H), atol=20 * np.finfo(dtype).eps)
            assert np.abs(gates[0] - gates[1]).max() > 0.1
        else:
            # Glorot & Bengio (2010): uniform on +-sqrt(6 / (fan_in + fan_out)).
            bound = np.sqrt(6 / (value.shape[1] + H))
            assert np.abs(gates).max() <= bound
            for q in gates:
                assert 0.95 * bound < np.abs(q).max()
                assert abs(q.mean()) < 5 * bound / np.sqrt(3 * q.size)
                np.testing.assert_allclose(q.std(), bound / np.sqrt(3), rtol=0.1)


def test_hidden_size_one_is_orthogonal_too():
    np.testing.assert_allclose(np.abs(LSTM(3, 1, rng=0)["weight_hh_l0"]), 1, rtol=1e-6)


def test_orthogonal_blocks_have_no_preferred_sign():
    """Haar-distributed: diagonals of both signs (a bare QR factor has one)."""
    diagonal = np.concatenate(
        [
            np.diagonal(LSTM(2, 10, rng=k)["weight_hh_l0"].reshape(4, 10, 10), axis1=1, axis2=2)
            for k in range(5)
        ]
    )
    assert 0.3 < (diagonal > 0).mean() < 0.7


def test_rng():
    def draw(rng):
        return LSTM(3, 5, 2, rng=rng).parameters

    np.testing.assert_array_equal(draw(0), draw(0))
    np.testing.assert_array_equal(draw(7), draw(np.random.default_rng(7)))
    assert (draw(0) != draw(1)).any()
    assert (draw(None) != draw(None)).any()
    generator = np.random.default_rng(0)
    first, second = draw(generator), draw(generator)
    np.testing.assert_array_equal(first, draw(0))
    assert (first != second).any()


def test_both_dtypes_draw_the_same_model():
    single, double = LSTM(3, 5, rng=0), LSTM(3, 5, rng=0, dtype="float64")
    np.testing.assert_allclose(single.parameters, double.parameters, rtol=1e-6, atol=1e-7)


def test_global_numpy_state_is_left_alone():
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()  # noqa: NPY002
    lstm = LSTM(3, 5, rng=None)
    lstm(np.zeros((2, 4, 3)))
    LSTM(3, 5, rng=3)
    after = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]


# ---- copies and words ---------------------------------------------------------------------------


def clones(lstm):
    yield copy.copy(lstm)
    yield copy.deepcopy(lstm)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.loads(pickle.dumps(lstm, protocol))


def test_copies_compute_the_same():
    case = Case(num_layers=2, bidirectional=True, cell_activation="identity", lengths=(6, 2, 0, 5))
    parameters, arrays = case.draw()
    lstm = case.layer(parameters, checkpoint=3)
    expected = run_layer(lstm, arrays, case.lengths)
    for clone in clones(lstm):
        assert repr(clone) == repr(lstm)
        assert clone.gradient.shape == lstm.gradient.shape
        assert not np.shares_memory(clone.gradient, lstm.gradient)
        assert list(clone.named_parameters()) == case.names()
        assert_same_run(run_layer(clone, arrays, case.lengths), expected, 0)


def test_deep_copies_are_independent():
    lstm = LSTM(3, 5, rng=0)
    x = np.ones((2, 4, 3), "float32")
    y, _ = lstm(x)
    for clone in [copy.deepcopy(lstm), pickle.loads(pickle.dumps(lstm))]:
        clone.parameters[:] = 0
        assert not clone(x)[0].any()
        assert not clone["bias_l0"].any()
        clone["bias_l0"] = np.ones(20)
        assert clone(x)[0].all()
        np.testing.assert_array_equal(lstm(x)[0], y)


def test_a_copy_after_bind_owns_its_storage():
    lstm = LSTM(3, 5, rng=0)
    big = np.zeros(lstm.parameters.size + 10**6, "float32")
    lstm.bind(big[: lstm.parameters.size], np.zeros_like(lstm.parameters))
    pickled = pickle.dumps(lstm)
    assert len(pickled) < 10**5
    for clone in (copy.deepcopy(lstm), pickle.loads(pickled)):
        np.testing.assert_array_equal(clone.parameters, lstm.parameters)
        assert not np.shares_memory(clone.parameters, big)


def test_a_copy_refuses_the_tape_of_its_original():
    lstm = LSTM(3, 5, rng=0)
    tape = lstm.tape()
    y, _ = lstm.forward(np.zeros((2, 4, 3)), tape=tape)
    clone = copy.deepcopy(lstm)
    refuses(lambda: clone.backward(tape, y), "tape")


def test_repr():
    lstm = LSTM(3, 5, 2, bidirectional=True, dtype="float64", rng=0)
    text = repr(lstm)
    for word in ("LSTM(", "3", "5", "num_layers=2", "bidirectional", "float64"):
        assert word in text
    assert "\n" not in text
    for options in (
        {},
        {"num_layers": 3, "bidirectional": True},
        {"dtype": "float64", "batch_first": False},
        {"cell_activation": "identity", "checkpoint": 7},
    ):
        text = repr(LSTM(3, 5, **options))
        same = eval(text, {"LSTM": LSTM})
        assert repr(same) == text
        for name, value in options.items():
            assert getattr(same, name) == value
    for other in (lstm.tape(), LSTM(3, 5).stream(2)):
        assert type(other).__name__ in repr(other)


def test_version():
    assert lstm_ext.__version__
    import importlib.metadata

    try:
        installed = importlib.metadata.version("lstm-ext")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("lstm-ext is used from its source folder: no metadata to compare with")
    assert lstm_ext.__version__ == installed
