"""Fuzz the readers of lstm_ext.io with atheris: whatever a file holds, the one error is FormatError.

    python tests/support/fuzz_loaders.py safetensors --seconds 600     # or torch, hdf5, keras, onnx, tflite

Half of the inputs are the bytes of a file. The others are lists of edits to what a valid file says (its
header, its configuration), written with the right lengths and checksums, so that they come further.
An input that ends otherwise is left as crash-* in the current directory; give it after the name to
repeat it.
"""

import argparse
import copy
import io
import json
import os
import sys
import tempfile
import zipfile

import atheris

with atheris.instrument_imports(include=["lstm_ext.io"]):
    from lstm_ext.io import (
        FormatError,
        from_keras,
        from_neuralhydrology,
        from_onnx,
        from_tflite,
        from_torch,
        load,
        save,
    )
    from lstm_ext.io import hydrology as _hydrology  # noqa: F401
    from lstm_ext.io import keras as _keras  # noqa: F401
    from lstm_ext.io import onnx as _onnx  # noqa: F401
    from lstm_ext.io import tflite as _tflite  # noqa: F401
    from lstm_ext.io import torch as _torch  # noqa: F401

import h5py
import hostile_files
import numpy as np
import onnx
import tflite_files
from safetensors.numpy import save_file

from lstm_ext import LSTM, Adam, Model
from lstm_ext.io import to_onnx, to_torch

