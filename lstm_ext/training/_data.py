"""The arrays of a training or validation set, once a model has checked them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    _Array = npt.NDArray[Any]


class SequenceData:
    """Arrays that a model has checked: sequences, their targets, and what belongs to them."""

    __slots__ = ("lengths", "mask", "static", "weight", "x", "y")

    def __init__(
        self, x: Any, y: Any, lengths: Any, mask: Any, static: Any, weight: Any = None
    ) -> None:
        self.x, self.y, self.lengths, self.mask, self.static = x, y, lengths, mask, static
        self.weight = weight  # sample weights, (N,) or (N, T), or None

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
    def counted(self) -> _Array | None:
        """Which steps count, (N, T), or None where all do."""
        if self.lengths is None:
            return self.mask
        return np.arange(self.x.shape[1]) < self.lengths[:, None]

    def weights(self, every_step: bool) -> _Array | None:
        """Return what each element counts in the loss, (N, T) or (N,), or None: all the same."""
        if not every_step:
            return self.weight
        counted, weight = self.counted, self.weight
        if weight is None:
            return counted
        if weight.ndim == 1:
            weight = np.broadcast_to(weight[:, None], self.x.shape[:2])
        return weight if counted is None else np.where(counted, weight, 0)
