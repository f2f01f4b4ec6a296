"""PyTorch's weights: state dicts and modules, and files of PyTorch and of safetensors without PyTorch."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from lstm_ext._files import open_file
from lstm_ext._options import as_flag
from lstm_ext._safetensors import TensorFile
from lstm_ext.io._common import (
    FormatError,
    as_weights,
    bare_lstm,
    check_names,
    common_dtype,
    fill,
    reading,
    refuse_options,
    refuse_pooling,
    shorten,
)
from lstm_ext.io._networks import torch_module
from lstm_ext.io._torch_archive import STATES, Archive, as_float32
from lstm_ext.io._widths import check_widths, padded, widened
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["from_torch", "to_torch"]

_PICKLE = (
    "it is a pickle, which can run any code when it is read: expected an archive, as torch.save writes it "
    "since PyTorch 1.6, or safetensors. Where you trust it, convert it once: "
    "safetensors.torch.save_file(torch.load(path, weights_only=True), 'name.safetensors')"
)
_PARAMETER = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)_l(\d{1,4})(_reverse)?")
_CELL = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}  # of torch.nn.LSTMCell
# What scripts wrap a whole network in: DataParallel and Lightning modules. torch.compile's "_orig_mod" goes
# wherever it stands.
_WRAPPERS = ("module", "model", "net", "network", "_forward_module")
_PARAMETRIZED = re.compile(r"(?:(.*)\.)?parametrizations\.(\w+)\.(.+)")


def from_torch(
    source: Any, *, prefix: str | Sequence[str] = "", head: str | None = None,
    batch_first: bool | None = None, dropout: float | None = None, every_step: bool = False,
    loss: Any = "mse", dtype: npt.DTypeLike | None = None,
) -> LSTM | Model:
    """Make an LSTM, or a model, of the weights of a ``torch.nn.LSTM``.

    Every number is taken over as it is, but for the bias, which is the sum of PyTorch's two: layers,
    directions, ``proj_size``, ``bias=False``. The order of gates is the same. float16 and bfloat16 become
    float32, which holds the same numbers. Weights that weight_norm has taken apart are put together again,
    and rounded once.

    Parameters
    ----------
    source : dict, torch.nn.Module or path
        A state dict of tensors or arrays, a module that has one, or a file: of safetensors, of
        ``torch.save`` (a state dict, a checkpoint that has one, or a whole module), of ``torch.jit.save`` or
        of ``torch.export.save``. Files are read without PyTorch, and nothing in them is unpickled or run.
    prefix : str or sequence of str, default ""
        Where the LSTM is, in a larger module: "encoder.lstm" for ``encoder.lstm.weight_ih_l0``. What lies
        elsewhere is left there. An ``LSTMCell`` is an LSTM of one layer. Several places are LSTMs, or cells,
        that feed one another; they may be of different hidden sizes, and become layers as wide as the widest.
        ``_orig_mod``, of ``torch.compile``, is left out of all names; so is "module", "model", "net" or
        "network" where everything lies in it and `prefix` is not found else.
    head : str, optional
        Where a ``torch.nn.Linear`` is that reads the LSTM's hidden states: "fc". The result is a `Model`.
        Without `every_step` it reads what `Model` does: the final hidden states of the last layer, of
        both directions (``torch.cat(tuple(h_n[-2:]), -1)``); in PyTorch the code says that, not the weights.
    batch_first : bool, optional
        Not in a state dict. None: the module's own, else True. A `Model` takes (batch, time, features): with
        `head` False is refused, and a module's own False is warned of.
    dropout : float, optional
        Not in a state dict. None: the module's own, else 0. PyTorch's 1, which lets nothing pass in training,
        is taken as 0, with a warning.
    every_step, loss
        As in `Model`.
    dtype : {"float32", "float64"}, optional
        To convert to. None: that of the weights.

    Returns
    -------
    LSTM, or Model with `head`

    Raises
    ------
    FormatError
        If the weights are not those of an LSTM, or no floating-point numbers, or a number is not finite.
    """
    places = [prefix] if isinstance(prefix, str) else list(prefix)
    if not places or not all(isinstance(place, str) for place in places):
        raise TypeError(f"prefix is {prefix!r}; expected a name, or several")
    if not isinstance(head, str | None):
        raise TypeError(f"head is {head!r}; expected the name of a torch.nn.Linear, such as 'fc', or None")
    if head is not None and batch_first is not None and not batch_first:
        raise ValueError(
            "batch_first is False; expected True or None with head=: a Model takes (batch, time, features), "
            "x.transpose(1, 0, 2) of (time, batch, features)"
        )
    with _opened(source) as (entries, facts):
        entries = _unwrapped(entries, places[0])
        parts = [_part(entries, place, head) for place in places]
        readout = {} if head is None else {
            word: entries[_join(head, word)]() for word in ("weight", "bias") if _join(head, word) in entries
        }
        found = facts(places[0]) if len(places) == 1 else {}
        _warn_of_unread(entries, head)
    if batch_first is None:
        batch_first = found.get("batch_first")
        if head is not None and batch_first is False:
            warnings.warn(
                "the module has batch_first=False; the Model takes (batch, time, features): give it "
                "x.transpose(1, 0, 2)",
                stacklevel=2,
            )
    if dropout is None and found.get("num_layers", 1) > 1:  # of one layer, PyTorch drops nothing
        dropout = found.get("dropout")
        if dropout == 1:
            dropout = 0.0
            warnings.warn(
                "dropout is 1 in the module, which lets nothing pass between layers in training; taken as 0",
                stacklevel=2,
            )
    return _build(places[0], parts, head, readout, batch_first, dropout, every_step, loss, dtype)


# ---- sources: names, and functions that bring the arrays


@contextlib.contextmanager
def _opened(source):
    """Give ({name: function that returns the array}, function that returns what a module says of a place)."""
    if isinstance(source, (str, os.PathLike)):
        with reading(source), open_file(source) as file:
            first = file.read(4)
            if first == b"PK\x03\x04":
                archive = Archive(file)
                yield (
                    _entries({name: tensor.read for name, tensor in archive.tensors.items()}),
                    lambda place: archive.modules.get(place, {}),
                )
            elif first[:1] == b"\x80" and first[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
                raise FormatError(_PICKLE)
            else:
                tensors = TensorFile(file)
                yield _entries({name: functools.partial(_stored, tensors, name) for name in tensors.names}), (
                    lambda place: {}
                )
        return
    module = None
    if hasattr(source, "state_dict"):
        module, source = source, source.state_dict()
    if not isinstance(source, Mapping):
        raise TypeError(f"source is {type(source).__name__}; expected a state dict, a module or a path")
    for key in STATES:  # a checkpoint, as in a file
        if isinstance(source.get(key), Mapping):
            source = source[key]
            break
    named = {
        name: functools.partial(_as_array, name, value)
        for name, value in source.items() if isinstance(name, str)
    }
    yield _entries(named), functools.partial(_said_by, module)


def _said_by(module, place):
    """Return what the state dict of a module does not say."""
    if module is None:
        return {}
    for name in filter(None, place.split(".")):
        module = getattr(module, "_orig_mod", module)
        module = getattr(module, name, module)
    module = getattr(module, "_orig_mod", module)
    if getattr(module, "mode", "LSTM") != "LSTM":
        raise FormatError(f"the module is {module.mode}; expected an LSTM")
    options = ("batch_first", "num_layers", "dropout")
    return {name: getattr(module, name) for name in options if hasattr(module, name)}


def _stored(tensors, name):
    """Return a tensor of a file of safetensors; bfloat16 is no dtype of NumPy's."""
    dtype, shape = tensors.specification(name)
    if dtype == "BF16":
        return as_float32(tensors.read_raw(name).view("<u2")).reshape(shape)
    array = tensors.read(name, finite=False)
    return as_float32(array) if array.dtype == np.float16 else array


