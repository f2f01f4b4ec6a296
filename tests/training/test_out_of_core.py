"""Sequences on the disk are learned as those in memory are, and take no memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from communicators import Ranks

import lstm_ext
from lstm_ext import LSTM, SGD, Model
from lstm_ext.distributed import DataParallel, RankError
from lstm_ext.training._stored import POOL, Stored, ahead, shuffled

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 7, 3)).astype(np.float32)
Y = RNG.normal(size=(50, 7, 1))
LENGTHS = RNG.integers(1, 8, 50)


class Chunks:
    """The least that a data set has: shape, dtype, slices; counts what is read."""

    def __init__(self, array, rows=None):
        self.array, self.shape, self.dtype, self.reads = array, array.shape, array.dtype, []
        if rows is not None:
            self.chunks = (rows, *array.shape[1:])

    def __getitem__(self, key):
        assert isinstance(key, slice)
        self.reads.append(key.start)
        return self.array[key]


def train(x, **words):
    model = Model(LSTM(3, 5, rng=0), 1, every_step=True, rng=0)
    history = model.fit(
        x, Y, **{"epochs": 2, "batch_size": 8, "rng": 1, "optimizer": SGD(0.1), "lengths": LENGTHS, **words}
    )
    return model.parameters.copy(), [record["loss"] for record in history]


@pytest.mark.parametrize("words", [{}, {"bptt": 3}, {"bucket": True}, {"lengths": None}])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_a_memory_map_gives_the_bits_of_an_array(tmp_path, words, dtype):
    array = (X * 5).astype(dtype)
    np.save(tmp_path / "x.npy", array)
    parameters, losses = train(np.load(tmp_path / "x.npy", mmap_mode="r"), **words)
    expected, expected_losses = train(array, **words)
    np.testing.assert_array_equal(parameters, expected)
    assert losses == expected_losses


def test_all_kinds_of_data_sets_give_the_same_bits(tmp_path):
    h5py = pytest.importorskip("h5py", reason="HDF5 needs h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", data=X, chunks=(4, 7, 3), compression="gzip")
        found = train(dataset)
        windows = train(dataset, bptt=2)
    chunks = Chunks(X, 4)
    expected = train(chunks)
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[1] == expected[1]
    np.testing.assert_array_equal(windows[0], train(Chunks(X, 4), bptt=2)[0])
    # Each chunk at most once in an epoch.
    chunks = Chunks(X, 1)
    train(chunks, epochs=3)
    assert set(chunks.reads) == set(range(50)) and max(map(chunks.reads.count, range(50))) <= 3


def test_zarr(tmp_path):
    zarr = pytest.importorskip("zarr", reason="zarr arrays need zarr")
    array = zarr.open(str(tmp_path / "x.zarr"), mode="w", shape=X.shape, chunks=(4, 7, 3), dtype="f4")
    array[:] = X
    np.testing.assert_array_equal(train(array)[0], train(Chunks(X, 4))[0])


def test_blocks_are_shuffled_and_mixed():
    used = np.delete(np.arange(1000), np.arange(100, 200))
    order = shuffled(used, 10, np.random.default_rng(0))
    assert sorted(order) == used.tolist()
    for start in range(0, 900, 10 * POOL):
        assert len(np.unique(order[start : start + 10 * POOL] // 10)) <= POOL
    assert len(np.unique(order[:10] // 10)) > 3
    expected = np.random.default_rng(0).permutation(used)
    np.testing.assert_array_equal(shuffled(used, 1, np.random.default_rng(0)), expected)


def test_rows_and_windows_are_what_the_array_has():
    index = np.array([7, 3, 49, 3])
    for x in (Stored(Chunks(X, 4)), Stored(Chunks(X))):
        np.testing.assert_array_equal(x[index], X[index])
        part = x[:, 2:6]
        assert part.shape == (50, 4, 3) and len(part) == 50
        np.testing.assert_array_equal(part[index], X[index, 2:6])
        np.testing.assert_array_equal(part[:, 1:3][index], X[index, 3:5])
        assert part.astype(np.float64)[index].dtype == np.float64


def test_reading_is_ahead_and_its_errors_arrive():
    made = []

    def items():
        for k in range(5):
            made.append(k)
            yield k
        raise OSError("the disk is gone")

    found = []
    with pytest.raises(OSError, match="gone"):
        for item in ahead(items()):
            found.append(item)
    assert found == made == [0, 1, 2, 3, 4]
    reading = ahead(iter(range(10**9)))
    assert next(reading) == 0
    reading.close()  # and the thread ends


def test_a_file_that_one_rank_cannot_read_ends_all():
    class Broken(Chunks):
        def __getitem__(self, key):
            raise OSError("unreadable")

    first, second = Ranks(2).run(
        lambda comm: train((Broken if comm.rank else Chunks)(X, 4), comm=DataParallel(comm, shards="cut"))
    )
    assert type(second) is OSError
    assert type(first) is RankError
    assert "rank 1 has failed, and with it the training: OSError: unreadable" in str(first)


def test_ranks_read_their_parts_alone():
    sources = [Chunks(X, 1) for _ in range(2)]
    found = Ranks(2).run(lambda comm: train(
        sources[comm.rank], epochs=1, comm=DataParallel(comm, shards="cut", block=4)
    ))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    reads = [source.reads for source in sources]
    assert set(reads[0]) | set(reads[1]) == set(range(50))
    assert 50 <= len(reads[0]) + len(reads[1]) <= 50 + 2 * 4  # four each are compared before the training


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_file():
    program = Path(__file__).parents[2] / "benchmarks" / "out_of_core.py"
    done = subprocess.run(
        [sys.executable, program, "--gigabytes", "0.4", "--json"],
        capture_output=True, text=True, timeout=120,
        env={"PYTHONPATH": str(Path(lstm_ext.__file__).parents[1]), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["file"] == pytest.approx(0.4e9, rel=0.05)
    assert 20e6 < figures["before"] < figures["peak"] < figures["before"] + 150e6
