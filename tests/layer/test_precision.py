"""`LSTM(precision=...)`: products in bfloat16, on the CPU's own instructions and on tiles emulated in C.

The emulated tiles are the AMX kernel's source with the operations of AMX in plain C, so that it is tested on
any CPU. Products are held against `reference.split_product`, all else against float64 within the precision.
"""

import copy
import json
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import reference
from harness import Case, assert_close, assert_same_run, run_layer, run_reference
from option_checks import Problem

from lstm_ext import LSTM, Model, _kernels, io

pytestmark = pytest.mark.every_kernel

# Of an array's largest element: rounding errors of many products, through gates and several steps.
TOLERANCE = {"float32": 1e-5, "bfloat16x6": 1e-5, "bfloat16x3": 1e-4, "bfloat16": 4e-2}
LOW = [p for p in _kernels.PRECISIONS if p != "float32"]
CASES = [
    Case(dtype="float32", lengths=(3, 6, 0, 1)),
    Case(dtype="float32", cell_activation="identity", hidden_size=17, num_layers=2, bidirectional=True),
    Case(dtype="float32", input_size=1, hidden_size=1, batch=1, time=1),
    Case(dtype="float32", input_size=40, hidden_size=35, batch=33, time=9),
    Case(dtype="float32", input_size=3, hidden_size=70, batch=70, time=4, lengths=(4,) * 60 + (2,) * 10),
    Case(dtype="float32", input_size=600, hidden_size=16, batch=5, time=2),
    Case(dtype="float32", input_size=8, hidden_size=260, batch=65, time=2),
    Case(dtype="float32", hidden_size=6, batch=1, time=130),
    Case(dtype="float32", hidden_size=400, batch=64, time=2),  # more k than are split at once
]
OPTIONS = [
    {},
    {"peepholes": True, "checkpoint": 2},
    {"num_layers": 2, "bidirectional": True, "proj_size": 3},
    {"layer_norm": True, "cell_clip": 0.7},
    {"static_size": 2, "learn_state": True},
    {"coupled_gates": True, "zoneout": (0.3, 0.2)},
]


@pytest.fixture(params=["emulated", None], ids=["emulated", "in force"], autouse=True)
def products(request):
    """Whose products in bfloat16 are used; the choice of before is put back."""
    before = _kernels.forced()
    _kernels.select_split(request.param)
    yield request.param
    _kernels.select_split(before)


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_runs_agree_with_the_reference(case, precision):
    parameters, arrays = case.draw()
    expected = run_reference(case, parameters, arrays, case.lengths)
    lstm = case.layer(parameters, precision=precision)
    assert_same_run(run_layer(lstm, arrays, case.lengths), expected, TOLERANCE[precision])
    checkpointed = case.layer(parameters, precision=precision, checkpoint=2)
    assert_same_run(run_layer(checkpointed, arrays, case.lengths), expected, TOLERANCE[precision])


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_and_tangents(options, precision):
    """The general engine: values, gradients, forward mode, each within the precision of its float64 self."""
    exact = Problem(options, N=5, T=4, which="lengths")
    rough = Problem({**options, "precision": precision}, N=5, T=4, which="lengths", dtype="float32")
    rough.lstm.parameters = exact.lstm.parameters
    v = exact.direction(np.random.default_rng(1))
    for want, got in (
        ([exact.forward()[0], *exact.forward()[1]], [rough.forward()[0], *rough.forward()[1]]),
        (list(exact.backward().values()), list(rough.backward().values())),
        (exact.tangent(v)[1], rough.tangent(v)[1]),
    ):
        for w, g in zip(want, got, strict=True):
            assert_close(g, w, TOLERANCE[precision] * (5 if precision == "bfloat16" else 3))


@pytest.mark.parametrize("precision", LOW)
def test_hessian_product(precision):
    exact = LSTM(3, 20, dtype="float64", rng=0)
    rough = LSTM(3, 20, rng=0, precision=precision)
    exact.parameters = rough.parameters
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(4, 5, 3)), rng.normal(size=(4, 5, 20))
    v = rng.normal(size=exact.parameters.size)
    found = []
    for lstm in (exact, rough):
        tape = lstm.tape()
        lstm.jvp(x, dparameters=v, tape=tape)
        found.append(lstm.backward_jvp(tape, dy)["gradient_dot"])
    assert_close(found[1], found[0], 5 * TOLERANCE[precision])