def _as_array(name, value):
    if hasattr(value, "detach"):
        try:
            value = value.detach().cpu()
            half = str(value.dtype) in ("torch.float16", "torch.bfloat16")
            value = (value.float() if half else value).numpy()
        except (TypeError, NotImplementedError, RuntimeError) as error:  # sparse, meta
            raise FormatError(f"{shorten(name)} is {value.dtype} and no array: {error}") from None
    array = np.asarray(value)
    return as_float32(array) if array.dtype == np.float16 else array


def _join(prefix, name):
    return f"{prefix.rstrip('.')}.{name}" if prefix else name


def _entries(named):
    """Return the entries of a state dict by the names of the parameters themselves.

    torch.compile's part of a name is left out; weight_norm's two tensors are one weight.
    """
    entries = {}
    for name, read in named.items():
        plain = ".".join(part for part in name.split(".") if part != "_orig_mod")
        if plain in entries:
            raise FormatError(f"{shorten(plain)} is there twice: compiled and not")
        entries[plain] = read
    for name in list(entries):
        match = _PARAMETRIZED.fullmatch(name)
        if match:
            own = _join(match[1] or "", match[2])
            first, second = (name[: -len(match[3])] + word for word in ("original0", "original1"))
            read = entries.pop(name)
            if match[3] == "original0" and second in entries:
                entries[own] = functools.partial(_normed, own, read, entries[second])
            elif match[3] == "original1" and own not in entries and first in entries:
                entries[own] = functools.partial(_normed, own, entries[first], read)
            elif match[3] == "original":
                entries[own] = functools.partial(_unknown, own)
        elif name.endswith("_g") and name[:-2] + "_v" in entries:
            own = name[:-2]
            entries[own] = functools.partial(_normed, own, entries.pop(name), entries.pop(own + "_v"))
    return entries


