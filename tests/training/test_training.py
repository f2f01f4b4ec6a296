"""The training loop: batches, windows, stopping, files, Ctrl-C, and L-BFGS."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from itertools import chain, pairwise

import numpy as np
import pytest
from scipy.optimize import minimize

from lstm_ext import LSTM, SGD, Adam, AdamW, Model, RMSprop
from lstm_ext._safetensors import TensorFile, write_tensors
from lstm_ext.callbacks import Callback, EarlyStopping, ProgressBar
from lstm_ext.losses import (
    LOSSES,
    BinaryCrossEntropy,
    GaussianNLL,
    Huber,
    MeanSquaredError,
    NashSutcliffe,
    NegativeBinomial,
    Poisson,
    Quantile,
)
from lstm_ext.schedules import Cosine, Plateau, Step, WarmUp
from lstm_ext.training import fit_lbfgs

F, H, N, T = 2, 3, 12, 7


def make(loss="mse", outputs=2, every_step=True, seed=0, dtype="float64", **options):
    rng = np.random.default_rng(seed)
    lstm = LSTM(F, H, dtype=dtype, rng=rng, **options)
    model = Model(lstm, outputs, every_step=every_step, loss=loss, rng=rng)
    model.parameters += 0.2 * rng.normal(size=model.parameters.size)
    return model


def batch(every_step=True, columns=2, n=N, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, T, F)), rng.normal(size=(n, T, columns) if every_step else (n, columns))


def targets(model, n=N, seed=2):
    """Targets that suit the model's loss."""
    rng = np.random.default_rng(seed)
    columns = model.output_size // getattr(model.loss, "outputs_per_target", 1)
    shape = (n, T, columns) if model.every_step else (n, columns)
    if type(model.loss).__name__ == "CrossEntropy":
        return rng.integers(0, model.output_size, shape[:-1])
    if isinstance(model.loss, Poisson | NegativeBinomial):
        return rng.poisson(1.5, shape)
    if isinstance(model.loss, BinaryCrossEntropy):
        return rng.integers(0, 2, shape)
    y = rng.normal(size=shape)
    if isinstance(model.loss, NashSutcliffe) and not model.every_step:
        y = model.loss.prepare(y, scale=rng.uniform(1, 2, n))
    return y


LENGTHS = np.array([7, 1, 4, 0, 6, 7, 3, 2, 5, 7, 1, 6])
every_loss = pytest.mark.parametrize("loss, outputs", [
    *((name, {"quantile": 6, "student_t": 6, "cmal": 12}.get(name, 2)) for name in LOSSES), (Huber(0.3), 2),
    (Quantile(0.7), 2), (GaussianNLL(0.2), 4), (NashSutcliffe(0.5), 1),
], ids=str)


# Every loss through the model ---------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("every_step", [False, True])
def test_gradient_and_hessian_of_every_loss(loss, outputs, every_step):
    model = make(loss, outputs, every_step)
    x, y = batch()[0], targets(model)
    rng = np.random.default_rng(5)
    shape = (N, T) if every_step else (N,)
    words = {"lengths": LENGTHS, "sample_weight": rng.uniform(0, 2, shape) * (rng.random(shape) < 0.8)}
    theta = model.parameters.copy()
    value, gradient = model.value_and_gradient(theta, x, y, **words)
    assert value == pytest.approx(model.evaluate(x, y, **words), rel=1e-14)
    for v in rng.normal(size=(4, theta.size)):
        (ahead, up), (behind, down) = (
            model.value_and_gradient(theta + s * v, x, y, **words) for s in (1e-6, -1e-6)
        )
        assert (ahead - behind) / 2e-6 == pytest.approx(gradient @ v, rel=1e-7, abs=1e-8)
        product = model.hessp(theta, v, x, y, **words)
        np.testing.assert_allclose(product, (up - down) / 2e-6, rtol=1e-5, atol=1e-6 * np.abs(product).max())


@every_loss
@pytest.mark.parametrize("method", ["L-BFGS-B", "trust-krylov"])
def test_scipy_minimises_every_loss(loss, outputs, method):
    model = make(loss, outputs)
    x, y = batch()[0], targets(model)
    theta = model.parameters.copy()
    hessian = {"hessp": model.hessp} if method == "trust-krylov" else {}
    result = minimize(
        model.value_and_gradient, theta, args=(x, y), jac=True, method=method, options={"maxiter": 15},
        **hessian,
    )
    before = model.value_and_gradient(theta, x, y)[0]
    assert result.fun < before - 1e-3 * abs(before)


@every_loss
def test_a_model_of_every_loss_comes_back_from_its_file(loss, outputs, tmp_path):
    model = make(loss, outputs)
    model.save(tmp_path / "m.safetensors")
    loaded = Model.load(tmp_path / "m.safetensors")
    x, y = batch()[0], targets(model)
    assert repr(loaded) == repr(model) and loaded.evaluate(x, y) == model.evaluate(x, y)


# Weights of samples -------------------------------------------------------------------------------


