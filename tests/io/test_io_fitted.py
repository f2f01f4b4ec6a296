"""The fitted chain travels whole: scaling and network through save, stream, C, Fortran, ONNX, attribution."""

import ctypes
import functools
import re
import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("lstm_ext.sklearn", reason="scikit-learn is not installed: the extra sklearn")

from sklearn.feature_selection import SelectKBest
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    PolynomialFeatures,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

from lstm_ext import LSTM, Model
from lstm_ext.attribution import gradient_times_input, integrated_gradients, output_difference
from lstm_ext.io import FormatError, export_c, load, save, stream, to_onnx
from lstm_ext.sklearn import LSTMClassifier, LSTMForecaster, LSTMRegressor, SequenceScaler

pytestmark = pytest.mark.filterwarnings("ignore")
needs_c = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not here: no C was compiled or run")
SMALL = {"hidden_size": 4, "max_iter": 3, "random_state": 0}
CENTRE, SPREAD = np.array([101325.0, -3.0, 0.002]), np.array([400.0, 10.0, 1e-4])
T = 7


def sequences(n=24, seed=0, steps=T):
    """X in units that a network does not like: pressure, temperature, a concentration."""
    z = np.random.default_rng(seed).normal(size=(n, steps, 3))
    return CENTRE + SPREAD * z, z


def taken(name):
    """Whether an option of the estimators is there in this version, in which classifiers may pool."""
    return name in LSTMClassifier().get_params()


def without_pooling():
    """Keywords of a classifier that reads forward, and the last step alone."""
    words = {"pooling": "last"} if taken("pooling") else {}
    if taken("merge_steps"):
        words["merge_steps"] = 1
    return {**SMALL, **words, "lstm_options": {"bidirectional": False}}


