"""One pass over the nodes of a graph: an interpreter whose operators stand in one table.

`operator` adds an entry to the table: a function of the graph, how errors call the node, the node's inputs
and, as keywords, its attributes. An operator that is not there is refused by name.
"""

import inspect
from dataclasses import dataclass

import numpy as np

from lstm_ext.io._common import FormatError, shorten
from lstm_ext.io._onnx.file import External, node_attributes, tensor
from lstm_ext.io._onnx.values import MAX_RANK, Constant, Filled, Signal, Sizes, parts, plain

MAX_NODES = 4096
LSTM_VERSIONS = (7, 14, 22)
# What people most often have in a graph, and cannot be had here, with what to do.
INSTEAD = {
    "Relu": "the readout of a Model is linear: export what goes into it",
    "Softplus": "the readout of a Model is linear: export what goes into it",
    "Tanh": "the readout of a Model is linear: export what goes into it",
    "GRU": "only LSTM is read here",
    "RNN": "only LSTM is read here",
    "QuantizeLinear": "export the network before it is quantized",
    "DynamicQuantizeLSTM": "export the network before it is quantized",
}
OPERATORS: dict[str, "Entry"] = {}


@dataclass(frozen=True)
class Entry:
    """An operator: what it does, the kinds of its attributes, and what it takes."""

    function: object
    attributes: dict
    signature: inspect.Signature
    of_zeros: bool
    of_sizes: object


def operator(name, *, of_zeros=False, of_sizes=None, **attributes):
    """Return a decorator that enters a function in the table.

    Parameters
    ----------
    name : str
        ONNX's. Its function is called with ``(graph, where, *inputs, **attributes)``; small integers among
        the inputs are `Sizes`.
    of_zeros : bool
        Zeros, of whatever shape, stay zeros.
    of_sizes : callable, optional
        What it makes of two sizes, or None; then its function is for the other inputs alone.
    **attributes : str
        Kinds, such as "INT".
    """
    def entered(function):
        OPERATORS[name] = Entry(function, attributes, inspect.signature(function), of_zeros, of_sizes)
        return function

    return entered


class Interpreter:
    """The values of a graph, as its nodes make them, and what the nodes may ask of them."""

    opset = 22  # the version of the operators

    def __init__(self):
        self.joined = self.held = 0  # bytes
        self.values, self.kinds, self.fixed = {}, {}, {}
        self.batch_first = self.lengths = None
        self.layers, self.states, self.outputs = [], [], []

    @property
    def budget(self):
        """Bytes that the file accounts for."""
        raise NotImplementedError

    def apply(self, where, name, inputs, attributes):
        """Return what an operator of the table makes of its inputs, a tuple."""
        entry = OPERATORS[name]
        if entry.of_zeros and inputs and isinstance(inputs[0], Filled) and inputs[0].row is None:
            results = inputs[0]
        elif entry.of_sizes and len(inputs) == 2 and all(isinstance(value, Sizes) for value in inputs):
            results = self.of_sizes(where, *inputs, entry.of_sizes)
        else:
            try:
                entry.signature.bind(self, where, *inputs, **attributes)
            except TypeError:
                raise FormatError(f"{where} has {len(inputs)} inputs") from None
            results = entry.function(self, where, *inputs, **attributes)
        return results if isinstance(results, tuple) else (results,)

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

    # ---- what operators ask of values

    def refuse(self, where, value, doing):
        """Raise the error for a node that makes of a value what nothing here is."""
        what = {Constant: "numbers", Sizes: "sizes", Filled: "initial states", type(None): "a missing input"}
        said = f"{value.what} with axes {value.axes}" if isinstance(value, Signal) else what[type(value)]
        raise FormatError(f"{where}: {doing} {shorten(said)} cannot be taken over")

    def integers(self, where, value):
        """Small integers that stand in the file, as a list."""
        if isinstance(value, Sizes) and all(isinstance(v, int) for v in value.values):
            return list(value.values)
        raise FormatError(f"{where}: expected up to {MAX_RANK} integers that stand in the file")

    def axes(self, where, attribute, given):
        """Return the axes that an attribute (before version 13) or an input says, or None."""
        return attribute if given is None else self.integers(where, given)

    def axis(self, where, axis, rank):
        """Return an axis, counted from the start."""
        if not -rank <= axis < rank:
            raise FormatError(f"{where}: axis is {axis!r}, and there are {rank}")
        return axis % rank

    def settled_size(self, size):
        """Return a size with the numbers that the graph itself has given to names."""
        factor, names, added = parts(size)
        for name in names:
            factor *= self.fixed.get(name, 1)
        return plain(factor, tuple(name for name in names if name not in self.fixed), added)