@pytest.mark.parametrize("every_step", [False, True])
def test_sample_weight_is_repetition_and_absence(every_step):
    model = make(every_step=every_step)
    x, y = batch(every_step)
    weight = np.array([1, 2, 0, 1, 3, 1, 0, 1, 1, 2, 1, 1])
    chosen = np.repeat(np.arange(N), weight)
    expected = model.loss_and_gradient(x[chosen], y[chosen])
    gradient = model.gradient.copy()
    assert model.loss_and_gradient(x, y, sample_weight=weight) == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(model.gradient, gradient, rtol=1e-11, atol=1e-15)
    assert model.evaluate(x, y, sample_weight=weight) == pytest.approx(expected, rel=1e-13)
    history = model.fit(x, y, epochs=1, batch_size=5, optimizer=SGD(0), rng=0, sample_weight=weight)
    assert history[0]["loss"] == pytest.approx(expected, rel=1e-13)


def test_sample_weight_of_steps():
    model = make()
    x, y = batch()
    mask = np.random.default_rng(0).random((N, T)) < 0.6
    weight = np.where(np.arange(T) < LENGTHS[:, None], mask, 0)
    by_weight = model.evaluate(x, y, LENGTHS, sample_weight=mask)
    error = ((model.predict(x, LENGTHS) - y) ** 2).mean(-1)
    assert by_weight == pytest.approx((error * weight).sum() / weight.sum())
    both = model.evaluate(x, y, LENGTHS, sample_weight=np.arange(N))
    weight = (np.arange(T) < LENGTHS[:, None]) * np.arange(N)[:, None]
    assert both == pytest.approx((error * weight).sum() / weight.sum())


@pytest.mark.parametrize("weight, every_step, error, words", [
    (np.ones(3), True, ValueError, r"sample_weight has shape \(3,\); expected \(12,\) or \(12, 7\)"),
    (np.ones((N, T)), False, ValueError, r"sample_weight has shape \(12, 7\); expected \(12,\)"),
    (-np.ones(N), True, ValueError, "sample_weight holds other .* finite ones >= 0"),
    (np.full(N, np.nan), True, ValueError, "sample_weight holds other .* finite"),
    (["a"] * N, True, TypeError, "sample_weight is .*; expected real numbers"),
    (np.zeros(N), True, ValueError, "nothing to average|no sequence to learn"),
])
def test_bad_weights(weight, every_step, error, words):
    model = make(every_step=every_step)
    x, y = batch(every_step)
    for call in (model.evaluate, model.loss_and_gradient, lambda *a, **w: model.fit(*a, epochs=1, **w)):
        with pytest.raises(error, match=words):
            call(x, y, sample_weight=weight)


def test_evaluate_in_parts_is_the_whole():
    model = make(dtype="float64")
    x, y = batch(n=700)
    lengths = np.random.default_rng(0).integers(0, T + 1, 700)
    lengths[256:512] = 0
    error = ((model.predict(x, lengths) - y) ** 2).mean(-1)[np.arange(T) < lengths[:, None]]
    assert model.evaluate(x, y, lengths) == pytest.approx(error.mean(), rel=1e-13)
    with pytest.raises(ValueError, match="nothing to average over"):
        model.evaluate(x, y, lengths * 0)


# Mini-batches -------------------------------------------------------------------------------------


class Spy(MeanSquaredError):
    """A loss that notes the first target of every sequence that it sees, and how many steps."""

    def __init__(self):
        self.seen = []

    def value_and_gradient(self, prediction, target, weights=None):
        self.seen.append((target[:, 0, 0].astype(int).tolist(), prediction.shape[1]))
        return super().value_and_gradient(prediction, target, weights)


def numbered(n=40):
    x = np.random.default_rng(0).normal(size=(n, T, F))
    return x, np.broadcast_to(np.arange(n)[:, None, None], (n, T, 2)).astype(float)


def test_buckets_hold_similar_lengths_and_all_sequences_once():
    spy = Spy()
    model, (x, y) = make(spy), numbered()
    lengths = np.random.default_rng(1).integers(1, T + 1, 40)
    model.fit(x, y, epochs=2, batch_size=8, lengths=lengths, bucket=True, rng=0)
    epochs = spy.seen[:5], spy.seen[5:]
    for epoch in epochs:
        assert sorted(chain(*(numbers for numbers, _ in epoch))) == list(range(40))
        longest = sorted((lengths[numbers].max(), lengths[numbers].min()) for numbers, _ in epoch)
        assert all(high <= low for (high, _), (_, low) in pairwise(longest))
        # Nothing beyond the longest sequence is computed.
        assert all(steps == lengths[numbers].max() for numbers, steps in epoch)
    assert epochs[0] != epochs[1]
    assert [lengths[numbers].max() for numbers, _ in epochs[0]] != sorted(
        lengths[numbers].max() for numbers, _ in epochs[0]
    )


def test_buckets_by_mask():
    spy = Spy()
    model, (x, y) = make(spy), numbered()
    mask = np.random.default_rng(1).random((40, T)) < 0.5
    mask[:, 0] = True
    model.fit(x, y, epochs=1, batch_size=10, mask=mask, bucket=True, rng=0)
    counts = sorted(sorted(mask[numbers].sum(axis=1)) for numbers, _ in spy.seen)
    assert list(chain(*counts)) == sorted(mask.sum(axis=1))


