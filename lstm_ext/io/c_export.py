"""C99 and Fortran 2003: a trained model as one source file that needs libm and nothing else."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import zlib
from string import Template
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lstm_ext import __version__, _options
from lstm_ext._files import replace_files
from lstm_ext._fitted import Chain, chain_of
from lstm_ext.io import _c_templates
from lstm_ext.io._common import refuse_pooling
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

if TYPE_CHECKING:
    import numpy.typing as npt

    _Arrays = dict[str, tuple[npt.NDArray[Any], str]]  # with the number of elements in C

__all__ = ["export_c"]

_DOUBLES = ("x_mean", "x_scale", "y_mean", "y_scale")
LONGEST_NAME = 30  # a name of Fortran has 63 characters at most, a line 132


def export_c(
    model: LSTM | Model | Any, path: str | os.PathLike[str], *,
    weights: Literal["inline", "binary"] = "inline", name: str = "model",
) -> list[str]:
    """Write a trained model as C99, with a header and a Fortran 2003 module.

    Beside ``controller.c`` stand ``controller.h``, ``controller.f90`` and, with ``weights="binary"``,
    ``controller.bin``. The source holds ``model_sequence(x, steps, work, y)``, which reads a whole sequence,
    and, unless the network reads backwards, ``model_reset(&state)`` and ``model_step(&state, x, y)``, one
    time step at a time as `Stream.step`. The state is a struct whose size is known when it is compiled,
    nothing is allocated, and any number of threads may compute. y is what `Model.predict` gives for the
    sequence, or for the steps so far, or h of the last layer of an LSTM. Everything is computed in the
    model's dtype; what is pooled is summed in double.

    Parameters
    ----------
    model : LSTM, Model, LSTMRegressor, LSTMClassifier, pipeline or search
        Any number of layers, both directions, every pooling, any activations, peepholes, coupled gates,
        clips, projection, no bias, zoneout (its expectation, as in inference), learnt initial states. The
        others are refused: see ``docs/io_c.md``. Of a fitted estimator x and y are ``double``, scaled in the
        source: y is what `predict` gives for the steps so far, of a classifier `predict_proba`. The other
        steps of a pipeline are scalers, as for `lstm_ext.io.stream`.
    path : path
        Of the C source, ``*.c``.
    weights : {"inline", "binary"}
        "inline": constant arrays in the source, hexadecimal and so exact. "binary": a file, little-endian,
        that ``model_load(path)`` reads into static arrays after comparing a digest of what the model is.
    name : str, default "model"
        What all names begin with, and that of the Fortran module; models of different names can be linked
        together. A letter, then letters, digits and underscores, at most 30.

    Returns
    -------
    list of str
        The files, in the order above.

    Raises
    ------
    TypeError, ValueError
        If the model has options that are not written here, or numbers that are not finite.
    OSError
        If a file cannot be written. After any error all former files stand: all are replaced, or none.
    """
    path = os.fspath(path)
    folder, file_name = os.path.split(path)
    if not isinstance(path, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+\.c", file_name):
        raise ValueError(f"path is {path!r}; expected the name of a C source: letters, digits, _, - and .c")
    if weights not in ("inline", "binary"):
        raise ValueError(f"weights is {weights!r}; expected 'inline' or 'binary'")
    contents, _, _, _ = sources(model, file_name.removesuffix(".c"), name, weights == "binary")
    return write_sources(folder, contents)


def sources(
    model: Any, stem: str, name: str, binary: bool = False, target: str = "C code"
) -> tuple[dict[str, bytes], dict[str, Any], dict[str, Any], Any]:
    """Return ({file: bytes}, options and values of the templates, the model written) of an export.

    C code has a function of whole sequences; other targets take models that make one step after another.
    """
    sequences = target == "C code"
    chain = None
    if not isinstance(model, (LSTM, Model)):
        if not hasattr(model, "get_params"):
            raise TypeError(
                f"model is {type(model).__name__}; expected an LSTM, a Model or a fitted estimator"
            )
        chain = chain_of(model, target, merging=sequences)
        model = chain.model
    lstm = model if isinstance(model, LSTM) else model.lstm
    if not sequences:
        refuse_steps(model, target)
    if not isinstance(name, str) or not re.fullmatch(rf"[A-Za-z][A-Za-z0-9_]{{0,{LONGEST_NAME - 1}}}", name):
        raise ValueError(
            f"name is {name!r}; expected a letter, then letters, digits and _, at most {LONGEST_NAME}"
        )
    refuse_c(model, lstm)
    names = {kind: f"{stem}.{kind}" for kind in ("c", "h", "f90", "bin")}
    arrays = _arrays(model, lstm, chain)
    options, values = _options_and_values(model, lstm, arrays, binary, name, names, chain)
    contents = {
        names["c"]: _c_templates.render(_c_templates.SOURCE, options, values).encode(),
        names["h"]: _c_templates.render(_c_templates.HEADER, options, values).encode(),
        names["f90"]: _c_templates.render(_c_templates.FORTRAN, options, values).encode(),
    }
    if binary:
        contents[names["bin"]] = _binary(model, lstm, arrays, chain)
    return contents, options, values, (lstm, arrays)


def write_sources(folder: str, contents: dict[str, bytes]) -> list[str]:
    """Write files, all of them or none; return their paths."""
    written = [os.path.join(folder, name) for name in contents]
    with replace_files(written) as temporaries:
        for temporary, content in zip(temporaries, contents.values(), strict=True):
            with open(temporary, "wb") as file:
                file.write(content)
    return written


def refuse_steps(model: LSTM | Model, target: str) -> None:
    """Raise ValueError for a model that does not make one step after another, as `target` does."""
    refuse_pooling(model, target)
    lstm = model if isinstance(model, LSTM) else model.lstm
    for option in ("bidirectional", "reverse"):
        if getattr(lstm, option):
            raise ValueError(
                f"{option} is True; expected False for {target}, which reads one step after another"
            )


def refuse_c(model: LSTM | Model, lstm: LSTM) -> None:
    """Raise ValueError for what is not written as C."""
    for option, wanted, why in (
        ("layer_norm=True", lstm.layer_norm, "normalisation is not written"),
        ("static_size", lstm.static_size > 0, "a step takes only x"),
        ("nan", lstm.nan in ("zero", "hold"), "its policies are not written: fill x before the step"),
    ):
        if wanted:
            raise ValueError(f"an LSTM with {option} cannot be exported to C: {why}")
    if not np.isfinite(model.parameters).all():
        raise ValueError("the model's parameters hold NaN or inf, which C has no numbers for")


def _arrays(model: LSTM | Model, lstm: LSTM, chain: Chain | None) -> _Arrays:
    """Return the arrays of the C source by name, each with its size there as an expression."""
    arrays, inputs = {}, "READ"
    if chain is not None:  # doubles come first, so that nothing has to be aligned between them
        arrays = {
            "x_mean": (chain.x_mean, "INPUTS"), "x_scale": (chain.x_scale, "INPUTS"),
            "y_mean": (chain.y_mean, "OUTPUTS"), "y_scale": (chain.y_scale, "OUTPUTS"),
        }
    for layer in range(lstm.num_layers):
        for suffix in _suffixes(lstm):
            at = f"_l{layer}{suffix}"
            matrix = np.concatenate([lstm["weight_ih" + at], lstm["weight_hh" + at]], axis=1).T
            arrays["matrix" + at] = matrix, f"({inputs} + STATE) * GATES"
            if lstm.bias:
                arrays["bias" + at] = lstm["bias" + at], "GATES"
            if lstm.peepholes:
                arrays["peephole" + at] = lstm["peephole" + at], "3 * UNITS"
            if lstm.proj_size:
                arrays["projection" + at] = lstm["weight_hr" + at].T, "UNITS * STATE"
        inputs = "FEATURES"
    if lstm.learn_state:
        places = [f"_l{layer}{suffix}" for layer in range(lstm.num_layers) for suffix in _suffixes(lstm)]
        for word, size in (("h_0", "STATE"), ("c_0", "UNITS")):
            arrays[word] = np.stack([lstm[word + at] for at in places]), f"{len(places)} * {size}"
    if isinstance(model, Model):
        if model.pooling == "attention":
            arrays["attention"] = model.attention, "FEATURES"
        arrays["readout"] = model.weight, "OUTPUTS * FEATURES"
        arrays["readout_bias"] = model.bias, "OUTPUTS"
    return arrays


def _suffixes(lstm: LSTM) -> tuple[str, ...]:
    """Return how the names of the parameters of each direction end."""
    return ("", "_reverse") if lstm.bidirectional else ("",)


def _options_and_values(
    model: LSTM | Model, lstm: LSTM, arrays: _Arrays, binary: bool, name: str, names: dict[str, str],
    chain: Chain | None
) -> tuple[dict[str, bool], dict[str, Any]]:
    """Return what the templates ask for: which lines stand, and what is put in."""
    single = lstm.dtype == np.float32
    functions = [
        expression(given, lstm.dtype, _c_templates.ACTIVATIONS) for given in lstm.activations
    ]
    merge = 1 if chain is None else chain.merge
    pooling = model.pooling if isinstance(model, Model) else "last"
    streams = not (lstm.bidirectional or lstm.reverse)
    options = {
        "between": (lstm.gate_clip, lstm.cell_clip) != (None, None) or "between" in "".join(functions),
        "bias": lstm.bias,
        "bidirectional": lstm.bidirectional,
        "binary": binary,
        "cell_clip": lstm.cell_clip is not None,
        "copied": chain is not None or merge > 1,
        "coupled_gates": lstm.coupled_gates,
        "each_step": isinstance(model, LSTM) or model.every_step,
        "exponential": "exponential" in "".join(functions),
        "gate_clip": lstm.gate_clip is not None,
        "layers": lstm.num_layers > 1,
        "learn_state": lstm.learn_state,
        "merged": merge > 1,
        "peepholes": lstm.peepholes,
        "pooled": pooling != "last",
        **{f"pool_{kind}": pooling == kind for kind in ("mean", "max", "attention")},
        "projection": bool(lstm.proj_size),
        "readout": model is not lstm,
        "scaled": chain is not None,
        "step_counts": binary or chain is not None or merge > 1,
        "stream_binary": streams and binary,
        "stream_merged": streams and merge > 1,
        "streams": streams,
        **{
            f"y_{kind}": chain is not None and chain.kind == kind
            for kind in ("softmax", "sigmoid", "sorted", "exponential")
        },
        "zoneout": any(lstm.zoneout),
    }
    layers, state = lstm.num_layers, lstm.proj_size or lstm.hidden_size
    directions = 2 if lstm.bidirectional else 1
    outputs = directions * state if model is lstm else model.output_size
    inputs = lstm.input_size // merge
    outer = "double" if chain is not None or not single else "float"
    outer_names = outer, f"c_{outer}"
    ways = "2 x " if lstm.bidirectional else ""
    shape = f"{inputs} inputs, {layers} x {ways}{lstm.hidden_size} units, {outputs} outputs"
    real_kind = "c_float" if single else "c_double"
    kinds = {outer_names[1], real_kind, *(["c_double"] if streams and pooling != "last" else [])}
    said = (
        "h of the last layer" if model is lstm else
        "probabilities" if options["y_softmax"] or options["y_sigmoid"] else "the model's prediction"
    )
    values = {
        "title": f"An LSTM ({shape}, {lstm.dtype.name}).",
        "version": __version__,
        "name": name,
        "NAME": name.upper(),
        "header": names["h"],
        "source": names["c"],
        "binary_name": names["bin"],
        "real": "float" if single else "double",
        "kind": real_kind,
        "f": "f" if single else "",
        "outer": outer_names[0],
        "outer_kind": outer_names[1],
        "kinds": ", ".join(sorted(kinds)),
        "sequence_kinds": ", ".join(sorted({outer_names[1], real_kind, "c_size_t"})),
        "sum": "double" if chain is not None else "real",
        "double": "(double)" if chain is not None else "",
        "group": chain.group if chain is not None else 1,
        "inputs": inputs,
        "merge": merge,
        "buffers": 2 if layers > 1 else 1,
        "directions": directions,
        "units": lstm.hidden_size,
        "state": state,
        "layers": layers,
        "last": layers - 1,
        "outputs": outputs,
        "y_is": said if model is lstm else f"{said} after this step",
        "y_of_all": f"{said} for all of it",
        "gate_clip_value": _hexadecimal(lstm.gate_clip or 0, lstm.dtype),
        "cell_clip_value": _hexadecimal(lstm.cell_clip or 0, lstm.dtype),
        "zoneout_h_value": _hexadecimal(lstm.zoneout[0], lstm.dtype),
        "zoneout_c_value": _hexadecimal(lstm.zoneout[1], lstm.dtype),
        "declarations": "\n".join(
            f"    {'double' if chain is not None and key in _DOUBLES else 'real'} {key}[{size}];"
            for key, (_, size) in arrays.items()
        ),
        "initializers": "" if binary else ",\n".join(
            f"    .{key} = {{\n{_numbers(array)}\n    }}" for key, (array, _) in arrays.items()
        ),
        "set": _set(model, lstm, arrays, binary, chain),
        "fingerprint": ", ".join(map(str, _fingerprint(model, lstm, chain))),
        "layer_calls": "\n".join(
            _layer_call(
                layer, "", arrays, "FEATURES" if layer else "READ", f"state->h[{layer}], state->c[{layer}]",
                f"state->h[{layer - 1}]" if layer else
                "state->part" if merge > 1 else "x" if chain is None else "input",
            )
            for layer in range(layers)
        ),
        "sequence": _sequence(lstm, arrays, options),
    }
    values |= _exponential_values(lstm.dtype)
    for word, given, function in zip(("gate", "candidate", "cell"), lstm.activations, functions, strict=True):
        values[word] = function
        values[f"{word}_name"] = given if isinstance(given, str) else ", ".join(map(str, given))
    return options, values


def _exponential_values(dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the numbers of e^x: those of the dtype, and ln 2 in two parts, the first with few digits."""
    if dtype == np.float32:
        size, mantissa, degree, limit = 32, 23, 7, 86.0
        high, low = 0.693145751953125, 1.4286068203094172e-6
    else:
        size, mantissa, degree, limit = 64, 52, 13, 707.0
        high, low = 0.6931471803691238, 1.908214929270587816e-10
    first, *rest = (_hexadecimal(1 / math.factorial(k), dtype) for k in range(degree, 0, -1))
    polynomial = [f"    sum = {first};", *(f"    sum = {number} + r * sum;" for number in rest)]

    def bits(value: float) -> str:
        return f"INT{size}_C({hex(np.array(value, dtype).view(f'int{size}'))})"

    return {
        "exp_limit": str(limit),
        "exp_limit_bits": bits(limit),
        "exp_round": _hexadecimal(1.5 * 2.0**mantissa, dtype),
        "round_exponent": bits(2.0**mantissa),
        "infinity_bits": bits(np.inf),
        "ln_2_high": _hexadecimal(high, dtype),
        "ln_2_low": _hexadecimal(low, dtype),
        "log2_e": _hexadecimal(1 / math.log(2), dtype),
        "mantissa": mantissa,
        "one_bits": bits(1),
        "polynomial": "\n".join(polynomial),
        "word": f"int{size}_t",
        "word_min": f"INT{size}_MIN",
    }


