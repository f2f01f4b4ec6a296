"""What a training returns: a record for every epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NotRequired, SupportsIndex, TypedDict, overload

if TYPE_CHECKING:
    _Column = Literal["epoch", "loss", "validation_loss", "lr", "seconds"]


class EpochRecord(TypedDict):
    """What is known of an epoch. Callbacks may add entries of their own."""

    epoch: int  # from 1
    loss: float  # mean over the epoch's mini-batches, each as it was before its step
    validation_loss: NotRequired[float]  # after the last step, where there is a validation set
    lr: NotRequired[float]  # of the last step, where the optimizer has one
    seconds: NotRequired[float]  # not there while callbacks see the record of `fit_lbfgs`


class History(list[EpochRecord]):
    """A list of records, one for every epoch, that also answers ``history["loss"]``.

    ``history[-1]`` is the last epoch's record; ``history["loss"]`` are the losses of all epochs.
    """

    @overload
    def __getitem__(self, key: SupportsIndex, /) -> EpochRecord: ...
    @overload
    def __getitem__(self, key: slice[Any, Any, Any], /) -> History: ...
    @overload
    def __getitem__(self, key: _Column, /) -> list[float]: ...
    @overload
    def __getitem__(self, key: str, /) -> list[Any]: ...
    def __getitem__(self, key: Any, /) -> Any:
        """Return a record, some of them, or the values that the records have under a name."""
        if isinstance(key, str):
            if self and not any(key in record for record in self):
                names = dict.fromkeys(name for record in self for name in record)
                raise KeyError(f"{key!r} is not in the records, which have {', '.join(names)}")
            return [record.get(key) for record in self]
        found = super().__getitem__(key)
        return History(found) if isinstance(key, slice) else found
