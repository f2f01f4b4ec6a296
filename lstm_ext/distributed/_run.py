"""The steps of a training that ranks share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext import _optim
from lstm_ext.training import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from lstm_ext.distributed._group import DataParallel
    from lstm_ext.training import CallbackList, EpochRecord, SequenceData, Trainable

_TOGETHER = 32  # sequences of a shared validation set that one rank evaluates at a time


class ParallelRun(Run):
    """A training under way on several ranks."""

    def __init__(self, group: DataParallel, model: Trainable, *arguments: Any) -> None:
        super().__init__(model, *arguments)
        self.group, self.steps, self.stopped = group, 0, False
        n = model.parameters.size
        self.reduce = self._add if group.block is None else self._add_exactly
        if group.block is None:
            self.send, self.receive = np.zeros((2, n + 4))
        else:
            # A float64 model has more digits than one sum of multiples keeps.
            levels = 2 if model.parameters.dtype == np.float64 else 1
            self.send, self.receive = np.zeros((2, levels * n))

    def evaluate(self, data: SequenceData) -> float:
        """Return the loss of the validation set, of which each rank evaluates a part."""
        group, model = self.group, self.model
        if group.shards == "cut":
            parts = -(-len(data.x) // _TOGETHER)
            sums = np.zeros((parts, 2))
            mine = [
                (k, data[k * _TOGETHER : (k + 1) * _TOGETHER]) for k in range(group.rank, parts, group.size)
            ]
        else:
            sums, mine = np.zeros((1, 2)), [(0, data)]
        with group.agreed():
            for k, part in mine:
                weight = _weight(part, model.every_step)
                if weight:
                    sums[k] = self.interrupt.call(model.loss_of, part) * weight, weight
        loss, weight = group.add(sums.ravel()).reshape(sums.shape).sum(axis=0)
        if not weight:
            raise ValueError("there is nothing to average over in validation: no element counts")
        return float(loss / weight)

    def epoch(self, epoch: int, callbacks: CallbackList) -> EpochRecord:
        """Make the steps of an epoch; return its record."""
        record = super().epoch(epoch, callbacks)
        self.group.settle(None)  # what was raised after the last step
        return record

    def notify(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call what may raise on only this rank; the other ranks are told in the next step."""
        try:
            function(*arguments)
        except BaseException as error:
            self.group.hold(error)

    def check(self) -> None:
        """Raise KeyboardInterrupt if all ranks know of a Ctrl-C."""
        if self.stopped:
            self.interrupt.check()
            raise KeyboardInterrupt("another rank was interrupted")

    def step(
        self, blocks: Any, total: int, seed: int | None, states: Any, epoch: int
    ) -> tuple[float, float, Any]:
        """Make one step on the blocks of this rank, of so many in all."""
        loss, weight, self.stopped, states = self.reduce(blocks, total, seed, states or {}, epoch)
        if weight:
            try:
                self.update(loss, None, epoch)
            except FloatingPointError:  # the same on all ranks
                raise
            except BaseException as error:
                self.group.hold(error)
            self.steps += 1
            if self.steps % self.group.check_every == 0:
                self.group.compare(self.model.parameters, self.steps)
        return loss, weight, states

    def _gradient(
        self, number: int, data: SequenceData, seed: int | None, states: dict[int, Any], epoch: int
    ) -> tuple[float, float, FloatingPointError | None]:
        """Leave the gradient of a block in the model; return loss, weight, what is wrong with it."""
        model = self.model
        if not len(data.x):
            return 0.0, 0.0, None
        weight = _weight(data, model.every_step)
        if seed is not None:
            seed = (seed + number * 0x9E3779B97F4A7C15) % 2**63  # each block drops elements of its own
        if not weight:
            states[number] = self.interrupt.call(self.carry, data, seed, states.get(number))
            return 0.0, 0.0, None
        loss, states[number] = self.interrupt.call(
            model.gradient_of, data, seed, states.get(number)
        )
        wrong = None
        if not math.isfinite(loss):
            wrong = f"the loss is {loss}"
        elif not math.isfinite(_optim.norm(model.gradient)):
            wrong = "the gradient holds NaN or inf"
        if wrong is not None:
            wrong = FloatingPointError(f"rank {self.group.rank}: {self.divergence(wrong, data, epoch)}")
        return loss, weight, wrong

    def _add(
        self, blocks: Any, total: int, seed: int | None, states: dict[int, Any], epoch: int
    ) -> tuple[float, float, bool, dict[int, Any]]:
        """Put the mean gradient of the whole mini-batch into the model, by one Allreduce."""
        send, receive = self.send, self.receive
        send[...] = 0
        error = self.group.release()
        try:
            ((number, data),) = _readable(blocks, error)
            loss, weight, wrong = self._gradient(number, data, seed, states, epoch)
            if wrong is not None:
                error = wrong
            elif weight:
                np.multiply(self.model.gradient, weight, out=send[:-4], dtype=np.float64)
                send[-4:-2] = loss * weight, weight
        except BaseException as raised:
            error = raised
        send[-2:] = self.interrupt.pending, error is not None
        self.group.add(send, receive)
        loss, weight, stop, failed = receive[-4:].tolist()
        if failed:
            self.group.settle(error)
        if not weight:
            return 0.0, 0.0, stop, states
        np.divide(receive[:-4], weight, out=self.model.gradient, casting="same_kind")
        return loss / weight, weight, stop, states

    def _add_exactly(
        self, blocks: Any, total: int, seed: int | None, states: dict[int, Any], epoch: int
    ) -> tuple[float, float, bool, dict[int, Any]]:
        """Do the same to the same bits for any number of ranks: sums of multiples of one number."""
        n, group = self.model.parameters.size, self.group
        sums, flags = np.zeros((total, 3)), np.zeros(2)
        error, gradients = group.release(), []
        try:
            for number, data in _readable(blocks, error):
                loss, weight, wrong = self._gradient(number, data, seed, states, epoch)
                if wrong is not None:
                    raise wrong
                if weight:
                    gradient = np.multiply(self.model.gradient, weight, dtype=np.float64)
                    gradients.append(gradient)
                    sums[number] = loss * weight, weight, np.abs(gradient).max()
        except BaseException as raised:
            error = raised
        flags[...] = self.interrupt.pending, error is not None
        small = group.add(np.concatenate([sums.ravel(), flags]))
        stop, failed = small[-2:].tolist()
        if failed:
            group.settle(error)
        losses, weights, largest = small[:-2].reshape(total, 3).T
        loss, weight, largest = losses.sum(), weights.sum(), float(largest.max())
        if not weight:
            return 0.0, 0.0, stop, states
        self.send[...] = 0
        for level, quantum in enumerate(quanta(largest, total, len(self.send) // n)):
            # Adding and taking away 1.5 * 2^52 quanta rounds to a whole number of them.
            shift, part = 1.5 * 2.0**52 * quantum, self.send[level * n : (level + 1) * n]
            for gradient in gradients:
                rounded = gradient + shift
                rounded -= shift
                part += rounded
                gradient -= rounded
        group.add(self.send, self.receive)
        whole = self.receive.reshape(-1, n).sum(axis=0)
        np.divide(whole, weight, out=self.model.gradient, casting="same_kind")
        return float(loss / weight), float(weight), stop, states


def _readable(blocks: Any, error: BaseException | None) -> Any:
    """Return blocks; raise the error that stands in their place, or one that came before."""
    if error is not None:
        raise error
    if isinstance(blocks, Exception):
        raise blocks
    return blocks


def quanta(largest: float, number: int, levels: int) -> list[float]:
    """Return the numbers of which the parts of `number` vectors are multiples, so that sums are exact."""
    numbers, exponent = [], math.frexp(largest)[1]
    for _ in range(levels):
        # Sums stay below 2^51 quanta, 2^53 is what float64 holds.
        exponent = max(exponent + math.ceil(math.log2(number)) - 50, -1020)
        numbers.append(2.0**exponent)
        exponent -= 1  # what rounding has left is at most half of it
    return numbers


def _weight(data: SequenceData, every_step: bool) -> float:
    """Return what data count in a mean."""
    weights = data.weights(every_step)
    if weights is None:
        return float(len(data.x) * (data.x.shape[1] if every_step else 1))
    return float(weights.sum(dtype=np.float64))
