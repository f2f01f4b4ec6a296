"""ONNX in and out: parity with ONNX Runtime and ONNX's reference, round trips, the backend, hostile files."""

import copy
import inspect
import itertools
import os
import tracemalloc

import make_option_outputs as peers
import numpy as np
import pytest
from harness import TOLERANCE, assert_close

from lstm_ext import LSTM, Model
from lstm_ext.io import FormatError, _onnx_lstm, from_onnx, to_onnx
from lstm_ext.io._onnx import graph

onnx = pytest.importorskip("onnx", reason="ONNX is not installed: nothing of ONNX is tested")
from onnx import TensorProto, checker, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from lstm_ext.io.onnx import Backend  # noqa: E402

N, T, I, H = 5, 7, 3, 4  # noqa: E741
LENGTHS = np.array([7, 1, 3, 2, 5], "int32")

# Options that come back as they went, and those that are made of other nodes and do not.
CARRIED = {
    "plain": {},
    "stacked": {"num_layers": 3},
    "bidirectional": {"num_layers": 2, "bidirectional": True},
    "reverse": {"num_layers": 2, "reverse": True},
    "peepholes": {"num_layers": 2, "peepholes": True},
    "coupled": {"peepholes": True, "coupled_gates": True, "gate_clip": 0.75},
    "no_bias": {"num_layers": 2, "bias": False},
    "identity": {"cell_activation": "identity"},
    "activations": {
        "activations": (("hard_sigmoid", 0.25, 0.5), ("elu", 0.75), "softsign"),
        "bidirectional": True,
    },
    "more_activations": {"activations": ("sigmoid", ("scaled_tanh", 0.75, 1.25), ("leaky_relu", 0.125))},
    "learn_state": {"num_layers": 2, "bidirectional": True, "learn_state": True},
    "time_first": {"num_layers": 2, "batch_first": False},
}
MADE = {
    "projection": {"num_layers": 2, "bidirectional": True, "proj_size": 2},
    "static": {"num_layers": 2, "static_size": 2},
    "entity_aware": {"static_size": 2, "entity_aware": True, "bidirectional": True},
    "missing": {"nan": "zero", "nan_mask": True},
    "training": {
        "num_layers": 2,
        "dropout": 0.5,
        "recurrent_dropout": 0.5,
        "weight_dropout": 0.5,
        "checkpoint": 2,
    },
}
LSTM_LIKE = CARRIED | MADE


def drawn(thing, seed=0):
    """Asymmetric random parameters, biases and peepholes among them."""
    thing.parameters = 0.5 * np.random.default_rng(seed).normal(size=thing.parameters.size)
    return thing


def arguments(lstm, lengths, initial_states, rng):
    """Arrays of one call: those of the ONNX model by name, and x and keywords of ours."""
    x = rng.normal(size=(N, T, I)).astype(lstm.dtype)
    if lstm.nan:
        x[0, 2, 1] = np.nan
    x = x if lstm.batch_first else x.swapaxes(0, 1).copy()
    feeds, words = {"x": x}, {}
    if lengths:
        feeds["lengths"] = words["lengths"] = LENGTHS
    if initial_states:
        layers = lstm.num_layers * (2 if lstm.bidirectional else 1)
        feeds["h_0"], feeds["c_0"] = rng.normal(size=(2, layers, N, H)).astype(lstm.dtype)
        words["state"] = (feeds["h_0"], feeds["c_0"])
    if lstm.static_size:
        feeds["static"] = words["static"] = rng.normal(size=(N, lstm.static_size)).astype(lstm.dtype)
    return feeds, x, words


def run_onnxruntime(model, feeds):
    ort = pytest.importorskip(
        "onnxruntime", reason="ONNX Runtime is not installed: exports are not run in it"
    )
    ort.set_default_logger_severity(3)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def run_reference(model, feeds):
    return ReferenceEvaluator(model).run(None, feeds)


def run_backend(model, feeds):
    return Backend.prepare(model).run(feeds)


def compare_lstm(lstm, run, tolerance, lengths=False, initial_states=False):
    model = to_onnx(lstm, lengths=lengths, initial_states=initial_states)
    feeds, x, words = arguments(lstm, lengths, initial_states, np.random.default_rng(1))
    y, state = lstm(x, **words)
    for theirs, ours, name in zip(run(model, feeds), (y, *state), ("y", "h_n", "c_n"), strict=True):
        assert_close(theirs, ours, tolerance, name)


def compare_model(model, run, tolerance, lengths=False, activation=None):
    proto = to_onnx(model, lengths=lengths, activation=activation)
    feeds, x, words = arguments(model.lstm, lengths, False, np.random.default_rng(1))
    prediction = model.predict(x, **words)
    if activation == "softmax":
        share = np.exp(prediction - prediction.max(axis=-1, keepdims=True))
        prediction = share / share.sum(axis=-1, keepdims=True)
    assert_close(run(proto, feeds)[0], prediction, tolerance, "prediction")


# ---- out


@pytest.mark.parametrize(("lengths", "initial_states"), [*itertools.product((False, True), repeat=2)])
@pytest.mark.parametrize("name", LSTM_LIKE)
def test_onnxruntime_runs_an_exported_lstm(name, lengths, initial_states):
    if initial_states and name == "projection":
        return  # refused, below
    compare_lstm(
        drawn(LSTM(I, H, **LSTM_LIKE[name])), run_onnxruntime, TOLERANCE["float32"], lengths, initial_states
    )


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("name", [name for name in LSTM_LIKE if name != "time_first"])
def test_onnxruntime_runs_an_exported_model(name, every_step, lengths):
    model = drawn(Model(LSTM(I, H, **LSTM_LIKE[name]), 2, every_step=every_step))
    compare_model(model, run_onnxruntime, TOLERANCE["float32"], lengths)


