"""PyTorch's weights: state dicts and modules, and files of safetensors without PyTorch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext._files import open_file
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
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["from_torch", "to_torch"]

_PICKLE = (
    "it is a pickle, which can run any code when it is read. Where you trust it, convert it once: "
    "safetensors.torch.save_file(torch.load(path, weights_only=True), 'name.safetensors'); or give the state "
    "dict itself"
)
_PARAMETER = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)_l(\d{1,4})(_reverse)?")


def from_torch(
    source: Any, *, prefix: str = "", head: str | None = None, batch_first: bool | None = None,
    dropout: float | None = None, every_step: bool = False, loss: Any = "mse",
    dtype: npt.DTypeLike | None = None,
) -> LSTM | Model:
    """Make an LSTM, or a model, of the weights of a ``torch.nn.LSTM``.

    Every number is taken over as it is, but for the bias, which is the sum of PyTorch's two: layers,
    directions, ``proj_size``, ``bias=False``. The order of gates is the same.

    Parameters
    ----------
    source : dict, torch.nn.Module or path
        A state dict of tensors or arrays, a module that has one, or a file of safetensors, which is read
        without PyTorch. A ``.pt`` file is a pickle and is not read.
    prefix : str, default ""
        Where the LSTM is, in a larger module: "encoder.lstm" for ``encoder.lstm.weight_ih_l0``. What lies
        elsewhere is left there.
    head : str, optional
        Where a ``torch.nn.Linear`` is that reads the LSTM's hidden states: "fc". The result is a `Model`.
        Without `every_step` it reads what `Model` does: the final hidden states of the last layer, of
        both directions (``torch.cat(tuple(h_n[-2:]), -1)``); in PyTorch the code says that, not the weights.
    batch_first : bool, optional
        Not in a state dict. None: the module's own, else True. A `Model` has True.
    dropout : float, optional
        Not in a state dict. None: the module's own, else 0.
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
        If the weights are not those of an LSTM, or not float32 or float64, or a number is not finite.
    """
    if isinstance(source, (str, os.PathLike)):
        ending = os.path.splitext(os.fsdecode(os.fspath(source)))[1]
        if ending in (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".tar"):
            raise FormatError(f"{os.fsdecode(os.fspath(source))}: {_PICKLE}")
        with reading(source), open_file(source) as file:
            if file.read(4) in (b"PK\x03\x04", b"\x80\x02\x8a\x0a"):  # torch.save's, new and old
                raise FormatError(_PICKLE)
            tensors = TensorFile(file)
            shapes = {name: tensors.specification(name)[1] for name in tensors.names}
            arrays = {name: tensors.read(name) for name in sorted(_wanted(shapes, prefix, head))}
        return _build(arrays, prefix, head, batch_first, dropout, every_step, loss, dtype)
    module = None
    if hasattr(source, "state_dict"):
        module, source = source, source.state_dict()
    if not isinstance(source, Mapping):
        raise TypeError(f"source is {type(source).__name__}, expected a state dict, a module or a path")
    arrays = {name: _as_array(name, source[name]) for name in sorted(_wanted(source, prefix, head))}
    if module is not None:
        batch_first, dropout = _of_module(module, prefix, batch_first, dropout)
    return _build(arrays, prefix, head, batch_first, dropout, every_step, loss, dtype)


def _of_module(module, prefix, batch_first, dropout):
    """Return what the state dict of a module does not say."""
    lstm = module.get_submodule(prefix.rstrip(".")) if prefix else module
    if getattr(lstm, "mode", "LSTM") != "LSTM":
        raise FormatError(f"the module is {lstm.mode}, expected an LSTM")
    if batch_first is None:
        batch_first = getattr(lstm, "batch_first", None)
    if dropout is None and getattr(lstm, "num_layers", 1) > 1:  # of one layer, PyTorch drops nothing
        dropout = getattr(lstm, "dropout", None)
    return batch_first, dropout


def _as_array(name, value):
    if hasattr(value, "detach"):
        try:
            value = value.detach().cpu().numpy()
        except (TypeError, NotImplementedError, RuntimeError) as error:  # bfloat16, sparse, meta
            raise FormatError(f"{shorten(name)} is {value.dtype} and no array: {error}") from None
    return np.asarray(value)


def _join(prefix, name):
    return f"{prefix.rstrip('.')}.{name}" if prefix else name


def _wanted(found, prefix, head):
    """Names of the parameters of the LSTM and of its readout, which must be all that lies there."""
    start = _join(prefix, "")
    readout = set() if head is None else {_join(head, "weight"), _join(head, "bias")} & set(found)
    names = {name for name in found if isinstance(name, str) and name.startswith(start)} - readout
    if _join(prefix, "weight_ih_l0") not in names:
        places = [n.removesuffix("weight_ih_l0").rstrip(".") for n in found if n.endswith("weight_ih_l0")]
        known = " or ".join(f"prefix={shorten(place)!r}" for place in places[:5])
        raise FormatError(
            f"there is no {_join(prefix, 'weight_ih_l0')}, "
            + (f"but with {known} there is" if places else "nor one elsewhere: no LSTM")
        )
    for name in names:
        if not _PARAMETER.fullmatch(name[len(start):]):
            raise FormatError(f"{shorten(name)} is not a parameter of an LSTM"
                              + ("" if prefix or head else ": name the parts with prefix= and head="))
    if head is not None and _join(head, "weight") not in readout:
        raise FormatError(f"there is no {_join(head, 'weight')}")
    return names | readout


def _build(arrays, prefix, head, batch_first, dropout, every_step, loss, dtype):
    start = _join(prefix, "")
    readout = {} if head is None else {n: arrays.pop(_join(head, n), None) for n in ("weight", "bias")}
    given = {name.removeprefix(start): array for name, array in arrays.items()}
    first = given["weight_ih_l0"]
    if first.ndim != 2 or first.shape[0] % 4 or not all(first.shape):
        raise FormatError(f"weight_ih_l0 has shape {first.shape}, expected (4 * hidden_size, input_size)")
    hidden_size, input_size = first.shape[0] // 4, first.shape[1]
    projected = given.get("weight_hr_l0")
    if projected is not None and projected.ndim != 2:
        raise FormatError(f"weight_hr_l0 has shape {projected.shape}, expected (proj_size, {hidden_size})")
    dtype = common_dtype({**given, **{n: a for n, a in readout.items() if a is not None}}, dtype)
    layers = 1 + max(int(_PARAMETER.fullmatch(name)[2]) for name in given)
    check_names("the LSTM", {f"weight_ih_l{k}" for k in range(layers)} & set(given),
                {f"weight_ih_l{k}" for k in range(layers)})
    lstm = bare_lstm(
        input_size=input_size,
        hidden_size=hidden_size,
        num_layers=layers,
        bidirectional="weight_ih_l0_reverse" in given,
        batch_first=True if batch_first is None or head is not None else batch_first,
        dropout=0.0 if dropout is None else dropout,
        proj_size=None if projected is None else projected.shape[0],
        bias="bias_ih_l0" in given,
        dtype=dtype,
    )
    expected = {}
    for name, view in lstm.named_parameters().items():
        if name.startswith("bias"):
            expected |= {name.replace("bias", word): view.shape for word in ("bias_ih", "bias_hh")}
        else:
            expected[name] = view.shape
    check_names("the LSTM", given, expected)
    values = {name: as_weights(start + name, given[name], shape) for name, shape in expected.items()}
    for name, view in lstm.named_parameters().items():
        if name.startswith("bias"):
            first, second = (values[name.replace("bias", word)] for word in ("bias_ih", "bias_hh"))
            with np.errstate(over="ignore"):
                total = np.where(second == 0, first, first + second)  # 0 of either sign changes no bit
            fill(view, f"the sum of the biases {name}", total)
        else:
            fill(view, name, values[name])
    if head is None:
        return lstm
    weight = readout["weight"]
    if weight.ndim != 2 or weight.shape[1] != lstm.output_size or not weight.shape[0]:
        raise FormatError(f"{head}.weight has shape {weight.shape}, expected (outputs, {lstm.output_size})")
    weight = as_weights(f"{head}.weight", weight, weight.shape)
    bias = np.zeros(len(weight), weight.dtype) if readout["bias"] is None else readout["bias"]
    bias = as_weights(f"{head}.bias", bias, (len(weight),))
    model = Model(lstm, len(weight), every_step=every_step, loss=loss)
    fill(model.weight, f"{head}.weight", weight)
    fill(model.bias, f"{head}.bias", bias)
    return model


def to_torch(
    obj: LSTM | Model, *, prefix: str | None = None, head: str = "head"
) -> dict[str, npt.NDArray[np.floating[Any]]]:
    """Return the state dict of a ``torch.nn.LSTM``, or of a module with an LSTM and a ``torch.nn.Linear``.

    Parameters
    ----------
    obj : LSTM or Model
        Its options must be PyTorch's: several layers, two directions, ``proj_size``, ``bias=False``.
        What acts in training alone (dropout) is no part of a state dict.
    prefix : str, optional
        Name of the LSTM within the module. None: "" for an LSTM, "lstm" for a model.
    head : str, default "head"
        Name of the linear layer, for a model.

    Returns
    -------
    dict of ndarray
        Copies, by PyTorch's names: ``bias_ih_l0`` is the bias, ``bias_hh_l0`` zeros. For PyTorch:
        ``module.load_state_dict({name: torch.from_numpy(a) for name, a in to_torch(lstm).items()})``.

    Raises
    ------
    ValueError
        If the LSTM has an option that PyTorch's does not.
    """
    if not isinstance(obj, (LSTM, Model)):
        raise TypeError(f"obj is {type(obj).__name__}, expected an LSTM or a Model")
    refuse_pooling(obj, "torch.nn.LSTM")
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
        state |= {_join(head, "weight"): obj.weight.copy(), _join(head, "bias"): obj.bias.copy()}
    return state
