"""The layer against two independent implementations: `reference`, and PyTorch.

Weights are random and asymmetric, so a swapped gate, a lost bias or a lost state shows.
"""

import numpy as np
import pytest
from conftest import HAS_TORCH
from harness import TOLERANCE, Case, assert_close, assert_same_run, run_layer, run_reference
from make_torch_outputs import CASES, committed, run_torch

pytestmark = pytest.mark.every_kernel

# Sizes off the vector widths and the tile heights, and on them.
SHAPES = [
    # I, H, N, T
    (1, 1, 1, 1),
    (3, 5, 1, 1),
    (1, 3, 2, 7),
    (3, 16, 5, 4),
    (50, 17, 7, 3),
    (3, 20, 13, 7),
    (1, 33, 5, 9),
    (50, 32, 6, 5),
    (7, 64, 12, 4),
    (2, 3, 200, 3),
    (5, 70, 3, 40),
    (4, 8, 3, 300),
]
STACKS = [(1, False), (2, False), (3, False), (1, True), (2, True), (3, True)]


def ragged(batch, time):
    """Lengths in no order, with 0, 1 and `time` among them where they fit."""
    lengths = np.random.default_rng(batch + time).integers(0, time + 1, batch)
    lengths[: min(batch, 3)] = (1, time, 0)[: min(batch, 3)]
    return tuple(int(n) for n in lengths)


def case_of(shape, stack=(1, False), **options):
    names = ("input_size", "hidden_size", "batch", "time", "num_layers", "bidirectional")
    return Case(**dict(zip(names, (*shape, *stack), strict=True)), **options)


def check(case, **options):
    parameters, arrays = case.draw()
    run = run_layer(case.layer(parameters, **options), arrays, case.lengths)
    expected = run_reference(case, parameters, arrays, case.lengths)
    for name, value in run.items():
        assert value.dtype == case.dtype, name
    assert_same_run(run, expected, TOLERANCE[case.dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell_activation", ["tanh", "identity"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_reference_one_layer(shape, cell_activation, dtype):
    check(case_of(shape, cell_activation=cell_activation, dtype=dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stack", STACKS, ids=str)
@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (4, 17, 13, 7), (1, 33, 2, 1)], ids=str)
def test_reference_stacked(shape, stack, dtype):
    check(case_of(shape, stack, dtype=dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stack", STACKS, ids=str)
@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (2, 20, 13, 7), (3, 3, 100, 30)], ids=str)
def test_reference_lengths(shape, stack, dtype):
    check(case_of(shape, stack, dtype=dtype, lengths=ragged(*shape[2:])))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("with_lengths", [False, True], ids=["dense", "lengths"])
@pytest.mark.parametrize(
    "shape",
    [
        (40, 130, 21, 7),
        (300, 140, 37, 4),
        (390, 400, 9, 2),
        (5, 270, 3, 3),
        (70, 300, 70, 3),
        (3, 530, 1, 5),
        (530, 9, 33, 5),
        (1, 400, 33, 2),
        (600, 257, 2, 1),
    ],
    ids=str,
)
def test_reference_large(shape, with_lengths, dtype):
    """Weights beyond the caches, rows beyond a page, batches beyond a block."""
    check(case_of(shape, dtype=dtype, lengths=ragged(*shape[2:]) if with_lengths else None))
    if shape[1] < 200:
        check(case_of(shape, (2, True), dtype=dtype))


@pytest.mark.parametrize("stack", [(1, False), (2, True)], ids=str)
@pytest.mark.parametrize("every", [1, 2, 7, 40, 1000])
def test_checkpoint_changes_memory_not_results(every, stack):
    for lengths in (None, ragged(5, 40)):
        case = case_of((3, 17, 5, 40), stack, lengths=lengths)
        parameters, arrays = case.draw()
        run = run_layer(case.layer(parameters, checkpoint=every), arrays, lengths)
        expected = run_reference(case, parameters, arrays, lengths)
        assert_same_run(run, expected, TOLERANCE["float64"])


@pytest.mark.parametrize("name", CASES)
def test_committed_torch(name):
    case = CASES[name]
    parameters, arrays, expected = committed(name)
    run = run_layer(case.layer(parameters), arrays, case.lengths)
    assert_same_run(run, expected, TOLERANCE[case.dtype])


@pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is not installed; committed outputs were used")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stack", STACKS, ids=str)
@pytest.mark.parametrize("with_lengths", [False, True], ids=["dense", "lengths"])
@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (7, 33, 13, 9), (1, 16, 1, 12)], ids=str)
def test_live_torch(shape, with_lengths, stack, dtype):
    batch, time = shape[2:]
    # A packed sequence of PyTorch has no room for length 0.
    lengths = tuple(max(n, 1) for n in ragged(batch, time)) if with_lengths else None
    case = case_of(shape, stack, dtype=dtype, lengths=lengths)
    parameters, arrays = case.draw(2)
    run = run_layer(case.layer(parameters), arrays, lengths)
    assert_same_run(run, run_torch(case, parameters, arrays), TOLERANCE[dtype])


