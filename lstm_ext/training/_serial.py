"""A training of one process."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from lstm_ext.training._batches import Batches
from lstm_ext.training._run import Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import numpy as np

    from lstm_ext.schedules import Schedule
    from lstm_ext.training._checkpoint import TrainingState
    from lstm_ext.training._data import SequenceData
    from lstm_ext.training._history import History
    from lstm_ext.training._protocols import Trainable


class SerialGroup:
    """A process by itself, as a `ProcessGroup`."""

    block: int | None = None

    @property
    def first(self) -> bool:
        """True."""
        return True

    def begin(self) -> None:
        """Do nothing."""

    def agreed(self) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return contextlib.nullcontext()

    def compare_inputs(
        self, options: dict[str, Any], data: SequenceData, validation: SequenceData | None
    ) -> None:
        """Do nothing."""

    def batches(
        self, model: Trainable, data: SequenceData, size: int, bucket: bool, bptt: int | None
    ) -> Batches:
        """Return the mini-batches."""
        return Batches(model, data, size, bucket, bptt)

    def join(self, data: SequenceData, batches: Batches) -> int:
        """Return the number of sequences; raise ValueError if there are none to learn from."""
        batches.require_sequences(batches.used.size)
        return len(data.x)

    def share(self, state: TrainingState, history: History) -> History:
        """Return the history."""
        return history

    def run(
        self, model: Trainable, data: SequenceData, batches: Batches, optimizer: Any,
        schedule: Schedule | None, rng: np.random.Generator,
    ) -> Run:
        """Return the object that makes the steps."""
        return Run(model, data, batches, optimizer, schedule, rng)

    def any(self, function: Callable[..., object], *arguments: Any) -> bool:
        """Return whether the function returns True."""
        return bool(function(*arguments))
