"""The options of `LSTM`: one record for each, and what follows from the records.

Signature, docstring, ``docs/options.md`` and tests are compared with `OPTIONS` by a test.
"""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lstm_ext import _lstm
from lstm_ext._kernels import PRECISIONS

ACTIVATIONS = _lstm.ACTIVATIONS
BLAS_INT_MAX = 2**31 - 1
MOST_LAYERS = 2**16  # weights and masks of each have names and numbers of their own
REQUIRED = object()  # in place of a default

# Kinds of parameters, in the order of the flat vector within a layer and direction.
PARAMETER_KINDS = (
    "weight_ih", "weight_hh", "bias", "peephole", "weight_hr", "norm_ih", "norm_hh", "norm_c", "norm_c_bias",
    "weight_static", "h_0", "c_0",
)


def as_size(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """`value` as an int of at least `least` and at most `most`. True is not 1."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}; expected an integer")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected an integer") from None
    if number < least:
        raise ValueError(f"{name} is {number}; expected at least {least}")
    if most is not None and number > most:
        raise ValueError(f"{name} is {number}; expected at most {most}")
    return number


def as_flag(name: str, value: Any) -> bool:
    """`value` as a bool; nothing else is taken for one."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}; expected True or False")
    return bool(value)


def as_number(name: str, value: Any) -> float:
    """`value` as a float."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}; expected a number") from None


def as_probability(name: str, value: Any) -> float:
    """`value` as a float from 0 to 1, 1 excluded."""
    number = as_number(name, value)
    if not 0 <= number < 1:
        raise ValueError(f"{name} is {number}; expected a probability from 0 to 1, 1 excluded")
    return number


def as_clip(name: str, value: Any) -> float | None:
    """`value` as a positive finite float, or None."""
    if value is None:
        return None
    number = as_number(name, value)
    if not 0 < number < np.inf:
        raise ValueError(f"{name} is {number}; expected a positive number, or None for no clip")
    return number


def as_activation(name: str, value: Any) -> tuple[str, float | None, float | None]:
    """Return a name, or a tuple of a name and its numbers, as (name, alpha, beta)."""
    function, *given = value if isinstance(value, (tuple, list)) else (value,)
    if function not in ACTIVATIONS:
        raise ValueError(f"{name} is {function!r}; expected one of {', '.join(ACTIVATIONS)}")
    allowed = ACTIVATIONS[function][3]
    if len(given) > allowed:
        raise ValueError(
            f"{name} is {value!r}: {function} takes {('no numbers', 'one number', 'two numbers')[allowed]}"
        )
    numbers = [None if v is None else as_number(name, v) for v in given]
    if any(v is not None and not np.isfinite(v) for v in numbers):
        raise ValueError(f"{name} is {value!r}; expected finite numbers")
    alpha, beta = (*numbers, None, None)[:2]
    return function, alpha, beta


def _activations(name: str, value: Any) -> tuple[tuple[str, float | None, float | None], ...]:
    """Return three of (name, alpha, beta): for the gates, the candidate and the cell's output."""
    if not isinstance(value, (tuple, list)) or len(value) != 3:
        raise ValueError(f"{name} is {value!r}; expected three: of the gates, the candidate and the output")
    return tuple(as_activation(f"{name}[{j}]", activation) for j, activation in enumerate(value))


def _cell_activation(name: str, value: Any) -> tuple[str, float | None, float | None] | None:
    return None if value is None else as_activation(name, value)


def _dtype(name: str, value: Any) -> np.dtype[Any]:
    try:
        dtype = np.dtype("None" if value is None else value)  # numpy takes None for float64
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected float32 or float64") from None
    if dtype not in (np.float32, np.float64) or not dtype.isnative:
        raise ValueError(f"{name} is {dtype}; expected float32 or float64")
    return dtype


def _num_layers(name: str, value: Any) -> int:
    return as_size(name, value, most=MOST_LAYERS)


def _proj_size(name: str, value: Any) -> int | None:
    return None if value is None or (type(value) is int and value == 0) else as_size(name, value)


def _static_size(name: str, value: Any) -> int:
    return as_size(name, value, 0)


def _checkpoint(name: str, value: Any) -> int | None:
    return None if value is None else as_size(name, value, most=2**63 - 1)


def _zoneout(name: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{name} is {value!r}; expected two probabilities: of h and of c")
    return tuple(as_probability(f"{name}[{j}]", p) for j, p in enumerate(value))


def _nan(name: str, value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or value not in ("raise", "zero", "hold")):
        raise ValueError(f"{name} is {value!r}; expected None, 'raise', 'zero' or 'hold'")
    return value


def as_precision(name: str, value: Any) -> str:
    """`value` as one of the precisions of products."""
    if not isinstance(value, str) or value not in PRECISIONS:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(PRECISIONS)}")
    return value


@dataclass(frozen=True)
class Sizes:
    """Sizes that shapes of parameters are made of; of rows of gates there are 4 H."""

    H: int  # hidden_size
    P: int  # proj_size or H
    S: int  # static_size
    gates: int  # of which static inputs are a part: 1 or 4