# Truncated backpropagation ------------------------------------------------------------------------


@pytest.mark.parametrize("options", [
    {}, {"num_layers": 2}, {"learn_state": True}, {"peepholes": True, "static_size": 2}, {"nan": "zero"},
], ids=str)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
def test_windows_carry_the_state_and_cut_the_gradient(options, lengths):
    """Against the loop written out, from the public calls of the layer."""
    model = make(**options)
    x, y = batch()
    static = np.random.default_rng(3).normal(size=(N, 2)) if "static_size" in options else None
    if "nan" in options:
        x[np.random.default_rng(3).random(x.shape) < 0.2] = np.nan
    theirs = make(**options)
    model.fit(
        x, y, epochs=1, batch_size=N, lengths=lengths, static=static, bptt=3, optimizer=SGD(0.1), rng=0
    )
    used = np.arange(N) if lengths is None else np.flatnonzero(lengths)
    order = np.random.default_rng(0).permutation(used)
    lstm, state = theirs.lstm, None
    for start in range(0, T, 3):
        part = slice(start, start + 3)
        inside = None if lengths is None else np.clip(lengths[order] - start, 0, x[:, part].shape[1])
        tape = lstm.tape()
        more = {} if static is None else {"static": static[order]}
        hidden, state = lstm.forward(x[order, part], state, lengths=inside, tape=tape, **more)
        prediction = hidden @ theirs.weight.T + theirs.bias
        counts = None if inside is None else np.arange(hidden.shape[1]) < inside[:, None]
        d = theirs.loss.gradient(prediction, y[order, part], counts)
        theirs.gradient[:] = 0
        named = theirs.named_gradients()
        named["weight"][...] = np.einsum("nto,nth->oh", d, hidden)
        named["bias"][...] = d.sum(axis=(0, 1))
        lstm.backward(tape, d @ theirs.weight, input_gradient=False)
        SGD(0.1).step(theirs.parameters, theirs.gradient)
    np.testing.assert_allclose(model.parameters, theirs.parameters, rtol=1e-11, atol=1e-13)


def test_one_window_is_no_window():
    x, y = batch()
    results = []
    for bptt in (None, T, 100):
        model = make()
        history = model.fit(x, y, epochs=2, batch_size=5, lengths=LENGTHS, bptt=bptt, rng=0)
        results.append((model.parameters.copy(), [record["loss"] for record in history]))
    for parameters, losses in results[1:]:
        np.testing.assert_array_equal(parameters, results[0][0])
        assert losses == results[0][1]


def test_windows_remember_a_long_series():
    """What is to be said came long before the window: the state alone can know it."""
    rng = np.random.default_rng(0)
    first = rng.choice([-1.0, 1.0], 64)
    x = 0.1 * rng.normal(size=(64, 24, 1))
    x[:, 0, 0] = first
    y = np.repeat(first[:, None, None], 24, axis=1)
    model = Model(LSTM(1, 8, rng=0), 1, every_step=True, rng=0)
    model.fit(x, y, epochs=60, batch_size=16, bptt=6, optimizer=Adam(0.02, max_norm=1.0), rng=0)
    assert (np.sign(model.predict(x))[:, -1, 0] == first).all()


def test_a_window_without_weight_carries_the_state():
    x, y = batch()
    weight = np.ones((N, T))
    weight[:, :3] = 0
    model, other = make(), make()
    history = model.fit(
        x, y, epochs=1, batch_size=N, sample_weight=weight, bptt=3, optimizer=SGD(0), rng=0
    )
    assert history[0]["loss"] == pytest.approx(other.evaluate(x, y, sample_weight=weight), rel=1e-12)


@pytest.mark.parametrize("options, words, message", [
    ({"every_step": False}, {"bptt": 3}, "bptt is 3, and every_step is False"),
    ({"bidirectional": True}, {"bptt": 3}, "bidirectional"),
    ({"reverse": True}, {"bptt": 3}, "reverse=True"),
    ({"nan": "hold"}, {"bptt": 3}, "nan='hold'"),
    ({}, {"bptt": 0}, "bptt is 0; expected at least 1"),
    ({}, {"bucket": True}, "bucket is True, and neither lengths nor a mask"),
    ({}, {"resume": True}, "no checkpoint was given"),
    ({}, {"checkpoint_every": 0}, "checkpoint_every is .*; expected at least 1"),
])
def test_bad_words_to_fit(options, words, message):
    model = make(**options)
    x, y = batch(model.every_step)
    before = model.parameters.copy()
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, epochs=1, **words)
    np.testing.assert_array_equal(model.parameters, before)


@pytest.mark.parametrize("words, message", [
    ({"schedule": 0.1}, "schedule is 0.1; expected one of lstm_ext.schedules"),
    ({"schedule": Cosine(3), "optimizer": type("O", (), {"step": None})()},
     "expected one with lr for a schedule"),
    ({"early_stopping": 5}, "early_stopping is 5; expected an EarlyStopping, for example EarlyStopping"),
    ({"callbacks": [3]}, "callbacks holds 3; expected callables"),
    ({"callbacks": print}, "callbacks is .*; expected a sequence"),
    ({"callbacks": [EarlyStopping()]}, "give it as early_stopping="),
    ({"checkpoint": "x", "optimizer": type("O", (), {"step": None})()},
     "expected one with a state for a checkpoint"),
])
def test_words_of_a_wrong_kind(words, message):
    with pytest.raises(TypeError, match=message):
        make().fit(*batch(), epochs=1, **words)
    assert not os.path.exists("x")


