"""Data-parallel training: several processes, one model, one Allreduce for each step.

``Model.fit(..., comm=MPI.COMM_WORLD)`` is all that most programs need. `DataParallel` stands in the place
of a bare communicator where something is to be said about it. A communicator is any object with
``Get_rank()``, ``Get_size()``, ``Allreduce(send, receive)``, which adds up, and ``Bcast(array, root)``, for
NumPy arrays, as mpi4py's have them; mpi4py itself is not imported here. Where it has ``Iallreduce`` and
``Ibcast``, too, nobody waits for ever.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import time
import warnings
import zlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lstm_ext import _checkpoint, _optim
from lstm_ext._checks import count, positive
from lstm_ext.training import _POOL, _Batches, _Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

__all__ = ["DataParallel", "RankError"]

_TOGETHER = 32  # sequences of a shared validation set that one rank evaluates at a time
_SPIN = 1e-3  # seconds that a rank asks without a pause whether the others have come
_METHODS = ("Get_rank", "Get_size", "Allreduce", "Bcast")


class RankError(RuntimeError):
    """What the other ranks raise where one has failed, or has not answered."""


def team_of(comm: Any) -> DataParallel:
    """Return a `DataParallel` of what was given as `comm`."""
    return comm if isinstance(comm, DataParallel) else DataParallel(comm)


class _Alone:
    """The communicator of a process that has no others."""

    def Get_rank(self):  # MPI's names
        return 0

    def Get_size(self):
        return 1

    def Allreduce(self, send, receive):
        receive[...] = send

    def Bcast(self, array, root):
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
        and ``Ibcast``. None: for ever.

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
    shards: str
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
        comm = _Alone() if comm is None else comm
        missing = [name for name in _METHODS if not callable(getattr(comm, name, None))]
        if missing:
            raise TypeError(f"comm must have {', '.join(_METHODS)}, and {comm!r} has no {', '.join(missing)}")
        if shards not in ("given", "cut"):
            raise ValueError(f"shards must be 'given' or 'cut', got {shards!r}")
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

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files and shows bars."""
        return self.rank == 0

    # What goes over the wire ------------------------------------------------------------------

    def add(
        self, send: npt.NDArray[np.float64], receive: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the sum over all ranks of a float64 array; `receive`: the array to put it in."""
        receive = np.empty_like(send) if receive is None else receive
        self._do("allreduce", send, receive)
        return receive

    def gather(self, value: float) -> npt.NDArray[np.float64]:
        """Return a number of every rank: (size,) float64, by a sum over arrays that are 0 elsewhere."""
        slots = np.zeros(self.size)
        slots[self.rank] = value
        return self.add(slots)

    def broadcast(self, content: bytes | None, root: int = 0) -> bytes:
        """Return the bytes that rank `root` has."""
        length = np.array([len(content or b"")], np.int64)
        self._do("bcast", length, root)
        array = np.empty(int(length[0]), np.uint8)
        if self.rank == root:
            array[...] = np.frombuffer(content or b"", np.uint8)
        self._do("bcast", array, root)
        return array.tobytes()

    def _do(self, name, array, argument):
        start = time.perf_counter()
        at_once = None if self.timeout is None else getattr(self.comm, f"I{name}", None)
        if at_once is None:
            getattr(self.comm, name.capitalize())(array, argument)
        else:
            self._wait(at_once(array, argument), start, name)
        self.seconds += time.perf_counter() - start

    def _wait(self, request, start, name):
        while not request.Test():
            waited = time.perf_counter() - start
            if waited > self.timeout:
                raise RankError(
                    f"rank {self.rank} has waited {waited:.0f} s for the others in {name}: one of "
                    f"{self.size} ranks has ended, hangs, or works longer than DataParallel's timeout. MPI "
                    "can do nothing more with this communicator: call its Abort"
                )
            # At first only a turn for others on this CPU: a pause is longer than most messages take.
            time.sleep(0 if waited < _SPIN else min(waited / 20, 0.05))

    # What the ranks have to agree on ----------------------------------------------------------

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        """Return a context after which all ranks go on, or none: what one raises, the others hear of."""
        error = None
        try:
            yield
        except RankError:
            raise  # there is nobody to tell
        except BaseException as raised:
            error = raised
        self.settle(error)

    def settle(self, error: BaseException | None) -> None:
        """Raise on every rank, if one has an error: there that, elsewhere one that tells of it."""
        told = b""
        if error is not None:
            told = json.dumps([type(error).__name__, str(error)]).encode()
        failed = np.flatnonzero(self.gather(len(told)))
        if not failed.size:
            return
        kind, sentence = json.loads(self.broadcast(told, int(failed[0])))
        alike = {"FloatingPointError": FloatingPointError, "KeyboardInterrupt": KeyboardInterrupt}
        if kind in alike:  # the same on all ranks
            raise alike[kind](sentence) from error
        if error is not None:
            raise error
        raise RankError(f"rank {failed[0]} has failed, and with it the training: {kind}: {sentence}")

    def any(self, function: Callable[[dict[str, Any]], object], record: dict[str, Any]) -> bool:
        """Return whether `function` wants the training to end on one of the ranks."""
        answer = False
        with self.agreed():
            answer = function(record)
        return bool(self.gather(bool(answer)).any())

    # What a training asks for, see `training.fit` ---------------------------------------------

    def batches(self, *arguments: Any) -> Any:
        """Return what draws this rank's parts of the mini-batches."""
        return (_Cut if self.shards == "cut" else _Given)(self, *arguments)

    def meet(self, data: Any, batches: Any) -> int:
        """Compare what the ranks were given; return how many sequences they hold together."""
        shape = [list(data.x.shape[1:]), list(data.y.shape[1:])]
        rows = self.gather(len(data.x))
        self._same("the shapes of x and y", shape)
        content = zlib.crc32(np.ascontiguousarray(data.y).view(np.uint8).data)
        for array in (data.lengths, data.weight):
            if array is not None:
                content = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, content)
        contents = self.gather(content)
        alike = bool((contents == contents[0]).all() and (rows == rows[0]).all())
        if self.shards == "cut":
            if not alike:
                raise ValueError(
                    "shards is 'cut', so every rank must have the whole training set, and y, lengths or "
                    f"sample_weight differ: ranks have {rows.astype(int).tolist()} sequences"
                )
            total = len(data.x)
        else:
            if alike and self.size > 1 and rows[0] and self.first:
                warnings.warn(
                    "all ranks were given the same y, lengths and sample_weight as their shards: if that "
                    "is the whole training set, give comm=DataParallel(comm, shards='cut')",
                    stacklevel=4,
                )
            total = int(rows.sum())
        batches.join(self)
        return total

    def _same(self, name, value):
        """Raise ValueError on all ranks unless `value`, which JSON can say, is the same on all."""
        first = json.loads(self.broadcast(json.dumps(value).encode() if self.first else None))
        with self.agreed():
            if first != value:
                raise ValueError(
                    f"{name} must be the same on all ranks: {first} on rank 0, {value} on rank {self.rank}"
                )

    def alike(self, **words: Any) -> None:
        """Raise ValueError on all ranks unless they have been given the same."""
        for name, value in words.items():
            self._same(name, value)

    def share(self, state: Any, history: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give all ranks what rank 0 begins with: parameters, optimiser, generator, history."""
        settings = state[1]
        for name, value in settings.items():
            self._same(name, value)
        self._same("early_stopping", repr(state[5]))
        content = self.broadcast(_checkpoint.packed(*state, history) if self.first else None)
        with self.agreed():
            if not self.first:
                history = _checkpoint.unpack(content, "what rank 0 begins with", *state)
        return history

    def run(self, *arguments: Any) -> Any:
        """Return what makes the steps."""
        return _TeamRun(self, *arguments)

    def compare(self, parameters: npt.NDArray[Any], steps: int) -> None:
        """Raise RankError on all ranks unless their parameters have the same bits."""
        sums = self.gather(zlib.crc32(parameters.view(np.uint8).data))
        strange = np.flatnonzero(sums != sums[0])
        if strange.size:
            raise RankError(
                f"after {steps} steps the parameters on rank {', '.join(map(str, strange))} are not those on "
                "rank 0: something but this training has changed them, or the machines compute differently "
                "(set LSTM_EXT_KERNEL to one that all of them have)"
            )


class _Shared(_Batches):
    """Mini-batches of which each rank has a part: a list of numbered blocks, mostly one."""

    def __init__(self, team, *arguments):
        super().__init__(*arguments)
        self.team = team

    def _blocks(self, index):
        """Cut a mini-batch, or what this rank has of it, into this rank's numbered blocks."""
        return [(self.team.rank, index)]

    def number_of_blocks(self, index):
        """How many blocks the mini-batch has on all ranks together."""
        return self.team.size

    def windows(self, index):
        """Return this rank's part as pairs of blocks and how many there are in all.

        An error, of a file that cannot be read, stands in the place of the blocks: `step` tells the others.
        """
        try:
            return self._windows(index)
        except Exception as error:
            return [(error, self.number_of_blocks(index))]

    def _windows(self, index):
        data, total = self.data, self.number_of_blocks(index)
        blocks = [(number, part, self._trimmed(part)) for number, part in self._blocks(index)]
        if self.bptt is None:
            return [([(number, source[part]) for number, part, source in blocks], total)]
        # All ranks make the same number of windows.
        ends = range(self.bptt, data.x.shape[1] + self.bptt, self.bptt)
        return [
            ([(number, data.steps(end - self.bptt, min(end, data.x.shape[1]), True)[part])
              for number, part, _ in blocks], total)
            for end in ends
        ]

    def _trimmed(self, index):
        lengths = self.data.lengths
        if lengths is None or not len(index):
            return self.data
        return self.data.steps(0, int(lengths[index].max()), self.every_step)


class _Cut(_Shared):
    """All ranks draw the same mini-batches, and each takes its part."""

    def join(self, team):
        self.refuse_nothing(self.used.size)

    def number_of_blocks(self, index):
        size = self.team.block
        return self.team.size if size is None else -(-len(index) // size)

    def _blocks(self, index):
        rank, ranks, size = self.team.rank, self.team.size, self.team.block
        if size is None:
            return [(rank, index[rank::ranks])]  # where sorted by length, all get some of each
        return [
            (number, index[number * size : (number + 1) * size])
            for number in range(rank, self.number_of_blocks(index), ranks)
        ]


class _Given(_Shared):
    """Each rank draws from its own sequences, in proportion to their number."""

    def join(self, team):
        total = int(team.gather(self.used.size).sum())
        self.refuse_nothing(total)
        self.steps = -(-total // self.size)

    def draw(self, rng):
        """Draw this rank's parts of the mini-batches of an epoch."""
        seed = int(rng.integers(2**63))  # the same on all ranks
        order = self._shuffled(self.used, np.random.default_rng([seed, self.team.rank]))
        steps, n = self.steps, order.size
        edges = [k * n // steps for k in range(steps + 1)]
        if not self.bucket:
            return [order[start:end] for start, end in itertools.pairwise(edges)]
        for start in range(0, steps, _POOL):
            pool = slice(edges[start], edges[min(start + _POOL, steps)])
            order[pool] = order[pool][np.argsort(self.lengths[order[pool]], kind="stable")]
        return [order[edges[k] : edges[k + 1]] for k in np.random.default_rng(seed).permutation(steps)]


class _TeamRun(_Run):
    """A training under way on several ranks."""

    def __init__(self, team, model, *arguments):
        super().__init__(model, *arguments)
        self.team, self.steps, self.stopped = team, 0, None
        n = model.parameters.size
        self.reduce = self._add if team.block is None else self._add_exactly
        if team.block is None:
            self.send, self.receive = np.zeros((2, n + 4))
        else:
            # A float64 model has more digits than one sum of multiples keeps.
            levels = 2 if model.parameters.dtype == np.float64 else 1
            self.send, self.receive = np.zeros((2, levels * n))

    def evaluate(self, data):
        """Return the loss of the validation set, of which each rank evaluates a part."""
        team, model = self.team, self.model
        if team.shards == "cut":
            parts = -(-len(data.x) // _TOGETHER)
            sums = np.zeros((parts, 2))
            mine = [
                (k, data[k * _TOGETHER : (k + 1) * _TOGETHER]) for k in range(team.rank, parts, team.size)
            ]
        else:
            sums, mine = np.zeros((1, 2)), [(0, data)]
        with team.agreed():
            for k, part in mine:
                weight = _weight(part, model.every_step)
                if weight:
                    sums[k] = self.interrupt.call(model._evaluate, part) * weight, weight
        loss, weight = team.add(sums.ravel()).reshape(sums.shape).sum(axis=0)
        if not weight:
            raise ValueError("there is nothing to average over in validation: no element counts")
        return float(loss / weight)

    def check(self):
        """Let a Ctrl-C through that all ranks know of."""
        if self.stopped:
            self.interrupt.check()
            raise KeyboardInterrupt("another rank was interrupted")

    def step(self, blocks, total, seed, states, epoch):
        """Make one step on the blocks of this rank, of so many in all."""
        loss, weight, self.stopped, states = self.reduce(blocks, total, seed, states or {}, epoch)
        if weight:
            self.update(loss, None, epoch)
            self.steps += 1
            if self.steps % self.team.check_every == 0:
                self.team.compare(self.model._parameters, self.steps)
        return loss, weight, states

    def _gradient(self, number, data, seed, states, epoch):
        """Leave the gradient of a block in the model; return loss, weight, what is wrong with it."""
        model = self.model
        if not len(data.x):
            return 0.0, 0.0, None
        weight = _weight(data, model.every_step)
        if seed is not None:
            seed = (seed + number * 0x9E3779B97F4A7C15) % 2**63  # each block drops elements of its own
        if not weight:
            states[number] = self.interrupt.call(self._carry, data, seed, states.get(number))
            return 0.0, 0.0, None
        loss, states[number] = self.interrupt.call(
            model._loss_and_gradient, data, seed, states.get(number)
        )
        wrong = None
        if not math.isfinite(loss):
            wrong = f"the loss is {loss}"
        elif not math.isfinite(_optim.norm(model._gradient)):
            wrong = "the gradient holds NaN or inf"
        if wrong is not None:
            wrong = FloatingPointError(f"rank {self.team.rank}: {self._diverged(wrong, data, epoch)}")
        return loss, weight, wrong

    def _add(self, blocks, total, seed, states, epoch):
        """Put the mean gradient of the whole mini-batch into the model, by one Allreduce."""
        send, receive = self.send, self.receive
        send[...] = 0
        error = None
        try:
            ((number, data),) = _readable(blocks)
            loss, weight, wrong = self._gradient(number, data, seed, states, epoch)
            if wrong is not None:
                error = wrong
            elif weight:
                np.multiply(self.model._gradient, weight, out=send[:-4], dtype=np.float64)
                send[-4:-2] = loss * weight, weight
        except BaseException as raised:
            error = raised
        send[-2:] = self.interrupt.pending, error is not None
        self.team.add(send, receive)
        loss, weight, stop, failed = receive[-4:].tolist()
        if failed:
            self.team.settle(error)
        if not weight:
            return 0.0, 0.0, stop, states
        np.divide(receive[:-4], weight, out=self.model._gradient, casting="same_kind")
        return loss / weight, weight, stop, states

    def _add_exactly(self, blocks, total, seed, states, epoch):
        """Do the same to the same bits for any number of ranks: sums of multiples of one number."""
        n, team = self.model.parameters.size, self.team
        sums, flags = np.zeros((total, 3)), np.zeros(2)
        error, gradients = None, []
        try:
            for number, data in _readable(blocks):
                loss, weight, wrong = self._gradient(number, data, seed, states, epoch)
                if wrong is not None:
                    raise wrong
                if weight:
                    gradient = np.multiply(self.model._gradient, weight, dtype=np.float64)
                    gradients.append(gradient)
                    sums[number] = loss * weight, weight, np.abs(gradient).max()
        except BaseException as raised:
            error = raised
        flags[...] = self.interrupt.pending, error is not None
        small = team.add(np.concatenate([sums.ravel(), flags]))
        stop, failed = small[-2:].tolist()
        if failed:
            team.settle(error)
        losses, weights, largest = small[:-2].reshape(total, 3).T
        loss, weight, largest = losses.sum(), weights.sum(), float(largest.max())
        if not weight:
            return 0.0, 0.0, stop, states
        self.send[...] = 0
        for level, quantum in enumerate(_quanta(largest, total, len(self.send) // n)):
            # Adding and taking away 1.5 * 2^52 quanta rounds to a whole number of them.
            shift, part = 1.5 * 2.0**52 * quantum, self.send[level * n : (level + 1) * n]
            for gradient in gradients:
                rounded = gradient + shift
                rounded -= shift
                part += rounded
                gradient -= rounded
        team.add(self.send, self.receive)
        whole = self.receive.reshape(-1, n).sum(axis=0)
        np.divide(whole, weight, out=self.model._gradient, casting="same_kind")
        return float(loss / weight), float(weight), stop, states


def _readable(blocks):
    """Return blocks; raise the error that stands in their place."""
    if isinstance(blocks, Exception):
        raise blocks
    return blocks


def _quanta(largest, number, levels):
    """Return the numbers of which the parts of `number` vectors are multiples, so that sums are exact."""
    quanta, exponent = [], math.frexp(largest)[1]
    for _ in range(levels):
        # Sums stay below 2^51 quanta, 2^53 is what float64 holds.
        exponent = max(exponent + math.ceil(math.log2(number)) - 50, -1020)
        quanta.append(2.0**exponent)
        exponent -= 1  # what rounding has left is at most half of it
    return quanta


def _weight(data, every_step):
    """Return what data count in a mean."""
    weights = data.weights(every_step)
    if weights is None:
        return float(len(data.x) * (data.x.shape[1] if every_step else 1))
    return float(weights.sum(dtype=np.float64))
