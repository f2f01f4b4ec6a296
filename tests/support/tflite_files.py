"""TFLite files of LSTMs, written with the schema and without a converter.

``python tests/support/tflite_files.py`` converts networks with TensorFlow and Keras 2 (tensorflow-cpu,
tf-keras), and prints what `from_tflite` makes of each: the largest difference from the interpreter, or why
the file is refused.
"""

import importlib
import struct

import numpy as np

# Operators by name: number, kind of options (schema.fbs).
OPERATORS = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (44, 71), "FULLY_CONNECTED": (9, 8), "STRIDED_SLICE": (45, 32),
    "REVERSE_V2": (105, 81), "CONCATENATION": (2, 10), "SOFTMAX": (25, 9), "LOGISTIC": (14, 0),
    "RESHAPE": (22, 17), "MEAN": (40, 27), "REDUCE_MAX": (82, 27), "DEQUANTIZE": (6, 46), "RELU": (19, 0),
    "ADD": (0, 11), "MUL": (18, 21), "TRANSPOSE": (39, 26), "WHILE": (119, 92), "LSTM": (16, 14),
    "BIDIRECTIONAL_SEQUENCE_LSTM": (52, 69), "QUANTIZE": (114, 87),
}
TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int8": 9, "float64": 10}


# ---- FlatBuffers: tables as dicts by slot; a value is (kind of struct, number), bytes, str, a table, a list


def flat(table, identifier=b"TFL3"):
    """Return the bytes of a file with this root table: each object after those that refer to it."""
    out = bytearray(8)
    out[4:8] = identifier
    pending = [(0, table)]

    def align(size, ahead=0):
        out.extend(bytes(-(len(out) + ahead) % size))

    while pending:
        place, value = pending.pop(0)
        if isinstance(value, dict):
            fields, inline = [], 4
            for slot, own in value.items():
                size = struct.calcsize("<" + own[0]) if isinstance(own, tuple) else 4
                inline += -inline % size
                fields.append((slot, inline, own))
                inline += size
            slots = 1 + max(value, default=-1)
            align(8, 4 + 2 * slots)
            vtable = len(out)
            offsets = {slot: offset for slot, offset, _ in fields}
            out.extend(struct.pack("<HH", 4 + 2 * slots, inline))
            out.extend(struct.pack(f"<{slots}H", *(offsets.get(slot, 0) for slot in range(slots))))
            target = len(out)
            out.extend(struct.pack("<i", target - vtable).ljust(inline, b"\0"))
            for _, offset, own in fields:
                if isinstance(own, tuple):
                    struct.pack_into("<" + own[0], out, target + offset, own[1])
                else:
                    pending.append((target + offset, own))
        elif isinstance(value, list) and any(isinstance(own, dict) for own in value):
            align(4)
            target = len(out)
            out.extend(struct.pack("<I", len(value)))
            for own in value:
                pending.append((len(out), own))
                out.extend(bytes(4))
        else:
            if isinstance(value, list):
                data, count = struct.pack(f"<{len(value)}i", *value), len(value)
            else:
                data = value.encode() if isinstance(value, str) else value
                count = len(data)
            align(16, 4)
            target = len(out)
            out.extend(struct.pack("<I", count) + data + b"\0")
        struct.pack_into("<I", out, place, target - place)
    return bytes(out)


# ---- graphs


