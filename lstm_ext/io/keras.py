"""Keras 3's weights: layers, models, arrays, and the files .weights.h5 and .keras without Keras."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from lstm_ext._options import as_flag
from lstm_ext.io._common import (
    FormatError,
    as_weights,
    bare_lstm,
    check_names,
    common_dtype,
    fill,
    refuse_options,
    refuse_pooling,
    shorten,
)
from lstm_ext.io._hdf5 import open_hdf5
from lstm_ext.io._keras_models import cells, ordered_layers
from lstm_ext.io._networks import keras_model
from lstm_ext.io._widths import check_widths, padded, widened
from lstm_ext.losses import LOSSES
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    _Activation = str | tuple[str | float, ...]

__all__ = ["from_keras", "to_keras"]

# Keras's activations by our names. Not among them: hard_sigmoid, whose slope changed with Keras 3.
_ACTIVATIONS = {name: name for name in (
    "sigmoid", "tanh", "linear", "relu", "relu6", "hard_tanh", "elu", "selu", "softsign", "softplus",
    "exponential", "silu", "gelu", "mish", "hard_silu",
)} | {"swish": "silu", "hard_swish": "hard_silu", "leaky_relu": ("leaky_relu", 0.2)}
_HARD_SIGMOID = ("hard_sigmoid", 1 / 6, 0.5)  # relu6(x + 3) / 6
_FORMER_HARD_SIGMOID = ("hard_sigmoid", 0.2, 0.5)
_DEFAULTS = {"activation": "tanh", "recurrent_activation": "sigmoid", "go_backwards": False}

# Keys of a layer's configuration that are no part of what it computes from given weights.
_NEUTRAL = {
    "name", "trainable", "dtype", "batch_shape", "batch_input_shape", "units", "activation",
    "recurrent_activation", "use_bias", "unit_forget_bias", "kernel_initializer", "recurrent_initializer",
    "bias_initializer", "seed", "implementation", "use_cudnn", "unroll", "return_state", "return_sequences",
    "go_backwards", "zero_output_for_mask", "layer", "backward_layer", "merge_mode",
}
# Keys that are, in training or over calls, with why this package cannot have them. `ignore` gives them up.
_REFUSED = {
    "dropout": "it drops inputs, the same at all steps of a sequence, and the LSTM here has no such option",
    "recurrent_dropout": "it draws a mask for each gate, and the LSTM here one for all gates",
    "stateful": "the LSTM here keeps no state: hand (h_n, c_n) on yourself",
    **{
        f"{name}_{kind}": f"no loss or optimiser here has {kind}s"
        for name in ("kernel", "recurrent", "bias", "activity") for kind in ("regularizer", "constraint")
    },
}
_CLASSES = {
    "lstm": "LSTM", "bidirectional": "Bidirectional", "dense": "Dense", "time_distributed": "TimeDistributed",
    "dropout": "Dropout", "masking": "Masking", "input_layer": "InputLayer", "flatten": "Flatten",
    "reshape": "Reshape", "spatial_dropout1d": "SpatialDropout1D", "gaussian_noise": "GaussianNoise",
    "gaussian_dropout": "GaussianDropout", "activity_regularization": "ActivityRegularization",
    "global_average_pooling1d": "GlobalAveragePooling1D", "global_max_pooling1d": "GlobalMaxPooling1D",
}
_POOLINGS = {"GlobalAveragePooling1D": "mean", "GlobalMaxPooling1D": "max"}
# What the loss of a Model does with its outputs.
_FUNCTIONS = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy"}
# Layers that do nothing in inference, and the name that gives up what they do in training.
_IDLE = {
    "Dropout": "dropout", "SpatialDropout1D": "dropout", "GaussianDropout": "dropout",
    "GaussianNoise": "dropout", "ActivityRegularization": "activity_regularizer", "Masking": "masking",
}

# Where a file has the weights of a layer.
_PLACES = {
    "LSTM": (("cell",),), "Dense": ((),), "TimeDistributed": (("layer",),),
    "Bidirectional": (("forward_layer", "cell"), ("backward_layer", "cell")),
}


def from_keras(
    source: Any, *, activation: _Activation | None = None, recurrent_activation: _Activation | None = None,
    go_backwards: bool | None = None, bidirectional: bool | None = None, every_step: bool | None = None,
    loss: Any = None, batch_first: bool = True, dtype: npt.DTypeLike | None = None,
    ignore: Iterable[str] = (),
) -> LSTM | Model:
    """Make an LSTM, or a model, of the weights of Keras 3.

    Kernels are transposed, and that is all: the order of gates, i, f, c, o, is ours, whose g is Keras's c.
    Layers are ``LSTM``, ``RNN`` of ``LSTMCell`` and ``Bidirectional(LSTM, merge_mode="concat")``, several of
    them of the same options. ``Dense`` or ``TimeDistributed(Dense)`` at the end make a `Model`: linear ones
    become one readout, and a softmax or sigmoid of the last belongs to the loss here.
    ``GlobalAveragePooling1D`` and ``GlobalMaxPooling1D`` before them are the pooling of the model. Layers of
    different units become an LSTM whose layers are as wide as the widest, whose added units have weights of 0
    and stay at 0. ``Flatten`` and ``Reshape`` that change no shape are left out.

    Parameters
    ----------
    source : layer, Sequential, functional model, list of layers, list of arrays, or path
        Arrays: as ``get_weights()`` gives them, layer by layer. Paths: ``.keras`` of Keras 3 and ``.h5`` of
        Keras 2 and 3, which say what the layers are, and ``.weights.h5``, which does not say what their
        options are. A functional model is a chain of layers.
    activation, recurrent_activation : str or tuple, optional
        For arrays and ``.weights.h5``: Keras's names, or (name, alpha, beta) of ours; the defaults are
        Keras's, "tanh" and "sigmoid". "hard_sigmoid" is not the same function in Keras 2 and 3, so say
        ("hard_sigmoid", 1/6, 0.5) for Keras 3 and ("hard_sigmoid", 0.2, 0.5) for what came before.
    go_backwards : bool, optional
        For arrays and ``.weights.h5``; default False. True gives an LSTM with ``reverse=True``, whose y
        stays in the order of time where Keras's is turned round.
    bidirectional : bool, optional
        For arrays; default False.
    every_step : bool, optional
        For arrays and ``.weights.h5`` with a ``Dense``: whether it reads all steps; default False. Else
        ``return_sequences`` of the last LSTM says so.
    loss : str or loss, optional
        Of the `Model`. None: "cross_entropy" where the last ``Dense`` has a softmax, "binary_cross_entropy"
        where it has a sigmoid, else "mse". After a softmax or sigmoid `Model.predict` gives the logits.
    batch_first
        As in `LSTM`.
    dtype : {"float32", "float64"}, optional
        To convert to. None: that of the weights.
    ignore : tuple of str
        What to give up, of what the layers have and cannot be had here: "dropout" (also of ``Dropout``
        layers), "recurrent_dropout", "stateful", "kernel_regularizer" and its like; "masking" (give
        ``lengths`` or ``mask``), "head_activation" (a `Model` predicts what goes into it, such as logits).

    Returns
    -------
    LSTM, or Model with a Dense

    Raises
    ------
    FormatError
        If the weights are not those of such layers, or it cannot be exact.
    """
    given = {"activation": activation, "recurrent_activation": recurrent_activation,
             "go_backwards": go_backwards, "bidirectional": bidirectional, "every_step": every_step}
    asked = {name: value for name, value in given.items() if value is not None}
    possible = {*_REFUSED, "masking", "head_activation"}
    if isinstance(ignore, str) or not set(ignore) <= possible:
        raise ValueError(f"ignore is {ignore!r}; expected a tuple of some of {', '.join(sorted(possible))}")
    how = (ignore, loss, batch_first, dtype)
    if isinstance(source, (str, os.PathLike)):
        if bidirectional is not None:
            raise ValueError("bidirectional was given, and the file says that itself")
        with open_hdf5(source) as (h5, model):
            return _make(_parts_of_file(h5, model), asked, *how)
    if isinstance(source, (list, tuple)) and source and all(isinstance(a, np.ndarray) for a in source):
        return _make(_parts_of_arrays(source, asked.pop("bidirectional", False)), asked, *how)
    layers = source
    if type(source).__name__ == "Sequential":
        layers = source.layers
    elif hasattr(source, "get_layer"):
        found, order = ordered_layers(type(source).__name__, source.get_config())
        layers = [source.get_layer(found[k][2]) for k in order]
    layers = layers if isinstance(layers, (list, tuple)) else [layers]
    if not layers or not all(hasattr(layer, "get_config") for layer in layers):
        raise TypeError(f"source is {type(source).__name__}; expected layers, arrays or a path")
    return _make([_part_of_layer(layer) for layer in layers], asked, *how)


class _Part:
    """One layer: its class, its configuration (None where nothing says it), its arrays, Keras's version.

    The arrays may still be in a file; they have a shape and a dtype.
    """

    def __init__(self, kind, configuration, arrays, version="3."):
        self.kind, self.configuration, self.arrays, self.version = kind, configuration, arrays, version


# ---- sources: layers, arrays


def _part_of_layer(layer):
    package = type(layer).__module__.partition(".")[0]
    version = str(getattr(sys.modules.get(package), "__version__", "unknown"))
    arrays = [np.asarray(array) for array in layer.get_weights()]
    return _Part(type(layer).__name__, layer.get_config(), arrays, version)


def _parts_of_arrays(arrays, bidirectional):
    parts, at = [], 0
    directions = 2 if bidirectional else 1

    def lstm_at(k):
        """Count the arrays of one direction of an LSTM that begin at k: 2, 3, or 0 if none does."""
        if k + 2 > len(arrays) or arrays[k].ndim != 2 or arrays[k + 1].ndim != 2:
            return 0
        columns = arrays[k].shape[1]
        if arrays[k + 1].shape != (columns // 4, columns):
            return 0
        return 3 if k + 2 < len(arrays) and arrays[k + 2].shape == (columns,) else 2

    while at < len(arrays):
        number = lstm_at(at)
        if number:
            last = at + directions * number
            parts.append(_Part("Bidirectional" if bidirectional else "LSTM", None, arrays[at:last]))
        else:
            last = at + (2 if at + 1 < len(arrays) and arrays[at + 1].ndim == 1 else 1)
            parts.append(_Part("Dense", None, arrays[at:last]))
        at = last
    return parts


# ---- sources: files


def _parts_of_file(h5, model):
    layers, order = (None, None) if model is None else ordered_layers(model["class_name"], model["config"])
    if h5.version is not None:
        return [_former_part(h5, *layers[k]) for k in order]
    root = h5.file
    if h5.group(root, "layers") is None:
        raise FormatError(
            "it has no group 'layers'; expected the file of a model as Keras 3 writes it: weights of Keras 2 "
            "alone do not say what their layers are, model.save('a.h5') does"
        )
    if h5.arrays(root, "vars"):
        raise FormatError("the model has weights of its own, besides those of its layers")
    found = h5.names(h5.group(root, "layers"))
    if layers is None:
        layers = [(_CLASSES[kind], None, None) for kind in _kinds_by_number(found)]
        order = range(len(layers))
    parts, counts, seen = [], {}, set()
    for kind, configuration, _ in layers:
        # Keras's own rule: keras.src.utils.naming.to_snake_case
        name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", str(kind)))
        name = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
        counts[name] = counts.get(name, -1) + 1
        name = f"{name}_{counts[name]}" if counts[name] else name
        seen.add(name)
        group = h5.group(root, "layers", name)
        places = _places(kind, configuration)
        arrays = [array for place in places for array in h5.arrays(group, *place, "vars")]
        parts.append(_Part(kind, configuration, arrays))
    check_names("the group layers", found, seen & set(found))
    return [parts[k] for k in order]


def _places(kind, configuration):
    """Return where a file has the weights of a layer."""
    if kind == "RNN" and configuration is not None:
        cell = configuration["cell"]
        if cell["class_name"] == "StackedRNNCells":
            names = ["lstm_cell", *(f"lstm_cell_{k}" for k in range(1, len(cells(configuration))))]
            return [("cell", "cells", name) for name in names]
        return _PLACES["LSTM"]
    return _PLACES.get(kind, ())


_FORMER = re.compile(r"(kernel|recurrent_kernel|bias)(:0)?")


def _former_part(h5, kind, configuration, name):
    """Return a layer of a file of the former kind, whose arrays have names and an order."""
    if not isinstance(name, str):
        raise FormatError("a layer of the model has no name")
    found = [] if kind in ("InputLayer", *_IDLE) else h5.named(name)
    parts = []
    for path, _ in found:
        match = _FORMER.fullmatch(path.rpartition("/")[2])
        if match is None:
            raise FormatError(
                f"the layer {shorten(name)} has {shorten(path)}, which is none of an LSTM or Dense"
            )
        parts.append(match[1])
    one = parts[: parts.index("kernel", 1)] if "kernel" in parts[1:] else parts
    if one and parts != one * (len(parts) // len(one)):
        raise FormatError(f"the layer {shorten(name)} has its arrays in another order than Keras gives them")
    return _Part(kind, configuration, [data for _, data in found], str(h5.version))


def _kinds_by_number(names):
    """Classes of the layers of a file without a configuration, in their order as far as it is known.

    Groups are named by class and by number within the class, so layers of two classes could stand in
    any order: one class of LSTM and one Dense stand in the one that makes sense.
    """
    found = {}
    for name in names:
        word, _, number = name.rpartition("_")
        if not (number.isascii() and number.isdecimal() and word in _CLASSES):
            word, number = name, "0"
        if word not in _CLASSES:
            raise FormatError(f"the layer {shorten(name)} is none of {', '.join(_CLASSES)}")
        found.setdefault(word, []).append(int(number))
    for word, numbers in found.items():
        if sorted(numbers) != list(range(len(numbers))):
            raise FormatError(f"the layers {word} have the numbers {sorted(numbers)[:10]}")
    if {"lstm", "bidirectional"} <= set(found):
        raise FormatError("the file does not say in which order LSTM and Bidirectional stand: give .keras")
    order = ("input_layer", "masking", "dropout", "lstm", "bidirectional", "global_average_pooling1d",
             "global_max_pooling1d", "dense", "time_distributed")
    return [word for word in order for _ in found.get(word, ())]


# ---- what they say


def _make(parts, asked, ignore, loss, batch_first, dtype):
    """Check everything that the layers say, then read their arrays into an LSTM or a model."""
    stack, heads, pooling = [], [], "last"
    for part in parts:
        if part.kind == "InputLayer":
            continue
        if part.kind in _IDLE:
            word = _IDLE[part.kind]
            if word not in ignore:
                raise FormatError(
                    f"there is a layer {part.kind}, which an LSTM here does not have in this place: "
                    f"ignore=({word!r},) leaves it out"
                )
        elif part.kind in ("Flatten", "Reshape"):
            _check_no_op(part, stack, heads[-1] if heads else None, pooling)
        elif part.kind in _POOLINGS:
            pooling = _pooling(part, stack, heads, pooling)
        elif part.kind in ("Dense", "TimeDistributed"):
            heads.append(_Head(part, ignore, loss))
        elif heads or pooling != "last" or part.kind not in ("RNN", *_PLACES):
            after = " after a Dense" if heads else "" if pooling == "last" else " after a pooling"
            raise FormatError(
                f"there is a layer {shorten(part.kind)}{after}; expected LSTM or Bidirectional, and Dense at "
                "the end"
            )
        elif part.kind == "RNN":
            stack += [_Layer(one, asked, ignore, first=not stack) for one in _of_cells(part)]
        else:
            stack.append(_Layer(part, asked, ignore, first=not stack))
    if not stack:
        raise FormatError("there is no LSTM")
    first, last = stack[0], stack[-1]
    for layer in stack[1:]:
        for what, ours, theirs in (
            ("directions", first.bidirectional, layer.bidirectional),
            ("activations", first.activations, layer.activations), ("use_bias", first.bias, layer.bias),
        ):
            if ours != theirs:
                raise FormatError(
                    f"the LSTM layers have {what} {ours} and {theirs}; expected the same in all: "
                    "make an LSTM of each, from_keras(model.layers[0]), ..."
                )
        if layer.backwards:
            raise FormatError("an LSTM layer that is not the first has go_backwards=True")
    if any(layer.sequences is False for layer in stack[:-1]):
        raise FormatError("an LSTM layer before the last has return_sequences=False")
    every_step = bool(asked.get("every_step", False) if last.sequences is None else last.sequences)
    if first.backwards and every_step:
        raise FormatError(
            "the LSTM has go_backwards=True and return_sequences=True: Keras gives its outputs in the order "
            "in which it reads, and y here is in the order of time: give the arrays and go_backwards=True"
        )
    if pooling != "last":
        every_step = False
    if any(head.distributed for head in heads) and (last.sequences is False or pooling != "last"):
        raise FormatError("there is a TimeDistributed after an LSTM with return_sequences=False")
    if pooling != "last" and not heads:
        raise FormatError("there is a pooling without a Dense after it; expected one: a Model has a readout")

    arrays = [array for part in parts for array in part.arrays]
    dtype = common_dtype({f"array {k}": array for k, array in enumerate(arrays)}, dtype)
    width, D = first.inputs, 2 if first.bidirectional else 1
    widths = [layer.units for layer in stack]
    for number, layer in enumerate(stack):
        if layer.inputs != width:
            raise FormatError(f"LSTM layer {number} takes {layer.inputs} features, and it is given {width}")
        width = D * layer.units
    for head in heads:
        if head.inputs != width:
            raise FormatError(f"the Dense takes {head.inputs} features, and it is given {width}")
        width = head.outputs
    for head in heads[:-1]:
        if head.activation != "linear":
            raise FormatError(
                f"the Dense {head.name} has activation={shorten(head.activation or 'not known')} and another "
                "Dense after it, and the readout of a Model is linear: import the layers before it, and "
                "compute the Dense layers yourself"
            )

    check_widths(widths, first.activations, first.inputs, D)
    if not heads and widths[-1] != max(widths):
        raise FormatError(
            f"the last LSTM layer has units {widths[-1]}, another {max(widths)}; expected a Dense at the "
            "end, or a last layer as wide as the widest"
        )
    lstm = bare_lstm(
        input_size=first.inputs, hidden_size=max(widths), num_layers=len(stack),
        bidirectional=first.bidirectional, reverse=first.backwards,
        batch_first=True if heads else batch_first, activations=first.activations,
        bias=first.bias, dtype=dtype,
    )
    parameters = {}
    for number, layer in enumerate(stack):
        for direction, own in zip(("", "_reverse"), layer.directions, strict=False):
            for word, array in zip(("weight_ih", "weight_hh", "bias"), own, strict=False):
                name = f"{word}_l{number}{direction}"
                parameters[name] = as_weights(name, array[()], array.shape).T
    for name, array in widened(parameters, widths, D).items():
        fill(lstm[name], name, array)
    if not heads:
        return lstm
    if loss is None:
        loss = _FUNCTIONS.get(heads[-1].function, "mse")
    model = Model(lstm, heads[-1].outputs, every_step=every_step, loss=loss, pooling=pooling)
    kernel, bias = _joined(heads)
    fill(model.weight, "kernel of the Dense", padded(kernel.T, widths[-1], max(widths), axis=1))
    fill(model.bias, "bias of the Dense", bias)
    return model


def _joined(heads):
    """Return the kernel and bias that linear Dense layers, one after the other, are together."""
    found = []
    for head in heads:
        bias = np.zeros(head.outputs) if head.bias is None else head.bias[()]
        found.append((as_weights("kernel of the Dense", head.kernel[()], (head.inputs, head.outputs)),
                      as_weights("bias of the Dense", bias, (head.outputs,))))
    kernel, bias = found[0]
    for more, added in found[1:]:  # rounded once, when they are assigned
        with np.errstate(over="ignore", invalid="ignore"):
            wide = more.astype(np.float64)
            kernel, bias = kernel @ wide, bias @ wide + added
    return kernel, bias


def _pooling(part, stack, heads, before):
    """Return a Model's pooling for a layer that pools all steps of the LSTM."""
    configuration = part.configuration or {}
    if not stack or stack[-1].sequences is False or heads or before != "last":
        raise FormatError(f"there is a layer {part.kind} that does not follow an LSTM of all steps")
    if configuration.get("keepdims") or configuration.get("data_format") not in (None, "channels_last"):
        raise FormatError(f"{part.kind} keeps its axis, or pools features; expected one over time alone")
    return _POOLINGS[part.kind]


