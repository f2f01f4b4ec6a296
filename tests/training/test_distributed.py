"""Several ranks do what one process does on the joined mini-batch; what one meets, all hear of."""

import importlib.util
import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import mpi_ranks
import numpy as np
import pytest
from communicators import Communicator, Ranks
from numpy.testing import assert_allclose, assert_array_equal
from rank_trainings import CASES, LENGTHS, RANKS, WEIGHT, X, Y, mpiexec, needs_mpi, new

import lstm_ext
import lstm_ext.io
from lstm_ext import LSTM, SGD, Adam, Model
from lstm_ext.callbacks import EarlyStopping
from lstm_ext.distributed import DataParallel, RankError
from lstm_ext.distributed._run import quanta
from lstm_ext.schedules import Plateau


def train(model, every_step=True, shard=slice(None), **words):
    y = Y if every_step else Y[:, 0]
    for name, array in (("lengths", LENGTHS), ("sample_weight", WEIGHT)):
        if words.get(name) is True:
            words[name] = array[shard]
    history = model.fit(
        X[shard], y[shard],
        **{"epochs": 3, "batch_size": 5, "rng": 4, "optimizer": Adam(0.01, max_norm=0.3), **words},
    )
    return model.parameters.copy(), [record["loss"] for record in history]


def on_ranks(size, function):
    """Return what function(comm) returns on each rank, or raise what one of them has raised."""
    outcomes = Ranks(size).run(function)
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for error in sorted(errors, key=lambda error: isinstance(error, RankError)):
        raise error
    return outcomes


@pytest.mark.parametrize("block", [None, 2])
@pytest.mark.parametrize("words", CASES.values(), ids=CASES)
def test_ranks_that_cut_the_set_do_what_one_process_does(words, block):
    every_step = words.get("every_step", True)
    expected, losses = train(new(0, every_step), **words)
    for size in (1, 3):
        found = on_ranks(size, lambda comm: train(
            # Rank 0's parameters, optimiser and generator count.
            new(comm.rank, every_step), **words, comm=DataParallel(comm, shards="cut", block=block)
        ))
        for parameters, reduced in found:
            assert_array_equal(parameters, found[0][0])
            assert_allclose(parameters, expected, rtol=0, atol=1e-13)
            assert_allclose(reduced, losses, rtol=1e-13)