@pytest.mark.parametrize("every_step", [False, True])
def test_softmax_where_the_loss_says_so(every_step):
    model = drawn(Model(LSTM(I, H), 3, every_step=every_step, loss="cross_entropy"))
    compare_model(model, run_onnxruntime, TOLERANCE["float32"], activation="softmax")
    with pytest.raises(ValueError, match="no readout whose loss is cross entropy"):
        to_onnx(drawn(Model(LSTM(I, H), 3)), activation="softmax")
    with pytest.raises(ValueError, match="activation is 'exp'; expected None or 'softmax'"):
        to_onnx(model, activation="exp")


REFERENCE_KNOWS = (
    "plain",
    "stacked",
    "bidirectional",
    "reverse",
    "peepholes",
    "no_bias",
    "learn_state",
    "time_first",
    "projection",
    "static",
    "entity_aware",
    "missing",
)


@pytest.mark.parametrize("name", REFERENCE_KNOWS)
def test_reference_runs_an_export_in_float64(name):
    """ONNX's own implementation, which knows no lengths, no clips and no other activations."""
    lstm = drawn(LSTM(I, H, dtype="float64", **LSTM_LIKE[name]))
    compare_lstm(lstm, run_reference, 1e-12, initial_states=name != "projection")
    if lstm.batch_first:
        compare_model(drawn(Model(lstm, 2, every_step=True)), run_reference, 1e-12)


@pytest.mark.parametrize("name", LSTM_LIKE)
def test_backend_runs_an_export_in_float64(name):
    """Everything but the LSTM is ONNX's: all nodes around it, with lengths, too."""
    lstm = drawn(LSTM(I, H, dtype="float64", **LSTM_LIKE[name]))
    compare_lstm(lstm, run_backend, 1e-12, lengths=True)
    if lstm.batch_first:
        compare_model(drawn(Model(lstm, 2, every_step=True)), run_backend, 1e-12, lengths=True)


def test_batch_and_time_are_free():
    model = to_onnx(drawn(Model(LSTM(I, H, num_layers=2, bidirectional=True), 2)), lengths=True)
    dims = {
        given.name: [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim]
        for given in (*model.graph.input, *model.graph.output)
    }
    assert dims == {"x": ["batch", "time", I], "lengths": ["batch"], "prediction": ["batch", 2]}
    checker.check_model(model, full_check=True)
    for shape in ((1, 1, I), (3, 9, I)):
        feeds = {"x": np.ones(shape, "float32"), "lengths": np.ones(shape[0], "int32")}
        assert run_onnxruntime(model, feeds)[0].shape == (shape[0], 2)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    lstm, path = drawn(LSTM(I, H)), tmp_path / "lstm.onnx"
    model = to_onnx(lstm, path)
    assert path.read_bytes() == model.SerializeToString()
    with pytest.raises(ValueError, match="layer_norm"):
        to_onnx(LSTM(I, H, layer_norm=True), path)
    assert os.listdir(tmp_path) == ["lstm.onnx"]
    assert (from_onnx(path).parameters == lstm.parameters).all()


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        ({"layer_norm": True}, {}, "layer_norm"),
        ({"cell_clip": 1.0}, {}, "cell_clip"),
        ({"zoneout": (0.1, 0.0)}, {}, "zoneout"),
        ({"nan": "hold"}, {}, "nan='hold'"),
        ({"activations": ("sigmoid", "gelu", "tanh")}, {}, "'gelu' has no name in ONNX's LSTM"),
        ({"proj_size": 2}, {"initial_states": True}, "proj_size cannot be written with initial states"),
        ({"proj_size": 2, "learn_state": True}, {}, "proj_size cannot be written with initial states"),
        (
            {"dtype": "float64", "gate_clip": 0.1},
            {},
            "gate_clip is 0.1; expected a number that float32 holds",
        ),
        (
            {"dtype": "float64", "activations": ("hard_sigmoid", "tanh", "tanh")},
            {},
            "alpha of hard_sigmoid is 0.2",
        ),
    ],
)
def test_what_onnx_cannot_say_is_refused(words, options, said):
    with pytest.raises(ValueError, match=said):
        to_onnx(LSTM(I, H, **words), **options)


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="model is int; expected an LSTM, a Model or a fitted estimator"):
        to_onnx(3)
    with pytest.raises(TypeError, match="lengths is 1; expected True or False"):
        to_onnx(LSTM(I, H), lengths=1)
    with pytest.raises(TypeError, match="source is int; expected a path, bytes or"):
        from_onnx(3)
    with pytest.raises(FileNotFoundError):
        from_onnx("no such file.onnx")


# ---- there and back


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CARRIED)
def test_there_and_back_bit_for_bit(name, dtype):
    lstm = drawn(LSTM(I, H, dtype=dtype, **CARRIED[name]))
    for lengths, states in itertools.product((False, True), repeat=2):
        back = from_onnx(to_onnx(lstm, lengths=lengths, initial_states=states).SerializeToString())
        if states and lstm.learn_state:
            assert not back.learn_state  # the graph is given its states
            continue
        assert repr(back) == repr(lstm)
        assert back.parameters.tobytes() == lstm.parameters.tobytes()
    if not lstm.batch_first:
        return
    for every_step, loss in itertools.product((False, True), ("mse", "cross_entropy")):
        model = drawn(Model(copy.deepcopy(lstm), 2, every_step=every_step, loss=loss))
        activation = "softmax" if loss == "cross_entropy" else None
        back = from_onnx(to_onnx(model, lengths=True, activation=activation))
        assert repr(back) == repr(model)
        assert back.parameters.tobytes() == model.parameters.tobytes()


# ---- in: one operator with every attribute


