"""The ranks of a communicator: what they send each other, and how they agree."""

from __future__ import annotations

import contextlib
import json
import time
import zlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lstm_ext import __version__
from lstm_ext._checks import count, positive, warn
from lstm_ext.distributed._batches import CutBatches, GivenBatches
from lstm_ext.distributed._run import ParallelRun
from lstm_ext.training import Stored, TrainingState, packed, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lstm_ext._typing import Array, Doubles
    from lstm_ext.training import History, Run, SequenceData

__all__ = ["DataParallel", "RankError"]

_SPIN = 1e-3  # seconds that a rank asks without a pause whether the others have come
_SHARED = "_lstm_ext_shared"  # attribute of an error that all ranks know of
_METHODS = ("Get_rank", "Get_size", "Allreduce", "Bcast")
_EXCHANGE = 1  # of the messages of a training, in their order; another number for other messages
_MOST_NAMED = 8  # ranks that an error message names at most
_SAMPLED = 4  # sequences of x on the disk that are read to compare it


class RankError(RuntimeError):
    """What the other ranks raise where one has failed, or has not answered."""


def as_group(comm: Any) -> DataParallel:
    """Return a `DataParallel` of what was given as `comm`."""
    return comm if isinstance(comm, DataParallel) else DataParallel(comm)


class _SingleProcess:
    """The communicator of a process that has no others."""

    def Get_rank(self) -> int:  # MPI's names
        return 0

    def Get_size(self) -> int:
        return 1

    def Allreduce(self, send: Array, receive: Array) -> None:
        receive[...] = send

    def Bcast(self, array: Array, root: int) -> None:
        pass


