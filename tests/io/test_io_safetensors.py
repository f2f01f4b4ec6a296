"""Files of our own: bit for bit there and back, whole or not at all, and nothing in them is executed."""

import inspect
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("safetensors", reason="safetensors is not installed: the extra io")

import safetensors

from lstm_ext import LSTM, SGD, Adam, Model, losses, optim
from lstm_ext._options import CONFIGURATION
from lstm_ext.io import FormatError, _packing, load, save

OPTIONS = {
    "plain": {},
    "two layers, two directions": {"num_layers": 2, "bidirectional": True, "dropout": 0.25},
    "float64": {"dtype": "float64", "checkpoint": 7},
    "time first": {"batch_first": False, "reverse": True},
    "the cell": {
        "peepholes": True, "coupled_gates": True, "cell_clip": 3.1, "gate_clip": 0.1 + 0.2,
        "activations": (("hard_sigmoid", 1 / 6, 0.5), "relu6", ("elu", 0.3)),
    },
    "projected": {"proj_size": 2, "bias": False, "num_layers": 2, "recurrent_dropout": 0.1},
    "normalised": {"layer_norm": True, "zoneout": (0.1, 0.2), "weight_dropout": 0.3},
    "static": {"static_size": 3, "entity_aware": True, "learn_state": True},
    "missing values": {"nan": "hold", "nan_mask": True},
    "low precision": {"precision": "bfloat16x3"},
}


def perturbed(obj, seed=1):
    """Change all parameters, some to numbers whose bits are easily lost."""
    rng = np.random.default_rng(seed)
    obj.parameters = rng.normal(size=obj.parameters.shape)
    tiny = np.finfo(obj.parameters.dtype).smallest_subnormal
    obj.parameters[:3] = -0.0, tiny, -tiny
    return obj