def test_uneven_and_empty_shards_are_one_joined_mini_batch():
    """Against a loop over joined mini-batches, written out."""
    shards = [np.arange(11), np.arange(0), np.arange(11, 13), np.arange(13, 21)]
    weight = WEIGHT.copy()
    weight[11:13] = 0  # a shard that has sequences, and counts nothing
    found = on_ranks(4, lambda comm: train(
        new(), shard=shards[comm.rank], comm=comm, optimizer=SGD(0.1), lengths=True,
        sample_weight=weight[shards[comm.rank]],
    ))

    model, optimizer, rng, losses = new(), SGD(0.1), np.random.default_rng(4), []
    used = [shard[weight[shard] > 0] for shard in shards]
    total = sum(map(len, used))
    steps = math.ceil(total / 5)
    for _ in range(3):
        seed = int(rng.integers(2**63))
        orders = [
            np.random.default_rng([seed, rank]).permutation(len(part)) for rank, part in enumerate(used)
        ]
        epoch = counted = 0
        for k in range(steps):
            joined = np.concatenate([
                part[order[k * len(part) // steps : (k + 1) * len(part) // steps]]
                for part, order in zip(used, orders, strict=True)
            ])
            assert abs(len(joined) - 5) <= 3
            loss = model.loss_and_gradient(
                X[joined], Y[joined], LENGTHS[joined], sample_weight=weight[joined]
            )
            optimizer.step(model.parameters, model.gradient)
            share = (weight[joined] * LENGTHS[joined]).sum()
            epoch, counted = epoch + share * loss, counted + share
        losses.append(epoch / counted)
    for parameters, reduced in found:
        assert_array_equal(parameters, found[0][0])
        assert_allclose(parameters, model.parameters, rtol=0, atol=1e-13)
        assert_allclose(reduced, losses, rtol=1e-13)


@pytest.mark.parametrize("words", [{}, {"bucket": True}])
def test_an_epoch_of_given_shards_visits_every_sequence_once(words):
    seen = [[], [], []]

    def work(comm):
        class Watching(SGD):
            def step(self, parameters, gradient):
                pass

        shard = slice(7 * comm.rank, 7 * comm.rank + 7)
        team = DataParallel(comm)
        kind = team.batches
        team.batches = lambda *arguments: watched(kind(*arguments), comm.rank)
        train(new(), shard=shard, lengths=LENGTHS[shard], comm=team, optimizer=Watching(1), epochs=1, **words)

    def watched(batches, rank):
        draw = batches.draw

        def noted(rng):
            order = draw(rng)
            seen[rank] += order
            return order

        batches.draw = noted
        return batches

    on_ranks(3, work)
    assert len({len(parts) for parts in seen}) == 1
    for parts in seen:
        assert sorted(np.concatenate(parts)) == list(range(7))
        assert max(map(len, parts)) <= 2


def test_decisions_read_reduced_losses():
    """Early stopping and plateaus see the joined validation loss, also where shards disagree."""
    shards = [slice(0, 4), slice(4, 21)]
    words = {"epochs": 12, "lengths": True}

    def work(comm):
        shard, stopping, model = shards[comm.rank], EarlyStopping(2, min_delta=0.02), new()
        history = model.fit(
            X[shard], Y[shard], lengths=LENGTHS[shard], epochs=12, batch_size=5, rng=1, comm=comm,
            validation=(X[shard], Y[shard], LENGTHS[shard]), early_stopping=stopping,
            optimizer=Adam(0.02), schedule=Plateau(0.5, patience=0, min_delta=0.05),
        )
        joined = model.evaluate(X, Y, LENGTHS)
        return [(r["loss"], r["validation_loss"], r["lr"]) for r in history], joined, stopping.best

    (first, joined, best), second = on_ranks(2, work)
    assert second == (first, joined, best)
    assert len(first) < words["epochs"]
    assert joined == pytest.approx(best, rel=1e-13)


def test_the_exact_sum_is_exact_in_any_order():
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(13, 50)) * 10.0 ** rng.integers(-12, 3, (13, 50))
    expected = [math.fsum(column) for column in parts.T]

    def total(order):
        sums = np.zeros((2, 50))
        for k in order:
            rest = parts[k].copy()
            for level, quantum in enumerate(quanta(np.abs(parts).max(), 13, 2)):
                shift = 1.5 * 2.0**52 * quantum
                rounded = rest + shift - shift
                assert_array_equal(rounded % quantum, 0)
                sums[level] += rounded
                rest -= rounded
        return sums.sum(axis=0)

    sums = [total(rng.permutation(13)) for _ in range(5)]
    for other in sums[1:]:
        assert_array_equal(sums[0], other)
    assert_allclose(sums[0], expected, rtol=1e-15, atol=1e-24)
    assert quanta(5e-324, 3, 2)[0] > 0 and quanta(0.0, 1, 1)[0] > 0


def test_threads_do_not_show_in_the_reproducible_mode():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(96, 12, 3)).astype(np.float32), rng.normal(size=(96, 12, 2))

    def work(comm):
        model = Model(LSTM(3, 32, rng=0), 2, every_step=True, rng=0)
        model.fit(x, y, epochs=1, batch_size=96, rng=0, comm=DataParallel(comm, shards="cut", block=48))
        return model.parameters.copy()

    results = []
    for threads in (1, 2, 3):
        lstm_ext.set_num_threads(threads)
        try:
            results += [on_ranks(size, work)[0] for size in (1, 2)]
        finally:
            lstm_ext.set_num_threads(None)
    for other in results[1:]:
        assert_array_equal(results[0], other)


