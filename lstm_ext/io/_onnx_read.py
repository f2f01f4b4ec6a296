"""What an ONNX graph says, read as an LSTM or a `Model`, or refused.

No node is computed. Each value of the graph is followed as one of four things: numbers that stand in the
file, sizes, a fill of one row or of zeros, and a `Signal`: something of the LSTM (its input, y, h, c, the
readout) with a meaning for each of its axes. A node that would make anything else of a signal is refused by
name. So what comes out is the function of the graph, or nothing does.
"""

import inspect
import math
import os
from dataclasses import dataclass, replace

import numpy as np

from lstm_ext import losses
from lstm_ext._files import open_file, read_file, size_of
from lstm_ext.io import _onnx_lstm
from lstm_ext.io._common import MAX_BYTES, FormatError, as_weights, reading, require, shorten
from lstm_ext.model import Model

MAX_NODES = 4096
MAX_RANK = 8
MAX_FIELDS = 2**17  # of all messages of a file; an LSTM of a hundred layers has 20,000
MAX_DEPTH = 20
LSTM_VERSIONS = (7, 14, 22)
# The operators that may stand in the graph, and their attributes.
OPERATORS = {
    "Add": {},
    "Cast": {"to": "INT", "saturate": "INT", "round_mode": "STRING"},
    "Concat": {"axis": "INT"},
    "Constant": {
        "value": "TENSOR", "value_int": "INT", "value_ints": "INTS", "value_float": "FLOAT",
        "value_floats": "FLOATS",
    },
    "ConstantOfShape": {"value": "TENSOR"},
    "Dropout": {"ratio": "FLOAT", "seed": "INT"},
    "Equal": {},
    "Expand": {},
    "Flatten": {"axis": "INT"},
    "Gather": {"axis": "INT"},
    "Gemm": {"alpha": "FLOAT", "beta": "FLOAT", "transA": "INT", "transB": "INT"},
    "Identity": {},
    "If": {"then_branch": "GRAPH", "else_branch": "GRAPH"},
    "LSTM": _onnx_lstm.ATTRIBUTES,
    "Less": {},
    "LogSoftmax": {"axis": "INT"},
    "MatMul": {},
    "Mul": {},
    "Range": {},
    "Reshape": {"allowzero": "INT"},
    "Shape": {"start": "INT", "end": "INT"},
    "Slice": {"axes": "INTS", "starts": "INTS", "ends": "INTS"},
    "Sigmoid": {},
    "Softmax": {"axis": "INT"},
    "Split": {"axis": "INT", "split": "INTS", "num_outputs": "INT"},
    "Squeeze": {"axes": "INTS"},
    "Sub": {},
    "Transpose": {"perm": "INTS"},
    "Unsqueeze": {"axes": "INTS"},
    "Where": {},
}


@dataclass(frozen=True, eq=False)
class Constant:
    """Numbers that stand in the file."""

    array: np.ndarray


@dataclass(frozen=True)
class Sizes:
    """Sizes of axes: integers, or the names of what is not known before the call."""

    values: tuple
    scalar: bool = False


@dataclass(frozen=True, eq=False)
class Filled:
    """Initial states of any number of sequences: zeros, or `row` (D, 1, H) for each of them."""

    row: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Head:
    """A readout: prediction = weight signal + bias. A node that changes it makes another."""

    what: str  # it reads, "y" or "h"
    weight: np.ndarray  # (O, F)
    bias: np.ndarray | None = None
    function: str | None = None  # after it: "softmax", "log_softmax" or "sigmoid"
    masked: bool = False  # whether what lies beyond the lengths is 0


@dataclass(frozen=True)
class Signal:
    """Something that is known when the LSTM runs.

    what : "input", "y", "h", "c", "prediction", "steps" or "counted"
    axes : what each axis is: a number (of an input, its own axes), "T", "N", "D" (rows: directions, or
        layers and directions), "F" (features of one row), "DF" (of all rows, joined), "1" (a unit)
    sizes : the size of each axis, as in `Sizes`
    rows : which (layer, direction) it holds, in order; of an input, which of its first axis, None for all
    name : of an input
    head : of a prediction
    """

    what: str
    axes: tuple
    sizes: tuple
    rows: tuple | None = ()
    name: str = ""
    head: Head | None = None

    def pick(self, order):
        """Return it with its axes in another order, or fewer."""
        return replace(
            self, axes=tuple(self.axes[k] for k in order), sizes=tuple(self.sizes[k] for k in order)
        )


@dataclass
class Operator:
    """One LSTM node."""

    node: str
    words: dict
    arrays: dict
    initial: tuple | None  # (h_0, c_0), each (D, H)


# ---- sizes that are known when the graph runs: (factor, names) of a product, and a number added to it


@dataclass(frozen=True)
class Product:
    """A factor times sizes that have names, plus a number."""

    factor: int
    names: tuple
    added: int = 0


def plain(factor, names, added=0):
    """Return a size in its simplest form: an int, the name of one, or a Product."""
    if not names or factor == 0:
        return added if names else factor + added
    if (factor, len(names), added) == (1, 1, 0):
        return names[0]
    return Product(factor, tuple(sorted(names)), added)


def parts(size):
    """Return (factor, names, added) of a size."""
    if isinstance(size, int):
        return size, (), 0
    return (1, (size,), 0) if isinstance(size, str) else (size.factor, size.names, size.added)


def times(*sizes):
    """Return the product of sizes, or None where it is none of these forms."""
    factor, names = 1, []
    for size in sizes:
        own, more, added = parts(size)
        if added:
            return None
        factor *= own
        names += more
    if len(names) > MAX_RANK or abs(factor) >= 2**62:
        return None
    return plain(factor, names)


def plus(first, second, sign=1):
    """Return the sum of two sizes, one of them a number, or None."""
    if isinstance(first, int) and isinstance(second, int):
        return first + sign * second
    if isinstance(second, int):
        factor, names, added = parts(first)
        return plain(factor, names, added + sign * second)
    if isinstance(first, int) and sign == 1:
        return plus(second, first)
    return 0 if first == second and sign == -1 else None


