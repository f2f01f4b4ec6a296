"""Exported models in control: CasADi functions with derivatives, Functional Mock-up Units, closed loops."""

import shutil
import subprocess
import zipfile

import numpy as np
import pytest
from harness import assert_close

from lstm_ext import LSTM, Model, _options
from lstm_ext.io import export_casadi, export_fmu, stream, to_casadi

COMPILER = shutil.which("cc") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")

OPTIONS = {
    "plain": {}, "stacked": {"num_layers": 3}, "peepholes": {"peepholes": True, "num_layers": 2},
    "coupled": {"coupled_gates": True, "peepholes": True}, "projection": {"proj_size": 2, "num_layers": 2},
    "no bias": {"bias": False}, "learnt states": {"learn_state": True}, "zoneout": {"zoneout": (0.2, 0.1)},
    "clips": {"gate_clip": 0.4, "cell_clip": 0.3}, "identity": {"cell_activation": "identity"},
    **{f"all {name}": {"activations": (name,) * 3} for name in sorted(_options.ACTIVATIONS)
       if name not in ("affine", "scaled_tanh")},
    "numbers": {"activations": (("hard_sigmoid", 0.3, 0.4), ("scaled_tanh", 1.7, 0.6), ("affine", 0.5, 0.1))},
}


def drawn(words, dtype="float64", output_size=2):
    model = Model(LSTM(3, 4, dtype=dtype, **words), output_size, rng=0)
    model.parameters = np.random.default_rng(0).normal(size=model.parameters.shape) / 2
    return model


def begun(lstm, seed=1):
    """Return x, h and c before a step, as flat vectors."""
    rng = np.random.default_rng(seed)
    L, P = lstm.num_layers, lstm.proj_size or lstm.hidden_size
    return rng.normal(size=3), rng.normal(size=L * P) / 2, rng.normal(size=L * lstm.hidden_size) / 2


def numbers(values):
    return [np.asarray(value).ravel() for value in values]


@pytest.mark.parametrize("name", OPTIONS)
def test_a_step_in_casadi_is_a_step_of_the_model(name):
    pytest.importorskip("casadi", reason="casadi is not installed: nothing of CasADi is tested")
    model = drawn(OPTIONS[name])
    lstm, step = model.lstm, to_casadi(model)
    x, h, c = begun(lstm)
    L = lstm.num_layers
    y, (h_n, c_n) = lstm(x[None, None], (h.reshape(L, 1, -1), c.reshape(L, 1, -1)))
    expected = [y[0] @ model.weight.T + model.bias, h_n, c_n]
    for mine, own in zip(numbers(step(x, h, c)), expected, strict=True):
        assert_close(mine, own.ravel(), 1e-12)


@needs_compiler
@pytest.mark.parametrize("name", OPTIONS)
def test_the_external_has_the_step_and_its_jacobian(name, tmp_path):
    """C that is written by hand against the derivatives that CasADi makes of the equations."""
    model = drawn(OPTIONS[name])
    external = loaded(model, tmp_path)
    symbols = to_casadi(model)
    given = begun(model.lstm)
    for mine, own in zip(numbers(external(*given)), numbers(symbols(*given)), strict=True):
        assert_close(mine, own, 1e-12)
    ends = [np.zeros(n) for n in map(len, numbers(symbols(*given)))]
    for mine, own in zip(
        numbers(external.jacobian()(*given, *ends)), numbers(symbols.jacobian()(*given, *ends)), strict=True
    ):
        assert_close(mine, own, 1e-11)


def loaded(model, folder):
    casadi = pytest.importorskip("casadi", reason="casadi is not installed: nothing of CasADi is tested")
    files = export_casadi(model, folder / "unit.c", name="unit")
    library = folder / "unit.so"
    subprocess.run(
        [COMPILER, "-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-shared",
         "-fPIC", files[-1], "-o", library, "-lm"], check=True)
    return casadi.external("unit_casadi", str(library))


