"""PyTorch's weights: parity with PyTorch's own output, bit for bit there and back, refusals."""

import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest
from harness import TOLERANCE, assert_close
from make_torch_outputs import CASES, committed

from lstm_ext import LSTM, Model
from lstm_ext.io import FormatError, from_torch, to_torch

SHAPES = {
    "one layer": {},
    "three layers": {"num_layers": 3},
    "two directions": {"bidirectional": True},
    "two layers, two directions": {"num_layers": 2, "bidirectional": True},
    "projected": {"proj_size": 3},
    "projected, two layers, two directions": {"proj_size": 2, "num_layers": 2, "bidirectional": True},
    "no bias": {"bias": False},
    "no bias, projected, two directions": {"bias": False, "proj_size": 3, "bidirectional": True},
    "time first": {"batch_first": False},
}


def torch_lstm(words, dtype="float32", seed=0):
    """A torch.nn.LSTM of asymmetric weights, and x for it."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its committed outputs are used")
    torch.manual_seed(seed)
    words = {"batch_first": True, **words}
    module = torch.nn.LSTM(3, 5, dtype=getattr(torch, dtype), **words)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5)
    x = np.random.default_rng(seed).normal(size=(4, 6, 3)).astype(dtype)
    return torch, module, x


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", SHAPES)
def test_an_lstm_of_pytorch_gives_the_same_numbers_here(name, dtype):
    torch, module, x = torch_lstm(SHAPES[name], dtype)
    with torch.no_grad():
        y, (h_n, c_n) = module(torch.from_numpy(x))
    for source in (module, module.state_dict(), {k: v.numpy() for k, v in module.state_dict().items()}):
        lstm = from_torch(source, batch_first=module.batch_first)
        ours, (h, c) = lstm(x)
        assert lstm.dtype == dtype and lstm.batch_first == module.batch_first
        for what, theirs in ((ours, y), (h, h_n), (c, c_n)):
            assert_close(what, theirs.numpy(), TOLERANCE[dtype])


@pytest.mark.parametrize("name", CASES)
def test_weights_give_the_committed_outputs_of_pytorch(name):
    """Without PyTorch, too; its two biases are made of one: b = (b - d) + d."""
    case = CASES[name]
    parameters, arrays, run = committed(name)
    state = {}
    for key, value in parameters.items():
        if key.startswith("bias"):
            other = np.random.default_rng(0).integers(-2, 3, value.shape).astype(value.dtype)
            state[key.replace("bias", "bias_ih")] = value - other
            state[key.replace("bias", "bias_hh")] = other
        else:
            state[key] = value
    lstm = from_torch(state)
    y, (h_n, c_n) = lstm(arrays["x"], (arrays["h_0"], arrays["c_0"]), lengths=case.lengths)
    for what, actual in (("y", y), ("h_n", h_n), ("c_n", c_n)):
        assert_close(actual, run[what], TOLERANCE[case.dtype], what)


@pytest.mark.parametrize("swap", list(itertools.combinations("ifgo", 2)), ids="".join)
@pytest.mark.parametrize("word", ["weight_ih", "weight_hh", "bias"])
def test_two_gates_in_the_wrong_order_are_seen(word, swap):
    """The committed case tells any order of gates from the right one, in each parameter alone."""
    parameters, arrays, run = committed("one_layer")
    order = ["ifgo".index({swap[0]: swap[1], swap[1]: swap[0]}.get(gate, gate)) for gate in "ifgo"]
    state = to_torch(from_torch({
        **{name: value for name, value in parameters.items() if name != "bias_l0"},
        "bias_ih_l0": parameters["bias_l0"], "bias_hh_l0": 0 * parameters["bias_l0"],
    }))
    name = "bias_ih_l0" if word == "bias" else f"{word}_l0"
    state[name] = np.concatenate([np.split(state[name], 4)[k] for k in order])
    y = from_torch(state)(arrays["x"], (arrays["h_0"], arrays["c_0"]))[0]
    assert np.abs(y - run["y"]).max() > 1e-3


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_ours_comes_back_bit_for_bit(name, dtype):
    words = {word: value for word, value in SHAPES[name].items() if word != "batch_first"}
    lstm = LSTM(3, 5, **words, dtype=dtype, rng=0)
    lstm.parameters = np.random.default_rng(1).normal(size=lstm.parameters.shape)
    lstm.parameters[-4:] = -0.0, 0.0, -1.0, np.finfo(dtype).smallest_subnormal
    again = from_torch(to_torch(lstm))
    assert repr(again) == repr(lstm)
    assert again.parameters.tobytes() == lstm.parameters.tobytes()


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", SHAPES)
def test_pytorch_loads_what_to_torch_gives(name):
    torch, module, x = torch_lstm(SHAPES[name], "float64")
    words = {word: value for word, value in SHAPES[name].items() if word != "batch_first"}
    lstm = LSTM(3, 5, **words, batch_first=module.batch_first, dtype="float64", rng=7)
    module.load_state_dict({key: torch.from_numpy(value) for key, value in to_torch(lstm).items()})
    with torch.no_grad():
        y = module(torch.from_numpy(x))[0].numpy()
    assert_close(lstm(x)[0], y, 1e-12)


def test_the_state_dict_is_a_copy_and_its_second_bias_zero():
    lstm = LSTM(2, 3, rng=0)
    state = to_torch(lstm)
    assert not state["bias_hh_l0"].any() and np.array_equal(state["bias_ih_l0"], lstm["bias_l0"])
    for value in state.values():
        value += 1
    assert lstm["weight_ih_l0"].max() < 1


# ---- modules with a readout


def module_with_head(torch, bidirectional, every_step, bias=True):
    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(3, 3)
            self.encoder = torch.nn.ModuleDict(
                {"lstm": torch.nn.LSTM(3, 4, 2, batch_first=True, bidirectional=bidirectional, dropout=0.5)}
            )
            self.fc = torch.nn.Linear(4 * (1 + bidirectional), 2, bias=bias)

        def forward(self, x):
            y, (h_n, _) = self.encoder["lstm"](x)
            return self.fc(y if every_step else torch.cat(tuple(h_n[-(1 + bidirectional):]), -1))

    torch.manual_seed(0)
    return Module().eval()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_module_with_a_linear_head_becomes_a_model(bidirectional, every_step, bias, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no module to import")
    module = module_with_head(torch, bidirectional, every_step, bias)
    x = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("float32")
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    model = from_torch(module, prefix="encoder.lstm", head="fc", every_step=every_step)
    assert_close(model.predict(x), expected, 1e-5)
    assert model.lstm.dropout == 0.5 and model.lstm.batch_first
    state = to_torch(model, prefix="encoder.lstm", head="fc")
    again = from_torch(state, prefix="encoder.lstm", head="fc", every_step=every_step, dropout=0.5)
    assert repr(again) == repr(model) and again.parameters.tobytes() == model.parameters.tobytes()


def test_a_model_comes_back_by_the_names_of_to_torch():
    model = Model(LSTM(2, 3, bidirectional=True, rng=0), 2, rng=0)
    model.bias = [-0.0, 2.0]
    state = to_torch(model)
    assert {"lstm.weight_ih_l0", "lstm.bias_hh_l0_reverse", "head.weight", "head.bias"} <= set(state)
    again = from_torch(state, prefix="lstm", head="head")
    assert again.parameters.tobytes() == model.parameters.tobytes()


# ---- files


def test_a_file_is_read_without_pytorch(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed: extra io")
    model = Model(LSTM(2, 3, 2, bidirectional=True, proj_size=2, rng=0), 2, rng=0)
    path = tmp_path / "weights.safetensors"
    safetensors.save_file({**to_torch(model), "other.weight": np.ones(3, "int64")}, path)
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np; from lstm_ext.io import from_torch\n"
        f"model = from_torch({str(path)!r}, prefix='lstm', head='head')\n"
        "print(model.parameters.tobytes().hex())\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert bytes.fromhex(done.stdout.strip()) == model.parameters.tobytes()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_bare_pickle_is_refused_by_the_sentence_that_says_how_to_convert_it(protocol, tmp_path):
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"weight_ih_l0": 1}, protocol))
    with pytest.raises(FormatError, match=r"is a pickle.*safetensors\.torch\.save_file\(torch\.load"):
        from_torch(tmp_path / "a.pt")


# ---- what is not in a state dict, and what is refused


def test_what_is_not_in_a_state_dict_is_an_argument():
    state = to_torch(LSTM(2, 3, 2, rng=0))
    assert from_torch(state).batch_first and from_torch(state).dropout == 0
    lstm = from_torch(state, batch_first=False, dropout=0.25, dtype="float64")
    assert (lstm.batch_first, lstm.dropout, lstm.dtype) == (False, 0.25, np.float64)
    assert np.array_equal(lstm["weight_hh_l1"], state["weight_hh_l1"].astype("float64"))


def test_a_dropout_that_drops_nothing_is_none():
    _, module, _ = torch_lstm({})
    module.dropout = 0.5  # of one layer
    assert from_torch(module).dropout == 0


def test_numbers_too_large_for_the_dtype_are_refused():
    state = to_torch(LSTM(2, 3, dtype="float64", rng=0))
    state["weight_hh_l0"][0, 0] = 1e300
    assert from_torch(state)["weight_hh_l0"][0, 0] == 1e300
    with pytest.raises(FormatError, match="weight_hh_l0 holds numbers that are infinite in float32"):
        from_torch(state, dtype="float32")


STATE = to_torch(LSTM(2, 3, rng=0))
RECURRENT = STATE["weight_hh_l0"]


@pytest.mark.parametrize(("changes", "words", "sentence"), [
    ({"fc.weight": np.ones((1, 3))}, {}, "fc.weight is not a parameter of an LSTM: name the parts"),
    ({"weight_hh_l0": RECURRENT.astype("float64")}, {}, "are float32 and float64: choose with dtype="),
    ({"weight_hh_l0": RECURRENT.astype("int64")}, {}, "weight_hh_l0 is int64; expected float32"),
    ({"weight_hh_l0": RECURRENT * np.nan}, {}, "weight_hh_l0 holds NaN or inf"),
    ({"weight_hh_l0": RECURRENT.T}, {}, r"weight_hh_l0 has shape \(3, 12\); expected \(12, 3\)"),
    ({"bias_hh_l0": None}, {}, "the LSTM lacks bias_hh_l0"),
    ({}, {"prefix": "lstm"}, "there is no lstm.weight_ih_l0, but with prefix='' there is"),
    ({}, {"head": "fc"}, "there is no fc.weight"),
])
def test_what_is_no_lstm_is_refused_by_a_sentence(changes, words, sentence):
    state = {key: value for key, value in {**STATE, **changes}.items() if value is not None}
    with pytest.raises(FormatError, match=sentence):
        from_torch(state, **words)


@pytest.mark.parametrize("kind", ["GRU", "RNN"])
def test_a_gru_is_not_taken_for_an_lstm(kind):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no module to import")
    for size in (3, 4, 8):
        module = getattr(torch.nn, kind)(3, size)
        for source in (module, module.state_dict()):
            with pytest.raises(FormatError):
                from_torch(source)


@pytest.mark.parametrize("source", [None, 3, [np.ones((12, 2))], np.ones(3)])
def test_what_is_no_source_is_a_type_error(source):
    with pytest.raises(TypeError, match="expected a state dict, a module or a path"):
        from_torch(source)


@pytest.mark.parametrize(("name", "options"), [
    ("peepholes", {"peepholes": True}), ("coupled_gates", {"coupled_gates": True}),
    ("cell_clip", {"cell_clip": 1.0}), ("gate_clip", {"gate_clip": 1.0}),
    ("layer_norm", {"layer_norm": True}),
    ("activations", {"cell_activation": "identity"}),
    ("activations", {"activations": ("hard_sigmoid", "tanh", "tanh")}), ("zoneout", {"zoneout": (0.1, 0.0)}),
    ("static_size", {"static_size": 2}), ("learn_state", {"learn_state": True}), ("nan", {"nan": "hold"}),
    ("nan", {"nan": "zero", "nan_mask": True}), ("reverse", {"reverse": True}),
])
def test_an_option_that_pytorch_does_not_have_is_refused(name, options):
    with pytest.raises(ValueError, match=rf"torch\.nn\.LSTM has no {name}, and this LSTM has {name}="):
        to_torch(LSTM(2, 3, **options))


def test_options_of_training_and_of_memory_are_no_part_of_a_state_dict():
    dropping = {"dropout": 0.1, "recurrent_dropout": 0.1, "weight_dropout": 0.1}
    lstm = LSTM(2, 3, 2, **dropping, checkpoint=5, nan="raise", rng=0)
    for name, value in to_torch(LSTM(2, 3, 2, rng=0)).items():
        assert np.array_equal(to_torch(lstm)[name], value)
    with pytest.raises(TypeError, match="expected an LSTM or a Model"):
        to_torch({})


@pytest.mark.parametrize("size", [3, 4])
def test_a_projection_that_pytorch_does_not_take_is_refused(size):
    with pytest.raises(ValueError, match=f"proj_size is {size}, hidden_size 3; expected"):
        to_torch(LSTM(2, 3, proj_size=size))
    assert "weight_hr_l0" in to_torch(LSTM(2, 3, proj_size=2))


# ---- whole models as modules

READOUTS = {
    "last": {}, "every step": {"every_step": True}, "mean": {"pooling": "mean"}, "max": {"pooling": "max"},
    "attention": {"pooling": "attention"},
}


@pytest.mark.parametrize("lengths", [None, [6, 1, 4]])
@pytest.mark.parametrize("words", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("name", READOUTS)
def test_a_module_computes_what_predict_does(name, words, lengths):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no module to make")
    model = Model(LSTM(3, 4, dtype="float64", **words), 2, **READOUTS[name])
    model.parameters = np.random.default_rng(0).normal(size=model.parameters.shape) / 2
    module, x = to_torch(model, module=True), np.random.default_rng(1).normal(size=(3, 6, 3))
    with torch.no_grad():
        given = () if lengths is None else (torch.tensor(lengths),)
        theirs = module(torch.from_numpy(x), *given).numpy()
    assert_close(theirs, model.predict(x, lengths), 1e-12)
    if "pooling" in READOUTS[name]:
        with pytest.raises(ValueError, match="expected 'last' for a state dict, which says no pooling"):
            to_torch(model)
    else:
        assert set(module.state_dict()) == set(to_torch(model))
        again = from_torch(module, prefix="lstm", head="head", every_step=model.every_step)
        assert np.array_equal(again.parameters, model.parameters)


def test_a_module_of_an_lstm_is_pytorchs_own():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no module to make")
    lstm = LSTM(3, 5, 2, dropout=0.25, proj_size=2, batch_first=False, rng=0)
    module = to_torch(lstm, module=True)
    assert isinstance(module, torch.nn.LSTM) and (module.dropout, module.batch_first) == (0.25, False)
    assert repr(from_torch(module)) == repr(lstm)
    with pytest.raises(ValueError, match="module is True, and prefix or head was given"):
        to_torch(lstm, module=True, prefix="a")


def _state(rows=4, head="fc"):
    rng = np.random.default_rng(0)
    shapes = {
        "rnn.weight_ih_l0": (rows * 5, 3), "rnn.weight_hh_l0": (rows * 5, 5),
        "rnn.bias_ih_l0": (rows * 5,), "rnn.bias_hh_l0": (rows * 5,),
        f"{head}.weight": (5, 5), f"{head}.bias": (5,),
    }
    return {name: rng.normal(size=shape).astype("f") for name, shape in shapes.items()}


@pytest.mark.parametrize(("rows", "kind"), [(3, "a GRU"), (1, "an RNN")])
def test_weights_of_another_network_are_named(rows, kind):
    with pytest.raises(FormatError, match=f"rnn is {kind}; only LSTMs are read"):
        from_torch(_state(rows), prefix="rnn", head="fc")


def test_a_model_is_batch_first_and_says_so():
    class Net:
        rnn = type("LSTM", (), {"batch_first": False})()

        def state_dict(self):
            return _state()

    with pytest.raises(ValueError, match="batch_first is False; expected True or None with head="):
        from_torch(_state(), prefix="rnn", head="fc", batch_first=False)
    with pytest.warns(UserWarning, match="the module has batch_first=False") as caught:
        from_torch(Net(), prefix="rnn", head="fc")
    assert caught[0].filename == __file__


def test_layers_beside_the_head_are_warned_of():
    state = _state(head="head.2")
    state |= {"head.0.weight": state["head.2.weight"], "head.0.bias": state["head.2.bias"]}
    with pytest.warns(UserWarning, match=r"head\.0\.weight, head\.0\.bias: not read") as caught:
        from_torch(state, prefix="rnn", head="head.2")
    assert caught[0].filename == __file__


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict"])
def test_a_checkpoint_is_read_as_a_file_of_it_is(key):
    whole = {"epoch": 3, key: _state(), "optimizer_state_dict": {"state": {}}}
    model = from_torch(whole, prefix="rnn", head="fc")
    np.testing.assert_array_equal(model.parameters, from_torch(_state(), prefix="rnn", head="fc").parameters)


@pytest.mark.parametrize("head", ["linear", True, ("fc",)])
def test_a_head_that_is_not_there(head):
    error, match = (FormatError, "but with head='fc'") if head == "linear" else (TypeError, "head is")
    with pytest.raises(error, match=match):
        from_torch(_state(), prefix="rnn", head=head)
