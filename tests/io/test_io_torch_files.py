"""What PyTorch writes, and modules as people change them, read without PyTorch: the same numbers."""

import io
import json
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from harness import assert_close

from lstm_ext import LSTM
from lstm_ext.io import FormatError, _torch_archive, from_torch

torch = pytest.importorskip("torch", reason="PyTorch is not installed: it writes the files")
from torch import nn  # noqa: E402

N, T, I, H = 3, 6, 3, 4  # noqa: E741


class Net(nn.Module):
    """At the module's top, so that it can be pickled whole."""

    def __init__(self, **words):
        super().__init__()
        self.lstm = nn.LSTM(I, H, 2, batch_first=True, **words)
        self.fc = nn.Linear(H, 2)

    def forward(self, x):
        return self.fc(self.lstm(x)[0][:, -1])


def net(**words):
    torch.manual_seed(0)
    return Net(**words).eval()


def x():
    return np.random.default_rng(0).normal(size=(N, T, I)).astype("float32")


def expected(module):
    with torch.no_grad():
        return module(torch.from_numpy(x())).numpy()


# ---- files


def checkpoint(module, path):
    optimizer = torch.optim.Adam(module.parameters())
    expected_loss = module(torch.from_numpy(x())).sum()
    expected_loss.backward()
    optimizer.step()
    torch.save({
        "epoch": 3, "pytorch-lightning_version": "2.5", "optimizer_states": [optimizer.state_dict()],
        "state_dict": {f"model.{name}": value for name, value in module.state_dict().items()},
        "hyper_parameters": {"lr": 1e-3, "layers": (1, 2), "where": {4, 5}}, "callbacks": {},
    }, path)


WRITERS = {
    "state dict": lambda module, path: torch.save(module.state_dict(), path),
    "module": torch.save,
    "checkpoint": checkpoint,
    "protocol 4": lambda module, path: torch.save(module.state_dict(), path, pickle_protocol=4),
    "script": lambda module, path: torch.jit.script(module).save(path),
    "trace": lambda module, path: torch.jit.trace(module, torch.from_numpy(x())).save(path),
    "export": lambda module, path: torch.export.save(
        torch.export.export(module, (torch.from_numpy(x()),)), path),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_pytorch_is_read_without_pytorch(name, tmp_path):
    module = net()
    path = tmp_path / ("a.pt2" if name == "export" else "a.pt")
    WRITERS[name](module, path)
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from lstm_ext.io import from_torch\n"
        f"model = from_torch({str(path)!r}, prefix='lstm', head='fc')\n"
        "print(model.parameters.tobytes().hex())\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    model = from_torch(module, prefix="lstm", head="fc")
    assert bytes.fromhex(done.stdout.strip()) == model.parameters.tobytes()
    assert_close(model.predict(x()), expected(module), 1e-6)


def test_a_whole_module_says_its_options(tmp_path):
    torch.save(nn.LSTM(I, H, 2, dropout=0.25), tmp_path / "a.pt")
    lstm = from_torch(tmp_path / "a.pt")
    assert (lstm.batch_first, lstm.dropout) == (False, 0.25)


def test_views_of_one_storage_are_taken_apart(tmp_path):
    module = net()
    flat = torch.cat([value.flatten() for value in module.state_dict().values()])
    views, start = {}, 0
    for name, value in module.state_dict().items():
        views[name] = flat[start : start + value.numel()].view(value.shape)
        start += value.numel()
    views["lstm.weight_hh_l1"] = views["lstm.weight_hh_l1"].t().contiguous().t()  # strides turned round
    torch.save(views, tmp_path / "a.pt")
    mine = from_torch(tmp_path / "a.pt", prefix="lstm", head="fc")
    assert np.array_equal(mine.parameters, from_torch(module, prefix="lstm", head="fc").parameters)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("how", ["module", "pt", "safetensors"])
def test_halves_become_the_same_numbers_in_float32(dtype, how, tmp_path):
    module = net().to(getattr(torch, dtype))
    source = module
    if how == "pt":
        torch.save(module.state_dict(), tmp_path / "a.pt")
        source = tmp_path / "a.pt"
    elif how == "safetensors":
        files = pytest.importorskip("safetensors.torch", reason="safetensors is not installed: extra io")
        files.save_file(module.state_dict(), tmp_path / "a.safetensors")
        source = tmp_path / "a.safetensors"
    lstm = from_torch(source, prefix="lstm", head="fc").lstm
    assert lstm.dtype == ("float64" if dtype == "float64" else "float32")
    for name in ("weight_ih_l0", "weight_hh_l1"):
        assert np.array_equal(lstm[name], getattr(module.lstm, name).detach().to(torch.float64).numpy())


# ---- modules as people change them


def test_a_cell_is_an_lstm_of_one_layer():
    cell = nn.LSTMCell(I, H)
    lstm = from_torch(cell)
    h = c = torch.zeros(N, H)
    with torch.no_grad():
        for t in range(T):
            h, c = cell(torch.from_numpy(x()[:, t]), (h, c))
    y, (_, c_n) = lstm(x())
    assert_close(y[:, -1], h.numpy(), 1e-6)
    assert_close(c_n[0], c.numpy(), 1e-6)


@pytest.mark.parametrize("sizes", [(4, 4), (5, 3), (2, 6, 4)])
@pytest.mark.parametrize("cells", [False, True])
def test_several_places_are_one_stack(sizes, cells):
    kind = nn.LSTMCell if cells else nn.LSTM
    pairs = enumerate(zip((I, *sizes), sizes, strict=False))
    module = nn.ModuleDict({f"l{k}": kind(*pair) for k, pair in pairs})
    module["fc"] = nn.Linear(sizes[-1], 2)
    y = torch.from_numpy(x()).transpose(0, 1)
    with torch.no_grad():
        for k, size in enumerate(sizes):
            if not cells:
                y = module[f"l{k}"](y)[0]
                continue
            state, steps = (torch.zeros(N, size),) * 2, []
            for step in y:
                state = module[f"l{k}"](step, state)
                steps.append(state[0])
            y = torch.stack(steps)
        theirs = module["fc"](y[-1]).numpy()
    places = [f"l{k}" for k in range(len(sizes))]
    model = from_torch(module, prefix=places, head="fc")
    assert model.lstm.hidden_size == max(sizes) and model.lstm.num_layers == len(sizes)
    assert_close(model.predict(x()), theirs, 1e-6)
    if sizes[-1] < max(sizes):
        with pytest.raises(FormatError, match="expected head=, or a last LSTM as wide as the widest"):
            from_torch({k: v for k, v in module.state_dict().items() if k[0] == "l"}, prefix=places)


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("how", ["weight_norm", "parametrizations"])
def test_weights_of_weight_norm_are_put_together(how, dim, tmp_path):
    module = net()
    norm = nn.utils.weight_norm if how == "weight_norm" else nn.utils.parametrizations.weight_norm
    for name in ("weight_hh_l0", "weight_ih_l1"):
        norm(module.lstm, name, dim)
    norm(module.fc, "weight", dim)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.25)
    theirs = expected(module)
    assert_close(from_torch(module, prefix="lstm", head="fc").predict(x()), theirs, 1e-6)
    torch.save(module.state_dict(), tmp_path / "a.pt")
    assert_close(from_torch(tmp_path / "a.pt", prefix="lstm", head="fc").predict(x()), theirs, 1e-6)


