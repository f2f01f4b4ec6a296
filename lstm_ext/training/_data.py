"""The arrays of a training or validation set, once a model has checked them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from lstm_ext._typing import Array


class SequenceData:
    """Arrays that a model has checked: sequences, their targets, and what belongs to them."""

    __slots__ = ("lengths", "mask", "static", "weight", "x", "y")

    x: Any  # an array (N, T, I), or a `Stored`
    y: Any  # an array, whose shape is the loss's; None in data that are only predicted for
    lengths: Array | None
    mask: Array | None
    static: Array | None
    weight: Array | None  # sample weights, (N,) or (N, T)

    def __init__(
        self, x: Any, y: Any, lengths: Array | None, mask: Array | None, static: Array | None,
        weight: Array | None = None,
    ) -> None:
        self.x, self.y, self.lengths, self.mask, self.static = x, y, lengths, mask, static
        self.weight = weight

    def __getitem__(self, index: Any) -> SequenceData:
        """Take some of the sequences."""
        parts = (self.x, self.y, self.lengths, self.mask, self.static, self.weight)
        return SequenceData(*[None if part is None else part[index] for part in parts])

    def steps(self, start: int, stop: int, every_step: bool) -> SequenceData:
        """Take some of the steps of all sequences: views."""
        window = slice(start, stop)
        lengths, mask, weight = self.lengths, self.mask, self.weight
        if lengths is not None:
            lengths = np.clip(lengths - start, 0, stop - start)
        if mask is not None:
            mask = mask[:, window]
        if weight is not None and weight.ndim == 2:
            weight = weight[:, window]
        y = self.y[:, window] if every_step else self.y
        return SequenceData(self.x[:, window], y, lengths, mask, self.static, weight)

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of the LSTM's passes."""
        return {"lengths": self.lengths, "mask": self.mask, "static": self.static}

    @property
    def counted(self) -> Array | None:
        """Which steps count, (N, T), or None where all do."""
        if self.lengths is None:
            return self.mask
        counted: Array = np.arange(self.x.shape[1]) < self.lengths[:, None]
        return counted

    def weights(self, every_step: bool) -> Array | None:
        """Return what each element counts in the loss, (N, T) or (N,), or None: all the same."""
        if not every_step:
            return self.weight
        counted, weight = self.counted, self.weight
        if weight is None:
            return counted
        if weight.ndim == 1:
            weight = np.broadcast_to(weight[:, None], self.x.shape[:2])
        return weight if counted is None else np.where(counted, weight, 0)
