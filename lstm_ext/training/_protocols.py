"""What a training asks of its model, and of the processes that share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import numpy as np
    import numpy.typing as npt

    from lstm_ext.lstm import LSTM
    from lstm_ext.schedules import Schedule
    from lstm_ext.training._batches import Batches
    from lstm_ext.training._checkpoint import TrainingState
    from lstm_ext.training._data import SequenceData
    from lstm_ext.training._history import History
    from lstm_ext.training._run import Run

    _Array = npt.NDArray[np.floating[Any]]


class Trainable(Protocol):
    """A model as a training sees it: `lstm_ext.Model`."""

    @property
    def lstm(self) -> LSTM:
        """The LSTM in it."""

    @property
    def every_step(self) -> bool:
        """Whether every step has a target."""

    @property
    def stochastic(self) -> bool:
        """Whether a seed changes what is computed."""

    @property
    def parameters(self) -> _Array:
        """Flat vector of all parameters, which an optimizer changes in place."""

    @parameters.setter
    def parameters(self, values: npt.ArrayLike) -> None: ...

    @property
    def gradient(self) -> _Array:
        """Flat vector that `gradient_of` fills."""

    def prepare(
        self, x: Any, y: Any, lengths: Any = None, *, mask: Any = None, static: Any = None,
        sample_weight: Any = None,
    ) -> SequenceData:
        """Check a data set."""

    def loss_of(self, data: SequenceData) -> float:
        """Return the loss."""

    def gradient_of(
        self, data: SequenceData, seed: int | None = None, state: Any = None
    ) -> tuple[float, Any]:
        """Fill `gradient`; return the loss and the final states."""


class ProcessGroup(Protocol):
    """The processes that share a training, as one of them sees them.

    `SerialGroup` is a process by itself, `lstm_ext.distributed.DataParallel` are the ranks of a communicator.
    A training calls the methods in one order on all ranks; each method but `batches` and `run` may wait for
    the other ranks.
    """

    block: int | None  # sequences of a block in the reproducible mode

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""

    def begin(self) -> None:
        """Raise an error on all ranks unless they share the training in the same way."""

    def agreed(self) -> AbstractContextManager[None]:
        """Return a context: an error within it on one rank becomes an error on all."""

    def compare_inputs(
        self, options: dict[str, Any], data: SequenceData, validation: SequenceData | None
    ) -> None:
        """Raise an error on all ranks unless options and data fit together."""

    def batches(
        self, model: Trainable, data: SequenceData, size: int, bucket: bool, bptt: int | None
    ) -> Batches:
        """Return this rank's mini-batches."""

    def join(self, data: SequenceData, batches: Any) -> int:
        """Return how many sequences all ranks have; raise an error if there are none to learn from."""

    def share(self, state: TrainingState, history: History) -> History:
        """Give all ranks the first one's state and history; return the history."""

    def run(
        self, model: Trainable, data: SequenceData, batches: Any, optimizer: Any,
        schedule: Schedule | None, rng: np.random.Generator,
    ) -> Run:
        """Return the object that makes the steps."""

    def any(self, function: Callable[..., object], *arguments: Any) -> bool:
        """Call a function; return whether it returned True on one of the ranks."""
