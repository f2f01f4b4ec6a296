"""What makes an object is read-only once it is made.

Each public attribute of each public object is set to other valid values and deleted. Either that is refused
with an AttributeError, or everything still agrees with a new object of that value.
"""

import copy
import pickle

import numpy as np
import pytest

from lstm_ext import (
    LSTM,
    Adam,
    LstmNetwork,
    LstmNode,
    LstmParam,
    LstmState,
    Model,
    ToyLossLayer,
    _lstm,
    losses,
)
from lstm_ext._options import CONFIGURATION, DEFAULTS
from lstm_ext.cython_lstm import Network

OTHER_VALUES = {
    "input_size": [1, 3000, 2**40],
    "hidden_size": [1, 4000, 2**40],
    "num_layers": [1, 3, 10**6],
    "dtype": ["float64", np.dtype("float64")],
    "bidirectional": [True],
    "reverse": [True],
    "batch_first": [False],
    "activations": [("relu", "tanh", "tanh")],
    "cell_activation": ["identity", "relu"],
    "peepholes": [True],
    "coupled_gates": [True],
    "cell_clip": [1.0],
    "gate_clip": [1.0],
    "proj_size": [2, 5000],
    "bias": [False],
    "layer_norm": [True],
    "dropout": [0.5],
    "recurrent_dropout": [0.5],
    "weight_dropout": [0.5],
    "zoneout": [(0.5, 0.5)],
    "static_size": [3, 4000],
    "entity_aware": [True],
    "learn_state": [True],
    "nan": ["zero", "hold"],
    "nan_mask": [True],
    "checkpoint": [1, 7],
}
OPTIONS = [
    {}, {"num_layers": 2, "bidirectional": True}, {"peepholes": True, "num_layers": 2}, {"proj_size": 2},
    {"layer_norm": True, "nan": "hold"}, {"learn_state": True},
]


def public(thing):
    """Names of the attributes that are neither private nor methods."""
    names = [name for name in dir(thing) if not name.startswith("_")]
    return [name for name in names if not callable(getattr(thing, name))]


def refused(thing, name, value):
    with pytest.raises(AttributeError, match=name):
        setattr(thing, name, value)
    with pytest.raises(AttributeError, match=name):
        delattr(thing, name)


def answers(lstm):
    """Everything that an LSTM computes."""
    x = np.linspace(-1, 1, 2 * 5 * lstm.input_size).reshape(2, 5, lstm.input_size)
    tape = lstm.tape()
    lstm.gradient = 0
    y, (h_n, c_n) = lstm.forward(x, tape=tape)
    dx, (dh_0, dc_0) = lstm.backward(tape, y)
    found = [lstm(x)[0], y, h_n, c_n, dx, dh_0, dc_0, lstm.gradient.copy(), lstm.jvp(x, x)[1][0]]
    if not (lstm.bidirectional or lstm.reverse):
        found.append(lstm.stream(2).step(x[:, 0]))
    return found


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_option_of_an_lstm_has_other_values_here():
    assert set(OTHER_VALUES) == set(CONFIGURATION) - {"precision"}  # which may be set later
    lstm = LSTM(3, 4, rng=0)
    assert set(public(lstm)) == set(CONFIGURATION) | {"parameters", "gradient", "output_size"}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_lstm_is_read_only(options):
    lstm = LSTM(3, 4, rng=0, **options)
    before, text = answers(lstm), repr(lstm)
    for name, values in OTHER_VALUES.items():
        for value in values:
            refused(lstm, name, value)
            refused(lstm, name, getattr(lstm, name))
    refused(lstm, "output_size", 7)
    with pytest.raises(AttributeError):
        del lstm.parameters
    assert repr(lstm) == text
    same(answers(lstm), before)
    same(answers(copy.copy(lstm)), before)
    same(answers(pickle.loads(pickle.dumps(lstm))), before)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_lstm_is_constructed_once(options):
    lstm = LSTM(3, 4, rng=0, **options)
    before = answers(lstm)
    with pytest.raises(TypeError, match="has been constructed"):
        lstm.__init__(5, 6)
    with pytest.raises(TypeError, match="has been constructed"):
        lstm.__setstate__(LSTM(7, 8).__getstate__())
    same(answers(lstm), before)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", ["parameters", "gradient"])
def test_the_form_of_the_flat_vectors_is_not_shared(options, name):
    """Whoever reshapes, recasts or resizes what `lstm.parameters` gave has changed a view of his own."""
    lstm = LSTM(3, 4, rng=0, **options)
    before, size = answers(lstm), lstm.parameters.size
    vector = getattr(lstm, name)
    vector.shape = (1, -1)
    vector.dtype = "int32"
    with pytest.raises(ValueError, match="resize"):
        getattr(lstm, name).resize(10**6, refcheck=False)
    assert getattr(lstm, name).shape == (size,)
    assert getattr(lstm, name).dtype == lstm.dtype
    same(answers(lstm), before)
    for wrong in (np.zeros(size + 1), np.zeros((size, 1)), np.zeros(size - 1)):
        with pytest.raises(ValueError, match=name):
            setattr(lstm, name, wrong)
    same(answers(lstm), before)