# Learning rates -----------------------------------------------------------------------------------


def test_a_schedule_sets_every_step_and_is_undone():
    class Noting(SGD):
        def step(self, parameters, gradient):
            rates.append(self.lr)
            super().step(parameters, gradient)

    rates, optimizer = [], Noting(0.1)
    schedule = WarmUp(1, 0.5) * Step(1, 0.1)
    history = make().fit(*batch(), epochs=2, batch_size=4, optimizer=optimizer, schedule=schedule, rng=0)
    expected = [0.1 * schedule.factor(k / 3) for k in range(6)]
    assert rates == pytest.approx(expected) and len(set(rates[:3])) == 3
    assert [record["lr"] for record in history] == [rates[2], rates[5]]
    assert optimizer.lr == 0.1


def test_plateau_lowers_the_rate_of_a_training():
    x, y = batch()
    history = make().fit(
        x, y, epochs=6, optimizer=SGD(0.0), schedule=Plateau(0.5, patience=1), rng=0, validation=(x, y)
    )
    assert {record["lr"] for record in history} == {0.0}
    optimizer = SGD(1e-12)
    history = make().fit(x, y, epochs=6, optimizer=optimizer, schedule=Plateau(0.5, patience=1), rng=0)
    assert [record["lr"] / 1e-12 for record in history] == pytest.approx([1, 1, 1, 0.5, 0.5, 0.25])


# Stopping -----------------------------------------------------------------------------------------


def test_early_stopping_gives_back_the_best():
    x, y = batch()
    model, kept = make(), []

    def keep(record):
        kept.append((record["validation_loss"], model.parameters.copy()))

    stopping = EarlyStopping(patience=3)
    history = model.fit(
        x[:6], y[:6], epochs=200, optimizer=Adam(0.05), rng=0, validation=(x[6:], y[6:]),
        early_stopping=stopping, callbacks=[keep],
    )
    losses = [loss for loss, _ in kept]
    best = int(np.argmin(losses))
    assert len(history) == best + 4 < 200 and stopping.best_epoch == best + 1
    assert stopping.best == losses[best] == model.evaluate(x[6:], y[6:])
    np.testing.assert_array_equal(model.parameters, kept[best][1])
    assert not np.array_equal(model.parameters, kept[-1][1])


def test_early_stopping_without_restoring_or_by_the_training_loss():
    x, y = batch()
    model = make()
    last = []
    history = model.fit(
        x, y, epochs=50, optimizer=SGD(0.0), rng=0, batch_size=N,
        early_stopping=EarlyStopping(patience=2, monitor="loss", restore_best=False),
        callback=lambda record: last.append(model.parameters.copy()),
    )
    assert len(history) == 3
    np.testing.assert_array_equal(model.parameters, last[-1])
    history = model.fit(
        x, y, epochs=50, optimizer=Adam(1e-3), rng=0, early_stopping=EarlyStopping(2, min_delta=10.0)
    )
    assert len(history) == 3
    # The best comes back where the epochs run out, too, and a second fit begins anew.
    stopping = EarlyStopping(patience=10)
    for _ in range(2):
        model.fit(x, y, epochs=2, optimizer=SGD(5.0), rng=0, validation=(x, y), early_stopping=stopping)
        assert model.evaluate(x, y) == stopping.best


def test_callbacks_are_told_in_order_and_to_the_end():
    class Log(Callback):
        def on_fit_begin(self, model, epochs, done):
            log.append(("begin", epochs, done))

        def on_batch_end(self, epoch, share, loss):
            log.append((epoch, round(share, 3)))

        def on_epoch_end(self, record):
            log.append(record["epoch"])
            return record["epoch"] == 2

        def on_fit_end(self):
            log.append("end")

    log = []
    assert len(make().fit(*batch(), epochs=9, batch_size=6, callbacks=[Log()], rng=0)) == 2
    assert log == [("begin", 9, 0), (1, 0.5), (1, 1.0), 1, (2, 0.5), (2, 1.0), 2, "end"]
    log.clear()

    def fail(record):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        make().fit(*batch(), epochs=9, callbacks=[Log(), fail])
    assert log[-1] == "end"


def test_a_history_is_a_list_that_knows_its_columns(tmp_path):
    history = make().fit(*batch(), epochs=3, validation=batch(), rng=0)
    assert history == list(history) and len(history) == 3
    for name in ("epoch", "loss", "validation_loss", "lr", "seconds"):
        assert history[name] == [record[name] for record in history]
    assert history[-1]["loss"] == history["loss"][-1] == history[1:]["loss"][-1]
    with pytest.raises(KeyError, match="'los' is not in the records, which have epoch, loss"):
        history["los"]
    assert make().fit(*batch(), epochs=0)["loss"] == []
    again = pickle.loads(pickle.dumps(history))
    assert type(again) is type(history) and again == history
    options = {"epochs": 3, "rng": 0, "checkpoint": tmp_path / "run"}
    make().fit(*batch(), **options)
    assert len(make().fit(*batch(), **options, resume=True)["loss"]) == 3
    assert len(fit_lbfgs(make(), *batch(), max_iter=2).history["loss"]) == 2