def _unknown(name):
    raise FormatError(
        f"{shorten(name)} has a parametrization other than weight_norm; expected its value: "
        "torch.nn.utils.parametrize.remove_parametrizations(module, name) first"
    )


def _normed(name, magnitude, direction):
    r"""Return the weight of weight_norm, :math:`w = g v / \|v\|`, a norm over the axes where g has 1.

    T. Salimans, D. P. Kingma, "Weight normalization", NeurIPS 2016.
    """
    g, v = magnitude(), direction()
    if v.dtype.kind != "f" or g.dtype != v.dtype or (g.ndim and g.ndim != v.ndim) or any(
        n not in (1, own) for n, own in zip(g.shape, v.shape, strict=g.ndim > 0)
    ):
        raise FormatError(f"{shorten(name)} has a norm of shape {g.shape} for a direction of shape {v.shape}")
    axes = tuple(k for k in range(v.ndim) if not g.ndim or g.shape[k] == 1)
    wide = v.astype(np.float64)
    with np.errstate(all="ignore"):  # what is not finite is refused later
        norm = np.sqrt((wide**2).sum(axis=axes, keepdims=True))
        return (g.astype(np.float64).reshape(norm.shape) * wide / norm).astype(v.dtype)


def _unwrapped(entries, place):
    """Return the entries without what everything lies in, where the LSTM is not found else."""
    while not any(_join(place, name) in entries for name in ("weight_ih_l0", "weight_ih")):
        first = {name.partition(".")[0] for name in entries}
        if len(first) != 1 or not first <= set(_WRAPPERS):
            break
        entries = {name.partition(".")[2]: read for name, read in entries.items()}
    return entries


def _places(entries, names):
    """Return where one of the names is."""
    return [
        entry.removesuffix(name).rstrip(".") for entry in entries for name in names
        if entry == name or entry.endswith("." + name)
    ]


def _choice(argument, places):
    return " or ".join(f"{argument}={shorten(place)!r}" for place in places[:5])


def _warn_of_unread(entries, head):
    """Warn of layers in the same Sequential as `head`, which are not read."""
    sequential, _, number = (head or "").rpartition(".")
    if not number.isdecimal():
        return
    unread = [
        name for name in entries
        if name.startswith(sequential + ".") and not name.startswith(head + ".")
    ]
    if unread:
        warnings.warn(
            f"{', '.join(map(shorten, unread[:5]))}: not read, beside head={head!r}. Compare one prediction "
            "with PyTorch's",
            stacklevel=3,
        )


def _part(entries, place, head):
    """Return the arrays of the LSTM, or the cell, at a place, by only the names of an LSTM."""
    start = _join(place, "")
    readout = set() if head is None else {_join(head, "weight"), _join(head, "bias")} & set(entries)
    names = {name[len(start) :]: name for name in entries if name.startswith(start) and name not in readout}
    if "weight_ih" in names and "weight_ih_l0" not in names:
        names = {name + "_l0" if name in _CELL else name: own for name, own in names.items()}
    if "weight_ih_l0" not in names:
        places = _places(entries, ("weight_ih_l0", "weight_ih"))
        raise FormatError(
            f"there is no {_join(place, 'weight_ih_l0')}, "
            + (f"but with {_choice('prefix', places)} there is" if places else "nor one elsewhere: no LSTM")
        )
    for name, own in names.items():
        if not _PARAMETER.fullmatch(name):
            raise FormatError(f"{shorten(own)} is not a parameter of an LSTM"
                              + ("" if place or head else ": name the parts with prefix= and head="))
    if head is not None and _join(head, "weight") not in readout:
        places = [name for name in _places(entries, ("weight",)) if name]
        raise FormatError(
            f"there is no {_join(head, 'weight')}"
            + (f", but with {_choice('head', places)} there is" if places else "")
        )
    return {name: entries[own]() for name, own in sorted(names.items())}


# ---- what they are together


