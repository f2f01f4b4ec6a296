"""TFLite files, of LiteRT and TensorFlow Lite: graphs of float LSTMs, read without either.

The file is a FlatBuffers table. Its operators are given to the interpreter that reads ONNX graphs, as
operators of the same meaning; the LSTM, which has four matrices for each gate and a clip, is its own.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext._files import read_file
from lstm_ext.io import _onnx
from lstm_ext.io._common import GATES, MAX_BYTES, ONNX_GATES, FormatError, reading, reorder_gates, shorten
from lstm_ext.io._flatbuffers import Table
from lstm_ext.io._onnx.graph import Interpreter, as_sizes
from lstm_ext.io._onnx.lstm import add_layer
from lstm_ext.io._onnx.moves import part
from lstm_ext.io._onnx.values import FLOAT, MAX_RANK, Constant, Signal, Sizes

if TYPE_CHECKING:
    from collections.abc import Callable

    from lstm_ext.lstm import LSTM
    from lstm_ext.model import Model

__all__ = ["from_tflite"]

# https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
_MAX_OPERATORS, _MAX_TENSORS, _MAX_INPUTS = 4096, 2**16, 2**16
_NAMES = {
    0: "ADD", 2: "CONCATENATION", 6: "DEQUANTIZE", 9: "FULLY_CONNECTED", 14: "LOGISTIC", 16: "LSTM",
    18: "MUL", 19: "RELU", 22: "RESHAPE", 25: "SOFTMAX", 28: "TANH", 32: "CUSTOM", 39: "TRANSPOSE",
    40: "MEAN", 41: "SUB", 42: "DIV", 43: "SQUEEZE", 44: "UNIDIRECTIONAL_SEQUENCE_LSTM", 45: "STRIDED_SLICE",
    50: "LOG_SOFTMAX", 52: "BIDIRECTIONAL_SEQUENCE_LSTM", 59: "NEG", 70: "EXPAND_DIMS", 77: "SHAPE",
    82: "REDUCE_MAX", 83: "PACK", 105: "REVERSE_V2", 114: "QUANTIZE", 119: "WHILE", 126: "BATCH_MATMUL",
}
# The kinds of their options, of those that are read.
_OPTIONS = {
    "FULLY_CONNECTED": 8, "SOFTMAX": 9, "CONCATENATION": 10, "ADD": 11, "RESHAPE": 17, "MUL": 21, "MEAN": 27,
    "REDUCE_MAX": 27, "SUB": 28, "DIV": 29, "SQUEEZE": 30, "STRIDED_SLICE": 32,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 71, "BATCH_MATMUL": 101,
}
_LOOP = (
    "convert the model with a fixed batch size and Keras 2 (TF_USE_LEGACY_KERAS=1), which keeps the LSTM "
    "whole, or give the Keras model to from_keras"
)
_INSTEAD = {
    "LSTM": "convert with TensorFlow 2, which writes UNIDIRECTIONAL_SEQUENCE_LSTM",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "convert with TensorFlow 2, which writes two UNIDIRECTIONAL_SEQUENCE_LSTM",
    "QUANTIZE": "convert the network without quantization",
    "RELU": "the readout of a Model is linear: convert what goes into it",
    "TANH": "the readout of a Model is linear: convert what goes into it",
}
_DTYPES = {0: "<f4", 1: "<f2", 2: "<i4", 4: "<i8", 6: "?"}
_KINDS = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 7: "int16", 9: "int8", 10: "float64",
    17: "int4",
}
_FUSED = {0: "identity", 1: "relu", 2: "hard_tanh", 3: "relu6", 4: "tanh"}
_END = 2**31 - 1


def from_tflite(source: str | os.PathLike[str] | bytes | bytearray | memoryview) -> LSTM | Model:
    """Make an LSTM or a `Model` of a TFLite file.

    Operators ``UNIDIRECTIONAL_SEQUENCE_LSTM`` in float32, stacked, or one forward and one over a
    ``REVERSE_V2``, and the readouts that `from_onnx` reads. Weights in float16 are the same numbers in
    float32. Nothing is approximated: what the graph does besides is refused by the name of its operator.

    Parameters
    ----------
    source : path or bytes
        A file as the converters of TensorFlow and LiteRT write it.

    Returns
    -------
    LSTM or Model
        As `from_onnx` makes it. The converter bounds the cell state: ``cell_clip=10.0``. The states begin at
        0, as in a new interpreter; TFLite keeps them from one call to the next until they are reset.

    Raises
    ------
    FormatError
        If it is not a TFLite file, a damaged one, quantized, or not exactly an LSTM. It is a ValueError.
    OSError
        If the file cannot be read.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _read(bytes(source))
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"source is {type(source).__name__}; expected a path or bytes")
    with reading(source):
        return _read(read_file(source, MAX_BYTES))