def _check_no_op(part, stack, head, pooling):
    """Refuse a Flatten or Reshape that changes the shape of what it is given."""
    sequences = bool(stack) and stack[-1].sequences and pooling == "last"
    if part.configuration is None:
        raise FormatError(f"the file does not say what its layer {part.kind} does: give .keras")
    if not stack or (part.kind == "Flatten" and sequences):
        raise FormatError(
            f"there is a layer {part.kind} that joins steps and features; expected one that changes no shape"
        )
    width = head.outputs if head is not None else stack[-1].units * (2 if stack[-1].bidirectional else 1)
    if part.kind == "Reshape":
        shape = list(part.configuration["target_shape"])
        if len(shape) != (2 if sequences else 1) or shape[-1] not in (width, -1 if not sequences else width):
            raise FormatError(
                f"there is a layer Reshape to {shorten(str(shape))}; expected one that changes no shape"
            )


def _of_cells(part):
    """Return the layers that an RNN is, one for each of its cells."""
    if part.configuration is None:
        raise FormatError("the file does not say what its layer RNN holds: give .keras")
    found = cells(part.configuration)
    number = len(part.arrays) // len(found)
    if number * len(found) != len(part.arrays):
        raise FormatError(f"RNN has {len(part.arrays)} arrays for {len(found)} cells")
    return [
        _Part("LSTM", own, part.arrays[k * number : (k + 1) * number], part.version)
        for k, own in enumerate(found)
    ]


