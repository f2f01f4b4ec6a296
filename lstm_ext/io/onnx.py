"""ONNX: models for ONNX Runtime and others, LSTMs from PyTorch's and other exporters.

`to_onnx` writes whole models, `from_onnx` reads them; ``lstm_ext.io.onnx.Backend`` runs any ONNX model with
this package's LSTM in it, behind the interface of `onnx.backend.base.Backend`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from lstm_ext import __version__
from lstm_ext._files import replace_file
from lstm_ext._fitted import chain_of
from lstm_ext._options import as_flag
from lstm_ext.io import _onnx, _onnx_lstm
from lstm_ext.io._common import GATES, MAX_BYTES, ONNX_GATES, reorder_gates, require
from lstm_ext.losses import CrossEntropy
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

if TYPE_CHECKING:
    import os

    import onnx

    from lstm_ext.io._onnx_backend import Backend

    _Path: TypeAlias = str | os.PathLike[str]

__all__ = ["Backend", "from_onnx", "to_onnx"]

# Old enough for run times of 2022, and all that is needed here; newer ones read it.
OPSET, IR_VERSION = 17, 8


def __getattr__(name: str) -> Any:
    if name == "Backend":  # a subclass of one of onnx's
        from lstm_ext.io._onnx_backend import Backend

        return Backend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def from_onnx(source: _Path | bytes | bytearray | memoryview | onnx.ModelProto) -> LSTM | Model:
    """Make an LSTM or a `Model` of an ONNX model.

    LSTM operators (versions 7, 14 and 22) with every attribute that they have, stacked or single, and a dense
    readout (MatMul and Add, or Gemm) of all steps or of the last state, with or without a softmax, as
    `to_onnx`, PyTorch's exporter and others write them. Nothing is approximated: whatever the graph does
    besides is refused by an error that names the node. What is carried over is in ``docs/io_onnx.md``.

    Parameters
    ----------
    source : path, bytes or onnx.ModelProto
        One file: weights in other files are not read.

    Returns
    -------
    LSTM or Model
        An LSTM where the graph's outputs are y, h and c of LSTMs; its ``batch_first`` is that of the graph's
        input, and it returns y and states as every LSTM of this package does, whatever the graph joins or
        transposes. A Model where the output is a readout; it takes (N, T, I) and returns (N, T, O) or (N, O).
        After a softmax its loss is cross entropy, and `Model.predict` gives what goes into the softmax.
        ``sequence_lens`` and initial states that are inputs of the graph are arguments of the call; initial
        states that stand in the file are learned ones (``learn_state=True``).

    Raises
    ------
    FormatError
        If it is not an ONNX model, a damaged one, or not exactly an LSTM. It is a ValueError.
    OSError
        If the file cannot be read.
    ModuleNotFoundError
        Without the library onnx.
    """
    return _onnx.read(source)


def to_onnx(
    model: LSTM | Model | Any, path: _Path | None = None, *, lengths: bool = False,
    initial_states: bool = False, activation: Literal["softmax"] | None = None, stream: bool = False,
) -> onnx.ModelProto:
    r"""Write a whole model as ONNX: batch and time are free.

    ``x`` comes in as the LSTM's ``batch_first`` says, "batch" and "time" are symbols. An LSTM gives ``y``
    (N, T, D*P) or (T, N, D*P), ``h_n`` and ``c_n`` (L*D, N, P or H); a Model gives ``prediction``, (N, O) or
    (N, T, O). What is only of training, dropout and checkpoints, is left out. Options that ONNX has no name
    for are made of other nodes or refused: see ``docs/io_onnx.md``. A projection becomes part of the
    recurrent weights, :math:`U (R m) = (U R) m`, exact but for rounding.

    Parameters
    ----------
    model : LSTM, Model, LSTMRegressor, LSTMClassifier, pipeline or search
        Of a fitted estimator x and ``prediction`` are float64, scaled in the graph: what `predict` takes and
        gives, or a classifier's `predict_proba`. The other steps of a pipeline are scalers, as for
        `lstm_ext.io.stream`.
    path : path, optional
        Where to write it, whole or not at all.
    lengths : bool, default False
        An input ``lengths``, int32 (N,): the operator's sequence_lens.
    initial_states : bool, default False
        Inputs ``h_0`` and ``c_0``, (L*D, N, H). Otherwise zeros, or the states that were learned.
    activation : {None, "softmax"}
        "softmax": probabilities in place of what `Model.predict` gives, where the loss is cross entropy.
    stream : bool, default False
        For data that come step by step, or chunk by chunk: inputs ``h_0`` and ``c_0``, and outputs ``h_n``
        and ``c_n`` beside the prediction, to be the next call's. Chunks of any length give the numbers of the
        whole sequence. Not with two directions or ``reverse``, which begin at the end.

    Returns
    -------
    onnx.ModelProto
        Operators of version 17, checked by ``onnx.checker`` in full. float64 models are valid ONNX; ONNX
        Runtime computes LSTMs only in float32.

    Raises
    ------
    TypeError, ValueError
        If the model has options that ONNX cannot say; nothing is written.
    """
    onnx = require("onnx", "onnx")
    chain = None
    if not isinstance(model, (LSTM, Model)):
        if not hasattr(model, "get_params"):
            raise TypeError(
                f"model is {type(model).__name__}; expected an LSTM, a Model or a fitted estimator"
            )
        chain = chain_of(model, "an ONNX graph", merging=True)
        model = chain.model
    lstm = model if isinstance(model, LSTM) else model.lstm
    lengths, initial_states = as_flag("lengths", lengths), as_flag("initial_states", initial_states)
    if activation not in (None, "softmax"):
        raise ValueError(f"activation is {activation!r}; expected None or 'softmax'")
    if as_flag("stream", stream):
        if lstm.bidirectional or lstm.reverse or lengths:
            hinders = "lengths" if lengths else "bidirectional" if lstm.bidirectional else "reverse"
            raise ValueError(
                f"stream is True and {hinders} too; expected one of them: a stream has no end to begin at"
            )
        initial_states = True
    elif chain is not None and initial_states:
        raise ValueError("initial_states is True; expected False for an estimator, whose predict has none")
    if activation == "softmax" and not (isinstance(model, Model) and isinstance(model.loss, CrossEntropy)):
        raise ValueError("activation is 'softmax', and there is no readout whose loss is cross entropy")
    _refuse(lstm, initial_states)

    graph = _Graph(lstm.dtype)
    layers = _lstm_nodes(graph, lstm, lengths, initial_states, chain)
    if lstm is model:
        _lstm_outputs(graph, lstm, layers)
    else:
        _readout(graph, model, layers, lengths, activation, chain)
        if stream:
            _state_outputs(graph, lstm, layers)
    proto = graph.model()
    try:
        onnx.checker.check_model(proto, full_check=True)
    except ValueError as error:  # protobuf's own limit
        raise ValueError(f"the model is larger than an ONNX file can be: {error}") from None
    if path is not None:
        with replace_file(path) as temporary, open(temporary, "wb") as file:
            file.write(proto.SerializeToString())
    return proto


def _refuse(lstm, initial_states):
    """Raise ValueError for what ONNX cannot say."""
    for name, wanted in (
        ("layer_norm", lstm.layer_norm),
        ("cell_clip", lstm.cell_clip is not None),
        ("zoneout", any(lstm.zoneout)),
        ("nan='hold'", lstm.nan == "hold"),
    ):
        if wanted:
            raise ValueError(f"an LSTM with {name} cannot be written: ONNX's LSTM has no name for it")
    if lstm.proj_size and (initial_states or lstm.learn_state):
        raise ValueError(
            "an LSTM with proj_size cannot be written with initial states: in ONNX the state is what comes "
            "before the projection, and no projected state says what that was"
        )
    if 2 * lstm.parameters.nbytes > MAX_BYTES:
        raise ValueError(f"the LSTM has {lstm.parameters.nbytes} bytes of parameters, too many for ONNX")


class _Graph:
    """Nodes and numbers as they are added, each under a name of its own."""

    def __init__(self, dtype):
        import onnx

        self.helper, self.dtype = onnx.helper, dtype
        self.real = self.helper.np_dtype_to_tensor_dtype(dtype)
        self.nodes, self.tensors, self.inputs, self.outputs = [], {}, [], []

    def input(self, name, shape, kind=None):
        self.inputs.append(self.helper.make_tensor_value_info(name, kind or self.real, shape))
        return name

    def output(self, value, name, shape, kind=None):
        self.add("Identity", [value], name)
        self.outputs.append(self.helper.make_tensor_value_info(name, kind or self.real, shape))

    def doubles(self, name, array):
        """Numbers in float64."""
        return self._tensor(name, np.ascontiguousarray(array, np.float64))

    def numbers(self, name, array):
        """Numbers of the model's dtype."""
        return self._tensor(name, np.ascontiguousarray(array, self.dtype))

    def integers(self, *values):
        """Return the name of a vector of integers, one for equal ones."""
        return self._tensor("_".join(["integers", *map(str, values)]), np.array(values, np.int64))

    def integer(self, value):
        return self._tensor(f"integer_{value}", np.array(value, np.int64))

    def _tensor(self, name, array):
        from onnx import numpy_helper

        self.tensors.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def add(self, operator, inputs, output, **attributes):
        """Add a node with one output, and return its name."""
        return self.add_many(operator, inputs, [output], **attributes)[0]

    def add_many(self, operator, inputs, outputs, **attributes):
        name = f"node_{outputs[0]}"
        self.nodes.append(self.helper.make_node(operator, inputs, outputs, name, **attributes))
        return outputs

    def model(self):
        graph = self.helper.make_graph(
            self.nodes, "lstm_ext", self.inputs, self.outputs, list(self.tensors.values())
        )
        return self.helper.make_model(
            graph, opset_imports=[self.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
            producer_name="lstm_ext", producer_version=__version__,
        )


def _lstm_nodes(graph, lstm, lengths, initial_states, chain=None):
    """Add the stack; returns of each layer the names of (Y (T, D, N, P), Y_h (D, N, P), Y_c (D, N, H))."""
    from onnx import TensorProto

    D, P, H = lstm._passes.directions, lstm.proj_size or lstm.hidden_size, lstm.hidden_size
    free = ["batch", "time"] if lstm.batch_first else ["time", "batch"]
    if chain is None:
        x = graph.input("x", [*free, lstm.input_size])
    else:
        x = graph.input("x", [*free, len(chain.x_mean)], TensorProto.DOUBLE)
        x = _scaled(graph, x, chain.x_mean, chain.x_scale)
    lens = graph.input("lengths", ["batch"], TensorProto.INT32) if lengths else ""
    if chain is not None and chain.merge > 1:
        x, lens = _merged(graph, x, lens, chain)
    states = [
        graph.input(name, [lstm.num_layers * D, "batch", H]) for name in ("h_0", "c_0") if initial_states
    ]
    if lstm.nan == "zero":
        x = _missing(graph, lstm, x)
    if lstm.batch_first:
        x = graph.add("Transpose", [x], "x_by_time", perm=[1, 0, 2])
    if lstm.static_size:
        static = graph.input("static", ["batch", lstm.static_size], chain and TensorProto.DOUBLE)
        if chain is not None:
            static = _scaled(graph, static, chain.static_mean, chain.static_scale)
        rows = graph.add("Unsqueeze", [static, graph.integers(0)], "static_row")
        sizes = graph.add("Shape", [x], "time_batch", start=0, end=2)
        sizes = graph.add("Concat", [sizes, graph.integers(lstm.static_size)], "static_shape", axis=0)
        rows = graph.add("Expand", [rows, sizes], "static_steps")
        x = graph.add("Concat", [x, rows], "x_static", axis=2)

    layers, options = [], _onnx_lstm.attribute_words(lstm)
    for layer in range(lstm.num_layers):
        inputs = [x, *_weights(graph, lstm, layer), lens]
        if initial_states:
            bounds = [graph.integers(layer * D), graph.integers((layer + 1) * D), graph.integers(0)]
            inputs += [graph.add("Slice", [name, *bounds], f"{name}_l{layer}") for name in states]
        elif lstm.learn_state:
            inputs += _learned(graph, lstm, layer, x)
        else:
            inputs += ["", ""]
        if lstm.peepholes:
            peephole = _stacked(lstm, "peephole", layer, lambda p: reorder_gates(p, "ifo", "iof"))
            inputs.append(graph.numbers(f"P_l{layer}", peephole))
        while not inputs[-1]:
            inputs.pop()
        names = [f"{name}_l{layer}" for name in ("Y", "Y_h", "Y_c")]
        y, h, c = graph.add_many("LSTM", inputs, names, **options)
        if lstm.proj_size:
            matrix = graph.numbers(f"projection_l{layer}", _stacked(lstm, "weight_hr", layer, np.transpose))
            # (T, D, N, H) times (D, H, P): a matrix for each direction
            y, h = (graph.add("MatMul", [name, matrix], f"{name}_projected") for name in (y, h))
        layers.append((y, h, c))
        if layer + 1 < lstm.num_layers:
            x = graph.add("Transpose", [y], f"y_l{layer}_by_direction", perm=[0, 2, 1, 3])
            x = graph.add("Reshape", [x, graph.integers(0, 0, D * P)], f"y_l{layer}")
    return layers


def _scaled(graph, name, mean, scale):
    """Standardize an input in float64, and go on in the model's dtype."""
    value = graph.add("Sub", [name, graph.doubles(f"{name}_mean", mean)], f"{name}_centred")
    value = graph.add("Div", [value, graph.doubles(f"{name}_scale", scale)], f"{name}_scaled")
    return graph.add("Cast", [value], f"{name}_network", to=graph.real)


def _merged(graph, x, lengths, chain):
    """Read each `chain.merge` steps of x (N, T, F) as one; 0 beyond the end. Returns x and lengths."""
    from onnx import TensorProto

    m, F = chain.merge, len(chain.x_mean)
    if lengths:
        counted = graph.add("Unsqueeze", [_counted(graph, "x", lengths), graph.integers(2)], "there")
        x = graph.add("Where", [counted, x, graph.numbers("nothing", 0.0)], "x_there")
        wide = graph.add("Cast", [lengths], "lengths_wide", to=TensorProto.INT64)
        wide = graph.add("Add", [wide, graph.integer(m - 1)], "lengths_up")
        wide = graph.add("Div", [wide, graph.integer(m)], "lengths_of_merged")
        lengths = graph.add("Cast", [wide], "lengths_merged", to=TensorProto.INT32)
    steps = graph.add("Shape", [x], "steps_of_x", start=1, end=2)
    rest = graph.add("Mod", [graph.add("Neg", [steps], "minus_steps"), graph.integers(m)], "steps_that_lack")
    pads = graph.add("Concat", [graph.integers(0, 0, 0, 0), rest, graph.integers(0)], "pads", axis=0)
    x = graph.add("Pad", [x, pads, graph.numbers("nothing", 0.0)], "x_padded")
    return graph.add("Reshape", [x, graph.integers(0, -1, m * F)], "x_merged"), lengths


def _counted(graph, x, lengths):
    """Return which of the steps of x (N, T, F) are before the lengths, bool (N, T)."""
    from onnx import TensorProto

    name = f"{x}_counted_by_{lengths}"
    time = graph.add("Shape", [x], f"{name}_time_vector", start=1, end=2)
    time = graph.add("Squeeze", [time, graph.integers(0)], f"{name}_time")
    steps = graph.add("Range", [graph.integer(0), time, graph.integer(1)], f"{name}_steps")
    last = graph.add("Cast", [lengths], f"{name}_wide", to=TensorProto.INT64)
    last = graph.add("Unsqueeze", [last, graph.integers(1)], f"{name}_column")
    return graph.add("Less", [steps, last], name)


def _pooled(graph, model, y, lengths):
    """Return the features (N, D P) that are pooled of Y (T, D, N, P), over the steps that count."""
    width, kind = model.lstm.output_size, model.pooling
    y = _batch_first(graph, y, width)
    counted = None
    if lengths:
        counted = graph.add("Unsqueeze", [_counted(graph, y, lengths), graph.integers(2)], "pool_counted")
    if kind == "max":
        if counted:
            y = graph.add("Where", [counted, y, graph.numbers("lowest", -np.inf)], "y_or_lowest")
        features = graph.add("ReduceMax", [y], "pooled", axes=[1], keepdims=0)
    elif kind == "mean" and not counted:
        features = graph.add("ReduceMean", [y], "pooled", axes=[1], keepdims=0)
    elif kind == "mean":
        y = graph.add("Where", [counted, y, graph.numbers("nothing", 0.0)], "y_or_0")
        total = graph.add("ReduceSum", [y, graph.integers(1)], "pool_sum", keepdims=0)
        number = graph.add("Cast", [lengths], "pool_number", to=graph.real)
        number = graph.add("Unsqueeze", [number, graph.integers(1)], "pool_number_column")
        features = graph.add("Div", [total, number], "pooled")
    else:
        score = graph.add("MatMul", [y, graph.numbers("attention", model.attention[:, None])], "score")
        if counted:
            score = graph.add("Where", [counted, score, graph.numbers("lowest", -np.inf)], "score_counted")
        weight = graph.add("Softmax", [score], "step_weights", axis=1)
        features = graph.add("Mul", [weight, y], "y_weighted")
        features = graph.add("ReduceSum", [features, graph.integers(1)], "pooled", keepdims=0)
    if counted:  # of a sequence without a step, 0
        some = graph.add("Greater", [lengths, graph.add("Sub", [lengths, lengths], "no_steps")], "some_steps")
        some = graph.add("Unsqueeze", [some, graph.integers(1)], "some_steps_column")
        features = graph.add("Where", [some, features, graph.numbers("nothing", 0.0)], "pooled_or_0")
    return features


def _stacked(lstm, name, layer, made):
    """Of each direction of a layer the parameter `name`, as `made` makes it."""
    suffixes = ("", "_reverse")[: lstm._passes.directions]
    return np.stack([made(lstm[f"{name}_l{layer}{suffix}"]) for suffix in suffixes])


def _weights(graph, lstm, layer):
    """Names of W, R and B of one layer; B "" where there is no bias."""
    def to_onnx_order(array):
        return reorder_gates(array, GATES, ONNX_GATES)

    H = lstm.hidden_size
    W, R = (_stacked(lstm, name, layer, np.copy) for name in ("weight_ih", "weight_hh"))
    if layer == 0 and lstm.static_size:
        static = _stacked(lstm, "weight_static", layer, np.copy)
        if lstm.entity_aware:  # only static inputs make the input gate, and no other
            W[:, :H], R[:, :H] = 0, 0
            static = np.concatenate([static, np.zeros((len(static), 3 * H, static.shape[2]))], axis=1)
        W = np.concatenate([W, static], axis=2)
    if lstm.proj_size:
        R = np.matmul(R.astype(np.float64), _stacked(lstm, "weight_hr", layer, np.copy))
    names = [
        graph.numbers(f"{name}_l{layer}", np.stack([to_onnx_order(a) for a in array]))
        for name, array in (("W", W), ("R", R))
    ]
    if not lstm.bias:
        return [*names, ""]
    bias = _stacked(lstm, "bias", layer, to_onnx_order)
    return [*names, graph.numbers(f"B_l{layer}", np.concatenate([bias, np.zeros_like(bias)], axis=1))]


def _learned(graph, lstm, layer, x):
    """Names of learned initial states, (D, N, H), one row for each sequence of x (T, N, I)."""
    D, H = lstm._passes.directions, lstm.hidden_size
    batch = graph.add("Shape", [x], f"batch_l{layer}", start=1, end=2)
    shape = graph.add("Concat", [graph.integers(D), batch, graph.integers(H)], f"state_l{layer}", axis=0)
    names = []
    for name in ("h_0", "c_0"):
        row = graph.numbers(f"{name}_row_l{layer}", _stacked(lstm, name, layer, lambda a: a[None]))
        names.append(graph.add("Expand", [row, shape], f"{name}_l{layer}"))
    return names


def _missing(graph, lstm, x):
    """nan="zero": 0 where x is NaN, and, with nan_mask, 1 there as further features."""
    missing = graph.add("IsNaN", [x], "missing")
    x = graph.add("Where", [missing, graph.numbers("zero", 0.0), x], "x_filled")
    if lstm.nan_mask:
        mask = graph.add("Cast", [missing], "missing_as_number", to=graph.real)
        x = graph.add("Concat", [x, mask], "x_masked", axis=2)
    return x


def _batch_first(graph, y, width):
    """Y (T, D, N, P) as (N, T, D*P)."""
    y = graph.add("Transpose", [y], "y_by_batch", perm=[2, 0, 1, 3])
    return graph.add("Reshape", [y, graph.integers(0, 0, width)], "y_joined")


def _lstm_outputs(graph, lstm, layers):
    D, P = lstm._passes.directions, lstm.proj_size or lstm.hidden_size
    y = layers[-1][0]
    if lstm.batch_first:
        y, free = _batch_first(graph, y, D * P), ["batch", "time"]
    else:
        y, free = graph.add("Transpose", [y], "y_by_time", perm=[0, 2, 1, 3]), ["time", "batch"]
        y = graph.add("Reshape", [y, graph.integers(0, 0, D * P)], "y_joined")
    graph.output(y, "y", [*free, D * P])
    _state_outputs(graph, lstm, layers)


def _state_outputs(graph, lstm, layers):
    """Add the outputs h_n and c_n of all layers."""
    D, P, H = lstm._passes.directions, lstm.proj_size or lstm.hidden_size, lstm.hidden_size
    for k, name, size in ((1, "h_n", P), (2, "c_n", H)):
        parts = [layer[k] for layer in layers]
        joined = graph.add("Concat", parts, f"{name}_joined", axis=0) if len(parts) > 1 else parts[0]
        graph.output(joined, name, [lstm.num_layers * D, "batch", size])


def _readout(graph, model, layers, lengths, activation, chain=None):
    from onnx import TensorProto

    width = model.lstm.output_size
    y, h, _ = layers[-1]
    if model.every_step:
        features, free = _batch_first(graph, y, width), ["batch", "time"]
    elif model.pooling != "last":
        lens = "lengths" if lengths else ""
        if lens and chain is not None and chain.merge > 1:
            lens = "lengths_merged"
        features, free = _pooled(graph, model, y, lens), ["batch"]
    else:
        features, free = graph.add("Transpose", [h], "h_by_batch", perm=[1, 0, 2]), ["batch"]
        features = graph.add("Reshape", [features, graph.integers(0, width)], "h_joined")
    numbers = graph.numbers
    if chain is not None:  # the readout is in float64, as predict has it
        features, numbers = graph.add("Cast", [features], "features", to=TensorProto.DOUBLE), graph.doubles
    product = graph.add("MatMul", [features, numbers("weight", model.weight.T)], "product")
    result = graph.add("Add", [product, numbers("bias", model.bias)], "readout")
    if chain is not None:
        result = _finished(graph, result, chain, len(free))
    elif activation == "softmax":
        result = graph.add("Softmax", [result], "probabilities", axis=-1)
    if lengths and model.every_step:  # 0 beyond a sequence's length, as Model.predict gives it
        counted = _counted(graph, "x", "lengths")
        counted = graph.add("Unsqueeze", [counted, graph.integers(2)], "counted_column")
        for k in range(1, 1 if chain is None else len(chain.shape)):
            counted = graph.add("Unsqueeze", [counted, graph.integers(2)], f"counted_column_{k}")
        if chain is not None and not chain.shape:
            counted = graph.add("Squeeze", [counted, graph.integers(2)], "counted_row")
        result = graph.add("Where", [counted, result, numbers("zero_prediction", 0.0)], "prediction_counted")
    shape = [model.output_size] if chain is None else chain.shape
    graph.output(result, "prediction", [*free, *shape], chain and TensorProto.DOUBLE)


def _finished(graph, result, chain, free):
    """Nodes for what `Chain.finished` does; `free` axes come first."""
    if chain.kind == "softmax":
        result = graph.add("Softmax", [result], "probabilities", axis=-1)
    elif chain.kind in ("sigmoid", "exponential"):
        result = graph.add({"sigmoid": "Sigmoid", "exponential": "Exp"}[chain.kind], [result], "inverse_link")
    elif chain.kind == "sorted" and chain.group > 1:
        result = graph.add("Reshape", [result, graph.integers(*[0] * free, -1, chain.group)], "quantiles")
        result, _ = graph.add_many(
            "TopK", [result, graph.integers(chain.group)], ["quantiles_sorted", "order"], largest=0, sorted=1
        )
        flat = graph.integers(*[0] * free, chain.model.output_size)
        result = graph.add("Reshape", [result, flat], "in_order")
    if not ((chain.y_scale == 1).all() and (chain.y_mean == 0).all()):
        result = graph.add("Mul", [result, graph.doubles("y_scale", chain.y_scale)], "in_units")
        result = graph.add("Add", [result, graph.doubles("y_mean", chain.y_mean)], "around_mean")
    if chain.shape != (chain.model.output_size,):
        result = graph.add("Reshape", [result, graph.integers(*[0] * free, *chain.shape)], "in_shape")
    return result
