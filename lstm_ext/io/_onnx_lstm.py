"""The ONNX operator LSTM and ours: attributes and arrays of one, options and parameters of the other.

The operator (versions 7, 14 and 22 of the default domain) stacks its gates i, o, f, c, its peepholes i, o, f,
and has two biases, which are added (https://onnx.ai/onnx/operators/onnx__LSTM.html).
"""

import itertools

import numpy as np

from lstm_ext import _options
from lstm_ext.io._common import (
    GATES,
    ONNX_GATES,
    FormatError,
    as_weights,
    bare_lstm,
    reorder_gates,
    shorten,
)
from lstm_ext.io._widths import widened

# ONNX's name: ours, whether it takes alpha, beta. Neither ONNX nor we know a default of ScaledTanh's.
ACTIVATIONS = {
    "Sigmoid": ("sigmoid", False, False),
    "Tanh": ("tanh", False, False),
    "Relu": ("relu", False, False),
    "Softsign": ("softsign", False, False),
    "Softplus": ("softplus", False, False),
    "Affine": ("affine", True, True),
    "ScaledTanh": ("scaled_tanh", True, True),
    "HardSigmoid": ("hard_sigmoid", True, True),
    "LeakyRelu": ("leaky_relu", True, False),
    "ThresholdedRelu": ("thresholded_relu", True, False),
    "Elu": ("elu", True, False),
}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
ATTRIBUTES = {
    "activations": "STRINGS",
    "activation_alpha": "FLOATS",
    "activation_beta": "FLOATS",
    "clip": "FLOAT",
    "direction": "STRING",
    "hidden_size": "INT",
    "input_forget": "INT",
    "layout": "INT",
}


def _consumed(node, which, values, takers):
    """Return what each activation gets of a list of alphas or betas: a number or None.

    Each function that takes one consumes the next value. Some writers give one value to each function
    whether it takes one or not: what reads differently in the two ways is refused.
    """
    if len(values) > len(takers):
        raise FormatError(f"{node}: {which} has {len(values)} values for {len(takers)} activations")
    rest = iter(values)
    got = [next(rest, None) if taker else None for taker in takers]
    if next(rest, None) is not None:
        each = [value if taker else None for value, taker in zip(values, takers, strict=False)]
        if len(values) < len(takers) or each != got:
            raise FormatError(
                f"{node}: {which} is {list(values)}, more than the activations take: it reads in two ways"
            )
    if not np.isfinite([v for v in got if v is not None]).all():
        raise FormatError(f"{node}: {which} is {list(values)}; expected finite numbers")
    return got


def activations(node, attributes, directions):
    """Return our `activations` of the operator's: those of the gates, the candidate and the cell."""
    names = attributes.get("activations", ["Sigmoid", "Tanh", "Tanh"] * directions)
    if len(names) != 3 * directions:
        raise FormatError(f"{node}: activations has {len(names)} names; expected {3 * directions}")
    for name in names:
        if name not in ACTIVATIONS:
            raise FormatError(f"{node}: activation {shorten(name)} is none of {', '.join(ACTIVATIONS)}")
    numbers = [
        _consumed(node, which, attributes.get(which, []), [ACTIVATIONS[name][k] for name in names])
        for k, which in ((1, "activation_alpha"), (2, "activation_beta"))
    ]
    found = []
    for name, alpha, beta in zip(names, *numbers, strict=True):
        if name == "ScaledTanh" and None in (alpha, beta):
            raise FormatError(f"{node}: ScaledTanh without alpha and beta: ONNX names no default")
        ours, *takes = ACTIVATIONS[name]
        rest = [v for v, taken in zip((alpha, beta), takes, strict=True) if taken]
        if ours == "affine" and rest in ([1, 0], [None, None]):
            ours, rest = "identity", []
        found.append((ours, *rest) if set(rest) - {None} else ours)
    if found[:3] != found[-3:]:
        raise FormatError(f"{node}: the two directions have different activations, here they share them")
    return tuple(found[:3])


def options(node, attributes, recurrent_shape):
    """Return the keywords of `LSTM` that the operator's attributes say, and its layout.

    Parameters
    ----------
    node : str
        How errors call it.
    attributes : dict
        By name; types have been checked.
    recurrent_shape : tuple
        Of R, (D, 4H, H).
    """
    direction = attributes.get("direction", "forward")
    if direction not in DIRECTIONS:
        raise FormatError(
            f"{node}: direction is {shorten(direction)}; expected one of {', '.join(DIRECTIONS)}"
        )
    D = DIRECTIONS[direction]
    if len(recurrent_shape) != 3:
        raise FormatError(f"{node}: R has shape {recurrent_shape}; expected (directions, 4 H, H)")
    H = recurrent_shape[2]
    if attributes.get("hidden_size", H) != H:
        raise FormatError(
            f"{node}: hidden_size is {attributes['hidden_size']}, R has shape {recurrent_shape}"
        )
    for flag in ("input_forget", "layout"):
        if attributes.get(flag, 0) not in (0, 1):
            raise FormatError(f"{node}: {flag} is {attributes[flag]}; expected 0 or 1")
    clip = attributes.get("clip")
    if clip is not None and not 0 < clip < np.inf:
        raise FormatError(f"{node}: clip is {clip}; expected a positive number")
    options = {
        "hidden_size": H,
        "bidirectional": D == 2,
        "reverse": direction == "reverse",
        "activations": activations(node, attributes, D),
        "coupled_gates": bool(attributes.get("input_forget", 0)),
        "gate_clip": clip,
    }
    return options, attributes.get("layout", 0)


