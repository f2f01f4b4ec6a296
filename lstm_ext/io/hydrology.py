"""Runs of NeuralHydrology: weights, configuration and scaling of a folder as a model with its units."""

from __future__ import annotations

import itertools
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext._data import as_array
from lstm_ext._files import MAX_TEXT, open_file, read_file
from lstm_ext.io._common import FormatError, as_weights, bare_lstm, check_names, reading, shorten
from lstm_ext.io._torch_archive import Archive
from lstm_ext.io._yaml import parse_yaml
from lstm_ext.io.torch import from_torch
from lstm_ext.model import Model

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["HydrologyModel", "from_neuralhydrology"]

_MODELS = ("cudalstm", "ealstm", "mtslstm")
# Options of a configuration that change what the network computes, and are not had here, with what to do.
_REFUSED = {
    "statics_embedding": "an embedding of the static inputs",
    "dynamics_embedding": "an embedding of the inputs",
    "embedding_hiddens": "an embedding", "use_basin_id_encoding": "a one-hot code of the basins",
    "mass_inputs": "mass inputs", "autoregressive_inputs": "autoregressive inputs",
    "nan_handling_method": "a treatment of missing inputs", "timestep_counter": "a counter of time steps",
    "hindcast_inputs": "hindcast inputs", "forecast_inputs": "forecast inputs",
}


class HydrologyModel:
    r"""A trained network of NeuralHydrology, in the units of its data.

    .. math:: z = (x - m) / s, \quad y = \mu + \sigma \, \mathrm{readout}(h(z))

    Attributes
    ----------
    name : {"cudalstm", "ealstm", "mtslstm"}
    model : Model, or dict of Model
        One, with ``every_step=True``; of "mtslstm" one for each frequency.
    inputs, static, targets : list of str, or `inputs` a dict of them
        Names of the features, in the order in which `predict` takes and gives them.
    frequencies : list of str
        Of "mtslstm", from the longest step to the shortest; else empty.
    """

    name: str
    model: Any  # a union would have to be told apart before each use
    inputs: list[str] | dict[str, list[str]]
    static: list[str]
    targets: list[str]
    frequencies: list[str]

    def __init__(
        self, name: str, model: Model | dict[str, Model], inputs: list[str] | dict[str, list[str]],
        static: list[str], targets: list[str], scales: dict[str, tuple[float, float]],
        seconds: Sequence[Any] = (),
    ) -> None:
        self.name, self.model, self.inputs = name, model, inputs
        self.static, self.targets = static, targets
        self._scales, self._branches = scales, list(seconds)
        self.frequencies = [branch.frequency for branch in self._branches]

    def __repr__(self) -> str:
        return f"HydrologyModel({self.name!r}, targets={self.targets})"

    def _scaled(self, names, values):
        center, scale = (np.array([own[k] for own in map(self._scales.__getitem__, names)]) for k in (0, 1))
        return ((values - center) / scale).astype(np.float32)

    def _in_units(self, y):
        center, scale = (np.array([self._scales[name][k] for name in self.targets]) for k in (0, 1))
        return y.astype(np.float64) * scale + center

    def predict(
        self, x: npt.ArrayLike | dict[str, npt.ArrayLike], static: npt.ArrayLike | None = None,
    ) -> Any:
        """Return the targets at every step, in their units.

        Parameters
        ----------
        x : array-like, (N, T, len(inputs)); of "mtslstm" a dict of them by frequency
            In the units of the data. Steps of all frequencies end at the same time.
        static : array-like, (N, len(static)), optional
            Attributes of the catchments, where the network has them.

        Returns
        -------
        ndarray, (N, T, len(targets)), float64; of "mtslstm" a dict of them by frequency

        Notes
        -----
        NeuralHydrology itself reports the last ``predict_last_n`` steps, and not below 0 where the
        configuration has ``clip_targets_to_zero``.
        """
        single = not self._branches
        given: Any = {"": x} if single else x
        if not single and (not isinstance(x, dict) or set(x) != set(self.frequencies)):
            got = f"a dict with {', '.join(map(str, x))}" if isinstance(x, dict) else type(x).__name__
            raise ValueError(
                f"x is {got}; expected a dict with the frequencies {', '.join(self.frequencies)}"
            )
        rows = None
        if self.static:
            if static is None:
                names = ", ".join(self.static[:5])
                raise ValueError(f"static is None; expected (N, {len(self.static)}): {names}")
            rows = self._scaled(self.static, _checked("static", static, (None, len(self.static))))
        elif static is not None:
            raise ValueError("static was given; expected None: the network has no static inputs")
        names = {"": self.inputs} if single else self.inputs
        scaled = {
            word: self._scaled(names[word], _checked("x", values, (None, None, len(names[word]))))
            for word, values in given.items()
        }
        if single:
            model = self.model
            if self.name == "ealstm":
                return self._in_units(model.predict(scaled[""], static=rows))
            return self._in_units(model.predict(_joined(scaled[""], rows)))
        return {word: self._in_units(y) for word, y in _of_branches(self._branches, scaled, rows).items()}


