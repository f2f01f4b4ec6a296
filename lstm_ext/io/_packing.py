"""What `save` can write and `load` makes again: JSON, and a dict of arrays by name.

JSON stands for itself. Everything else is ``{"is": kind, ...}``, and the kinds are a closed list: no file can
name another class, function or module. Arrays have the name of the place where they are needed.
"""

import importlib
import inspect
import math
import re
import sys

import numpy as np

from lstm_ext import losses, optim
from lstm_ext._checks import count
from lstm_ext._fitted import affine_of
from lstm_ext._options import CONFIGURATION, checked_count, parameter_shapes
from lstm_ext._safetensors import DTYPES
from lstm_ext.io._common import MAX_TEXT, FormatError, as_weights, bare_lstm, check_names, require, shorten
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

_LSTM_OPTIONS = tuple(name for name in CONFIGURATION if name not in ("cell_activation", "precision"))
_MODEL_OPTIONS = ("output_size", "every_step", "pooling")


def _public(module, base):
    found = {name: getattr(module, name) for name in module.__all__}
    return {
        name: cls for name, cls in found.items()
        if isinstance(cls, type) and issubclass(cls, base) and cls is not base
    }


LOSSES = _public(losses, losses.Loss)
OPTIMIZERS = _public(optim, optim._Optimizer)
# scikit-learn is imported when one of these is met.
ESTIMATORS = ("LSTMRegressor", "LSTMClassifier", "LSTMForecaster", "SequenceScaler")
_OUTPUTS = "lstm_ext.sklearn._outputs"
_ATTRIBUTES = {"_decoder": "_reading"}  # those of estimators that have another name in files
SCALERS = ("StandardScaler", "MinMaxScaler", "RobustScaler", "MaxAbsScaler")
# Their fitted attributes.
_SCALER_STATE = {
    "n_features_in_", "feature_names_in_", "n_samples_seen_", "mean_", "var_", "scale_", "min_", "data_min_",
    "data_max_", "data_range_", "center_", "max_abs_", "_sklearn_output_config",
}


def class_of(kind):
    """Return the class of an estimator by its name."""
    require("sklearn", "sklearn")
    return getattr(importlib.import_module("lstm_ext.sklearn"), kind)


def is_pipeline(obj):
    """Whether `obj` is scikit-learn's pipeline."""
    module = sys.modules.get("sklearn.pipeline")
    return module is not None and type(obj) is module.Pipeline


def scaler_class(kind):
    """Return a class of scikit-learn's scalers by its name."""
    require("sklearn", "sklearn")
    return getattr(importlib.import_module("sklearn.preprocessing"), kind)


def is_estimator(obj):
    """Whether `obj` is one of our estimators, and not of a class derived from it."""
    return type(obj).__name__ in ESTIMATORS and type(obj) is class_of(type(obj).__name__)


def _join(place, name):
    return f"{place}.{name}" if place else str(name)