@pytest.mark.parametrize("precision", LOW)
def test_gradient_is_that_of_differences(precision):
    """Along random directions, against central differences of float64's forward pass."""
    case = Case(dtype="float32", input_size=5, hidden_size=40, batch=9, time=5)
    parameters, arrays = case.draw()
    run = run_layer(case.layer(parameters, precision=precision), arrays)
    exact = Case(input_size=5, hidden_size=40, batch=9, time=5).layer(parameters)
    x, dy = arrays["x"].astype(float), arrays["dy"].astype(float)
    values, rng = exact.parameters.copy(), np.random.default_rng(0)
    gradient = np.concatenate([run[name].ravel() for name in case.names()]).astype(float)

    def loss(s, v):
        exact.parameters = values + s * v
        y, (h_n, c_n) = exact(x, (arrays["h_0"], arrays["c_0"]))
        return np.vdot(y, dy) + np.vdot(h_n, arrays["dh_n"]) + np.vdot(c_n, arrays["dc_n"])

    for _ in range(5):
        v = gradient / np.linalg.norm(gradient) + rng.normal(size=values.size) / values.size**0.5
        difference = (loss(1e-5, v) - loss(-1e-5, v)) / 2e-5
        np.testing.assert_allclose(gradient @ v, difference, rtol=TOLERANCE[precision])


