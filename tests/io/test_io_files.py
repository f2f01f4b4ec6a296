"""Files: opened without surprises, read within bounds, written whole or not at all; no fault of theirs."""

import functools
import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from lstm_ext import LSTM, Adam, Model, _files, _launch
from lstm_ext._safetensors import TensorFile, pack_tensors
from lstm_ext.io import FormatError, export_c, from_keras, from_onnx, from_torch, load, save
from lstm_ext.training import _checkpoint

needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="pipes, devices and limits as Linux has them"
)


def model(seed=0, **options):
    return Model(LSTM(2, 3, rng=seed, **options), 1, rng=seed)


def state_of(model):
    """Arguments of `_checkpoint` for a training of this model."""
    return _checkpoint.TrainingState(model, {"n": 1}, np.random.default_rng(0), Adam(), None, None)


def checkpointed(path):
    trained = model()
    state = state_of(trained)
    state[3].step(trained.parameters, np.ones_like(trained.parameters))
    _checkpoint.save(path, state, [{"epoch": 1, "loss": 0.5}])


def former(path, **changes):
    """Write a model as `Model.save` wrote it before safetensors."""
    own, buffer = model(), io.BytesIO()
    words = {
        "input_size": 2,
        "hidden_size": 3,
        "num_layers": 1,
        "bidirectional": False,
        "cell_activation": "tanh",
        "checkpoint": None,
    }
    np.save(buffer, own.parameters)
    configuration = {
        "format": "lstm_ext.Model 1",
        "lstm": words,
        "dtype": "float32",
        "output_size": 1,
        "every_step": False,
        "loss": "mse",
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("configuration.json", json.dumps({**configuration, **changes}))
        archive.writestr("parameters.npy", buffer.getvalue())


# Every function that opens a file, by name: the error of a bad one, and how it is called.
READERS = {
    "load": (FormatError, load),
    "Model.load": (FormatError, Model.load),
    "from_torch": (FormatError, from_torch),
    "from_keras": (FormatError, from_keras),
    "from_onnx": (FormatError, from_onnx),
    "checkpoint": (ValueError, lambda path: _checkpoint.load(path, state_of(model()))),
    "lstm-ext fit": (ValueError, lambda path: _launch._read(path, 0)),
    "load_array": (ValueError, lambda path: _files_blamed(_files.load_array, path)),
    "load_arrays": (ValueError, lambda path: _files_blamed(_files.load_arrays, path, ["x", "y"])),
}


def _files_blamed(function, path, *arguments):
    with _files.blamed(os.fspath(path)):
        return function(path, *arguments)


@pytest.fixture
def readers():
    pytest.importorskip("h5py", reason="h5py is not installed: the extra io")
    pytest.importorskip("onnx", reason="onnx is not installed: the extra onnx")
    return READERS


# ---- reading: what is no ordinary file


@needs_linux
@pytest.mark.parametrize("name", READERS)
def test_pipes_devices_sockets_and_folders_are_refused_at_once(name, readers, tmp_path, monkeypatch):
    error, read = readers[name]
    os.mkfifo(tmp_path / "pipe")
    os.symlink(tmp_path / "pipe", tmp_path / "link")
    (tmp_path / "folder").mkdir()
    own = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)
    own.bind("socket")
    signal.alarm(20)  # a hang is a failure, and ends
    try:
        for path, what in (
            ("pipe", "a named pipe"),
            ("link", "a named pipe"),
            ("folder", "a folder"),
            ("socket", "a socket"),
            ("/dev/zero", "a device"),
            ("/dev/full", "a device"),
        ):
            with pytest.raises(error, match=f"it is {what}; expected a file"):
                read(tmp_path / path)
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "nothing")
        os.symlink("loop", tmp_path / "loop")
        with pytest.raises(OSError, match="symbolic links"):
            read(tmp_path / "loop")
    finally:
        signal.alarm(0)
        own.close()


@needs_linux
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("begin", ["zeros", "PK", "header"])
def test_a_file_of_8_gb_that_is_mostly_holes_takes_no_memory(name, begin, readers, tmp_path):
    error, read = readers[name]
    path = tmp_path / "file"
    content = {"zeros": b"", "PK": b"PK\x03\x04" + bytes(60), "header": pack_tensors({}, {})}[begin]
    path.write_bytes(content)
    os.truncate(path, 8 << 30)
    began = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(error):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - began < 5