class File:
    """A file as it grows: tensors and operators; each method returns the number of a tensor."""

    def __init__(self):
        self.tensors, self.buffers, self.operators, self.codes = [], [{}], [], []
        self.inputs, self.outputs = [], []

    def tensor(self, shape, kind="float32", *, data=None, more=None):
        """Add a tensor: a constant with `data`, else one that an operator makes."""
        number = len(self.tensors)
        table = {0: [int(n) for n in shape], 1: ("b", TYPES[kind]), 2: ("I", 0), 3: f"tensor {number}"}
        if data is not None:
            table[2] = ("I", len(self.buffers))
            self.buffers.append({0: data})
        self.tensors.append({**table, **(more or {})})
        return number

    def constant(self, array, **more):
        array = np.ascontiguousarray(array)
        return self.tensor(array.shape, array.dtype.name, data=array.tobytes(), **more)

    def input(self, shape, free=()):
        """Add an input, in which the axes `free` may have any size."""
        signature = {7: [-1 if k in free else int(n) for k, n in enumerate(shape)]} if free else None
        self.inputs.append(self.tensor(shape, more=signature))
        return self.inputs[-1]

    def operator(self, name, inputs, shape, options=None):
        """Add an operator with one output."""
        if name not in self.codes:
            self.codes.append(name)
        output = self.tensor(shape)
        table = {0: ("I", self.codes.index(name)), 1: list(inputs), 2: [output]}
        if options is not None:
            table |= {3: ("B", OPERATORS[name][1]), 4: options}
        self.operators.append(table)
        return output

    def lstm(self, x, weights, shape, *, activation=4, clip=10.0, time_major=False, change=None):
        """Add an LSTM.

        Parameters
        ----------
        x : int
            A tensor (N, T, I).
        weights : tuple of ndarray
            W (4H, I), U (4H, H), b (4H,) and, or None, peepholes (3H,): of i, f, g, o, and of i, f, o.
        change : callable, optional
            Of the list of the 24 inputs, before they are written.
        """
        W, U, b, p = weights
        H = U.shape[1]
        inputs = [x]
        for array in (W, U):
            inputs += [self.constant(part) for part in np.split(array, 4)]
        inputs += [-1] * 3 if p is None else [self.constant(part) for part in np.split(p, 3)]
        inputs += [self.constant(part) for part in np.split(b, 4)]
        batch = shape[1 if time_major else 0]
        states = [self.tensor((batch, H), more={5: ("?", True)}) for _ in range(2)]
        inputs += [-1, -1, *states, -1, -1, -1, -1]
        if change is not None:
            change(inputs)
        options = {0: ("b", activation), 1: ("f", clip), 2: ("f", 0.0), 3: ("?", time_major)}
        return self.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, shape, options)

    def last(self, y, batch, width):
        """Add ``y[:, -1]``."""
        begin, end, one = (self.constant(np.array(own, "i4")) for own in ((0, -1, 0), (0, 0, 0), (1, 1, 1)))
        options = {slot: ("i", mask) for slot, mask in enumerate((5, 5, 0, 0, 2))}
        return self.operator("STRIDED_SLICE", [y, begin, end, one], (batch, width), options)

    def dense(self, x, weight, bias, shape, activation=0):
        number = -1 if bias is None else self.constant(bias)
        options = {0: ("b", activation), 2: ("?", len(shape) == 3)}
        return self.operator("FULLY_CONNECTED", [x, self.constant(weight), number], shape, options)

    def table(self):
        """Return the file's root table."""
        return {
            0: ("I", 3),
            1: [{0: ("b", OPERATORS[name][0]), 3: ("i", OPERATORS[name][0])} for name in self.codes],
            2: [{0: self.tensors, 1: self.inputs, 2: self.outputs, 3: self.operators}],
            4: self.buffers,
        }

    def content(self):
        return flat(self.table())


def of_model(model, x_shape, *, reverse_first=True, file=None, last=None):
    """Return the file of a Model of one direction or two: what a converter makes of the same Keras model.

    Parameters
    ----------
    model : Model
        With pooling "last", "mean" or "max".
    x_shape : tuple
        (N, T, I).
    reverse_first : bool
        Whether of two directions the backward one is written first, as TensorFlow does.
    """
    lstm, (N, T, _) = model.lstm, x_shape
    file = File() if file is None else file
    value, H, D = file.input(x_shape, (0,)), lstm.hidden_size, 2 if lstm.bidirectional else 1
    axis = file.constant(np.array([1], "i4"))
    pooled = model.every_step or model.pooling != "last"
    for layer in range(lstm.num_layers):
        inner = pooled or layer + 1 < lstm.num_layers
        results = {}
        for direction in sorted(range(D), reverse=reverse_first):
            suffix = f"_l{layer}{'_reverse' if direction else ''}"
            weights = tuple(
                np.array(lstm[name + suffix]) if name + suffix in lstm.named_parameters() else None
                for name in ("weight_ih", "weight_hh", "bias", "peephole")
            )
            width = weights[0].shape[1]
            backward = direction == 1 or lstm.reverse
            read = file.operator("REVERSE_V2", [value, axis], (N, T, width), {}) if backward else value
            activation = {"tanh": 4, "relu": 1, "relu6": 3, "identity": 0}[lstm.activations[1]]
            y = file.lstm(read, weights, (N, T, H), activation=activation, clip=lstm.cell_clip or 0.0)
            if inner:
                y = file.operator("REVERSE_V2", [y, axis], (N, T, H), {}) if backward else y
            else:
                y = file.last(y, N, H)
            results[direction] = y
        value = results[0]
        if D == 2:
            joined = (N, T, 2 * H) if inner else (N, 2 * H)
            value = file.operator(
                "CONCATENATION", [results[0], results[1]], joined, {0: ("i", -1), 1: ("b", 0)})
    if model.pooling in ("mean", "max"):
        name = {"mean": "MEAN", "max": "REDUCE_MAX"}[model.pooling]
        value = file.operator(name, [value, axis], (N, D * H), {0: ("?", False)})
    shape = (N, T, model.output_size) if model.every_step else (N, model.output_size)
    value = file.dense(value, np.array(model.weight), np.array(model.bias), shape)
    file.outputs = [value if last is None else last(file, value, shape)]
    return file