FOLDER = tempfile.mkdtemp(prefix="fuzz", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
PATH = os.path.join(FOLDER, "file.safetensors")
VALUES = [
    None, True, False, 0, 1, 2, 3, -1, 2**31, 2**63, 10**30, 0.5, 1e308, -0.0, "", "LSTM", "Model", "F32",
    "F64", "I64", "BF16", "float32", "float64", "tanh", "hard_sigmoid", "sigmoid", [], {}, [0], [0, 8],
    [2**62, 4], ["leaky_relu", 1e400], {"array": "lstm.loss.x"}, {"is": "LSTM"}, [[[[]]]], "\x00", "é" * 40,
]


def model_of_two_layers():
    model = Model(LSTM(2, 3, 2, bidirectional=True, activations=("sigmoid", ("elu", 1.0), "relu"), rng=0), 2)
    optimizer = Adam()
    optimizer.step(model.parameters, np.ones_like(model.parameters))
    return model, optimizer


# ---- valid files


def safetensors_seed():
    model, optimizer = model_of_two_layers()
    save(model, PATH, optimizer=optimizer)
    return read()


def torch_seed():
    state = to_torch(Model(LSTM(2, 3, 2, bidirectional=True, proj_size=2, rng=0), 2))
    save_file(state, PATH)
    return read()


def hdf5_bytes(libver):
    file = io.BytesIO()
    with h5py.File(file, "w", libver=libver) as h5:
        h5.create_group("vars")
        for name, width in (("bidirectional", 2), ("bidirectional_1", 6)):
            for direction in ("forward_layer", "backward_layer"):
                group = h5.create_group(f"layers/{name}/{direction}/cell/vars")
                for k, shape in enumerate(((width, 12), (3, 12), (12,))):
                    group[str(k)] = np.ones(shape, "float32")
        h5["layers/dense/vars/0"] = np.ones((6, 2), "float32")
        h5["layers/dense/vars/1"] = np.ones(2, "float32")
    return file.getvalue()


def keras_configuration():
    def lstm(backwards, last):
        return {"class_name": "LSTM", "config": {
            "name": "lstm", "dtype": {"class_name": "DTypePolicy", "config": {"name": "float32"}}, "units": 3,
            "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True, "stateful": False,
            "return_sequences": not last, "go_backwards": backwards, "dropout": 0.0, "recurrent_dropout": 0.0,
            "kernel_regularizer": None,
        }}

    layers = [{"class_name": "InputLayer", "config": {}}]
    for last in (False, True):
        layers.append({"class_name": "Bidirectional", "config": {
            "merge_mode": "concat", "layer": lstm(False, last), "backward_layer": lstm(True, last),
        }})
    layers.append({"class_name": "Dense", "config": {"units": 2, "activation": "linear", "use_bias": True}})
    return {"class_name": "Sequential", "config": {"layers": layers}}


def keras_bytes(configuration, metadata, h5):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", json.dumps(metadata))
        archive.writestr("config.json", json.dumps(configuration))
        archive.writestr("model.weights.h5", h5)
    return file.getvalue()


def read():
    with open(PATH, "rb") as file:
        return file.read()


# ---- edits


def places(value, path=()):
    """Paths of all values within JSON."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for key in range(len(value)):
            yield from places(value[key], (*path, key))


def edited(value, data):
    """Replace, remove or add some values, as `data` says."""
    value = copy.deepcopy(value)
    for _ in range(data.ConsumeIntInRange(0, 4)):
        paths = list(places(value))
        path = paths[data.ConsumeIntInRange(0, len(paths) - 1)]
        if not path:
            continue
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        what = data.ConsumeIntInRange(0, 5)
        if what == 0:
            del parent[path[-1]]
        elif what == 1 and isinstance(parent, dict):
            parent[data.ConsumeUnicodeNoSurrogates(8)] = parent[path[-1]]
        elif what == 2:
            parent[path[-1]] = data.ConsumeInt(8)
        elif what == 3:
            parent[path[-1]] = data.ConsumeUnicodeNoSurrogates(12)
        else:
            parent[path[-1]] = copy.deepcopy(VALUES[data.ConsumeIntInRange(0, len(VALUES) - 1)])
    return value


def edited_tensors(seed):
    """Return a function of fuzzed data that makes a file of safetensors, its configuration edited."""
    length = int.from_bytes(seed[:8], "little")
    header, body = json.loads(seed[8 : 8 + length]), seed[8 + length :]
    key = "lstm_ext"

    def make(data):
        new = header
        if key in header.get("__metadata__", {}) and data.ConsumeBool():
            configuration = edited(json.loads(header["__metadata__"][key]), data)
            new = {**header, "__metadata__": {key: json.dumps(configuration)}}
        else:
            new = edited(header, data)
        text = json.dumps(new).encode()
        return len(text).to_bytes(8, "little") + text + body

    return make


def edited_keras(seed):
    """Return a function that makes a .keras file, what its JSON says edited."""
    h5 = hdf5_bytes("latest")

    def make(data):
        metadata = {"keras_version": "3.15.1"}
        metadata = edited(metadata, data) if data.ConsumeBool() else metadata
        return keras_bytes(edited(keras_configuration(), data), metadata, h5)

    return make


def edited_hdf5(seed):
    """Files that h5py writes, with other shapes, dtypes, layouts, links."""

    def make(data):
        file = io.BytesIO()
        with h5py.File(file, "w") as h5:
            for name in ("lstm", "lstm_1")[: data.ConsumeIntInRange(1, 2)]:
                group = h5.create_group(f"layers/{name}/cell/vars")
                for k in range(data.ConsumeIntInRange(1, 4)):
                    shape = tuple(data.ConsumeIntInRange(0, 13) for _ in range(data.ConsumeIntInRange(0, 3)))
                    dtype = ("f4", "f8", ">f4", "f2", "i4", "u1")[data.ConsumeIntInRange(0, 5)]
                    how = data.ConsumeIntInRange(0, 6)
                    if how == 0:
                        group[str(k)] = h5py.ExternalLink("/etc/passwd", "/0")
                    elif how == 1:
                        group[str(k)] = h5py.SoftLink("/layers")
                    elif how == 2 and len(shape) and 0 not in shape:
                        group.create_dataset(str(k), shape, dtype, chunks=True, compression="gzip")
                    elif how == 3:
                        group.create_dataset(str(k), tuple(2**9 * s for s in shape), dtype)
                    else:
                        group[str(k)] = np.ones(((3, 12), (3, 12), (12,))[k % 3], dtype)
        return file.getvalue()

    return make


def edited_onnx(seed):
    """Graphs whose tensors have other shapes, dtypes and contents, whose nodes have other words."""

    def make(data):
        model = onnx.ModelProto.FromString(seed)
        graph = model.graph
        names = [name for node in graph.node for name in (*node.input, *node.output)]
        for _ in range(data.ConsumeIntInRange(1, 4)):
            node = graph.node[data.ConsumeIntInRange(0, len(graph.node) - 1)]
            tensor = graph.initializer[data.ConsumeIntInRange(0, len(graph.initializer) - 1)]
            how = data.ConsumeIntInRange(0, 7)
            if how == 0:
                del tensor.dims[:]
                tensor.dims.extend(data.ConsumeIntListInRange(data.ConsumeIntInRange(0, 4), -1, 40))
            elif how == 1:
                tensor.data_type = data.ConsumeIntInRange(0, 20)
            elif how == 2:
                tensor.raw_data = data.ConsumeBytes(64)
            elif how == 3 and node.input:
                node.input[data.ConsumeIntInRange(0, len(node.input) - 1)] = (
                    names[data.ConsumeIntInRange(0, len(names) - 1)])
            elif how == 4:
                node.op_type = ("LSTM", "Gemm", "MatMul", "Squeeze", "Transpose", "Add", "")[
                    data.ConsumeIntInRange(0, 6)]
            elif how == 5 and node.attribute:
                attribute = node.attribute[data.ConsumeIntInRange(0, len(node.attribute) - 1)]
                attribute.i = data.ConsumeInt(8)
                attribute.type = data.ConsumeIntInRange(0, 8)
            elif how == 6:
                words = ("clip", "layout", "input_forget", "hidden_size", "direction")
                value = data.ConsumeIntInRange(-2, 9) if data.ConsumeBool() else data.ConsumeFloat()
                node.attribute.append(onnx.helper.make_attribute(words[data.ConsumeIntInRange(0, 4)], value))
            else:
                model.opset_import[0].version = data.ConsumeIntInRange(-1, 40)
        return model.SerializeToString()

    return make


def edited_archive(seed):
    """Archives of PyTorch, some bytes or instructions of whose pickle are others."""
    good = hostile_files.pickled(hostile_files.weights())
    pieces = [
        b"(", b")", b"R", b"t", b"\x85", b"\x86", b"Q", b"}", b"]", b"a", b"e", b"u", b"s", b"b", b"\x81",
        b"N", b"0", b"q\0", b"h\0", b"K\x01", b"J\xff\xff\xff\x7f", b"ctorch\nHalfStorage\n",
        b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"X\x07\0\0\0storage",
        b"\x88", b"\x93", b"\x94",
    ]

    def make(data):
        content = bytearray(good)
        for _ in range(data.ConsumeIntInRange(0, 6)):
            position = data.ConsumeIntInRange(2, len(content) - 1)
            if data.ConsumeBool():
                content[position] = data.ConsumeIntInRange(0, 255)
            else:
                piece = pieces[data.ConsumeIntInRange(0, len(pieces) - 1)]
                content[position : position + data.ConsumeIntInRange(0, 12)] = piece
        return hostile_files.torch_archive(edit=lambda own: own.update({"a/data.pkl": bytes(content)}))

    return make


def edited_former_hdf5(seed):
    """Files of Keras 2, what their JSON says edited."""
    layers = [
        {"class_name": "InputLayer", "name": "x", "config": {"name": "x"}, "inbound_nodes": []},
        {"class_name": "LSTM", "name": "lstm", "config": hostile_files.lstm_configuration(),
         "inbound_nodes": [[["x", 0, 0, {}]]]},
    ]
    model = {"class_name": "Functional", "config": {"layers": layers, "output_layers": [["lstm", 0, 0]]}}

    def make(data):
        return hostile_files.former_hdf5(json.dumps(edited(model, data)))

    return make


RUN = {
    "config.yml": b"model: cudalstm\nhead: regression\ndynamic_inputs:\n- a\n- b\nstatic_attributes: []\n"
                  b"target_variables:\n- c\n",
    "train_data/train_data_scaler.yml": b"xarray_feature_center:\n  data_vars:\n    a:\n      data: 1.5\n"
                                        b"    b:\n      data: 1\n    c: 2\n"
                                        b"xarray_feature_scale:\n  a: 1\n  b: 2\n  c: 0.5\n",
}


def run_of(content):
    """Write a folder of NeuralHydrology: `content` is its two texts, with a zero between them."""
    configuration, _, scaler = content.partition(b"\0")
    os.makedirs(os.path.join(FOLDER, "train_data"), exist_ok=True)
    arrays = hostile_files.weights()
    arrays = {f"lstm.{name}": own for name, own in arrays.items()} | {
        "head.net.0.weight": np.ones((1, 3), "f4"), "head.net.0.bias": np.ones(1, "f4"),
    }
    for name, own in (
        ("config.yml", configuration), ("train_data/train_data_scaler.yml", scaler),
        ("model_epoch001.pt", hostile_files.torch_archive(arrays)),
    ):
        with open(os.path.join(FOLDER, name), "wb") as file:
            file.write(own)
    return from_neuralhydrology(FOLDER)


def edited_run(seed):
    """Folders of NeuralHydrology, with other words in their texts."""
    words = [
        b"- ", b": ", b"\n", b"  ", b"[]", b"{}", b"'", b'"', b"#", b"~", b"&a", b"*a", b"ealstm", b"mtslstm",
        b"1D", b"use_frequencies:\n- 1D\n- 1h\n", b"seq_length:\n  1D: 3\n  1h: 24\n", b".nan", b"-", b"\t",
        b"null",
    ]

    def make(data):
        content = bytearray(b"\0".join(RUN.values()))
        for _ in range(data.ConsumeIntInRange(0, 6)):
            position = data.ConsumeIntInRange(0, len(content) - 1)
            word = words[data.ConsumeIntInRange(0, len(words) - 1)]
            content[position : position + data.ConsumeIntInRange(0, 8)] = word
        return bytes(content)

    return make


def edited_tflite(seed):
    """Files of TFLite, some numbers, texts, lists and tables of which are others."""
    numbers = [0, 1, 2, 3, 4, 9, 44, 127, -1, -128, 255, 2**31 - 1, 2**15]

    def changed(value, data):
        how = data.ConsumeIntInRange(0, 7)
        if isinstance(value, tuple):
            number = numbers[data.ConsumeIntInRange(0, len(numbers) - 1)] if how else data.ConsumeFloat()
            sizes = {"b": (-128, 127), "B": (0, 255), "I": (0, 2**32 - 1), "i": (-(2**31), 2**31 - 1)}
            kind = value[0]
            if kind in sizes:
                low, high = sizes[kind]
                return kind, int(min(max(number if number == number else 0, low), high))
            return (kind, number) if kind == "f" and abs(number) < 3e38 else (kind, bool(number))
        if isinstance(value, bytes):
            return value[: data.ConsumeIntInRange(0, len(value))] if how else data.ConsumeBytes(40)
        if isinstance(value, dict) and value:
            slot = list(value)[data.ConsumeIntInRange(0, len(value) - 1)]
            if how == 0:
                value.pop(slot)
            elif how == 1:
                value[data.ConsumeIntInRange(0, 10)] = value[slot]
            else:
                value[slot] = changed(value[slot], data)
        elif isinstance(value, list) and value:
            k = data.ConsumeIntInRange(0, len(value) - 1)
            if how == 0:
                value.pop(k)
            elif how == 1:
                value.append(copy.deepcopy(value[data.ConsumeIntInRange(0, len(value) - 1)]))
            elif isinstance(value[k], int):
                value[k] = numbers[data.ConsumeIntInRange(0, len(numbers) - 1)] if how == 2 else (
                    data.ConsumeIntInRange(-1, 40))
            else:
                value[k] = changed(value[k], data)
        return value

    def make(data):
        both = data.ConsumeBool()
        table = hostile_files.tflite_file(bidirectional=both, num_layers=1 + both).table()
        for _ in range(data.ConsumeIntInRange(1, 5)):
            table = changed(table, data)
        return tflite_files.flat(table)

    return make


TARGETS = {
    "tflite": (
        lambda: [hostile_files.tflite_file(bidirectional=both).content() for both in (False, True)],
        edited_tflite, lambda: from_tflite(read()),
    ),
    "archive": (lambda: [hostile_files.torch_archive()], edited_archive, lambda: from_torch(PATH)),
    "former_hdf5": (lambda: [hostile_files.former_hdf5()], edited_former_hdf5, lambda: from_keras(PATH)),
    "hydrology": (lambda: [b"\0".join(RUN.values())], edited_run, lambda: run_of(read())),
    "safetensors": (lambda: [safetensors_seed()], edited_tensors, lambda: load(PATH, return_optimizer=True)),
    "torch": (lambda: [torch_seed()], edited_tensors, lambda: from_torch(PATH, prefix="lstm", head="head")),
    "hdf5": (lambda: [hdf5_bytes("earliest"), hdf5_bytes("latest")], edited_hdf5, lambda: from_keras(PATH)),
    "keras": (
        lambda: [keras_bytes(keras_configuration(), {"keras_version": "3.1"}, hdf5_bytes("latest"))],
        edited_keras, lambda: from_keras(PATH),
    ),
    "onnx": (
        lambda: [
            to_onnx(model_of_two_layers()[0]).SerializeToString(),
            to_onnx(LSTM(2, 3, peepholes=True, rng=0), lengths=True).SerializeToString(),
        ],
        edited_onnx, lambda: from_onnx(read()),
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("input", nargs="?", help="one input to repeat")
    parser.add_argument("--seconds", type=int, default=600)
    arguments = parser.parse_args()
    seeds, editor, run = TARGETS[arguments.target]
    seeds = seeds()
    make = editor(seeds[0])
    corpus = os.path.join(FOLDER, "corpus")
    os.mkdir(corpus)
    for k, seed in enumerate(seeds):
        with open(PATH, "wb") as file:
            file.write(seed)
        run()  # a valid file is read
        with open(os.path.join(corpus, str(k)), "wb") as file:
            file.write(b"\x00" + seed)
        with open(os.path.join(corpus, f"edits{k}"), "wb") as file:
            file.write(b"\x01" + bytes(range(64)))

    def one_input(data):
        if data[:1] and data[0] % 2:
            content = make(atheris.FuzzedDataProvider(data[1:]))
        else:
            content = data[1:]
        with open(PATH, "wb") as file:
            file.write(content)
        try:
            run()
        except FormatError as error:
            # The readers turn every error into this one: of ours are these no reading of a bad file.
            if isinstance(error.__cause__, AssertionError | NameError | SystemError):
                raise error.__cause__ from None

    words = [sys.argv[0], "-rss_limit_mb=1500", "-max_len=65536", "-timeout=20", "-print_final_stats=1"]
    if arguments.input:
        words.append(arguments.input)
    else:
        words += [f"-max_total_time={arguments.seconds}", corpus]
    atheris.Setup(words, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