_Shape = Callable[[Sizes], tuple[int, ...]]


@dataclass(frozen=True)
class Option:
    """One option: keyword argument of `LSTM`, its attribute, the key in its pickle."""

    name: str
    default: Any
    check: Callable[[str, Any], Any]  # (name, value): the value as the attribute has it, or an error
    doc: str  # for the table in docs/options.md
    # Kinds of parameters that any value but None, 0 and False brings, with their shapes.
    parameters: Mapping[str, _Shape] = field(default_factory=dict)
    first_layer: bool = False  # whether only the first layer has them
    # Whether the driver of the default cell computes it; else any value but the default needs the general
    # driver.
    in_default_driver: bool = False


_ALWAYS: dict[str, Any] = {"in_default_driver": True}

OPTIONS = {option.name: option for option in (
    Option("input_size", REQUIRED, as_size, "features of x, I", **_ALWAYS),
    Option("hidden_size", REQUIRED, as_size, "hidden units, H", **_ALWAYS),
    Option("dtype", "float32", _dtype, "float32 or float64", **_ALWAYS),
    Option("num_layers", 1, _num_layers, "layers, L", **_ALWAYS),
    Option("bidirectional", False, as_flag, "two directions in each layer, D = 2", **_ALWAYS),
    Option("reverse", False, as_flag, "sequences are read from their end", **_ALWAYS),
    Option("batch_first", True, as_flag, "sequences are (N, T, I), else (T, N, I)", **_ALWAYS),
    Option(
        "activations", ("sigmoid", "tanh", "tanh"), _activations, "functions of gates, candidate and cell",
    ),
    Option("cell_activation", None, _cell_activation, "the third of `activations`", **_ALWAYS),
    Option(
        "peepholes", False, as_flag, "the gates see the cell state",
        {"peephole": lambda s: (3 * s.H,)},
    ),
    Option("coupled_gates", False, as_flag, "the forget gate is 1 - i"),
    Option("cell_clip", None, as_clip, "bound of the cell state"),
    Option("gate_clip", None, as_clip, "bound of the inputs of the activations"),
    Option(
        "proj_size", None, _proj_size, "features of h, P, by a projection",
        {"weight_hr": lambda s: (s.P, s.H)},
    ),
    Option("bias", True, as_flag, "a bias", {"bias": lambda s: (4 * s.H,)}),
    Option(
        "layer_norm", False, as_flag, "layer normalization of both products and of the cell",
        {
            "norm_ih": lambda s: (4 * s.H,), "norm_hh": lambda s: (4 * s.H,),
            "norm_c": lambda s: (s.H,), "norm_c_bias": lambda s: (s.H,),
        },
    ),
    Option("dropout", 0.0, as_probability, "drops outputs of all layers but the last"),
    Option("recurrent_dropout", 0.0, as_probability, "drops units of h, the same at all steps"),
    Option("weight_dropout", 0.0, as_probability, "drops elements of `weight_hh`"),
    Option("zoneout", (0.0, 0.0), _zoneout, "keeps units of h and of c at a step"),
    Option(
        "static_size", 0, _static_size, "static inputs of a sequence, S",
        {"weight_static": lambda s: (s.gates * s.H, s.S)}, first_layer=True,
    ),
    Option(
        # Without static inputs it is refused, and they need the general driver.
        "entity_aware", False, as_flag, "the input gate of the first layer sees static inputs only",
    ),
    Option(
        "learn_state", False, as_flag, "initial states are parameters",
        {"h_0": lambda s: (s.P,), "c_0": lambda s: (s.H,)},
    ),
    Option("nan", None, _nan, "what a NaN in x is", **_ALWAYS),
    Option("nan_mask", False, as_flag, "a mask of missing values as further inputs", **_ALWAYS),
    Option("checkpoint", None, _checkpoint, "steps between states that backward keeps", **_ALWAYS),
    Option("precision", "float32", as_precision, "what factors of products may be rounded to", **_ALWAYS),
)}
# All that makes an LSTM but its parameters: arguments of LSTM, its attributes, the keys of its pickle.
CONFIGURATION = tuple(OPTIONS)
DEFAULTS = {name: option.default for name, option in OPTIONS.items() if name not in CONFIGURATION[:3]}
# What the default cell's driver has kernels for, as (name, alpha, beta).
_DEFAULT_ACTIVATIONS = (("sigmoid", "tanh", "tanh"), ("sigmoid", "tanh", "identity"))

# Options that exclude one another, and why; `None` for the second: a value of only the first.
EXCLUSIONS = (
    ("proj_size", "zoneout", "zoneout keeps units of h, and a projected h has other units than the cell"),
    ("layer_norm", "coupled_gates", "the normalization would run over pre-activations without a gate"),
    ("layer_norm", "entity_aware", "the normalization would run over pre-activations without a gate"),
    ("bidirectional", "reverse", "a bidirectional LSTM reads both ways already"),
)