class DataParallel:
    r"""A communicator, and how a training uses it.

    Every step, each rank computes the gradient of its part of the mini-batch. One ``Allreduce`` of one
    float64 vector adds up what all of them divide by:

    .. math:: g = \frac{\sum_r w_r g_r}{\sum_r w_r}

    with :math:`w_r` the sum of the weights of rank r's part and :math:`g_r` its mean gradient. So the ranks
    do what one process does on the joined mini-batch, whatever the sizes of their parts, 0 included (M.
    Zinkevich et al., "Parallelized Stochastic Gradient Descent", NIPS 2010, has the history of it). Clipping,
    schedules, early stopping and divergence are decided on reduced numbers, by every rank for itself.

    The vector is float64 for a float32 model as well: sums over a thousand ranks lose nothing that the
    model could see, and the loss, the weights and the flags travel in the same message.

    Parameters
    ----------
    comm : object
        ``mpi4py.MPI.COMM_WORLD``, or any with ``Get_rank``, ``Get_size``, ``Allreduce`` and ``Bcast``.
        None: this process alone, for instance to give the bits of a reproducible training of many.
    shards : {"given", "cut"}
        "given": each rank's x, y are its own part of the training set, of any size, 0 included; they
        have all shapes but the first in common. A mini-batch takes from each part in proportion to its
        size. "cut": each rank is given the whole set, for instance a memory-mapped file; mini-batches are
        those of one process, in its order, and each rank reads its part of them. The validation set is
        given or cut in the same way.
    block : int, optional
        Reproducible mode, with ``shards="cut"``: mini-batches are cut into blocks of so many sequences,
        and their gradients are added exactly, in any order: any number of ranks and threads gives the
        same bits. See Notes.
    check_every : int
        After so many steps the parameters' checksums are compared.
    timeout : float or None
        Seconds that a rank waits for the others in one operation, if the communicator has ``Iallreduce``
        and ``Ibcast``. None: without limit.

    Attributes
    ----------
    seconds : float
        Time spent in collective operations, waiting for the others included.

    Notes
    -----
    The reproducible sum rounds each block's gradient to multiples of one number q before it is added,
    with q so large that all sums are exact in float64 (J. Demmel, H. D. Nguyen, "Fast Reproducible
    Floating-Point Summation", ARITH 2013): for n blocks and elements up to :math:`2^e`,
    :math:`q = 2^{e - 50 + \lceil \log_2 n \rceil}`. For a float64 model the rounding errors are added up in
    the same way. That costs a second, small ``Allreduce`` in each step, for a float64 model a message
    twice as long, the memory of the gradients of a rank's blocks in float64, and what small blocks cost the
    kernels.

    Examples
    --------
    ``mpiexec -n 4 python train.py``, with::

        from mpi4py import MPI
        from lstm_ext.distributed import DataParallel
        model.fit(x, y, epochs=10, rng=0, comm=DataParallel(MPI.COMM_WORLD, shards="cut"))
    """

    comm: Any
    shards: Literal["given", "cut"]
    block: int | None
    check_every: int
    timeout: float | None
    rank: int
    size: int
    seconds: float

    def __init__(
        self, comm: Any, *, shards: Literal["given", "cut"] = "given", block: int | None = None,
        check_every: int = 100, timeout: float | None = 600.0,
    ) -> None:
        comm = _SingleProcess() if comm is None else comm
        missing = [name for name in _METHODS if not callable(getattr(comm, name, None))]
        if missing:
            raise TypeError(
                f"comm is {comm!r}; expected an object with {', '.join(_METHODS)}: it has no "
                f"{', '.join(missing)}"
            )
        if shards not in ("given", "cut"):
            raise ValueError(f"shards is {shards!r}; expected 'given' or 'cut'")
        if block is not None:
            block = count("block", block, 1)
            if shards != "cut":
                raise ValueError(
                    f"block is {block}, and shards are given: what a mini-batch holds would depend on the "
                    "number of ranks. Give every rank the whole set, and shards='cut'"
                )
        self.comm, self.shards, self.block = comm, shards, block
        self.check_every = count("check_every", check_every, 1)
        self.timeout = None if timeout is None else positive("timeout", timeout)
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self.seconds = 0.0
        self._held: BaseException | None = None

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files and shows bars."""
        return self.rank == 0

    # Collective operations ------------------------------------------------------------------

    def add(
        self, send: Doubles, receive: Doubles | None = None
    ) -> Doubles:
        """Return the sum over all ranks of a float64 array; `receive`: the array to put it in."""
        receive = np.empty_like(send) if receive is None else receive
        self._do("allreduce", send, receive)
        return receive

    def gather(self, *values: float) -> Doubles:
        """Return numbers of every rank, by a sum over arrays that are 0 elsewhere.

        (size,) float64 for one number of each rank, (k, size) for k.
        """
        slots = np.zeros((len(values), self.size))
        slots[:, self.rank] = values
        slots = self.add(slots)
        return slots[0] if len(values) == 1 else slots

    def broadcast(self, content: bytes | None, root: int = 0) -> bytes:
        """Return the bytes that rank `root` has."""
        length = np.array([len(content or b"")], np.int64)
        self._do("bcast", length, root)
        array = np.empty(int(length[0]), np.uint8)
        if self.rank == root:
            array[...] = np.frombuffer(content or b"", np.uint8)
        self._do("bcast", array, root)
        return array.tobytes()

    def _do(self, name: str, array: Array, argument: Array | int) -> None:
        start = time.perf_counter()
        # Also without a timeout: MPI never matches one rank's Iallreduce with another's Allreduce.
        at_once = getattr(self.comm, f"I{name}", None)
        if at_once is None:
            getattr(self.comm, name.capitalize())(array, argument)
        else:
            self._wait(at_once(array, argument), start, name)
        self.seconds += time.perf_counter() - start

    def _wait(self, request: Any, start: float, name: str) -> None:
        while not request.Test():
            waited = time.perf_counter() - start
            if self.timeout is not None and waited > self.timeout:
                raise RankError(
                    f"rank {self.rank} has waited {waited:.0f} s for the others in {name}: one of "
                    f"{self.size} ranks has ended, hangs, or works longer than DataParallel's timeout. MPI "
                    "can do nothing more with this communicator: call its Abort"
                )
            # At first only a turn for others on this CPU: a pause is longer than most messages take.
            time.sleep(0 if waited < _SPIN else min(waited / 20, 0.05))

    # Agreement ----------------------------------------------------------

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        """Return a context after which all ranks go on, or none: an error on one is raised on all.

        Contexts may be nested, and trainings may be within one: all ranks begin and end them in one order.
        """
        error = None
        try:
            yield
        except BaseException as raised:
            if getattr(raised, _SHARED, False) or isinstance(raised, RankError):
                raise  # the others know of it, or do not answer
            error = raised
        self.settle(error)

    def hold(self, error: BaseException) -> None:
        """Keep an error of this rank until the ranks meet next: `settle` or a step then tells the others."""
        if self._held is None:
            self._held = error

    def release(self) -> BaseException | None:
        """Return the error that was kept, or None."""
        error, self._held = self._held, None
        return error

    def settle(self, error: BaseException | None, answer: object = False) -> bool:
        """Raise on every rank, if one has an error: there that, elsewhere one that tells of it.

        Return whether `answer` is true on one of the ranks.
        """
        error = self.release() or error
        told = b""
        if error is not None:
            told = json.dumps([type(error).__name__, str(error)]).encode()
        lengths, answers = self.gather(len(told), bool(answer))
        failed = np.flatnonzero(lengths)
        if not failed.size:
            return bool(answers.any())
        kind, message = json.loads(self.broadcast(told, int(failed[0])))
        alike = {"FloatingPointError": FloatingPointError, "KeyboardInterrupt": KeyboardInterrupt}
        if kind == "KeyboardInterrupt" and isinstance(error, KeyboardInterrupt):
            raise _shared(error)
        if kind in alike:  # the same on all ranks
            raise _shared(alike[kind](message)) from error
        if error is not None:
            raise _shared(error)
        raise RankError(f"rank {failed[0]} has failed, and with it the training: {kind}: {message}")

    def any(self, function: Callable[..., object], *arguments: Any) -> bool:
        """Return whether `function` is true on one of the ranks; what it raises on one, all hear of."""
        answer, error = False, None
        try:
            answer = function(*arguments)
        except BaseException as raised:
            error = raised
        return self.settle(error, answer)

    def compare_settings(self, settings: dict[str, Any], why: str = "") -> None:
        """Raise the same ValueError on all ranks unless they have the same settings.

        The messages are the same whatever the settings are: nothing of them decides who sends what. Values
        are compared as text.
        """
        own = {name: str(value) for name, value in settings.items()}
        first = json.loads(self.broadcast(json.dumps(own).encode() if self.first else None))
        other = {name: own.get(name) for name in {**first, **own} if own.get(name) != first.get(name)}
        content = json.dumps(other).encode() if other else b""
        deviating = np.flatnonzero(self.gather(len(content)))
        if not deviating.size:
            return
        found: dict[str, dict[str | None, list[int]]] = {}  # name: {value: ranks}
        for rank in deviating[:_MOST_NAMED].tolist():
            for name, value in json.loads(self.broadcast(content, rank)).items():
                found.setdefault(name, {}).setdefault(value, []).append(rank)
        differences = []
        for name, values in found.items():
            more = ", ..." if deviating.size > _MOST_NAMED else ""
            parts = [f"{first.get(name, 'not known')} on rank 0"] + [
                f"{'not known' if value is None else value} on rank {', '.join(map(str, ranks))}{more}"
                for value, ranks in values.items()
            ]
            differences.append(f"{name} is {' and '.join(parts)}")
        raise _shared(
            ValueError(f"{'; '.join(differences)}; expected the same on all {self.size} ranks{why}")
        )

    # As a ProcessGroup ---------------------------------------------

    def batches(self, *arguments: Any) -> CutBatches | GivenBatches:
        """Return what draws this rank's parts of the mini-batches."""
        return (CutBatches if self.shards == "cut" else GivenBatches)(self, *arguments)

    def begin(self) -> None:
        """Raise ValueError on all ranks unless they share a training in the same way."""
        self.settle(None)  # a rank that has failed before this training is here, too
        self.compare_settings({
            "the version of lstm-ext": f"{__version__}, exchange {_EXCHANGE}", "shards": repr(self.shards),
            "block": self.block, "check_every": self.check_every, "timeout": self.timeout,
        })

    def compare_inputs(
        self, options: dict[str, Any], data: SequenceData, validation: SequenceData | None
    ) -> None:
        """Raise ValueError on all ranks unless they were given the same options, and data that fit.

        With shards="cut" the data have to be the same, with "given" all but the number of sequences.
        """
        with self.agreed():
            settings = dict(options)
            for prefix, part in (("", data), ("validation: ", validation)):
                if part is not None:
                    settings |= {prefix + name: text for name, text in self._described(part).items()}
        whole = ", each of which needs the whole training set where shards is 'cut'"
        self.compare_settings(settings, whole if self.shards == "cut" else "")

    def _described(self, data: SequenceData) -> dict[str, str | None]:
        """Return what has to be the same of each array, as text."""
        arrays = {
            "x": data.x, "y": data.y, "lengths": data.lengths, "mask": data.mask, "static": data.static,
            "sample_weight": data.weight,
        }
        if self.shards == "cut":
            return {name: None if array is None else _content(array) for name, array in arrays.items()}
        shards: dict[str, str | None] = {}
        for name in ("x", "y"):
            shape = ", ".join(map(str, ("N", *arrays[name].shape[1:])))
            shards[name] = f"{arrays[name].dtype} ({shape})"
        return shards

    def join(self, data: SequenceData, batches: CutBatches | GivenBatches) -> int:
        """Return how many sequences the ranks hold together."""
        total = len(data.x)
        if self.shards == "given":
            contents, rows = self.gather(_checksum(data.y, data.lengths, data.weight), total)
            alike = bool((contents == contents[0]).all() and (rows == rows[0]).all())
            if alike and self.size > 1 and rows[0] and self.first:
                warn(
                    "all ranks were given the same y, lengths and sample_weight as their shards: if that "
                    "is the whole training set, give comm=DataParallel(comm, shards='cut')"
                )
            total = int(rows.sum())
        batches.join()
        return total

    def share(self, state: TrainingState, history: History) -> History:
        """Give all ranks what rank 0 begins with: parameters, optimizer, generator, history."""
        content = None
        with self.agreed():
            if self.first:
                content = packed(state, history)
        content = self.broadcast(content)
        with self.agreed():
            if not self.first:
                history = unpack(content, "what rank 0 begins with", state)
        return history

    def run(self, *arguments: Any) -> Run:
        """Return what makes the steps."""
        return ParallelRun(self, *arguments)

    def compare(self, parameters: Array, steps: int) -> None:
        """Raise RankError on all ranks unless their parameters have the same bits."""
        self.settle(None)
        sums = self.gather(zlib.crc32(parameters.data))
        deviating = np.flatnonzero(sums != sums[0])
        if deviating.size:
            names = ", ".join(map(str, deviating))
            raise RankError(
                f"after {steps} steps the parameters on rank {names} are not those on rank 0: something but "
                "this training has changed them, or the machines compute differently (set LSTM_EXT_KERNEL "
                "to one that all of them have)"
            )


def _shared(error: BaseException) -> BaseException:
    """Return the error, marked as one that all ranks know of."""
    setattr(error, _SHARED, True)
    return error


def _content(array: Any) -> str:
    """Say what has to be the same of an array that is given to all ranks whole."""
    return f"{array.dtype} {array.shape} of CRC-32 {_checksum(array):08x}"


def _checksum(*arrays: Any) -> int:
    """Return a CRC-32 of arrays, where they are not None; of an x on the disk of a sample."""
    crc = 0
    for array in arrays:
        if isinstance(array, Stored):
            n = len(array)
            array = array[np.unique(np.linspace(0, n - 1, min(n, _SAMPLED)).astype(np.intp))]
        if array is not None:
            crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
    return crc