def over(total, known):
    """Return total / known, sizes of a product, or None."""
    (factor, names, added), (divisor, others, more) = parts(total), parts(known)
    names = list(names)
    if added or more or not divisor or factor % divisor:
        return None
    for name in others:
        if name not in names:
            return None
        names.remove(name)
    return plain(factor // divisor, names)


# ---- the file


class External:
    """Data files beside a model: in its folder, no links, read within their length."""

    def __init__(self, folder):
        self.folder, self.sizes, self.read_bytes = folder, {}, 0

    def read(self, what, entries, nbytes):
        """Return the bytes of a tensor, `nbytes` of them."""
        found = {}
        for entry in entries:
            if entry.key in found or entry.key not in ("location", "offset", "length", "checksum"):
                raise FormatError(f"{what} names {shorten(entry.key)} of its data twice, or unknown")
            found[entry.key] = entry.value
        name = found.get("location", "")
        if not name or name in (".", "..") or set(name) & set("/\\:\0") or len(name) > 255:
            raise FormatError(
                f"{what} keeps its data in {shorten(name)!r}; expected the name of a file in the same folder"
            )
        if self.folder is None:
            raise FormatError(f"{what} keeps its data in {shorten(name)!r}: give the path of the model")
        numbers = []
        for key, default in (("offset", "0"), ("length", str(nbytes))):
            value = found.get(key, default)
            if not value.isascii() or not value.isdigit() or len(value) > 19:
                raise FormatError(f"{what}: {key} of its data is {shorten(value)!r}; expected a number")
            numbers.append(int(value))
        offset, length = numbers
        if length != nbytes:
            raise FormatError(f"{what} has {length} bytes in {shorten(name)}; expected {nbytes}")
        path = os.path.join(self.folder, name)
        try:
            if os.path.islink(path):
                raise FormatError(f"{what}: {shorten(name)} is a link; expected a file")
            file = open_file(path)
        except FileNotFoundError:
            raise FormatError(
                f"{what} keeps its data in {shorten(name)}, which is not there; expected it beside the model"
            ) from None
        except ValueError as error:
            raise FormatError(f"{what}: {shorten(name)}: {error}") from None
        with file:
            size = self.sizes.setdefault(name, size_of(file))
            self.read_bytes += nbytes
            if len(self.sizes) > 64 or self.read_bytes > min(MAX_BYTES, 2 * sum(self.sizes.values())):
                raise FormatError(f"{what}: more data than the files beside the model hold")
            if offset + length > size:
                raise FormatError(f"{what}: {shorten(name)} has {size} bytes; expected {offset + length}")
            file.seek(offset)
            content = bytearray(length)
            if file.readinto(content) != length:
                raise FormatError(f"{what}: {shorten(name)} ends within it")
        return content


def count_fields(content, descriptor, count=0, depth=0):
    """Count the fields of a message and of the messages in it, before protobuf makes objects of them.

    An empty message takes 2 bytes of a file and 150 in memory. This walks over the lengths alone, down to
    what the descriptor calls messages, and raises FormatError where there are too many, or too deep.
    """
    at, end = 0, len(content)
    while at < end:
        count += 1
        if count > MAX_FIELDS or depth > MAX_DEPTH:
            raise FormatError(
                f"the file has more than {MAX_FIELDS} fields, or more than {MAX_DEPTH} of them in another"
            )
        try:
            tag, at = varint(content, at)
            size, at = varint(content, at) if tag & 7 in (0, 2) else ({1: 8, 5: 4}[tag & 7], at)
        except (IndexError, KeyError):
            raise FormatError("this is not an ONNX model: its fields have no lengths") from None
        if tag & 7 == 0:  # it was the number itself
            continue
        if size > end - at:
            raise FormatError("this is not an ONNX model: a field is longer than the file")
        field = descriptor.fields_by_number.get(tag >> 3) if tag & 7 == 2 and size else None
        if field is not None and field.message_type is not None:
            count = count_fields(content[at : at + size], field.message_type, count, depth + 1)
        at += size
    return count


def varint(content, at):
    """Return the number that begins at `at`, of seven bits a byte, and where it ends."""
    value = shift = 0
    while shift < 64:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise IndexError


def parse(content):
    """Bytes as a ModelProto."""
    import onnx

    proto = onnx.ModelProto()
    count_fields(memoryview(content), proto.DESCRIPTOR)
    try:
        proto.ParseFromString(content)
    except Exception as error:  # of google.protobuf, whose implementations raise different ones
        raise FormatError(f"this is not an ONNX model: {shorten(str(error))}") from None
    return proto


def tensor(what, proto, external=None):
    """Return the numbers of a TensorProto, after its words have been held against its bytes."""
    import onnx

    if proto.HasField("segment"):
        raise FormatError(f"{what} is a segment of a tensor")
    dims = tuple(proto.dims)
    if len(dims) > MAX_RANK or any(not 0 <= d < 2**31 for d in dims):
        raise FormatError(f"{what} has the shape {shorten(str(dims))}")
    fields = {
        onnx.TensorProto.FLOAT: ("<f4", "float_data"),
        onnx.TensorProto.DOUBLE: ("<f8", "double_data"),
        onnx.TensorProto.INT32: ("<i4", "int32_data"),
        onnx.TensorProto.INT64: ("<i8", "int64_data"),
        onnx.TensorProto.BOOL: ("?", "int32_data"),
    }
    if proto.data_type not in fields:
        raise FormatError(
            f"{what} has the data type {proto.data_type}, expected float32, float64 or integers"
        )
    dtype, field = fields[proto.data_type]
    dtype, count, data = np.dtype(dtype), math.prod(dims), getattr(proto, field)
    if proto.data_location != onnx.TensorProto.DEFAULT or proto.external_data:
        if data or proto.HasField("raw_data") or proto.data_location != onnx.TensorProto.EXTERNAL:
            raise FormatError(f"{what} has its data in two places")
        if external is None:
            raise FormatError(f"{what} keeps its data in another file; expected it in the model")
        content = external.read(what, proto.external_data, count * dtype.itemsize)
        return np.frombuffer(content, dtype).reshape(dims)
    if proto.HasField("raw_data"):
        if data or len(proto.raw_data) != count * dtype.itemsize:
            raise FormatError(
                f"{what} has {len(proto.raw_data)} bytes for {shorten(str(dims))} numbers of {dtype.itemsize}"
            )
        return np.frombuffer(proto.raw_data, dtype).reshape(dims)
    others = {name for _, name in fields.values()} - {field}
    if len(data) != count or any(getattr(proto, name) for name in others) or proto.string_data:
        raise FormatError(f"{what} has {len(data)} numbers for the shape {shorten(str(dims))}")
    return np.array(data, dtype).reshape(dims)


def node_attributes(where, node, kinds):
    """Return the attributes of a node by name, of the kinds that they must have; of tensors the array."""
    from onnx import AttributeProto

    found = {}
    for attribute in node.attribute:
        name, kind = shorten(attribute.name), kinds.get(attribute.name)
        if attribute.name in found or attribute.ref_attr_name:
            raise FormatError(f"{where}: attribute {name} occurs twice, or refers to another")
        if kind is None or attribute.type != AttributeProto.AttributeType.Value(kind):
            raise FormatError(
                f"{where}: attribute {name} is none of {', '.join(kinds) or 'none'}, or of another type"
            )
        found[attribute.name] = {
            "INT": lambda a: a.i,
            "FLOAT": lambda a: a.f,
            "STRING": lambda a: text(a.s),
            "INTS": lambda a: list(a.ints),
            "FLOATS": lambda a: list(a.floats),
            "GRAPH": lambda a: a.g,
            "STRINGS": lambda a: [text(s) for s in a.strings],
            "TENSOR": lambda a: tensor(f"{where}: attribute {name}", a.t),  # noqa: B023
        }[kind](attribute)
    return found


def text(value):
    """Bytes as str."""
    return value.decode("utf-8", "backslashreplace")


# ---- the graph


class Reader:
    """One pass over the nodes of a graph."""

    def __init__(self, proto, folder=None):
        import onnx

        graph = proto.graph
        versions = {o.domain or "ai.onnx": o.version for o in proto.opset_import}
        self.opset = versions.get("ai.onnx")
        if self.opset is None:
            raise FormatError("the model does not say which version of ONNX's operators it uses")
        try:
            since = onnx.defs.get_schema("LSTM", self.opset).since_version
        except Exception:  # SchemaError, which is not public
            since = None
        if since not in LSTM_VERSIONS or not 7 <= self.opset <= onnx.defs.onnx_opset_version():
            raise FormatError(
                f"the model uses operators of version {self.opset}, expected 7 to "
                f"{onnx.defs.onnx_opset_version()}"
            )
        if len(graph.node) > MAX_NODES:
            raise FormatError(f"the graph has {len(graph.node)} nodes, more than {MAX_NODES}")
        if graph.sparse_initializer:
            raise FormatError("the graph has sparse initializers, which are not read here")
        self.own_bytes, self.external = proto.ByteSize(), External(folder)
        self.joined = self.held = 0  # bytes
        self.values, self.tensors = {}, {}
        self.kinds = {}
        for initializer in graph.initializer:
            if initializer.name in self.tensors or not initializer.name:
                raise FormatError(f"initializer {shorten(initializer.name)} occurs twice, or has no name")
            self.tensors[initializer.name] = initializer
        for given in graph.input:
            if given.name in self.tensors and given.name not in self.values:
                continue
            self.define("the graph", given.name, self.input(given))
        self.batch_first = self.lengths = None
        self.nodes_left, self.fixed = MAX_NODES, {}
        self.operators, self.states = [], []
        for node in graph.node:
            self.step(node)
        self.outputs = [(o.name, self.value("the graph's output", o.name)) for o in graph.output]
        if not self.outputs:
            raise FormatError("the graph has no output")

    @property
    def budget(self):
        """Bytes that the file, and the data beside it, account for."""
        return self.own_bytes + sum(self.external.sizes.values())

    def input(self, given):
        kind = given.type.tensor_type
        if given.type.WhichOneof("value") != "tensor_type":
            raise FormatError(f"input {shorten(given.name)} is not a tensor")
        self.kinds[given.name] = kind.elem_type
        if kind.HasField("shape"):
            dims = [
                d.dim_value if d.HasField("dim_value") else f"{given.name}.{k}"
                for k, d in enumerate(kind.shape.dim)
            ]
        else:
            dims = [f"{given.name}.{k}" for k in range(3)]
        if len(dims) > MAX_RANK or any(isinstance(d, int) and not 0 <= d < 2**31 for d in dims):
            raise FormatError(f"input {shorten(given.name)} has the shape {shorten(str(dims))}")
        return Signal("input", tuple(range(len(dims))), tuple(dims), None, given.name)

    def define(self, where, name, value):
        if not name or name in self.values or name in self.tensors:
            raise FormatError(f"{where}: the name {shorten(name)!r} stands for two values, or is missing")
        self.values[name] = value

    def value(self, where, name):
        if name in self.values:
            return self.values[name]
        if name not in self.tensors:
            raise FormatError(
                f"{where} reads {shorten(name)!r}, which nothing before it makes: the nodes are out of "
                "order, or form a cycle"
            )
        self.values[name] = Constant(
            tensor(f"initializer {shorten(name)}", self.tensors[name], self.external)
        )
        return self.values[name]

    def step(self, node):
        name = node.name or (node.output[0] if node.output else "?")
        where = f"node {shorten(name, 40)} ({shorten(node.op_type, 40)})"
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            raise FormatError(f"{where}: an operator of this kind cannot be taken over")
        attributes = node_attributes(where, node, OPERATORS[node.op_type])
        inputs = [self.value(where, name) if name else None for name in node.input]
        operator = getattr(self, f"op_{node.op_type}")
        try:
            inspect.signature(operator).bind(where, attributes, *inputs)
        except TypeError:
            raise FormatError(f"{where} has {len(inputs)} inputs") from None
        results = operator(where, attributes, *inputs)
        results = results if isinstance(results, tuple) else (results,)
        if not 1 <= len(node.output) <= len(results):
            raise FormatError(f"{where} has {len(node.output)} outputs")
        for name, result in zip(node.output, results, strict=False):
            if name:
                self.define(where, name, result)

    def op_Equal(self, where, attributes, first, second):
        first, second = self.as_sizes(first), self.as_sizes(second)
        if isinstance(first, Sizes) and isinstance(second, Sizes) and len(first.values) == len(second.values):
            found = []
            for pair in zip(first.values, second.values, strict=True):
                numbers = [v for v in pair if isinstance(v, int)]
                if len(numbers) == 2:
                    found.append(numbers[0] == numbers[1])
                elif len(numbers) == 1 and numbers[0] < 0 and any(isinstance(v, str) for v in pair):
                    found.append(False)  # a size is not negative
            if len(found) == len(first.values):
                return Constant(np.array(found[0] if first.scalar and second.scalar else found))
        raise FormatError(f"{where}: it compares sizes that are not known before the call")

    def op_If(self, where, attributes, condition):
        """Take the branch that a condition known before the call says."""
        if not (isinstance(condition, Constant) and condition.array.size == 1) or len(attributes) != 2:
            raise FormatError(f"{where}: its condition is not known before the call")
        graph = attributes["then_branch" if condition.array.any() else "else_branch"]
        self.nodes_left -= len(graph.node)
        more = graph.initializer or graph.sparse_initializer or graph.input
        if self.nodes_left < 0 or more or not graph.output:
            raise FormatError(f"{where}: a branch of this kind cannot be taken over")
        for node in graph.node:
            self.step(node)
        return tuple(self.value(where, output.name) for output in graph.output)

    # ---- words about values

    def refuse(self, where, value, doing):
        what = {Constant: "numbers", Sizes: "sizes", Filled: "initial states", type(None): "a missing input"}
        said = f"{value.what} with axes {value.axes}" if isinstance(value, Signal) else what[type(value)]
        raise FormatError(f"{where}: {doing} {shorten(said)} cannot be taken over")

    def integers(self, where, value):
        """Small integers that stand in the file, as a list."""
        value = self.as_sizes(value)
        if isinstance(value, Sizes) and all(isinstance(v, int) for v in value.values):
            return list(value.values)
        raise FormatError(f"{where}: expected up to {MAX_RANK} integers that stand in the file")

    def axes(self, where, attributes, given):
        """Return the axes that an attribute (before version 13) or an input says, not negative."""
        return attributes.get("axes") if given is None else self.integers(where, given)

    def axis(self, where, axis, rank):
        if not -rank <= axis < rank:
            raise FormatError(f"{where}: axis is {axis!r}, and there are {rank}")
        return axis % rank

    def as_sizes(self, value):
        """`value` as Sizes where it is a few integers, else as it is."""
        if isinstance(value, Constant) and value.array.dtype.kind == "i" and value.array.ndim < 2:
            if value.array.size <= MAX_RANK:
                return Sizes(tuple(value.array.ravel().tolist()), value.array.ndim == 0)
        return value

    # ---- operators that move numbers

    def op_Constant(self, where, attributes):
        if len(attributes) != 1:
            raise FormatError(f"{where}: expected one attribute with numbers")
        [(name, value)] = attributes.items()
        if name == "value":
            return Constant(value)
        return Constant(np.array(value, np.int64 if name.startswith("value_int") else np.float32))

    def op_Identity(self, where, attributes, value):
        return value

    def op_Dropout(self, where, attributes, value, ratio=None, training=None):
        if training is not None and not (isinstance(training, Constant) and not training.array.any()):
            raise FormatError(f"{where}: dropout in training mode cannot be taken over")
        return value

    def op_Cast(self, where, attributes, value):
        from onnx import TensorProto

        to, whole = attributes.get("to"), (TensorProto.INT32, TensorProto.INT64)
        value = self.as_sizes(value)
        if isinstance(value, Sizes) and to in whole:
            return value
        if isinstance(value, Signal) and value.what == "input":
            kind = self.kinds[value.name]
            if to == kind or (to in whole and kind in whole):
                return value
        self.refuse(where, value, "another dtype of")

    def op_Shape(self, where, attributes, value):
        if isinstance(value, Signal):
            sizes = value.sizes
        elif isinstance(value, Constant):
            sizes = value.array.shape
        elif isinstance(value, Sizes):
            sizes = () if value.scalar else (len(value.values),)
        else:
            self.refuse(where, value, "the shape of")
        return Sizes(sizes[slice(attributes.get("start", 0), attributes.get("end"))])

    def op_ConstantOfShape(self, where, attributes, shape):
        value, shape = attributes.get("value"), self.as_sizes(shape)
        if value is not None and value.dtype.kind == "i" and value.size == 1 and isinstance(shape, Sizes):
            count = shape.values[0] if len(shape.values) == 1 else None
            if isinstance(count, int) and 0 <= count <= MAX_RANK:
                return Sizes(tuple(value.ravel().tolist()) * count)
        if value is not None and value.any():
            raise FormatError(f"{where}: expected zeros")
        return Filled()

    def op_Expand(self, where, attributes, value, shape):
        if isinstance(value, Filled) and value.row is None:
            return value
        if isinstance(value, Constant):
            array = value.array
            if array.dtype.kind == "f" and not array.any():
                return Filled()
            if array.dtype.kind == "f" and array.ndim == 3 and array.shape[1] == 1:
                shape = self.as_sizes(shape)
                if isinstance(shape, Sizes) and len(shape.values) == 3:
                    if all(s in (1, d) for s, d in zip(shape.values[::2], array.shape[::2], strict=True)):
                        return Filled(array)
        self.refuse(where, value, "expanding")

    def op_Transpose(self, where, attributes, value):
        if isinstance(value, Filled) and value.row is None:
            return value
        if not isinstance(value, (Constant, Signal)):
            self.refuse(where, value, "transposing")
        rank = value.array.ndim if isinstance(value, Constant) else len(value.axes)
        order = attributes.get("perm", list(range(rank))[::-1])
        if sorted(order) != list(range(rank)):
            raise FormatError(f"{where}: perm is {shorten(str(order))}, expected an order of {rank} axes")
        return Constant(value.array.transpose(order)) if isinstance(value, Constant) else value.pick(order)

    def op_Squeeze(self, where, attributes, value, axes=None):
        axes = self.axes(where, attributes, axes)
        if isinstance(value, Filled) and value.row is None:
            return value
        if isinstance(value, Sizes) and len(value.values) == 1 and axes in (None, [0], [-1]):
            return Sizes(value.values, True)
        if isinstance(value, Constant):
            shape = value.array.shape
            axes = [k for k, n in enumerate(shape) if n == 1] if axes is None else axes
            axes = {self.axis(where, axis, len(shape)) for axis in axes}
            if any(shape[axis] != 1 for axis in axes):
                raise FormatError(f"{where}: axes is {sorted(axes)}, of the shape {shape}")
            return Constant(value.array.reshape([n for k, n in enumerate(shape) if k not in axes]))
        if isinstance(value, Signal) and axes is not None:
            axes = {self.axis(where, axis, len(value.axes)) for axis in axes}
            if all(value.sizes[k] == 1 and value.axes[k] in ("D", "1", "O") for k in axes):
                return value.pick([k for k in range(len(value.axes)) if k not in axes])
        self.refuse(where, value, "squeezing")

    def op_Unsqueeze(self, where, attributes, value, axes=None):
        axes = self.axes(where, attributes, axes)
        if isinstance(value, Filled) and value.row is None:
            return value
        if axes is None or len(axes) > MAX_RANK:
            raise FormatError(f"{where}: it says no axes, or too many")
        value = self.as_sizes(value)
        if isinstance(value, Sizes) and value.scalar and axes in ([0], [-1]):
            return Sizes(value.values)
        if isinstance(value, (Constant, Signal)):
            rank = value.array.ndim if isinstance(value, Constant) else len(value.axes)
            if rank + len(axes) > MAX_RANK:
                raise FormatError(f"{where}: more than {MAX_RANK} axes")
            new = {self.axis(where, axis, rank + len(axes)) for axis in axes}
            if len(new) != len(axes):
                raise FormatError(f"{where}: axes is {axes}: one occurs twice")
            if isinstance(value, Constant):
                return Constant(np.expand_dims(value.array, tuple(new)))
            old = iter(range(rank))
            order = [None if k in new else next(old) for k in range(rank + len(axes))]
            return replace(
                value,
                axes=tuple("1" if k is None else value.axes[k] for k in order),
                sizes=tuple(1 if k is None else value.sizes[k] for k in order),
            )
        self.refuse(where, value, "unsqueezing")

    def op_Reshape(self, where, attributes, value, shape):
        shape = self.as_sizes(shape)
        if isinstance(value, Filled) and value.row is None:
            return value
        if not isinstance(shape, Sizes) or shape.values.count(-1) > 1:
            raise FormatError(f"{where}: its new shape does not stand in the file")
        if attributes.get("allowzero", 0) and 0 in shape.values:
            raise FormatError(f"{where}: a new shape without numbers cannot be taken over")
        if isinstance(self.as_sizes(value), Sizes):
            value = self.as_sizes(value)
            n = len(value.values)
            if shape.values in ((-1,), (n,)) or (shape.values == () and n == 1):
                return Sizes(value.values, not shape.values)
        if isinstance(value, Constant) and all(isinstance(n, int) for n in shape.values):
            old = value.array.shape
            new = [old[k] if n == 0 and k < len(old) else n for k, n in enumerate(shape.values)]
            try:
                return Constant(value.array.reshape(new))
            except (ValueError, OverflowError) as error:
                raise FormatError(f"{where}: {error}") from None
        if isinstance(value, Signal):
            return self.reshaped(where, value, shape.values)
        self.refuse(where, value, "reshaping")

    def op_Flatten(self, where, attributes, value):
        if not isinstance(value, Signal):
            self.refuse(where, value, "flattening")
        axis = attributes.get("axis", 1)
        axis = axis if axis == len(value.axes) else self.axis(where, axis, len(value.axes))
        both = times(*value.sizes[:axis]), times(*value.sizes[axis:])
        if None in both:
            self.refuse(where, value, "flattening")
        return self.reshaped(where, value, both)

    def atoms(self, value):
        """Return the axes of a signal, joined ones taken apart: (label, size) of each."""
        found = []
        for label, size in zip(value.axes, value.sizes, strict=True):
            if isinstance(label, tuple):
                found += label
            elif label == "DF":
                found += [("D", len(value.rows)), ("F", size // len(value.rows))]
            else:
                found.append((label, size))
        return found

    def reshaped(self, where, value, shape):
        """`value` with neighbouring axes joined, or taken apart again, and units dropped or added.

        Numbers keep their order, so a new axis is right where it is the product of some that follow each
        other.
        """
        value = self.settled(value)
        wanted = [value.sizes[k] if n == 0 and k < len(value.sizes) else n for k, n in enumerate(shape)]
        wanted = [self.settled_size(n) for n in wanted]
        label, size = self.atoms(value)[0] if value.axes else (None, None)
        if label == "T" and isinstance(size, str) and wanted and isinstance(wanted[0], int) and wanted[0] > 1:
            # An exporter has written the number of steps that it was shown: the graph is for so many.
            self.fixed[size] = wanted[0]
            value = self.settled(value)
            wanted = [self.settled_size(n) for n in wanted]
        if -1 in wanted:
            total, known = times(*value.sizes), times(*(n for n in wanted if n != -1))
            rest = None if None in (total, known) else over(total, known)
            if rest is None:
                self.refuse(where, value, f"reshaping to {shorten(str(shape))}")
            wanted[wanted.index(-1)] = rest
        left, axes = self.atoms(value), []
        for n in wanted:
            group = []
            if n == 1:
                if left and left[0][1] == 1:
                    group.append(left.pop(0))
            else:
                while left and left[0][1] == 1 and left[0][0] in ("1", "D"):
                    left.pop(0)
                size = 1
                while left and size != n:
                    group.append(left.pop(0))
                    size = times(size, group[-1][1])
                if size != n:
                    self.refuse(where, value, f"reshaping to {shorten(str(shape))}")
            axes.append(self.joined_axis(group, n))
        if any(size != 1 or label not in ("1", "D") for label, size in left):
            self.refuse(where, value, f"reshaping to {shorten(str(shape))}")
        return replace(value, axes=tuple(label for label, _ in axes), sizes=tuple(n for _, n in axes))

    def settled_size(self, size):
        """Return a size with the numbers that the graph itself has given to names."""
        factor, names, added = parts(size)
        for name in names:
            factor *= self.fixed.get(name, 1)
        return plain(factor, tuple(name for name in names if name not in self.fixed), added)

    def settled(self, value):
        """Return a signal whose sizes are settled."""
        axes = tuple(
            tuple((part, self.settled_size(n)) for part, n in label) if isinstance(label, tuple) else label
            for label in value.axes
        )
        return replace(value, axes=axes, sizes=tuple(self.settled_size(n) for n in value.sizes))

    def joined_axis(self, group, size):
        """Return the label of an axis made of `group`, and its size."""
        group = [part for part in group if part[1] != 1 or part[0] not in ("1", "D")] or group
        labels = tuple(label for label, _ in group)
        if not group:
            return "1", 1
        if len(group) == 1:
            return labels[0], size
        return ("DF" if labels == ("D", "F") else tuple(group)), size

    def op_Gather(self, where, attributes, value, indices):
        value = self.as_sizes(value)
        value_sizes = value.sizes if isinstance(value, Signal) else ()
        indices = self.from_the_end(where, attributes.get("axis", 0), value_sizes, indices)
        at = self.integers(where, indices)
        scalar = isinstance(self.as_sizes(indices), Sizes) and self.as_sizes(indices).scalar
        if isinstance(value, Sizes) and not value.scalar and attributes.get("axis", 0) in (0, -1):
            picked = tuple(value.values[self.axis(where, k, len(value.values))] for k in at)
            return Sizes(picked, scalar)
        if isinstance(value, Filled) and value.row is None:
            return value
        if isinstance(value, Signal) and len(at) == 1 and scalar:
            axis = self.axis(where, attributes.get("axis", 0), len(value.axes))
            return self.part(where, value, axis, at[0], None)
        self.refuse(where, value, "gathering from")

    def from_the_end(self, where, axis, sizes, given):
        """Return integers, those that are the size of an axis less a number counted from its end."""
        given = self.as_sizes(given)
        if not (isinstance(given, Sizes) and sizes and not all(isinstance(v, int) for v in given.values)):
            return given
        size, found = sizes[self.axis(where, axis, len(sizes))], []
        for value in given.values:
            if value == size:
                value = 2**31
            elif isinstance(value, Product) and plus(value, value.added, -1) == size and value.added < 0:
                value = value.added
            found.append(value)
        return Sizes(tuple(found), given.scalar)

    def op_Slice(self, where, attributes, value, starts=None, ends=None, axes=None, steps=None):
        if isinstance(value, Filled) and value.row is None:
            return value
        if starts is None:  # before version 10
            starts, ends, axes = (attributes.get(word) for word in ("starts", "ends", "axes"))
            if starts is None or ends is None:
                raise FormatError(f"{where}: it has no starts, or no ends")
        else:
            axes = None if axes is None else self.integers(where, axes)
            if isinstance(value, Signal) and axes is not None and len(axes) == 1:
                starts, ends = (
                    self.from_the_end(where, axes[0], value.sizes, bound) for bound in (starts, ends)
                )
            starts, ends = self.integers(where, starts), self.integers(where, ends)
            if steps is not None and set(self.integers(where, steps)) - {1}:
                raise FormatError(f"{where}: steps other than 1 cannot be taken over")
        axes = list(range(len(starts))) if axes is None else axes
        if not len(starts) == len(ends) == len(axes) == len(set(axes)):
            raise FormatError(f"{where}: starts, ends and axes are not of one length")
        value = self.as_sizes(value)
        if isinstance(value, Sizes) and not value.scalar and axes in ([0], [-1]):
            return Sizes(value.values[starts[0] : ends[0]])
        if isinstance(value, Filled) and set(axes) <= {0}:
            return Filled(value.row[starts[0] : ends[0]] if axes else value.row)
        if isinstance(value, Constant):
            index = [slice(None)] * value.array.ndim
            for axis, start, end in zip(axes, starts, ends, strict=True):
                index[self.axis(where, axis, value.array.ndim)] = slice(start, end)
            return Constant(value.array[tuple(index)])
        if isinstance(value, Signal) and len(axes) == 1:
            axis = self.axis(where, axes[0], len(value.axes))
            return self.part(where, value, axis, starts[0], ends[0])
        self.refuse(where, value, "slicing")

    def part(self, where, value, axis, start, end):
        """Return the part from `start` to `end` on one axis; end None: one index, and the axis gone."""
        label, size = value.axes[axis], value.sizes[axis]
        rest = [k for k in range(len(value.axes)) if k != axis]
        rows = value.rows
        if value.what == "input" and rows is None and isinstance(size, int) and 0 < size <= 2 * MAX_NODES:
            rows = range(size)
        if (label == "D" or (value.what == "input" and label == 0)) and rows is not None:
            if end is None:
                picked = (rows[self.axis(where, start, len(rows))],)
                return replace(value.pick(rest), rows=picked)
            picked = tuple(rows[start:end])
            sizes = (*value.sizes[:axis], len(picked), *value.sizes[axis + 1 :])
            return replace(value, rows=picked, sizes=sizes)
        if value.what == "y" and label == "T" and start == -1 and (end is None or end >= 2**31 - 1):
            operator = self.operators[value.rows[0][0]]
            if operator.words["bidirectional"] or operator.words["reverse"] or self.lengths is not None:
                raise FormatError(
                    f"{where}: the last step of y is h_n only where an LSTM reads forward and all sequences "
                    "are of one length; read Y_h instead"
                )
            value = replace(value, what="h")
            if end is None:
                return value.pick(rest)
            return replace(
                value,
                axes=(*value.axes[:axis], "1", *value.axes[axis + 1 :]),
                sizes=(*value.sizes[:axis], 1, *value.sizes[axis + 1 :]),
            )
        if end is not None and start == 0 and end >= (size if isinstance(size, int) else 2**31 - 1):
            return value
        self.refuse(where, value, "a part of")

    def op_Concat(self, where, attributes, *values):
        values = [self.as_sizes(value) for value in values]
        axis = attributes.get("axis", 0)
        if values and all(isinstance(value, Sizes) and not value.scalar for value in values):
            joined = sum((value.values for value in values), ())
            if len(joined) <= MAX_RANK and axis in (0, -1):
                return Sizes(joined)
        if values and all(isinstance(value, Filled) and value.row is None for value in values):
            return values[0]
        if values and all(isinstance(value, Constant) for value in values):
            self.joined += sum(value.array.nbytes for value in values)
            if self.joined > 4 * self.budget:
                raise FormatError(f"{where}: the file joins more numbers than it holds")
            try:
                return Constant(np.concatenate([value.array for value in values], axis))
            except (ValueError, OverflowError) as error:
                raise FormatError(f"{where}: {error}") from None
        if values and all(isinstance(value, Signal) and value.what in ("h", "c") for value in values):
            first = values[0]
            axis = self.axis(where, axis, len(first.axes))
            label = first.axes[axis]
            alike = all((v.what, v.axes) == (first.what, first.axes) for v in values)
            if alike and label in ("D", "F", "DF"):
                rows = sum((value.rows for value in values), ())
                size = sum(value.sizes[axis] for value in values)
                label = "D" if label == "D" else "DF"
                return replace(
                    first, rows=rows, axes=(*first.axes[:axis], label, *first.axes[axis + 1 :]),
                    sizes=(*first.sizes[:axis], size, *first.sizes[axis + 1 :]),
                )
        self.refuse(where, values[0] if values else None, "joining")

    # ---- the LSTM

    def op_LSTM(
        self, where, attributes, X, W, R, B=None, sequence_lens=None, initial_h=None, initial_c=None,
        P=None,
    ):
        arrays = {}
        for name, value in zip("WRBP", (W, R, B, P), strict=True):
            if isinstance(value, Signal):
                raise FormatError(f"{where}: its {name} is made by the graph, expected numbers in the file")
            if value is None and name in "WR":
                raise FormatError(f"{where} has no {name}")
            if value is not None:
                if not isinstance(value, Constant):
                    self.refuse(where, value, f"as its {name}")
                arrays[name] = value.array
        self.held += sum(array.nbytes for array in arrays.values())
        if self.held > 2 * self.budget + 2**20:
            raise FormatError(f"{where}: the LSTMs share weights: they would take more memory than the file")
        words, layout = _onnx_lstm.options(where, attributes, arrays["R"].shape)
        arrays = _onnx_lstm.check_arrays(where, words, arrays)
        D, H, k = 2 if words["bidirectional"] else 1, words["hidden_size"], len(self.operators)
        T, N = self.fed(where, X, layout, arrays, k)
        self.take_lengths(where, sequence_lens, T, k)
        initial = self.take_states(where, (initial_h, initial_c), layout, D, H, k)
        if k and words != self.operators[0].words:
            differing = [word for word in words if words[word] != self.operators[0].words[word]]
            raise FormatError(f"{where}: it differs from the first LSTM in {', '.join(differing)}")
        self.operators.append(Operator(where, words, arrays, initial))
        rows = tuple((k, d) for d in range(D))
        y = Signal("y", ("T", "D", "N", "F"), (T, D, N, H), rows)
        h = Signal("h", ("D", "N", "F"), (D, N, H), rows)
        c = replace(h, what="c")
        if layout:
            y, h, c = y.pick((2, 0, 1, 3)), h.pick((1, 0, 2)), c.pick((1, 0, 2))
        return y, h, c

    def fed(self, where, X, layout, arrays, k):
        """Check what an LSTM reads: the graph's input, or all of y of the LSTM before. Sizes of T, N."""
        from onnx import TensorProto

        if k == 0:
            time, batch = (1, 0) if layout else (0, 1)
            if not (isinstance(X, Signal) and X.what == "input" and len(X.axes) == 3 and X.rows is None):
                self.refuse(where, X, "reading")
            if X.axes[2] != 2 or {X.axes[0], X.axes[1]} != {0, 1}:
                self.refuse(where, X, "reading")
            kind = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}[arrays["W"].dtype.name]
            if self.kinds[X.name] != kind:
                raise FormatError(f"{where}: input {shorten(X.name)} is not of the dtype of W")
            if X.sizes[2] not in (arrays["W"].shape[2], f"{X.name}.2"):
                raise FormatError(f"{where}: input {shorten(X.name)} has {X.sizes[2]} features, W has "
                                  f"{arrays['W'].shape[2]}")
            self.batch_first = X.axes[batch] == 0
            return X.sizes[time], X.sizes[batch]
        before = self.operators[k - 1]
        D = 2 if before.words["bidirectional"] else 1
        wanted = ("N", "T") if layout else ("T", "N")
        if not (isinstance(X, Signal) and X.what == "y" and X.rows == tuple((k - 1, d) for d in range(D))
                and X.axes == (*wanted, "DF" if D == 2 else "F")):
            self.refuse(where, X, "after another LSTM, reading")
        if arrays["W"].shape[2] != D * before.words["hidden_size"]:
            raise FormatError(f"{where}: W has {arrays['W'].shape[2]} columns, the LSTM before "
                              f"{D * before.words['hidden_size']} features")
        if arrays["W"].dtype != before.arrays["W"].dtype:
            raise FormatError(f"{where}: its weights are of another dtype than those of the LSTM before")
        sizes = dict(zip(X.axes, X.sizes, strict=True))
        return sizes["T"], sizes["N"]

    def take_lengths(self, where, given, T, k):
        if isinstance(given, Constant):
            if not (isinstance(T, int) and given.array.dtype.kind == "i" and (given.array == T).all()):
                raise FormatError(f"{where}: its sequence_lens stand in the file, expected an input")
            given = None
        if given is not None and not (isinstance(given, Signal) and given.axes == (0,)):
            self.refuse(where, given, "lengths from")
        name = None if given is None else given.name
        if k and name != self.lengths:
            raise FormatError(f"{where}: it has other sequence_lens than the LSTM before")
        self.lengths = name

    def take_states(self, where, given, layout, D, H, k):
        """Return initial states of one LSTM: numbers of (D, H) each, or None for zeros and inputs."""
        rows, inputs = [], []
        for name, value in zip(("initial_h", "initial_c"), given, strict=True):
            row, own = None, None
            if isinstance(value, Filled):
                row = None if value.row is None else value.row
            elif isinstance(value, Constant):
                row = value.array
            elif isinstance(value, Signal) and value.what == "input" and len(value.axes) == 3:
                whole = value.axes == (0, 1, 2) and not (layout and value.rows)
                if not whole and not (layout and value.axes == (1, 0, 2)):
                    self.refuse(where, value, f"{name} from")
                own = (value.name, value.rows)
            elif value is not None:
                self.refuse(where, value, f"{name} from")
            if row is not None:
                if layout:
                    row = row.transpose(1, 0, 2) if row.ndim == 3 else row
                if row.ndim != 3 or row.shape[1] < 1 or (row != row[:, :1]).any():
                    raise FormatError(
                        f"{where}: {name} {row.shape} is different for each sequence of a batch: an LSTM "
                        "has the same for all, or is given it"
                    )
                row = as_weights(f"{where}: {name}", row[:, 0], (D, H))
            rows.append(row)
            inputs.append(own)
        for own in inputs:
            if own is not None and own[1] not in (None, tuple(range(k * D, (k + 1) * D))):
                raise FormatError(f"{where}: its initial state is a part of input {shorten(own[0])} "
                                  "that belongs to another layer")
        self.states.append(inputs)
        if all(row is None or not row.any() for row in rows):
            return None
        return tuple(np.zeros((D, H)) if row is None else row for row in rows)

    # ---- the readout

    def features(self, where, value):
        """Check that a readout may read `value`: all rows of y or h of the last LSTM, joined."""
        if not (isinstance(value, Signal) and value.what in ("y", "h") and value.rows):
            self.refuse(where, value, "a readout of")
        k = len(self.operators) - 1
        D = 2 if self.operators[k].words["bidirectional"] else 1
        axes = {"y": (("N", "T"), ("T", "N")), "h": (("N",),)}[value.what]
        before = self.atoms(value.pick(range(len(value.axes) - 1)))
        labels = tuple(label for label, _ in before if label != "1")
        if value.rows != tuple((k, d) for d in range(D)) or labels not in axes:
            self.refuse(where, value, "a readout of")
        if value.axes[-1] != ("DF" if D == 2 else "F"):
            self.refuse(where, value, "a readout of")

    def op_MatMul(self, where, attributes, value, weight):
        if not isinstance(weight, Constant):
            self.refuse(where, weight, "as weights")
        if weight.array.ndim == 1:
            result = self.read_out(where, value, weight.array[None])
            return result.pick(range(len(result.axes) - 1))
        return self.read_out(where, value, weight.array.T)

    def head_of(self, where, value, doing):
        """Return the readout of a prediction that nothing but linear nodes have touched."""
        if not (isinstance(value, Signal) and value.what == "prediction"):
            self.refuse(where, value, doing)
        if value.head.function is not None or value.head.masked:
            after = value.head.function or "Where"
            raise FormatError(f"{where}: {doing} a prediction after its {after} cannot be taken over")
        return value.head

    def read_out(self, where, value, weight):
        """Return a linear function of the features, or of a linear function of them."""
        O = weight.shape[0] if weight.ndim else 0  # noqa: E741
        if O < 1:
            raise FormatError(f"{where}: its weights have shape {weight.shape}")
        if isinstance(value, Signal) and value.what == "prediction":
            head = self.head_of(where, value, "a readout of")
            if value.axes[-1] != "O":
                self.refuse(where, value, "a readout of")
            second = as_weights(f"{where}: weights", weight, (O, len(head.weight)))
            self.held += O * head.weight.shape[1] * 8
            if self.held > 4 * self.budget + 2**24:
                raise FormatError(f"{where}: the readouts would take more memory than the file")
            wide = second.astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):  # looked at in the end
                bias = None if head.bias is None else (wide @ head.bias).astype(head.bias.dtype)
                head = replace(head, weight=(wide @ head.weight).astype(head.weight.dtype), bias=bias)
            return replace(value, sizes=(*value.sizes[:-1], O), head=head)
        self.features(where, value)
        weight = as_weights(f"{where}: weights", weight, (O, value.sizes[-1]))
        return replace(
            value, what="prediction", axes=(*value.axes[:-1], "O"), sizes=(*value.sizes[:-1], O),
            head=Head(value.what, weight),
        )

    def added_to_head(self, where, value, bias, sign=1):
        head = self.head_of(where, value, "adding to")
        O = len(head.weight)  # noqa: E741
        if bias.shape not in ((O,), (1, O), (1,), ()):
            raise FormatError(f"{where}: its bias has shape {bias.shape}, expected ({O},)")
        bias = sign * as_weights(f"{where}: bias", np.broadcast_to(bias, (1, O))[0], (O,))
        with np.errstate(over="ignore"):
            return replace(value, head=replace(head, bias=bias if head.bias is None else head.bias + bias))

    def op_Add(self, where, attributes, first, second):
        first, second = self.as_sizes(first), self.as_sizes(second)
        if isinstance(first, Sizes) and isinstance(second, Sizes):
            return self.of_sizes(where, first, second, plus)
        if isinstance(first, Constant):
            first, second = second, first
        if not (isinstance(first, Signal) and first.what == "prediction" and isinstance(second, Constant)):
            self.refuse(where, first, "adding to")
        return self.added_to_head(where, first, second.array)

    def op_Sub(self, where, attributes, first, second):
        first, second = self.as_sizes(first), self.as_sizes(second)
        if isinstance(first, Sizes) and isinstance(second, Sizes):
            return self.of_sizes(where, first, second, lambda a, b: plus(a, b, -1))
        if not (isinstance(first, Signal) and first.what == "prediction" and isinstance(second, Constant)):
            self.refuse(where, first, "subtracting from")
        return self.added_to_head(where, first, second.array, -1)

    def op_Mul(self, where, attributes, first, second):
        first, second = self.as_sizes(first), self.as_sizes(second)
        if isinstance(first, Sizes) and isinstance(second, Sizes):
            return self.of_sizes(where, first, second, times)
        if isinstance(first, Constant):
            first, second = second, first
        if not isinstance(second, Constant):
            self.refuse(where, first, "a multiple of")
        head, factor = self.head_of(where, first, "a multiple of"), second.array
        O = len(head.weight)  # noqa: E741
        if factor.shape not in ((O,), (1, O), (1,), ()):
            self.refuse(where, first, f"a multiple, {factor.shape}, of")
        factor = as_weights(f"{where}: factor", np.broadcast_to(factor, (1, O))[0], (O,))
        with np.errstate(over="ignore"):
            bias = None if head.bias is None else head.bias * factor
            return replace(first, head=replace(head, weight=head.weight * factor[:, None], bias=bias))

    def of_sizes(self, where, first, second, function):
        """Return sums and products of sizes, element by element."""
        lengths = len(first.values), len(second.values)
        if 0 in lengths or (lengths[0] != lengths[1] and 1 not in lengths):
            raise FormatError(f"{where}: {len(first.values)} and {len(second.values)} sizes do not fit")
        a, b = (own.values * (max(lengths) // len(own.values)) for own in (first, second))
        found = tuple(function(x, y) for x, y in zip(a, b, strict=True))
        if None in found or any(isinstance(v, int) and abs(v) >= 2**62 for v in found):
            raise FormatError(f"{where}: what it computes of sizes cannot be taken over")
        return Sizes(found, first.scalar and second.scalar)

    def op_Gemm(self, where, attributes, value, weight, bias=None):
        if attributes.get("transA", 0):
            raise FormatError(f"{where}: transA cannot be taken over")
        if not isinstance(value, Signal) or len(value.axes) != 2 or not isinstance(weight, Constant):
            self.refuse(where, value, "a Gemm of")
        alpha, beta = (np.float32(attributes.get(name, 1.0)) for name in ("alpha", "beta"))
        if not (np.isfinite(alpha) and np.isfinite(beta)):
            raise FormatError(f"{where}: alpha is {alpha} and beta {beta}; expected finite numbers")
        matrix = weight.array if attributes.get("transB", 0) else weight.array.T
        result = self.read_out(where, value, matrix if alpha == 1 else alpha.astype(matrix.dtype) * matrix)
        if bias is None:
            return result
        if not isinstance(bias, Constant):
            self.refuse(where, bias, "as a bias")
        array = bias.array if beta == 1 else beta.astype(bias.array.dtype) * bias.array
        return self.added_to_head(where, result, array)

    def function(self, where, attributes, value, name):
        """Take a function of the outputs over all of them."""
        head = self.head_of(where, value, f"a {name} of")
        axis = self.axis(where, attributes.get("axis", -1 if self.opset >= 13 else 1), len(value.axes))
        if value.axes[axis] != "O" or axis != len(value.axes) - 1:
            raise FormatError(f"{where}: a {name} over another axis than that of the outputs")
        return replace(value, head=replace(head, function=name))

    def op_Softmax(self, where, attributes, value):
        return self.function(where, attributes, value, "softmax")

    def op_LogSoftmax(self, where, attributes, value):
        return self.function(where, attributes, value, "log_softmax")

    def op_Sigmoid(self, where, attributes, value):
        head = self.head_of(where, value, "a sigmoid of")
        if "BinaryCrossEntropy" not in losses.__all__:
            raise FormatError(f"{where}: no loss here has outputs behind a sigmoid: export what is before it")
        return replace(value, head=replace(head, function="sigmoid"))

    def op_Split(self, where, attributes, value, split=None):
        if not isinstance(value, Signal):
            self.refuse(where, value, "splitting")
        axis = self.axis(where, attributes.get("axis", 0), len(value.axes))
        size = value.sizes[axis]
        if not isinstance(size, int):
            self.refuse(where, value, "splitting")
        if split is not None or "split" in attributes:
            pieces = attributes.get("split") or self.integers(where, split)
        else:
            count = attributes.get("num_outputs", size)
            if not 1 <= count <= size:
                raise FormatError(f"{where}: {count} parts of {size}")
            each = -(-size // count)
            pieces = [each] * (size // each) + ([size % each] if size % each else [])
        if len(pieces) > MAX_NODES or any(n < 1 for n in pieces) or sum(pieces) != size:
            raise FormatError(f"{where}: parts of {shorten(str(pieces))} are not {size}")
        ends = np.cumsum(pieces).tolist()
        return tuple(
            value if len(pieces) == 1 else self.part(where, value, axis, end - n, end)
            for n, end in zip(pieces, ends, strict=True)
        )

    # ---- which steps count: Where(Less(Range(0, T), lengths), prediction, 0), as to_onnx writes it

    def op_Range(self, where, attributes, start, limit, delta):
        bounds = [self.as_sizes(value) for value in (start, limit, delta)]
        if all(isinstance(value, Sizes) and value.scalar for value in bounds):
            if bounds[0].values == (0,) and bounds[2].values == (1,):
                return Signal("steps", ("T",), bounds[1].values)
        raise FormatError(f"{where}: expected a range over all steps")

    def op_Less(self, where, attributes, steps, lengths):
        if not (isinstance(steps, Signal) and isinstance(lengths, Signal)):
            self.refuse(where, steps, "comparing")
        if not (steps.what == "steps" and lengths.what == "input" and lengths.name == self.lengths):
            self.refuse(where, steps, "comparing")
        if steps.axes == ("T",) and lengths.axes == (0, "1"):
            return Signal("counted", ("N", "T"), (lengths.sizes[0], steps.sizes[0]))
        self.refuse(where, lengths, "comparing")

    def op_Where(self, where, attributes, counted, value, zero):
        one, other = self.as_sizes(value), self.as_sizes(zero)
        if isinstance(counted, Constant) and isinstance(one, Sizes) and isinstance(other, Sizes):
            choice = counted.array.ravel().tolist()
            if len(choice) == len(one.values) == len(other.values):
                return Sizes(tuple(
                    a if yes else b for yes, a, b in zip(choice, one.values, other.values, strict=True)
                ))
        if isinstance(counted, Signal) and isinstance(value, Signal):
            if counted.what == "counted" and counted.axes == ("N", "T", "1"):
                if value.what == "prediction" and value.axes == ("N", "T", "O"):
                    if isinstance(zero, Constant) and zero.array.size == 1 and not zero.array.any():
                        return replace(value, head=replace(value.head, masked=True))
        self.refuse(where, value, "a choice of")

    # ---- all of it

    def result(self):
        """Return the LSTM or the model that the graph is."""
        if not self.operators:
            raise FormatError("the graph has no LSTM")
        for name, value in self.outputs:
            if not (isinstance(value, Signal) and value.what in ("y", "h", "c", "prediction")):
                self.refuse(f"output {shorten(name)}", value, "returning")
        last = len(self.operators) - 1
        heads = any(value.what == "prediction" for _, value in self.outputs)
        self.check_states()
        initial = None
        if any(operator.initial for operator in self.operators):
            zeros = (np.zeros((2, self.operators[0].words["hidden_size"])),) * 2
            initial = [operator.initial or zeros for operator in self.operators]
        lstm = _onnx_lstm.make_lstm(
            self.operators[0].words, [operator.arrays for operator in self.operators],
            batch_first=heads or self.batch_first, initial=initial,
        )
        if not heads:
            every = tuple((last, d) for d in range(2 if lstm.bidirectional else 1))
            for name, value in self.outputs:
                if value.what == "y" and value.rows != every:
                    self.refuse(f"output {shorten(name)}", value, "from below the last layer, returning")
            return lstm
        if len(self.outputs) > 1 or self.outputs[0][1].what != "prediction":
            raise FormatError(
                "the graph returns more than its readout, "
                f"{shorten(', '.join(name for name, _ in self.outputs))}, which a Model does not"
            )
        labels = tuple(axis for axis in self.outputs[0][1].axes if axis != "O")
        head = self.outputs[0][1].head
        if self.lengths is not None and head.what == "y" and not head.masked:
            raise FormatError(
                "beyond a sequence's length the graph returns the bias of its readout, a Model 0; expected "
                "Where(Range(time) < lengths, prediction, 0), as to_onnx writes it"
            )
        if labels != (("N", "T") if head.what == "y" else ("N",)):
            self.refuse(f"output {shorten(self.outputs[0][0])}", self.outputs[0][1], "returning")
        if not self.batch_first:
            raise FormatError(
                "the graph takes (time, batch, features), and a Model (batch, time, features); expected one "
                "whose input has the batch first: export the network with batch_first=True, or the LSTM alone"
            )
        if head.weight.dtype != lstm.dtype:
            raise FormatError(f"the readout's weights are {head.weight.dtype}, the LSTM's {lstm.dtype}")
        model = Model(
            lstm, len(head.weight), every_step=head.what == "y", rng=0,
            loss={None: "mse", "sigmoid": "binary_cross_entropy"}.get(head.function, "cross_entropy"),
        )
        numbers = [head.weight, np.zeros(1) if head.bias is None else head.bias]
        if not all(np.isfinite(array).all() for array in numbers):
            raise FormatError("the readouts together have weights that are not finite")
        model.weight = head.weight
        model.bias = 0 * model.bias if head.bias is None else head.bias
        return model

    def check_states(self):
        """Check that initial states from inputs are those of an LSTM's call: each layer has its own."""
        given = [own for inputs in self.states for own in inputs if own is not None]
        if given and any(operator.initial for operator in self.operators):
            raise FormatError("some initial states are inputs of the graph, others stand in the file")
        h, c = ({inputs[k][0] for inputs in self.states if inputs[k]} for k in (0, 1))
        if len(set(given)) != len(given) or h & c:
            raise FormatError("two initial states are the same input of the graph")


def read(source):
    """Return the LSTM or `Model` of an ONNX model: a path, bytes or a ModelProto."""
    onnx = require("onnx", "onnx")
    if isinstance(source, (str, os.PathLike)):
        with reading(source):
            folder = os.path.dirname(os.path.abspath(os.fsdecode(os.fspath(source))))
            return result_of(parse(read_file(source, MAX_BYTES)), folder)
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = parse(bytes(source))
    if not isinstance(source, onnx.ModelProto):
        raise TypeError(f"source is {type(source).__name__}, expected a path, bytes or an onnx.ModelProto")
    return result_of(source)


def result_of(proto, folder=None):
    """Return the LSTM or `Model` of a ModelProto, whose data files lie in `folder`."""
    try:
        return Reader(proto, folder).result()
    except UnicodeDecodeError as error:  # when a name is first looked at
        raise FormatError(f"a name in the file is not text: {error}") from None