@pytest.mark.parametrize("name", OPTIONS)
def test_an_lstm_comes_back_bit_for_bit(name, tmp_path):
    lstm = perturbed(LSTM(3, 4, **OPTIONS[name], rng=0))
    save(lstm, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert again.parameters.tobytes() == lstm.parameters.tobytes()
    assert repr(again) == repr(lstm)
    first, second = lstm.__getstate__(), again.__getstate__()
    del first["parameters"], second["parameters"]
    assert first == second


def test_every_option_is_in_a_test_above_or_a_size():
    tried = {"input_size", "hidden_size", "cell_activation"}.union(*OPTIONS.values())
    assert set(CONFIGURATION) == tried


def test_a_new_keyword_of_lstm_or_model_must_be_thought_of_here():
    assert set(inspect.signature(LSTM).parameters) - {"rng", "init"} == set(CONFIGURATION)
    words = set(inspect.signature(Model).parameters) - {"rng", "lstm", "loss"}
    assert words == set(_packing._MODEL_OPTIONS)


@pytest.mark.parametrize("loss", _packing.LOSSES)
@pytest.mark.parametrize("every_step", [False, True])
def test_a_model_comes_back_bit_for_bit(loss, every_step, tmp_path):
    lstm = LSTM(2, 3, 2, bidirectional=True, zoneout=(0.1, 0.0), rng=0)
    model = perturbed(Model(lstm, 12, every_step=every_step, loss=getattr(losses, loss)()))
    save(model, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert repr(again) == repr(model)
    assert type(again.loss) is type(model.loss) and vars(again.loss) == vars(model.loss)
    assert again.parameters.tobytes() == model.parameters.tobytes()
    x = np.random.default_rng(0).normal(size=(3, 5, 2))
    assert again.predict(x).tobytes() == model.predict(x).tobytes()


def optimizers():
    words = {"lr": 0.01, "max_norm": 0.5, "momentum": 0.9, "betas": (0.8, 0.99), "eps": 1e-7}
    for name, cls in _packing.OPTIMIZERS.items():
        takes = inspect.signature(cls).parameters
        yield name, cls(**{word: value for word, value in words.items() if word in takes})
    yield "SGD without momentum", SGD(0.1)


@pytest.mark.parametrize("name", dict(optimizers()))
@pytest.mark.parametrize("epochs", [0, 2])
def test_training_goes_on_with_the_same_bits(name, epochs, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 5, 2)), rng.normal(size=(8, 1))
    model, optimizer = Model(LSTM(2, 3, rng=0), 1, rng=0), dict(optimizers())[name]
    model.fit(x, y, epochs=epochs, optimizer=optimizer, rng=0)
    save(model, tmp_path / "a.safetensors", optimizer=optimizer)
    again, restored = load(tmp_path / "a.safetensors", return_optimizer=True)
    assert repr(restored) == repr(optimizer)
    assert restored.state["t"] == 0 or epochs
    model.fit(x, y, epochs=2, optimizer=optimizer, rng=1)
    again.fit(x, y, epochs=2, optimizer=restored, rng=1)
    assert again.parameters.tobytes() == model.parameters.tobytes()


def test_settings_of_a_loss_and_an_optimiser_are_kept(tmp_path):
    optimizer = Adam(0.1 + 0.2, betas=(1 / 3, 0.99), eps=1e-300, max_norm=2)
    save(LSTM(1, 2), tmp_path / "a.safetensors", optimizer=optimizer)
    restored = load(tmp_path / "a.safetensors", return_optimizer=True)[1]
    assert (restored.lr, restored.betas, restored.eps) == (0.1 + 0.2, (1 / 3, 0.99), 1e-300)
    assert load(tmp_path / "a.safetensors").input_size == 1


def test_without_an_optimiser_there_is_none(tmp_path):
    save(LSTM(1, 2), tmp_path / "a.safetensors")
    assert load(tmp_path / "a.safetensors", return_optimizer=True)[1] is None


def test_any_reader_of_safetensors_shows_the_parameters(tmp_path):
    model = Model(LSTM(2, 3, rng=0), 1)
    save(model, tmp_path / "a.safetensors")
    with safetensors.safe_open(str(tmp_path / "a.safetensors"), framework="numpy") as file:
        assert set(file.keys()) == set(model.named_parameters())
        for name, view in model.named_parameters().items():
            assert file.get_tensor(name).tobytes() == view.tobytes()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save(LSTM(1, 2, rng=0), path)
    content = path.read_bytes()
    lstm = LSTM(1, 2, rng=0)
    lstm.parameters[3] = np.nan
    with pytest.raises(ValueError, match="holds NaN or inf"):
        save(lstm, path)
    monkeypatch.setattr("lstm_ext._safetensors.MAX_TEXT", 100)
    with pytest.raises(ValueError, match="header would have"):  # and load would refuse it
        save(LSTM(1, 1), path)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["a.safetensors"]


class Subclass(LSTM):
    pass


class OtherLoss(losses.MeanSquaredError):
    pass


@pytest.mark.parametrize("make", [
    lambda: (Subclass(1, 2), None),
    lambda: (Model(LSTM(1, 2), 1, loss=OtherLoss()), None),
    lambda: (np.zeros(3), None),
    lambda: ({"lstm": LSTM(1, 2)}, None),
    lambda: (None, None),
    lambda: (LSTM(1, 2), LSTM(1, 2)),
    lambda: (LSTM(1, 2), type("Mine", (optim.Adam,), {})()),
])
def test_what_a_file_cannot_name_is_refused_and_nothing_written(make, tmp_path):
    obj, optimizer = make()
    with pytest.raises(TypeError):
        save(obj, tmp_path / "a.safetensors", optimizer=optimizer)
    assert not os.listdir(tmp_path)


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing.safetensors")
    with pytest.raises(FormatError, match="is a folder; expected a file"):
        load(tmp_path)


def test_a_later_version_is_refused_by_a_sentence(tmp_path):
    save(LSTM(1, 2), tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(content.replace(b'version\\": 2', b'version\\": 3'))
    with pytest.raises(FormatError, match="its version is 3, this lstm_ext reads versions 1 and 2"):
        load(tmp_path / "a.safetensors")


def test_importing_io_imports_no_optional_library():
    script = (
        "import sys, lstm_ext.io; from lstm_ext.io import from_keras, from_torch, load, save; "
        "print({'torch', 'keras', 'h5py', 'safetensors', 'sklearn', 'onnx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_no_library_is_needed_and_the_library_reads_the_file(tmp_path):
    path = tmp_path / "a.safetensors"
    script = (
        "import sys; sys.modules['safetensors'] = None\n"
        "from lstm_ext import LSTM; from lstm_ext.io import load, save\n"
        f"save(LSTM(2, 3, rng=0), {str(path)!r}); print(load({str(path)!r}))\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("LSTM(2, 3")
    import safetensors.numpy

    found = safetensors.numpy.load_file(path)
    assert {name: array.tolist() for name, array in found.items()} == {
        name: view.tolist() for name, view in LSTM(2, 3, rng=0).named_parameters().items()
    }


def test_a_name_that_is_not_there_is_no_attribute():
    import lstm_ext.io

    with pytest.raises(AttributeError, match="no attribute 'from_pickle'"):
        lstm_ext.io.from_pickle  # noqa: B018
    assert set(lstm_ext.io.__all__) <= set(dir(lstm_ext.io))


# ---- estimators


def estimators():
    estimators = pytest.importorskip("lstm_ext.sklearn", reason="there are no estimators here")
    small = {"hidden_size": 3, "max_iter": 2, "random_state": 0}
    options = {"lstm_options": {"bidirectional": True, "zoneout": (0.1, 0.1)}}
    return {
        "regressor": estimators.LSTMRegressor(**small, **options),
        "quantiles": estimators.LSTMRegressor(**small, loss="quantile", quantiles=[0.1, 0.5, 0.9]),
        "gaussian": estimators.LSTMRegressor(**small, loss="gaussian", early_stopping=True),
        "unscaled": estimators.LSTMRegressor(**small, scale=False, dtype="float64", solver="sgd"),
        "classifier": estimators.LSTMClassifier(**small),
        "forecaster": estimators.LSTMForecaster(**small),
    }


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "name", ["regressor", "quantiles", "gaussian", "unscaled", "classifier", "forecaster"]
)
def test_an_estimator_comes_back_and_predicts_the_same_bits(name, tmp_path):
    estimator = estimators()[name]
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(length, 2)) for length in rng.integers(3, 9, 30)]
    sums = np.array([x.sum() for x in X])
    if name == "forecaster":
        estimator.fit(np.sin(0.3 * np.arange(200)))
    else:
        estimator.fit(X, np.where(sums > 0, "up", "down") if name == "classifier" else sums)
    path = tmp_path / "a.safetensors"
    save(estimator, path)
    again = load(path)
    assert type(again) is type(estimator) and repr(again) == repr(estimator)
    assert set(vars(again)) == set(vars(estimator))
    data = () if name == "forecaster" else (X,)
    assert np.array_equal(again.predict(*data), estimator.predict(*data))
    if name == "classifier":
        assert again.classes_.dtype == estimator.classes_.dtype
        assert again.classes_.tolist() == estimator.classes_.tolist()
    if name != "forecaster":
        y = np.where(sums > 0, "up", "down") if name == "classifier" else sums
        assert np.array_equal(again.partial_fit(X, y).predict(X), estimator.partial_fit(X, y).predict(X))


def test_an_estimator_that_is_not_fitted_comes_back(tmp_path):
    estimator = estimators()["quantiles"]
    save(estimator, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert again.get_params() == estimator.get_params() and not hasattr(again, "model_")


def test_an_estimator_with_code_is_refused(tmp_path):
    estimator = estimators()["regressor"].set_params(callbacks=[print])
    with pytest.raises(TypeError, match=r"callbacks\.0 is .*print.*, which a file cannot name"):
        save(estimator, tmp_path / "a.safetensors")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("state", [
    {"fit": 1}, {"predict": None}, {"__class__": 1}, {"hidden_size": -1}, {"solver": "os.system"},
    {"model_": 1}, {"model_": {"is": "Adam"}}, {"x_scaler_": {"is": "SequenceScaler", "state": {}}},
    {"x_scaler_": {"is": "os.system"}}, {"a b": 1}, {"_rng": {"is": "Generator", "state": {}}},
    {"_reading": {"is": "Reading", "name": "eval", "quantiles": 1}}, None, [1],
])
def test_a_file_of_an_estimator_that_lies_is_refused(state, tmp_path):
    """Nothing of the class can be hidden, and no other class named."""
    import hostile_files

    packer = _packing.Packer()
    described = packer.pack(estimators()["regressor"], "")
    described["state"] = {**described["state"], **state} if isinstance(state, dict) else state
    header, body = hostile_files.tensors({**packer.arrays})
    text = hostile_files.json.dumps({"version": 1, "object": described})
    path = tmp_path / "a.safetensors"
    path.write_bytes(hostile_files.file_of({**header, "__metadata__": {"lstm_ext": text}}, body))
    with pytest.raises(FormatError):
        load(path)