def test_one_rank_that_wants_the_end_ends_all():
    found = on_ranks(2, lambda comm: train(
        new(), comm=DataParallel(comm, shards="cut"), callback=lambda r: comm.rank == r["epoch"] == 1
    ))
    assert [len(losses) for _, losses in found] == [1, 1]


@pytest.mark.parametrize("error", [KeyboardInterrupt("Ctrl-C"), OSError("no")])
def test_what_a_callback_raises_on_one_rank_all_hear(error):
    def callback(record):
        raise error

    first, second = Ranks(2).run(lambda comm: train(
        new(), comm=DataParallel(comm, shards="cut"), callback=callback if comm.rank else None
    ))
    if isinstance(error, KeyboardInterrupt):
        assert type(first) is type(second) is KeyboardInterrupt
    else:
        assert second is error
        assert type(first) is RankError
        assert "rank 1 has failed, and with it the training: OSError: no" in str(first)


def test_a_step_that_leads_to_infinity_is_the_same_error_everywhere():
    first, second = Ranks(2).run(lambda comm: train(
        new(), comm=DataParallel(comm, shards="cut"), optimizer=SGD(1e300, max_norm=None)
    ))
    assert type(first) is type(second) is FloatingPointError
    assert str(first) == str(second) and "smaller lr" in str(first)


def test_what_does_not_fit_is_refused_everywhere():
    with pytest.raises(TypeError, match="has no Get_rank, Get_size, Allreduce, Bcast"):
        new().fit(X, Y, epochs=1, comm=object())
    comm = Communicator(Ranks(1), 0)
    for words, error, sentence in (
        ({"shards": "mine"}, ValueError, "shards is 'mine'; expected 'given' or 'cut'"),
        ({"block": 4}, ValueError, "block is 4, and shards are given"),
        ({"block": 0, "shards": "cut"}, ValueError, "block is .*; expected at least 1"),
        ({"check_every": 0}, ValueError, "check_every"),
        ({"timeout": -1}, ValueError, "timeout"),
    ):
        with pytest.raises(error, match=sentence):
            DataParallel(comm, **words)

    cut = Ranks(2).run(lambda c: train(
        new(), shard=slice(0, 20 + c.rank), comm=DataParallel(c, shards="cut")
    ))
    assert all(type(e) is ValueError and "(20, 6, 3) of CRC-32" in str(e) for e in cut)
    nothing = Ranks(2).run(lambda c: train(new(), shard=slice(0, 0), comm=c))
    assert all(type(e) is ValueError and "no sequence to learn from" in str(e) for e in nothing)
    one, other = Ranks(2).run(lambda c: train(new(), comm=DataParallel(c, shards="cut"), epochs=-1 - c.rank))
    assert [str(e) for e in (one, other)] == [f"epochs is -{n}; expected at least 0" for n in (1, 2)]


def test_shards_that_are_all_the_same_are_pointed_out():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        on_ranks(2, lambda comm: train(new(), comm=comm, epochs=1))
    assert ["shards='cut'" in str(w.message) for w in caught] == [True]


def test_a_resumed_training_on_other_ranks_gives_the_same_bits(tmp_path):
    def work(folder, epochs, **words):
        return lambda comm: train(
            new(comm.rank), comm=DataParallel(comm, shards="cut", block=3), epochs=epochs,
            checkpoint=tmp_path / folder, early_stopping=EarlyStopping(9), **words
        )

    whole = on_ranks(1, work("whole", 4))[0]
    on_ranks(2, work("cut off", 2))
    parameters, losses = on_ranks(3, work("cut off", 4, resume=True))[2]
    assert_array_equal(parameters, whole[0])
    assert losses == whole[1]