def operator_model(arrays, attributes, outputs=("Y", "Y_h", "Y_c"), constant=("W", "R", "B", "P"), opset=22):
    """Return a model of one LSTM operator, its weights in the file."""
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    names = [name if name in arrays else "" for name in order]
    node = helper.make_node("LSTM", names, list(outputs), "the_lstm", **attributes)
    kinds = {name: helper.np_dtype_to_tensor_dtype(a.dtype) for name, a in arrays.items()}
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(n, kinds[n], a.shape) for n, a in arrays.items() if n not in constant],
        [helper.make_tensor_value_info(n, kinds["X"], [None] * (4 if n == "Y" else 3)) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in arrays.items() if n in constant],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def against(expected, lstm, arrays, layout, tolerance):
    """Compare an imported LSTM with Y, Y_h, Y_c of layout 0."""
    X = arrays["X"].swapaxes(0, 1) if layout else arrays["X"]
    words = {"lengths": arrays["sequence_lens"]} if "sequence_lens" in arrays else {}
    state = (arrays["initial_h"], arrays["initial_c"]) if "initial_h" in arrays else None
    y, (h, c) = lstm(X, state, **words)
    y = y.swapaxes(0, 1) if layout else y
    Y = np.moveaxis(expected[0], 1, 2)
    assert_close(y, Y.reshape(*Y.shape[:2], -1), tolerance, "y")
    assert_close(h, expected[1], tolerance, "h_n")
    assert_close(c, expected[2], tolerance, "c_n")


def operator_inputs(name, dtype="float32"):
    return {k: a if k == "sequence_lens" else a.astype(dtype) for k, a in peers.onnx_inputs(name).items()}