@functools.cache
def fitted(name):
    """Return an object, its X, and what it answers: predict, or of classifiers probabilities."""
    X, z = sequences()
    y = 12.0 + 300 * z.sum(axis=(1, 2))
    several = np.stack([y, -(0.01) * z[:, -1, 0] - 4], axis=1)
    by_step = 12.0 + 300 * z.cumsum(axis=1).sum(axis=2)
    labels = np.array(["low", "middle", "high"])[np.digitize(z.sum(axis=(1, 2)), [-2, 2])]
    flat, target, long = X[:, 0], y, sequences(steps=70)[0]
    ahead, both = {"bidirectional": False}, {"bidirectional": True}
    scalers = {
        "standard": StandardScaler(),
        "minmax": MinMaxScaler((-2, 3)),
        "robust": RobustScaler(),
        "maxabs": MaxAbsScaler(),
        "no mean": StandardScaler(with_mean=False),
        "no std": StandardScaler(with_std=False),
        "nothing": StandardScaler(with_mean=False, with_std=False),
        "no centre": RobustScaler(with_centering=False),
    }
    made = {
        "regressor": lambda: LSTMRegressor(**SMALL).fit(X, y),
        "float64": lambda: LSTMRegressor(**SMALL, dtype="float64").fit(X, y),
        "unscaled": lambda: LSTMRegressor(**SMALL, scale=False).fit(z, y / 300),
        "two targets": lambda: LSTMRegressor(**SMALL, num_layers=2).fit(X, several),
        "every step": lambda: LSTMRegressor(**SMALL, every_step=True).fit(X, by_step),
        "every step, two": lambda: LSTMRegressor(**SMALL, every_step=True).fit(
            X, np.stack([by_step, -by_step], axis=2)
        ),
        "mae": lambda: LSTMRegressor(**SMALL, loss="mae").fit(X, y),
        "nse": lambda: LSTMRegressor(**SMALL, loss="nse").fit(X, y),
        "poisson": lambda: LSTMRegressor(**SMALL, loss="poisson").fit(X, np.round(np.exp(z[:, -1, 0]))),
        "gaussian": lambda: LSTMRegressor(**SMALL, loss="gaussian").fit(X, several),
        "median": lambda: LSTMRegressor(**SMALL, loss="quantile").fit(X, y),
        "quantiles": lambda: LSTMRegressor(**SMALL, loss="quantile", quantiles=[0.1, 0.5, 0.9]).fit(
            X, several
        ),
        "classifier": lambda: LSTMClassifier(**without_pooling()).fit(X, labels),
        "two classes": lambda: LSTMClassifier(**without_pooling()).fit(X, labels == "low"),
        "classes by step": lambda: LSTMClassifier(**SMALL, every_step=True).fit(
            X, (by_step > 12).astype(int)
        ),
        "default classifier": lambda: LSTMClassifier(max_iter=3, random_state=0).fit(X, labels),
        "default classifier, long": lambda: LSTMClassifier(max_iter=3, random_state=0).fit(long, labels),
        "default classifier, pipeline": lambda: make_pipeline(SequenceScaler(), LSTMClassifier(**SMALL)).fit(
            long, labels
        ),
        "max, forward": lambda: LSTMClassifier(**SMALL, lstm_options=ahead).fit(X, labels),
        "mean, merged": lambda: LSTMClassifier(
            **SMALL, lstm_options=ahead, pooling="mean", merge_steps=3
        ).fit(X, labels),
        "attention, merged": lambda: LSTMClassifier(
            **SMALL, lstm_options=ahead, pooling="attention", merge_steps=2, num_layers=2
        ).fit(X, labels),
        "attention, float64": lambda: LSTMClassifier(**SMALL, pooling="attention", dtype="float64").fit(
            X, labels
        ),
        "last, merged": lambda: LSTMClassifier(
            **SMALL, lstm_options=ahead, pooling="last", merge_steps=4
        ).fit(X, labels == "low"),
        "several labels": lambda: LSTMClassifier(**SMALL, num_layers=2, merge_steps=2, pooling="mean").fit(
            X, z[:, :3, 0] > 0
        ),
        "both directions": lambda: LSTMRegressor(**SMALL, num_layers=2, lstm_options=both).fit(X, y),
        "both directions, every step": lambda: LSTMRegressor(
            **SMALL, every_step=True, lstm_options=both
        ).fit(X, by_step),
        "backwards": lambda: LSTMRegressor(**SMALL, lstm_options={"reverse": True}).fit(X, several),
        "options": lambda: LSTMRegressor(
            **SMALL, lstm_options={"peepholes": True, "cell_clip": 3.0, "zoneout": (0.1, 0.1)}
        ).fit(X, y),
        "pipeline": lambda: make_pipeline(SequenceScaler(), LSTMRegressor(**SMALL, scale=False)).fit(X, y),
        "two scalers": lambda: make_pipeline(
            SequenceScaler(with_std=False), "passthrough", SequenceScaler(), LSTMRegressor(**SMALL)
        ).fit(X, several),
        "nested": lambda: make_pipeline(
            SequenceScaler(), make_pipeline(SequenceScaler(), LSTMClassifier(**without_pooling()))
        ).fit(X, labels),
        "search": lambda: GridSearchCV(
            make_pipeline(SequenceScaler(), LSTMRegressor(**SMALL)),
            {"lstmregressor__hidden_size": [2, 3]},
            cv=KFold(2),
        ).fit(X, y),
        "search of an estimator": lambda: GridSearchCV(
            LSTMClassifier(**without_pooling()), {"hidden_size": [2]}, cv=KFold(2)
        ).fit(X, labels),
    }
    for word, scaler in scalers.items():
        made[f"{word} scaler"] = lambda scaler=scaler: make_pipeline(scaler, LSTMRegressor(**SMALL)).fit(
            flat, target
        )
    if name is None:
        return list(made)
    obj = made[name]()
    given = z if name == "unscaled" else flat if name.endswith("scaler") else X
    given = long if name.endswith(("long", "pipeline")) and name.startswith("default") else given
    own = "classes_" if hasattr(obj, "classes_") else "predict"
    answer = obj.predict_proba(given) if own == "classes_" else obj.predict(given)
    return obj, given, answer


def close(mine, theirs, answer):
    """Within 1e-6 of the spread of what is predicted for all sequences."""
    return np.abs(np.asarray(mine) - theirs).max() <= 1e-6 * max(1.0, np.ptp(answer))


