"""Graphs built by hand: pooling over time, final states as steps of y, stacks of several widths."""

import numpy as np
import pytest
from harness import assert_close

from lstm_ext import LSTM, Model
from lstm_ext.io import FormatError, from_onnx, to_onnx

onnx = pytest.importorskip("onnx", reason="onnx is not installed: the extra onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

N, T, I, H, O = 3, 6, 2, 4, 2  # noqa: E741


def graph(nodes, tensors, lengths=False):
    """Return a model whose input is x (N, T, I) and whose output is out; y is (N, T, D H)."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n", "t", I])]
    if lengths:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["n"]))
    output = helper.make_tensor_value_info("out", TensorProto.DOUBLE, None)
    numbers = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    proto = helper.make_graph(nodes, "g", inputs, [output], numbers)
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def lstm_nodes(widths, directions=1, direction=None, lengths=False):
    """Return nodes of LSTMs that feed one another, whose last y is "y" (N, T, D H), and their weights."""
    rng, inputs = np.random.default_rng(0), I
    nodes, tensors = [helper.make_node("Transpose", ["x"], ["y0"], perm=[1, 0, 2])], {}
    words = {"direction": direction or ("bidirectional" if directions == 2 else "forward")}
    for k, width in enumerate(widths):
        for name, shape in (
            ("W", (4 * width, inputs)), ("R", (4 * width, width)), ("B", (8 * width,)),
        ):
            tensors[f"{name}{k}"] = rng.normal(size=(directions, *shape)) / 2
        given = [f"y{k}", f"W{k}", f"R{k}", f"B{k}", *(["lengths"] if lengths else [])]
        nodes.append(helper.make_node("LSTM", given, [f"Y{k}", f"h{k}"], hidden_size=width, **words))
        nodes.append(helper.make_node("Transpose", [f"Y{k}"], [f"t{k}"], perm=[0, 2, 1, 3]))
        tensors[f"shape{k}"] = np.array([0, 0, directions * width])
        nodes.append(helper.make_node("Reshape", [f"t{k}", f"shape{k}"], [f"y{k + 1}"]))
        inputs = directions * width
    nodes.append(helper.make_node("Transpose", [f"y{len(widths)}"], ["y"], perm=[1, 0, 2]))
    return nodes, tensors


def read(nodes, tensors, features, width):
    """Return the model that is read, and what ONNX's reference computes, of a readout of `features`."""
    rng = np.random.default_rng(9)
    tensors = {**tensors, "weight": rng.normal(size=(width, O)), "bias": rng.normal(size=O)}
    nodes = [*nodes, helper.make_node("MatMul", [features, "weight"], ["product"]),
             helper.make_node("Add", ["product", "bias"], ["out"])]
    proto = graph(nodes, tensors)
    x = rng.normal(size=(N, T, I))
    return from_onnx(proto), x, ReferenceEvaluator(proto).run(None, {"x": x})[0]


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(("node", "pooling"), [("ReduceMean", "mean"), ("ReduceMax", "max")])
def test_means_and_maxima_over_time_are_poolings(node, pooling, directions, keepdims):
    nodes, tensors = lstm_nodes([H], directions)
    nodes.append(helper.make_node(node, ["y"], ["pooled"], axes=[1], keepdims=keepdims))
    tensors["one"] = np.array([1])
    if keepdims:
        nodes.append(helper.make_node("Squeeze", ["pooled", "one"], ["features"]))
    else:
        nodes.append(helper.make_node("Identity", ["pooled"], ["features"]))
    if directions == 2:
        model = from_onnx(graph([*nodes, helper.make_node("MatMul", ["features", "weight"], ["out"])],
                                {**tensors, "weight": np.ones((2 * H, O))}))
        assert (model.pooling, model.lstm.bidirectional) == (pooling, True)
        return
    model, x, theirs = read(nodes, tensors, "features", H)
    assert model.pooling == pooling and not model.every_step
    assert_close(model.predict(x), theirs, 1e-12)


@pytest.mark.parametrize("how", ["mul", "mul turned round", "matmul", "squeezed"])
@pytest.mark.parametrize("widths", [(H,), (6, 3)])
def test_an_attention_is_a_pooling(how, widths):
    """Softmax over time of a linear score, with a bias, which changes nothing."""
    nodes, tensors = lstm_nodes(widths)
    tensors |= {"v": np.random.default_rng(5).normal(size=(widths[-1], 1)), "b": np.array([0.7]),
                "one": np.array([1]), "two": np.array([2])}
    nodes += [helper.make_node("MatMul", ["y", "v"], ["s"]), helper.make_node("Add", ["s", "b"], ["score"])]
    if how == "squeezed":
        nodes += [helper.make_node("Squeeze", ["score", "two"], ["flat"]),
                  helper.make_node("Softmax", ["flat"], ["part"], axis=1),
                  helper.make_node("Unsqueeze", ["part", "two"], ["share"])]
    else:
        nodes.append(helper.make_node("Softmax", ["score"], ["share"], axis=1))
    if how == "matmul":
        nodes += [helper.make_node("Transpose", ["share"], ["across"], perm=[0, 2, 1]),
                  helper.make_node("MatMul", ["across", "y"], ["row"]),
                  helper.make_node("Squeeze", ["row", "one"], ["features"])]
    else:
        order = ["y", "share"] if how == "mul turned round" else ["share", "y"]
        nodes += [helper.make_node("Mul", order, ["weighted"]),
                  helper.make_node("ReduceSum", ["weighted", "one"], ["features"], keepdims=0)]
    model, x, theirs = read(nodes, tensors, "features", widths[-1])
    assert model.pooling == "attention"
    assert_close(model.predict(x), theirs, 1e-12)


def test_what_is_no_attention_is_refused():
    for change, said in (
        (lambda nodes, tensors: tensors.update(v=np.ones((H, 2))), "a softmax over time is read of one"),
        (lambda nodes, tensors: nodes[-1].op_type == "ReduceSum" and nodes[-1].input.__setitem__(0, "y"),
         "a attention of y"),
        (lambda nodes, tensors: nodes[-2].input.__setitem__(1, "share"), "an attention of share"),
    ):
        nodes, tensors = lstm_nodes([H])
        tensors |= {"v": np.ones((H, 1)), "one": np.array([1])}
        nodes += [
            helper.make_node("MatMul", ["y", "v"], ["score"]),
            helper.make_node("Softmax", ["score"], ["share"], axis=1),
            helper.make_node("Mul", ["share", "y"], ["weighted"]),
            helper.make_node("ReduceSum", ["weighted", "one"], ["out"], keepdims=0),
        ]
        change(nodes, tensors)
        with pytest.raises(FormatError, match=said):
            from_onnx(graph(nodes, tensors))


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_what_to_onnx_writes_of_a_pooling_is_read_back(pooling):
    model = Model(LSTM(2, 3, 2, bidirectional=True, rng=0), 2, pooling=pooling, rng=0)
    model.parameters = np.random.default_rng(0).normal(size=model.parameters.shape)
    again = from_onnx(to_onnx(model))
    assert again.pooling == pooling and np.array_equal(again.parameters, model.parameters)
    with pytest.raises(FormatError, match="cannot be taken over"):
        from_onnx(to_onnx(model, lengths=True))


def test_a_mean_over_features_or_sequences_is_none():
    for axis in (0, 2):
        nodes, tensors = lstm_nodes([H])
        nodes.append(helper.make_node("ReduceMean", ["y"], ["out"], axes=[axis], keepdims=1))
        with pytest.raises(FormatError, match="a mean over another axis than time"):
            from_onnx(graph(nodes, tensors))


def test_a_mean_with_lengths_counts_what_a_model_does_not():
    nodes, tensors = lstm_nodes([H], lengths=True)
    nodes.append(helper.make_node("ReduceMean", ["y"], ["out"], axes=[1], keepdims=0))
    with pytest.raises(FormatError, match="the mean of y counts the steps beyond a sequence's length"):
        from_onnx(graph(nodes, tensors, lengths=True))


@pytest.mark.parametrize("widths", [(5, 3), (2, 6, 4), (4, 4)])
def test_lstms_of_several_widths_are_one(widths):
    nodes, tensors = lstm_nodes(widths)
    tensors["last"] = np.array(-1)
    nodes.append(helper.make_node("Gather", ["y", "last"], ["features"], axis=1))
    model, x, theirs = read(nodes, tensors, "features", widths[-1])
    assert (model.lstm.hidden_size, model.lstm.num_layers) == (max(widths), len(widths))
    assert_close(model.predict(x), theirs, 1e-12)


def test_a_narrow_last_lstm_without_a_readout_is_refused_by_its_output():
    nodes, tensors = lstm_nodes([5, 3])
    nodes.append(helper.make_node("Identity", ["y"], ["out"]))
    with pytest.raises(FormatError, match="output out: it is of LSTMs of the hidden sizes 5, 3; an LSTM"):
        from_onnx(graph(nodes, tensors))


def test_the_first_step_of_an_lstm_that_reads_backward_is_its_state():
    nodes, tensors = lstm_nodes([H], direction="reverse")
    tensors["first"] = np.array(0)
    nodes.append(helper.make_node("Gather", ["y", "first"], ["features"], axis=1))
    weight = np.random.default_rng(1).normal(size=(H, O))
    model = from_onnx(graph([*nodes, helper.make_node("MatMul", ["features", "weight"], ["out"])],
                            {**tensors, "weight": weight}))
    x = np.random.default_rng(0).normal(size=(N, T, I))
    assert model.lstm.reverse
    assert_close(model.predict(x), model.lstm(x)[0][:, 0] @ weight, 1e-12)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1,)])
