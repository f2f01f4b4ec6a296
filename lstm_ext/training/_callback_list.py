"""The callbacks of a training, called together."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from lstm_ext._checks import made
from lstm_ext.callbacks import Callback, EarlyStopping, ProgressBar

if TYPE_CHECKING:
    from collections.abc import Callable

    from lstm_ext.training._history import EpochRecord
    from lstm_ext.training._interrupt import Interrupt


class CallbackList:
    """All callbacks of a training, within its ``with`` block."""

    callbacks: list[Callback]
    interrupt: Interrupt
    ends: contextlib.ExitStack

    def __init__(
        self, callbacks: list[Callback], model: Any, epochs: int, done: int, interrupt: Interrupt
    ) -> None:
        self.callbacks, self.interrupt = callbacks, interrupt
        self.begin: tuple[Any, int, int] = model, epochs, done
        self.on_batch: list[Callback] = [
            c for c in callbacks if type(c).on_batch_end is not Callback.on_batch_end
        ]

    def __enter__(self) -> CallbackList:
        with contextlib.ExitStack() as ends:  # each is called, whatever the others raise
            for callback in self.callbacks:
                ends.callback(callback.on_fit_end)
                callback.on_fit_begin(*self.begin)
            self.ends = ends.pop_all()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self.ends.__exit__(*error)

    def batch_end(self, epoch: int, share: float, loss: float) -> None:
        """Call `on_batch_end` of those that have one."""
        for callback in self.on_batch:
            callback.on_batch_end(epoch, share, loss)

    def epoch_end(self, record: EpochRecord) -> bool:
        """Return whether one of them wants the training to end; early stopping has been asked before."""
        with self.interrupt.immediate():
            answers = [
                c.on_epoch_end(record) for c in self.callbacks if not isinstance(c, EarlyStopping)
            ]
        return any(answer is True for answer in answers)


class _Function(Callback):
    """A callable in the place of a `Callback`."""

    def __init__(self, function: Callable[[EpochRecord], object]) -> None:
        self.function = function

    def on_epoch_end(self, record: EpochRecord) -> object:
        return self.function(record)


def checked_callbacks(
    early_stopping: EarlyStopping | None, callbacks: Any, callback: Any, progress: object
) -> list[Callback]:
    """Return all callbacks of a training, each a `Callback`."""
    made("early_stopping", early_stopping)
    if early_stopping is not None and not isinstance(early_stopping, EarlyStopping):
        raise TypeError(
            f"early_stopping is {early_stopping!r}; expected an EarlyStopping, for example "
            "EarlyStopping(patience=10)"
        )
    if callable(callbacks) or isinstance(callbacks, Callback):
        raise TypeError(f"callbacks is {callbacks!r}; expected a sequence: give one callback as callback=")
    checked: list[Callback] = []
    for each in (*callbacks, *(() if callback is None else (callback,))):
        if isinstance(each, EarlyStopping):
            raise TypeError("an EarlyStopping among the callbacks: give it as early_stopping=")
        if isinstance(each, type) and issubclass(each, Callback):
            made("callback", each)
        if not isinstance(each, Callback) and not callable(each):
            raise TypeError(f"callbacks holds {each!r}; expected callables or Callbacks")
        checked.append(each if isinstance(each, Callback) else _Function(each))
    if progress:
        checked.append(ProgressBar())
    # The last to begin and the first to end: the others see the best parameters.
    return checked if early_stopping is None else [*checked, early_stopping]