@functools.cache
def bomb(kind):
    """Bytes of a small archive that would be a large model if it were believed."""
    path = io.BytesIO()
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (2**28,)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        if kind == "compressed":
            with archive.open("parameters.npy", "w") as member:
                member.write(buffer.getvalue())
                for _ in range(2**10):
                    member.write(bytes(2**20))
        if kind == "compressed JSON":
            archive.writestr("configuration.json", b" " * 2**29)
        if kind == "many members":
            for k in range(40_000):
                archive.writestr(f"{k}.npy", b"")
    if kind == "overlapping":  # 20,000 entries of the directory name one member of 1 MB
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", bytes(2**20))
            info = archive.infolist()[0]
            for k in range(20_000):
                other = zipfile.ZipInfo(f"{k}.npy")
                other.header_offset, other.CRC = info.header_offset, info.CRC
                other.compress_size = other.file_size = info.file_size
                archive.filelist.append(other)
            archive._didModify = True
    return path.getvalue()


@pytest.mark.parametrize("kind", ["compressed", "compressed JSON", "many members", "overlapping"])
@pytest.mark.parametrize("name", READERS)
def test_a_zip_bomb_takes_no_memory(name, kind, readers, tmp_path):
    error, read = readers[name]
    path = tmp_path / "file"
    path.write_bytes(bomb(kind))
    assert path.stat().st_size < 6e6
    began = time.perf_counter()
    tracemalloc.start()
    try:
        if name == "load_arrays" and kind.startswith("compressed"):
            assert read(path) == {}  # it names neither x nor y
        else:
            with pytest.raises(error):
                read(path)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - began < 5


def test_a_compressed_array_that_would_fill_the_memory_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(bomb("compressed"))
    with pytest.raises(ValueError, match=r"need more than 268435456 bytes, .* save them with np.savez"):
        _files_blamed(_files.load_arrays, tmp_path / "file", ["parameters"])


@pytest.mark.parametrize(
    "content",
    [
        b"a = " + b"[" * 60_000,
        b"[" + b"a." * 30_000 + b"b]",
        b"a = {b = " * 10_000,
        b"a = 1\n" * 20_000,
        b"\xff = 1",
        b"x" * (1 << 20),
        b"a = '''",
        b"\0",
    ],
)
def test_a_configuration_that_is_no_toml_is_a_valueerror(content, tmp_path):
    path = tmp_path / "fit.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not TOML"):
        _launch._read(path, 0)


def npy(shape, dtype="<f4", data=b""):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + data


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        npy((2**40,)),
        npy((2**62, 2**62)),
        npy((3,), data=bytes(11)),
        npy((3,), "|O", bytes(24)),
        b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        b"\x93NUMPY\x03\x00" + npy((1,))[8:],
    ],
)
def test_an_array_that_lies_is_a_valueerror_and_takes_no_memory(content, mapped, tmp_path):
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"x\.npy"):
            _files_blamed(_files.load_array, path, mapped)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_arrays_are_read_as_numpy_reads_them(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "x": rng.normal(size=(4, 5, 2)),
        "y": rng.normal(size=(4, 1)).astype("float32"),
        "mask": rng.random((4, 5)) > 0.5,
        "lengths": np.asfortranarray(rng.integers(0, 9, (3, 4))),
    }
    for writer in (np.savez, np.savez_compressed):
        writer(tmp_path / "all.npz", **arrays, other=np.zeros(3))
        found = _files.load_arrays(tmp_path / "all.npz", [*arrays, "static"])
        assert set(found) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
    for array in arrays.values():
        np.save(tmp_path / "a.npy", array)
        for mapped in (False, True):
            np.testing.assert_array_equal(_files.load_array(tmp_path / "a.npy", mapped), array)


# ---- what is no fault of the file


