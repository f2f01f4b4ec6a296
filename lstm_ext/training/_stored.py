"""Sequences that stay on the disk: memory maps, HDF5 and zarr data sets, read by the mini-batch."""

from __future__ import annotations

import mmap
import queue
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from lstm_ext._data import as_array

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from lstm_ext._typing import Array

_Item = TypeVar("_Item")

POOL = 8  # blocks of a data set whose sequences are mixed
_AHEAD = 2  # mini-batches that are read while one is computed
_HELD = 2**25  # bytes of a memory map that may be resident before they are given back


def stored(x: Any) -> Any:
    """Return x, as a `Stored` where it is something to be read piece by piece."""
    in_memory = isinstance(x, np.ndarray) and not isinstance(x, np.memmap)
    readable = isinstance(getattr(x, "dtype", None), np.dtype) and hasattr(x, "__getitem__")
    return x if in_memory or not readable or not hasattr(x, "shape") else Stored(x)


class Stored:
    """What a training asks of x, (N, T, I), without its numbers: shape, rows, windows of steps.

    A memory map is read sequence by sequence, and so is a source whose attribute `random_access` is True.
    Other sources are read in blocks of `rows` sequences, as many as one of their chunks holds.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    source: Any
    ndim: int
    window: slice[Any, Any, Any]
    gaps: bool  # whether masked elements are read as NaN, or raise an error
    rows: int
    resident: list[int]

    def __init__(self, source: Any) -> None:
        self.source, self.dtype, self.shape = source, source.dtype, tuple(source.shape)
        self.ndim, self.window = len(self.shape), slice(None)
        self.gaps = False
        self.rows = 1
        if not isinstance(source, np.memmap) and not getattr(source, "random_access", False):
            chunks: Any = getattr(source, "chunks", None)
            # A contiguous data set has no chunks: about a megabyte at a time then.
            each = max(int(np.prod(self.shape[1:])) * self.dtype.itemsize, 1)
            whole = isinstance(chunks, tuple) and chunks and isinstance(chunks[0], int)
            self.rows = chunks[0] if whole else max(1, 2**20 // each)
        self.blocks: OrderedDict[int, Array] = OrderedDict()
        self.resident = [0]  # shared by all windows, as the blocks are

    def __len__(self) -> int:
        return self.shape[0]

    def astype(self, dtype: npt.DTypeLike, copy: bool = True) -> Self:
        """Return the same with values that will be of this dtype."""
        other = self._other()
        other.dtype = np.dtype(dtype)
        return other

    def with_gaps(self, gaps: bool) -> Self:
        """Return the same, whose masked elements become NaN, or where `gaps` is False raise an error."""
        other = self._other()
        other.gaps = gaps
        return other

    def _values(self, key: Any) -> Array:
        """Read a part of the source: netCDF's variables return masked arrays."""
        return as_array("x", self.source[key], nan=self.gaps)

    def _other(self) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __getitem__(self, key: Any) -> Any:
        """Read sequences, given by their numbers; or return a window of steps, `x[:, start:stop]`."""
        if isinstance(key, tuple):
            other = self._other()
            start, stop, _ = key[1].indices(self.shape[1])
            first = self.window.start or 0
            other.window = slice(first + start, first + stop)
            other.shape = (self.shape[0], stop - start, *self.shape[2:])
            return other
        return self._read(np.asarray(key)).astype(self.dtype, copy=False)

    def _read(self, index: Array) -> Array:
        if getattr(self.source, "random_access", False):
            return np.asarray(self.source[index])[:, self.window]
        if self.rows == 1 and isinstance(self.source, np.memmap):
            values = self._values((index, self.window))
            self._give_back(values.nbytes)
            return values
        values = np.empty((len(index), *self.shape[1:]), self.dtype)
        numbers = index // self.rows
        for number in np.unique(numbers):
            here = numbers == number
            values[here] = self._block(int(number))[index[here] - number * self.rows, self.window]
        return values

    def _block(self, number: int) -> Array:
        blocks = self.blocks
        if number not in blocks:
            while len(blocks) >= 2 * POOL:  # a mini-batch may end one pool and begin the next
                blocks.popitem(last=False)
            start = number * self.rows
            blocks[number] = self._values(slice(start, min(start + self.rows, len(self))))
        return blocks[number]

    def _give_back(self, read: int) -> None:
        """Let the system take pages back: else all that was ever read counts as this process's memory."""
        self.resident[0] += read
        pages = getattr(self.source, "_mmap", None)
        # In a private map (mode "c") the pages are the only copy of what was written to them.
        if self.resident[0] > _HELD and pages is not None and self.source.mode != "c":
            if hasattr(mmap, "MADV_DONTNEED"):
                pages.madvise(mmap.MADV_DONTNEED)
            self.resident[0] = 0


def shuffled(used: Array, rows: int, rng: np.random.Generator) -> Array:
    """Return the numbers `used` in an order that reads few blocks of `rows` at a time.

    The blocks are shuffled, and then the sequences of every `POOL` blocks. One sequence is a block of
    its own: all orders are possible.
    """
    if rows == 1:
        return rng.permutation(used)
    blocks = np.split(used, np.flatnonzero(np.diff(used // rows)) + 1)
    order = rng.permutation(len(blocks))
    return np.concatenate([
        rng.permutation(np.concatenate([blocks[k] for k in order[start : start + POOL]]))
        for start in range(0, len(order), POOL)
    ])


def ahead(items: Iterable[_Item]) -> Iterator[_Item]:
    """Yield items that a thread of its own computes, a few before they are asked for."""
    ended = threading.Event()
    waiting: queue.Queue[tuple[_Item] | BaseException] = queue.Queue(_AHEAD)

    def put(message: tuple[_Item] | BaseException) -> bool:
        while not ended.is_set():
            try:
                waiting.put(message, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item,)):
                    return
            put(StopIteration())
        except BaseException as error:
            put(error)

    threading.Thread(target=work, name="lstm_ext reading", daemon=True).start()
    try:
        while True:
            message = waiting.get()
            if isinstance(message, StopIteration):
                return
            if isinstance(message, BaseException):
                raise message
            yield message[0]
    finally:
        ended.set()
