"""The training loop behind `Model.fit`."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext._checks import count, made
from lstm_ext.optim import Adam
from lstm_ext.schedules import Schedule
from lstm_ext.training import _checkpoint
from lstm_ext.training._callback_list import CallbackList, checked_callbacks
from lstm_ext.training._history import EpochRecord, History
from lstm_ext.training._serial import SerialGroup
from lstm_ext.training._stored import stored
from lstm_ext.training._validation import check_monitors, checked_validation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from lstm_ext.callbacks import Callback, EarlyStopping
    from lstm_ext.training._protocols import ProcessGroup, Trainable

__all__ = ["fit"]


def fit(
    model: Trainable, x: npt.ArrayLike, y: npt.ArrayLike, *, epochs: int, batch_size: int = 32,
    lengths: npt.ArrayLike | None = None, mask: npt.ArrayLike | None = None,
    static: npt.ArrayLike | None = None, sample_weight: npt.ArrayLike | None = None, optimizer: Any = None,
    schedule: Schedule | None = None, rng: int | np.random.Generator | None = None,
    validation: tuple[npt.ArrayLike, ...] | dict[str, Any] | None = None,
    early_stopping: EarlyStopping | None = None,
    callbacks: Sequence[Callback | Callable[[EpochRecord], object]] = (),
    callback: Callback | Callable[[EpochRecord], object] | None = None, progress: bool = False,
    bucket: bool = False, bptt: int | None = None, checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1, resume: bool = False, comm: ProcessGroup | None = None,
) -> History:
    """Train a model on mini-batches: `Model.fit`, which has the parameters' descriptions.

    `comm` is a `DataParallel`, or None; `Model.fit` makes one of a bare communicator.
    """
    if comm is not None and not hasattr(comm, "compare_inputs"):
        raise TypeError(
            f"comm is {comm!r}; expected a DataParallel of lstm_ext.distributed. Model.fit also takes a "
            "communicator"
        )
    group: ProcessGroup = SerialGroup()
    if comm is not None:
        group = comm
    group.begin()
    with group.agreed():
        data = model.prepare(
            stored(x), y, lengths, mask=mask, static=static, sample_weight=sample_weight
        )
        epochs = count("epochs", epochs, 0)
        validation_data = checked_validation(model, validation, serial=comm is None)
        optimizer = Adam() if optimizer is None else optimizer
        made("optimizer", optimizer)
        made("schedule", schedule)
        if not hasattr(optimizer, "step"):
            raise TypeError(f"optimizer is {optimizer!r}; expected an object with step(parameters, gradient)")
        if schedule is not None:
            if not isinstance(schedule, Schedule):
                raise TypeError(f"schedule is {schedule!r}; expected one of lstm_ext.schedules")
            if not hasattr(optimizer, "lr"):
                raise TypeError(f"optimizer is {optimizer!r}; expected one with lr for a schedule")
        check_monitors(validation_data, early_stopping, schedule)
        rng = np.random.default_rng(rng)
        batches = group.batches(model, data, count("batch_size", batch_size, 1), bool(bucket), bptt)
        all_callbacks = checked_callbacks(early_stopping, callbacks, callback, progress and group.first)
        checkpoint_every = count("checkpoint_every", checkpoint_every, 1)
        if checkpoint is None and resume:
            raise ValueError("resume is True, and no checkpoint was given to go on from")
        if (checkpoint is not None or comm is not None) and not hasattr(optimizer, "state"):
            raise TypeError(f"optimizer is {optimizer!r}; expected one with a state for a checkpoint or comm")
        if checkpoint is not None and group.first:
            folder = os.path.dirname(os.path.abspath(checkpoint))
            if not os.path.isdir(folder):
                raise FileNotFoundError(f"checkpoint is {checkpoint!s}, and there is no folder {folder}")
    options = {
        "model": _described(model), "optimizer": _described(optimizer), "schedule": _described(schedule),
        "batch_size": batches.size, "bucket": batches.bucket, "bptt": batches.bptt,
    }
    group.compare_inputs(
        options | {
            "early_stopping": _described(early_stopping), "epochs": epochs,
            "validation": "given" if validation_data is not None else None,
            "checkpoint": "given" if checkpoint is not None else None,
            "checkpoint_every": checkpoint_every, "resume": bool(resume),
        },
        data, validation_data,
    )
    sequences = group.join(data, batches)  # how many they hold together

    settings = options | {
        "block": group.block, "x": [sequences, *data.x.shape[1:]], "y": [sequences, *data.y.shape[1:]],
    }
    state = _checkpoint.TrainingState(model, settings, rng, optimizer, schedule, early_stopping)
    history = History()
    with group.agreed():
        if group.first and resume and checkpoint is not None and os.path.exists(checkpoint):
            history = _checkpoint.load(checkpoint, state)
    history = group.share(state, history)
    with group.agreed():
        if schedule is not None and not history:
            schedule.begin()
        run = group.run(model, data, batches, optimizer, schedule, rng)

    def complete(record: EpochRecord) -> None:
        if validation_data is not None:
            record["validation_loss"] = run.evaluate(validation_data)
        run.end_epoch(record)
        history.append(record)
        if schedule is not None:
            run.notify(schedule.observe, record)

    def save() -> None:
        with group.agreed():
            if group.first and checkpoint is not None:
                _checkpoint.save(checkpoint, state, history)

    done = saved = len(history)
    with run.interrupt, contextlib.ExitStack() as ends:
        with group.agreed():
            called = ends.enter_context(
                CallbackList(all_callbacks, model, epochs, done, run.interrupt)
            )
        stop = early_stopping is not None and done > 0 and early_stopping.done
        try:
            while len(history) < epochs and not stop:
                complete(run.epoch(len(history) + 1, called))
                stop = early_stopping is not None and group.any(early_stopping.on_epoch_end, history[-1])
                if checkpoint is not None and (stop or len(history) % checkpoint_every == 0):
                    save()
                    saved = len(history)
                stop = group.any(called.epoch_end, history[-1]) or stop
            if checkpoint is not None and saved < len(history):
                save()
        finally:
            run.restore_lr()
    return history


def _described(part: object) -> str:
    """Return the repr, without the address that is in it where a class has no repr of its own."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(part))