@pytest.mark.parametrize("swap", [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)], ids=str)
def test_swapped_gates_are_seen(swap):
    """The case is asymmetric enough: any two gates swapped in any one array break parity."""
    case = Case(time=3)
    parameters, arrays = case.draw()
    expected = run_reference(case, parameters, arrays)
    for name in parameters:
        swapped = {k: v.copy() for k, v in parameters.items()}
        gates = swapped[name].reshape(4, case.hidden_size, -1)
        gates[list(swap)] = gates[list(swap)[::-1]]
        run = run_layer(case.layer(swapped), arrays)
        assert np.abs(run["y"] - expected["y"]).max() > 1e-3


def test_gate_order_by_saturation():
    """Biases alone drive one unit: i, f, g, o is what each quarter of the bias does."""
    case = Case(input_size=1, hidden_size=1, batch=1, time=1)
    lstm = case.layer()
    lstm.parameters[:] = 0
    off, on = -800.0, 800.0
    x, state = np.zeros((1, 1, 1)), (np.zeros((1, 1, 1)), np.full((1, 1, 1), 0.25))

    def cell(i, f, g, o):
        lstm["bias_l0"] = np.array([i, f, g, o])
        y, (_, c) = lstm(x, state)
        return y.item(), c.item()

    assert cell(off, on, on, on) == (np.tanh(0.25), 0.25)
    assert cell(on, off, on, on) == (np.tanh(1.0), 1.0)
    assert cell(on, off, -on, on) == (np.tanh(-1.0), -1.0)
    assert cell(on, on, on, off) == (pytest.approx(0, abs=1e-300), 1.25)


@pytest.mark.parametrize("stack", [(1, False), (2, True)], ids=str)
def test_time_first_and_unbatched(stack):
    case = case_of((3, 5, 4, 6), stack, lengths=(2, 6, 0, 1))
    parameters, arrays = case.draw()
    expected = run_layer(case.layer(parameters), arrays, case.lengths)

    turned = dict(arrays)
    for name in ("x", "dy"):
        turned[name] = arrays[name].swapaxes(0, 1).copy()
    run = run_layer(case.layer(parameters, batch_first=False), turned, case.lengths)
    for name in ("y", "dx"):
        run[name] = run[name].swapaxes(0, 1)
    assert_same_run(run, expected, 1e-14)

    lstm = case.layer(parameters)
    whole = run_layer(lstm, arrays)
    for n in range(case.batch):
        one = {k: v[n] if k in ("x", "dy") else v[:, n] for k, v in arrays.items()}
        run = run_layer(lstm, one)
        for name in ("y", "dx"):
            assert_close(run[name], whole[name][n], 1e-13, name)
        for name in ("h_n", "c_n", "dh_0", "dc_0"):
            assert_close(run[name], whole[name][:, n], 1e-13, name)


def test_defaults_are_zeros():
    """No state is a zero state, and a missing upstream gradient is a zero gradient."""
    case = Case(num_layers=2, bidirectional=True)
    parameters, arrays = case.draw()
    lstm = case.layer(parameters)
    zeros = {k: np.zeros_like(v) for k, v in arrays.items()}

    def run(state, dy, dstate):
        tape = lstm.tape()
        lstm.gradient[:] = 0
        y, (h_n, c_n) = lstm.forward(arrays["x"], state, tape=tape)
        dx, (dh_0, dc_0) = lstm.backward(tape, dy, dstate)
        return [y, h_n, c_n, dx, dh_0, dc_0, lstm.gradient.copy()]

    a = arrays
    pairs = [
        (
            run(None, a["dy"], None),
            run((zeros["h_0"], zeros["c_0"]), a["dy"], (0 * a["dh_n"],) * 2),
        ),
        (
            run(None, None, (a["dh_n"], None)),
            run(None, zeros["dy"], (a["dh_n"], zeros["dc_n"])),
        ),
        (
            run(None, None, (None, a["dc_n"])),
            run(None, zeros["dy"], (zeros["dh_n"], a["dc_n"])),
        ),
    ]
    for left, right in pairs:
        for one, other in zip(left, right, strict=True):
            np.testing.assert_array_equal(one, other)
    assert not run(None, None, None)[-1].any()


