"""Runs of NeuralHydrology, made here as it writes them: the same numbers as its networks, in units."""

import itertools

import numpy as np
import pytest
from harness import assert_close

from lstm_ext.io import FormatError, from_neuralhydrology
from lstm_ext.io._yaml import parse_yaml

torch = pytest.importorskip("torch", reason="PyTorch is not installed: it writes the weights")
from torch import nn  # noqa: E402

H, N, T = 6, 4, 12
INPUTS = ["prcp(mm/day)", "tmax(C)", "srad(W/m2)"]
STATIC = ["slope_mean", "area_gages2", "elev_mean"]  # sorted, they are in another order
TARGETS = ["QObs(mm/d)", "swe"]
SCALES = {name: (k - 1.5, 0.5 + k) for k, name in enumerate([*INPUTS, *TARGETS])}
ATTRIBUTES = {name: (10.0 * k + 1, 3.0 + k) for k, name in enumerate(STATIC)}


class Head(nn.Module):
    def __init__(self, n_in=H):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(n_in, len(TARGETS)))

    def forward(self, h):
        return self.net(h)


class CudaLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(len(INPUTS) + len(STATIC), H), Head()

    def forward(self, x, static):
        x = torch.cat([x, static[:, None].expand(-1, x.shape[1], -1)], -1)
        return self.head(self.lstm(x.transpose(0, 1))[0].transpose(0, 1))


class EALSTM(nn.Module):
    """The equations of the paper, step by step: i of the static inputs; f, o, g of the others."""

    def __init__(self):
        super().__init__()
        self.input_gate, self.dynamic_gates, self.head = nn.Linear(len(STATIC), H), nn.Module(), Head()
        for name, *shape in (("weight_ih", len(INPUTS), 3 * H), ("weight_hh", H, 3 * H), ("bias", 3 * H)):
            self.dynamic_gates.register_parameter(name, nn.Parameter(torch.randn(shape) / 2))

    def forward(self, x, static):
        own, i = self.dynamic_gates, torch.sigmoid(self.input_gate(static))
        h = c = torch.zeros(len(x), H)
        steps = []
        for t in range(x.shape[1]):
            f, o, g = (h @ own.weight_hh + x[:, t] @ own.weight_ih + own.bias).chunk(3, 1)
            c = torch.sigmoid(f) * c + i * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            steps.append(self.head(h))
        return torch.stack(steps, 1)


FREQUENCIES = ["1D", "6h", "1h"]  # the configuration names them in another order
LENGTHS = {"1D": 10, "6h": 16, "1h": 48}


class MTSLSTM(nn.Module):
    """Several timescales; the state before a finer one begins is handed on to it."""

    def __init__(self, sizes, shared, transfer):
        super().__init__()
        self.sizes, self.shared, self.transfer = sizes, shared, transfer
        self.lstms, self.heads, self.transfer_fcs = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        flags = len(sizes) if shared else 0
        for k, (word, size) in enumerate(sizes.items()):
            first = next(iter(sizes))
            if shared and k:
                self.lstms[word], self.heads[word] = self.lstms[first], self.heads[first]
            else:
                self.lstms[word] = nn.LSTM(len(INPUTS) + len(STATIC) + flags, size)
                self.heads[word] = Head(size)
        words = list(sizes)
        for word, following in itertools.pairwise(words):
            for state in "hc":
                if transfer[state] == "linear":
                    self.transfer_fcs[f"{state}_{word}"] = nn.Linear(sizes[word], sizes[following])

    def forward(self, x, static):
        words, found = list(self.sizes), {}
        h, c = (torch.zeros(1, N, self.sizes[words[0]]) for _ in range(2))
        for k, word in enumerate(words):
            own = torch.cat([x[word], static[:, None].expand(-1, x[word].shape[1], -1)], -1)
            if self.shared:
                flag = torch.zeros(*own.shape[:2], len(words))
                flag[..., k] = 1
                own = torch.cat([own, flag], -1)
            own = own.transpose(0, 1)
            if k + 1 < len(words):
                factor = {"1D": 24, "6h": 6, "1h": 1}
                ahead = LENGTHS[words[k + 1]] * factor[words[k + 1]] // factor[word]
                y, (h_n, c_n) = self.lstms[word](own[:-ahead], (h, c))
                rest, _ = self.lstms[word](own[-ahead:], (h_n, c_n))
                y = torch.cat([y, rest])
                h, c = self.handed("h", word, h_n), self.handed("c", word, c_n)
            else:
                y, _ = self.lstms[word](own, (h, c))
            found[word] = self.heads[word](y.transpose(0, 1))
        return found

    def handed(self, state, word, value):
        how = self.transfer[state]
        if how == "linear":
            return self.transfer_fcs[f"{state}_{word}"](value)
        return value if how == "identity" else torch.zeros_like(value)


def listed(names):
    return "".join(f"\n- {name}" for name in names)


