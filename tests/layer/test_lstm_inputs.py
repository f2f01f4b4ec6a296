"""Arrays of every kind, wrong shapes, wrong words and impossible sizes.

An argument is either taken for what it is (the result then has the very bits of a plain array's) or
refused with a ValueError or TypeError whose sentence names it. Nothing given is written to, and a
refusal leaves no trace in `gradient`.
"""

import re
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
import scipy.sparse
from harness import Case, assert_same_run, run_layer
from zoo import (
    ORDINARY,
    UNUSUAL,
    WRONG,
    HasArray,
    Subclass,
    misaligned,
    read_only,
    refuses,
    snapshot,
    strided,
    values_of,
)

from lstm_ext import LSTM

pytestmark = pytest.mark.every_kernel

CASE = Case(num_layers=2, bidirectional=True, hidden_size=5, input_size=3, batch=4, time=6)
ARGUMENTS = ("x", "h_0", "c_0", "dy", "dh_n", "dc_n")


def run_or_refusal(lstm, arrays, name):
    """Run; or None after a refusal that names `name`. Checks that nothing was touched."""
    given = snapshot(arrays[name])
    sentinel = (np.arange(lstm.gradient.size) % 7).astype(lstm.dtype)
    lstm.gradient[:] = sentinel
    tape = lstm.tape()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            a = arrays
            y, (h_n, c_n) = lstm.forward(a["x"], (a["h_0"], a["c_0"]), tape=tape)
            dx, (dh_0, dc_0) = lstm.backward(tape, a["dy"], (a["dh_n"], a["dc_n"]))
            run = {"y": y, "h_n": h_n, "c_n": c_n, "dx": dx, "dh_0": dh_0, "dc_0": dc_0}
            run["gradient"] = lstm.gradient - sentinel
        except (ValueError, TypeError) as error:
            assert re.search(rf"(?<!\w){name}(?!\w)", str(error)), error
            np.testing.assert_array_equal(lstm.gradient, sentinel)
            run = None
    if given is not None:
        np.testing.assert_array_equal(arrays[name], given)
    return run


@pytest.fixture(params=["float32", "float64"])
def problem(request):
    case = Case(**{**CASE.__dict__, "dtype": request.param})
    parameters, arrays = case.draw()
    return case.layer(parameters), arrays


@pytest.mark.parametrize("kind", [*ORDINARY, *UNUSUAL])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_zoo(problem, name, kind):
    lstm, arrays = problem
    given = (ORDINARY | UNUSUAL)[kind](arrays[name])
    plain = values_of(given).astype(lstm.dtype)
    run = run_or_refusal(lstm, arrays | {name: given}, name)
    if kind in ORDINARY:
        assert run is not None
    if run is not None:
        expected = run_or_refusal(lstm, arrays | {name: plain}, name)
        for key, value in expected.items():
            np.testing.assert_array_equal(run[key], value, err_msg=key)
            assert type(run[key]) is np.ndarray
            assert run[key].dtype == lstm.dtype


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_wrong(problem, name, kind):
    lstm, arrays = problem
    assert run_or_refusal(lstm, arrays | {name: WRONG[kind](arrays[name])}, name) is None


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("change", ["more", "less"])
@pytest.mark.parametrize("name", ["h_0", "c_0", "dy", "dh_n", "dc_n"])
def test_wrong_extent(problem, name, change, axis):
    lstm, arrays = problem
    a = arrays[name]
    wrong = np.repeat(a, 2, axis) if change == "more" else a.take(range(a.shape[axis] - 1), axis)
    assert run_or_refusal(lstm, arrays | {name: wrong}, name) is None


def test_float64_values_beyond_float32_are_not_silent_garbage():
    """1e300 in a float32 layer is inf, with its consequences, or a refusal."""
    lstm = LSTM(3, 5, rng=0)
    x = np.zeros((1, 2, 3))
    x[0, 0, 0] = 1e300
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            y, _ = lstm(x)
        except ValueError as error:
            assert re.search(r"\bx\b", str(error))
        else:
            expected, _ = lstm(np.where(x > 0, np.inf, 0).astype("float32"))
            np.testing.assert_array_equal(y, expected)