@pytest.mark.parametrize("precision", LOW)
def test_products_are_those_of_the_pieces(precision):
    """One linear step, so that y shows the products themselves: no error but that of the sums in float32."""
    if _kernels.in_force(precision) in _kernels.available():
        pytest.skip("float32 is used here: nothing is split")
    rng = np.random.default_rng(3)
    width, H, N = 70, 24, 37
    lstm = LSTM(width, H, precision=precision, activations=("identity", "identity", "identity"))
    W = rng.normal(size=(4 * H, width)).astype("float32")
    x = rng.normal(size=(N, 1, width)).astype("float32")
    x[:, 0, :9] = 1 + 2.0**-8 + np.arange(9, dtype="float32") * 2.0**-7  # ties go to the even neighbour
    lstm.parameters = 0
    # i = W x, g = 1 = o: c = h = W x
    lstm["weight_ih_l0"][:H] = W[:H]
    lstm["bias_l0"] = np.repeat([0, 0, 1, 1], H)
    expected = reference.split_product(x[:, 0], W[:H].T, reference.PIECES[precision])
    np.testing.assert_allclose(lstm(x)[0][:, 0], expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    exact = x[:, 0].astype(float) @ W[:H].T.astype(float)
    size = np.abs(x[:, 0]).astype(float) @ np.abs(W[:H].T)
    bound = reference.PRODUCT_ERROR[precision] * size
    assert (np.abs(expected - exact) <= bound).all()
    assert (np.abs(lstm(x)[0][:, 0] - exact) <= bound + 2.0**-24 * width * size).all()


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("hidden_size", [5, 16, 33, 150])
def test_alone_in_a_batch_and_step_by_step_are_the_same_bits(precision, hidden_size):
    if _kernels.in_force(precision) == "blas":
        pytest.skip("BLAS's bits depend on the number of rows")
    case = Case(dtype="float32", hidden_size=hidden_size, num_layers=2, batch=41)
    parameters, arrays = case.draw()
    lstm = case.layer(parameters, precision=precision)
    y, _ = lstm(arrays["x"])
    tape = lstm.tape()
    np.testing.assert_array_equal(lstm.forward(arrays["x"], tape=tape)[0], y)
    for n in (0, 7, 40):
        np.testing.assert_array_equal(lstm(arrays["x"][n])[0], y[n])
    for size in (2, 15, 17, 33):
        np.testing.assert_array_equal(lstm(arrays["x"][:size])[0], y[:size])
    for batch in (1, 3):
        stream = lstm.stream(batch)
        for t in range(case.time):
            np.testing.assert_array_equal(stream.step(arrays["x"][:batch, t]), y[:batch, t])


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("cell_activation", ["tanh", "identity"])
def test_inf_and_nan_come_out_as_in_float32(precision, cell_activation):
    """Weights that are exact in one piece, so that the lesser pieces are 0 and inf times them NaN."""
    case = Case(
        dtype="float32", input_size=20, hidden_size=18, batch=40, time=2, cell_activation=cell_activation
    )
    parameters, arrays = case.draw()
    for name, value in parameters.items():
        parameters[name] = np.sign(value) * np.float32(0.25)
    arrays = {name: a.copy() for name, a in arrays.items()}
    arrays["x"][3, 0, 4] = np.inf
    arrays["x"][5, 1, 4] = -np.inf
    arrays["x"][7, 0, 4] = np.nan
    arrays["x"][9, 0, :2] = np.inf, -np.inf
    arrays["h_0"][0, 11, 2] = np.inf
    arrays["dy"][13, 0, 1] = np.inf
    for more in ({}, {"weight_ih_l0": (3, 0, np.inf)}, {"weight_hh_l0": (40, 5, np.nan)}):
        changed = {name: value.copy() for name, value in parameters.items()}
        for name, (row, column, value) in more.items():
            changed[name][row, column] = value
        with np.errstate(invalid="ignore"):
            expected = run_layer(case.layer(changed), arrays)
            found = run_layer(case.layer(changed, precision=precision), arrays)
        for name, want in expected.items():
            np.testing.assert_array_equal(np.isnan(found[name]), np.isnan(want), err_msg=name)
            np.testing.assert_array_equal(np.isinf(found[name]), np.isinf(want), err_msg=name)
            finite = np.isfinite(want)
            infinite = np.isinf(want)
            np.testing.assert_array_equal(np.sign(found[name][infinite]), np.sign(want[infinite]))
            assert_close(found[name][finite], want[finite], TOLERANCE[precision], name)


def test_float32_is_what_it_was():
    case = Case(dtype="float32", input_size=20, hidden_size=33, batch=20)
    parameters, arrays = case.draw()
    before = run_layer(case.layer(parameters), arrays)
    lstm = case.layer(parameters)
    for precision in LOW:
        lstm.precision = precision
        run_layer(lstm, arrays)
    lstm.precision = "float32"
    for run in (run_layer(lstm, arrays), run_layer(case.layer(parameters), arrays)):
        for name, value in before.items():
            np.testing.assert_array_equal(run[name], value)


def test_it_is_set_later_and_a_tape_keeps_its_own():
    case = Case(dtype="float32", input_size=20, hidden_size=33, batch=20)
    parameters, arrays = case.draw()
    lstm = case.layer(parameters)
    expected = run_layer(lstm, arrays)
    tape = lstm.tape()
    lstm.forward(arrays["x"], (arrays["h_0"], arrays["c_0"]), tape=tape)
    stream = lstm.stream(20)
    lstm.precision = "bfloat16"
    assert lstm.precision == "bfloat16"
    lstm.gradient = 0
    dx, _ = lstm.backward(tape, arrays["dy"], (arrays["dh_n"], arrays["dc_n"]))
    np.testing.assert_array_equal(dx, expected["dx"])
    first = case.layer(parameters)(arrays["x"])[0][:, 0]
    if _kernels.current() != "blas":
        np.testing.assert_array_equal(stream.step(arrays["x"][:, 0]), first)
    y, _ = lstm(arrays["x"], (arrays["h_0"], arrays["c_0"]))
    if _kernels.in_force("bfloat16") not in _kernels.available():
        assert not np.array_equal(y, expected["y"])
    assert_close(y, expected["y"], TOLERANCE["bfloat16"])


def test_refused():
    for value in ("float16", None, 3, "BFLOAT16"):
        with pytest.raises(ValueError, match=r"precision is .*expected one of float32, bfloat16x6"):
            LSTM(3, 4, precision=value)
    with pytest.raises(ValueError, match="precision is 'bfloat16' and dtype is float64"):
        LSTM(3, 4, dtype="float64", precision="bfloat16")
    lstm = LSTM(3, 4, precision="bfloat16x3")
    with pytest.raises(ValueError, match="precision is 'half'"):
        lstm.precision = "half"
    assert lstm.precision == "bfloat16x3"
    with pytest.raises(ValueError, match="precision is 'bfloat16' and dtype is float64"):
        LSTM(3, 4, dtype="float64").precision = "bfloat16"


@pytest.mark.parametrize("precision", _kernels.PRECISIONS)
def test_repr_copies_and_files(precision, tmp_path):
    lstm = LSTM(3, 20, rng=0, precision=precision)
    assert ("precision" in repr(lstm)) == (precision != "float32")
    x = np.random.default_rng(0).normal(size=(4, 5, 3))
    model = Model(lstm, 2, rng=0)
    io.save(lstm, tmp_path / "lstm.safetensors")
    io.save(model, tmp_path / "model.safetensors")
    for other in (
        eval(repr(lstm)), copy.deepcopy(lstm), pickle.loads(pickle.dumps(lstm)),
        io.load(tmp_path / "lstm.safetensors"), io.load(tmp_path / "model.safetensors").lstm,
    ):
        assert other.precision == precision
        other.parameters = lstm.parameters
        np.testing.assert_array_equal(other(x)[0], lstm(x)[0])


def test_a_file_without_it_is_float32(tmp_path):
    """So that files of float32 are as before: earlier versions read them, and theirs are read."""
    io.save(LSTM(3, 4, rng=0), tmp_path / "a.safetensors")
    assert b"precision" not in (tmp_path / "a.safetensors").read_bytes()
    assert io.load(tmp_path / "a.safetensors").precision == "float32"


def test_exports_compute_in_float32(tmp_path):
    """A permission is nobody else's affair: the weights are exported, and nothing is refused."""
    model = Model(LSTM(3, 4, rng=0, precision="bfloat16"), 2, rng=0)
    (tmp_path / "low").mkdir()
    io.export_c(model, tmp_path / "low/net.c")
    model.lstm.precision = "float32"
    io.export_c(model, tmp_path / "net.c")
    # but for the name of the option in a comment, and the checksum of all
    low, exact = (
        re.sub("MODEL_SET.*", "", path.read_text().replace(", precision='bfloat16'", ""))
        for path in (tmp_path / "low/net.c", tmp_path / "net.c")
    )
    assert low == exact and "float" in low


def test_onnx_graph_is_that_of_float32():
    pytest.importorskip("onnx")
    model = Model(LSTM(3, 4, rng=0, precision="bfloat16"), 2, rng=0)
    low = io.to_onnx(model)
    model.lstm.precision = "float32"
    assert low.graph.SerializeToString() == io.to_onnx(model).graph.SerializeToString()


def test_training_and_estimators():
    sklearn = pytest.importorskip("lstm_ext.sklearn")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 8, 2)).astype("float32")
    y = X.sum(axis=(1, 2))
    found = {}
    for precision in ("float32", "bfloat16"):
        estimator = sklearn.LSTMRegressor(
            hidden_size=16, max_iter=15, random_state=0, lstm_options={"precision": precision}
        )
        found[precision] = estimator.fit(X, y).score(X, y)
        assert estimator.model_.lstm.precision == precision
    assert abs(found["bfloat16"] - found["float32"]) < 0.1 and found["bfloat16"] > 0.3