def _checked(what, values, shape):
    array = np.asarray(as_array(what, values), np.float64)
    pairs = zip(shape, array.shape, strict=False)
    if array.ndim != len(shape) or any(n not in (None, own) for n, own in pairs):
        expected = ", ".join(str(n or word) for n, word in zip(shape, "NT?", strict=False))
        raise ValueError(f"{what} has shape {array.shape}; expected ({expected})")
    return array


def _joined(x, *rows):
    """Return x (N, T, F) with rows (N, S), or (S,), as further features of each step."""
    parts = [x, *(np.broadcast_to(
        row[..., None, :], (*x.shape[:2], row.shape[-1])) for row in rows if row is not None)]
    return np.concatenate(parts, axis=2).astype(np.float32)


class _Branch:
    """One frequency of a multi-timescale LSTM: its model, and how its state goes to the next."""

    def __init__(self, frequency, model, ahead, transfer, flag):
        self.frequency, self.model, self.ahead, self.transfer, self.flag = (
            frequency, model, ahead, transfer, flag
        )


def _of_branches(branches, x, static):
    """Run the branches one after the other: each hands on the state before the next one's steps begin.

    M. Gauch, F. Kratzert, D. Klotz, G. Nearing, J. Lin, S. Hochreiter, "Rainfall-runoff prediction at
    multiple timescales with a single Long Short-Term Memory network", HESS 25 (2021).
    """
    state, found = None, {}
    for branch in branches:
        fed = _joined(x[branch.frequency], static, branch.flag)
        lstm = branch.model.lstm
        if branch.ahead is None:
            y, _ = lstm(fed, state)
        else:
            if fed.shape[1] <= branch.ahead:
                raise ValueError(
                    f"x of {branch.frequency} has {fed.shape[1]} steps; expected more than {branch.ahead}, "
                    "before which the next frequency begins"
                )
            first, (h, c) = lstm(fed[:, : -branch.ahead], state)
            rest, _ = lstm(fed[:, -branch.ahead :], (h, c))
            y = np.concatenate([first, rest], axis=1)
            state = tuple(_handed_on(own, how) for own, how in zip((h, c), branch.transfer, strict=True))
        found[branch.frequency] = y @ branch.model.weight.T + branch.model.bias
    return found


def _handed_on(state, how):
    if how is None:
        return np.zeros_like(state)
    return state if how == "identity" else state @ how[0].T + how[1]


# ---- the folder


def from_neuralhydrology(folder: str | os.PathLike[str], *, epoch: int | None = None) -> HydrologyModel:
    """Read a run of NeuralHydrology: its network, with the scaling of its inputs and targets.

    Neither NeuralHydrology nor PyTorch is needed, and nothing is unpickled. The folder holds ``config.yml``,
    ``train_data/train_data_scaler.yml`` and ``model_epoch030.pt``, as training writes them.

    Parameters
    ----------
    folder : path
    epoch : int, optional
        Which weights. None: the last that are there.

    Returns
    -------
    HydrologyModel
        Of ``cudalstm`` (and ``customlstm`` of the same names), ``ealstm`` or ``mtslstm``, shared or not.

    Raises
    ------
    FormatError
        If the folder holds another model, or options that are not had here: each is named.
    OSError
        If a file is not there.
    """
    folder = os.fspath(folder)
    configuration = _read_yaml(os.path.join(folder, "config.yml"))
    scales = _scales(os.path.join(folder, "train_data", "train_data_scaler.yml"))
    path = _weights(folder, epoch)
    with reading(path), open_file(path) as file:
        tensors = {name: tensor.read() for name, tensor in Archive(file).tensors.items()}
        return _made(configuration, scales, tensors)


