"""What an ONNX graph says, read as an LSTM or a `Model`, or refused.

No node is computed. Each value of the graph is followed as one of four things: numbers that stand in the
file, sizes, a fill of one row or of zeros, and a `Signal`: something of the LSTM (its input, y, h, c, the
readout) with a meaning for each of its axes. A node that would make anything else of a signal is refused by
name. So what comes out is the function of the graph, or nothing does.
"""

import os

import numpy as np

from lstm_ext._files import read_file
from lstm_ext.io import _onnx_lstm
from lstm_ext.io._common import MAX_BYTES, FormatError, reading, require, shorten
from lstm_ext.io._onnx import lstm as _lstm_operator  # noqa: F401  it goes into the table
from lstm_ext.io._onnx import readout as _readout  # noqa: F401
from lstm_ext.io._onnx.file import parse
from lstm_ext.io._onnx.graph import Graph
from lstm_ext.io._onnx.moves import side_by_side, state_of
from lstm_ext.io._onnx.values import Signal
from lstm_ext.io._widths import check_widths, listed, padded
from lstm_ext.model import Model

LOSSES = {None: "mse", "sigmoid": "binary_cross_entropy", "softmax": "cross_entropy",
          "log_softmax": "cross_entropy"}

NO_LSTM = (
    "the graph has no LSTM operator: an exporter may have written its steps one by one, or as a loop (Keras "
    "does so with PyTorch as its backend); expected an LSTM operator: export with another backend, or give "
    "the network's weights to from_keras or from_torch"
)


def read(source):
    """Return the LSTM or `Model` of an ONNX model: a path, bytes or a ModelProto."""
    onnx = require("onnx", "onnx")
    if isinstance(source, (str, os.PathLike)):
        with reading(source):
            folder = os.path.dirname(os.path.abspath(os.fsdecode(os.fspath(source))))
            return _of_proto(parse(read_file(source, MAX_BYTES)), folder)
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = parse(bytes(source))
    if not isinstance(source, onnx.ModelProto):
        raise TypeError(f"source is {type(source).__name__}; expected a path, bytes or an onnx.ModelProto")
    return _of_proto(source)


def _of_proto(proto, folder=None):
    """Return the LSTM or `Model` of a ModelProto, whose data files lie in `folder`."""
    try:
        operators = {node.op_type for node in proto.graph.node}
        if operators and not {"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM", "If"} & operators:
            raise FormatError(NO_LSTM)
        return result_of(Graph(proto, folder))
    except UnicodeDecodeError as error:  # when a name is first looked at
        raise FormatError(f"a name in the file is not text: {error}") from None


def result_of(graph):
    """Return the LSTM or the model that a graph is."""
    if not graph.layers:
        raise FormatError(NO_LSTM)
    outputs = [(f"output {shorten(name)}", name, value) for name, value in graph.outputs]
    outputs = [(where, name, state_of(graph, where, value)) for where, name, value in outputs]
    for where, _, value in outputs:
        if not (isinstance(value, Signal) and value.what in ("y", "h", "c", "prediction")):
            graph.refuse(where, value, "returning")
    heads = any(value.what == "prediction" for _, _, value in outputs)
    _check_states(graph)
    widths = [layer.options["hidden_size"] for layer in graph.layers]
    lstm = _lstm(graph, widths, heads)
    if not heads:
        last = len(graph.layers) - 1
        every = tuple((last, d) for d in range(graph.layers[last].directions))
        for where, _, value in outputs:
            if value.what == "y" and value.rows != every:
                graph.refuse(where, value, "from below the last layer, returning")
            own = {widths[k] for k, _ in value.rows}
            if own != {max(widths)}:
                raise FormatError(
                    f"{where}: it is of LSTMs of the hidden sizes {listed(widths)}; an LSTM here has one: "
                    "expected a graph with a readout, or the LSTMs one by one"
                )
        return lstm
    if any(value.what != "prediction" for _, _, value in outputs):
        raise FormatError(
            "the graph returns more than its readout, "
            f"{shorten(', '.join(name for _, name, _ in outputs))}, which a Model does not"
        )
    where, _, value = outputs[0]
    if len(outputs) > 1:
        value = side_by_side(graph, "the graph", [value for _, _, value in outputs])
    return _model(graph, lstm, where, value, widths)


def _lstm(graph, widths, heads):
    """Return the LSTM that the graph's LSTM nodes are."""
    initial = None
    if any(layer.initial for layer in graph.layers):
        initial = [
            layer.initial or (np.zeros((layer.directions, width)),) * 2
            for layer, width in zip(graph.layers, widths, strict=True)
        ]
    options, arrays = graph.layers[0].options, [layer.arrays for layer in graph.layers]
    check_widths(widths, options["activations"], arrays[0]["W"].shape[2], graph.layers[0].directions)
    if len(set(widths)) > 1 and any(own for inputs in graph.states for own in inputs):
        raise FormatError(
            f"the LSTMs have the hidden sizes {listed(widths)}, and initial states from inputs; expected one "
            "hidden size, or initial states of 0"
        )
    return _onnx_lstm.make_lstm(options, arrays, batch_first=heads or graph.batch_first, initial=initial)


def _model(graph, lstm, where, value, widths):
    """Return the model with the readout that the graph's one output is."""
    head = value.head
    labels = tuple(axis for axis in value.axes if axis != "O")
    if graph.lengths is not None and head.what == "y" and not head.masked:
        raise FormatError(
            "beyond a sequence's length the graph returns the bias of its readout, a Model 0; expected "
            "Where(Range(time) < lengths, prediction, 0), as to_onnx writes it"
        )
    if labels != (("N", "T") if head.what == "y" else ("N",)):
        graph.refuse(where, value, "returning")
    if not graph.batch_first:
        raise FormatError(
            "the graph takes (time, batch, features), and a Model (batch, time, features); expected one "
            "whose input has the batch first: export the network with batch_first=True, or the LSTM alone"
        )
    if head.weight.dtype != lstm.dtype:
        raise FormatError(f"the readout's weights are {head.weight.dtype}, the LSTM's {lstm.dtype}")
    model = Model(
        lstm, len(head.weight), every_step=head.what == "y", rng=0, loss=LOSSES[head.function],
        pooling=head.what if head.what in ("mean", "max", "attention") else "last",
    )
    numbers = [head.weight, np.zeros(1) if head.bias is None else head.bias]
    if not all(np.isfinite(array).all() for array in numbers):
        raise FormatError("the readouts together have weights that are not finite")
    if head.vector is not None:
        model.attention = padded(head.vector, widths[-1], max(widths))
    model.weight = padded(head.weight, widths[-1], max(widths), axis=1)
    model.bias = 0 * model.bias if head.bias is None else head.bias
    return model


def _check_states(graph):
    """Check that initial states from inputs are those of an LSTM's call: each layer has its own."""
    given = [own for inputs in graph.states for own in inputs if own is not None]
    if given and any(layer.initial for layer in graph.layers):
        raise FormatError("some initial states are inputs of the graph, others stand in the file")
    h, c = ({inputs[k][0] for inputs in graph.states if inputs[k]} for k in (0, 1))
    if len(set(given)) != len(given) or h & c:
        raise FormatError("two initial states are the same input of the graph")
