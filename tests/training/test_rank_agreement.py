"""Ranks that were given different things raise the same error at once; none waits for another."""

import inspect
import json
import time
import warnings

import numpy as np
import pytest
from communicators import Ranks
from rank_trainings import CASES as TRAININGS
from rank_trainings import LENGTHS, RANKS, WEIGHT, X, Y, mpiexec, needs_mpi, new

from lstm_ext import LSTM, SGD, Adam, Model
from lstm_ext.callbacks import Callback, EarlyStopping
from lstm_ext.distributed import DataParallel, RankError
from lstm_ext.schedules import Cosine, Plateau

SECONDS = 10  # far below the timeouts of communicators and of DataParallel

MASK = np.arange(6) < LENGTHS[:, None]


def changed(array):
    other = array.copy()
    other.flat[-1] = not other.flat[-1] if other.dtype == bool else other.flat[-1] + 1
    return other


# What rank 0 and the others give `fit`, and what the error names. Where the two shards differ: with
# shards="cut" alone.
OPTIONS = {
    "epochs": (1, 2), "batch_size": (5, 6), "optimizer": (Adam(0.01), Adam(0.02)),
    "optimizer of another class": (Adam(0.1), SGD(0.1)), "schedule": (Cosine(3), None),
    "schedule with other numbers": (Cosine(3), Cosine(4)),
    "early_stopping": (EarlyStopping(2), EarlyStopping(3)), "early_stopping on one": (EarlyStopping(2), None),
    "bucket": (True, False), "bptt": (2, None), "bptt of other lengths": (2, 3),
    "checkpoint": ("a.checkpoint", None), "checkpoint_every": (1, 2), "resume": (True, False),
    "validation": ((X, Y), None),
}
SHAPES = {
    "x": (X[:, :5], X), "y": (Y[..., :1], Y), "validation: x": ((X[:, :4], Y[:, :4]), (X, Y)),
}
CONTENTS = {
    "x": (X, changed(X)), "x of other sequences": (X[:20], X), "y": (Y, changed(Y)),
    "y of another dtype": (Y, Y.astype("f4")),
    "lengths": (LENGTHS, np.where(LENGTHS < 3, 3, LENGTHS)), "lengths on one": (LENGTHS, None),
    "sample_weight": (WEIGHT, changed(WEIGHT)), "sample_weight on one": (None, WEIGHT),
    "mask": (MASK, changed(MASK)), "static": (X[:, 0], changed(X[:, 0])),
    "validation: x": ((X, Y), (changed(X), Y)), "validation: x of other sequences": ((X[:4], Y[:4]), (X, Y)),
    "validation: lengths": ((X, Y, LENGTHS), (X, Y)),
}
SHARING = {
    "shards": ("cut", "given"), "block": (2, None), "block of other sizes": (2, 3), "check_every": (1, 2),
    "timeout": (20.0, None), "timeout of other lengths": (20.0, 30.0),
}
# What need not be the same: rank 0's parameters and generator are sent to all, callbacks and bars are each
# rank's own affair, and comm is.
FREE = {"self", "rng", "callbacks", "callback", "progress", "comm"}


def fit_on(size, arguments, sharing=lambda rank: {"shards": "cut"}, model=new):
    """Return what fit(**arguments(rank)) returns or raises on each rank, and after how many seconds."""
    def work(comm):
        words = {"x": X, "y": Y, "epochs": 2, "batch_size": 5, "rng": 0, **arguments(comm.rank)}
        n = len(words["x"])
        for name in ("y", "lengths", "mask", "static", "sample_weight"):
            if words.get(name) is not None:
                words[name] = words[name][:n]
        if words["x"].shape[1] < words["y"].shape[1]:
            words["y"] = words["y"][:, : words["x"].shape[1]]
        return model(comm.rank).fit(**words, comm=DataParallel(comm, **sharing(comm.rank)))

    start = time.perf_counter()
    return Ranks(size).run(work), time.perf_counter() - start


def assert_agreed(outcomes, seconds, name, odd):
    assert seconds < SECONDS
    assert {type(error) for error in outcomes} == {ValueError}, outcomes
    (sentence,) = set(map(str, outcomes))
    assert f"{name} is " in sentence and " on rank 0 and " in sentence
    assert f" on rank {odd}" in sentence and f"same on all {len(outcomes)} ranks" in sentence