def test_another_parametrization_is_refused_with_what_to_do():
    module = net()
    nn.utils.parametrizations.orthogonal(module.lstm, "weight_hh_l0")
    with pytest.raises(FormatError, match=r"other than weight_norm.*remove_parametrizations"):
        from_torch(module, prefix="lstm", head="fc")


@pytest.mark.parametrize("wrapper", ["module.", "model.", "_orig_mod.", "module._orig_mod.", "net.model."])
def test_what_everything_lies_in_is_left_out(wrapper):
    module = net()
    state = {wrapper + name: value for name, value in module.state_dict().items()}
    mine = from_torch(state, prefix="lstm", head="fc")
    assert np.array_equal(mine.parameters, from_torch(module, prefix="lstm", head="fc").parameters)
    inside = {name.replace("lstm.", "lstm._orig_mod."): value for name, value in module.state_dict().items()}
    assert np.array_equal(from_torch(inside, prefix="lstm", head="fc").parameters, mine.parameters)
    with pytest.raises(FormatError, match="there twice: compiled and not"):
        from_torch({**inside, **module.state_dict()}, prefix="lstm", head="fc")


def test_a_dropout_that_lets_nothing_pass_is_taken_as_none_with_a_warning():
    module = net(dropout=1.0)
    with pytest.warns(UserWarning, match="dropout is 1 in the module, which lets nothing pass"):
        model = from_torch(module, prefix="lstm", head="fc")
    assert model.lstm.dropout == 0
    assert_close(model.predict(x()), expected(module), 1e-6)