def interpreter(content):
    """Return a function that runs a file on x with LiteRT or TensorFlow, or None without them."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            Interpreter = importlib.import_module("tensorflow").lite.Interpreter
        except ImportError:
            return None
    own = Interpreter(model_content=content)

    def run(x):
        own.resize_tensor_input(own.get_input_details()[0]["index"], x.shape)
        own.allocate_tensors()
        own.reset_all_variables()
        own.set_tensor(own.get_input_details()[0]["index"], x)
        own.invoke()
        return own.get_tensor(own.get_output_details()[0]["index"])

    return run


# ---- TensorFlow's converter


def networks(layers):
    """Return layers of a Sequential by name, for `layers` of Keras 2."""
    L = layers
    return {
        "last": lambda: [L.LSTM(5), L.Dense(2)],
        "every step": lambda: [L.LSTM(5, return_sequences=True), L.Dense(2)],
        "TimeDistributed": lambda: [L.LSTM(5, return_sequences=True), L.TimeDistributed(L.Dense(2))],
        "y alone": lambda: [L.LSTM(5, return_sequences=True)],
        "no bias": lambda: [L.LSTM(5, use_bias=False), L.Dense(2, use_bias=False)],
        "two layers": lambda: [L.LSTM(5, return_sequences=True), L.LSTM(5), L.Dense(2)],
        "widths 6, 4": lambda: [L.LSTM(6, return_sequences=True), L.LSTM(4), L.Dense(2)],
        "bidirectional": lambda: [L.Bidirectional(L.LSTM(5)), L.Dense(2)],
        "bidirectional, every step": lambda: [
            L.Bidirectional(L.LSTM(5, return_sequences=True)), L.Dense(2)],
        "bidirectional, two layers": lambda: [
            L.Bidirectional(L.LSTM(5, return_sequences=True)), L.Bidirectional(L.LSTM(5)), L.Dense(2)],
        "go_backwards": lambda: [L.LSTM(5, go_backwards=True), L.Dense(2)],
        "dropout": lambda: [L.LSTM(5, dropout=0.2), L.Dropout(0.2), L.Dense(2)],
        "softmax": lambda: [L.LSTM(5), L.Dense(3, activation="softmax")],
        "sigmoid": lambda: [L.LSTM(5), L.Dense(1, activation="sigmoid")],
        "two linear": lambda: [L.LSTM(5), L.Dense(4), L.Dense(2)],
        "mean over time": lambda: [L.LSTM(5, return_sequences=True), L.GlobalAveragePooling1D(), L.Dense(2)],
        "max over time": lambda: [L.LSTM(5, return_sequences=True), L.GlobalMaxPooling1D(), L.Dense(2)],
        "Flatten of the state": lambda: [L.LSTM(5), L.Flatten(), L.Dense(2)],
        "ReLU between": lambda: [L.LSTM(5), L.Dense(4, activation="relu"), L.Dense(2)],
        "Flatten of all steps": lambda: [L.LSTM(5, return_sequences=True), L.Flatten(), L.Dense(2)],
        "activation relu": lambda: [L.LSTM(5, activation="relu"), L.Dense(2)],
        "a direction after two": lambda: [
            L.Bidirectional(L.LSTM(5, return_sequences=True)), L.LSTM(5), L.Dense(2)],
    }


def converted(make, folder, kind="float32", steps=7, features=3):
    """Return the file that TensorFlow makes of layers of Keras 2, and Keras's own function."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    model = tf.keras.Sequential([tf.keras.Input((steps, features)), *make()])
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    signature = tf.TensorSpec([1, steps, features], tf.float32)
    model.save(folder, save_format="tf", signatures=tf.function(model).get_concrete_function(signature))
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def tried(content, x):
    """Return "taken" and the largest difference from the interpreter, or why the file is refused."""
    from lstm_ext import Model
    from lstm_ext.io import FormatError, from_tflite

    try:
        model = from_tflite(content)
    except FormatError as error:
        return str(error), None
    mine = model.predict(x) if isinstance(model, Model) else model(x)[0]
    if isinstance(model, Model) and type(model.loss).__name__ == "CrossEntropy":
        mine = np.exp(mine) / np.exp(mine).sum(-1, keepdims=True)
    if isinstance(model, Model) and type(model.loss).__name__ == "BinaryCrossEntropy":
        mine = 1 / (1 + np.exp(-mine))
    return "taken", float(np.abs(mine - interpreter(content)(x)).max())


def main():
    import os
    import tempfile

    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf

    x = np.random.default_rng(1).normal(size=(1, 7, 3)).astype("float32")
    for kind in ("float32", "float16", "int8"):
        for name, make in networks(tf.keras.layers).items():
            if kind != "float32" and name not in ("last", "bidirectional, every step"):
                continue
            with tempfile.TemporaryDirectory() as folder:
                try:
                    content = converted(make, folder, kind)
                except Exception as error:
                    print(f"| {name}, {kind} | not converted: {str(error).splitlines()[0][:100]} |")
                    continue
            found, worst = tried(content, x)
            print(f"| {name}, {kind} | {found if worst is None else f'{worst:.0e}'} |", flush=True)


if __name__ == "__main__":
    main()
