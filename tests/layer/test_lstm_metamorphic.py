"""What must not change when the same question is asked another way (Hypothesis draws the shapes).

The same sequence gives the same bits alone, in a batch, and step by step, on the packed kernels;
BLAS chooses its order of summation by the shape, so there the outputs agree within rounding.
Sums over the batch (weight gradients) are reordered by a permutation: within rounding, again.
"""

import numpy as np
import pytest
from harness import TOLERANCE, Case, assert_close, run_layer
from hypothesis import given
from hypothesis import strategies as st

from lstm_ext import _kernels

pytestmark = pytest.mark.every_kernel

BITWISE = _kernels.current() != "blas"


def assert_same(actual, expected, dtype, what=""):
    """Bit for bit where that is promised."""
    assert_close(actual, expected, 0 if BITWISE else TOLERANCE[dtype], what)


@st.composite
def cases(draw, **fixed):
    """Shapes around the vector widths, ragged or not, and the seed of their arrays."""
    sizes = {
        "input_size": draw(st.sampled_from([1, 2, 3, 8, 17])),
        "hidden_size": draw(st.sampled_from([1, 3, 5, 8, 16, 17, 20, 33])),
        "num_layers": draw(st.integers(1, 3)),
        "bidirectional": draw(st.booleans()),
        "cell_activation": draw(st.sampled_from(["tanh", "identity"])),
        "dtype": draw(st.sampled_from(["float32", "float64"])),
        "batch": draw(st.integers(1, 15)),
        "time": draw(st.integers(1, 12)),
    } | fixed
    if draw(st.booleans()):
        length = st.integers(0, sizes["time"])
        batch = sizes["batch"]
        sizes["lengths"] = tuple(draw(st.lists(length, min_size=batch, max_size=batch)))
    case = Case(**sizes)
    return case, draw(st.integers(0, 99))


def run(case, parameters, arrays, lengths="own"):
    lengths = case.lengths if lengths == "own" else lengths
    return run_layer(case.layer(parameters), arrays, lengths)


def take(arrays, rows):
    """Choose `rows` of the batch."""
    return {k: v[rows] if k in ("x", "dy") else v[:, rows] for k, v in arrays.items()}


PER_SEQUENCE = ("y", "h_n", "c_n", "dx", "dh_0", "dc_0")


@given(cases(), st.randoms(use_true_random=False))
def test_batch_permutation(drawn, random):
    """Permuting the sequences permutes the results."""
    case, seed = drawn
    parameters, arrays = case.draw(seed)
    order = list(range(case.batch))
    random.shuffle(order)
    expected = run(case, parameters, arrays)
    lengths = case.lengths and tuple(case.lengths[n] for n in order)
    actual = run(case, parameters, take(arrays, order), lengths)
    outputs = take({"x": expected["y"], "dy": expected["dx"]}, order)
    assert_same(actual["y"], outputs["x"], case.dtype, "y")
    assert_close(actual["dx"], outputs["dy"], TOLERANCE[case.dtype], "dx")
    for name in ("h_n", "c_n"):
        assert_same(actual[name], expected[name][:, order], case.dtype, name)
    for name in ("dh_0", "dc_0"):
        assert_close(actual[name], expected[name][:, order], TOLERANCE[case.dtype], name)
    for name in parameters:
        assert_close(actual[name], expected[name], TOLERANCE[case.dtype], name)


@given(cases())
def test_alone_and_in_a_batch(drawn):
    """A sequence on its own, cut to its length, is its row of the batch; gradients add up."""
    case, seed = drawn
    parameters, arrays = case.draw(seed)
    expected = run(case, parameters, arrays)
    total = {name: 0 for name in parameters}
    lengths = case.lengths or (case.time,) * case.batch
    for n, length in enumerate(lengths):
        one = take(arrays, [n])
        one["x"], one["dy"] = one["x"][:, :length], one["dy"][:, :length]
        alone = run(case, parameters, one, None)
        assert_same(alone["y"][0], expected["y"][n, :length], case.dtype, "y")
        assert_close(alone["dx"][0], expected["dx"][n, :length], TOLERANCE[case.dtype], "dx")
        for name in ("h_n", "c_n"):
            assert_same(alone[name][:, 0], expected[name][:, n], case.dtype, name)
        for name in ("dh_0", "dc_0"):
            assert_close(alone[name][:, 0], expected[name][:, n], TOLERANCE[case.dtype], name)
        for name in parameters:
            total[name] = total[name] + alone[name].astype("float64")
    for name in parameters:
        assert_close(expected[name], total[name], TOLERANCE[case.dtype], name)


