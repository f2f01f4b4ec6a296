"""Files that no reader may fall for: a table of (reader, content), by name.

A content is bytes, or a function of the path that writes the file. Every one must end in FormatError.
"""

import io
import json
import struct
import zipfile

import numpy as np
import tflite_files

METADATA = "lstm_ext"


def read(reader, path):
    """Give a file to the reader of this name."""
    from lstm_ext import io as lstm_io

    if reader == "torch":
        return lstm_io.from_torch(path)
    readers = {"load": lstm_io.load, "keras": lstm_io.from_keras, "tflite": lstm_io.from_tflite}
    return readers[reader](path)


# ---- safetensors


def tensors(arrays):
    """Return (header, body) of a file with these arrays."""
    words = {"float32": "F32", "float64": "F64", "float16": "F16", "int32": "I32", "int64": "I64"}
    header, body = {}, b""
    for name, array in arrays.items():
        data = array.tobytes()
        header[name] = {"dtype": words[array.dtype.name], "shape": list(array.shape),
                        "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    return header, body


def file_of(header, body):
    """Put a header, JSON or text, and a body together."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def weights(shape_of_ih=(12, 2), layers=1, dtype="float32"):
    """PyTorch's names, H = 3."""
    rng = np.random.default_rng(0)
    arrays = {}
    for k in range(layers):
        arrays |= {
            f"weight_ih_l{k}": rng.normal(size=shape_of_ih if k == 0 else (12, 3)).astype(dtype),
            f"weight_hh_l{k}": rng.normal(size=(12, 3)).astype(dtype),
            f"bias_ih_l{k}": rng.normal(size=12).astype(dtype),
            f"bias_hh_l{k}": rng.normal(size=12).astype(dtype),
        }
    return arrays


def broken_safetensors(arrays, metadata):
    """Files whose format is wrong, whatever they are files of: `arrays` and `metadata` make a good one."""
    header, body = tensors(arrays)
    first, second = list(arrays)[:2]
    size = len(body)

    def changed(name=first, **fields):
        return file_of({**metadata, **header, name: {**header[name], **fields}}, body)

    text = json.dumps({**metadata, **header})
    good = file_of({**metadata, **header}, body)
    begin, end = header[first]["data_offsets"]
    count = end - begin

    def poisoned(word):
        array = arrays[first].copy()
        array.flat[1] = word
        return with_arrays({**arrays, first: array})

    moved = {n: {**f, "data_offsets": [v + 4 for v in f["data_offsets"]]} for n, f in header.items()}

    def with_arrays(new):
        header, body = tensors(new)
        return file_of({**metadata, **header}, body)

    def header_of_100_mb(path):
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", 100_000_000) + text.encode())
            file.truncate(8 + 100_000_000 + size)

    def sparse_of_4_gb(path):
        with open(path, "wb") as file:
            file.write(good)
            file.truncate(4 << 30)

    return {
        "empty": b"",
        "seven bytes": good[:7],
        "length alone": good[:8],
        "header cut off": good[:40],
        "body cut off": good[:-1],
        "a byte too many": good + b"\0",
        "4 GB too many": sparse_of_4_gb,
        "header of 2**63 bytes": struct.pack("<Q", 2**63) + good[8:],
        "header of 2**64 - 1 bytes": struct.pack("<Q", 2**64 - 1) + good[8:],
        "header of 100 MB": header_of_100_mb,
        "header one byte short": struct.pack("<Q", len(text) - 1) + good[8:],
        "header not UTF-8": file_of(b"\xff" + text.encode()[1:], body),
        "header not JSON": file_of(b"{'a': 1}", b""),
        "header a list": file_of(b"[]", b""),
        "header a number": file_of(b"7", b""),
        "header empty": file_of({}, b""),
        "header 200,000 deep": file_of(b"[" * 200_000, b""),
        "header 200,000 deep in a tensor": file_of(b'{"a":' * 200_000 + b"1" + b"}" * 200_000, b""),
        "name twice": file_of(f'{text[:-1]}, "{first}": {json.dumps(header[first])}}}'.encode(), body),
        "field twice": file_of(text.replace('"shape"', '"shape": [1], "shape"', 1).encode(), body),
        "NaN in the header": file_of(text.replace('"shape": [', '"shape": [NaN, ', 1).encode(), body),
        "metadata not text": file_of({**header, "__metadata__": {METADATA: 1}}, body),
        "metadata a list": file_of({**header, "__metadata__": []}, body),
        "tensor a list": file_of({**metadata, **header, first: []}, body),
        "field missing": file_of({**metadata, **header, first: {"dtype": "F32"}}, body),
        "overlap": changed(second, data_offsets=[begin, begin + arrays[second].nbytes]),
        "gap": file_of({**metadata, **moved}, b"\0\0\0\0" + body),
        "beyond the file": changed(data_offsets=[begin + size, end + size]),
        "end before beginning": changed(data_offsets=[end, begin]),
        "offset negative": changed(data_offsets=[-count, 0]),
        "offset 2**63": changed(data_offsets=[2**63, 2**63 + count]),
        "offset a fraction": changed(data_offsets=[0.5, count]),
        "three offsets": changed(data_offsets=[begin, begin, end]),
        "shape too large": changed(shape=[10**6, 10**6]),
        "shape beyond 2**64": changed(shape=[2**62, 2**62]),
        "shape 2**64": changed(shape=[2**64]),
        "shape negative": changed(shape=[-1, count]),
        "shape of 10,000 axes": changed(shape=[1] * 10_000 + header[first]["shape"]),
        "shape flat": changed(shape=[count // arrays[first].itemsize]),
        "shape turned round": changed(shape=header[first]["shape"][::-1]),
        "shape with zero": changed(shape=[0, 7], data_offsets=[begin, begin]),
        "shape text": changed(shape="12"),
        "dtype unknown": changed(dtype="F33"),
        "dtype int32": changed(dtype="I32"),
        "dtype bfloat16": changed(dtype="BF16", shape=[2 * arrays[first].size]),
        "dtype float16": changed(dtype="F16", shape=[2 * arrays[first].size]),
        "dtype complex": changed(dtype="C64"),
        "dtype four bits": changed(dtype="F4"),
        "NaN": poisoned(np.nan), "inf": poisoned(np.inf), "-inf": poisoned(-np.inf),
        "float64 among float32": with_arrays({**arrays, first: arrays[first].astype("float64")}),
        "tensor missing": with_arrays({n: a for n, a in arrays.items() if n != second}),
        "tensor too many": with_arrays({**arrays, "x": np.zeros(3, "float32")}),
        "tensor ../../etc/passwd": with_arrays({**arrays, "../../etc/passwd": arrays[first]}),
        "tensor without a name": with_arrays({**arrays, "": arrays[first]}),
        "zip": zipped({"archive/data.pkl": b"cos\nsystem\n(S'true'\ntR."}),
        "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    }


def our_file():
    """Return (configuration, arrays) of a model with an optimiser, as `save` writes them."""
    from lstm_ext import LSTM, Adam, Model
    from lstm_ext.io._packing import Packer

    model, optimizer = Model(LSTM(2, 3, rng=0), 1, rng=0), Adam()
    optimizer.step(model.parameters, np.ones_like(model.parameters))
    packer = Packer()
    configuration = {"version": 1, "object": packer.pack(model, "")}
    configuration["optimizer"] = packer.pack(optimizer, "optimizer")
    return configuration, packer.arrays


def wrong_configurations():
    """Files of ours whose format is right and whose configuration lies."""
    configuration, arrays = our_file()
    header, body = tensors(arrays)

    def text(words):
        return file_of({**header, "__metadata__": {METADATA: words}}, body)

    def changed(*path, value=None, remove=False):
        new = json.loads(json.dumps(configuration))
        inner = new
        for key in path[:-1]:
            inner = inner[key]
        if remove:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value
        return text(json.dumps(new))

    lstm = ("object", "lstm")
    plain = json.dumps(configuration)
    vector = np.zeros(3, "float32")
    short = tensors({**arrays, "optimizer.m": vector, "optimizer.v": vector})
    cases = {
        "no configuration": file_of({**header, "__metadata__": {}}, body),
        "configuration not JSON": text("{"),
        "configuration a list": text("[]"),
        "configuration 200,000 deep": text("[" * 200_000),
        "configuration 900 deep": text('{"version": 1, "object": ' + '{"is": "dict", "items": {"a":' * 900
                                       + "1" + "}}" * 900 + "}"),
        "configuration of a megabyte": text('"' + "x" * 2**20 + '"'),
        "configuration with a key twice": text(plain[:-1] + ', "version": 1}'),
        "configuration with NaN": text(plain.replace('"lr": 0.001', '"lr": NaN')),
        "configuration with 5,000 digits": text(plain.replace('"version": 1', '"version": ' + "1" * 5000)),
        "version 2": changed("version", value=2),
        "version text": changed("version", value="1"),
        "version true": changed("version", value=True),
        "version missing": changed("version", remove=True),
        "object missing": changed("object", remove=True),
        "object null": changed("object", value=None),
        "a key too many": changed("payload", value=1),
        "optimizer null": changed("optimizer", value=None),
        "optimizer of SGD": changed("optimizer", "is", value="SGD"),
        "optimizer of no class": changed("optimizer", "is", value="_Optimizer"),
        "optimizer without steps": changed("optimizer", "t", remove=True),
        "optimizer before its first step": changed("optimizer", "t", value=0),
        "optimizer after -1 steps": changed("optimizer", "t", value=-1),
        "optimizer after 1.5 steps": changed("optimizer", "t", value=1.5),
        "optimizer after true steps": changed("optimizer", "t", value=True),
        "optimizer of lr -1": changed("optimizer", "lr", value=-1),
        "optimizer of lr text": changed("optimizer", "lr", value="1"),
        "optimizer of lr an array": changed("optimizer", "lr", value={"is": "array"}),
        "optimizer of other vectors": file_of({**short[0], "__metadata__": {METADATA: plain}}, short[1]),
        "every_step 1": changed("object", "every_step", value=1),
        "loss of no name": changed("object", "loss", "is", value="Loss"),
        "loss builtins.eval": changed("object", "loss", value={"is": "builtins.eval", "source": "1"}),
        "loss with an argument": changed("object", "loss", "reduction", value="sum"),
        "loss text": changed("object", "loss", value="mse"),
        "lstm a model": changed(*lstm, "is", value="Model"),
        "lstm an optimizer": changed(*lstm, "is", value="Adam"),
        "lstm itself": changed(*lstm, value={"is": "LSTM"}),
    }
    for kind in ("os.system", "Tape", "Stream", "__class__", "eval", "array", "dict", "Generator", "Reading",
                 "", None, 7, ["LSTM"], {"LSTM": 1}):
        cases[f"object of kind {kind!r}"] = changed("object", "is", value=kind)
    for size in (0, -1, 2, 1.0, True, None, "1", 10**9, 10**18, 10**30, [1]):
        cases[f"output_size {size!r}"] = changed("object", "output_size", value=size)
        if size not in (2, 1.0, True):
            cases[f"hidden_size {size!r}"] = changed(*lstm, "hidden_size", value=size)
            cases[f"num_layers {size!r}"] = changed(*lstm, "num_layers", value=size)
    for size in (0, -1, 3, 2.0, None, "2", 10**9, 10**18, 10**30):
        cases[f"input_size {size!r}"] = changed(*lstm, "input_size", value=size)
    for word, values in {
        "dtype": ("float64", "float16", "object", None, 4, ["float32"]),
        "bidirectional": (True, 1, None, "yes"),
        "peepholes": (True,), "layer_norm": (True,), "learn_state": (True,), "bias": (False,),
        "proj_size": (2, 10**18, -1, "a"), "static_size": (1, 10**18, -1, 0.5),
        "nan": ("fill", 1, []), "nan_mask": (True,), "entity_aware": (True,),
        "activations": (
            None, "tanh", [], ["sigmoid", "tanh"], ["sigmoid", "tanh", "os.system"],
            [["elu", "x"], "tanh", "tanh"], [["elu", 1, 2], "tanh", "tanh"],
            [[[[]]], "tanh", "tanh"], [{}, "tanh", "tanh"], {"a": 1},
        ),
        "cell_clip": (-1, 0, "a", [1], 10**400), "gate_clip": (0, True, {}),
        "dropout": (0.5, 1, -1, "a", None), "zoneout": (None, [0.1], [0.1, 2], [0.1, [0.1]], 0.1),
        "checkpoint": (0, -1, 1.5, "a", 10**30),
    }.items():
        for value in values:
            if (word, value) != ("gate_clip", True):
                cases[f"{word} {str(value)[:40]!r}"] = changed(*lstm, word, value=value)
    for word in ("hidden_size", "dtype", "activations", "checkpoint"):
        cases[f"{word} missing"] = changed(*lstm, word, remove=True)
    cases["a keyword of no LSTM"] = changed(*lstm, "rng", value=0)
    return cases


def wrong_weights():
    """Files of safetensors that hold no LSTM of PyTorch's."""
    good = weights()

    def arrays(**changes):
        new = {**good, **{name.replace("__", "."): value for name, value in changes.items()}}
        return file_of(*tensors({name: value for name, value in new.items() if value is not None}))

    big = np.full(12, 3e38, "float32")
    return {
        "a GRU": arrays(weight_ih_l0=np.ones((9, 2), "float32"), weight_hh_l0=np.ones((9, 3), "float32")),
        "rows not in fours": arrays(weight_ih_l0=np.ones((13, 2), "float32")),
        "hidden_size too large": arrays(weight_ih_l0=np.ones((16, 2), "float32")),
        "weight a vector": arrays(weight_ih_l0=np.ones(12, "float32")),
        "weight a number": arrays(weight_ih_l0=np.ones((), "float32")),
        "weight without columns": arrays(weight_ih_l0=np.ones((12, 0), "float32")),
        "weight without rows": arrays(weight_ih_l0=np.ones((0, 2), "float32")),
        "one bias": arrays(bias_hh_l0=None),
        "second layer without the first": file_of(
            *tensors({name.replace("l0", "l1"): value for name, value in good.items()})
        ),
        "third layer without the second": file_of(
            *tensors({**good, **{name.replace("l0", "l2"): value for name, value in good.items()}})
        ),
        "layer 9999": file_of(*tensors({**good, "weight_ih_l9999": good["weight_ih_l0"]})),
        "layer 10**30": file_of(*tensors({**good, "weight_ih_l" + "9" * 30: good["weight_ih_l0"]})),
        "one direction of a second": arrays(weight_ih_l0_reverse=good["weight_ih_l0"]),
        "projection a vector": arrays(weight_hr_l0=np.ones(3, "float32")),
        "projection of other units": arrays(weight_hr_l0=np.ones((2, 4), "float32")),
        "projection to nothing": arrays(weight_hr_l0=np.ones((0, 3), "float32")),
        "normalised weights": arrays(weight_hh_l0=None, weight_hh_l0_g=np.ones((12, 1), "float32")),
        "biases whose sum is infinite": arrays(bias_ih_l0=big, bias_hh_l0=big),
        "a module without prefix": file_of(*tensors({f"lstm.{name}": value for name, value in good.items()})),
        "no LSTM": file_of(*tensors({"weight": good["weight_hh_l0"]})),
    }


# ---- HDF5 and .keras


def hdf5(build):
    """Bytes of an HDF5 file that `build` fills."""
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        build(h5)
    return file.getvalue()


def lstm_groups(h5, name="lstm", width=2, skip=(), dtype="float32"):
    """Write the arrays of a Keras LSTM of 3 units, all but those to skip; return their group."""
    group = h5.require_group(f"layers/{name}/cell/vars")
    for k, shape in enumerate(((width, 12), (3, 12), (12,))):
        if k not in skip:
            group[str(k)] = np.full(shape, 0.25, dtype)
    return group


def hostile_hdf5():
    import h5py

    def with_first(make, name="0"):
        """A file whose first array is what `make(group, name)` puts there."""
        def build(h5):
            make(lstm_groups(h5, skip=(0,)), name)
        return hdf5(build)

    def plain(array):
        return with_first(lambda group, name: group.create_dataset(name, data=array))

    def virtual(group, name):
        layout = h5py.VirtualLayout((2, 12), "float32")
        layout[:] = h5py.VirtualSource("/etc/passwd", "data", (2, 12), "float32")
        group.create_virtual_dataset(name, layout)

    def filled(group, name, shape, **how):
        group.create_dataset(name, shape, "float32", fillvalue=0.5, **how)

    def poisoned(word):
        array = np.full((2, 12), 0.25, "float32")
        array[1, 3] = word
        return plain(array)

    def compound(group, name):
        group.create_dataset(name, data=np.zeros((2, 12), [("r", "f4"), ("i", "f4")]))

    def short_float(group, name):
        kind = h5py.h5t.IEEE_F32LE.copy()
        kind.set_fields(31, 20, 11, 0, 20)
        space = h5py.h5s.create_simple((2, 12))
        h5py.h5d.create(group.id, name.encode(), kind, space)

    def many(h5):
        """Three arrays of 130 KB that 900 layers share by hard links."""
        for k, shape in enumerate(((64, 256), (64, 256), (256,))):
            h5[f"layers/lstm/cell/vars/{k}"] = np.ones(shape, "float32")
        for k in range(1, 900):
            h5[f"layers/lstm_{k}/cell/vars"] = h5["layers/lstm/cell/vars"]

    def cycle(h5):
        lstm_groups(h5)
        del h5["layers/lstm/cell"]
        h5["layers/lstm/cell"] = h5["/"]

    def crowd(h5):
        lstm_groups(h5)
        for k in range(1001):
            h5["layers"].create_group(f"dropout_{k}")

    def layers_link(link):
        def build(h5):
            h5["layers"] = link
        return hdf5(build)

    def group_link(link):
        def build(h5):
            h5.create_group("layers/lstm")
            h5["layers/lstm/cell"] = link
        return hdf5(build)

    def layer(name):
        def build(h5):
            lstm_groups(h5)
            h5.create_group(f"layers/{name}")
        return hdf5(build)

    def vars_of_model(h5):
        lstm_groups(h5)
        h5["vars/0"] = np.ones(3, "float32")

    def both(h5):
        group = lstm_groups(h5)
        for direction in ("forward_layer", "backward_layer"):
            h5[f"layers/bidirectional/{direction}/cell/vars"] = group

    def dense(*shapes):
        def build(h5):
            lstm_groups(h5)
            for k, shape in enumerate(shapes):
                h5[f"layers/dense/vars/{k}"] = np.ones(shape, "float32")
        return hdf5(build)

    def stack(width):
        def build(h5):
            lstm_groups(h5)
            lstm_groups(h5, "lstm_1", width)
        return hdf5(build)

    good = hdf5(lstm_groups)
    data = good.find(np.full(24, 0.25, "float32").tobytes())
    cases = {
        "empty": b"",
        "not HDF5": b"weights" * 200,
        "signature alone": good[:8],
        "no layers": hdf5(lambda h5: h5.create_group("vars")),
        "layers a data set": hdf5(lambda h5: h5.create_dataset("layers", data=[1.0])),
        "layers elsewhere": layers_link(h5py.ExternalLink("/etc/passwd", "/layers")),
        "layers a soft link": layers_link(h5py.SoftLink("/")),
        "cell elsewhere": group_link(h5py.ExternalLink("/etc/passwd", "/")),
        "cell a soft link": group_link(h5py.SoftLink("/layers")),
        "cell a dangling link": group_link(h5py.SoftLink("/nowhere")),
        "cell the root": hdf5(cycle),
        "a model of Keras 2": hdf5(lambda h5: h5.create_group("_layer_checkpoint_dependencies")),
        "array elsewhere": with_first(
            lambda group, name: group.__setitem__(name, h5py.ExternalLink("/etc/passwd", "/0"))
        ),
        "array a soft link": with_first(
            lambda group, name: group.__setitem__(name, h5py.SoftLink("/layers/lstm/cell/vars/1"))
        ),
        "array virtual": with_first(virtual),
        "array stored in another file": with_first(
            lambda group, name: group.create_dataset(
                name, (2, 12), "float32", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
            )
        ),
        "array a group": with_first(lambda group, name: group.create_group(name)),
        "array a named type": with_first(lambda group, name: group.__setitem__(name, np.dtype("f4"))),
        "array missing": hdf5(lambda h5: lstm_groups(h5, skip=(0,))),
        "array 0 alone": hdf5(lambda h5: lstm_groups(h5, skip=(1, 2))),
        "no array": hdf5(lambda h5: lstm_groups(h5, skip=(0, 1, 2))),
        "array ../../../0": with_first(lambda group, name: group.create_dataset("x", data=[1.0])),
        "array 3 too many": hdf5(lambda h5: lstm_groups(h5).create_dataset("3", data=np.ones(3, "float32"))),
        "array 00": with_first(lambda group, name: group.create_dataset("00", data=np.ones((2, 12), "f4"))),
        "NaN": poisoned(np.nan), "inf": poisoned(np.inf), "-inf": poisoned(-np.inf),
        "a bomb of zeros, 4 GB": with_first(
            lambda g, n: filled(g, n, (2**28, 4), chunks=(2**20, 4), compression="gzip")
        ),
        "a bomb without chunks, 4 GB": with_first(
            lambda g, n: filled(g, n, (2**18, 2**12), chunks=(2**10, 2**10))
        ),
        "a bomb never written, 4 GB": with_first(lambda g, n: filled(g, n, (2**18, 2**12))),
        "a bomb never written, 2**62 bytes": with_first(lambda g, n: filled(g, n, (2**30, 2**30))),
        "a bomb of consistent shapes": hdf5(lambda h5: [
            h5.create_dataset(f"layers/lstm/cell/vars/{k}", shape, "float32", fillvalue=0.5)
            for k, shape in enumerate(((2, 2**16), (2**14, 2**16), (2**16,)))
        ]),
        "a bomb of hard links": hdf5(many),
        "1,001 layers": hdf5(crowd),
        "never written": with_first(lambda g, n: filled(g, n, (2, 12))),
        "compressed": with_first(lambda g, n: filled(g, n, (2, 12), compression="gzip")),
        "chunked": with_first(lambda g, n: filled(g, n, (2, 12), chunks=(1, 12))),
        "resizable": with_first(lambda g, n: filled(g, n, (2, 12), maxshape=(None, 12))),
        "shuffled": with_first(lambda g, n: filled(g, n, (2, 12), shuffle=True)),
        "scaled": with_first(lambda g, n: filled(g, n, (2, 12), scaleoffset=2)),
        "shape ()": plain(np.float32(1)),
        "shape (24,)": plain(np.ones(24, "float32")),
        "shape (1, 2, 12)": plain(np.ones((1, 2, 12), "float32")),
        "shape (0, 12)": plain(np.ones((0, 12), "float32")),
        "shape turned round": plain(np.ones((12, 2), "float32")),
        "shape of other units": plain(np.ones((2, 16), "float32")),
        "shape not in fours": plain(np.ones((2, 13), "float32")),
        "shape empty": with_first(lambda g, n: g.create_dataset(n, data=h5py.Empty("float32"))),
        "second layer too wide": stack(5),
        "dtype int32": plain(np.ones((2, 12), "int32")),
        "dtype float16": plain(np.ones((2, 12), "float16")),
        "dtype float64 among float32": plain(np.ones((2, 12))),
        "dtype complex": plain(np.ones((2, 12), "complex64")),
        "dtype bool": plain(np.ones((2, 12), "bool")),
        "dtype compound": with_first(compound),
        "dtype a float of its own": with_first(short_float),
        "dtype text": with_first(lambda g, n: g.create_dataset(n, data="x" * 24)),
        "dtype bytes": plain(np.full((2, 12), b"abcd")),
        "dtype of any length": with_first(
            lambda g, n: g.create_dataset(n, (2, 12), h5py.vlen_dtype(np.float32))
        ),
        "dtype a reference": with_first(lambda g, n: g.create_dataset(n, (2, 12), h5py.ref_dtype)),
        "dtype enumerated": with_first(
            lambda g, n: g.create_dataset(n, (2, 12), h5py.enum_dtype({"A": 1}, basetype="i4"))
        ),
        "dtype of arrays": with_first(lambda g, n: g.create_dataset(n, (2,), np.dtype(("f4", (12,))))),
        "layer embedding": layer("embedding"),
        "layer lambda": layer("lambda"),
        "layer lstm_2 without lstm_1": layer("lstm_2"),
        "layer lstm_01": layer("lstm_01"),
        "layer lstm_-1": layer("lstm_-1"),
        "layer lstm_" + "9" * 300: layer("lstm_" + "9" * 300),
        "layer dropout": layer("dropout"),
        "layer masking": layer("masking"),
        "layer ..": layer("..\u200b"),
        "weights of the model itself": hdf5(vars_of_model),
        "LSTM and Bidirectional": hdf5(both),
        "two Dense": hdf5(lambda h5: [lstm_groups(h5), *(
            h5.create_dataset(f"layers/{name}/vars/0", data=np.ones((3, 3), "f4"))
            for name in ("dense", "dense_1")
        )]),
        "Dense without arrays": layer("dense"),
        "Dense of other features": dense((4, 1), (1,)),
        "Dense of other outputs": dense((3, 1), (2,)),
        "Dense with three arrays": dense((3, 1), (1,), (1,)),
        "Dense alone": hdf5(lambda h5: h5.create_dataset("layers/dense/vars/0", data=np.ones((3, 1), "f4"))),
    }
    for part in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        cases[f"cut off at {part:.0%}"] = good[: int(part * len(good))]
    for at in (8, 9, 13, 16, 24, 40, 44, 96):
        cases[f"byte {at} of the superblock"] = good[:at] + b"\xff" + good[at + 1 :]
    cases["all addresses 0"] = good[:data].replace(struct.pack("<Q", 96), bytes(8)) + good[data:]
    cases["all addresses beyond the file"] = (
        good[:data].replace(struct.pack("<Q", 96), struct.pack("<Q", 2**40)) + good[data:]
    )
    return cases


def zipped(members, **how):
    """Bytes of a zip archive; a name may occur twice in a list of pairs."""
    import warnings

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **how) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, content)
    return file.getvalue()


def lstm_configuration(**changes):
    """Keras's configuration of the LSTM that `lstm_groups` writes."""
    return {
        "name": "lstm", "trainable": True,
        "dtype": {"class_name": "DTypePolicy", "config": {"name": "float32"}},
        "return_sequences": False, "return_state": False, "go_backwards": False, "stateful": False,
        "unroll": False, "units": 3, "activation": "tanh", "recurrent_activation": "sigmoid",
        "use_bias": True,
        "dropout": 0.0, "recurrent_dropout": 0.0, "kernel_regularizer": None, **changes,
    }


def keras_archive(layers=None, version="3.15.1", **members):
    """Bytes of a .keras file of these layers, by default one LSTM."""
    if layers is None:
        layers = [{"class_name": "LSTM", "config": lstm_configuration()}]
    content = {
        "metadata.json": json.dumps({"keras_version": version}),
        "config.json": json.dumps({"class_name": "Sequential", "config": {"layers": layers}}),
        "model.weights.h5": hdf5(lstm_groups),
    }
    for name, value in members.items():
        content[name.replace("_json", ".json").replace("_h5", ".weights.h5")] = value
    return zipped({name: value for name, value in content.items() if value is not None})


def hostile_keras():
    good = keras_archive()
    plain = json.dumps({"class_name": "Sequential", "config": {"layers": [
        {"class_name": "LSTM", "config": lstm_configuration()}]}})
    parts = {"metadata.json": '{"keras_version": "3.1"}', "config.json": plain,
             "model.weights.h5": hdf5(lstm_groups)}

    def said(words):
        return keras_archive(config_json=words)

    def one(kind="LSTM", **changes):
        return keras_archive([{"class_name": kind, "config": lstm_configuration(**changes)}])

    def wrapped(inner="LSTM", merge_mode="concat", **changes):
        layers = [
            {"class_name": inner, "config": lstm_configuration(go_backwards=back)} for back in (False, True)
        ]
        words = {"merge_mode": merge_mode, "layer": layers[0], "backward_layer": layers[1], **changes}
        group = hdf5(lambda h5: [
            h5.create_dataset(f"layers/bidirectional/{direction}/cell/vars/{k}", data=np.ones(shape, "f4"))
            for direction in ("forward_layer", "backward_layer")
            for k, shape in enumerate(((2, 12), (3, 12), (12,)))
        ])
        return keras_archive([{"class_name": "Bidirectional", "config": words}], model_h5=group)

    def size_of_central_directory(value):
        at = good.rfind(b"PK\x01\x02")  # of model.weights.h5
        return good[: at + 20] + struct.pack("<LL", value, value) + good[at + 28 :]

    at = good.rfind(b"PK\x01\x02")
    squeezed = zipfile.ZipInfo("model.weights.h5")
    squeezed.compress_type = zipfile.ZIP_DEFLATED
    return {
        "cut off": good[:-30],
        "cut off in the middle": good[: len(good) // 2],
        "first bytes alone": good[:4],
        "no member": zipped({}),
        "a member more": zipped({**parts, "assets/x": b""}),
        "../../evil.py": zipped({**parts, "../../evil.py": b""}),
        "/etc/cron.d/evil": zipped({**parts, "/etc/cron.d/evil": b""}),
        "weights under ../": zipped({
            "metadata.json": parts["metadata.json"], "config.json": plain,
            "../model.weights.h5": parts["model.weights.h5"],
        }),
        "a member twice": zipped([*parts.items(), ("config.json", plain)]),
        "no weights": keras_archive(model_h5=None),
        "no configuration": keras_archive(config_json=None),
        "no metadata": keras_archive(metadata_json=None),
        "compressed": zipped(parts, compression=zipfile.ZIP_DEFLATED),
        "weights compressed, and shorter than the file": zipped({
            "metadata.json": parts["metadata.json"], "config.json": plain + " " * 50_000,
            squeezed: parts["model.weights.h5"],
        }),
        "a bomb of 1 GB": zipped({**parts, "model.weights.h5": bytes(2**20)}, compression=zipfile.ZIP_BZIP2),
        "a size of 4 GB": size_of_central_directory(2**32 - 2),
        "a size of 0": size_of_central_directory(0),
        "encrypted": good[: at + 8] + b"\x01\x00" + good[at + 10 :],
        "another method": good[: at + 10] + b"\x63\x00" + good[at + 12 :],
        "weights not HDF5": keras_archive(model_h5=b"weights" * 200),
        "weights a zip": keras_archive(model_h5=good),
        "configuration 200,000 deep": said("[" * 200_000),
        "configuration of 2 MB": said(" " * 2**21 + plain),
        "configuration with a key twice": keras_archive(config_json=plain[:-1] + ', "class_name": "x"}'),
        "configuration not JSON": said("Sequential"),
        "configuration not UTF-8": keras_archive(config_json=b"\xff\xfe{}"),
        "configuration a list": said("[]"),
        "configuration with NaN": said(plain.replace('"dropout": 0.0', '"dropout": NaN')),
        "configuration without layers": said('{"class_name": "Sequential", "config": {}}'),
        "layers null": said('{"class_name": "Sequential", "config": {"layers": null}}'),
        "layers empty": keras_archive([]),
        "layers of numbers": keras_archive([1, 2]),
        "layers without class": keras_archive([{"config": {}}]),
        "50,000 layers": keras_archive([0] * 50_000),
        "Functional": said(plain.replace("Sequential", "Functional")),
        "a class os.system": said(plain.replace("Sequential", "os.system")),
        "Keras 2": keras_archive(version="2.15.0"),
        "Keras 30": keras_archive(version="30.1"),
        "Keras null": keras_archive(version=None),
        "Keras []": keras_archive(version=[]),
        "metadata a list": keras_archive(metadata_json="[]"),
        "metadata without version": keras_archive(metadata_json="{}"),
        "Lambda": one("Lambda", function={"class_name": "__lambda__", "config": {"code": "4wEAAAAAAAAA"}}),
        "GRU": one("GRU"), "Embedding": one("Embedding"), "class 7": one(7), "class []": one([]),
        "class null": one(None), "class of 1,000 characters": one("L" * 1000),
        "layer missing in the weights": keras_archive([
            {"class_name": "LSTM", "config": lstm_configuration(return_sequences=True)},
            {"class_name": "LSTM", "config": lstm_configuration()},
        ]),
        "layer missing in the configuration": keras_archive([{"class_name": "InputLayer", "config": {}}]),
        "layer without configuration": keras_archive([{"class_name": "LSTM"}]),
        "configuration of a layer a list": keras_archive([{"class_name": "LSTM", "config": []}]),
        "units 4": one(units=4), "units text": one(units="3"), "use_bias False": one(use_bias=False),
        "activation custom": one(activation="my_function"),
        "activation of a module": one(activation={"module": "os", "class_name": "system", "config": "true"}),
        "activation a list": one(activation=["tanh"]), "activation null": one(activation=None),
        "recurrent_activation softmax": one(recurrent_activation="softmax"),
        "mixed_float16": one(dtype={"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}}),
        "dtype a list": one(dtype=[1]), "int8": one(dtype="int8_from_float32"),
        "dropout": one(dropout=0.1), "recurrent_dropout": one(recurrent_dropout=0.1),
        "stateful": one(stateful=True), "kernel_regularizer": one(kernel_regularizer={"class_name": "L2"}),
        "bias_constraint": one(bias_constraint={"class_name": "NonNeg"}),
        "an option of the future": one(peephole=True),
        "go_backwards and return_sequences": one(go_backwards=True, return_sequences=True),
        "merge_mode sum": wrapped(merge_mode="sum"), "merge_mode null": wrapped(merge_mode=None),
        "Bidirectional of GRU": wrapped("GRU"), "Bidirectional of nothing": wrapped(layer=None),
        "Bidirectional of two ways forward": wrapped(
            backward_layer={"class_name": "LSTM", "config": lstm_configuration()}
        ),
        "Bidirectional of two functions": wrapped(
            backward_layer={
                "class_name": "LSTM", "config": lstm_configuration(go_backwards=True, activation="relu"),
            }
        ),
    }


# ---- archives of torch.save, written without PyTorch


def pickled(arrays):
    """Return the instructions of a state dict, as torch.save writes them, whose storages are numbered."""
    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def numbers(values):
        return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

    out = b"\x80\x02}("
    for k, (name, array) in enumerate(arrays.items()):
        strides = [stride // array.itemsize for stride in array.strides]
        out += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(("
        out += text("storage") + b"ctorch\nFloatStorage\n" + text(str(k)) + text("cpu")
        out += b"J" + struct.pack("<i", array.size) + b"tQK\0" + numbers(array.shape) + numbers(strides)
        out += b"\x89ccollections\nOrderedDict\n)RtR"
    return out + b"u."


def torch_archive(arrays=None, edit=lambda members: None):
    """Bytes of an archive of a state dict, after `edit` has gone over its members."""
    arrays = weights() if arrays is None else arrays
    members = {"a/data.pkl": pickled(arrays), "a/byteorder": b"little"}
    members |= {f"a/data/{k}": array.tobytes() for k, array in enumerate(arrays.values())}
    members["a/version"] = b"3\n"
    edit(members)
    return zipped(members)


def hostile_torch_archives():
    good, arrays = torch_archive(), weights()

    def pickle_is(content):
        return torch_archive(edit=lambda members: members.update({"a/data.pkl": b"\x80\x02" + content}))

    def replaced(old, new, count=1):
        assert old in pickled(arrays)
        return torch_archive(
            edit=lambda members: members.update({"a/data.pkl": pickled(arrays).replace(old, new, count)})
        )

    def member(name, content):
        return torch_archive(edit=lambda members: members.update({name: content}))

    def number(value):
        return b"J" + struct.pack("<i", value)

    shape, strides = b"(" + number(12) + number(2) + b"t", b"(" + number(2) + number(1) + b"t"
    return {
        "cut off": good[:-40], "first bytes alone": good[:4], "no member": zipped({}),
        "two folders": member("b/data.pkl", b""),
        "no pickle": torch_archive(edit=lambda m: m.pop("a/data.pkl")),
        "no storage": torch_archive(edit=lambda m: m.pop("a/data/0")),
        "a short storage": member("a/data/0", b"\0" * 8), "an empty storage": member("a/data/0", b""),
        "another byte order": member("a/byteorder", b"middle"),
        "compressed": zipped({"a/data.pkl": pickled(arrays)}, compression=zipfile.ZIP_DEFLATED),
        "a bomb of 1 GB": zipped({"a/data.pkl": bytes(2**24)}, compression=zipfile.ZIP_BZIP2),
        "5,000 members": zipped({f"a/{k}": b"" for k in range(5000)}),
        "an empty pickle": pickle_is(b""), "a pickle of None": pickle_is(b"N."), "no end": pickle_is(b"}"),
        "os.system": pickle_is(b"cos\nsystem\nX\x04\0\0\0true\x85R."),
        "os.system in a state": pickle_is(
            b"}(X\x0c\0\0\0weight_ih_l0cos\nsystem\nX\x04\0\0\0true\x85Ru."
        ),
        "an extension": pickle_is(b"\x82\x01."), "an instance": pickle_is(b"(cos\nsystem\no."),
        "a buffer": pickle_is(b"\x97."), "an empty stack": pickle_is(b"R."),
        "a mark alone": pickle_is(b"(R."),
        "a number that was not put": pickle_is(b"h\x07."),
        "a place of 2**31": pickle_is(b"Nr\xff\xff\xff\x7fa."),
        "200,000 lists": pickle_is(b"]" * 200_000 + b"."),
        "130,000 deep": pickle_is(b"]" * 130_000 + b"a" * 129_999 + b"."),
        "tuples in tuples": pickle_is(b")" + b"\x85" * 130_000 + b"."),
        "a dict in itself": pickle_is(b"}q\0X\x05\0\0\0modelh\0s."),
        "doubled 40 times": pickle_is(
            b"}q\0" + b"".join(
                b"}q" + bytes([k + 1]) + b"(X\1\0\0\0ah" + bytes([k]) + b"X\1\0\0\0bh" + bytes([k]) + b"u"
                for k in range(40)
            ) + b"}X\5\0\0\0modelh\x28s."
        ),
        "a text of 2 GB": pickle_is(b"X\xff\xff\xff\x7fabc."),
        "a number of 2 GB": pickle_is(b"\x8b\xff\xff\xff\x7fabc."),
        "a text that is none": pickle_is(b"X\x01\0\0\0\xff."),
        "a shape of 2**62": replaced(shape, b"(" + number(2**31 - 1) + number(2**31 - 1) + b"t"),
        "a negative shape": replaced(shape, b"(" + number(-12) + number(-2) + b"t"),
        "a shape of texts": replaced(shape, b"(X\1\0\0\0aX\1\0\0\0bt"),
        "a shape turned round": replaced(shape, b"(" + number(2) + number(12) + b"t"),
        "wide strides": replaced(strides, b"(" + number(2**30) * 2 + b"t"),
        "negative strides": replaced(shape + b"(" + number(2), shape + b"(" + number(-2)),
        "an offset": replaced(b"tQK\0", b"tQK\x01"),
        "a negative offset": replaced(b"tQK\0", b"tQJ\xff\xff\xff\xff"),
        "a storage under ../": replaced(b"X\1\0\0\x000", b"X\4\0\0\x00../0"),
        "integers": replaced(b"FloatStorage", b"LongStorage_"),
        "another class": replaced(b"ctorch\nFloat", b"cevil\nClass"),
        "NaN": member("a/data/0", np.full(24, np.nan, "f4").tobytes()),
        "a longer count": replaced(number(24), number(2**31 - 1)),
        "no LSTM": torch_archive({"weight": np.ones((2, 2), "f4")}),
        "a GRU": torch_archive({
            "weight_ih_l0": np.ones((9, 2), "f4"), "weight_hh_l0": np.ones((9, 3), "f4"),
            "bias_ih_l0": np.ones(9, "f4"), "bias_hh_l0": np.ones(9, "f4"),
        }),
        "layer 9999": torch_archive({**arrays, "weight_ih_l9999": np.ones((12, 3), "f4")}),
        "weight_norm of other shapes": torch_archive({
            **{name: own for name, own in arrays.items() if name != "weight_hh_l0"},
            "weight_hh_l0_g": np.ones((5, 1), "f4"), "weight_hh_l0_v": np.ones((12, 3), "f4"),
        }),
        "weight_norm of 0": torch_archive({
            **{name: own for name, own in arrays.items() if name != "weight_hh_l0"},
            "weight_hh_l0_g": np.ones((12, 1), "f4"), "weight_hh_l0_v": np.zeros((12, 3), "f4"),
        }),
        "an export without words": zipped({"a/data/weights/model_weights_config.json": b"{}"}),
        "an export 200,000 deep": zipped({"a/data/weights/model_weights_config.json": b"[" * 200_000}),
        "an export in an export": zipped({"a/serialized_state_dict.pt": good[:100]}),
    }


# ---- HDF5 as Keras 2 wrote it: the model in an attribute, arrays by name


def former_hdf5(configuration=None, version="2.15.0", names=None, build=None):
    """Bytes of a model.h5 of one LSTM."""
    if configuration is None:
        configuration = {"class_name": "Sequential", "config": {"layers": [
            {"class_name": "LSTM", "config": lstm_configuration()}]}}
    paths = ["lstm/kernel:0", "lstm/recurrent_kernel:0", "lstm/bias:0"]

    def written(h5):
        h5.attrs["keras_version"] = version
        text = configuration if isinstance(configuration, str) else json.dumps(configuration)
        h5.attrs["model_config"] = text
        group = h5.create_group("model_weights/lstm")
        group.attrs["weight_names"] = [path.encode() for path in (paths if names is None else names)]
        for path, shape in zip(paths, ((2, 12), (3, 12), (12,)), strict=True):
            group[path] = np.ones(shape, "f4")
        if build is not None:
            build(h5)

    return hdf5(written)


def hostile_former_hdf5():
    import h5py

    def configured(**changes):
        return former_hdf5({"class_name": "Sequential", "config": {"layers": [
            {"class_name": "LSTM", "config": lstm_configuration(**changes)}]}})

    def functional(nodes, outputs):
        layer = {"class_name": "LSTM", "config": lstm_configuration(), "name": "lstm", "inbound_nodes": nodes}
        return former_hdf5(
            {"class_name": "Functional", "config": {"layers": [layer], "output_layers": outputs}}
        )

    def relinked(link):
        def build(h5):
            del h5["model_weights/lstm/lstm/kernel:0"]
            h5["model_weights/lstm/lstm/kernel:0"] = link
        return former_hdf5(build=build)

    def heap(change):
        good = bytearray(former_hdf5())
        start = good.index(b"GCOL")
        free = start + 16
        while struct.unpack("<H", good[free : free + 2]) != (0,):
            free += 16 + -(-struct.unpack("<Q", good[free + 8 : free + 16])[0] // 8) * 8
        change(good, start, free)
        return bytes(good)

    def put(place, value):
        return heap(lambda good, start, free: good.__setitem__(
            slice({"heap": start, "free": free}[place] + 8, {"heap": start, "free": free}[place] + 16),
            struct.pack("<Q", value),
        ))

    def attribute(name, value):
        return former_hdf5(build=lambda h5: h5.attrs.__setitem__(name, value))

    return {
        "a TFLite file": b"\x1c\0\0\0TFL3" + bytes(40),
        "a heap that is walked forever": put("free", 0), "a heap with too little left": put("free", 16),
        "a heap with too much left": put("free", 2**40), "a heap of 2**63": put("heap", 2**63),
        "a heap of nothing": put("heap", 0),
        "configuration not JSON": former_hdf5("{"), "configuration deep": former_hdf5("[" * 20_000),
        "configuration a list": former_hdf5("[]"), "configuration a number": attribute("model_config", 7),
        "configuration of arrays": attribute("model_config", np.ones(40, "f4")),
        "version a number": attribute("keras_version", 2), "no version": former_hdf5(
            build=lambda h5: h5.attrs.__delitem__("keras_version")),
        "no names": former_hdf5(names=[]), "other names": former_hdf5(names=["lstm/kernel:0", "a", "b"]),
        "names out of order": former_hdf5(names=["lstm/bias:0", "lstm/kernel:0", "lstm/recurrent_kernel:0"]),
        "a name with ..": former_hdf5(names=["../lstm/kernel:0", "lstm/recurrent_kernel:0", "lstm/bias:0"]),
        "an empty name": former_hdf5(names=["", "lstm/recurrent_kernel:0", "lstm/bias:0"]),
        "an external link": relinked(h5py.ExternalLink("/etc/passwd", "/0")),
        "a soft link": relinked(h5py.SoftLink("/model_weights")),
        "another layer": configured(name="other"), "no name": configured(name=None),
        "a name of a list": configured(name=["lstm"]), "units": configured(units=4),
        "a cycle": functional([[["lstm", 0, 0, {}]]], [["lstm", 0, 0]]),
        "an unknown layer": functional([[["other", 0, 0, {}]]], [["lstm", 0, 0]]),
        "nodes of numbers": functional([7], [["lstm", 0, 0]]), "no outputs": functional([], []),
        "two outputs": functional([], [["lstm", 0, 0], ["lstm", 0, 0]]),
        "outputs of numbers": functional([], 7),
        "hard_sigmoid of no version": former_hdf5({"class_name": "Sequential", "config": {"layers": [{
            "class_name": "LSTM", "config": lstm_configuration(recurrent_activation="hard_sigmoid")}]}}, "x"),
        "RNN of nothing": former_hdf5({"class_name": "Sequential", "config": {"layers": [
            {"class_name": "RNN", "config": {"name": "lstm", "cell": None}}]}}),
        "StackedRNNCells of nothing": former_hdf5({"class_name": "Sequential", "config": {"layers": [
            {"class_name": "RNN", "config": {"name": "lstm", "cell": {
                "class_name": "StackedRNNCells", "config": {"cells": []}}}}]}}),
    }


# ---- TFLite


def tflite_file(**words):
    """Return a file: an LSTM, the last of its steps, a product."""
    from lstm_ext import LSTM, Model

    words = {"input_size": 2, "hidden_size": 3, **words}
    lstm = LSTM(rng=0, dtype="float32", cell_clip=10.0, **words)
    return tflite_files.of_model(Model(lstm, 2, rng=1), (1, 4, words["input_size"]))


def hostile_tflite():
    good = tflite_file().content()

    def changed(change, **words):
        file = tflite_file(**words)
        change(file)
        return file.content()

    def root(change):
        table = tflite_file().table()
        change(table)
        return tflite_files.flat(table)

    def at(place, kind, value):
        content = bytearray(good)
        struct.pack_into("<" + kind, content, place, value)
        return bytes(content)

    def lstm_inputs(**places):
        def change(file):
            for place, value in places.items():
                file.operators[0][1][int(place[1:])] = value
        return changed(change)

    def tensor(number, **fields):
        return changed(lambda file: file.tensors[number].update({int(k[1:]): v for k, v in fields.items()}))

    def options(k, **fields):
        return changed(lambda file: file.operators[k][4].update({int(s[1:]): v for s, v in fields.items()}))

    def named(name):
        return changed(lambda file: file.codes.__setitem__(1, name))

    def repeated(file):
        first = file.operators[0]
        for _ in range(100):
            file.operators.insert(0, {**first, 1: [0, *first[1][1:]], 2: [file.tensor((1, 4, 32))]})
            file.operators[1][1] = [file.operators[0][2][0], *file.operators[1][1][1:]]

    start = struct.unpack_from("<I", good)[0]
    weight = next(k for k, own in enumerate(tflite_file().tensors) if own[0] == [3, 2])
    last = tflite_file()
    makes = {own[2][0]: k for k, own in enumerate(last.operators)}
    output = last.outputs[0]
    poisoned, place = np.full((3, 2), np.nan, "f4").tobytes(), last.tensors[weight][2][1]
    cut = {f"cut off at {k}": good[:k] for k in (0, 4, 8, 12, 20, len(good) // 2, len(good) - 1)}
    return cut | {
        "another mark": good[:4] + b"TFL2" + good[8:], "a root beyond the file": at(0, "I", 2**31),
        "a root of 2**32": at(0, "I", 2**32 - 1), "a root in the mark": at(0, "I", 4),
        "a vtable before the file": at(start, "i", 2**31 - 1), "a vtable beyond": at(start, "i", -(2**31)),
        "a vtable of itself": at(start, "i", 0),
        "zeros": b"\0\0\0\0TFL3" + bytes(4096), "ones": b"\x08\0\0\0TFL3" + b"\xff" * 4096,
        "no tables": tflite_files.flat({}), "no graph": root(lambda t: t.pop(2)),
        "a graph of nothing": root(lambda t: t.__setitem__(2, [{}])),
        "no operators": changed(lambda file: file.operators.clear()),
        "no codes": root(lambda t: t.pop(1)), "no buffers": root(lambda t: t.pop(4)),
        "no output": changed(lambda file: file.outputs.clear()),
        "an output of no tensor": changed(lambda file: file.outputs.__setitem__(0, 10**6)),
        "an output of -1": changed(lambda file: file.outputs.__setitem__(0, -1)),
        "an input as output": changed(lambda file: file.outputs.__setitem__(0, file.inputs[0])),
        "100,000 operators": changed(lambda file: file.operators.extend([{}] * 100_000)),
        "100,000 tensors": changed(lambda file: file.tensors.extend([{}] * 100_000)),
        "100,000 inputs": changed(lambda file: file.operators[0].__setitem__(1, [0] * 100_000)),
        "a cycle": changed(lambda file: file.operators[0][1].__setitem__(0, output)),
        "an operator that reads itself": changed(
            lambda file: file.operators[makes[output]][1].__setitem__(0, output)),
        "an operator without outputs": changed(lambda file: file.operators[0].__setitem__(2, [])),
        "two operators of one output": changed(lambda file: file.operators[0].__setitem__(2, [output])),
        "a code beyond": changed(lambda file: file.operators[0].__setitem__(0, ("I", 77))),
        **{f"operator {name}": named(name)
           for name in ("WHILE", "LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "QUANTIZE", "RELU", "MEAN")},
        "options of another operator": changed(lambda file: file.operators[0].__setitem__(3, ("B", 9))),
        "no options": changed(lambda file: (file.operators[1].pop(3), file.operators[1].pop(4))),
        "no input weights": lstm_inputs(_2=-1), "few inputs": changed(
            lambda file: file.operators[0].__setitem__(1, file.operators[0][1][:7])),
        "a projection": lstm_inputs(_16=weight), "a layer normalization": lstm_inputs(_20=weight),
        "half coupled": lstm_inputs(_1=-1), "a half of the peepholes": lstm_inputs(_10=weight),
        "weights that are the input": lstm_inputs(_2=0), "weights of a bias": lstm_inputs(_12=weight),
        "states in the file": lstm_inputs(_18=weight), "no states": lstm_inputs(_18=-1),
        "an activation of 99": options(0, _0=("b", 99)), "a clip of -1": options(0, _1=("f", -1.0)),
        "a clip of NaN": options(0, _1=("f", np.nan)), "a clip of inf": options(0, _1=("f", np.inf)),
        "a projection clip": options(0, _2=("f", 1.0)), "diagonal weights": options(0, _5=("?", True)),
        "another order of axes": options(0, _3=("?", True)),
        "a slice of steps of 2": changed(lambda file: file.buffers[file.tensors[
            file.operators[1][1][3]][2][1]].__setitem__(0, struct.pack("<3i", 1, 2, 1))),
        "a slice of a middle step": changed(lambda file: file.buffers[file.tensors[
            file.operators[1][1][1]][2][1]].__setitem__(0, struct.pack("<3i", 0, 1, 0))),
        "an activation in the readout": options(2, _0=("b", 1)), "shuffled weights": options(2, _1=("b", 1)),
        "int8": tensor(weight, _1=("b", 9)), "float64": tensor(weight, _1=("b", 10)),
        "a type of 99": tensor(weight, _1=("b", 99)),
        "quantized": tensor(weight, _4={2: [1 << 29] * 4}),
        "sparse": tensor(weight, _6={0: [0, 1]}),
        "another shape": tensor(weight, _0=[2, 3]), "a shape of 2**62": tensor(weight, _0=[2**31 - 1] * 2),
        "a negative shape": tensor(weight, _0=[-3, -2]), "a shape of 0": tensor(weight, _0=[0, 2]),
        "a shape of 100 axes": tensor(weight, _0=[1] * 100), "no shape": tensor(weight, _0=[]),
        "a buffer beyond": tensor(weight, _2=("I", 10**6)), "an empty buffer": tensor(weight, _2=("I", 0)),
        "a buffer outside": changed(lambda file: file.buffers[place].update({1: ("Q", 10**6), 2: ("Q", 24)})),
        "NaN": changed(lambda file: file.buffers[place].__setitem__(0, poisoned)),
        "a short buffer": changed(lambda file: file.buffers[place].__setitem__(0, poisoned[:-4])),
        "input of a negative size": tensor(0, _0=[1, -4, 2]), "input of two axes": tensor(0, _0=[4, 2]),
        "input of int32": tensor(0, _1=("b", 2)), "input of other features": tensor(0, _0=[1, 4, 3]),
        "an output in the reverse order": changed(
            lambda file: file.outputs.__setitem__(0, file.operators[1][2][0]), reverse=True),
        "100 LSTMs of the same weights": changed(repeated, input_size=32, hidden_size=32),
    }


def cases():
    """All files: {name: (reader, content)}."""
    configuration, arrays = our_file()
    metadata = {"__metadata__": {METADATA: json.dumps(configuration)}}
    table = {}
    for reader, group, files in (
        ("load", "ours", broken_safetensors(arrays, metadata)),
        ("load", "configuration", wrong_configurations()),
        ("torch", "safetensors", broken_safetensors(weights(), {})),
        ("torch", "weights", wrong_weights()),
        ("keras", "hdf5", hostile_hdf5()),
        ("keras", "archive", hostile_keras()),
        ("keras", "former hdf5", hostile_former_hdf5()),
        ("torch", "torch archive", hostile_torch_archives()),
        ("tflite", "tflite", hostile_tflite()),
    ):
        table |= {f"{group}: {name}": (reader, content) for name, content in files.items()}
    return table


def good_files():
    """One file for each reader that it does read: what the others are broken from."""
    configuration, arrays = our_file()
    header, body = tensors(arrays)
    return {
        "load": file_of({**header, "__metadata__": {METADATA: json.dumps(configuration)}}, body),
        "torch": file_of(*tensors(weights())),
        "keras": keras_archive(),
        "hdf5": hdf5(lstm_groups),
        "former hdf5": former_hdf5(),
        "torch archive": torch_archive(),
        "tflite": tflite_file().content(),
    }


def reader_of(name):
    """Return the reader of a good file."""
    return {"hdf5": "keras", "former hdf5": "keras", "torch archive": "torch"}.get(name, name)


def write(path, content):
    if callable(content):
        content(path)
    else:
        with open(path, "wb") as file:
            file.write(content)