@pytest.mark.parametrize("odd", [0, 1, 2])
@pytest.mark.parametrize("shards", ["cut", "given"])
@pytest.mark.parametrize("case", OPTIONS)
def test_options(case, shards, odd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, values = case.split(" ")[0], OPTIONS[case]
    more = {"checkpoint": "c"} if name == "resume" else {"lengths": LENGTHS} if name == "bucket" else {}
    outcomes, seconds = fit_on(
        3, lambda rank: {**more, name: values[rank == odd]}, lambda rank: {"shards": shards}
    )
    assert_agreed(outcomes, seconds, name, "1, 2" if odd == 0 else odd)


@pytest.mark.parametrize("shards", ["cut", "given"])
@pytest.mark.parametrize("case", SHAPES)
def test_shapes(case, shards):
    values = SHAPES[case]
    key = case.partition(":")[0]
    outcomes, seconds = fit_on(
        2, lambda rank: {key: values[rank]}, lambda rank: {"shards": shards},
        lambda rank: Model(LSTM(3, 5, rng=0), values[rank].shape[-1] if case == "y" else 2, every_step=True),
    )
    assert_agreed(outcomes, seconds, case, 1)


@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize("case", CONTENTS)
def test_contents_of_a_set_that_is_cut(case, odd):
    values = CONTENTS[case]
    key = case.partition(":")[0].split(" ")[0]
    name = case.split(" of ")[0].split(" on ")[0]
    size = 3 if key == "static" else 0
    outcomes, seconds = fit_on(
        2, lambda rank: {key: values[rank == odd]},
        model=lambda rank: Model(LSTM(3, 5, static_size=size, rng=0), 2, every_step=True),
    )
    assert_agreed(outcomes, seconds, name, 1)


@pytest.mark.parametrize("case", SHARING)
def test_how_a_training_is_shared(case):
    name, values = case.split(" ")[0], SHARING[case]
    def sharing(rank):
        return {"shards": "cut", name: values[rank]}
    outcomes, seconds = fit_on(2, lambda rank: {}, sharing)
    assert_agreed(outcomes, seconds, name, 1)


def test_models():
    outcomes, seconds = fit_on(2, lambda rank: {}, model=lambda rank: new(dtype=("float32", "float64")[rank]))
    assert_agreed(outcomes, seconds, "model", 1)


def test_other_versions():
    """Of which nothing is known but that they begin with the same exchange: names may be missing."""
    def begin(comm):
        settings = [{"version": "2", "shards": "cut", "timeout": 1.0}, {"version": "1", "shards": "cut"}]
        DataParallel(comm).compare_settings(settings[comm.rank])

    start = time.perf_counter()
    outcomes = Ranks(2).run(begin)
    assert_agreed(outcomes, time.perf_counter() - start, "version", 1)
    assert "timeout is 1.0 on rank 0 and not known on rank 1" in str(outcomes[0])


def test_every_argument_is_compared_or_free():
    """A new argument of `fit` or of `DataParallel` has to be in one of the tables above."""
    named = {case.partition(":")[0].split(" ")[0] for table in (OPTIONS, CONTENTS) for case in table}
    assert named | FREE == set(inspect.signature(Model.fit).parameters)
    assert {case.split(" ")[0] for case in SHARING} | {"comm"} == set(
        inspect.signature(DataParallel).parameters
    )


def test_many_differences_are_named_briefly():
    outcomes, seconds = fit_on(20, lambda rank: {"batch_size": 5 + rank, "epochs": 1 + (rank > 3)})
    assert seconds < SECONDS
    (sentence,) = set(map(str, outcomes))
    assert "batch_size is 5 on rank 0 and 6 on rank 1" in sentence and len(sentence) < 1000
    assert "epochs is 1 on rank 0 and 2 on rank 4, 5, 6, 7, 8, ..." in sentence


class Odd(Callback):
    """Raises an error in one of its methods."""

    def __init__(self, method, epoch):
        def fail(*arguments):
            if method != "on_batch_end" or arguments[:2] == (epoch, 1.0):
                raise OSError("no")

        # By the class: a training looks there whether batches are of interest.
        self.__class__ = type("Odd", (Callback,), {method: lambda self, *arguments: fail(*arguments)})


@pytest.mark.parametrize("words", TRAININGS.values(), ids=TRAININGS)
@pytest.mark.parametrize("block", [None, 2])
@pytest.mark.parametrize("method", ["on_fit_begin", "on_batch_end", "on_epoch_end"])
def test_a_callback_that_raises_on_one_rank(method, block, words):
    every_step = words.get("every_step", True)
    given = {name: {"lengths": LENGTHS, "sample_weight": WEIGHT}.get(name, value)
             for name, value in words.items() if name != "every_step"}
    y = Y if every_step else Y[:, 0]
    outcomes, seconds = fit_on(
        2, lambda rank: {**given, "y": y, "callbacks": [Odd(method, 2)] if rank else ()},
        lambda rank: {"shards": "cut", "block": block, "check_every": 1},
        lambda rank: new(0, every_step),
    )
    assert seconds < SECONDS
    assert type(outcomes[0]) is RankError and "rank 1 has failed" in str(outcomes[0])
    assert type(outcomes[1]) is OSError


@pytest.mark.parametrize("what", ["optimizer", "schedule", "early_stopping"])
def test_parts_that_raise_or_decide_on_one_rank(what):
    """Classes of users: their repr says nothing, so only what they do shows."""
    class Optimizer(SGD):
        def step(self, parameters, gradient):
            if self.odd:
                raise OSError("no")
            super().step(parameters, gradient)

    class Schedule(Plateau):
        def observe(self, record):
            if self.odd:
                raise OSError("no")
            super().observe(record)

    class Stopping(EarlyStopping):
        def on_epoch_end(self, record):
            return super().on_epoch_end(record) or self.odd

    def part(rank):
        value = {
            "optimizer": lambda: Optimizer(0.1), "schedule": lambda: Schedule(0.5),
            "early_stopping": lambda: Stopping(5),
        }[what]()
        value.odd = rank == 1
        return value

    outcomes, seconds = fit_on(
        2, lambda rank: {what: part(rank), "epochs": 3}, lambda rank: {"shards": "cut", "check_every": 1}
    )
    assert seconds < SECONDS
    if what == "early_stopping":
        assert [len(history) for history in outcomes] == [1, 1]
    else:
        assert type(outcomes[0]) is RankError and "OSError: no" in str(outcomes[0])
        assert type(outcomes[1]) is OSError


@needs_mpi
def test_processes_that_disagree(tmp_path):
    """With MPI, where one rank's collective operation must not meet another one of the others."""
    start = time.perf_counter()
    done = mpiexec(3, RANKS, "disagree", tmp_path)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < 60
    seen = [json.loads((tmp_path / f"disagree_{rank}.json").read_text()) for rank in range(3)]
    assert seen[0] == seen[1] == seen[2]
    for name, (kind, sentence) in seen[0].items():
        assert kind == "ValueError" and f"{name} is " in sentence and " on rank 2; expected" in sentence
    assert len(seen[0]) == 9


@pytest.mark.parametrize("when", ["before", "between", "after", "within", "all", "settings", "never"])
def test_trainings_within_agreed(when):
    """What one rank raises before, between or after trainings reaches those that train."""
    def work(comm):
        group, model = DataParallel(comm, shards="cut"), new()
        def step(name):
            if when == name and comm.rank == 1:
                raise OSError("no")

        def train(**more):
            model.fit(X, Y, epochs=1, batch_size=5, rng=0, comm=group, **more)

        with group.agreed():
            step("before")
            train()
            step("between")
            if when == "all":
                train(optimizer=SGD(1e300, max_norm=None))
            with group.agreed():
                every = 1 + comm.rank if when == "settings" else 1
                train(callback=lambda record: step("within"), checkpoint_every=every)
            step("after")

    start = time.perf_counter()
    outcomes = Ranks(2).run(work)
    assert time.perf_counter() - start < SECONDS
    kinds = {
        "all": [FloatingPointError] * 2, "settings": [ValueError] * 2, "never": [type(None)] * 2,
    }.get(when, [RankError, OSError])
    assert [type(outcome) for outcome in outcomes] == kinds, outcomes


@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize(("parameters", "data", "kinds"), [
    ({"random_state": None}, {}, {"ValueError"}),
    ({"solver": "lbfgs"}, {}, {"ValueError"}),
    ({"hidden_size": -1}, {}, {"InvalidParameterError"}),
    ({"hidden_size": 5}, {}, {"ValueError"}),
    ({}, {"y": Y[:20, 0]}, {"ValueError"}),
    ({}, {"X": np.where(X == X.max(), np.nan, X)}, {"ValueError"}),
    ({}, {"sample_weight": -WEIGHT}, {"ValueError"}),
])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_estimators(parameters, data, kinds, odd, early_stopping):
    """What an estimator refuses on one rank, before, between or after its trainings, the others hear of."""
    sklearn = pytest.importorskip("lstm_ext.sklearn", reason="the estimators need scikit-learn")

    def work(comm):
        mine = comm.rank == odd
        words = {
            "hidden_size": 4, "max_iter": 2, "batch_size": 6, "random_state": 1,
            "early_stopping": early_stopping, **(parameters if mine else {}),
        }
        arguments = {"X": X, "y": Y[:, 0], **(data if mine else {})}
        return sklearn.LSTMRegressor(**words).fit(**arguments, comm=comm)

    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcomes = Ranks(2).run(work)
    assert time.perf_counter() - start < 2 * SECONDS
    assert type(outcomes[odd]).__name__ in kinds, outcomes
    other = outcomes[1 - odd]
    assert (isinstance(other, RankError) and f"rank {odd} has failed" in str(other)) or str(other) == str(
        outcomes[odd]
    )


def test_an_estimator_whose_callback_raises_on_one_rank():
    sklearn = pytest.importorskip("lstm_ext.sklearn", reason="the estimators need scikit-learn")

    def work(comm):
        def callback(record):
            if comm.rank:
                raise OSError("no")

        return sklearn.LSTMClassifier(hidden_size=4, max_iter=3, random_state=0, callbacks=[callback]).fit(
            X, np.arange(21) % 3, comm=comm
        )

    start = time.perf_counter()
    first, second = Ranks(2).run(work)
    assert time.perf_counter() - start < SECONDS
    assert type(first) is RankError and type(second) is OSError