@given(cases(bidirectional=False), st.integers(0, 12))
def test_split_in_time(drawn, cut):
    """Two parts with the state carried over are the whole, forward and backward."""
    case, seed = drawn
    parameters, arrays = case.draw(seed)
    cut = min(cut, case.time)
    whole = run(case, parameters, arrays)
    lengths = np.array(case.lengths or (case.time,) * case.batch)
    lstm = case.layer(parameters)
    first, second = lstm.tape(), lstm.tape()
    state = arrays["h_0"], arrays["c_0"]
    y_1, state = lstm.forward(
        arrays["x"][:, :cut], state, lengths=np.minimum(lengths, cut), tape=first
    )
    y_2, state = lstm.forward(
        arrays["x"][:, cut:], state, lengths=np.maximum(lengths - cut, 0), tape=second
    )
    assert_same(np.concatenate([y_1, y_2], 1), whole["y"], case.dtype, "y")
    assert_same(state[0], whole["h_n"], case.dtype, "h_n")
    assert_same(state[1], whole["c_n"], case.dtype, "c_n")
    dstate = arrays["dh_n"], arrays["dc_n"]
    dx_2, dstate = lstm.backward(second, arrays["dy"][:, cut:], dstate)
    dx_1, dstate = lstm.backward(first, arrays["dy"][:, :cut], dstate)
    assert_close(np.concatenate([dx_1, dx_2], 1), whole["dx"], TOLERANCE[case.dtype], "dx")
    for name, d in zip(("dh_0", "dc_0"), dstate, strict=True):
        assert_close(d, whole[name], TOLERANCE[case.dtype], name)
    for name, gradient in lstm.named_gradients().items():
        assert_close(gradient, whole[name], TOLERANCE[case.dtype], name)


@given(cases(bidirectional=False))
def test_step_by_step(drawn):
    """A stream fed one step at a time says what the whole sequence says."""
    case, seed = drawn
    parameters, arrays = case.draw(seed)
    lstm = case.layer(parameters)
    y, (h_n, c_n) = lstm(arrays["x"], (arrays["h_0"], arrays["c_0"]))
    stream = lstm.stream(batch=case.batch)
    stream.reset((arrays["h_0"], arrays["c_0"]))
    for t in range(case.time):
        assert_same(stream.step(arrays["x"][:, t]), y[:, t], case.dtype, f"step {t}")
    assert_same(stream.state[0], h_n, case.dtype, "h")
    assert_same(stream.state[1], c_n, case.dtype, "c")


@given(cases(), st.integers(1, 9))
def test_padding_changes_nothing(drawn, extra):
    """More padded steps behind every sequence change no bit, whatever they hold."""
    case, seed = drawn
    parameters, arrays = case.draw(seed)
    lengths = case.lengths or (case.time,) * case.batch
    expected = run(case, parameters, arrays, lengths)
    padded = dict(arrays)
    for name in ("x", "dy"):
        padded[name] = np.pad(arrays[name], ((0, 0), (0, extra), (0, 0)), constant_values=np.nan)
    actual = run(case, parameters, padded, lengths)
    for name, value in expected.items():
        if name in ("y", "dx"):
            assert not actual[name][:, case.time :].any()
            actual[name] = actual[name][:, : case.time]
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


@given(cases())
def test_full_lengths_are_no_lengths(drawn):
    """Lengths that are all T change no bit."""
    case, seed = drawn
    parameters, arrays = case.draw(seed)
    expected = run(case, parameters, arrays, None)
    actual = run(case, parameters, arrays, (case.time,) * case.batch)
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


@given(cases(num_layers=1, bidirectional=True))
def test_reverse_direction_is_a_flip(drawn):
    """Each half of a bidirectional layer is a one-way layer, one of them on flipped sequences."""
    case, seed = drawn
    parameters, arrays = case.draw(seed)
    both = run(case, parameters, arrays)
    lengths = case.lengths or (case.time,) * case.batch
    H = case.hidden_size
    one_way = Case(
        **{f: getattr(case, f) for f in case.__dataclass_fields__ if f != "bidirectional"}
    )

    def flip(a):
        out = a.copy()
        for row, length in zip(out, lengths, strict=True):
            row[:length] = row[:length][::-1]
        return out

    dx = 0
    for k, suffix, turn in ((0, "", np.copy), (1, "_reverse", flip)):
        half = slice(k * H, (k + 1) * H)
        names = [n for n in parameters if n.endswith("_reverse") == bool(k)]
        part = run(
            one_way,
            {n.removesuffix("_reverse"): parameters[n] for n in names},
            {
                "x": turn(arrays["x"]),
                "dy": turn(arrays["dy"][..., half]),
                **{n: arrays[n][k : k + 1] for n in ("h_0", "c_0", "dh_n", "dc_n")},
            },
        )
        assert_same(turn(part["y"]), both["y"][..., half], case.dtype, "y" + suffix)
        for name in ("h_n", "c_n"):
            assert_same(part[name][0], both[name][k], case.dtype, name + suffix)
        for name in ("dh_0", "dc_0"):
            assert_close(part[name][0], both[name][k], TOLERANCE[case.dtype], name + suffix)
        for name in names:
            assert_close(
                both[name], part[name.removesuffix("_reverse")], TOLERANCE[case.dtype], name
            )
        dx = dx + turn(part["dx"])
    assert_close(both["dx"], dx, TOLERANCE[case.dtype], "dx")


