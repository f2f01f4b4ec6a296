"""What a rank of tests/training/test_distributed.py does under mpiexec: `mpi_ranks.py CASE FOLDER`.

Each rank leaves what it saw in FOLDER; the test reads that.
"""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np

import lstm_ext
from lstm_ext import LSTM, Adam, Model
from lstm_ext.callbacks import EarlyStopping
from lstm_ext.distributed import DataParallel
from lstm_ext.schedules import Cosine


def sequences(n=23):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, 6, 3))
    return x, x.sum(axis=2).cumsum(axis=1)[..., None], rng.integers(1, 7, n)


def model(seed=0, dtype="float32", **options):
    return Model(LSTM(3, 5, dtype=dtype, rng=seed, **options), 1, every_step=True, rng=seed)


def words(**more):
    """Settings of a training in which every decision has something to decide."""
    x, y, lengths = sequences()
    return {
        "epochs": 4, "batch_size": 6, "rng": 3, "optimizer": Adam(0.02, max_norm=0.5), "schedule": Cosine(4),
        "validation": (x[:9], y[:9], lengths[:9]), "early_stopping": EarlyStopping(2), **more,
    }


def train(seed=0, dtype="float32", options=None, **more):
    x, y, lengths = sequences()
    learner = model(seed, dtype, **(options or {}))
    history = learner.fit(x, y, lengths=lengths, **words(**more))
    return learner.parameters, [record["loss"] for record in history]


def same(folder, world):
    """Train in all ways; rank 0 writes parameters and losses."""
    rank = world.Get_rank()
    results = {}
    for dtype in ("float32", "float64"):
        for name, options in (("plain", {}), ("exact", {"block": 2})):
            comm = DataParallel(world, shards="cut", check_every=2, **options)
            # Only rank 0's model counts.
            results[f"{name}_{dtype}"] = train(rank, dtype, comm=comm)
    # The threads' share-out of blocks may not show; what is dropped may not depend on the ranks.
    lstm_ext.set_num_threads(2)
    comm = DataParallel(world, shards="cut", block=2)
    results["threads"] = train(rank, comm=comm)
    results["dropout"] = train(rank, options={"recurrent_dropout": 0.3}, comm=comm)
    lstm_ext.set_num_threads(None)
    if rank == 0:
        arrays = {}
        for name, (parameters, losses) in results.items():
            arrays |= {name: parameters, f"{name}_losses": losses}
        np.savez(folder / f"same_{world.Get_size()}.npz", **arrays)


class Rotten:
    """Sequences on a disk that rank 1 can read once, when ranks compare what they have."""

    random_access = True

    def __init__(self, x):
        from mpi4py import MPI

        self.x, self.reads, self.rank = x, 0, MPI.COMM_WORLD.Get_rank()
        self.shape, self.dtype = x.shape, x.dtype

    def __getitem__(self, index):
        self.reads += 1
        return self.x[index] * (np.nan if self.rank == 1 and self.reads > 1 else 1)


def faults(folder, world):
    """What goes wrong on one rank, one after the other: the communicator is whole after each."""
    rank = world.Get_rank()
    seen = {}

    def note(name, **more):
        x, y, lengths = sequences()
        try:
            x = more.pop("source", lambda x: x)(x)
            model().fit(x, y, lengths=lengths, **words(**more))
        except Exception as error:
            seen[name] = [type(error).__name__, str(error)]

    def cut(**more):
        return DataParallel(world, shards="cut", **more)

    note("nan", source=Rotten, comm=cut())
    note("nan in blocks", source=Rotten, comm=cut(block=2))
    note("argument", comm=cut(), batch_size=0 if rank == 1 else 6)
    note("setting", comm=cut(), batch_size=6 + rank)

    def disturb(record):
        if rank == 1 and record["epoch"] == 2:
            disturbed.parameters[0] += 1e-6

    disturbed, (x, y, lengths) = model(), sequences()
    try:
        disturbed.fit(x, y, lengths=lengths, **words(comm=cut(check_every=3), callback=disturb))
    except Exception as error:
        seen["checksum"] = [type(error).__name__, str(error)]

    # A disk that is full: writes beyond the limit fail, as the operating system has it.
    path = folder / "disk.npz"
    train(comm=cut(), checkpoint=path, epochs=1)
    before = path.read_bytes()
    world.Barrier()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limit[1]))
    note("disk", comm=cut(), checkpoint=path)
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    seen["disk left"] = path.read_bytes() == before and os.listdir(folder).count("disk.npz") == 1
    seen["torn files"] = [name for name in os.listdir(folder) if "disk.npz" in name and name != "disk.npz"]
    (folder / f"faults_{rank}.json").write_text(json.dumps(seen))


def disagree(folder, world):
    """The last rank is given something else; the communicator is whole after each."""
    odd = world.Get_rank() == world.Get_size() - 1
    seen = {}
    x, y, lengths = sequences()
    for name, change in {
        "shards": {"comm": {"shards": "given" if odd else "cut"}},
        "check_every": {"comm": {"check_every": 1 + odd}},
        "timeout": {"comm": {"timeout": None if odd else 60.0}},
        "block": {"comm": {"block": 2 if odd else None}},
        "x": {"x": x + odd},
        "y": {"x": x[odd:], "y": y[odd:], "lengths": lengths[odd:]},
        "lengths": {"lengths": None if odd else lengths},
        "validation: x": {"validation": (x[odd:], y[odd:])},
        "epochs": {"epochs": 2 + odd},
    }.items():
        arguments = {"x": x, "y": y, "lengths": lengths, **words(), **change}
        sharing = {"shards": "cut", "timeout": 60.0, **change.get("comm", {})}
        arguments["comm"] = DataParallel(world, **sharing)
        try:
            model().fit(**arguments)
        except Exception as error:
            seen[name] = [type(error).__name__, str(error)]
    (folder / f"disagree_{world.Get_rank()}.json").write_text(json.dumps(seen))


def dies(folder, world):
    """Rank 1 is killed in the third epoch."""

    def kill(record):
        if world.Get_rank() == 1 and record["epoch"] == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    train(comm=DataParallel(world, shards="cut", block=2), checkpoint=folder / "run.npz", callback=kill)


def resumes(folder, world):
    """Go on from what `dies` has left."""
    rank = world.Get_rank()
    comm = DataParallel(world, shards="cut", block=2)
    parameters, losses = train(rank, comm=comm, checkpoint=folder / "run.npz", resume=True)
    if rank == 0:
        np.savez(folder / "resumed.npz", parameters=parameters, losses=losses)


def hangs(folder, world):
    """Rank 1 does not come back from a callback."""
    rank = world.Get_rank()

    def sleep(record):
        if rank == 1:
            time.sleep(60)

    start = time.perf_counter()
    try:
        train(comm=DataParallel(world, shards="cut", timeout=1.0), callback=sleep)
    except Exception as error:
        seconds = time.perf_counter() - start
        (folder / f"hangs_{rank}.json").write_text(json.dumps([type(error).__name__, str(error), seconds]))
        world.Abort(3)


if __name__ == "__main__":
    from mpi4py import MPI

    case, folder = sys.argv[1:]
    cases = {f.__name__: f for f in (same, faults, disagree, dies, resumes, hangs)}
    cases[case](Path(folder), MPI.COMM_WORLD)