@pytest.mark.parametrize(
    ("error", "behind"),
    [
        (MemoryError, False),
        (MemoryError, True),
        (RecursionError, False),
        (RecursionError, True),
        (KeyboardInterrupt, False),
        (OSError, False),
    ],
)
@pytest.mark.parametrize("name", READERS)
def test_no_reader_blames_a_file_for_what_happens_to_the_process(
    name, error, behind, readers, tmp_path, monkeypatch
):
    """`behind`: a library has made an error of its own of it."""
    path = tmp_path / "file"
    path.write_bytes(b"\x08\x08" * 50)
    raised = OSError(5, "Input/output error") if error is OSError else error("as injected")

    def fails(*_):
        if behind:
            try:
                raise raised
            except BaseException as caught:
                raise ValueError("the library says") from caught
        raise raised

    for module in (
        "lstm_ext._files",
        "lstm_ext.io.native",
        "lstm_ext.io.torch",
        "lstm_ext.io._hdf5",
        "lstm_ext.training._checkpoint",
    ):
        monkeypatch.setattr(f"{module}.open_file", fails)
    with pytest.raises(error) as caught:
        readers[name][1](path)
    assert not isinstance(caught.value, ValueError)


def test_a_memory_error_that_the_caller_handles_is_not_the_files(tmp_path):
    (tmp_path / "file").write_bytes(b"nothing")
    try:
        raise MemoryError
    except MemoryError:
        with pytest.raises(FormatError):
            load(tmp_path / "file")


SHORT_OF_MEMORY = """
import sys
import _testcapi
import numpy as np
from lstm_ext import LSTM, Adam, Model
from lstm_ext.training import _checkpoint
from lstm_ext.io import from_torch, load
folder = {folder!r}
model = Model(LSTM(2, 3, rng=0), 1, rng=0)
before = model.parameters.copy()
rng, optimizer = np.random.default_rng(5), Adam()
readers = {{
    "new": lambda: Model.load(folder + "/new.safetensors"),
    "old": lambda: Model.load(folder + "/old.npz"),
    "lstm": lambda: load(folder + "/lstm.safetensors"),
    "torch": lambda: from_torch(folder + "/torch.safetensors"),
    "checkpoint": lambda: _checkpoint.load(
        folder + "/run.checkpoint",
        _checkpoint.TrainingState(model, {{"n": 1}}, rng, optimizer, None, None)),
}}
read = readers[sys.argv[1]]
read()
counts = {{}}
for n in range(400):
    model.parameters[:] = before
    rng.bit_generator.state = np.random.default_rng(5).bit_generator.state
    optimizer.__init__()
    found = "fine"
    _testcapi.set_nomemory(n, n + 1)
    try:
        read()
    except MemoryError:
        found = "MemoryError"
    except BaseException as error:
        found = type(error).__name__
        if found == "OSError" and error.errno == 12:
            found = "MemoryError"  # in the system's words
        told = repr(error), repr(error.__context__), repr(error.__cause__)
    finally:
        _testcapi.remove_mem_hooks()
    if found == "MemoryError" and sys.argv[1] == "checkpoint":
        assert rng.bit_generator.state == np.random.default_rng(5).bit_generator.state
        assert (model.parameters == before).all() and optimizer.state["t"] == 0
    if found not in ("fine", "MemoryError", "SystemError"):
        print(told)
    counts[found] = counts.get(found, 0) + 1
print(counts)
assert set(counts) <= {{"fine", "MemoryError", "SystemError"}}, counts
assert counts["MemoryError"] > 20, counts
"""


@pytest.mark.parametrize("name", ["new", "old", "lstm", "torch", "checkpoint"])
def test_a_lack_of_memory_is_a_memory_error_and_changes_nothing(name, tmp_path):
    pytest.importorskip("_testcapi", reason="this Python has no _testcapi to fail an allocation with")
    model().save(tmp_path / "new.safetensors")
    former(tmp_path / "old.npz")
    save(LSTM(2, 3, rng=0), tmp_path / "lstm.safetensors")
    from lstm_ext.io import to_torch

    (tmp_path / "torch.safetensors").write_bytes(pack_tensors({}, to_torch(LSTM(2, 3, rng=0))))
    checkpointed(tmp_path / "run.checkpoint")
    script = SHORT_OF_MEMORY.format(folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, name], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ---- either format, by its bytes


def test_load_and_model_load_read_either_format_under_any_name(tmp_path):
    former(tmp_path / "old.safetensors")
    model().save(tmp_path / "new")
    save(model(), tmp_path / "io")
    for read in (load, Model.load):
        for name in ("old.safetensors", "new", "io"):
            assert np.array_equal(read(tmp_path / name).parameters, model().parameters)
    assert (tmp_path / "new").read_bytes() == (tmp_path / "io").read_bytes()
    save(LSTM(2, 3), tmp_path / "lstm")
    with pytest.raises(FormatError, match=r"holds LSTM; expected a Model: lstm_ext\.io\.load reads it"):
        Model.load(tmp_path / "lstm")

    class Own(Model):
        pass

    assert type(Own.load(tmp_path / "new")) is Own