@given(cases(num_layers=2, bidirectional=False), st.randoms(use_true_random=False))
def test_unit_permutation(drawn, random):
    """Renaming the hidden units of each layer renames the outputs, and no more."""
    case, seed = drawn
    parameters, arrays = case.draw(seed)
    expected = run(case, parameters, arrays)
    H = case.hidden_size
    orders = []
    for _ in range(case.num_layers):
        orders.append(list(range(H)))
        random.shuffle(orders[-1])

    def rename(named):
        out = {}
        for name, value in named.items():
            layer = int(name[-1])
            order = orders[layer]
            value = value.reshape(4, H, -1)[:, order].reshape(value.shape)
            if name.startswith("weight_hh"):
                value = value[:, order]
            elif name.startswith("weight_ih") and layer > 0:
                value = value[:, orders[layer - 1]]
            out[name] = np.ascontiguousarray(value)
        return out

    def rename_state(state):
        return np.stack([layer[:, order] for layer, order in zip(state, orders, strict=True)])

    renamed = {k: v if k in ("x", "dy") else rename_state(v) for k, v in arrays.items()}
    renamed["dy"] = arrays["dy"][..., orders[-1]]
    actual = run(case, rename(parameters), renamed)
    tolerance = 10 * TOLERANCE[case.dtype]
    assert_close(actual["y"], expected["y"][..., orders[-1]], tolerance, "y")
    assert_close(actual["dx"], expected["dx"], tolerance, "dx")
    for name in ("h_n", "c_n", "dh_0", "dc_0"):
        assert_close(actual[name], rename_state(expected[name]), tolerance, name)
    for name, value in rename({k: expected[k] for k in parameters}).items():
        assert_close(actual[name], value, tolerance, name)


@given(cases())
def test_array_order_does_not_matter(drawn):
    """Time-first, Fortran-ordered and strided inputs change no bit."""
    case, seed = drawn
    parameters, arrays = case.draw(seed)
    expected = run(case, parameters, arrays)
    fortran = {k: np.asfortranarray(v) for k, v in arrays.items()}
    for name, value in run(case, parameters, fortran).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    turned = dict(arrays)
    for name in ("x", "dy"):
        turned[name] = np.ascontiguousarray(arrays[name].swapaxes(0, 1))
    lstm = case.layer(parameters, batch_first=False)
    for name, value in run_layer(lstm, turned, case.lengths).items():
        value = value.swapaxes(0, 1) if name in ("y", "dx") else value
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


# ---- one poisoned sequence ----------------------------------------------------------------------


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lengths", [None, (7, 2, 6, 7, 0, 5, 1, 7, 4)], ids=["dense", "lengths"])
@pytest.mark.parametrize("where", ["x", "h_0", "c_0", "dy", "dh_n", "dc_n"])
def test_poison_stays_in_its_row(where, lengths, dtype, poison):
    """NaN or inf in one sequence changes no bit of any other: outputs, states, gradients."""
    case = Case(
        input_size=3,
        hidden_size=17,
        num_layers=2,
        bidirectional=True,
        batch=9,
        time=7,
        dtype=dtype,
        lengths=lengths,
    )
    parameters, arrays = case.draw()
    lstm = case.layer(parameters)
    expected = run_layer(lstm, arrays, lengths)
    for row in (0, 3, 8):
        poisoned = {k: v.copy() for k, v in arrays.items()}
        a = poisoned[where]
        (a if where in ("x", "dy") else a.swapaxes(0, 1))[row, 1] = poison
        actual = run_layer(lstm, poisoned, lengths)
        others = [n for n in range(case.batch) if n != row]
        for name in PER_SEQUENCE:
            axis = 0 if name in ("y", "dx") else 1
            np.testing.assert_array_equal(
                actual[name].take(others, axis), expected[name].take(others, axis), err_msg=name
            )
    # And the layer is well again: nothing of it stays in a workspace.
    for name, value in run_layer(lstm, arrays, lengths).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_is_not_hidden(dtype):
    """A NaN that goes in comes out, from its step on."""
    case = Case(dtype=dtype, hidden_size=17)
    parameters, arrays = case.draw()
    arrays["x"][1, 2, 0] = np.nan
    y, (h_n, c_n) = case.layer(parameters)(arrays["x"])
    assert np.isfinite(y[1, :2]).all()
    assert np.isnan(y[1, 2:]).all()
    assert np.isnan(h_n[0, 1]).all()
    assert np.isnan(c_n[0, 1]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_huge_inputs_saturate(dtype):
    """Pre-activations far out of range give gates of exactly 0 or 1, not NaN."""
    case = Case(dtype=dtype, hidden_size=17)
    parameters, arrays = case.draw()
    x = arrays["x"] * np.asarray(1e20, dtype)
    y, (_, c_n) = case.layer(parameters)(x, (arrays["h_0"], arrays["c_0"]))
    assert np.isfinite(y).all()
    assert (np.abs(y) <= 1).all()
    assert (np.abs(c_n) <= np.abs(arrays["c_0"]) + case.time).all()
