"""ONNX models that keep their weights in a file beside them: within it, from that folder alone."""

import os
import sys
import time
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed: the extra onnx")

import onnx

from lstm_ext import LSTM, Model
from lstm_ext.io import FormatError, from_onnx, to_onnx


def model():
    return Model(LSTM(3, 5, 2, rng=0), 2, rng=0)


def written(folder, change=None):
    """Write a model with all of its numbers in m.onnx.data; `change` gets the ModelProto before that."""
    proto = to_onnx(model())
    (folder / "m.onnx.data").unlink(missing_ok=True)
    onnx.save(
        proto, folder / "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0,
        all_tensors_to_one_file=True,
    )
    if change is not None:
        proto = onnx.load(folder / "m.onnx", load_external_data=False)
        change(proto)
        (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return folder / "m.onnx"


def entry(proto, name="R_l0"):
    """Return the words on where the data of an initializer are."""
    (tensor,) = (t for t in proto.graph.initializer if t.name == name)
    return {e.key: e for e in tensor.external_data}, tensor


def says(key, value):
    def change(proto):
        words, tensor = entry(proto)
        if key in words:
            words[key].value = value
        else:
            tensor.external_data.add(key=key, value=value)
    return change


def test_weights_beside_the_model_are_read(tmp_path, monkeypatch):
    path = written(tmp_path)
    assert (tmp_path / "m.onnx.data").stat().st_size > 1000
    again = from_onnx(path)
    assert np.array_equal(again.parameters, model().parameters)
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(from_onnx("m.onnx").parameters, model().parameters)


HOSTILE = {
    "another folder": (says("location", "../m.onnx.data"), "in the same folder"),
    "an absolute path": (says("location", "/etc/passwd"), "in the same folder"),
    "a folder of the folder": (says("location", "data/m.onnx.data"), "in the same folder"),
    "a path of Windows": (says("location", "..\\m.onnx.data"), "in the same folder"),
    "a drive": (says("location", "c:data"), "in the same folder"),
    "the folder": (says("location", "."), "in the same folder"),
    "the folder above": (says("location", ".."), "in the same folder"),
    "no name": (says("location", ""), "in the same folder"),
    "a name with a zero": (says("location", "m\0"), "in the same folder"),
    "a name of 300 letters": (says("location", "m" * 300), "in the same folder"),
    "no file": (says("location", "nothing"), "which is not there"),
    "the model itself": (says("location", "m.onnx"), None),
    "offset beyond the file": (says("offset", "100000"), "expected 100"),
    "offset 2**63": (says("offset", str(2**63)), "expected"),
    "offset negative": (says("offset", "-8"), "expected a number"),
    "offset text": (says("offset", "a"), "expected a number"),
    "offset of 10,000 digits": (says("offset", "1" * 10_000), "expected a number"),
    "offset in other digits": (says("offset", "\u0661"), "expected a number"),
    "length too short": (says("length", "8"), "has 8 bytes"),
    "length too long": (says("length", str(2**40)), "bytes in"),
    "length empty": (says("length", ""), "expected a number"),
    "a word that is not known": (says("execute", "rm"), "unknown"),
    "a word twice": (lambda p: entry(p)[1].external_data.add(key="location", value="m.onnx.data"), "twice"),
    "data inside too": (lambda p: setattr(entry(p)[1], "raw_data", b"1234"), "in two places"),
    "not said to be outside": (lambda p: setattr(entry(p)[1], "data_location", 0), "in two places"),
    "other dims": (lambda p: entry(p)[1].dims.__setitem__(0, 2), "expected"),
    "huge dims": (lambda p: entry(p)[1].dims.__setitem__(0, 2**30), "expected"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_model_that_lies_about_its_data_is_refused(name, tmp_path):
    change, message = HOSTILE[name]
    path = written(tmp_path, change)
    from_onnx(to_onnx(model()))  # what is imported once is not counted
    tracemalloc.start()
    try:
        if message is None:  # other numbers, which are numbers
            try:
                from_onnx(path)
            except FormatError:
                pass
        else:
            with pytest.raises(FormatError, match=message) as caught:
                from_onnx(path)
            assert len(str(caught.value)) < 1000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="links, pipes and devices as Linux has them")
@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "device", "cut off", "empty"])
def test_data_that_are_no_file_of_the_folder_are_refused(kind, tmp_path):
    path, data = written(tmp_path), tmp_path / "m.onnx.data"
    content = data.read_bytes()
    data.unlink()
    if kind == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        data.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(data)
    elif kind == "folder":
        data.mkdir()
    elif kind == "device":
        data.symlink_to("/dev/zero")
    else:
        data.write_bytes(content[: 0 if kind == "empty" else -4])
    with pytest.raises(FormatError):
        from_onnx(path)