def test_second_derivatives_are_those_of_differences_of_gradients():
    casadi = pytest.importorskip("casadi", reason="casadi is not installed: nothing of CasADi is tested")
    step = to_casadi(drawn({"num_layers": 2}, output_size=1))
    x, h, c = casadi.MX.sym("x", 3), casadi.MX.sym("h", 8), casadi.MX.sym("c", 8)
    first, h_1, c_1 = step(x, h, c)
    loss = step(x, h_1, c_1)[0] ** 2 + first
    hessian, gradient = casadi.hessian(loss, x)
    of_both = casadi.Function("f", [x, h, c], [hessian, gradient])
    at, *state = np.array([0.3, -0.2, 0.5]), np.full(8, 0.1), np.full(8, -0.2)
    mine = np.asarray(of_both(at, *state)[0])
    for k in range(3):
        e = np.eye(3)[k] * 1e-5
        difference = np.asarray(of_both(at + e, *state)[1] - of_both(at - e, *state)[1]).ravel() / 2e-5
        assert_close(mine[k], difference, 1e-7)
    assert_close(mine, mine.T, 1e-12)


@needs_compiler
@pytest.mark.parametrize("how", ["symbols", "external"])
def test_a_closed_loop_in_casadi(how, tmp_path):
    """A model predictive controller: each step plans five inputs and applies the first to the model."""
    casadi = pytest.importorskip("casadi", reason="casadi is not installed: nothing of CasADi is tested")
    model = Model(LSTM(1, 6, dtype="float64", rng=3), 1, rng=3)
    model.parameters = np.random.default_rng(3).normal(size=model.parameters.shape) / 2
    step = to_casadi(model) if how == "symbols" else loaded(model, tmp_path)
    u, h_0, c_0, wanted = (casadi.MX.sym(*own) for own in (("u", 5), ("h", 6), ("c", 6), ("r", 1)))
    h, c, cost = h_0, c_0, 0
    for k in range(5):
        y, h, c = step(u[k], h, c)
        cost += (y - wanted) ** 2 + 1e-4 * u[k] ** 2
    words = {"print_time": False, "ipopt": {"print_level": 0, "sb": "yes", "tol": 1e-8}}
    if how == "external":  # it has first derivatives
        words["ipopt"]["hessian_approximation"] = "limited-memory"
    solver = casadi.nlpsol("solver", "ipopt", {
        "x": u, "p": casadi.vertcat(h_0, c_0, wanted), "f": cost}, words)
    plant, target = model.lstm.stream(), float(model.predict(np.full((1, 30, 1), 0.8))[0, 0])
    h, c, plan, reached = np.zeros(6), np.zeros(6), np.zeros(5), []
    for _ in range(12):
        found = solver(x0=plan, p=np.concatenate([h, c, [target]]), lbx=-3, ubx=3)
        assert solver.stats()["success"]
        plan = np.asarray(found["x"]).ravel()
        reached.append(float(plant.step(plan[:1]).ravel() @ model.weight[0] + model.bias[0]))
        h, c = (np.ravel(own) for own in plant.state)
    without = np.abs(model.predict(np.zeros((1, 12, 1)))[0, 0] - target)
    assert abs(reached[-1] - target) < 0.05 * without


# ---- Functional Mock-up Units


def unit(path, folder):
    """Return (value references by name, an instance in step mode) of an FMU."""
    fmpy = pytest.importorskip("fmpy", reason="fmpy is not installed: no FMU is run")
    from fmpy.fmi3 import FMU3Slave

    description = fmpy.read_model_description(path, validate=True)
    unzipped = fmpy.extract(path, unzipdir=str(folder))
    instance = FMU3Slave(
        guid=description.guid, unzipDirectory=unzipped, instanceName="one",
        modelIdentifier=description.coSimulation.modelIdentifier,
    )
    instance.instantiate()
    instance.enterInitializationMode(startTime=0.0)
    instance.exitInitializationMode()
    return {own.name: own.valueReference for own in description.modelVariables}, instance