def test_sentences_say_what_was_expected_and_what_came():
    lstm = LSTM(8, 16, 2, rng=0)
    x = np.zeros((4, 6, 8), "float32")
    state = np.zeros((2, 4, 16), "float32")
    refuses(lambda: lstm(np.zeros((4, 6, 7))), "x", 7, 8)
    refuses(lambda: lstm(np.zeros((4, 7))), "x", 7, 8)
    refuses(lambda: lstm(np.zeros(8)), "x")
    refuses(lambda: lstm(np.zeros((1, 4, 6, 8))), "x")
    refuses(lambda: lstm(x, (state[:1], state)), "h_0")
    refuses(lambda: lstm(x, (state, state[:, :3])), "c_0")
    refuses(lambda: lstm(x, state), "state")
    refuses(lambda: lstm(x, (state,)), "state")
    refuses(lambda: lstm(x, (state, state, state)), "state")
    refuses(lambda: lstm(x, 3), "state")
    refuses(lambda: lstm(x, "ab"), "(state|h_0)")
    refuses(lambda: lstm(x, {"h": state, "c": state}), "state")
    refuses(lambda: lstm(x, {1, 2}), "state")
    tape = lstm.tape()
    lstm.forward(x, tape=tape)
    dy = np.zeros((4, 6, 16), "float32")
    refuses(lambda: lstm.backward(tape, dy[:, :5]), "dy", 5, 6)
    refuses(lambda: lstm.backward(tape, dy[:3]), "dy", 3, 4)
    refuses(lambda: lstm.backward(tape, dy[..., :8]), "dy", 8, 16)
    refuses(lambda: lstm.backward(tape, dy[0]), "dy")
    refuses(lambda: lstm.backward(tape, dy, (state[:, :, :5], state)), "dh_n", 5, 16)
    refuses(lambda: lstm.backward(tape, dy, (state, state[:1])), "dc_n", 1, 2)
    refuses(lambda: lstm.backward(tape, dy, state), "dstate")
    refuses(lambda: lstm.backward(tape, dy, 1.0), "dstate")


def test_time_first_sentences():
    """With batch_first=False the axes that a sentence speaks of are the user's own."""
    lstm = LSTM(3, 5, batch_first=False, rng=0)
    tape = lstm.tape()
    y, _ = lstm.forward(np.zeros((6, 4, 3)), tape=tape)
    assert y.shape == (6, 4, 5)
    refuses(lambda: lstm.backward(tape, np.zeros((4, 6, 5))), "dy")
    refuses(lambda: lstm(np.zeros((6, 4, 3)), lengths=[1] * 6), "lengths", 6, 4)


# ---- lengths ------------------------------------------------------------------------------------

LENGTHS = np.array([3, 6, 0, 1])


