"""The options of `LSTM`: what may be asked for, together with what, and which parameters it brings."""

import math
import operator

import numpy as np

from lstm_ext import _lstm_general
from lstm_ext._kernels import PRECISIONS

ACTIVATIONS = _lstm_general.ACTIVATIONS
BLAS_INT_MAX = 2**31 - 1
MOST_LAYERS = 2**16  # weights and masks of each have names and numbers of their own

# All that makes an LSTM but its parameters: keywords of LSTM, its attributes, the keys of its pickle.
DEFAULTS = {
    "num_layers": 1,
    "bidirectional": False,
    "reverse": False,
    "batch_first": True,
    "activations": ("sigmoid", "tanh", "tanh"),
    "cell_activation": None,
    "peepholes": False,
    "coupled_gates": False,
    "cell_clip": None,
    "gate_clip": None,
    "proj_size": None,
    "bias": True,
    "layer_norm": False,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "weight_dropout": 0.0,
    "zoneout": (0.0, 0.0),
    "static_size": 0,
    "entity_aware": False,
    "learn_state": False,
    "nan": None,
    "nan_mask": False,
    "checkpoint": None,
    "precision": "float32",
}
CONFIGURATION = ("input_size", "hidden_size", "dtype", *DEFAULTS)


def as_size(name, value, least=1, most=None):
    """`value` as an int of at least `least` and at most `most`. True is not 1."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}, expected an integer")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected an integer") from None
    if number < least:
        raise ValueError(f"{name} is {number}, expected at least {least}")
    if most is not None and number > most:
        raise ValueError(f"{name} is {number}, expected at most {most}")
    return number


def as_flag(name, value):
    """`value` as a bool; nothing else is taken for one."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}, expected True or False")
    return bool(value)


def as_number(name, value):
    """`value` as a float."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}, expected a number") from None


def as_probability(name, value):
    """`value` as a float from 0 to 1, 1 excluded."""
    number = as_number(name, value)
    if not 0 <= number < 1:
        raise ValueError(f"{name} is {number}, expected a probability from 0 to 1, 1 excluded")
    return number


def as_clip(name, value):
    """`value` as a positive finite float, or None."""
    if value is None:
        return None
    number = as_number(name, value)
    if not 0 < number < np.inf:
        raise ValueError(f"{name} is {number}, expected a positive number, or None for no clip")
    return number


def as_precision(value, dtype):
    """`value` as one of PRECISIONS that `dtype` can have."""
    if not isinstance(value, str) or value not in PRECISIONS:
        raise ValueError(f"precision is {value!r}, expected one of {', '.join(PRECISIONS)}")
    if value != "float32" and dtype != np.float32:
        raise ValueError(f"precision is {value!r} and dtype is {dtype}, expected dtype float32 with it")
    return value


def as_activation(name, value):
    """Return a name, or a tuple of a name and its numbers, as (name, alpha, beta)."""
    word, *numbers = value if isinstance(value, (tuple, list)) else (value,)
    if word not in ACTIVATIONS:
        raise ValueError(f"{name} is {word!r}, expected one of {', '.join(ACTIVATIONS)}")
    allowed = ACTIVATIONS[word][3]
    if len(numbers) > allowed:
        raise ValueError(
            f"{name} is {value!r}: {word} takes {('no numbers', 'one number', 'two numbers')[allowed]}"
        )
    numbers = [None if v is None else as_number(name, v) for v in numbers]
    if any(v is not None and not np.isfinite(v) for v in numbers):
        raise ValueError(f"{name} is {value!r}, expected finite numbers")
    return (word, *numbers, *[None] * (2 - len(numbers)))


def as_activations(activations, cell_activation):
    """Return three of (name, alpha, beta): for the gates, the candidate and the cell's output."""
    if not isinstance(activations, (tuple, list)) or len(activations) != 3:
        raise ValueError(
            f"activations is {activations!r}, expected three: of the gates, the candidate and the output"
        )
    checked = [as_activation(f"activations[{j}]", value) for j, value in enumerate(activations)]
    if cell_activation is not None:
        output = as_activation("cell_activation", cell_activation)
        if checked[2] not in (("tanh", None, None), output):
            raise ValueError(
                f"cell_activation is {cell_activation!r} and activations[2] is {activations[2]!r}: "
                "they are the same thing, give one"
            )
        checked[2] = output
    return tuple(checked)