def _read_yaml(path):
    with reading(path):
        value = parse_yaml(read_file(path, MAX_TEXT * 4).decode(), os.path.basename(path))
        if not isinstance(value, dict):
            raise FormatError("it is no mapping")
        return value


def _weights(folder, epoch):
    found = {}
    for name in os.listdir(folder):
        match = re.fullmatch(r"model_epoch(\d{1,6})\.pt", name)
        if match:
            found[int(match[1])] = name
    if epoch is None and found:
        epoch = max(found)
    if epoch not in found:
        raise FileNotFoundError(f"{folder} has no model_epoch{'' if epoch is None else f'{epoch:03d}'}*.pt")
    return os.path.join(folder, found[epoch])


def _scales(path):
    """Return (center, scale) of each feature by name."""
    if not os.path.exists(path) and os.path.exists(path[:-3] + "p"):
        raise FormatError(
            f"{path[:-3]}p is a pickle, which can run any code when it is read; expected "
            "train_data_scaler.yml: load_scaler of an old NeuralHydrology reads it"
        )
    content = _read_yaml(path)
    with reading(path):
        found = {}
        for center, scale in (
            ("attribute_means", "attribute_stds"), ("camels_attr_means", "camels_attr_stds"),
            ("xarray_feature_center", "xarray_feature_scale"),
        ):
            if center not in content:
                continue
            pair = [_numbers(content[name]) for name in (center, scale)]
            check_names(scale, pair[1], pair[0])
            for name, own in pair[0].items():
                if not pair[1][name] > 0 or not np.isfinite([own, pair[1][name]]).all():
                    raise FormatError(
                        f"{shorten(name)} has center {own} and scale {pair[1][name]}; expected numbers"
                    )
                found[name] = (np.float32(own), np.float32(pair[1][name]))
        return found


def _numbers(content):
    """Return numbers by name, of a plain mapping or of a data set as xarray writes it."""
    values = content.get("data_vars", content) if isinstance(content, dict) else None
    if not isinstance(values, dict):
        raise FormatError("its scales are no mapping")
    found = {name: own["data"] if isinstance(own, dict) else own for name, own in values.items()}
    for name, own in found.items():
        if type(own) not in (int, float):
            raise FormatError(f"{shorten(name)} is {shorten(repr(own))}; expected a number")
    return found


def _names(configuration, key):
    value = configuration.get(key) or []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise FormatError(f"config.yml: {key} is {shorten(repr(value))}; expected a list of names")
    return value


def _made(configuration, scales, tensors):
    kind = str(configuration.get("model", "")).lower()
    if kind not in _MODELS:
        raise FormatError(f"config.yml: model is {shorten(kind)}; expected one of {', '.join(_MODELS)}")
    for key, what in _REFUSED.items():
        if configuration.get(key):
            raise FormatError(f"config.yml: {key} is {what}, which is not had here; expected a run without")
    if str(configuration.get("head", "regression")).lower() != "regression":
        raise FormatError(f"config.yml: head is {shorten(configuration['head'])}; expected regression")
    if str(configuration.get("output_activation") or "linear").lower() != "linear":
        raise FormatError(
            f"config.yml: output_activation is {shorten(configuration['output_activation'])}; expected "
            "linear: the readout of a Model is linear"
        )
    targets = _names(configuration, "target_variables")
    static = sorted([*_names(configuration, "static_attributes"), *_names(configuration, "camels_attributes"),
                     *_names(configuration, "hydroatlas_attributes")])
    static += _names(configuration, "evolving_attributes")
    if kind == "mtslstm":
        model, inputs, branches = _branches(configuration, tensors, len(static))
        used = [name for names in inputs.values() for name in names]
    else:
        inputs, branches = _names(configuration, "dynamic_inputs"), ()
        used = inputs
        model = {"cudalstm": _cudalstm, "ealstm": _ealstm}[kind](tensors)
        expected = (len(inputs), len(static)) if kind == "ealstm" else (len(inputs) + len(static), 0)
        if (model.lstm.input_size, model.lstm.static_size) != expected:
            raise FormatError(
                f"the weights are for {model.lstm.input_size} inputs and {model.lstm.static_size} static "
                f"ones; config.yml names {len(inputs)} and {len(static)}"
            )
    for one in model.values() if branches else [model]:
        if one.output_size != len(targets):
            raise FormatError(
                f"the head has {one.output_size} outputs, config.yml names {len(targets)} targets"
            )
    for name in (*used, *static, *targets):
        if name not in scales:
            raise FormatError(f"train_data_scaler.yml has no center and scale of {shorten(name)}")
    return HydrologyModel(kind, model, inputs, static, targets, scales, branches)