class _Sizes:
    """The sizes that the arrays of one LSTM say, and the shapes that follow from them."""

    def __init__(self, place, arrays):
        self.place, self.layers = place, 1 + max(int(_PARAMETER.fullmatch(name)[2]) for name in arrays)
        firsts = {f"weight_ih_l{k}" for k in range(self.layers)}
        check_names("the LSTM", firsts & set(arrays), firsts)
        first = arrays["weight_ih_l0"]
        recurrent = arrays.get("weight_hh_l0", first)
        rows, columns = recurrent.shape if recurrent.ndim == first.ndim == 2 else (0, 0)
        other = {3 * columns: "a GRU", columns: "an RNN"}  # an LSTM has 4 gates
        if rows and rows in other and rows == first.shape[0] and "weight_hr_l0" not in arrays:
            raise FormatError(f"{place or 'it'} is {other[rows]}; only LSTMs are read")
        if first.ndim != 2 or first.shape[0] % 4 or not all(first.shape):
            raise FormatError(
                f"{_join(place, 'weight_ih_l0')} has shape {first.shape}; expected (4 * hidden_size, "
                "input_size)"
            )
        self.hidden, self.inputs = first.shape[0] // 4, first.shape[1]
        projected = arrays.get("weight_hr_l0")
        if projected is not None and projected.ndim != 2:
            raise FormatError(
                f"weight_hr_l0 has shape {projected.shape}; expected (proj_size, {self.hidden})"
            )
        self.projected = None if projected is None else projected.shape[0]
        self.bidirectional, self.bias = "weight_ih_l0_reverse" in arrays, "bias_ih_l0" in arrays
        self.outputs = (2 if self.bidirectional else 1) * (self.projected or self.hidden)

    def shapes(self):
        """Return the shape of each array by name."""
        rows, found = 4 * self.hidden, {}
        for k in range(self.layers):
            for suffix in ("", "_reverse")[: 2 if self.bidirectional else 1]:
                at = f"_l{k}{suffix}"
                found["weight_ih" + at] = (rows, self.outputs if k else self.inputs)
                found["weight_hh" + at] = (rows, self.projected or self.hidden)
                if self.bias:
                    found |= {"bias_ih" + at: (rows,), "bias_hh" + at: (rows,)}
                if self.projected:
                    found["weight_hr" + at] = (self.projected, self.hidden)
        return found


def _build(place, parts, head, readout, batch_first, dropout, every_step, loss, dtype):
    sizes = [_Sizes(place, arrays) for arrays in parts]
    if head is None:
        readout = {}
    first = sizes[0]
    dtype = common_dtype(
        {f"{k}.{name}" if k else name: array for k, part in enumerate([{**parts[0], **{
            _join(head, word): array for word, array in readout.items()
        }}, *parts[1:]]) for name, array in part.items()}, dtype,
    )
    for before, own in itertools.pairwise(sizes):
        if own.inputs != before.outputs:
            raise FormatError(
                f"an LSTM has {own.inputs} inputs, and the one before it {before.outputs} outputs"
            )
        for what in ("bidirectional", "bias", "projected"):
            if getattr(own, what) != getattr(first, what):
                raise FormatError(
                    f"{what} is {getattr(first, what)} of one LSTM and {getattr(own, what)} of another; "
                    "expected the same: import them one by one"
                )
    widths = [own.hidden for own in sizes for _ in range(own.layers)]
    D = 2 if first.bidirectional else 1
    if first.projected and len(set(widths)) > 1:
        raise FormatError("the LSTMs have projections and different hidden sizes: import them one by one")
    check_widths(widths, ("sigmoid", "tanh", "tanh"), first.inputs, D)
    values, layer = {}, 0
    for own, arrays in zip(sizes, parts, strict=True):
        shapes = own.shapes()
        check_names("the LSTM", arrays, shapes)
        for name, shape in shapes.items():
            word, k, suffix = _PARAMETER.fullmatch(name).groups()
            renumbered = f"{word}_l{layer + int(k)}{suffix or ''}"
            values[renumbered] = as_weights(_join(place, name), arrays[name], shape)
        layer += own.layers
    parameters = {}
    for name, array in values.items():
        if name.startswith("bias_ih"):
            second = values[name.replace("bias_ih", "bias_hh")]
            with np.errstate(over="ignore"):
                total = np.where(second == 0, array, array + second)  # 0 of either sign changes no bit
            parameters[name.replace("bias_ih", "bias")] = total
        elif not name.startswith("bias_hh"):
            parameters[name] = array
    lstm = bare_lstm(
        input_size=first.inputs, hidden_size=max(widths), num_layers=len(widths),
        bidirectional=first.bidirectional,
        batch_first=True if batch_first is None or head is not None else batch_first,
        dropout=0.0 if dropout is None else dropout, proj_size=first.projected, bias=first.bias, dtype=dtype,
    )
    for name, array in widened(parameters, widths, D).items():
        fill(lstm[name], f"the sum of the biases {name}" if name.startswith("bias") else name, array)
    if head is None:
        if widths[-1] != max(widths):
            raise FormatError(
                f"the last LSTM has hidden size {widths[-1]}, another {max(widths)}; expected head=, or a "
                "last LSTM as wide as the widest"
            )
        return lstm
    outputs, weight = sizes[-1].outputs, readout["weight"]
    if weight.ndim != 2 or weight.shape[1] != outputs or not weight.shape[0]:
        raise FormatError(f"{head}.weight has shape {weight.shape}; expected (outputs, {outputs})")
    weight = as_weights(f"{head}.weight", weight, weight.shape)
    bias = as_weights(
        f"{head}.bias", readout.get("bias", np.zeros(len(weight), weight.dtype)), (len(weight),)
    )
    model = Model(lstm, len(weight), every_step=every_step, loss=loss)
    fill(model.weight, f"{head}.weight", padded(weight, widths[-1], max(widths), axis=1))
    fill(model.bias, f"{head}.bias", bias)
    return model