def run_python(program, **environment):
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=120, check=False,
        env={k: v for k, v in os.environ.items() if k != "LSTM_EXT_BFLOAT16"} | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_info_says_what_computes(products):
    environment = {} if products is None else {"LSTM_EXT_BFLOAT16": products}
    program = "from lstm_ext.__main__ import main; main(['info', '--json'])"
    said = json.loads(run_python(program, **environment))
    assert said["precisions"] == {p: _kernels.in_force(p) for p in _kernels.PRECISIONS}
    assert "bfloat16x3 by" in run_python("from lstm_ext.__main__ import main; main(['info'])", **environment)


def test_environment_variable():
    program = "from lstm_ext import _kernels; print(_kernels.in_force('bfloat16x3'), _kernels.current())"
    assert run_python(program, LSTM_EXT_BFLOAT16="emulated").split()[0] == "emulated"
    said = run_python(program, LSTM_EXT_BFLOAT16="none").split()
    assert said[0] == said[1]
    with pytest.raises(AssertionError, match=r"ImportError.*LSTM_EXT_BFLOAT16.*'tiles'.*emulated"):
        run_python(program, LSTM_EXT_BFLOAT16="tiles")


def test_signal_stacks():
    """faulthandler's signal stack, before and after the permission for tiles, which grows signal frames."""
    for first in ("faulthandler.enable()", "pass"):
        assert run_python(f"""
import faulthandler, signal
{first}
import numpy as np
from lstm_ext import LSTM
lstm = LSTM(3, 40, rng=0, precision="bfloat16x3")
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
for _ in range(30):
    assert np.isfinite(lstm(np.ones((20, 20, 3)))[0]).all()
signal.setitimer(signal.ITIMER_REAL, 0)
faulthandler.enable()
print("through")
""") == "through"
