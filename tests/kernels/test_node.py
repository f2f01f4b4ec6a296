"""The node: gradients, parity with the teaching implementation, and what a NumPy user expects."""

import contextlib
import copy
import gc
import io
import pickle
import sys
import threading
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import node_reference as reference
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from lstm_ext import _kernels, node

pytestmark = pytest.mark.every_kernel

DTYPES = ["float64", "float32"]
RTOL = {"float64": 1e-12, "float32": 1e-5}
GATES = ["wg", "wi", "wf", "wo", "bg", "bi", "bf", "bo"]
DIFFS = [name + "_diff" for name in GATES]
RESULT = ["g", "i", "f", "o", "s", "h"]
STATE = [*RESULT, "bottom_diff_s", "bottom_diff_h"]
SCRIPT = (Path(__file__).parents[2] / "examples" / "node.py").read_text()


@pytest.fixture(params=_kernels.available())
def kernel(request):
    before = _kernels.current()
    _kernels.select(request.param)
    yield request.param
    _kernels.select(before)


class SumLoss:
    """A loss in which every element of h has its own weight: <label, h> + |h|^2 / 2."""

    @staticmethod
    def loss(pred, label):
        return float(np.dot(label, pred) + np.dot(pred, pred) / 2)

    @staticmethod
    def bottom_diff(pred, label):
        return label + pred


def twins(mem_cell_ct, x_dim, dtype="float64", seed=0):
    """A param and the reference's, with the same random values: no two gates alike."""
    ours = node.LstmParam(mem_cell_ct, x_dim, dtype=dtype, rng=seed)
    theirs = reference.LstmParam(mem_cell_ct, x_dim)
    rng = np.random.default_rng(seed)
    for name in GATES:
        value = rng.uniform(-0.8, 0.8, getattr(theirs, name).shape)
        setattr(ours, name, value)
        setattr(theirs, name, value.copy())
    return ours, theirs


def assert_same(ours, theirs, names, rtol):
    for name in names:
        assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=rtol, atol=rtol,
                        err_msg=name)


def run_script(module):
    """What the example prints with `from lstm_ext import` made an import from `module`."""
    sys.modules["lstm"] = module
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(SCRIPT.replace("from lstm_ext import", "from lstm import"),
                 {"__name__": "__main__"})
    finally:
        del sys.modules["lstm"]
    return printed.getvalue().splitlines()


# ---- the known run ----

def test_known_run_to_the_last_printed_digit(kernel):
    lines = run_script(node)
    assert lines == run_script(reference)
    assert len(lines) == 100
    assert lines[-1] == ("iter 99: y_pred = [-0.50033,  0.20106,  0.09912, -0.49923], "
                         "loss: 2.611e-06")


def test_known_run_in_float32(kernel):
    def float32_param(*args):
        return node.LstmParam(*args, dtype="float32")

    module = SimpleNamespace(**{**vars(node), "LstmParam": float32_param})
    losses = [float(line.split("loss: ")[1]) for line in run_script(module)]
    expected = [float(line.split("loss: ")[1]) for line in run_script(reference)]
    assert_allclose(losses[:20], expected[:20], rtol=2e-3)
    assert losses[-1] < 1e-5


def test_public_names():
    import lstm_ext
    for name in node.__all__:
        assert getattr(lstm_ext, name) is getattr(node, name)


# ---- gradients ----

def central_difference(function, array, step=1e-5):
    """d function / d array, writing into the array's elements one by one."""
    gradient = np.empty(array.shape)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + step
        above = function()
        array[index] = kept - step
        below = function()
        array[index] = kept
        gradient[index] = (above - below) / (2 * step)
    return gradient