def _cudalstm(tensors):
    head = _head(tensors, "head.net.0")
    names = {name: array for name, array in tensors.items() if name.startswith("lstm.")}
    return from_torch({**names, **head}, prefix="lstm", head="head", every_step=True)


def _head(tensors, place):
    found = {word: tensors.get(f"{place}.{word}") for word in ("weight", "bias")}
    if found["weight"] is None or found["bias"] is None:
        raise FormatError(f"there is no {place}.weight and bias: expected a regression head")
    return {f"head.{word}": array for word, array in found.items()}


def _ealstm(tensors):
    """Return the entity-aware LSTM: gates f, o, g of the inputs; i of only the static ones.

    F. Kratzert et al., "Towards learning universal, regional, and local hydrological behaviors via machine
    learning applied to large-sample datasets", HESS 23 (2019).
    """
    names = {
        word: name for word, places in (
            ("ih", ("dynamic_gates.weight_ih", "weight_ih")),
            ("hh", ("dynamic_gates.weight_hh", "weight_hh")),
            ("bias", ("dynamic_gates.bias", "bias")), ("static", ("input_gate.weight", "input_net.weight")),
            ("static bias", ("input_gate.bias", "input_net.bias")),
        ) for name in places if name in tensors
    }
    if len(names) != 5:
        raise FormatError("the weights are not those of an EA-LSTM: expected input_gate and dynamic_gates")
    own = {word: tensors[name] for word, name in names.items()}
    if own["ih"].ndim != 2 or own["static"].ndim != 2:
        raise FormatError(f"{names['ih']} has shape {own['ih'].shape}; expected (inputs, 3 * hidden_size)")
    (I, rows), (H, S) = own["ih"].shape, own["static"].shape  # noqa: E741
    if rows != 3 * H or not min(I, H, S):
        raise FormatError(f"{names['ih']} has shape {own['ih'].shape}; expected (inputs, {3 * H})")
    shapes = {"ih": (I, 3 * H), "hh": (H, 3 * H), "bias": (3 * H,), "static": (H, S), "static bias": (H,)}
    own = {word: as_weights(names[word], array, shapes[word]) for word, array in own.items()}
    lstm = bare_lstm(input_size=I, hidden_size=H, static_size=S, entity_aware=True, dtype="float32")
    f, o, g = range(0, 3 * H, H)

    def in_order(rows):
        """Return rows of f, o, g as those of f, g, o, our order behind i."""
        return np.concatenate([rows[k : k + H] for k in (f, g, o)])

    lstm["weight_ih_l0"][H:] = in_order(own["ih"].T)
    lstm["weight_hh_l0"][H:] = in_order(own["hh"].T)
    lstm["bias_l0"][:H] = own["static bias"]
    lstm["bias_l0"][H:] = in_order(own["bias"])
    lstm["weight_static_l0"][...] = own["static"]
    head = _head(tensors, "head.net.0")
    weight = as_weights("head", head["head.weight"], (len(head["head.bias"]), H))
    model = Model(lstm, len(weight), every_step=True)
    model.weight, model.bias = weight, as_weights("head bias", head["head.bias"], (len(weight),))
    return model