class _Layer:
    """An LSTM or Bidirectional: its sizes and options, its arrays by direction."""

    def __init__(self, part, asked, ignore, first):
        self.bidirectional = part.kind == "Bidirectional"
        number = len(part.arrays) // (2 if self.bidirectional else 1)
        if number not in (2, 3) or len(part.arrays) % (2 if self.bidirectional else 1):
            raise FormatError(
                f"{part.kind} has {len(part.arrays)} arrays; expected kernel, recurrent_kernel and bias"
            )
        self.directions = [part.arrays[k : k + number] for k in range(0, len(part.arrays), number)]
        self.bias = number == 3
        kernel = part.arrays[0]
        if len(kernel.shape) != 2 or kernel.shape[1] % 4 or not all(kernel.shape):
            raise FormatError(
                f"the kernel of {part.kind} has shape {kernel.shape}; expected (features, 4 * units)"
            )
        self.inputs, self.units = kernel.shape[0], kernel.shape[1] // 4
        expected = [(self.inputs, 4 * self.units), (self.units, 4 * self.units), (4 * self.units,)][:number]
        for arrays in self.directions:
            shapes = [tuple(array.shape) for array in arrays]
            if shapes != expected:
                raise FormatError(f"the arrays of {part.kind} have shapes {shapes}; expected {expected}")
        if part.configuration is None:
            self._configure(asked, first)
        else:
            self._read(part, asked, ignore)

    def _configure(self, asked, first):
        options = {**_DEFAULTS, **asked}
        self.backwards, self.sequences = first and options["go_backwards"], None
        if self.backwards and self.bidirectional:
            raise FormatError("go_backwards=True was given, and the layers are Bidirectional")
        gates = _activation("recurrent_activation", options["recurrent_activation"], None)
        inner = _activation("activation", options["activation"], None)
        self.activations = (gates, inner, inner)

    def _read(self, part, asked, ignore):
        if asked:
            raise ValueError(f"{', '.join(asked)} was given, and the layers say that themselves")
        configurations = [part.configuration]
        if self.bidirectional:
            _check_configuration(part, part.configuration, ignore)
            if part.configuration["merge_mode"] != "concat":
                raise FormatError(
                    f"Bidirectional has merge_mode={part.configuration['merge_mode']!r}; expected 'concat'"
                )
            inner = [part.configuration["layer"], part.configuration["backward_layer"]]
            configurations = []
            for layer in inner:
                if layer["class_name"] not in ("LSTM", "RNN"):
                    raise FormatError(f"Bidirectional holds {shorten(layer['class_name'])}; expected LSTM")
                own = [layer["config"]] if layer["class_name"] == "LSTM" else cells(layer["config"])
                if len(own) != 1:
                    raise FormatError("Bidirectional holds several cells; expected one: give each a layer")
                configurations += own
        found = []
        for configuration in configurations:
            _check_configuration(part, configuration, ignore)
            gates = _activation(
                "recurrent_activation", configuration["recurrent_activation"], part.version
            )
            inner = _activation("activation", configuration["activation"], part.version)
            if (configuration["units"], configuration["use_bias"]) != (self.units, self.bias):
                raise FormatError(
                    f"{part.kind} has units={shorten(configuration['units'])}, "
                    f"use_bias={shorten(configuration['use_bias'])}, and arrays for {self.units}, {self.bias}"
                )
            found.append(((gates, inner, inner), bool(configuration["return_sequences"]),
                          bool(configuration["go_backwards"])))
        self.activations, self.sequences, self.backwards = found[0]
        if self.bidirectional and found != [(*found[0][:2], False), (*found[0][:2], True)]:
            raise FormatError("the layers in Bidirectional differ in more than go_backwards=False and True")