def doing(instance, names, x, now, step):
    """Set x, take one communication step and return the outputs."""
    instance.setFloat64([names[f"x{k + 1}"] for k in range(len(x))], list(map(float, x)))
    instance.doStep(currentCommunicationPoint=now, communicationStepSize=step)
    return np.array(instance.getFloat64([own for name, own in names.items() if name.startswith("y")]))


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_unit_is_valid_and_steps_as_the_model_does(dtype, tmp_path):
    model = drawn({"num_layers": 2}, dtype)
    path = export_fmu(model, tmp_path / "unit.fmu", name="unit", step_size=0.25)
    validation = pytest.importorskip("fmpy.validation", reason="fmpy is not installed: no FMU is run")
    assert validation.validate_fmu(path) == []
    names, instance = unit(path, tmp_path / "unzipped")
    x = np.random.default_rng(0).normal(size=(1, 12, 3)).astype(dtype)
    every = Model(LSTM(3, 4, 2, dtype=dtype), 2, every_step=True)
    every.parameters = model.parameters
    expected = every.predict(x)[0]
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for t in range(12):
        assert_close(doing(instance, names, x[0, t], 0.25 * t, 0.25), expected[t], tolerance)
    instance.reset()
    assert_close(doing(instance, names, x[0, 0], 0.0, 0.25), expected[0], tolerance)
    kept = instance.getFMUState()
    once = doing(instance, names, x[0, 1], 0.25, 0.25)
    instance.setFMUState(kept)
    assert np.array_equal(doing(instance, names, x[0, 1], 0.25, 0.25), once)
    instance.freeFMUState(kept)
    held = model.predict(np.repeat(x[:, :1], 6, axis=1))[0]
    instance.reset()
    assert_close(doing(instance, names, x[0, 0], 0.0, 6 * 0.25), held, tolerance)  # six steps at once
    with pytest.raises(Exception, match="fmi3DoStep"):
        doing(instance, names, x[0, 0], 1.5, 0.3)
    instance.terminate()
    instance.freeInstance()


@needs_compiler
def test_directional_derivatives_of_a_unit(tmp_path):
    model = drawn({"num_layers": 2, "peepholes": True})
    path = export_fmu(model, tmp_path / "unit.fmu", name="unit")
    names, instance = unit(path, tmp_path / "unzipped")
    x = np.random.default_rng(0).normal(size=(1, 4, 3))
    for t in range(4):
        doing(instance, names, x[0, t], t, 1.0)
    seed = np.array([0.3, -1.0, 0.5])
    mine = instance.getDirectionalDerivative(
        unknowns=[names["y1"], names["y2"]], knowns=[names[f"x{k}"] for k in (1, 2, 3)], seed=list(seed))
    ahead, back = x.copy(), x.copy()
    ahead[0, 3] += 1e-6 * seed
    back[0, 3] -= 1e-6 * seed
    assert_close(mine, (model.predict(ahead) - model.predict(back))[0] / 2e-6, 1e-8)


@needs_compiler
def test_a_closed_loop_with_a_unit(tmp_path):
    """A controller that asks the unit for its derivative: Newton's method on the next output."""
    model = Model(LSTM(1, 6, dtype="float64", rng=3), 1, rng=3)
    model.parameters = np.random.default_rng(3).normal(size=model.parameters.shape) / 2
    path = export_fmu(model, tmp_path / "plant.fmu", name="plant", step_size=0.1)
    names, instance = unit(path, tmp_path / "unzipped")
    target = float(model.predict(np.full((1, 30, 1), 0.8))[0, 0])
    u, inputs, outputs = 0.0, [], []
    for t in range(20):
        kept = instance.getFMUState()
        for _ in range(3):  # what the next step would give, and its slope
            y = doing(instance, names, [u], 0.1 * t, 0.1)[0]
            slope = instance.getDirectionalDerivative(
                unknowns=[names["y1"]], knowns=[names["x1"]], seed=[1.0])[0]
            u = float(np.clip(u - 0.7 * (y - target) / slope if abs(slope) > 1e-6 else u, -3, 3))
            instance.setFMUState(kept)
        instance.freeFMUState(kept)
        inputs.append(u)
        outputs.append(doing(instance, names, [u], 0.1 * t, 0.1)[0])
    plant = model.lstm.stream()
    mine = [float(plant.step(np.array([own])).ravel() @ model.weight[0] + model.bias[0]) for own in inputs]
    assert_close(np.array(outputs), np.array(mine), 1e-12)
    assert abs(outputs[-1] - target) < 0.05 * abs(outputs[0] - target) + 1e-3