def _branches(configuration, tensors, n_static):
    """Return the models by frequency, their inputs, and the branches of a multi-timescale LSTM."""
    frequencies = sorted(_names(configuration, "use_frequencies"), key=_hours, reverse=True)
    shared = bool(configuration.get("shared_mtslstm"))
    if len(frequencies) < 2 or len(set(map(_hours, frequencies))) < len(frequencies):
        raise FormatError(f"config.yml: use_frequencies is {frequencies}; expected several")
    lengths, transfer = configuration.get("seq_length"), configuration.get("transfer_mtslstm_states")
    transfer = {"h": "linear", "c": "linear"} if transfer is None else transfer
    inputs = configuration.get("dynamic_inputs")
    inputs = inputs if isinstance(inputs, dict) else dict.fromkeys(frequencies, inputs)
    for what, value, expected in (
        ("seq_length", lengths, frequencies), ("dynamic_inputs", inputs, frequencies),
        ("transfer_mtslstm_states", transfer, ["h", "c"]),
    ):
        if not isinstance(value, dict) or not set(expected) <= set(value):
            raise FormatError(f"config.yml: {what} is {shorten(repr(value))}; expected {', '.join(expected)}")
    inputs = {word: _names(inputs, word) for word in frequencies}
    models, branches = {}, []
    for k, word in enumerate(frequencies):
        place = frequencies[0] if shared else word
        part = {name: own for name, own in tensors.items() if name.startswith(f"lstms.{place}.")}
        head = _head(tensors, f"heads.{place}.net.0")
        models[word] = from_torch({**part, **head}, prefix=f"lstms.{place}", head="head", every_step=True)
        flags = len(frequencies) if shared else 0
        if models[word].lstm.input_size != len(inputs[word]) + n_static + flags:
            raise FormatError(
                f"the LSTM of {word} has {models[word].lstm.input_size} inputs, config.yml names "
                f"{len(inputs[word]) + n_static + flags}"
            )
        flag = np.eye(len(frequencies), dtype=np.float32)[k] if shared else None
        ahead, handed = None, (None, None)
        if k + 1 < len(frequencies):
            following = frequencies[k + 1]
            factor = _hours(word) / _hours(following)
            if factor != int(factor) or type(lengths[following]) is not int:
                raise FormatError(f"config.yml: {word} is no multiple of {following}, or has no seq_length")
            ahead = lengths[following] // int(factor)
            handed = tuple(_transfer(tensors, transfer[state], f"{state}_{word}") for state in "hc")
        branches.append(_Branch(word, models[word], ahead, handed, flag))
    for branch, following in itertools.pairwise(branches):
        size = following.model.lstm.hidden_size
        for how in branch.transfer:
            rows = branch.model.lstm.hidden_size if how in (None, "identity") else len(how[0])
            if rows != size or branch.ahead < 1:
                raise FormatError(f"the state of {branch.frequency} does not fit {following.frequency}")
    return models, inputs, branches


def _transfer(tensors, how, name):
    if how in (None, "None"):
        return None
    if how == "identity":
        return how
    if how != "linear":
        raise FormatError(
            f"config.yml: transfer_mtslstm_states has {shorten(repr(how))}; expected linear, identity or None"
        )
    weight, bias = (tensors.get(f"transfer_fcs.{name}.{word}") for word in ("weight", "bias"))
    if weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise FormatError(f"there is no transfer_fcs.{name} with a weight and a bias")
    return as_weights(name, weight, weight.shape), as_weights(name, bias, bias.shape)


_UNITS = {"h": 1, "H": 1, "D": 24, "d": 24, "W": 168, "min": 1 / 60, "T": 1 / 60}


def _hours(frequency):
    match = re.fullmatch(r"(\d{0,6})([A-Za-z]+)", frequency)
    if match is None or match[2] not in _UNITS or match[1] == "0":
        raise FormatError(f"config.yml: the frequency {shorten(frequency)} is not of {', '.join(_UNITS)}")
    return int(match[1] or 1) * _UNITS[match[2]]