def checked_options(given):
    """Return what makes an LSTM, checked, as a dict; its "_activations" are (name, alpha, beta) each.

    `given`: a value for each name in CONFIGURATION.
    """
    get = given.__getitem__
    options = {}
    for name in ("input_size", "hidden_size"):
        options[name] = as_size(name, get(name))
    options["num_layers"] = as_size("num_layers", get("num_layers"), most=MOST_LAYERS)
    for name in ("bidirectional", "reverse", "batch_first", "peepholes", "coupled_gates", "bias",
                 "layer_norm", "entity_aware", "learn_state", "nan_mask"):
        options[name] = as_flag(name, get(name))
    dtype = get("dtype")
    try:
        options["dtype"] = np.dtype("None" if dtype is None else dtype)  # numpy takes None for float64
    except TypeError:
        raise TypeError(f"dtype is {dtype!r}, expected float32 or float64") from None
    if options["dtype"] not in (np.float32, np.float64) or not options["dtype"].isnative:
        raise ValueError(f"dtype is {options['dtype']}, expected float32 or float64")
    options["_activations"] = as_activations(get("activations"), get("cell_activation"))
    options["activations"] = tuple(
        tuple(v for v in activation if v is not None) if activation[1:] != (None, None) else activation[0]
        for activation in options["_activations"]
    )
    options["cell_activation"] = options["activations"][2]
    for name in ("cell_clip", "gate_clip"):
        options[name] = as_clip(name, get(name))
    for name in ("dropout", "recurrent_dropout", "weight_dropout"):
        options[name] = as_probability(name, get(name))
    zoneout = get("zoneout")
    if not isinstance(zoneout, (tuple, list)) or len(zoneout) != 2:
        raise ValueError(f"zoneout is {zoneout!r}, expected two probabilities: of h and of c")
    options["zoneout"] = tuple(as_probability(f"zoneout[{j}]", p) for j, p in enumerate(zoneout))
    proj_size = get("proj_size")
    given_none = proj_size is None or (type(proj_size) is int and proj_size == 0)
    options["proj_size"] = None if given_none else as_size("proj_size", proj_size)
    options["static_size"] = as_size("static_size", get("static_size"), 0)
    checkpoint = get("checkpoint")
    options["checkpoint"] = None if checkpoint is None else as_size("checkpoint", checkpoint, most=2**63 - 1)
    options["nan"] = get("nan")
    if options["nan"] not in (None, "raise", "zero", "hold"):
        raise ValueError(f"nan is {options['nan']!r}, expected None, 'raise', 'zero' or 'hold'")
    options["precision"] = as_precision(get("precision"), options["dtype"])
    refuse(options)
    directions = 2 if options["bidirectional"] else 1
    for name, times in (
        ("hidden_size", 4), ("input_size", 2), ("proj_size", directions), ("static_size", 1),
    ):
        if (options[name] or 0) * times > BLAS_INT_MAX:
            raise ValueError(
                f"{name} is {options[name]}, expected at most {BLAS_INT_MAX // times}: BLAS cannot count more"
            )
    return options


def refuse(options):
    """Raise ValueError for options that exclude one another. `options`: the LSTM's attributes by name."""
    get = options.__getitem__
    for first, second, why in (
        ("proj_size", "zoneout", "zoneout keeps units of h, and a projected h has none of the cell's"),
        ("bidirectional", "reverse", "a bidirectional LSTM reads both ways already"),
        ("layer_norm", "coupled_gates", "the normalisation would run over pre-activations without a gate"),
        ("layer_norm", "entity_aware", "the normalisation would run over pre-activations without a gate"),
    ):
        wanted = get(second)[0] > 0 if second == "zoneout" else get(second)
        if get(first) and wanted:
            raise ValueError(f"{first} and {second} exclude each other: {why}")
    if get("entity_aware") and not get("static_size"):
        raise ValueError("entity_aware is True and static_size is 0: the input gate needs static inputs")
    if get("nan_mask") and get("nan") not in ("zero", "hold"):
        raise ValueError(
            f"nan_mask is True and nan is {get('nan')!r}: the mask belongs to nan='zero' or nan='hold'"
        )
    if get("num_layers") == 1 and get("dropout") > 0:
        raise ValueError("dropout is between layers and num_layers is 1: there is nothing between")


def parameter_shapes(options, inputs):
    """Shapes of the parameters by name, in the order of the flat vector.

    `options`: the LSTM's attributes by name; `inputs`: features of x as the first layer sees them.
    """
    get = options.__getitem__
    H, out = get("hidden_size"), get("proj_size") or get("hidden_size")
    directions = 2 if get("bidirectional") else 1
    shapes = {}
    for layer in range(get("num_layers")):
        width = inputs if layer == 0 else directions * out
        words = {"weight_ih": (4 * H, width), "weight_hh": (4 * H, out)}
        if get("bias"):
            words["bias"] = (4 * H,)
        if get("peepholes"):
            words["peephole"] = (3 * H,)
        if get("proj_size"):
            words["weight_hr"] = (out, H)
        if get("layer_norm"):
            words |= {"norm_ih": (4 * H,), "norm_hh": (4 * H,), "norm_c": (H,), "norm_c_bias": (H,)}
        if layer == 0 and get("static_size"):
            words["weight_static"] = (H if get("entity_aware") else 4 * H, get("static_size"))
        if get("learn_state"):
            words |= {"h_0": (out,), "c_0": (H,)}
        for suffix in ("", "_reverse")[:directions]:
            shapes |= {f"{word}_l{layer}{suffix}": shape for word, shape in words.items()}
    return shapes


def parameter_count(options, inputs):
    """Count the parameters, without naming them: any two layers but the first are alike."""
    def count(layers):
        shapes = parameter_shapes({**options, "num_layers": layers}, inputs)
        return sum(math.prod(shape) for shape in shapes.values())

    first = count(1)
    return first + (options["num_layers"] - 1) * (count(2) - first)


def checked_count(words):
    """Count the parameters of an LSTM whose keywords may come from anywhere, without making it."""
    options = {**DEFAULTS, **words}
    for word in ("input_size", "hidden_size", "num_layers"):
        options[word] = as_size(word, options[word])
    for word in ("bidirectional", "peepholes", "bias", "layer_norm", "entity_aware", "learn_state",
                 "nan_mask"):
        options[word] = as_flag(word, options[word])
    options["static_size"] = as_size("static_size", options["static_size"], 0)
    options["proj_size"] = as_size("proj_size", options["proj_size"] or 0, 0)
    return parameter_count(options, options["input_size"] * (2 if options["nan_mask"] else 1))