class Packer:
    """Objects to JSON; `arrays` fills with what they hold."""

    def __init__(self):
        self.arrays = {}

    def pack(self, value, place):
        """Return the JSON of a value; its arrays' names begin with `place`."""
        cls = type(value)
        if value is None or cls in (bool, int, str) or (cls is float and math.isfinite(value)):
            return value
        if cls is float:
            return {"is": "float", "value": str(value)}
        if cls is list:
            return [self.pack(v, _join(place, k)) for k, v in enumerate(value)]
        kind = cls.__name__
        if cls is tuple:
            return {"is": kind, "values": [self.pack(v, _join(place, k)) for k, v in enumerate(value)]}
        if cls is dict and all(type(key) is str for key in value):
            return {"is": kind, "items": {key: self.pack(v, _join(place, key)) for key, v in value.items()}}
        if cls is np.ndarray or isinstance(value, np.generic):
            return self._array(np.asarray(value), place, "array" if cls is np.ndarray else "scalar")
        if cls is np.random.Generator and type(value.bit_generator) is np.random.PCG64:
            return {"is": kind, "state": value.bit_generator.state}
        if cls is LSTM:
            self._parameters(value.named_parameters(), place)
            options = {name: getattr(value, name) for name in _LSTM_OPTIONS}
            if value.precision != "float32":  # a name that earlier versions do not know
                options["precision"] = value.precision
            return {"is": kind, **options, "dtype": value.dtype.name}
        if cls is Model:
            described = {"is": kind, "lstm": self.pack(value.lstm, _join(place, "lstm"))}
            self._parameters({"weight": value.weight, "bias": value.bias}, place)
            described |= {name: getattr(value, name) for name in _MODEL_OPTIONS}
            if value.attention.size:
                self._parameters({"attention": value.attention}, place)
            return described | {"loss": self.pack(value.loss, _join(place, "loss"))}
        if cls in LOSSES.values():
            return {"is": kind, **self._settings(value, place)}
        if cls in OPTIMIZERS.values():
            state = value.state
            steps = state.pop("t")
            self._parameters(state, place)
            return {"is": kind, **self._settings(value, place), "t": steps}
        if cls.__module__ == _OUTPUTS and kind == "OutputDecoder":
            levels = value.levels or (None,)
            quantiles = list(levels) if value.axis else levels[0]
            return {"is": "Reading", "name": value.name, "quantiles": quantiles}
        if kind in ESTIMATORS and cls is class_of(kind):
            found = value._saved_state() if hasattr(cls, "_saved_state") else vars(value)
            found = {_ATTRIBUTES.get(name, name): v for name, v in found.items()}
            state = {name: self.pack(v, _join(place, name)) for name, v in found.items()}
            return {"is": kind, "state": state}
        if is_pipeline(value):
            steps = [
                [name, step if step in (None, "passthrough") else self.pack(step, _join(place, name))]
                for name, step in value.steps
            ]
            return {"is": kind, "steps": steps}
        if kind in SCALERS and cls is scaler_class(kind):
            state = {name: self.pack(v, _join(place, name)) for name, v in vars(value).items()}
            return {"is": kind, "state": state}
        raise TypeError(f"{place or 'obj'} is {shorten(repr(value))}, which a file cannot name")

    def _settings(self, obj, place):
        """Arguments of an object's constructor, as its attributes have them."""
        return {
            name: self.pack(getattr(obj, name), _join(place, name))
            for name in inspect.signature(type(obj)).parameters
        }

    def _parameters(self, arrays, place):
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise ValueError(f"{_join(place, name)} holds NaN or inf: nothing has been saved")
            self._add(_join(place, name), array)

    def _array(self, array, place, kind):
        if array.dtype in DTYPES.values():
            self._add(place, array)
            return {"is": kind}
        values = array.ravel().tolist()
        if array.dtype.kind in "UO" and kind == "array" and all(type(v) is str for v in values):
            return {"is": "text", "dtype": array.dtype.str, "shape": list(array.shape), "values": values}
        raise TypeError(f"{place} is {array.dtype}; expected numbers or text, for a file")

    def _add(self, name, array):
        if name in self.arrays:
            raise TypeError(f"two arrays would have the name {name}")
        self.arrays[name] = np.ascontiguousarray(array).reshape(array.shape)