def _layer_call(layer: int, suffix: str, arrays: _Arrays, count: str, state: str, x: str) -> str:
    """Return the call of one step of one direction of a layer, which reads `count` numbers of x."""
    given = [f"weights.{key}" for key in arrays if key.endswith(f"_l{layer}{suffix}")]
    return f"    layer_step({', '.join([*given, x, count, state])});"


def _sequence(lstm: LSTM, arrays: _Arrays, options: dict[str, bool]) -> str:
    """Return the loops over the steps of a sequence, one for each direction of each layer."""
    lines, directions = [], len(_suffixes(lstm))
    for layer in range(lstm.num_layers):
        if layer:
            lines += ["    swap = below;", "    below = hidden;", "    hidden = swap;"]
        for number, suffix in enumerate(_suffixes(lstm)):
            backwards = number == 1 or lstm.reverse
            place = " + STATE" if number else ""
            if layer:
                count, x = "FEATURES", "below + t * FEATURES"
            else:
                count, x = "READ", "input" if options["copied"] else "x + t * INPUTS"
            lines += [
                f"    begin(h, c, {layer * directions + number});",
                f"    for ({'t = count; t-- > 0;' if backwards else 't = 0; t < count; t++'}) {{",
                *(["        read_in(input, x, steps, t);"] if options["copied"] and not layer else []),
                "    " + _layer_call(layer, suffix, arrays, count, "h, c", x),
                f"        memcpy(hidden + t * FEATURES{place}, h, sizeof h);",
                "    }",
            ]
            if layer + 1 == lstm.num_layers and not options["each_step"] and not options["pooled"]:
                lines.append(f"    memcpy(features{place}, h, sizeof h);")
    return "\n".join(lines)