@overload
def to_torch(
    obj: LSTM | Model, *, prefix: str | None = ..., head: str = ..., module: Literal[False] = ...
) -> dict[str, npt.NDArray[np.floating[Any]]]: ...
@overload
def to_torch(
    obj: LSTM | Model, *, prefix: str | None = ..., head: str = ..., module: Literal[True]
) -> Any: ...


def to_torch(
    obj: LSTM | Model, *, prefix: str | None = None, head: str = "head", module: bool = False
) -> Any:
    """Return the state dict of a ``torch.nn.LSTM``, or of a module with an LSTM and a ``torch.nn.Linear``.

    Parameters
    ----------
    obj : LSTM or Model
        Its options must be PyTorch's: several layers, two directions, ``proj_size``, ``bias=False``.
        What acts only in training (dropout) is no part of a state dict.
    prefix : str, optional
        Name of the LSTM within the module. None: "" for an LSTM, "lstm" for a model.
    head : str, default "head"
        Name of the linear layer, for a model.
    module : bool, default False
        Return a ``torch.nn.Module`` that has these weights, in evaluation mode: a ``torch.nn.LSTM``, or of a
        model a module whose call ``(x, lengths=None)`` gives what `Model.predict` does, its pooling included.

    Returns
    -------
    dict of ndarray, or torch.nn.Module with `module`
        Copies, by PyTorch's names: ``bias_ih_l0`` is the bias, ``bias_hh_l0`` zeros. For PyTorch:
        ``module.load_state_dict({name: torch.from_numpy(a) for name, a in to_torch(lstm).items()})``.

    Raises
    ------
    ValueError
        If the LSTM has an option that PyTorch's does not.
    """
    if not isinstance(obj, (LSTM, Model)):
        raise TypeError(f"obj is {type(obj).__name__}; expected an LSTM or a Model")
    if not as_flag("module", module):
        refuse_pooling(obj, "a state dict, which says no pooling (module=True does),")
    elif (prefix, head) != (None, "head"):
        raise ValueError(
            "module is True, and prefix or head was given; expected one: the module has names of its own"
        )
    lstm = obj.lstm if isinstance(obj, Model) else obj
    refuse_options(lstm, "torch.nn.LSTM", ("bidirectional", "proj_size", "bias"))
    if lstm.proj_size and lstm.proj_size >= lstm.hidden_size:
        raise ValueError(
            f"proj_size is {lstm.proj_size}, hidden_size {lstm.hidden_size}; expected a smaller proj_size: "
            "torch.nn.LSTM takes no other"
        )
    if prefix is None:
        prefix = "" if obj is lstm else "lstm"
    state = {}
    for name, view in lstm.named_parameters().items():
        if name.startswith("bias"):
            state[_join(prefix, name.replace("bias", "bias_ih"))] = view.copy()
            state[_join(prefix, name.replace("bias", "bias_hh"))] = np.zeros_like(view)
        else:
            state[_join(prefix, name)] = view.copy()
    if not isinstance(obj, LSTM):
        if obj.pooling == "attention":
            state["attention"] = obj.attention.copy()
        state |= {_join(head, "weight"): obj.weight.copy(), _join(head, "bias"): obj.bias.copy()}
    return torch_module(obj, state) if module else state