class Graph(Interpreter):
    """The values of an ONNX graph."""

    def __init__(self, proto, folder=None):
        import onnx

        super().__init__()
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
                f"the model uses operators of version {self.opset}; expected 7 to "
                f"{onnx.defs.onnx_opset_version()}"
            )
        if len(graph.node) > MAX_NODES:
            raise FormatError(f"the graph has {len(graph.node)} nodes, more than {MAX_NODES}")
        if graph.sparse_initializer:
            raise FormatError("the graph has sparse initializers, which are not read here")
        self.own_bytes, self.external = proto.ByteSize(), External(folder)
        self.tensors, self.nodes_left = {}, MAX_NODES
        for initializer in graph.initializer:
            if initializer.name in self.tensors or not initializer.name:
                raise FormatError(f"initializer {shorten(initializer.name)} occurs twice, or has no name")
            self.tensors[initializer.name] = initializer
        for given in graph.input:
            if given.name not in self.tensors or given.name in self.values:
                self.define("the graph", given.name, self.input(given))
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
        """Return an input of the graph as a signal."""
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
        """Give a value its name."""
        if not name or name in self.values or name in self.tensors:
            raise FormatError(f"{where}: the name {shorten(name)!r} stands for two values, or is missing")
        self.values[name] = value

    def value(self, where, name):
        """Return what has a name: made by a node before, or numbers in the file."""
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
        """Interpret one node."""
        name = node.name or (node.output[0] if node.output else "?")
        where = f"node {shorten(name, 40)} ({shorten(node.op_type, 40)})"
        entry = OPERATORS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if entry is None:
            instead = INSTEAD.get(node.op_type, "export the LSTM and its readout without it")
            raise FormatError(f"{where}: an operator of this kind cannot be taken over: {instead}")
        attributes = node_attributes(where, node, entry.attributes)
        inputs = [as_sizes(self.value(where, name)) if name else None for name in node.input]
        results = self.apply(where, node.op_type, inputs, attributes)
        if not 1 <= len(node.output) <= len(results):
            raise FormatError(f"{where} has {len(node.output)} outputs")
        for name, result in zip(node.output, results, strict=False):
            if name:
                self.define(where, name, result)


def as_sizes(value):
    """`value` as Sizes where it is a few integers, else as it is."""
    if isinstance(value, Constant) and value.array.dtype.kind == "i" and value.array.ndim < 2:
        if value.array.size <= MAX_RANK:
            return Sizes(tuple(value.array.ravel().tolist()), value.array.ndim == 0)
    return value


# ---- operators of the language itself


@operator("Constant", value="TENSOR", value_int="INT", value_ints="INTS", value_float="FLOAT",
          value_floats="FLOATS")
def _constant(graph, where, **given):
    if len(given) != 1:
        raise FormatError(f"{where}: expected one attribute with numbers")
    [(name, value)] = given.items()
    if name == "value":
        return Constant(value)
    return Constant(np.array(value, np.int64 if name.startswith("value_int") else np.float32))


@operator("Identity")
def _identity(graph, where, value):
    return value


@operator("Dropout", ratio="FLOAT", seed="INT")
def _dropout(graph, where, value, ratio=None, training=None, **given):
    if training is not None and not (isinstance(training, Constant) and not training.array.any()):
        raise FormatError(f"{where}: dropout in training mode cannot be taken over")
    return value


@operator("If", then_branch="GRAPH", else_branch="GRAPH")
def _if(graph, where, condition, *, then_branch=None, else_branch=None):
    """Take the branch that a condition known before the call says."""
    known = isinstance(condition, Constant) and condition.array.size == 1
    if not known or then_branch is None or else_branch is None:
        raise FormatError(f"{where}: its condition is not known before the call")
    branch = then_branch if condition.array.any() else else_branch
    graph.nodes_left -= len(branch.node)
    more = branch.initializer or branch.sparse_initializer or branch.input
    if graph.nodes_left < 0 or more or not branch.output:
        raise FormatError(f"{where}: a branch of this kind cannot be taken over")
    for node in branch.node:
        graph.step(node)
    return tuple(graph.value(where, output.name) for output in branch.output)