@pytest.mark.parametrize(
    "given",
    [
        LENGTHS.tolist(),
        tuple(LENGTHS.tolist()),
        LENGTHS.astype("int32"),
        LENGTHS.astype("int8"),
        LENGTHS.astype("uint8"),
        LENGTHS.astype("uint64"),
        LENGTHS.astype(">i8"),
        LENGTHS.astype(">i4"),
        LENGTHS[::-1].copy()[::-1],
        strided(LENGTHS),
        read_only(LENGTHS),
        misaligned(LENGTHS),
        LENGTHS.view(Subclass),
        list(LENGTHS),
        np.ma.masked_array(LENGTHS),
        LENGTHS.astype(object),
        memoryview(LENGTHS),
        HasArray(LENGTHS),
    ],
    ids=lambda g: f"{type(g).__name__}-{getattr(g, 'dtype', '')}",
)
def test_lengths_zoo(problem, given):
    lstm, arrays = problem
    before = snapshot(given)
    try:
        run = run_layer(lstm, arrays, given)
    except (ValueError, TypeError) as error:
        assert "lengths" in str(error)
        # A list or an ordinary integer array is every user's way to say lengths.
        assert not isinstance(given, (list, tuple)), error
        assert type(given) is not np.ndarray or given.dtype.byteorder == ">" or given.dtype == "O"
    else:
        assert_same_run(run, run_layer(lstm, arrays, LENGTHS), 0)
    if before is not None:
        np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize(
    "given",
    [
        [3, 6, 0, -1],
        [3, 6, 0, 7],
        [3, 6, 0, -(2**63)],
        [3, 6, 0, 2**63 - 1],
        [3, 6, 0, 2**63],
        [3, 6, 0, 2**64],
        [3, 6, 0, 2**32],
        np.array([3, 6, 0, 2**64 - 1], "uint64"),
        [3.0, 6.0, 0.0, 1.0],
        [3.5, 6, 0, 1],
        [3, 6, 0, np.nan],
        [3, 6, 0, np.inf],
        [3, 6, 0],
        [3, 6, 0, 1, 1],
        [],
        [[3, 6, 0, 1]],
        [[3], [6], [0], [1]],
        [3, 6, 0, [1]],
        3,
        6.0,
        "3601",
        ["3", "6", "0", "1"],
        [3, 6, 0, None],
        [3 + 0j, 6, 0, 1],
        {3, 6, 0, 1},
        {"lengths": [3, 6, 0, 1]},
        np.ma.masked_array([3, 6, 0, 1], [False, False, False, True]),
        np.array([3, 6, 0, 1], "timedelta64[s]"),
        scipy.sparse.csr_array([[3, 6, 0, 1]]),
    ],
    ids=repr,
)
def test_wrong_lengths(problem, given):
    lstm, arrays = problem
    tape = lstm.tape()
    expected = run_layer(lstm, arrays, tape=tape)
    refuses(lambda: lstm(arrays["x"], lengths=given), "lengths")
    gradient = lstm.gradient.copy()
    refuses(lambda: lstm.forward(arrays["x"], lengths=given, tape=tape), "lengths")
    # The tape is what it was, or it says that it holds nothing; it never holds half of a run.
    try:
        dx, _ = lstm.backward(tape, arrays["dy"], (arrays["dh_n"], arrays["dc_n"]))
    except ValueError as error:
        assert "tape" in str(error)
        np.testing.assert_array_equal(lstm.gradient, gradient)
    else:
        np.testing.assert_array_equal(dx, expected["dx"])


def test_lengths_sentence():
    lstm = LSTM(3, 5, rng=0)
    x = np.zeros((4, 6, 3))
    refuses(lambda: lstm(x, lengths=[1, 2, 3]), "lengths", 3, 4)
    refuses(lambda: lstm(x, lengths=[1, 2, 3, 17]), "lengths", 17, 6)
    refuses(lambda: lstm(x, lengths=[1, 2, 3, -5]), "lengths", -5)
    refuses(lambda: lstm(x[0], lengths=[1, 2]), "lengths")


# ---- nothing to do ------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(
    ("batch", "time", "lengths"),
    [(0, 6, None), (4, 0, None), (0, 0, None), (0, 6, ()), (4, 0, (0,) * 4), (4, 6, (0,) * 4)],
)
def test_empty(problem, batch, time, lengths, batch_first):
    """N = 0, T = 0, all lengths 0: empty outputs, states carried through, no gradient."""
    case = Case(**{**CASE.__dict__, "batch": batch, "time": time, "dtype": str(problem[0].dtype)})
    parameters, arrays = case.draw()
    if not batch_first:
        arrays["x"], arrays["dy"] = arrays["x"].swapaxes(0, 1), arrays["dy"].swapaxes(0, 1)
    lstm = case.layer(parameters, batch_first=batch_first)
    run = run_layer(lstm, arrays, lengths)
    assert run["y"].shape == arrays["dy"].shape
    assert run["dx"].shape == arrays["x"].shape
    for name in ("y", "dx", *parameters):
        assert not run[name].any()
    for name in ("h", "c"):
        np.testing.assert_array_equal(run[f"{name}_n"], arrays[f"{name}_0"])
        np.testing.assert_array_equal(run[f"d{name}_0"], arrays[f"d{name}_n"])
        assert not np.shares_memory(run[f"{name}_n"], arrays[f"{name}_0"])
        assert not np.shares_memory(run[f"d{name}_0"], arrays[f"d{name}_n"])