def test_a_history_has_what_callbacks_added():
    def add(record):
        if record["epoch"] == 2:
            record["error"] = 0.5

    assert make().fit(*batch(), epochs=2, callback=add)["error"] == [None, 0.5]


def test_the_progress_bar(capsys):
    pytest.importorskip("tqdm", reason="the bar is tqdm's")
    make().fit(*batch(), epochs=3, batch_size=2, progress=True, rng=0, validation=batch())
    out, error = capsys.readouterr()
    assert out == "" and "100%" in error and "epoch 3.0/3" in error and "validation_loss=" in error
    make().fit(*batch(), epochs=3, batch_size=2, rng=0)
    assert capsys.readouterr() == ("", "")
    result = fit_lbfgs(make(), *batch(), max_iter=2, progress=True)
    assert len(result.history) == 2 and "epoch 2.0/2" in capsys.readouterr().err


def test_without_tqdm_the_bar_says_what_to_do(monkeypatch):
    for name in ("tqdm", "tqdm.auto"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="pip install tqdm, or give progress=False"):
        ProgressBar()


# Divergence ---------------------------------------------------------------------------------------


def test_a_step_that_overflows_is_taken_back():
    model, (x, y) = make(dtype="float32"), batch()
    before = model.parameters.copy()
    with pytest.raises(FloatingPointError, match=r"step leads to NaN .* epoch 1: .*it is 1e\+38: try 1e\+37"):
        model.fit(x, 1e4 * y, epochs=1, batch_size=N, optimizer=SGD(1e38), rng=0)
    np.testing.assert_array_equal(model.parameters, before)


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
def test_an_exploding_training_ends_with_numbers_and_advice():
    model = make("poisson", 2)
    x, y = batch()[0], 50 * targets(model)
    with pytest.raises(FloatingPointError, match=r"smaller lr \(it is 1000: try 100\).*a max_norm \(try 1\)"):
        model.fit(x, y, epochs=50, optimizer=SGD(1000.0), rng=0)
    assert np.isfinite(model.predict(x)).all()


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_bad_number_is_named():
    x, y = batch()
    y[3, 2] = np.inf
    with pytest.raises(FloatingPointError, match="y holds NaN or inf in 1 places of this mini-batch"):
        make().fit(x, y, epochs=1, batch_size=N, rng=0)
    lengths = np.full(N, T)
    lengths[3] = 2
    make().fit(x, y, epochs=1, rng=0, lengths=lengths)  # there it is padding


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_gradient_that_is_not_finite_is_seen():
    class Broken(MeanSquaredError):
        def value_and_gradient(self, prediction, target, weights=None):
            value, gradient = super().value_and_gradient(prediction, target, weights)
            return value, gradient * np.inf

    model = make(Broken())
    before = model.parameters.copy()
    with pytest.raises(FloatingPointError, match="the gradient holds NaN or inf in epoch 1"):
        model.fit(*batch(), epochs=1)
    np.testing.assert_array_equal(model.parameters, before)


# Checkpoints --------------------------------------------------------------------------------------


def words_of_a_long_training(optimizer, **more):
    x, y = batch()
    return {
        "x": x, "y": y, "epochs": 7, "batch_size": 5, "lengths": LENGTHS, "bucket": True, "bptt": 3,
        "optimizer": optimizer, "schedule": WarmUp(2) * Plateau(0.5, patience=0, min_delta=0.2),
        "rng": np.random.Generator(np.random.MT19937(3)), "validation": (x, y),
        "early_stopping": EarlyStopping(patience=6), **more,
    }


def without_seconds(history):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in history]