def test_many_tensors_of_the_same_bytes_take_no_memory(tmp_path):
    """A file of 8 GB that is mostly holes, and a model whose initializers name the same gigabyte of it."""

    def change(proto):
        for tensor in proto.graph.initializer:
            if tensor.name.startswith(("W_", "R_", "B_")):
                tensor.dims[:] = [1, 2**14, 2**14]
                words = {e.key: e for e in tensor.external_data}
                words["length"].value, words["offset"].value = str(2**30), "0"

    path = written(tmp_path, change)
    os.truncate(tmp_path / "m.onnx.data", 2**20)
    began = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            from_onnx(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - began < 5


def test_bytes_and_protos_have_no_folder(tmp_path):
    path = written(tmp_path)
    with pytest.raises(FormatError, match="give the path of the model"):
        from_onnx(path.read_bytes())
    with pytest.raises(FormatError, match="give the path of the model"):
        from_onnx(onnx.load(path, load_external_data=False))
    assert np.array_equal(from_onnx(onnx.load(path)).parameters, model().parameters)


def graph_of(nodes, initializers, inputs, outputs):
    """Make a model of nodes, numbers by name, and shapes by name."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(a, n) for n, a in initializers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def weights():
    rng = np.random.default_rng(0)
    return {"W": rng.normal(size=(1, 20, 3)).astype("f4"), "R": rng.normal(size=(1, 20, 5)).astype("f4"),
            "B": rng.normal(size=(1, 40)).astype("f4"), "V": rng.normal(size=(5, 2)).astype("f4")}


def test_a_time_major_graph_is_not_reread_as_a_batch_major_model():
    """N = T would give other numbers in silence."""
    from onnx import helper

    nodes = [helper.make_node("LSTM", ["x", "W", "R", "B"], ["y", "h", "c"], hidden_size=5)]
    squeeze = helper.make_node("Squeeze", ["h", "zero"], ["hs"])
    head = helper.make_node("MatMul", ["hs", "V"], ["out"])
    proto = graph_of([*nodes, squeeze, head], {**weights(), "zero": np.array([0])}, {"x": ["T", "N", 3]},
                     {"out": ["N", 2]})
    with pytest.raises(FormatError, match=r"takes \(time, batch, features\).*batch first"):
        from_onnx(proto)
    alone = graph_of(nodes, weights(), {"x": ["T", "N", 3]}, {"h": [1, "N", 5]})
    assert from_onnx(alone).batch_first is False


def test_a_readout_of_all_steps_beyond_their_lengths_is_refused():
    """The graph gives the readout's bias there, and a Model 0."""
    proto = to_onnx(Model(LSTM(3, 5, rng=0), 2, every_step=True, rng=0), lengths=True)
    from_onnx(proto)
    (where,) = (node for node in proto.graph.node if node.op_type == "Where")
    for node in proto.graph.node:
        for k, name in enumerate(node.input):
            if name == where.output[0]:
                node.input[k] = where.input[1]
    with pytest.raises(FormatError, match="beyond a sequence's length"):
        from_onnx(proto)