def test_inputs_may_share_memory(problem):
    """One array for several arguments, and outputs fed back as upstream gradients."""
    lstm, arrays = problem
    h_0 = arrays["h_0"]
    tape = lstm.tape()
    y, (h_n, c_n) = lstm.forward(arrays["x"], (h_0, h_0), tape=tape)
    y_2, (h_n_2, c_n_2) = lstm(arrays["x"], (h_0, h_0.copy()))
    for one, other in ((y, y_2), (h_n, h_n_2), (c_n, c_n_2)):
        np.testing.assert_array_equal(one, other)
    dx, dstate = lstm.backward(tape, y, (h_n, h_n))
    dx_2, dstate_2 = lstm.backward(tape, y.copy(), (h_n.copy(), h_n.copy()))
    np.testing.assert_array_equal(dx, dx_2)
    np.testing.assert_array_equal(dstate, dstate_2)
    np.testing.assert_array_equal(y, y_2)
    outputs = [y, h_n, c_n, dx, *dstate]
    for k, one in enumerate(outputs):
        assert one.flags.writeable
        assert one.flags.c_contiguous
        for other in (*outputs[:k], *arrays.values(), lstm.parameters, lstm.gradient):
            assert not np.shares_memory(one, other)


def test_strides_beyond_32_bits():
    """Rows further apart than a BLAS integer counts, in memory that is only reserved."""
    lstm = LSTM(3, 5, rng=0)
    for apart in (2**31 - 1, 2**31, 2**32, 2**32 + 4):
        try:
            reserved = np.zeros(apart + 3, "float32")
        except MemoryError:
            pytest.skip("this machine cannot reserve 16 GB of address space")
        x = np.lib.stride_tricks.as_strided(reserved, (2, 3), (4 * apart, 4))
        x[0], x[1] = (1, 2, 3), (-1, 2, 0.5)
        stream, twin = lstm.stream(2), lstm.stream(2)
        try:
            y, step = lstm(x)[0], stream.step(x)
        except ValueError as error:
            assert re.search(r"\bx", str(error))
        else:
            np.testing.assert_array_equal(y, lstm(x.copy())[0])
            np.testing.assert_array_equal(step, twin.step(x.copy()))


# ---- tapes --------------------------------------------------------------------------------------


def test_tape_errors(problem):
    lstm, arrays = problem
    lstm.gradient[:] = 7
    dy = arrays["dy"]
    twin = CASE.layer()
    refuses(lambda: lstm.backward(lstm.tape(), dy), "tape")
    refuses(lambda: lstm.backward(twin.tape(), dy), "tape")
    refuses(lambda: lstm.backward(None, dy), "tape")
    refuses(lambda: lstm.backward(dy, dy), "tape")
    refuses(lambda: lstm.forward(arrays["x"], tape=twin.tape()), "tape")
    refuses(lambda: lstm.forward(arrays["x"], tape=True), "tape")
    tape = twin.tape()
    twin.forward(arrays["x"], tape=tape)
    refuses(lambda: lstm.backward(tape, dy), "tape")
    assert (lstm.gradient == 7).all()


# ---- the constructor and the parameters ---------------------------------------------------------


@pytest.mark.parametrize("name", ["input_size", "hidden_size", "num_layers"])
@pytest.mark.parametrize("value", [0, -1, 2.5, 3.0, "3", None, [3], np.nan, 3j])
def test_wrong_sizes(name, value):
    sizes = {"input_size": 3, "hidden_size": 5, "num_layers": 1}
    refuses(lambda: LSTM(**sizes | {name: value}), name)