# ---- what an archive may not do


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_nothing_in_a_pickle_is_run(tmp_path, capsys):
    torch.save({"state_dict": net().state_dict(), "evil": Evil()}, tmp_path / "a.pt")
    from_torch(tmp_path / "a.pt", prefix="lstm", head="fc")
    assert "run" not in capsys.readouterr().out
    value = _torch_archive.described(pickle.dumps(Evil()))
    assert isinstance(value, _torch_archive.Named)


def edited(tmp_path, change):
    """Write an archive whose members `change` has gone over."""
    content = io.BytesIO()
    torch.save(net().state_dict(), content)
    members = {}
    with zipfile.ZipFile(content) as archive:
        for name in archive.namelist():
            members[name] = archive.read(name)
    change(members)
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        for name, value in members.items():
            archive.writestr(name, value)
    return tmp_path / "a.pt"


def replaced(old, new):
    def change(members):
        assert old in members["archive/data.pkl"]
        members["archive/data.pkl"] = members["archive/data.pkl"].replace(old, new)
    return change


def pickled(content):
    return lambda members: members.update({"archive/data.pkl": b"\x80\x02" + content})


HOSTILE = {
    "a storage that is not there": (lambda m: m.pop("archive/data/0"), "it has no data/0"),
    "a storage that is too short": (
        lambda m: m.update({"archive/data/0": b"\0" * 8}), "data/0 has 8 bytes for 48 numbers"),
    "another storage": (replaced(b"FloatStorage", b"LongStorage_"), "LongStorage_; expected float32"),
    "a path out of the archive": (
        replaced(b"X\x01\0\0\x000", b"X\x01\0\0\0/"), "is not a parameter|there is no"),
    "more rows": (replaced(b"K\x10K\x03\x86", b"K\x20K\x03\x86"), "more numbers than its storage"),
    "wider strides": (replaced(b"K\x03K\x01\x86", b"K\x7fK\x01\x86"), "more numbers than its storage"),
    "a pickle that is cut off": (
        lambda m: m.update({"archive/data.pkl": m["archive/data.pkl"][:200]}), "pickle is damaged"),
    "a pickle of nothing": (pickled(b"N."), "there is no"),
    "an empty stack": (pickled(b"R."), "is damaged"),
    "a number that was not put": (pickled(b"h\x07."), "is damaged"),
    "an unknown instruction": (pickled(b"\x82\x01."), "instruction EXT1"),
    "a billion instructions": (pickled(b"]" * 200_000 + b"."), "more than 131072 instr"),
    "lists in lists, without end": (pickled(b"}q\0U\x05modelh\0s."), "or more than 32"),
    "two folders": (lambda m: m.update({"b/data.pkl": b""}), "more than one folder"),
    "another byte order": (lambda m: m.update({"archive/byteorder": b"middle"}), "expected little or big"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_gets_one_error(name, tmp_path):
    change, said = HOSTILE[name]
    with pytest.raises(FormatError, match=said):
        from_torch(edited(tmp_path, change), prefix="lstm", head="fc")


def test_a_compressed_member_is_refused(tmp_path):
    torch.save(net().state_dict(), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            archive.writestr(name, value)
    with pytest.raises(FormatError, match="is compressed; expected an archive as PyTorch writes it"):
        from_torch(tmp_path / "b.pt", prefix="lstm")


def test_an_export_with_other_words_is_refused(tmp_path):
    path = tmp_path / "a.pt2"
    torch.export.save(torch.export.export(net(), (torch.from_numpy(x()),)), path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.endswith("model_weights_config.json"))
    for key, value, said in (
        ("path_name", "../../evil", "it has no data/weights"), ("use_pickle", True, "a tensor is a pickle"),
        ("tensor_meta", {}, "KeyError|sizes"),
    ):
        configuration = json.loads(members[name])
        configuration["config"]["lstm.weight_ih_l0"][key] = value
        with zipfile.ZipFile(tmp_path / "b.pt2", "w") as archive:
            for member, content in {**members, name: json.dumps(configuration).encode()}.items():
                archive.writestr(member, content)
        with pytest.raises(FormatError, match=said):
            from_torch(tmp_path / "b.pt2", prefix="lstm", head="fc")


def test_the_stack_of_places_must_fit():
    state = {f"{k}.{name}": value.numpy() for k, lstm in enumerate((nn.LSTM(2, 3), nn.LSTM(4, 3)))
             for name, value in lstm.state_dict().items()}
    with pytest.raises(FormatError, match="an LSTM has 4 inputs, and the one before it 3 outputs"):
        from_torch(state, prefix=("0", "1"))
    with pytest.raises(TypeError, match=r"prefix is \(0, 1\); expected a name, or several"):
        from_torch(state, prefix=(0, 1))
    assert isinstance(from_torch(state, prefix="0"), LSTM)