NAMES = fitted(None)
BACKWARDS = {
    "default classifier", "default classifier, long", "default classifier, pipeline", "attention, float64",
    "several labels", "both directions", "both directions, every step", "backwards",
}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_comes_back_and_predicts_the_same_bits(name, tmp_path):
    obj, X, answer = fitted(name)
    save(obj, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    expected = obj.best_estimator_ if name.startswith("search") else obj
    assert type(again) is type(expected)
    assert repr(again) == repr(expected)
    method = "predict_proba" if hasattr(obj, "classes_") else "predict"
    assert np.array_equal(getattr(again, method)(X), answer)
    assert np.array_equal(again.predict(X), obj.predict(X))


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_predicts_step_by_step(name):
    obj, X, answer = fitted(name)
    X = X[:, None] if X.ndim == 2 else X
    for batch in (len(X), 1):
        online = stream(obj, batch, max_steps=X.shape[1] if name in BACKWARDS else None)
        steps = np.stack([online.step(X[:batch, t]) for t in range(X.shape[1])], axis=1)
        theirs = answer[:batch]
        assert steps[:, -1].shape == (theirs[:, -1].shape if "step" in name else theirs.shape)
        every = "step" in name and name not in BACKWARDS  # which revise what they said before
        theirs = theirs[:, -1] if "step" in name and not every else theirs
        assert close(steps if every else steps[:, -1], theirs, answer)
        online.reset()
        assert np.array_equal(online.step(X[:batch, 0]), steps[:, 0])
        if batch == 1:
            online.reset()
            assert np.array_equal(online.step(X[0, 0]), steps[0, 0])
    if hasattr(obj, "stream"):
        assert np.array_equal(obj.stream(max_steps=1).step(X[0, 0]), steps[0, 0])


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("scaler")])
def test_a_stream_gives_at_each_step_what_predict_gives_for_the_steps_so_far(name):
    obj, X, answer = fitted(name)
    method = obj.predict_proba if hasattr(obj, "classes_") else obj.predict
    online = stream(obj, len(X), max_steps=X.shape[1])
    for t in range(X.shape[1]):
        now, part = online.step(X[:, t]), method(X[:, : t + 1])
        assert close(now, part[:, -1] if "step" in name else part, answer), t
    assert online.steps == X.shape[1]
    with pytest.raises(ValueError, match=f"max_steps is {X.shape[1]}, and this is step {X.shape[1] + 1}"):
        online.step(X[:, 0])


@pytest.mark.parametrize(
    "name", ["max, forward", "mean, merged", "attention, merged", "last, merged", "default classifier"]
)
def test_a_stream_goes_on_from_a_state_that_was_kept(name):
    obj, X, _ = fitted(name)
    one, other = (stream(obj, 2, max_steps=T) for _ in range(2))
    for t in range(5):
        one.step(X[:2, t])
    kept = one.state
    expected = [one.step(X[:2, t]) for t in range(5, T)]
    other.step(X[2:4, 0])
    other.state = kept
    assert all(np.array_equal(other.step(X[:2, t]), y) for t, y in enumerate(expected, 5))
    for bad in ((1, 2), {}, {key: value[:1] for key, value in kept.items()}, {"h": 1}):
        with pytest.raises((TypeError, ValueError), match=r"state|\bh\b|h_0"):
            other.state = bad
    other.state = kept
    assert np.array_equal(other.step(X[:2, 5]), expected[0])


def test_a_refused_step_changes_nothing():
    obj, X, _ = fitted("mean, merged")
    one, other = stream(obj, 2), stream(obj, 2)
    for t in range(T):
        for bad in (X[:3, t], np.full((2, 3), "a")):
            with pytest.raises((TypeError, ValueError), match="x_t"):
                one.step(bad)
        assert np.array_equal(one.step(X[:2, t]), other.step(X[:2, t]))


