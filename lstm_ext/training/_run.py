"""A training under way: its steps and epochs."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext import _optim
from lstm_ext.training._interrupt import Interrupt

if TYPE_CHECKING:
    from collections.abc import Callable

    from lstm_ext._typing import FloatArray
    from lstm_ext.schedules import Schedule
    from lstm_ext.training._batches import Batches
    from lstm_ext.training._callback_list import CallbackList
    from lstm_ext.training._data import SequenceData
    from lstm_ext.training._history import EpochRecord
    from lstm_ext.training._protocols import Trainable

_SMALL = 5e8  # floating-point operations that no machine needs a tenth of a second for


class Run:
    """A training under way: steps and epochs, and the clock."""

    model: Trainable
    data: SequenceData
    batches: Batches
    optimizer: Any
    schedule: Schedule | None
    rng: np.random.Generator
    before: FloatArray  # parameters before a step
    interrupt: Interrupt
    clock: float

    def __init__(
        self, model: Trainable, data: SequenceData, batches: Batches, optimizer: Any,
        schedule: Schedule | None, rng: np.random.Generator,
    ) -> None:
        self.model, self.data, self.batches = model, data, batches
        self.optimizer, self.schedule, self.rng = optimizer, schedule, rng
        work = 6 * model.parameters.size * min(batches.size, len(data.x)) * data.x.shape[1]
        self.interrupt = Interrupt(long=work > _SMALL)
        self.lr: Any = getattr(optimizer, "lr", None)
        self.before = np.empty_like(model.parameters)
        self.clock = time.perf_counter()

    def restore_lr(self) -> None:
        """Give the optimizer the lr that it came with."""
        if self.schedule is not None:
            self.optimizer.lr = self.lr

    def end_epoch(self, record: EpochRecord) -> None:
        """Add what the record of an epoch holds besides losses; the next epoch's time begins."""
        start, self.clock = self.clock, time.perf_counter()
        if self.lr is not None:
            record["lr"] = self.optimizer.lr
        record["seconds"] = self.clock - start

    def epoch(self, epoch: int, callbacks: CallbackList) -> EpochRecord:
        """Make the steps of an epoch; return its record."""
        order = self.batches.draw(self.rng)
        draws = self.model.stochastic
        total = weight = 0.0
        for done, windows in enumerate(self.batches.read(order)):
            state = loss = None
            for part, (data, counts) in enumerate(windows):
                if self.schedule is not None:
                    share = (done + part / len(windows)) / len(order)
                    self.optimizer.lr = self.lr * self.schedule.factor(epoch - 1 + share)
                seed = int(self.rng.integers(2**63)) if draws else None
                value, counts, state = self.step(data, counts, seed, state, epoch)
                if counts:
                    loss = value
                    total += loss * counts
                    weight += counts
                if part + 1 < len(windows):  # each window is a step of its own
                    self.check()
            if loss is not None:  # a mini-batch of ranks with few sequences may be empty
                self.notify(callbacks.batch_end, epoch, (done + 1) / len(order), loss)
            self.check()
        return {"epoch": epoch, "loss": total / weight}

    def evaluate(self, data: SequenceData) -> float:
        """Return the loss of the validation set."""
        return self.interrupt.call(self.model.loss_of, data)

    def notify(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a callback or schedule, which may raise an error."""
        function(*arguments)

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        self.interrupt.check()

    def step(
        self, data: Any, counts: Any, seed: int | None, state: Any, epoch: int
    ) -> tuple[Any, Any, Any]:
        """Make one step on data that count so much; return the loss before it, counts, final states."""
        if not counts:  # a window that only carries the states on
            return None, counts, self.interrupt.call(self.carry, data, seed, state)
        loss, state = self.interrupt.call(self.model.gradient_of, data, seed, state)
        self.update(loss, data, epoch)
        return loss, counts, state

    def carry(self, data: SequenceData, seed: int | None, state: Any) -> Any:
        """Return the final states of a window without a loss."""
        return self.model.lstm.forward(data.x, state, seed=seed, **data.options)[1]

    def update(self, loss: float, data: SequenceData | None, epoch: int) -> None:
        """Let the optimizer make a step along the model's gradient.

        Every decision reads the loss and the gradient, which are sums divided by the sum of the weights:
        where several processes share a mini-batch, those are what they have added up before.
        """
        if not math.isfinite(loss):
            raise FloatingPointError(self.divergence(f"the loss is {loss}", data, epoch))
        parameters, gradient = self.model.parameters, self.model.gradient
        if not math.isfinite(_optim.norm(gradient)):
            raise FloatingPointError(self.divergence("the gradient holds NaN or inf", data, epoch))
        np.copyto(self.before, parameters)
        self.optimizer.step(parameters, gradient)
        if not math.isfinite(_optim.norm(parameters)):
            np.copyto(parameters, self.before)
            raise FloatingPointError(self.divergence("the step leads to NaN or inf", data, epoch))

    def divergence(self, what: str, data: SequenceData | None, epoch: int) -> str:
        """Return a message with its cause and a remedy; `data`: the mini-batch, None where ranks share it."""
        counted = None if data is None else data.counted
        weights = None if data is None else data.weights(self.model.every_step)
        for name, array in () if data is None else (("x", data.x), ("y", data.y)):
            spoiled = ~np.isfinite(array)
            if counted is not None and array.shape[:2] == counted.shape and array.ndim == 3:
                spoiled &= counted[..., None]
            if name == "y" and weights is not None and spoiled.shape[: weights.ndim] == weights.shape:
                spoiled &= (weights != 0).reshape(weights.shape + (1,) * (spoiled.ndim - weights.ndim))
            if spoiled.any() and not (name == "x" and self.model.lstm.nan):
                return (
                    f"{what} in epoch {epoch}: {name} holds NaN or inf in {spoiled.any(axis=-1).sum()} "
                    "places of this mini-batch. Leave them out, fill them, or see LSTM(nan=...)"
                )
        advice = ["look for huge numbers in x and y, and scale them"]
        lr, max_norm = getattr(self.optimizer, "lr", None), getattr(self.optimizer, "max_norm", None)
        if lr is not None:
            advice.append(f"give the optimizer a smaller lr (it is {lr:g}: try {lr / 10:g})")
            advice.append(f"or a max_norm {'(try 1)' if max_norm is None else f'below {max_norm:g}'}")
        return f"{what} in epoch {epoch}: {', '.join(advice)}"
