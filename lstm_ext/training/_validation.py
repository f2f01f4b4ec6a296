"""The validation set of a training, and what monitors its loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstm_ext.callbacks import EarlyStopping
    from lstm_ext.schedules import Schedule
    from lstm_ext.training._data import SequenceData
    from lstm_ext.training._protocols import Trainable


def checked_validation(
    model: Trainable, validation: Any, serial: bool = True
) -> SequenceData | None:
    """Return the validation set, checked; where several share it, this part of it may be empty."""
    if validation is None:
        return None
    names = ("x", "y", "lengths", "mask", "static", "sample_weight")
    if isinstance(validation, tuple | list) and len(validation) in (2, 3):
        validation = dict(zip(names, validation, strict=False))
    if not isinstance(validation, dict):
        raise TypeError(
            f"validation is {type(validation).__name__}; expected (x, y), (x, y, lengths) or a dict"
        )
    unknown = set(validation) - set(names)
    if unknown or not {"x", "y"} <= set(validation):
        others = ", ".join(names[2:])
        raise TypeError(f"validation has {sorted(validation)}; expected x, y and some of {others}")
    try:
        data = model.prepare(**validation)
        weights = data.weights(model.every_step)
        steps = data.x.shape[1] if model.every_step else 1
        if serial and not (len(data.x) * steps if weights is None else weights.any()):
            raise ValueError("there is nothing to average over: no element counts")
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation: {error}") from error
    return data


def check_monitors(
    validation: SequenceData | None, early_stopping: EarlyStopping | None, schedule: Schedule | None
) -> None:
    """Reject the monitor "validation_loss" without validation data."""
    monitoring: list[Any] = [schedule]
    for part in monitoring:
        monitoring.extend(getattr(part, "parts", ()))
    monitoring.append(early_stopping)
    if validation is None and any(getattr(m, "monitor", None) == "validation_loss" for m in monitoring):
        raise ValueError("monitor is 'validation_loss', and the training has no validation")
