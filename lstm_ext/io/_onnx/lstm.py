"""The LSTM operator: its weights, what it reads, its lengths and initial states."""

from dataclasses import replace

import numpy as np

from lstm_ext.io import _onnx_lstm
from lstm_ext.io._common import FormatError, as_weights, shorten
from lstm_ext.io._onnx.graph import operator
from lstm_ext.io._onnx.values import DOUBLE, FLOAT, Constant, Filled, Layer, Signal, Sizes


@operator("LSTM", **_onnx_lstm.ATTRIBUTES)
def _lstm(
    graph, where, X, W, R, B=None, sequence_lens=None, initial_h=None, initial_c=None, P=None, **attributes
):
    arrays = {}
    for name, value in zip("WRBP", (W, R, B, P), strict=True):
        if isinstance(value, Signal):
            raise FormatError(f"{where}: its {name} is made by the graph; expected numbers in the file")
        if value is None and name in "WR":
            raise FormatError(f"{where} has no {name}")
        if value is not None:
            if not isinstance(value, Constant):
                graph.refuse(where, value, f"as its {name}")
            arrays[name] = value.array
    options, layout = _onnx_lstm.options(where, attributes, arrays["R"].shape)
    y, h, c = add_layer(graph, where, X, options, arrays, layout, sequence_lens, (initial_h, initial_c))
    if layout:
        y, h, c = y.pick((2, 0, 1, 3)), h.pick((1, 0, 2)), c.pick((1, 0, 2))
    return y, h, c


def add_layer(graph, where, X, options, arrays, layout, lengths=None, states=(None, None)):
    """Add a layer that reads X to the graph's, after checks; return y (T, D, N, F), and h, c (D, N, F)."""
    graph.held += sum(array.nbytes for array in arrays.values())
    if graph.held > 2 * graph.budget + 2**20:
        raise FormatError(f"{where}: the LSTMs share weights: they would take more memory than the file")
    arrays = _onnx_lstm.check_arrays(where, options, arrays)
    k = len(graph.layers)
    layer = Layer(where, options, arrays, None)
    T, N = _fed(graph, where, X, layout, arrays, k)
    _take_lengths(graph, where, lengths, T, k)
    D, H = layer.directions, options["hidden_size"]
    layer.initial = _take_states(graph, where, states, layout, D, H, k)
    if k:
        first = graph.layers[0].options
        differing = [name for name in options if name != "hidden_size" and options[name] != first[name]]
        if differing:
            raise FormatError(f"{where}: it differs from the first LSTM in {', '.join(differing)}")
    graph.layers.append(layer)
    rows = tuple((k, d) for d in range(D))
    y = Signal("y", ("T", "D", "N", "F"), (T, D, N, H), rows)
    h = Signal("h", ("D", "N", "F"), (D, N, H), rows)
    return y, h, replace(h, what="c")


def _fed(graph, where, X, layout, arrays, k):
    """Check what an LSTM reads: the graph's input, or all of y of the LSTM before. Sizes of T, N."""
    if k == 0:
        time, batch = (1, 0) if layout else (0, 1)
        if not (isinstance(X, Signal) and X.what == "input" and len(X.axes) == 3 and X.rows is None):
            graph.refuse(where, X, "reading")
        if X.axes[2] != 2 or {X.axes[0], X.axes[1]} != {0, 1}:
            graph.refuse(where, X, "reading")
        kind = {"float32": FLOAT, "float64": DOUBLE}[arrays["W"].dtype.name]
        if graph.kinds[X.name] != kind:
            raise FormatError(f"{where}: input {shorten(X.name)} is not of the dtype of W")
        if X.sizes[2] not in (arrays["W"].shape[2], f"{X.name}.2"):
            raise FormatError(f"{where}: input {shorten(X.name)} has {X.sizes[2]} features, W has "
                              f"{arrays['W'].shape[2]}")
        graph.batch_first = X.axes[batch] == 0
        return X.sizes[time], X.sizes[batch]
    before = graph.layers[k - 1]
    D = before.directions
    wanted = ("N", "T") if layout else ("T", "N")
    if not (isinstance(X, Signal) and X.what == "y" and X.rows == tuple((k - 1, d) for d in range(D))
            and X.axes == (*wanted, "DF" if D == 2 else "F")):
        graph.refuse(where, X, "after another LSTM, reading")
    if arrays["W"].shape[2] != D * before.options["hidden_size"]:
        raise FormatError(f"{where}: W has {arrays['W'].shape[2]} columns, the LSTM before "
                          f"{D * before.options['hidden_size']} features")
    if arrays["W"].dtype != before.arrays["W"].dtype:
        raise FormatError(f"{where}: its weights are of another dtype than those of the LSTM before")
    sizes = dict(zip(X.axes, X.sizes, strict=True))
    return sizes["T"], sizes["N"]


def _take_lengths(graph, where, given, T, k):
    """Note which input has the lengths; those that stand in the file must be all steps."""
    if isinstance(given, (Constant, Sizes)):
        values = given.array if isinstance(given, Constant) else np.array(given.values, object)
        if not (isinstance(T, int) and values.dtype.kind in "iO" and (values == T).all()):
            raise FormatError(f"{where}: its sequence_lens stand in the file; expected an input")
        given = None
    if isinstance(given, Signal) and given.what == "all steps" and given.rows == (T,):
        given = None
    if given is not None and not (isinstance(given, Signal) and given.axes == (0,)):
        graph.refuse(where, given, "lengths from")
    name = None if given is None else given.name
    if k and name != graph.lengths:
        raise FormatError(f"{where}: it has other sequence_lens than the LSTM before")
    graph.lengths = name


def _take_states(graph, where, given, layout, D, H, k):
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
                graph.refuse(where, value, f"{name} from")
            own = (value.name, value.rows)
        elif value is not None:
            graph.refuse(where, value, f"{name} from")
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
    graph.states.append(inputs)
    if all(row is None or not row.any() for row in rows):
        return None
    return tuple(np.zeros((D, H)) if row is None else row for row in rows)