def expression(given: Any, dtype: Any, table: dict[str, str]) -> str:
    """Return the C expression of an activation of x, or of its slope, as `table` has it."""
    name, *numbers = given if isinstance(given, tuple) else (given,)
    defaults = _options.ACTIVATIONS[name][1:3]
    values = [n if n is not None else d for n, d in zip([*numbers, None, None], defaults, strict=False)]
    alpha, beta = (_hexadecimal(v, dtype) if np.isfinite(v) else "" for v in values)
    return Template(table[name]).substitute(
        f="f" if dtype == np.float32 else "", alpha=alpha, beta=beta,
        root_half=_hexadecimal(np.sqrt(0.5), dtype), normal=_hexadecimal(1 / np.sqrt(2 * np.pi), dtype),
    )


def _hexadecimal(value: float, dtype: np.dtype[Any]) -> str:
    """Return a number as C writes it exactly: 0x1.8p-3f."""
    mantissa, _, exponent = float(dtype.type(value)).hex().partition("p")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}p{exponent}{'f' if dtype == np.float32 else ''}"


def _numbers(array: npt.NDArray[Any]) -> str:
    """Return lines of numbers, those of one row of an array together."""
    texts = [_hexadecimal(value, array.dtype) for value in array.ravel()]
    return ",\n".join(
        f"        {', '.join(texts[start : start + 5])}" for start in range(0, len(texts), 5)
    )