@needs_compiler
@pytest.mark.filterwarnings("ignore:max_iter=3 reached")
def test_a_fitted_pipeline_goes_out_with_its_scaling(tmp_path):
    sklearn = pytest.importorskip("sklearn.pipeline", reason="scikit-learn is not installed: extra sklearn")
    from lstm_ext.sklearn import LSTMRegressor, SequenceScaler

    rng = np.random.default_rng(0)
    x = 100 + 5 * rng.normal(size=(8, 6, 3))
    regressor = LSTMRegressor(hidden_size=4, max_iter=3, random_state=0)
    pipeline = sklearn.make_pipeline(SequenceScaler(), regressor).fit(x, 40 + 3 * x[:, -1, 0])
    expected = pipeline.predict(x[:1])[0]
    names, instance = unit(export_fmu(pipeline, tmp_path / "a.fmu", name="a"), tmp_path / "unzipped")
    for t in range(6):
        last = doing(instance, names, x[0, t], t, 1.0)
    np.testing.assert_allclose(last, expected, rtol=1e-6)
    online = stream(pipeline)
    for x_t in x[0]:
        level = online.step(x_t)
    np.testing.assert_allclose(level, expected, rtol=1e-6)
    pytest.importorskip("casadi", reason="casadi is not installed: nothing of CasADi is tested")
    for step in (to_casadi(pipeline), loaded(pipeline, tmp_path)):
        h, c = np.zeros(4), np.zeros(4)
        for x_t in x[0]:
            y, h, c = step(x_t, h, c)
        np.testing.assert_allclose(float(y), expected, rtol=1e-6)


def test_names_and_steps_are_checked_and_the_same_model_gives_the_same_unit(tmp_path):
    model = drawn({})
    for words, said in (
        ({"step_size": 0}, "step_size is 0; expected a positive number"),
        ({"step_size": True}, "step_size is True; expected"),
        ({"inputs": ["a", "b"]}, r"inputs is \['a', 'b'\]; expected 3 different names"),
        ({"inputs": ["a", "b", "time"]}, "none of them 'time'"),
        ({"outputs": ["a", "a"]}, "expected 2 different"),
        ({"outputs": ["x1", "b"]}, "inputs and outputs have 'x1' in common"),
        ({"name": "1a"}, "name is '1a'; expected a letter"),
    ):
        with pytest.raises(ValueError, match=said):
            export_fmu(model, tmp_path / "a.fmu", **words)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="there is no compiler 'no-such-compiler'"):
        export_fmu(model, tmp_path / "a.fmu", compiler="no-such-compiler")
    for name in ("a", "b"):
        export_fmu(model, tmp_path / f"{name}.fmu", compiler=False, inputs=["<&\"'>", "b", "c"])
    assert (tmp_path / "a.fmu").read_bytes() == (tmp_path / "b.fmu").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.fmu") as archive:
        assert set(archive.namelist()) == {
            "modelDescription.xml", "sources/model.c", "sources/model.h", "sources/model_fmi.c",
            "sources/buildDescription.xml",
        }
    for function in (to_casadi, lambda lstm: export_casadi(lstm, tmp_path / "a.c"),
                     lambda lstm: export_fmu(lstm, tmp_path / "c.fmu")):
        if function is to_casadi:
            pytest.importorskip("casadi", reason="casadi is not installed: nothing of CasADi is tested")
        with pytest.raises(ValueError, match="bidirectional is True; expected False for"):
            function(LSTM(3, 4, bidirectional=True))
        with pytest.raises(TypeError, match="model is int; expected an LSTM, a Model or a fitted estimator"):
            function(3)