def _read(content: bytes) -> LSTM | Model:
    if content[4:8] != b"TFL3":
        raise FormatError("it is not a TFLite file, whose bytes 4 to 7 are TFL3")
    return _onnx.result_of(_Graph(content))


@dataclass(frozen=True)
class _Reversed:
    """A signal whose steps are in the reverse order of time."""

    signal: Signal


@dataclass(frozen=True)
class _Operator:
    """An operator of the file: what errors call it, its name, the numbers of its tensors, its options."""

    where: str
    name: str
    inputs: list[int]
    outputs: list[int]
    options: Table | None

    def integer(self, slot: int, kind: str, default: int = 0) -> int:
        """Return an option."""
        return default if self.options is None else self.options.integer(slot, kind, default)

    def number(self, slot: int) -> float:
        """Return an option in float32."""
        return 0.0 if self.options is None else float(self.options.number(slot, "f"))


class _Graph(Interpreter):
    """The values of a TFLite graph."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self._size = len(content)
        model = Table.root(content)
        subgraphs = model.tables(2, _MAX_OPERATORS)
        if not len(subgraphs):
            raise FormatError("the file has no graph")
        graph = subgraphs[0]
        self._buffers = model.tables(4, _MAX_TENSORS)
        self._tensors = graph.tables(0, _MAX_TENSORS)
        operators = self._read_operators(model, graph)
        makers = {number: k for k, own in enumerate(operators) for number in own.outputs}
        outputs = graph.integers(2, MAX_RANK)
        loops = [own for own in operators if own.name == "WHILE"]
        if loops:
            raise FormatError(f"{loops[0].where}: a loop cannot be taken over: {_LOOP}")
        self.pairs = _pairs(operators, makers)
        for number in graph.integers(1, MAX_RANK):
            self.values[number] = self._input(number)
        for k in sorted(_needed(operators, makers, outputs)):
            self._step(k, operators[k])
        if not outputs:
            raise FormatError("the graph has no output")
        for number in outputs:
            value = self._value("the graph's output", number)
            if isinstance(value, _Reversed):
                self.refuse(
                    f"output {self._name(number)}", value.signal, "in the reverse order of time, returning"
                )
            self.outputs.append((self._name(number), value))

    @property
    def budget(self) -> int:
        """Bytes that the file accounts for."""
        return self._size

    # ---- the file

    def _read_operators(self, model: Table, graph: Table) -> list[_Operator]:
        codes, found, total = model.tables(1, _MAX_OPERATORS), [], 0
        for k, own in enumerate(graph.tables(3, _MAX_OPERATORS)):
            code = codes[own.integer(0, "I")]
            number = max(code.integer(0, "b"), code.integer(3, "i"))
            name = _NAMES.get(number, f"number {number} of the schema")
            if name == "CUSTOM":
                name = f"CUSTOM {shorten(code.text(1), 40)}"
            inputs, outputs = own.integers(1, _MAX_INPUTS), own.integers(2, _MAX_INPUTS)
            total += len(inputs) + len(outputs)
            if total > _MAX_INPUTS:
                raise FormatError(f"the operators have more than {_MAX_INPUTS} inputs and outputs")
            kind = own.integer(3, "B")
            if kind not in (0, _OPTIONS.get(name, kind)):
                raise FormatError(f"operator {k} ({name}) has options of another operator")
            found.append(
                _Operator(f"operator {k} ({name})", name, inputs, outputs, own.table(4) if kind else None)
            )
        return found

    def _name(self, number: int) -> str:
        return shorten(self._tensors[number].text(3))

    def _input(self, number: int) -> Signal:
        """Return an input of the graph as a signal."""
        tensor, name = self._tensors[number], f"{number}"
        shape, free = tensor.integers(0, MAX_RANK), tensor.integers(7, MAX_RANK)
        dims = tuple(
            f"{name}.{k}" if free[k : k + 1] == [-1] else size for k, size in enumerate(shape)
        )
        if any(isinstance(size, int) and size < 0 for size in dims):
            raise FormatError(f"input {self._name(number)} has the shape {shorten(str(shape))}")
        self.kinds[name] = FLOAT if tensor.integer(1, "b") == 0 else 0
        return Signal("input", tuple(range(len(dims))), dims, None, name)

    def _constant(self, number: int) -> Constant:
        """Return the numbers of a tensor, after its shape has been held against its bytes."""
        tensor = self._tensors[number]
        what, kind = f"tensor {self._name(number)}", tensor.integer(1, "b")
        quantization = tensor.table(4)
        quantized = quantization is not None and quantization.vector(2, 4)
        if kind not in _DTYPES or quantized:
            raise FormatError(
                f"{what} is {'quantized to ' if quantized else ''}{_KINDS.get(kind, kind)}; expected "
                "float32 or float16: convert the network without quantization, which changes its results"
            )
        if tensor.table(6) is not None:
            raise FormatError(f"{what} is sparse; expected all its numbers")
        buffer = self._buffers[tensor.integer(2, "I")]
        if buffer.integer(1, "Q") > 1:
            raise FormatError(f"{what} keeps its data beyond the tables of the file; expected them within")
        dtype, shape = np.dtype(_DTYPES[kind]), tensor.integers(0, MAX_RANK)
        data = buffer.vector(0, 1)
        if data is None or not data:
            raise FormatError(f"{what} is read before an operator makes it, and has no numbers in the file")
        if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(data):
            raise FormatError(f"{what} has {len(data)} bytes for the shape {shorten(str(shape))}")
        array = np.frombuffer(data, dtype).reshape(shape)
        return Constant(array.astype("<f4") if kind == 1 else array)

    def _value(self, where: str, number: int) -> Any:
        """Return what an operator has made, or numbers in the file."""
        if number < 0:
            return None
        if number not in self.values:
            self.values[number] = as_sizes(self._constant(number))
        return self.values[number]

    def numbers(self, where: str, number: int) -> Constant | None:
        """Return the numbers of a tensor as an array, also where they are few integers."""
        value = self._value(where, number)
        if isinstance(value, Sizes):
            return self._constant(number)
        if value is not None and not isinstance(value, Constant):
            self.refuse(where, value, "as weights")
        return value

    # ---- operators

    def _step(self, k: int, own: _Operator) -> None:
        if own.name.partition(" ")[0] not in _OPERATORS:
            instead = _INSTEAD.get(own.name.partition(" ")[0], "convert the LSTM and its readout without it")
            raise FormatError(f"{own.where}: an operator of this kind cannot be taken over: {instead}")
        if len(own.outputs) != 1:
            raise FormatError(f"{own.where} has {len(own.outputs)} outputs; expected 1")
        if own.outputs[0] in self.values:
            raise FormatError(f"{own.where} makes {self._name(own.outputs[0])}, which there is already")
        if own.name == "UNIDIRECTIONAL_SEQUENCE_LSTM":
            result = self._lstm(k, own)
        else:
            inputs = [self._value(own.where, number) for number in own.inputs]
            result = _OPERATORS[own.name](self, own, *self._checked(own, inputs))
        self.values[own.outputs[0]] = as_sizes(result)

    def _checked(self, own: _Operator, inputs: list[Any]) -> list[Any]:
        """Return the inputs of an operator, after a check of their number and of what is reversed."""
        least, most = _INPUTS.get(own.name, (1, 1))
        if not least <= len(inputs) <= most or None in inputs[:least]:
            raise FormatError(f"{own.where} has {len(inputs)} inputs; expected {least} to {most}")
        if own.name not in ("REVERSE_V2", "STRIDED_SLICE"):
            for value in inputs:
                if isinstance(value, _Reversed):
                    self.refuse(own.where, value.signal, "in the reverse order of time, reading")
        return inputs

    def make(self, own: _Operator, name: str, *inputs: Any, **attributes: Any) -> Any:
        """Return what an operator of ONNX makes of the inputs."""
        return self.apply(own.where, name, [as_sizes(value) for value in inputs], attributes)[0]

    def activated(self, own: _Operator, value: Any, slot: int = 0) -> Any:
        """Return `value` where no activation is fused into the operator that made it."""
        fused = own.integer(slot, "b")
        if fused:
            raise FormatError(
                f"{own.where}: its activation is {_FUSED.get(fused, fused)}, and the readout of a Model is "
                "linear: convert what goes into it"
            )
        return value

    def _lstm(self, k: int, own: _Operator) -> Any:
        """Return y of an LSTM, in the order in which it reads; of a pair, of its direction."""
        pair = self.pairs[k]
        if pair.y is None:
            halves = [self._half(one) for one in pair.operators if one is not None]
            options = [
                (words, {name: array.shape for name, array in arrays.items()}) for words, arrays in halves
            ]
            layouts = {one.integer(3, "?") for one in pair.operators if one is not None}
            if options[0] != options[-1] or len(layouts) > 1:
                raise FormatError(f"{own.where}: the two directions have different options or sizes")
            words = {**halves[0][0], "bidirectional": len(halves) == 2, "reverse": pair.operators[0] is None}
            arrays = {
                name: np.concatenate([arrays[name] for _, arrays in halves]) for name in halves[0][1]
            }
            X = self._value(own.where, pair.source)
            if isinstance(X, _Reversed) or not isinstance(X, Signal):
                self.refuse(own.where, X.signal if isinstance(X, _Reversed) else X, "reading")
            layout = 1 - own.integer(3, "?")
            y, _, _ = add_layer(self, own.where, X, words, arrays, layout)
            pair.y = y.pick((2, 0, 1, 3)) if layout else y
        backward = pair.operators[1] is own
        row = int(backward and pair.operators[0] is not None)
        y = part(self, own.where, pair.y, pair.y.axes.index("D"), row, None)
        return _Reversed(y) if backward else y

    def _half(self, own: _Operator) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
        """Return the options of an LSTM operator, and its arrays as ONNX stacks them."""
        where, inputs = own.where, [*own.inputs, *[-1] * (24 - len(own.inputs))]
        if not 20 <= len(own.inputs) <= 24 or -1 in inputs[2:5] + inputs[6:9] + inputs[13:16]:
            raise FormatError(f"{where} has {len(own.inputs)} inputs, or lacks weights; expected 20 to 24")
        for name, given in (("projection", inputs[16:18]), ("layer normalization", inputs[20:])):
            if set(given) != {-1}:
                raise FormatError(f"{where}: it has a {name}, which cannot be taken over")
        if own.number(2) != 0 or own.integer(5, "?"):
            raise FormatError(f"{where}: its projection clip, or its diagonal weights, cannot be taken over")
        fused, clip = own.integer(0, "b"), own.number(1)
        if fused not in _FUSED or not 0 <= clip < math.inf:
            raise FormatError(f"{where}: its activation is number {fused}, its cell clip {clip}")
        for number in inputs[18:20]:
            if number < 0 or not self._tensors[number].integer(5, "?"):
                raise FormatError(f"{where}: its states are not variables, which begin at 0")
        words = {"activations": ("sigmoid", _FUSED[fused], _FUSED[fused]), "cell_clip": clip or None}
        ih, hh, peephole, bias = (
            [self.numbers(where, number) for number in inputs[start:stop]]
            for start, stop in ((1, 5), (5, 9), (9, 12), (12, 16))
        )
        coupled = [group[0] is None for group in (ih, hh, bias)]
        if any(coupled):  # i = 1 - f = sigmoid(-a_f), and f = 1 - i
            if not all(coupled) or peephole[0] is not None:
                raise FormatError(f"{where}: some weights of its input gate are missing")
            for group in (ih, hh, bias, peephole):
                group[0] = None if group[1] is None else Constant(-group[1].array)
        arrays = {"W": _stacked(where, ih, 2), "R": _stacked(where, hh, 2), "B": _stacked(where, bias, 1)}
        arrays["B"] = np.concatenate([arrays["B"], np.zeros_like(arrays["B"])], 1)
        if peephole[2] is not None:
            arrays["P"] = _stacked(where, [peephole[0], peephole[2], peephole[1]], 1)
        elif peephole[0] is not None or peephole[1] is not None:
            raise FormatError(f"{where}: some of its peepholes are missing")
        H = arrays["R"].shape[2]
        if arrays["W"].shape[1] != 4 * H:
            raise FormatError(f"{where}: its weights have shapes {arrays['W'].shape} and {arrays['R'].shape}")
        return {"hidden_size": H, "coupled_gates": all(coupled), "gate_clip": None, **words}, arrays


def _stacked(where: str, group: list[Constant | None], rank: int) -> np.ndarray[Any, Any]:
    """Return arrays of the gates i, f, g, o as ONNX stacks them, (1, 4 H, ...); peepholes as they are."""
    arrays = [own.array for own in group if own is not None]
    shapes = {array.shape for array in arrays}
    if len(arrays) != len(group) or len(shapes) != 1 or arrays[0].ndim != rank or not arrays[0].size:
        raise FormatError(f"{where}: weights of its gates have the shapes {shorten(str(sorted(shapes)))}")
    if {array.dtype.name for array in arrays} != {"float32"}:
        raise FormatError(f"{where}: its weights are not all float32")
    joined = np.concatenate(arrays)
    return (reorder_gates(joined, GATES, ONNX_GATES) if len(group) == 4 else joined)[None]


@dataclass
class _Pair:
    """The LSTM operators of a layer, forward and backward, what they read, and y when there is one."""

    operators: list[_Operator | None]
    source: int
    y: Signal | None = None


def _pairs(operators: list[_Operator], makers: dict[int, int]) -> dict[int, _Pair]:
    """Return the layer that each LSTM operator belongs to, by its number.

    Two make one layer where they read the same, one of them in the reverse order.
    """
    found: dict[int, _Pair] = {}
    by_source: dict[int, list[tuple[int, bool]]] = {}
    for k, own in enumerate(operators):
        if own.name == "UNIDIRECTIONAL_SEQUENCE_LSTM" and own.inputs:
            maker = operators[makers[own.inputs[0]]] if own.inputs[0] in makers else None
            backward = maker is not None and maker.name == "REVERSE_V2" and bool(maker.inputs)
            source = maker.inputs[0] if maker is not None and backward else own.inputs[0]
            by_source.setdefault(source, []).append((k, backward))
    for source, readers in by_source.items():
        together = sorted(backward for _, backward in readers) == [False, True]
        for group in [readers] if together else [[one] for one in readers]:
            pair = _Pair([None, None], source)
            for k, backward in group:
                pair.operators[int(backward)] = operators[k]
                found[k] = pair
    return found


def _needed(operators: list[_Operator], makers: dict[int, int], outputs: list[int]) -> set[int]:
    """Return the numbers of the operators that the outputs depend on."""
    needed: set[int] = set()
    left = list(outputs)
    while left:
        k = makers.get(left.pop())
        if k is not None and k not in needed:
            needed.add(k)
            left += operators[k].inputs
    return needed


# ---- operators, as those of ONNX


def _fully_connected(
    graph: _Graph, own: _Operator, value: Any, weight: Any, bias: Any = None
) -> Any:
    if own.integer(1, "b"):
        raise FormatError(f"{own.where}: its weights are shuffled; convert the network without quantization")
    if isinstance(value, Signal) and len(value.axes) > 2 and not own.integer(2, "?"):
        value = graph.make(own, "Reshape", value, Sizes((-1, value.sizes[-1])))
    weight = graph.numbers(own.where, own.inputs[1])
    result = graph.make(own, "MatMul", value, graph.make(own, "Transpose", weight))
    if len(own.inputs) > 2 and own.inputs[2] >= 0:
        result = graph.apply(own.where, "Add", [result, graph.numbers(own.where, own.inputs[2])], {})[0]
    return graph.activated(own, result)


def _reverse(graph: _Graph, own: _Operator, value: Any, axes: Any) -> Any:
    signal = value.signal if isinstance(value, _Reversed) else value
    axes = graph.integers(own.where, axes)
    if not isinstance(signal, Signal) or len(axes) != 1:
        graph.refuse(own.where, signal, "reversing")
    axis = graph.axis(own.where, axes[0], len(signal.axes))
    if signal.what == "input":  # which axis is time is known to the LSTM that reads it
        readers = [pair.operators[1] for pair in graph.pairs.values() if pair.source == own.inputs[0]]
        time = {reader.integer(3, "?") for reader in readers if reader is not None}
        right = len(signal.axes) == 3 and time == {1 - axis} and axis < 2
    else:
        right = signal.what == "y" and signal.axes[axis] == "T"
    if not right:
        graph.refuse(own.where, signal, "reversing another axis than time of")
    return signal if isinstance(value, _Reversed) else _Reversed(signal)


def _strided_slice(graph: _Graph, own: _Operator, value: Any, begin: Any, end: Any, strides: Any) -> Any:
    masks = [own.integer(slot, "i") for slot in range(5)]
    starts, ends, steps = (graph.integers(own.where, given) for given in (begin, end, strides))
    if masks[2] or masks[3] or own.integer(5, "?") or set(steps) - {1} or len(starts) != len(ends):
        raise FormatError(f"{own.where}: steps other than 1, new axes and an ellipsis cannot be taken over")
    if isinstance(value, Sizes):
        if value.scalar or len(starts) != 1:
            graph.refuse(own.where, value, "slicing")
        if masks[4] & 1:
            return graph.make(own, "Gather", value, Sizes((starts[0],), True))
        bounds = 0 if masks[0] & 1 else starts[0], _END if masks[1] & 1 else ends[0]
        return graph.make(own, "Slice", value, *(Sizes((bound,)) for bound in bounds), Sizes((0,)))
    signal = value.signal if isinstance(value, _Reversed) else value
    if not isinstance(signal, Signal) or len(starts) > len(signal.axes):
        graph.refuse(own.where, signal, "slicing")
    turned = isinstance(value, _Reversed)
    for axis in reversed(range(len(starts))):
        index = bool(masks[4] >> axis & 1)
        start = 0 if masks[0] >> axis & 1 and not index else starts[axis]
        size = signal.sizes[axis]
        stop = None if index else _END if masks[1] >> axis & 1 or ends[axis] == size else ends[axis]
        if start == 0 and stop == _END:
            continue
        if signal.axes[axis] == "T" and isinstance(size, int) and start == size - 1:
            start = -1
        if turned and signal.axes[axis] == "T":
            # The last step that a backward LSTM reads is the first in time.
            if start != -1 or stop not in (None, _END):
                graph.refuse(own.where, signal, "in the reverse order of time, a part of")
            start, stop, turned = 0, None if stop is None else 1, False
        signal = part(graph, own.where, signal, axis, start, stop)
    return _Reversed(signal) if turned else signal


def _renamed(name: str) -> Callable[..., Any]:
    def operator(graph: _Graph, own: _Operator, *inputs: Any) -> Any:
        return graph.make(own, name, *inputs)

    return operator


def _of_two(name: str) -> Callable[..., Any]:
    def operator(graph: _Graph, own: _Operator, *inputs: Any) -> Any:
        return graph.activated(own, graph.make(own, name, *inputs))

    return operator


def _over_axes(name: str) -> Callable[..., Any]:
    def operator(graph: _Graph, own: _Operator, value: Any, axes: Any) -> Any:
        axes = graph.integers(own.where, axes)
        return graph.make(own, name, value, axes=axes, keepdims=own.integer(0, "?"))

    return operator


def _softmax(graph: _Graph, own: _Operator, value: Any) -> Any:
    if own.number(0) != 1:
        raise FormatError(f"{own.where}: beta is {own.number(0)}; expected 1")
    return graph.make(own, "Softmax", value, axis=-1)


def _reshape(graph: _Graph, own: _Operator, value: Any, shape: Any = None) -> Any:
    if shape is None:
        shape = Sizes(tuple(own.options.integers(0, MAX_RANK) if own.options is not None else ()))
    return graph.make(own, "Reshape", value, shape, allowzero=1)


def _squeeze(graph: _Graph, own: _Operator, value: Any) -> Any:
    return graph.make(own, "Squeeze", value, axes=own.options.integers(0, MAX_RANK) if own.options else [])


def _concatenation(graph: _Graph, own: _Operator, *values: Any) -> Any:
    return graph.activated(own, graph.make(own, "Concat", *values, axis=own.integer(0, "i")), 1)


def _transpose(graph: _Graph, own: _Operator, value: Any, order: Any) -> Any:
    return graph.make(own, "Transpose", value, perm=graph.integers(own.where, order))


def _pack(graph: _Graph, own: _Operator, *values: Any) -> Any:
    if not all(isinstance(value, Sizes) and value.scalar for value in values) or len(values) > MAX_RANK:
        graph.refuse(own.where, values[0], "packing")
    return Sizes(tuple(value.values[0] for value in values))


def _dequantize(graph: _Graph, own: _Operator, value: Any) -> Any:
    if not isinstance(value, Constant):
        graph.refuse(own.where, value, "dequantizing")
    return value  # float16, already read as float32: all others are refused


def _batch_matmul(graph: _Graph, own: _Operator, value: Any, weight: Any) -> Any:
    if own.integer(0, "?") or own.integer(1, "?"):
        raise FormatError(f"{own.where}: a transposed factor cannot be taken over")
    return graph.make(own, "MatMul", value, weight)


_OPERATORS: dict[str, Callable[..., Any]] = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _Graph._lstm,
    "ADD": _of_two("Add"), "SUB": _of_two("Sub"), "MUL": _of_two("Mul"), "DIV": _of_two("Div"),
    "NEG": _renamed("Neg"), "LOGISTIC": _renamed("Sigmoid"), "SHAPE": _renamed("Shape"),
    "LOG_SOFTMAX": _renamed("LogSoftmax"), "EXPAND_DIMS": _renamed("Unsqueeze"),
    "MEAN": _over_axes("ReduceMean"), "REDUCE_MAX": _over_axes("ReduceMax"),
    "FULLY_CONNECTED": _fully_connected, "REVERSE_V2": _reverse, "STRIDED_SLICE": _strided_slice,
    "SOFTMAX": _softmax, "RESHAPE": _reshape, "SQUEEZE": _squeeze, "CONCATENATION": _concatenation,
    "TRANSPOSE": _transpose, "PACK": _pack, "DEQUANTIZE": _dequantize, "BATCH_MATMUL": _batch_matmul,
}
_INPUTS = {
    **dict.fromkeys((
        "ADD", "SUB", "MUL", "DIV", "MEAN", "REDUCE_MAX", "REVERSE_V2", "EXPAND_DIMS", "TRANSPOSE",
        "BATCH_MATMUL",
    ), (2, 2)),
    "FULLY_CONNECTED": (2, 3), "STRIDED_SLICE": (4, 4), "RESHAPE": (1, 2), "CONCATENATION": (1, 64),
    "PACK": (1, MAX_RANK),
}
