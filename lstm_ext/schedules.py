"""Learning rates over a training: factors of the optimizer's ``lr``.

A schedule is a function of the epochs done, which need not be whole: `Model.fit` asks before every
step. Two schedules multiply: ``WarmUp(2) * Cosine(100)``. ``optimizer.lr`` is what factors are of; it
is put back when the training ends.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from lstm_ext._checks import count, number, positive, share

if TYPE_CHECKING:
    from lstm_ext.training import EpochRecord

    _Monitor = Literal["validation_loss", "loss"]

__all__ = ["Cosine", "Plateau", "Schedule", "Step", "WarmUp"]


class Schedule:
    """A factor of the learning rate, as a function of the epoch."""

    _options: tuple[str, ...] = ()  # names of the constructor's arguments, which are attributes, too

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._options)
        return f"{type(self).__name__}({arguments})"

    def factor(self, epochs: float) -> float:
        """Return the factor after so many epochs.

        Parameters
        ----------
        epochs : float
            Passes over the training set that are done: 0 at the first step, 2.5 in the middle of the
            third epoch.

        Returns
        -------
        float
        """
        raise NotImplementedError

    def begin(self) -> None:
        """Forget an earlier training: one begins that goes on from nothing."""

    def observe(self, record: EpochRecord) -> None:
        """Take note of the record of an epoch that has ended."""

    @property
    def state(self) -> dict[str, Any]:
        """What a resumed training needs: a dict of numbers. Assigning such a dict restores it."""
        return {}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        if state:
            raise ValueError(f"state is {state!r}; expected an empty dict: {self!r} has no state")

    def __mul__(self, other: Schedule) -> Schedule:
        if not isinstance(other, Schedule):
            return NotImplemented
        return _Product(self, other)


class _Product(Schedule):
    def __init__(self, first: Schedule, second: Schedule) -> None:
        self.parts = (first, second)

    def __repr__(self) -> str:
        return " * ".join(map(repr, self.parts))

    def factor(self, epochs: float) -> float:
        return self.parts[0].factor(epochs) * self.parts[1].factor(epochs)

    def begin(self) -> None:
        for part in self.parts:
            part.begin()

    def observe(self, record: EpochRecord) -> None:
        for part in self.parts:
            part.observe(record)

    @property
    def state(self) -> dict[str, Any]:
        return {"parts": [part.state for part in self.parts]}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        for part, values in zip(self.parts, state["parts"], strict=True):
            part.state = values


class Cosine(Schedule):
    r"""From 1 down to `end` along half a cosine, and `end` from then on.

    .. math:: f(t) = f_1 + \frac{1 - f_1}{2} \left( 1 + \cos \frac{\pi \min(t, T)}{T} \right)

    I. Loshchilov, F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, eq. 5,
    one period.

    Parameters
    ----------
    epochs : float
        T, greater than 0.
    end : float
        :math:`f_1`, from 0 to 1.
    """

    epochs: float
    end: float

    _options = ("epochs", "end")

    def __init__(self, epochs: float, end: float = 0.0) -> None:
        self.epochs = positive("epochs", epochs)
        self.end = share("end", end)

    def factor(self, epochs: float) -> float:
        """Return the factor after so many epochs."""
        done = min(epochs / self.epochs, 1.0)
        return self.end + (1 - self.end) / 2 * (1 + math.cos(math.pi * done))


class Step(Schedule):
    r"""A factor `gamma` more after every `every` epochs.

    .. math:: f(t) = \gamma^{\lfloor t / k \rfloor}

    Parameters
    ----------
    every : float
        k, greater than 0.
    gamma : float
        Greater than 0.
    """

    every: float
    gamma: float

    _options = ("every", "gamma")

    def __init__(self, every: float, gamma: float = 0.1) -> None:
        self.every = positive("every", every)
        self.gamma = positive("gamma", gamma)

    def factor(self, epochs: float) -> float:
        """Return the factor after so many epochs."""
        return self.gamma ** math.floor(epochs / self.every)


class WarmUp(Schedule):
    r"""From `start` up to 1 in a line, and 1 from then on.

    .. math:: f(t) = f_0 + (1 - f_0) \min(t / T, 1)

    P. Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", arXiv:1706.02677,
    section 2.2.

    Parameters
    ----------
    epochs : float
        T, greater than 0; a part of an epoch, too.
    start : float
        :math:`f_0`, from 0 to 1.
    """

    epochs: float
    start: float

    _options = ("epochs", "start")

    def __init__(self, epochs: float, start: float = 0.01) -> None:
        self.epochs = positive("epochs", epochs)
        self.start = share("start", start)

    def factor(self, epochs: float) -> float:
        """Return the factor after so many epochs."""
        return self.start + (1 - self.start) * min(epochs / self.epochs, 1.0)


class Plateau(Schedule):
    """A factor `gamma` more whenever a loss has not fallen for more than `patience` epochs.

    As PyTorch's ``ReduceLROnPlateau``, without cool-down.

    Parameters
    ----------
    gamma : float
        Between 0 and 1.
    patience : int
        Epochs without a better loss that are let pass.
    min_delta : float
        How much lower a loss must be, as a share of the lowest one, to be better.
    least : float
        The smallest factor, from 0 to 1.
    monitor : {None, "validation_loss", "loss"}
        None: the validation loss where there is one, else the loss.
    """

    gamma: float
    patience: int
    min_delta: float
    least: float
    monitor: _Monitor | None

    _options = ("gamma", "patience", "min_delta", "least", "monitor")

    def __init__(
        self, gamma: float = 0.1, *, patience: int = 10, min_delta: float = 1e-4, least: float = 0.0,
        monitor: _Monitor | None = None,
    ) -> None:
        self.gamma = number("gamma", gamma, lambda v: 0 < v < 1, "a number between 0 and 1")
        self.patience = count("patience", patience, 0)
        self.min_delta = share("min_delta", min_delta)
        self.least = share("least", least)
        self.monitor = check_monitor(monitor)
        self.begin()

    def factor(self, epochs: float) -> float:
        """Return the factor as it is now."""
        return self._factor

    def begin(self) -> None:
        """Forget an earlier training."""
        self._factor, self._best, self._waited = 1.0, math.inf, 0

    def observe(self, record: EpochRecord) -> None:
        """Take note of the record of an epoch that has ended."""
        loss = monitored(self.monitor, record)
        if not math.isfinite(self._best) or loss < self._best - self.min_delta * abs(self._best):
            self._best, self._waited = loss, 0
            return
        self._waited += 1
        if self._waited > self.patience:
            self._factor, self._waited = max(self._factor * self.gamma, self.least), 0

    @property
    def state(self) -> dict[str, Any]:
        """Factor, lowest loss and epochs waited: a dict of numbers. Assigning such a dict restores it."""
        return {"factor": self._factor, "best": self._best, "waited": self._waited}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._factor, self._best, self._waited = state["factor"], state["best"], state["waited"]


def check_monitor(monitor: _Monitor | None) -> _Monitor | None:
    """Return `monitor`, which must be a loss of an epoch's record or None."""
    if monitor not in (None, "validation_loss", "loss"):
        raise ValueError(f"monitor is {monitor!r}; expected 'validation_loss', 'loss' or None")
    return monitor


def monitored(monitor: _Monitor | None, record: EpochRecord) -> float:
    """Return the loss of a record that `monitor` names."""
    if monitor is None:
        return record.get("validation_loss", record["loss"])
    if monitor not in record:
        raise ValueError("monitor is 'validation_loss', and the training has no validation")
    return record[monitor]