def test_files_of_others_are_named(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: the extra io")
    path = tmp_path / "file"
    checkpointed(path)
    with pytest.raises(FormatError, match=r"a checkpoint of a training: give it to Model\.fit"):
        load(path)
    with h5py.File(path, "w") as file:
        file["a"] = 1
    with pytest.raises(FormatError, match="an HDF5 file: give it to from_keras"):
        load(path)
    for name, what in (("model.weights.h5", "from_keras"), ("archive/data.pkl", "file of PyTorch")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"1")
        with pytest.raises(FormatError, match=what):
            load(path)
    path.write_bytes(b"\x80\x04\x95" + bytes(range(9)))
    with pytest.raises(FormatError, match="a pickle, which can run any code"):
        load(path)


@pytest.mark.parametrize(
    "ending",
    [
        ".pt",
        ".PT",
        ".pth",
        ".bin",
        ".ckpt",
        ".pkl",
        ".pickle",
        ".joblib",
        ".onnx",
        ".h5",
        ".keras",
        ".npy",
        ".json",
        ".c",
    ],
)
def test_names_of_other_formats_are_refused_with_advice(ending, tmp_path):
    for write in (lambda path: save(LSTM(2, 3), path), model().save):
        with pytest.raises(ValueError, match=r"expected a name that ends in \.safetensors"):
            write(tmp_path / f"model{ending}")
    assert not os.listdir(tmp_path)


def test_the_former_name_gets_a_warning_that_points_at_the_caller(tmp_path):
    own = model()
    for write in (own.save, save):
        with pytest.warns(UserWarning, match=r"expected a name that ends in \.safetensors") as caught:
            write(*(own,) * (write is save), tmp_path / "model.npz")
        assert [warning.filename for warning in caught] == [__file__]
    assert np.array_equal(load(tmp_path / "model.npz").parameters, own.parameters)


# ---- SHA-256


def small_files(folder):
    """Write an LSTM, a model with an optimiser, a checkpoint; return how each is read."""
    save(LSTM(1, 1, peepholes=True), folder / "lstm")
    optimizer, own = Adam(1e-3), Model(LSTM(1, 1), 1)
    optimizer.step(own.parameters, np.ones_like(own.parameters))
    save(own, folder / "model", optimizer=optimizer)
    own.fit(np.ones((2, 3, 1)), np.ones((2, 1)), epochs=2, checkpoint=folder / "checkpoint", rng=0)
    return {
        "lstm": load,
        "model": load,
        "checkpoint": lambda path: Model(LSTM(1, 1), 1).fit(
            np.ones((2, 3, 1)), np.ones((2, 1)), epochs=2, checkpoint=path, resume=True, rng=0
        ),
    }


@pytest.mark.parametrize("name", ["lstm", "model", "checkpoint"])
def test_every_flipped_bit_is_refused(name, tmp_path):
    read = small_files(tmp_path)[name]
    read(tmp_path / name)
    content = bytearray((tmp_path / name).read_bytes())
    bits = range(8 * len(content))
    if name == "checkpoint":  # a training for each: a part of them
        bits = np.random.default_rng(0).permutation(bits)[:1500]
    accepted = []
    for bit in bits:
        content[bit // 8] ^= 1 << bit % 8
        (tmp_path / "flipped").write_bytes(content)
        content[bit // 8] ^= 1 << bit % 8
        try:
            read(tmp_path / "flipped")
            accepted.append(bit)
        except ValueError:
            pass
    assert not accepted


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_flipped_bit_of_text_is_refused(tmp_path):
    sklearn = pytest.importorskip("lstm_ext.sklearn", reason="scikit-learn is not installed")
    classifier = sklearn.LSTMClassifier(hidden_size=1, max_iter=1, random_state=0, scale=False)
    classifier.fit(np.ones((4, 2, 1)), ["é", "ü", "é", "\u2603"])
    save(classifier, tmp_path / "a")
    content = bytearray((tmp_path / "a").read_bytes())
    begin = content.index(b"classes_")
    for bit in range(8 * begin - 1600, 8 * begin + 3200):
        content[bit // 8] ^= 1 << bit % 8
        (tmp_path / "flipped").write_bytes(content)
        content[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            load(tmp_path / "flipped")


def test_a_file_of_version_1_has_no_digest_and_is_read(tmp_path):
    library = pytest.importorskip(
        "safetensors.numpy", reason="safetensors is not installed: it writes the file"
    )
    save(model(), tmp_path / "new")
    with open(tmp_path / "new", "rb") as file:
        tensors = TensorFile(file)
        arrays = {name: tensors.read(name) for name in tensors.names}
    text = tensors.metadata["lstm_ext"].replace('"version": 2', '"version": 1')
    library.save_file(arrays, tmp_path / "old", {"lstm_ext": text})
    assert np.array_equal(load(tmp_path / "old").parameters, model().parameters)
    library.save_file(arrays, tmp_path / "old", {"lstm_ext": tensors.metadata["lstm_ext"]})
    with pytest.raises(FormatError, match="is damaged, or was changed"):
        load(tmp_path / "old")
    # The digest is of the content: another writer may order the file as it likes.
    library.save_file(arrays, tmp_path / "other", tensors.metadata)
    assert np.array_equal(load(tmp_path / "other").parameters, model().parameters)


def test_a_checkpoint_of_the_former_format_is_read(tmp_path):
    trained = model()
    configuration = {
        "format": "lstm_ext.Training 1",
        "settings": {"n": 1},
        "history": [{"epoch": 1, "loss": float("inf")}],
        "optimizer": {"t": 1},
        "rng": _checkpoint._plain(np.random.default_rng(7).bit_generator.state),
        "schedule": None,
        "early_stopping": None,
    }
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("configuration.json", json.dumps(configuration))
        for name in ("parameters", "optimizer.m", "optimizer.v"):
            buffer = io.BytesIO()
            np.save(buffer, 2 * trained.parameters)
            archive.writestr(f"{name}.npy", buffer.getvalue())
    state = state_of(model())
    assert _checkpoint.load(tmp_path / "c.npz", state) == configuration["history"]
    assert np.array_equal(state[0].parameters, 2 * trained.parameters) and state[3].state["t"] == 1


def test_a_history_of_any_length_and_kind_comes_back(tmp_path):
    long = [{"epoch": k, "loss": 1 / k, "lr": 1e-3} for k in range(1, 200_001)]
    mixed = [{"epoch": 1, "loss": 1.0, "note": "a"}, {"epoch": 2, "loss": float("nan"), "list": [1, None]}]
    huge = [{"epoch": 2**70}, {"epoch": 1, "x": True}]
    for history in (long, mixed, huge, []):
        _checkpoint.save(tmp_path / "c", state_of(model()), history)
        found = _checkpoint.load(tmp_path / "c", state_of(model()))
        assert repr(found) == repr(history)


def test_a_refused_checkpoint_changes_nothing(tmp_path):
    """The schedule is the last to refuse: generator and optimiser are as before."""
    from lstm_ext.schedules import Cosine, Plateau

    own, rng, optimizer = model(), np.random.default_rng(3), Adam()
    optimizer.step(own.parameters, np.ones_like(own.parameters))
    state = _checkpoint.TrainingState(own, {}, rng, optimizer, Cosine(3), None)
    _checkpoint.save(tmp_path / "c", state, [])
    other, fresh, schedule = Adam(), np.random.default_rng(4), Plateau()
    expected = fresh.bit_generator.state, schedule.state
    with pytest.raises(ValueError, match="does not fit this training"):
        state = _checkpoint.TrainingState(own, {}, fresh, other, schedule, None)
        _checkpoint.load(tmp_path / "c", state)
    assert (fresh.bit_generator.state, schedule.state) == expected and other.state["t"] == 0


# ---- writing


WRITERS = {
    "save": (lambda path: save(model(), path), "a.safetensors"),
    "Model.save": (lambda path: model().save(path), "a.safetensors"),
    "export_c": (lambda path: export_c(model(), path), "a.c"),
    "to_onnx": (lambda path: _to_onnx(path), "a.onnx"),
    "checkpoint": (checkpointed, "a.checkpoint"),
}


def _to_onnx(path):
    pytest.importorskip("onnx", reason="onnx is not installed: the extra onnx")
    from lstm_ext.io import to_onnx

    to_onnx(model(), path)


@needs_linux
@pytest.mark.parametrize("name", WRITERS)
def test_pipes_devices_and_folders_are_not_replaced(name, tmp_path):
    write, file = WRITERS[name]
    path = tmp_path / file
    path.mkdir()
    with pytest.raises(IsADirectoryError, match="path is a folder; expected the name of a file"):
        write(path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(FileExistsError, match="path is a named pipe, which is not replaced"):
        write(path)
    path.unlink()
    os.symlink("/dev/null", path)
    with pytest.raises(FileExistsError, match="path is a device, which is not replaced"):
        write(path)
    assert os.listdir(tmp_path) == [file] and os.path.islink(path)
    assert os.stat("/dev/null").st_mode & 0o170000 == 0o020000
    with pytest.raises(FileNotFoundError, match=r"no folder of this name; make it first: '.*there'"):
        write(tmp_path / "there" / file)
    path.unlink()
    path.write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="path is in what is no folder"):
        write(path / file)


@needs_linux
@pytest.mark.parametrize("unnamed", [True, False])
@pytest.mark.parametrize("name", WRITERS)
def test_links_are_followed_permissions_kept_and_nothing_else_left(name, unnamed, tmp_path, monkeypatch):
    write, file = WRITERS[name]
    if not unnamed:  # as on systems without unnamed files
        monkeypatch.delattr(os, "O_TMPFILE")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / file).write_bytes(b"old")
    (tmp_path / "real" / file).chmod(0o640)
    os.symlink(tmp_path / "real" / file, tmp_path / file)
    write(tmp_path / file)
    assert os.path.islink(tmp_path / file)
    assert (tmp_path / "real" / file).stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "real" / file).read_bytes() != b"old"
    os.symlink("new", tmp_path / f"dangling{file}")
    if name in ("save", "Model.save", "checkpoint"):
        write(tmp_path / f"dangling{file}")
        assert (tmp_path / "new").stat().st_size > 3
    assert not [found for found in os.listdir(tmp_path) if found.startswith(".")]
    assert [found for found in os.listdir(tmp_path / "real") if found.startswith(".")] == []


@needs_linux
@pytest.mark.parametrize("unnamed", [True, False])
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_an_oserror_and_leaves_the_former_file(name, unnamed, tmp_path, monkeypatch):
    write, file = WRITERS[name]
    if not unnamed:
        monkeypatch.delattr(os, "O_TMPFILE")
    write(tmp_path / file)
    before = {found: (tmp_path / found).read_bytes() for found in os.listdir(tmp_path)}
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    former_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write(tmp_path / file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, former_handler)
    assert {found: (tmp_path / found).read_bytes() for found in os.listdir(tmp_path)} == before


KILLED = """
import os, sys
if not {unnamed}:
    del os.O_TMPFILE
from lstm_ext import _files
with _files.replace_file(sys.argv[1]) as temporary:
    with open(temporary, "wb") as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), 9)
"""


@needs_linux
def test_a_killed_process_leaves_nothing_or_what_the_next_writer_removes(tmp_path):
    path = tmp_path / "a.safetensors"
    model().save(path)
    before = path.read_bytes()
    for unnamed in (True, False):
        script = textwrap.dedent(KILLED.format(unnamed=unnamed))
        done = subprocess.run([sys.executable, "-P", "-c", script, path], check=False)
        assert done.returncode == -9
        left = set(os.listdir(tmp_path)) - {"a.safetensors"}
        assert path.read_bytes() == before
        if unnamed and hasattr(os, "O_TMPFILE"):
            assert not left
    (name,) = left
    assert name.startswith(".a.safetensors.") and name.endswith(".unfinished")
    draft = _files._Draft(str(path), None)
    draft._remove_stale()
    assert (tmp_path / name).exists()  # it may belong to a process that is at work
    os.utime(tmp_path / name, (0, 0))
    (tmp_path / ".b.safetensors.0123456789abcdef.unfinished").write_bytes(b"")
    os.utime(tmp_path / ".b.safetensors.0123456789abcdef.unfinished", (0, 0))
    draft._remove_stale()
    assert not (tmp_path / name).exists()
    assert (tmp_path / ".b.safetensors.0123456789abcdef.unfinished").exists()  # of another file