def test_numpy_integers_are_sizes():
    lstm = LSTM(np.int64(3), np.int32(5), np.uint8(2), rng=np.int64(3))
    assert lstm(np.zeros((2, 4, 3)))[0].shape == (2, 4, 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dtype", "float16"),
        ("dtype", "int32"),
        ("dtype", "complex64"),
        ("dtype", "banana"),
        ("dtype", None),
        ("dtype", 3),
        ("cell_activation", "relu7"),
        ("cell_activation", "Tanh"),
        ("cell_activation", np.tanh),
        ("checkpoint", 0),
        ("checkpoint", -3),
        ("checkpoint", 2.5),
        ("checkpoint", "10"),
        ("rng", -1),
        ("rng", "seed"),
        ("rng", 2.5),
    ],
)
def test_wrong_options(name, value):
    refuses(lambda: LSTM(3, 5, **{name: value}), name)


@pytest.mark.parametrize("value", ["float32", "float64", np.float32, np.dtype("float64"), float])
def test_dtype_spellings(value):
    lstm = LSTM(3, 5, dtype=value)
    assert lstm.parameters.dtype == lstm.gradient.dtype == np.dtype(value)
    assert lstm(np.zeros((1, 2, 3)))[0].dtype == np.dtype(value)


@pytest.mark.parametrize("checkpoint", [7, 1000, 2**40, 2**61, 2**62, 2**63 - 1])
def test_checkpoint_beyond_the_sequence(checkpoint):
    """Is no checkpoint at all, and costs no more."""
    parameters, arrays = CASE.draw()
    plain, lstm = CASE.layer(parameters), CASE.layer(parameters, checkpoint=checkpoint)
    tapes = plain.tape(), lstm.tape()
    expected = run_layer(plain, arrays, tape=tapes[0])
    assert_same_run(run_layer(lstm, arrays, tape=tapes[1]), expected, 1e-13)
    assert tapes[1].nbytes <= 2 * tapes[0].nbytes


@pytest.mark.parametrize("kind", [*ORDINARY, *UNUSUAL])
@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l1_reverse", "bias_l1"])
def test_parameter_assignment_zoo(problem, name, kind):
    """Check `lstm[name] = a`: `a` is copied into the view, or refused by a sentence."""
    lstm, _ = problem
    view = lstm[name]
    value = (np.random.default_rng(0).standard_normal(view.shape)).astype(lstm.dtype)
    given = (ORDINARY | UNUSUAL)[kind](value)
    before, parameters = snapshot(given), lstm.parameters.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            lstm[name] = given
        except (ValueError, TypeError) as error:
            assert kind in UNUSUAL
            assert name in str(error)
            np.testing.assert_array_equal(lstm.parameters, parameters)
        else:
            np.testing.assert_array_equal(view, values_of(given).astype(lstm.dtype))
            assert lstm[name].ctypes.data == view.ctypes.data
            assert np.count_nonzero(lstm.parameters != parameters) <= view.size
    if before is not None:
        np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l1_reverse", "bias_l1"])
def test_wrong_parameter_assignment(problem, name, kind):
    lstm, _ = problem
    parameters = lstm.parameters.copy()

    def assign():
        lstm[name] = WRONG[kind](parameters[: lstm[name].size].reshape(lstm[name].shape))

    if kind == "flat" and lstm[name].ndim == 1:
        assign()  # a flat bias is a bias
    elif kind == "number":
        assign()  # one number for all, as NumPy has it
        assert (lstm[name] == 1).all()
        assert np.count_nonzero(lstm.parameters != parameters) <= lstm[name].size
    else:
        refuses(assign, name)
        np.testing.assert_array_equal(lstm.parameters, parameters)


def test_unknown_parameter_names():
    lstm = LSTM(3, 5, rng=0)
    for name in ("weight_ih_l1", "weight_ih_l0_reverse", "weight", "", 0, None):
        with pytest.raises(KeyError, match="weight_ih_l0"):
            lstm[name]
        with pytest.raises(KeyError, match="weight_ih_l0"):
            lstm[name] = 0


# ---- sizes that no machine has ------------------------------------------------------------------