def test_bound_vectors_keep_their_form():
    lstm = LSTM(3, 4, rng=0)
    before, size = answers(lstm), lstm.parameters.size
    vectors = np.zeros((2, size), "float32")
    parameters, gradient = vectors[0], vectors[1]
    lstm.bind(parameters, gradient)
    parameters.shape = (2, -1)
    gradient.dtype = "int32"
    assert lstm.parameters.shape == (size,)
    assert lstm.gradient.dtype == "float32"
    same(answers(lstm), before)


@pytest.mark.parametrize("name", ["hidden_size", "num_layers", "input_size", "bidirectional", "checkpoint"])
def test_a_network_believes_no_attribute(name):
    """Whatever stands in the object's dictionary: sizes are those of the weights."""
    lstm = LSTM(3, 4, rng=0)
    expected = Network(lstm)
    vars(lstm)[name] = 4000
    network = Network(lstm)
    assert network.nbytes == expected.nbytes
    assert network.forward_workspace(5, 6) == expected.forward_workspace(5, 6)
    del vars(lstm)[name]
    assert Network(lstm).nbytes == expected.nbytes


def test_a_network_refuses_what_is_no_lstm():
    class Pretender:
        batch_first, nan, parameters = True, None, np.zeros(144, "float32")
        _engine = type("Engine", (), {"num_layers": 3000, "hidden_size": 3000, "directions": 2})()

    with pytest.raises(TypeError, match="engine"):
        Network(Pretender())
    real = LSTM(3, 4, rng=0)
    Pretender._engine = real._engine
    for shape, dtype in ((143, "f"), (145, "f"), (144, "d"), ((12, 12), "f")):
        parameters = np.zeros(shape, dtype)
        Pretender.parameters = parameters
        with pytest.raises((ValueError, TypeError)):
            Network(Pretender())


def test_a_network_and_its_handle_are_read_only():
    network = Network(LSTM(3, 4, rng=0))
    for name in ("nbytes", "address"):
        refused(network, name, 0)
    with pytest.raises((AttributeError, TypeError)):
        network.other = 1


def test_engines_are_not_constructed_twice():
    engine = LSTM(3, 4, rng=0)._engine
    options = {**DEFAULTS, "hidden_size": 4000, "dtype": "float32"}
    engine.__init__(3, options, 3 * [("tanh", None, None)], False)
    assert engine.hidden_size == 4
    for name in ("input_size", "hidden_size", "num_layers", "directions", "checkpoint", "is_float", "dtype"):
        with pytest.raises(AttributeError):
            setattr(engine, name, 7)
    with pytest.raises(ValueError, match="tape"):
        engine.backward(_lstm.Tape(), None, None, True, 1)


def test_an_engine_refuses_the_tape_of_another():
    lstm, other = LSTM(3, 4, rng=0), LSTM(30, 400, rng=0)
    tape = lstm.tape()
    lstm.forward(np.zeros((2, 5, 3)), tape=tape)
    with pytest.raises(ValueError, match="tape"):
        other._engine.backward(tape._saved.tape, None, None, True, 1)
    general = LSTM(3, 4, peepholes=True, rng=0)
    tape = general.tape()
    general.forward(np.zeros((2, 5, 3)), tape=tape)
    taped = tape._saved.tape
    for engine in (LSTM(3, 400, peepholes=True)._engine, lstm._engine):
        gradient = np.zeros(engine.parameter_count, "f")
        with pytest.raises(ValueError, match="tape"):
            engine.backward_all(taped, None, None, None, True, gradient, 1, 1)
    gradient = np.zeros(general._engine.parameter_count, "f")
    for parts in (0, 2, 3):  # there are numbers on it, and no tangents
        with pytest.raises(ValueError, match="tape"):
            general._engine.backward_all(taped, None, None, None, True, gradient, 1, parts)
    with pytest.raises(ValueError, match="gradient"):
        general._engine.backward_all(taped, None, None, None, True, gradient[:9], 1, 1)


@pytest.mark.parametrize("options", [{}, {"nan": "hold"}, {"peepholes": True}], ids=str)
def test_a_stream_is_read_only(options):
    stream = LSTM(3, 4, rng=0, **options).stream(2)
    x = np.ones((2, 3), "float32")
    expected = stream.step(x)
    refused(stream, "step", lambda x: x)
    for name in ("batch",):
        with pytest.raises(AttributeError):
            setattr(stream, name, 1000)
        with pytest.raises(AttributeError):
            delattr(stream, name)
    with pytest.raises(ValueError, match="h has shape"):
        stream.state = (np.zeros((1, 2000, 4)), np.zeros((1, 2000, 4)))
    stream.reset()
    np.testing.assert_array_equal(stream.step(x), expected)
    assert set(public(stream)) == {"batch", "state"}