class _Head:
    """A Dense at the end; its activation is None where nothing says it."""

    def __init__(self, part, ignore, loss):
        self.distributed = part.kind == "TimeDistributed"
        self.activation = self.function = self.name = None
        configuration = part.configuration
        if configuration is not None and self.distributed:
            _check_configuration(part, configuration, ignore)
            if configuration["layer"]["class_name"] != "Dense":
                raise FormatError(
                    f"TimeDistributed holds {shorten(configuration['layer']['class_name'])}; expected Dense"
                )
            configuration = configuration["layer"]["config"]
        if configuration is not None:
            _check_configuration(part, configuration, ignore)
            self.name = shorten(configuration.get("name"))
            self.activation = activation = configuration["activation"] or "linear"
            if activation != "linear" and "head_activation" not in ignore:
                self.function = activation
                of_loss = _FUNCTIONS.get(activation) if isinstance(activation, str) else None
                if of_loss is None or not (loss in (None, of_loss) or isinstance(loss, LOSSES[of_loss])):
                    raise FormatError(
                        f"the Dense {self.name} has activation={shorten(activation)}, and the readout of a "
                        "Model is linear: ignore=('head_activation',) gives a model of what goes into it, "
                        "such as logits"
                    )
        if len(part.arrays) not in (1, 2) or len(part.arrays[0].shape) != 2 or not all(part.arrays[0].shape):
            raise FormatError("the Dense has other arrays than a kernel (features, outputs) and a bias")
        self.kernel, self.bias = part.arrays[0], part.arrays[1] if len(part.arrays) == 2 else None
        self.inputs, self.outputs = self.kernel.shape
        if self.bias is not None and tuple(self.bias.shape) != (self.outputs,):
            raise FormatError(f"the Dense has a bias of shape {self.bias.shape}; expected {(self.outputs,)}")