def _fingerprint(model: LSTM | Model, lstm: LSTM, chain: Chain | None) -> bytes:
    """24 bytes that a file of weights begins with: all that the source has fixed, as a digest."""
    configuration = {
        "lstm": {word: getattr(lstm, word) for word in _options.CONFIGURATION
                 if word not in ("dtype", "precision")},
        "dtype": lstm.dtype.name,
        "outputs": None if model is lstm else model.output_size,
        **({} if chain is None else {"kind": chain.kind, "group": chain.group}),
        # Where they are what they always were, files of weights of former versions fit.
        **({} if isinstance(model, LSTM) or model.pooling == "last" else {"pooling": model.pooling}),
        **({} if chain is None or chain.merge == 1 else {"merge": chain.merge}),
    }
    digest = hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()
    return b"lstm-ext" + digest[:16].encode()


def _set(model: LSTM | Model, lstm: LSTM, arrays: _Arrays, binary: bool, chain: Chain | None) -> str:
    """Return a number that header and source have in common: a digest of the model that they are of."""
    digest = hashlib.sha256(_fingerprint(model, lstm, chain))
    for key, (array, _) in arrays.items():
        digest.update(key.encode())
        if not binary:  # else the weights may be written again by themselves
            digest.update(np.ascontiguousarray(array).tobytes())
    return f"0x{digest.hexdigest()[:7]}"


def _binary(model: LSTM | Model, lstm: LSTM, arrays: _Arrays, chain: Chain | None) -> bytes:
    """Return the file of weights: fingerprint, 1.0, Adler-32 of what follows, and the arrays in order."""
    data = b"".join(
        np.ascontiguousarray(
            array, np.dtype("<f8") if chain is not None and key in _DOUBLES else lstm.dtype.newbyteorder("<")
        ).tobytes()
        for key, (array, _) in arrays.items()
    )
    if chain is not None:  # the struct ends at a multiple of a double
        data += bytes(-len(data) % 8)
    one = np.array(1.0, "<f8").tobytes()
    return _fingerprint(model, lstm, chain) + one + zlib.adler32(data).to_bytes(4, "little") + data