def test_inference_equals_recorded_forward():
    """`lstm(x)`, `forward` and `forward(tape=)` give the same bits."""
    for dtype in ("float32", "float64"):
        case = case_of((3, 17, 7, 20), (2, True), dtype=dtype, lengths=ragged(7, 20))
        parameters, arrays = case.draw()
        lstm = case.layer(parameters)
        state = arrays["h_0"], arrays["c_0"]
        plain = lstm(arrays["x"], state, lengths=case.lengths)
        for other in (
            lstm.forward(arrays["x"], state, lengths=case.lengths),
            lstm.forward(arrays["x"], state, lengths=case.lengths, tape=lstm.tape()),
        ):
            np.testing.assert_array_equal(plain[0], other[0])
            np.testing.assert_array_equal(plain[1], other[1])


def test_gradient_accumulates_and_backward_repeats():
    """Backward adds to `gradient`, and may be called again on the same tape."""
    case = Case(num_layers=2, lengths=(2, 6, 1, 5))
    parameters, arrays = case.draw()
    lstm = case.layer(parameters)
    tape = lstm.tape()
    first = run_layer(lstm, arrays, case.lengths, tape)
    gradient = lstm.gradient.copy()
    upstream = arrays["dy"], (arrays["dh_n"], arrays["dc_n"])

    dx, (dh_0, dc_0) = lstm.backward(tape, *upstream)
    for again, name in ((dx, "dx"), (dh_0, "dh_0"), (dc_0, "dc_0")):
        np.testing.assert_array_equal(again, first[name])
    np.testing.assert_allclose(lstm.gradient, 2 * gradient, rtol=1e-14)

    lstm.gradient[:] = 0
    without, states = lstm.backward(tape, *upstream, input_gradient=False)
    assert without is None
    np.testing.assert_array_equal(states, [dh_0, dc_0])
    assert_close(lstm.gradient, gradient, 1e-15)

    # Linear in the upstream gradient: another dy on the same tape.
    lstm.gradient[:] = 0
    twice, _ = lstm.backward(tape, *(2 * upstream[0], tuple(2 * d for d in upstream[1])))
    np.testing.assert_array_equal(twice, 2 * first["dx"])


def test_tape_is_reusable():
    """A tape that has held a longer, wider or unlike batch leaves nothing behind."""
    case = Case(num_layers=2, bidirectional=True, hidden_size=7)
    parameters, _ = case.draw()
    lstm = case.layer(parameters)
    tape = lstm.tape()
    for batch, time, lengths in (
        (4, 6, None),
        (9, 40, None),
        (2, 3, (3, 1)),
        (1, 1, None),
        (4, 6, (0, 0, 0, 0)),
        (4, 6, (6, 2, 0, 5)),
        (0, 6, None),
        (3, 0, None),
        (4, 6, None),
    ):
        arrays = Case(num_layers=2, bidirectional=True, hidden_size=7, batch=batch, time=time).draw(
            5
        )[1]
        fresh = run_layer(lstm, arrays, lengths)
        assert_same_run(run_layer(lstm, arrays, lengths, tape), fresh, 0)


def test_tapes_are_independent_of_what_happens_later():
    """Two tapes at once; inputs, outputs and parameters overwritten between forward and backward.

    The documented contract: what backward needs is on the tape, except the parameters.
    """
    case = Case()
    parameters, arrays = case.draw()
    lstm = case.layer(parameters)
    expected = run_layer(lstm, arrays)
    lstm.gradient[:] = 0
    tape, other = lstm.tape(), lstm.tape()
    x, h_0, c_0 = (arrays[k].copy() for k in ("x", "h_0", "c_0"))
    y, (h_n, c_n) = lstm.forward(x, (h_0, c_0), tape=tape)
    lstm.forward(-x, tape=other)
    for array in (y, h_n, c_n, h_0, c_0):
        array[:] = np.nan
    dx, (dh_0, dc_0) = lstm.backward(tape, arrays["dy"], (arrays["dh_n"], arrays["dc_n"]))
    for name, value in (("dx", dx), ("dh_0", dh_0), ("dc_0", dc_0)):
        np.testing.assert_array_equal(value, expected[name])


def test_parameter_views_cannot_go_stale():
    """A write through any view is seen by the next call: nothing packed is kept."""
    case = Case(num_layers=2, bidirectional=True, hidden_size=17)
    parameters, arrays = case.draw()
    lstm = case.layer(parameters)
    run_layer(lstm, arrays)
    views = lstm.named_parameters()
    for name, value in parameters.items():
        views[name][...] = value[::-1]
        changed = parameters | {name: value[::-1]}
        fresh = run_layer(case.layer(changed), arrays)
        assert_same_run(run_layer(lstm, arrays), fresh, 0)
        lstm(arrays["x"])
        views[name] *= 0
        views[name] += value
    assert_same_run(run_layer(lstm, arrays), run_layer(case.layer(parameters), arrays), 0)