@pytest.mark.parametrize("optimizer", [
    lambda: SGD(0.1), lambda: SGD(0.1, momentum=0.9), lambda: RMSprop(0.01), lambda: Adam(0.01, max_norm=1),
    lambda: AdamW(0.01, max_value=0.1),
], ids=["sgd", "momentum", "rmsprop", "adam", "adamw"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_resumed_is_uninterrupted(optimizer, dtype, tmp_path):
    options = {"dtype": dtype, "recurrent_dropout": 0.2}
    whole = make(**options)
    history = whole.fit(**words_of_a_long_training(optimizer()))
    for stop in (1, 4, 7):
        path = tmp_path / f"{stop}.ckpt"

        def fail(record, stop=stop):
            if record["epoch"] == stop:
                raise RuntimeError("power cut")

        words = {"checkpoint": path, "resume": True}
        with pytest.raises(RuntimeError, match="power cut"):
            make(**options).fit(**words_of_a_long_training(optimizer(), callback=fail, **words))
        model = make(**options)
        resumed = model.fit(**words_of_a_long_training(optimizer(), **words))
        np.testing.assert_array_equal(model.parameters, whole.parameters)
        assert without_seconds(resumed) == without_seconds(history)
        # All is done: nothing is computed, and the result is the same.
        again = make(**options)
        assert again.fit(**words_of_a_long_training(optimizer(), **words)) == resumed
        np.testing.assert_array_equal(again.parameters, whole.parameters)


def test_resumed_after_early_stopping_goes_no_further(tmp_path):
    x, y = batch()
    words = {"epochs": 9, "rng": 0, "checkpoint": tmp_path / "c", "resume": True, "batch_size": N}
    for _ in range(2):
        history = make().fit(
            x, y, optimizer=SGD(0.0), early_stopping=EarlyStopping(patience=2, monitor="loss"), **words
        )
        assert len(history) == 3


def test_a_checkpoint_is_an_open_file_and_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "c.checkpoint"
    model, (x, y) = make(), batch()
    model.fit(x, y, epochs=3, rng=0, checkpoint=path, checkpoint_every=2)
    assert os.listdir(tmp_path) == ["c.checkpoint"]
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    begin, end = header["parameters"]["data_offsets"]
    np.testing.assert_array_equal(np.frombuffer(content[8 + length :][begin:end]), model.parameters)
    assert set(header) == {
        "__metadata__", "parameters", "optimizer.m", "optimizer.v", "state",
        *(f"history.{name}" for name in ("epoch", "loss", "lr", "seconds")),
    }
    assert header["history.loss"]["shape"] == [3]
    whole = path.read_bytes()

    def full(_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        make().fit(x, y, epochs=5, rng=0, checkpoint=path, resume=True)
    assert path.read_bytes() == whole and os.listdir(tmp_path) == ["c.checkpoint"]


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    path, (x, y) = tmp_path / "c.checkpoint", batch()
    make().fit(x, y, epochs=1, rng=0, checkpoint=path)
    for model, words, message in [
        (make(), {"batch_size": 3}, "batch_size was 32, and is 3"),
        (make(), {"optimizer": Adam(0.1)}, "optimizer was 'Adam"),
        (make(), {"schedule": Cosine(3)}, "schedule was 'None'"),
        (make(every_step=False), {}, "model was|y was"),
        (make(num_layers=2), {}, "this model has float64"),
    ]:
        before, state = model.parameters.copy(), np.random.default_rng(5)
        with pytest.raises(ValueError, match=message):
            target = y if model.every_step else y[:, 0]
            model.fit(x, target, epochs=2, rng=state, checkpoint=path, resume=True, **words)
        np.testing.assert_array_equal(model.parameters, before)
        assert state.bit_generator.state == np.random.default_rng(5).bit_generator.state
    for content in (b"", b"PK", path.read_bytes()[:-30]):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(ValueError, match="is not a checkpoint of this training"):
            make().fit(x, y, epochs=2, checkpoint=tmp_path / "bad", resume=True)
    with open(path, "rb") as file:
        tensors = TensorFile(file)
        arrays = {name: tensors.read(name) for name in sorted(tensors.names)}
    text = arrays["state"].tobytes().replace(b'"PCG64"', b'"MT19937"')
    write_tensors(
        tmp_path / "bad", {"lstm_ext.checkpoint": tensors.metadata["lstm_ext.checkpoint"]},
        {**arrays, "state": np.frombuffer(text, np.uint8)},
    )
    model = make()
    before = model.parameters.copy()
    with pytest.raises(ValueError, match="does not fit this training"):
        model.fit(x, y, epochs=2, checkpoint=tmp_path / "bad", resume=True, rng=0)
    np.testing.assert_array_equal(model.parameters, before)


# Ctrl-C -------------------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
import lstm_ext
from lstm_ext import LSTM, Adam, Model
from lstm_ext.callbacks import Callback
from lstm_ext.training import fit_lbfgs

how, n, steps, hidden, size, moves = sys.argv[1], *map(int, sys.argv[2:])
rng = np.random.default_rng(0)
x = rng.normal(size=(n, steps, 4)).astype("float32")
y = rng.normal(size=(n, steps, 1)).astype("float32")
model = Model(LSTM(4, hidden, rng=0), 1, every_step=True, rng=0)
start = model.parameters.copy()
sent, ready = [], threading.Event()

class Ready(Callback):
    def on_fit_begin(self, *_):
        if not moves:
            ready.set()

    def on_batch_end(self, *_):
        ready.set()

    def on_epoch_end(self, *_):
        ready.set()

def send():
    ready.wait()
    time.sleep(0.4)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=send).start()
optimizer = Adam()
try:
    if how == "fit":
        model.fit(x, y, epochs=1000, batch_size=size, optimizer=optimizer, rng=0,
                  callback=Ready())
    else:
        fit_lbfgs(model, x, y, max_iter=10000, batch_size=size, callback=Ready())
except KeyboardInterrupt:
    late = time.perf_counter() - sent[0]
else:
    raise SystemExit("it was not interrupted")
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
assert np.isfinite(model.parameters).all()
prediction = model.predict(x[:2, :5])
assert prediction.shape == (2, 5, 1) and np.isfinite(prediction).all()
moved = not np.array_equal(start, model.parameters)
taken = optimizer.state["t"]
# The parameters are those after the steps that the optimiser counts: none is half done.
if how == "fit" and taken < 20:
    twin, other = Model(LSTM(4, hidden, rng=0), 1, every_step=True, rng=0), Adam()
    order = np.random.default_rng(0).permutation(n)
    for k in range(taken):
        index = order[k * size : (k + 1) * size]
        twin.loss_and_gradient(x[index], y[index])
        other.step(twin.parameters, twin.gradient)
    assert np.array_equal(twin.parameters, model.parameters)
model.fit(x[:4, :5], y[:4, :5], epochs=1)  # and it can be trained on
print(late, moved, taken)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("how, n, steps, hidden, size, moves", [
    ("fit", 4000, 100, 64, 16, True),  # short mini-batches, an epoch of many seconds
    ("fit", 384, 250, 128, 384, False),  # one mini-batch takes seconds
    ("lbfgs", 512, 50, 32, 64, True),
], ids=["short", "long", "lbfgs"])
def test_ctrl_c_ends_soon_and_leaves_a_model(how, n, steps, hidden, size, moves):
    command = [sys.executable, "-P", "-c", INTERRUPTED, how, *map(str, (n, steps, hidden, size, int(moves)))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    late, moved, _ = done.stdout.split()
    assert float(late) < 2.0  # 0.5 on cores of its own; the epoch would go on for much longer
    if moves:
        assert moved == "True"


def test_signals_of_others_are_left_alone():
    """A handler of the caller's is called between two steps, and stands again afterwards."""
    came = []

    def mine(number, frame):
        came.append(number)

    former = signal.signal(signal.SIGINT, mine)
    try:
        def send(record):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

        history = make().fit(*batch(), epochs=3, rng=0, callback=send)
        assert len(history) == 3 and came == [signal.SIGINT] * 3
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, former)


def test_a_step_is_never_half_done():
    """The signal comes within the optimiser's step: it is finished first."""
    class Slow(SGD):
        def step(self, parameters, gradient):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            super().step(parameters, gradient)
            steps.append(parameters.copy())

    steps, model = [], make()
    stopping = EarlyStopping()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*batch(), epochs=3, batch_size=4, optimizer=Slow(0.1), rng=0, early_stopping=stopping)
    assert len(steps) == 1
    np.testing.assert_array_equal(model.parameters, steps[0])


# L-BFGS -------------------------------------------------------------------------------------------


@every_loss
def test_lbfgs_learns(loss, outputs):
    model = make(loss, outputs)
    x, y = batch()[0], targets(model)
    before = model.evaluate(x, y, LENGTHS)
    result = fit_lbfgs(
        model, x, y, max_iter=12, batch_size=5, lengths=LENGTHS, validation=(x, y, LENGTHS)
    )
    losses = [record["loss"] for record in result.history]
    assert losses == sorted(losses, reverse=True) and losses[-1] < before
    assert result.history[-1]["validation_loss"] == model.evaluate(x, y, LENGTHS)
    assert losses[-1] == pytest.approx(model.evaluate(x, y, LENGTHS), rel=1e-10)
    assert result.nit == len(losses)


def test_lbfgs_is_scipys_on_the_whole_batch():
    x, y = batch()
    for decay in (0.0, 0.1):
        ours, theirs = make(), make()
        result = fit_lbfgs(ours, x, y, max_iter=8, batch_size=5, weight_decay=decay)

        def objective(theta, theirs=theirs, decay=decay):
            value, gradient = theirs.value_and_gradient(theta, x, y)
            return value + decay / 2 * theta @ theta, gradient + decay * theta

        expected = minimize(
            objective, theirs.parameters.copy(), jac=True, method="L-BFGS-B", options={"maxiter": 8}
        )
        np.testing.assert_allclose(ours.parameters, expected.x, rtol=1e-6, atol=1e-8)
        assert result.fun == pytest.approx(expected.fun, rel=1e-10)


def test_lbfgs_converges_stops_and_fails_in_good_order():
    x, y = batch()
    model = make(every_step=False)
    result = fit_lbfgs(model, x, y[:, -1], max_iter=5000, tol=1e-3)
    assert result.success and np.abs(result.jac).max() < 1e-3
    model = make()
    result = fit_lbfgs(model, x, y, callbacks=[lambda record: record["epoch"] == 3])
    assert len(result.history) == 3
    np.testing.assert_array_equal(model.parameters, result.x)
    stopping = EarlyStopping(patience=1, min_delta=100.0)
    assert len(fit_lbfgs(make(), x, y, early_stopping=stopping).history) == 2

    # An error in the middle leaves the last iteration's parameters.
    model, kept = make(), []

    def fail(record):
        kept.append(model.parameters.copy())
        if len(kept) == 2:
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fit_lbfgs(model, x, y, callback=fail)
    np.testing.assert_array_equal(model.parameters, kept[-1])
    y[0] = np.nan
    before = model.parameters.copy()
    with pytest.raises(FloatingPointError, match="the loss is nan in iteration 1"):
        fit_lbfgs(model, x, y)
    np.testing.assert_array_equal(model.parameters, before)
    with pytest.raises(ValueError, match="max_iter is 0; expected at least 1"):
        fit_lbfgs(make(), *batch(), max_iter=0)


# What once went wrong ------------------------------------------------------------------------------


def test_unsigned_lengths_do_not_wrap_around_in_windows():
    """Steps beyond the end of a sequence do not count, whatever integers say where it ends."""
    x, y = batch()[0], np.array(targets(make()))
    y[np.arange(y.shape[1]) >= np.asarray(LENGTHS)[:, None]] = 1e3
    losses = []
    for dtype in (np.int64, np.uint8, np.uint64):
        history = make().fit(x, y, epochs=1, bptt=2, batch_size=2, lengths=np.array(LENGTHS, dtype), rng=0)
        losses.append(history[0]["loss"])
    assert losses[0] == losses[1] == losses[2]


def test_early_stopping_forgets_another_training_on_resume(tmp_path):
    x, y = batch()
    path = tmp_path / "c.checkpoint"
    make().fit(x, y, epochs=2, checkpoint=path, rng=0)
    stopping, other = EarlyStopping(2), make()
    other.fit(3 * x, -y, epochs=9, optimizer=SGD(0.5), early_stopping=stopping, rng=1)
    model = make()
    history = model.fit(x, y, epochs=4, checkpoint=path, resume=True, early_stopping=stopping, rng=0)
    assert len(history) == 4
    assert not np.array_equal(model.parameters, other.parameters)


@pytest.mark.parametrize("words, message", [
    ({"validation": [part[:0] for part in batch()]}, "validation: there is nothing to average"),
    ({"validation": (np.zeros((1, 6, 9)), np.zeros((1, 6, 1)))}, "validation: x has 9 features"),
    ({"early_stopping": EarlyStopping(monitor="validation_loss")}, "the training has no validation"),
    ({"schedule": WarmUp(1) * Plateau(monitor="validation_loss")}, "the training has no validation"),
    ({"checkpoint": "/nowhere/at/all.npz"}, "there is no folder /nowhere/at"),
    ({"validation": {"x": 0, "Y": 1}}, r"validation has \['Y', 'x'\]"),
])
def test_what_cannot_go_well_is_said_before_the_first_step(words, message):
    model = make()
    before = model.parameters.copy()
    with pytest.raises((ValueError, TypeError, OSError), match=message):
        model.fit(*batch(), epochs=2, rng=0, **words)
    np.testing.assert_array_equal(model.parameters, before)


def test_ctrl_c_is_let_through_between_two_windows():
    class Signal(SGD):
        def step(self, parameters, gradient):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            super().step(parameters, gradient)
            steps.append(1)

    steps = []
    with pytest.raises(KeyboardInterrupt):
        make().fit(*batch(), epochs=1, bptt=1, optimizer=Signal(0.1), rng=0)
    assert len(steps) == 1


def test_targets_that_weigh_nothing_are_not_blamed():
    x, y = batch()
    y = np.array(y)
    weight = np.ones(y.shape[:2])
    y[0, 1], weight[0, 1] = np.nan, 0.0
    with pytest.raises(FloatingPointError, match="smaller lr"):
        make().fit(x, y, sample_weight=weight, optimizer=SGD(1e160), epochs=50, rng=0)


def test_numpy_scalars_go_into_a_checkpoint(tmp_path):
    optimizer = Adam()
    optimizer.lr = np.float32(1e-3)

    def note(record):
        record["accuracy"] = np.float32(0.5)

    path = tmp_path / "c.checkpoint"
    make().fit(*batch(), epochs=2, optimizer=optimizer, callback=note, checkpoint=path, rng=0)


def test_an_optimiser_without_words_can_be_resumed(tmp_path):
    class Own:
        state = {}  # noqa: RUF012

        def step(self, parameters, gradient):
            parameters -= 0.01 * gradient

    for epochs in (1, 2):
        history = make().fit(
            *batch(), epochs=epochs, optimizer=Own(), checkpoint=tmp_path / "c.checkpoint", resume=True, rng=0
        )
    assert len(history) == 2


def test_plateau_begins_anew():
    schedule, rates = Plateau(patience=0, gamma=0.1, min_delta=0.9), []
    for _ in range(2):
        history = make().fit(*batch(), epochs=4, schedule=schedule, rng=0)
        rates.append([record["lr"] for record in history])
    assert rates[0] == rates[1] and rates[0][-1] < rates[0][0]


def test_no_step_is_nothing_to_learn_from():
    with pytest.raises(ValueError, match="no sequence to learn from"):
        make().fit(*[part[:, :0] for part in batch()], epochs=1, bptt=3)


@pytest.mark.parametrize(("argument", "given"), [
    ("optimizer", Adam), ("schedule", Cosine), ("early_stopping", EarlyStopping), ("callback", ProgressBar),
    ("loss", MeanSquaredError),
])
def test_a_class_in_the_place_of_its_object_is_told_so(argument, given):
    x, y = np.zeros((4, 3, 2)), np.zeros((4, 1))
    name = given.__name__
    text = rf"{argument} is the class {name}; expected an object of it, for example {name}\(\)"
    with pytest.raises(TypeError, match=text):
        model = Model(LSTM(2, 3), 1, **({"loss": given} if argument == "loss" else {}))
        words = {"callbacks": [given]} if argument == "callback" else {argument: given}
        model.fit(x, y, epochs=1, **words)