# Each runs under a limit of address space: whoever tries to allocate gets MemoryError at once.
IMPOSSIBLE = {
    "many sequences": "lstm(zero((big, 1, 3)))",
    "many steps": "lstm(zero((1, big, 3)))",
    "many steps, unbatched": "lstm(zero((big, 3)))",
    "many features": "lstm(zero((1, 1, big)))",
    "many of both": "lstm(zero((big, 2**28, 3)))",
    "many int8 of both": "lstm(zero((2**31, 2**30, 3), 'int8'))",
    "many with lengths": "lstm(zero((big, 1, 3)), lengths=zero((big,), 'int64'))",
    "many lengths": "lstm(zero((4, 6, 3)), lengths=zero((big,), 'int64'))",
    "wide state": "lstm(zero((4, 6, 3)), (zero((1, 4, big)), zero((1, 4, big))))",
    "big dy": "lstm.backward(tape, zero((4, big, 5)))",
    "big dstate": "lstm.backward(tape, None, (zero((1, big, 5)), None))",
    "big tape": "lstm.forward(zero((big, 2, 3)), tape=lstm.tape())",
    "time first": "LSTM(3, 5, batch_first=False)(zero((big, 1, 3)))",
    "bidirectional": "LSTM(3, 5, 2, bidirectional=True)(zero((big, 2**20, 3)))",
    "input_size": "LSTM(big, 5)",
    "hidden_size": "LSTM(3, 2**31 + 1)",
    "hidden_size squared beyond 2**63": "LSTM(3, 2**40)",
    "both": "LSTM(2**40, 2**40)",
    "beyond ssize_t": "LSTM(3, 2**70)",
    "input_size beyond ssize_t": "LSTM(2**63, 5)",
    "num_layers": "LSTM(3, 5, 2**50)",
    "num_layers beyond ssize_t": "LSTM(3, 5, 2**64)",
    "checkpoint beyond ssize_t": "LSTM(3, 5, checkpoint=2**64)(zero((big, 1, 3)))",
    "stream": "lstm.stream(batch=big)",
    "stream beyond ssize_t": "lstm.stream(batch=2**63)",
    "stream product": "LSTM(3, 512).stream(batch=2**55)",
    "stream product, one unit": "LSTM(3, 1).stream(batch=2**60)",
    "many empty sequences": "lstm(np.zeros((2**60, 0, 3)))",
    "many empty sequences, one unit": "LSTM(3, 1)(np.zeros((2**59, 0, 3)))",
    "checkpoint product": "LSTM(3, 5, checkpoint=2**62).forward(zero((big, 1, 3)))",
    "stream step": "lstm.stream(batch=2).step(zero((big, 3)))",
    "stream out": "lstm.stream().step(zero((3,)), out=zero((big,)))",
    "parameter": "lstm.__setitem__('bias_l0', zero((big,)))",
}
PROGRAM = """
import json, resource, sys
import numpy as np
from lstm_ext import LSTM

def zero(shape, dtype="float32"):
    # One element, seen many times.
    return np.broadcast_to(np.zeros((), dtype), shape)

big = 2**31 + 1
lstm = LSTM(3, 5, rng=0)
tape = lstm.tape()
lstm.forward(np.zeros((4, 6, 3)), tape=tape)
in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + 2**31,) * 2)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
report = {}
for name, call in json.loads(sys.argv[1]).items():
    try:
        eval(call)
        outcome = "accepted"
    except Exception as error:
        outcome = type(error).__name__
    report[name] = [outcome, peak() - before]
    before = peak()
y, _ = lstm(np.ones((4, 6, 3)))
assert np.isfinite(y).all()
print(json.dumps(report))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_impossible_sizes():
    """Refused with OverflowError, MemoryError or ValueError, and memory stays flat."""
    import json

    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(PROGRAM), json.dumps(IMPOSSIBLE)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report.keys() == IMPOSSIBLE.keys()
    for name, (outcome, megabytes) in report.items():
        assert outcome in ("OverflowError", "MemoryError", "ValueError"), (name, outcome)
        assert megabytes < 32, (name, megabytes)