def check_arrays(node, options, arrays):
    """Check W, R, B, P of one operator, a dict of arrays (B, P may be missing); returns them in memory.

    Shapes are held against each other before anything is made of them.
    """
    D, H = 2 if options["bidirectional"] else 1, options["hidden_size"]
    I = arrays["W"].shape[-1] if arrays["W"].ndim else 0  # noqa: E741
    if min(H, I) < 1:
        raise FormatError(f"{node}: hidden_size is {H} and input_size {I}; expected at least 1")
    shapes = {"W": (D, 4 * H, I), "R": (D, 4 * H, H), "B": (D, 8 * H), "P": (D, 3 * H)}
    checked = {name: as_weights(f"{node}: {name}", array, shapes[name]) for name, array in arrays.items()}
    if len({array.dtype for array in checked.values()}) > 1:
        raise FormatError(f"{node}: its weights are not all of one dtype")
    return checked


def make_lstm(options, layers, *, batch_first, initial=None):
    """Make an LSTM of operators that feed one another.

    Parameters
    ----------
    options : dict
        From `options`, of the first. The hidden size is that of the widest.
    layers : list of dict
        From `check_arrays`.
    batch_first : bool
    initial : list of (h_0, c_0), optional
        Of each layer (D, H), to be its initial states where none are given.
    """
    widths = [arrays["R"].shape[2] for arrays in layers]
    lstm = bare_lstm(
        input_size=layers[0]["W"].shape[2], num_layers=len(layers), batch_first=batch_first,
        dtype=layers[0]["W"].dtype.name, peepholes=any("P" in arrays for arrays in layers),
        bias=any("B" in arrays for arrays in layers), learn_state=initial is not None,
        **{**options, "hidden_size": max(widths)},
    )
    suffixes = ("", "_reverse")[: 2 if lstm.bidirectional else 1]
    found = {}
    for (layer, arrays), (direction, suffix) in itertools.product(enumerate(layers), enumerate(suffixes)):
        own = {name: array[direction] for name, array in arrays.items()}
        at, H = f"_l{layer}{suffix}", widths[layer]
        found["weight_ih" + at] = reorder_gates(own["W"], ONNX_GATES, GATES)
        found["weight_hh" + at] = reorder_gates(own["R"], ONNX_GATES, GATES)
        if lstm.bias:
            both = own["B"].reshape(2, -1).sum(axis=0) if "B" in own else np.zeros(4 * H)
            found["bias" + at] = reorder_gates(both, ONNX_GATES, GATES)
        if lstm.peepholes:
            found["peephole" + at] = reorder_gates(own["P"], "iof", "ifo") if "P" in own else np.zeros(3 * H)
        if initial is not None:
            for word, rows in zip(("h_0", "c_0"), initial[layer], strict=True):
                found[word + at] = rows[direction]
    for name, array in widened(found, widths, len(suffixes)).items():
        lstm[name] = array
    return lstm


# ---- the other way

OURS = {ours: name for name, (ours, _, _) in ACTIVATIONS.items()}


def attribute_words(lstm):
    """Return the operator's attributes that say the options of `lstm`, or raise ValueError."""
    options = {"hidden_size": lstm.hidden_size}
    if lstm.bidirectional or lstm.reverse:
        options["direction"] = "bidirectional" if lstm.bidirectional else "reverse"
    if lstm.coupled_gates:
        options["input_forget"] = 1
    if lstm.gate_clip is not None:
        options["clip"] = _single("gate_clip", lstm.gate_clip, lstm.dtype)
    if lstm.activations != ("sigmoid", "tanh", "tanh"):
        names, alphas, betas = [], [], []
        for given in lstm.activations:
            name, alpha, beta = _activation(given, lstm.dtype)
            names.append(name)
            alphas += alpha
            betas += beta
        D = 2 if lstm.bidirectional else 1
        options["activations"] = names * D
        if alphas:
            options["activation_alpha"] = alphas * D
        if betas:
            options["activation_beta"] = betas * D
    return options


def _single(what, value, dtype):
    """`value`, unless float32, which attributes are, would make another number of it."""
    if dtype == np.float64 and float(np.float32(value)) != value:
        raise ValueError(
            f"{what} is {value!r}; expected a number that float32 holds exactly: attributes are float32"
        )
    return float(value)


def _activation(given, dtype):
    """Return ONNX's name of one of our activations, its alphas and its betas: lists of one or none."""
    word, *numbers = given if isinstance(given, tuple) else (given,)
    if word in ("identity", "linear"):
        return "Affine", [1.0], [0.0]
    if word not in OURS:
        raise ValueError(f"activation {word!r} has no name in ONNX's LSTM: it has {', '.join(OURS)}")
    name = OURS[word]
    got = []
    for k, taken in enumerate(ACTIVATIONS[name][1:]):
        value = numbers[k] if k < len(numbers) else None
        value = _options.ACTIVATIONS[word][1 + k] if value is None else value
        got.append([_single(f"the {('alpha', 'beta')[k]} of {word}", value, dtype)] if taken else [])
    return name, *got