def _check_configuration(part, configuration, ignore):
    """Refuse what a layer has, and nothing here has, unless it is to be ignored."""
    policy = configuration.get("dtype")
    if isinstance(policy, dict):
        policy = policy["config"]["name"]
    if policy not in (None, "float32", "float64"):
        raise FormatError(f"{part.kind} computes in {shorten(policy)}; expected float32 or float64")
    for key, value in configuration.items():
        if not value or key in _NEUTRAL or key in ignore:
            continue
        if key in _REFUSED:
            raise FormatError(
                f"{part.kind} has {key}={shorten(value)}: {_REFUSED[key]}; ignore=({key!r},) gives it up"
            )
        raise FormatError(f"{part.kind} has {shorten(key)}={shorten(value)}, which is not known here")


def _activation(name, value, version):
    """Return our activation for Keras's. `version`: Keras's, or None where it is not known."""
    if isinstance(value, tuple):
        return value
    if value == "hard_sigmoid":
        if version is not None and version[:2] in ("2.", "3."):
            return _HARD_SIGMOID if version[:2] == "3." else _FORMER_HARD_SIGMOID
        raise FormatError(
            f"{name} is 'hard_sigmoid', which is x/6 + 1/2 within 0 and 1 in Keras 3, and x/5 + 1/2 in what "
            "came before: give ('hard_sigmoid', 1/6, 0.5) or ('hard_sigmoid', 0.2, 0.5)"
        )
    if not isinstance(value, str) or value not in _ACTIVATIONS:
        raise FormatError(
            f"{name} is {shorten(value)}; expected one of {', '.join(_ACTIVATIONS)}, hard_sigmoid"
        )
    return _ACTIVATIONS[value]