@pytest.mark.parametrize("mem_cell_ct, x_dim", [(1, 1), (3, 2), (9, 4)])
def test_gradient_of_one_node(kernel, mem_cell_ct, x_dim):
    rng = np.random.default_rng(1)
    param, _ = twins(mem_cell_ct, x_dim)
    x = rng.standard_normal(x_dim)
    s_prev, h_prev, dh, ds = rng.standard_normal((4, mem_cell_ct))
    cell = node.LstmNode(param, node.LstmState(mem_cell_ct, x_dim))

    def loss():
        cell.bottom_data_is(x, s_prev, h_prev)
        return cell.state.h @ dh + cell.state.s @ ds

    numeric = {name: central_difference(loss, getattr(param, name)) for name in GATES}
    numeric |= {"x": central_difference(loss, x), "s_prev": central_difference(loss, s_prev),
                "h_prev": central_difference(loss, h_prev)}
    loss()
    cell.top_diff_is(dh, ds)
    exact = {name: getattr(param, name + "_diff") for name in GATES}
    exact |= {"s_prev": cell.state.bottom_diff_s, "h_prev": cell.state.bottom_diff_h}
    # The node keeps no gradient in x; with one node, that in a bias is that in its gate's input.
    exact["x"] = sum(getattr(param, "w" + g)[:, :x_dim].T @ getattr(param, f"b{g}_diff")
                     for g in "gifo")
    for name in numeric:
        assert_allclose(exact[name], numeric[name], rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_gradient_of_a_chain(kernel, steps):
    rng = np.random.default_rng(2)
    param, _ = twins(5, 3)
    net = node.LstmNetwork(param)
    inputs, labels = rng.standard_normal((steps, 3)), rng.standard_normal((steps, 5))

    def loss():
        net.x_list_clear()
        for x in inputs:
            net.x_list_add(x)
        return sum(SumLoss.loss(cell.state.h, label)
                   for cell, label in zip(net.lstm_node_list, labels, strict=True))

    numeric = {name: central_difference(loss, getattr(param, name)) for name in GATES}
    expected = loss()
    assert_allclose(net.y_list_is(labels, SumLoss), expected, rtol=1e-13)
    for name in GATES:
        assert_allclose(getattr(param, name + "_diff"), numeric[name], rtol=1e-7, atol=1e-9,
                        err_msg=name)


# ---- parity with the teaching implementation ----

@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mem_cell_ct, x_dim", [(1, 1), (2, 5), (20, 10), (33, 7), (100, 50)])
def test_one_node_like_the_reference(kernel, dtype, mem_cell_ct, x_dim):
    rng = np.random.default_rng(3)
    params = twins(mem_cell_ct, x_dim, dtype)
    cells = [module.LstmNode(param, module.LstmState(mem_cell_ct, x_dim))
             for module, param in zip([node, reference], params, strict=True)]
    x = rng.standard_normal(x_dim)
    s_prev, h_prev, dh, ds = rng.standard_normal((4, mem_cell_ct))
    for arguments in [(x,), (x, s_prev, h_prev), (x, None, h_prev), (x, s_prev)]:
        for cell in cells:
            cell.bottom_data_is(*arguments)
            cell.top_diff_is(dh, ds)
        assert_same(cells[0].state, cells[1].state, STATE, RTOL[dtype])
        assert_same(*cells, ["xc", "s_prev", "h_prev"], RTOL[dtype])
        assert_same(*params, DIFFS, 10 * RTOL[dtype])  # sums over nodes
    assert all(getattr(cells[0].state, name).dtype == dtype for name in STATE)
    assert all(getattr(params[0], name).dtype == dtype for name in GATES + DIFFS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("steps", [1, 3, 65, 130])
@pytest.mark.parametrize("watched", [False, True])
def test_network_like_the_reference(kernel, dtype, steps, watched):
    rng = np.random.default_rng(4)
    params = twins(6, 4, dtype)
    nets = [node.LstmNetwork(params[0]), reference.LstmNetwork(params[1])]
    views = [params[0].wf_diff, params[0].bo_diff] if watched else None
    for _ in range(3):
        inputs, labels = rng.standard_normal((steps, 4)), rng.standard_normal((steps, 6)) / steps
        losses = []
        for net in nets:
            for x in inputs:
                net.x_list_add(x)
            losses.append(net.y_list_is(labels, SumLoss))
        assert_allclose(losses[0], losses[1], rtol=30 * RTOL[dtype])
        for ours, theirs in zip(nets[0].lstm_node_list, nets[1].lstm_node_list, strict=True):
            assert_same(ours.state, theirs.state, STATE, 30 * RTOL[dtype])
        if watched:
            assert_allclose(views[0], params[1].wf_diff, rtol=30 * RTOL[dtype],
                            atol=30 * RTOL[dtype])
            assert_allclose(views[1], params[1].bo_diff, rtol=30 * RTOL[dtype],
                            atol=30 * RTOL[dtype])
        for net, param in zip(nets, params, strict=True):
            param.apply_diff(lr=0.05)
            net.x_list_clear()
        assert_same(*params, GATES, 30 * RTOL[dtype])


def test_diffs_add_up_over_nodes_and_calls():
    rng = np.random.default_rng(5)
    param, _ = twins(4, 3)
    cells = [node.LstmNode(param, node.LstmState(4, 3)) for _ in range(3)]
    inputs, dh, ds = rng.standard_normal((3, 3)), *rng.standard_normal((2, 3, 4))
    alone = {name: 0 for name in DIFFS}
    for cell, x, h, s in zip(cells, inputs, dh, ds, strict=True):
        cell.bottom_data_is(x)
        other = copy.deepcopy(param)
        fresh = node.LstmNode(other, node.LstmState(4, 3))
        for name in DIFFS:
            setattr(other, name, np.zeros_like(getattr(other, name)))
        fresh.bottom_data_is(x)
        fresh.top_diff_is(h, s)
        cell.top_diff_is(h, s)
        for name in DIFFS:
            alone[name] = alone[name] + getattr(other, name)
            assert_allclose(getattr(param, name), alone[name], rtol=1e-13, atol=1e-15)
    cells[0].top_diff_is(dh[0], ds[0])  # the same node again counts again
    assert not np.allclose(param.wi_diff, alone["wi_diff"])


def test_apply_diff():
    param, theirs = twins(4, 3)
    rng = np.random.default_rng(6)
    for lr in (None, 0.1, 3, np.float32(0.5), 0):
        for name in DIFFS:
            value = rng.standard_normal(getattr(param, name).shape)
            setattr(param, name, value)
            setattr(theirs, name, value.copy())
        for p in (param, theirs):
            p.apply_diff() if lr is None else p.apply_diff(lr=lr)
        assert_same(param, theirs, GATES, 1e-14)
        for name in DIFFS:
            assert_array_equal(getattr(param, name), 0)
    before = [getattr(param, name).copy() for name in GATES]
    param.apply_diff(lr=5)  # of diffs that are zero
    for name, value in zip(GATES, before, strict=True):
        assert_array_equal(getattr(param, name), value)


@pytest.mark.parametrize("lr", ["fast", None, 1j, [1, 2]])
def test_apply_diff_refuses(lr):
    param, _ = twins(4, 3)
    param.bi_diff = np.ones(4)
    before = param.bi.copy()
    with pytest.raises(TypeError, match="; expected a number"):
        param.apply_diff(lr=lr)
    assert_array_equal(param.bi, before)
    assert_array_equal(param.bi_diff, 1)


# ---- sequences ----

def test_nodes_are_used_again():
    rng = np.random.default_rng(7)
    param, theirs = twins(5, 3)
    nets = [node.LstmNetwork(param), reference.LstmNetwork(theirs)]
    kept = None
    for steps in (2, 5, 1, 3):
        inputs, labels = rng.standard_normal((steps, 3)), rng.standard_normal((steps, 5))
        for net in nets:
            for x in inputs:
                net.x_list_add(x)
            assert len(net.x_list) == steps
            net.y_list_is(labels, SumLoss)
        assert len(nets[0].lstm_node_list) == len(nets[1].lstm_node_list)
        for ours, other in zip(nets[0].lstm_node_list, nets[1].lstm_node_list, strict=True):
            assert_same(ours.state, other.state, STATE, 1e-12)
        assert_same(param, theirs, DIFFS, 1e-11)
        assert kept is None or nets[0].lstm_node_list[0] is kept
        kept = nets[0].lstm_node_list[0]
        for net in nets:
            net.x_list_clear()
            assert net.x_list == []


def test_x_list_holds_the_inputs_themselves():
    net = node.LstmNetwork(node.LstmParam(2, 3))
    x = np.ones(3)
    net.x_list_add(x)
    assert net.x_list[0] is x
    x[:] = 7
    assert_array_equal(net.lstm_node_list[0].xc, [1, 1, 1, 0, 0])


def test_a_loss_layer_may_return_one_buffer_again_and_again():
    class OneBuffer(SumLoss):
        buffer = np.empty(5)

        @classmethod
        def bottom_diff(cls, pred, label):
            cls.buffer[:] = label + pred
            return cls.buffer

    rng = np.random.default_rng(8)
    inputs, labels = rng.standard_normal((4, 3)), rng.standard_normal((4, 5))
    diffs = []
    for layer in (SumLoss, OneBuffer):
        param, _ = twins(5, 3)
        net = node.LstmNetwork(param)
        for x in inputs:
            net.x_list_add(x)
        net.y_list_is(labels, layer)
        diffs.append(param.wo_diff)
    assert_array_equal(*diffs)
    last = labels[0] + net.lstm_node_list[0].state.h
    assert_array_equal(OneBuffer.buffer, last)  # and it is not written to


# ---- views, and arrays that are kept ----

def test_params_are_views_of_one_block():
    param = node.LstmParam(4, 3)
    for name in GATES + DIFFS:
        view = getattr(param, name)
        view[...] = 3
        assert_array_equal(getattr(param, name), 3)
        assert np.shares_memory(view, getattr(param, name))
        assert view.flags.c_contiguous
        new = np.arange(view.size).reshape(view.shape)
        setattr(param, name, new)
        assert_array_equal(view, new)
        assert not np.shares_memory(view, new)
    assert param.wg.base is param.bo.base
    assert param.wg.base.size == 4 * 4 * (7 + 1)


@pytest.mark.parametrize("name", GATES + DIFFS)
def test_in_place_operators(name):
    param = node.LstmParam(4, 3)
    before = getattr(param, name).copy()
    a = np.random.default_rng(9).standard_normal(before.shape)
    exec(f"param.{name} += a", {"param": param, "a": a})
    assert_array_equal(getattr(param, name), before + a)
    exec(f"param.{name} *= 2", {"param": param})
    assert_array_equal(getattr(param, name), 2 * (before + a))


def test_a_written_parameter_is_used():
    param, theirs = twins(4, 3)
    cells = [module.LstmNode(p, module.LstmState(4, 3))
             for module, p in [(node, param), (reference, theirs)]]
    for p in (param, theirs):
        p.wf[2, 5] = 0.9
        p.bo += 0.25
    for cell in cells:
        cell.bottom_data_is(np.ones(3), np.ones(4), np.ones(4))
    assert_same(cells[0].state, cells[1].state, RESULT, 1e-13)


def test_a_diff_the_user_wrote_is_applied_with_the_nodes():
    param, theirs = twins(4, 3)
    for module, p in [(node, param), (reference, theirs)]:
        cell = module.LstmNode(p, module.LstmState(4, 3))
        cell.bottom_data_is(np.ones(3), np.ones(4), np.ones(4))
        cell.top_diff_is(np.ones(4), np.ones(4))
        p.wi_diff += 1
        p.bg_diff = np.full(4, 2.0)  # forgets what the node added
        cell.top_diff_is(np.ones(4), -np.ones(4))
        p.apply_diff(lr=0.1)
        cell.top_diff_is(np.ones(4), np.ones(4))
        p.apply_diff(lr=0.1)
    assert_same(param, theirs, GATES, 1e-13)


def test_a_view_of_a_diff_follows():
    param, _ = twins(4, 3)
    view, bias = param.wi_diff, param.bi_diff
    cell = node.LstmNode(param, node.LstmState(4, 3))
    cell.bottom_data_is(np.ones(3))
    cell.top_diff_is(np.ones(4), np.ones(4))
    assert (view[:, :3] != 0).all() and (bias != 0).all()
    assert_array_equal(view, param.wi_diff)
    before = param.wi.copy()
    value = view.copy()
    param.apply_diff(lr=0.5)
    assert_array_equal(view, 0)
    assert_allclose(param.wi, before - 0.5 * value, rtol=1e-15)
    view += 1  # after apply_diff it is still the diff
    param.apply_diff()
    assert_allclose(param.wi, before - 0.5 * value - 1, rtol=1e-13)


def test_arrays_kept_over_the_next_call_keep_their_values():
    rng = np.random.default_rng(10)
    param, _ = twins(4, 3)
    cell = node.LstmNode(param, node.LstmState(4, 3))
    kept, copies = [], []
    for _ in range(3):
        cell.bottom_data_is(*(rng.standard_normal(n) for n in (3, 4, 4)))
        cell.top_diff_is(*rng.standard_normal((2, 4)))
        arrays = [getattr(cell.state, name) for name in STATE]
        arrays += [cell.xc, cell.s_prev, cell.h_prev, cell.state.h[1:3], memoryview(cell.state.s)]
        kept.append(arrays)
        copies.append([np.array(a) for a in arrays])
    for arrays, values in zip(kept, copies, strict=True):
        for a, value in zip(arrays, values, strict=True):
            assert_array_equal(a, value)
    assert not np.array_equal(kept[0][5], kept[1][5])


def test_a_kept_array_outlives_its_node():
    net = node.LstmNetwork(node.LstmParam(4, 3))
    net.x_list_add(np.ones(3))
    h, value = net.lstm_node_list[0].state.h, net.lstm_node_list[0].state.h.copy()
    del net
    gc.collect()
    assert_array_equal(h, value)


def test_the_state_may_be_written():
    states = []
    for module in (node, reference):
        param = twins(4, 3)[module is reference]
        net = module.LstmNetwork(param)
        net.x_list_add(np.ones(3))
        first = net.lstm_node_list[0]
        first.state.h = np.arange(4.0)
        first.state.s[1] = 3
        first.state.g *= 2
        assert_array_equal(first.state.h, np.arange(4))
        net.x_list_add(np.ones(3))
        net.y_list_is(np.ones((2, 4)), SumLoss)
        states.append([first.state, net.lstm_node_list[1].state])
    for ours, theirs in zip(*states, strict=True):
        assert_same(ours, theirs, STATE, 1e-13)


def test_a_node_may_read_its_own_state():
    cells = [module.LstmNode(p, module.LstmState(4, 3))
             for module, p in zip([node, reference], twins(4, 3), strict=True)]
    for cell in cells:
        for _ in range(3):
            cell.bottom_data_is(np.ones(3), cell.state.s, cell.state.h)
        cell.top_diff_is(cell.state.h, cell.state.bottom_diff_s + 1)
        cell.top_diff_is(cell.state.bottom_diff_h, cell.state.bottom_diff_s)
    assert_same(cells[0].state, cells[1].state, STATE, 1e-13)


def test_state_before_the_first_call():
    state = node.LstmState(4, 3)
    for name in STATE:
        assert_array_equal(getattr(state, name), np.zeros(4))
    assert (state.mem_cell_ct, state.x_dim) == (4, 3)
    cell = node.LstmNode(node.LstmParam(4, 3), state)
    assert cell.xc is None and cell.s_prev is None and cell.h_prev is None
    assert cell.state is state


def test_copy_and_pickle_of_a_param():
    param, _ = twins(4, 3, "float32")
    param.note = "mine"
    cell = node.LstmNode(param, node.LstmState(4, 3))
    cell.bottom_data_is(np.ones(3))
    cell.top_diff_is(np.ones(4), np.ones(4))
    for other in (copy.deepcopy(param), copy.copy(param), pickle.loads(pickle.dumps(param))):
        assert type(other) is node.LstmParam and other.note == "mine"
        for name in GATES + DIFFS:
            assert_array_equal(getattr(other, name), getattr(param, name))
            assert getattr(other, name).dtype == np.float32
        other.apply_diff()
        assert (param.wi_diff[:, :3] != 0).all()


# ---- seeds ----

def global_state():
    return np.random.get_state()[1:3]  # noqa: NPY002


def test_rand_arr_seeds_numpys_generator():
    np.random.seed(5)  # noqa: NPY002
    a = node.rand_arr(-0.1, 0.1, 3, 4)
    ours = global_state()
    assert_array_equal(a, reference.rand_arr(-0.1, 0.1, 3, 4))
    for mine, other in zip(ours, global_state(), strict=True):
        assert_array_equal(mine, other)


def test_default_params_and_the_generator_after_them():
    ours, theirs = node.LstmParam(4, 3), reference.LstmParam(4, 3)
    for name in GATES:
        assert_array_equal(getattr(ours, name), getattr(theirs, name))
    np.random.seed(1)  # noqa: NPY002
    node.LstmParam(6, 2)
    after = np.random.rand()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    reference.LstmParam(6, 2)
    assert after == np.random.rand()  # noqa: NPY002


@pytest.mark.parametrize("dtype", DTYPES)
def test_rng_leaves_the_global_generator_alone(dtype):
    before = global_state()
    params = [node.LstmParam(30, 10, dtype=dtype, rng=rng)
              for rng in (3, np.random.default_rng(3), 4)]
    for a, b in zip(before, global_state(), strict=True):
        assert_array_equal(a, b)
    for name in GATES:
        first, same, other = (getattr(p, name) for p in params)
        assert_array_equal(first, same)
        assert not np.array_equal(first, other)
        assert -0.1 <= first.min() < -0.05 and 0.05 < first.max() <= 0.1
    assert not np.array_equal(params[0].wg, params[0].wi)


# ---- the small functions ----

def test_activations():
    x = np.linspace(-30, 30, 201)
    assert_allclose(node.sigmoid(x), reference.sigmoid(x), rtol=1e-15)
    assert_array_equal(node.sigmoid(np.array([-1e4, 1e4, np.nan])), [0, 1, np.nan])
    assert node.sigmoid(x.astype(np.float32)).dtype == np.float32
    values = node.sigmoid(x)
    step = 1e-6
    assert_allclose(node.sigmoid_derivative(values),
                    (node.sigmoid(x + step) - node.sigmoid(x - step)) / (2 * step), atol=1e-9)
    assert_allclose(node.tanh_derivative(np.tanh(x)),
                    (np.tanh(x + step) - np.tanh(x - step)) / (2 * step), atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_toy_loss_layer(dtype):
    pred = np.array([0.5, 2, 3], dtype)
    assert node.ToyLossLayer.loss(pred, 0.25) == 0.0625
    diff = node.ToyLossLayer.bottom_diff(pred, 0.25)
    assert_array_equal(diff, [0.5, 0, 0])
    assert diff.dtype == dtype and not np.shares_memory(diff, pred)


# ---- what is passed in ----

def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def misaligned(a):
    raw = np.empty(a.nbytes + 1, np.uint8)
    out = raw[1:].view(a.dtype)
    out[:] = a
    return out


WHOLE = {
    "list": list,
    "tuple": tuple,
    "read-only": read_only,
    "step 2": lambda a: np.repeat(a, 2)[::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "column": lambda a: np.stack([a, a], axis=1)[:, 1],
    "misaligned": misaligned,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "float16": lambda a: a.astype(np.float16),
    "float32": lambda a: a.astype(np.float32),
    "float64": lambda a: a.astype(np.float64),
    "longdouble": lambda a: a.astype(np.longdouble),
    "int": lambda a: a.astype(np.int64),
    "uint8": lambda a: a.astype(np.uint8),
    "bool": lambda a: a.astype(bool),
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "subclass": lambda a: a.view(type("Sub", (np.ndarray,), {})),
    "memoryview": memoryview,
    "one column of many": lambda a: np.ones((len(a), 5))[:, 2],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("size", [1, 4])
def test_arrays_of_every_kind(dtype, kind, size):
    arguments = [WHOLE[kind](np.arange(1.0, n + 1)) for n in [size + 1, size, size, size, size]]
    x, s_prev, h_prev, dh, ds = arguments
    before = [np.array(a) for a in arguments]
    states = []
    for module, param in zip([node, reference], twins(size, size + 1, dtype), strict=True):
        cell = module.LstmNode(param, module.LstmState(size, size + 1))
        plain = module is reference
        cell.bottom_data_is(*(np.array(a, float) if plain else a for a in (x, s_prev, h_prev)))
        cell.top_diff_is(*(np.array(a, float) if plain else a for a in (dh, ds)))
        states.append(cell.state)
    assert_same(*states, STATE, RTOL[dtype])
    for a, value in zip(arguments, before, strict=True):
        assert_array_equal(a, value)


@pytest.mark.parametrize("bad, error, message", [
    (np.ones(4), ValueError, r"has 4 elements; expected 3"),
    (np.ones(2), ValueError, r"has 2 elements; expected 3"),
    (np.ones(0), ValueError, r"has 0 elements; expected 3"),
    (np.ones((1, 3)), ValueError, r"has shape \(1, 3\); expected \(3,\)"),
    (np.float64(1), ValueError, r"has shape \(\); expected \(3,\)"),
    (np.ones(3, complex), TypeError, "has dtype complex128; expected real numbers"),
    (np.ones(3, object), TypeError, "has dtype object; expected real numbers"),
    (np.ones(3, "M8[s]"), TypeError, "has dtype datetime64\\[s\\]; expected real numbers"),
    (["1", "2", "3"], TypeError, "has dtype <U1; expected real numbers"),
    ("abc", TypeError, "has dtype .*; expected real numbers"),
    (b"abc", TypeError, "has dtype .*; expected real numbers"),
    ({1: 2}, TypeError, "has dtype .*; expected real numbers"),
])
def test_bad_arrays_name_the_argument_and_change_nothing(bad, error, message):
    rng = np.random.default_rng(11)
    param, _ = twins(3, 3)
    net = node.LstmNetwork(param)
    net.x_list_add(np.ones(3))
    net.x_list_add(np.ones(3))
    cell = net.lstm_node_list[1]
    good = [rng.standard_normal(3) for _ in range(3)]
    cell.bottom_data_is(*good)
    cell.top_diff_is(good[0], good[1])

    def everything():
        arrays = [getattr(cell.state, name) for name in STATE]
        arrays += [getattr(param, name) for name in GATES + DIFFS]
        return [a.copy() for a in [*arrays, cell.xc, cell.s_prev, cell.h_prev]]

    before = everything()

    class BadLayer(node.ToyLossLayer):
        @staticmethod
        def bottom_diff(pred, label):
            return good[0] if label == 2 else bad

    attempts = [
        ("x", lambda: cell.bottom_data_is(bad)),
        ("x", lambda: net.x_list_add(bad)),
        ("s_prev", lambda: cell.bottom_data_is(good[0] + 1, bad, good[2])),
        ("h_prev", lambda: cell.bottom_data_is(good[0] + 1, good[1] + 1, bad)),
        ("top_diff_h", lambda: cell.top_diff_is(bad, good[0])),
        ("top_diff_s", lambda: cell.top_diff_is(good[0], bad)),
        ("bottom_diff of loss_layer", lambda: net.y_list_is([1, 2], BadLayer)),
        ("h", lambda: setattr(cell.state, "h", bad)),
        ("bottom_diff_s", lambda: setattr(cell.state, "bottom_diff_s", bad)),
    ]
    for name, attempt in attempts:
        with pytest.raises(error, match=f"^{name} {message}"):
            attempt()
        for value, now in zip(before, everything(), strict=True):
            assert_array_equal(now, value, err_msg=name)
    assert len(net.x_list) == len(net.lstm_node_list) == 2
    for name in ("wf", "bo", "wi_diff", "bg_diff"):
        with pytest.raises((TypeError, ValueError), match=f"^{name} "):
            setattr(param, name, bad if name[0] == "w" else np.ones(5))
    for value, now in zip(before, everything(), strict=True):
        assert_array_equal(now, value)


def test_a_failed_first_step_leaves_the_network_empty():
    net = node.LstmNetwork(node.LstmParam(4, 3))
    with pytest.raises(ValueError, match="x has 4 elements"):
        net.x_list_add(np.ones(4))
    assert net.x_list == [] and net.lstm_node_list == []


def test_nan_and_inf_pass():
    param, _ = twins(4, 3)
    cell = node.LstmNode(param, node.LstmState(4, 3))
    cell.bottom_data_is([1, np.nan, 2])
    assert np.isnan(cell.state.h).all()
    cell.bottom_data_is([1, 0, 2])  # and nothing of it stays
    assert np.isfinite(cell.state.h).all()
    s_prev = np.array([1, np.nan, np.inf, 2])
    cell.bottom_data_is([1, 0, 2], s_prev)
    assert_array_equal(np.isnan(cell.state.s), [False, True, False, False])
    assert cell.state.s[2] == np.inf


def test_calls_out_of_order():
    net = node.LstmNetwork(node.LstmParam(4, 3))
    cell = node.LstmNode(net.lstm_param, node.LstmState(4, 3))
    with pytest.raises(RuntimeError, match="top_diff_is comes after bottom_data_is"):
        cell.top_diff_is(np.ones(4), np.ones(4))
    with pytest.raises(ValueError, match="y_list is empty"):
        net.y_list_is([], node.ToyLossLayer)
    net.x_list_add(np.ones(3))
    for y_list in ([], [1, 2]):
        with pytest.raises(ValueError, match=f"y_list has {len(y_list)} targets; expected 1"):
            net.y_list_is(y_list, node.ToyLossLayer)
    assert_array_equal(net.lstm_param.wi_diff, 0)
    net.lstm_node_list[0] = cell  # one that has had no input
    with pytest.raises(RuntimeError, match="y_list_is comes after bottom_data_is"):
        net.y_list_is([1], node.ToyLossLayer)
    with pytest.raises(RuntimeError, match="x_list_add comes after bottom_data_is"):
        net.x_list_add(np.ones(3))


def test_a_loss_layer_that_fails_changes_no_diff():
    class Failing(SumLoss):
        @staticmethod
        def loss(pred, label):
            if label[0] < 0:
                raise ZeroDivisionError("from the loss layer")
            return 0.0

    net = node.LstmNetwork(twins(4, 3)[0])
    for _ in range(3):
        net.x_list_add(np.ones(3))
    labels = np.ones((3, 4))
    labels[0] = -1
    with pytest.raises(ZeroDivisionError, match="from the loss layer"):
        net.y_list_is(labels, Failing)
    for name in DIFFS:
        assert_array_equal(getattr(net.lstm_param, name), 0)
    assert_array_equal(net.lstm_node_list[2].state.bottom_diff_h, 0)
    labels[0] = 1
    net.y_list_is(labels, Failing)
    assert (net.lstm_param.bo_diff != 0).all()


@pytest.mark.parametrize("sizes, error, message", [
    ((0, 3), ValueError, "mem_cell_ct is 0; expected at least 1"),
    ((4, -1), ValueError, "x_dim is -1; expected at least 1"),
    ((2.5, 3), TypeError, "mem_cell_ct is 2.5; expected an integer"),
    ((4, "3"), TypeError, "x_dim is .3.; expected an integer"),
    ((2**29, 3), ValueError, "mem_cell_ct is 536870912 and x_dim is 3"),
    ((4, 2**31), ValueError, "x_dim is 2147483648"),
    ((2**80, 2**80), ValueError, "expected at most 2147483647"),
])
def test_sizes(sizes, error, message):
    for make in (node.LstmParam, node.LstmState):
        with pytest.raises(error, match=message):
            make(*sizes)


def test_sizes_may_be_numpy_integers():
    assert node.LstmParam(np.int32(4), np.uint8(3)).wg.shape == (4, 7)


@pytest.mark.parametrize("dtype", ["float16", "int64", ">f8", complex, object])
def test_param_refuses_other_dtypes(dtype):
    with pytest.raises(TypeError, match=r"dtype is .*; expected float64 or float32"):
        node.LstmParam(4, 3, dtype=dtype)


def test_node_refuses_what_does_not_belong_together():
    param = node.LstmParam(4, 3)
    with pytest.raises(ValueError, match="state has mem_cell_ct=5 and x_dim=3, param has mem_cell"):
        node.LstmNode(param, node.LstmState(5, 3))
    with pytest.raises(TypeError, match="state"):
        node.LstmNode(param, None)
    with pytest.raises(TypeError, match="param"):
        node.LstmNode(None, node.LstmState(4, 3))
    with pytest.raises(TypeError, match="param"):
        node.LstmNetwork(3)
    net = node.LstmNetwork(param)
    net.lstm_node_list.append(node.LstmNode(node.LstmParam(4, 3), node.LstmState(4, 3)))
    with pytest.raises(ValueError, match=r"lstm_node_list\[0\] has another param"):
        net.x_list_add(np.ones(3))


# ---- memory and threads ----

@pytest.mark.parametrize("dtype", DTYPES)
def test_allocation_is_flat(dtype):
    param = node.LstmParam(20, 10, dtype=dtype, rng=0)
    net = node.LstmNetwork(param)
    inputs = np.random.default_rng(12).random((4, 10))

    def iterations(n):
        for _ in range(n):
            for x in inputs:
                net.x_list_add(x)
            net.lstm_node_list[0].top_diff_is(net.lstm_node_list[1].state.h, np.zeros(20))
            net.y_list_is([-0.5, 0.2, 0.1, -0.5], node.ToyLossLayer)
            with pytest.raises(ValueError):
                net.y_list_is([1], node.ToyLossLayer)
            param.apply_diff(lr=0.1)
            net.x_list_clear()

    iterations(10)
    tracemalloc.start()
    try:
        iterations(10)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        iterations(1000)
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1024
    assert peak - before < 64 * 1024


def trained(seed, iterations=60):
    rng = np.random.default_rng(seed)
    param = node.LstmParam(40, 20, rng=seed)
    net = node.LstmNetwork(param)
    inputs, labels = rng.standard_normal((6, 20)), rng.standard_normal((6, 40))
    for _ in range(iterations):
        for x in inputs:
            net.x_list_add(x)
        loss = net.y_list_is(labels, SumLoss)
        param.apply_diff(lr=0.01)
        net.x_list_clear()
    return loss, param.wg.copy(), param.bo.copy()


def run_in_threads(functions):
    results = [None] * len(functions)

    def work(k):
        results[k] = functions[k]()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_networks_in_threads():
    expected = [trained(seed) for seed in range(4)]
    found = run_in_threads([lambda seed=seed: trained(seed) for seed in range(4)])
    for one, other in zip(expected, found, strict=True):
        for a, b in zip(one, other, strict=True):
            assert_array_equal(a, b)


@pytest.mark.parametrize("watched", [False, True])
def test_threads_that_add_to_one_param(watched):
    """Diffs from several threads all arrive, also where they fill and empty the pending rows."""
    param, _ = twins(30, 10)
    view = param.wi_diff if watched else None
    inputs = np.random.default_rng(13).standard_normal((8, 10))

    def add(x):
        cell = node.LstmNode(param, node.LstmState(30, 10))
        for _ in range(300):
            cell.bottom_data_is(x)
            cell.top_diff_is(np.ones(30), np.ones(30))

    run_in_threads([lambda x=x: add(x) for x in inputs])
    together = {name: getattr(param, name).copy() for name in DIFFS}
    assert view is None or np.array_equal(view, together["wi_diff"])
    for name in DIFFS:
        setattr(param, name, np.zeros_like(together[name]))
    for x in inputs:
        cell = node.LstmNode(param, node.LstmState(30, 10))
        cell.bottom_data_is(x)
        cell.top_diff_is(300 * np.ones(30), 300 * np.ones(30))
    for name in DIFFS:
        assert_allclose(together[name], getattr(param, name), rtol=1e-10, atol=1e-10)


def test_one_network_in_threads_does_not_crash():
    # A node is one thread's at a time: the others are refused, and nothing is computed twice at once.
    net = node.LstmNetwork(twins(30, 10)[0])
    net.x_list_add(np.ones(10))
    cell, kept = net.lstm_node_list[0], []

    def hammer():
        for _ in range(300):
            try:
                cell.bottom_data_is(np.ones(10), np.ones(30), np.ones(30))
                cell.top_diff_is(np.ones(30), np.ones(30))
            except RuntimeError as error:
                assert "node is in use by another thread" in str(error)
            kept.append(cell.state.h)
            net.lstm_param.apply_diff(lr=0)

    run_in_threads([hammer] * 4)
    expected = cell.state.h.copy()
    assert len(kept) == 1200
    for h in kept:
        assert_array_equal(h, expected)