def written(folder, kind, network, more="", static=STATIC):
    """Write a run's folder, its texts as ruamel.yaml has them."""
    (folder / "train_data").mkdir(parents=True, exist_ok=True)
    (folder / "config.yml").write_text(
        f"batch_size: 256\ndynamic_inputs:{listed(INPUTS)}\nexperiment_name: test_run\nhead: regression\n"
        f"hidden_size: {H}\nhydroatlas_attributes: []\nlearning_rate:\n  0: 0.001\n  10: 5e-4\n"
        f"model: {kind}\noutput_activation: linear\nrun_dir: /a/path/test_run_0101\n"
        f"static_attributes:{listed(static) or ' []'}\nstatics_embedding:\n"
        f"target_variables:{listed(TARGETS)}\n"
        f"test_end_date: 30/09/1999\nuse_basin_id_encoding: false\nverbose: 1\n{more}"
    )
    text = "attribute_means:\n" + "".join(f"  {n}: {a}\n" for n, (a, _) in ATTRIBUTES.items())
    text += "attribute_stds:\n" + "".join(f"  {n}: {b}\n" for n, (_, b) in ATTRIBUTES.items())
    for k, word in enumerate(("center", "scale")):
        text += f"xarray_feature_{word}:\n  attrs: {{}}\n  coords: {{}}\n  data_vars:\n"
        for name, pair in SCALES.items():
            text += f"    {name}:\n      attrs: {{}}\n      data: {pair[k]}\n      dims: []\n"
        text += "  dims: {}\n"
    (folder / "train_data" / "train_data_scaler.yml").write_text(text)
    torch.save(network.state_dict(), folder / "model_epoch003.pt")
    torch.save({}, folder / "model_epoch001.pt")
    torch.save({}, folder / "optimizer_state_epoch003.pt")
    return folder


def data(steps=T):
    rng = np.random.default_rng(steps)
    static = np.array([ATTRIBUTES[n][0] + ATTRIBUTES[n][1] * rng.normal(size=N) for n in sorted(STATIC)]).T
    x = np.stack([SCALES[n][0] + SCALES[n][1] * rng.normal(size=(N, steps)) for n in INPUTS], -1)
    return x, static


def scaled(x, names, table):
    mean, std = (np.array([table[n][k] for n in names]) for k in (0, 1))
    return torch.from_numpy(((x - mean) / std).astype("float32"))


def in_units(y):
    mean, std = (np.array([SCALES[n][k] for n in TARGETS]) for k in (0, 1))
    return y.numpy().astype(float) * std + mean


@pytest.mark.parametrize("kind", ["cudalstm", "ealstm"])
def test_a_run_predicts_as_its_network_in_units(kind, tmp_path):
    torch.manual_seed(0)
    network = {"cudalstm": CudaLSTM, "ealstm": EALSTM}[kind]()
    run = from_neuralhydrology(written(tmp_path, kind, network))
    assert (run.inputs, run.static, run.targets) == (INPUTS, sorted(STATIC), TARGETS)
    x, static = data()
    with torch.no_grad():
        theirs = network(scaled(x, INPUTS, SCALES), scaled(static, sorted(STATIC), ATTRIBUTES))
    assert_close(run.predict(x, static), in_units(theirs), 1e-5)
    assert run.model.every_step and kind in repr(run)


@pytest.mark.parametrize(("sizes", "shared", "transfer"), [
    ((6, 6, 6), False, {"h": "linear", "c": "linear"}), ((7, 5, 4), False, {"h": "linear", "c": "linear"}),
    ((6, 6, 6), True, {"h": "identity", "c": "linear"}), ((6, 6, 6), False, {"h": None, "c": "identity"}),
])
def test_several_timescales_hand_their_states_on(sizes, shared, transfer, tmp_path):
    torch.manual_seed(0)
    network = MTSLSTM(dict(zip(FREQUENCIES, sizes, strict=True)), shared, transfer)
    more = "use_frequencies:\n- 1h\n- 1D\n- 6h\nseq_length:\n"
    more += "".join(f"  {k}: {n}\n" for k, n in LENGTHS.items())
    more += "transfer_mtslstm_states:\n" + "".join(f"  {k}: {v or 'None'}\n" for k, v in transfer.items())
    more += f"shared_mtslstm: {str(shared).lower()}\n"
    run = from_neuralhydrology(written(tmp_path, "mtslstm", network, more))
    assert run.frequencies == FREQUENCIES
    x = {word: data(LENGTHS[word])[0] for word in FREQUENCIES}
    static = data()[1]
    with torch.no_grad():
        theirs = network(
            {word: scaled(own, INPUTS, SCALES) for word, own in x.items()},
            scaled(static, sorted(STATIC), ATTRIBUTES),
        )
    mine = run.predict(x, static)
    for word in FREQUENCIES:
        assert_close(mine[word], in_units(theirs[word]), 1e-5)
    with pytest.raises(ValueError, match="x is ndarray; expected a dict with the frequencies 1D, 6h, 1h"):
        run.predict(x["1D"], static)
    with pytest.raises(ValueError, match="expected more than 4, before which the next frequency begins"):
        run.predict({**x, "1D": x["1D"][:, :4]}, static)


def changed(old, new):
    def change(folder):
        text = (folder / "config.yml").read_text()
        assert old in text
        (folder / "config.yml").write_text(text.replace(old, new))
    return change