def test_a_tape_is_read_only():
    tape = LSTM(3, 4, rng=0).tape()
    assert public(tape) == ["nbytes"]
    refused(tape, "nbytes", 1)


def test_a_model_is_read_only():
    model = Model(LSTM(3, 4, rng=0), 2, rng=0)
    x, y = np.ones((5, 6, 3)), np.ones((5, 2))
    before = model.loss_and_gradient(x, y), model.gradient.copy(), model.predict(x)
    for name, value in {
        "lstm": LSTM(3, 4, rng=1), "output_size": 3, "every_step": True, "loss": losses.Huber(),
    }.items():
        refused(model, name, value)
    for name in ("gradient",):
        with pytest.raises(AttributeError):
            setattr(model, name, np.zeros(3))
    for name in public(model):
        with pytest.raises(AttributeError):
            delattr(model, name)
    after = model.loss_and_gradient(x, y), model.gradient.copy(), model.predict(x)
    same(after, before)
    same([copy.deepcopy(model).predict(x), pickle.loads(pickle.dumps(model)).predict(x)], [before[2]] * 2)


def test_the_node_is_read_only():
    param = LstmParam(4, 3)
    state = LstmState(4, 3)
    node, net = LstmNode(param, state), LstmNetwork(param)
    other = LstmParam(400, 30)
    for thing, name, value in [
        (param, "mem_cell_ct", 400), (param, "x_dim", 400), (param, "dtype", np.dtype("float32")),
        (state, "mem_cell_ct", 400), (state, "x_dim", 400),
        (node, "param", other), (node, "state", LstmState(400, 30)), (net, "lstm_param", other),
        (node, "xc", np.zeros(7)), (node, "h_prev", np.zeros(4)), (node, "s_prev", np.zeros(4)),
    ]:
        refused(thing, name, value)
    for thing, arguments in [
        (param, (400, 30)), (state, (400, 30)), (node, (other, LstmState(400, 30))), (net, (other,)),
    ]:
        with pytest.raises(TypeError, match="has been constructed"):
            thing.__init__(*arguments)
    node.bottom_data_is(np.ones(3))
    net.x_list_add(np.ones(3))
    np.testing.assert_array_equal(net.lstm_node_list[0].state.h, node.state.h)


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net, "x_list", [1, 2, 3, 4]),
        lambda net: net.x_list.extend([None] * 1000),
        lambda net: setattr(net, "lstm_node_list", []),
        lambda net: net.lstm_node_list.clear(),
        lambda net: setattr(net, "lstm_node_list", [None, None]),
        lambda net: setattr(net, "lstm_node_list", ["node", "node"]),
        lambda net: setattr(net, "lstm_node_list", [LstmNode(net.lstm_param, LstmState(4, 3))] * 2),
        lambda net: setattr(net, "lstm_node_list", [LstmNode(LstmParam(9, 3), LstmState(9, 3))] * 2),
        lambda net: setattr(net, "x_list", None),
        lambda net: setattr(net, "lstm_node_list", None),
    ],
)
def test_the_lists_of_a_network_are_not_trusted(change):
    """They are public, as in the teaching script: whatever is in them is checked before it is used."""
    net = LstmNetwork(LstmParam(4, 3))
    net.x_list_add(np.ones(3))
    net.x_list_add(np.ones(3))
    change(net)
    for call in (
        lambda: net.y_list_is([1.0] * len(net.x_list), ToyLossLayer), lambda: net.x_list_add(np.ones(3)),
    ):
        with pytest.raises((ValueError, TypeError, RuntimeError, AttributeError)):
            call()
            raise ValueError("accepted")
    net.lstm_node_list = []
    net.x_list_clear()
    net.x_list_add(np.ones(3))
    assert net.y_list_is([1.0], ToyLossLayer) >= 0


def test_an_optimiser_of_other_numbers():
    """lr, betas, eps and the others may be set: the next step is that of an optimiser of these numbers."""
    gradient = np.linspace(-1, 1, 9)
    for name, value in {
        "lr": 0.5, "betas": (0.5, 0.6), "eps": 0.1, "weight_decay": 0.2, "max_norm": 0.1, "max_value": 0.2,
    }.items():
        changed, new = Adam(), Adam(**{name: value})
        setattr(changed, name, value)
        a, b = np.ones(9), np.ones(9)
        changed.step(a, gradient)
        new.step(b, gradient)
        np.testing.assert_array_equal(a, b, err_msg=name)