def test_states_of_both_directions_in_any_order(order):
    nodes, tensors = lstm_nodes([H], 2)
    parts = []
    for d in order:
        tensors[f"d{d}"] = np.array(d)
        nodes.append(helper.make_node("Gather", ["h0", f"d{d}"], [f"h_of_{d}"], axis=0))
        parts.append(f"h_of_{d}")
    nodes.append(helper.make_node("Concat", parts, ["features"], axis=1))
    weight = np.random.default_rng(1).normal(size=(len(order) * H, O))
    model = from_onnx(graph([*nodes, helper.make_node("MatMul", ["features", "weight"], ["out"])],
                            {**tensors, "weight": weight}))
    x = np.random.default_rng(0).normal(size=(N, T, I))
    _, (h, _) = model.lstm(x)
    assert_close(model.predict(x), np.concatenate([h[d] for d in order], 1) @ weight, 1e-12)


@pytest.mark.parametrize(("nodes", "weigh"), [
    ([("Sub", ["out0", "a"]), ("Div", ["out1", "b"])], lambda y, a, b: (y - a) / b),
    ([("Sub", ["a", "out0"])], lambda y, a, b: a - y), ([("Neg", ["out0"])], lambda y, a, b: -y),
    ([("Mul", ["b", "out0"]), ("Add", ["a", "out1"])], lambda y, a, b: b * y + a),
])
def test_what_follows_a_readout_is_part_of_it(nodes, weigh):
    before, tensors = lstm_nodes([H])
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=O), rng.uniform(1, 2, size=O)
    tensors |= {"a": a, "b": b, "weight": rng.normal(size=(H, O))}
    before.append(helper.make_node("MatMul", ["y", "weight"], ["out0"]))
    for k, (kind, inputs) in enumerate(nodes):
        last = k + 1 == len(nodes)
        before.append(helper.make_node(kind, inputs, ["out" if last else f"out{k + 1}"]))
    model = from_onnx(graph(before, tensors))
    x = rng.normal(size=(N, T, I))
    assert_close(model.predict(x), weigh(model.lstm(x)[0] @ tensors["weight"], a, b), 1e-12)
    assert isinstance(model, Model) and isinstance(model.lstm, LSTM)


def test_dividing_by_zero_is_refused():
    nodes, tensors = lstm_nodes([H])
    tensors |= {"weight": np.ones((H, O)), "zero": np.zeros(O)}
    nodes.append(helper.make_node("MatMul", ["y", "weight"], ["p"]))
    nodes.append(helper.make_node("Div", ["p", "zero"], ["out"]))
    with pytest.raises(FormatError, match="weights that are not finite"):
        from_onnx(graph(nodes, tensors))