def in_layout_1(model):
    """Return the model with the operator's layout 1: other attributes and shapes of inputs."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    model.graph.node[0].attribute.append(helper.make_attribute("layout", 1))
    for given in model.graph.input:
        if given.name in ("X", "initial_h", "initial_c"):
            dims = given.type.tensor_type.shape.dim
            dims[0].dim_value, dims[1].dim_value = dims[1].dim_value, dims[0].dim_value
    return model


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("name", peers.ONNX_CASES)
def test_operator_against_onnxruntime(name, layout):
    arrays, attributes = operator_inputs(name), peers.ONNX_CASES[name][1]
    model = operator_model(arrays, attributes | {"hidden_size": peers.H})
    lstm = from_onnx(in_layout_1(model) if layout else model)  # ONNX Runtime has no layout 1
    feeds = {k: a for k, a in arrays.items() if k not in ("W", "R", "B", "P")}
    against(run_onnxruntime(model, feeds), lstm, arrays, layout, TOLERANCE["float32"])
    assert lstm.batch_first == bool(layout)


@pytest.mark.parametrize("name", ["plain", "peepholes", "reverse", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
def test_operator_against_the_reference_in_float64(name, layout):
    arrays = operator_inputs(name, "float64")
    arrays.pop("sequence_lens", None)  # which the reference does not look at
    model = operator_model(arrays, peers.ONNX_CASES[name][1])
    feeds = {k: a for k, a in arrays.items() if k not in ("W", "R", "B", "P")}
    expected = ReferenceEvaluator(model).run(None, feeds)
    against(expected, from_onnx(in_layout_1(model) if layout else model), arrays, layout, 1e-12)


@pytest.mark.parametrize(
    "absent", [{"B"}, {"initial_h"}, {"initial_c"}, {"initial_h", "initial_c"}, {"P", "B"}]
)
def test_operator_with_inputs_that_are_not_there(absent):
    arrays = {k: a for k, a in operator_inputs("peepholes").items() if k not in absent}
    model = operator_model(arrays, {})
    feeds = {k: a for k, a in arrays.items() if k not in ("W", "R", "B", "P")}
    expected = run_onnxruntime(operator_model(arrays, {"hidden_size": peers.H}), feeds)
    for word in ("initial_h", "initial_c"):
        arrays.setdefault(word, np.zeros((1, peers.N, peers.H), "float32"))
    against(expected, from_onnx(model), arrays, 0, TOLERANCE["float32"])


@pytest.mark.parametrize("layout", [0, 1])
def test_initial_states_in_the_file_are_learnt_states(layout):
    arrays = operator_inputs("bidirectional")
    del arrays["sequence_lens"]
    for word in ("initial_h", "initial_c"):
        arrays[word] = np.repeat(arrays[word][:, :1], peers.N, axis=1)
    attributes = peers.ONNX_CASES["bidirectional"][1] | {"hidden_size": peers.H}
    constant = ("W", "R", "B", "P", "initial_h", "initial_c")
    expected = run_onnxruntime(operator_model(arrays, attributes, constant=constant), {"X": arrays["X"]})
    given = dict(arrays)
    if layout:
        given |= {k: arrays[k].swapaxes(0, 1).copy() for k in ("X", "initial_h", "initial_c")}
        attributes["layout"] = 1
    lstm = from_onnx(operator_model(given, attributes, constant=constant))
    assert lstm.learn_state
    for word in ("initial_h", "initial_c"):
        del arrays[word]
    against(expected, lstm, arrays, layout, TOLERANCE["float32"])


def test_lengths_in_the_file_that_say_nothing():
    arrays = operator_inputs("sequence_lens") | {"sequence_lens": np.full(peers.N, peers.T, "int32")}
    lstm = from_onnx(operator_model(arrays, {}, constant=("W", "R", "B", "sequence_lens")))
    expected = run_onnxruntime(
        operator_model(arrays, {"hidden_size": peers.H}),
        {k: arrays[k] for k in ("X", "sequence_lens", "initial_h", "initial_c")},
    )
    against(expected, lstm, arrays, 0, TOLERANCE["float32"])


def test_numbers_of_activations_go_in_order():
    arrays = operator_inputs("plain")
    read = lambda **attributes: from_onnx(operator_model(arrays, attributes)).activations  # noqa: E731
    assert read(activations=["Sigmoid", "LeakyRelu", "Elu"], activation_alpha=[0.5, 0.25]) == (
        "sigmoid",
        ("leaky_relu", 0.5),
        ("elu", 0.25),
    )
    assert read(
        activations=["HardSigmoid", "Tanh", "Affine"],
        activation_alpha=[0.5, 2.0],
        activation_beta=[0.25, 1.0],
    ) == (("hard_sigmoid", 0.5, 0.25), "tanh", ("affine", 2.0, 1.0))
    assert read(activations=["HardSigmoid", "LeakyRelu", "Affine"]) == (
        "hard_sigmoid",
        "leaky_relu",
        "identity",
    )
    with pytest.raises(
        FormatError, match=r"activation_alpha is \[0.0, 0.25, 0.0\], more .* it reads in two ways"
    ):
        read(activations=["Sigmoid", "LeakyRelu", "Tanh"], activation_alpha=[0.0, 0.25, 0.0])


# ---- in: what PyTorch's exporter writes


@pytest.mark.filterwarnings("ignore")  # the exporter's own
@pytest.mark.parametrize(("fold", "free"), [(False, False), (True, True)])
@pytest.mark.parametrize(("layers", "bidirectional"), [(2, False), (1, True)])
@pytest.mark.parametrize("read_out", ["nothing", "every step", "last step", "last state"])
def test_pytorch_exports(read_out, layers, bidirectional, fold, free, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its exports are not read")

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(I, H, layers, batch_first=True, bidirectional=bidirectional)
            self.dense = torch.nn.Linear(2 * H if bidirectional else H, 2)

        def forward(self, x):
            y, (h, c) = self.lstm(x)
            if read_out == "nothing":
                return y, h, c
            last = torch.cat([h[-2], h[-1]], dim=1) if bidirectional else h[-1]
            return self.dense({"every step": y, "last step": y[:, -1], "last state": last}[read_out])

    torch.manual_seed(0)
    network, x, path = Network().eval(), torch.randn(N, T, I), tmp_path / "network.onnx"
    try:
        torch.onnx.export(
            network,
            (x,),
            path,
            dynamo=False,
            input_names=["x"],
            do_constant_folding=fold,
            dynamic_axes={"x": {0: "n", 1: "t"}} if free else None,
        )
    except (TypeError, ModuleNotFoundError) as error:
        pytest.skip(f"this PyTorch has no exporter of this kind: {error}")
    with torch.no_grad():
        expected = network(x)
    if read_out == "last step" and bidirectional:
        with pytest.raises(FormatError, match="the last step of y is h_n only where an LSTM reads forward"):
            from_onnx(path)
        return
    ours = from_onnx(path)
    if read_out == "nothing":
        y, (h, c) = ours(x.numpy())
        for mine, theirs in zip((y, h, c), expected, strict=True):
            assert_close(mine, theirs.numpy(), TOLERANCE["float32"])
    else:
        assert_close(ours.predict(x.numpy()), expected.numpy(), TOLERANCE["float32"])


# ---- the backend


def official(monkeypatch):
    """The LSTM node tests of the onnx package: (node, inputs, outputs, name)."""
    from onnx.backend.test.case.node import lstm as module

    found = []
    monkeypatch.setattr(
        module, "expect", lambda node, inputs, outputs, name: found.append((node, inputs, outputs, name))
    )
    for name, export in inspect.getmembers(module.LSTM, inspect.isfunction):
        if name.startswith("export"):
            export()
    return found


def pass_official(tests):
    for node, inputs, outputs, name in tests:
        for mine, theirs in zip(Backend.run_node(node, inputs), outputs, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-7, err_msg=name)  # ONNX's tolerance


def test_six_node_tests_of_onnx(monkeypatch):
    tests = official(monkeypatch)
    assert {name for *_, name in tests} == {
        "test_lstm_defaults",
        "test_lstm_with_initial_bias",
        "test_lstm_with_peepholes",
        "test_lstm_batchwise",
        "test_lstm_reverse",
        "test_lstm_bidirectional",
    }
    pass_official(tests)


@pytest.mark.parametrize("pair", [*itertools.combinations(range(4), 2)])
def test_a_wrong_gate_order_passes_their_tests_and_not_ours(pair, monkeypatch):
    order = list(_onnx_lstm.ONNX_GATES)
    order[pair[0]], order[pair[1]] = order[pair[1]], order[pair[0]]
    monkeypatch.setattr(_onnx_lstm, "ONNX_GATES", "".join(order))
    pass_official(official(monkeypatch))
    with pytest.raises(AssertionError):
        test_operator_against_onnxruntime("plain", 0)


def test_backend_against_onnxruntime():
    """Weights that are inputs, with all attributes at once."""
    for name in ("bidirectional", "input_forget", "hard_sigmoid"):
        arrays, attributes = operator_inputs(name), peers.ONNX_CASES[name][1] | {"hidden_size": peers.H}
        model = operator_model(arrays, attributes, constant=())
        for mine, theirs in zip(run_backend(model, arrays), run_onnxruntime(model, arrays), strict=True):
            assert_close(mine, theirs, TOLERANCE["float32"], name)
    assert Backend.supports_device("CPU")
    assert not Backend.supports_device("CUDA")


# ---- hostile and foreign files


def valid(**words):
    return to_onnx(drawn(Model(LSTM(I, H, num_layers=2, **words), 2, every_step=True)), lengths=True)


def changed(change, **words):
    model = valid(**words)
    change(model)
    return model.SerializeToString()


def tensor(model, name):
    return next(t for t in model.graph.initializer if t.name == name)


def node(model, kind, k=0):
    return [n for n in model.graph.node if n.op_type == kind][k]


def external(model):
    t = tensor(model, "R_l0")
    t.ClearField("raw_data")
    t.data_location = TensorProto.EXTERNAL
    t.external_data.add(key="location", value="/etc/passwd")


def set_dims(model, name, *dims):
    t = tensor(model, name)
    t.ClearField("dims")
    t.dims.extend(dims)


def empty_weights(model):
    """A width of 2^30 that costs no byte, since the other side is 0."""
    node(model, "LSTM").ClearField("attribute")
    for name, dims in (("W_l0", (1, 2**30, 0)), ("R_l0", (1, 2**30, 0))):
        set_dims(model, name, *dims)
        tensor(model, name).raw_data = b""


def numbers(model, name, array):
    tensor(model, name).CopyFrom(numpy_helper.from_array(array, name))


def poison(model, value):
    array = numpy_helper.to_array(tensor(model, "W_l1")).copy()
    array[0, 3, 1] = value
    numbers(model, "W_l1", array)


def attribute(model, name, value, kind="LSTM"):
    node(model, kind).attribute.append(helper.make_attribute(name, value))


def many_nodes(model):
    for k in range(5000):
        model.graph.node.add(op_type="Identity", input=["x"], output=[f"n{k}"])


def shared_weights(model):
    """A thousand layers that are one: the file is small, the LSTM would not be."""
    lstm = drawn(LSTM(100, 100, num_layers=2))
    model.CopyFrom(to_onnx(lstm))
    del model.graph.node[:]
    add = model.graph.node.add
    add(op_type="Transpose", input=["x"], output=["x_0"]).attribute.append(
        helper.make_attribute("perm", [1, 0, 2])
    )
    for k in range(1000):
        add(op_type="LSTM", input=[f"x_{k}", "W_l1", "R_l1", "B_l1"], output=[f"y_{k}"])
        add(op_type="Squeeze", input=[f"y_{k}", "one"], output=[f"x_{k + 1}"])
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    del model.graph.output[:]
    model.graph.output.add(name="x_1000")


def doubling(model):
    """40 nodes, each of which joins a constant with itself."""
    model.graph.node.insert(0, helper.make_node("Identity", ["W_l0"], ["d0"]))
    for k in range(40):
        model.graph.node.insert(k + 1, helper.make_node("Concat", [f"d{k}", f"d{k}"], [f"d{k + 1}"], axis=0))


def wide_input(model):
    """An initial state of 2^40 layers."""
    model.graph.input.add(name="wide").type.tensor_type.elem_type = TensorProto.FLOAT
    for d in (2**40, 1, H):
        model.graph.input[-1].type.tensor_type.shape.dim.add(dim_value=d)


def nested(depth):
    """A graph in an attribute of a node of a graph ...: bytes that no library would write."""

    def field(number, content):
        size, lead = len(content), b""
        while size > 127:
            lead, size = lead + bytes([size % 128 | 128]), size // 128
        return bytes([number << 3 | 2]) + lead + bytes([size]) + content

    graph = b""
    for _ in range(depth):
        attribute = field(1, b"then_branch") + field(6, graph) + b"\xa0\x01\x05"
        graph = field(1, field(4, b"If") + field(2, b"z") + field(5, attribute))
    opset = helper.make_opsetid("", 17).SerializeToString()
    return field(7, graph) + field(8, opset)


def empty_messages(number):
    """A hundred thousand messages of the graph, more than a megabyte in memory, of two bytes each."""
    graph = bytes([number << 3 | 2, 0]) * 150_000
    return b"\x3a\xe0\xa7\x12" + graph + b"\x42\x02\x10\x11"


HOSTILE = {
    "empty nodes": (lambda: empty_messages(1), "more than 131072 fields"),
    "empty initializers": (lambda: empty_messages(5), "more than 131072 fields"),
    "a varint without end": (lambda: b"\xff" * 100, "not an ONNX model"),
    "nothing": (lambda: b"", "does not say which version"),
    "text": (lambda: b"this is not protobuf", "not an ONNX model"),
    "zeros": (lambda: bytes(1000), "not an ONNX model"),
    "cut in half": (lambda: (b := changed(lambda m: None))[: len(b) // 2], "not an ONNX model"),
    "a byte short": (lambda: changed(lambda m: None)[:-1], "not an ONNX model"),
    "invalid UTF-8": (
        lambda: changed(lambda m: None).replace(b"MatMul", b"MatMu\xff"),
        "not text|of this kind|not an ONNX",
    ),
    "raw data short": (
        lambda: changed(lambda m: setattr(tensor(m, "R_l0"), "raw_data", b"1234")),
        "4 bytes for",
    ),
    "raw data long": (
        lambda: changed(lambda m: setattr(tensor(m, "R_l0"), "raw_data", bytes(10**6))),
        "bytes for",
    ),
    "negative dims": (lambda: changed(lambda m: set_dims(m, "W_l0", -1, 16, 3)), "the shape"),
    "two negative dims": (lambda: changed(lambda m: set_dims(m, "W_l0", -1, -16, 3)), "the shape"),
    "huge dims": (lambda: changed(lambda m: set_dims(m, "W_l0", 1, 2**40, 2**40)), "the shape"),
    "dims that overflow": (lambda: changed(lambda m: set_dims(m, "W_l0", 2**30, 2**30, 2**4)), "bytes for"),
    "a hundred dims": (lambda: changed(lambda m: set_dims(m, "W_l0", *[1] * 100)), "the shape"),
    "empty dims": (lambda: changed(empty_weights), "hidden_size is 0"),
    "both raw and typed": (lambda: changed(lambda m: tensor(m, "R_l0").float_data.append(1.0)), "bytes for"),
    "typed data of another kind": (
        lambda: changed(
            lambda m: (
                tensor(m, "R_l0").ClearField("raw_data"),
                tensor(m, "R_l0").double_data.extend([0.0] * 64),
            )
        ),
        "numbers for the shape",
    ),
    "external data": (lambda: changed(external), "the name of a file in the same folder"),
    "external path, data inside": (
        lambda: changed(lambda m: tensor(m, "R_l0").external_data.add(key="location", value="../secret")),
        "has its data in two places",
    ),
    "segment": (lambda: changed(lambda m: setattr(tensor(m, "R_l0").segment, "begin", 1)), "segment"),
    "unknown dtype": (lambda: changed(lambda m: setattr(tensor(m, "R_l0"), "data_type", 77)), "data type 77"),
    "strings": (lambda: changed(lambda m: setattr(tensor(m, "R_l0"), "data_type", 8)), "data type 8"),
    "float16": (
        lambda: changed(lambda m: numbers(m, "W_l0", np.zeros((1, 16, 3), "float16"))),
        "data type 10",
    ),
    "integers": (lambda: changed(lambda m: numbers(m, "W_l0", np.zeros((1, 16, 3), "int64"))), "W is int64"),
    "mixed dtypes": (
        lambda: changed(lambda m: numbers(m, "W_l0", np.zeros((1, 16, 3)))),
        "not all of one dtype",
    ),
    "NaN weights": (lambda: changed(lambda m: poison(m, np.nan)), "holds NaN or inf"),
    "inf weights": (lambda: changed(lambda m: poison(m, np.inf)), "holds NaN or inf"),
    "NaN readout": (
        lambda: changed(lambda m: numbers(m, "bias", np.array([1, np.nan], "float32"))),
        "holds NaN or inf",
    ),
    "wrong W": (
        lambda: changed(lambda m: numbers(m, "W_l0", np.zeros((1, 12, 3), "float32"))),
        "W has shape",
    ),
    "wrong W of layer 2": (
        lambda: changed(lambda m: numbers(m, "W_l1", np.zeros((1, 16, 9), "float32"))),
        "W has 9 columns",
    ),
    "wrong R": (lambda: changed(lambda m: numbers(m, "R_l0", np.zeros((16, 4), "float32"))), "R has shape"),
    "wrong B": (lambda: changed(lambda m: numbers(m, "B_l0", np.zeros((1, 16), "float32"))), "B has shape"),
    "wrong readout": (
        lambda: changed(lambda m: numbers(m, "weight", np.zeros((5, 2), "float32"))),
        "weights has shape",
    ),
    "wrong bias": (lambda: changed(lambda m: numbers(m, "bias", np.zeros(3, "float32"))), "bias has shape"),
    "wrong hidden_size": (
        lambda: changed(lambda m: setattr(node(m, "LSTM").attribute[0], "i", 2**60)),
        "hidden_size is",
    ),
    "wrong features": (
        lambda: changed(lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 7)),
        "has 7 features",
    ),
    "wrong direction": (
        lambda: changed(lambda m: attribute(m, "direction", "sideways")),
        "direction is sideways",
    ),
    "two directions": (lambda: changed(lambda m: attribute(m, "direction", "bidirectional")), "has shape"),
    "wrong layout": (lambda: changed(lambda m: attribute(m, "layout", 2)), "layout is 2"),
    "negative clip": (lambda: changed(lambda m: attribute(m, "clip", -1.0)), "clip is -1.0"),
    "NaN clip": (lambda: changed(lambda m: attribute(m, "clip", float("nan"))), "clip is nan"),
    "NaN alpha": (
        lambda: changed(
            lambda m: (
                attribute(m, "activations", ["Elu"] * 3),
                attribute(m, "activation_alpha", [float("nan")]),
            )
        ),
        "expected finite numbers",
    ),
    "unknown activation": (
        lambda: changed(lambda m: attribute(m, "activations", ["Sigmoid", "Tanh", "Gelu"])),
        "activation Gelu",
    ),
    "two activations": (lambda: changed(lambda m: attribute(m, "activations", ["Tanh"] * 2)), "2 names"),
    "ScaledTanh without numbers": (
        lambda: changed(lambda m: attribute(m, "activations", ["Sigmoid", "ScaledTanh", "Tanh"])),
        "ONNX names no default",
    ),
    "attribute of another type": (lambda: changed(lambda m: attribute(m, "clip", 3)), "of another type"),
    "attribute of nobody": (lambda: changed(lambda m: attribute(m, "magic", 3)), "attribute magic"),
    "attribute twice": (lambda: changed(lambda m: attribute(m, "hidden_size", 4)), "occurs twice"),
    "layers that differ": (
        lambda: changed(lambda m: attribute(m, "clip", 0.5)),
        "differs from the first LSTM in gate",
    ),
    "initializer twice": (
        lambda: changed(lambda m: m.graph.initializer.append(tensor(m, "W_l0"))),
        "occurs twice",
    ),
    "output twice": (
        lambda: changed(lambda m: node(m, "LSTM", 1).output.__setitem__(0, "Y_l0")),
        "stands for two values",
    ),
    "output like an input": (
        lambda: changed(lambda m: node(m, "LSTM", 1).output.__setitem__(0, "x")),
        "stands for two values",
    ),
    "no name": (lambda: changed(lambda m: setattr(tensor(m, "W_l0"), "name", "")), "no name"),
    "cycle": (lambda: changed(lambda m: node(m, "LSTM", 0).input.__setitem__(0, "y_l0")), "form a cycle"),
    "reads itself": (lambda: changed(lambda m: node(m, "LSTM").input.__setitem__(0, "Y_l0")), "form a cycle"),
    "out of order": (lambda: changed(lambda m: m.graph.node.append(m.graph.node.pop(0))), "out of order"),
    "nothing to read": (lambda: changed(lambda m: node(m, "LSTM").input.__setitem__(1, "nobody")), "nobody"),
    "no W": (lambda: changed(lambda m: node(m, "LSTM").input.__setitem__(1, "")), "has no W"),
    "too many inputs": (lambda: changed(lambda m: node(m, "LSTM").input.extend(["x"] * 9)), "inputs"),
    "too few inputs": (lambda: changed(lambda m: node(m, "LSTM").ClearField("input")), "has 0 inputs"),
    "too many outputs": (lambda: changed(lambda m: node(m, "LSTM").output.extend("abc")), "outputs"),
    "no outputs": (lambda: changed(lambda m: node(m, "LSTM", 1).ClearField("output")), "has 0 outputs"),
    "graph without outputs": (lambda: changed(lambda m: m.graph.ClearField("output")), "has no output"),
    "graph without nodes": (lambda: changed(lambda m: m.graph.ClearField("node")), "nothing before it makes"),
    "no graph": (lambda: changed(lambda m: m.ClearField("graph")), "has no output"),
    "no LSTM": (lambda: ONE_IDENTITY.SerializeToString(), "has no LSTM"),
    "thousands of nodes": (lambda: changed(many_nodes), "nodes, more than 4096"),
    "shared weights": (lambda: changed(shared_weights), "share weights"),
    "doubling": (lambda: changed(doubling), "joins more numbers than it holds"),
    "an input of 2^40 layers": (lambda: changed(wide_input), "input wide has the shape"),
    "reshape bomb": (
        lambda: changed(
            lambda m: (
                m.graph.node.insert(0, helper.make_node("Reshape", ["W_l0", "to"], ["z"])),
                m.graph.initializer.append(numpy_helper.from_array(np.array([2**62] * 2), "to")),
            )
        ),
        "cannot reshape|too large|too big|larger",
    ),
    "nested graphs": (lambda: nested(5), "has 0 inputs"),
    "deeply nested graphs": (lambda: nested(2000), "of them in another"),
    "another operator": (
        lambda: changed(lambda m: setattr(node(m, "Add"), "op_type", "Pow")),
        "operator of this kind",
    ),
    "operator of Python": (
        lambda: changed(lambda m: setattr(node(m, "Add"), "op_type", "_init__")),
        "operator of this kind",
    ),
    "another domain": (
        lambda: changed(lambda m: setattr(node(m, "LSTM"), "domain", "evil")),
        "operator of this kind",
    ),
    "opset 0": (lambda: changed(lambda m: setattr(m.opset_import[0], "version", 0)), "expected 7 to"),
    "opset 1": (lambda: changed(lambda m: setattr(m.opset_import[0], "version", 1)), "expected 7 to"),
    "opset 999": (lambda: changed(lambda m: setattr(m.opset_import[0], "version", 999)), "expected 7 to"),
    "no opset": (lambda: changed(lambda m: m.ClearField("opset_import")), "does not say which version"),
    "sparse": (lambda: changed(lambda m: m.graph.sparse_initializer.add()), "sparse"),
    "a sequence as input": (
        lambda: changed(lambda m: m.graph.input.add(name="s").type.sequence_type.SetInParent()),
        "is not a tensor",
    ),
    "input of another dtype": (
        lambda: changed(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 11)),
        "not of the dtype",
    ),
    "readouts of other axes": (
        lambda: changed(lambda m: (
            m.graph.node.insert(
                [n.op_type for n in m.graph.node].index("Add"),
                helper.make_node("Transpose", [node(m, "MatMul").output[0]], ["q"], perm=[1, 0, 2]),
            ),
            node(m, "Add").input.__setitem__(1, "q"),
        )),
        "the sum of two readouts that are not of one thing",
    ),
    "readout of another axis": (
        lambda: changed(lambda m: node(m, "MatMul").input.__setitem__(0, "Y_l1")),
        "a readout of y",
    ),
    "other lengths": (
        lambda: changed(lambda m: node(m, "LSTM", 1).input.__setitem__(4, "")),
        "other sequence_lens",
    ),
    "more than a readout": (
        lambda: changed(lambda m: m.graph.output.add(name="Y_h_l1")),
        "returns more than its readout",
    ),
    "a half of the axes": (
        lambda: changed(
            lambda m: (
                node(m, "Reshape").input.__setitem__(1, "wrong")
                or m.graph.initializer.append(numpy_helper.from_array(np.array([0, -1, 2]), "wrong"))
            )
        ),
        "reshaping to",
    ),
    "a wrong transposition": (
        lambda: changed(lambda m: node(m, "Transpose").attribute[0].ints.__setitem__(slice(None), [2, 0, 1])),
        "reading input",
    ),
}
ONE_IDENTITY = helper.make_model(
    helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, [1])],
        [helper.make_tensor_value_info("y", 1, [1])],
    ),
    opset_imports=[helper.make_opsetid("", 17)],
)


def with_a_second_readout(kind, every_step=False):
    """Return a graph with two readouts of one thing, the two Models that they are, and x."""
    first, second = (
        Model(LSTM(2, 3, bidirectional=True, rng=0), outputs, every_step=every_step, rng=outputs)
        for outputs in ((2, 2) if kind == "sum" else (2, 4))
    )
    for k, model in enumerate((first, second)):
        model.bias = np.arange(model.output_size) + k
    proto = to_onnx(first)
    graph, read = proto.graph, node(proto, "MatMul").input[0]
    for name, array in (("weight_2", second.weight.T), ("bias_2", second.bias)):
        graph.initializer.append(numpy_helper.from_array(np.array(array), name))
    graph.node.extend([
        helper.make_node("MatMul", [read, "weight_2"], ["product_2"]),
        helper.make_node("Add", ["product_2", "bias_2"], ["second"]),
    ])
    outputs = ["prediction", "second"]
    if kind == "sigmoid":
        graph.node.extend(helper.make_node("Sigmoid", [name], [f"{name}_s"]) for name in outputs)
        outputs = [f"{name}_s" for name in outputs]
    elif kind == "joined":
        graph.node.append(helper.make_node("Concat", outputs, ["both"], axis=-1))
        outputs = ["both"]
    elif kind == "sum":
        graph.node.append(helper.make_node("Add", outputs, ["both"]))
        outputs = ["both"]
    elif kind == "one softmax":
        graph.node.append(helper.make_node("Softmax", ["second"], ["shares"], axis=-1))
        outputs = ["prediction", "shares"]
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, 1, None) for name in outputs)
    return proto, first, second


@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("kind", ["outputs", "joined", "sum", "sigmoid"])
def test_several_readouts_of_one_thing_are_one(kind, every_step):
    proto, first, second = with_a_second_readout(kind, every_step)
    model = from_onnx(proto)
    x = np.random.default_rng(0).normal(size=(4, 5, 2)).astype("float32")
    both = first.predict(x), second.predict(x)
    assert type(model.loss).__name__ == ("BinaryCrossEntropy" if kind == "sigmoid" else "MeanSquaredError")
    assert_close(model.predict(x), sum(both) if kind == "sum" else np.concatenate(both, -1), 1e-6)


def test_readouts_with_different_functions_are_refused():
    with pytest.raises(FormatError, match="expected one graph for each"):
        from_onnx(with_a_second_readout("one softmax")[0])


@pytest.mark.parametrize("axis, said", [(0, None), (1, "lengths from all steps")], ids=["time", "batch"])
def test_lengths_that_the_graph_makes_of_its_sizes(axis, said):
    lstm = LSTM(2, 3, batch_first=False, rng=0, dtype="float32")
    model = to_onnx(lstm)
    graph = model.graph
    made = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "which"], ["steps"]),
        helper.make_node("Gather", ["sizes", "one"], ["sequences"]),
        helper.make_node("Expand", ["steps", "sequences"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["lens"], to=TensorProto.INT32),
    ]
    for name, value in (("which", [axis]), ("one", [1])):
        graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    own = node(model, "LSTM")
    own.input.extend([""] * (5 - len(own.input)))
    own.input[4] = "lens"
    nodes = [*made, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    if said is None:
        assert from_onnx(model).parameters.tobytes() == lstm.parameters.tobytes()
    else:
        with pytest.raises(FormatError, match=said):
            from_onnx(model)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_get_one_error_and_no_memory(name):
    make, said = HOSTILE[name]
    content = make()
    from_onnx(valid().SerializeToString())  # what is imported once is not counted
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=said):
            from_onnx(content)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(content) + 1_000_000
    finally:
        tracemalloc.stop()


def test_every_cut_of_a_file_gets_one_error():
    content = to_onnx(LSTM(1, 1)).SerializeToString()
    for end in range(0, len(content)):
        try:
            from_onnx(content[:end])
        except FormatError:
            pass


def test_states_of_layers_are_not_mixed_up():
    model = to_onnx(drawn(LSTM(I, H, num_layers=2)), initial_states=True)
    second = node(model, "LSTM", 1)
    second.input[5], second.input[6] = "h_0_l0", "c_0_l0"
    with pytest.raises(FormatError, match="belongs to another layer"):
        from_onnx(model)
    second.input[5], second.input[6] = "c_0_l1", "h_0_l1"
    with pytest.raises(FormatError, match="two initial states are the same input"):
        from_onnx(model)


def test_directories_are_refused(tmp_path):
    with pytest.raises(FormatError, match="is a folder; expected a file"):
        from_onnx(tmp_path)


def with_last_step(words, lengths):
    """Return a model whose readout reads y[:, -1], and its proto."""
    model = drawn(Model(LSTM(I, H, **words), 2, every_step=True))
    proto = to_onnx(model)
    if lengths:
        proto.graph.input.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]))
        node(proto, "LSTM").input.extend(["lengths"])
    index = numpy_helper.from_array(np.array(-1), "last")
    proto.graph.initializer.append(index)
    at = [n.op_type for n in proto.graph.node].index("MatMul")
    proto.graph.node[at].input[0] = "y_last"
    proto.graph.node.insert(at, helper.make_node("Gather", ["y_joined", "last"], ["y_last"], axis=1))
    return model, proto


@pytest.mark.parametrize(
    ("words", "lengths"), [({"reverse": True}, False), ({"bidirectional": True}, False), ({}, True)]
)
def test_the_last_step_is_not_always_the_last_state(words, lengths):
    with pytest.raises(FormatError, match="the last step of y is h_n only where an LSTM reads forward"):
        from_onnx(with_last_step(words, lengths)[1])


def test_the_last_step_is_the_last_state_of_a_forward_lstm():
    model, proto = with_last_step({}, False)
    x = np.ones((N, T, I), "float32")
    assert not from_onnx(proto).every_step
    assert_close(from_onnx(proto).predict(x), model.predict(x)[:, -1], 1e-6)


def test_errors_of_a_file_name_it(tmp_path):
    path = tmp_path / "cut.onnx"
    path.write_bytes(valid().SerializeToString()[:-1])
    with pytest.raises(FormatError, match=r"cut\.onnx: this is not an ONNX model"):
        from_onnx(path)


@pytest.mark.parametrize("name", sorted(graph.OPERATORS))
def test_operators_and_their_attributes_are_those_of_onnx(name):
    """The table names no operator, and no attribute, that ONNX does not have in a version that is read."""
    known = set()
    for version in range(7, onnx.defs.onnx_opset_version() + 1):
        try:
            known |= set(onnx.defs.get_schema(name, version).attributes)
        except onnx.defs.SchemaError:
            continue
    assert set(graph.OPERATORS[name].attributes) <= known