# ---- out


@overload
def to_keras(
    obj: LSTM | Model, *, model: Literal[False] = ...
) -> list[npt.NDArray[np.floating[Any]]]: ...
@overload
def to_keras(obj: LSTM | Model, *, model: Literal[True]) -> Any: ...


def to_keras(obj: LSTM | Model, *, model: bool = False) -> Any:
    """Return weights for the ``set_weights`` of Keras's layers, stacked as in a ``Sequential``.

    Parameters
    ----------
    obj : LSTM or Model
        Its options must be Keras's: layers, ``bidirectional`` (``merge_mode="concat"``), ``bias``,
        ``reverse`` (``go_backwards`` of the first layer, whose outputs Keras turns round), and activations
        that Keras has, the same for the candidate and the cell. The layers that take the weights must have
        the same; what acts in training alone is no part of weights.
    model : bool, default False
        Return a ``keras.Model`` that has these weights and computes what `Model.predict` does for sequences
        of one length, its pooling included, or y of an LSTM.

    Returns
    -------
    list of ndarray, or keras.Model with `model`
        Copies: for each layer and direction kernel (I, 4H), recurrent_kernel (H, 4H), bias (4H,); then,
        of a model, kernel (D*H, O) and bias (O,) of a Dense.

    Raises
    ------
    ValueError
        If the LSTM has an option that Keras's does not.
    """
    if not isinstance(obj, (LSTM, Model)):
        raise TypeError(f"obj is {type(obj).__name__}; expected an LSTM or a Model")
    if not as_flag("model", model):
        refuse_pooling(obj, "weights for Keras's layers")
    lstm = obj.lstm if isinstance(obj, Model) else obj
    refuse_options(lstm, "Keras's LSTM", ("bidirectional", "reverse", "bias", "activations"))
    gates, inner, output = lstm.activations
    theirs = [_HARD_SIGMOID, "identity", *_ACTIVATIONS.values()]
    if inner != output or gates not in theirs or inner not in theirs:
        raise ValueError(
            f"Keras has no LSTM with activations={lstm.activations!r}: its second and third are the same, "
            f"and each one of {', '.join(_ACTIVATIONS)}, hard_sigmoid (1/6, 0.5)"
        )
    weights = [np.ascontiguousarray(view.T) for view in lstm.named_parameters().values()]
    if not isinstance(obj, LSTM):
        weights += [np.ascontiguousarray(obj.weight.T), obj.bias]
    weights = [array.copy() for array in weights]
    if not model:
        return weights
    return keras_model(obj, weights, tuple(_name_in_keras(own) for own in (gates, inner)))


def _name_in_keras(given):
    """Return Keras's name of one of our activations."""
    if given == _HARD_SIGMOID:
        return "hard_sigmoid"
    return next((name for name, own in _ACTIVATIONS.items() if own == given), "linear")