class Unpacker:
    """The way back, from a file that may be hostile: `tensors` is a `TensorFile`."""

    def __init__(self, tensors):
        self.tensors = tensors
        self.total = sum(math.prod(tensors.specification(name)[1]) for name in tensors.names)

    def unpack(self, value, place, allowed=None):
        """Return what is described, one of the kinds `allowed`, or any if that is None."""
        if isinstance(value, dict):
            options = dict(value)
            kind = options.pop("is", None)
        else:
            options, kind = value, None
        if allowed is not None and kind not in tuple(allowed):
            raise FormatError(f"{place or 'it'} is {shorten(kind)}; expected {' or '.join(allowed)}")
        if isinstance(value, list):
            return [self.unpack(v, _join(place, k)) for k, v in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if not isinstance(kind, str):
            raise FormatError(f"{place} is {shorten(kind)}, which is not known")
        if kind in LOSSES:
            return self._object(LOSSES[kind], options, place)
        if kind in OPTIMIZERS:
            return self._optimizer(OPTIMIZERS[kind], options, place)
        if kind in ESTIMATORS:
            return self._estimator(kind, options, place)
        if kind in SCALERS:
            return self._scaler(kind, options, place)
        make = {
            "LSTM": self._lstm, "Model": self._model, "array": self._array, "scalar": self._scalar,
            "text": self._text, "tuple": self._tuple, "dict": self._dict, "float": self._float,
            "Generator": self._generator, "Reading": self._reading, "Pipeline": self._pipeline,
        }.get(kind)
        if make is None:
            raise FormatError(f"{place} is {shorten(kind)}, which is not known")
        return make(options, place)

    def _lstm(self, options, place):
        check_options(options, _LSTM_OPTIONS, ("precision",))
        dtype = options["dtype"]
        if dtype not in ("float32", "float64"):
            raise FormatError(f"its dtype is {shorten(dtype)}; expected float32 or float64")
        # Compared before names are made of these sizes, which are any numbers that JSON can hold.
        count = checked_count(options)
        if count > self.total:
            raise FormatError(
                f"it has {self.total} numbers, and an LSTM of its sizes needs {shorten(count)} of them"
            )
        shapes = parameter_shapes(options, options["input_size"] * (2 if options["nan_mask"] else 1))
        self._check({_join(place, name): shape for name, shape in shapes.items()}, dtype)
        lstm = bare_lstm(**options)
        self._fill(lstm.named_parameters(), place)
        return lstm

    def _model(self, options, place):
        # Earlier files say nothing of pooling.
        check_options(options, ("lstm", "output_size", "every_step", "loss"), ("pooling",))
        pooling = options.get("pooling", "last")
        loss = self.unpack(options["loss"], _join(place, "loss"), LOSSES)
        lstm = self.unpack(options["lstm"], _join(place, "lstm"), ("LSTM",))
        output_size, every_step = options["output_size"], options["every_step"]
        if type(output_size) is not int or type(every_step) is not bool:
            raise FormatError(f"it has output_size {shorten(output_size)}, every_step {shorten(every_step)}")
        if not 0 < output_size * lstm.output_size <= self.total:
            raise FormatError(
                f"it has {self.total} numbers, and output_size={shorten(output_size)} needs more"
            )
        model = Model(lstm, output_size, every_step=every_step, loss=loss, pooling=pooling)
        views = {"weight": model.weight, "bias": model.bias}
        if model.attention.size:
            views["attention"] = model.attention
        self._check({_join(place, name): view.shape for name, view in views.items()}, lstm.dtype)
        self._fill(views, place)
        return model

    def _check(self, shapes, dtype):
        """Raise FormatError unless tensors of these names, shapes and this dtype are there."""
        check_names("it", self.tensors.names & set(shapes), shapes)
        for name, shape in shapes.items():
            found = self.tensors.specification(name)
            if found != (np.dtype(dtype), tuple(shape)):
                raise FormatError(
                    f"{shorten(name)} is {found[0]} {shorten(found[1])}; expected {np.dtype(dtype)} {shape}"
                )

    def _fill(self, views, place):
        for name, view in views.items():
            view[...] = self.tensors.read(_join(place, name))

    def _object(self, cls, options, place):
        check_options(options, inspect.signature(cls).parameters)
        return cls(**{name: self.unpack(v, _join(place, name)) for name, v in options.items()})

    def _optimizer(self, cls, options, place):
        steps = options.pop("t", None)
        optimizer = self._object(cls, options, place)
        names = optimizer._names() if steps else ()
        optimizer.state = {"t": steps, **{name: self.tensors.read(_join(place, name)) for name in names}}
        return optimizer

    def _estimator(self, kind, options, place):
        """Return an estimator: its attributes, none of which hides one of its class."""
        check_options(options, ("state",))
        cls, state = class_of(kind), options["state"]
        if not isinstance(state, dict) or not set(inspect.signature(cls).parameters) <= set(state):
            raise FormatError(f"{place or 'it'} lacks some of the parameters of {kind}")
        for name in state:
            if not name.isidentifier() or hasattr(cls, name):
                raise FormatError(f"{shorten(name)} is no attribute that {kind} can be given")
        estimator = cls.__new__(cls)
        names = {saved: name for name, saved in _ATTRIBUTES.items()}
        values = {names.get(name, name): self.unpack(v, _join(place, name)) for name, v in state.items()}
        if hasattr(cls, "_restore_state"):
            estimator._restore_state(values)
        else:
            vars(estimator).update(values)
        found = vars(estimator)
        if hasattr(cls, "_check_parameters"):
            estimator._check_parameters()
        if not isinstance(found.get("model_", None), (Model, type(None))):
            raise FormatError(f"model_ is {type(estimator.model_).__name__}; expected a Model")
        if kind == "SequenceScaler" and "mean_" in found:
            for array in (estimator.mean_, estimator.scale_):
                as_weights(place, array, (estimator.n_features_in_,))
        if "classes_" in found and np.shape(estimator.classes_) != (estimator.model_.output_size,):
            raise FormatError(f"it has {np.size(estimator.classes_)} classes, its model has another number")
        return estimator

    def _pipeline(self, options, place):
        check_options(options, ("steps",))
        require("sklearn", "sklearn")
        given, steps = options["steps"], []
        if not isinstance(given, list) or not given:
            raise FormatError(f"{place or 'it'} has no steps")
        for part in given:
            if not isinstance(part, list) or len(part) != 2 or type(part[0]) is not str:
                raise FormatError(f"{place or 'it'} has a step that is not a name and an estimator")
            name, step = part
            last = len(steps) == len(given) - 1
            if step is not None and step != "passthrough":
                kinds = (*ESTIMATORS, "Pipeline") if last else ("SequenceScaler", *SCALERS, "Pipeline")
                step = self.unpack(step, _join(place, name), kinds)
            steps.append((name, step))
        return importlib.import_module("sklearn.pipeline").Pipeline(steps)

    def _scaler(self, kind, options, place):
        """Return a scaler of scikit-learn: numbers by the names that its class gives them, checked."""
        check_options(options, ("state",))
        cls, state = scaler_class(kind), options["state"]
        known = _SCALER_STATE | set(inspect.signature(cls).parameters)
        if not isinstance(state, dict) or not set(state) <= known:
            raise FormatError(f"{place} has attributes that {kind} does not have: {shorten(sorted(state))}")
        scaler = cls()
        for name, value in state.items():
            setattr(scaler, name, self.unpack(value, _join(place, name)))
        if "n_features_in_" in state:
            if type(scaler.n_features_in_) is not int or not 0 < scaler.n_features_in_ <= self.total:
                raise FormatError(f"{place} has n_features_in_ {shorten(state['n_features_in_'])}")
            affine_of(place, scaler)
        return scaler

    def _reading(self, options, place):
        check_options(options, ("name", "quantiles"))
        return importlib.import_module(_OUTPUTS).OutputDecoder(options["name"], options["quantiles"])

    def _array(self, options, place):
        check_options(options, ())
        return self.tensors.read(place, finite=False)

    def _scalar(self, options, place):
        array = self._array(options, place)
        if array.shape:
            raise FormatError(f"{shorten(place)} has shape {array.shape}; expected ()")
        return array[()]

    def _text(self, options, place):
        check_options(options, ("dtype", "shape", "values"))
        dtype, values = options["dtype"], options["values"]
        if not isinstance(values, list) or not all(type(v) is str for v in values):
            raise FormatError(f"{shorten(place)} is not text")
        width = re.fullmatch(r"[<>]U(\d{1,6})", str(dtype))
        if dtype != "|O" and (width is None or not max(map(len, values), default=0) <= int(width[1])):
            raise FormatError(f"{shorten(place)} is {shorten(dtype)}; expected text")
        if width and int(width[1]) * len(values) > MAX_TEXT:
            raise FormatError(f"{shorten(place)} is {shorten(dtype)}, more than {MAX_TEXT} characters")
        return np.array(values, dtype).reshape(options["shape"])

    def _tuple(self, options, place):
        check_options(options, ("values",))
        return tuple(self.unpack(v, _join(place, k)) for k, v in enumerate(options["values"]))

    def _dict(self, options, place):
        check_options(options, ("items",))
        return {key: self.unpack(v, _join(place, key)) for key, v in options["items"].items()}

    def _float(self, options, place):
        check_options(options, ("value",))
        if options["value"] not in ("nan", "inf", "-inf"):
            raise FormatError(f"{shorten(place)} is {shorten(options['value'])}; expected nan, inf or -inf")
        return float(options["value"])

    def _generator(self, options, place):
        check_options(options, ("state",))
        generator = np.random.Generator(np.random.PCG64(0))
        generator.bit_generator.state = options["state"]
        return generator


# ---- the archives of former versions

_FORMER = {
    "lstm_ext.Model 2": tuple(name for name in _LSTM_OPTIONS if name != "dtype"),
    # All that this did not say was as it is by default.
    "lstm_ext.Model 1": (
        "input_size", "hidden_size", "num_layers", "bidirectional", "cell_activation", "checkpoint",
    ),
}


def unpack_archive(configuration, arrays):
    """Return the model of an ``.npz`` that `Model.save` wrote before it wrote safetensors."""
    form = configuration["format"]
    if form not in _FORMER:
        raise FormatError(f"its format is {shorten(form)}, not 'lstm_ext.Model 2'")
    options, output_size = configuration["lstm"], configuration["output_size"]
    if set(options) != set(_FORMER[form]):
        raise FormatError(f"its LSTM is described by {shorten(sorted(options))}")
    shape, dtype, data = arrays["parameters"]
    if dtype.name != configuration["dtype"] or dtype.name not in ("float32", "float64"):
        raise FormatError(f"its parameters are {dtype}, its dtype is {shorten(configuration['dtype'])}")
    # Compared before a model of these sizes is made.
    output_size = count("output_size", output_size, 1)
    n = _parameter_count(options, output_size)
    if shape != (n,) or len(data) != n * dtype.itemsize:
        raise FormatError(
            f"it has parameters of shape {shorten(shape)}, a model of its sizes has {shorten(n)}"
        )
    parameters = np.frombuffer(data, dtype)
    if not np.isfinite(parameters).all():
        raise FormatError("its parameters hold NaN or inf")
    loss = configuration["loss"]
    if loss not in losses.LOSSES:
        raise FormatError(f"loss is {shorten(loss)}; expected one of {', '.join(losses.LOSSES)}")
    loss = losses.LOSSES[loss](**configuration.get("loss_options", {}))
    lstm = LSTM(**options, dtype=dtype.name)
    model = Model(lstm, output_size, every_step=configuration["every_step"], loss=loss)
    model.parameters = parameters
    return model


def _parameter_count(options, output_size):
    """Count the parameters of a model of these sizes, without making it."""
    lstm = checked_count(options)
    directions = 2 if options.get("bidirectional") else 1
    return lstm + output_size * (directions * (options.get("proj_size") or options["hidden_size"]) + 1)


def check_options(described, needed, possible=()):
    """Raise FormatError unless the keys are those `needed`, and some of those `possible`."""
    if not isinstance(described, dict) or not set(needed) <= set(described) <= {*needed, *possible}:
        found = sorted(described) if isinstance(described, dict) else described
        raise FormatError(f"its configuration has {shorten(found)}; expected {shorten(sorted(needed))}")