def rescaled(old, new):
    def change(folder):
        path = folder / "train_data" / "train_data_scaler.yml"
        path.write_text(path.read_text().replace(old, new))
    return change


@pytest.mark.parametrize(("change", "said"), [
    (changed("model: cudalstm", "model: transformer"), "model is transformer; expected one of cudalstm"),
    (changed("head: regression", "head: cmal"), "head is cmal; expected regression"),
    (changed("activation: linear", "activation: relu"), "output_activation is relu; expected linear"),
    (changed("statics_embedding:", "statics_embedding:\n  type: fc"), "an embedding of the static"),
    (changed("encoding: false", "encoding: true"), "use_basin_id_encoding is a one-hot code of the basins"),
    (changed("- slope_mean\n", ""), r"weights are for 6 inputs and 0 static ones; config.yml names 3 and 2"),
    (changed("- swe", "- swe\n- more"), "the head has 2 outputs, config.yml names 3 targets"),
    (changed("- swe", "- snow"), "has no center and scale of snow"),
    (changed("verbose: 1", "verbose: &a 1"), "begins a value with &, which is not read here"),
    (changed("verbose: 1", "model: cudalstm"), "has a key for the second time"),
    (rescaled("data: 0.5", "data: 0.0"), "has center -1.5 and scale 0.0; expected numbers"),
    (rescaled("data: 0.5", "data: [1, 2]"), r"is \[1, 2\]; expected a number"),
    (lambda folder: torch.save({}, folder / "model_epoch009.pt"), "it has no tensors, and no state"),
])
def test_what_is_not_had_here_is_refused_by_name(change, said, tmp_path):
    torch.manual_seed(0)
    change(written(tmp_path, "cudalstm", CudaLSTM()))
    with pytest.raises(FormatError, match=said):
        from_neuralhydrology(tmp_path)


def test_files_that_are_not_there(tmp_path):
    torch.manual_seed(0)
    folder = written(tmp_path, "cudalstm", CudaLSTM())
    with pytest.raises(FileNotFoundError, match="has no model_epoch007"):
        from_neuralhydrology(folder, epoch=7)
    scaler = folder / "train_data" / "train_data_scaler.yml"
    scaler.rename(scaler.with_suffix(".p"))
    with pytest.raises(FormatError, match=r"train_data_scaler\.p is a pickle, which can run any code"):
        from_neuralhydrology(folder)
    with pytest.raises(FileNotFoundError):
        from_neuralhydrology(tmp_path / "nothing")


def test_inputs_are_checked(tmp_path):
    torch.manual_seed(0)
    run = from_neuralhydrology(written(tmp_path, "cudalstm", CudaLSTM()))
    x, static = data()
    for given, said in (
        ((x, None), r"static is None; expected \(N, 3\): area_gages2"),
        ((x[..., :2], static), r"x has shape \(4, 12, 2\); expected \(N, T, 3\)"),
        ((x, static[:, :2]), r"static has shape \(4, 2\); expected \(N, 3\)"),
    ):
        with pytest.raises(ValueError, match=said):
            run.predict(*given)


# ---- YAML


@pytest.mark.parametrize(("text", "value"), [
    ("", None), ("a: 1", {"a": 1}),
    ("a:\n  b: 1.5e3\n  c: [1, x]\nd: {}", {"a": {"b": 1500.0, "c": [1, "x"]}, "d": {}}),
    ("a:\n- 1\n- - 2\n  - 3\n- b: 1\n  c: 2\n", {"a": [1, [2, 3], {"b": 1, "c": 2}]}),
    ("# c\n---\na: 'it''s' # c\nb: \"x\\n\"\nc: ~\n", {"a": "it's", "b": "x\n", "c": None}),
    ("a: 10/01/1999\nb: 1D\nc: .inf", {"a": "10/01/1999", "b": "1D", "c": np.inf}),
    ("a: on\n'b': No # c\n5: -3", {"a": "on", "b": "No", "5": -3}),
    ("a:\n    one\n    two", {"a": "one two"}), ("- a\n- b: c", ["a", {"b": "c"}]),
])
def test_yaml_as_programs_write_it(text, value):
    assert parse_yaml(text, "f") == value


@pytest.mark.parametrize(("text", "said"), [
    ("a: &x 1", "line 1 begins a value with &"), ("a: *x", r"with \*"),
    ("a: !!python/object:os.system 1", "with !"),
    ("a: |\n  x", r"with \|"), ("a: {b: 1}", "within brackets"), ("a: [[1]]", "within brackets"),
    ("a: 'x", "without an end"), ("\ta: 1", "a tab"), ("a: 1\na: 2", "second time"),
    ("\n".join("  " * k + "a:" for k in range(40)), "more than 32 deep"),
    ("- " * 40 + "a", "more than 32 deep"),
    ("a\n" * 2**17 + "a", "more than 131072 lines"), ('a: "x" y', "more after a value"),
    ("a: [1, 2] 3", "more after"), ("a: x\n  y", "at another depth"),
])
def test_yaml_that_is_not_read_is_refused_with_the_line(text, said):
    with pytest.raises(ValueError, match=said):
        parse_yaml(text, "f")