def checked_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes an LSTM, checked, as a dict; its "_activations" are (name, alpha, beta) each.

    `given`: a value for each name in CONFIGURATION.
    """
    options = {name: option.check(name, given[name]) for name, option in OPTIONS.items()}
    activations = list(options["activations"])
    if options["cell_activation"] is not None:
        if activations[2] not in (("tanh", None, None), options["cell_activation"]):
            raise ValueError(
                f"cell_activation is {given['cell_activation']!r} and activations[2] is "
                f"{given['activations'][2]!r}: they are the same thing, give one"
            )
        activations[2] = options["cell_activation"]
    options["_activations"] = tuple(activations)
    options["activations"] = tuple(
        tuple(v for v in activation if v is not None) if activation[1:] != (None, None) else activation[0]
        for activation in activations
    )
    options["cell_activation"] = options["activations"][2]
    refuse(options)
    directions = 2 if options["bidirectional"] else 1
    for name, times in (
        ("hidden_size", 4), ("input_size", 2), ("proj_size", directions), ("static_size", 1),
    ):
        if (options[name] or 0) * times > BLAS_INT_MAX:
            raise ValueError(
                f"{name} is {options[name]}; expected at most {BLAS_INT_MAX // times}: BLAS cannot count more"
            )
    return options


def refuse(options: Mapping[str, Any]) -> None:
    """Raise ValueError for options that exclude one another. `options`: the LSTM's attributes by name."""
    get = options.__getitem__
    for first, second, why in EXCLUSIONS:
        wanted = get(second)[0] > 0 if second == "zoneout" else get(second)
        if get(first) and wanted:
            raise ValueError(f"{first} and {second} exclude each other: {why}")
    if get("entity_aware") and not get("static_size"):
        raise ValueError("entity_aware is True and static_size is 0: the input gate needs static inputs")
    if get("nan_mask") and get("nan") not in ("zero", "hold"):
        raise ValueError(
            f"nan_mask is True and nan is {get('nan')!r}: the mask belongs to nan='zero' or nan='hold'"
        )
    refuse_precision(get("precision"), get("dtype"))
    if get("num_layers") == 1 and get("dropout") > 0:
        raise ValueError("dropout is between layers and num_layers is 1: there is nothing between")


def refuse_precision(precision: str, dtype: np.dtype[Any]) -> None:
    """Raise ValueError for a precision that `dtype` cannot have."""
    if precision != "float32" and dtype != np.float32:
        raise ValueError(f"precision is {precision!r} and dtype is {dtype}; expected dtype float32 with it")


def takes_default_driver(options: Mapping[str, Any]) -> bool:
    """Return whether the driver of the default cell computes an LSTM with these checked options."""
    return options["activations"] in _DEFAULT_ACTIVATIONS and all(
        option.in_default_driver or name == "activations" or options[name] == option.default
        for name, option in OPTIONS.items()
    )


def parameter_shapes(options: Mapping[str, Any], inputs: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters by name, in the order of the flat vector.

    `options`: the LSTM's attributes by name; `inputs`: features of x as the first layer sees them.
    """
    get = options.__getitem__
    H, P = get("hidden_size"), get("proj_size") or get("hidden_size")
    sizes = Sizes(H, P, get("static_size"), 1 if get("entity_aware") else 4)
    directions = 2 if get("bidirectional") else 1
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(get("num_layers")):
        width = inputs if layer == 0 else directions * P
        kinds: dict[str, tuple[int, ...]] = {"weight_ih": (4 * H, width), "weight_hh": (4 * H, P)}
        for name, option in OPTIONS.items():
            if option.parameters and get(name) and (layer == 0 or not option.first_layer):
                kinds |= {kind: shape(sizes) for kind, shape in option.parameters.items()}
        for suffix in ("", "_reverse")[:directions]:
            for kind in PARAMETER_KINDS:
                if kind in kinds:
                    shapes[f"{kind}_l{layer}{suffix}"] = kinds[kind]
    return shapes


def parameter_count(options: Mapping[str, Any], inputs: int) -> int:
    """Count the parameters, without naming them: any two layers but the first are alike."""
    def count(layers: int) -> int:
        shapes = parameter_shapes({**options, "num_layers": layers}, inputs)
        return sum(math.prod(shape) for shape in shapes.values())

    first, layers = count(1), int(options["num_layers"])
    return first + (layers - 1) * (count(2) - first)


_SHAPING = (
    "input_size", "hidden_size", "num_layers", "bidirectional", "entity_aware", "nan_mask",
    *(name for name, option in OPTIONS.items() if option.parameters),
)


def checked_count(given: Mapping[str, Any]) -> int:
    """Count the parameters of an LSTM whose arguments may come from anywhere, without making it."""
    options = {**DEFAULTS, **given}
    for name in _SHAPING:
        options[name] = OPTIONS[name].check(name, options[name])
    return parameter_count(options, options["input_size"] * (2 if options["nan_mask"] else 1))