@pytest.mark.parametrize("policy", ["hold", "zero"])
@pytest.mark.parametrize("words", [{"merge_steps": 3}, {"merge_steps": 1, "pooling": "mean"}])
def test_missing_values_in_streams_that_pool_and_merge(policy, words):
    X, z = sequences()
    options = {"bidirectional": False, "nan": policy, "nan_mask": True}
    classifier = LSTMClassifier(**SMALL, **words, lstm_options=options).fit(X, z[:, 0, 0] > 0)
    gaps = np.where(np.random.default_rng(1).random(X.shape) < 0.3, np.nan, X)
    online = classifier.stream(len(X))
    for t in range(T):
        now = online.step(gaps[:, t])
        np.testing.assert_allclose(now, classifier.predict_proba(gaps[:, : t + 1]), atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_running_pools_are_those_of_whole_sequences(pooling):
    """Scores that would overflow, a maximum at the end and at the beginning, single precision."""
    from lstm_ext._pooling import POOLS, RUNNING

    rng = np.random.default_rng(0)
    for size in (1.0, 100.0):
        hidden = rng.normal(size=(3, 50, 4))
        hidden[0] = np.sort(hidden[0], axis=0)
        hidden[1] = -np.sort(-hidden[1], axis=0)
        vector = size * rng.normal(size=4)
        words = (vector,) if pooling == "attention" else ()
        pool = RUNNING[pooling]((3, 4), *words)
        for t in range(50):
            part = hidden[:, : t + 1]
            expected = POOLS[pooling](part, None, vector).forward(part)
            np.testing.assert_allclose(pool.add(hidden[:, t]), expected, rtol=1e-12, atol=1e-14)
        pool.reset()
        assert np.array_equal(pool.add(hidden[:, 7]), hidden[:, 7])


def compiled(folder, weights):
    subprocess.run(
        [
            "gcc",
            "-std=c99",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pedantic",
            "-Wconversion",
            "-Wdouble-promotion",
            "-O2",
            "-fPIC",
            "-shared",
            "net.c",
            "-o",
            "net.so",
            "-lm",
        ],
        cwd=folder,
        check=True,
    )
    library = ctypes.CDLL(str(folder / "net.so"))
    if weights == "binary":
        assert library.net_load(bytes(folder / "net.bin")) == 0
    return library


@needs_c
@pytest.mark.parametrize("name", NAMES)
def test_c_predicts_in_the_units_of_the_target(name, tmp_path):
    obj, X, answer = fitted(name)
    X = X[:, None] if X.ndim == 2 else X
    weights = "binary" if len(name) % 2 else "inline"
    export_c(obj, tmp_path / "net.c", name="net", weights=weights)
    library, every = compiled(tmp_path, weights), "step" in name
    header = (tmp_path / "net.h").read_text()
    size = int(re.search(r"OUTPUT_SIZE (\d+)", header)[1])
    X = np.ascontiguousarray(X, float)
    whole = in_one_call(library, X, size, every, obj)
    assert close(whole.reshape(answer.shape), answer, answer)
    assert (name in BACKWARDS) != ("net_step(" in header)
    if name in BACKWARDS:
        return
    found = np.empty((len(X), X.shape[1], size))
    for x, rows in zip(X, found, strict=True):
        state = ctypes.create_string_buffer(2**12)
        library.net_reset(state)
        for x_t, y_t in zip(x, rows, strict=True):
            library.net_step(state, ctypes.c_void_p(x_t.ctypes.data), ctypes.c_void_p(y_t.ctypes.data))
    if not every:  # after each step, too
        method = obj.predict_proba if hasattr(obj, "classes_") else obj.predict
        for t in (0, X.shape[1] // 2):
            part = method(X[:, 0] if name.endswith("scaler") else X[:, : t + 1])
            assert close(found[:, t].reshape(part.shape), part, answer)
    found = found if every else found[:, -1]
    assert close(found.reshape(answer.shape), answer, answer)


def in_one_call(library, X, size, every, obj):
    """What the C source's sequence function gives for each of X, which must not write beyond its memory."""
    real = "float64" if "float64" in repr(obj) else "float32"
    library.net_work.restype, library.net_work.argtypes = ctypes.c_size_t, [ctypes.c_size_t]
    library.net_sequence.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p]
    numbers, steps = library.net_work(X.shape[1]), X.shape[1]
    found = np.full((len(X), (steps if every else 1) * size + 1), 77.0)
    for x, y in zip(X, found, strict=True):
        work = np.full(numbers + 1, 77.0, real)
        library.net_sequence(x.ctypes.data, steps, work.ctypes.data, y.ctypes.data)
        assert work[-1] == y[-1] == 77
    return found[:, :-1]


@needs_c
@pytest.mark.skipif(
    not shutil.which("gfortran"), reason="gfortran is not here: no Fortran was compiled or run"
)
@pytest.mark.parametrize("name", ["search", "default classifier, long", "mean, merged", "every step"])
def test_fortran_predicts_in_the_units_of_the_target(name, tmp_path):
    obj, X, answer = fitted(name)
    export_c(obj, tmp_path / "net.c", name="net", weights="binary")
    steps, outputs = X.shape[1], answer[0].size // (X.shape[1] if "step" in name else 1)
    rows = steps if "step" in name else 1
    by_step = f"""\
    call net_reset(state)
    do t = 1, {steps}
        call net_step(state, x(:, t), y(:, 1))
        {"print '(es26.17)', y(:, 1)" if "step" in name else ""}
    end do
    {"" if "step" in name else "print '(es26.17)', y"}
"""
    online = name not in BACKWARDS
    data = "\n".join(
        f"    data numbers({k}) /{value!r}_c_double/" for k, value in enumerate(X[0].ravel().tolist(), 1)
    )
    (tmp_path / "main.f90").write_text(f"""\
program main
    use, intrinsic :: iso_c_binding
    use net
    implicit none
    {"type(net_state) :: state" if online else ""}
    real(c_double) :: x(3, {steps}), y({outputs}, {rows})
    real(c_float), allocatable :: work(:)
    integer(c_size_t) :: steps = {steps}
    integer :: t, j
    real(c_double) :: numbers({3 * steps})
{data}
    x = reshape(numbers, [3, {steps}])
    if (net_load('net.bin' // c_null_char) /= 0) error stop 1
    allocate(work(net_work(steps)))
    call net_sequence(x, steps, work, y)
    do t = 1, {rows}
        do j = 1, {outputs}
            print '(es26.17)', y(j, t)
        end do
    end do
{by_step if online else ""}
end program main
""")
    subprocess.run(["gcc", "-std=c99", "-O2", "-c", "net.c"], cwd=tmp_path, check=True)
    subprocess.run(
        ["gfortran", "net.f90", "main.f90", "net.o", "-o", "main", "-lm"], cwd=tmp_path, check=True
    )
    done = subprocess.run([tmp_path / "main"], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = np.array(done.stdout.split(), float).reshape(2 if online else 1, -1)
    for one in found:  # of the whole sequence, and step by step
        assert close(one.reshape(answer[0].shape), answer[0], answer)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name != "options"]
)  # clips and zoneout: not in ONNX
def test_onnx_predicts_in_the_units_of_the_target(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: the extra onnx")
    from onnx.reference import ReferenceEvaluator

    obj, X, answer = fitted(name)
    X = X[:, None] if X.ndim == 2 else X
    proto = to_onnx(obj, tmp_path / "a.onnx")
    if "float64" in name:  # ONNX Runtime has no LSTM in float64
        (found,) = ReferenceEvaluator(proto).run(None, {"x": X})
    else:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(tmp_path / "a.onnx", options)
        (found,) = session.run(None, {"x": X})
    assert found.dtype == np.float64 and found.shape == answer.shape
    assert close(found, answer, answer)


@pytest.mark.parametrize(
    "name",
    [
        "regressor", "every step, two", "quantiles", "classes by step", "default classifier",
        "default classifier, long", "mean, merged", "attention, merged", "last, merged", "several labels",
    ],
)
def test_onnx_with_lengths(name):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: the extra onnx")
    obj, X, answer = fitted(name)
    lengths = np.random.default_rng(0).integers(1, X.shape[1] + 1, len(X))
    parts = [x[:n] for x, n in zip(X, lengths, strict=True)]
    session = onnxruntime.InferenceSession(to_onnx(obj, lengths=True).SerializeToString())
    (found,) = session.run(None, {"x": X, "lengths": lengths.astype(np.int32)})
    answers = obj.predict_proba(parts) if hasattr(obj, "classes_") else obj.predict(parts)
    for mine, theirs, n in zip(found, answers, lengths, strict=True):
        if "step" in name:
            assert close(mine[:n], theirs, answer) and not mine[n:].any()
        else:
            assert close(mine, theirs, answer)


@pytest.mark.parametrize(
    "name", ["regressor", "two targets", "every step", "gaussian", "search", "float64", "pipeline"]
)
def test_attributions_are_in_the_units_of_the_target(name):
    obj, X, answer = fitted(name)
    own = obj.best_estimator_ if name == "search" else obj
    own = own[-1] if isinstance(own, Pipeline) else own
    before = own.model_.parameters.copy(), own.model_.gradient.copy()
    baseline = X.mean(axis=(0, 1)) + 0.1 * SPREAD
    change = output_difference(obj, X, baseline=baseline)
    at_base = obj.predict(np.broadcast_to(baseline, X.shape))
    first = (answer - at_base).reshape(len(X), -1)[:, -1 if name == "every step" else 0]
    size = np.abs(first).max()
    np.testing.assert_allclose(change, first, atol=1e-5 * size)
    total = integrated_gradients(obj, X, baseline=baseline).sum(axis=(1, 2))
    np.testing.assert_allclose(total, first, atol=1e-4 * size)
    # Small steps: the gradient times the difference.
    near = X + 1e-3 * SPREAD
    moved = (obj.predict(near) - answer).reshape(len(X), -1)[:, -1 if name == "every step" else 0]
    linear = gradient_times_input(obj, near, baseline=X).sum(axis=(1, 2))
    np.testing.assert_allclose(linear, moved, atol=3e-3 * np.abs(moved).max())
    assert (own.model_.parameters == before[0]).all() and (own.model_.gradient == before[1]).all()
    assert output_difference(obj, X).shape == (len(X),)


def test_a_display_of_an_estimator():
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed: the extra plot")
    matplotlib.use("Agg")
    from lstm_ext.plot import AttributionDisplay

    obj, X, _ = fitted("search")
    display = AttributionDisplay.from_model(obj, X[0])
    assert display.attribution.shape == (T, 3)
    assert np.isclose(display.change, output_difference(obj, X[:1])[0])


# ---- what cannot be folded in


@functools.cache
def refused():
    X, z = sequences()
    y, flat = z.sum(axis=(1, 2)), X[:, 0]
    net = LSTMRegressor(**SMALL)
    return {
        "a function": (
            make_pipeline(FunctionTransformer(), net).fit(X, y),
            "'functiontransformer' is FunctionTransformer",
        ),
        "polynomials": (
            make_pipeline(PolynomialFeatures(2), net).fit(flat, y),
            "'polynomialfeatures' is Poly",
        ),
        "a power": (
            make_pipeline(StandardScaler(), PowerTransformer(), net).fit(flat, y),
            "'powertransformer' is",
        ),
        "a selection": (make_pipeline(SelectKBest(k=2), net).fit(flat, y), "'selectkbest' is SelectKBest"),
        "a clip": (make_pipeline(MinMaxScaler(clip=True), net).fit(flat, y), "clip=True"),
        "not fitted": (LSTMRegressor(), "is not fitted"),
        "not fitted, in a pipeline": (make_pipeline(SequenceScaler(), LSTMRegressor()), "is not fitted"),
        "a scaler": (SequenceScaler().fit(X), "SequenceScaler"),
        "no estimator": (make_pipeline(SequenceScaler()).fit(X), "SequenceScaler"),
        "no refit": (
            GridSearchCV(LSTMRegressor(**SMALL), {"hidden_size": [2]}, cv=KFold(2), refit=False).fit(X, y),
            "refit=True",
        ),
        "a forecaster": (LSTMForecaster(**SMALL).fit(np.sin(np.arange(60.0))), "LSTMForecaster"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "a function", "polynomials", "a power", "a selection", "a clip", "not fitted",
        "not fitted, in a pipeline", "a scaler", "no estimator", "no refit", "a forecaster",
    ],
)
def test_what_cannot_be_folded_in_is_refused_and_named(name, tmp_path):
    obj, message = refused()[name]
    X = sequences()[0]
    for write in (
        lambda: stream(obj),
        lambda: export_c(obj, tmp_path / "net.c"),
        lambda: output_difference(obj, X),
        lambda: to_onnx(obj, tmp_path / "a.onnx") if _has("onnx") else stream(obj),
    ):
        with pytest.raises((TypeError, ValueError), match=re.escape(message)):
            write()
    assert not list(tmp_path.iterdir())


def _has(module):
    import importlib.util

    return importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("name", ["a function", "polynomials", "a power", "a selection", "no refit"])
def test_what_a_file_cannot_name_is_refused(name, tmp_path):
    obj, _ = refused()[name]
    with pytest.raises((TypeError, ValueError)):
        save(obj, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_an_estimator_that_does_more_than_this_knows_is_refused():
    """Whoever adds a step to predict, and not here, gets an error and no other predictions."""

    class More(LSTMRegressor):
        __module__ = "lstm_ext.sklearn._more"

        def predict(self, X):
            return super().predict(X) * 1.01

    X, z = sequences()
    with pytest.raises(ValueError, match="does more than scaling and a network"):
        stream(More(**SMALL).fit(X, z.sum(axis=(1, 2))))


@pytest.mark.parametrize("options", [{"bidirectional": True}, {"reverse": True}])
def test_a_stream_of_a_network_that_reads_backwards_wants_a_bound(options):
    X, z = sequences()
    backwards = LSTMRegressor(**SMALL, lstm_options=options).fit(X, z.sum(axis=(1, 2)))
    for made in (backwards.stream, lambda **words: stream(backwards.model_, **words)):
        with pytest.raises(ValueError, match="max_steps is None; expected a number for a"):
            made()
        for bad in (0, -1):
            with pytest.raises(ValueError, match="max_steps"):
                made(max_steps=bad)
        with pytest.raises(TypeError, match="max_steps"):
            made(max_steps=2.5)
    with pytest.raises(ValueError, match="max_steps is 3; expected None for an LSTM"):
        stream(LSTM(1, 2), max_steps=3)


def test_a_stream_checks_its_input():
    obj, X, _ = fitted("regressor")
    online = stream(obj, 2)
    first = online.step(X[:2, 0])
    for bad in (X[0, 0], X[:3, 0], X[:2, 0, :2], np.full((2, 3), "a"), X[:2, 0] + 1j):
        with pytest.raises((TypeError, ValueError), match="x_t"):
            online.step(bad)
    again = stream(obj, 2)
    again.step(X[:2, 0])
    assert np.array_equal(online.step(X[:2, 1]), again.step(X[:2, 1])) and first.shape == (2,)


def test_models_and_lstms_have_the_same_door():
    model, x = Model(LSTM(3, 4, rng=0), 2, rng=0), np.ones((1, 5, 3), "float32")
    online = stream(model)
    for t in range(5):
        y = online.step(x[0, t])
    np.testing.assert_allclose(y, model.predict(x)[0], atol=1e-6)
    assert type(stream(model.lstm)).__name__ == "Stream"


@pytest.mark.parametrize(
    "change",
    [
        {"steps": []},
        {"steps": None},
        {"steps": [["a", {"is": "os.system"}]]},
        {"steps": [["a"]]},
        {"steps": [[1, None]]},
        {"steps": [["a", {"is": "StandardScaler", "state": {"fit": 1}}]]},
        {
            "steps": [
                ["a", {"is": "StandardScaler", "state": {"n_features_in_": 10**9}}],
                ["b", "passthrough"],
            ]
        },
        {
            "steps": [
                ["a", {"is": "StandardScaler", "state": {"n_features_in_": 1, "mean_": "x"}}],
                ["b", "passthrough"],
            ]
        },
        {"steps": [["a", {"is": "FunctionTransformer", "state": {"func": "os.system"}}]]},
        {"steps": [["a", {"is": "LSTM"}], ["b", "passthrough"]]},
        {"steps": "passthrough"},
        {"memory": "x"},
    ],
)
def test_a_file_of_a_pipeline_that_lies_is_refused(change, tmp_path):
    import json

    from lstm_ext._safetensors import write_tensors

    described = {"is": "Pipeline", "steps": [["a", None]], **change}
    text = json.dumps({"version": 2, "object": described})
    write_tensors(tmp_path / "a", {"lstm_ext": text}, {"x": np.zeros(3)})
    with pytest.raises(FormatError):
        load(tmp_path / "a")