@pytest.mark.parametrize("early_stopping", [False, True])
def test_estimators_on_ranks_are_the_estimator(early_stopping):
    clone = pytest.importorskip("sklearn.base", reason="the estimators need scikit-learn").clone
    from lstm_ext import sklearn

    words = {
        "hidden_size": 4, "max_iter": 3, "batch_size": 6, "random_state": 1, "dtype": "float64",
        "early_stopping": early_stopping,
    }
    series = np.sin(np.arange(60) / 3)
    cases = [
        (sklearn.LSTMRegressor(**words), (X, Y[:, 0]), X),
        (sklearn.LSTMClassifier(**words), (X, np.arange(21) % 3), X),
        (sklearn.LSTMForecaster(6, 2, **words), (series,), None),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # three epochs are few
        for estimator, data, x in cases:
            expected = clone(estimator).fit(*data)
            for found in on_ranks(2, lambda comm, e=estimator, d=data: clone(e).fit(*d, comm=comm)):
                assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-12)
                arguments = () if x is None else (x,)
                assert_allclose(found.predict(*arguments), expected.predict(*arguments), rtol=1e-10)
    one = Communicator(Ranks(1), 0)
    for more, comm, sentence in (
        ({"random_state": None}, one, "random_state is None; expected a number"),
        ({"solver": "lbfgs"}, one, "solver='lbfgs'; expected a solver with mini-batches"),
        ({}, DataParallel(one), "expected 'cut'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            sklearn.LSTMRegressor(**{**words, **more}).fit(X, Y[:, 0], comm=comm)


def test_processes_of_a_launcher_have_a_thread_each(monkeypatch, capsys):
    from lstm_ext.__main__ import main
    from lstm_ext._threads import _default, mpi_processes

    for name in ("OMP_NUM_THREADS", "LSTM_EXT_NUM_THREADS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    alone = _default()
    assert mpi_processes() == 1
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            assert _default() == alone
            patch.setenv(name, "4")
            assert mpi_processes() == 4 and _default() == 1
            main(["info"])
            assert "(one of 4 MPI processes, by default a thread each)" in capsys.readouterr().out
            patch.setenv("LSTM_EXT_NUM_THREADS", "3")
            assert _default() == 3


# ---- real processes

@needs_mpi
def test_one_to_four_processes_give_the_same_bits(tmp_path):
    mpi_ranks.same(tmp_path, Communicator(Ranks(1), 0))
    runs = [np.load(tmp_path / "same_1.npz")]
    for ranks in (2, 3, 4):
        done = mpiexec(ranks, RANKS, "same", tmp_path)
        assert done.returncode == 0, done.stderr
        runs.append(np.load(tmp_path / f"same_{ranks}.npz"))
    for run in runs[1:]:
        assert set(run.files) == set(runs[0].files)
        for name in run.files:
            if name.startswith("plain"):
                assert_allclose(run[name], runs[0][name], rtol=0, atol=1e-6 if "32" in name else 1e-14)
            else:
                assert_array_equal(run[name], runs[0][name])
    assert_array_equal(runs[0]["threads"], runs[0]["exact_float32"])
    assert (runs[0]["dropout"] != runs[0]["threads"]).any()


@needs_mpi
def test_faults_of_one_process_reach_all(tmp_path):
    done = mpiexec(2, RANKS, "faults", tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"faults_{rank}.json").read_text()) for rank in (0, 1))
    for name in ("nan", "nan in blocks"):
        assert first[name] == second[name]
        assert first[name][0] == "FloatingPointError"
        assert "rank 1: the loss is nan in epoch 1: x" in first[name][1]
    assert second["argument"] == ["ValueError", "batch_size is 0; expected at least 1"]
    assert first["argument"][0] == "RankError" and second["argument"][1] in first["argument"][1]
    sentence = "batch_size is 6 on rank 0 and 7 on rank 1; expected the same on all 2 ranks"
    assert first["setting"] == second["setting"] and second["setting"][1].startswith(sentence)
    assert first["checksum"] == second["checksum"]
    assert "after 9 steps the parameters on rank 1 are not those on rank 0" in first["checksum"][1]
    # The old checkpoint stands, whole, and nothing else.
    assert first["disk"][0] == "OSError" and second["disk"][0] == "RankError"
    assert first["disk"][1] in second["disk"][1]
    assert first["disk left"] is True and first["torn files"] == []


@needs_mpi
def test_a_killed_process_ends_the_job_and_leaves_a_checkpoint_to_go_on_from(tmp_path):
    done = mpiexec(2, RANKS, "dies", tmp_path)
    assert done.returncode != 0
    done = mpiexec(2, RANKS, "resumes", tmp_path)
    assert done.returncode == 0, done.stderr
    resumed = np.load(tmp_path / "resumed.npz")
    comm = DataParallel(Communicator(Ranks(1), 0), shards="cut", block=2)
    parameters, losses = mpi_ranks.train(comm=comm)  # never cut off, and on one rank
    assert_array_equal(resumed["parameters"], parameters)
    assert_array_equal(resumed["losses"], losses)


@needs_mpi
def test_a_process_that_hangs_is_not_waited_for(tmp_path):
    done = mpiexec(2, RANKS, "hangs", tmp_path)
    assert done.returncode != 0
    kind, sentence, seconds = json.loads((tmp_path / "hangs_0.json").read_text())
    assert kind == "RankError" and "rank 0 has waited 1 s for the others in allreduce" in sentence
    assert seconds < 30


@needs_mpi
def test_the_benchmark_runs():
    program = Path(__file__).parents[2] / "benchmarks" / "data_parallel.py"
    done = subprocess.run(
        [sys.executable, program, "--quick"], capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(Path(lstm_ext.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    assert "| 8 | 1321 |" in done.stdout
    assert float(done.stdout.rpartition("largest difference ")[2]) < 1e-6


def test_the_model_of_scaling_is_least_where_it_says():
    # Not by its name, which is that of Dask's scheduler, too.
    path = Path(__file__).parents[2] / "benchmarks" / "data_parallel.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_ranks", path)
    model = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(model)
    network, words = (1e-6, 1e-10), (0.05, 1e-4, 2e5)
    for kind in (model.ring, model.tree):
        least, half = model.stops_paying(*words, kind, network)
        seconds = [model.step_seconds(p, *words, kind, network) for p in range(1, 1001)]
        assert seconds[least - 1] == min(seconds) and seconds[0] == pytest.approx(0.0501)
        assert seconds[0] / seconds[half - 1] >= half / 2
    # By hand: sqrt(compute / (2 latency)) ranks around a ring, but for what bandwidth adds.
    assert abs(model.stops_paying(0.05, 0, 0, model.ring, network)[0] - math.sqrt(0.05 / 2e-6)) <= 1


# ---- the command

CONFIG = """
[data]
x = "x.npy"
npz = "rest.npz"
[validation]
npz = "validation.npz"
[model]
hidden_size = 5
every_step = true
loss = "huber"
[optimizer]
name = "AdamW"
lr = 0.02
max_norm = 1.0
[schedule]
name = "Cosine"
epochs = 3
[training]
epochs = 3
batch_size = 6
seed = 2
patience = 5
checkpoint = "state.checkpoint"
[parallel]
block = 2
[output]
model = "model.safetensors"
history = "history.json"
"""


@pytest.fixture
def config(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "rest.npz", y=Y, lengths=LENGTHS)
    np.savez(tmp_path / "validation.npz", x=X[:5], y=Y[:5], lengths=LENGTHS[:5])
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return path


def test_the_command_does_what_the_file_says(config, capsys):
    from lstm_ext.__main__ import main
    from lstm_ext.losses import Huber
    from lstm_ext.schedules import Cosine

    assert main(["fit", str(config)]) == 0
    said = capsys.readouterr().out
    found = Model.load(config.parent / "model.safetensors")
    model = Model(LSTM(3, 5, rng=2), 2, every_step=True, loss=Huber(), rng=2)
    history = model.fit(
        X, Y, lengths=LENGTHS, epochs=3, batch_size=6, rng=2, validation=(X[:5], Y[:5], LENGTHS[:5]),
        optimizer=lstm_ext.AdamW(0.02, max_norm=1.0), schedule=Cosine(3), early_stopping=EarlyStopping(5),
        comm=DataParallel(None, shards="cut", block=2),
    )
    assert_array_equal(found.parameters, model.parameters)
    written = json.loads((config.parent / "history.json").read_text())
    assert [r["loss"] for r in written] == [r["loss"] for r in history]
    assert f"3 epochs, loss {history[-1]['loss']:.6g}, validation_loss" in said
    # Goes on from the end: nothing is left to do.
    before = (config.parent / "model.safetensors").read_bytes()
    assert main(["fit", str(config), "--resume"]) == 0
    assert (config.parent / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(("old", "new", "sentence"), [
    ("[data]", "[date]", "its tables may be data, validation, model"),
    ("epochs = 3\nbatch", "epoch = 3\nbatch", "[training] has 'epoch', it may have epochs"),
    ("epochs = 3\nbatch", "batch", "[training] has no epochs"),
    ("hidden_size = 5", "", "[model] has no hidden_size"),
    ("hidden_size = 5", "hidden_size = 0", "hidden_size"),
    ('x = "x.npy"', 'x = "none.npy"', "none.npy"),
    ('npz = "rest.npz"', "", "[data] has no y"),
    ('name = "AdamW"', 'name = "Adams"', "name is 'Adams'; expected one of SGD, RMSprop, Adam, AdamW"),
    ('"huber"', '"gaussian"', "has no output_size, and loss 'gaussian' needs one"),
    ("block = 2", 'block = 2\nshards = "given"', "shards are given"),
    ("[data]", "[data", "is not TOML"),
])
def test_the_command_refuses_what_it_does_not_know(config, capsys, old, new, sentence):
    from lstm_ext.__main__ import main

    config.write_text(CONFIG.replace(old, new))
    assert main(["fit", str(config)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("lstm-ext fit: ") and sentence in error
    assert not {"model.safetensors", "state.checkpoint"} & set(os.listdir(config.parent))


def test_the_command_keeps_the_model_without_being_told_where(config, capsys):
    from lstm_ext.__main__ import main

    text = config.read_text()
    config.write_text(text.replace('model = "model.safetensors"\n', ""))
    kept = config.with_suffix(".safetensors")
    assert main(["fit", str(config)]) == 0
    assert f"model: {kept}" in capsys.readouterr().out and lstm_ext.io.load(kept)
    before = kept.read_bytes()
    assert main(["fit", str(config)]) == 1
    assert f"{kept} is there already" in capsys.readouterr().err
    assert kept.read_bytes() == before


@needs_mpi
def test_the_command_under_mpiexec_writes_the_same_bytes(config):
    from lstm_ext.__main__ import main

    done = mpiexec(3, "-m", "lstm_ext", "fit", config)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 epochs, loss") and done.stdout.count("epochs") == 1
    content = (config.parent / "model.safetensors").read_bytes()
    (config.parent / "state.checkpoint").unlink()
    assert main(["fit", str(config)]) == 0
    assert (config.parent / "model.safetensors").read_bytes() == content


def test_a_mini_batch_that_is_empty_on_all_ranks_is_passed_over():
    """Two shards of three, one sequence a step in all: some steps have none."""
    histories = on_ranks(2, lambda comm: new().fit(
        X[comm.rank :][:3], Y[comm.rank :][:3], epochs=2, batch_size=1, rng=0, comm=comm
    ))
    assert len(histories[0]) == 2 and histories[0][0]["loss"] == histories[1][0]["loss"]
